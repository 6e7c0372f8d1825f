//! Whom a command is for, and the way there.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use cpc_net::{
    ConnectionState, DiscoverTarget, Events, Multiaddr, NetworkConfig, NetworkEvent, NetworkHandler, PeerId,
    error::ConnectError,
};
use futures::StreamExt;
use libp2p::multiaddr::Protocol;

use crate::{
    failure::Failure,
    output::{self, Progress},
};

/// After how long a peer that was not found is looked for again, if nothing happens that makes it worth while sooner.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Whom something is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A peer whose address is known.
    At { address: Multiaddr, peer: PeerId },
    /// A peer who has to be found.
    Somewhere(PeerId),
}

impl Target {
    pub(crate) fn peer(&self) -> PeerId {
        match self {
            Target::At { peer, .. } | Target::Somewhere(peer) => *peer,
        }
    }

    /// Makes a configuration that of a node that talks to nobody it needn't.
    pub(crate) fn configure(&self, config: &mut NetworkConfig) {
        config.discovery.target_peers = 0;
        config.discovery.mdns = false;
        match self {
            Target::At { .. } => {
                config.discovery.dht = false;
                config.discovery.peer_exchange = false;
                config.bootstrap.clear();
            }
            // With nobody to ask, the local network is the only place to look.
            Target::Somewhere(_) => config.discovery.mdns = config.bootstrap.is_empty(),
        }
    }

    /// Connects to the peer, wherever it is; the caller bounds the time.
    pub(crate) async fn reach(&self, net: &NetworkHandler, progress: &Progress) -> Result<(), Failure> {
        match self {
            Target::At { address, peer } => {
                progress.step(format!("connecting to {address}"));
                let reached = net.connect(address.clone()).await?;
                if reached != *peer {
                    return Err(Failure::Failed(format!("{address} is not {peer} but {reached}; nothing was sent")));
                }
            }
            Target::Somewhere(peer) => find(net, *peer, progress).await?,
        }
        Ok(())
    }
}

/// Reads a recipient, for the command line.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    const EXPECTED: &str = "expected a peer id (12D3KooW…), or a multiaddr ending in /p2p/<peer id>, so that nobody else \
                            gets what is sent";
    if let Ok(peer) = text.parse() {
        return Ok(Target::Somewhere(peer));
    }
    let address = text.parse::<Multiaddr>().map_err(|error| format!("{error}; {EXPECTED}"))?;
    let mut parts = address.iter();
    match (parts.next(), parts.last()) {
        (Some(Protocol::P2p(peer)), None) => Ok(Target::Somewhere(peer)),
        (_, Some(Protocol::P2p(peer))) => Ok(Target::At { address: address.clone(), peer }),
        _ => Err(EXPECTED.into()),
    }
}

/// Looks for a peer until it is connected; the caller bounds the time.
async fn find(net: &NetworkHandler, peer: PeerId, progress: &Progress) -> Result<(), Failure> {
    progress.step(format!("looking for {peer}"));
    let mut events = pin!(net.events());
    loop {
        match net.connect(peer).await {
            Ok(_) => return Ok(()),
            Err(error @ (ConnectError::ToSelf(_) | ConnectError::ShuttingDown)) => return Err(error.into()),
            Err(ConnectError::NoAddress(_)) => {}
            Err(error) => progress.obstacle(error.to_string()),
        }
        // When it is too busy to search, the pause below is what helps.
        let _ = net.discover_peers(DiscoverTarget::Peer(peer));
        match tokio::time::timeout(LOOK_AGAIN, news(events.as_mut(), peer, progress)).await {
            Ok(Some(())) | Err(_) => {}
            Ok(None) => return Err(Failure::Failed("the network has stopped by itself".into())),
        }
    }
}

/// Waits for something that makes another attempt worth while: the peer was found, or somebody is there who can be
/// asked. `None` when nothing more will happen.
async fn news(mut events: Pin<&mut Events>, peer: PeerId, progress: &Progress) -> Option<()> {
    loop {
        match events.next().await? {
            NetworkEvent::PeerDiscovered { peer: found, .. } if found == peer => return Some(()),
            NetworkEvent::StateChanged { to: ConnectionState::Connected, .. } => return Some(()),
            NetworkEvent::Stopped => return None,
            event => {
                if let Some(note) = output::network_note(&event) {
                    progress.obstacle(note);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_a_peer_or_an_address_that_names_one() {
        let peer = PeerId::random();
        let relay = PeerId::random();
        for text in [peer.to_string(), format!("/p2p/{peer}")] {
            assert_eq!(target(&text), Ok(Target::Somewhere(peer)), "{text}");
        }
        for text in [
            format!("/ip4/192.0.2.1/tcp/1/p2p/{peer}"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"),
        ] {
            let address = text.parse().expect("an address");
            assert_eq!(target(&text), Ok(Target::At { address, peer }), "{text}");
        }
        for nonsense in ["", "bob", "/ip4/192.0.2.1/tcp/1", &format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit")] {
            let error = target(nonsense).expect_err("nobody");
            assert!(error.contains("/p2p/<peer id>"), "{nonsense}: {error}");
        }
    }
}
