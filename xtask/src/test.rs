//! `cargo xtask test`: the chosen steps one after the other, with their times.

use std::time::Instant;

use crate::{
    builds::Builds,
    command_line::Choice,
    failure::Failure,
    run::in_words,
    steps::{self, STEPS, Step},
    workspace::Workspace,
};

pub fn run(workspace: &Workspace, choice: &Choice) -> Result<(), Failure> {
    if choice.list {
        print!("{}", steps::list());
        return Ok(());
    }
    let begun = Instant::now();
    let mut builds = Builds::new(workspace);
    let mut report = Vec::new();
    let mut failures = Vec::new();
    for (index, step) in STEPS.iter().enumerate() {
        if !choice.only.is_empty() && !choice.only.contains(&index) {
            continue;
        }
        let title = format!("[{}/{}] {}", index + 1, STEPS.len(), step.name);
        println!("\n{title}: {}", step.about);
        let step_begun = Instant::now();
        let outcome = (step.run)(&mut builds);
        let time = in_words(step_begun.elapsed());
        match outcome {
            Ok(()) => {
                println!("{title}: done in {time}");
                report.push(format!("  {:<11} {time}", step.name));
            }
            Err(failure) => {
                report.push(format!("  {:<11} {time}, FAILED", step.name));
                let failure = explained(index, step, failure);
                if !choice.keep_going {
                    return Err(failure);
                }
                eprintln!("\n{failure}");
                failures.push(step.name);
            }
        }
    }
    println!("\nTimes:\n{}\n  {:<11} {}", report.join("\n"), "in all", in_words(begun.elapsed()));
    if failures.is_empty() {
        println!("\nAll is well.");
        Ok(())
    } else {
        Err(Failure::new(format!("these steps: {}", failures.join(", ")))
            .remedy("each one's failure is explained above"))
    }
}

fn explained(index: usize, step: &Step, failure: Failure) -> Failure {
    let alone = format!("To run this step alone: cargo xtask test --only {}", step.name);
    failure.context(format!("step {} ({})", index + 1, step.name)).remedy(step.remedy).epilogue(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_says_how_to_go_on() {
        let text = explained(1, &STEPS[1], Failure::new("it broke")).to_string();
        assert!(text.starts_with("Failed: step 2 (lint): it broke\nWhat to do: mend what"), "{text}");
        assert!(text.ends_with("cargo xtask test --only lint"), "{text}");
        let text = explained(1, &STEPS[1], Failure::new("it broke").remedy("know better")).to_string();
        assert!(text.contains("What to do: know better"), "{text}");
    }
}
