//! From relayed to direct: who is reached only through a relay is asked, over that circuit, for a direct connection; when
//! one stands, the circuit is let go.
//!
//! Invariant: the last circuit is closed only while a direct connection to the same peer stands, and a failed attempt
//! changes nothing but when the next one is made.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::{DialId, Link, Now, Output, connections::Connections, random::Random};
use crate::peer::ConnectionKind;

/// The side that was dialled leaves the first attempts to the dialler, whose part it is (libp2p specs,
/// webrtc/webrtc.md); it tries itself when nothing has come of them.
const DIALLERS_TURN: Duration = Duration::from_secs(15);

/// The pause after the first failed attempt; it doubles with each, and a random half of it is waited less.
const FIRST_PAUSE: Duration = Duration::from_secs(4);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How long a circuit stays beside a direct connection, so that what is on its way arrives. The dialler of the circuit
/// closes it; the other side does when it hasn't.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_OF_THE_DIALLED: Duration = Duration::from_secs(6);

#[derive(Debug, Default)]
struct Upgrade {
    /// Whether the peer understands the signalling; `None` until identify tells.
    able: Option<bool>,
    failures: u32,
    dial: Option<DialId>,
    next_at: Option<Duration>,
    close_circuits_at: Option<Duration>,
    close_surplus_at: Option<Duration>,
}

/// The peers reached through relays, and how far each is on its way to a direct connection.
pub(super) struct Upgrades {
    can_dial: fn(&Multiaddr) -> bool,
    /// Connected peers only.
    peers: BTreeMap<PeerId, Upgrade>,
}

/// Facts in.
impl Upgrades {
    pub(super) fn new(can_dial: fn(&Multiaddr) -> bool) -> Self {
        Self { can_dial, peers: BTreeMap::new() }
    }

    /// Identify told whether the peer understands the signalling.
    pub(super) fn identified(&mut self, now: Now, peer: PeerId, able: bool, connections: &Connections) {
        self.peers.entry(peer).or_default().able = Some(able);
        self.look(now, peer, connections);
    }

    /// The peer's connections have changed.
    pub(super) fn look(&mut self, now: Now, peer: PeerId, connections: &Connections) {
        let links = connections.links(&peer);
        if links.is_empty() {
            self.peers.remove(&peer);
            return;
        }
        let circuits = links.iter().filter(|link| is_circuit(link)).collect::<Vec<_>>();
        let direct = circuits.len() < links.len();
        let dialled = circuits.iter().any(|link| link.outbound);
        let upgrade = self.peers.entry(peer).or_default();
        if circuits.is_empty() || direct {
            upgrade.next_at = None;
            let farewell = if dialled { FAREWELL } else { FAREWELL_OF_THE_DIALLED };
            let close_at = upgrade.close_circuits_at.unwrap_or(now.since_start + farewell);
            upgrade.close_circuits_at = (!circuits.is_empty()).then_some(close_at);
            upgrade.close_surplus_at = None;
            return;
        }
        upgrade.close_circuits_at = None;
        // Two sides that dial at once in several ways may end with as many circuits as a peer may have connections, and
        // then a direct one has no room.
        let surplus = surplus(&links).next().is_some();
        let close_at = upgrade.close_surplus_at.unwrap_or(now.since_start + FAREWELL);
        upgrade.close_surplus_at = surplus.then_some(close_at);
        if upgrade.able == Some(true) && upgrade.dial.is_none() && upgrade.next_at.is_none() {
            let wait = if dialled { Duration::ZERO } else { DIALLERS_TURN };
            upgrade.next_at = Some(now.since_start + wait);
        }
    }

    /// A dial failed; true when it was one of these.
    pub(super) fn dial_failed(&mut self, now: Now, dial: DialId, random: &mut Random) -> bool {
        let Some(upgrade) = self.peers.values_mut().find(|upgrade| upgrade.dial == Some(dial)) else { return false };
        upgrade.dial = None;
        upgrade.failures += 1;
        let pause = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(upgrade.failures - 1).unwrap_or(u32::MAX));
        let pause = pause.min(LONGEST_PAUSE);
        upgrade.next_at = Some(now.since_start + pause / 2 + random.up_to(pause / 2));
        true
    }

    /// A dial led to a connection.
    pub(super) fn dial_succeeded(&mut self, dial: DialId) {
        if let Some(upgrade) = self.peers.values_mut().find(|upgrade| upgrade.dial == Some(dial)) {
            upgrade.dial = None;
            upgrade.failures = 0;
        }
    }

    /// Something has changed that may let an attempt succeed that failed before, such as another network.
    pub(super) fn try_again(&mut self, now: Now) {
        for upgrade in self.peers.values_mut() {
            upgrade.failures = 0;
            upgrade.next_at = upgrade.next_at.map(|at| at.min(now.since_start));
        }
    }
}

