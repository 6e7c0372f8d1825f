//! Small writes for WebRTC-direct: the native side of the published transport loses a stream that receives a
//! data-channel message above 8,192 bytes, though up to 16 KiB are allowed (rust-libp2p issue 6557). Each write stays
//! below that and is flushed before the next, so that no two are joined.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{StreamMuxer, muxing::StreamMuxerEvent};

/// The largest write, bytes; the framing around it stays below 8,192.
const MAX_WRITE: usize = 8_000;

/// A connection whose streams write in small steps.
pub(super) struct Paced<M> {
    muxer: M,
}

impl<M> Paced<M> {
    pub(super) fn new(muxer: M) -> Self {
        Self { muxer }
    }
}

impl<M> StreamMuxer for Paced<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = PacedStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_inbound(context).map_ok(PacedStream::new)
    }

    fn poll_outbound(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Self::Substream, M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_outbound(context).map_ok(PacedStream::new)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll_close(context)
    }

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.get_mut().muxer).poll(context)
    }
}

/// A stream that writes in small steps.
pub(super) struct PacedStream<S> {
    stream: S,
    /// Something was written and not flushed.
    unflushed: bool,
}

impl<S> PacedStream<S> {
    fn new(stream: S) -> Self {
        Self { stream, unflushed: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unflushed {
            ready!(Pin::new(&mut this.stream).poll_flush(context))?;
            this.unflushed = false;
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, &bytes[..bytes.len().min(MAX_WRITE)]))?;
        this.unflushed = true;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(context))?;
        this.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(context)
    }
}
