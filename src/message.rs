//! What travels: messages, their identity, priority and reach.
//!
//! Plain types without behaviour on the network. How they look on the wire is `proto/cpc.proto`'s and [`crate::wire`]'s
//! concern.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use crate::error::parse::ParseError;

/// How urgent a message is. Each priority has its own queue and its own lane on the wire, so urgent messages overtake
/// bulky ones instead of waiting behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Priority {
    /// Bulk and background: first to wait.
    Low,
    /// Everyday messages.
    #[default]
    Medium,
    /// What a person is waiting for.
    High,
}

impl Priority {
    /// All priorities, the most urgent first.
    pub const ALL: [Priority; 3] = [Priority::High, Priority::Medium, Priority::Low];

    /// A dense index, 0 for [`Priority::High`] to 2 for [`Priority::Low`], in the order of [`Priority::ALL`].
    pub(crate) fn lane(self) -> usize {
        match self {
            Priority::High => 0,
            Priority::Medium => 1,
            Priority::Low => 2,
        }
    }
}

/// What a message is for: the `EVENT`, `DISCOVERY` and `CONTROL` types of the wire, each with its kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum MessageKind {
    /// An `EVENT` with nothing said below its type; what a post, a chat line or a five-field implementation sends.
    #[default]
    Event,
    /// `EVENT`: the app's own data.
    Data,
    /// `EVENT`: changes to replicated data.
    DataSync,
    /// `EVENT`: an agreement protocol's message.
    Consensus,
    /// A `DISCOVERY` message with nothing said below its type.
    Discovery,
    /// `DISCOVERY`: the app's greeting.
    Hello,
    /// A `CONTROL` message with nothing said below its type.
    Control,
    /// `CONTROL`: a sign of life at the app's level.
    Heartbeat,
    /// A kind that this version does not know; the number is the wire's. Received only, never sent.
    Unknown(i32),
}

/// A message to send: a kind, a payload, and how long it stays worth delivering.
///
/// ```
/// use cpc_net::{Message, MessageKind};
/// use std::time::Duration;
///
/// let post = Message::event("hello");
/// let typing = Message::new(MessageKind::Data, "typing…").with_ttl(Duration::from_secs(5));
/// assert_eq!(post.payload(), &b"hello"[..]);
/// assert_eq!(typing.ttl(), Some(Duration::from_secs(5)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    kind: MessageKind,
    payload: Bytes,
    ttl: Option<Duration>,
    propagation: Option<Propagation>,
}

impl Message {
    /// A message of the given kind. The payload's limit is
    /// [`LimitsConfig::max_payload`](crate::config::LimitsConfig::max_payload), checked when it is sent.
    pub fn new(kind: MessageKind, payload: impl Into<Bytes>) -> Self {
        Self { kind, payload: payload.into(), ttl: None, propagation: None }
    }

    /// User-generated content: [`MessageKind::Event`].
    pub fn event(payload: impl Into<Bytes>) -> Self {
        Self::new(MessageKind::Event, payload)
    }

    /// Lets the message expire: after this long it is not delivered any more, wherever it waits. The wire counts whole
    /// milliseconds; less than one counts as one, and at most some 49 days can be said.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How it spreads when it is broadcast to all or to a group; elsewhere it means nothing. Without it
    /// [`strategy`](crate::config::PropagationConfig::strategy) decides.
    #[must_use]
    pub fn with_propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self
    }

    /// What the message is for.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The content.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// How long it stays worth delivering; `None` means as long as the network's own limits allow.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// How it spreads, when it says so itself.
    pub fn propagation(&self) -> Option<&Propagation> {
        self.propagation.as_ref()
    }
}

/// How a broadcast to all or to a group spreads.
///
/// ```
/// use cpc_net::{Message, Propagation};
///
/// let alarm = Message::event("fire").with_propagation(Propagation::Flood);
/// assert_eq!(alarm.propagation(), Some(&Propagation::Flood));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Propagation {
    /// Along trees that form by themselves: nearly every node gets it once.
    Gossip,
    /// Every node passes it on to all its neighbours.
    Flood,
    /// To these peers and nobody else, by the way that direct messages take: 1 to 256. Nobody passes it on.
    Directed(#[cfg_attr(feature = "typescript", ts(type = "string[]"))] Vec<PeerId>),
}

impl Propagation {
    /// The most peers that can be named.
    pub const MAX_DIRECTED: usize = 256;
}

/// Whom a broadcast reaches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum BroadcastScope {
    /// Every node of the network.
    All,
    /// Only the peers connected right now, by the lanes.
    Neighbors,
    /// The members of one group.
    Group(GroupName),
}

