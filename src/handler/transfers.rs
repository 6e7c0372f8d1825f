//! Transfers: payloads of any length.

use std::sync::Arc;

use async_channel::TrySendError;
use libp2p::PeerId;

use super::NetworkHandler;
use crate::{
    driver::Command,
    error::TransferError,
    platform,
    transfer::{TransferDirection, TransferId, TransferKey, TransferOffer, TransferState},
    transfers::{Outbox, Transfer, TransferSource, Transfers, Watch},
};

/// Transfers: payloads of any length, streamed.
impl NetworkHandler {
    /// Sends a payload of any length to one peer, from bytes, a file or a reader. The receiver's app is asked first. It
    /// is read as fast as it is taken, in chunks that the receiver verifies; a transfer that is cut goes on where it was
    /// as soon as the peer is connected again, within
    /// [`resume_timeout`](crate::config::TransfersConfig::resume_timeout). Messages don't wait behind it.
    ///
    /// # Errors
    /// When the offer is out of bounds, too many transfers wait already, or the node is shutting down or too busy.
    pub fn send_transfer(
        &self,
        peer: PeerId,
        offer: TransferOffer,
        source: impl Into<TransferSource>,
    ) -> Result<Transfer, TransferError> {
        offer.check()?;
        if peer == self.local_peer_id() {
            return Err(TransferError::ToSelf { peer });
        }
        let source = source.into().into_inner();
        let length = offer.length.or(source.length());
        if let (Some(promised), Some(found)) = (offer.length, source.length())
            && promised != found
        {
            return Err(TransferError::WrongLength { promised });
        }
        let place = self.inner.transfers.take()?;
        let id = TransferId::from_numbers([platform::random(), platform::random()]);
        let key = TransferKey { direction: TransferDirection::Outgoing, peer, id };
        let watch = Watch::new(key, length, TransferState::Waiting, self.inner.published.desk.clone());
        let transfer = Transfer::new(watch.clone());
        let outbox = Arc::new(Outbox::new(TransferOffer { length, ..offer }, source, watch, place));
        self.inner.commands.try_send(Command::SendTransfer { outbox }).map_err(|error| match error {
            TrySendError::Full(_) => TransferError::Busy,
            TrySendError::Closed(_) => TransferError::ShutDown,
        })?;
        Ok(transfer)
    }

    /// The payloads that others offer, as a stream. Each offer goes to one subscriber, which takes or refuses it; one
    /// that nobody takes within [`offer_timeout`](crate::config::TransfersConfig::offer_timeout) is refused and counted.
    pub fn transfers(&self) -> Transfers {
        self.inner.published.offers.subscribe()
    }
}
