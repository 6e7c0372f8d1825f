//! The page's event loop and IndexedDB, and what wakes it.

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

use std::{cell::Cell, future::Future, rc::Rc};

use futures::channel::oneshot;
use idb::{Database, DatabaseEvent as _, Factory, ObjectStoreParams, Request, TransactionMode};
use js_sys::Uint8Array;
use wasm_bindgen::{JsCast as _, JsValue};
use zeroize::Zeroizing;

use crate::error::{StartError, StoreError};

/// The one object store of each database.
const ITEMS: &str = "items";

/// Starts the network as a task of the page.
///
/// # Errors
/// Never in a browser.
pub(crate) fn start<W, F>(work: W) -> Result<(), StartError>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    wasm_bindgen_futures::spawn_local(async move { work().await });
    Ok(())
}

/// Runs a task of the app's beside the network.
pub(crate) fn spawn(task: futures::future::BoxFuture<'static, ()>) {
    wasm_bindgen_futures::spawn_local(task);
}

/// Runs what writes the journal as a task of the page.
///
/// # Errors
/// Never in a browser.
pub(crate) fn start_writer<W, F>(work: W) -> Result<(), StartError>
where
    W: FnOnce() -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    wasm_bindgen_futures::spawn_local(work());
    Ok(())
}

/// How the swarm runs its connections: as tasks of the page.
pub(crate) fn swarm_config() -> libp2p::swarm::Config {
    libp2p::swarm::Config::with_wasm_executor()
}

/// A page has one thread: heavy work is done where it stands, on the task of the connection that needs it.
pub(crate) async fn offload<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    work()
}

/// Runs what is done where it stands to its end, in a test.
#[cfg(test)]
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    futures::executor::block_on(work)
}

/// Items in an IndexedDB database. The origin owns it; no other site can read it.
#[derive(Debug)]
pub(crate) struct Storage {
    database: Database,
    name: String,
}

impl Storage {
    /// Opens the database, creating it when it is missing.
    pub(crate) async fn open(name: &str) -> Result<Self, StoreError> {
        let refused = |error: idb::Error| StoreError::Io {
            action: "open",
            item: format!("the database {name:?}"),
            reason: error.to_string(),
        };
        let mut request = Factory::new().and_then(|factory| factory.open(name, Some(1))).map_err(refused)?;
        request.on_upgrade_needed(|event| {
            // A failure here fails the request, which is reported below.
            if let Ok(database) = event.database() {
                let _ = database.create_object_store(ITEMS, ObjectStoreParams::new());
            }
        });
        settled(&mut request).await.map_err(refused)?;
        Ok(Self { database: request.database().map_err(refused)?, name: name.to_owned() })
    }

    /// Reads an item; `None` when it was never written.
    pub(crate) async fn read(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let value = async {
            let transaction = self.database.transaction(&[ITEMS], TransactionMode::ReadOnly)?;
            let mut request = transaction.object_store(ITEMS)?.get(JsValue::from_str(item))?;
            settled(&mut request).await?;
            request.result()
        };
        let value = value.await.map_err(|error| self.failed("read", item, &error))?;
        if value.is_undefined() {
            return Ok(None);
        }
        match value.dyn_into::<Uint8Array>() {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes.to_vec()))),
            Err(_) => Err(StoreError::Damaged { item: self.describe(item), reason: "it is not bytes".into() }),
        }
    }

    /// Writes an item; when it returns, the browser has committed it.
    pub(crate) async fn write(&self, item: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let value = Uint8Array::from(bytes);
        let written = async {
            let mut transaction = self.database.transaction(&[ITEMS], TransactionMode::ReadWrite)?;
            let (report, outcome) = reports();
            transaction.on_complete({
                let report = report.clone();
                move |_| report(true)
            });
            transaction.on_abort(move |_| report(false));
            let mut request = transaction.object_store(ITEMS)?.put(&value, Some(&JsValue::from_str(item)))?;
            settled(&mut request).await?;
            let transaction = transaction.commit()?;
            if outcome.await == Ok(true) { Ok(()) } else { Err(reason(transaction.error())) }
        };
        written.await.map_err(|error| self.failed("write", item, &error))
    }

    /// How an item is called towards people.
    pub(crate) fn describe(&self, item: &str) -> String {
        format!("{item} in the database {:?}", self.name)
    }

    fn failed(&self, action: &'static str, item: &str, error: &idb::Error) -> StoreError {
        StoreError::Io { action, item: self.describe(item), reason: error.to_string() }
    }
}

/// Waits until a request has succeeded or failed.
async fn settled(request: &mut impl Request) -> Result<(), idb::Error> {
    let (report, outcome) = reports();
    request.on_success({
        let report = report.clone();
        move |_| report(true)
    });
    request.on_error(move |_| report(false));
    if outcome.await == Ok(true) { Ok(()) } else { Err(reason(request.error()?)) }
}

/// A function that either of two callbacks may call once, and what it was told.
fn reports() -> (impl Fn(bool) + Clone + 'static, oneshot::Receiver<bool>) {
    let (sender, receiver) = oneshot::channel();
    let sender = Rc::new(Cell::new(Some(sender)));
    let report = move |good| {
        if let Some(sender) = sender.take() {
            // Whoever waited may be gone.
            let _ = sender.send(good);
        }
    };
    (report, receiver)
}

fn reason(error: Option<web_sys::DomException>) -> idb::Error {
    error.map_or(idb::Error::DomExceptionNotFound, idb::Error::DomException)
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.database.close();
    }
}
