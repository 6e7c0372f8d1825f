//! Signed peer records: what a peer says of its own addresses, and nobody else can say for it (libp2p RFC 0002 and
//! RFC 0003, as identify and rendezvous use them).

use bytes::Bytes;
use libp2p::{
    Multiaddr,
    core::{PeerRecord, SignedEnvelope},
    identity::Keypair,
};

use crate::{
    event::RejectReason,
    frame::{Rejection, SignedRecord},
};

/// The largest envelope that is read, bytes.
const MAX_LEN: usize = 4096;

/// Signs the node's own record.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(crate) fn sign_record(
    key: &Keypair,
    mut addresses: Vec<Multiaddr>,
) -> Result<SignedRecord, libp2p::identity::SigningError> {
    addresses.truncate(SignedRecord::MAX_ADDRESSES);
    let record = PeerRecord::new(key, addresses)?;
    Ok(SignedRecord {
        peer: record.peer_id(),
        sequence: record.seq(),
        addresses: record.addresses().to_vec(),
        envelope: record.into_signed_envelope().into_protobuf_encoding().into(),
    })
}

/// Reads an envelope and checks that its subject signed it.
pub(super) fn open_record(envelope: Bytes) -> Result<SignedRecord, Rejection> {
    let forged = |detail: String| Rejection::new(RejectReason::ForgedRecord, detail);
    if envelope.len() > MAX_LEN {
        return Err(forged(format!("a peer record of {} bytes, the limit is {MAX_LEN}", envelope.len())));
    }
    let opened = SignedEnvelope::from_protobuf_encoding(&envelope).map_err(|error| forged(error.to_string()))?;
    let record = PeerRecord::from_signed_envelope(opened).map_err(|error| forged(error.to_string()))?;
    Ok(SignedRecord {
        peer: record.peer_id(),
        sequence: record.seq(),
        addresses: record.addresses().iter().take(SignedRecord::MAX_ADDRESSES).cloned().collect(),
        envelope,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_proves_itself_and_a_changed_one_does_not() {
        let key = Keypair::generate_ed25519();
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/4001".parse().expect("an address");
        let record = sign_record(&key, vec![address.clone()]).expect("Ed25519 signs");
        let opened = open_record(record.envelope.clone()).expect("genuine");
        assert_eq!(opened, record);
        assert_eq!((opened.peer, opened.addresses), (key.public().to_peer_id(), vec![address]));

        for at in 0..record.envelope.len() {
            let mut bytes = record.envelope.to_vec();
            bytes[at] ^= 1;
            if let Ok(opened) = open_record(bytes.into()) {
                // A bit of the protobuf's own may not matter, but what is said never differs.
                assert_eq!((opened.peer, opened.addresses), (record.peer, record.addresses.clone()), "byte {at}");
            }
        }
        assert_eq!(open_record(vec![0; 5000].into()).expect_err("too large").reason, RejectReason::ForgedRecord);
    }
}
