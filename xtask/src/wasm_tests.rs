//! The tests that run inside of a browser.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{cargo::cargo, failure::Failure, run::file_failure, setup, workspace::Workspace};

pub fn run(workspace: &Workspace) -> Result<(), Failure> {
    setup::rust::wasm_target(workspace)?;
    let runner = setup::tools::wasm_bindgen(workspace)?.test_runner;
    let chromium = setup::browser::chromium(workspace)?;
    let driver = setup::browser::chromedriver(workspace)?;
    println!("Compiling takes about three minutes on two cores the first time");
    let mut passed = 0;
    cargo(workspace)
        .args(["test", "--lib", "--test", "browser", "--target", setup::rust::WASM_TARGET, "--features", "js"])
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner)
        .env("CHROMEDRIVER", driver)
        .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", capabilities(workspace, &chromium)?)
        .env("WASM_BINDGEN_USE_BROWSER", "1")
        // Seconds for the driver's start, and for a whole file of tests. The runner's own 5 and 20 are short on a busy
        // machine.
        .env("WASM_BINDGEN_TEST_DRIVER_TIMEOUT", "60")
        .env("WASM_BINDGEN_TEST_TIMEOUT", "180")
        .lines(|line| {
            println!("{line}");
            passed += passed_tests(line);
        })?;
    // The runner is content when it finds no tests at all.
    if passed == 0 {
        return Err(Failure::new("no test has run in the browser").remedy(
            "is `wasm_bindgen_test_configure!(run_in_browser)` still there, and are the tests marked as such?",
        ));
    }
    println!("{passed} tests have passed in {}", chromium.display());
    Ok(())
}

/// webdriver.json, with the browser that was found: ChromeDriver's own search knows nothing of CPC_CHROMIUM.
fn capabilities(workspace: &Workspace, chromium: &Path) -> Result<PathBuf, Failure> {
    let common = workspace.path("webdriver.json");
    let text = fs::read_to_string(&common).map_err(|error| file_failure("can't read", &common, &error))?;
    let capabilities = with_browser(&text, chromium)
        .map_err(|error| Failure::new(format!("{} is not JSON as it should be: {error}", common.display())))?;
    let own = workspace.cache().join("webdriver.json");
    fs::create_dir_all(workspace.cache())
        .and_then(|()| fs::write(&own, capabilities.to_string()))
        .map_err(|error| file_failure("can't write", &own, &error))?;
    Ok(own)
}

fn with_browser(text: &str, chromium: &Path) -> serde_json::Result<Value> {
    let mut capabilities: Value = serde_json::from_str(text)?;
    capabilities["goog:chromeOptions"]["binary"] = json!(chromium);
    Ok(capabilities)
}

/// `test result: ok. 3 passed; …` gives 3.
fn passed_tests(line: &str) -> usize {
    let count = || line.trim().strip_prefix("test result: ")?.split_once(". ")?.1.split_once(" passed")?.0.parse().ok();
    count().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted() {
        assert_eq!(passed_tests("    test result: ok. 3 passed; 0 failed; 1 ignored; 0 filtered out"), 3);
        assert_eq!(passed_tests("test result: FAILED. 12 passed; 1 failed; 0 ignored"), 12);
        assert_eq!(passed_tests("no tests to run!"), 0);
        assert_eq!(passed_tests("test test_passed ... ok"), 0);
    }

    #[test]
    fn the_browser_joins_what_the_repository_says() {
        let common = include_str!("../../webdriver.json");
        let joined = with_browser(common, Path::new("/somewhere/chromium")).expect("webdriver.json is JSON");
        assert_eq!(joined["goog:chromeOptions"]["binary"], "/somewhere/chromium");
        let arguments = joined["goog:chromeOptions"]["args"].as_array().expect("arguments");
        assert!(arguments.iter().any(|argument| argument == "--headless"));
    }
}
