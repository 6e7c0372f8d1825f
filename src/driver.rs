//! The one task that owns the swarm and the core, and carries between them.
//!
//! It translates and decides nothing: commands and swarm events become [`Input`]s of the core, the core's [`Output`]s
//! become calls on the swarm, events, messages and receipts. Nothing slow happens here; signatures are checked on the
//! connections' tasks and the worker pool.

mod behaviour;
mod boxed;
mod command;
mod gate;
mod gated;
mod gossip;
mod inputs;
mod outputs;
mod probes;
mod signing;
mod sleep;
mod snapshot;
mod transfers;
mod verification;

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    sync::Arc,
    time::Duration,
};

use async_channel::Receiver;
use futures::{FutureExt as _, StreamExt as _, channel::oneshot, select, stream::FusedStream};
use futures_timer::Delay;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    identity::Keypair,
    kad,
    swarm::{ConnectionId, SwarmEvent},
};

use crate::{
    config::NetworkConfig,
    core::{Core, DialId, Input, LinkId, Now, OutgoingMessage, RequestId, Restored, Search, Settings},
    crypto::SigningKey,
    error::{ConnectError, StartError},
    event::NetworkEvent,
    frame::Passing,
    identity::Identity,
    message::ReceivedMessage,
    peer::Phase,
    platform::{self, Clock, Lock, Wake, Wakes},
    receipt::{ReceiptState, ReceiptWriter},
    store::{Journal, Report},
    transfer::TransferState,
    transfers::Watch,
    transport::{self, Built},
    wire,
};

use behaviour::{Behaviour, BehaviourEvent};
use boxed::Boxed;
use gated::Gated;
use gossip::Gossip;
use verification::Verification;

pub(crate) use command::Command;
pub(crate) use signing::LARGE as SIGNED_BY_THE_CALLER;
pub(crate) use snapshot::Published;

/// Commands and swarm events that are taken in a row before the core's wishes are carried out and the snapshot renewed.
const BATCH: usize = 64;

/// How long the connections get to close after the last goodbye.
const CLOSING: Duration = Duration::from_millis(700);

/// How long a listener may take to tell its address.
const LISTENING: Duration = Duration::from_secs(5);

/// What the driver is made of.
pub(crate) struct Parts {
    pub(crate) config: NetworkConfig,
    pub(crate) identity: Identity,
    /// What the transport wanted kept at an earlier start.
    pub(crate) kept: Option<Vec<u8>>,
    pub(crate) clock: Clock,
    pub(crate) commands: Receiver<Command>,
    pub(crate) published: Arc<Published>,
    /// Keeps other nodes from the place where things are kept.
    pub(crate) lock: Option<Lock>,
    pub(crate) kept_messages: Option<KeptMessages>,
}

/// The journal, and what an earlier run has left in it.
pub(crate) struct KeptMessages {
    pub(crate) journal: Journal,
    pub(crate) restored: Restored,
    /// For the messages of the outbox, by their nonces.
    pub(crate) receipts: HashMap<u64, ReceiptWriter>,
}

/// The running network.
pub(crate) struct Driver {
    key: Keypair,
    /// The same, for posts.
    signing_key: SigningKey,
    config: NetworkConfig,
    clock: Clock,
    core: Core,
    swarm: Gated,
    /// What the lanes of all connections have to tell.
    reports: wire::Reports,
    gossip: Gossip,
    verification: Verification,
    /// Own posts that came together and are signed together, at the end of the turn at the latest.
    unsigned: Vec<(OutgoingMessage, Passing)>,
    commands: Receiver<Command>,
    published: Arc<Published>,

