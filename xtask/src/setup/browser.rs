//! Chromium, and ChromeDriver, by which tests steer it.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    failure::Failure,
    run::Run,
    workspace::{Workspace, on_path},
};

const BROWSERS: [&str; 5] = ["chromium", "google-chrome", "google-chrome-stable", "chromium-browser", "chrome"];
const USUAL_PLACES_OF_BROWSERS: [&str; 4] = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
];
const USUAL_PLACES_OF_DRIVERS: [&str; 4] = [
    "/usr/lib/chromium/chromedriver",
    "/usr/lib/chromium-browser/chromedriver",
    "/usr/local/bin/chromedriver",
    "/opt/homebrew/bin/chromedriver",
];

const GET_BROWSER: &str = "install Chromium or Google Chrome; CPC_CHROMIUM may tell where it is.\n\
     Debian: `apt-get install chromium chromium-driver` as root, which this command does by itself as root.\n\
     Fedora: `dnf install chromium chromedriver`. macOS: `brew install --cask google-chrome chromedriver`";
const GET_DRIVER: &str = "install ChromeDriver in the browser's version; CHROMEDRIVER may tell where it is.\n\
     Debian: `apt-get install chromium-driver` as root, which this command does by itself as root.\n\
     Fedora: `dnf install chromedriver`. macOS: `brew install --cask chromedriver`.\n\
     Elsewhere: https://googlechromelabs.github.io/chrome-for-testing";

/// The browser.
pub fn chromium(workspace: &Workspace) -> Result<PathBuf, Failure> {
    find(workspace, "Chromium", "CPC_CHROMIUM", GET_BROWSER, &|| {
        on_path(&BROWSERS).or_else(|| existing(&USUAL_PLACES_OF_BROWSERS))
    })
}

/// What steers the browser.
pub fn chromedriver(workspace: &Workspace) -> Result<PathBuf, Failure> {
    find(workspace, "ChromeDriver", "CHROMEDRIVER", GET_DRIVER, &|| {
        on_path(&["chromedriver"]).or_else(|| existing(&USUAL_PLACES_OF_DRIVERS))
    })
}

fn find(
    workspace: &Workspace,
    what: &str,
    variable: &str,
    otherwise: &str,
    search: &dyn Fn() -> Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    if let Some(told) = env::var_os(variable).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(told);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Failure::new(format!("{variable} says {}, where there is no file", path.display())).remedy(otherwise))
        };
    }
    if let Some(found) = search() {
        return Ok(found);
    }
    if may_use_apt(workspace) {
        println!("Installing Chromium and ChromeDriver by apt-get; takes about a minute");
        let apt = || Run::new("apt-get", workspace.root()).env("DEBIAN_FRONTEND", "noninteractive").remedy(otherwise);
        apt().arg("update").run()?;
        apt().args(["install", "--yes", "--no-install-recommends", "chromium", "chromium-driver"]).run()?;
    }
    search().ok_or_else(|| Failure::new(format!("there is no {what} on this machine")).remedy(otherwise))
}

fn existing(places: &[&str]) -> Option<PathBuf> {
    places.iter().map(PathBuf::from).find(|path| path.is_file())
}

fn may_use_apt(workspace: &Workspace) -> bool {
    Path::new("/etc/debian_version").is_file()
        && on_path(&["apt-get"]).is_some()
        && Run::new("id", workspace.root()).arg("-u").answer().as_deref() == Some("0")
}
