//! Where a payload comes from.

use std::{
    collections::VecDeque,
    io::{self, SeekFrom},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncSeek};

/// A payload to send. It is read as fast as the receiver takes it and not faster, on the network's own task, which must
/// not be blocked: a reader whose `poll_read` waits for a disk holds up every connection of this node.
///
/// Made from bytes with `into`, from a file with [`TransferSource::file`], from any reader with
/// [`TransferSource::reader`], and from one that can't go back with [`TransferSource::once`].
pub struct TransferSource {
    inner: Box<dyn Source>,
}

impl TransferSource {
    /// Reads from a reader that can be set to any place, so that a cut transfer can go on anywhere.
    pub fn reader<R: AsyncRead + AsyncSeek + Send + Unpin + 'static>(reader: R) -> Self {
        Self { inner: Box::new(Seekable { filling: Filling::new(reader), length: None }) }
    }

    /// Reads from a reader that gives everything once, such as a pipe. What the receiver has not acknowledged is kept,
    /// so a cut transfer goes on all the same, unless the receiver has lost what it had. The memory for that is bounded
    /// by [`window`](crate::config::TransfersConfig::window).
    pub fn once<R: AsyncRead + Send + Unpin + 'static>(reader: R) -> Self {
        Self { inner: Box::new(Once { filling: Filling::new(reader), kept: VecDeque::new(), begin: 0, at: 0 }) }
    }

    /// Reads a file. Its length is what it is now.
    ///
    /// # Errors
    /// When it can't be opened; always in a browser, which has no files: make a source from a `Blob` there.
    pub async fn file(path: impl AsRef<std::path::Path>) -> io::Result<Self> {
        let (file, length) = crate::platform::File::open(path.as_ref()).await?;
        Ok(Self::of_length(file, length))
    }

    pub(crate) fn into_inner(self) -> Box<dyn Source> {
        self.inner
    }

    /// A reader whose length is known.
    pub(crate) fn of_length<R: AsyncRead + AsyncSeek + Send + Unpin + 'static>(reader: R, length: u64) -> Self {
        Self { inner: Box::new(Seekable { filling: Filling::new(reader), length: Some(length) }) }
    }
}

macro_rules! from_bytes {
    ($($bytes:ty),*) => {
        $(impl From<$bytes> for TransferSource {
            fn from(bytes: $bytes) -> Self {
                Self { inner: Box::new(InMemory { bytes: bytes.into(), at: 0 }) }
            }
        })*
    };
}

from_bytes!(Bytes, Vec<u8>, String, &'static [u8], &'static str);

impl std::fmt::Debug for TransferSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TransferSource").field("length", &self.inner.length()).finish()
    }
}

/// A source as the sender uses it.
pub(crate) trait Source: Send {
    /// How long it is in all, when it knows.
    fn length(&self) -> Option<u64>;

