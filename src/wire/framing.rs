//! Length prefixes on a byte stream (unsigned-varint spec), sans-IO.
//!
//! Invariant: a length is checked against the limit before anything is allocated for it; the buffer never holds more
//! than the bytes pushed and not yet taken.

use bytes::{Buf, Bytes, BytesMut};

use crate::{event::RejectReason, frame::Rejection};

/// Longest length prefix that is read: 5 bytes hold 35 bits, more than any limit.
const MAX_PREFIX: usize = 5;

/// Takes bytes in as they come and gives frames out.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    buffer: BytesMut,
    limit: usize,
}

impl FrameDecoder {
    /// A decoder of frames of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit }
    }

    /// Bytes from the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes come. After an error the stream can't be read on.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Bytes>, Rejection> {
        let head = &self.buffer[..self.buffer.len().min(MAX_PREFIX)];
        let (length, prefix) = match unsigned_varint::decode::u64(head) {
            Ok((length, rest)) => (length, head.len() - rest.len()),
            Err(unsigned_varint::decode::Error::Insufficient) if head.len() < MAX_PREFIX => return Ok(None),
            Err(unsigned_varint::decode::Error::Insufficient) => {
                return Err(Rejection::new(RejectReason::Oversized, "a frame claims more than 32 GiB"));
            }
            Err(error) => {
                return Err(Rejection::new(RejectReason::Malformed, format!("the length prefix: {error}")));
            }
        };
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= self.limit) else {
            let detail = format!("a frame claims {length} bytes, the limit is {}", self.limit);
            return Err(Rejection::new(RejectReason::Oversized, detail));
        };
        if self.buffer.len() < prefix + length {
            self.buffer.reserve(prefix + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(prefix);
        let frame = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // An idle lane holds no memory.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// Whether the stream may end here: between two frames.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// Appends a frame behind its length.
pub(crate) fn append_frame(buffer: &mut Vec<u8>, frame: &[u8]) {
    let mut prefix = unsigned_varint::encode::usize_buffer();
    buffer.extend_from_slice(unsigned_varint::encode::usize(frame.len(), &mut prefix));
    buffer.extend_from_slice(frame);
}

/// The length of a frame with its prefix.
pub(crate) fn framed_len(frame: &[u8]) -> usize {
    let mut prefix = unsigned_varint::encode::usize_buffer();
    unsigned_varint::encode::usize(frame.len(), &mut prefix).len() + frame.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            append_frame(&mut bytes, frame);
        }
        bytes
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cut in 1_usize..50,
        ) {
            let mut decoder = FrameDecoder::new(300);
            let mut out = Vec::new();
            for piece in framed(&frames).chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().expect("well formed") {
                    out.push(frame.to_vec());
                }
            }
            prop_assert_eq!(out, frames);
            prop_assert!(decoder.is_between_frames());
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_it_was_given(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = FrameDecoder::new(64);
            decoder.push(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                prop_assert!(frame.len() <= 64);
            }
            prop_assert!(decoder.buffer.capacity() <= 512);
        }
    }

    #[test]
    fn a_claim_of_four_gigabytes_is_refused_before_anything_is_allocated() {
        let mut decoder = FrameDecoder::new(1024);
        let mut prefix = unsigned_varint::encode::u64_buffer();
        decoder.push(unsigned_varint::encode::u64(4 << 30, &mut prefix));
        let rejection = decoder.next_frame().expect_err("over the limit");
        assert_eq!(rejection.reason, RejectReason::Oversized);
        assert!(rejection.detail.contains("4294967296"), "{}", rejection.detail);
        assert!(decoder.buffer.capacity() < 1024);

        let mut decoder = FrameDecoder::new(1024);
        decoder.push(&[0xff; 5]);
        assert_eq!(decoder.next_frame().expect_err("endless").reason, RejectReason::Oversized);
    }

    #[test]
    fn a_padded_prefix_is_malformed() {
        let mut decoder = FrameDecoder::new(1024);
        decoder.push(&[0x81, 0x00]);
        assert_eq!(decoder.next_frame().expect_err("not minimal").reason, RejectReason::Malformed);
    }
}
