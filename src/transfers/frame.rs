//! The frames of a transfer, checked as they come and written as they go.

use bytes::Bytes;
use prost::Message as _;

use super::generated::{self as wire, TransferFrame, transfer_frame::Frame as WireFrame};
use crate::{
    event::RejectReason,
    frame::Rejection,
    transfer::{PayloadHash, TransferId, TransferOffer},
};

pub(crate) use wire::{refuse::Reason as RefuseReason, stop::Reason as StopReason};

/// The longest frame, bytes, without the chunk behind it.
pub(crate) const MAX_FRAME: usize = 8 * 1024;

/// The longest text for people, bytes.
const MAX_DETAIL: usize = 512;

/// What one side says to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Offer {
        id: TransferId,
        offer: TransferOffer,
    },
    Accept {
        offset: u64,
        prefix: [u8; 32],
        max_chunk: u64,
    },
    Refuse {
        reason: RefuseReason,
        detail: String,
    },
    /// `length` bytes follow.
    Chunk {
        offset: u64,
        length: u64,
        hash: [u8; 32],
        last: bool,
    },
    Ack {
        offset: u64,
    },
    Done {
        hash: PayloadHash,
    },
    Stop {
        reason: StopReason,
        detail: String,
        /// As the first frame of a stream: which one, and whether its sender says so.
        whom: Option<(TransferId, bool)>,
    },
    Alive,
}

impl Frame {
    /// The end, for a reason.
    pub(crate) fn stop(reason: StopReason, detail: impl Into<String>) -> Self {
        Frame::Stop { reason, detail: detail.into(), whom: None }
    }

    /// Appends the frame and its length.
    pub(crate) fn append(&self, buffer: &mut Vec<u8>) {
        let frame = TransferFrame { frame: Some(self.to_wire()) };
        frame.encode_length_delimited(buffer).expect("a vector grows");
    }

    fn to_wire(&self) -> WireFrame {
        match self {
            Frame::Offer { id, offer } => WireFrame::Offer(wire::Offer {
                id: Bytes::copy_from_slice(&id.0),
                name: offer.name.clone(),
                kind: offer.kind.clone(),
                meta: offer.meta.clone(),
                length: offer.length,
                hash: offer.hash.map(|hash| Bytes::copy_from_slice(&hash.0)).unwrap_or_default(),
            }),
            Frame::Accept { offset, prefix, max_chunk } => WireFrame::Accept(wire::Accept {
                offset: *offset,
                prefix: Bytes::copy_from_slice(prefix),
                max_chunk: u32::try_from(*max_chunk).unwrap_or(u32::MAX),
            }),
            Frame::Refuse { reason, detail } => {
                WireFrame::Refuse(wire::Refuse { reason: (*reason).into(), detail: shortened(detail) })
            }
            Frame::Chunk { offset, length, hash, last } => WireFrame::Chunk(wire::Chunk {
                offset: *offset,
                length: u32::try_from(*length).expect("chunks are shorter than 1 MiB"),
                hash: Bytes::copy_from_slice(hash),
                last: *last,
            }),
            Frame::Ack { offset } => WireFrame::Ack(wire::Ack { offset: *offset }),
            Frame::Done { hash } => WireFrame::Done(wire::Done { hash: Bytes::copy_from_slice(&hash.0) }),
            Frame::Stop { reason, detail, whom } => WireFrame::Stop(wire::Stop {
                reason: (*reason).into(),
                detail: shortened(detail),
                id: whom.map(|(id, _)| Bytes::copy_from_slice(&id.0)).unwrap_or_default(),
                by_sender: whom.is_some_and(|(_, by_sender)| by_sender),
            }),
            Frame::Alive => WireFrame::Alive(wire::Alive {}),
        }
    }

    fn decode(bytes: Bytes) -> Result<Self, Rejection> {
        let frame = TransferFrame::decode(bytes).map_err(|error| malformed(error.to_string()))?;
        Ok(match frame.frame.ok_or_else(|| malformed("a frame of a kind that nobody knows"))? {
            WireFrame::Offer(offer) => {
                let id = TransferId(exactly(&offer.id, "id")?);
                let hash = match offer.hash.is_empty() {
                    true => None,
                    false => Some(PayloadHash(exactly(&offer.hash, "hash")?)),
                };
                let (name, kind, meta, length) = (offer.name, offer.kind, offer.meta, offer.length);
                let offer = TransferOffer { name, kind, meta, length, hash };
                offer.check().map_err(|error| malformed(error.to_string()))?;
                Frame::Offer { id, offer }
            }
            WireFrame::Accept(accept) => Frame::Accept {
                offset: accept.offset,
                prefix: exactly(&accept.prefix, "prefix")?,
                max_chunk: u64::from(accept.max_chunk),
            },
            WireFrame::Refuse(refuse) => Frame::Refuse { reason: refuse.reason(), detail: shortened(&refuse.detail) },
            WireFrame::Chunk(chunk) => Frame::Chunk {
                offset: chunk.offset,
                length: u64::from(chunk.length),
                hash: exactly(&chunk.hash, "hash")?,
                last: chunk.last,
            },
            WireFrame::Ack(ack) => Frame::Ack { offset: ack.offset },
            WireFrame::Done(done) => Frame::Done { hash: PayloadHash(exactly(&done.hash, "hash")?) },
            WireFrame::Stop(stop) => {
                let whom = match stop.id.is_empty() {
                    true => None,
                    false => Some((TransferId(exactly(&stop.id, "id")?), stop.by_sender)),
                };
                Frame::Stop { reason: stop.reason(), detail: shortened(&stop.detail), whom }
            }
            WireFrame::Alive(wire::Alive {}) => Frame::Alive,
        })
    }
}