    /// Goes to a place; the next read begins there.
    fn poll_seek(&mut self, context: &mut Context<'_>, offset: u64) -> Poll<io::Result<()>>;

    /// The next `size` bytes; fewer only at the end.
    fn poll_chunk(&mut self, context: &mut Context<'_>, size: usize) -> Poll<io::Result<Bytes>>;

    /// Whether nothing follows.
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>>;

    /// What is before this place is not asked for again.
    fn release(&mut self, offset: u64);
}

struct InMemory {
    bytes: Bytes,
    at: usize,
}

impl Source for InMemory {
    fn length(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }

    fn poll_seek(&mut self, _: &mut Context<'_>, offset: u64) -> Poll<io::Result<()>> {
        self.at = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        Poll::Ready(Ok(()))
    }

    fn poll_chunk(&mut self, _: &mut Context<'_>, size: usize) -> Poll<io::Result<Bytes>> {
        let end = self.bytes.len().min(self.at + size);
        let chunk = self.bytes.slice(self.at..end);
        self.at = end;
        Poll::Ready(Ok(chunk))
    }

    fn poll_ended(&mut self, _: &mut Context<'_>) -> Poll<io::Result<bool>> {
        Poll::Ready(Ok(self.at == self.bytes.len()))
    }

    fn release(&mut self, _: u64) {}
}

/// Gathers what a reader gives until it is as much as was asked for.
struct Filling<R> {
    reader: R,
    gathered: BytesMut,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Filling<R> {
    fn new(reader: R) -> Self {
        Self { reader, gathered: BytesMut::new(), ended: false }
    }

    /// Gathers until `size` bytes are there or the reader has ended.
    fn poll_fill(&mut self, context: &mut Context<'_>, size: usize) -> Poll<io::Result<()>> {
        while self.gathered.len() < size && !self.ended {
            let filled = self.gathered.len();
            self.gathered.resize(size, 0);
            let read = Pin::new(&mut self.reader).poll_read(context, &mut self.gathered[filled..]);
            let count = if let Poll::Ready(Ok(count)) = &read { *count } else { 0 };
            self.gathered.truncate(filled + count.min(size - filled));
            self.ended = ready!(read)? == 0;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>, size: usize) -> Poll<io::Result<Bytes>> {
        ready!(self.poll_fill(context, size))?;
        let size = size.min(self.gathered.len());
        Poll::Ready(Ok(self.gathered.split_to(size).freeze()))
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        ready!(self.poll_fill(context, 1))?;
        Poll::Ready(Ok(self.gathered.is_empty()))
    }

    fn restart(&mut self) {
        self.gathered.clear();
        self.ended = false;
    }
}

struct Seekable<R> {
    filling: Filling<R>,
    length: Option<u64>,
}

impl<R: AsyncRead + AsyncSeek + Send + Unpin> Source for Seekable<R> {
    fn length(&self) -> Option<u64> {
        self.length
    }

    fn poll_seek(&mut self, context: &mut Context<'_>, offset: u64) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.filling.reader).poll_seek(context, SeekFrom::Start(offset)))?;
        self.filling.restart();
        Poll::Ready(Ok(()))
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>, size: usize) -> Poll<io::Result<Bytes>> {
        self.filling.poll_chunk(context, size)
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.filling.poll_ended(context)
    }

    fn release(&mut self, _: u64) {}
}

/// A reader that can't go back, and what was read of it and not released.
struct Once<R> {
    filling: Filling<R>,
    kept: VecDeque<Bytes>,
    /// Where the kept part begins.
    begin: u64,
    /// Where the next read begins; within the kept part after a seek, else at its end.
    at: u64,
}

impl<R> Once<R> {
    fn end(&self) -> u64 {
        self.begin + self.kept.iter().map(|part| part.len() as u64).sum::<u64>()
    }

    /// What is kept from the place on where it stands, as much as one part has.
    fn kept_here(&self, size: usize) -> Option<Bytes> {
        let mut begin = self.begin;
        for part in &self.kept {
            let end = begin + part.len() as u64;
            if self.at < end {
                let from = usize::try_from(self.at - begin).expect("within a part");
                return Some(part.slice(from..part.len().min(from + size)));
            }
            begin = end;
        }
        None
    }
}

impl<R: AsyncRead + Send + Unpin> Source for Once<R> {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_seek(&mut self, _: &mut Context<'_>, offset: u64) -> Poll<io::Result<()>> {
        if !(self.begin..=self.end()).contains(&offset) {
            let reason = format!("it gives everything once, and byte {offset} is not kept any more");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::Unsupported, reason)));
        }
        self.at = offset;
        Poll::Ready(Ok(()))
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>, size: usize) -> Poll<io::Result<Bytes>> {
        // All before anything moves, so that nothing is lost when the reader is not ready.
        let missing = size.saturating_sub(usize::try_from(self.end() - self.at).unwrap_or(usize::MAX));
        if missing > 0 {
            let fresh = ready!(self.filling.poll_chunk(context, missing))?;
            if !fresh.is_empty() {
                self.kept.push_back(fresh);
            }
        }
        let mut chunk = BytesMut::new();
        while chunk.len() < size
            && let Some(part) = self.kept_here(size - chunk.len())
        {
            self.at += part.len() as u64;
            if part.len() == size {
                return Poll::Ready(Ok(part));
            }
            chunk.extend_from_slice(&part);
        }
        Poll::Ready(Ok(chunk.freeze()))
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.at < self.end() {
            return Poll::Ready(Ok(false));
        }
        self.filling.poll_ended(context)
    }

    fn release(&mut self, offset: u64) {
        while let Some(first) = self.kept.front()
            && self.begin + first.len() as u64 <= offset
        {
            self.begin += first.len() as u64;
            self.kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::{
        executor::block_on,
        io::{AsyncReadExt as _, Cursor},
    };

    use super::*;

    fn read(source: &mut Box<dyn Source>, size: usize) -> Bytes {
        block_on(poll_fn(|context| source.poll_chunk(context, size))).expect("readable")
    }

    fn seek(source: &mut Box<dyn Source>, offset: u64) -> io::Result<()> {
        block_on(poll_fn(|context| source.poll_seek(context, offset)))
    }

    fn ended(source: &mut Box<dyn Source>) -> bool {
        block_on(poll_fn(|context| source.poll_ended(context))).expect("readable")
    }

    #[test]
    fn every_source_gives_whole_chunks_goes_back_and_knows_its_end() {
        let bytes = (0..100).collect::<Vec<u8>>();
        // A reader that gives its bytes in two pieces.
        let pieces = Cursor::new(bytes[..7].to_vec()).chain(Cursor::new(bytes[7..].to_vec()));
        for source in [
            TransferSource::from(bytes.clone()),
            TransferSource::reader(Cursor::new(bytes.clone())),
            TransferSource::once(pieces),
        ] {
            let mut source = source.into_inner();
            assert_eq!(read(&mut source, 40), bytes[..40]);
            assert!(!ended(&mut source));
            assert_eq!(read(&mut source, 40), bytes[40..80]);
            source.release(40);
            seek(&mut source, 50).expect("it can go back to what was not released");
            assert_eq!(read(&mut source, 40), bytes[50..90], "over the place where it had stopped");
            assert!(!ended(&mut source));
            assert_eq!(read(&mut source, 40), bytes[90..]);
            assert!(ended(&mut source));
            assert!(read(&mut source, 40).is_empty());
        }
    }

    #[test]
    fn what_a_reader_without_return_has_released_is_gone_and_the_error_says_so() {
        let mut source = TransferSource::once(Cursor::new(vec![1; 100])).into_inner();
        read(&mut source, 60);
        source.release(60);
        let error = seek(&mut source, 0).expect_err("released");
        assert!(error.to_string().contains("byte 0"), "{error}");
    }
}
