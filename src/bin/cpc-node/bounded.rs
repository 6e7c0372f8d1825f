//! A TCP listener for HTTP that no client can exhaust: a bounded number of connections, none of which may stand still.
//!
//! One rule covers all ways of standing still: a connection on which nothing could be sent for a while is closed. As
//! requests have no bodies and answers are ready at once, that catches a request that is never finished (however many
//! single bytes of it trickle in), a reader that doesn't read its answer, and a connection that is kept open unused.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

/// How many connections are served at a time; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's description.
pub(crate) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl BoundedListener {
    /// Takes over a listener.
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self::with_bounds(listener, MAX_CONNECTIONS, PATIENCE)
    }

    fn with_bounds(listener: TcpListener, connections: usize, patience: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections)), patience }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedConnection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        // axum's own way of accepting goes on after errors, pausing when the system has run out of descriptors.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let deadline = Box::pin(tokio::time::sleep(self.patience));
        (BoundedConnection { stream, deadline, patience: self.patience, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that holds one of the listener's places and has a deadline for the next byte sent.
pub(crate) struct BoundedConnection {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    patience: Duration,
    _place: OwnedSemaphorePermit,
}

impl BoundedConnection {
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn sent(&mut self, outcome: &Poll<io::Result<usize>>) {
        if matches!(outcome, Poll::Ready(Ok(1..))) {
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
    }
}

impl AsyncRead for BoundedConnection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.in_time(context)?;
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoundedConnection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.in_time(context)?;
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.sent(&outcome);
        outcome
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.in_time(context)?;
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, parts);
        this.sent(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Long against the round trips of a test, short enough to wait for.
    const SHORT: Duration = Duration::from_millis(300);
    /// Nothing here may take this long.
    const BOUND: Duration = Duration::from_secs(10);

    async fn server(connections: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let listener = BoundedListener::with_bounds(listener, connections, SHORT);
        let router = Router::new().route("/", get(|| async { "hello" }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        // How the connection ends, by FIN or RST, is no matter here.
        let _ = tokio::time::timeout(BOUND, stream.read_to_end(&mut answer)).await.expect("the server closes it");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn an_unused_connection_is_answered_and_then_closed() {
        let mut stream = TcpStream::connect(server(8).await).await.expect("connects");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_that_trickles_in_is_cut_off() {
        let (mut reader, mut writer) = TcpStream::connect(server(8).await).await.expect("connects").into_split();
        let trickle = async {
            let mut pace = tokio::time::interval(SHORT / 10);
            while writer.write_all(b"G").await.is_ok() {
                pace.tick().await;
            }
        };
        let mut answer = Vec::new();
        let closed = async {
            let _ = reader.read_to_end(&mut answer).await;
        };
        let both = async {
            tokio::select! {
                () = trickle => {}
                () = closed => {}
            }
        };
        tokio::time::timeout(BOUND, both).await.expect("the server doesn't wait for ever");
    }

    #[tokio::test]
    async fn one_too_many_waits_until_another_has_gone() {
        let address = server(1).await;
        let idle = TcpStream::connect(address).await.expect("connects");
        let mut second = TcpStream::connect(address).await.expect("the system's queue takes it");
        second.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.expect("sent");
        assert!(rest(&mut second).await.starts_with("HTTP/1.1 200"), "served once the idle one is closed");
        drop(idle);
    }
}
