//! What is printed, for people and for programs. Everything that comes from others is made harmless before a person's
//! terminal sees it: one line, of bounded length, without characters that steer a terminal.

use std::{
    cell::RefCell,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use cpc_net::{Delivery, MessageKind, NetworkEvent, PeerId, ReceivedMessage};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;

/// The longest text of a stranger's that is shown on one line, in characters.
const MAX_TEXT: usize = 500;
/// How many lines wait for a slow reader before whoever prints has to wait too.
const LINES_WAITING: usize = 256;
/// How long the last lines may take to reach the reader.
const LAST_LINES: Duration = Duration::from_secs(1);

/// One line on standard output.
pub(crate) fn print(line: &str) -> Result<(), Failure> {
    write_line(line).map_err(|error| Failure::Failed(format!("standard output can't be written: {error}")))
}

fn write_line(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// One line for people on standard error. When nobody can read it there is nobody to tell.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Nobody reads standard output any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutputClosed;

/// Prints lines from a thread of its own, so that a reader who doesn't read holds up neither HTTP nor Ctrl-C. The lines
/// that wait are bounded; when there are too many, the network's own bounded streams take the pressure and count what
/// they drop.
#[derive(Debug)]
pub(crate) struct Printer {
    lines: mpsc::Sender<String>,
    written: oneshot::Receiver<()>,
}

impl Printer {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self, Failure> {
        let (lines, mut waiting) = mpsc::channel::<String>(LINES_WAITING);
        let (done, written) = oneshot::channel();
        let work = move || {
            while let Some(line) = waiting.blocking_recv() {
                if write_line(&line).is_err() {
                    break;
                }
            }
            // Nobody may be waiting for it.
            let _ = done.send(());
        };
        std::thread::Builder::new()
            .name("output".into())
            .spawn(work)
            .map_err(|error| Failure::Failed(format!("the output thread can't be started: {error}")))?;
        Ok(Self { lines, written })
    }

    /// Hands over a line, waiting while too many wait already.
    pub(crate) async fn print(&self, line: String) -> Result<(), OutputClosed> {
        self.lines.send(line).await.map_err(|_| OutputClosed)
    }

    /// Waits until everything is written, within reason.
    pub(crate) async fn finish(self) {
        drop(self.lines);
        let _ = tokio::time::timeout(LAST_LINES, self.written).await;
    }
}

/// What a person sees while something takes its time: a spinner on standard error, if that is a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    step: RefCell<String>,
    obstacle: RefCell<Option<String>>,
}

impl Progress {
    /// Shows the first step.
    pub(crate) fn start(step: impl Into<String>) -> Self {
        let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        let progress = Self { bar, step: RefCell::default(), obstacle: RefCell::default() };
        progress.step(step);
        progress
    }

    /// The next step begins.
    pub(crate) fn step(&self, step: impl Into<String>) {
        let step = step.into();
        self.bar.set_message(step.clone());
        *self.step.borrow_mut() = step;
    }

    /// From now on a bar shows how many bytes of how many have passed, or just how many when nobody knows.
    pub(crate) fn count_bytes(&self, length: Option<u64>) {
        const BAR: &str = "{msg} [{wide_bar}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        const COUNT: &str = "{spinner} {msg} {bytes}, {bytes_per_sec}";
        let template = if length.is_some() { BAR } else { COUNT };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar.set_style(style.progress_chars("=> "));
        if let Some(length) = length {
            self.bar.set_length(length);
        }
    }

    /// So many bytes have passed.
    pub(crate) fn bytes(&self, passed: u64) {
        self.bar.set_position(passed);
    }

    /// What stood in the way last, without having ended the attempt.
    pub(crate) fn obstacle(&self, obstacle: impl Into<String>) {
        *self.obstacle.borrow_mut() = Some(obstacle.into());
    }

    /// Where it stands, for an error: the step, and the last obstacle.
    pub(crate) fn describe(&self) -> String {
        let step = self.step.borrow();
        match &*self.obstacle.borrow() {
            Some(obstacle) => format!("{step}; {obstacle}"),
            None => step.clone(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Makes a stranger's text fit for a terminal: one line, without control and text-direction characters, at most `most`
/// characters of it.
pub(crate) fn sanitised(text: &str, most: usize) -> String {
    let mut left = text.chars().filter_map(|character| match character {
        '\n' | '\r' | '\t' => Some(' '),
        '\u{2028}' | '\u{2029}' => Some(' '),
        // Marks, embeddings, overrides and isolates could make a line read as something else than it says.
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => None,
        character if character.is_control() => None,
        character => Some(character),
    });
    let mut shown = left.by_ref().take(most).collect::<String>();
    if left.next().is_some() {
        shown.push('…');
    }
    shown
}

/// The end of a peer id, enough to tell peers apart by eye. (All ids of one kind begin alike.)
pub(crate) fn short(peer: &PeerId) -> String {
    let text = peer.to_string();
    let hidden = text.chars().count().saturating_sub(8);
    format!("…{}", text.chars().skip(hidden).collect::<String>())
}

/// A received message for people.
pub(crate) fn message_line(message: &ReceivedMessage) -> String {
    let way = match &message.delivery {
        Delivery::Direct => "direct".to_owned(),
        Delivery::Neighbors => "neighbors".to_owned(),
        Delivery::All => "all".to_owned(),
        Delivery::Group(name) => format!("group {name}"),
    };
    let kind = match message.kind {
        MessageKind::Event => String::new(),
        kind => format!(", {kind:?}"),
    };
    let text = match std::str::from_utf8(&message.payload) {
        Ok(text) => sanitised(text, MAX_TEXT),
        Err(_) => format!("({} bytes that are not text)", message.payload.len()),
    };
    format!("[{way}{kind}] {}: {text}", short(&message.sender))
}

/// A received message for programs: its JSON view, the payload as text, or in base64 where it is none.
pub(crate) fn message_json(message: &ReceivedMessage) -> String {
    let mut head = message.clone();
    let payload = std::mem::take(&mut head.payload);
    let mut view = serde_json::to_value(&head).unwrap_or_else(|error| json!({ "error": error.to_string() }));
    if let Value::Object(fields) = &mut view {
        fields.remove("payload");
        match std::str::from_utf8(&payload) {
            Ok(text) => fields.insert("payload".into(), text.into()),
            Err(_) => fields.insert("payloadBase64".into(), base64(&payload).into()),
        };
    }
    json!({ "event": "message", "message": view }).to_string()
}

/// A network event for programs.
pub(crate) fn network_json(event: &NetworkEvent) -> String {
    json!({ "event": "network", "network": event }).to_string()
}

/// A network event for people, if they should care: what is lost, or doesn't work.
pub(crate) fn network_note(event: &NetworkEvent) -> Option<String> {
    match event {
        NetworkEvent::BootstrapFailed { address, reason, retry_in } => Some(format!(
            "can't reach the bootstrap node {address} ({}); trying again in {} s",
            sanitised(reason, MAX_TEXT),
            retry_in.as_secs_f64().ceil()
        )),
        NetworkEvent::ListenClosed { address, reason } => {
            Some(format!("no longer listening on {address}: {}", sanitised(reason, MAX_TEXT)))
        }
        NetworkEvent::MessagesMissed { count } => {
            Some(format!("{count} messages arrived faster than they could be printed and are not shown"))
        }
        _ => None,
    }
}

/// Standard base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at)) & 63;
            // One byte fills two characters, two fill three.
            text.push(if at <= group.len() { char::from(ALPHABET[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use cpc_net::{Authenticity, MessageId, Priority};

    use super::*;

    fn message(payload: &[u8], delivery: Delivery, kind: MessageKind) -> ReceivedMessage {
        let sender = PeerId::random();
        ReceivedMessage {
            id: MessageId { sender, nonce: 7 },
            sender,
            kind,
            priority: Priority::High,
            delivery,
            created_at: Some(1),
            expires_at: None,
            authenticity: Authenticity::Signed,
            redelivered: false,
            payload: payload.to_vec().into(),
        }
    }

    #[test]
    fn a_strangers_text_can_neither_steer_the_terminal_nor_flood_it() {
        assert_eq!(sanitised("a\u{1b}[31mb\r\nc\u{7f}\u{9b}d\u{202e}e\u{2028}f", 99), "a[31mb  cde f");
        assert_eq!(sanitised("äöü", 3), "äöü");
        assert_eq!(sanitised("äöüß", 3), "äöü…");
        let long = message_line(&message("x".repeat(100_000).as_bytes(), Delivery::All, MessageKind::Event));
        assert!(long.chars().count() < MAX_TEXT + 100);
        assert_eq!(long.lines().count(), 1);
    }

    #[test]
    fn a_message_is_one_line_that_says_who_and_how() {
        let direct = message(b"hi\nthere", Delivery::Direct, MessageKind::Event);
        assert_eq!(message_line(&direct), format!("[direct] {}: hi there", short(&direct.sender)));
        assert!(direct.sender.to_string().ends_with(short(&direct.sender).trim_start_matches('…')));
        let group = Delivery::Group("chess".parse().expect("a name"));
        let binary = message(&[0xff, 0xfe], group, MessageKind::Data);
        assert_eq!(
            message_line(&binary),
            format!("[group chess, Data] {}: (2 bytes that are not text)", short(&binary.sender))
        );
    }

    #[test]
    fn programs_get_every_field_and_the_payload_in_a_form_they_can_use() {
        let text = message(b"hi\nthere", Delivery::All, MessageKind::Event);
        let line = message_json(&text);
        assert_eq!(line.lines().count(), 1);
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["event"], "message");
        assert_eq!(read["message"]["payload"], "hi\nthere");
        assert_eq!(read["message"]["sender"], text.sender.to_string());
        assert_eq!(read["message"]["priority"], "high");
        let fields = |value: &Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        let whole = serde_json::to_value(&text).expect("serialisable");
        assert_eq!(fields(&read["message"]), fields(&whole), "no field of the view is left out");

        let binary = message(&[0xff, 0xfe], Delivery::All, MessageKind::Event);
        let read: Value = serde_json::from_str(&message_json(&binary)).expect("JSON");
        assert_eq!(read["message"]["payloadBase64"], "//4=");
        assert!(read["message"].get("payload").is_none());
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn people_are_told_of_what_is_lost() {
        let note = network_note(&NetworkEvent::MessagesMissed { count: 3 }).expect("worth a note");
        assert!(note.starts_with("3 messages"), "{note}");
        assert_eq!(network_note(&NetworkEvent::Stopped), None);
    }

    #[test]
    fn an_error_can_say_how_far_it_got() {
        let progress = Progress::start("looking");
        assert_eq!(progress.describe(), "looking");
        progress.obstacle("nobody there");
        progress.step("asking");
        assert_eq!(progress.describe(), "asking; nobody there");
    }

    #[tokio::test]
    async fn the_printer_says_when_all_is_written() {
        let printer = Printer::start().expect("a thread");
        printer.print("a line of the printer's test".into()).await.expect("taken");
        printer.finish().await;
    }
}
