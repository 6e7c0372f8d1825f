//! The journal's disk: a redb database in the folder, for the owner's eyes only.
//!
//! A commit returns once the system says that it is on the disk, and is there whole or not at all, also when the process
//! or the machine dies in the middle of it. After an error redb can't say what reached the disk, and refuses to go on:
//! the database is opened anew then, which finds the last whole commit.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition};

use super::{create_private_folder, failed, owner_only, refuse_exposed};
use crate::{
    error::StoreError,
    rows::{Changes, Kept, Shelf},
};

/// The database's file.
const FILE: &str = "messages.redb";

/// What redb may hold in memory. Rows are written once and read at the start only.
const CACHE: usize = 4 << 20;

type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// Where the journal's rows lie.
pub(crate) struct Disk {
    item: String,
    open: Open,
    /// Away after an error, until it has been opened anew.
    database: Option<Database>,
}

impl Disk {
    /// Opens the database in a folder, creating it when it is missing. Each commit is on the disk before it counts,
    /// `strict` or not: redb knows nothing between that and losing commits with the process.
    ///
    /// # Errors
    /// When it can't be opened, others can read it, or it is damaged.
    pub(crate) async fn open(place: &str, _strict: bool) -> Result<Self, StoreError> {
        let folder = PathBuf::from(place);
        create_private_folder(&folder).map_err(|error| failed("write", &folder, &error))?;
        let path = folder.join(FILE);
        if let Ok(metadata) = path.metadata() {
            refuse_exposed(&path, &metadata)?;
        }
        Self::with(path.display().to_string(), Box::new(move || open(&path)))
    }

    /// A disk over whatever `open` opens.
    fn with(item: String, open: Open) -> Result<Self, StoreError> {
        let database = open().map_err(|error| describe_failure(&item, "open", error.into()))?;
        Ok(Self { item, open, database: Some(database) })
    }

    /// How the database at a place is called towards people.
    pub(crate) fn describe(place: &str) -> String {
        Path::new(place).join(FILE).display().to_string()
    }

    /// All rows.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) async fn load(&mut self) -> Result<Kept, StoreError> {
        let mut kept = Kept::default();
        let read = (|| {
            let transaction = self.database()?.begin_read()?;
            for shelf in Shelf::ALL {
                let table = match transaction.open_table(table(shelf)) {
                    Err(redb::TableError::TableDoesNotExist(_)) => continue,
                    opened => opened?,
                };
                for row in table.iter()? {
                    let (key, value) = row?;
                    kept.shelf_mut(shelf).push((key.value(), Bytes::copy_from_slice(value.value())));
                }
            }
            Ok(())
        })();
        read.map_err(|error| describe_failure(&self.item, "read", error)).map(|()| kept)
    }

    /// Writes changes, all or none. After an error the next call opens the database anew.
    ///
    /// # Errors
    /// What the disk said. The changes may have reached it all the same.
    pub(crate) async fn commit(&mut self, changes: &Changes) -> Result<(), String> {
        self.write(changes).map_err(|error| {
            self.database = None;
            error.to_string()
        })
    }

    fn write(&mut self, changes: &Changes) -> Result<(), redb::Error> {
        let transaction = self.database()?.begin_write()?;
        let mut rows = changes.iter().peekable();
        while let Some((shelf, ..)) = rows.peek().copied() {
            let mut table = transaction.open_table(table(shelf))?;
            while let Some((_, key, value)) = rows.next_if(|(next, ..)| *next == shelf) {
                match value {
                    Some(value) => drop(table.insert(key, &value[..])?),
                    None => drop(table.remove(key)?),
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn database(&mut self) -> Result<&Database, redb::Error> {
        match &mut self.database {
            Some(database) => Ok(database),
            closed => Ok(closed.insert((self.open)()?)),
        }
    }
}

fn table(shelf: Shelf) -> TableDefinition<'static, u64, &'static [u8]> {
    TableDefinition::new(shelf.name())
}

fn open(path: &Path) -> Result<Database, DatabaseError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    owner_only(&mut options);
    let file = options.open(path).map_err(StorageError::from)?;
    redb::Builder::new().set_cache_size(CACHE).create_file(file)
}

fn describe_failure(item: &str, action: &'static str, error: redb::Error) -> StoreError {
    let (item, reason) = (item.to_owned(), error.to_string());
    match error {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { item },
        redb::Error::Io(ref error) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Damaged { item, reason }
        }
        redb::Error::Io(_) | redb::Error::PreviousIo => StoreError::Io { action, item, reason },
        // A file of another kind, another layout, or one whose checksums don't fit.
        _ => StoreError::Damaged { item, reason },
    }
}

#[cfg(test)]
mod tests;