/// The name of a group: 1 to 64 characters out of letters, digits, `-`, `_` and `.`.
///
/// ```
/// use cpc_net::GroupName;
///
/// assert!("book-club".parse::<GroupName>().is_ok());
/// assert!("no spaces".parse::<GroupName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(type = "string"))]
pub struct GroupName(String);

impl GroupName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = ParseError;

    fn from_str(name: &str) -> Result<Self, ParseError> {
        let well_formed = (1..=Self::MAX_LEN).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if well_formed {
            Ok(Self(name.to_owned()))
        } else {
            Err(ParseError::new("group name", name, "1 to 64 letters, digits, '-', '_' or '.'"))
        }
    }
}

impl TryFrom<String> for GroupName {
    type Error = ParseError;

    fn try_from(name: String) -> Result<Self, ParseError> {
        name.parse()
    }
}

impl From<GroupName> for String {
    fn from(name: GroupName) -> Self {
        name.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The identity of a message: who made it and the maker's nonce. Unique for ever, as nonces rise across restarts.
///
/// Its text form is `<peer id>/<nonce>`, which is also how JSON and JavaScript see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(type = "string"))]
pub struct MessageId {
    /// The author.
    #[cfg_attr(feature = "typescript", ts(type = "string"))]
    pub sender: PeerId,
    /// The author's nonce.
    pub nonce: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.sender, self.nonce)
    }
}

impl FromStr for MessageId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.split_once('/')
            .and_then(|(sender, nonce)| Some(Self { sender: sender.parse().ok()?, nonce: nonce.parse().ok()? }))
            .ok_or_else(|| ParseError::new("message id", text, "<peer id>/<nonce>"))
    }
}

impl Serialize for MessageId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who vouches for the sender of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Authenticity {
    /// The sender's own signature, checked.
    Signed,
    /// Only the connection it came by, whose other end the transport has authenticated: an implementation that knows
    /// just CPC's five fields sent it.
    Connection,
}

/// A message that has arrived: checked, not seen before, not expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct ReceivedMessage {
    /// Its identity.
    pub id: MessageId,
    /// Its author.
    #[cfg_attr(feature = "typescript", ts(type = "string"))]
    pub sender: PeerId,
    /// What it is for.
    pub kind: MessageKind,
    /// How urgent the author held it.
    pub priority: Priority,
    /// How it was addressed.
    pub delivery: Delivery,
    /// The author's clock when it was made, milliseconds since the Unix epoch; `None` from five-field implementations.
    #[cfg_attr(feature = "typescript", ts(type = "number | null"))]
    pub created_at: Option<u64>,
    /// Until when it is worth showing, by this node's clock, milliseconds since the Unix epoch; `None` when it has no time
    /// to live. After that a subscriber doesn't get it any more.
    #[cfg_attr(feature = "typescript", ts(type = "number | null"))]
    pub expires_at: Option<u64>,
    /// Who vouches for the author.
    pub authenticity: Authenticity,
    /// The app may have seen it before: it was handed over, but not confirmed, when the node or a subscription ended.
    pub redelivered: bool,
    /// The content.
    #[cfg_attr(feature = "typescript", ts(type = "Uint8Array"))]
    pub payload: Bytes,
}

/// How a received message was addressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum Delivery {
    /// To this node alone.
    Direct,
    /// To the sender's neighbours.
    Neighbors,
    /// To the whole network.
    All,
    /// To a group that this node has joined.
    Group(GroupName),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_reads_back_from_its_text() {
        let id = MessageId { sender: PeerId::random(), nonce: u64::MAX };
        assert_eq!(id.to_string().parse::<MessageId>().expect("own text"), id);
        let json = serde_json::to_string(&id).expect("serialisable");
        assert_eq!(serde_json::from_str::<MessageId>(&json).expect("own JSON"), id);
        for nonsense in ["", "/", "x/1", "12D3KooW/", "12D3KooW/-1"] {
            let error = nonsense.parse::<MessageId>().expect_err("nonsense");
            assert!(error.to_string().contains("<peer id>/<nonce>"), "{error}");
        }
    }

    #[test]
    fn group_names_are_bounded_and_plain() {
        for good in ["a", "Book_club-2.0", &"x".repeat(64)] {
            assert_eq!(good.parse::<GroupName>().expect("well formed").as_str(), good);
        }
        for bad in ["", "two words", "ä", "a/b", &"x".repeat(65)] {
            assert!(bad.parse::<GroupName>().is_err(), "{bad:?} must be refused");
            assert!(serde_json::from_value::<GroupName>(serde_json::json!(bad)).is_err());
        }
    }

    #[test]
    fn lanes_follow_urgency() {
        assert_eq!(Priority::ALL.map(Priority::lane), [0, 1, 2]);
        assert!(Priority::High > Priority::Medium && Priority::Medium > Priority::Low);
    }
}
