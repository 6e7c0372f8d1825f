//! **cpc-net**: a social network with no server in the middle, for native apps and, from the same source, for web
//! pages. An app has an identity, peers that are found and kept, and messages that arrive.
//!
//! Everything is done through one [`NetworkHandler`]:
//!
//! ```no_run
//! use cpc_net::{Message, NetworkConfig, NetworkHandler, PeerId, Priority};
//!
//! # async fn example(bootstrap: &str, friend: PeerId) -> Result<(), Box<dyn std::error::Error>> {
//! let net = NetworkHandler::new(NetworkConfig::builder().bootstrap(bootstrap).build()?).await?;
//! let receipt = net.send_message(friend, Message::event("hello"), Priority::High)?;
//! receipt.delivered().await?;
//! net.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! On the wire it is libp2p with the protocol `/cpc/1.0.0`, described in `proto/cpc.proto`. How the crate is built,
//! `ARCHITECTURE.md` tells.
//!
//! # Not here yet
//! Payloads are protected on every connection, also past relays, but not sealed for their recipient alone; natively there
//! is no hole punching yet.

#![deny(missing_docs, unreachable_pub, rustdoc::broken_intra_doc_links)]

mod bindings;
pub mod config;
mod core;
mod crypto;
mod driver;
pub mod error;
mod event;
mod frame;
mod handler;
mod hub;
mod identity;
mod message;
mod peer;
mod platform;
mod receipt;
mod rows;
mod store;
mod transfer;
mod transfers;
mod transport;
mod wire;

pub use libp2p::{Multiaddr, PeerId};

pub use config::{NetworkConfig, NetworkConfigBuilder};
pub use event::{DiscoverTarget, DiscoverySource, NetworkEvent, RejectReason, StateCause};
pub use handler::{Events, HandlerRegistration, Messages, NetworkHandler};
pub use identity::Identity;
pub use message::{
    Authenticity, BroadcastScope, Delivery, GroupName, Message, MessageId, MessageKind, Priority, Propagation,
    ReceivedMessage,
};
pub use peer::{
    ConnectTarget, ConnectionKind, ConnectionState, MailboxStats, NetworkStats, NetworkStatus, PeerInfo, PerPriority,
    Phase, PropagationStats, StrategyStats,
};
pub use receipt::{QueueReason, Receipt, ReceiptState, Way};
pub use transfer::{
    MAX_KIND, MAX_META, MAX_NAME, PayloadHash, TransferDirection, TransferId, TransferOffer, TransferProgress,
    TransferState,
};
pub use transfers::{IncomingTransfer, Transfer, TransferPrefix, TransferSource, Transfers};

/// The body of the program `cpc-probe`.
#[cfg(all(native, feature = "probe"))]
#[doc(hidden)]
pub use bindings::probe::program as probe;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
