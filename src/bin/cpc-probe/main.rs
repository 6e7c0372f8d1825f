//! `cpc-probe`: the other end when the browser's transports are measured. `cargo xtask test --only transports` and
//! `cargo xtask bench browser` build and start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cpc_net::probe::main()
}
