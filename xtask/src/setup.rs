//! Bringing what is needed into place: looked for first, fetched only when missing.

pub mod browser;
pub mod npm;
pub mod rust;
pub mod tools;

use crate::{failure::Failure, workspace::Workspace};

/// All that any command needs, coverage apart, which few ask for.
pub fn everything(workspace: &Workspace) -> Result<(), Failure> {
    rust::wasm_target(workspace)?;
    in_place("Rust for the browser", rust::WASM_TARGET);
    rust::lint_tools(workspace)?;
    in_place("rustfmt and clippy", "with the toolchain");
    let bindgen = tools::wasm_bindgen(workspace)?;
    in_place("wasm-bindgen", bindgen.wasm_bindgen.display());
    let node = npm::node(workspace)?;
    in_place("Node", node);
    npm::packages(workspace)?;
    in_place("npm packages", "node_modules");
    in_place("Chromium", browser::chromium(workspace)?.display());
    if let Some(firefox) = browser::firefox(workspace) {
        in_place("Firefox", firefox.display());
    }
    in_place("ChromeDriver", browser::chromedriver(workspace)?.display());
    Ok(())
}

fn in_place(what: &str, place: impl std::fmt::Display) {
    println!("  {what:<21} {place}");
}
