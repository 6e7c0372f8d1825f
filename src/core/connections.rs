//! The state machine of each peer (CPC §2.2), retries with exponential backoff and full jitter, and the app's requests
//! that wait for a connection.
//!
//! Invariant: a peer is in exactly one [`State`], each state holds what belongs to it and nothing else, and every change
//! is announced with its cause. Peers that are neither connected nor wanted are forgotten here.

mod state;
mod waking;
mod wishes;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};

use super::{ConnectRequest, DialId, Now, Output, RequestId, Settings, input::Link, input::LinkId, random::Random};
use crate::{
    config::ConnectionsConfig,
    error::ConnectError,
    event::StateCause,
    peer::{ConnectionKind, ConnectionState},
};

pub(crate) use state::Keep;
use state::{Links, Peer, State, change, state_changed, updated};
pub(super) use waking::OFFLINE_PAUSE;

/// A connection that lasted so long was a success; a shorter one counts among the failures.
const LASTING: Duration = Duration::from_secs(10);

/// A node without any peer waits no longer for its bootstrap nodes: they are all it has.
const ALONE: Duration = Duration::from_secs(2);

/// Nor does one that has peers but no bootstrap node any more: nobody new finds it, above all a page, which is reached
/// through them only.
const UNFINDABLE: Duration = Duration::from_secs(10);

/// How long a goodbye may take before the connection is closed without it.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

struct Dial {
    peer: Option<PeerId>,
    target: String,
    /// It was under way while the node slept, so its failure says nothing of the peer.
    interrupted: bool,
}

struct Waiting {
    id: RequestId,
    target: String,
    peer: Option<PeerId>,
    dial: Option<DialId>,
    until: Duration,
}

/// A dial that failed, for those who remember addresses.
pub(crate) struct FailedDial {
    pub(crate) dial: DialId,
    pub(crate) peer: Option<PeerId>,
    /// When the peer is tried again; `None` when it is not.
    pub(crate) retry_in: Option<Duration>,
    /// This node is to blame: it slept, or has no network.
    pub(crate) excused: bool,
}

/// What [`super::view`] shows of a peer's connection.
#[derive(Default)]
pub(crate) struct ConnectionView {
    pub(crate) state: ConnectionState,
    pub(crate) kind: Option<ConnectionKind>,
    pub(crate) latency: Option<Duration>,
    pub(crate) connections: usize,
    pub(crate) connected_since: Option<Duration>,
    pub(crate) retry_at: Option<Duration>,
}

pub(crate) struct Connections {
    local: PeerId,
    config: ConnectionsConfig,
    peers: HashMap<PeerId, Peer>,
    dials: HashMap<DialId, Dial>,
    waiting: Vec<Waiting>,
    leaving: HashMap<PeerId, Vec<RequestId>>,
    next_dial: u64,
    stopping: bool,
    online: bool,
    /// Until when what breaks has broken while the node slept.
    grace_until: Duration,
}

