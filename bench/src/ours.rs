//! cpc-net through its public API, as an app uses it: messages are signed, and each has a receipt.

use std::{
    cell::Cell,
    collections::VecDeque,
    time::{Duration, Instant},
};

use cpc_net::{
    Message, MessageKind, Messages, Multiaddr, NetworkConfig, NetworkHandler, PeerId, Priority, Receipt, TransferOffer,
    config::Security, error::SendError,
};
use futures::{StreamExt as _, future::try_join, stream::FuturesUnordered};
use serde_json::{Value, json};

use crate::{
    Failure,
    job::{IN_FLIGHT, Job, SMALL, Task},
    lines,
    work::{URGENT_PAUSE, content, lasts},
};

/// Receipts that may be open while messages are sent as fast as they are taken: no more than the calls that wait for the
/// network task by default, so that none is refused.
const OPEN_RECEIPTS: usize = 1000;

/// What a small message carries beside its payload that is its signature (Ed25519, RFC 8032).
const SIGNATURE: usize = 64;

/// The defaults, but for what would look for others on the local network, and with room for an app that comes to its
/// messages late. Noise alone, as the others have.
fn config(job: &Job) -> cpc_net::NetworkConfigBuilder {
    let mut config = NetworkConfig::builder()
        .network("bench")
        .mdns(false)
        .security(Security::Noise)
        .limits(|limits| limits.message_buffer = 65_536)
        .connections(|connections| connections.max_connections = 4_000);
    if let Some(folder) = &job.data_dir {
        config = config.data_dir(folder.display().to_string());
    }
    if let Some(durability) = job.durability {
        config = config.durability(durability);
    }
    config
}

async fn start(config: cpc_net::NetworkConfigBuilder) -> Result<NetworkHandler, Failure> {
    Ok(NetworkHandler::new(config.build()?).await?)
}

pub async fn listen(job: &Job) -> Result<(), Failure> {
    let net = start(config(job).listen("/ip4/127.0.0.1/tcp/0")).await?;
    let address = net.listen_addrs().into_iter().next().ok_or("the node listens nowhere")?;
    lines::tell(&json!({ "address": format!("{address}/p2p/{}", net.local_peer_id()) }))?;
    let apps = [tokio::spawn(count_messages(net.clone())), tokio::spawn(take_payloads(net.clone()))];
    lines::serve_until_told().await?;
    apps.iter().for_each(tokio::task::JoinHandle::abort);
    net.shutdown().await;
    Ok(())
}

/// The listener's app: counts what comes. Who wants to know whether all has arrived says in a control message how many it
/// has sent, and gets an answer when so many are there.
async fn count_messages(net: NetworkHandler) -> Result<(), Failure> {
    let mut messages = net.messages();
    let (mut arrived, mut expected) = (0_u64, None);
    while let Some(message) = messages.next().await {
        match message.kind {
            MessageKind::Control => {
                let sum = message.payload[..].try_into().map_err(|_| "a sum is eight bytes")?;
                expected = Some((message.sender, u64::from_be_bytes(sum)));
            }
            _ => arrived += 1,
        }
        if let Some((asker, sum)) = expected
            && arrived + messages.missed() >= sum
        {
            (arrived, expected) = (0, None);
            let missed = messages.missed().to_be_bytes().to_vec();
            net.send_message(asker, Message::new(MessageKind::Control, missed), Priority::High)?;
        }
    }
    Ok(())
}

/// The listener's app takes every payload, and needs none of it.
async fn take_payloads(net: NetworkHandler) -> Result<(), Failure> {
    let mut offers = net.transfers();
    while let Some(offer) = offers.next().await {
        offer.accept(futures::io::sink())?;
    }
    Ok(())
}

