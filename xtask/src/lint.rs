//! What is checked without running anything.

use crate::{cargo::cargo, failure::Failure, setup, workspace::Workspace};

pub fn run(workspace: &Workspace) -> Result<(), Failure> {
    setup::rust::lint_tools(workspace)?;
    setup::rust::wasm_target(workspace)?;
    let heed = "mend what is reported above; nothing is allowed to warn";
    cargo(workspace)
        .args(["fmt", "--all", "--", "--check"])
        .remedy("`cargo fmt --all` puts the sources into form")
        .run()?;
    cargo(workspace)
        .args(["clippy", "--workspace", "--all-targets", "--features", "node,probe", "--", "-D", "warnings"])
        .remedy(heed)
        .run()?;
    cargo(workspace)
        .args(["clippy", "--lib", "--tests", "--target", "wasm32-unknown-unknown", "--features", "js"])
        .args(["--", "-D", "warnings"])
        .remedy(heed)
        .run()?;
    // The probe's program is native, so its tests can't be among those above.
    cargo(workspace)
        .args(["clippy", "--lib", "--target", "wasm32-unknown-unknown", "--features", "js,probe"])
        .args(["--", "-D", "warnings"])
        .remedy(heed)
        .run()?;
    // Examples are named for the sake of the dependencies of tests, which they share: without them cargo would decide on
    // other features than clippy above, and check half of the dependencies once more.
    cargo(workspace)
        .args(["doc", "--no-deps", "--features", "node,probe", "--lib", "--bins", "--examples"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .remedy(heed)
        .run()
}
