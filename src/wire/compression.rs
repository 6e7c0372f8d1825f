//! Payloads written shorter, where a quick look says that it pays: LZ4 blocks behind the length of what they hold.
//!
//! Invariant: nothing is allocated for a payload that claims more than the limit, or more than LZ4 can hold in what came.

use lz4_flex::block::{compress_prepend_size, decompress_into};

use crate::{event::RejectReason, frame::Rejection};

/// Payloads below this travel as they are: what could be saved is less than what looking for it costs.
const MIN_LEN: usize = 512;

/// So many bytes of a payload are looked at first, spread over all of it.
const GLANCE: usize = 256;

/// Of so many random bytes some 162 differ, of text some 40. With more than this LZ4 finds nothing.
const MAX_DIFFERENT: u32 = 112;

/// A larger payload is judged by a piece of this size from its middle.
const SAMPLE: usize = 4096;

/// Bytes of the length in front of a block.
const LENGTH: usize = 4;

/// No LZ4 block holds more than this many bytes for each of its own (LZ4 block format: 255 for each byte of a length).
const MAX_RATIO: usize = 255;

/// The payload as an LZ4 block behind its length; `None` when that saves less than an eighth.
pub(super) fn compressed(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < MIN_LEN || u32::try_from(payload.len()).is_err() || looks_random(payload) {
        return None;
    }
    if payload.len() > 2 * SAMPLE {
        let sample = &payload[(payload.len() - SAMPLE) / 2..][..SAMPLE];
        if !pays(compress_prepend_size(sample).len(), SAMPLE) {
            return None;
        }
    }
    Some(compress_prepend_size(payload)).filter(|block| pays(block.len(), payload.len()))
}

fn pays(after: usize, before: usize) -> bool {
    after <= before - before / 8
}

fn looks_random(payload: &[u8]) -> bool {
    let mut seen = [0_u64; 4];
    for byte in payload.iter().step_by(payload.len() / GLANCE) {
        seen[usize::from(byte / 64)] |= 1 << (byte % 64);
    }
    seen.iter().map(|bits| bits.count_ones()).sum::<u32>() > MAX_DIFFERENT
}

/// What a block holds, at most `limit` bytes.
///
/// # Errors
/// When it claims more than the limit, or is no block of the length it claims.
pub(super) fn decompressed(encoded: &[u8], limit: usize) -> Result<Vec<u8>, Rejection> {
    let malformed = |detail: String| Rejection::new(RejectReason::Malformed, detail);
    let Some((length, block)) = encoded.split_first_chunk::<LENGTH>() else {
        return Err(malformed(format!("a compressed payload of {} bytes has no length", encoded.len())));
    };
    // A u32 fits: there are no targets below 32 bits.
    let length = u32::from_le_bytes(*length) as usize;
    if length > limit {
        let detail = format!("a compressed payload claims {length} bytes, the limit is {limit}");
        return Err(Rejection::new(RejectReason::Oversized, detail));
    }
    if length > block.len().saturating_mul(MAX_RATIO) {
        return Err(malformed(format!("a compressed payload of {} bytes claims {length}", block.len())));
    }
    let mut payload = vec![0; length];
    match decompress_into(block, &mut payload) {
        Ok(written) if written == length => Ok(payload),
        Ok(written) => Err(malformed(format!("a compressed payload claims {length} bytes and holds {written}"))),
        Err(error) => Err(malformed(format!("a compressed payload: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 100_000;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    #[test]
    fn text_shrinks_and_noise_stays_as_it_is() {
        let text = (0..400).map(|line| format!("{line}: what a person writes is seldom random")).collect::<String>();
        let text = text.as_bytes();
        for len in [600, 2000, 12_000] {
            let block = compressed(&text[..len]).unwrap_or_else(|| panic!("{len} bytes of text"));
            assert!(block.len() <= len - len / 8);
            assert_eq!(decompressed(&block, LIMIT).expect("our own"), &text[..len]);
            assert_eq!(compressed(&noise(len)), None, "{len} bytes of noise");
        }
        assert_eq!(compressed(&text[..100]), None, "too small to matter");
        assert_eq!(compressed(&[]), None);
        // Plain at its ends, noise between: the glance sees both, the trial decides.
        let mixed = [vec![0; 3000], noise(60_000), vec![0; 3000]].concat();
        assert_eq!(compressed(&mixed), None);
    }

    #[test]
    fn bombs_and_lies_are_refused_before_anything_is_allocated() {
        let reason = |encoded: &[u8]| decompressed(encoded, LIMIT).expect_err("must be refused").reason;
        let mut block = compressed(&[7; 50_000]).expect("shrinks");
        assert!(decompressed(&block, 50_000).is_ok());
        assert_eq!(decompressed(&block, 49_999).expect_err("above the limit").reason, RejectReason::Oversized);
        for lie in [0_u32, 1, 49_999, 50_001] {
            block[..LENGTH].copy_from_slice(&lie.to_le_bytes());
            assert_eq!(reason(&block), RejectReason::Malformed, "claims {lie}");
        }
        assert_eq!(reason(&[0xff; 40]), RejectReason::Oversized, "four gigabytes");
        assert_eq!(reason(&[0x00, 0x80, 0x01, 0x00, 0x1f]), RejectReason::Malformed, "98304 out of one byte");
        assert_eq!(reason(&[1, 0, 0]), RejectReason::Malformed);
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(words in prop::collection::vec("[a-e]{1,6}", 0..4000)) {
            let payload = words.concat().into_bytes();
            if let Some(block) = compressed(&payload) {
                prop_assert_eq!(decompressed(&block, LIMIT).expect("our own"), payload);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_exceed_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..300), claim in 0_u32..2000) {
            let _ = decompressed(&bytes, 1000);
            let encoded = [&claim.to_le_bytes()[..], &bytes].concat();
            if let Ok(payload) = decompressed(&encoded, 1000) {
                prop_assert!(payload.len() <= 1000 && payload.len() == claim as usize);
            }
        }
    }
}
