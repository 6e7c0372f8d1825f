//! One peer's connection: the states of CPC §2.2, each with what belongs to it and nothing else, so that an impossible
//! state can't be written down.

use std::time::Duration;

use libp2p::PeerId;

use crate::{
    core::{
        DialId, Output,
        input::{Link, LinkId},
    },
    event::{NetworkEvent, StateCause},
    peer::ConnectionState,
};

/// Why a peer should be connected. A stronger reason is not replaced by a weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keep {
    /// It came by itself, or the app let it go: nothing is done to keep it.
    Not,
    /// To have enough peers, or because mail waits for it.
    Known,
    /// The app asked for it.
    Wanted,
    /// It is a bootstrap node.
    Bootstrap,
}

#[derive(Debug)]
pub(super) enum State {
    Disconnected { retry_at: Option<Duration> },
    Connecting { dial: DialId },
    Connected { since: Duration, links: Links },
    Disconnecting { links: Links, close_at: Duration },
}

/// At least one connection.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) first: Link,
    pub(super) more: Vec<Link>,
}

impl Links {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Takes one out; `None` when it was the last.
    pub(super) fn without(mut self, gone: LinkId) -> Option<Self> {
        self.more.retain(|link| link.id != gone);
        if self.first.id != gone {
            return Some(self);
        }
        let mut more = self.more.into_iter();
        more.next().map(|first| Links { first, more: more.collect() })
    }
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) state: State,
    pub(super) keep: Keep,
    /// Attempts that failed since the last success.
    pub(super) failures: u32,
    /// Dials that failed since the last connection: which kind of address is next.
    pub(super) dials_failed: u32,
    pub(super) latency: Option<Duration>,
    /// `None` until identify or the first lane tells.
    pub(super) speaks_cpc: Option<bool>,
    pub(super) said_goodbye: bool,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Disconnected { retry_at: None },
            keep: Keep::Not,
            failures: 0,
            dials_failed: 0,
            latency: None,
            speaks_cpc: None,
            said_goodbye: false,
        }
    }

    pub(super) fn public_state(&self) -> ConnectionState {
        match self.state {
            State::Disconnected { .. } => ConnectionState::Disconnected,
            State::Connecting { .. } => ConnectionState::Connecting,
            State::Connected { .. } => ConnectionState::Connected,
            State::Disconnecting { .. } => ConnectionState::Disconnecting,
        }
    }

    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        let links = match &self.state {
            State::Connected { links, .. } | State::Disconnecting { links, .. } => Some(links),
            State::Disconnected { .. } | State::Connecting { .. } => None,
        };
        links.into_iter().flat_map(Links::iter)
    }
}

pub(super) fn change(peer: PeerId, entry: &mut Peer, state: State, cause: StateCause, out: &mut impl Extend<Output>) {
    let from = entry.public_state();
    entry.state = state;
    out.extend([state_changed(peer, from, entry.public_state(), cause)]);
}

pub(super) fn state_changed(peer: PeerId, from: ConnectionState, to: ConnectionState, cause: StateCause) -> Output {
    Output::Event(NetworkEvent::StateChanged { peer, from, to, cause })
}

pub(super) fn updated(peer: PeerId, entry: &Peer) -> Output {
    let kind = entry.links().map(|link| link.kind).min();
    Output::Event(NetworkEvent::PeerUpdated { peer, kind })
}
