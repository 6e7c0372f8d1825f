//! What goes into the core and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::transfers::{TransferInput, TransferOutput};
pub(crate) use crate::frame::Topic;
use crate::{
    error::ConnectError,
    event::{DiscoverTarget, DiscoverySource, NetworkEvent},
    frame::{ControlContent, Frame, Incoming, Letter, Post, PostId, Rejection, SignedRecord, ToMailbox},
    message::{GroupName, Priority, ReceivedMessage},
    peer::{ConnectTarget, ConnectionKind},
    receipt::ReceiptState,
    rows::{Change, Haste},
};

use super::routing::Restored;

/// The two clocks at the moment of a call.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Only goes forward, and only while the node is awake.
    pub(crate) since_start: Duration,
    /// The wall's: milliseconds since the Unix epoch.
    pub(crate) unix_millis: u64,
}

/// A call of the app that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// One attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DialId(pub(crate) u64);

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// A connection that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) kind: ConnectionKind,
    /// The other end's address: what was dialled, or where it came from.
    pub(crate) address: Multiaddr,
    /// Whether this side dialled.
    pub(crate) outbound: bool,
}

/// The app's wish to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectRequest {
    pub(crate) id: RequestId,
    pub(crate) target: ConnectTarget,
}

impl ConnectRequest {
    /// The peer asked for, as far as it is named.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        match &self.target {
            ConnectTarget::Peer(peer) => Some(*peer),
            ConnectTarget::Address(address) => peer_of(address),
        }
    }

    /// The address asked for.
    pub(crate) fn address(&self) -> Option<&Multiaddr> {
        match &self.target {
            ConnectTarget::Peer(_) => None,
            ConnectTarget::Address(address) => Some(address),
        }
    }
}

/// The peer an address leads to: what its last `/p2p/…` names.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// A message as the outbox and gossip see it: what it says, and what is needed to treat it well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutgoingMessage {
    pub(crate) letter: Letter,
    /// When the app handed it over, since the node's start.
    pub(crate) accepted_at: Duration,
    /// Time the node has slept since then, which its clock doesn't count and the message's time to live does.
    pub(crate) slept: Duration,
    /// A post, whose frame is signed already: everybody passes it on as it is. `None` for what goes by the lanes, which
    /// sign what leaves together.
    pub(crate) signed: Option<Box<Post>>,
    /// Mailboxes that keep a copy of it.
    pub(crate) kept: Option<Box<KeptAt>>,
}

/// Where a copy of a message is kept for a recipient that is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptAt {
    /// The mailboxes, at least one.
    pub(crate) at: Vec<PeerId>,
    /// For how long, on the node's clock.
    pub(crate) until: Duration,
}

impl OutgoingMessage {
    /// What is left of its time to live, if it has one.
    pub(crate) fn time_left(&self, now: Duration) -> Option<Duration> {
        let ttl = self.letter.ttl?;
        Some((self.accepted_at + ttl).saturating_sub(self.slept + now))
    }

    /// When it is not worth delivering any more: after its time to live or the general time-out; when a mailbox keeps
    /// it, after its time to live, or as long as that does.
    pub(crate) fn end(&self, timeout: Duration) -> Duration {
        let own = self.letter.ttl.map(|ttl| self.accepted_at + ttl.saturating_sub(self.slept));
        let general = self.accepted_at + timeout;
        match &self.kept {
            Some(kept) => own.unwrap_or(kept.until.max(general)),
            None => own.map_or(general, |own| own.min(general)),
        }
    }

    /// Whether it may end at another time than the general time-out.
    pub(crate) fn has_own_end(&self) -> bool {
        self.letter.ttl.is_some() || self.kept.is_some()
    }
}

/// A search that the driver carries out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Search {
    /// Walk the DHT towards a peer.
    Peer(PeerId),
    /// Walk the DHT towards this node, which fills the routing table.
    Neighbourhood,
}

