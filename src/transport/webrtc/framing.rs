//! The framing of one stream over a data channel (libp2p specs, webrtc/README.md, "Multiplexing"), without IO.
//!
//! Invariant: each half is in exactly one state, a half that has ended never opens again, and each flag is sent at most
//! once, whatever the other side does.
//!
//! A data channel has no half-close and loses what is on its way when it is closed. So flags say what a stream needs:
//! FIN ends a half and is answered by FIN_ACK, and only then the channel may go.

use std::{collections::VecDeque, io};

use bytes::{Buf as _, Bytes};
use prost::{
    Message as _,
    encoding::{self, WireType},
};

use super::assembly::Assembly;

/// The largest data-channel message that is sent, bytes: a frame with its length before it (spec, "Multiplexing").
pub(crate) const MAX_MESSAGE: usize = 16 * 1024;

/// The largest data-channel message that is taken, bytes: what a browser is willing to send at all.
pub(super) const MAX_RECEIVED: usize = 256 * 1024;

/// The frame's length, its two tags, the flag and the payload's length.
const OVERHEAD: usize = 3 + 2 + 1 + 3;

/// The largest payload of a frame, bytes.
pub(super) const MAX_PAYLOAD: usize = MAX_MESSAGE - OVERHEAD;

/// What may wait to be read, counted as [`cost`]. Data channels don't let a receiver slow its sender down, so this is all that can
/// come before the reader has had its turn: the largest SCTP window in use (5 MiB, Chromium's), with room to spare.
/// Above it the stream is reset.
pub(super) const MAX_UNREAD: usize = 8 * 1024 * 1024;

/// What keeping a payload costs beside its bytes: without it, a flood of tiny frames would fill the memory before it
/// reached the bound.
const KEEPING: usize = 128;

fn cost(payload: &Bytes) -> usize {
    payload.len() + KEEPING
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Flag {
    /// The sender has sent all.
    Fin = 0,
    /// The sender reads no more.
    StopSending = 1,
    /// The sender gave the stream up.
    ResetStream = 2,
    /// A FIN has arrived.
    FinAck = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(enumeration = "Flag", optional, tag = "1")]
    flag: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    message: Option<Bytes>,
}

/// How a peer broke the framing. Its stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    #[error("the peer sent a message that is no frame; it may speak another version of WebRTC streams")]
    Garbage,
    #[error("the peer sent more than may wait to be read; read the stream faster, or ask for less at once")]
    Unread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// FIN has come.
    Ended,
    /// We read no more.
    Stopped,
    /// One side gave the stream up.
    Reset(Option<FramingError>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// FIN was sent.
    Finishing,
    /// FIN was answered.
    Finished,
    /// The other side reads no more.
    Stopped,
    Reset(Option<FramingError>),
}

/// One stream's state.
#[derive(Debug)]
pub(super) struct Framing {
    reading: Reading,
    writing: Writing,
    assembly: Assembly,
    unread: VecDeque<Bytes>,
    /// What `unread` costs.
    held: usize,
    /// Each flag at most once in the stream's life.
    to_send: VecDeque<Flag>,
    acknowledged_fin: bool,
}

/// Facts in.
impl Framing {
    pub(super) fn new() -> Self {
        Self {
            reading: Reading::Open,
            writing: Writing::Open,
            assembly: Assembly::new(),
            unread: VecDeque::new(),
            held: 0,
            to_send: VecDeque::new(),
            acknowledged_fin: false,
        }
    }

    /// Takes one data-channel message.
    ///
    /// # Errors
    /// When it breaks the framing; the stream is reset then.
    pub(super) fn receive(&mut self, mut message: Bytes) -> Result<(), FramingError> {
        let result = (|| {
            if message.len() > MAX_RECEIVED {
                return Err(FramingError::Garbage);
            }
            let whole = message.len();
            while let Some(frame) = self.assembly.next(&mut message)? {
                self.receive_frame(Frame::decode(frame).map_err(|_| FramingError::Garbage)?, whole)?;
            }
            Ok(())
        })();
        if let Err(error) = result {
            self.refuse(error);
        }
        result
    }

    /// Gives the stream up for what the peer did.
    pub(super) fn refuse(&mut self, error: FramingError) {
        self.assembly = Assembly::new();
        self.forget_unread();
        self.give_up(Some(error));
    }

    fn forget_unread(&mut self) {
        self.unread.clear();
        self.held = 0;
    }

