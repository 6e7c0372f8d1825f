//! Measuring: round by round, row by row, the contestants in turns.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    env, fs,
    io::ErrorKind,
    path::PathBuf,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    ends::End,
    options::Options,
    rows::{Contestant, Of, Row, Task},
    statistics::{median, percentile},
    table::value,
};
use crate::{failure::Failure, run::file_failure};

/// How long one end may take for its work.
const PATIENCE: Duration = Duration::from_secs(180);

/// After the last connection the ends still tell each other who they are, and gossip has its first heartbeats.
const SETTLING: Duration = Duration::from_secs(5);

/// Processes over which the other ends of idle connections are spread.
const IDLE_PROCESSES: usize = 4;

/// What was measured of one contestant in one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub contestant: Contestant,
    /// One number for each round.
    pub rounds: Vec<f64>,
    /// The number that stands for all.
    pub value: f64,
    /// What was measured besides, of the last round.
    pub beside: Value,
}

/// A row with all that was measured.
#[derive(Debug)]
pub struct Result {
    pub row: Row,
    pub measured: Vec<Measured>,
}

/// What came of a run: a row that could not be measured leaves the others their numbers.
pub struct Outcome {
    pub results: Vec<Result>,
    pub failures: Vec<Failure>,
}

/// Measures.
pub struct Measure<'a> {
    pub program: PathBuf,
    pub options: &'a Options,
    /// Where the ends may keep things; removed by whoever made it.
    pub folder: PathBuf,
}

/// What was told in this round already, for rows that share a run.
type Seen = BTreeMap<Contestant, Value>;

/// Who is at an end, and where it may keep what.
struct Part {
    contestant: Contestant,
    keeps: Option<PathBuf>,
}

/// What is collected of one contestant in one row.
#[derive(Default)]
struct Collected {
    rounds: Vec<f64>,
    samples: Vec<f64>,
    beside: Value,
}

