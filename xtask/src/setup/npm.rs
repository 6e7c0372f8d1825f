//! Node, and the packages of the JavaScript parts.

use std::{ffi::OsStr, time::SystemTime};

use crate::{
    failure::Failure,
    run::{Run, script},
    workspace::Workspace,
};

/// The oldest Node that the page's build runs on.
const OLDEST_NODE: (u32, u32) = (20, 19);

const GET_NODE: &str = "install Node 20.19 or newer, with npm: from https://nodejs.org, or the system's packages \
                        `nodejs` and `npm` where they are new enough";

/// npm, in the root of the workspace.
pub fn npm<A: AsRef<OsStr>>(workspace: &Workspace, arguments: impl IntoIterator<Item = A>) -> Run {
    Run::new(script("npm"), workspace.root()).args(arguments)
}

/// The version of Node, if it is good enough.
pub fn node(workspace: &Workspace) -> Result<String, Failure> {
    let version = Run::new("node", workspace.root())
        .arg("--version")
        .answer()
        .ok_or_else(|| Failure::new("there is no Node on this machine").remedy(GET_NODE))?;
    if parse(&version).is_none_or(|found| found < OLDEST_NODE) {
        return Err(Failure::new(format!("Node {version} is too old")).remedy(GET_NODE));
    }
    if npm(workspace, ["--version"]).answer().is_none() {
        return Err(Failure::new("there is Node on this machine, but no npm").remedy(GET_NODE));
    }
    Ok(version)
}

/// `v20.19.4` gives 20 and 19.
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The packages that `package-lock.json` names.
pub fn packages(workspace: &Workspace) -> Result<(), Failure> {
    node(workspace)?;
    let changed = |path: &str| workspace.path(path).metadata().and_then(|metadata| metadata.modified()).ok();
    let wanted = changed("package-lock.json").ok_or_else(|| {
        Failure::new("package-lock.json is missing")
            .remedy("`git checkout package-lock.json`, or `npm install` makes one")
    })?;
    if up_to_date(wanted, changed("node_modules/.package-lock.json")) {
        return Ok(());
    }
    println!("Installing the npm packages; takes about half a minute");
    npm(workspace, ["ci"])
        // Tests use the system's browser.
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
        .remedy("this needs the network: npm fetches the packages. Run the command again once it is there")
        .run()
}

/// npm writes its own list last, once all is in place.
fn up_to_date(wanted: SystemTime, installed: Option<SystemTime>) -> bool {
    installed.is_some_and(|installed| installed >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn old_versions_of_node_are_refused() {
        for (version, good) in [
            ("v20.19.0", true),
            ("v20.20.2", true),
            ("v22.0.0", true),
            ("v20.9.0", false),
            ("v18.20.4", false),
            ("", false),
        ] {
            assert_eq!(parse(version).is_some_and(|found| found >= OLDEST_NODE), good, "{version:?}");
        }
    }

    #[test]
    fn packages_are_installed_when_the_list_is_newer() {
        let wanted = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        assert!(up_to_date(wanted, Some(wanted)));
        assert!(up_to_date(wanted, Some(wanted + Duration::from_secs(1))));
        assert!(!up_to_date(wanted, Some(wanted - Duration::from_secs(1))));
        assert!(!up_to_date(wanted, None));
    }
}
