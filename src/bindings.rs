//! Other faces of the same handler.

#[cfg(all(browser, feature = "js"))]
mod wasm;
