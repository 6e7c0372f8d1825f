//! The transports alone, driven to measure them and to prove what they promise.
//!
//! A `Node` is a bare swarm over the very transport that the handler uses: no gossip, no DHT, no lanes, so that
//! what is measured is the transport and nothing else. Both ends of a connection speak the protocols of `work`. In a
//! page, `page` exports it to JavaScript; natively, `program` is the body of the program `cpc-probe`.
//!
//! Only with the feature `probe`; nothing of it is in the npm package.

mod behaviour;
#[cfg_attr(native, allow(dead_code, reason = "the program is dialled, and never dials"))]
mod node;
#[cfg(browser)]
mod page;
#[cfg(native)]
pub mod program;
mod work;
