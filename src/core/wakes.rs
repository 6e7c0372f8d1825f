//! What a sleep changes, or another network: connections may be dead without a word, attempts have failed that no peer
//! is to blame for, and whatever waits for a better time has it now.
//!
//! Time asleep is not in [`Now::since_start`], so nothing has become due by it. It counts only for messages that are
//! good for a time, which is the world's time.

use std::time::Duration;

use super::{Core, LinkId, Now, Output};

impl Core {
    /// The node goes on after having slept so long, or in another network.
    pub(super) fn woken(&mut self, now: Now, slept: Duration) {
        self.routing.outbox.slept(slept);
        self.routing.pending.slept(now, slept);
        if self.is_draining() {
            return;
        }
        let hurried = self.connections.woken(now, &mut self.random);
        self.changed.extend(hurried);
        self.discovery.woken(now);
        self.upgrades.try_again(now);
        self.mail_at = now.since_start;
        self.probe();
    }

    /// Whether there is a network. Connections that lived by it are found to be dead at once; those to this machine
    /// itself live on.
    pub(super) fn online(&mut self, now: Now, online: bool) {
        self.connections.set_online(online);
        self.discovery.set_online(online);
        if online {
            self.woken(now, Duration::ZERO);
        } else {
            self.probe();
        }
    }

    /// A ping's answer did not come in time. Of a node that slept it could not: its probe tells.
    pub(super) fn ping_failed(&mut self, now: Now, link: LinkId) {
        if !self.connections.is_waking(now) {
            self.out.push_back(Output::CloseLink(link));
        }
    }

