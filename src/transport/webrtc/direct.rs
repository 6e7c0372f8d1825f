//! WebRTC-direct: a page, or a node, dials a node that it knows by its address and the hash of its certificate, without
//! any signalling (libp2p specs, webrtc/webrtc-direct.md).
//!
//! Both sides make up the session descriptions that they would have exchanged. The dialler's ICE user name, which the
//! listener learns from its first STUN packet, stands for everything; identities are then proved by Noise over data
//! channel 0.

use std::{fmt, io, net::SocketAddr};

use futures::{AsyncWriteExt as _, FutureExt as _};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        UpgradeInfo as _,
        multihash::Multihash,
        upgrade::{InboundConnectionUpgrade as _, OutboundConnectionUpgrade as _},
    },
    identity::Keypair,
    multiaddr::Protocol,
    noise,
};

use super::{Link, Muxer, Stream};

/// SHA-256 in the multihash table.
const SHA2_256: u64 = 0x12;

/// What the ICE user names of this protocol begin with (spec, "Browser to public Server", step 4).
pub(crate) const UFRAG_PREFIX: &str = "libp2p+webrtc+v1/";

const PROLOGUE: &[u8] = b"libp2p-webrtc-noise:";

/// The SHA-256 hash of a DTLS certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) [u8; 32]);

impl Fingerprint {
    /// As it stands in `/certhash/…`. `None` for other hashes than SHA-256.
    pub(crate) fn of_multihash(hash: &Multihash<64>) -> Option<Self> {
        (hash.code() == SHA2_256).then(|| hash.digest().try_into().ok().map(Self)).flatten()
    }

    /// What stands in `/certhash/…`.
    pub(crate) fn to_multihash(self) -> Multihash<64> {
        Multihash::wrap(SHA2_256, &self.0).expect("32 bytes are fewer than 64")
    }

    /// From the first `a=fingerprint:sha-256 …` line of a session description (RFC 8122, section 5).
    #[cfg_attr(native, allow(dead_code, reason = "str0m gives the bytes"))]
    pub(crate) fn of_description(description: &str) -> Option<Self> {
        let line = description.lines().find_map(|line| line.strip_prefix("a=fingerprint:"))?;
        let (algorithm, hex) = line.trim().split_once(' ')?;
        if !algorithm.eq_ignore_ascii_case("sha-256") {
            return None;
        }
        let mut bytes = [0; 32];
        let mut pairs = hex.split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(pairs.next()?, 16).ok()?;
        }
        pairs.next().is_none().then_some(Self(bytes))
    }
}

/// As in a session description: upper-case hex pairs with colons (RFC 8122, section 5).
impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(formatter, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// `/ip4|ip6/…/udp/…/webrtc-direct/certhash/…[/p2p/…]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectAddress {
    pub(crate) socket: SocketAddr,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) peer: Option<PeerId>,
}

impl DirectAddress {
    /// Reads an address to dial. `None` when it is none of this transport's, or has no SHA-256 hash.
    pub(crate) fn parse(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => ip.into(),
            Protocol::Ip6(ip) => ip.into(),
            _ => return None,
        };
        let Protocol::Udp(port) = parts.next()? else { return None };
        let Protocol::WebRTCDirect = parts.next()? else { return None };
        let mut fingerprint = None;
        let mut peer = None;
        for part in parts {
            match part {
                // A node may name several; any that we understand will do.
                Protocol::Certhash(hash) if peer.is_none() => {
                    fingerprint = fingerprint.or_else(|| Fingerprint::of_multihash(&hash));
                }
                Protocol::P2p(id) if peer.is_none() => peer = Some(id),
                _ => return None,
            }
        }
        Some(Self { socket: SocketAddr::new(ip, port), fingerprint: fingerprint?, peer })
    }
}

/// An ICE user name, and password, of a dialler (spec, "Browser to public Server", step 4).
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn new_ufrag() -> io::Result<String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let random = random.map(|byte| char::from(ALPHABET[usize::from(byte % 64)]));
    Ok(UFRAG_PREFIX.chars().chain(random).collect())
}

/// The answer that a listener would have given (spec, "Browser to public Server", step 5).
#[cfg_attr(native, allow(dead_code, reason = "str0m needs no session description"))]
pub(crate) fn listener_description(address: SocketAddr, fingerprint: Fingerprint, ufrag: &str) -> String {
    let version = if address.is_ipv4() { "IP4" } else { "IP6" };
    let (ip, port) = (address.ip(), address.port());
    let lines = [
        "v=0".to_owned(),
        format!("o=- 0 0 IN {version} {ip}"),
        "s=-".to_owned(),
        "t=0 0".to_owned(),
        "a=ice-lite".to_owned(),
        format!("m=application {port} UDP/DTLS/SCTP webrtc-datachannel"),
        format!("c=IN {version} {ip}"),
        "a=mid:0".to_owned(),
        "a=ice-options:ice2".to_owned(),
        format!("a=ice-ufrag:{ufrag}"),
        format!("a=ice-pwd:{ufrag}"),
        format!("a=fingerprint:sha-256 {fingerprint}"),
        "a=setup:passive".to_owned(),
        "a=sctp-port:5000".to_owned(),
        format!("a=max-message-size:{}", super::MAX_MESSAGE),
        format!("a=candidate:1 1 UDP 2130706431 {ip} {port} typ host"),
        "a=end-of-candidates".to_owned(),
    ];
    lines.into_iter().map(|line| line + "\r\n").collect()
}