/// What identify tells of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerFacts {
    pub(crate) agent: String,
    pub(crate) addresses: Vec<Multiaddr>,
    /// Whether it belongs to our network; `None` when it is no cpc-net node and so belongs to none.
    pub(crate) same_network: Option<bool>,
    pub(crate) speaks_cpc: bool,
    pub(crate) relay: bool,
    /// Whether it can be asked, over a circuit, for a WebRTC connection.
    pub(crate) signals_webrtc: bool,
    /// Whether it keeps mail for others.
    pub(crate) mailbox: bool,
}

/// Facts and the app's wishes.
#[derive(Debug)]
pub(crate) enum Input {
    Connect(ConnectRequest),
    Disconnect {
        request: RequestId,
        peer: PeerId,
    },
    Send {
        peer: PeerId,
        message: OutgoingMessage,
    },
    BroadcastNeighbors {
        message: OutgoingMessage,
    },
    /// A post to all or to a group.
    Post {
        message: OutgoingMessage,
    },
    /// A broadcast to these peers and nobody else.
    BroadcastDirected {
        peers: Vec<PeerId>,
        message: OutgoingMessage,
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
    /// Shutdown begins: what is queued is sent, nothing new is begun.
    Drain,
    /// What an earlier run has left. Comes first, if at all.
    Restored(Box<Restored>),
    /// The journal has kept all rounds up to this one; `failing` says why it can keep no more for now.
    Journal {
        stored: u64,
        failing: Option<String>,
    },
    /// The app has confirmed all messages up to this serial number.
    Confirmed {
        serial: u64,
    },

    LinkOpened {
        peer: PeerId,
        link: Link,
        dial: Option<DialId>,
    },
    LinkClosed {
        peer: PeerId,
        link: LinkId,
        reason: String,
    },
    DialFailed {
        dial: DialId,
        reason: String,
    },
    Identified {
        peer: PeerId,
        facts: PeerFacts,
    },
    Pinged {
        peer: PeerId,
        link: LinkId,
        latency: Duration,
    },
    PingFailed {
        link: LinkId,
    },
    /// A connection did not answer [`Output::Probe`].
    ProbeFailed {
        link: LinkId,
    },
    /// The node goes on after having slept so long, or its network is another one. Comes before all that happened
    /// meanwhile.
    Woken {
        slept: Duration,
    },
    /// Whether there is a network.
    Online(bool),
    /// What a connection's lanes have brought, in the order in which it was read.
    Frames {
        peer: PeerId,
        link: LinkId,
        batch: Vec<Result<Incoming, Rejection>>,
        bytes: usize,
    },
    /// A post that a stranger's gossip brought.
    Gossiped {
        source: PeerId,
        /// Names the post in [`Output::Judge`].
        ticket: u64,
        result: Box<Result<(Post, Frame), Rejection>>,
    },
    /// A post that [`Output::Verify`] named has been verified.
    Verified {
        from: PeerId,
        id: PostId,
        result: Box<Result<Frame, Rejection>>,
    },
    /// So many of what was handed to a lane of a connection were written, oldest first.
    Written {
        peer: PeerId,
        link: LinkId,
        priority: Priority,
        count: usize,
        bytes: usize,
    },
    /// A lane broke, and with it so many of what was handed to it, written or not. Its connection stands; when that
    /// ends, [`Input::LinkClosed`] says so for all its lanes.
    Lost {
        peer: PeerId,
        link: LinkId,
        priority: Priority,
        count: usize,
    },
    Unsupported {
        peer: PeerId,
    },
    /// A stranger took the post.
    Published {
        nonce: u64,
        priority: Priority,
    },
    /// Nobody took the post.
    PublishFailed {
        message: OutgoingMessage,
    },
    /// A post could not leave, and can't be tried again.
    PublishDropped,
    /// A stranger takes part in gossip, whatever it listens to.
    StrangerListens,
    /// A stranger listens to a topic.
    Subscribed {
        topic: Topic,
    },
    Discovered {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: DiscoverySource,
    },
    SearchFinished {
        search: Search,
    },
    Listening {
        address: Multiaddr,
    },
    /// `reservation` names the relay when what closed was a place at it.
    ListenClosed {
        addresses: Vec<Multiaddr>,
        reservation: Option<PeerId>,
        reason: String,
    },
    OwnRecord {
        record: SignedRecord,
    },
    /// Something of a transfer.
    Transfer(TransferInput),
    /// A neighbour did what it must not, outside its lanes.
    Rejected {
        peer: PeerId,
        rejection: Rejection,
    },
    /// Received messages were dropped because no subscriber took them in time.
    Missed {
        count: u64,
    },
    Tick,
}

/// What becomes of a post that came by gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GossipVerdict {
    /// New and good: others get it too.
    PassOn,
    /// Of no use to others; nobody is blamed.
    Ignore,
    /// Bad; gossip blames whoever passed it on.
    Reject,
}