    /// Asks every connection whether it still lives.
    fn probe(&mut self) {
        for peer in self.connections.connected() {
            let links = self.connections.links(&peer);
            self.out.extend(links.into_iter().map(|link| Output::Probe(link.id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;

    use super::*;
    use crate::{
        core::{
            ConnectRequest, Input, RequestId,
            tests::{Bench, address, dials},
        },
        event::NetworkEvent,
        message::Priority,
        peer::{ConnectTarget, ConnectionState},
        receipt::ReceiptState,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    fn probes(outputs: &[Output]) -> Vec<LinkId> {
        let probes = outputs.iter().filter_map(|output| match output {
            Output::Probe(link) => Some(*link),
            _ => None,
        });
        probes.collect()
    }

    fn closes(outputs: &[Output]) -> usize {
        outputs.iter().filter(|output| matches!(output, Output::CloseLink(_))).count()
    }

    /// A node that wants a peer and is connected to it, for longer than a moment.
    fn connected() -> (Bench, PeerId, LinkId) {
        let mut bench = Bench::new(|_| {});
        let (peer, outputs) = wanted(&mut bench);
        let (link, _) = bench.open(peer, true, dials(&outputs).first().copied());
        bench.pass(Duration::from_secs(60));
        (bench, peer, link)
    }

    fn wanted(bench: &mut Bench) -> (PeerId, Vec<Output>) {
        let peer = PeerId::random();
        let target = ConnectTarget::Address(address(&format!("/ip4/192.0.2.9/tcp/9/p2p/{peer}")));
        let outputs = bench.handle(Input::Connect(ConnectRequest { id: RequestId(1), target }));
        (peer, outputs)
    }

    fn fail(bench: &mut Bench, outputs: &[Output]) -> Vec<Output> {
        let reason = "nobody there".to_owned();
        let failed = dials(outputs).into_iter().map(|dial| Input::DialFailed { dial, reason: reason.clone() });
        failed.collect::<Vec<_>>().into_iter().flat_map(|input| bench.handle(input)).collect()
    }

    /// How many attempts are made in a time in which all fail.
    fn attempts(bench: &mut Bench, time: Duration) -> usize {
        let end = bench.now.since_start + time;
        let mut attempts = 0;
        while bench.now.since_start < end {
            let outputs = bench.pass(Duration::from_millis(100));
            attempts += dials(&outputs).len();
            fail(bench, &outputs);
        }
        attempts
    }

    #[test]
    fn who_wakes_asks_every_connection_and_closes_those_that_are_silent() {
        let (mut bench, peer, link) = connected();
        assert_eq!(probes(&bench.handle(Input::Woken { slept: HOUR })), [link]);
        assert_eq!(closes(&bench.handle(Input::PingFailed { link })), 0, "its answer could not come in time");
        assert_eq!(closes(&bench.handle(Input::ProbeFailed { link })), 1);
        bench.handle(Input::LinkClosed { peer, link, reason: "silent".into() });
        assert_eq!(dials(&bench.pass(Duration::from_millis(600))).len(), 1, "and it is back at once");
    }

    #[test]
    fn a_ping_that_fails_long_after_waking_ends_its_connection_again() {
        let (mut bench, _, link) = connected();
        bench.handle(Input::Woken { slept: HOUR });
        bench.pass(Duration::from_secs(11));
        assert_eq!(closes(&bench.handle(Input::PingFailed { link })), 1);
    }

    #[test]
    fn what_waited_for_another_attempt_makes_it_when_the_node_wakes() {
        let mut bench = Bench::new(|config| config.connections.retry_attempts = 100);
        let (_, outputs) = wanted(&mut bench);
        let (other, _) = bench.open(PeerId::random(), false, None);
        fail(&mut bench, &outputs);
        attempts(&mut bench, Duration::from_secs(600));
        let pause = bench.core.connections.next_deadline().expect("a retry") - bench.now.since_start;
        let outputs = bench.handle(Input::Woken { slept: HOUR });
        assert_eq!(probes(&outputs), [other]);
        let soon = dials(&bench.pass(Duration::from_millis(300)));
        assert_eq!(soon.len(), 1, "it would have been tried in {pause:?}");
    }

    #[test]
    fn attempts_that_slept_and_connections_that_died_asleep_count_for_nothing() {
        let mut bench = Bench::new(|config| {
            config.connections.retry_attempts = 0;
            config.discovery.target_peers = 0;
        });
        let (peer, outputs) = wanted(&mut bench);
        let (link, _) = bench.open(peer, true, dials(&outputs).first().copied());
        // It has not lasted, so awake it would be a failure, and the last.
        bench.handle(Input::Woken { slept: HOUR });
        bench.handle(Input::LinkClosed { peer, link, reason: "gone".into() });
        let outputs = bench.pass(Duration::from_secs(1));
        assert_eq!(dials(&outputs).len(), 1, "it is still wanted");

        bench.handle(Input::Woken { slept: HOUR });
        fail(&mut bench, &outputs);
        let outputs = bench.pass(Duration::from_secs(1));
        assert_eq!(dials(&outputs).len(), 1, "the attempt was interrupted");
        fail(&mut bench, &outputs);
        assert!(dials(&bench.pass(Duration::from_secs(5))).is_empty(), "this one was made awake, and failed");
    }

    #[test]
    fn without_a_network_attempts_are_rare_and_cost_nothing_and_with_it_they_begin_anew() {
        let (mut bench, peer, link) = connected();
        assert_eq!(probes(&bench.handle(Input::Online(false))), [link], "which connections lived by the network?");
        bench.handle(Input::LinkClosed { peer, link, reason: "unreachable".into() });
        let attempted = attempts(&mut bench, HOUR);
        assert!((100..=240).contains(&attempted), "one in fifteen seconds, not {attempted}");
        assert_eq!(bench.core.connections.state(&peer), ConnectionState::Disconnected);
        bench.handle(Input::Online(true));
        assert_eq!(dials(&bench.pass(Duration::from_millis(300))).len(), 1, "at once");
    }

    #[test]
    fn a_bootstrap_node_without_a_known_name_is_tried_rarely_without_a_network_too() {
        let mut bench = Bench::new(|config| config.bootstrap = vec![address("/ip4/192.0.2.1/tcp/1")]);
        bench.handle(Input::Online(false));
        let first = bench.handle(Input::Tick);
        fail(&mut bench, &first);
        // The first was begun by the start.
        let dial = crate::core::DialId(1);
        bench.handle(Input::DialFailed { dial, reason: "no network".into() });
        let attempted = attempts(&mut bench, Duration::from_secs(300));
        assert!((10..=21).contains(&attempted), "one in fifteen seconds, not {attempted}");
        bench.handle(Input::Online(true));
        assert_eq!(dials(&bench.pass(Duration::from_millis(600))).len(), 1, "at once");
    }

    #[test]
    fn sleep_ages_what_is_good_for_a_time_and_nothing_else() {
        let mut bench = Bench::new(|_| {});
        let peer = PeerId::random();
        let short = bench.message(1, Priority::High, Some(Duration::from_secs(10)));
        bench.handle(Input::Send { peer, message: short });
        bench.send(peer, 2, Priority::High);
        let mut outputs = bench.handle(Input::Woken { slept: HOUR });
        outputs.extend(bench.pass(Duration::from_secs(1)));
        let ended = outputs.iter().filter_map(|output| match output {
            Output::Receipt { nonce, state } if state.is_final() => Some((*nonce, state.clone())),
            _ => None,
        });
        let expired = ReceiptState::Expired { ttl: Duration::from_secs(10) };
        assert_eq!(ended.collect::<Vec<_>>(), [(1, expired)]);
    }

    #[test]
    fn what_came_too_late_because_this_node_slept_is_nobodys_fault() {
        use crate::{event::RejectReason, frame::Rejection};
        let (mut bench, peer, _) = connected();
        let late = || vec![Err(Rejection::new(RejectReason::Expired, "its time to live is over"))];
        bench.handle(Input::Woken { slept: HOUR });
        let score = bench.core.trust.score(bench.now, &peer);
        let outputs = bench.handle(Input::Frames { peer, link: LinkId(1), batch: late(), bytes: 1 });
        assert!(!outputs.iter().any(|output| matches!(output, Output::Event(NetworkEvent::MessageRejected { .. }))));
        assert!(bench.core.trust.score(bench.now, &peer) >= score);
        bench.pass(Duration::from_secs(20));
        let score = bench.core.trust.score(bench.now, &peer);
        bench.handle(Input::Frames { peer, link: LinkId(1), batch: late(), bytes: 1 });
        assert!(bench.core.trust.score(bench.now, &peer) < score, "awake it is one");
    }

    #[test]
    fn a_node_that_stops_does_not_wake_for_anything_else() {
        let (mut bench, ..) = connected();
        bench.handle(Input::Drain);
        let outputs = bench.handle(Input::Woken { slept: HOUR });
        assert!(probes(&outputs).is_empty() && dials(&outputs).is_empty());
    }
}
