//! Tools that cargo installs, each version into its own folder of the cache.

use std::{env, fs, path::PathBuf};

use crate::{
    cargo::cargo,
    failure::Failure,
    run::{Run, file_failure},
    workspace::{Workspace, on_path},
};

/// wasm-bindgen's programs.
pub struct WasmBindgen {
    pub wasm_bindgen: PathBuf,
    pub test_runner: PathBuf,
}

/// wasm-bindgen, in exactly the version of the crate: the two talk in a format that changes with each.
pub fn wasm_bindgen(workspace: &Workspace) -> Result<WasmBindgen, Failure> {
    let lock = workspace.path("Cargo.lock");
    let text = fs::read_to_string(&lock).map_err(|error| file_failure("can't read", &lock, &error))?;
    let version = locked_version(&text, "wasm-bindgen")
        .ok_or_else(|| Failure::new(format!("{} names no wasm-bindgen", lock.display())))?;
    if let Some(found) = wasm_bindgen_on_path(workspace, version) {
        return Ok(found);
    }
    let programs = install(
        workspace,
        &Tool {
            package: "wasm-bindgen-cli",
            version,
            programs: &["wasm-bindgen", "wasm-bindgen-test-runner"],
            takes: "one to four minutes",
        },
    )?;
    match <[PathBuf; 2]>::try_from(programs) {
        Ok([wasm_bindgen, test_runner]) => Ok(WasmBindgen { wasm_bindgen, test_runner }),
        Err(_) => Err(Failure::new("wasm-bindgen-cli came without its two programs")),
    }
}

/// What the person has installed already, if it fits.
fn wasm_bindgen_on_path(workspace: &Workspace, version: &str) -> Option<WasmBindgen> {
    let fitting = |name: &str| {
        let program = on_path(&[name])?;
        let answer = Run::new(&program, workspace.root()).arg("--version").answer()?;
        (answer.split_whitespace().nth(1) == Some(version)).then_some(program)
    };
    Some(WasmBindgen { wasm_bindgen: fitting("wasm-bindgen")?, test_runner: fitting("wasm-bindgen-test-runner")? })
}

/// cargo-llvm-cov, which measures coverage.
pub fn llvm_cov(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let tool =
        Tool { package: "cargo-llvm-cov", version: "0.9.1", programs: &["cargo-llvm-cov"], takes: "about a minute" };
    install(workspace, &tool)?.pop().ok_or_else(|| Failure::new("cargo-llvm-cov came without its program"))
}

struct Tool<'t> {
    package: &'t str,
    version: &'t str,
    programs: &'t [&'t str],
    takes: &'t str,
}

fn install(workspace: &Workspace, tool: &Tool<'_>) -> Result<Vec<PathBuf>, Failure> {
    let Tool { package, version, takes, .. } = tool;
    let root = workspace.cache().join("tools").join(format!("{package}-{version}"));
    let programs: Vec<PathBuf> = tool
        .programs
        .iter()
        .map(|program| root.join("bin").join(format!("{program}{}", env::consts::EXE_SUFFIX)))
        .collect();
    if programs.iter().all(|program| program.is_file()) {
        return Ok(programs);
    }
    println!("Installing {package} {version} into {}; {takes} on two cores, once", root.display());
    // Beside the target directory of the checkout, which other builds may be using. An interrupted installation goes on
    // where it was.
    let building = root.join("building");
    cargo(workspace)
        .args(["install", "--locked", "--force", package, "--version", version, "--root"])
        .arg(&root)
        .args(tool.programs.iter().flat_map(|program| ["--bin", program]))
        .env("CARGO_TARGET_DIR", &building)
        // These programs work for seconds: time spent on optimising them would be lost.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .remedy("this needs the network: cargo fetches the sources. Run the command again once it is there")
        .run()?;
    fs::remove_dir_all(&building).map_err(|error| file_failure("can't remove", &building, &error))?;
    match programs.iter().find(|program| !program.is_file()) {
        None => Ok(programs),
        Some(missing) => {
            Err(Failure::new(format!("cargo installed {package}, but {} is not there", missing.display())))
        }
    }
}

/// The version of a package in a `Cargo.lock`.
fn locked_version<'l>(lock: &'l str, package: &str) -> Option<&'l str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_very_package() {
        let lock = "[[package]]\nname = \"wasm-bindgen-macro\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.108\"\nsource = \"somewhere\"\n";
        assert_eq!(locked_version(lock, "wasm-bindgen"), Some("0.2.108"));
        assert_eq!(locked_version(lock, "bindgen"), None);
        assert_eq!(locked_version("", "wasm-bindgen"), None);
    }
}
