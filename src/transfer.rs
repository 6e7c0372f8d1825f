//! The words of transfers: payloads of any length that go from a reader here into a writer there.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use libp2p::PeerId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{TransferError, parse::ParseError};

/// The longest [`TransferOffer::name`], bytes.
pub const MAX_NAME: usize = 255;

/// The longest [`TransferOffer::kind`], bytes.
pub const MAX_KIND: usize = 127;

/// The longest [`TransferOffer::meta`], bytes.
pub const MAX_META: usize = 4096;

/// A transfer's name: together with the sender's peer id it is the only one in the world. In text 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(type = "string"))]
pub struct TransferId(pub(crate) [u8; 16]);

impl TransferId {
    /// An id of two numbers that nobody can guess.
    pub(crate) fn from_numbers(numbers: [u64; 2]) -> Self {
        let mut bytes = [0; 16];
        for (part, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            part.copy_from_slice(&number.to_be_bytes());
        }
        Self(bytes)
    }
}

/// The BLAKE3 hash of a whole payload, what `b3sum` prints of the same file. In text 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(type = "string"))]
pub struct PayloadHash(pub(crate) [u8; 32]);

impl PayloadHash {
    /// The hash of bytes that are at hand.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(*blake3::hash(bytes.as_ref()).as_bytes())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for PayloadHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

fn from_hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    let digits = text.as_bytes();
    if digits.len() != LENGTH * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

macro_rules! hexadecimal {
    ($name:ident, $what:literal, $example:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                from_hex(text).map(Self).ok_or_else(|| ParseError::new($what, text, $example))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hexadecimal!(TransferId, "transfer id", "32 hexadecimal digits");
hexadecimal!(PayloadHash, "payload hash", "64 hexadecimal digits");

/// Which way a payload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum TransferDirection {
    /// This node sends.
    Outgoing,
    /// This node receives.
    Incoming,
}

/// What a transfer is called on this node: which way it goes, with whom, and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TransferKey {
    pub(crate) direction: TransferDirection,
    pub(crate) peer: PeerId,
    pub(crate) id: TransferId,
}

/// How an attempt at a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything is verified and written.
    Finished(PayloadHash),
    /// No other attempt would do better.
    Failed(TransferError),
    /// The stream or the connection broke.
    Broken(String),
    /// As much was moved as may be on this connection.
    Spent,
    /// What came from here on was damaged.
    Corrupt { offset: u64 },
    /// The peer doesn't speak the protocol.
    Unsupported,
    /// A newer attempt took over, or the transfer was cancelled here.
    Revoked,
}

/// What the receiver is told of a payload before it takes it. Everything is the sender's word; only the length and the
/// hash are checked.
///
/// In JSON the `meta` is an array of bytes; JavaScript gets a `Uint8Array`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferOffer {
    /// For people, such as a file's name; at most [`MAX_NAME`] bytes. A receiver must not take it for a path.
    pub name: String,
    /// A media type such as `image/png`, or the app's own word; at most [`MAX_KIND`] bytes.
    pub kind: String,
    /// The app's own; at most [`MAX_META`] bytes.
    pub meta: Bytes,
    /// How long the payload is, bytes; `None` when that is not known before its end.
    pub length: Option<u64>,
    /// The hash of the payload. When it is given, nothing else passes for it.
    pub hash: Option<PayloadHash>,
}

impl TransferOffer {
    /// An offer of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Says of what kind the payload is.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..self }
    }

    /// Adds what the receiving app wants to know.
    #[must_use]
    pub fn meta(self, meta: impl Into<Bytes>) -> Self {
        Self { meta: meta.into(), ..self }
    }

    /// Promises a length. A source that knows its own needs no promise; one that turns out longer or shorter ends the
    /// transfer with [`TransferError::WrongLength`].
    #[must_use]
    pub fn length(self, length: u64) -> Self {
        Self { length: Some(length), ..self }
    }

    /// Promises a hash, so that the receiver takes nothing else.
    #[must_use]
    pub fn hash(self, hash: PayloadHash) -> Self {
        Self { hash: Some(hash), ..self }
    }

    /// Checks what the wire allows.
    pub(crate) fn check(&self) -> Result<(), TransferError> {
        let too_long = |field: &str, length: usize, limit: usize| TransferError::InvalidOffer {
            reason: format!("its {field} of {length} bytes is over the limit of {limit}"),
        };
        for (field, length, limit) in [
            ("name", self.name.len(), MAX_NAME),
            ("kind", self.kind.len(), MAX_KIND),
            ("meta", self.meta.len(), MAX_META),
        ] {
            if length > limit {
                return Err(too_long(field, length, limit));
            }
        }
        Ok(())
    }
}

/// How far a transfer has come, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
#[non_exhaustive]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum TransferState {
    /// Outgoing: it waits for a connection or for its turn.
    Waiting,
    /// The receiving app has been asked and hasn't said yes yet.
    Offered,
    /// Bytes flow.
    Running,
    /// It was cut in the middle and goes on as soon as there is a way again.
    Interrupted,
    /// Everything has arrived, verified and written.
    Finished {
        /// The payload's hash.
        hash: PayloadHash,
    },
    /// It will never be complete.
    Failed {
        /// Why.
        error: TransferError,
    },
}

impl TransferState {
    /// Whether nothing follows any more.
    pub fn is_final(&self) -> bool {
        matches!(self, TransferState::Finished { .. } | TransferState::Failed { .. })
    }
}

/// A transfer at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct TransferProgress {
    /// Bytes that the receiver has verified and written.
    #[cfg_attr(feature = "typescript", ts(type = "number"))]
    pub transferred: u64,
    /// Bytes in all, when that is known.
    #[cfg_attr(feature = "typescript", ts(type = "number | null"))]
    pub length: Option<u64>,
    /// What it does or waits for.
    #[serde(flatten)]
    pub state: TransferState,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_hashes_are_read_as_they_are_written() {
        let id = TransferId([0xab; 16]);
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!(id.to_string().parse(), Ok(id));
        let hash = PayloadHash::of("");
        // The first value of BLAKE3's published test vectors.
        assert_eq!(hash.to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for nonsense in ["", "ab", &"zz".repeat(16), &"äb".repeat(11)] {
            assert!(nonsense.parse::<TransferId>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn an_offer_that_no_frame_can_carry_is_refused_with_its_field() {
        assert_eq!(TransferOffer::new("a".repeat(MAX_NAME)).meta(vec![0; MAX_META]).check(), Ok(()));
        for (offer, field) in [
            (TransferOffer::new("a".repeat(MAX_NAME + 1)), "name"),
            (TransferOffer::new("a").kind("a".repeat(MAX_KIND + 1)), "kind"),
            (TransferOffer::new("a").meta(vec![0; MAX_META + 1]), "meta"),
        ] {
            let error = offer.check().expect_err(field).to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
