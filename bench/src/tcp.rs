//! Raw TCP: what the system gives, without security.

use std::time::{Duration, Instant};

use libp2p::tcp::tokio::TcpStream;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    Failure,
    job::{Job, Task},
    lines, work,
};

pub async fn listen() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    lines::tell(&json!({ "address": listener.local_addr()?.to_string() }))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                work::serve(TcpStream(stream)).await
            });
        }
    });
    lines::serve_until_told().await
}

pub async fn dial(job: &Job) -> Result<(), Failure> {
    let open = async || {
        let stream = tokio::net::TcpStream::connect(&job.address).await?;
        stream.set_nodelay(true)?;
        Ok(TcpStream(stream))
    };
    let measured = match job.task {
        Task::Connect => {
            let mut micros = Vec::new();
            for _ in 0..job.count {
                let begin = Instant::now();
                let stream = open().await?;
                micros.push(begin.elapsed().as_secs_f64() * 1e6);
                drop(stream);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            json!({ "micros": micros })
        }
        _ => work::perform(job, open).await?,
    };
    Ok(lines::tell(&measured)?)
}
