//! Addresses of WebSocket servers, as URLs.

use libp2p::{Multiaddr, multiaddr::Protocol};

/// Where a browser finds an address; `None` when it is not the address of a WebSocket server.
pub(super) fn url_of(address: &Multiaddr) -> Option<String> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        // Which of a name's addresses is taken, no page can choose.
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => host_name(&name)?,
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    let (scheme, host, path) = match parts.next()? {
        Protocol::Ws(path) => ("ws", host, path),
        Protocol::Wss(path) => ("wss", host, path),
        Protocol::Tls => match parts.next()? {
            Protocol::Ws(path) => ("wss", host, path),
            // The name on the certificate. A browser takes it from the URL and nowhere else, so the name is asked for
            // the IP address again.
            Protocol::Sni(name) => match parts.next()? {
                Protocol::Ws(path) => ("wss", host_name(&name)?, path),
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    match (parts.next(), parts.next()) {
        (None, None) | (Some(Protocol::P2p(_)), None) => {}
        _ => return None,
    }
    let path = path.strip_prefix('/').unwrap_or(&path);
    Some(format!("{scheme}://{host}:{port}/{path}"))
}

/// A name that is nothing but a name: one that a peer made up must not become a user name or a path of the URL.
fn host_name(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    const PEER: &str = "12D3KooWGzBzXbKGRwQ1pFsqsBoQMjr8kQ7tMPjfSz5ayVwrEdGZ";

    #[wasm_bindgen_test]
    fn every_kind_of_websocket_address_has_its_url() {
        let cases = [
            ("/ip4/192.0.2.1/tcp/80/ws", "ws://192.0.2.1:80/"),
            ("/ip4/192.0.2.1/tcp/443/wss", "wss://192.0.2.1:443/"),
            ("/ip6/2001:db8::1/tcp/9000/ws", "ws://[2001:db8::1]:9000/"),
            ("/dns/node.example/tcp/9000/ws", "ws://node.example:9000/"),
            ("/dns4/node.example/tcp/443/tls/ws", "wss://node.example:443/"),
            ("/dns6/node.example/tcp/443/wss", "wss://node.example:443/"),
            ("/ip4/192.0.2.1/tcp/4001/tls/sni/node.example/ws", "wss://node.example:4001/"),
            ("/dns/node.example/tcp/80/x-parity-ws/a%2Fb", "ws://node.example:80/a/b"),
            ("/dns/node.example/tcp/443/tls/x-parity-ws/%2Fpath%3Fkey=1", "wss://node.example:443/path?key=1"),
            ("/dns/node.example/tcp/443/x-parity-wss/path", "wss://node.example:443/path"),
        ];
        for (address, url) in cases {
            for address in [address.to_owned(), format!("{address}/p2p/{PEER}")] {
                assert_eq!(url_of(&address.parse().expect(&address)).as_deref(), Some(url), "{address}");
            }
        }
    }

    #[wasm_bindgen_test]
    fn other_addresses_have_none() {
        let others = [
            "/ip4/192.0.2.1/tcp/80",
            "/ip4/192.0.2.1/tcp/80/tls",
            "/ip4/192.0.2.1/udp/80/quic-v1",
            "/ip4/192.0.2.1/udp/80/webrtc-direct",
            "/dnsaddr/node.example/tcp/80/ws",
            "/ip4/192.0.2.1/udp/80/ws",
            "/ip4/192.0.2.1/tcp/4001/tls/sni/node.example",
        ];
        let circuit = format!("/ip4/192.0.2.1/tcp/80/ws/p2p/{PEER}/p2p-circuit");
        let behind = format!("{circuit}/p2p/{PEER}");
        for address in others.into_iter().chain([circuit.as_str(), behind.as_str(), "/p2p-circuit"]) {
            assert_eq!(url_of(&address.parse().expect(address)), None, "{address}");
        }
        assert_eq!(url_of(&Multiaddr::empty()), None);
    }

    #[wasm_bindgen_test]
    fn a_name_can_not_be_made_into_more_than_a_name() {
        for name in ["", "user@192.0.2.1", "node.example/path?", "node.example#", "node example", "192.0.2.1:22"] {
            let part = |name| Multiaddr::empty().with(name).with(Protocol::Tcp(80)).with(Protocol::Ws("/".into()));
            assert_eq!(url_of(&part(Protocol::Dns(Cow::Borrowed(name)))), None, "{name:?}");
        }
    }
}