/// Facts in.
impl Connections {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            local: settings.local,
            config: settings.config.connections.clone(),
            peers: HashMap::new(),
            dials: HashMap::new(),
            waiting: Vec::new(),
            leaving: HashMap::new(),
            next_dial: 0,
            stopping: false,
            online: true,
            grace_until: Duration::ZERO,
        }
    }

    pub(crate) fn link_opened(
        &mut self,
        now: Now,
        peer: PeerId,
        link: Link,
        dial: Option<DialId>,
        out: &mut impl Extend<Output>,
    ) {
        let cause = if link.outbound { StateCause::Established } else { StateCause::Inbound };
        if let Some(dial) = dial {
            self.dials.remove(&dial);
        }
        let entry = self.peers.entry(peer).or_insert_with(Peer::new);
        entry.said_goodbye = false;
        entry.dials_failed = 0;
        match &mut entry.state {
            State::Connected { links, .. } | State::Disconnecting { links, .. } => {
                links.more.push(link);
                out.extend([updated(peer, entry)]);
            }
            State::Disconnected { .. } | State::Connecting { .. } => {
                let links = Links { first: link, more: Vec::new() };
                change(peer, entry, State::Connected { since: now.since_start, links }, cause, out);
            }
        }
        let answered = self
            .waiting
            .extract_if(.., |waiting| waiting.peer == Some(peer) || (waiting.dial.is_some() && waiting.dial == dial));
        let answers =
            answered.map(|waiting| Output::Answer { request: waiting.id, result: Ok(peer) }).collect::<Vec<_>>();
        if !answers.is_empty() {
            entry.keep = entry.keep.max(Keep::Wanted);
        }
        out.extend(answers);
    }

    pub(crate) fn link_closed(
        &mut self,
        now: Now,
        peer: PeerId,
        link: LinkId,
        reason: &str,
        random: &mut Random,
        out: &mut impl Extend<Output>,
    ) {
        let excused = !self.online || self.is_waking(now);
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let state = std::mem::replace(&mut entry.state, State::Disconnected { retry_at: None });
        let (left, was) = match state {
            State::Connected { since, links } => {
                let left = links.without(link).map(|links| State::Connected { since, links });
                if left.is_none() {
                    // A peer that takes the connection and drops it at once has no room: that is a failure too.
                    let lasted = now.since_start.saturating_sub(since) >= LASTING;
                    entry.failures = if lasted { 0 } else { entry.failures + u32::from(!excused) };
                }
                (left, ConnectionState::Connected)
            }
            State::Disconnecting { links, close_at } => {
                let left = links.without(link).map(|links| State::Disconnecting { links, close_at });
                (left, ConnectionState::Disconnecting)
            }
            other => {
                entry.state = other;
                return;
            }
        };
        if let Some(left) = left {
            entry.state = left;
            out.extend([updated(peer, entry)]);
            return;
        }
        let cause = match (was, entry.said_goodbye, self.stopping) {
            (_, _, true) => StateCause::ShuttingDown,
            (ConnectionState::Disconnecting, _, _) => StateCause::Requested,
            (_, true, _) => StateCause::Goodbye,
            _ => StateCause::Lost { reason: reason.to_owned() },
        };
        if entry.said_goodbye && entry.keep == Keep::Known {
            entry.keep = Keep::Not;
        }
        entry.latency = None;
        out.extend([state_changed(peer, was, ConnectionState::Disconnected, cause)]);
        for request in self.leaving.remove(&peer).unwrap_or_default() {
            out.extend([Output::Answer { request, result: Ok(peer) }]);
        }
        self.plan_retry(now, peer, random);
    }

    /// Gives the dial's peer a pause, or gives it up; answers those who waited for this dial.
    pub(crate) fn dial_failed(
        &mut self,
        now: Now,
        dial: DialId,
        reason: &str,
        random: &mut Random,
        out: &mut impl Extend<Output>,
    ) -> Option<FailedDial> {
        let Dial { peer, target, interrupted } = self.dials.remove(&dial)?;
        let excused = interrupted || !self.online;
        let answered = self.waiting.extract_if(.., |waiting| waiting.dial == Some(dial));
        out.extend(answered.map(|waiting| {
            let error = ConnectError::Failed { target: target.clone(), reason: reason.to_owned() };
            Output::Answer { request: waiting.id, result: Err(error) }
        }));
        let mut retry_in = None;
        if let Some(peer) = peer
            && let Some(entry) = self.peers.get_mut(&peer)
            && matches!(entry.state, State::Connecting { dial: current } if current == dial)
        {
            if !excused {
                entry.failures += 1;
                entry.dials_failed += 1;
            }
            let cause = StateCause::DialFailed { reason: reason.to_owned() };
            change(peer, entry, State::Disconnected { retry_at: None }, cause, out);
            let longest = if entry.keep == Keep::Bootstrap { self.longest_without_bootstrap() } else { None };
            let pause = self.plan_retry(now, peer, random);
            retry_in = pause.map(|pause| longest.map_or(pause, |longest| self.soon(now, peer, pause.min(longest))));
        }
        Some(FailedDial { dial, peer, retry_in, excused })
    }

    pub(crate) fn pinged(&mut self, peer: PeerId, latency: Duration, out: &mut impl Extend<Output>) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.latency = Some(latency);
            out.extend([updated(peer, entry)]);
        }
    }

    pub(crate) fn said_goodbye(&mut self, peer: PeerId) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.said_goodbye = true;
        }
    }

    pub(crate) fn set_speaks_cpc(&mut self, peer: PeerId, speaks: bool) {
        if let Some(entry) = self.peers.get_mut(&peer) {
            entry.speaks_cpc = Some(speaks);
        }
    }

    /// Nothing is done any more to keep a peer.
    pub(crate) fn let_go(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.keep = Keep::Not;
        }
    }

    /// Strengthens the reason to keep a peer.
    pub(crate) fn keep(&mut self, peer: PeerId, keep: Keep) {
        if peer != self.local {
            let entry = self.peers.entry(peer).or_insert_with(Peer::new);
            entry.keep = entry.keep.max(keep);
        }
    }
}