    links: HashMap<ConnectionId, LinkId>,
    connections: HashMap<LinkId, (PeerId, ConnectionId)>,
    /// Of the same links.
    lanes: HashMap<LinkId, Arc<wire::Hatch>>,
    next_link: u64,
    dials: HashMap<ConnectionId, DialId>,
    searches: HashMap<kad::QueryId, Search>,
    reservations: HashMap<ListenerId, PeerId>,
    answers: HashMap<RequestId, oneshot::Sender<Result<PeerId, ConnectError>>>,
    next_request: u64,
    receipts: HashMap<u64, ReceiptWriter>,
    transfers: transfers::Registry,
    journal: Option<Journal>,
    lock: Option<Lock>,
    /// What is told to the app once the snapshot says the same.
    news: VecDeque<News>,
    /// Something was handed to the swarm to be sent since the app last heard news.
    hands_over: bool,
    listening: bool,
    timer: Delay,
    timer_at: Option<Duration>,
    wakes: Wakes,
    /// The clocks when they were last looked at.
    looked: Now,
    stop: Stop,
}

/// What waits for the snapshot.
enum News {
    Event(NetworkEvent),
    Message(ReceivedMessage),
    /// One that is kept until the app has confirmed it, and its serial number.
    Kept(u64, ReceivedMessage),
    /// A message is kept, and so accepted.
    Accepted(u64),
    Answer(RequestId, Result<PeerId, ConnectError>),
    Receipt(u64, ReceiptState),
    Transfer(Arc<Watch>, TransferState),
}

/// What the driver does next.
enum Turn {
    Command(Result<Command, async_channel::RecvError>),
    Swarm(Box<SwarmEvent<BehaviourEvent>>),
    /// Lanes have reported something.
    Lanes,
    Gossiped(gossip::Verified),
    Verified(Vec<verification::Verified>),
    Wake(Wake),
    /// A handle of a transfer wants something.
    Bell,
    Journal(Report),
    /// The app has confirmed all messages up to this serial number.
    Confirmed(u64),
    Timer,
}

/// How far shutdown has come.
enum Stop {
    Running,
    Draining(Vec<oneshot::Sender<()>>),
    /// All is sent; the connections get until then to close.
    Closing(Vec<oneshot::Sender<()>>, Duration),
}

impl Driver {
    /// Opens the transports and listens. Returns what the transport wants kept for the next start.
    ///
    /// # Errors
    /// When a transport can't be set up, or an address can't be listened on.
    pub(crate) async fn start(parts: Parts) -> Result<(Self, Option<Vec<u8>>), StartError> {
        let Parts { config, identity, kept, clock, commands, published, lock, kept_messages } = parts;
        let key = identity.key().clone();
        let local = identity.peer_id();
        let Built { transport, relay_client, signaling, to_keep } = transport::build(&key, &config, kept.as_deref())?;
        let behaviour = Behaviour::new(&key, &config, relay_client, signaling)?;
        let reports = behaviour.lanes.reports();
        let swarm = Gated::new(Swarm::new(transport, Boxed(behaviour), local, behaviour::swarm_config(&config)));
        let settings = Settings {
            local,
            reservations: config.relay.reservations.unwrap_or_else(transport::default_reservations),
            can_dial: transport::can_dial,
            seed: platform::random(),
            config: config.clone(),
        };
        let (journal, restored, receipts) = match kept_messages {
            Some(kept) => (Some(kept.journal), Some(kept.restored), kept.receipts),
            None => (None, None, HashMap::new()),
        };
        let mut driver = Self {
            core: Core::new(settings, now(&clock)),
            gossip: Gossip::new(&config),
            verification: Verification::new(config.limits.max_payload),
            unsigned: Vec::new(),
            signing_key: SigningKey::new(&key),
            key,
            clock,
            swarm,
            reports,
            commands,
            published,
            links: HashMap::new(),
            connections: HashMap::new(),
            lanes: HashMap::new(),
            next_link: 0,
            dials: HashMap::new(),
            searches: HashMap::new(),
            reservations: HashMap::new(),
            answers: HashMap::new(),
            next_request: 0,
            transfers: transfers::Registry::default(),
            receipts,
            journal,
            lock,
            news: VecDeque::new(),
            hands_over: false,
            listening: false,
            timer: Delay::new(Duration::ZERO),
            timer_at: Some(Duration::ZERO),
            wakes: Wakes::new(),
            looked: Now::default(),
            stop: Stop::Running,
            config,
        };
        driver.gossip.begin(&mut driver.swarm.behaviour_mut().gossip.gossip);
        if let Some(restored) = restored {
            driver.handle(Input::Restored(Box::new(restored)));
        }
        driver.listen().await?;
        driver.carry_out();
        Ok((driver, to_keep))
    }

