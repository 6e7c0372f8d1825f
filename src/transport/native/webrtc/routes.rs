//! Whose datagram is this? Many connections share one port, and one address may have several in its life.
//!
//! - A STUN request names its connection. With a name not seen before it is the first of a new one, whatever came from
//!   that address until now: Chromium uses its port again for its next connection.
//! - A STUN answer is for whoever asked at that address.
//! - A DTLS record names nobody. Plain ones (the beginning of a handshake) belong to the newest connection from that
//!   address. Encrypted ones are shown to the address's owner and to the newest; who can't decrypt one ignores it.
//!
//! An address is owned once an ICE check has been answered from there. So nobody can take a connection's place by writing
//! another's address on an envelope.

use std::{collections::HashMap, net::SocketAddr};

use super::connection::Key;

/// Addresses of one connection; a machine that moves about gives up its oldest.
const MAX_ADDRESSES: usize = 8;

/// What a datagram says about whom it is for (RFC 7983, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stun,
    /// A DTLS record that anybody can read.
    Plain,
    Encrypted,
    /// None of ours.
    Unknown,
}

impl Kind {
    pub(super) fn of(datagram: &[u8]) -> Self {
        match datagram {
            [0..2, ..] if datagram.len() >= 20 => Kind::Stun,
            // Content type, version, epoch.
            [20..32, _, _, 0, 0, ..] => Kind::Plain,
            [20..64, ..] => Kind::Encrypted,
            _ => Kind::Unknown,
        }
    }
}

#[derive(Default)]
struct Address {
    owner: Option<Key>,
    newest: Option<Key>,
}

/// The connections of one port.
#[derive(Default)]
pub(super) struct Routes {
    names: HashMap<String, Key>,
    addresses: HashMap<SocketAddr, Address>,
    of_connection: HashMap<Key, (String, Vec<SocketAddr>)>,
}

impl Routes {
    /// Who is called so by the other side (ICE: the first half of the user name).
    pub(super) fn named(&self, name: &str) -> Option<Key> {
        self.names.get(name).copied()
    }

    /// Who may have asked at this address.
    pub(super) fn at(&self, address: SocketAddr, kind: Kind) -> impl Iterator<Item = Key> + use<> {
        let (first, second) = match self.addresses.get(&address) {
            None => (None, None),
            Some(at) if kind == Kind::Plain => (at.newest.or(at.owner), None),
            Some(at) => (at.owner, at.newest.filter(|newest| at.owner != Some(*newest))),
        };
        first.into_iter().chain(second)
    }

    /// A new connection, called `name`, that came from `address`.
    pub(super) fn insert(&mut self, key: Key, name: String, address: SocketAddr) {
        self.names.insert(name.clone(), key);
        self.of_connection.insert(key, (name, Vec::new()));
        self.came_from(key, address);
    }

    /// A connection came from an address, which it does not own yet.
    pub(super) fn came_from(&mut self, key: Key, address: SocketAddr) {
        if self.remember(key, address) {
            self.addresses.entry(address).or_default().newest = Some(key);
        }
    }

    /// A connection has answered from an address.
    pub(super) fn owns(&mut self, key: Key, address: SocketAddr) {
        self.remember(key, address);
        let at = self.addresses.entry(address).or_default();
        at.owner = Some(key);
        if at.newest == Some(key) {
            at.newest = None;
        }
    }

    /// Whether the address is new to the connection.
    fn remember(&mut self, key: Key, address: SocketAddr) -> bool {
        let Some((_, addresses)) = self.of_connection.get_mut(&key) else { return false };
        if addresses.contains(&address) {
            return false;
        }
        addresses.push(address);
        if addresses.len() > MAX_ADDRESSES {
            let oldest = addresses.remove(0);
            self.forget(key, oldest);
        }
        true
    }

    pub(super) fn remove(&mut self, key: Key) {
        let Some((name, addresses)) = self.of_connection.remove(&key) else { return };
        self.names.remove(&name);
        for address in addresses {
            self.forget(key, address);
        }
    }

    fn forget(&mut self, key: Key, address: SocketAddr) {
        let Some(at) = self.addresses.get_mut(&address) else { return };
        at.owner = at.owner.filter(|owner| *owner != key);
        at.newest = at.newest.filter(|newest| *newest != key);
        if at.owner.is_none() && at.newest.is_none() {
            self.addresses.remove(&address);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.addresses.is_empty() && self.of_connection.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    fn at(routes: &Routes, port: u16, kind: Kind) -> Vec<Key> {
        routes.at(address(port), kind).collect()
    }

    #[test]
    fn datagrams_are_told_apart_by_their_first_bytes() {
        assert_eq!(Kind::of(&[0; 20]), Kind::Stun);
        assert_eq!(Kind::of(&[1; 19]), Kind::Unknown);
        assert_eq!(Kind::of(&[22, 254, 253, 0, 0, 0]), Kind::Plain);
        assert_eq!(Kind::of(&[22, 254, 253, 0, 1, 0]), Kind::Encrypted);
        assert_eq!(Kind::of(&[0x2f, 1]), Kind::Encrypted);
        for unknown in [&[][..], &[64], &[128, 0, 0], &[255; 100], &[2; 40]] {
            assert_eq!(Kind::of(unknown), Kind::Unknown);
        }
    }

    #[test]
    fn a_port_that_is_used_again_belongs_to_the_new_connection_once_it_has_answered() {
        let mut routes = Routes::default();
        routes.insert(1, "one".to_owned(), address(5));
        routes.owns(1, address(5));
        assert_eq!(at(&routes, 5, Kind::Plain), [1]);

        routes.insert(2, "two".to_owned(), address(5));
        assert_eq!((routes.named("one"), routes.named("two")), (Some(1), Some(2)));
        assert_eq!(at(&routes, 5, Kind::Plain), [2], "it begins a handshake");
        assert_eq!(at(&routes, 5, Kind::Encrypted), [1, 2], "the old one may still be there");

        routes.owns(2, address(5));
        assert_eq!(at(&routes, 5, Kind::Encrypted), [2]);
        routes.remove(1);
        assert_eq!(at(&routes, 5, Kind::Encrypted), [2], "the old one takes nothing along");
        routes.remove(2);
        assert!(routes.is_empty());
    }

    #[test]
    fn who_only_names_an_address_takes_nothing_from_its_owner() {
        let mut routes = Routes::default();
        routes.insert(1, "one".to_owned(), address(5));
        routes.owns(1, address(5));
        routes.insert(2, "forged".to_owned(), address(5));
        routes.remove(2);
        assert_eq!(at(&routes, 5, Kind::Plain), [1]);
        assert_eq!(at(&routes, 5, Kind::Encrypted), [1]);
    }

    #[test]
    fn a_connection_that_moves_about_keeps_its_latest_addresses() {
        let mut routes = Routes::default();
        routes.insert(1, "one".to_owned(), address(0));
        for port in 0..100 {
            routes.owns(1, address(port));
        }
        assert_eq!(at(&routes, 99, Kind::Encrypted), [1]);
        assert_eq!(at(&routes, 0, Kind::Encrypted), [0; 0]);
        assert_eq!(routes.addresses.len(), MAX_ADDRESSES);
        routes.remove(1);
        assert!(routes.is_empty());
    }
}
