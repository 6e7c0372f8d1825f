//! `cargo xtask bench`: messages of cpc-net beside TCP and libp2p, measured in one run.
//!
//! The work is done by the program `cpc-net-bench`, a process for each end. Here the ends are started, in turns, so that
//! whatever else the machine does hits all alike; medians are taken, and told beside the bars that the project has set.

mod ends;
mod measure;
pub mod options;
mod readme;
mod report;
mod rows;
mod statistics;
mod table;

use std::{env, fs, process, time::Instant};

use serde_json::Value;

use crate::{
    cargo,
    failure::Failure,
    run::{file_failure, in_words},
    workspace::Workspace,
};
use measure::{Measure, Outcome};
use options::Options;
use report::Report;

/// Measures, prints the table, and writes what was asked for.
pub fn run(workspace: &Workspace, options: &Options) -> Result<(), Failure> {
    let rows = rows::chosen(&options.only);
    println!("Building cpc-net-bench; the first time takes about ten minutes on two cores");
    let program = cargo::build(
        workspace,
        &["--package", "cpc-net-bench", "--release"],
        "program cpc-net-bench",
        |report: &Value| cargo::program(report, "cpc-net-bench"),
    )?;
    let begin = Instant::now();
    let folder = env::temp_dir().join(format!("cpc-net-bench-{}", process::id()));
    fs::create_dir_all(&folder).map_err(|error| file_failure("making", &folder, &error))?;
    let Outcome { results, failures } = Measure { program, options, folder: folder.clone() }.all(&rows);
    // What is left behind there is of no use to anybody; that it can't be removed is no failure of the measurement.
    let _ = fs::remove_dir_all(&folder);
    let report = Report::new(options, results);
    eprintln!("Measured in {}", in_words(begin.elapsed()));
    println!("\n{}", report.markdown());
    if let Some(file) = &options.json {
        fs::write(file, format!("{:#}\n", report.json())).map_err(|error| file_failure("writing", file, &error))?;
    }
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure.epilogue("The rows that could be measured are above; README.md stays as it is."));
    }
    if options.write_readme {
        readme::write(&workspace.path("README.md"), &report.markdown())?;
    }
    Ok(())
}

/// What the rows are called.
#[cfg(test)]
pub fn rows() -> Vec<&'static str> {
    rows::keys()
}
