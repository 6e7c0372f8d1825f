//! The keys that sign and verify messages: Ed25519 (RFC 8032), by whatever does it fastest on the platform.
//!
//! Invariant: every node takes the same signatures for valid, whichever library verifies them. Libraries differ only where
//! a public key is written in an unusual way, or is a point of small order, for which anybody can make signatures: such
//! keys are refused here, before any library sees them. All else is the same in both: the scalar has to be reduced, and the
//! other half of the signature to be what follows from the rest, byte by byte.

use libp2p::{
    PeerId,
    identity::{Keypair, SigningError},
};

use crate::platform::{Signer, Verifier};

/// Length of a public key, bytes.
const KEY_LEN: usize = 32;

/// What stands before an Ed25519 key in the content of a peer id (libp2p peer-ids spec, §Keys, which asks for this one
/// encoding): the type of the key, and its length.
const PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// The code of a multihash that is the content itself (libp2p peer-ids spec, §Peer IDs: for keys of up to 42 bytes).
const IDENTITY: u64 = 0;

/// The y coordinates of the eight points whose order divides the cofactor, little-endian: 0, 1, -1, and those of order 8.
const SMALL_ORDER: [[u8; KEY_LEN]; 5] = [
    [0; KEY_LEN],
    {
        let mut one = [0; KEY_LEN];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; KEY_LEN];
        minus_one[0] = 0xec;
        minus_one[KEY_LEN - 1] = 0x7f;
        minus_one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Who signs messages.
pub(crate) trait Author {
    /// The name under which others know it.
    fn peer_id(&self) -> PeerId;

    /// # Errors
    /// When the key can't sign, which Ed25519 keys always can.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;
}

impl Author for Keypair {
    fn peer_id(&self) -> PeerId {
        self.public().to_peer_id()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        Keypair::sign(self, message)
    }
}

/// A key that has much to sign.
#[derive(Clone)]
pub(crate) struct SigningKey {
    author: PeerId,
    signer: Signer,
}

impl SigningKey {
    pub(crate) fn new(key: &Keypair) -> Self {
        let pair = key.clone().try_into_ed25519().expect("libp2p is built with Ed25519 keys only");
        let signer = Signer::new(pair.secret().as_ref()).expect("a key pair holds the seed that it was made of");
        Self { author: key.public().to_peer_id(), signer }
    }
}

impl Author for SigningKey {
    fn peer_id(&self) -> PeerId {
        self.author
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        Ok(self.signer.sign(message))
    }
}

/// A public key by which messages are verified.
#[derive(Clone)]
pub(crate) struct AuthorKey(Verifier);

impl AuthorKey {
    /// The key that a peer id holds. `None` when it holds none, or one for which anybody could sign.
    pub(crate) fn of(peer: &PeerId) -> Option<Self> {
        let hash = peer.as_ref();
        let content = (hash.code() == IDENTITY).then(|| hash.digest())?;
        Self::new(content.strip_prefix(&PREFIX)?.try_into().ok()?)
    }

    fn new(key: [u8; KEY_LEN]) -> Option<Self> {
        let mut y = key;
        y[KEY_LEN - 1] &= 0x7f;
        (is_reduced(&y) && !SMALL_ORDER.contains(&y)).then(|| Verifier::new(key))?.map(Self)
    }

    /// Whether the signature is the key's over this message.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verify(message, signature)
    }
}

/// Whether a number below 2^255, little-endian, is smaller than the field's prime, 2^255 - 19.
fn is_reduced(y: &[u8; KEY_LEN]) -> bool {
    y[0] < 0xed || y[1..KEY_LEN - 1].iter().any(|byte| *byte != 0xff) || y[KEY_LEN - 1] != 0x7f
}

