//! The steps of `cargo xtask test`: what each one proves, runs, and needs when it fails.

use crate::{
    builds::Builds,
    cargo::{TESTED, cargo},
    failure::Failure,
    gates, lint,
    setup::{self, npm::npm},
    wasm_tests,
};

/// One step.
pub struct Step {
    pub name: &'static str,
    /// What it proves.
    pub about: &'static str,
    /// What is likely to help when it fails and nothing closer to the cause says more.
    pub remedy: &'static str,
    pub run: fn(&mut Builds<'_>) -> Result<(), Failure>,
}

/// All steps: what fails quickly and often comes first.
pub const STEPS: [Step; 10] = [
    Step {
        name: "setup",
        about: "all tools are in place",
        remedy: "`cargo xtask setup --help` tells what is needed and where it comes from",
        run: |builds| setup::everything(builds.workspace()),
    },
    Step {
        name: "lint",
        about: "formatting, clippy for both targets, documentation",
        remedy: "mend what is reported above",
        run: |builds| lint::run(builds.workspace()),
    },
    Step {
        name: "native",
        about: "unit, integration and documentation tests on this machine",
        remedy: "the failing tests are named above; `cargo test --features node,typescript <name>` runs one.\n\
                 When generated files differ: `cargo xtask types`",
        run: native,
    },
    Step {
        name: "gates",
        about: "the browser's build depends on no tokio and imports nothing from `env`",
        remedy: "look at what was added to Cargo.toml",
        run: gates::run,
    },
    Step {
        name: "wasm-tests",
        about: "unit tests in headless Chromium",
        remedy: "when no test is named above, Chromium did not start: is ChromeDriver of the same version, and do the \
                 arguments in webdriver.json suit this machine?",
        run: |builds| wasm_tests::run(builds.workspace()),
    },
    Step {
        name: "wasm",
        about: "the wasm package for npm can be built",
        remedy: "`cargo xtask wasm --help` tells how it is made",
        run: |builds| builds.wasm_package().map(drop),
    },
    Step {
        name: "js",
        about: "the npm package and the page build, and their tests pass",
        remedy: "when types differ: `cargo xtask types`",
        run: js,
    },
    Step {
        name: "strangers",
        about: "js-libp2p and a foreign protobuf talk with cpc-node",
        remedy: "the failing tests are named above, with the node's own words",
        run: strangers,
    },
    Step {
        name: "browser",
        about: "whole stories: pages in Chromium and Firefox, cpc-node and js-libp2p",
        remedy: "the failing stories are named above; `cargo xtask demo` lets you walk through them by hand",
        run: browser,
    },
    Step {
        name: "transports",
        about: "what the browser's transports promise: all arrives, in bounded memory, and nothing is left behind",
        remedy: "the failing promises are named above; `node --test --test-name-pattern=webrtc` in tests/transports \
                 tries some of them alone, with the environment of the last command above",
        run: transports,
    },
];

/// The index of the step of that name or number.
pub fn find(name: &str) -> Option<usize> {
    let by_number =
        || name.parse::<usize>().ok().filter(|number| (1..=STEPS.len()).contains(number)).map(|number| number - 1);
    STEPS.iter().position(|step| step.name == name).or_else(by_number)
}

/// One line for each step.
pub fn list() -> String {
    let line = |(index, step): (usize, &Step)| format!("  {} {:<11} {}\n", index + 1, step.name, step.about);
    STEPS.iter().enumerate().map(line).collect()
}

fn native(builds: &mut Builds<'_>) -> Result<(), Failure> {
    println!("Compiling takes about eight minutes on two cores the first time");
    cargo(builds.workspace()).args(["test", "--workspace", "--features", TESTED]).run()
}

fn js(builds: &mut Builds<'_>) -> Result<(), Failure> {
    let workspace = builds.workspace();
    let check = |arguments: &[&str]| {
        npm(workspace, arguments)
            .remedy("types do not agree; when generated ones are out of date: `cargo xtask types`")
            .run()
    };
    builds.wasm_package()?;
    setup::npm::packages(workspace)?;
    // Before the builds, as it clears away what they make.
    check(&["run", "check"])?;
    check(&["run", "check:surface", "-w", "js"])?;
    builds.www()?;
    npm(workspace, ["test"]).run()
}

fn strangers(builds: &mut Builds<'_>) -> Result<(), Failure> {
    let workspace = builds.workspace();
    let node = builds.node()?;
    setup::npm::packages(workspace)?;
    npm(workspace, ["test", "-w", "tests/strangers"]).env("CPC_NODE_BIN", node).run()
}

fn browser(builds: &mut Builds<'_>) -> Result<(), Failure> {
    let workspace = builds.workspace();
    let node = builds.node()?;
    let www = builds.www()?;
    let chromium = setup::browser::chromium(workspace)?;
    let stories = npm(workspace, ["test", "-w", "tests/browser"])
        .env("CPC_NODE_BIN", node)
        .env("CPC_WWW", www)
        .env("CPC_CHROMIUM", chromium);
    match setup::browser::firefox(workspace) {
        Some(firefox) => stories.env("CPC_FIREFOX", firefox).run(),
        None => stories.run(),
    }
}

fn transports(builds: &mut Builds<'_>) -> Result<(), Failure> {
    probing(builds, false, &["test", "-w", "tests/transports"])
}

/// Runs something of tests/transports with all that it needs; `published`: with a native side as fast as it gets.
pub fn probing(builds: &mut Builds<'_>, published: bool, arguments: &[&str]) -> Result<(), Failure> {
    let workspace = builds.workspace();
    let probe = builds.probe(published)?;
    setup::npm::packages(workspace)?;
    let chromium = setup::browser::chromium(workspace)?;
    npm(workspace, arguments)
        .env("CPC_PROBE_BIN", probe.program)
        .env("CPC_PROBE_WASM", probe.wasm)
        .env("CPC_CHROMIUM", chromium)
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_found_by_name_and_number() {
        for (index, step) in STEPS.iter().enumerate() {
            assert_eq!(find(step.name), Some(index));
            assert_eq!(find(&(index + 1).to_string()), Some(index));
            assert!(list().contains(step.about));
        }
        for nonsense in ["", "0", "11", "-1", "Lint", "dance"] {
            assert_eq!(find(nonsense), None, "{nonsense:?}");
        }
    }
}
