//! The core's wishes, carried out.

use std::{
    future::poll_fn,
    task::{Poll, Waker},
};

use libp2p::{
    multiaddr::Protocol,
    swarm::dial_opts::{DialOpts, PeerCondition},
};

use super::{CLOSING, Driver, News, Stop};
use crate::{
    core::{Input, LinkId, Output},
    event::NetworkEvent,
    frame::ControlContent,
    message::ReceivedMessage,
    wire::{self, Parcel},
};

impl Driver {
    /// Carries out everything the core wishes, then shows the result: first the snapshot, then the news, so that who
    /// hears of a thing can see it.
    pub(super) fn carry_out(&mut self) {
        self.do_what_is_wished();
        self.tell_the_news();
    }

    /// The same, but what is to be sent leaves before the app hears the news: waking the app's thread takes longer than
    /// writing an acknowledgement, and its sender waits for that one.
    pub(super) async fn carry_out_and_let_leave(&mut self) {
        self.do_what_is_wished();
        if self.hands_over && !self.news.is_empty() {
            // The connections' tasks write it.
            give_way().await;
            self.do_what_is_wished();
        }
        self.hands_over = false;
        self.tell_the_news();
    }

    fn do_what_is_wished(&mut self) {
        loop {
            while let Some(output) = self.core.poll() {
                self.output(output);
            }
            let Some(verified) = self.verification.begin() else { break };
            self.verified(verified);
        }
        self.publish_snapshot();
    }

    fn tell_the_news(&mut self) {
        loop {
            let mut told = Told::default();
            for news in std::mem::take(&mut self.news) {
                self.tell(news, &mut told);
            }
            let missed = self.published.messages.send(told.messages);
            told.wakers.into_iter().for_each(Waker::wake);
            if missed == 0 {
                return;
            }
            // That nobody took a message in time is itself a fact, and news.
            self.handle(Input::Missed { count: missed });
            self.do_what_is_wished();
        }
    }

    fn output(&mut self, output: Output) {
        self.hands_over |= matches!(output, Output::Transmit { .. } | Output::Control { .. } | Output::Mail { .. });
        match output {
            Output::Dial { dial, peer, addresses } => {
                let options = match peer {
                    Some(peer) => DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses).build(),
                    None => match addresses.into_iter().next() {
                        Some(address) => DialOpts::unknown_peer_id().address(address).build(),
                        None => return self.handle(Input::DialFailed { dial, reason: "no address is known".into() }),
                    },
                };
                self.dials.insert(options.connection_id(), dial);
                let id = options.connection_id();
                if let Err(error) = self.swarm.dial(options) {
                    self.dials.remove(&id);
                    self.dial_failed_at_once(dial, &error);
                }
            }
            Output::CloseLink(link) => {
                self.give_up(link);
            }
            Output::Probe(link) => {
                if let Some((peer, connection)) = self.connections.get(&link) {
                    self.swarm.behaviour_mut().probes.probe(*peer, *connection);
                }
            }
            Output::ClosePeer(peer) => {
                // When there is no connection any more, it was closed meanwhile.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            // A connection that is gone meanwhile has been told to the core as closed, with all that is sent on it.
            Output::Transmit { link, letter, left, .. } => {
                if let Some(lanes) = self.lanes.get(&link) {
                    lanes.send(letter.priority, Parcel::letter(letter, left));
                }
            }
            Output::Mail { link, note, .. } => {
                if let Some(lanes) = self.lanes.get(&link) {
                    lanes.send(note.priority(), Parcel::Mail(note));
                }
            }
            Output::Control { link, content, .. } => {
                if let Some(lanes) = self.lanes.get(&link) {
                    let priority = content.priority();
                    let parcel = match content {
                        ControlContent::Acknowledge(ranges) => Parcel::Acknowledge(ranges),
                        content => Parcel::Frame(wire::control_frame(content)),
                    };
                    lanes.send(priority, parcel);
                }
            }
            Output::Forward { link, priority, frame, hops, .. } => {
                if let Some(lanes) = self.lanes.get(&link) {
                    lanes.send(priority, Parcel::Frame(wire::with_hops(&frame, hops)));
                }
            }
            Output::Verify { from, post } => self.verification.push(from, post),
            Output::Gossip { peer, on: true } => self.swarm.behaviour_mut().gossip.open(peer),
            Output::Gossip { peer, on: false } => self.swarm.behaviour_mut().gossip.close(peer),
            Output::Publish { message } => self.publish(message),
            Output::Bridge { post, hops } => self.bridge(&post, hops),
            Output::Judge { ticket, verdict } => self.judge(ticket, verdict),
            Output::Subscribe(topic) => self.gossip.subscribe(&mut self.swarm.behaviour_mut().gossip.gossip, topic),
            Output::Unsubscribe(topic) => {
                self.gossip.unsubscribe(&mut self.swarm.behaviour_mut().gossip.gossip, &topic)
            }
            Output::Search(search) => self.search(search),
            Output::Reserve { relay, address } => match self.swarm.listen_on(address.with(Protocol::P2pCircuit)) {
                Ok(listener) => drop(self.reservations.insert(listener, relay)),
                Err(error) => {
                    let reason = error.to_string();
                    self.handle(Input::ListenClosed { addresses: Vec::new(), reservation: Some(relay), reason });
                }
            },
            Output::SignRecord { addresses } => match wire::sign_record(&self.key, addresses) {
                Ok(record) => self.handle(Input::OwnRecord { record }),
                Err(error) => tracing::warn!(%error, "the node's own record can't be signed"),
            },
            Output::Transfer(output) => self.transfer_output(output),
            Output::Event(event) => self.news.push_back(News::Event(event)),
            Output::Deliver(message) => self.news.push_back(News::Message(message)),
            Output::HandOver { serial, message } => self.news.push_back(News::Kept(serial, message)),
            Output::Store { round, changes, haste } => {
                if let Some(journal) = &self.journal {
                    journal.write(round, changes, haste);
                }
            }
            Output::Accepted { nonce } => self.news.push_back(News::Accepted(nonce)),
            Output::Receipt { nonce, state } => self.news.push_back(News::Receipt(nonce, state)),
            Output::Answer { request, result } => self.news.push_back(News::Answer(request, result)),
            Output::Drained => {
                let until = self.clock.elapsed() + CLOSING;
                self.stop = match std::mem::replace(&mut self.stop, Stop::Running) {
                    Stop::Running => Stop::Closing(Vec::new(), until),
                    Stop::Draining(waiting) | Stop::Closing(waiting, _) => Stop::Closing(waiting, until),
                };
            }
        }
    }

