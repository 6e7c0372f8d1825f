//! The app's wishes for connections, and dials that came to nothing.

use libp2p::PeerId;

use super::{ConnectRequest, Core, DialId, Now, Output, RequestId};
use crate::{error::ConnectError, frame::ControlContent};

impl Core {
    pub(super) fn connect(&mut self, now: Now, request: ConnectRequest) {
        if let Some(address) = request.address().filter(|address| !(self.settings.can_dial)(address)) {
            let reason = "no transport for this address here".to_owned();
            let result = Err(ConnectError::Failed { target: address.to_string(), reason });
            self.out.push_back(Output::Answer { request: request.id, result });
            return;
        }
        if let Some(peer) = request.peer() {
            let addresses = request.address().cloned().into_iter().collect::<Vec<_>>();
            self.discovery.named_by_app(now, peer, addresses);
            self.changed.insert(peer);
            let mut dialable = self.discovery.addresses_for_dial(&peer, 0);
            if let Some(address) = request.address().filter(|address| !dialable.contains(address)) {
                // The address that was asked for is tried, whatever else is known.
                dialable.insert(0, address.clone());
            }
            self.connections.connect_peer(now, request, peer, dialable, &mut self.out);
        } else {
            self.connections.connect_address(now, request, &mut self.out);
        }
    }

    pub(super) fn disconnect(&mut self, now: Now, request: RequestId, peer: PeerId) {
        self.discovery.leave_alone(now, &peer);
        if self.connections.begin_disconnect(now, peer, Some(request), &mut self.out) {
            self.control(peer, ControlContent::Goodbye);
        }
        self.changed.insert(peer);
    }

    pub(super) fn dial_failed(&mut self, now: Now, dial: DialId, reason: &str) {
        self.health.stats.dials_failed += 1;
        if self.upgrades.dial_failed(now, dial, &mut self.random) {
            tracing::debug!(reason, "no direct connection to a relayed peer");
            self.look_at_transfers(now);
        }
        let Some(failed) = self.connections.dial_failed(now, dial, reason, &mut self.random, &mut self.out) else {
            return;
        };
        self.discovery.dial_failed(now, &failed, reason, &mut self.random, &mut self.out);
        if let Some(peer) = failed.peer {
            self.routing.outbox.obstacle(peer, reason);
            self.transfers.obstacle(&peer, reason);
            self.changed.insert(peer);
        }
    }
}
