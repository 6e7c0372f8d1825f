//! What waits for a peer, messages and payloads, moves on: onto its lanes, or towards a connection.

use libp2p::PeerId;

use super::{
    Core, Now, OutgoingMessage,
    transfers::{Transfers, World},
};
use crate::{frame::ControlContent, message::Priority, peer::ConnectionState};

impl Core {
    /// A message that the outbox gets: it leaves as soon as it may, and what is less urgent gives way if it must.
    pub(super) fn take_on(&mut self, now: Now, peer: PeerId, message: OutgoingMessage) {
        let priority = message.letter.priority;
        self.routing.outbox.accept(peer, message, true, &mut self.out);
        self.deliver_mail(now, peer);
        let shed = self.routing.outbox.shed(peer, priority, &mut self.out);
        self.health.stats.messages_shed += shed;
        self.health.stats.messages_failed += shed;
    }

    /// A frame below the app, past the outbox.
    pub(super) fn control(&mut self, peer: PeerId, content: ControlContent) {
        self.routing.outbox.control(peer, content, &mut self.out);
    }

    /// Moves a peer's mail on: onto its lanes when it is connected, else towards a connection.
    pub(super) fn deliver_mail(&mut self, now: Now, peer: PeerId) {
        let state = self.connections.state(&peer);
        if state != ConnectionState::Connected {
            self.mail_waits(now, peer);
        }
        match state {
            ConnectionState::Connected => {
                let left = self.routing.outbox.pump(now, peer, &mut self.out);
                for priority in Priority::ALL {
                    self.health.sent(priority, left[priority.lane()]);
                }
            }
            ConnectionState::Disconnected
                if (self.routing.outbox.has_mail(&peer) || self.transfers.wants(&peer)) && !self.is_draining() =>
            {
                let dialable = self.discovery.addresses_for_dial(&peer, 0);
                if dialable.is_empty() {
                    self.routing.outbox.obstacle(peer, "no address is known");
                    self.discovery.look_for(now, peer, &mut self.out);
                } else {
                    self.connections.want_for_mail(now, peer, dialable, &mut self.out);
                }
            }
            _ => {}
        }
    }

    pub(super) fn transfers_and_world<'a>(&'a mut self, now: Now) -> (&'a mut Transfers, World<'a>) {
        let draining = self.draining_until.is_some();
        let world = World {
            now,
            connections: &self.connections,
            upgrades: &self.upgrades,
            outbox: &mut self.routing.outbox,
            draining,
            stats: &mut self.health.stats,
            out: &mut self.out,
        };
        (&mut self.transfers, world)
    }

    /// Lets transfers see what has changed.
    pub(super) fn look_at_transfers(&mut self, now: Now) {
        let (transfers, world) = self.transfers_and_world(now);
        transfers.look(world);
    }

    /// Looks for a way to those whom a transfer waits for.
    pub(super) fn reach_for_transfers(&mut self, now: Now) {
        for peer in self.transfers.wanted() {
            if self.connections.state(&peer) == ConnectionState::Disconnected {
                self.deliver_mail(now, peer);
            }
        }
    }
}