/// Polls.
impl Upgrades {
    /// Does what is due.
    pub(super) fn tick(&mut self, now: Now, connections: &mut Connections, out: &mut impl Extend<Output>) {
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now.since_start);
        for (peer, upgrade) in &mut self.peers {
            if is_due(upgrade.close_circuits_at) {
                upgrade.close_circuits_at = None;
                let links = connections.links(peer);
                out.extend(links.iter().filter(|link| is_circuit(link)).map(|link| Output::CloseLink(link.id)));
            }
            if is_due(upgrade.close_surplus_at) {
                upgrade.close_surplus_at = None;
                out.extend(surplus(&connections.links(peer)).map(|link| Output::CloseLink(link.id)));
            }
            if is_due(upgrade.next_at) {
                upgrade.next_at = None;
                let links = connections.links(peer);
                // The circuit that this side dialled, if there is one, is the one to signal on.
                let circuit = links.iter().filter(|link| is_circuit(link)).max_by_key(|link| (link.outbound, link.id));
                let address = circuit.and_then(|link| webrtc_address(&link.address, *peer));
                if let Some(address) = address.filter(|address| (self.can_dial)(address)) {
                    upgrade.dial = Some(connections.dial_beside(*peer, address, out));
                }
            }
        }
    }

    /// Whether a direct connection to a peer with only these circuits may come soon: both sides can, or that isn't known
    /// yet, and no attempt has failed.
    pub(super) fn may_come(&self, peer: &PeerId, circuits: &[&Link]) -> bool {
        let can =
            circuits.iter().any(|link| webrtc_address(&link.address, *peer).is_some_and(|at| (self.can_dial)(&at)));
        can && self.peers.get(peer).is_some_and(|upgrade| upgrade.able != Some(false) && upgrade.failures == 0)
    }

    /// When to tick at the latest.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let of_peer = |upgrade: &Upgrade| [upgrade.next_at, upgrade.close_circuits_at, upgrade.close_surplus_at];
        self.peers.values().flat_map(of_peer).flatten().min()
    }
}

fn is_circuit(link: &Link) -> bool {
    link.kind == ConnectionKind::Relayed
}

/// The circuits that this side has dialled, without the newest, on which it signals. The other side does the same with
/// its own, so at most one each way is left.
fn surplus<'l>(links: &[&'l Link]) -> impl Iterator<Item = &'l Link> {
    let dialled = links.iter().copied().filter(|link| is_circuit(link) && link.outbound);
    let newest = dialled.clone().map(|link| link.id).max();
    dialled.filter(move |link| Some(link.id) != newest)
}

