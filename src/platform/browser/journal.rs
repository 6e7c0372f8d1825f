//! The journal's disk: an IndexedDB database beside the one of the small items, one object store a shelf.
//!
//! A commit is one transaction, so it is there whole or not at all, also when the page is closed in the middle of it.
//! What counts as stored the browser is asked for (Indexed Database API 3.0, §4.10 durability hint): `relaxed` means that
//! the system has it, which outlives the page and the browser, `strict` that the disk has it, which outlives the machine.

use bytes::Bytes;
use idb::{
    Database, DatabaseEvent as _, Factory, ObjectStoreParams, Query, Request as _, Transaction, TransactionMode,
};
use js_sys::{Array, ArrayBuffer, Function, Object, Reflect, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};

use super::{reason, reports, settled};
use crate::{
    error::StoreError,
    rows::{Changes, Kept, Key, Shelf},
};

/// The layout of the object stores: 2 has those of mailboxes. Those that are missing are made, the others stay as they are.
const VERSION: u32 = 2;

/// Where the journal's rows lie.
pub(crate) struct Disk {
    name: String,
    strict: bool,
    /// Away after an error, until it has been opened anew.
    database: Option<JsValue>,
}

impl Disk {
    /// Opens the database, creating it when it is missing. `strict` asks for each commit to be on the disk itself.
    ///
    /// # Errors
    /// When the browser refuses.
    pub(crate) async fn open(place: &str, strict: bool) -> Result<Self, StoreError> {
        let name = format!("{place}/messages");
        let database = open(&name).await.map_err(|error| failed("open", place, &error))?;
        Ok(Self { name: place.to_owned(), strict, database: Some(database) })
    }

    /// How the database at a place is called towards people.
    pub(crate) fn describe(place: &str) -> String {
        format!("the database {:?}", format!("{place}/messages"))
    }

    /// All rows.
    ///
    /// # Errors
    /// When the browser refuses, or a row is not what was written.
    pub(crate) async fn load(&mut self) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        for shelf in Shelf::ALL {
            let (keys, values) = self.read(shelf).await.map_err(|error| failed("read", &self.name, &error))?;
            for (key, value) in keys.into_iter().zip(values) {
                let row = (|| Some((key_of(&key)?, Bytes::from(value.dyn_into::<Uint8Array>().ok()?.to_vec()))))();
                let row = row.ok_or_else(|| StoreError::Damaged {
                    item: Self::describe(&self.name),
                    reason: format!("a row of {} is not bytes", shelf.name()),
                })?;
                kept.shelf_mut(shelf).push(row);
            }
        }
        Ok(kept)
    }

    async fn read(&mut self, shelf: Shelf) -> Result<(Vec<JsValue>, Vec<JsValue>), idb::Error> {
        let database = Database::try_from(self.database().await?.clone())?;
        let transaction = database.transaction(&[shelf.name()], TransactionMode::ReadOnly)?;
        let store = transaction.object_store(shelf.name())?;
        let mut keys = store.get_all_keys(None::<Query>, None)?;
        let mut values = store.get_all(None::<Query>, None)?;
        settled(&mut keys).await?;
        settled(&mut values).await?;
        Ok((Array::from(&keys.result()?).to_vec(), Array::from(&values.result()?).to_vec()))
    }

    /// Writes changes, all or none.
    ///
    /// # Errors
    /// What the browser said, such as that the quota is exhausted. The changes may be there all the same.
    pub(crate) async fn commit(&mut self, changes: &Changes) -> Result<(), String> {
        let written = self.write(changes).await;
        written.map_err(|error| {
            self.close();
            error.to_string()
        })
    }

    async fn write(&mut self, changes: &Changes) -> Result<(), idb::Error> {
        let strict = self.strict;
        let mut transaction = begin(self.database().await?, strict)?;
        let (report, outcome) = reports();
        transaction.on_complete({
            let report = report.clone();
            move |_| report(true)
        });
        transaction.on_abort(move |_| report(false));
        let mut rows = changes.iter().peekable();
        while let Some((shelf, ..)) = rows.peek().copied() {
            let store = transaction.object_store(shelf.name())?;
            while let Some((_, key, value)) = rows.next_if(|(next, ..)| *next == shelf) {
                // A request that fails aborts the transaction, which is what is waited for.
                match value {
                    Some(value) => drop(store.put(&Uint8Array::from(&value[..]), Some(&key_bytes(key)))?),
                    None => drop(store.delete(Query::Key(key_bytes(key)))?),
                }
            }
        }
        let transaction = transaction.commit()?;
        if outcome.await == Ok(true) { Ok(()) } else { Err(reason(transaction.error())) }
    }

    async fn database(&mut self) -> Result<&JsValue, idb::Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&format!("{}/messages", self.name)).await?,
        };
        Ok(self.database.insert(database))
    }

    fn close(&mut self) {
        if let Some(Ok(database)) = self.database.take().map(Database::try_from) {
            database.close();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

async fn open(name: &str) -> Result<JsValue, idb::Error> {
    let mut request = Factory::new()?.open(name, Some(VERSION))?;
    request.on_upgrade_needed(|event| {
        // A failure here fails the request, which is reported below.
        if let Ok(database) = event.database() {
            for shelf in Shelf::ALL {
                let _ = database.create_object_store(shelf.name(), ObjectStoreParams::new());
            }
        }
    });
    settled(&mut request).await?;
    request.database().map(JsValue::from)
}

/// A transaction over all shelves. `idb` has no word for the durability hint, so the database's own method is called.
fn begin(database: &JsValue, strict: bool) -> Result<Transaction, idb::Error> {
    let names = Shelf::ALL.map(|shelf| JsValue::from_str(shelf.name())).iter().collect::<Array>();
    let options = Object::new();
    // Setting a property of a fresh object doesn't fail.
    let _ = Reflect::set(&options, &"durability".into(), &if strict { "strict" } else { "relaxed" }.into());
    let transaction = Reflect::get(database, &"transaction".into())
        .and_then(|method| method.dyn_into::<Function>())
        .and_then(|method| method.call3(database, &names, &"readwrite".into(), &options))
        .map_err(idb::Error::TransactionOpenFailed)?;
    Transaction::try_from(transaction)
}

/// Keys as eight bytes, the highest first, which IndexedDB orders as numbers are; its own numbers hold 53 bits only.
fn key_bytes(key: Key) -> JsValue {
    Uint8Array::from(&key.to_be_bytes()[..]).into()
}

fn key_of(value: &JsValue) -> Option<Key> {
    let bytes = Uint8Array::new(value.dyn_ref::<ArrayBuffer>()?).to_vec();
    Some(Key::from_be_bytes(bytes.try_into().ok()?))
}

fn failed(action: &'static str, place: &str, error: &idb::Error) -> StoreError {
    StoreError::Io { action, item: Disk::describe(place), reason: error.to_string() }
}
