//! The API has the same methods in Rust, in TypeScript and in the table that lists them.

#![cfg(not(target_arch = "wasm32"))]

use std::{collections::BTreeSet, fs, path::Path};

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| camel + &word[..1].to_uppercase() + &word[1..])
}

/// Public methods in the `impl NetworkHandler` blocks, in whatever file of the handler they stand.
fn rust_methods() -> BTreeSet<String> {
    let rooms = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/handler")).expect("src/handler");
    let rooms = rooms.map(|file| fs::read_to_string(file.expect("a file").path()).expect("a readable file"));
    let sources = [read("src/handler.rs")].into_iter().chain(rooms).collect::<String>();
    let blocks = sources.split("\nimpl NetworkHandler {").skip(1).filter_map(|block| block.split("\n}").next());
    let names = blocks.flat_map(str::lines).filter_map(|line| {
        let rest = line.strip_prefix("    pub fn ").or_else(|| line.strip_prefix("    pub async fn "))?;
        rest.split(['(', '<']).next().map(str::to_owned)
    });
    names.collect()
}

/// Public members of the class: not private, not computed.
fn typescript_methods() -> BTreeSet<String> {
    let source = read("js/src/handler.ts");
    let class = source.split_once("export class NetworkHandler").expect("the class").1;
    let class = class.split_once("\n}").expect("its end").0;
    let names = class.lines().filter_map(|line| {
        let mut rest = line.strip_prefix("  ").filter(|rest| rest.starts_with(char::is_alphabetic))?;
        for word in ["private ", "constructor"] {
            if rest.starts_with(word) {
                return None;
            }
        }
        for word in ["static ", "async ", "get "] {
            rest = rest.strip_prefix(word).unwrap_or(rest);
        }
        let name = rest.split(|character: char| !character.is_alphanumeric()).next()?;
        rest[name.len()..].starts_with(['(', '<']).then(|| name.to_owned())
    });
    names.collect()
}

/// The first two columns of the table.
fn table() -> Vec<(String, String)> {
    let text = read("docs/api.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split("` | `");
        let rust = cells.next()?.to_owned();
        let typescript = cells.next()?.split('`').next()?.to_owned();
        Some((rust, typescript))
    });
    rows.collect()
}

#[test]
fn the_table_lists_every_method_of_both_languages() {
    let table = table();
    let (rust, typescript): (BTreeSet<_>, BTreeSet<_>) = table.iter().cloned().unzip();
    assert_eq!(rust, rust_methods(), "docs/api.md against src/handler");
    assert_eq!(typescript, typescript_methods(), "docs/api.md against js/src/handler.ts");
    for (rust, typescript) in &table {
        let expected = if rust == "new" { "create".to_owned() } else { camel_case(rust) };
        assert_eq!(*typescript, expected, "the same name in both");
    }
    assert!(table.len() > 15, "the sources were read");
}
