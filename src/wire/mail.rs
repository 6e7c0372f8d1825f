//! What nodes and mailboxes say to each other, as frames; and what they keep, sealed and opened.

use std::time::Duration;

use bytes::Bytes;
use libp2p::{
    PeerId,
    identity::{Keypair, SigningError},
};
use prost::Message as _;

use super::{
    frame::{decode_verified, from_wire_range, malformed},
    generated::{self, Arrival, Confirmation, DepositAnswer, cpc_message::Kind},
    outgoing::{control_frame_of, message_frame, to_wire_range},
};
use crate::{
    crypto::{
        MAX_SEALED, MAX_SEALED_CONTENT, Purpose, SIGNATURE_LEN, SealingKey, ed25519_key, is_sealed_len, sign_arrival,
        verify_arrival,
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
pub(super) fn sealed_frame(to: &ToMailbox, key: &Keypair, sealing: &SealingKey) -> Result<Option<Bytes>, SigningError> {
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
fn deposit_frame(deposit: &Deposit, key: &Keypair, sealing: &SealingKey) -> Result<Option<Bytes>, SigningError> {
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
fn collect_frame(taking: &Taking, key: &Keypair, sealing: &SealingKey) -> Result<Bytes, SigningError> {
    let recipient = Bytes::from(key.public().to_peer_id().to_bytes());
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
            let sealed = sealed_by_length(wire.sealed)?;
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
                confirmations.map(|Confirmation { author, sealed }| Ok((peer(&author)?, sealed_by_length(sealed)?)));
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
    let incoming = decode_verified(&opened.content, *local, max_payload)?;
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
    let key = ed25519_key(&by).filter(|key| verify_arrival(local, &nonces, &arrival.signature, key));
    if key.is_none() || !opened.is_by(&by) {
        let detail = format!("it is not {by} who says that messages have arrived");
        return Err(Rejection::new(RejectReason::WrongSignature, detail));
    }
    Ok(Sealed::Arrival { by, nonces })
}

fn wrong_seal(detail: String) -> Rejection {
    Rejection::new(RejectReason::WrongSeal, detail)
}

/// All that can be seen of sealed content: whether a size class has its length.
fn sealed_by_length(sealed: Bytes) -> Result<Bytes, Rejection> {
    let length = sealed.len();
    if is_sealed_len(length) { Ok(sealed) } else { Err(malformed(format!("no sealed content is {length} bytes long"))) }
}

fn peer(bytes: &[u8]) -> Result<PeerId, Rejection> {
    PeerId::from_bytes(bytes).map_err(|error| malformed(format!("a peer id in mail: {error}")))
}

fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