impl Measure<'_> {
    /// Measures all rows, round by round.
    pub fn all(&self, rows: &[Row]) -> Outcome {
        let mut failed = BTreeMap::<&str, Failure>::new();
        let mut collected = rows
            .iter()
            .map(|row| row.contestants.iter().map(|_| Collected::default()).collect())
            .collect::<Vec<Vec<_>>>();
        for round in 0..self.options.rounds {
            let mut seen = Seen::new();
            for (row, of_row) in rows.iter().zip(&mut collected) {
                if failed.contains_key(row.key) || row.once && round > 0 {
                    continue;
                }
                if let Err(failure) = self.round(round, row, of_row, &mut seen) {
                    let failure = failure.context(format!("the row {}", row.key));
                    eprintln!("{failure}");
                    failed.insert(row.key, failure);
                }
            }
        }
        let mut results = Vec::new();
        for (row, of_row) in
            rows.iter().zip(collected).filter(|(row, _)| !failed.contains_key(row.key)).collect::<Vec<_>>()
        {
            match finished(row, of_row) {
                Ok(result) => results.push(result),
                Err(failure) => drop(failed.insert(row.key, failure)),
            }
        }
        Outcome { results, failures: failed.into_values().collect() }
    }

    /// One round of one row: all contestants, somebody else the first in each round.
    fn round(
        &self,
        round: usize,
        row: &Row,
        collected: &mut [Collected],
        seen: &mut Seen,
    ) -> std::result::Result<(), Failure> {
        let count = row.contestants.len();
        for turn in 0..count {
            let at = (turn + round) % count;
            let contestant = row.contestants[at];
            let report = self.one(row, contestant, seen)?;
            let number = collected[at].take(row, report)?;
            let (of, name) = (self.options.rounds, contestant.name());
            eprintln!("round {}/{of}  {:<10} {name:<17} {}", round + 1, row.key, value(number, row.unit));
        }
        Ok(())
    }

    fn one(&self, row: &Row, contestant: Contestant, seen: &mut Seen) -> std::result::Result<Value, Failure> {
        let part = |end| {
            let keeps = matches!(row.task, Task::Durable(_)).then(|| self.folder.join(end));
            if let Some(folder) = &keeps
                && let Err(error) = fs::remove_dir_all(folder)
                && error.kind() != ErrorKind::NotFound
            {
                return Err(file_failure("removing", folder, &error));
            }
            Ok(Part { contestant, keeps })
        };
        let (listener, dialler) = (part("listener")?, part("dialler")?);
        match row.task {
            Task::Pair(task) | Task::Durable(task) => self.pair(task, &listener, &dialler),
            Task::Idle => self.idle(&listener, &dialler),
            Task::Posts(field) => {
                let told = match seen.entry(contestant) {
                    Entry::Occupied(told) => told.into_mut(),
                    Entry::Vacant(place) => place.insert(self.posts(contestant)?),
                };
                number_of_posts(told, field)
            }
        }
    }

    /// Fifty nodes that post, in one process.
    fn posts(&self, contestant: Contestant) -> std::result::Result<Value, Failure> {
        let program = self.program.with_file_name(format!("posts{}", env::consts::EXE_SUFFIX));
        let (seconds, nodes) = if self.options.quick { ("2", "10") } else { ("20", "50") };
        let arguments = [contestant.key(), seconds, "100", nodes].map(str::to_owned);
        End::start(&program, &arguments)?.next(PATIENCE)
    }

    /// A listener and a dialler.
    fn pair(&self, task: &str, listener: &Part, dialler: &Part) -> std::result::Result<Value, Failure> {
        let (_listener, address) = self.listener(listener)?;
        self.dialler(task, dialler, &address, self.options.connects())?.next(PATIENCE)
    }

    /// One that holds connections to nodes in a few other processes: how much memory each of them costs it.
    fn idle(&self, listener: &Part, dialler: &Part) -> std::result::Result<Value, Failure> {
        let (mut listener, address) = self.listener(listener)?;
        let memory = |listener: &mut End| {
            let answer = listener.ask("memory", PATIENCE)?;
            answer["memory"].as_f64().ok_or_else(|| {
                Failure::new("this system doesn't tell how much memory a process has")
                    .remedy("measure the other rows: `--only` chooses them")
            })
        };
        let before = memory(&mut listener)?;
        let each = self.options.idle_connections() / IDLE_PROCESSES;
        let mut others = Vec::new();
        for _ in 0..IDLE_PROCESSES {
            others.push(self.dialler("idle", dialler, &address, each)?);
        }
        for other in &mut others {
            other.next(PATIENCE)?;
        }
        thread::sleep(SETTLING);
        let after = memory(&mut listener)?;
        Ok(json!({ "bytes": (after - before) / (each * IDLE_PROCESSES) as f64, "before": before }))
    }

    fn listener(&self, part: &Part) -> std::result::Result<(End, String), Failure> {
        let mut arguments = vec!["listen".to_owned(), part.program().to_owned()];
        arguments.extend(part.settings());
        let mut listener = End::start(&self.program, &arguments)?;
        let told = listener.next(PATIENCE)?;
        let address = told["address"].as_str().ok_or_else(|| Failure::new(format!("no address is in {told}")))?;
        Ok((listener, address.to_owned()))
    }

    fn dialler(&self, task: &str, part: &Part, address: &str, count: usize) -> std::result::Result<End, Failure> {
        let options = self.options;
        let mut arguments = ["dial", part.program(), task, address].map(str::to_owned).to_vec();
        arguments.extend(part.settings());
        for (name, value) in [
            ("--measure-ms", options.measure().as_millis()),
            ("--warm-up-ms", options.warm_up().as_millis()),
            ("--count", count as u128),
            ("--payload", options.payload() as u128),
        ] {
            arguments.extend([name.to_owned(), value.to_string()]);
        }
        End::start(&self.program, &arguments)
    }
}

/// What a row tells of a run of `posts`: one of the numbers in the line it prints, and the others beside it.
fn number_of_posts(told: &Value, field: &str) -> std::result::Result<Value, Failure> {
    match told.get(field).and_then(Value::as_f64) {
        Some(number) => Ok(json!({ "number": number, "beside": told })),
        None => Err(Failure::new(format!("`posts` told no `{field}`, only {told}"))),
    }
}

impl Part {
    /// As `cpc-net-bench` calls it.
    fn program(&self) -> &'static str {
        match self.contestant {
            Contestant::Memory => Contestant::Ours.key(),
            contestant => contestant.key(),
        }
    }

    fn settings(&self) -> Vec<String> {
        let Some(folder) = &self.keeps else { return Vec::new() };
        let durability = if self.contestant == Contestant::Memory { "memory" } else { "batched" };
        ["--data-dir", &folder.display().to_string(), "--durability", durability].map(str::to_owned).to_vec()
    }
}

impl Collected {
    /// Takes what a dialler told of one round. Returns the round's number.
    fn take(&mut self, row: &Row, mut report: Value) -> std::result::Result<f64, Failure> {
        let told = report.to_string();
        let fields = report.as_object_mut();
        let number = fields.and_then(|fields| match fields.remove("micros") {
            Some(samples) => {
                let samples = samples.as_array()?.iter().filter_map(Value::as_f64).collect::<Vec<_>>();
                self.samples.extend(&samples);
                match row.of {
                    Of::Median => median(&samples),
                    Of::Percentile99 => percentile(&samples, 99),
                }
            }
            None => ["per_second", "bytes_per_second", "bytes", "number"]
                .into_iter()
                .find_map(|name| fields.remove(name)?.as_f64()),
        });
        let number = number.ok_or_else(|| {
            let start = told.chars().take(200).collect::<String>();
            Failure::new(format!("{}: nothing was measured, only {start}", row.key))
        })?;
        self.rounds.push(number);
        self.beside = report;
        Ok(number)
    }
}

