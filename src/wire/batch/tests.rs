use std::time::Duration;

use libp2p::identity::Keypair;
use proptest::prelude::*;

use super::*;
use crate::{
    crypto::LeafHasher,
    frame::{Frame, Passing},
    message::{MessageId, MessageKind, Priority},
    wire::{
        decode,
        framing::FrameCutter,
        generated::{Batch, CpcMessage},
        post_frames,
        roots::Roots,
    },
};

const LIMIT: usize = 100_000;

struct Pair {
    key: Keypair,
    sender: PeerId,
    recipient: PeerId,
    ends: Ends,
    opener: Opener,
}

fn pair() -> Pair {
    let key = Keypair::generate_ed25519();
    let (sender, recipient) = (key.public().to_peer_id(), PeerId::random());
    let (ends, opener) = (Ends::new(sender, recipient), Opener::new(sender, recipient, LIMIT));
    Pair { key, sender, recipient, ends, opener }
}

fn letter(nonce: u64, addressing: Addressing, payload: impl Into<Bytes>) -> Letter {
    Letter {
        nonce,
        kind: MessageKind::Event,
        priority: Priority::High,
        addressing,
        created_at: 1_790_000_000_000,
        ttl: None,
        payload: payload.into(),
    }
}

/// The frame without its length.
fn sealed(pair: &Pair, letters: &[Letter], acknowledged: &[NonceRange]) -> Vec<u8> {
    let mut filling = Filling::default();
    for letter in letters {
        assert!(filling.add(letter, &pair.ends));
    }
    let mut framed = Vec::new();
    filling.seal(acknowledged, &pair.key, &mut framed).expect("Ed25519 signs");
    assert!(filling.is_empty(), "ready for the next");
    let mut frame = Vec::new();
    FrameCutter::new(framed.len()).cut(&framed, |bytes| frame = bytes.to_vec()).expect("well formed");
    frame
}

fn expected(pair: &Pair, letter: &Letter) -> Frame {
    Frame {
        id: MessageId { sender: pair.sender, nonce: letter.nonce },
        kind: letter.kind,
        priority: letter.priority,
        addressing: letter.addressing.clone(),
        created_at: Some(letter.created_at).filter(|at| *at != 0),
        ttl: letter.ttl,
        hops: 0,
        authenticity: Authenticity::Signed,
        payload: letter.payload.clone(),
    }
}

fn message(result: Result<Incoming, Rejection>) -> Frame {
    match result.expect("valid").content {
        Content::Message(frame) => frame,
        // One that anybody may pass on.
        Content::Post(post) => {
            crate::wire::verify_post(&post, PeerId::random(), usize::MAX, &Roots::default()).expect("verified")
        }
        other => panic!("a message, not {other:?}"),
    }
}

