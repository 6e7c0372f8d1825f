//! What time brings, what each turn ends with, and the shutdown.

use libp2p::PeerId;

use super::{Core, Now, Output, discovery};
use crate::frame::ControlContent;

impl Core {
    pub(super) fn tick(&mut self, now: Now) {
        if self.mail_at <= now.since_start {
            self.mail_at = now.since_start + discovery::SEARCH_PAUSE;
            for peer in self.routing.outbox.peers_with_mail() {
                self.deliver_mail(now, peer);
            }
            self.reach_for_transfers(now);
        }
        let retries = self.connections.due(now, &mut self.out);
        for (peer, attempt) in retries {
            let addresses = self.discovery.addresses_for_dial(&peer, attempt);
            self.connections.retry(now, peer, addresses, &mut self.random, &mut self.out);
            self.changed.insert(peer);
        }
        let expired = self.routing.outbox.tick(now, &mut self.out);
        self.health.stats.messages_failed += expired.failed;
        for peer in expired.resend {
            self.deliver_mail(now, peer);
        }
        self.post_again(now);
        self.routing.spread.tick(now);
        let due = self.bridges.due(now);
        self.out.extend(due.into_iter().map(|(post, hops)| Output::Bridge { post, hops }));
        let connections = &mut self.connections;
        self.upgrades.tick(now, connections, &mut self.out);
        self.discovery.tick(now, connections, &mut self.random, &mut self.out);
        self.look_at_transfers(now);
        self.mailboxes.tick(now, &mut self.routing.journal);
    }

    pub(super) fn drain(&mut self, now: Now) {
        if self.draining_until.is_none() {
            self.draining_until = Some(now.since_start + self.settings.config.delivery.drain_timeout);
            let (transfers, world) = self.transfers_and_world(now);
            transfers.drain(world);
            self.mailboxes.hurry();
            let waiting = self.bridges.all();
            self.out.extend(waiting.into_iter().map(|(post, hops)| Output::Bridge { post, hops }));
        }
    }

    /// Ends what the facts have completed: peer lists that are due, and the shutdown.
    pub(super) fn settle(&mut self, now: Now) {
        for (peer, envelopes) in self.discovery.take_announcements(now, &self.connections) {
            self.control(peer, ControlContent::PeerList(envelopes));
        }
        self.look_at_deposits(now);
        self.routing.spread.pump(now, &mut self.routing.outbox, &mut self.out);
        let Some(until) = self.draining_until else { return };
        let leaves =
            |peer: PeerId| self.routing.outbox.has_mail(&peer) || self.routing.outbox.has_posts_under_way(&peer);
        let reachable_mail = !self.routing.spread.is_idle() || self.connections.connected().any(leaves);
        let storing = self.routing.journal.is_accepting() || !self.mailboxes.is_idle();
        if self.drained || ((reachable_mail || storing) && now.since_start < until) {
            return;
        }
        self.drained = true;
        self.connections.stop();
        for peer in self.connections.connected().collect::<Vec<_>>() {
            if self.connections.begin_disconnect(now, peer, None, &mut self.out) {
                self.control(peer, ControlContent::Goodbye);
            }
        }
        self.routing.outbox.give_up(&self.settings.local, &mut self.out);
        self.give_up_keeping();
        self.out.push_back(Output::Drained);
    }
}
