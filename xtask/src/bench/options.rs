//! What can be said to the bench, and what is meant when nothing is said.

use std::{path::PathBuf, time::Duration};

use super::rows;

/// How it is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How often each row is measured.
    pub rounds: usize,
    /// Parts of the keys of the rows that are wanted; none means all.
    pub only: Vec<String>,
    /// Measures shortly: to see that it works, not how fast.
    pub quick: bool,
    /// Where to write all that was measured.
    pub json: Option<PathBuf>,
    /// Puts the table into README.md.
    pub write_readme: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { rounds: 5, only: Vec::new(), quick: false, json: None, write_readme: false }
    }
}

impl Options {
    /// Understands the arguments behind `cargo xtask bench`.
    ///
    /// # Errors
    /// Says which argument is none, and what could stand there.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rounds = None;
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(argument) = rest.next() {
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            let mut wanted =
                |what: &str| value.take().or_else(|| rest.next()).ok_or_else(|| format!("`{name}` wants {what}"));
            match name {
                "--rounds" => {
                    let number = wanted("a number from 1 up")?.parse().ok().filter(|rounds| *rounds > 0);
                    rounds = Some(number.ok_or("`--rounds` wants a number from 1 up")?);
                }
                "--only" => {
                    let part = wanted("a part of a row's name")?.to_owned();
                    if rows::chosen(std::slice::from_ref(&part)).is_empty() {
                        return Err(format!("no row is called `{part}`; the rows are {}", rows::keys().join(", ")));
                    }
                    options.only.push(part);
                }
                "--json" => options.json = Some(wanted("a file")?.into()),
                "--quick" => options.quick = true,
                "--write-readme" => options.write_readme = true,
                _ => {
                    return Err(format!(
                        "`cargo xtask bench` takes no `{argument}`; `cargo xtask bench --help` tells more"
                    ));
                }
            }
            if let Some(value) = value {
                return Err(format!("`{name}` takes no value, and `{value}` was given"));
            }
        }
        if options.write_readme && (options.quick || !options.only.is_empty()) {
            return Err(
                "the README wants the whole table: `--write-readme` goes with neither `--quick` nor `--only`".into()
            );
        }
        options.rounds = rounds.unwrap_or(if options.quick { 1 } else { options.rounds });
        Ok(options)
    }

    /// How long is measured, where that is a matter of time.
    pub fn measure(&self) -> Duration {
        Duration::from_millis(if self.quick { 200 } else { 1000 })
    }

    /// How long is worked before, unmeasured.
    pub fn warm_up(&self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { 300 })
    }

    /// How large a large payload is, bytes.
    pub fn payload(&self) -> usize {
        if self.quick { 16_000_000 } else { 64_000_000 }
    }

    /// How many connections idle.
    pub fn idle_connections(&self) -> usize {
        if self.quick { 40 } else { 1000 }
    }

    /// How often is connected in a round.
    pub fn connects(&self) -> usize {
        if self.quick { 3 } else { 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_said_counts_and_the_rest_is_usual() {
        assert_eq!(parsed(""), Ok(Options::default()));
        let all = parsed("--rounds 3 --only=latency --only bulk --json out.json").expect("understood");
        assert_eq!((all.rounds, all.only), (3, vec!["latency".to_owned(), "bulk".to_owned()]));
        assert_eq!(all.json, Some("out.json".into()));
        let quick = parsed("--quick").expect("understood");
        assert_eq!((quick.rounds, quick.quick), (1, true));
        assert_eq!(parsed("--quick --rounds 2").expect("understood").rounds, 2);
        assert!(parsed("--write-readme").expect("understood").write_readme);
    }

    #[test]
    fn nonsense_is_answered_with_what_is_possible() {
        for (line, answer) in [
            ("--rounds", "a number from 1 up"),
            ("--rounds 0", "a number from 1 up"),
            ("--rounds=many", "a number from 1 up"),
            ("--only", "a part of a row's name"),
            ("--only dance", "the rows are connect, latency"),
            ("--json", "a file"),
            ("--quick=yes", "takes no value"),
            ("--fast", "takes no `--fast`"),
            ("--quick --write-readme", "the whole table"),
            ("--only bulk --write-readme", "the whole table"),
        ] {
            let problem = parsed(line).expect_err(line);
            assert!(problem.contains(answer), "{line}: {problem}");
        }
    }
}