pub async fn dial(job: &Job) -> Result<(), Failure> {
    let address = job.address.parse::<Multiaddr>()?;
    match job.task {
        Task::Connect => {
            let mut micros = Vec::new();
            for _ in 0..job.count {
                let net = start(config(job).no_listen()).await?;
                let begin = Instant::now();
                net.connect(address.clone()).await?;
                micros.push(begin.elapsed().as_secs_f64() * 1e6);
                net.shutdown().await;
            }
            Ok(lines::tell(&json!({ "micros": micros }))?)
        }
        Task::Idle => {
            let mut nodes = Vec::new();
            for _ in 0..job.count {
                let net = start(config(job).no_listen()).await?;
                net.connect(address.clone()).await?;
                nodes.push(net);
            }
            lines::tell(&json!({ "connected": nodes.len() }))?;
            // They are not shut down in good order: a thousand goodbyes would only take time.
            lines::serve_until_told().await
        }
        _ => {
            let net = start(config(job).no_listen()).await?;
            let peer = net.connect(address).await?;
            let measured = Sender { messages: net.messages(), net: net.clone(), peer }.perform(job).await?;
            lines::tell(&measured)?;
            net.shutdown().await;
            Ok(())
        }
    }
}

/// A dialler's app.
struct Sender {
    net: NetworkHandler,
    peer: PeerId,
    messages: Messages,
}

impl Sender {
    async fn perform(&mut self, job: &Job) -> Result<Value, Failure> {
        let small = Message::event(content(SMALL));
        match job.task {
            Task::Latency => {
                self.one_by_one(Priority::Medium, Duration::ZERO, lasts(job.warm_up)).await?;
                let micros = self.one_by_one(Priority::Medium, Duration::ZERO, lasts(job.measure)).await?;
                Ok(json!({ "micros": micros }))
            }
            Task::InFlight => {
                self.in_flight(lasts(job.warm_up)).await?;
                let begin = Instant::now();
                let delivered = self.in_flight(lasts(job.measure)).await?;
                Ok(json!({ "per_second": delivered as f64 / begin.elapsed().as_secs_f64() }))
            }
            Task::OneWay => {
                let go_on = lasts(job.warm_up);
                self.counted(&small, Priority::Medium, OPEN_RECEIPTS, |_| go_on()).await?;
                let (go_on, begin) = (lasts(job.measure), Instant::now());
                let sent = self.counted(&small, Priority::Medium, OPEN_RECEIPTS, |_| go_on()).await?;
                Ok(json!({ "per_second": sent as f64 / begin.elapsed().as_secs_f64() }))
            }
            Task::Bulk => {
                self.bulk(job.payload / 8).await?;
                let took = self.bulk(job.payload).await?;
                Ok(json!({ "bytes_per_second": job.payload as f64 / took.as_secs_f64() }))
            }
            Task::Urgent => {
                self.bulk(job.payload / 8).await?;
                // The lane is there before anybody waits for it.
                self.one_by_one(Priority::High, Duration::ZERO, lasts(job.warm_up / 10)).await?;
                self.urgent(job.payload).await
            }
            Task::Overhead => {
                self.one_by_one(Priority::Medium, Duration::ZERO, lasts(job.warm_up)).await?;
                let alone = self.bytes_each(async |sender| {
                    sender.one_by_one(Priority::Medium, Duration::ZERO, lasts(job.measure)).await.map(drop)
                });
                let alone = alone.await?;
                let together = self.bytes_each(async |sender| sender.in_flight(lasts(job.measure)).await.map(drop));
                let together = together.await?;
                let beside = |bytes: f64| bytes - SMALL as f64;
                Ok(
                    json!({ "bytes": beside(alone) - SIGNATURE as f64, "bytes_together_with_signature": beside(together) }),
                )
            }
            Task::Connect | Task::Idle => Err("not a sender's task".into()),
        }
    }

