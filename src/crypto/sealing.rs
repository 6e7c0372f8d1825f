//! What is sealed to a peer that is away: only the holder of its identity key can open it, and the sender's identity is
//! proven inside. A `PeerId` suffices to seal to it.
//!
//! The Noise protocol's one-way pattern X (Noise specification, revision 34, §7.4) as
//! `Noise_X_25519_ChaChaPoly_SHA256`: one message, sealed to the recipient's static key, with the sender's own static
//! key inside it. Both are the Curve25519 forms of the identities' Ed25519 keys (RFC 7748 §4.1 has the map between the
//! curves, RFC 8032 §5.1.5 the private scalar). ChaCha20-Poly1305 and not AES, since it is in the tree for libp2p's own
//! Noise and quick without the processor's help, as in a browser.
//!
//! Who keeps the bytes learns their size class and nothing else: content is padded with zeros to one of a few lengths.
//!
//! Not promised: forward secrecy. Who gets the recipient's key opens what was sealed to it before. Nor that no trace of
//! the private scalar stays in memory: what this module holds is wiped, but snow 0.10 copies the scalar for each
//! handshake and doesn't wipe its copy.

use ed25519_dalek::{SigningKey, VerifyingKey};
use libp2p::{
    PeerId,
    identity::{Keypair, PublicKey},
};
use snow::{
    Builder, HandshakeState,
    params::NoiseParams,
    resolvers::{BoxedCryptoResolver, DefaultResolver},
};
use zeroize::Zeroizing;

/// The pattern, its primitives, and nothing to choose from.
const PATTERN: &str = "Noise_X_25519_ChaChaPoly_SHA256";

/// Keeps what is sealed apart from other uses of the keys; the purpose and the recipient's peer id follow.
const DOMAIN: &[u8] = b"cpc-net/1.0.0/sealed:";

/// The first byte. Another one is from a later version.
const VERSION: u8 = 1;

/// The length of the content, before it.
const LENGTH: usize = 4;

/// Lengths to which content and its own length are padded: powers of two, and one for the longest message that a mailbox
/// takes, with what is around it.
const CLASSES: [usize; 10] = [256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 69_632];

/// The longest content that can be sealed, bytes.
pub(crate) const MAX_SEALED_CONTENT: usize = CLASSES[CLASSES.len() - 1] - LENGTH;

/// The longest that it comes to when it is sealed, bytes.
pub(crate) const MAX_SEALED: usize = sealed_len(CLASSES[CLASSES.len() - 1]);

/// The tag of each Noise message, bytes.
const TAG: usize = 16;

/// What the first Noise message holds beside its payload: an ephemeral key, the sender's sealed key, two tags.
const OPENING: usize = 32 + 32 + 2 * TAG;

/// A Noise message is at most this long (Noise specification §3).
const NOISE_MAX: usize = 65_535;

/// Payload of the first Noise message, and of each that follows.
const FIRST: usize = NOISE_MAX - OPENING;
const FURTHER: usize = NOISE_MAX - TAG;

const KNOWN: &str = "the pattern is one that snow knows, and its resolver has all of it";

/// What something was sealed for. What was sealed for one can't be opened as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A message, by its author.
    Letter,
    /// That messages have arrived, by their recipient.
    Confirmation,
}

impl Purpose {
    fn byte(self) -> u8 {
        match self {
            Purpose::Letter => 1,
            Purpose::Confirmation => 2,
        }
    }
}

/// Why something can't be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// The peer id is the hash of a key (RSA's are), not the key.
    #[error("{0} doesn't hold an Ed25519 key, so nothing can be sealed to it")]
    NoKey(PeerId),
    #[error("{length} bytes are too many to be sealed at once, the limit is {MAX_SEALED_CONTENT}")]
    TooLong { length: usize },
    /// The bytes can't have been made by this version.
    #[error("no sealed content: {0}")]
    Malformed(&'static str),
    /// Sealed to somebody else, for something else, or tampered with.
    #[error("it is not sealed to this node for this purpose, or was changed on its way")]
    Wrong,
}

/// The half of an identity that seals and opens.
#[derive(Clone)]
pub(crate) struct SealingKey {
    local: PeerId,
    private: Zeroizing<[u8; 32]>,
    /// Makes names of messages that say nothing to others.
    naming: Zeroizing<[u8; 32]>,
}

