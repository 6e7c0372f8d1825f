//! Threads, tokio and the file system.

mod ed25519;
mod file;
mod journal;
mod lock;
mod wakes;

pub(crate) use ed25519::{Signer, Verifier};
pub(crate) use file::File;
pub(crate) use journal::Disk;
pub(crate) use lock::Lock;
pub(crate) use wakes::Wakes;

use std::{
    fs,
    future::Future,
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
};

use zeroize::Zeroizing;

use crate::error::{StartError, StoreError};

/// After so many polls of tasks in a row tokio looks at its sockets. By default it does after 61: while a task is always
/// ready, such as a transfer whose source never waits, everything that comes in would wait for all of these.
const POLLS_BETWEEN_SOCKETS: u32 = 16;

/// Starts the network on a thread of its own, with a runtime of its own: one thread for the driver and all connections
/// is faster than waking another for every step, and the app's runtime, whatever it is, stays free.
///
/// # Errors
/// When the system has no room for the thread.
pub(crate) fn start<W, F>(work: W) -> Result<(), StartError>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(POLLS_BETWEEN_SOCKETS)
        .max_blocking_threads(workers)
        .thread_name("cpc-worker")
        .build()
        .map_err(|error| StartError::Thread(error.to_string()))?;
    thread::Builder::new()
        .name("cpc-network".into())
        .spawn(move || {
            runtime.block_on(async { work().await });
            // Connections that still say goodbye are not waited for longer than this.
            runtime.shutdown_timeout(std::time::Duration::from_millis(100));
        })
        .map_err(|error| StartError::Thread(error.to_string()))?;
    Ok(())
}

/// Runs a task of the app's beside the network: on the app's runtime when it is called in one, else on a thread of its
/// own.
pub(crate) fn spawn(task: futures::future::BoxFuture<'static, ()>) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(task)),
        Err(_) => {
            let spawned = thread::Builder::new().name("cpc-handler".into()).spawn(|| futures::executor::block_on(task));
            if let Err(error) = spawned {
                tracing::error!(%error, "no thread for a message handler: it is never called");
            }
        }
    }
}

/// Runs what writes the journal on a thread of its own: a commit blocks until the disk has it.
///
/// # Errors
/// When the system has no room for the thread.
pub(crate) fn start_writer<W, F>(work: W) -> Result<(), StartError>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()>,
{
    thread::Builder::new()
        .name("cpc-journal".into())
        .spawn(move || futures::executor::block_on(work()))
        .map_err(|error| StartError::Thread(error.to_string()))?;
    Ok(())
}

/// How the swarm runs its connections: as tasks of the network's thread.
pub(crate) fn swarm_config() -> libp2p::swarm::Config {
    libp2p::swarm::Config::with_tokio_executor()
}

/// Does heavy work on the worker pool.
pub(crate) async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down: nobody will look at the result.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Runs what needs the worker pool to its end, in a test.
#[cfg(test)]
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a test has room for a runtime").block_on(work)
}

/// Items in a folder, one file each, for the owner's eyes only.
#[derive(Debug)]
pub(crate) struct Storage {
    folder: PathBuf,
}

impl Storage {
    /// Opens the folder, creating it when it is missing.
    pub(crate) async fn open(place: &str) -> Result<Self, StoreError> {
        let folder = PathBuf::from(place);
        create_private_folder(&folder).map_err(|error| failed("write", &folder, &error))?;
        Ok(Self { folder })
    }

    /// Reads an item; `None` when it was never written.
    pub(crate) async fn read(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let path = self.folder.join(item);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path, &error)),
            Ok(metadata) => refuse_exposed(&path, &metadata)?,
        }
        fs::read(&path).map(|bytes| Some(Zeroizing::new(bytes))).map_err(|error| failed("read", &path, &error))
    }

    /// Writes an item. After a crash either the old or the new content is there, whole.
    pub(crate) async fn write(&self, item: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.folder.join(item);
        let fresh = self.folder.join(format!(".{item}.{}", super::random()));
        let written = (|| {
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            owner_only(&mut options);
            let mut file = options.open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        })();
        written.map_err(|error| {
            // The old content is untouched; a left-over of the new one would hold a secret.
            let _ = fs::remove_file(&fresh);
            failed("write", &path, &error)
        })
    }

    /// How an item is called towards people.
    pub(crate) fn describe(&self, item: &str) -> String {
        self.folder.join(item).display().to_string()
    }
}

fn failed(action: &'static str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io { action, item: path.display().to_string(), reason: error.to_string() }
}

#[cfg(unix)]
fn owner_only(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_: &mut fs::OpenOptions) {}

#[cfg(unix)]
fn create_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn create_private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(unix)]
fn refuse_exposed(path: &Path, metadata: &fs::Metadata) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(StoreError::Exposed { item: path.display().to_string(), mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &Path, _: &fs::Metadata) -> Result<(), StoreError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn an_item_is_kept_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("deep/er");
        block_on(async {
            let storage = Storage::open(&place.display().to_string()).await.expect("opens");
            assert!(storage.read("key").await.expect("readable").is_none());
            storage.write("key", b"one").await.expect("writable");
            storage.write("key", b"two").await.expect("writable");
            assert_eq!(storage.read("key").await.expect("readable").as_deref(), Some(&b"two".to_vec()));
            assert_eq!(fs::read_dir(&place).expect("listable").count(), 1, "no left-overs");
        });
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let file = place.join("key");
            assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("changeable");
            let error = block_on(async {
                Storage::open(&place.display().to_string())
                    .await
                    .expect("opens")
                    .read("key")
                    .await
                    .expect_err("exposed")
            });
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_place_that_is_no_folder_is_a_clear_error() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = block_on(Storage::open(&file.path().display().to_string())).expect_err("a file is no folder");
        assert!(error.to_string().contains("can't write"), "{error}");
    }
}
