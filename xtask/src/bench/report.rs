//! All that a run has found: as text with its foot, and as JSON.

use std::thread;

use serde_json::{Value, json};

use super::{
    measure::Result,
    options::Options,
    statistics::spread,
    table::{self, Verdict},
};

/// What was measured, and how.
pub struct Report<'a> {
    options: &'a Options,
    results: Vec<Result>,
    cores: usize,
}

impl<'a> Report<'a> {
    pub fn new(options: &'a Options, results: Vec<Result>) -> Self {
        Self { options, results, cores: thread::available_parallelism().map_or(1, usize::from) }
    }

    /// The table, and below it how it was measured.
    pub fn markdown(&self) -> String {
        let rounds = match self.options.rounds {
            1 => "One round".to_owned(),
            rounds => format!("Medians of {rounds} rounds in one run (the rows of posts: one round)"),
        };
        let cores = match self.cores {
            1 => "one core".to_owned(),
            2 => "two cores".to_owned(),
            cores => format!("{cores} cores"),
        };
        let quick = if self.options.quick { " Measured shortly (`--quick`): no figures to go by." } else { "" };
        format!(
            "{}\n{rounds}, on loopback and {cores}, release build, each end a process of its own. All but raw TCP go over \
             TCP, Noise and yamux, on tokio's current-thread runtime; cpc-net has the app on one thread and the network on \
             another, signs every message and checks every signature. A contestant without a number can't be asked that \
             way.{quick}\n",
            table::markdown(&self.results),
        )
    }

    /// Everything, for programs.
    pub fn json(&self) -> Value {
        let rows = self.results.iter().map(|result| {
            let verdict = Verdict::of(result);
            let contestants = result.measured.iter().map(|measured| {
                let told = json!({
                    "value": measured.value,
                    "rounds": measured.rounds,
                    "spread": spread(&measured.rounds),
                    "beside": measured.beside,
                });
                (measured.contestant.key().to_owned(), told)
            });
            json!({
                "key": result.row.key,
                "name": result.row.name,
                "unit": format!("{:?}", result.row.unit),
                "bar": format!("{:?}", result.row.bar),
                "ratio": verdict.ratio,
                "reached": verdict.reached,
                "met": verdict.met,
                "contestants": contestants.collect::<serde_json::Map<_, _>>(),
            })
        });
        json!({
            "rounds": self.options.rounds,
            "quick": self.options.quick,
            "cores": self.cores,
            "payload": self.options.payload(),
            "idleConnections": self.options.idle_connections(),
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            measure::Measured,
            rows::{self, Contestant},
        },
        *,
    };

    #[test]
    fn the_report_is_the_same_for_people_and_programs() {
        let of =
            |contestant, value| Measured { contestant, rounds: vec![value; 3], value, beside: json!({ "p99": 1.0 }) };
        let result = Result {
            row: rows::chosen(&["latency".to_owned()])[0],
            measured: vec![of(Contestant::Requests, 100.0), of(Contestant::Ours, 50.0)],
        };
        let options = Options { rounds: 3, ..Options::default() };
        let report = Report::new(&options, vec![result]);
        let text = report.markdown();
        assert!(
            text.contains("0.50 ×: met") && text.contains("Medians of 3 rounds") && !text.contains("--quick"),
            "{text}"
        );
        let json = report.json();
        let row = &json["rows"][0];
        assert_eq!((row["key"].as_str(), row["met"].as_bool()), (Some("latency"), Some(true)));
        assert_eq!(row["contestants"]["ours"]["rounds"], json!([50.0, 50.0, 50.0]));
        assert_eq!(row["contestants"]["requests"]["beside"]["p99"], 1.0);
        assert_eq!(json["rounds"], 3);
    }
}
