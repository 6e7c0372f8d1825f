//! Being asked to stop: Ctrl-C anywhere, SIGTERM too where there are signals.

use crate::failure::Failure;

pub(crate) use system::Signals;

/// Takes over the requests to stop; from here on nothing but `leave_at_once` and the end of `main` ends the program.
pub(crate) fn watch() -> Result<Signals, Failure> {
    Signals::new().map_err(|error| Failure::Failed(format!("the system doesn't let this program hear Ctrl-C: {error}")))
}

/// Leaves without waiting for anything: what a second Ctrl-C asks for.
pub(crate) fn leave_at_once() -> ! {
    std::process::exit(130)
}

#[cfg(unix)]
mod system {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// The requests to stop, from the moment it is made: none is lost between two calls of `next`.
    pub(crate) struct Signals {
        interrupt: Signal,
        terminate: Signal,
    }

    impl Signals {
        /// Takes over the signals.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
        }

        /// The next request to stop.
        pub(crate) async fn next(&mut self) {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::io;

    /// The requests to stop.
    pub(crate) struct Signals;

    impl Signals {
        /// Takes over the signals.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// The next request to stop.
        pub(crate) async fn next(&mut self) {
            if tokio::signal::ctrl_c().await.is_err() {
                // Without a console nobody can ask.
                std::future::pending::<()>().await;
            }
        }
    }
}