/// Where the peer at the other end of a circuit is asked for a direct connection.
fn webrtc_address(circuit: &Multiaddr, peer: PeerId) -> Option<Multiaddr> {
    let mut address = Multiaddr::empty();
    for part in circuit {
        let end = part == Protocol::P2pCircuit;
        address.push(part);
        if end {
            return Some(address.with(Protocol::WebRTC).with(Protocol::P2p(peer)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::NetworkConfig,
        core::{Core, Input, LinkId, PeerFacts, Settings},
    };

    struct Bench {
        core: Core,
        now: Now,
        peer: PeerId,
        relay: PeerId,
        links: u64,
    }

    impl Bench {
        fn new() -> Self {
            let config = NetworkConfig::default();
            let settings = Settings { local: PeerId::random(), config, reservations: 0, can_dial: |_| true, seed: 7 };
            let now = Now { since_start: Duration::ZERO, unix_millis: 1_000_000 };
            let (peer, relay) = (PeerId::random(), PeerId::random());
            Self { core: Core::new(settings, now), now, peer, relay, links: 0 }
        }

        fn handle(&mut self, input: Input) -> Vec<Output> {
            self.core.handle(self.now, input);
            std::iter::from_fn(|| self.core.poll()).collect()
        }

        fn open(&mut self, kind: ConnectionKind, outbound: bool, dial: Option<DialId>) -> LinkId {
            self.links += 1;
            let circuit = format!("/ip4/192.0.2.1/tcp/1/ws/p2p/{}/p2p-circuit", self.relay);
            let address = match kind {
                ConnectionKind::Relayed => circuit,
                _ => format!("{circuit}/webrtc"),
            };
            let address = address.parse::<Multiaddr>().expect("an address").with(Protocol::P2p(self.peer));
            let link = Link { id: LinkId(self.links), kind, address, outbound };
            self.handle(Input::LinkOpened { peer: self.peer, link, dial });
            LinkId(self.links)
        }

        fn identify(&mut self, signals_webrtc: bool) -> Vec<Output> {
            let facts = PeerFacts {
                agent: "peer".into(),
                addresses: Vec::new(),
                same_network: Some(true),
                speaks_cpc: true,
                relay: false,
                mailbox: false,
                signals_webrtc,
            };
            let mut outputs = self.handle(Input::Identified { peer: self.peer, facts });
            outputs.extend(self.handle(Input::Tick));
            outputs
        }

        fn pass(&mut self, seconds: u64) -> Vec<Output> {
            let until = self.now.since_start + Duration::from_secs(seconds);
            let mut outputs = Vec::new();
            while let Some(at) = self.core.next_deadline().filter(|at| *at <= until) {
                self.now.since_start = self.now.since_start.max(at);
                outputs.extend(self.handle(Input::Tick));
            }
            self.now.since_start = until;
            outputs
        }
    }

    fn webrtc_dials(outputs: &[Output]) -> Vec<(DialId, Multiaddr)> {
        let dials = outputs.iter().filter_map(|output| match output {
            Output::Dial { dial, addresses, .. } => {
                let webrtc = addresses.iter().find(|address| ConnectionKind::of(address) == ConnectionKind::Webrtc);
                webrtc.map(|address| (*dial, address.clone()))
            }
            _ => None,
        });
        dials.collect()
    }

    fn closed(outputs: &[Output]) -> Vec<LinkId> {
        let closed = outputs.iter().filter_map(|output| match output {
            Output::CloseLink(link) => Some(*link),
            _ => None,
        });
        closed.collect()
    }

    #[test]
    fn a_circuit_becomes_a_direct_connection_and_is_then_let_go() {
        let mut bench = Bench::new();
        let circuit = bench.open(ConnectionKind::Relayed, true, None);
        let dials = webrtc_dials(&bench.identify(true));
        let [(dial, address)] = dials.as_slice() else { panic!("one dial: {dials:?}") };
        assert_eq!(address.iter().last(), Some(Protocol::P2p(bench.peer)));
        assert!(webrtc_dials(&bench.pass(5)).is_empty(), "one attempt at a time");
        let direct = bench.open(ConnectionKind::Webrtc, true, Some(*dial));
        assert!(closed(&bench.pass(1)).is_empty(), "what is on its way may arrive");
        assert_eq!(closed(&bench.pass(2)), [circuit]);
        let reason = "closed".to_owned();
        bench.handle(Input::LinkClosed { peer: bench.peer, link: circuit, reason });
        let later = bench.pass(60);
        assert!(!closed(&later).contains(&direct) && webrtc_dials(&later).is_empty());
    }

    #[test]
    fn a_failed_attempt_leaves_the_circuit_alone_and_is_repeated_ever_more_rarely() {
        let mut bench = Bench::new();
        bench.open(ConnectionKind::Relayed, true, None);
        let mut dials = webrtc_dials(&bench.identify(true));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let [(dial, _)] = dials.as_slice() else { panic!("one dial: {dials:?}") };
            let outputs = bench.handle(Input::DialFailed { dial: *dial, reason: "ICE failed".into() });
            assert!(closed(&outputs).is_empty());
            let failed_at = bench.now.since_start;
            dials = loop {
                let dials = webrtc_dials(&bench.pass(1));
                if !dials.is_empty() {
                    break dials;
                }
            };
            pauses.push((bench.now.since_start - failed_at).as_secs());
        }
        assert!(pauses[0] <= 5 && (120..=301).contains(&pauses[7]), "{pauses:?}");
    }

    #[test]
    fn of_several_circuits_that_this_side_dialled_the_newest_stays() {
        let mut bench = Bench::new();
        let first = bench.open(ConnectionKind::Relayed, true, None);
        bench.open(ConnectionKind::Relayed, false, None);
        bench.open(ConnectionKind::Relayed, false, None);
        assert!(closed(&bench.pass(10)).is_empty(), "the others are the peer's");
        let second = bench.open(ConnectionKind::Relayed, true, None);
        assert!(closed(&bench.pass(1)).is_empty(), "what is on its way may arrive");
        assert_eq!(closed(&bench.pass(2)), [first]);
        bench.handle(Input::LinkClosed { peer: bench.peer, link: first, reason: "closed".into() });
        assert!(!closed(&bench.pass(60)).contains(&second));
    }

    #[test]
    fn the_side_that_was_dialled_waits_for_the_dialler() {
        let mut bench = Bench::new();
        bench.open(ConnectionKind::Relayed, false, None);
        let mut outputs = bench.identify(true);
        outputs.extend(bench.pass(14));
        assert!(webrtc_dials(&outputs).is_empty());
        assert_eq!(webrtc_dials(&bench.pass(2)).len(), 1);
    }

    #[test]
    fn who_does_not_understand_is_not_asked() {
        let mut bench = Bench::new();
        bench.open(ConnectionKind::Relayed, true, None);
        let mut outputs = bench.identify(false);
        outputs.extend(bench.pass(600));
        assert!(webrtc_dials(&outputs).is_empty() && closed(&outputs).is_empty());
    }

    #[test]
    fn when_the_direct_connection_breaks_first_the_circuit_stays() {
        let mut bench = Bench::new();
        let circuit = bench.open(ConnectionKind::Relayed, true, None);
        let dials = webrtc_dials(&bench.identify(true));
        let direct = bench.open(ConnectionKind::Webrtc, true, Some(dials[0].0));
        bench.handle(Input::LinkClosed { peer: bench.peer, link: direct, reason: "gone".into() });
        let outputs = bench.pass(10);
        assert!(!closed(&outputs).contains(&circuit));
        assert_eq!(webrtc_dials(&outputs).len(), 1, "and another attempt is made");
    }
}
