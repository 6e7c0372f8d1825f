//! WebSocket from a page or a worker to native nodes, over the browser's own `WebSocket`.
//!
//! - `address`: which addresses these are, and the URL of each.
//! - `connection`: one socket as a stream of bytes.

mod address;
mod connection;
#[cfg(test)]
mod tests;

use std::{
    future::Pending,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
};
use send_wrapper::SendWrapper;

use connection::Connection;

/// WebSocket from a browser, which only dials.
#[derive(Debug, Default)]
pub(super) struct Transport;

/// Whether an address is one of a WebSocket server. One that leads on through a relay is not.
pub(super) fn can_dial(address: &Multiaddr) -> bool {
    address::url_of(address).is_some()
}

impl libp2p::Transport for Transport {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = Pending<io::Result<Connection>>;
    type Dial = BoxFuture<'static, io::Result<Connection>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    /// Ready when the socket is open, so that what refuses it ends the dial at once. A dial that is dropped closes it.
    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        match address::url_of(&address) {
            // Whoever dials as a listener wants to meet the other side halfway, and a server comes nobody's way.
            Some(url) if options.role.is_dialer() => {
                Ok(SendWrapper::new(async move { Connection::open(&url).await }).boxed())
            }
            _ => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}
