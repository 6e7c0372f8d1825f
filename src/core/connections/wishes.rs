//! What the app, the mail that waits and the upkeep wish of connections, and what is due.

use libp2p::{Multiaddr, PeerId};

use super::{Connections, GOODBYE_TIMEOUT, Keep, State, state_changed};
use crate::{
    core::{ConnectRequest, DialId, Now, Output, RequestId, random::Random},
    error::ConnectError,
    event::StateCause,
    peer::ConnectionState,
};

impl Connections {
    pub(crate) fn connect_peer(
        &mut self,
        now: Now,
        request: ConnectRequest,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        out: &mut impl Extend<Output>,
    ) {
        let mut answer = |result| out.extend([Output::Answer { request: request.id, result }]);
        if peer == self.local {
            return answer(Err(ConnectError::ToSelf(request.target.to_string())));
        }
        match self.peers.get(&peer).map(|entry| &entry.state) {
            Some(State::Connected { .. }) => {
                self.keep(peer, Keep::Wanted);
                return answer(Ok(peer));
            }
            // What is closing closes first; then it is dialled, since it is wanted.
            Some(State::Connecting { .. } | State::Disconnecting { .. }) => {}
            _ if addresses.is_empty() => return answer(Err(ConnectError::NoAddress(peer))),
            _ => self.dial_peer(peer, addresses, StateCause::Requested, out),
        }
        self.keep(peer, Keep::Wanted);
        let dial = self.peers.get(&peer).and_then(|entry| match entry.state {
            State::Connecting { dial } => Some(dial),
            _ => None,
        });
        self.wait(now, request, Some(peer), dial);
    }

    /// Connects to whoever is at an address.
    pub(crate) fn connect_address(&mut self, now: Now, request: ConnectRequest, out: &mut impl Extend<Output>) {
        if let Some(address) = request.address().cloned() {
            let dial = self.dial_address(address, out);
            self.wait(now, request, None, Some(dial));
        }
    }

    /// Dials an address whose peer is not known.
    pub(crate) fn dial_address(&mut self, address: Multiaddr, out: &mut impl Extend<Output>) -> DialId {
        let dial = self.begin_dial(None, address.to_string());
        out.extend([Output::Dial { dial, peer: None, addresses: vec![address] }]);
        dial
    }

    /// Dials a connected peer for a better connection; nothing changes for it when that fails.
    pub(crate) fn dial_beside(&mut self, peer: PeerId, address: Multiaddr, out: &mut impl Extend<Output>) -> DialId {
        let dial = self.begin_dial(None, address.to_string());
        out.extend([Output::Dial { dial, peer: Some(peer), addresses: vec![address] }]);
        dial
    }

    /// Dials a known peer, unless it is connected or being dialled.
    pub(crate) fn dial_known(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        keep: Keep,
        out: &mut impl Extend<Output>,
    ) {
        self.keep(peer, keep);
        if !addresses.is_empty() && self.state(&peer) == ConnectionState::Disconnected {
            self.dial_peer(peer, addresses, StateCause::Maintenance, out);
        }
    }

    /// Mail waits: unless a retry is planned already, the peer is dialled at once.
    pub(crate) fn want_for_mail(
        &mut self,
        now: Now,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        out: &mut impl Extend<Output>,
    ) {
        let planned = self.peers.get(&peer).is_some_and(
            |entry| matches!(entry.state, State::Disconnected { retry_at: Some(at) } if at > now.since_start),
        );
        if planned {
            self.keep(peer, Keep::Known);
        } else {
            self.dial_known(peer, addresses, Keep::Known, out);
        }
    }

    /// A planned retry is due.
    pub(crate) fn retry(
        &mut self,
        now: Now,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        random: &mut Random,
        out: &mut impl Extend<Output>,
    ) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        if !matches!(entry.state, State::Disconnected { .. }) {
            return;
        }
        if addresses.is_empty() {
            entry.failures += 1;
            self.plan_retry(now, peer, random);
        } else {
            let cause = StateCause::Retry { attempt: entry.failures + 1 };
            self.dial_peer(peer, addresses, cause, out);
        }
    }

    /// Begins to close in good order. True when a goodbye should be sent; the peer closes when it hears it, or else this
    /// side does after [`GOODBYE_TIMEOUT`].
    pub(crate) fn begin_disconnect(
        &mut self,
        now: Now,
        peer: PeerId,
        request: Option<RequestId>,
        out: &mut impl Extend<Output>,
    ) -> bool {
        let stopping = self.stopping;
        let Some(entry) = self.peers.get_mut(&peer) else {
            out.extend(request.map(|request| Output::Answer { request, result: Ok(peer) }));
            return false;
        };
        entry.keep = Keep::Not;
        let state = std::mem::replace(&mut entry.state, State::Disconnected { retry_at: None });
        match state {
            State::Connected { links, .. } => {
                let close_at = now.since_start + GOODBYE_TIMEOUT;
                entry.state = State::Disconnecting { links, close_at };
                let cause = if stopping { StateCause::ShuttingDown } else { StateCause::Requested };
                out.extend([state_changed(peer, ConnectionState::Connected, ConnectionState::Disconnecting, cause)]);
                self.leaving.entry(peer).or_default().extend(request);
                true
            }
            State::Disconnecting { links, close_at } => {
                entry.state = State::Disconnecting { links, close_at };
                self.leaving.entry(peer).or_default().extend(request);
                false
            }
            // A dial under way ends by itself; what it brings is not kept.
            other @ State::Connecting { .. } => {
                entry.state = other;
                out.extend([Output::ClosePeer(peer)]);
                out.extend(request.map(|request| Output::Answer { request, result: Ok(peer) }));
                false
            }
            State::Disconnected { .. } => {
                self.peers.remove(&peer);
                out.extend(request.map(|request| Output::Answer { request, result: Ok(peer) }));
                false
            }
        }
    }

    /// The node stops: nothing is retried any more.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
    }

    /// What is due: requests that waited too long are answered, goodbyes that take too long are cut short, and the
    /// peers to retry are returned with how often they have failed.
    pub(crate) fn due(&mut self, now: Now, out: &mut impl Extend<Output>) -> Vec<(PeerId, u32)> {
        let waited = self.config.dial_timeout;
        let late = self.waiting.extract_if(.., |waiting| waiting.until <= now.since_start);
        out.extend(late.map(|waiting| {
            let error = ConnectError::TimedOut { target: waiting.target, waited };
            Output::Answer { request: waiting.id, result: Err(error) }
        }));
        let mut retries = Vec::new();
        for (peer, entry) in &mut self.peers {
            match &mut entry.state {
                State::Disconnected { retry_at: Some(at) } if *at <= now.since_start && !self.stopping => {
                    retries.push((*peer, entry.dials_failed));
                }
                State::Disconnecting { close_at, links } if *close_at <= now.since_start => {
                    *close_at = now.since_start + GOODBYE_TIMEOUT;
                    out.extend(links.iter().map(|link| Output::CloseLink(link.id)));
                }
                _ => {}
            }
        }
        retries.sort_unstable();
        retries
    }
}
