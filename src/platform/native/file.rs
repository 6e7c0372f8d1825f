//! Files that transfers read and write: each read and write on the worker pool, so that a slow disk holds up nobody.

use std::{
    fs,
    io::{self, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll, ready},
    thread,
};

use futures::{AsyncRead, AsyncSeek, AsyncWrite, FutureExt as _, channel::oneshot, io::AllowStdIo};
use tokio::io::{AsyncRead as _, AsyncSeek as _, AsyncWrite as _, ReadBuf};

use crate::transfers::TransferPrefix;

/// One file, read or written on the network's thread.
pub(crate) struct File {
    file: tokio::fs::File,
    seeking: bool,
    /// A file that is written gets its name when it is complete.
    complete: Option<(PathBuf, PathBuf)>,
    renaming: Option<tokio::task::JoinHandle<io::Result<()>>>,
}

impl File {
    fn new(file: fs::File) -> Self {
        Self { file: tokio::fs::File::from_std(file), seeking: false, complete: None, renaming: None }
    }

    /// Opens a file to be read; tells its length too.
    pub(crate) async fn open(path: &Path) -> io::Result<(Self, u64)> {
        let path = path.to_owned();
        aside(move || {
            let file = fs::File::open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
            }
            Ok((Self::new(file), metadata.len()))
        })
        .await
    }

    /// Opens a file to be written, and looks at what an earlier run has left of it. `length`: what it will have, if that
    /// is known; a left-over that is not shorter belongs to something else.
    pub(crate) async fn resume(path: &Path, length: Option<u64>) -> io::Result<(Self, TransferPrefix)> {
        let path = path.to_owned();
        aside(move || {
            let mut part = path.clone().into_os_string();
            part.push(".part");
            let part = PathBuf::from(part);
            let mut options = fs::OpenOptions::new();
            let mut file = options.read(true).write(true).create(true).truncate(false).open(&part)?;
            let mut prefix = futures::executor::block_on(TransferPrefix::read(AllowStdIo::new(&mut file)))?;
            if length.is_some_and(|length| prefix.length() >= length) {
                prefix = TransferPrefix::default();
            }
            file.set_len(prefix.length())?;
            file.seek(SeekFrom::Start(prefix.length()))?;
            Ok((Self { complete: Some((part, path)), ..Self::new(file) }, prefix))
        })
        .await
    }
}

/// Does what may take long on a thread of its own: the caller may be in any runtime.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let (report, done) = oneshot::channel();
    thread::Builder::new().name("cpc-file".into()).spawn(move || drop(report.send(work())))?;
    done.await.unwrap_or_else(|_| Err(io::Error::other("the thread that opens the file ended")))
}

impl AsyncRead for File {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.file).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncSeek for File {
    fn poll_seek(mut self: Pin<&mut Self>, context: &mut Context<'_>, place: SeekFrom) -> Poll<io::Result<u64>> {
        if !self.seeking {
            // A read that was under way when its attempt was cut ends first.
            ready!(Pin::new(&mut self.file).poll_complete(context))?;
            Pin::new(&mut self.file).start_seek(place)?;
            self.seeking = true;
        }
        let at = ready!(Pin::new(&mut self.file).poll_complete(context));
        self.seeking = false;
        Poll::Ready(at)
    }
}

impl AsyncWrite for File {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.file).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(context)
    }

    /// Everything is there: it gets its name, once the disk has it.
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.file).poll_flush(context))?;
        if let Some((part, path)) = self.complete.take() {
            let complete = move || {
                fs::File::open(&part)?.sync_all()?;
                fs::rename(&part, &path)
            };
            self.renaming = Some(tokio::task::spawn_blocking(complete));
        }
        let Some(renaming) = &mut self.renaming else { return Poll::Ready(Ok(())) };
        let renamed = ready!(Pin::new(renaming).poll_unpin(context));
        self.renaming = None;
        Poll::Ready(renamed.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}
