//! The life of a running node as its operator sees it: it prints until it is asked to stop, then it drains.

use std::{pin::pin, time::Duration};

use cpc_net::NetworkHandler;

use crate::{
    failure::Failure,
    output::{self, Progress},
    printing::PrintingEnd,
    signals::{self, Signals},
};

/// How long the last lines may take once the network has stopped.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Prints until the first request to stop, or until the printing has its own reason to end; then drains and stops the
/// network. `draining` is told when that begins. A second request to stop ends the program at once.
pub(crate) async fn attend(
    net: &NetworkHandler,
    signals: &mut Signals,
    printing: impl Future<Output = PrintingEnd>,
    draining: impl FnOnce(),
) -> Result<(), Failure> {
    let mut printing = pin!(printing);
    let end = tokio::select! {
        () = signals.next() => None,
        end = &mut printing => Some(end),
    };
    draining();
    if end.is_none() {
        output::note("stopping: what is queued is sent first; press Ctrl-C again to leave at once");
    }
    let progress = Progress::start("sending what is queued");
    let mut shutdown = pin!(net.shutdown());
    let mut printed = end.is_some();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = &mut printing, if !printed => printed = true,
            () = signals.next() => signals::leave_at_once(),
        }
    }
    if !printed {
        // The streams end with the network, so this is a matter of moments.
        let _ = tokio::time::timeout(LAST_LINES, printing).await;
    }
    drop(progress);
    match end {
        None | Some(PrintingEnd::Enough) => Ok(()),
        Some(PrintingEnd::NetworkStopped) => {
            Err(Failure::Failed("the network has stopped by itself; the log above says why".into()))
        }
        Some(PrintingEnd::OutputClosed) => {
            Err(Failure::Failed("whoever read this program's output has stopped reading, so it has stopped too".into()))
        }
    }
}
