//! libp2p's request-response: a stream for each message, its answer the receipt. The codec adds nothing of its own.

use std::{collections::HashMap, io, iter, time::Instant};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::{PeerId, StreamProtocol, Swarm, swarm::SwarmEvent};
use libp2p_request_response::{self as request_response, Codec, Event, Message, OutboundRequestId, ProtocolSupport};
use serde_json::{Value, json};

use crate::{
    Failure,
    job::{IN_FLIGHT, Job, SMALL, Task},
    lines,
    swarm::{connect, connects, listen as listen_on, swarm},
    work::{URGENT_PAUSE, content, lasts},
};

/// The length of the answer, as of an acknowledgement over a stream.
const ANSWER: usize = 8;

/// Into so large requests a large payload is cut, bytes; and so many are under way.
const PART: usize = 1_000_000;
const PARTS_IN_FLIGHT: usize = 4;

type Behaviour = request_response::Behaviour<Raw>;

/// A request and a response are what is on the stream.
#[derive(Debug, Clone, Default)]
pub struct Raw;

impl Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        whole(stream).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        whole(stream).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        stream.write_all(&request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()> {
        stream.write_all(&response).await
    }
}

async fn whole<T: AsyncRead + Unpin + Send>(stream: &mut T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(2 * PART as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn make() -> Result<Swarm<Behaviour>, Failure> {
    let protocol = (StreamProtocol::new("/bench/request"), ProtocolSupport::Full);
    swarm(|_| Behaviour::new(iter::once(protocol), request_response::Config::default()))
}

pub async fn listen() -> Result<(), Failure> {
    let mut swarm = make()?;
    listen_on(&mut swarm).await?;
    tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(Event::Message { message: Message::Request { channel, .. }, .. }) = event {
                // An error means that the dialler is gone.
                let _ = swarm.behaviour_mut().send_response(channel, vec![0; ANSWER]);
            }
        }
    });
    lines::serve_until_told().await
}

pub async fn dial(job: &Job) -> Result<(), Failure> {
    let measured = if job.task == Task::Connect {
        connects(make, &job.address, job.count).await?
    } else {
        let mut swarm = make()?;
        let listener = connect(&mut swarm, &job.address).await?;
        perform(job, &mut Asker { swarm, listener }).await?
    };
    Ok(lines::tell(&measured)?)
}

async fn perform(job: &Job, asker: &mut Asker) -> Result<Value, Failure> {
    match job.task {
        Task::Latency => {
            asker.one_by_one(lasts(job.warm_up)).await?;
            Ok(json!({ "micros": asker.one_by_one(lasts(job.measure)).await? }))
        }
        Task::InFlight => {
            let go_on = lasts(job.warm_up);
            asker.in_flight(SMALL, IN_FLIGHT, |_| go_on()).await?;
            let (go_on, begin) = (lasts(job.measure), Instant::now());
            let asked = asker.in_flight(SMALL, IN_FLIGHT, |_| go_on()).await?;
            Ok(json!({ "per_second": asked as f64 / begin.elapsed().as_secs_f64() }))
        }
        Task::Bulk => {
            let parts = job.payload.div_ceil(PART);
            asker.in_flight(PART, PARTS_IN_FLIGHT, |asked| asked < parts / 8).await?;
            let begin = Instant::now();
            asker.in_flight(PART, PARTS_IN_FLIGHT, |asked| asked < parts).await?;
            Ok(json!({ "bytes_per_second": (parts * PART) as f64 / begin.elapsed().as_secs_f64() }))
        }
        Task::Urgent => {
            let parts = job.payload.div_ceil(PART);
            asker.in_flight(PART, PARTS_IN_FLIGHT, |asked| asked < parts / 8).await?;
            asker.urgent(parts).await
        }
        Task::Connect | Task::OneWay | Task::Overhead | Task::Idle => {
            Err(format!("{:?} is not measured of request-response", job.task).into())
        }
    }
}

/// A dialler's end.
struct Asker {
    swarm: Swarm<Behaviour>,
    listener: PeerId,
}

impl Asker {
    fn ask(&mut self, request: Vec<u8>) -> OutboundRequestId {
        self.swarm.behaviour_mut().send_request(&self.listener, request)
    }

    /// Waits for the next answer.
    async fn answered(&mut self) -> Result<OutboundRequestId, Failure> {
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(Event::Message { message: Message::Response { request_id, .. }, .. }) => {
                    return Ok(request_id);
                }
                SwarmEvent::Behaviour(Event::OutboundFailure { error, .. }) => return Err(error.into()),
                _ => {}
            }
        }
    }

    async fn one_by_one(&mut self, go_on: impl Fn() -> bool) -> Result<Vec<f64>, Failure> {
        let message = content(SMALL);
        let mut micros = Vec::new();
        while go_on() {
            let asked = Instant::now();
            self.ask(message.clone());
            self.answered().await?;
            micros.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        Ok(micros)
    }

    /// Keeps so many requests under way. Returns how many were answered.
    async fn in_flight(
        &mut self,
        length: usize,
        width: usize,
        go_on: impl Fn(usize) -> bool,
    ) -> Result<usize, Failure> {
        let message = content(length);
        let (mut asked, mut answered) = (0, 0);
        loop {
            while asked - answered < width && go_on(asked) {
                self.ask(message.clone());
                asked += 1;
            }
            if answered == asked {
                return Ok(asked);
            }
            self.answered().await?;
            answered += 1;
        }
    }

    /// Small requests one after the other, with a pause between, while large ones pass.
    async fn urgent(&mut self, parts: usize) -> Result<Value, Failure> {
        let (small, large) = (content(SMALL), content(PART));
        let (mut micros, mut under_way) = (Vec::new(), HashMap::new());
        let (mut asked, mut answered) = (0, 0);
        let begin = Instant::now();
        let pause = tokio::time::sleep(URGENT_PAUSE);
        tokio::pin!(pause);
        while answered < parts {
            while asked < parts && asked - answered < PARTS_IN_FLIGHT {
                self.ask(large.clone());
                asked += 1;
            }
            tokio::select! {
                id = self.answered() => match under_way.remove(&id?) {
                    Some(sent) => {
                        let sent: Instant = sent;
                        micros.push(sent.elapsed().as_secs_f64() * 1e6);
                        pause.as_mut().reset((Instant::now() + URGENT_PAUSE).into());
                    }
                    None => answered += 1,
                },
                () = &mut pause, if under_way.is_empty() => {
                    under_way.insert(self.ask(small.clone()), Instant::now());
                }
            }
        }
        Ok(json!({ "micros": micros, "bulk_bytes_per_second": (parts * PART) as f64 / begin.elapsed().as_secs_f64() }))
    }
}
