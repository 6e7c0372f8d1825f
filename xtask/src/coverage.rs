//! How much of the code the native tests reach.

use std::fs;

use serde_json::Value;

use crate::{
    failure::Failure,
    run::{Run, file_failure},
    setup,
    workspace::Workspace,
};

const LINES_WANTED: f64 = 80.0;

pub fn run(workspace: &Workspace) -> Result<(), Failure> {
    setup::rust::llvm_tools(workspace)?;
    let program = setup::tools::llvm_cov(workspace)?;
    let llvm_cov = || Run::new(&program, workspace.root()).arg("llvm-cov");
    println!("Running the native tests with instrumented code; the first time takes about ten minutes on two cores");
    llvm_cov()
        .args(["--no-report", "--features", "node,typescript"])
        .remedy("`cargo xtask test --only native`")
        .run()?;
    llvm_cov().args(["report", "--ignore-filename-regex", NOT_OURS]).run()?;

    let summary = workspace.cache().join("coverage.json");
    llvm_cov()
        .args(["report", "--ignore-filename-regex", NOT_OURS, "--json", "--summary-only", "--output-path"])
        .arg(&summary)
        .run()?;
    let text = fs::read_to_string(&summary).map_err(|error| file_failure("can't read", &summary, &error))?;
    let reached = lines_percent(&text)
        .ok_or_else(|| Failure::new(format!("{} does not say how many lines are covered", summary.display())))?;
    println!("\nThe native tests reach {reached:.1} % of the lines; {LINES_WANTED:.0} % are wanted");
    if reached < LINES_WANTED {
        return Err(Failure::new(format!("{reached:.1} % of the lines are too few"))
            .remedy("the table above tells which files the tests pass by"));
    }
    Ok(())
}

/// What is written by machines, or is itself the testing.
const NOT_OURS: &str = r"(^|[/\\])(tests|xtask|examples|generated)([/\\.])";

fn lines_percent(summary: &str) -> Option<f64> {
    let summary: Value = serde_json::from_str(summary).ok()?;
    summary["data"][0]["totals"]["lines"]["percent"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_is_that_of_all_lines() {
        let summary = r#"{"data":[{"files":[{"summary":{"lines":{"percent":1.0}}}],
            "totals":{"functions":{"percent":50.0},"lines":{"count":8,"covered":7,"percent":87.5}}}]}"#;
        assert_eq!(lines_percent(summary), Some(87.5));
        assert_eq!(lines_percent("{}"), None);
        assert_eq!(lines_percent("nonsense"), None);
    }
}