/// What was sealed, and by whom.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The sender's Curve25519 key.
    by: [u8; 32],
    pub(crate) content: Vec<u8>,
}

impl Opened {
    /// Whether a peer sealed it.
    pub(crate) fn is_by(&self, peer: &PeerId) -> bool {
        curve_key(peer) == Some(self.by)
    }
}

impl SealingKey {
    /// Of an identity. `None` when its key is not Ed25519, which identities of this crate always are.
    pub(crate) fn of(key: &Keypair) -> Option<Self> {
        let ed25519 = key.clone().try_into_ed25519().ok()?;
        let secret = ed25519.secret();
        let seed = Zeroizing::new(<[u8; 32]>::try_from(secret.as_ref()).ok()?);
        let private = Zeroizing::new(SigningKey::from_bytes(&seed).to_scalar_bytes());
        let naming = Zeroizing::new(blake3::derive_key("cpc-net 1.0.0 names of letters in mailboxes", &*seed));
        Some(Self { local: key.public().to_peer_id(), private, naming })
    }

    /// The name of a message of this node in a mailbox: the same whenever it is brought there, and telling nobody else
    /// anything, not even how many messages this node has written.
    pub(crate) fn ticket(&self, recipient: &PeerId, nonce: u64) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.naming);
        hasher.update(&recipient.to_bytes());
        hasher.update(&nonce.to_be_bytes());
        let mut ticket = [0; 8];
        hasher.finalize_xof().fill(&mut ticket);
        u64::from_be_bytes(ticket)
    }

    /// Seals content to a peer. Costs two agreements of keys and a new key, some 100 µs: not for the driver's task.
    ///
    /// # Errors
    /// When the peer's key can't be had from its id, or there is too much.
    pub(crate) fn seal(&self, to: &PeerId, purpose: Purpose, content: &[u8]) -> Result<Vec<u8>, SealError> {
        let remote = curve_key(to).ok_or(SealError::NoKey(*to))?;
        let too_long = SealError::TooLong { length: content.len() };
        let class = CLASSES.into_iter().find(|class| *class >= content.len() + LENGTH).ok_or(too_long)?;
        let length = u32::try_from(content.len()).expect("no longer than the largest class");
        let mut padded = Zeroizing::new(Vec::with_capacity(class));
        padded.extend_from_slice(&length.to_be_bytes());
        padded.extend_from_slice(content);
        padded.resize(class, 0);

        let prologue = prologue(to, purpose);
        let noise = self.noise(&prologue).and_then(|noise| noise.remote_public_key(&remote)?.build_initiator());
        let mut noise = noise.expect(KNOWN);
        let mut sealed = vec![0; sealed_len(class)];
        sealed[0] = VERSION;
        let first = class.min(FIRST);
        // The one thing that can fail is the agreement with a key of low order.
        let mut at = 1 + noise.write_message(&padded[..first], &mut sealed[1..]).map_err(|_| SealError::NoKey(*to))?;
        if first < class {
            let mut noise = noise.into_transport_mode().expect("the pattern has one message");
            for chunk in padded[first..].chunks(FURTHER) {
                at += noise.write_message(chunk, &mut sealed[at..]).expect("its place has been counted");
            }
        }
        debug_assert_eq!(at, sealed.len());
        Ok(sealed)
    }

    /// Opens what was sealed to this node. Allocates no more than the sealed bytes take. Costs two agreements of keys.
    ///
    /// # Errors
    /// When it was sealed to somebody else or for something else, was changed, or is none of ours.
    pub(crate) fn open(&self, purpose: Purpose, sealed: &[u8]) -> Result<Opened, SealError> {
        let (version, sealed_bytes) = sealed.split_first().ok_or(SealError::Malformed("it is empty"))?;
        if *version != VERSION {
            return Err(SealError::Malformed("it is of another version"));
        }
        let class = CLASSES.into_iter().find(|class| sealed_len(*class) == sealed.len());
        let class = class.ok_or(SealError::Malformed("no size class has this length"))?;

        let prologue = prologue(&self.local, purpose);
        let mut noise = self.noise(&prologue).and_then(Builder::build_responder).expect(KNOWN);
        let mut padded = Zeroizing::new(vec![0; class]);
        let first = class.min(FIRST);
        let (opening, mut rest) = sealed_bytes.split_at(first + OPENING);
        noise.read_message(opening, &mut padded[..first]).map_err(|_| SealError::Wrong)?;
        let by = sender_of(&noise).ok_or(SealError::Wrong)?;
        if first < class {
            let mut noise = noise.into_transport_mode().expect("the pattern has one message");
            for chunk in padded[first..].chunks_mut(FURTHER) {
                let (message, after) = rest.split_at(chunk.len() + TAG);
                noise.read_message(message, chunk).map_err(|_| SealError::Wrong)?;
                rest = after;
            }
        }
        let (length, content) = padded.split_first_chunk::<LENGTH>().expect("every class is longer than that");
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let malformed = SealError::Malformed("its content claims to be longer than it is");
        let (content, padding) = content.split_at_checked(length).ok_or(malformed)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(SealError::Malformed("its padding is not empty"));
        }
        Ok(Opened { by, content: content.to_vec() })
    }

    fn noise<'builder>(&'builder self, prologue: &'builder [u8]) -> Result<Builder<'builder>, snow::Error> {
        let parameters: NoiseParams = PATTERN.parse()?;
        let resolver: BoxedCryptoResolver = Box::new(DefaultResolver);
        Builder::with_resolver(parameters, resolver).local_private_key(&*self.private)?.prologue(prologue)
    }
}

