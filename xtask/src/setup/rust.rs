//! Parts of the Rust toolchain that a fresh one may lack.

use std::{env, path::PathBuf};

use crate::{cargo::cargo, failure::Failure, run::Run, workspace::Workspace};

pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The standard library for the browser.
pub fn wasm_target(workspace: &Workspace) -> Result<(), Failure> {
    let present = || libraries(workspace, Some(WASM_TARGET)).is_some_and(|path| path.is_dir());
    if present() {
        return Ok(());
    }
    rustup(
        workspace,
        &["target", "add", WASM_TARGET],
        "the standard library for the browser; some seconds",
        &format!(
            "Rust has no standard library for {WASM_TARGET} here.\n\
             With Rust from https://rustup.rs: `rustup target add {WASM_TARGET}`.\n\
             With Rust from the system's packages: install its part for wasm (Debian and Ubuntu call it\n\
             libstd-rust-dev-wasm32, Fedora rust-std-static-{WASM_TARGET})"
        ),
        present,
    )
}

/// rustfmt and clippy, which rustup's minimal profile leaves out.
pub fn lint_tools(workspace: &Workspace) -> Result<(), Failure> {
    let present =
        || ["fmt", "clippy"].into_iter().all(|tool| cargo(workspace).args([tool, "--version"]).answer().is_some());
    if present() {
        return Ok(());
    }
    rustup(
        workspace,
        &["component", "add", "rustfmt", "clippy"],
        "rustfmt and clippy; some seconds",
        "install rustfmt and clippy: `rustup component add rustfmt clippy`, or the system's packages of these names",
        present,
    )
}

/// The tools that read what instrumented programs have counted.
pub fn llvm_tools(workspace: &Workspace) -> Result<(), Failure> {
    let present = || {
        let profdata = format!("llvm-profdata{}", env::consts::EXE_SUFFIX);
        libraries(workspace, None).is_some_and(|path| path.with_file_name("bin").join(profdata).is_file())
    };
    if present() || (env::var_os("LLVM_COV").is_some() && env::var_os("LLVM_PROFDATA").is_some()) {
        return Ok(());
    }
    rustup(
        workspace,
        &["component", "add", "llvm-tools"],
        "LLVM's tools for coverage; some seconds",
        "install LLVM's tools: `rustup component add llvm-tools`, or set LLVM_COV and LLVM_PROFDATA to those of the \
         LLVM that this Rust is built with",
        present,
    )
}

/// Where the compiler looks for the libraries of a target, there or not.
fn libraries(workspace: &Workspace, target: Option<&str>) -> Option<PathBuf> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut question = Run::new(rustc, workspace.root()).args(["--print", "target-libdir"]);
    if let Some(target) = target {
        question = question.args(["--target", target]);
    }
    question.answer().map(PathBuf::from)
}

fn rustup(
    workspace: &Workspace,
    arguments: &[&str],
    what: &str,
    otherwise: &str,
    present: impl Fn() -> bool,
) -> Result<(), Failure> {
    println!("Fetching {what}");
    Run::new("rustup", workspace.root()).args(arguments).remedy(otherwise).run()?;
    if present() {
        Ok(())
    } else {
        // rustup serves a toolchain, and cargo may be of another.
        Err(Failure::new("rustup did its work, but this Rust still lacks the part").remedy(otherwise))
    }
}
