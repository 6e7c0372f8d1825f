//! What is generated and kept in the repository is what its source generates today.
//!
//! With `CPC_UPDATE=1` in the environment the files are written instead of compared; `cargo xtask types` does that.

#![cfg(not(target_arch = "wasm32"))]

use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn same_or_written(file: &Path, fresh: &str) {
    if std::env::var_os("CPC_UPDATE").is_some() {
        fs::create_dir_all(file.parent().expect("a file lies in a folder")).expect("can create the folder");
        fs::write(file, fresh).expect("can write the file");
        return;
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert!(
        kept == fresh,
        "{} is not what its source generates; run `cargo xtask types` and commit the result",
        file.strip_prefix(root()).unwrap_or(file).display(),
    );
}

#[test]
fn the_wire_types_are_those_of_the_proto() {
    let proto = root().join("proto");
    let descriptors = protox::compile(["cpc.proto"], [&proto]).expect("proto/cpc.proto compiles");
    let target = tempfile::tempdir().expect("a temporary folder");
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(target.path())
        .compile_fds(descriptors)
        .expect("the descriptors become Rust");
    let generated = fs::read_to_string(target.path().join("cpc.rs")).expect("one file for the package cpc");
    let fresh = format!("// Generated from proto/cpc.proto by `cargo xtask types`. Do not edit.\n\n{generated}");
    same_or_written(&root().join("src/wire/generated.rs"), &fresh);
}
