//! Priorities and kinds: the wire's numbers and the app's words.

use super::generated::cpc_message::{Kind, Priority as WirePriority, Type};
use crate::{
    event::RejectReason,
    frame::Rejection,
    message::{MessageKind, Priority},
};

pub(super) fn to_wire_priority(priority: Priority) -> WirePriority {
    match priority {
        Priority::Low => WirePriority::Low,
        Priority::Medium => WirePriority::Medium,
        Priority::High => WirePriority::High,
    }
}

pub(super) fn from_wire_priority(priority: WirePriority) -> Priority {
    match priority {
        WirePriority::Low => Priority::Low,
        WirePriority::Medium => Priority::Medium,
        WirePriority::High => Priority::High,
    }
}

pub(super) fn to_wire_kind(kind: MessageKind) -> (Type, i32) {
    match kind {
        MessageKind::Event => (Type::Event, Kind::Unspecified.into()),
        MessageKind::Data => (Type::Event, Kind::Data.into()),
        MessageKind::DataSync => (Type::Event, Kind::DataSync.into()),
        MessageKind::Consensus => (Type::Event, Kind::Consensus.into()),
        MessageKind::Discovery => (Type::Discovery, Kind::Unspecified.into()),
        MessageKind::Hello => (Type::Discovery, Kind::Hello.into()),
        MessageKind::Control => (Type::Control, Kind::Unspecified.into()),
        MessageKind::Heartbeat => (Type::Control, Kind::Heartbeat.into()),
        MessageKind::Unknown(number) => (Type::Event, number),
    }
}

pub(super) fn from_wire_kind(message_type: Type, kind: Kind) -> Result<MessageKind, Rejection> {
    Ok(match (message_type, kind) {
        (Type::Event, Kind::Unspecified) => MessageKind::Event,
        (Type::Event, Kind::Data) => MessageKind::Data,
        (Type::Event, Kind::DataSync) => MessageKind::DataSync,
        (Type::Event, Kind::Consensus) => MessageKind::Consensus,
        (Type::Discovery, Kind::Unspecified) => MessageKind::Discovery,
        (Type::Discovery, Kind::Hello) => MessageKind::Hello,
        (Type::Control, Kind::Unspecified) => MessageKind::Control,
        (Type::Control, Kind::Heartbeat) => MessageKind::Heartbeat,
        (message_type, kind) => {
            let detail = format!("the kind {kind:?} doesn't belong to the type {message_type:?}");
            return Err(Rejection::new(RejectReason::Malformed, detail));
        }
    })
}
