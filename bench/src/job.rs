//! What a process is told to do, and in what words.

use std::{path::PathBuf, time::Duration};

use cpc_net::config::Durability;

/// The size of a small message, bytes.
pub const SMALL: usize = 256;

/// Messages under way at a time where latency shall not count.
pub const IN_FLIGHT: usize = 64;

/// Which end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Listen,
    Dial,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// A TCP connection: the floor, without security.
    Tcp,
    /// One libp2p stream over TCP, Noise and yamux.
    Stream,
    /// libp2p's request-response over the same.
    Requests,
    /// libp2p with the behaviours that cpc-net has, for idle connections.
    Bare,
    /// cpc-net, through its public API.
    Ours,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The time from the wish to connect to the connection, of connections between fresh nodes.
    Connect,
    /// The time from sending one small message to its receipt, one after the other.
    Latency,
    /// Small messages acknowledged per second with [`IN_FLIGHT`] under way.
    InFlight,
    /// Small messages per second, sent as fast as they are taken.
    OneWay,
    /// A large payload's throughput.
    Bulk,
    /// The latency of small urgent messages while a large payload passes.
    Urgent,
    /// The bytes that a small message costs beside its payload.
    Overhead,
    /// Makes connections and holds them.
    Idle,
}

/// All that a process is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub role: Role,
    pub contestant: Contestant,
    /// A dialler's task.
    pub task: Task,
    /// Where a dialler's listener is.
    pub address: String,
    /// How long is measured, where that is a matter of time.
    pub measure: Duration,
    /// How long is worked before, unmeasured.
    pub warm_up: Duration,
    /// How many connections or messages, where that is a matter of number.
    pub count: usize,
    /// How large a large payload is, bytes.
    pub payload: usize,
    /// Where cpc-net keeps its identity, and messages as far as its durability goes; without it, it keeps all in memory.
    pub data_dir: Option<PathBuf>,
    /// What of cpc-net's messages outlives it; as by default when not told.
    pub durability: Option<Durability>,
}

const ROLES: [(&str, Role); 2] = [("listen", Role::Listen), ("dial", Role::Dial)];

const CONTESTANTS: [(&str, Contestant); 5] = [
    ("tcp", Contestant::Tcp),
    ("stream", Contestant::Stream),
    ("requests", Contestant::Requests),
    ("bare", Contestant::Bare),
    ("ours", Contestant::Ours),
];

const TASKS: [(&str, Task); 8] = [
    ("connect", Task::Connect),
    ("latency", Task::Latency),
    ("in-flight", Task::InFlight),
    ("one-way", Task::OneWay),
    ("bulk", Task::Bulk),
    ("urgent", Task::Urgent),
    ("overhead", Task::Overhead),
    ("idle", Task::Idle),
];

const DURABILITIES: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("batched", Durability::Batched), ("synced", Durability::Synced)];

impl Job {
    /// Understands `listen <contestant>` and `dial <contestant> <task> <address>`, each with `--<setting> <value>`.
    ///
    /// # Errors
    /// Says which argument is none, and what could stand there.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut rest = arguments.iter().map(String::as_str);
        let role = one_of("role", &ROLES, rest.next())?;
        let contestant = one_of("contestant", &CONTESTANTS, rest.next())?;
        let (task, address) = match role {
            Role::Listen => (Task::Idle, String::new()),
            Role::Dial => {
                let task = one_of("task", &TASKS, rest.next())?;
                (task, rest.next().ok_or("a dialler wants the address of its listener")?.to_owned())
            }
        };
        let mut job = Self {
            role,
            contestant,
            task,
            address,
            measure: Duration::from_secs(1),
            warm_up: Duration::from_millis(300),
            count: 1,
            payload: 64_000_000,
            data_dir: None,
            durability: None,
        };
        while let Some(name) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("`{name}` wants a value"))?;
            let number = || value.parse::<u32>().map_err(|_| format!("`{name}` wants a whole number, not `{value}`"));
            match name {
                "--measure-ms" => job.measure = Duration::from_millis(number()?.into()),
                "--warm-up-ms" => job.warm_up = Duration::from_millis(number()?.into()),
                "--count" => job.count = number()? as usize,
                "--payload" => job.payload = number()? as usize,
                "--data-dir" => job.data_dir = Some(value.into()),
                "--durability" => job.durability = Some(one_of("durability", &DURABILITIES, Some(value))?),
                _ => return Err(format!("there is no setting `{name}`")),
            }
        }
        Ok(job)
    }
}

fn one_of<T: Copy>(what: &str, known: &[(&str, T)], told: Option<&str>) -> Result<T, String> {
    known.iter().find(|(name, _)| told == Some(*name)).map(|(_, value)| *value).ok_or_else(|| {
        let names = known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        format!("the {what} `{}` is none of {names}", told.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Job, String> {
        Job::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_job_is_understood_word_by_word() {
        let listener = parsed("listen ours --data-dir there --durability batched").expect("a listener");
        assert_eq!((listener.role, listener.contestant), (Role::Listen, Contestant::Ours));
        assert_eq!((listener.data_dir, listener.durability), (Some("there".into()), Some(Durability::Batched)));
        let dialler = parsed("dial requests in-flight /ip4/1.2.3.4/tcp/5 --measure-ms 20 --warm-up-ms 10 --count 7");
        let dialler = dialler.expect("a dialler");
        assert_eq!((dialler.role, dialler.contestant), (Role::Dial, Contestant::Requests));
        assert_eq!((dialler.task, dialler.address.as_str()), (Task::InFlight, "/ip4/1.2.3.4/tcp/5"));
        assert_eq!((dialler.measure, dialler.warm_up), (Duration::from_millis(20), Duration::from_millis(10)));
        assert_eq!((dialler.count, dialler.data_dir), (7, None));
    }

    #[test]
    fn nonsense_is_answered_with_what_is_possible() {
        for (line, answer) in [
            ("", "none of listen, dial"),
            ("listen nobody", "none of tcp, stream"),
            ("dial tcp dance", "none of connect, latency"),
            ("dial tcp bulk", "the address"),
            ("dial tcp bulk here --count", "wants a value"),
            ("dial tcp bulk here --count many", "a whole number"),
            ("listen ours --durability stone", "none of memory, batched, synced"),
            ("dial tcp bulk here --speed 9", "no setting `--speed`"),
        ] {
            let problem = parsed(line).expect_err(line);
            assert!(problem.contains(answer), "{line}: {problem}");
        }
    }
}
