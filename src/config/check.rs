//! The bounds of every field, checked in one place whatever the configuration came from.

use std::{fmt::Display, time::Duration};

use libp2p::multiaddr::Protocol;

use super::{Durability, IceServer, NetworkConfig};
use crate::error::ConfigError;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Bytes a second that nobody reaches.
const MOST_BYTES: u64 = 1_000_000_000_000;

impl NetworkConfig {
    /// Checks every field against its bounds.
    ///
    /// # Errors
    /// The first field that is out of its range, by its path and with the range allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        name("network", &self.network)?;
        if self.agent.is_empty() || self.agent.len() > 64 {
            return Err(out_of_range("agent", &format!("{} bytes long", self.agent.len()), "1 to 64 bytes"));
        }
        if self.data_dir.as_deref() == Some("") {
            return Err(out_of_range("data_dir", &"empty", "a folder's or a database's name, or nothing at all"));
        }
        number("bootstrap (its length)", self.bootstrap.len(), 0, 64, "addresses")?;
        number("listen (its length)", self.listen.as_ref().map_or(0, Vec::len), 0, 64, "addresses")?;
        number("external_addresses (its length)", self.external_addresses.len(), 0, 64, "addresses")?;
        for address in &self.bootstrap {
            if !address.iter().any(|part| matches!(part, Protocol::Tcp(_) | Protocol::Udp(_) | Protocol::Memory(_))) {
                return Err(out_of_range("bootstrap", address, "addresses that can be dialled, such as /dns4/…/tcp/…"));
            }
        }

        let ice_servers = &self.transport.ice_servers;
        number("transport.ice_servers (its length)", ice_servers.len(), 0, 8, "servers")?;
        ice_servers.iter().try_for_each(ice_server)?;

        let relay = &self.relay;
        number("relay.reservations", relay.reservations.unwrap_or(0), 0, 8, "relays")?;
        number("relay.max_reservations", relay.max_reservations, 1, 65_536, "reservations")?;
        number("relay.max_circuits", relay.max_circuits, 1, 65_536, "circuits")?;
        time("relay.circuit_duration", relay.circuit_duration, SECOND, 24 * HOUR)?;

        let discovery = &self.discovery;
        number("discovery.target_peers", discovery.target_peers, 0, 64, "peers")?;
        number("discovery.known_peers", discovery.known_peers, 8, 65_536, "peers")?;
        time("discovery.refresh_interval", discovery.refresh_interval, SECOND, HOUR)?;

        let connections = &self.connections;
        number("connections.max_connections", connections.max_connections, 1, 65_536, "connections")?;
        number("connections.max_per_peer", connections.max_per_peer, 1, 16, "connections")?;
        number("connections.max_pending", connections.max_pending, 1, 4096, "attempts")?;
        time("connections.dial_timeout", connections.dial_timeout, SECOND / 10, 2 * MINUTE)?;
        time("connections.ping_interval", connections.ping_interval, SECOND / 10, 10 * MINUTE)?;
        time("connections.ping_timeout", connections.ping_timeout, SECOND / 10, 2 * MINUTE)?;
        time("connections.retry_initial", connections.retry_initial, SECOND / 100, MINUTE)?;
        time("connections.retry_max", connections.retry_max, SECOND / 10, HOUR)?;
        if connections.retry_max < connections.retry_initial {
            return Err(out_of_range(
                "connections.retry_max",
                &humantime::format_duration(connections.retry_max),
                "at least connections.retry_initial",
            ));
        }
        number("connections.retry_attempts", connections.retry_attempts, 0, 1000, "attempts")?;

        let delivery = &self.delivery;
        time("delivery.timeout", delivery.timeout, SECOND, 7 * 24 * HOUR)?;
        time("delivery.acknowledge_timeout", delivery.acknowledge_timeout, SECOND / 10, 5 * MINUTE)?;
        time("delivery.drain_timeout", delivery.drain_timeout, Duration::ZERO, 5 * MINUTE)?;
        if let Some(chosen) = delivery.durability.filter(|chosen| *chosen != Durability::Memory)
            && self.data_dir.is_none()
        {
            let chosen = format!("{chosen:?}").to_lowercase();
            return Err(out_of_range("delivery.durability", &chosen, "memory as long as data_dir is not set"));
        }

        let transfers = &self.transfers;
        number("transfers.max_length", transfers.max_length, 1, 1 << 53, "bytes")?;
        number("transfers.chunk_size", transfers.chunk_size, 16 * 1024, 1024 * 1024, "bytes")?;
        if !transfers.chunk_size.is_power_of_two() {
            return Err(out_of_range("transfers.chunk_size", &transfers.chunk_size, "a power of two"));
        }
        number("transfers.window", transfers.window, 64 * 1024, 64 * 1024 * 1024, "bytes")?;
        number("transfers.max_active", transfers.max_active, 1, 1024, "transfers")?;
        number("transfers.max_per_peer", transfers.max_per_peer, 1, 256, "transfers")?;
        number("transfers.max_waiting", transfers.max_waiting, 1, 65_536, "transfers")?;
        number("transfers.offers_waiting", transfers.offers_waiting, 1, 1024, "offers")?;
        time("transfers.offer_timeout", transfers.offer_timeout, SECOND, HOUR)?;
        time("transfers.idle_timeout", transfers.idle_timeout, SECOND, 10 * MINUTE)?;
        time("transfers.stall_timeout", transfers.stall_timeout, SECOND, 7 * 24 * HOUR)?;
        time("transfers.resume_timeout", transfers.resume_timeout, SECOND, 7 * 24 * HOUR)?;

