//! What the rows of the journal say, as bytes: a version, then numbers as unsigned varints, texts and payloads with their
//! length before them. A row of another version is refused as a whole; nothing is deleted for it.
//!
//! The rows are the node's own, yet a disk can rot: every length is checked before anything is allocated.

use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;

use crate::{
    frame::{Addressing, Letter, NonceRange},
    message::{Authenticity, Delivery, MessageId, MessageKind, Priority, ReceivedMessage},
};

/// The version that this code writes, and the only one it reads.
const VERSION: u8 = 1;

/// Why a row can't be read.
pub(crate) type Unreadable = String;

/// An accepted message, to its recipient.
pub(super) fn write_letter(peer: &PeerId, letter: &Letter) -> Bytes {
    let mut row = Writer::new(letter.payload.len() + 80);
    row.bytes(&peer.to_bytes());
    row.number(letter.nonce);
    row.kind(letter.kind);
    row.priority(letter.priority);
    row.number(letter.created_at);
    row.number(letter.ttl.map_or(0, |ttl| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX)));
    row.bytes(&letter.payload);
    row.0.into()
}

/// The recipient and the message.
pub(super) fn read_letter(row: &Bytes) -> Result<(PeerId, Letter), Unreadable> {
    let mut row = Reader::new(row)?;
    let peer = row.peer()?;
    let letter = Letter {
        nonce: row.number()?,
        kind: row.kind()?,
        priority: row.priority()?,
        addressing: Addressing::Peer(peer),
        created_at: row.number()?,
        ttl: Some(row.number()?).filter(|nanos| *nanos > 0).map(Duration::from_nanos),
        payload: row.bytes()?,
    };
    row.end()?;
    Ok((peer, letter))
}

/// Received direct messages, one after the other.
pub(super) fn write_received(messages: &[ReceivedMessage]) -> Bytes {
    let mut row = Writer::new(messages.iter().map(|message| message.payload.len() + 80).sum());
    row.number(messages.len() as u64);
    for message in messages {
        row.bytes(&message.sender.to_bytes());
        row.number(message.id.nonce);
        row.kind(message.kind);
        row.priority(message.priority);
        // 0 stands for none, so all others move up by one.
        row.number(message.created_at.map_or(0, |created_at| created_at.saturating_add(1)));
        row.number(message.expires_at.map_or(0, |expires_at| expires_at.saturating_add(1)));
        row.number(u64::from(message.authenticity == Authenticity::Connection));
        row.bytes(&message.payload);
    }
    row.0.into()
}

/// The messages of a row, marked as handed over before.
pub(super) fn read_received(row: &Bytes) -> Result<Vec<ReceivedMessage>, Unreadable> {
    let mut row = Reader::new(row)?;
    let count = row.number()?;
    let mut messages = Vec::new();
    for _ in 0..count {
        let sender = row.peer()?;
        messages.push(ReceivedMessage {
            id: MessageId { sender, nonce: row.number()? },
            sender,
            kind: row.kind()?,
            priority: row.priority()?,
            delivery: Delivery::Direct,
            created_at: row.number()?.checked_sub(1),
            expires_at: row.number()?.checked_sub(1),
            authenticity: if row.number()? == 0 { Authenticity::Signed } else { Authenticity::Connection },
            redelivered: true,
            payload: row.bytes()?,
        });
    }
    row.end()?;
    Ok(messages)
}

/// What was received of a sender in one priority and by one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WindowRow {
    pub(super) sender: PeerId,
    pub(super) priority: Priority,
    pub(super) by_lane: bool,
    pub(super) floor: Option<u64>,
    /// Rising, and apart from each other.
    pub(super) ranges: Vec<NonceRange>,
    /// Nonces of a sender whose nonces don't rise, the oldest first.
    pub(super) random: Vec<u64>,
}

pub(super) fn write_window(window: &WindowRow) -> Bytes {
    let mut row = Writer::new(4 * window.ranges.len() + 10 * window.random.len() + 64);
    row.bytes(&window.sender.to_bytes());
    row.priority(window.priority);
    row.number(u64::from(window.by_lane));
    row.number(u64::from(window.floor.is_some()));
    row.number(window.floor.unwrap_or(0));
    row.number(window.ranges.len() as u64);
    let mut last = 0;
    for range in &window.ranges {
        // As distances, which are small.
        row.number(range.first.wrapping_sub(last));
        row.number(range.last.wrapping_sub(range.first));
        last = range.last;
    }
    row.number(window.random.len() as u64);
    window.random.iter().for_each(|nonce| row.number(*nonce));
    row.0.into()
}