    /// Runs until shutdown, or until the last handle is gone.
    pub(crate) async fn run(mut self) {
        // What the start took was no sleep.
        (self.looked, self.timer_at) = (now(&self.clock), None);
        while !self.is_finished() {
            self.arm_timer();
            let turn = select! {
                command = self.commands.recv().fuse() => Turn::Command(command),
                event = self.swarm.select_next_some() => Turn::Swarm(Box::new(event)),
                () = poll_fn(|context| self.reports.poll_ready(context)).fuse() => Turn::Lanes,
                gossiped = self.gossip.next_verified().fuse() => Turn::Gossiped(gossiped),
                verified = self.verification.next().fuse() => Turn::Verified(verified),
                wake = self.wakes.next().fuse() => Turn::Wake(wake),
                _ = self.published.bell.recv().fuse() => Turn::Bell,
                report = journal_report(self.journal.as_ref()).fuse() => Turn::Journal(report),
                serial = self.published.kept.confirmed().fuse() => Turn::Confirmed(serial),
                () = (&mut self.timer).fuse() => Turn::Timer,
            };
            self.notice_sleep(if let Turn::Wake(wake) = &turn { Some(*wake) } else { None });
            match turn {
                Turn::Command(Ok(command)) => self.command(command),
                // Nobody can ask for anything any more.
                Turn::Command(Err(_)) => break,
                Turn::Swarm(event) => self.swarm_event(*event),
                Turn::Lanes => {}
                Turn::Gossiped(gossiped) => self.gossiped(gossiped),
                Turn::Verified(verified) => self.verified(verified),
                Turn::Wake(_) => self.handle(Input::Tick),
                Turn::Bell => self.take_asks(),
                Turn::Journal(Report { stored, failing }) => self.handle(Input::Journal { stored, failing }),
                Turn::Confirmed(serial) => self.handle(Input::Confirmed { serial }),
                Turn::Timer => {
                    self.timer_at = None;
                    self.handle(Input::Tick);
                }
            }
            self.take_what_is_ready();
            self.carry_out_and_let_leave().await;
        }
        self.close_journal().await;
        self.finish();
    }

    /// What the app has confirmed is written down, and the journal is closed, so that another node may open it.
    async fn close_journal(&mut self) {
        let serial = self.published.kept.close();
        self.handle(Input::Confirmed { serial });
        self.carry_out();
        if let Some(journal) = self.journal.take() {
            journal.close().await;
        }
    }

