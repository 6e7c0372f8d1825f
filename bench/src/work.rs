//! The work over a plain stream of bytes, the same for TCP and for libp2p's streams.
//!
//! A stream begins with a byte: [`ACKNOWLEDGE`] has each small message answered by [`ACKNOWLEDGEMENT`] bytes, those that
//! come together in one write; [`COUNT`] has the bytes counted, and the sum told at the end.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, future::try_join};
use serde_json::{Value, json};

use crate::{
    Failure,
    job::{IN_FLIGHT, Job, SMALL, Task},
};

const ACKNOWLEDGE: u8 = b'a';
const COUNT: u8 = b'c';

/// As long as a nonce.
const ACKNOWLEDGEMENT: usize = 8;

/// What a program that knows its trade collects into one write.
const WRITE: usize = 16 * 1024;

/// One write of a large payload.
const LARGE_WRITE: usize = 1024 * 1024;

/// How much is read at once.
const READ: usize = 64 * 1024;

/// Between two urgent messages.
pub const URGENT_PAUSE: Duration = Duration::from_millis(1);

/// Serves one stream to its end.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> Result<(), Failure> {
    let mut mode = [0];
    stream.read_exact(&mut mode).await?;
    let mut buffer = vec![0; READ];
    let mut bytes = 0_usize;
    let acknowledge = mode[0] == ACKNOWLEDGE;
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        let before = bytes / SMALL;
        bytes += read;
        if acknowledge {
            let complete = bytes / SMALL - before;
            stream.write_all(&vec![0; complete * ACKNOWLEDGEMENT]).await?;
            stream.flush().await?;
        }
    }
    if !acknowledge {
        stream.write_all(&(bytes as u64).to_be_bytes()).await?;
    }
    Ok(stream.close().await?)
}

/// Does a dialler's job; `open` opens another stream to the same listener.
pub async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
    job: &Job,
    mut open: impl AsyncFnMut() -> Result<S, Failure>,
) -> Result<Value, Failure> {
    match job.task {
        Task::Latency => {
            let mut stream = acknowledging(open().await?).await?;
            one_by_one(&mut stream, Duration::ZERO, lasts(job.warm_up)).await?;
            Ok(json!({ "micros": one_by_one(&mut stream, Duration::ZERO, lasts(job.measure)).await? }))
        }
        Task::InFlight => {
            let mut stream = acknowledging(open().await?).await?;
            in_flight(&mut stream, job.warm_up).await?;
            Ok(json!({ "per_second": in_flight(&mut stream, job.measure).await? }))
        }
        Task::OneWay => {
            one_way(open().await?, job.warm_up).await?;
            Ok(json!({ "per_second": one_way(open().await?, job.measure).await? }))
        }
        Task::Bulk => {
            bulk(open().await?, job.payload / 8).await?;
            let took = bulk(open().await?, job.payload).await?;
            Ok(json!({ "bytes_per_second": job.payload as f64 / took.as_secs_f64() }))
        }
        Task::Urgent => {
            bulk(open().await?, job.payload / 8).await?;
            let mut urgent = acknowledging(open().await?).await?;
            let large = open().await?;
            let under_way = Cell::new(true);
            let large = async {
                let took = bulk(large, job.payload).await;
                under_way.set(false);
                took
            };
            let small = one_by_one(&mut urgent, URGENT_PAUSE, || under_way.get());
            let (took, micros) = try_join(large, small).await?;
            Ok(json!({ "micros": micros, "bulk_bytes_per_second": job.payload as f64 / took.as_secs_f64() }))
        }
        Task::Connect | Task::Overhead | Task::Idle => Err(format!("{:?} is not measured on streams", job.task).into()),
    }
}

/// Whether a time has passed since this was called.
pub fn lasts(time: Duration) -> impl Fn() -> bool {
    let begin = Instant::now();
    move || begin.elapsed() < time
}

/// Small messages' content. No pattern is in it: what compresses would otherwise have less to send.
pub fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

async fn acknowledging<S: AsyncWrite + Unpin>(mut stream: S) -> Result<S, Failure> {
    stream.write_all(&[ACKNOWLEDGE]).await?;
    stream.flush().await?;
    Ok(stream)
}

/// Sends small messages, each after the acknowledgement of the one before and a pause. Returns the time of each,
/// microseconds.
async fn one_by_one<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    pause: Duration,
    go_on: impl Fn() -> bool,
) -> Result<Vec<f64>, Failure> {
    let message = content(SMALL);
    let mut micros = Vec::new();
    while go_on() {
        let sent = Instant::now();
        stream.write_all(&message).await?;
        stream.flush().await?;
        stream.read_exact(&mut [0; ACKNOWLEDGEMENT]).await?;
        micros.push(sent.elapsed().as_secs_f64() * 1e6);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(micros)
}

/// Keeps [`IN_FLIGHT`] small messages under way; as many as there is room for leave in one write. Returns how many were
/// acknowledged per second.
async fn in_flight<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, time: Duration) -> Result<f64, Failure> {
    let messages = content(SMALL * IN_FLIGHT);
    let mut acknowledgements = [0; ACKNOWLEDGEMENT * IN_FLIGHT];
    let (mut sent, mut acknowledged) = (0, 0_usize);
    let begin = Instant::now();
    while begin.elapsed() < time || acknowledged / ACKNOWLEDGEMENT < sent {
        let room = IN_FLIGHT - (sent - acknowledged / ACKNOWLEDGEMENT);
        if room > 0 && begin.elapsed() < time {
            stream.write_all(&messages[..room * SMALL]).await?;
            stream.flush().await?;
            sent += room;
        }
        match stream.read(&mut acknowledgements).await? {
            0 => return Err("the listener ended the stream".into()),
            read => acknowledged += read,
        }
    }
    Ok(sent as f64 / begin.elapsed().as_secs_f64())
}

/// Sends small messages as fast as the stream takes them. Returns how many arrived per second.
async fn one_way<S: AsyncRead + AsyncWrite + Unpin>(stream: S, time: Duration) -> Result<f64, Failure> {
    let begin = Instant::now();
    let bytes = counted(stream, &content(WRITE), |_| begin.elapsed() < time).await?;
    Ok((bytes / SMALL) as f64 / begin.elapsed().as_secs_f64())
}

/// Sends a large payload. Returns how long it took until the listener had it.
async fn bulk<S: AsyncRead + AsyncWrite + Unpin>(stream: S, payload: usize) -> Result<Duration, Failure> {
    let begin = Instant::now();
    counted(stream, &content(LARGE_WRITE), |sent| sent < payload).await?;
    Ok(begin.elapsed())
}

/// Writes the same bytes again and again, and waits until the listener says that it has them all.
async fn counted<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    bytes: &[u8],
    go_on: impl Fn(usize) -> bool,
) -> Result<usize, Failure> {
    stream.write_all(&[COUNT]).await?;
    let mut sent = 0;
    while go_on(sent) {
        stream.write_all(bytes).await?;
        sent += bytes.len();
    }
    stream.close().await?;
    let mut arrived = [0; 8];
    stream.read_exact(&mut arrived).await?;
    let arrived = u64::from_be_bytes(arrived);
    if arrived == sent as u64 { Ok(sent) } else { Err(format!("of {sent} bytes {arrived} arrived").into()) }
}
