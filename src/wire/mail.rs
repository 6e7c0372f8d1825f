//! What nodes and mailboxes say to each other, as frames; and what they keep, sealed and opened.

use std::time::Duration;

use bytes::Bytes;
use libp2p::{PeerId, identity::SigningError};
use prost::Message as _;

use super::{
    frame::{decode_verified, from_wire_range, malformed},
    generated::{self, Arrival, Confirmation, DepositAnswer, cpc_message::Kind},
    outgoing::{control_frame_of, message_frame, to_wire_range},
    roots::Roots,
};
use crate::{
    crypto::{
        Author, AuthorKey, MAX_SEALED, MAX_SEALED_CONTENT, Purpose, SIGNATURE_LEN, SealingKey, is_sealed_len,
        sign_arrival, verify_arrival,
    },
    event::RejectReason,
    frame::{
        Addressing, Answer, Collect, Content, Deposit, Deposited, Frame, Kept, Mail, NonceRange, Piece, Rejection,
        Sealed, Taking, ToMailbox,
    },
    message::{Authenticity, Priority},
};

/// What a sealed message may hold besides its payload.
const ENVELOPE: usize = MAX_SEALED_CONTENT - Deposit::MAX_PAYLOAD;
const _: () = assert!(ENVELOPE >= super::MAX_FRAME_OVERHEAD);

/// The largest frame that holds something sealed, bytes.
pub(super) const MAX_MAIL_FRAME: usize = MAX_SEALED + 256;

/// Answers that are read of one frame.
const MAX_ANSWERS: usize = 256;

/// A reason, as far as it is read: a name.
const MAX_REASON: usize = 32;

/// Ranges that are read of one confirmation.
const MAX_RANGES: usize = 512;

/// A frame to a mailbox, signed and sealed as far as it has to be.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
pub(super) fn sealed_frame(
    to: &ToMailbox,
    key: &impl Author,
    sealing: &SealingKey,
) -> Result<Option<Bytes>, SigningError> {
    match to {
        ToMailbox::Deposit(deposit) => deposit_frame(deposit, key, sealing),
        ToMailbox::Collect(taking) => collect_frame(taking, key, sealing).map(Some),
    }
}

/// The frame of a deposit. Costs a signature and the sealing: not for the driver's task. `None` when nothing can be
/// sealed to the recipient, or there is too much; the core sees to both.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
fn deposit_frame(deposit: &Deposit, key: &impl Author, sealing: &SealingKey) -> Result<Option<Bytes>, SigningError> {
    let letter = message_frame(&deposit.letter, key)?;
    let Ok(sealed) = sealing.seal(&deposit.recipient, Purpose::Letter, &letter) else { return Ok(None) };
    let deposit = generated::Deposit {
        number: deposit.number,
        ticket: sealing.ticket(&deposit.recipient, deposit.letter.nonce),
        recipient: deposit.recipient.to_bytes().into(),
        keep_for: to_millis(deposit.keep_for),
        sealed: sealed.into(),
    };
    Ok(Some(control_frame_of(Kind::Deposit, Priority::Medium, deposit.encode_to_vec())))
}

/// The frame that tells a mailbox what is taken. Costs a signature and a sealing for each author: not for the driver's
/// task.
///
/// # Errors
/// When the key can't sign, which Ed25519 keys always can.
fn collect_frame(taking: &Taking, key: &impl Author, sealing: &SealingKey) -> Result<Bytes, SigningError> {
    let recipient = Bytes::from(key.peer_id().to_bytes());
    let mut confirmations = Vec::with_capacity(taking.arrived.len());
    for (author, nonces) in &taking.arrived {
        let signature = sign_arrival(author, nonces, key)?.into();
        let nonces = nonces.iter().map(to_wire_range).collect();
        let arrival = Arrival { recipient: recipient.clone(), signature, nonces }.encode_to_vec();
        // An author to whom nothing can be sealed can't have sealed anything either, and has no letters here.
        if let Ok(sealed) = sealing.seal(author, Purpose::Confirmation, &arrival) {
            confirmations.push(Confirmation { author: author.to_bytes().into(), sealed: sealed.into() });
        }
    }
    let Taking { run, letters, bytes, taken, .. } = taking;
    let (run, letters, bytes) = (*run, *letters, *bytes);
    let collect = generated::Collect { run, letters, bytes, taken: taken.clone(), confirmations };
    Ok(control_frame_of(Kind::Collect, Priority::High, collect.encode_to_vec()))
}