fn sender_of(noise: &HandshakeState) -> Option<[u8; 32]> {
    noise.get_remote_static()?.try_into().ok()
}

fn prologue(recipient: &PeerId, purpose: Purpose) -> Vec<u8> {
    [DOMAIN, &[purpose.byte()], &recipient.to_bytes()].concat()
}

/// How long content of a class is when it is sealed.
const fn sealed_len(class: usize) -> usize {
    let further = if class > FIRST { (class - FIRST).div_ceil(FURTHER) } else { 0 };
    1 + OPENING + class + further * TAG
}

/// Whether sealed content can have this length.
pub(crate) fn is_sealed_len(length: usize) -> bool {
    CLASSES.into_iter().any(|class| sealed_len(class) == length)
}

/// The public key that a peer id holds: Ed25519 ones do (libp2p peer-ids spec, §Peer IDs: identity multihash up to 42
/// bytes).
fn ed25519_key(peer: &PeerId) -> Option<PublicKey> {
    const IDENTITY: u64 = 0;
    let hash = peer.as_ref();
    (hash.code() == IDENTITY).then(|| PublicKey::try_decode_protobuf(hash.digest()).ok()).flatten()
}

/// Whether something can be sealed to a peer: its id holds its key.
pub(crate) fn can_seal_to(peer: &PeerId) -> bool {
    curve_key(peer).is_some()
}

