//! One libp2p stream, kept open: what an application can have from libp2p when it does all else by itself.

use futures::StreamExt as _;
use libp2p::{StreamProtocol, Swarm};
use libp2p_stream as stream;

use crate::{
    Failure,
    job::{Job, Task},
    lines,
    swarm::{connect, connects, listen as listen_on, swarm},
    work,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/bench/stream");

pub async fn listen() -> Result<(), Failure> {
    let mut swarm = swarm(|_| stream::Behaviour::new())?;
    let mut streams = swarm.behaviour().new_control().accept(PROTOCOL)?;
    listen_on(&mut swarm).await?;
    drive(swarm);
    tokio::spawn(async move {
        while let Some((_, stream)) = streams.next().await {
            tokio::spawn(work::serve(stream));
        }
    });
    lines::serve_until_told().await
}

pub async fn dial(job: &Job) -> Result<(), Failure> {
    let make = || swarm(|_| stream::Behaviour::new());
    let measured = if job.task == Task::Connect {
        connects(make, &job.address, job.count).await?
    } else {
        let mut swarm = make()?;
        let listener = connect(&mut swarm, &job.address).await?;
        let mut control = swarm.behaviour().new_control();
        drive(swarm);
        work::perform(job, async || Ok(control.open_stream(listener, PROTOCOL).await?)).await?
    };
    Ok(lines::tell(&measured)?)
}

/// A swarm only works while somebody asks it for events.
fn drive(mut swarm: Swarm<stream::Behaviour>) {
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}