/// What became of deposits, as the payload of a frame.
pub(super) fn encode_answers(answers: Vec<Answer>) -> Vec<u8> {
    let answers = answers.into_iter().map(|Answer { number, kept_for }| {
        let (kept_for, refused) = match kept_for {
            Ok(time) => (to_millis(time).max(1), String::new()),
            Err(reason) => (0, reason),
        };
        DepositAnswer { number, kept_for, refused }
    });
    generated::Mail { answers: answers.collect(), piece: None }.encode_to_vec()
}

/// Something that was kept, as the payload of a frame.
pub(super) fn encode_piece(piece: Kept) -> Vec<u8> {
    let Kept { run, slot, confirmation, sealed } = piece;
    let piece = generated::Piece { run, slot, confirmation, sealed };
    generated::Mail { answers: Vec::new(), piece: Some(piece) }.encode_to_vec()
}

/// Reads what a neighbour says as a mailbox or to one. What is sealed stays closed.
pub(super) fn decode_mail(kind: Kind, payload: Bytes) -> Result<Mail, Rejection> {
    let unreadable = |error: prost::DecodeError| malformed(format!("mail: {error}"));
    match kind {
        Kind::Deposit => {
            let wire = generated::Deposit::decode(payload).map_err(unreadable)?;
            let sealed = sealed_by_length(&wire.sealed)?;
            Ok(Mail::Deposited(Deposited {
                number: wire.number,
                ticket: wire.ticket,
                recipient: peer(&wire.recipient)?,
                keep_for: Duration::from_millis(wire.keep_for),
                sealed,
            }))
        }
        Kind::Collect => {
            let wire = generated::Collect::decode(payload).map_err(unreadable)?;
            if wire.taken.len() > Collect::MAX_TAKEN || wire.confirmations.len() > Collect::MAX_CONFIRMATIONS {
                let (taken, confirmations) = (Collect::MAX_TAKEN, Collect::MAX_CONFIRMATIONS);
                return Err(malformed(format!(
                    "a note to a mailbox may name {taken} letters and {confirmations} authors"
                )));
            }
            let confirmations = wire.confirmations.into_iter();
            let confirmations =
                confirmations.map(|Confirmation { author, sealed }| Ok((peer(&author)?, sealed_by_length(&sealed)?)));
            Ok(Mail::Collect(Collect {
                run: wire.run,
                letters: usize::try_from(wire.letters).unwrap_or(usize::MAX),
                bytes: usize::try_from(wire.bytes).unwrap_or(usize::MAX),
                taken: wire.taken,
                confirmations: confirmations.collect::<Result<_, _>>()?,
            }))
        }
        _ => {
            let wire = generated::Mail::decode(payload).map_err(unreadable)?;
            if wire.answers.len() > MAX_ANSWERS {
                return Err(malformed(format!("a mailbox may answer {MAX_ANSWERS} deposits at once")));
            }
            match wire.piece {
                Some(_) if !wire.answers.is_empty() => Err(malformed("answers and a letter in one frame".into())),
                Some(piece) => Ok(Mail::Piece(Piece {
                    run: piece.run,
                    slot: piece.slot,
                    confirmation: piece.confirmation,
                    content: Sealed::Closed(piece.sealed),
                })),
                None => Ok(Mail::Answers(wire.answers.into_iter().map(answer).collect())),
            }
        }
    }
}