    /// Listens on every configured address and waits until each is open, so that a node that has started can be
    /// reached.
    async fn listen(&mut self) -> Result<(), StartError> {
        let addresses = self.config.listen.clone().unwrap_or_else(transport::default_listen);
        // All before the first is opened, lest an IPv6 address find its port taken by our own IPv4 one.
        for address in &addresses {
            transport::check_free(address)
                .map_err(|error| StartError::Listen { address: address.clone(), reason: error.to_string() })?;
        }
        let mut opening = HashMap::<ListenerId, Multiaddr>::new();
        for address in addresses {
            let refused = |reason: String| StartError::Listen { address: address.clone(), reason };
            let id = self.swarm.listen_on(address.clone()).map_err(|error| refused(describe_listen_error(error)))?;
            opening.insert(id, address);
        }
        for address in self.config.external_addresses.clone() {
            self.swarm.add_external_address(address);
        }
        let mut late = Delay::new(LISTENING).fuse();
        while let Some(address) = opening.values().next() {
            let refused = |reason: String| StartError::Listen { address: address.clone(), reason };
            let event = select! {
                event = self.swarm.select_next_some() => event,
                () = late => return Err(refused("the system gave no address in time".to_owned())),
            };
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => drop(opening.remove(listener_id)),
                SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                    if let Some(address) = opening.remove(listener_id) {
                        return Err(StartError::Listen { address, reason: error.to_string() });
                    }
                }
                SwarmEvent::ListenerError { listener_id, error } => {
                    if let Some(address) = opening.remove(listener_id) {
                        return Err(StartError::Listen { address, reason: error.to_string() });
                    }
                }
                _ => {}
            }
            self.swarm_event(event);
        }
        self.listening = true;
        Ok(())
    }

    /// More of what is there already, so that a burst is carried out and shown once.
    fn take_what_is_ready(&mut self) {
        for _ in 0..BATCH {
            let Ok(command) = self.commands.try_recv() else { break };
            self.command(command);
        }
        self.sign_posts();
        self.take_reports(BATCH);
        self.take_from_the_swarm();
        for _ in 0..BATCH {
            let Some(verified) = self.gossip.next_verified().now_or_never() else { break };
            self.gossiped(verified);
        }
    }

    /// Takes what lanes have reported, until the reports weigh so much.
    fn take_reports(&mut self, budget: usize) {
        self.reports.clone().hand_out(budget, |event| self.lane_event(event));
    }

    fn take_from_the_swarm(&mut self) {
        for _ in 0..BATCH {
            if self.swarm.is_terminated() {
                break;
            }
            let Some(Some(event)) = self.swarm.next().now_or_never() else { break };
            self.swarm_event(event);
        }
    }

    /// One timer serves all deadlines. One that is too early costs a tick, so it is moved only forward in time.
    fn arm_timer(&mut self) {
        let closing = match self.stop {
            Stop::Closing(_, until) => Some(until),
            _ => None,
        };
        let Some(deadline) = self.core.next_deadline().into_iter().chain(closing).min() else { return };
        if self.timer_at.is_none_or(|armed| deadline < armed) {
            self.timer.reset(deadline.saturating_sub(self.clock.elapsed()));
            self.timer_at = Some(deadline);
        }
    }

    fn handle(&mut self, input: Input) {
        self.core.handle(now(&self.clock), input);
    }

    fn is_finished(&self) -> bool {
        match &self.stop {
            Stop::Running | Stop::Draining(_) => false,
            Stop::Closing(_, until) => self.links.is_empty() || *until <= self.clock.elapsed(),
        }
    }

    /// The last words: what is left fails, and all who wait are told.
    fn finish(self) {
        drop(self.receipts);
        self.transfers.stop();
        for (_, answer) in self.answers {
            // Whoever asked may be gone.
            let _ = answer.send(Err(ConnectError::ShuttingDown));
        }
        self.published.stopped(self.clock.elapsed());
        self.commands.close();
        // The ports and the place where things are kept are free before `shutdown` returns.
        drop(self.swarm);
        drop(self.lock);
        let waiting = match self.stop {
            Stop::Running => Vec::new(),
            Stop::Draining(waiting) | Stop::Closing(waiting, _) => waiting,
        };
        for done in waiting {
            let _ = done.send(());
        }
        while let Ok(command) = self.commands.try_recv() {
            command.refuse();
        }
    }

    fn phase(&self, connected: usize) -> Phase {
        match self.stop {
            Stop::Running if connected > 0 => Phase::Online,
            Stop::Running => Phase::Alone,
            Stop::Draining(_) | Stop::Closing(..) => Phase::Draining,
        }
    }
}

/// Waits for news of the journal; for ever when there is none.
async fn journal_report(journal: Option<&Journal>) -> Report {
    match journal {
        Some(journal) => journal.next_report().await,
        None => std::future::pending().await,
    }
}

fn now(clock: &Clock) -> Now {
    Now { since_start: clock.elapsed(), unix_millis: platform::unix_millis() }
}

fn describe_listen_error(error: libp2p::TransportError<std::io::Error>) -> String {
    match error {
        libp2p::TransportError::MultiaddrNotSupported(_) => "no transport for it is switched on here".to_owned(),
        libp2p::TransportError::Other(error) => error.to_string(),
    }
}