/// Wishes to the world.
#[derive(Debug, PartialEq)]
pub(crate) enum Output {
    Dial {
        dial: DialId,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    },
    CloseLink(LinkId),
    /// Ask whether a connection still lives. A [`Input::Pinged`] or a [`Input::ProbeFailed`] follows soon.
    Probe(LinkId),
    ClosePeer(PeerId),
    /// A message, by this connection. One that is gone meanwhile is told by [`Input::LinkClosed`].
    Transmit {
        peer: PeerId,
        link: LinkId,
        letter: Letter,
        /// How long it is still worth writing, for one with a time to live; it may wait for its lane longer than that.
        left: Option<Duration>,
    },
    /// A note to a mailbox, by this connection; part of it is to be signed and sealed.
    Mail {
        peer: PeerId,
        link: LinkId,
        note: ToMailbox,
    },
    /// A frame below the app, by this connection.
    Control {
        peer: PeerId,
        link: LinkId,
        content: ControlContent,
    },
    /// Hand a post on to a connected peer.
    Forward {
        peer: PeerId,
        link: LinkId,
        priority: Priority,
        frame: Bytes,
        hops: u32,
    },
    /// Check a post's signature, and bring the result as [`Input::Verified`].
    Verify {
        from: PeerId,
        post: Post,
    },
    /// Whether to exchange gossip with a peer: strangers know nothing else, nodes of this network spread posts by lanes.
    Gossip {
        peer: PeerId,
        on: bool,
    },
    /// Publish a post by gossip, since no neighbour takes part in its topic; tell whether a stranger does.
    Publish {
        message: OutgoingMessage,
    },
    /// Publish by gossip what spreads by lanes, if strangers listen.
    Bridge {
        post: Post,
        hops: u32,
    },
    /// What becomes of a post that came by gossip.
    Judge {
        ticket: u64,
        verdict: GossipVerdict,
    },
    Subscribe(Topic),
    Unsubscribe(Topic),
    Search(Search),
    /// Reserve a place at a relay, at its address.
    Reserve {
        relay: PeerId,
        address: Multiaddr,
    },
    /// Sign a record of these addresses and bring it as [`Input::OwnRecord`].
    SignRecord {
        addresses: Vec<Multiaddr>,
    },
    Transfer(TransferOutput),
    Event(NetworkEvent),
    Deliver(ReceivedMessage),
    /// Hand a message over that is kept until the app has confirmed it.
    HandOver {
        serial: u64,
        message: ReceivedMessage,
    },
    /// Write changes, all or none. An [`Input::Journal`] follows once they are kept.
    Store {
        round: u64,
        changes: Vec<Change>,
        haste: Haste,
    },
    /// The message of a receipt is kept, and so accepted.
    Accepted {
        nonce: u64,
    },
    Receipt {
        nonce: u64,
        state: ReceiptState,
    },
    Answer {
        request: RequestId,
        result: Result<PeerId, ConnectError>,
    },
    /// Everything that could be sent has been; the node may stop.
    Drained,
}