fn answer(DepositAnswer { number, kept_for, refused }: DepositAnswer) -> Answer {
    let kept_for = match kept_for {
        0 => {
            // It comes from a stranger: bounded, and a name.
            let is_in_a_name = |character: &char| character.is_ascii_lowercase() || *character == '_';
            Err(refused.chars().filter(is_in_a_name).take(MAX_REASON).collect())
        }
        millis => Ok(Duration::from_millis(millis)),
    };
    Answer { number, kept_for }
}

/// Opens what a mailbox handed over, and checks all of it. Costs two agreements of keys and the check of a signature: not
/// for the driver's task. The mailbox is not to blame for what is inside: it could not see it.
pub(super) fn open(piece: &mut Piece, local: &PeerId, sealing: &SealingKey, max_payload: usize) {
    let Sealed::Closed(sealed) = &piece.content else { return };
    let opened = match piece.confirmation {
        true => open_arrival(sealed, local, sealing),
        false => open_letter(sealed, local, sealing, max_payload),
    };
    piece.content = opened.unwrap_or_else(Sealed::Bad);
}

fn open_letter(sealed: &[u8], local: &PeerId, sealing: &SealingKey, max_payload: usize) -> Result<Sealed, Rejection> {
    let opened = sealing.open(Purpose::Letter, sealed).map_err(|error| wrong_seal(error.to_string()))?;
    // Whose frame it is says the frame alone: the mailbox vouches for nothing.
    let incoming = decode_verified(&opened.content, *local, max_payload, &Roots::default())?;
    match incoming.content {
        Content::Message(frame @ Frame { authenticity: Authenticity::Signed, addressing: Addressing::Peer(_), .. })
            if incoming.acknowledged.is_empty() =>
        {
            if opened.is_by(&frame.id.sender) {
                Ok(Sealed::Letter(frame))
            } else {
                Err(wrong_seal(format!("somebody else sealed a message of {}", frame.id.sender)))
            }
        }
        _ => Err(malformed("no signed message to one peer was in a letter".into())),
    }
}

fn open_arrival(sealed: &[u8], local: &PeerId, sealing: &SealingKey) -> Result<Sealed, Rejection> {
    let opened = sealing.open(Purpose::Confirmation, sealed).map_err(|error| wrong_seal(error.to_string()))?;
    let arrival = Arrival::decode(&opened.content[..]).map_err(|error| malformed(format!("an arrival: {error}")))?;
    if arrival.nonces.len() > MAX_RANGES || arrival.signature.len() != SIGNATURE_LEN {
        return Err(malformed("an arrival with too many ranges, or a signature of another length".into()));
    }
    let by = peer(&arrival.recipient)?;
    let nonces = arrival.nonces.iter().map(from_wire_range).collect::<Vec<NonceRange>>();
    let key = AuthorKey::of(&by).filter(|key| verify_arrival(local, &nonces, &arrival.signature, key));
    if key.is_none() || !opened.is_by(&by) {
        let detail = format!("it is not {by} who says that messages have arrived");
        return Err(Rejection::new(RejectReason::WrongSignature, detail));
    }
    Ok(Sealed::Arrival { by, nonces })
}

fn wrong_seal(detail: String) -> Rejection {
    Rejection::new(RejectReason::WrongSeal, detail)
}

/// All that can be seen of sealed content: whether a size class has its length. It may be kept for days, so it is copied:
/// the rest of the frame that it came in would stay in memory as long, and nobody would count it.
fn sealed_by_length(sealed: &Bytes) -> Result<Bytes, Rejection> {
    let length = sealed.len();
    if is_sealed_len(length) {
        Ok(Bytes::copy_from_slice(sealed))
    } else {
        Err(malformed(format!("no sealed content is {length} bytes long")))
    }
}

