//! Names the two targets once, so that no other file spells out a target triple.

use cfg_aliases::cfg_aliases;

fn main() {
    cfg_aliases! {
        browser: { all(target_arch = "wasm32", target_os = "unknown") },
        native: { not(browser) },
    }
}
