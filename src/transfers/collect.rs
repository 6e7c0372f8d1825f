//! A payload in memory.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::AsyncWrite;

/// Bytes that come in, up to a limit.
#[derive(Clone)]
pub(super) struct Collected {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    bytes: Vec<u8>,
    limit: usize,
    over: bool,
}

impl Collected {
    pub(super) fn new(limit: usize) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { bytes: Vec::new(), limit, over: false })) }
    }

    pub(super) fn writer(&self) -> Collected {
        self.clone()
    }

    /// What has come.
    pub(super) fn take(&self) -> Bytes {
        std::mem::take(&mut self.lock().bytes).into()
    }

    /// Whether more came than may.
    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncWrite for Collected {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.bytes.len() + bytes.len() > inner.limit {
            inner.over = true;
            let reason = format!("the payload is longer than {} bytes", inner.limit);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::StorageFull, reason)));
        }
        inner.bytes.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
