//! The configuration by chained calls, what most apps need first.

use std::time::Duration;

use libp2p::Multiaddr;

use super::{
    BandwidthConfig, ConnectionsConfig, DeliveryConfig, DiscoveryConfig, Durability, IceServer, LimitsConfig,
    MailboxConfig, NetworkConfig, PropagationConfig, RelayConfig, Security, TransfersConfig, TransportConfig,
};
use crate::error::ConfigError;

/// Builds a [`NetworkConfig`]. Addresses may be given as text; one that can't be read is reported by
/// [`build`](NetworkConfigBuilder::build).
#[derive(Debug, Clone, Default)]
pub struct NetworkConfigBuilder {
    config: NetworkConfig,
    /// The first mistake; the calls go on so that they can be chained.
    error: Option<ConfigError>,
}

impl NetworkConfigBuilder {
    /// Adds a node to join the network by.
    #[must_use]
    pub fn bootstrap(mut self, address: impl AsRef<str>) -> Self {
        if let Some(address) = self.address("bootstrap", address.as_ref()) {
            self.config.bootstrap.push(address);
        }
        self
    }

    /// Adds an address to listen on. The first call replaces the default ones.
    #[must_use]
    pub fn listen(mut self, address: impl AsRef<str>) -> Self {
        if let Some(address) = self.address("listen", address.as_ref()) {
            self.config.listen.get_or_insert_default().push(address);
        }
        self
    }

    /// Listens nowhere: the node only dials.
    #[must_use]
    pub fn no_listen(mut self) -> Self {
        self.config.listen = Some(Vec::new());
        self
    }

    /// Adds an address under which others reach this node.
    #[must_use]
    pub fn external_address(mut self, address: impl AsRef<str>) -> Self {
        if let Some(address) = self.address("external_addresses", address.as_ref()) {
            self.config.external_addresses.push(address);
        }
        self
    }

    /// The network's name.
    #[must_use]
    pub fn network(mut self, name: impl Into<String>) -> Self {
        self.config.network = name.into();
        self
    }

    /// Where the identity and messages are kept: a folder, or in a browser the name of a database.
    #[must_use]
    pub fn data_dir(mut self, place: impl Into<String>) -> Self {
        self.config.data_dir = Some(place.into());
        self
    }

    /// Whether to look for peers on the local network.
    #[must_use]
    pub fn mdns(mut self, on: bool) -> Self {
        self.config.discovery.mdns = on;
        self
    }

    /// Whether to relay for others.
    #[must_use]
    pub fn relay_server(mut self, on: bool) -> Self {
        self.config.relay.server = on;
        self
    }

    /// How TCP and WebSocket connections are encrypted.
    #[must_use]
    pub fn security(mut self, security: Security) -> Self {
        self.config.transport.security = security;
        self
    }

    /// Adds a STUN or TURN server that helps WebRTC through NATs.
    #[must_use]
    pub fn ice_server(mut self, server: IceServer) -> Self {
        self.config.transport.ice_servers.push(server);
        self
    }

    /// Sets anything of the section on transports.
    #[must_use]
    pub fn transport(mut self, change: impl FnOnce(&mut TransportConfig)) -> Self {
        change(&mut self.config.transport);
        self
    }

    /// How long a message may wait for a way to its recipient.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.config.delivery.timeout = timeout;
        self
    }

    /// What of messages outlives the node.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.config.delivery.durability = Some(durability);
        self
    }

    /// Sets anything of the section on relays.
    #[must_use]
    pub fn relay(mut self, change: impl FnOnce(&mut RelayConfig)) -> Self {
        change(&mut self.config.relay);
        self
    }

    /// Sets anything of the section on discovery.
    #[must_use]
    pub fn discovery(mut self, change: impl FnOnce(&mut DiscoveryConfig)) -> Self {
        change(&mut self.config.discovery);
        self
    }

    /// Sets anything of the section on connections.
    #[must_use]
    pub fn connections(mut self, change: impl FnOnce(&mut ConnectionsConfig)) -> Self {
        change(&mut self.config.connections);
        self
    }

    /// Sets anything of the section on delivery.
    #[must_use]
    pub fn delivery(mut self, change: impl FnOnce(&mut DeliveryConfig)) -> Self {
        change(&mut self.config.delivery);
        self
    }

    /// Sets anything of the section on how posts spread.
    #[must_use]
    pub fn propagation(mut self, change: impl FnOnce(&mut PropagationConfig)) -> Self {
        change(&mut self.config.propagation);
        self
    }

    /// Sets anything of the section on mailboxes.
    #[must_use]
    pub fn mailbox(mut self, change: impl FnOnce(&mut MailboxConfig)) -> Self {
        change(&mut self.config.mailbox);
        self
    }

    /// Sets anything of the section on transfers.
    #[must_use]
    pub fn transfers(mut self, change: impl FnOnce(&mut TransfersConfig)) -> Self {
        change(&mut self.config.transfers);
        self
    }

    /// Sets anything of the section on bandwidth.
    #[must_use]
    pub fn bandwidth(mut self, change: impl FnOnce(&mut BandwidthConfig)) -> Self {
        change(&mut self.config.bandwidth);
        self
    }

    /// Sets anything of the section on limits.
    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut LimitsConfig)) -> Self {
        change(&mut self.config.limits);
        self
    }

    /// Checks everything and hands out the configuration.
    ///
    /// # Errors
    /// The first address that can't be read, or the first field out of its range.
    pub fn build(self) -> Result<NetworkConfig, ConfigError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.config.validate()?;
        Ok(self.config)
    }

    fn address(&mut self, field: &'static str, text: &str) -> Option<Multiaddr> {
        match text.parse() {
            Ok(address) => Some(address),
            Err(error) => {
                self.error.get_or_insert_with(|| ConfigError::Field {
                    field: field.into(),
                    problem: format!("{text:?} is not a multiaddr ({error}); expected such as /ip4/192.0.2.1/tcp/4001"),
                });
                None
            }
        }
    }
}
