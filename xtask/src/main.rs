//! `cargo xtask …`: everything that this repository can be asked to do, with its set-up, on any system.
//!
//! `cargo xtask --help` lists the commands. Each one brings what it needs into place first: tools go into a cache
//! outside of the checkout, and nothing is done twice.

mod bench;
mod builds;
mod cargo;
mod command_line;
mod coverage;
mod demo;
mod failure;
mod gates;
mod lint;
mod node_process;
mod posts;
mod run;
mod setup;
mod steps;
mod test;
mod wasm_imports;
mod wasm_tests;
mod workspace;

use std::{env, process::ExitCode};

use builds::Builds;
use command_line::Command;
use failure::Failure;
use workspace::Workspace;

fn main() -> ExitCode {
    match command_line::parse(env::args().skip(1)) {
        Ok(command) => match execute(command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("\n{failure}");
                ExitCode::FAILURE
            }
        },
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    if let Command::Help(text) = command {
        print!("{text}");
        return Ok(());
    }
    let workspace = Workspace::find()?;
    match command {
        Command::Help(_) => Ok(()),
        Command::Demo => demo::run(&workspace),
        Command::Test(choice) => test::run(&workspace, &choice),
        Command::Wasm => {
            let package = Builds::new(&workspace).wasm_package()?;
            println!("\nThe wasm package is in {}", package.display());
            Ok(())
        }
        Command::Types => cargo::regenerate_types(&workspace),
        Command::Lint => lint::run(&workspace),
        Command::Coverage => coverage::run(&workspace),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::BenchBrowser(told) => {
            let mut arguments = vec!["run", "--silent", "bench", "-w", "tests/transports", "--"];
            arguments.extend(told.iter().map(String::as_str));
            steps::probing(&mut Builds::new(&workspace), true, &arguments)
        }
        Command::Setup => setup::everything(&workspace),
    }
}