pub(super) fn read_window(row: &Bytes) -> Result<WindowRow, Unreadable> {
    let mut row = Reader::new(row)?;
    let (sender, priority, by_lane) = (row.peer()?, row.priority()?, row.number()? != 0);
    let (has_floor, floor) = (row.number()? != 0, row.number()?);
    let count = row.number()?;
    let (mut ranges, mut random, mut next) = (Vec::<NonceRange>::new(), Vec::new(), 0_u64);
    for _ in 0..count {
        let first = next.checked_add(row.number()?);
        let last = first.and_then(|first| Some((first, first.checked_add(row.number().ok()?)?)));
        let Some((first, last)) = last else { return Err("a range of nonces has no end".to_owned()) };
        ranges.push(NonceRange { first, last });
        next = last;
    }
    let count = row.number()?;
    for _ in 0..count {
        random.push(row.number()?);
    }
    row.end()?;
    Ok(WindowRow { sender, priority, by_lane, floor: has_floor.then_some(floor), ranges, random })
}

/// Something that this node keeps for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MailRow {
    pub(crate) from: PeerId,
    pub(crate) to: PeerId,
    /// How its sender names a letter; `None` for a confirmation.
    pub(crate) ticket: Option<u64>,
    /// Milliseconds since the Unix epoch.
    pub(crate) expires_at: u64,
    pub(crate) sealed: Bytes,
}

impl MailRow {
    pub(crate) fn write(&self) -> Bytes {
        let mut row = Writer::new(self.sealed.len() + 120);
        row.bytes(&self.from.to_bytes());
        row.bytes(&self.to.to_bytes());
        row.number(u64::from(self.ticket.is_some()));
        row.number(self.ticket.unwrap_or(0));
        row.number(self.expires_at);
        row.bytes(&self.sealed);
        row.0.into()
    }

    pub(crate) fn read(row: &Bytes) -> Result<Self, Unreadable> {
        let mut row = Reader::new(row)?;
        let (from, to) = (row.peer()?, row.peer()?);
        let (has_ticket, ticket) = (row.number()? != 0, row.number()?);
        let ticket = has_ticket.then_some(ticket);
        let read = Self { from, to, ticket, expires_at: row.number()?, sealed: row.bytes()? };
        row.end()?;
        Ok(read)
    }
}

/// Where a message is kept for its recipient, and until when, milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DepositRow {
    pub(crate) at: Vec<PeerId>,
    pub(crate) until: u64,
}

impl DepositRow {
    pub(super) fn write(&self) -> Bytes {
        let mut row = Writer::new(20 + 40 * self.at.len());
        row.number(self.until);
        row.number(self.at.len() as u64);
        self.at.iter().for_each(|mailbox| row.bytes(&mailbox.to_bytes()));
        row.0.into()
    }

    pub(super) fn read(row: &Bytes) -> Result<Self, Unreadable> {
        let mut row = Reader::new(row)?;
        let (until, count, mut at) = (row.number()?, row.number()?, Vec::new());
        for _ in 0..count {
            at.push(row.peer()?);
        }
        row.end()?;
        Ok(Self { at, until })
    }
}

/// A single number.
pub(super) fn write_mark(number: u64) -> Bytes {
    let mut row = Writer::new(12);
    row.number(number);
    row.0.into()
}

pub(super) fn read_mark(row: &Bytes) -> Result<u64, Unreadable> {
    let mut row = Reader::new(row)?;
    let number = row.number()?;
    row.end()?;
    Ok(number)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut row = Vec::with_capacity(capacity);
        row.push(VERSION);
        Self(row)
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(unsigned_varint::encode::u64(number, &mut unsigned_varint::encode::u64_buffer()));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn priority(&mut self, priority: Priority) {
        self.number(priority.lane() as u64);
    }

    /// Stable numbers: an earlier version has written them.
    fn kind(&mut self, kind: MessageKind) {
        let (number, unknown) = match kind {
            MessageKind::Event => (0, None),
            MessageKind::Data => (1, None),
            MessageKind::DataSync => (2, None),
            MessageKind::Consensus => (3, None),
            MessageKind::Discovery => (4, None),
            MessageKind::Hello => (5, None),
            MessageKind::Control => (6, None),
            MessageKind::Heartbeat => (7, None),
            MessageKind::Unknown(number) => (8, Some(number)),
        };
        self.number(number);
        if let Some(unknown) = unknown {
            self.number(u64::from(unknown.cast_unsigned()));
        }
    }
}

struct Reader {
    rest: Bytes,
}

impl Reader {
    fn new(row: &Bytes) -> Result<Self, Unreadable> {
        match row.first() {
            Some(&VERSION) => Ok(Self { rest: row.slice(1..) }),
            Some(version) => Err(format!("a row is of version {version}, this cpc-net reads version {VERSION}")),
            None => Err("a row is empty".to_owned()),
        }
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        let (number, rest) = unsigned_varint::decode::u64(&self.rest).map_err(|error| format!("a number: {error}"))?;
        self.rest = self.rest.slice_ref(rest);
        Ok(number)
    }

