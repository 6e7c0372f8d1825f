//! What is said on a signalling stream: protobuf messages with their length before them (libp2p specs, webrtc/webrtc.md,
//! "Signaling Protobuf").

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use prost::Message as _;
use serde::{Deserialize, Serialize};

/// The largest message that is taken, bytes. A session description without media has some 600.
const MAX_MESSAGE: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum Type {
    SdpOffer = 0,
    SdpAnswer = 1,
    IceCandidate = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(enumeration = "Type", optional, tag = "1")]
    r#type: Option<i32>,
    #[prost(string, optional, tag = "2")]
    data: Option<String>,
}

/// One thing said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    Offer(String),
    Answer(String),
    Candidate(IceCandidate),
    /// There are no more candidates, or it was none that we understand.
    Nothing,
}

/// A way to reach one side, as `RTCIceCandidate.toJSON()` writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IceCandidate {
    /// The line of RFC 8839, section 5.1, without `a=`.
    pub(crate) candidate: String,
    #[serde(default)]
    pub(crate) sdp_mid: Option<String>,
    #[serde(default, rename = "sdpMLineIndex")]
    pub(crate) sdp_m_line_index: Option<u16>,
    #[serde(default)]
    pub(crate) username_fragment: Option<String>,
}

impl IceCandidate {
    /// Reads the JSON; `None` for "no more" (`null`, `""`, an empty line) and for what is none.
    pub(crate) fn from_json(json: &str) -> Option<Self> {
        let candidate = serde_json::from_str::<Option<Self>>(json).ok().flatten()?;
        (!candidate.candidate.is_empty()).then_some(candidate)
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers make JSON")
    }
}

impl Signal {
    fn to_wire(&self) -> Wire {
        let (kind, data) = match self {
            Signal::Offer(sdp) => (Type::SdpOffer, sdp.clone()),
            Signal::Answer(sdp) => (Type::SdpAnswer, sdp.clone()),
            Signal::Candidate(candidate) => (Type::IceCandidate, candidate.to_json()),
            // js-libp2p takes this for JSON, whatever it says, and goes wrong on an empty text.
            Signal::Nothing => (Type::IceCandidate, "null".to_owned()),
        };
        Wire { r#type: Some(kind.into()), data: Some(data) }
    }

    fn of_wire(wire: Wire) -> io::Result<Self> {
        let data = wire.data.unwrap_or_default();
        match wire.r#type.map(Type::try_from) {
            Some(Ok(Type::SdpOffer)) => Ok(Signal::Offer(data)),
            Some(Ok(Type::SdpAnswer)) => Ok(Signal::Answer(data)),
            Some(Ok(Type::IceCandidate)) => {
                Ok(IceCandidate::from_json(&data).map_or(Signal::Nothing, Signal::Candidate))
            }
            _ => Err(invalid("a signalling message of no known type")),
        }
    }
}

/// Says one thing.
///
/// # Errors
/// When the stream breaks.
pub(super) async fn say<S: AsyncWrite + Unpin>(stream: &mut S, signal: &Signal) -> io::Result<()> {
    stream.write_all(&signal.to_wire().encode_length_delimited_to_vec()).await?;
    stream.flush().await
}

/// Hears one thing; `None` when the other side has said all.
///
/// # Errors
/// When the stream breaks, or what came is no message.
pub(super) async fn hear<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<Signal>> {
    let mut length = 0_usize;
    for position in 0.. {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return if position == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        length |= usize::from(byte[0] & 0x7f) << (7 * position);
        if length > MAX_MESSAGE || position > 2 {
            return Err(invalid("a signalling message that is too long"));
        }
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    let wire = Wire::decode(message.as_slice()).map_err(|_| invalid("a signalling message that is no protobuf"))?;
    Signal::of_wire(wire).map(Some)
}

pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the peer sent {what}"))
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    fn heard(bytes: &[u8]) -> io::Result<Option<Signal>> {
        block_on(hear(&mut Cursor::new(bytes.to_vec())))
    }

    fn said(signal: &Signal) -> Vec<u8> {
        let mut stream = Cursor::new(Vec::new());
        block_on(say(&mut stream, signal)).expect("memory");
        stream.into_inner()
    }

    #[test]
    fn the_bytes_are_those_of_the_spec() {
        assert_eq!(said(&Signal::Offer("v=0".into())), [7, 0x08, 0, 0x12, 3, b'v', b'=', b'0']);
        assert_eq!(said(&Signal::Answer("v".into())), [5, 0x08, 1, 0x12, 1, b'v']);
        assert_eq!(heard(&[7, 0x08, 0, 0x12, 3, b'v', b'=', b'0']).expect("good"), Some(Signal::Offer("v=0".into())));
        assert_eq!(heard(&[]).expect("the end"), None);
    }

    #[test]
    fn candidates_are_the_browsers_json() {
        let json = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.1 5 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"ab"}"#;
        let candidate = IceCandidate::from_json(json).expect("a candidate");
        assert_eq!(candidate.sdp_m_line_index, Some(0));
        assert_eq!(candidate.to_json(), json);
        let signal = Signal::Candidate(candidate);
        assert_eq!(heard(&said(&signal)).expect("good"), Some(signal));
        assert!(said(&Signal::Nothing).ends_with(b"null"));
        assert_eq!(heard(&said(&Signal::Nothing)).expect("good"), Some(Signal::Nothing));
        for nothing in ["", "null", "\"\"", "{}", r#"{"candidate":""}"#, "garbage"] {
            assert_eq!(IceCandidate::from_json(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_no_message_is_an_error_and_never_a_large_allocation() {
        for garbage in [&[0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0xff, 0xff, 0x03], &[5, 1], &[2, 0x08, 9], &[2, 0xff, 1]]
        {
            heard(garbage).expect_err("refused");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = heard(&bytes);
        }
    }
}
