//! A message on the command line: its text, what it is for, how urgent it is.

use std::io::{self, Read};

use clap::{Args, ValueEnum};
use cpc_net::{Message, MessageKind, Priority};

use crate::failure::Failure;

/// What `send` and `post` have in common.
#[derive(Debug, Args)]
pub(crate) struct Words {
    /// How urgent it is
    #[arg(long, value_enum, default_value_t = PriorityName::Medium, value_name = "PRIORITY")]
    priority: PriorityName,
    /// What it is for
    #[arg(long, value_enum, default_value_t = KindName::Event, value_name = "KIND")]
    kind: KindName,
    /// The message; "-" reads it from standard input
    #[arg(value_name = "TEXT|-")]
    text: String,
}

impl Words {
    /// The message as it was given.
    pub(crate) fn message(&self, max_payload: usize) -> Result<Message, Failure> {
        let payload = match self.text.as_str() {
            "-" => read_input(max_payload)?,
            text => text.as_bytes().to_vec(),
        };
        Ok(Message::new(self.kind.into(), payload))
    }

    pub(crate) fn priority(&self) -> Priority {
        self.priority.into()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PriorityName {
    High,
    Medium,
    Low,
}

impl From<PriorityName> for Priority {
    fn from(name: PriorityName) -> Self {
        match name {
            PriorityName::High => Priority::High,
            PriorityName::Medium => Priority::Medium,
            PriorityName::Low => Priority::Low,
        }
    }
}

/// The kinds that apps may send, by the names that JSON has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
enum KindName {
    Event,
    Data,
    DataSync,
    Consensus,
    Discovery,
    Hello,
    Control,
    Heartbeat,
}

impl From<KindName> for MessageKind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Event => MessageKind::Event,
            KindName::Data => MessageKind::Data,
            KindName::DataSync => MessageKind::DataSync,
            KindName::Consensus => MessageKind::Consensus,
            KindName::Discovery => MessageKind::Discovery,
            KindName::Hello => MessageKind::Hello,
            KindName::Control => MessageKind::Control,
            KindName::Heartbeat => MessageKind::Heartbeat,
        }
    }
}

/// Standard input to its end, or to one byte more than is allowed: enough for the error about too much.
fn read_input(max_payload: usize) -> Result<Vec<u8>, Failure> {
    let most = u64::try_from(max_payload).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    match io::stdin().lock().take(most).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::Failed(format!("the message can't be read from standard input: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_priority_go_by_their_json_names() {
        let words = Words { priority: PriorityName::High, kind: KindName::DataSync, text: "hello".into() };
        let message = words.message(100).expect("not from standard input");
        assert_eq!((message.kind(), message.payload().as_ref()), (MessageKind::DataSync, &b"hello"[..]));
        assert_eq!(words.priority(), Priority::High);
        for kind in KindName::value_variants() {
            let json = serde_json::to_value(MessageKind::from(*kind)).expect("serialisable");
            let name = kind.to_possible_value().expect("not hidden");
            assert_eq!(json, name.get_name());
        }
    }
}