fn letters(recipient: PeerId) -> impl Strategy<Value = Vec<Letter>> {
    let addressing = prop_oneof![
        5 => Just(Addressing::Peer(recipient)),
        1 => Just(Addressing::Neighbors),
        1 => Just(Addressing::Peer(PeerId::random())),
        1 => Just(Addressing::Group("readers".parse().expect("a name"))),
    ];
    let payload = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..400),
        1 => "[ab]{600,3000}".prop_map(String::into_bytes),
    ];
    let priority = prop_oneof![Just(Priority::Low), Just(Priority::Medium), Just(Priority::High)];
    let kind = prop_oneof![Just(MessageKind::Event), Just(MessageKind::Consensus), Just(MessageKind::Heartbeat)];
    let letter = (any::<u64>(), kind, priority, addressing, any::<u64>(), prop::option::of(1..u32::MAX), payload)
        .prop_map(|(nonce, kind, priority, addressing, created_at, ttl, payload)| Letter {
            nonce,
            kind,
            priority,
            addressing,
            created_at,
            ttl: ttl.map(|ttl| Duration::from_millis(ttl.into())),
            payload: payload.into(),
        });
    prop::collection::vec(letter, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_come_out_as_they_went_in_and_each_proves_itself_alone(
        letters in letters(FIXED.with(|pair| pair.recipient)),
    ) {
        FIXED.with(|pair| {
            let frame = sealed(pair, &letters, &[]);
            let opened = pair.opener.open(&frame).expect("a batch");
            prop_assert_eq!(opened.len(), letters.len());
            for (index, (result, letter)) in opened.into_iter().zip(&letters).enumerate() {
                prop_assert_eq!(message(result), expected(pair, letter));
                // Whoever it is passed on by.
                let alone = pair.opener.take_out(&frame, index).expect("it is there");
                prop_assert_eq!(message(decode(&alone, PeerId::random(), LIMIT)), expected(pair, letter));
            }
            prop_assert_eq!(pair.opener.take_out(&frame, letters.len()), None);
            Ok(())
        })?;
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), batch in prop::collection::vec(any::<u8>(), 0..300)) {
        FIXED.with(|pair| {
            let _ = pair.opener.open(&bytes);
            let around = [&[0x18, 2, 0x60, 10, 0x8a, 1, u8::try_from(batch.len() % 128).unwrap_or(0)][..], &batch].concat();
            let opened = pair.opener.open(&around);
            prop_assert!(opened.is_none_or(|results| results.iter().all(Result::is_err)));
            Ok(())
        })?;
    }
}

thread_local! {
    static FIXED: Pair = pair();
}

#[test]
fn one_flipped_bit_in_a_batch_refuses_all_of_it() {
    let pair = pair();
    let letters = [
        letter(1 << 40, Addressing::Peer(pair.recipient), "one"),
        letter(2 << 40, Addressing::Neighbors, "two"),
        letter(3 << 40, Addressing::Peer(pair.recipient), vec![b'3'; 600]),
    ];
    let frame = sealed(&pair, &letters, &[]);
    for bit in 0..frame.len() * 8 {
        let mut bytes = frame.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Where the flip makes it something else than a batch, that has no author.
        let results = pair.opener.open(&bytes).unwrap_or_else(|| vec![decode(&bytes, pair.sender, LIMIT)]);
        assert!(results.iter().all(Result::is_err), "bit {} of byte {} went unnoticed", bit % 8, bit / 8);
    }
}

#[test]
fn one_flipped_bit_in_a_proven_message_is_refused() {
    let pair = pair();
    let letters = (0..5).map(|nonce| letter(nonce, Addressing::Anyone, format!("post {nonce}"))).collect::<Vec<_>>();
    // Also where the tree is known to be good.
    let roots = Roots::default();
    for frame in burst(&letters, &pair) {
        let post = crate::wire::read_post(&frame, None).expect("a post");
        crate::wire::verify_post(&post, PeerId::random(), LIMIT, &roots).expect("good");
        for bit in 0..frame.len() * 8 {
            let mut bytes = frame.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let result = match decode(&bytes, pair.sender, LIMIT) {
                Ok(Incoming { content: Content::Post(post), .. }) => {
                    crate::wire::verify_post(&post, pair.sender, LIMIT, &roots).map(drop)
                }
                other => other.map(drop),
            };
            assert!(result.is_err(), "bit {} of byte {} went unnoticed: {result:?}", bit % 8, bit / 8);
        }
    }
}

#[test]
fn a_burst_of_posts_shares_one_signature() {
    let pair = pair();
    let letters = (1..=3000).map(|nonce| letter(nonce, Addressing::Anyone, "post")).collect::<Vec<_>>();
    let frames = burst(&letters, &pair);
    let signatures =
        frames.iter().map(|frame| CpcMessage::decode(&frame[..]).expect("ours").signature).collect::<Vec<_>>();
    assert!(signatures.iter().all(|signature| *signature == signatures[0]));
    for (frame, letter) in frames.iter().zip(&letters).step_by(499) {
        assert_eq!(message(decode(frame, PeerId::random(), LIMIT)), expected(&pair, letter));
    }
    assert!(burst(&[], &pair).is_empty());
    let (roots, mut ids) = (Roots::default(), std::collections::BTreeSet::new());
    for frame in frames.iter().take(100) {
        let post = crate::wire::read_post(frame, None).expect("a post");
        crate::wire::verify_post(&post, PeerId::random(), LIMIT, &roots).expect("good");
        assert!(ids.insert(post.id), "each has an id of its own");
    }
    assert_eq!(roots.verified(), 1, "one verification for all");
}