/// The Curve25519 form of a peer's key. A weak one, with which everybody would agree on the same, is none.
fn curve_key(peer: &PeerId) -> Option<[u8; 32]> {
    let key = ed25519_key(peer)?.try_into_ed25519().ok()?;
    let key = VerifyingKey::from_bytes(&key.to_bytes()).ok()?;
    (!key.is_weak()).then(|| key.to_montgomery().to_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn party() -> (SealingKey, PeerId) {
        let key = Keypair::generate_ed25519();
        (SealingKey::of(&key).expect("Ed25519"), key.public().to_peer_id())
    }

    fn error(result: Result<Opened, SealError>) -> SealError {
        result.expect_err("must not open")
    }

    #[test]
    fn the_recipient_opens_it_and_knows_by_whom_it_is() {
        let ((alice, alice_id), (bob, bob_id)) = (party(), party());
        for length in [0, 1, 251, 252, 253, 4092, 65_339, 65_500, 65_532, 65_533, MAX_SEALED_CONTENT] {
            let content = (0..length).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect::<Vec<_>>();
            let sealed = alice.seal(&bob_id, Purpose::Letter, &content).expect("fits");
            let opened = bob.open(Purpose::Letter, &sealed).expect("sealed to it");
            assert_eq!(opened.content, content, "{length}");
            assert!(opened.is_by(&alice_id) && !opened.is_by(&bob_id));
        }
    }

    #[test]
    fn nobody_else_opens_it_and_not_for_something_else() {
        let ((alice, _), (bob, bob_id), (mallory, mallory_id)) = (party(), party(), party());
        let sealed = alice.seal(&bob_id, Purpose::Letter, b"hello").expect("fits");
        assert_eq!(error(mallory.open(Purpose::Letter, &sealed)), SealError::Wrong);
        assert_eq!(error(alice.open(Purpose::Letter, &sealed)), SealError::Wrong, "not even the sender");
        assert_eq!(error(bob.open(Purpose::Confirmation, &sealed)), SealError::Wrong);
        let forged = mallory.seal(&bob_id, Purpose::Letter, b"hello").expect("fits");
        let opened = bob.open(Purpose::Letter, &forged).expect("everybody may seal to it");
        assert!(opened.is_by(&mallory_id), "it says who did");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let ((alice, _), (bob, bob_id)) = (party(), party());
        let sealed = alice.seal(&bob_id, Purpose::Letter, b"hello").expect("fits");
        for at in 0..sealed.len() {
            for bit in [1, 128] {
                let mut changed = sealed.clone();
                changed[at] ^= bit;
                // The highest bit of a Curve25519 key has no meaning (RFC 7748 §5), but it is hashed as it came.
                assert!(bob.open(Purpose::Letter, &changed).is_err(), "byte {at}, bit {bit}");
            }
        }
        let long = alice.seal(&bob_id, Purpose::Letter, &[7; 66_000]).expect("fits");
        for at in [long.len() - 1, long.len() - 17, long.len() - 4000, NOISE_MAX, NOISE_MAX + 1] {
            let mut changed = long.clone();
            changed[at] ^= 1;
            assert_eq!(error(bob.open(Purpose::Letter, &changed)), SealError::Wrong, "byte {at}");
        }
        for length in [0, 1, 97, sealed.len() - 1] {
            assert!(matches!(error(bob.open(Purpose::Letter, &sealed[..length])), SealError::Malformed(_)), "{length}");
        }
    }

    #[test]
    fn lengths_fall_into_classes_and_nothing_is_sealed_twice_alike() {
        let ((alice, _), (_, bob_id)) = (party(), party());
        let seal = |length| alice.seal(&bob_id, Purpose::Letter, &vec![0; length]).expect("fits");
        assert_eq!(seal(0).len(), seal(252).len());
        assert!(seal(253).len() > seal(252).len());
        assert_eq!(seal(40_000).len(), seal(65_000).len());
        assert_eq!(seal(MAX_SEALED_CONTENT).len(), MAX_SEALED);
        assert_ne!(seal(5), seal(5));
        let too_long = alice.seal(&bob_id, Purpose::Letter, &vec![0; MAX_SEALED_CONTENT + 1]);
        assert_eq!(too_long, Err(SealError::TooLong { length: MAX_SEALED_CONTENT + 1 }));
    }

    #[test]
    fn a_hashed_or_a_weak_key_is_none() {
        let (alice, alice_id) = party();
        let hashed = PeerId::random();
        assert!(can_seal_to(&alice_id));
        assert!(!can_seal_to(&hashed));
        assert_eq!(alice.seal(&hashed, Purpose::Letter, b""), Err(SealError::NoKey(hashed)));
        // The neutral element: whoever agrees with it gets zeros.
        let neutral = [&[0, 36, 8, 1, 18, 32, 1][..], &[0; 31]].concat();
        if let Ok(weak) = PeerId::from_bytes(&neutral) {
            assert!(!can_seal_to(&weak));
        }
    }

    #[test]
    fn names_are_the_same_each_time_and_tell_nothing() {
        let ((alice, _), (bob, bob_id)) = (party(), party());
        assert_eq!(alice.ticket(&bob_id, 7), alice.clone().ticket(&bob_id, 7));
        assert_ne!(alice.ticket(&bob_id, 7), alice.ticket(&bob_id, 8));
        assert_ne!(alice.ticket(&bob_id, 7), bob.ticket(&bob_id, 7));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_open(mut bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let (bob, _) = party();
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            prop_assert!(bob.open(Purpose::Letter, &bytes).is_err());
            bytes.resize(sealed_len(CLASSES[0]), 3);
            prop_assert!(bob.open(Purpose::Letter, &bytes).is_err());
        }
    }
}
