//! What a node counts, as text for Prometheus (OpenMetrics 1.0, which Prometheus reads).
//!
//! The figures are taken from one snapshot at the moment of the scrape, so nothing is counted twice and nothing is kept
//! here.

use std::{fmt, sync::atomic::AtomicU64};

use cpc_net::{MailboxStats, NetworkStats, NetworkStatus, PerPriority, PropagationStats, RejectReason, StrategyStats};
use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        info::Info,
    },
    registry::{Registry, Unit},
};

/// The text's media type.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A counter split up by the values of one label.
type Labelled = Family<[(&'static str, &'static str); 1], Counter<u64, AtomicU64>>;

/// The node's figures as text.
pub(crate) fn text(stats: &NetworkStats, status: &NetworkStatus) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("cpc");
    register_node(&mut registry, status);
    register_messages(&mut registry, stats);
    register_connections(&mut registry, stats, status);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn register_node(registry: &mut Registry, status: &NetworkStatus) {
    let info = Info::new([
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("network", status.network.clone()),
        ("peer_id", status.local_peer_id.to_string()),
    ]);
    registry.register("node", "The node", info);
    let uptime = ConstGauge::new(status.uptime.as_secs_f64());
    registry.register_with_unit("uptime", "How long the node has been running", Unit::Seconds, uptime);
}

fn register_messages(registry: &mut Registry, stats: &NetworkStats) {
    let by_priority: [(&str, &str, PerPriority); 3] = [
        ("messages_accepted", "Messages accepted for sending", stats.messages_accepted),
        ("messages_sent", "Messages that left; a retransmission counts again", stats.messages_sent),
        ("messages_received", "Messages handed to the app", stats.messages_received),
    ];
    for (name, help, counts) in by_priority {
        let values = [("high", counts.high), ("medium", counts.medium), ("low", counts.low)];
        registry.register(name, help, labelled("priority", values));
    }
    // All reasons are always there, so that a first rejection shows as a rise and not as a new line.
    let none = RejectReason::ALL.map(|reason| (reason.as_str(), 0));
    let seen = stats.rejections.iter().map(|(reason, count)| (*reason, *count));
    registry.register(
        "rejections",
        "What peers sent that was rejected",
        labelled("reason", none.into_iter().chain(seen)),
    );
    let plain: [(&str, &str, u64); 12] = [
        ("messages_delivered", "Direct messages whose receipt says delivered", stats.messages_delivered),
        ("messages_failed", "Direct messages whose receipt says failed or expired", stats.messages_failed),
        ("messages_shed", "Direct messages that gave way to more urgent ones", stats.messages_shed),
        ("messages_missed", "Received messages that no subscriber took in time", stats.messages_missed),
        ("messages_deferred", "Direct messages not taken for want of room or storage", stats.messages_deferred),
        ("messages_duplicate", "Copies of messages that had arrived before", stats.duplicates),
        ("broadcasts_dropped", "Broadcasts that could not leave", stats.broadcasts_dropped),
        ("transfers_finished", "Transfers that were completed, in either direction", stats.transfers_finished),
        ("transfers_failed", "Transfers that will never be complete", stats.transfers_failed),
        ("transfer_offers_refused", "Payloads offered by others that were not taken", stats.offers_refused),
        ("transfer_sent_bytes", "Bytes of payloads that left; again counts again", stats.transfer_bytes_sent),
        ("transfer_received_bytes", "Bytes of payloads that came in", stats.transfer_bytes_received),
    ];
    for (name, help, count) in plain {
        registry.register(name, help, ConstCounter::new(count));
    }
    register_posts(registry, &stats.propagation);
    register_mailbox(registry, &stats.mailbox);
    let waiting = ConstGauge::new(stats.outbox);
    registry.register("outbox_messages", "Direct messages that wait or are under way", waiting);
    let kept = ConstGauge::new(stats.inbox);
    registry.register("inbox_messages", "Received direct messages that the app has not confirmed", kept);
}

