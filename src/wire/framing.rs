//! Length prefixes on a byte stream (unsigned-varint spec), sans-IO.
//!
//! Invariant: a length is checked against the limit before anything is kept for it; no more is kept than the bytes of one
//! frame that have come, and nothing between frames.

use crate::{event::RejectReason, frame::Rejection};

/// Longest length prefix that is read: 5 bytes hold 35 bits, more than any limit.
const MAX_PREFIX: usize = 5;

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub(crate) struct FrameCutter {
    /// The beginning of a frame whose end has not come.
    begun: Vec<u8>,
    limit: usize,
}

impl FrameCutter {
    /// A cutter of frames of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { begun: Vec::new(), limit }
    }

    /// Takes bytes from the stream and hands out the frames that end in them, as they lie there: only a frame that came
    /// in several pieces is put together first. After an error the stream can't be read on.
    pub(crate) fn cut(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Rejection> {
        while !self.begun.is_empty() && !bytes.is_empty() {
            let wanted = match self.head(&self.begun)? {
                None => 1,
                Some((prefix, length)) => prefix + length - self.begun.len(),
            };
            let (piece, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.begun.extend_from_slice(piece);
            bytes = rest;
            if let Some((prefix, length)) = self.head(&self.begun)?
                && self.begun.len() == prefix + length
            {
                // Given back at once: an idle lane holds no memory.
                let frame = std::mem::take(&mut self.begun);
                each(&frame[prefix..]);
            }
        }
        while let Some((prefix, length)) = self.head(bytes)?
            && let Some(frame) = bytes.get(prefix..prefix + length)
        {
            each(frame);
            bytes = &bytes[prefix + length..];
        }
        self.begun.extend_from_slice(bytes);
        Ok(())
    }

    /// The lengths of the prefix and of the frame behind it; `None` until the prefix is whole. No frame is empty, because
    /// no message is: each costs whoever sends it more than a byte.
    fn head(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, Rejection> {
        let head = &bytes[..bytes.len().min(MAX_PREFIX)];
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
        if length == 0 {
            return Err(Rejection::new(RejectReason::Malformed, "a frame of no bytes"));
        }
        Ok(Some((prefix, length)))
    }

    /// Whether the stream may end here: between two frames.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.begun.is_empty()
    }
}

/// Appends a frame behind its length.
pub(crate) fn append_frame(buffer: &mut Vec<u8>, frame: &[u8]) {
    let mut prefix = unsigned_varint::encode::usize_buffer();
    buffer.extend_from_slice(unsigned_varint::encode::usize(frame.len(), &mut prefix));
    buffer.extend_from_slice(frame);
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

    fn cut(cutter: &mut FrameCutter, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Rejection> {
        let mut frames = Vec::new();
        cutter.cut(bytes, |frame| frames.push(frame.to_vec())).map(|()| frames)
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..20),
            pieces in 1_usize..700,
        ) {
            let mut cutter = FrameCutter::new(300);
            let mut out = Vec::new();
            for piece in framed(&frames).chunks(pieces) {
                out.extend(cut(&mut cutter, piece).expect("well formed"));
            }
            prop_assert_eq!(out, frames);
            prop_assert!(cutter.is_between_frames());
            prop_assert_eq!(cutter.begun.capacity(), 0, "an idle lane holds no memory");
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_it_was_given(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut cutter = FrameCutter::new(64);
            if let Ok(frames) = cut(&mut cutter, &bytes) {
                prop_assert!(frames.iter().all(|frame| frame.len() <= 64));
            }
            prop_assert!(cutter.begun.capacity() <= 128);
        }
    }

    #[test]
    fn a_claim_of_four_gigabytes_is_refused_before_anything_is_allocated() {
        let mut cutter = FrameCutter::new(1024);
        let mut prefix = unsigned_varint::encode::u64_buffer();
        let claim = unsigned_varint::encode::u64(4 << 30, &mut prefix);
        let rejection = cut(&mut cutter, claim).expect_err("over the limit");
        assert_eq!(rejection.reason, RejectReason::Oversized);
        assert!(rejection.detail.contains("4294967296"), "{}", rejection.detail);
        assert_eq!(cutter.begun.capacity(), 0);
        assert_eq!(cut(&mut FrameCutter::new(1024), &[0xff; 5]).expect_err("endless").reason, RejectReason::Oversized);
        // The same when it comes byte by byte.
        let mut cutter = FrameCutter::new(1024);
        let last = [0xff; 5].chunks(1).map(|byte| cut(&mut cutter, byte)).last().expect("five");
        assert_eq!(last.expect_err("endless").reason, RejectReason::Oversized);
    }

    #[test]
    fn a_frame_of_no_bytes_ends_the_stream_before_more_of_them_count() {
        let mut cutter = FrameCutter::new(1024);
        let (mut bytes, mut frames) = (framed(&[b"one".to_vec()]), 0);
        bytes.extend([0; 1000]);
        let rejection = cutter.cut(&bytes, |_| frames += 1).expect_err("empty frames");
        assert_eq!((rejection.reason, frames), (RejectReason::Malformed, 1));
    }

    #[test]
    fn a_padded_prefix_is_malformed() {
        let mut cutter = FrameCutter::new(1024);
        assert_eq!(cut(&mut cutter, &[0x81, 0x00]).expect_err("not minimal").reason, RejectReason::Malformed);
    }
}
