//! How many outgoing transfers a node holds.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::error::TransferError;

/// Room for so many transfers, shared by all handles of a node.
#[derive(Debug)]
pub(crate) struct Room {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// One transfer's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    taken: Arc<AtomicUsize>,
}

impl Room {
    pub(crate) fn new(limit: usize) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn take(&self) -> Result<Place, TransferError> {
        let free = |taken: usize| (taken < self.limit).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, free) {
            Ok(_) => Ok(Place { taken: self.taken.clone() }),
            Err(_) => Err(TransferError::TooMany { limit: self.limit }),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_transfer_is_gone() {
        let room = Room::new(1);
        let place = room.take().expect("there is one");
        assert_eq!(room.take().expect_err("no more"), TransferError::TooMany { limit: 1 });
        drop(place);
        assert!(room.take().is_ok());
    }
}
