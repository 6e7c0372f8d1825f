//! Other faces of the same handler, and of the transports alone.

#[cfg(feature = "probe")]
pub(crate) mod probe;
#[cfg(all(browser, feature = "js"))]
mod wasm;
