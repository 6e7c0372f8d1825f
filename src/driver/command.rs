//! What handles ask of the driver.

use std::sync::Arc;

use futures::channel::oneshot;
use libp2p::PeerId;

use super::{Driver, Stop};
use crate::{
    core::{ConnectRequest, Input, OutgoingMessage, RequestId},
    error::{ConnectError, TransferError},
    event::DiscoverTarget,
    frame::Passing,
    message::GroupName,
    peer::ConnectTarget,
    receipt::ReceiptWriter,
    transfer::TransferState,
    transfers::Outbox,
};

type Answer = oneshot::Sender<Result<PeerId, ConnectError>>;

/// One call of a handle.
pub(crate) enum Command {
    Connect {
        target: ConnectTarget,
        answer: Answer,
    },
    Disconnect {
        peer: PeerId,
        answer: Answer,
    },
    Send {
        peer: PeerId,
        message: Box<OutgoingMessage>,
        receipt: ReceiptWriter,
    },
    BroadcastNeighbors {
        message: OutgoingMessage,
    },
    BroadcastDirected {
        peers: Vec<PeerId>,
        message: OutgoingMessage,
    },
    /// A post; a large one is signed already.
    Post {
        message: OutgoingMessage,
        passing: Passing,
    },
    SendTransfer {
        outbox: Arc<Outbox>,
    },
    JoinGroup {
        group: GroupName,
    },
    LeaveGroup {
        group: GroupName,
    },
    Discover {
        target: DiscoverTarget,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
}

impl Command {
    /// The node has stopped. Receipts say so by themselves when they are dropped.
    pub(super) fn refuse(self) {
        match self {
            Command::Connect { answer, .. } | Command::Disconnect { answer, .. } => {
                // Whoever asked may be gone.
                let _ = answer.send(Err(ConnectError::ShuttingDown));
            }
            Command::Shutdown { done } => {
                let _ = done.send(());
            }
            Command::SendTransfer { outbox } => {
                outbox.watch.set(TransferState::Failed { error: TransferError::ShutDown });
            }
            _ => {}
        }
    }
}

impl Driver {
    pub(super) fn command(&mut self, command: Command) {
        if !matches!(command, Command::Post { .. }) {
            self.sign_posts();
        }
        match command {
            Command::Connect { target, answer } => {
                let id = self.request(answer);
                self.handle(Input::Connect(ConnectRequest { id, target }));
            }
            Command::Disconnect { peer, answer } => {
                let request = self.request(answer);
                self.handle(Input::Disconnect { request, peer });
            }
            Command::Send { peer, message, receipt } => {
                self.receipts.insert(message.letter.nonce, receipt);
                self.handle(Input::Send { peer, message: *message });
            }
            Command::BroadcastNeighbors { message } => self.handle(Input::BroadcastNeighbors { message }),
            Command::BroadcastDirected { peers, message } => self.handle(Input::BroadcastDirected { peers, message }),
            Command::Post { message, passing } => self.own_post(message, passing),
            Command::SendTransfer { outbox } => self.send_transfer(outbox),
            Command::JoinGroup { group } => self.handle(Input::JoinGroup { group }),
            Command::LeaveGroup { group } => self.handle(Input::LeaveGroup { group }),
            Command::Discover { target } => self.handle(Input::Discover { target }),
            Command::Shutdown { done } => match &mut self.stop {
                Stop::Draining(waiting) | Stop::Closing(waiting, _) => waiting.push(done),
                Stop::Running => {
                    self.stop = Stop::Draining(vec![done]);
                    self.handle(Input::Drain);
                }
            },
        }
    }

    fn request(&mut self, answer: Answer) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.answers.insert(id, answer);
        id
    }
}