/// On which side of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    #[cfg_attr(browser, allow(dead_code, reason = "a page is never dialled"))]
    Listener,
    Dialler,
}

/// Proves who both sides are, over data channel 0, and binds that to the two certificates (spec, "Browser to public
/// Server", steps 8 and 9). The listener speaks first.
///
/// # Errors
/// When the connection ends, or the other side can't prove who it is.
pub(crate) async fn authenticate<L: Link>(
    muxer: &mut Muxer<L>,
    channel: Stream<L::Channel>,
    key: &Keypair,
    side: Side,
    dialler: Fingerprint,
    listener: Fingerprint,
) -> io::Result<PeerId> {
    let noise = noise::Config::new(key).map_err(io::Error::other)?.with_prologue(prologue(dialler, listener));
    let handshake = async move {
        let name = noise.protocol_info().next().expect("Noise has one name");
        let (peer, mut channel) = match side {
            Side::Listener => noise.upgrade_outbound(channel, name).await,
            Side::Dialler => noise.upgrade_inbound(channel, name).await,
        }
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("the Noise handshake: {error}")))?;
        channel.close().await?;
        Ok(peer)
    };
    muxer.work_until(handshake.boxed()).await?
}

fn prologue(dialler: Fingerprint, listener: Fingerprint) -> Vec<u8> {
    let hashes = [dialler, listener].map(|fingerprint| fingerprint.to_multihash().to_bytes());
    [PROLOGUE, &hashes[0], &hashes[1]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";

    #[test]
    fn an_address_is_read_whole_or_not_at_all() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let direct = format!("/ip4/127.0.0.1/udp/4003/webrtc-direct/certhash/{HASH}");
        let parse = |address: &str| DirectAddress::parse(&address.parse().expect("a multiaddr"));
        let address = parse(&direct).expect("ours");
        assert_eq!((address.socket, address.peer), ("127.0.0.1:4003".parse().expect("a socket"), None));
        assert_eq!(parse(&format!("{direct}/p2p/{peer}")).expect("ours").peer, Some(peer));
        for other in [
            "/ip4/127.0.0.1/udp/4003/webrtc-direct".to_owned(),
            format!("/ip4/127.0.0.1/tcp/4003/webrtc-direct/certhash/{HASH}"),
            format!("/ip4/127.0.0.1/udp/4003/quic-v1/webtransport/certhash/{HASH}"),
            format!("{direct}/p2p/{peer}/p2p-circuit"),
            format!("{direct}/p2p/{peer}/p2p-circuit/p2p/{peer}"),
            "/ip4/127.0.0.1/udp/4003/webrtc-direct/certhash/uERSQTQ".to_owned(),
        ] {
            let Ok(other) = other.parse() else { continue };
            assert_eq!(DirectAddress::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_same_in_an_address_and_in_a_description() {
        let fingerprint = Fingerprint(std::array::from_fn(|at| u8::try_from(at * 7).expect("small")));
        assert_eq!(Fingerprint::of_multihash(&fingerprint.to_multihash()), Some(fingerprint));
        let description = listener_description("[::1]:5".parse().expect("a socket"), fingerprint, "name");
        assert!(description.contains("c=IN IP6 ::1\r\n"), "{description}");
        assert_eq!(Fingerprint::of_description(&description), Some(fingerprint));
        for bad in ["", "a=fingerprint:sha-1 00:11", "a=fingerprint:sha-256 zz", "a=fingerprint:sha-256 00:11"] {
            assert_eq!(Fingerprint::of_description(bad), None, "{bad}");
        }
    }

    /// The example of the spec's reference implementations, put together by hand.
    #[test]
    fn the_prologue_names_the_dialler_first() {
        let prologue = prologue(Fingerprint([0xaa; 32]), Fingerprint([0xbb; 32]));
        let expected = [b"libp2p-webrtc-noise:".as_slice(), &[0x12, 32], &[0xaa; 32], &[0x12, 32], &[0xbb; 32]];
        assert_eq!(prologue, expected.concat());
    }

    #[test]
    fn user_names_differ_and_say_what_they_are_for() {
        let (one, other) = (new_ufrag().expect("random"), new_ufrag().expect("random"));
        assert!(one.starts_with(UFRAG_PREFIX) && one != other);
        assert!(one.len() <= 256 && one.chars().all(|c| c.is_ascii_alphanumeric() || "+/".contains(c)));
    }
}
