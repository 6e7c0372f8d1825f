//! The facts, one after the other: who is told of each, and what to look at again because of it.

use super::{Core, Input, Now, Output, Topic, frames::Way};
use crate::{event::NetworkEvent, peer::ConnectionState};

impl Core {
    /// Takes one fact in. What follows from it is had by [`poll`](Self::poll).
    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Connect(request) => self.connect(now, request),
            Input::Disconnect { request, peer } => self.disconnect(now, request, peer),
            Input::Send { peer, message } => {
                self.health.accepted(message.letter.priority);
                if let Some(message) = self.routing.journal.accept(peer, message, &mut self.out) {
                    self.take_on(now, peer, message);
                }
            }
            Input::BroadcastNeighbors { message } => {
                self.health.accepted(message.letter.priority);
                let peers = self.connections.speaking_cpc().collect::<Vec<_>>();
                if peers.is_empty() {
                    self.health.stats.broadcasts_dropped += 1;
                }
                for peer in peers {
                    if !self.routing.outbox.accept(peer, message.clone(), false, &mut self.out) {
                        self.health.stats.broadcasts_dropped += 1;
                    }
                    self.deliver_mail(now, peer);
                }
            }
            Input::BroadcastDirected { peers, message } => self.broadcast_directed(now, peers, &message),
            Input::Post { message } => self.post(now, message),
            Input::Published { nonce, priority } => self.taken(nonce, priority),
            Input::PublishFailed { message } => {
                self.health.stats.broadcasts_dropped += self.routing.pending.failed(now, message);
            }
            Input::PublishDropped => self.health.stats.broadcasts_dropped += 1,
            Input::StrangerListens => self.bridges.somebody_listens(),
            Input::Subscribed { topic } => self.routing.pending.somebody_listens(now, &topic),
            Input::JoinGroup { group } => {
                self.groups.insert(group.clone());
                self.routing.spread.join(now, group.clone());
                self.out.push_back(Output::Subscribe(Topic::Group(group)));
            }
            Input::LeaveGroup { group } => {
                self.groups.remove(&group);
                self.routing.spread.leave(now, &group);
                self.out.push_back(Output::Unsubscribe(Topic::Group(group)));
            }
            Input::Discover { target } => self.discovery.search(target, &mut self.connections, now, &mut self.out),
            Input::Drain => self.drain(now),
            Input::Restored(restored) => self.restored(now, *restored),
            Input::Journal { stored, failing } => self.journal_reported(now, stored, failing),
            Input::Confirmed { serial } => self.confirmed(serial),
            Input::LinkOpened { peer, link, dial } => {
                self.health.stats.connections_opened += 1;
                let address = link.address.clone();
                let outbound = link.outbound;
                self.routing.outbox.link_opened(now, peer, &link, &mut self.out);
                self.connections.link_opened(now, peer, link, dial, &mut self.out);
                if let Some(dial) = dial {
                    self.upgrades.dial_succeeded(dial);
                }
                self.upgrades.look(now, peer, &self.connections);
                self.discovery.connected(
                    now,
                    peer,
                    outbound.then_some(address),
                    dial,
                    &mut self.connections,
                    &mut self.out,
                );
                self.routing.spread.set_relayed(&peer, self.is_relayed(&peer));
                self.changed.insert(peer);
                self.mail_can_go_straight(&peer);
                self.mail_goes_another_way(&peer);
                self.deliver_mail(now, peer);
                self.routing.outbox.tell_connected(peer, &mut self.out);
                self.look_at_transfers(now);
            }
            Input::LinkClosed { peer, link, reason } => {
                self.health.stats.connections_closed += 1;
                self.connections.link_closed(now, peer, link, &reason, &mut self.random, &mut self.out);
                self.upgrades.look(now, peer, &self.connections);
                self.discovery.link_closed(now, peer, self.connections.state(&peer) == ConnectionState::Connected);
                self.health.stats.messages_failed += self.routing.outbox.link_closed(peer, link, &mut self.out);
                self.routing.inbox.link_closed(link);
                self.link_of_neighbour_closed(now, peer);
                self.mail_loses_link(now, peer);
                self.changed.insert(peer);
                // Who has said goodbye is left alone for a moment, also with mail.
                if self.connections.state(&peer) == ConnectionState::Connected {
                    self.deliver_mail(now, peer);
                }
                self.look_at_transfers(now);
            }
            Input::DialFailed { dial, reason } => self.dial_failed(now, dial, &reason),
            Input::Identified { peer, facts } => {
                self.changed.insert(peer);
                let has_mail = self.routing.outbox.has_mail(&peer);
                self.meet(now, peer, &facts);
                self.upgrades.identified(now, peer, facts.signals_webrtc, &self.connections);
                self.look_at_transfers(now);
                self.mailbox_identified(peer, facts.mailbox && facts.same_network == Some(true));
                self.discovery.identified(now, peer, facts, has_mail, &mut self.connections, &mut self.out);
                self.deliver_mail(now, peer);
            }
            Input::Pinged { peer, link, latency } => {
                self.connections.pinged(peer, latency, &mut self.out);
                self.changed.insert(peer);
                if self.routing.outbox.pinged(now, peer, link, latency) {
                    self.mail_goes_another_way(&peer);
                    self.deliver_mail(now, peer);
                }
            }
            Input::PingFailed { link } => self.ping_failed(now, link),
            Input::ProbeFailed { link } => self.out.push_back(Output::CloseLink(link)),
            Input::Woken { slept } => self.woken(now, slept),
            Input::Online(online) => self.online(now, online),
            Input::Frames { peer, link, batch, bytes } => {
                self.health.stats.bytes_received += bytes as u64;
                let other_way = self.routing.outbox.heard(now, peer, link);
                let room = batch.iter().flatten().any(|incoming| !incoming.acknowledged.is_empty());
                for result in batch {
                    self.frame(now, peer, link, result);
                }
                if other_way {
                    self.mail_goes_another_way(&peer);
                }
                // What waited because so much was unacknowledged can leave.
                if room || other_way {
                    self.deliver_mail(now, peer);
                }
            }
            Input::Gossiped { source, ticket, result } => {
                let verdict = self.gossiped(now, source, *result);
                self.out.push_back(Output::Judge { ticket, verdict });
            }
            Input::Verified { from, id, result } => self.verified(now, from, id, *result),
            Input::Written { peer, link, priority, count, bytes } => {
                self.health.stats.bytes_sent += bytes as u64;
                self.routing.outbox.written(now, peer, link, priority, count);
                self.mail_may_have_room();
                self.deliver_mail(now, peer);
            }
            Input::Lost { peer, link, priority, count } => {
                self.health.stats.messages_failed +=
                    self.routing.outbox.lost(peer, link, priority, count, &mut self.out);
                self.routing.spread.lost(now, peer);
                self.mail_lane_broke(now, peer);
                self.deliver_mail(now, peer);
            }
            Input::Unsupported { peer } => {
                self.connections.set_speaks_cpc(peer, false);
                self.health.stats.messages_failed +=
                    self.routing.outbox.refuse(peer, "it doesn't speak /cpc/1.0.0", &mut self.out);
            }
            Input::Discovered { peer, addresses, source } => {
                self.discovery.found(now, peer, addresses, source, &mut self.out);
                self.changed.insert(peer);
                self.deliver_mail(now, peer);
            }
            Input::SearchFinished { search } => self.discovery.search_finished(&search, &mut self.out),
            Input::Listening { address } => {
                self.discovery.listening(now, &address);
                self.out.push_back(Output::Event(NetworkEvent::Listening { address }));
            }
            Input::ListenClosed { addresses, reservation, reason } => {
                self.discovery.listen_closed(now, &addresses, reservation);
                self.out.extend(
                    addresses
                        .into_iter()
                        .map(|address| Output::Event(NetworkEvent::ListenClosed { address, reason: reason.clone() })),
                );
            }
            Input::OwnRecord { record } => self.discovery.own_record(now, record),
            Input::Transfer(input) => {
                let (transfers, world) = self.transfers_and_world(now);
                transfers.handle(world, input);
                self.reach_for_transfers(now);
            }
            Input::Rejected { peer, rejection } => {
                self.reject(now, peer, rejection, Way::Gossip);
            }
            Input::Missed { count } => {
                self.health.stats.messages_missed += count;
                self.out.push_back(Output::Event(NetworkEvent::MessagesMissed { count }));
            }
            Input::Tick => self.tick(now),
        }
        self.settle(now);
        self.routing.time_marks(now);
    }
}