fn peer(bytes: &[u8]) -> Result<PeerId, Rejection> {
    PeerId::from_bytes(bytes).map_err(|error| malformed(format!("a peer id in mail: {error}")))
}

fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        frame::{ControlContent, Incoming, Kept, Letter},
        message::{MessageId, MessageKind},
        wire::{control_frame, decode},
    };

    struct Party {
        key: Keypair,
        sealing: SealingKey,
        id: PeerId,
    }

    fn party() -> Party {
        let key = Keypair::generate_ed25519();
        let sealing = SealingKey::of(&key).expect("Ed25519");
        let id = key.public().to_peer_id();
        Party { key, sealing, id }
    }

    fn letter(to: &Party, payload: impl Into<Bytes>) -> Letter {
        Letter {
            nonce: 7,
            kind: MessageKind::DataSync,
            priority: Priority::Medium,
            addressing: Addressing::Peer(to.id),
            created_at: 1234,
            ttl: Some(Duration::from_secs(9)),
            payload: payload.into(),
        }
    }

    fn mail(frame: &[u8], neighbour: &Party) -> Mail {
        match decode(frame, neighbour.id, 1 << 20) {
            Ok(Incoming { content: Content::Mail(mail), .. }) => *mail,
            other => panic!("no mail: {other:?}"),
        }
    }

    fn deposited(from: &Party, to: &Party, letter: Letter) -> Deposited {
        let deposit = Deposit { number: 3, recipient: to.id, keep_for: Duration::from_secs(60), letter };
        let note = ToMailbox::Deposit(Box::new(deposit));
        let frame = sealed_frame(&note, &from.key, &from.sealing).expect("signs").expect("seals");
        assert!(frame.len() <= MAX_MAIL_FRAME, "{}", frame.len());
        match mail(&frame, from) {
            Mail::Deposited(deposited) => deposited,
            other => panic!("no deposit: {other:?}"),
        }
    }

    /// As a mailbox hands something over, and the recipient opens it.
    fn handed_over(mailbox: &Party, to: &Party, confirmation: bool, sealed: Bytes) -> Sealed {
        let kept = Kept { run: 1, slot: 5, confirmation, sealed };
        let frame = control_frame(ControlContent::Piece(Box::new(kept)));
        let Mail::Piece(mut piece) = mail(&frame, mailbox) else { panic!("a piece") };
        assert_eq!((piece.run, piece.slot, piece.confirmation), (1, 5, confirmation));
        open(&mut piece, &to.id, &to.sealing, 1 << 20);
        piece.content
    }

    fn reason(content: Sealed) -> RejectReason {
        match content {
            Sealed::Bad(rejection) => rejection.reason,
            other => panic!("it was taken: {other:?}"),
        }
    }

    #[test]
    fn a_letter_comes_out_as_its_author_wrote_it_and_the_mailbox_sees_nothing_of_it() {
        let (alice, bob, mailbox) = (party(), party(), party());
        for payload in [Bytes::from_static(b"meet me at nine"), vec![b'x'; Deposit::MAX_PAYLOAD].into()] {
            let letter = letter(&bob, payload.clone());
            let deposited = deposited(&alice, &bob, letter.clone());
            assert_eq!((deposited.number, deposited.recipient), (3, bob.id));
            assert_eq!(deposited.keep_for, Duration::from_secs(60));
            assert!(!deposited.sealed.windows(15).any(|window| window == &payload[..15]));
            let content = handed_over(&mailbox, &bob, false, deposited.sealed.clone());
            let expected = Frame {
                id: MessageId { sender: alice.id, nonce: 7 },
                kind: letter.kind,
                priority: letter.priority,
                addressing: letter.addressing,
                created_at: Some(1234),
                ttl: letter.ttl,
                hops: 0,
                authenticity: Authenticity::Signed,
                payload,
            };
            assert_eq!(content, Sealed::Letter(expected));
            assert_eq!(
                reason(handed_over(&mailbox, &mailbox, false, deposited.sealed.clone())),
                RejectReason::WrongSeal
            );
            assert_eq!(reason(handed_over(&mailbox, &bob, true, deposited.sealed)), RejectReason::WrongSeal);
        }
    }

    #[test]
    fn the_same_message_has_the_same_name_whenever_it_is_brought() {
        let (alice, bob) = (party(), party());
        let [one, two] = [(); 2].map(|()| deposited(&alice, &bob, letter(&bob, "hello")));
        assert_eq!(one.ticket, two.ticket);
        assert_ne!(one.sealed, two.sealed, "it is sealed anew");
    }

    #[test]
    fn a_letter_that_somebody_else_sealed_or_that_is_not_signed_is_none() {
        let (alice, bob, mallory) = (party(), party(), party());
        let genuine = message_frame(&letter(&bob, "hello"), &alice.key).expect("signs");
        let resealed = mallory.sealing.seal(&bob.id, Purpose::Letter, &genuine).expect("seals");
        assert_eq!(reason(handed_over(&mallory, &bob, false, resealed.into())), RejectReason::WrongSeal);

        let mut forged = genuine.to_vec();
        *forged.last_mut().expect("not empty") ^= 1;
        let sealed = alice.sealing.seal(&bob.id, Purpose::Letter, &forged).expect("seals");
        assert_eq!(reason(handed_over(&mallory, &bob, false, sealed.into())), RejectReason::WrongSignature);

        let unsigned = control_frame(ControlContent::Goodbye);
        let sealed = alice.sealing.seal(&bob.id, Purpose::Letter, &unsigned).expect("seals");
        assert_eq!(reason(handed_over(&mallory, &bob, false, sealed.into())), RejectReason::Malformed);
        let sealed = alice.sealing.seal(&bob.id, Purpose::Letter, b"\xff\xff").expect("seals");
        assert_eq!(reason(handed_over(&mallory, &bob, false, sealed.into())), RejectReason::Malformed);
    }

    fn confirmation(by: &Party, author: &Party, nonces: &[NonceRange]) -> Bytes {
        let taking =
            Taking { run: 2, letters: 9, bytes: 99, taken: vec![4, 5], arrived: vec![(author.id, nonces.to_vec())] };
        let note = ToMailbox::Collect(Box::new(taking));
        let frame = sealed_frame(&note, &by.key, &by.sealing).expect("signs").expect("nothing prevents it");
        let Mail::Collect(mut collect) = mail(&frame, by) else { panic!("a collect") };
        assert_eq!((collect.run, collect.letters, collect.bytes, &collect.taken[..]), (2, 9, 99, &[4, 5][..]));
        assert_eq!(collect.confirmations.len(), 1);
        let (to, sealed) = collect.confirmations.remove(0);
        assert_eq!(to, author.id);
        sealed
    }

    #[test]
    fn only_the_recipient_can_say_that_letters_have_arrived() {
        let (alice, bob, mailbox) = (party(), party(), party());
        let nonces = [NonceRange { first: 7, last: 9 }, NonceRange { first: 12, last: 12 }];
        let sealed = confirmation(&bob, &alice, &nonces);
        let arrival = Sealed::Arrival { by: bob.id, nonces: nonces.to_vec() };
        assert_eq!(handed_over(&mailbox, &alice, true, sealed), arrival);

        // The mailbox makes one up: with its own signature, or with one over other messages.
        let recipient = Bytes::from(bob.id.to_bytes());
        let ranges = nonces.iter().map(to_wire_range).collect::<Vec<_>>();
        for (signer, signed) in [(&mailbox, &nonces[..]), (&bob, &nonces[..1])] {
            let signature = sign_arrival(&alice.id, signed, &signer.key).expect("signs").into();
            let forged = Arrival { recipient: recipient.clone(), signature, nonces: ranges.clone() };
            let sealed =
                mailbox.sealing.seal(&alice.id, Purpose::Confirmation, &forged.encode_to_vec()).expect("seals");
            assert_eq!(reason(handed_over(&mailbox, &alice, true, sealed.into())), RejectReason::WrongSignature);
        }
        // Nor does one for another author count here.
        let carol = party();
        let signature = sign_arrival(&carol.id, &nonces, &bob.key).expect("signs").into();
        let stolen = Arrival { recipient, signature, nonces: ranges };
        let sealed = bob.sealing.seal(&alice.id, Purpose::Confirmation, &stolen.encode_to_vec()).expect("seals");
        assert_eq!(reason(handed_over(&mailbox, &alice, true, sealed.into())), RejectReason::WrongSignature);
    }

    #[test]
    fn answers_are_read_as_they_were_given_and_a_strangers_words_are_names() {
        let mailbox = party();
        let hour = Duration::from_secs(3600);
        let given = vec![
            Answer { number: 1, kept_for: Ok(hour) },
            Answer { number: 2, kept_for: Err("sender_full".into()) },
            Answer { number: 3, kept_for: Err("Ha!\n<b>sender</b>_full ".repeat(9)) },
        ];
        let Mail::Answers(read) = mail(&control_frame(ControlContent::Answers(given.clone())), &mailbox) else {
            panic!("answers")
        };
        assert_eq!(read[..2], given[..2]);
        let name = read[2].kept_for.as_ref().expect_err("refused");
        assert!(name.len() <= MAX_REASON && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'));
    }

    #[test]
    fn too_much_at_once_or_of_no_class_is_malformed() {
        let deposit = generated::Deposit {
            recipient: party().id.to_bytes().into(),
            sealed: vec![0; 300].into(),
            ..Default::default()
        };
        let confirmations = vec![Confirmation::default(); Collect::MAX_CONFIRMATIONS + 1];
        let too_many = generated::Collect { confirmations, ..Default::default() };
        let taken = generated::Collect { taken: vec![1; Collect::MAX_TAKEN + 1], ..Default::default() };
        let answers = generated::Mail { answers: vec![DepositAnswer::default(); MAX_ANSWERS + 1], piece: None };
        let both =
            generated::Mail { answers: vec![DepositAnswer::default()], piece: Some(generated::Piece::default()) };
        for (kind, payload) in [
            (Kind::Deposit, deposit.encode_to_vec()),
            (Kind::Collect, too_many.encode_to_vec()),
            (Kind::Collect, taken.encode_to_vec()),
            (Kind::Mail, answers.encode_to_vec()),
            (Kind::Mail, both.encode_to_vec()),
        ] {
            assert_eq!(decode_mail(kind, payload.into()).expect_err("too much").reason, RejectReason::Malformed);
        }
    }

    #[test]
    fn what_is_kept_does_not_hold_the_frame_that_it_came_in() {
        let (alice, bob) = (party(), party());
        let sealed = alice.sealing.seal(&bob.id, Purpose::Letter, b"short").expect("seals");
        let deposit = generated::Deposit {
            recipient: bob.id.to_bytes().into(),
            sealed: sealed.clone().into(),
            ..Default::default()
        };
        let confirmation = Confirmation { author: bob.id.to_bytes().into(), sealed: sealed.into() };
        let collect = generated::Collect { confirmations: vec![confirmation], ..Default::default() };
        for (kind, payload) in [(Kind::Deposit, deposit.encode_to_vec()), (Kind::Collect, collect.encode_to_vec())] {
            let payload = Bytes::from(payload);
            let kept = decode_mail(kind, payload.clone()).expect("readable");
            assert!(payload.is_unique(), "{kept:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..400)) {
            for kind in [Kind::Deposit, Kind::Collect, Kind::Mail] {
                // Whatever comes of it.
                let _ = decode_mail(kind, payload.clone().into());
            }
        }
    }
}