    /// `whole`: the size of the message that the frame came in.
    fn receive_frame(&mut self, frame: Frame, whole: usize) -> Result<(), FramingError> {
        if let Some(payload) = frame.message
            && !payload.is_empty()
            && self.reading == Reading::Open
        {
            // A payload is a part of its message and would keep all of it.
            let payload = if payload.len() < whole / 2 { Bytes::copy_from_slice(&payload) } else { payload };
            self.held += cost(&payload);
            if self.held > MAX_UNREAD {
                return Err(FramingError::Unread);
            }
            self.unread.push_back(payload);
        }
        // Flags of later versions mean nothing to us, as in any protobuf.
        match frame.flag.and_then(|flag| Flag::try_from(flag).ok()) {
            Some(Flag::Fin) => {
                if matches!(self.reading, Reading::Open | Reading::Stopped) {
                    self.reading = Reading::Ended;
                }
                if !std::mem::replace(&mut self.acknowledged_fin, true) {
                    self.to_send.push_back(Flag::FinAck);
                }
            }
            Some(Flag::StopSending) => {
                if matches!(self.writing, Writing::Open | Writing::Finishing) {
                    self.writing = Writing::Stopped;
                }
            }
            Some(Flag::ResetStream) => {
                // What had come before stays readable.
                if matches!(self.reading, Reading::Open | Reading::Stopped) {
                    self.reading = Reading::Reset(None);
                }
                if matches!(self.writing, Writing::Open | Writing::Finishing) {
                    self.writing = Writing::Reset(None);
                }
            }
            Some(Flag::FinAck) if self.writing == Writing::Finishing => self.writing = Writing::Finished,
            Some(Flag::FinAck) | None => {}
        }
        Ok(())
    }

    /// The channel is gone: nothing comes any more, nothing can be sent.
    pub(super) fn channel_closed(&mut self) {
        self.to_send.clear();
        if matches!(self.reading, Reading::Open | Reading::Stopped) {
            self.reading = Reading::Reset(None);
        }
        self.writing = match self.writing {
            Writing::Open => Writing::Reset(None),
            // An implementation that knows no FIN_ACK closes instead.
            Writing::Finishing => Writing::Finished,
            other => other,
        };
    }
}

/// Wishes in.
impl Framing {
    /// Frames up to [`MAX_PAYLOAD`] bytes, to be sent at once.
    ///
    /// # Errors
    /// When this half is closed, or the other side reads no more.
    pub(super) fn frame(&mut self, payload: &[u8]) -> io::Result<Vec<u8>> {
        self.check_writable()?;
        debug_assert!(payload.len() <= MAX_PAYLOAD, "cut by the stream");
        // By hand, since the payload would be copied once more into a `Frame`.
        let mut message = Vec::with_capacity(OVERHEAD + payload.len());
        let length = encoding::encoded_len_varint(payload.len() as u64);
        encoding::encode_varint((1 + length + payload.len()) as u64, &mut message);
        encoding::encode_key(2, WireType::LengthDelimited, &mut message);
        encoding::encode_varint(payload.len() as u64, &mut message);
        message.extend_from_slice(payload);
        Ok(message)
    }

    /// Whether bytes may be written.
    ///
    /// # Errors
    /// When this half is closed, or the other side reads no more.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        match self.writing {
            Writing::Open => Ok(()),
            Writing::Finishing | Writing::Finished => {
                Err(io::Error::new(io::ErrorKind::BrokenPipe, "this side has closed the stream for writing"))
            }
            Writing::Stopped => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the peer reads this stream no more")),
            Writing::Reset(error) => Err(reset(error)),
        }
    }

    /// Ends the writing half.
    pub(super) fn finish(&mut self) {
        if self.writing == Writing::Open {
            self.writing = Writing::Finishing;
            self.to_send.push_back(Flag::Fin);
        }
    }

    /// Nobody will read or write any more: what is still open is given up.
    pub(super) fn let_go(&mut self) {
        self.forget_unread();
        if self.writing == Writing::Open {
            self.give_up(None);
        } else if self.reading == Reading::Open {
            self.reading = Reading::Stopped;
            self.to_send.push_back(Flag::StopSending);
        }
    }

    fn give_up(&mut self, error: Option<FramingError>) {
        if !matches!(self.writing, Writing::Reset(_)) || !matches!(self.reading, Reading::Reset(_)) {
            self.to_send.push_back(Flag::ResetStream);
        }
        self.reading = Reading::Reset(error);
        self.writing = Writing::Reset(error);
    }
}

