//! Which of a node's addresses are told to whom, and in which order.
//!
//! A page that comes from the node dials it by the first address that works. Most likely that is one whose host is the
//! very host the page was fetched from, over a transport that browsers have; so those come first.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr},
};

use cpc_net::{ConnectionKind, Multiaddr, PeerId};
use libp2p::multiaddr::Protocol;

/// The host that somebody addressed us by: what stands in an HTTP request's `Host`, without the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// An IP address; `localhost` counts as the loopback one.
    Ip(IpAddr),
    /// Any other name.
    Name(String),
}

impl Host {
    /// Reads the value of a `Host` header (RFC 9110 §7.2): a name or an address, IPv6 in brackets, maybe with a port.
    pub(crate) fn from_header(value: &str) -> Option<Self> {
        let value = value.trim();
        let host = match value.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']')?.0,
            None => value.split_once(':').map_or(value, |(host, _port)| host),
        };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if host.is_empty() {
            None
        } else if let Ok(ip) = host.parse::<IpAddr>() {
            Some(Host::Ip(ip.to_canonical()))
        } else if host == "localhost" || host.ends_with(".localhost") {
            // RFC 6761 §6.3: these names always mean the machine itself.
            Some(Host::Ip(Ipv4Addr::LOCALHOST.into()))
        } else {
            Some(Host::Name(host))
        }
    }

    /// Whether the address is at this host. All loopback addresses are at the same host: this machine.
    fn holds(&self, address: &Multiaddr) -> bool {
        match (self, address.iter().next()) {
            (Host::Ip(ip), _) => ip_of(address).is_some_and(|at| at == *ip || at.is_loopback() && ip.is_loopback()),
            (
                Host::Name(name),
                Some(Protocol::Dns(at) | Protocol::Dns4(at) | Protocol::Dns6(at) | Protocol::Dnsaddr(at)),
            ) => at.eq_ignore_ascii_case(name),
            (Host::Name(_), _) => false,
        }
    }
}

/// The addresses to tell others, each with `/p2p/<peer>`, no two alike: what browsers can dial first (WebSocket before
/// WebRTC-direct), then the rest; among those first what is at the given host, then what the operator named as
/// `external`, then the network's interfaces, and loopback last.
pub(crate) fn announced(
    peer: PeerId,
    listen: &[Multiaddr],
    external: &[Multiaddr],
    host: Option<&Host>,
) -> Vec<Multiaddr> {
    let external = external.iter().map(|address| (with_certhash(address, listen), true));
    let listen = listen.iter().map(|address| (address.clone(), false));
    let mut ranked = Vec::new();
    for (address, external) in external.chain(listen) {
        // An address that ends in another peer's id is not this node's.
        let Ok(address) = address.with_p2p(peer) else { continue };
        if !ranked.iter().any(|(_, known)| *known == address) {
            ranked.push((rank(&address, external, host), address));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, address)| address).collect()
}

/// What comes first compares as less.
type Rank = (Reverse<bool>, u8, u8);

fn rank(address: &Multiaddr, external: bool, host: Option<&Host>) -> Rank {
    let (browsers, kind) = match ConnectionKind::of(address) {
        ConnectionKind::Websocket => (true, 0),
        ConnectionKind::WebrtcDirect => (certhash(address).is_some(), 1),
        ConnectionKind::Quic => (false, 2),
        ConnectionKind::Tcp => (false, 3),
        ConnectionKind::Webrtc => (false, 4),
        ConnectionKind::Relayed => (false, 5),
        _ => (false, 6),
    };
    let place = match host {
        Some(host) if host.holds(address) => 0,
        _ if external => 1,
        _ if ip_of(address).is_some_and(|ip| ip.is_loopback()) => 3,
        _ => 2,
    };
    (Reverse(browsers), place, kind)
}

/// WebRTC-direct can be dialled only with the hash of the node's certificate, which an operator who names an external
/// address can't know beforehand: the listening addresses have it.
fn with_certhash(address: &Multiaddr, listen: &[Multiaddr]) -> Multiaddr {
    let needed = ConnectionKind::of(address) == ConnectionKind::WebrtcDirect && certhash(address).is_none();
    let Some(hash) = listen.iter().find_map(certhash).filter(|_| needed) else { return address.clone() };
    let mut completed = Multiaddr::empty();
    for part in address {
        let place_of_hash = part == Protocol::WebRTCDirect;
        completed.push(part);
        if place_of_hash {
            completed.push(hash.clone());
        }
    }
    completed
}

