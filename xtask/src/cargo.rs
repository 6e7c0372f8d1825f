//! Asking cargo for what it does.

use std::{env, path::PathBuf};

use serde_json::Value;

use crate::{failure::Failure, run::Run, workspace::Workspace};

/// What is switched on when something is built for tests: the same for all of them, so that nothing is compiled twice.
pub const TESTED: &str = "node,typescript,probe";

/// Cargo, the one that runs this program.
pub fn cargo(workspace: &Workspace) -> Run {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Run::new(program, workspace.root())
}

/// Builds, and gives the one file that `wanted` picks out of cargo's reports on what it made.
pub fn build(
    workspace: &Workspace,
    arguments: &[&str],
    what: &str,
    wanted: impl Fn(&Value) -> Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    let mut made = None;
    cargo(workspace)
        .arg("build")
        .args(arguments)
        .arg("--message-format=json-render-diagnostics")
        .remedy("the compiler's messages are above")
        .lines(|line| {
            let report = serde_json::from_str::<Value>(line).unwrap_or_default();
            if report["reason"] == "compiler-artifact"
                && let Some(file) = wanted(&report)
            {
                made = Some(file);
            }
        })?;
    made.ok_or_else(|| Failure::new(format!("cargo built without complaint, but reported no {what}")))
}

/// The program of that name, if that is what cargo reports; not its test harness.
pub fn program(report: &Value, name: &str) -> Option<PathBuf> {
    let is_it = report["target"]["name"] == name
        && report["target"]["kind"].as_array()?.iter().any(|kind| kind == "bin")
        && report["profile"]["test"] == false;
    report["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
}

/// The wasm module of our library, if that is what cargo reports.
pub fn wasm_module(report: &Value) -> Option<PathBuf> {
    let is_it = report["target"]["name"] == "cpc_net"
        && report["target"]["crate_types"].as_array()?.iter().any(|kind| kind == "cdylib");
    let files = report["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.filter(|_| is_it).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}

/// Writes the generated files of the repository again.
pub fn regenerate_types(workspace: &Workspace) -> Result<(), Failure> {
    cargo(workspace)
        .args(["test", "--features", TESTED, "--test", "generated"])
        .env("CPC_UPDATE", "1")
        .remedy("the messages are above; src/ and proto/cpc.proto are what the files are made from")
        .run()?;
    println!("\nThe generated files are up to date; `git status` tells which have changed.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_program_is_told_from_its_tests() {
        let report = |test: bool, kind: &str| {
            json!({"reason": "compiler-artifact", "target": {"name": "cpc-node", "kind": [kind], "crate_types": ["bin"]},
                   "profile": {"test": test}, "executable": "/target/debug/cpc-node", "filenames": []})
        };
        assert_eq!(program(&report(false, "bin"), "cpc-node"), Some("/target/debug/cpc-node".into()));
        assert_eq!(program(&report(true, "bin"), "cpc-node"), None);
        assert_eq!(program(&report(false, "bin"), "other"), None);
        assert_eq!(program(&report(false, "example"), "cpc-node"), None);
    }

    #[test]
    fn the_module_is_told_from_the_library() {
        let report = |name: &str| {
            json!({"reason": "compiler-artifact", "target": {"name": name, "kind": ["rlib", "cdylib"], "crate_types": ["rlib", "cdylib"]},
                   "filenames": ["/target/libcpc_net.rlib", "/target/cpc_net.wasm"]})
        };
        assert_eq!(wasm_module(&report("cpc_net")), Some("/target/cpc_net.wasm".into()));
        assert_eq!(wasm_module(&report("other")), None);
    }
}
