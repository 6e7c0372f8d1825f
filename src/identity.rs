//! Who a node is: an Ed25519 key whose public half is its peer id.

use std::fmt;

use libp2p::{PeerId, identity::Keypair};
use zeroize::Zeroizing;

use crate::{error::StoreError, platform, store::Store};

/// The store's item that holds the key: libp2p's protobuf encoding of a private key (libp2p peer-ids spec, §Keys).
const KEY: &str = "identity.key";

/// The store's item that holds the last epoch, a little-endian `u32`.
const EPOCH: &str = "epoch";

/// A node's identity. Cloning it is cheap; the private key never leaves it but into its own store.
#[derive(Clone)]
pub struct Identity {
    key: Keypair,
}

impl Identity {
    /// A new identity, kept nowhere.
    pub fn generate() -> Self {
        Self { key: Keypair::generate_ed25519() }
    }

    /// The identity kept in a place: natively a folder, in a browser the name of an IndexedDB database. When there is
    /// none yet, one is made and kept there, readable by its owner only.
    ///
    /// # Errors
    /// When the place can't be read or written, others can read the key, or it is damaged. A damaged key is left as it
    /// is.
    pub async fn open(place: &str) -> Result<Self, StoreError> {
        Self::of(&Store::open(Some(place)).await?).await
    }

    pub(crate) async fn of(store: &Store) -> Result<Self, StoreError> {
        match store.read(KEY).await? {
            Some(bytes) => {
                let key = Keypair::from_protobuf_encoding(&bytes).map_err(|error| store.damaged(KEY, error))?;
                Ok(Self { key })
            }
            None => {
                let identity = Self::generate();
                let bytes = identity.key.to_protobuf_encoding().map_err(|error| store.damaged(KEY, error))?;
                store.write(KEY, &Zeroizing::new(bytes)).await?;
                Ok(identity)
            }
        }
    }

    /// The name under which others know this node.
    pub fn peer_id(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    pub(crate) fn key(&self) -> &Keypair {
        &self.key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({})", self.peer_id())
    }
}

/// Begins a new epoch: larger than every one before it in this store, so that nonces rise across restarts even when the
/// clock was set back. Without a store the clock alone decides.
pub(crate) async fn next_epoch(store: &Store) -> Result<u32, StoreError> {
    let last = match store.read(EPOCH).await? {
        None => 0,
        Some(bytes) => match bytes.as_slice().try_into() {
            Ok(bytes) => u32::from_le_bytes(bytes),
            Err(_) => return Err(store.damaged(EPOCH, format!("{} bytes instead of 4", bytes.len()))),
        },
    };
    // Seconds fit until the year 2106; from then on each start counts one up.
    let clock = u32::try_from(platform::unix_millis() / 1000).unwrap_or(0);
    let epoch = clock.max(last.saturating_add(1));
    store.write(EPOCH, &epoch.to_le_bytes()).await?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn the_same_place_gives_the_same_identity_and_a_later_epoch() {
        block_on(async {
            let store = Store::open(None).await.expect("memory");
            let first = Identity::of(&store).await.expect("made");
            let second = Identity::of(&store).await.expect("read");
            assert_eq!(first.peer_id(), second.peer_id());
            assert_ne!(first.peer_id(), Identity::generate().peer_id());

            let first = next_epoch(&store).await.expect("made");
            assert!(next_epoch(&store).await.expect("made") > first);
            store.write(EPOCH, &(u32::MAX - 1).to_le_bytes()).await.expect("written");
            assert_eq!(next_epoch(&store).await.expect("a clock set back doesn't matter"), u32::MAX);
        });
    }

    #[test]
    fn a_damaged_key_is_reported_and_left_alone() {
        block_on(async {
            let store = Store::open(None).await.expect("memory");
            store.write(KEY, b"garbage").await.expect("written");
            let error = Identity::of(&store).await.expect_err("damaged");
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            assert_eq!(store.read(KEY).await.expect("there").as_deref(), Some(&b"garbage".to_vec()));
        });
    }
}