/// Polls out.
impl Framing {
    /// Moves what has come into `buffer`. `Some(0)` is the end, `None` that nothing has come yet.
    ///
    /// # Errors
    /// When one side gave the stream up; after all that had come before.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if buffer.is_empty() {
            return Ok(Some(0));
        }
        let mut read = 0;
        while let Some(first) = self.unread.front_mut() {
            let count = first.len().min(buffer.len() - read);
            first.copy_to_slice(&mut buffer[read..read + count]);
            read += count;
            self.held -= count;
            if !first.is_empty() {
                break;
            }
            self.unread.pop_front();
            self.held -= KEEPING;
        }
        if read > 0 {
            return Ok(Some(read));
        }
        match self.reading {
            Reading::Open => Ok(None),
            Reading::Ended | Reading::Stopped => Ok(Some(0)),
            Reading::Reset(error) => Err(reset(error)),
        }
    }

    /// The next flag to send, as a message.
    pub(super) fn next_control(&mut self) -> Option<Vec<u8>> {
        let flag = self.to_send.pop_front()?;
        Some(Frame { flag: Some(flag.into()), message: None }.encode_length_delimited_to_vec())
    }

    /// What waits to be read, and what keeping it costs, bytes.
    pub(super) fn held(&self) -> usize {
        self.held + self.assembly.held()
    }

    /// FIN was sent and has not been answered.
    pub(super) fn is_finishing(&self) -> bool {
        self.writing == Writing::Finishing
    }

    /// Both halves have ended and nothing is left to say: the channel may be closed.
    pub(super) fn is_over(&self) -> bool {
        self.to_send.is_empty()
            && self.reading != Reading::Open
            && !matches!(self.writing, Writing::Open | Writing::Finishing)
    }
}

