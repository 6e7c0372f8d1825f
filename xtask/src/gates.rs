//! What is checked on the browser's build as a whole: what it depends on and what it asks of its host.

use crate::{
    builds::{Builds, size},
    cargo::cargo,
    failure::Failure,
    workspace::Workspace,
};

pub fn run(builds: &mut Builds<'_>) -> Result<(), Failure> {
    no_tokio_in_the_browser(builds.workspace())?;
    let module = builds.wasm_module()?;
    println!("The wasm module ({}) imports nothing from `env`", size(&module));
    Ok(())
}

/// The browser has its own event loop; a runtime beside it would be dead weight at best and a panic at worst.
fn no_tokio_in_the_browser(workspace: &Workspace) -> Result<(), Failure> {
    const SCOPE: [&str; 6] = ["--target", "wasm32-unknown-unknown", "--features", "js", "--edges", "no-dev,no-build"];
    let mut crates = Vec::new();
    cargo(workspace)
        .arg("tree")
        .args(SCOPE)
        .args(["--prefix", "none", "--format", "{p}"])
        .lines(|line| crates.extend(package_name(line).map(str::to_owned)))?;
    if crates.len() < 10 {
        return Err(Failure::new(format!("`cargo tree` names just {} crates, which can't be all", crates.len())));
    }
    if let Some(offender) = crates.iter().find(|name| *name == "tokio" || name.starts_with("tokio-")) {
        cargo(workspace).arg("tree").args(SCOPE).args(["--invert", offender]).run()?;
        return Err(Failure::new(format!("the browser's build depends on {offender}")).remedy(
            "the tree above tells which crate brings it; switch off that crate's feature, or take another crate",
        ));
    }
    crates.sort();
    crates.dedup();
    println!("None of the {} crates of the browser's build is of tokio", crates.len());
    Ok(())
}

/// `name v1.2.3 (…)` gives the name.
fn package_name(line: &str) -> Option<&str> {
    let (name, version) = line.split_once(' ')?;
    version.starts_with('v').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_from_the_rest_of_the_tree() {
        assert_eq!(package_name("tokio v1.54.1"), Some("tokio"));
        assert_eq!(package_name("cpc-net v0.1.0 (/somewhere)"), Some("cpc-net"));
        assert_eq!(package_name("serde v1.0.0 (*)"), Some("serde"));
        assert_eq!(package_name("[dev-dependencies]"), None);
        assert_eq!(package_name(""), None);
    }
}