    fn bytes(&mut self) -> Result<Bytes, Unreadable> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if length > self.rest.len() {
            return Err(format!("{length} bytes are announced, {} are there", self.rest.len()));
        }
        Ok(self.rest.split_to(length))
    }

    fn peer(&mut self) -> Result<PeerId, Unreadable> {
        PeerId::from_bytes(&self.bytes()?).map_err(|error| format!("a peer id: {error}"))
    }

    fn priority(&mut self) -> Result<Priority, Unreadable> {
        let lane = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        Priority::ALL.get(lane).copied().ok_or_else(|| format!("there is no priority {lane}"))
    }

    fn kind(&mut self) -> Result<MessageKind, Unreadable> {
        Ok(match self.number()? {
            0 => MessageKind::Event,
            1 => MessageKind::Data,
            2 => MessageKind::DataSync,
            3 => MessageKind::Consensus,
            4 => MessageKind::Discovery,
            5 => MessageKind::Hello,
            6 => MessageKind::Control,
            7 => MessageKind::Heartbeat,
            8 => {
                let number = u32::try_from(self.number()?).map_err(|_| "a kind is out of range".to_owned())?;
                MessageKind::Unknown(number.cast_signed())
            }
            other => return Err(format!("there is no kind {other}")),
        })
    }

    fn end(&self) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", self.rest.len())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = MessageKind> {
        use MessageKind::{Consensus, Control, Data, DataSync, Discovery, Event, Heartbeat, Hello, Unknown};
        let known = [Event, Data, DataSync, Consensus, Discovery, Hello, Control, Heartbeat];
        prop_oneof![proptest::sample::select(known.to_vec()), any::<i32>().prop_map(Unknown)]
    }

    fn priority() -> impl Strategy<Value = Priority> {
        proptest::sample::select(Priority::ALL.to_vec())
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
    }

    prop_compose! {
        fn letter(peer: PeerId)(
            nonce: u64, kind in kind(), priority in priority(), created_at: u64, ttl in proptest::option::of(1..u64::MAX),
            payload in bytes(),
        ) -> Letter {
            let ttl = ttl.map(Duration::from_nanos);
            Letter { nonce, kind, priority, addressing: Addressing::Peer(peer), created_at, ttl, payload }
        }
    }

    prop_compose! {
        fn received()(
            nonce: u64, kind in kind(), priority in priority(), created_at in proptest::option::of(0..u64::MAX),
            expires_at in proptest::option::of(0..u64::MAX),
            signed: bool, payload in bytes(),
        ) -> ReceivedMessage {
            let sender = PeerId::random();
            ReceivedMessage {
                id: MessageId { sender, nonce },
                sender,
                kind,
                priority,
                delivery: Delivery::Direct,
                created_at,
                expires_at,
                authenticity: if signed { Authenticity::Signed } else { Authenticity::Connection },
                redelivered: true,
                payload,
            }
        }
    }

    proptest! {
        #[test]
        fn rows_read_back(
            letter in letter(PeerId::from_bytes(&[&[0, 36, 8, 1, 18, 32][..], &[7; 32]].concat()).expect("a peer id")),
            messages in proptest::collection::vec(received(), 0..4),
            floor: Option<u64>, ends in proptest::collection::btree_set(any::<u64>(), 0..50), mark: u64,
            random in proptest::collection::vec(any::<u64>(), 0..50),
        ) {
            let Addressing::Peer(peer) = letter.addressing else { unreachable!() };
            prop_assert_eq!(read_letter(&write_letter(&peer, &letter)), Ok((peer, letter)));
            prop_assert_eq!(read_received(&write_received(&messages)), Ok(messages));
            let ends = ends.into_iter().collect::<Vec<_>>();
            let ranges = ends.chunks_exact(2).map(|ends| NonceRange { first: ends[0], last: ends[1] }).collect();
            let length = random.len();
            let window = WindowRow { sender: peer, priority: Priority::Low, by_lane: true, floor, ranges, random };
            prop_assert_eq!(read_window(&write_window(&window)), Ok(window));
            prop_assert_eq!(read_mark(&write_mark(mark)), Ok(mark));
            let (ticket, sealed) = (floor, Bytes::from(vec![7; length]));
            let mail = MailRow { from: peer, to: peer, ticket, expires_at: mark, sealed };
            prop_assert_eq!(MailRow::read(&mail.write()), Ok(mail));
            let deposit = DepositRow { at: vec![peer; length % 9], until: mark };
            prop_assert_eq!(DepositRow::read(&deposit.write()), Ok(deposit));
        }

        #[test]
        fn rotten_rows_are_refused_or_read_but_never_believed_blindly(mut row in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(version) = row.first_mut() {
                *version = VERSION;
            }
            let row = Bytes::from(row);
            // No panic, and no memory for what is only announced.
            let _ = (read_letter(&row), read_received(&row), read_window(&row), read_mark(&row));
            let _ = (MailRow::read(&row), DepositRow::read(&row));
        }
    }

    #[test]
    fn another_version_is_named() {
        let error = read_mark(&Bytes::from_static(&[9, 1])).expect_err("from the future");
        assert!(error.contains("version 9") && error.contains("version 1"), "{error}");
    }
}
