//! What is measured, of whom, and which bars are set.

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    Tcp,
    Requests,
    Stream,
    /// libp2p with cpc-net's behaviours and nothing else.
    Bare,
    /// rust-libp2p's gossipsub with its defaults, each post signed by it.
    Gossipsub,
    /// cpc-net with a folder for its data that keeps messages in memory nevertheless.
    Memory,
    Ours,
}

impl Contestant {
    /// As the JSON calls it.
    pub fn key(self) -> &'static str {
        match self {
            Contestant::Tcp => "tcp",
            Contestant::Requests => "requests",
            Contestant::Stream => "stream",
            Contestant::Bare => "bare",
            Contestant::Gossipsub => "gossipsub",
            Contestant::Memory => "memory",
            Contestant::Ours => "ours",
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Tcp => "TCP",
            Contestant::Requests => "request-response",
            Contestant::Stream => "libp2p stream",
            Contestant::Bare => "bare libp2p",
            Contestant::Gossipsub => "gossipsub",
            Contestant::Memory => "in memory",
            Contestant::Ours => "cpc-net",
        }
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Micros,
    PerSecond,
    BytesPerSecond,
    Bytes,
    Pieces,
}

/// What has to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// At least so many times the other's number.
    AtLeast(f64, Contestant),
    /// At most so many times the other's number.
    AtMost(f64, Contestant),
    /// Less than a number.
    Under(f64),
    /// None is set; told is how many times the other's number it is.
    Beside(Contestant),
}

/// What of the samples is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The median of the rounds' medians.
    Median,
    /// The 99th percentile of the samples of all rounds.
    Percentile99,
}

/// How a row is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A listener and a dialler of `cpc-net-bench`, the latter with this task.
    Pair(&'static str),
    /// The same, and both ends keep messages on the disk, in groups.
    Durable(&'static str),
    /// One listener that holds connections to nodes in a few other processes.
    Idle,
    /// Fifty nodes in the process `posts`; told is this field of what it prints. Rows with the same nodes share one run.
    Posts(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// As `--only` and the JSON call it.
    pub key: &'static str,
    /// How it is measured.
    pub task: Task,
    pub name: &'static str,
    pub unit: Unit,
    pub of: Of,
    pub contestants: &'static [Contestant],
    pub bar: Bar,
    /// Measured in the first round only, as it hardly varies and takes long.
    pub once: bool,
}

use Contestant::{Bare, Gossipsub, Memory, Ours, Requests, Stream, Tcp};

const ROWS: [Row; 12] = [
    Row {
        key: "connect",
        task: Task::Pair("connect"),
        name: "time to connect",
        unit: Unit::Micros,
        of: Of::Median,
        contestants: &[Tcp, Requests, Stream, Ours],
        bar: Bar::Beside(Stream),
        once: false,
    },
    Row {
        key: "latency",
        task: Task::Pair("latency"),
        name: "256 B, send to receipt, one by one",
        unit: Unit::Micros,
        of: Of::Median,
        contestants: &[Tcp, Requests, Stream, Ours],
        bar: Bar::AtMost(0.8, Requests),
        once: false,
    },
    Row {
        key: "in-flight",
        task: Task::Pair("in-flight"),
        name: "256 B, 64 in flight, acknowledged",
        unit: Unit::PerSecond,
        of: Of::Median,
        contestants: &[Tcp, Requests, Stream, Ours],
        bar: Bar::AtLeast(10.0, Requests),
        once: false,
    },
    Row {
        key: "one-way",
        task: Task::Pair("one-way"),
        name: "256 B, one way",
        unit: Unit::PerSecond,
        of: Of::Median,
        contestants: &[Tcp, Stream, Ours],
        bar: Bar::AtLeast(0.5, Stream),
        once: false,
    },
    Row {
        key: "durable",
        task: Task::Durable("one-way"),
        name: "256 B, one way, kept on disk at both ends (Batched)",
        unit: Unit::PerSecond,
        of: Of::Median,
        contestants: &[Memory, Ours],
        bar: Bar::AtLeast(0.5, Memory),
        once: false,
    },
    Row {
        key: "bulk",
        task: Task::Pair("bulk"),
        name: "64 MB payload",
        unit: Unit::BytesPerSecond,
        of: Of::Median,
        contestants: &[Tcp, Requests, Stream, Ours],
        bar: Bar::AtLeast(0.8, Stream),
        once: false,
    },
    Row {
        key: "urgent",
        task: Task::Pair("urgent"),
        name: "256 B, high priority, beside 64 MB: 99th percentile",
        unit: Unit::Micros,
        of: Of::Percentile99,
        contestants: &[Tcp, Requests, Stream, Ours],
        bar: Bar::Under(10_000.0),
        once: false,
    },
    Row {
        key: "posts-lost",
        task: Task::Posts("lost"),
        name: "50 nodes, 100 posts/s of 512 B: copies that didn't arrive",
        unit: Unit::Pieces,
        of: Of::Median,
        contestants: &[Gossipsub, Ours],
        bar: Bar::Under(1.0),
        once: true,
    },
    Row {
        key: "posts-cpu",
        task: Task::Posts("cpuPerDeliveryMicros"),
        name: "the same: CPU time for each delivery",
        unit: Unit::Micros,
        of: Of::Median,
        contestants: &[Gossipsub, Ours],
        bar: Bar::AtMost(0.5, Gossipsub),
        once: true,
    },
    Row {
        key: "posts-p99",
        task: Task::Posts("p99Micros"),
        name: "the same: 99th percentile until delivered",
        unit: Unit::Micros,
        of: Of::Median,
        contestants: &[Gossipsub, Ours],
        bar: Bar::Under(30_000.0),
        once: true,
    },
    Row {
        key: "idle",
        task: Task::Idle,
        name: "memory per idle connection, 1,000 of them",
        unit: Unit::Bytes,
        of: Of::Median,
        contestants: &[Bare, Ours],
        bar: Bar::Under(90_000.0),
        once: true,
    },
    Row {
        key: "overhead",
        task: Task::Pair("overhead"),
        name: "256 B, bytes beside payload and signature",
        unit: Unit::Bytes,
        of: Of::Median,
        contestants: &[Ours],
        bar: Bar::Under(50.0),
        once: true,
    },
];

/// The rows whose keys contain one of these; all when none is given.
pub fn chosen(only: &[String]) -> Vec<Row> {
    ROWS.into_iter().filter(|row| only.is_empty() || only.iter().any(|part| row.key.contains(part.as_str()))).collect()
}

/// What all rows are called.
pub fn keys() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_a_part_of_their_key() {
        let keys_of = |only: &[&str]| {
            let only = only.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
            chosen(&only).iter().map(|row| row.key).collect::<Vec<_>>()
        };
        assert_eq!(keys_of(&[]), keys());
        assert_eq!(keys_of(&["way", "lat"]), ["latency", "one-way"]);
        assert!(keys_of(&["dance"]).is_empty());
    }

    #[test]
    fn every_row_measures_us_and_those_its_bar_names() {
        for row in ROWS {
            assert!(row.contestants.contains(&Ours), "{}", row.key);
            if let Bar::AtLeast(_, other) | Bar::AtMost(_, other) | Bar::Beside(other) = row.bar {
                assert!(row.contestants.contains(&other), "{}", row.key);
            }
        }
    }
}
