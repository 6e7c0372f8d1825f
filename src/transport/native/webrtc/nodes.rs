//! Connections for the signalling behind relays (`…/p2p-circuit/webrtc/p2p/…`).
//!
//! Limits: this side tells the addresses of its own interfaces only. There is no STUN server asked and no TURN server
//! used, so of two peers behind NATs at least one has to be let through by its own, or be a page that knows such
//! servers: what a page finds out about itself is used. The `.local` names of pages are not resolved; the page's checks
//! come here instead, and are answered wherever they come from.

use std::{io, net::IpAddr};

use super::{
    Certificate,
    certificate::CertificateError,
    connection::{Connection, DataChannel},
    endpoint::Endpoint,
};
use crate::transport::webrtc::{Streams, signaling::Backend};

/// Addresses of this machine that are told to a peer.
const MAX_ADDRESSES: usize = 16;

/// Makes them.
#[derive(Clone)]
pub(crate) struct Nodes {
    certificate: Certificate,
}

impl Nodes {
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn new() -> Result<Self, CertificateError> {
        // Nobody has to know it again, so it is not the one of the addresses.
        Ok(Self { certificate: Certificate::generate()? })
    }
}

impl Backend for Nodes {
    type Link = Connection;

    fn connection(&self, streams: &Streams<DataChannel>) -> io::Result<Connection> {
        Endpoint::negotiate(&self.certificate, own_addresses()?, streams)
    }
}

/// The addresses of this machine: those that others can reach, else its loopback.
fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let interfaces = if_addrs::get_if_addrs()?;
    let all = || interfaces.iter().filter(|interface| !interface.is_link_local());
    let mut ips = all().filter(|interface| !interface.is_loopback()).map(if_addrs::Interface::ip).collect::<Vec<_>>();
    if ips.is_empty() {
        ips.extend(all().map(if_addrs::Interface::ip));
    }
    // More would only be tried one after the other.
    ips.truncate(MAX_ADDRESSES);
    Ok(ips)
}