        let mailbox = &self.mailbox;
        number("mailbox.copies", mailbox.copies, 1, 8, "mailboxes")?;
        time("mailbox.patience", mailbox.patience, Duration::ZERO, HOUR)?;
        time("mailbox.keep_for", mailbox.keep_for, MINUTE, 7 * 24 * HOUR)?;
        time("mailbox.least_ttl", mailbox.least_ttl, SECOND, 7 * 24 * HOUR)?;
        time("mailbox.max_ttl", mailbox.max_ttl, MINUTE, 30 * 24 * HOUR)?;
        number("mailbox.max_letters", mailbox.max_letters, 1, 1_000_000, "letters")?;
        number("mailbox.max_bytes", mailbox.max_bytes as u64, 65_536, 64 << 30, "bytes")?;
        number("mailbox.sender_letters", mailbox.sender_letters, 1, 1_000_000, "letters")?;
        number("mailbox.sender_bytes", mailbox.sender_bytes as u64, 1024, 64 << 30, "bytes")?;
        number("mailbox.recipient_letters", mailbox.recipient_letters, 1, 1_000_000, "letters")?;
        number("mailbox.recipient_bytes", mailbox.recipient_bytes as u64, 1024, 64 << 30, "bytes")?;

        let bandwidth = &self.bandwidth;
        number("bandwidth.total", bandwidth.total, 1024, MOST_BYTES, "bytes a second")?;
        number("bandwidth.per_peer", bandwidth.per_peer, 1024, MOST_BYTES, "bytes a second")?;

        let propagation = &self.propagation;
        number("propagation.max_hops", propagation.max_hops, 1, 64, "hops")?;
        number("propagation.max_carriers", propagation.max_carriers, 0, 64, "nodes")?;
        number("propagation.gossip_factor", propagation.gossip_factor, 0.1, 1.0, "of the neighbours")?;
        number("propagation.batch_size", propagation.batch_size, 1, 1000, "posts")?;
        time("propagation.round", propagation.round, SECOND / 100, MINUTE)?;
        time("propagation.keep_for", propagation.keep_for, SECOND, HOUR)?;
        number("propagation.keep_posts", propagation.keep_posts, 16, 65_536, "posts")?;
        number("propagation.keep_bytes", propagation.keep_bytes, 65_536, 1_073_741_824, "bytes")?;
        number("propagation.queue_posts", propagation.queue_posts, 16, 65_536, "posts")?;

        let limits = &self.limits;
        number("limits.max_payload", limits.max_payload, 1, 4 * 1024 * 1024, "bytes")?;
        number("limits.outbox_messages", limits.outbox_messages, 1, 1_000_000, "messages")?;
        number("limits.outbox_bytes", limits.outbox_bytes as u64, 65_536, 64 << 30, "bytes")?;
        number("limits.peer_messages", limits.peer_messages, 1, 1_000_000, "messages")?;
        number("limits.peer_bytes", limits.peer_bytes as u64, 65_536, 64 << 30, "bytes")?;
        number("limits.message_buffer", limits.message_buffer, 16, 65_536, "messages")?;
        number("limits.event_buffer", limits.event_buffer, 16, 65_536, "events")?;
        number("limits.command_buffer", limits.command_buffer, 16, 65_536, "commands")?;
        number("limits.groups", limits.groups, 1, 1024, "groups")?;
        number("limits.duplicate_cache", limits.duplicate_cache, 100, 1_000_000, "senders")
    }
}

fn name(field: &'static str, value: &str) -> Result<(), ConfigError> {
    let well_formed = (1..=32).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if well_formed {
        Ok(())
    } else {
        Err(out_of_range(field, &format!("{value:?}"), "1 to 32 letters, digits, '-', '_' or '.'"))
    }
}

/// What a browser would refuse, which a page would only learn with each connection it tries.
fn ice_server(server: &IceServer) -> Result<(), ConfigError> {
    number("transport.ice_servers.urls (its length)", server.urls.len(), 1, 8, "addresses")?;
    let relays = |url: &str| url.starts_with("turn:") || url.starts_with("turns:");
    for url in &server.urls {
        let host = ["stun:", "stuns:", "turn:", "turns:"].iter().find_map(|scheme| url.strip_prefix(scheme));
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
            let allowed = "addresses such as stun:stun.example:3478 or turn:turn.example";
            return Err(out_of_range("transport.ice_servers.urls", url, allowed));
        }
        if relays(url) && (server.username.is_none() || server.credential.is_none()) {
            let allowed = "a user name and a credential with each TURN server (RFC 8656, section 5)";
            return Err(out_of_range("transport.ice_servers", url, allowed));
        }
    }
    Ok(())
}

fn number<N: PartialOrd + Display>(
    field: &'static str,
    value: N,
    least: N,
    most: N,
    unit: &str,
) -> Result<(), ConfigError> {
    if (&least..=&most).contains(&&value) {
        Ok(())
    } else {
        Err(out_of_range(field, &value, &format!("{least} to {most} {unit}")))
    }
}

fn time(field: &'static str, value: Duration, least: Duration, most: Duration) -> Result<(), ConfigError> {
    let shown = humantime::format_duration;
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(out_of_range(field, &shown(value), &format!("{} to {}", shown(least), shown(most))))
    }
}

fn out_of_range(field: &'static str, value: &dyn Display, allowed: &str) -> ConfigError {
    ConfigError::OutOfRange { field, value: value.to_string(), allowed: allowed.to_owned() }
}
