//! What `cargo xtask bench` runs: one end of one contestant, doing one piece of work, in a process of its own.
//!
//! A listener prints where it listens, as a line of JSON, and serves until its standard input ends; a line `memory` there
//! is answered with how much memory it has. A dialler does one job and prints what it measured. Everything runs on
//! tokio's current-thread runtime; cpc-net brings a thread of its own, which has one too.

mod idle;
mod job;
mod lines;
mod memory;
mod ours;
mod requests;
mod streams;
mod swarm;
mod tcp;
mod work;

use std::{error::Error, process::ExitCode};

use job::{Contestant, Job, Role};

/// What can go wrong here is told to whoever runs the bench, and ends the process.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let outcome = Job::parse(&arguments).map_err(Failure::from).and_then(|job| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(perform(&job))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cpc-net-bench {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

async fn perform(job: &Job) -> Result<(), Failure> {
    match (job.role, job.contestant) {
        (Role::Listen, Contestant::Tcp) => tcp::listen().await,
        (Role::Listen, Contestant::Stream) => streams::listen().await,
        (Role::Listen, Contestant::Requests) => requests::listen().await,
        (Role::Listen, Contestant::Bare) => idle::listen_bare().await,
        (Role::Listen, Contestant::Ours) => ours::listen(job).await,
        (Role::Dial, Contestant::Tcp) => tcp::dial(job).await,
        (Role::Dial, Contestant::Stream) => streams::dial(job).await,
        (Role::Dial, Contestant::Requests) => requests::dial(job).await,
        (Role::Dial, Contestant::Bare) => idle::dial_bare(job).await,
        (Role::Dial, Contestant::Ours) => ours::dial(job).await,
    }
}
