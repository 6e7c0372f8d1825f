//! A node that is there for one thing only: it starts, does its errand within a time, says goodbye.

use std::time::Duration;

use cpc_net::{NetworkConfig, NetworkHandler, config::Durability};

use crate::{failure::Failure, options::NodeOptions, output::Progress, signals};

/// Makes a configuration that of a node on an errand: nobody reaches it, it relays nothing and keeps nothing.
pub(crate) fn configure(config: &mut NetworkConfig, options: &NodeOptions, timeout: Duration) {
    config.listen = Some(Vec::new());
    config.external_addresses.clear();
    // The file and the environment may be those of a node that runs already: two nodes can't be the same peer.
    config.data_dir.clone_from(&options.data_dir);
    config.relay.server = false;
    config.relay.reservations = Some(0);
    config.delivery.timeout = timeout;
    // What the errand has not done when it ends, the next one must not do.
    config.delivery.durability = Some(Durability::Memory);
}

/// Runs an errand. `undone` says what has not happened when the time is over or the signal to stop comes.
pub(crate) async fn run<T>(
    config: NetworkConfig,
    timeout: Duration,
    undone: &str,
    errand: impl AsyncFnOnce(&NetworkHandler, &Progress) -> Result<T, Failure>,
) -> Result<T, Failure> {
    run_to_its_end(config, async |net, progress| within(timeout, undone, progress, errand(net, progress)).await).await
}

/// Bounds a part of an errand. `undone` says what has not happened when the time is over.
pub(crate) async fn within<T>(
    timeout: Duration,
    undone: &str,
    progress: &Progress,
    part: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(timeout, part).await.unwrap_or_else(|_| {
        let waited = humantime::format_duration(timeout);
        Err(Failure::Failed(format!("{undone} within {waited}: {}", progress.describe())))
    })
}

/// Runs an errand that knows by itself when to give up, until the signal to stop comes.
pub(crate) async fn run_to_its_end<T>(
    config: NetworkConfig,
    errand: impl AsyncFnOnce(&NetworkHandler, &Progress) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut signals = signals::watch()?;
    let progress = Progress::start("starting a node");
    let errand = async {
        let net = NetworkHandler::new(config).await?;
        let outcome = errand(&net, &progress).await;
        progress.step("saying goodbye");
        net.shutdown().await;
        outcome
    };
    tokio::select! {
        outcome = errand => outcome,
        () = signals.next() => Err(Failure::Interrupted),
    }
}
