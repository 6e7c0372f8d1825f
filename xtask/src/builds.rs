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

/// What measures the transports: the same transports in a page and natively.
pub struct Probe {
    /// The program `cpc-probe`.
    pub program: PathBuf,
    /// The folder with the module for pages, and its glue.
    pub wasm: PathBuf,
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
        let arguments = ["--features", cargo::TESTED, "--bin", "cpc-node", "--test", "house_rules"];
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

    /// What measures the transports. The page's half is built as the npm package is. The native half is built as the
    /// tests build all, or, to be measured against others, as it is `published`.
    pub fn probe(&mut self, published: bool) -> Result<Probe, Failure> {
        Ok(Probe { program: self.probe_program(published)?, wasm: self.probe_wasm()? })
    }

    fn probe_program(&self, published: bool) -> Result<PathBuf, Failure> {
        // As for the node: what is built for the tests is used again.
        let tested = ["--features", cargo::TESTED, "--bin", "cpc-probe", "--test", "house_rules"];
        let faster = ["--features", "probe", "--bin", "cpc-probe", "--release"];
        let (arguments, time) = if published { (&faster[..], "ten minutes") } else { (&tested[..], "a minute") };
        tell(&format!("cpc-probe; the first time takes about {time} on two cores"));
        cargo::build(self.workspace, arguments, "program cpc-probe", |report| cargo::program(report, "cpc-probe"))
    }

    fn probe_wasm(&mut self) -> Result<PathBuf, Failure> {
        let workspace = self.workspace;
        // Cargo puts this module where it has put the package's: the latter has to be made again if it is still wanted.
        self.wasm_module = None;
        setup::rust::wasm_target(workspace)?;
        tell("the wasm module of the probe; takes two minutes on two cores when the package's has been built");
        let arguments = ["--lib", "--target", setup::rust::WASM_TARGET, "--features", "probe", "--profile", "web"];
        let module = cargo::build(workspace, &arguments, "wasm module", cargo::wasm_module)?;
        let folder = module.with_file_name("cpc-probe-wasm");
        bind(workspace, &module, &folder)?;
        Ok(folder)
    }

    /// The folder that the npm package takes the module and its glue from.
    pub fn wasm_package(&mut self) -> Result<PathBuf, Failure> {
        let workspace = self.workspace;
        if let Some(package) = &self.wasm_package {
            return Ok(package.clone());
        }
        let module = self.wasm_module()?;
        once(&mut self.wasm_package, || {
            let package = workspace.path("js/wasm");
            tell("the wasm package, js/wasm");
            bind(workspace, &module, &package)?;
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

/// Makes of a module what a page can load.
fn bind(workspace: &Workspace, module: &Path, folder: &Path) -> Result<(), Failure> {
    let wasm_bindgen = setup::tools::wasm_bindgen(workspace)?.wasm_bindgen;
    Run::new(wasm_bindgen, workspace.root())
        .args(["--remove-name-section", "--remove-producers-section"])
        .args(["--target", "web", "--out-name", "cpc_net", "--out-dir"])
        .arg(folder)
        .arg(module)
        .remedy("wasm-bindgen and the crate of that name must be of the same version: see Cargo.lock")
        .run()
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
