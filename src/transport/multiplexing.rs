//! Many streams on one connection of bytes, by yamux.
//!
//! libp2p's own wrapper of the same crate lets the windows of one connection grow to 1 GiB and offers no way to say less,
//! and it breaks where a peer sends frames above 1 MiB. This one has the same behaviour otherwise, a limit of
//! [`RECEIVE_WINDOW`], and `frames` below it. What a peer may send before it is read is known by that, and so is when one
//! sends more.

mod frames;

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io, iter,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use frames::CutFrames;
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    StreamMuxer, UpgradeInfo,
    muxing::StreamMuxerEvent,
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
};
use yamux::{Config, Connection, ConnectionError, DEFAULT_CREDIT, Mode, Stream};

/// Streams of one connection, as many as elsewhere.
const MAX_STREAMS: usize = 512;

/// By how much the windows of a connection's streams may grow beyond the 256 KiB that each has from the start: enough
/// for 100 Mbit/s at more than two seconds.
const GROWTH: usize = 32 * 1024 * 1024;

/// What a peer may send at most before it is read, all streams together.
pub(super) const RECEIVE_WINDOW: usize = MAX_STREAMS * DEFAULT_CREDIT as usize + GROWTH;

/// Streams that the peer has opened and nobody has taken; more are reset. Yamux opens no more without an answer.
const MAX_WAITING: usize = 256;

/// Makes a connection one of many streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Yamux;

impl Yamux {
    fn config() -> Config {
        let mut config = Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config.set_max_connection_receive_window(Some(RECEIVE_WINDOW));
        config
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, connection: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(connection, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, connection: C, _: &'static str) -> Self::Future {
        ready(Ok(Muxer::new(connection, Mode::Client)))
    }
}

/// A connection with its streams.
pub(super) struct Muxer<C> {
    connection: Connection<CutFrames<C>>,
    waiting: VecDeque<Stream>,
    /// Who waits for a stream of the peer's.
    for_inbound: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(connection: C, mode: Mode) -> Self {
        let connection = Connection::new(CutFrames::new(connection), Yamux::config(), mode);
        Self { connection, waiting: VecDeque::new(), for_inbound: None }
    }

    /// All work is done in here; a stream of the peer's is what it gives.
    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.connection.poll_next_inbound(context).map(|stream| match stream {
            Some(stream) => stream.map_err(io_error),
            None => Err(io_error(ConnectionError::Closed)),
        })
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let this = self.get_mut();
        if let Some(stream) = this.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let polled = this.poll_stream(context);
        if polled.is_pending() {
            this.for_inbound = Some(context.waker().clone());
        }
        polled
    }

    fn poll_outbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        self.get_mut().connection.poll_new_outbound(context).map_err(io_error)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().connection.poll_close(context).map_err(io_error)
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let this = self.get_mut();
        while let Poll::Ready(stream) = this.poll_stream(context) {
            let stream = stream?;
            if this.waiting.len() >= MAX_WAITING {
                tracing::debug!("a stream was reset: nobody takes them");
                continue;
            }
            this.waiting.push_back(stream);
            if let Some(waker) = this.for_inbound.take() {
                waker.wake();
            }
        }
        Poll::Pending
    }
}

/// The transport's own words, where it is the transport that failed.
fn io_error(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}