#[cfg(test)]
mod tests {
    use libp2p::identity::{PublicKey, ed25519};
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
    }

    fn key(seed: &[u8]) -> Keypair {
        let secret = ed25519::SecretKey::try_from_bytes(seed.to_vec()).expect("32 bytes");
        ed25519::Keypair::from(secret).into()
    }

    fn of(key: &Keypair) -> AuthorKey {
        AuthorKey::of(&key.public().to_peer_id()).expect("a peer id holds the key")
    }

    #[test]
    fn known_signatures() {
        // RFC 8032 §7.1, tests 1 to 3: seed, public key, message, signature.
        for [seed, public, message, signature] in [
            [
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ],
            [
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ],
            [
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                "af82",
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ],
        ] {
            let (key, message, signature) = (key(&bytes(seed)), bytes(message), bytes(signature));
            assert_eq!(Author::sign(&SigningKey::new(&key), &message).expect("signs"), signature);
            assert_eq!(SigningKey::new(&key).peer_id(), key.public().to_peer_id());
            let public = AuthorKey::new(bytes(public).try_into().expect("32 bytes")).expect("a sound key");
            assert!(public.verify(&message, &signature) && of(&key).verify(&message, &signature));
        }
    }

    #[test]
    fn a_signature_has_one_form() {
        // The group's order, little-endian (RFC 8032 §5.1): a scalar above it means the same as the one below.
        let order = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let key = key(&[7; 32]);
        let mut signature = key.sign(b"hello").expect("signs");
        assert!(of(&key).verify(b"hello", &signature));
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        assert!(!of(&key).verify(b"hello", &signature));
        assert!(!of(&key).verify(b"hello", &signature[..63]));
        assert!(!of(&key).verify(b"hello", &[]));
    }

    #[test]
    fn keys_for_which_anybody_can_sign_are_refused() {
        // With the neutral point and zero for a signature, what is left to hold is that the key's multiple vanishes.
        let mut forged = [0; 64];
        forged[0] = 1;
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut point = y;
                point[31] |= sign;
                assert!(AuthorKey::new(point).is_none());
                let Ok(public) = ed25519::PublicKey::try_from_bytes(&point) else { continue };
                let forgeries = (0_u8..100).filter(|message| public.verify(&[*message], &forged)).count();
                assert!(forgeries > 2, "{point:?}: {forgeries}");
                assert!(AuthorKey::of(&PublicKey::from(public).to_peer_id()).is_none());
            }
        }
        // The same points, and others, by a number that is not reduced.
        for low in 0xed..=0xff {
            let mut y = [0xff; KEY_LEN];
            (y[0], y[31]) = (low, 0x7f);
            assert!(AuthorKey::new(y).is_none());
            y[31] = 0xff;
            assert!(AuthorKey::new(y).is_none());
        }
    }

    #[test]
    fn only_a_peer_id_that_is_its_key_holds_one() {
        assert!(AuthorKey::of(&PeerId::random()).is_none());
    }

    proptest! {
        #[test]
        fn both_libraries_agree(
            seed in any::<[u8; 32]>(),
            message in proptest::collection::vec(any::<u8>(), 0..100),
            bit in 0_usize..512,
        ) {
            let key = key(&seed);
            let mut signature = Author::sign(&SigningKey::new(&key), &message).expect("signs");
            prop_assert_eq!(&signature, &key.sign(&message).expect("signs"));
            prop_assert!(of(&key).verify(&message, &signature) && key.public().verify(&message, &signature));
            signature[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!of(&key).verify(&message, &signature) && !key.public().verify(&message, &signature));
        }

        #[test]
        fn both_libraries_agree_on_any_bytes_for_a_key(
            point in any::<[u8; 32]>(),
            signature in any::<[u8; 64]>(),
        ) {
            let ours = AuthorKey::new(point).is_some_and(|key| key.verify(b"hello", &signature));
            let theirs = ed25519::PublicKey::try_from_bytes(&point).is_ok_and(|key| key.verify(b"hello", &signature));
            prop_assert_eq!(ours, theirs);
        }
    }
}