fn certhash(address: &Multiaddr) -> Option<Protocol<'_>> {
    address.iter().find(|part| matches!(part, Protocol::Certhash(_)))
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn listen() -> Vec<Multiaddr> {
        let webrtc = |ip: &str| format!("/ip4/{ip}/udp/4003/webrtc-direct{HASH}");
        addresses(&[
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/127.0.0.1/udp/4001/quic-v1",
            "/ip4/127.0.0.1/tcp/4002/ws",
            &webrtc("127.0.0.1"),
            "/ip4/192.0.2.7/tcp/4001",
            &webrtc("192.0.2.7"),
            "/ip4/192.0.2.7/tcp/4002/ws",
        ])
    }

    /// The announced addresses without the peer's id and the certificate's hash, which say nothing of the order.
    fn order(listen: &[Multiaddr], external: &[Multiaddr], host: &str) -> Vec<String> {
        let peer = PeerId::random();
        let own = format!("/p2p/{peer}");
        announced(peer, listen, external, Host::from_header(host).as_ref())
            .into_iter()
            .map(|address| {
                let text = address.to_string();
                text.strip_suffix(&own).expect("ends in the peer's id").replace(HASH, "")
            })
            .collect()
    }

    #[test]
    fn a_page_gets_first_what_it_can_dial_at_the_host_it_came_from() {
        assert_eq!(
            order(&listen(), &[], "192.0.2.7:8080"),
            [
                "/ip4/192.0.2.7/tcp/4002/ws",
                "/ip4/192.0.2.7/udp/4003/webrtc-direct",
                "/ip4/127.0.0.1/tcp/4002/ws",
                "/ip4/127.0.0.1/udp/4003/webrtc-direct",
                "/ip4/192.0.2.7/tcp/4001",
                "/ip4/127.0.0.1/udp/4001/quic-v1",
                "/ip4/127.0.0.1/tcp/4001",
            ]
        );
        for loopback in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"] {
            assert_eq!(order(&listen(), &[], loopback)[0], "/ip4/127.0.0.1/tcp/4002/ws", "{loopback}");
        }
        assert_eq!(
            order(&listen(), &[], "node.example")[0],
            "/ip4/192.0.2.7/tcp/4002/ws",
            "loopback is the last resort"
        );
    }

    #[test]
    fn external_addresses_come_before_interfaces_and_borrow_the_certificates_hash() {
        let external = addresses(&["/dns4/node.example/tcp/443/wss", "/ip4/198.51.100.1/udp/4003/webrtc-direct"]);
        for host in ["node.example", "other.example"] {
            assert_eq!(
                order(&listen(), &external, host)[..3],
                [
                    "/dns4/node.example/tcp/443/wss",
                    "/ip4/198.51.100.1/udp/4003/webrtc-direct",
                    "/ip4/192.0.2.7/tcp/4002/ws"
                ],
                "{host}"
            );
        }
        let peer = PeerId::random();
        let announced = announced(peer, &listen(), &external, None);
        assert!(announced.iter().any(|address| {
            address.to_string() == format!("/ip4/198.51.100.1/udp/4003/webrtc-direct{HASH}/p2p/{peer}")
        }));
        // Without a listener there is no hash, and without it no browser can dial the address.
        assert_eq!(
            order(&addresses(&["/ip4/127.0.0.1/tcp/4002/ws"]), &external[1..], "node.example")[0],
            "/ip4/127.0.0.1/tcp/4002/ws"
        );
    }

    #[test]
    fn each_address_is_told_once_and_strangers_not_at_all() {
        let peer = PeerId::random();
        let plain = addresses(&["/ip4/192.0.2.7/tcp/4001"]);
        let external = vec![
            plain[0].clone().with(Protocol::P2p(peer)),
            plain[0].clone(),
            plain[0].clone().with(Protocol::P2p(PeerId::random())),
        ];
        assert_eq!(announced(peer, &plain, &external, None), [plain[0].clone().with(Protocol::P2p(peer))]);
    }

    #[test]
    fn hosts_are_read_from_their_header() {
        let ip = |text: &str| Some(Host::Ip(text.parse().expect("an IP address")));
        assert_eq!(Host::from_header("192.0.2.7:8080"), ip("192.0.2.7"));
        assert_eq!(Host::from_header("[2001:db8::1]:8080"), ip("2001:db8::1"));
        assert_eq!(Host::from_header("[::ffff:192.0.2.7]"), ip("192.0.2.7"));
        assert_eq!(Host::from_header("page.localhost"), ip("127.0.0.1"));
        assert_eq!(Host::from_header("Node.Example.:80"), Some(Host::Name("node.example".into())));
        for nothing in ["", ":80", "[::1", "  "] {
            assert_eq!(Host::from_header(nothing), None, "{nothing:?}");
        }
    }
}