#[test]
fn a_post_alone_has_a_signature_of_its_own() {
    let pair = pair();
    let letters = [letter(1, Addressing::Anyone, "alone")];
    let frame = CpcMessage::decode(&burst(&letters, &pair)[0][..]).expect("ours");
    assert!(frame.proof.is_none() && frame.signature.len() == SIGNATURE_LEN);
}

/// Posts of one moment.
fn burst(letters: &[Letter], pair: &Pair) -> Vec<Bytes> {
    let posts = letters.iter().map(|letter| (letter, Passing::Gossip)).collect::<Vec<_>>();
    post_frames(&posts, &pair.key).expect("signs")
}

#[test]
fn a_batch_is_what_another_implementation_makes_of_the_description() {
    let pair = pair();
    let message = CpcMessage { nonce: 9, payload: "by hand".into(), ..Default::default() }.encode_to_vec();
    let leaf = |records: &[u8]| LeafHasher::new(&[]).hash(records);
    let implied = CpcMessage {
        sender: pair.sender.to_bytes().into(),
        recipient: pair.recipient.to_bytes().into(),
        ..Default::default()
    };
    let root = leaf(&[implied.encode_to_vec(), message.clone()].concat());
    let signed = [&b"cpc-net/1.0.0/batch:"[..], &[0, 0, 0, 1], &root].concat();
    let batch =
        Batch { signature: pair.key.sign(&signed).expect("Ed25519 signs").into(), messages: vec![message.into()] };
    let around = CpcMessage {
        message_type: Type::Control.into(),
        kind: Kind::Batch.into(),
        batch: Some(batch),
        ..Default::default()
    };
    let opened = pair.opener.open(&around.encode_to_vec()).expect("a batch");
    let [Ok(Incoming { content: Content::Message(frame), .. })] = &opened[..] else {
        panic!("one message: {opened:?}")
    };
    assert_eq!((frame.id.nonce, &frame.payload[..]), (9, &b"by hand"[..]));
    assert_eq!(frame.addressing, Addressing::Peer(pair.recipient));

    // And ours is what they read.
    let ours = sealed(&pair, &[letter(5, Addressing::Peer(pair.recipient), "hi")], &[]);
    let read = CpcMessage::decode(&ours[..]).expect("protobuf");
    let inner = CpcMessage::decode(read.batch.expect("a batch").messages[0].clone()).expect("protobuf");
    assert_eq!((inner.nonce, inner.payload, inner.sender.len(), inner.recipient.len()), (5, "hi".into(), 0, 0));
}

#[test]
fn acknowledgements_travel_along() {
    let pair = pair();
    let ranges = [NonceRange { first: 3, last: 9 }, NonceRange { first: 11, last: 11 }];
    let frame = sealed(&pair, &[letter(5, Addressing::Peer(pair.recipient), "hi")], &ranges);
    let opened = pair.opener.open(&frame).expect("a batch");
    assert_eq!(opened.len(), 2);
    assert_eq!(opened[0], Ok(Incoming { content: Content::Nothing, acknowledged: ranges.to_vec() }));
}