    /// Closes a connection that doesn't answer, and counts it as gone at once: with a dead peer the closing itself may take
    /// until the system gives up on the socket.
    fn give_up(&mut self, link: LinkId) {
        let Some((peer, connection)) = self.connections.remove(&link) else { return };
        self.links.remove(&connection);
        self.lanes.remove(&link);
        self.swarm.close_connection(connection);
        self.swarm.behaviour_mut().transfers.forget(connection);
        self.handle(Input::LinkClosed { peer, link, reason: "the peer does not answer".to_owned() });
    }

    /// Tells one piece of news, but for what wakes the app: that comes at the end.
    fn tell(&mut self, news: News, told: &mut Told) {
        match news {
            News::Event(event) => {
                trace(&event);
                // A subscriber that lags is told so in its own stream.
                self.published.events.send([event]);
            }
            News::Message(message) => told.messages.push(message),
            News::Kept(serial, message) => self.published.kept.send(serial, message),
            News::Accepted(nonce) => {
                if let Some(receipt) = self.receipts.get(&nonce) {
                    receipt.accept();
                }
            }
            News::Receipt(nonce, state) if state.is_final() => {
                // Its place is free before the app is woken.
                if let Some(receipt) = self.receipts.remove(&nonce) {
                    receipt.set(state, &mut told.wakers);
                }
            }
            News::Receipt(nonce, state) => {
                if let Some(receipt) = self.receipts.get(&nonce) {
                    receipt.set(state, &mut told.wakers);
                }
            }
            News::Transfer(watch, state) => watch.set(state),
            News::Answer(request, result) => {
                if let Some(answer) = self.answers.remove(&request) {
                    // Whoever asked may be gone.
                    let _ = answer.send(result);
                }
            }
        }
    }
}

/// What wakes the app, gathered while news are told. A thread that is woken takes the processor from the one that wakes it:
/// what comes together is worth one such change, not one each.
#[derive(Default)]
struct Told {
    messages: Vec<ReceivedMessage>,
    /// Of those who wait for receipts.
    wakers: Vec<Waker>,
}

/// The event log: what an operator reads. No payloads, no keys.
fn trace(event: &NetworkEvent) {
    match event {
        NetworkEvent::StateChanged { peer, from, to, cause } => tracing::info!(%peer, ?from, ?to, ?cause, "peer"),
        NetworkEvent::Listening { address } => tracing::info!(%address, "listening"),
        NetworkEvent::ListenClosed { address, reason } => tracing::info!(%address, %reason, "listening no more"),
        NetworkEvent::BootstrapFailed { address, reason, retry_in } => {
            tracing::warn!(%address, %reason, ?retry_in, "bootstrap node unreachable");
        }
        NetworkEvent::MessageRejected { peer, reason, detail } => {
            tracing::warn!(%peer, reason = reason.as_str(), %detail, "rejected");
        }
        NetworkEvent::MessagesShed { priority, count } => {
            tracing::warn!(?priority, count, "messages shed: too much waits to be sent");
        }
        NetworkEvent::MessagesMissed { count } => tracing::warn!(count, "messages missed: no subscriber took them"),
        NetworkEvent::StoreFailing { reason } => {
            tracing::error!(%reason, "messages can't be stored: new ones are refused, what was accepted goes on");
        }
        NetworkEvent::MailboxRefused { mailbox, recipient, reason } => {
            tracing::info!(%mailbox, %recipient, %reason, "a mailbox does not keep a message");
        }
        NetworkEvent::StoreRecovered => tracing::info!("messages can be stored again"),
        NetworkEvent::InboxFull { waiting } => {
            tracing::warn!(waiting, "the inbox is full until the app confirms messages: senders keep what is new");
        }
        other => tracing::debug!(?other, "event"),
    }
}

/// Lets the other tasks of this thread work before this one goes on.
async fn give_way() {
    let mut given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
