//! What survives a restart: small items by name, in the platform's storage or, when no place is configured, in memory;
//! and `journal`, the messages.

mod journal;

use std::{collections::HashMap, sync::Mutex};

use zeroize::Zeroizing;

use crate::{error::StoreError, platform};

pub(crate) use journal::{Journal, Report, unreadable};

/// Where a node keeps what survives a restart.
pub(crate) enum Store {
    /// In the place the configuration names.
    Kept(platform::Storage),
    /// Nowhere: gone with the node.
    Memory(Mutex<HashMap<String, Zeroizing<Vec<u8>>>>),
}

impl Store {
    /// Opens the store at `place`.
    ///
    /// # Errors
    /// When the place can't be opened or created.
    pub(crate) async fn open(place: Option<&str>) -> Result<Self, StoreError> {
        match place {
            Some(place) => Ok(Store::Kept(platform::Storage::open(place).await?)),
            None => Ok(Store::Memory(Mutex::default())),
        }
    }

    /// Reads an item; `None` when it was never written.
    pub(crate) async fn read(&self, item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        match self {
            Store::Kept(storage) => storage.read(item).await,
            Store::Memory(items) => Ok(lock(items).get(item).cloned()),
        }
    }

    /// Writes an item; when it returns, the item survives a crash as far as the place does.
    pub(crate) async fn write(&self, item: &str, bytes: &[u8]) -> Result<(), StoreError> {
        match self {
            Store::Kept(storage) => storage.write(item, bytes).await,
            Store::Memory(items) => {
                lock(items).insert(item.to_owned(), Zeroizing::new(bytes.to_vec()));
                Ok(())
            }
        }
    }

    /// The error for an item that can't be understood.
    pub(crate) fn damaged(&self, item: &str, reason: impl ToString) -> StoreError {
        let item = match self {
            Store::Kept(storage) => storage.describe(item),
            Store::Memory(_) => item.to_owned(),
        };
        StoreError::Damaged { item, reason: reason.to_string() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