fn finished(row: &Row, collected: Vec<Collected>) -> std::result::Result<Result, Failure> {
    let nothing = || Failure::new(format!("{}: nothing was measured", row.key));
    let measured = row.contestants.iter().zip(collected).map(|(contestant, collected)| {
        let value = match row.of {
            Of::Median => median(&collected.rounds),
            Of::Percentile99 => percentile(&collected.samples, 99),
        };
        let mut beside = collected.beside;
        if let (Some(fields), Some(p99)) = (beside.as_object_mut(), percentile(&collected.samples, 99)) {
            fields.insert("p50".into(), percentile(&collected.samples, 50).into());
            fields.insert("p99".into(), p99.into());
            fields.insert("samples".into(), collected.samples.len().into());
        }
        let value = value.ok_or_else(nothing)?;
        Ok(Measured { contestant: *contestant, rounds: collected.rounds, value, beside })
    });
    Ok(Result { row: *row, measured: measured.collect::<std::result::Result<_, _>>()? })
}

#[cfg(test)]
mod tests {
    use super::{super::rows, *};

    fn row(key: &str) -> Row {
        rows::chosen(&[key.to_owned()])[0]
    }

    #[test]
    fn a_rounds_number_is_what_the_row_asks_of_its_samples() {
        let mut latency = Collected::default();
        assert_eq!(latency.take(&row("latency"), json!({ "micros": [3.0, 1.0, 2.0] })).expect("measured"), 2.0);
        assert_eq!(latency.take(&row("latency"), json!({ "micros": [9.0] })).expect("measured"), 9.0);
        let mut urgent = Collected::default();
        let samples = (1..=200).map(f64::from).collect::<Vec<_>>();
        let report = json!({ "micros": samples, "bulk_bytes_per_second": 5.0 });
        assert_eq!(urgent.take(&row("urgent"), report).expect("measured"), 198.0);
        let done = finished(
            &row("overhead"),
            vec![{
                let mut overhead = Collected::default();
                overhead.take(&row("overhead"), json!({ "bytes": 42.0, "more": 1 })).expect("measured");
                overhead
            }],
        );
        let measured = &done.expect("a number").measured[0];
        assert_eq!((measured.value, &measured.rounds, &measured.beside), (42.0, &vec![42.0], &json!({ "more": 1 })));
    }

    #[test]
    fn what_is_kept_is_kept_where_it_is_told() {
        let part = |contestant, keeps: Option<&str>| Part { contestant, keeps: keeps.map(PathBuf::from) };
        let memory = part(Contestant::Memory, Some("there"));
        assert_eq!(memory.program(), "ours");
        assert_eq!(memory.settings(), ["--data-dir", "there", "--durability", "memory"]);
        assert_eq!(part(Contestant::Ours, Some("there")).settings()[3], "batched");
        assert!(part(Contestant::Ours, None).settings().is_empty());
    }

    /// A line as the program prints it: what it is about, numbers of all kinds, and more beside them.
    const POSTS: &str = r#"{"beside":{"asked":0,"told":7},"connections":194,"cores":0.66,"cpuPerDeliveryMicros":134.5,
        "deliveries":98013,"lost":0,"maxMicros":41234.5,"nodes":50,"p50Micros":6123.25,"p99Micros":21034.0,"posts":2000,
        "seconds":19.99,"who":"cpc-net"}"#;

    #[test]
    fn rows_of_posts_share_a_run_and_tell_a_number_each() {
        let told = serde_json::from_str::<Value>(POSTS).expect("JSON");
        for (key, expected) in [("posts-lost", 0.0), ("posts-cpu", 134.5), ("posts-p99", 21_034.0)] {
            let row = row(key);
            let Task::Posts(field) = row.task else { panic!("{key} is about posts") };
            let mut collected = Collected::default();
            let report = number_of_posts(&told, field).expect(key);
            assert_eq!(collected.take(&row, report).expect("measured"), expected);
            let done = finished(&row, vec![collected]).expect("a number");
            assert_eq!(done.measured[0].value, expected);
            assert_eq!(done.measured[0].beside["beside"], told, "what else was told stays");
        }
        for told in [json!({}), json!({ "lost": "none" }), json!(7)] {
            let failure = number_of_posts(&told, "lost").expect_err("no number").to_string();
            assert!(failure.contains("`lost`"), "{failure}");
        }
    }

    #[test]
    fn what_was_not_measured_is_a_failure() {
        for report in [json!({}), json!({ "micros": [] }), json!(7), json!({ "per_second": "fast" })] {
            let failure = Collected::default().take(&row("latency"), report.clone());
            assert!(failure.is_err(), "{report}");
        }
    }
}