    /// Sends a message; when there is no room for it, as soon as there is. The network's thread makes it.
    async fn send(&self, message: &Message, priority: Priority) -> Result<Receipt, Failure> {
        loop {
            match self.net.send_message(self.peer, message.clone(), priority) {
                Ok(receipt) => return Ok(receipt),
                Err(SendError::QueueFull { .. }) => tokio::task::yield_now().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Messages each after the receipt of the one before. Returns the time of each, microseconds.
    async fn one_by_one(
        &self,
        priority: Priority,
        pause: Duration,
        go_on: impl Fn() -> bool,
    ) -> Result<Vec<f64>, Failure> {
        let message = Message::event(content(SMALL));
        let mut micros = Vec::new();
        while go_on() {
            let sent = Instant::now();
            self.send(&message, priority).await?.delivered().await?;
            micros.push(sent.elapsed().as_secs_f64() * 1e6);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(micros)
    }

    /// Keeps [`IN_FLIGHT`] messages under way. Returns how many were delivered.
    async fn in_flight(&self, go_on: impl Fn() -> bool) -> Result<usize, Failure> {
        let message = Message::event(content(SMALL));
        let mut under_way = FuturesUnordered::new();
        let mut delivered = 0;
        loop {
            while under_way.len() < IN_FLIGHT && go_on() {
                let receipt = self.send(&message, Priority::Medium).await?;
                under_way.push(async move { receipt.delivered().await });
            }
            match under_way.next().await {
                Some(outcome) => outcome?,
                None => return Ok(delivered),
            }
            delivered += 1;
        }
    }

    /// Sends messages with at most `width` receipts open, and waits until the listener's app has them all. Returns how
    /// many there were.
    async fn counted(
        &mut self,
        message: &Message,
        priority: Priority,
        width: usize,
        go_on: impl Fn(usize) -> bool,
    ) -> Result<usize, Failure> {
        let mut receipts = VecDeque::<Receipt>::with_capacity(width);
        let mut sent = 0;
        while go_on(sent) {
            if receipts.len() == width
                && let Some(oldest) = receipts.pop_front()
            {
                oldest.delivered().await?;
            }
            receipts.push_back(self.send(message, priority).await?);
            sent += 1;
        }
        let sum = Message::new(MessageKind::Control, (sent as u64).to_be_bytes().to_vec());
        self.send(&sum, Priority::High).await?;
        for receipt in receipts {
            receipt.delivered().await?;
        }
        let answer = self.messages.next().await.ok_or("the node stopped")?;
        if answer.payload[..] == [0; 8] { Ok(sent) } else { Err("the listener's app missed messages".into()) }
    }

    /// Sends a large payload. Returns how long it took until the listener had verified all of it and its app had it.
    async fn bulk(&self, payload: usize) -> Result<Duration, Failure> {
        let payload = content(payload);
        let begin = Instant::now();
        self.net.send_transfer(self.peer, TransferOffer::new("bench"), payload)?.finished().await?;
        Ok(begin.elapsed())
    }

    /// Urgent messages one after the other, with a pause between, while a large payload passes.
    async fn urgent(&mut self, payload: usize) -> Result<Value, Failure> {
        let under_way = Cell::new(true);
        let urgent = Sender { net: self.net.clone(), peer: self.peer, messages: self.net.messages() };
        let large = async {
            let took = self.bulk(payload).await;
            under_way.set(false);
            took
        };
        let small = urgent.one_by_one(Priority::High, URGENT_PAUSE, || under_way.get());
        let (took, micros) = try_join(large, small).await?;
        Ok(json!({ "micros": micros, "bulk_bytes_per_second": payload as f64 / took.as_secs_f64() }))
    }

    /// The bytes of frames for each message that some work sends.
    async fn bytes_each(&self, work: impl AsyncFnOnce(&Self) -> Result<(), Failure>) -> Result<f64, Failure> {
        let before = self.net.network_stats();
        work(self).await?;
        let after = self.net.network_stats();
        let messages = after.messages_delivered - before.messages_delivered;
        Ok((after.bytes_sent - before.bytes_sent) as f64 / messages as f64)
    }
}