fn reset(error: Option<FramingError>) -> io::Error {
    match error {
        Some(error) => io::Error::new(io::ErrorKind::ConnectionReset, error),
        None => io::Error::new(io::ErrorKind::ConnectionReset, "the stream was given up"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flag: Option<Flag>, payload: &[u8]) -> Bytes {
        let message = (!payload.is_empty()).then(|| Bytes::copy_from_slice(payload));
        Frame { flag: flag.map(i32::from), message }.encode_length_delimited_to_vec().into()
    }

    fn flag(flag: Flag) -> Bytes {
        message(Some(flag), b"")
    }

    fn flags_of(framing: &mut Framing) -> Vec<Flag> {
        std::iter::from_fn(|| framing.next_control())
            .map(|message| {
                let frame = Frame::decode_length_delimited(message.as_slice()).expect("a frame");
                frame.flag()
            })
            .collect()
    }

    fn read(framing: &mut Framing) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = [0; 8];
        Ok(framing.read(&mut buffer)?.map(|count| buffer[..count].to_vec()))
    }

    #[test]
    fn the_bytes_on_the_wire_are_those_of_the_spec() {
        let mut framing = Framing::new();
        assert_eq!(framing.frame(b"hi").expect("open"), [4, 0x12, 2, b'h', b'i']);
        framing.finish();
        assert_eq!(framing.next_control().expect("FIN"), [2, 0x08, 0]);
        framing.receive(Bytes::from_static(&[6, 0x08, 0, 0x12, 2, b'y', b'o'])).expect("FIN with a payload");
        assert_eq!(framing.next_control().expect("FIN_ACK"), [2, 0x08, 3]);
        assert_eq!(read(&mut framing).expect("data"), Some(b"yo".to_vec()));
        assert_eq!(read(&mut framing).expect("the end"), Some(Vec::new()));
    }

    #[test]
    fn the_largest_frame_fills_a_message_and_no_more() {
        let message = Framing::new().frame(&vec![7; MAX_PAYLOAD]).expect("open");
        assert!(message.len() <= MAX_MESSAGE && message.len() > MAX_MESSAGE - OVERHEAD, "{}", message.len());
    }

    #[test]
    fn a_half_that_is_closed_leaves_the_other_open() {
        let mut framing = Framing::new();
        framing.finish();
        assert_eq!(flags_of(&mut framing), [Flag::Fin]);
        assert!(framing.frame(b"late").is_err());
        framing.receive(flag(Flag::FinAck)).expect("good");
        framing.receive(message(None, b"answer")).expect("good");
        assert_eq!(read(&mut framing).expect("data"), Some(b"answer".to_vec()));
        assert_eq!(read(&mut framing).expect("open"), None);
        assert!(!framing.is_over());
        framing.receive(flag(Flag::Fin)).expect("good");
        assert!(!framing.is_over(), "the FIN is not answered yet");
        assert_eq!(flags_of(&mut framing), [Flag::FinAck]);
        assert!(framing.is_over());
    }

    #[test]
    fn a_fin_is_answered_once_however_often_it_comes() {
        let mut framing = Framing::new();
        for _ in 0..5 {
            framing.receive(flag(Flag::Fin)).expect("good");
        }
        assert_eq!(flags_of(&mut framing), [Flag::FinAck]);
    }

    #[test]
    fn what_came_before_a_reset_can_be_read() {
        let mut framing = Framing::new();
        framing.receive(message(None, b"last")).expect("good");
        framing.receive(flag(Flag::ResetStream)).expect("good");
        assert_eq!(read(&mut framing).expect("data"), Some(b"last".to_vec()));
        let error = read(&mut framing).expect_err("reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(framing.frame(b"x").expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
        assert!(framing.is_over());
        assert_eq!(flags_of(&mut framing), []);
    }

    #[test]
    fn a_peer_that_reads_no_more_breaks_only_the_writing() {
        let mut framing = Framing::new();
        framing.receive(flag(Flag::StopSending)).expect("good");
        assert_eq!(framing.frame(b"x").expect_err("stopped").kind(), io::ErrorKind::BrokenPipe);
        framing.receive(message(None, b"still")).expect("good");
        assert_eq!(read(&mut framing).expect("data"), Some(b"still".to_vec()));
    }

    #[test]
    fn who_lets_an_open_stream_go_resets_it_and_who_has_finished_stops_the_other() {
        let mut open = Framing::new();
        open.let_go();
        assert_eq!(flags_of(&mut open), [Flag::ResetStream]);
        assert!(open.is_over());

        let mut finished = Framing::new();
        finished.finish();
        finished.let_go();
        assert_eq!(flags_of(&mut finished), [Flag::Fin, Flag::StopSending]);
        assert!(!finished.is_over(), "the FIN waits for its answer");
        finished.receive(flag(Flag::FinAck)).expect("good");
        assert!(finished.is_over());
    }

    #[test]
    fn more_than_the_bound_of_unread_bytes_resets_the_stream_and_frees_them() {
        let mut framing = Framing::new();
        let large = message(None, &vec![1; 200_000]);
        let error = (0..100).find_map(|_| framing.receive(large.clone()).err()).expect("a bound");
        assert_eq!(error, FramingError::Unread);
        assert_eq!(flags_of(&mut framing), [Flag::ResetStream]);
        assert_eq!(framing.held(), 0);
        assert!(read(&mut framing).expect_err("reset").to_string().contains("wait to be read"));
    }

    #[test]
    fn tiny_frames_count_for_what_they_cost_and_no_payload_keeps_its_whole_message() {
        let mut framing = Framing::new();
        let refused = (0..MAX_UNREAD).find(|_| framing.receive(message(None, b"x")).is_err()).expect("a bound");
        assert!(refused < MAX_UNREAD / 100, "{refused} frames of one byte were kept");

        // One byte, and then flags without end.
        let mut sly = message(None, b"x").to_vec();
        sly.extend([2, 0x08, 9].repeat(10_000));
        let sly = Bytes::from(sly);
        let mut framing = Framing::new();
        framing.receive(sly.clone()).expect("good");
        assert!(sly.is_unique(), "the message was kept for its one byte");
        assert_eq!(read(&mut framing).expect("data"), Some(b"x".to_vec()));
        assert_eq!(framing.held(), 0);
    }

    #[test]
    fn garbage_resets_the_stream() {
        for garbage in [&[1, 0x12][..], &[5, 0x12, 9, 1, 2, 3], &[0xff; 40], &[2, 0x0f, 1]] {
            let mut framing = Framing::new();
            assert_eq!(framing.receive(Bytes::from_static(garbage)), Err(FramingError::Garbage), "{garbage:?}");
            assert_eq!(flags_of(&mut framing), [Flag::ResetStream]);
            assert!(framing.is_over());
        }
    }

    #[test]
    fn a_frame_that_is_half_here_is_counted_and_survives_that_nobody_reads_any_more() {
        let mut framing = Framing::new();
        framing.receive(Bytes::from_static(&[6, 0x08, 0, 0x12])).expect("half a frame");
        assert_eq!(framing.held(), 3);
        framing.finish();
        framing.let_go();
        framing.receive(Bytes::from_static(&[2, b'y', b'o', 2, 0x08, 3])).expect("the rest, and a FIN_ACK");
        assert_eq!(flags_of(&mut framing), [Flag::Fin, Flag::StopSending, Flag::FinAck]);
        assert_eq!(framing.held(), 0);
        assert!(framing.is_over());
    }

    #[test]
    fn unknown_flags_and_fields_mean_nothing() {
        let mut framing = Framing::new();
        framing.receive(Bytes::from_static(&[2, 0x08, 9])).expect("a flag of later");
        framing.receive(Bytes::from_static(&[4, 0x1a, 2, 1, 2])).expect("a field of later");
        assert_eq!(read(&mut framing).expect("open"), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_it_stays_bounded_and_ends(messages: Vec<Vec<u8>>, close: bool) {
            let mut framing = Framing::new();
            let mut flags = Vec::new();
            for bytes in messages {
                let _ = framing.receive(bytes.into());
                flags.extend(flags_of(&mut framing));
            }
            if close { framing.finish() }
            framing.let_go();
            flags.extend(flags_of(&mut framing));
            framing.channel_closed();
            proptest::prop_assert!(framing.is_over());
            let before = flags.len();
            flags.sort();
            flags.dedup();
            proptest::prop_assert_eq!(before, flags.len(), "each flag once");
        }
    }
}
