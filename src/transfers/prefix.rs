//! What a receiver has of a payload from before its restart.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _};

use super::tree::{Tree, UNIT, chunk_hash};

/// The beginning of a payload that is already here: how much, and what is needed to verify the rest. The default is
/// nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferPrefix {
    tree: Tree,
}

impl TransferPrefix {
    /// Reads what is there of the payload. Not all of it counts: transfers go on at multiples of 16 KiB, and the last
    /// bytes always come again, since whether they are the last ones decides how they are verified. So whoever goes on
    /// writing goes to [`length`](Self::length) first.
    ///
    /// # Errors
    /// What the reader says.
    pub async fn read(mut reader: impl AsyncRead + Unpin) -> io::Result<Self> {
        let unit = usize::try_from(UNIT).expect("small");
        let mut prefix = Self::default();
        // One unit and the byte that proves that it isn't the last one.
        let mut buffer = vec![0; unit + 1];
        let mut filled = 0;
        loop {
            match reader.read(&mut buffer[filled..]).await? {
                0 => return Ok(prefix),
                count => filled += count,
            }
            if filled == buffer.len() {
                prefix.push(&buffer[..unit]);
                buffer[0] = buffer[unit];
                filled = 1;
            }
        }
    }

    fn push(&mut self, unit: &[u8]) {
        let hash = chunk_hash(self.tree.length(), unit, false);
        self.tree.push(UNIT, hash, false);
    }

    /// How much of it counts, bytes: a multiple of 16384.
    pub fn length(&self) -> u64 {
        self.tree.length()
    }

    pub(crate) fn into_tree(self) -> Tree {
        self.tree
    }
}