fn register_mailbox(registry: &mut Registry, stats: &MailboxStats) {
    let plain: [(&str, &str, u64); 7] = [
        ("mailbox_accepted", "Letters that this mailbox has accepted", stats.accepted),
        ("mailbox_handed_over", "Letters that their recipients have taken", stats.handed_over),
        ("mailbox_expired", "Letters whose time was over before they were taken", stats.expired),
        ("mailbox_deposited", "Copies of this node's messages that mailboxes have accepted", stats.deposited),
        ("mailbox_deposits_refused", "Copies that mailboxes have not accepted", stats.deposits_refused),
        ("mailbox_confirmed", "This node's messages that have arrived by a mailbox", stats.confirmed),
        ("mailbox_collected", "Letters taken from mailboxes, copies included", stats.collected),
    ];
    for (name, help, count) in plain {
        registry.register(name, help, ConstCounter::new(count));
    }
    let refused = stats.refused.iter().map(|(reason, count)| (*reason, *count));
    registry.register("mailbox_refused", "Letters that this mailbox did not accept", labelled("reason", refused));
    let letters = ConstGauge::new(stats.letters);
    registry.register("mailbox_letters", "Letters and confirmations that this mailbox keeps", letters);
    let bytes = ConstGauge::new(stats.bytes);
    registry.register_with_unit("mailbox_kept", "What these hold", Unit::Bytes, bytes);
}

fn register_posts(registry: &mut Registry, stats: &PropagationStats) {
    type Figure = fn(&StrategyStats) -> u64;
    let strategies = [("gossip", &stats.gossip), ("flood", &stats.flood), ("directed", &stats.directed)];
    let figures: [(&str, &str, Figure); 5] = [
        ("posts_own", "Posts of this node's own", |strategy| strategy.posted),
        ("posts_received", "Posts of other nodes", |strategy| strategy.received),
        ("posts_duplicate", "Copies of posts that were here already", |strategy| strategy.duplicates),
        ("posts_forwarded", "Copies of posts handed on to neighbours", |strategy| strategy.forwarded),
        ("posts_hops", "How often the received posts had been forwarded, all together", |strategy| strategy.hops),
    ];
    for (name, help, figure) in figures {
        registry.register(name, help, labelled("strategy", strategies.map(|(name, of)| (name, figure(of)))));
    }
    let plain: [(&str, &str, u64); 6] = [
        ("posts_told", "Posts that a neighbour was only told of", stats.told),
        ("posts_asked", "Posts that were missed and asked for", stats.asked),
        ("posts_answered", "Posts that neighbours got on their asking", stats.answered),
        ("posts_carried", "Posts of groups that this node is no member of, handed on for others", stats.carried),
        ("posts_shed", "Posts dropped for a neighbour that was too slow", stats.shed),
        ("posts_at_hop_limit", "Posts that had been forwarded often enough", stats.at_hop_limit),
    ];
    for (name, help, count) in plain {
        registry.register(name, help, ConstCounter::new(count));
    }
}

fn register_connections(registry: &mut Registry, stats: &NetworkStats, status: &NetworkStatus) {
    let bytes: [(&str, &str, u64); 2] = [
        ("sent", "Frames sent on lanes, with their length prefixes", stats.bytes_sent),
        ("received", "Frames received on lanes, with their length prefixes", stats.bytes_received),
    ];
    for (name, help, count) in bytes {
        registry.register_with_unit(name, help, Unit::Bytes, ConstCounter::new(count));
    }
    let counters: [(&str, &str, u64); 3] = [
        ("connections_opened", "Connections that came to stand", stats.connections_opened),
        ("connections_closed", "Connections that ended", stats.connections_closed),
        ("dials_failed", "Dials that failed", stats.dials_failed),
    ];
    for (name, help, count) in counters {
        registry.register(name, help, ConstCounter::new(count));
    }
    let gauges: [(&str, &str, usize); 3] = [
        ("peers_connected", "Peers connected now", status.connected),
        ("peers_known", "Peers known", status.known),
        ("groups_joined", "Groups this node is a member of", status.groups.len()),
    ];
    for (name, help, value) in gauges {
        registry.register(name, help, ConstGauge::new(value));
    }
}