#[test]
fn a_bad_message_in_a_good_batch_is_refused_alone_and_by_its_nonce() {
    let pair = pair();
    let mut filling = Filling::default();
    let mut add = |message: &[u8]| {
        filling.messages.push(0x12);
        encode_varint(message.len() as u64, &mut filling.messages);
        filling.messages.extend_from_slice(message);
        filling.leaves.push(pair.ends.hash(fields_of(message).0, message));
    };
    let plain = |nonce| CpcMessage { nonce, payload: "x".into(), ..Default::default() };
    add(&plain(1).encode_to_vec());
    let bad = [
        CpcMessage { payload: vec![0; LIMIT + 1].into(), ..plain(2) },
        CpcMessage { priority: 9, ..plain(3) },
        CpcMessage { encoding: 1, ..plain(4) },
        CpcMessage { encoding: 7, ..plain(5) },
        CpcMessage { hops: 1, ..plain(6) },
        CpcMessage { sender: pair.recipient.to_bytes().into(), ..plain(7) },
        CpcMessage { acknowledged: vec![WireRange::default()], ..plain(8) },
        CpcMessage { batch: Some(Batch::default()), ..plain(9) },
        CpcMessage { signature: vec![1; 64].into(), ..plain(10) },
        CpcMessage { recipient: vec![1, 2].into(), ..plain(11) },
        CpcMessage { group: "no spaces".into(), ..plain(12) },
    ];
    for message in &bad {
        add(&message.encode_to_vec());
    }
    add(&[0x08]);
    add(&plain(13).encode_to_vec());
    let mut framed = Vec::new();
    filling.seal(&[], &pair.key, &mut framed).expect("signs");
    let mut opened = Vec::new();
    FrameCutter::new(framed.len())
        .cut(&framed, |frame| opened = pair.opener.open(frame).expect("a batch"))
        .expect("well formed");

    let nonces = opened.iter().map(|result| match result {
        Ok(_) => None,
        Err(rejection) => Some(rejection.nonce),
    });
    let expected = [None].into_iter().chain((2..=12).map(|nonce| Some(Some(nonce)))).chain([Some(None), None]);
    assert_eq!(nonces.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!(opened[1].as_ref().expect_err("too large").reason, RejectReason::Oversized);
}

#[test]
fn a_batch_is_its_lanes_alone() {
    let pair = pair();
    let frame = sealed(&pair, &[letter(5, Addressing::Peer(pair.recipient), "hi")], &[]);
    let refused = |opener: Opener| {
        let opened = opener.open(&frame).expect("a batch");
        assert_eq!(opened.len(), 1);
        opened.into_iter().next().expect("one").expect_err("refused").reason
    };
    let somebody = Keypair::generate_ed25519().public().to_peer_id();
    let passed_on = Opener::new(somebody, pair.recipient, LIMIT);
    assert_eq!(refused(passed_on), RejectReason::WrongSignature, "passed on by somebody else");
    let misled = Opener::new(pair.sender, somebody, LIMIT);
    assert_eq!(refused(misled), RejectReason::WrongSignature, "sent on to somebody else");
    // Where no batches are understood it has no author.
    assert_eq!(decode(&frame, pair.sender, LIMIT).expect_err("no frame").reason, RejectReason::Unsigned);

    let mut filling = Filling::default();
    assert!(!filling.add(&letter(5, Addressing::Anyone, "to all"), &pair.ends), "the lane would imply a recipient");
    assert!(filling.is_empty());
}

/// B5: what a message costs beside its payload and its signature.
#[test]
fn the_overhead_of_a_message_is_below_fifty_bytes() {
    let pair = pair();
    // As they are in life: an epoch in the upper half of the nonce, the time of day, a time to live.
    let letters = (0..64)
        .map(|count| Letter {
            ttl: Some(Duration::from_secs(3600)),
            kind: MessageKind::DataSync,
            ..letter((1_790_000_000 << 32) + count, Addressing::Peer(pair.recipient), vec![b'x'; 256])
        })
        .collect::<Vec<_>>();
    for count in [1, 2, 64] {
        let frame = sealed(&pair, &letters[..count], &[]);
        // Its length travels too.
        let length = encoded_len_varint(frame.len() as u64);
        let overhead = (frame.len() + length - SIGNATURE_LEN) as f64 / count as f64 - 256.0;
        println!("{count} messages at a time: {overhead:.1} bytes beside payload and signature");
        assert!(overhead < 50.0, "{count} at a time: {overhead}");
    }
}
