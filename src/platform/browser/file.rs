//! A page has no files.

use std::{
    io::{self, SeekFrom},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncSeek, AsyncWrite};

use crate::transfers::TransferPrefix;

/// Never there.
#[derive(Debug)]
pub(crate) struct File(std::convert::Infallible);

fn no_files() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a page has no files; use a Blob or a stream")
}

impl File {
    pub(crate) async fn open(_: &Path) -> io::Result<(Self, u64)> {
        Err(no_files())
    }

    pub(crate) async fn resume(_: &Path, _: Option<u64>) -> io::Result<(Self, TransferPrefix)> {
        Err(no_files())
    }
}

impl AsyncRead for File {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }
}

impl AsyncSeek for File {
    fn poll_seek(self: Pin<&mut Self>, _: &mut Context<'_>, _: SeekFrom) -> Poll<io::Result<u64>> {
        match self.0 {}
    }
}

impl AsyncWrite for File {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match self.0 {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0 {}
    }
}