fn exactly<const LENGTH: usize>(bytes: &[u8], field: &str) -> Result<[u8; LENGTH], Rejection> {
    let wrong = |_| malformed(format!("a {field} of {} bytes instead of {LENGTH}", bytes.len()));
    bytes.try_into().map_err(wrong)
}

fn malformed(detail: impl Into<String>) -> Rejection {
    Rejection::new(RejectReason::Malformed, format!("in a transfer: {}", detail.into()))
}

fn shortened(text: &str) -> String {
    let end = (0..=MAX_DETAIL.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}

/// Bytes that have come and are not used yet.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    bytes: Vec<u8>,
    used: usize,
}

impl Arrived {
    /// Takes more in.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// The next frame, if it is there as a whole.
    ///
    /// # Errors
    /// When its length is over the limit, or it can't be understood; nothing that follows can be either.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Rejection> {
        let waiting = &self.bytes[self.used..];
        let (length, body) = match unsigned_varint::decode::usize(waiting) {
            Ok(split) => split,
            // Four bytes tell more than any frame may have.
            Err(_) if waiting.len() < 4 => return Ok(None),
            Err(error) => return Err(malformed(format!("a length that is none: {error}"))),
        };
        if length > MAX_FRAME {
            let detail = format!("a frame of a transfer claims {length} bytes, the limit is {MAX_FRAME}");
            return Err(Rejection::new(RejectReason::Oversized, detail));
        }
        if body.len() < length {
            return Ok(None);
        }
        let frame = Frame::decode(Bytes::copy_from_slice(&body[..length]))?;
        self.used += waiting.len() - body.len() + length;
        Ok(Some(frame))
    }

    /// Moves bytes of a chunk over; returns how many.
    pub(crate) fn take_into(&mut self, chunk: &mut [u8]) -> usize {
        let waiting = &self.bytes[self.used..];
        let count = waiting.len().min(chunk.len());
        chunk[..count].copy_from_slice(&waiting[..count]);
        self.used += count;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        vec![
            Frame::Offer {
                id: TransferId([7; 16]),
                offer: TransferOffer::new("a.png").kind("image/png").meta("x").length(0).hash(PayloadHash::of("x")),
            },
            Frame::Offer { id: TransferId([8; 16]), offer: TransferOffer::default() },
            Frame::Accept { offset: 16384, prefix: [3; 32], max_chunk: 65536 },
            Frame::Refuse { reason: RefuseReason::Busy, detail: "later".into() },
            Frame::Chunk { offset: 1 << 40, length: 16384, hash: [9; 32], last: true },
            Frame::Ack { offset: 5 },
            Frame::Done { hash: PayloadHash::of("") },
            Frame::stop(StopReason::Corrupt, "byte 5"),
            Frame::Stop {
                reason: StopReason::Cancelled,
                detail: String::new(),
                whom: Some((TransferId([1; 16]), true)),
            },
            Frame::Alive,
        ]
    }

    #[test]
    fn every_frame_is_read_as_it_was_written_in_whatever_pieces_it_comes() {
        let mut bytes = Vec::new();
        frames().iter().for_each(|frame| frame.append(&mut bytes));
        for size in [1, 3, 64, bytes.len()] {
            let (mut arrived, mut read) = (Arrived::default(), Vec::new());
            for piece in bytes.chunks(size) {
                arrived.push(piece);
                while let Some(frame) = arrived.next_frame().expect("well-formed") {
                    read.push(frame);
                }
            }
            assert_eq!(read, frames(), "in pieces of {size}");
            assert!(arrived.is_empty());
        }
    }

    #[test]
    fn what_is_no_frame_is_rejected_with_its_reason() {
        let offer = |change: fn(&mut wire::Offer)| {
            let mut offer = wire::Offer { id: vec![0; 16].into(), ..Default::default() };
            change(&mut offer);
            TransferFrame { frame: Some(WireFrame::Offer(offer)) }.encode_length_delimited_to_vec()
        };
        let cases: [(&str, Vec<u8>, RejectReason); 7] = [
            ("a length over the limit", vec![0xff, 0xff, 0x7f, 0], RejectReason::Oversized),
            ("a length without an end", vec![0xff; 12], RejectReason::Malformed),
            ("no kind", vec![0], RejectReason::Malformed),
            ("no protobuf", vec![3, 0xff, 0xff, 0xff], RejectReason::Malformed),
            ("a short id", offer(|offer| offer.id = vec![1; 15].into()), RejectReason::Malformed),
            ("a short hash", offer(|offer| offer.hash = vec![1; 31].into()), RejectReason::Malformed),
            ("a long name", offer(|offer| offer.name = "n".repeat(256)), RejectReason::Malformed),
        ];
        for (what, bytes, reason) in cases {
            let mut arrived = Arrived::default();
            arrived.push(&bytes);
            assert_eq!(arrived.next_frame().expect_err(what).reason, reason, "{what}");
        }
    }

    #[test]
    fn texts_of_a_peer_are_cut_to_what_people_read() {
        assert_eq!(shortened(&"ä".repeat(400)).len(), MAX_DETAIL);
        assert_eq!(shortened("short"), "short");
    }
}
