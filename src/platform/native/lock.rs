//! One node a folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::PathBuf,
};

use super::{create_private_folder, failed, owner_only};
use crate::error::StoreError;

/// The file that is locked. It stays when the node stops; only the lock goes.
const FILE: &str = "lock";

/// A folder that is this node's own as long as this lives. The system lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, creating it when it is missing.
    ///
    /// # Errors
    /// When another node has it, in whatever process, or the folder can't be written.
    pub(crate) async fn take(place: &str) -> Result<Self, StoreError> {
        let folder = PathBuf::from(place);
        create_private_folder(&folder).map_err(|error| failed("write", &folder, &error))?;
        let path = folder.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        owner_only(&mut options);
        let file = options.open(&path).map_err(|error| failed("write", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { item: folder.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_folder_has_one_node_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().join("node").display().to_string();
        let first = block_on(Lock::take(&place)).expect("free");
        let error = block_on(Lock::take(&place)).expect_err("taken");
        assert_eq!(error, StoreError::InUse { item: place.clone() });
        assert!(error.to_string().contains(&place) && error.to_string().contains("data_dir"), "{error}");
        drop(first);
        block_on(Lock::take(&place)).expect("free again");
    }
}
