//! Chromium, and ChromeDriver, by which tests steer it; Firefox, where it can be had.

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

const FIREFOXES: [&str; 2] = ["firefox-esr", "firefox"];
const USUAL_PLACES_OF_FIREFOX: [&str; 2] =
    ["/Applications/Firefox.app/Contents/MacOS/firefox", r"C:\Program Files\Mozilla Firefox\firefox.exe"];

const GET_FIREFOX: &str = "install Firefox; CPC_FIREFOX may tell where it is.\n\
     Debian: `apt-get install firefox-esr` as root, which this command does by itself as root.\n\
     Fedora: `dnf install firefox`. macOS: `brew install --cask firefox`";
const GET_BROWSER: &str = "install Chromium or Google Chrome; CPC_CHROMIUM may tell where it is.\n\
     Debian: `apt-get install chromium chromium-driver` as root, which this command does by itself as root.\n\
     Fedora: `dnf install chromium chromedriver`. macOS: `brew install --cask google-chrome chromedriver`";
const GET_DRIVER: &str = "install ChromeDriver in the browser's version; CHROMEDRIVER may tell where it is.\n\
     Debian: `apt-get install chromium-driver` as root, which this command does by itself as root.\n\
     Fedora: `dnf install chromedriver`. macOS: `brew install --cask chromedriver`.\n\
     Elsewhere: https://googlechromelabs.github.io/chrome-for-testing";

/// A program that tests need.
struct Wanted {
    name: &'static str,
    /// What may tell where it is.
    variable: &'static str,
    /// Debian's packages that bring it.
    packages: &'static [&'static str],
    otherwise: &'static str,
    search: fn() -> Option<PathBuf>,
}

const CHROMIUM: Wanted = Wanted {
    name: "Chromium",
    variable: "CPC_CHROMIUM",
    packages: &["chromium", "chromium-driver"],
    otherwise: GET_BROWSER,
    search: || on_path(&BROWSERS).or_else(|| existing(&USUAL_PLACES_OF_BROWSERS)),
};
const CHROMEDRIVER: Wanted = Wanted {
    name: "ChromeDriver",
    variable: "CHROMEDRIVER",
    packages: &["chromium", "chromium-driver"],
    otherwise: GET_DRIVER,
    search: || on_path(&["chromedriver"]).or_else(|| existing(&USUAL_PLACES_OF_DRIVERS)),
};
const FIREFOX: Wanted = Wanted {
    name: "Firefox",
    variable: "CPC_FIREFOX",
    packages: &["firefox-esr"],
    otherwise: GET_FIREFOX,
    search: || on_path(&FIREFOXES).or_else(|| existing(&USUAL_PLACES_OF_FIREFOX)),
};

/// The browser.
pub fn chromium(workspace: &Workspace) -> Result<PathBuf, Failure> {
    find(workspace, &CHROMIUM)
}

/// The other browser. A machine that has none tests without it, and this says so loudly.
pub fn firefox(workspace: &Workspace) -> Option<PathBuf> {
    find(workspace, &FIREFOX)
        .inspect_err(|failure| println!("\n*** STORIES OF FIREFOX ARE LEFT OUT ***\n{failure}\n"))
        .ok()
}

/// What steers the browser.
pub fn chromedriver(workspace: &Workspace) -> Result<PathBuf, Failure> {
    find(workspace, &CHROMEDRIVER)
}

fn find(workspace: &Workspace, wanted: &Wanted) -> Result<PathBuf, Failure> {
    let Wanted { name, variable, packages, otherwise, search } = wanted;
    if let Some(told) = env::var_os(variable).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(told);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Failure::new(format!("{variable} says {}, where there is no file", path.display())).remedy(*otherwise))
        };
    }
    if let Some(found) = search() {
        return Ok(found);
    }
    if may_use_apt(workspace) {
        println!("Installing {} by apt-get; takes about a minute", packages.join(" and "));
        let apt = || Run::new("apt-get", workspace.root()).env("DEBIAN_FRONTEND", "noninteractive").remedy(*otherwise);
        apt().arg("update").run()?;
        apt().args(["install", "--yes", "--no-install-recommends"]).args(*packages).run()?;
    }
    search().ok_or_else(|| Failure::new(format!("there is no {name} on this machine")).remedy(*otherwise))
}

fn existing(places: &[&str]) -> Option<PathBuf> {
    places.iter().map(PathBuf::from).find(|path| path.is_file())
}

fn may_use_apt(workspace: &Workspace) -> bool {
    Path::new("/etc/debian_version").is_file()
        && on_path(&["apt-get"]).is_some()
        && Run::new("id", workspace.root()).arg("-u").answer().as_deref() == Some("0")
}