/// Getters.
impl Connections {
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let of_peers = self.peers.values().filter_map(|entry| match entry.state {
            State::Disconnected { retry_at } if !self.stopping => retry_at,
            State::Disconnecting { close_at, .. } => Some(close_at),
            _ => None,
        });
        of_peers.chain(self.waiting.iter().map(|waiting| waiting.until)).min()
    }

    pub(crate) fn state(&self, peer: &PeerId) -> ConnectionState {
        self.peers.get(peer).map_or(ConnectionState::Disconnected, Peer::public_state)
    }

    /// The connections to a peer that stand and are not being closed.
    pub(crate) fn links(&self, peer: &PeerId) -> Vec<&Link> {
        match self.peers.get(peer) {
            Some(entry) if matches!(entry.state, State::Connected { .. }) => entry.links().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether there is a reason to have this peer, or a connection to it.
    pub(crate) fn is_kept(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(crate) fn keep_of(&self, peer: &PeerId) -> Keep {
        self.peers.get(peer).map_or(Keep::Not, |entry| entry.keep)
    }

    pub(crate) fn connected(&self) -> impl Iterator<Item = PeerId> {
        let mut peers = self
            .peers
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Connected { .. }))
            .map(|(peer, _)| *peer)
            .collect::<Vec<_>>();
        peers.sort_unstable();
        peers.into_iter()
    }

    /// Connected peers, without those known not to speak `/cpc/1.0.0`.
    pub(crate) fn speaking_cpc(&self) -> impl Iterator<Item = PeerId> {
        self.connected().filter(|peer| self.peers.get(peer).is_some_and(|entry| entry.speaks_cpc != Some(false)))
    }

    /// Peers connected or on the way to it.
    pub(crate) fn busy_peers(&self) -> HashSet<PeerId> {
        let busy = self.peers.iter().filter(|(_, entry)| !matches!(entry.state, State::Disconnected { .. }));
        busy.map(|(peer, _)| *peer).collect()
    }

    /// The address of a direct connection that this side dialled.
    pub(crate) fn dialled_address(&self, peer: &PeerId) -> Option<Multiaddr> {
        let links = self.peers.get(peer)?.links();
        let direct =
            links.filter(|link| link.outbound && link.kind != ConnectionKind::Relayed).min_by_key(|link| link.id);
        direct.map(|link| link.address.clone())
    }

    pub(crate) fn view(&self, peer: &PeerId) -> ConnectionView {
        let Some(entry) = self.peers.get(peer) else { return ConnectionView::default() };
        ConnectionView {
            state: entry.public_state(),
            kind: entry.links().map(|link| link.kind).min(),
            latency: entry.latency,
            connections: entry.links().count(),
            connected_since: match entry.state {
                State::Connected { since, .. } => Some(since),
                _ => None,
            },
            retry_at: match entry.state {
                State::Disconnected { retry_at } => retry_at,
                _ => None,
            },
        }
    }
}

impl Connections {
    fn wait(&mut self, now: Now, request: ConnectRequest, peer: Option<PeerId>, dial: Option<DialId>) {
        let until = now.since_start + self.config.dial_timeout;
        let target = request.target.to_string();
        self.waiting.push(Waiting { id: request.id, target, peer, dial, until });
    }

    fn begin_dial(&mut self, peer: Option<PeerId>, target: String) -> DialId {
        self.next_dial += 1;
        let dial = DialId(self.next_dial);
        self.dials.insert(dial, Dial { peer, target, interrupted: false });
        dial
    }

    fn dial_peer(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, cause: StateCause, out: &mut impl Extend<Output>) {
        if self.stopping {
            return;
        }
        let dial = self.begin_dial(Some(peer), peer.to_string());
        let entry = self.peers.entry(peer).or_insert_with(Peer::new);
        change(peer, entry, State::Connecting { dial }, cause, out);
        out.extend([Output::Dial { dial, peer: Some(peer), addresses }]);
    }

    /// How long a bootstrap node may be left alone; `None` while another one is connected.
    fn longest_without_bootstrap(&self) -> Option<Duration> {
        let mut connected =
            self.peers.values().filter(|entry| matches!(entry.state, State::Connected { .. })).peekable();
        if connected.peek().is_none() {
            return Some(ALONE);
        }
        connected.all(|entry| entry.keep != Keep::Bootstrap).then_some(UNFINDABLE)
    }

    /// Shortens the pause before a peer is tried again.
    fn soon(&mut self, now: Now, peer: PeerId, pause: Duration) -> Duration {
        if let Some(Peer { state: State::Disconnected { retry_at }, .. }) = self.peers.get_mut(&peer) {
            *retry_at = Some(now.since_start + pause);
        }
        pause
    }

    /// For a peer that has just become disconnected: when to try again, if at all.
    fn plan_retry(&mut self, now: Now, peer: PeerId, random: &mut Random) -> Option<Duration> {
        let entry = self.peers.get_mut(&peer)?;
        if entry.keep < Keep::Bootstrap && entry.failures > self.config.retry_attempts {
            entry.keep = Keep::Not;
        }
        if entry.keep == Keep::Not || self.stopping {
            self.peers.remove(&peer);
            return None;
        }
        let pause = backoff(&self.config, entry.failures, random);
        let pause = if self.online { pause } else { pause.max(OFFLINE_PAUSE) };
        entry.state = State::Disconnected { retry_at: Some(now.since_start + pause) };
        Some(pause)
    }
}

/// Exponential backoff with full jitter: any time up to a bound that doubles with each failure, so that many nodes that
/// lost the same peer don't come back at once.
pub(super) fn backoff(config: &ConnectionsConfig, failures: u32, random: &mut Random) -> Duration {
    let bound = config.retry_initial.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    random.up_to(bound.min(config.retry_max))
}