fn labelled(label: &'static str, values: impl IntoIterator<Item = (&'static str, u64)>) -> Labelled {
    let family = Labelled::default();
    for (value, count) in values {
        family.get_or_create(&[(label, value)]).inc_by(count);
    }
    family
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use cpc_net::{PeerId, Phase};

    use super::*;

    fn status() -> NetworkStatus {
        NetworkStatus {
            local_peer_id: PeerId::random(),
            network: "chess".into(),
            phase: Phase::Online,
            listen_addrs: Vec::new(),
            connected: 3,
            known: 5,
            groups: Vec::new(),
            uptime: Duration::from_millis(1500),
        }
    }

    #[test]
    fn every_figure_has_its_line_with_unit_and_labels() {
        let stats = NetworkStats {
            messages_sent: PerPriority { high: 1, medium: 2, low: 3 },
            messages_delivered: 4,
            duplicates: 5,
            rejections: BTreeMap::from([("malformed", 6)]),
            propagation: PropagationStats {
                flood: StrategyStats { received: 11, ..StrategyStats::default() },
                asked: 12,
                ..PropagationStats::default()
            },
            bytes_sent: 7,
            dials_failed: 8,
            outbox: 9,
            messages_shed: 10,
            mailbox: MailboxStats { letters: 13, refused: BTreeMap::from([("full", 14)]), ..MailboxStats::default() },
            ..NetworkStats::default()
        };
        let status = status();
        let text = text(&stats, &status).expect("writing to a string");
        let lines = text.lines().collect::<Vec<_>>();
        for expected in [
            "cpc_messages_sent_total{priority=\"high\"} 1",
            "cpc_messages_sent_total{priority=\"medium\"} 2",
            "cpc_messages_sent_total{priority=\"low\"} 3",
            "cpc_messages_accepted_total{priority=\"high\"} 0",
            "cpc_messages_delivered_total 4",
            "cpc_messages_duplicate_total 5",
            "cpc_posts_received_total{strategy=\"flood\"} 11",
            "cpc_posts_received_total{strategy=\"gossip\"} 0",
            "cpc_posts_asked_total 12",
            "cpc_rejections_total{reason=\"malformed\"} 6",
            "cpc_rejections_total{reason=\"wrong_signature\"} 0",
            "cpc_sent_bytes_total 7",
            "cpc_received_bytes_total 0",
            "cpc_dials_failed_total 8",
            "cpc_outbox_messages 9",
            "cpc_messages_shed_total 10",
            "cpc_mailbox_letters 13",
            "cpc_mailbox_refused_total{reason=\"full\"} 14",
            "cpc_mailbox_accepted_total 0",
            "cpc_peers_connected 3",
            "cpc_peers_known 5",
            "cpc_uptime_seconds 1.5",
            "# TYPE cpc_messages_sent counter",
            "# UNIT cpc_sent_bytes bytes",
            "# EOF",
        ] {
            assert!(lines.contains(&expected), "{expected} is missing in\n{text}");
        }
        let info = format!("network=\"chess\",peer_id=\"{}\"}} 1", status.local_peer_id);
        assert!(lines.iter().any(|line| line.starts_with("cpc_node_info{") && line.ends_with(&info)), "{text}");
        assert_eq!(lines.last(), Some(&"# EOF"));
    }

    #[test]
    fn every_counter_ends_in_total_and_everything_begins_with_cpc() {
        let text = text(&NetworkStats::default(), &status()).expect("writing to a string");
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut seen = 0;
        for (name, kind) in types.filter_map(|line| line.split_once(' ')) {
            seen += 1;
            assert!(name.starts_with("cpc_"), "{name}");
            let sample = match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            assert!(text.lines().any(|line| line.starts_with(&sample)), "{sample} has no value");
        }
        assert!(seen > 15, "only {seen} metrics");
    }
}
