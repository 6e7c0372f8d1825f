//! Frames out of data-channel messages.
//!
//! Usually a message is a frame, and then nothing is copied. But the spec only says that frames follow each other:
//! js-libp2p sends each one's length as a message by itself, and others may cut where they like.

use bytes::{Buf as _, Bytes};

use super::framing::{FramingError, MAX_RECEIVED};

/// What has come of the next frame.
#[derive(Debug)]
enum Partial {
    /// Some bytes of its length.
    Length { value: usize, shift: u32 },
    /// Its length, and some of its bytes; less than all, so never more than [`MAX_RECEIVED`].
    Body { length: usize, begun: Vec<u8> },
}

const NOTHING: Partial = Partial::Length { value: 0, shift: 0 };

/// Puts the frames of one stream together.
#[derive(Debug)]
pub(super) struct Assembly {
    partial: Partial,
}

impl Assembly {
    pub(super) fn new() -> Self {
        Self { partial: NOTHING }
    }

    /// Takes the next frame, without its length, out of `message`. `None` when the rest is still to come; then all of
    /// `message` was taken.
    ///
    /// # Errors
    /// When a frame would be too long.
    pub(super) fn next(&mut self, message: &mut Bytes) -> Result<Option<Bytes>, FramingError> {
        while message.has_remaining() {
            match &mut self.partial {
                Partial::Length { value, shift } => {
                    let byte = message.get_u8();
                    *value |= usize::from(byte & 0x7f) << *shift;
                    *shift += 7;
                    if *value > MAX_RECEIVED || *shift > 21 {
                        return Err(FramingError::Garbage);
                    }
                    if byte & 0x80 == 0 {
                        let length = *value;
                        if length == 0 {
                            self.partial = NOTHING;
                            return Ok(Some(Bytes::new()));
                        }
                        self.partial = Partial::Body { length, begun: Vec::new() };
                    }
                }
                Partial::Body { length, begun } => {
                    let part = message.split_to(message.len().min(*length - begun.len()));
                    let frame = if part.len() == *length {
                        part
                    } else {
                        begun.extend_from_slice(&part);
                        if begun.len() < *length {
                            continue;
                        }
                        std::mem::take(begun).into()
                    };
                    self.partial = NOTHING;
                    return Ok(Some(frame));
                }
            }
        }
        Ok(None)
    }

    /// How many bytes wait for the rest of their frame.
    pub(super) fn held(&self) -> usize {
        match &self.partial {
            Partial::Length { .. } => 0,
            Partial::Body { begun, .. } => begun.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(messages: &[&[u8]]) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut assembly = Assembly::new();
        let mut frames = Vec::new();
        for message in messages {
            let mut message = Bytes::copy_from_slice(message);
            while let Some(frame) = assembly.next(&mut message)? {
                frames.push(frame.to_vec());
            }
            assert!(message.is_empty(), "all was taken");
        }
        Ok(frames)
    }

    #[test]
    fn js_libp2p_sends_the_length_by_itself() {
        assert_eq!(frames(&[&[2], b"ab", &[1], b"c"]).expect("good"), [b"ab".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn a_whole_frame_is_not_copied() {
        let message = Bytes::from_static(&[3, b'a', b'b', b'c']);
        let frame = Assembly::new().next(&mut message.clone()).expect("good").expect("whole");
        assert_eq!(frame.as_ptr(), message[1..].as_ptr());
    }

    #[test]
    fn a_frame_that_would_be_too_long_is_refused_before_it_comes() {
        for garbage in [&[0xff, 0xff, 0xff, 0x7f][..], &[0x80, 0x80, 0x80, 0x80], &[0xff, 0xff, 0x7f]] {
            assert_eq!(frames(&[garbage]), Err(FramingError::Garbage), "{garbage:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn however_it_is_cut_the_frames_are_the_same(
            sent in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..300), 0..8),
            cuts in proptest::collection::vec(1_usize..200, 1..40),
        ) {
            let mut bytes = Vec::new();
            for frame in &sent {
                prost::encoding::encode_varint(frame.len() as u64, &mut bytes);
                bytes.extend_from_slice(frame);
            }
            let mut rest = bytes.as_slice();
            let mut messages = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (message, after) = rest.split_at(rest.len().min(*cut));
                messages.push(message);
                rest = after;
            }
            proptest::prop_assert_eq!(frames(&messages).expect("good"), sent);
        }
    }
}
