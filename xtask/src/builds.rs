//! What is built, each thing once however many steps need it.

use std::path::{Path, PathBuf};

use crate::{
    cargo,
    failure::Failure,
    run::Run,
    setup::{self, npm::npm},
    wasm_imports,
    workspace::Workspace,
};

/// What has been built since this program was started.
pub struct Builds<'w> {
    workspace: &'w Workspace,
    node: Option<PathBuf>,
    wasm_module: Option<PathBuf>,
    wasm_package: Option<PathBuf>,
    js: bool,
    www: Option<PathBuf>,
}

impl<'w> Builds<'w> {
    pub fn new(workspace: &'w Workspace) -> Self {
        Self { workspace, node: None, wasm_module: None, wasm_package: None, js: false, www: None }
    }

    pub fn workspace(&self) -> &'w Workspace {
        self.workspace
    }

    /// The program `cpc-node`, as the tests build it.
    pub fn node(&mut self) -> Result<PathBuf, Failure> {
        // Naming a test makes cargo take the dependencies of tests into account when it decides on the features of
        // tokio. Without it everything above tokio would be compiled twice, for the node and for the tests.
        let arguments = ["--features", "node,typescript", "--bin", "cpc-node", "--test", "house_rules"];
        let workspace = self.workspace;
        once(&mut self.node, || {
            tell("cpc-node; the first time takes about five minutes on two cores");
            cargo::build(workspace, &arguments, "program cpc-node", |report| cargo::program(report, "cpc-node"))
        })
    }

    /// The module as cargo builds it, which wasm-bindgen turns into a package.
    pub fn wasm_module(&mut self) -> Result<PathBuf, Failure> {
        let arguments = ["--lib", "--target", "wasm32-unknown-unknown", "--features", "js", "--profile", "web"];
        let workspace = self.workspace;
        once(&mut self.wasm_module, || {
            setup::rust::wasm_target(workspace)?;
            tell("the wasm module; the first time takes about four minutes on two cores");
            let module = cargo::build(workspace, &arguments, "wasm module", cargo::wasm_module)?;
            wasm_imports::loads_in_a_browser(&module)?;
            Ok(module)
        })
    }

    /// The folder that the npm package takes the module and its glue from.
    pub fn wasm_package(&mut self) -> Result<PathBuf, Failure> {
        let workspace = self.workspace;
        let module = self.wasm_module()?;
        once(&mut self.wasm_package, || {
            let wasm_bindgen = setup::tools::wasm_bindgen(workspace)?.wasm_bindgen;
            let package = workspace.path("js/wasm");
            tell("the wasm package, js/wasm");
            Run::new(wasm_bindgen, workspace.root())
                .args(["--remove-name-section", "--remove-producers-section"])
                .args(["--target", "web", "--out-name", "cpc_net", "--out-dir"])
                .arg(&package)
                .arg(&module)
                .remedy("wasm-bindgen and the crate of that name must be of the same version: see Cargo.lock")
                .run()?;
            wasm_imports::loads_in_a_browser(&package.join("cpc_net_bg.wasm"))?;
            Ok(package)
        })
    }

    /// The npm package.
    pub fn js(&mut self) -> Result<(), Failure> {
        self.wasm_package()?;
        if !self.js {
            setup::npm::packages(self.workspace)?;
            tell("the npm package");
            npm(self.workspace, ["run", "build", "-w", "js"]).remedy("the messages above are of js/").run()?;
            self.js = true;
        }
        Ok(())
    }

    /// The folder with the page, ready to be served.
    pub fn www(&mut self) -> Result<PathBuf, Failure> {
        self.js()?;
        let workspace = self.workspace;
        once(&mut self.www, || {
            tell("the page");
            npm(workspace, ["run", "build", "-w", "www"]).remedy("the messages above are of www/").run()?;
            Ok(workspace.path("www/dist"))
        })
    }
}

fn once(place: &mut Option<PathBuf>, build: impl FnOnce() -> Result<PathBuf, Failure>) -> Result<PathBuf, Failure> {
    if place.is_none() {
        *place = Some(build()?);
    }
    place.clone().ok_or_else(|| Failure::new("nothing was built"))
}

fn tell(what: &str) {
    println!("Building {what}");
}

/// A file's size as people say it.
pub fn size(file: &Path) -> String {
    match file.metadata() {
        Ok(metadata) => format!("{:.2} MB", metadata.len() as f64 / 1e6),
        Err(error) => error.to_string(),
    }
}
