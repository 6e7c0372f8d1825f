//! Printing what a node receives, until there is a reason to end.

use std::pin::pin;

use cpc_net::{Messages, NetworkEvent, NetworkHandler, ReceivedMessage};
use futures::{StreamExt, stream};

use crate::output::{self, OutputClosed, Printer};

/// What is printed, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printing {
    /// JSON lines for programs instead of lines for people.
    pub(crate) json: bool,
    /// Network events too, as JSON lines. People only hear of what is lost or doesn't work, on standard error.
    pub(crate) network_events: bool,
    /// After how many messages it is enough.
    pub(crate) count: Option<u64>,
}

/// Why the printing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrintingEnd {
    /// As many messages as were asked for.
    Enough,
    /// The network has stopped: nothing more will come.
    NetworkStopped,
    /// Nobody reads standard output any more.
    OutputClosed,
}

impl From<OutputClosed> for PrintingEnd {
    fn from(_: OutputClosed) -> Self {
        PrintingEnd::OutputClosed
    }
}

enum Happening {
    Message(ReceivedMessage),
    Network(NetworkEvent),
}

/// Prints the first line, if there is one, then what happens.
pub(crate) async fn print_all(
    net: &NetworkHandler,
    printer: &Printer,
    first: Option<String>,
    how: Printing,
) -> PrintingEnd {
    match print_until_stopped(net, printer, first, how).await {
        Ok(end) | Err(end) => end,
    }
}

async fn print_until_stopped(
    net: &NetworkHandler,
    printer: &Printer,
    first: Option<String>,
    how: Printing,
) -> Result<PrintingEnd, PrintingEnd> {
    let mut messages = net.messages();
    let end = print_each(net, &mut messages, printer, first, how).await;
    if end == Ok(PrintingEnd::Enough) {
        // The last one has been printed too.
        messages.confirm();
    }
    end
}

async fn print_each(
    net: &NetworkHandler,
    messages: &mut Messages,
    printer: &Printer,
    first: Option<String>,
    how: Printing,
) -> Result<PrintingEnd, PrintingEnd> {
    let messages = messages.map(Happening::Message);
    let events = net.events().map(Happening::Network);
    let mut happenings = pin!(stream::select(messages, events));
    if let Some(first) = first {
        printer.print(first).await?;
    }
    let mut printed = 0;
    while let Some(happening) = happenings.next().await {
        match happening {
            Happening::Message(message) => {
                let line = if how.json { output::message_json(&message) } else { output::message_line(&message) };
                printer.print(line).await?;
                printed += 1;
                if how.count.is_some_and(|count| printed >= count) {
                    return Ok(PrintingEnd::Enough);
                }
            }
            Happening::Network(event) => {
                if how.json && how.network_events {
                    printer.print(output::network_json(&event)).await?;
                } else if let Some(line) = output::network_note(&event) {
                    output::note(&line);
                }
            }
        }
    }
    Ok(PrintingEnd::NetworkStopped)
}
