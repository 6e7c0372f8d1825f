//! A peer that is back before its old connection is known to be dead: a page that was closed without a word and opened
//! again, a machine that has changed its network.

#![cfg(not(target_arch = "wasm32"))]

mod support;

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use cpc_net::{Message, Multiaddr, Priority, ReceiptState};
use futures::{FutureExt as _, StreamExt as _, channel::oneshot, select};
use libp2p::{SwarmBuilder, identity::Keypair};
use support::{address, config, connected, network, nothing_waits, soon, start, text, until};

/// A peer of the same identity whose connection stands and in which nothing moves any more: all of it lives on one thread,
/// which stops.
struct Twin {
    freeze: oneshot::Sender<()>,
    frozen: mpsc::Receiver<()>,
    end: mpsc::SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Twin {
    fn connect(key: Keypair, node: Multiaddr) -> Self {
        let ((freeze, wish), (tell, frozen), (end, ended)) =
            (oneshot::channel(), mpsc::sync_channel(1), mpsc::sync_channel(1));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut swarm = SwarmBuilder::with_existing_identity(key)
                    .with_tokio()
                    .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
                    .expect("TCP")
                    .with_behaviour(|_| libp2p_stream::Behaviour::new())
                    .expect("a behaviour")
                    .with_swarm_config(|config| config.with_idle_connection_timeout(support::PATIENCE))
                    .build();
                swarm.dial(node).expect("dialled");
                let mut wish = wish.fuse();
                loop {
                    select! {
                        _ = swarm.select_next_some() => {}
                        _ = wish => break,
                    }
                }
                tell.send(()).expect("the story waits");
                // Blocks the only thread, and with it what would read and answer.
                let _ = ended.recv();
            });
        });
        Self { freeze, frozen, end, thread }
    }
}

#[tokio::test]
async fn who_is_back_gets_its_mail_though_its_old_connection_still_stands() {
    let network = network();
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("peer").display().to_string();
    let before = start(config(&network).data_dir(&place)).await;
    let peer = before.local_peer_id();
    soon("its end", before.shutdown()).await;
    let key = std::fs::read(folder.path().join("peer/identity.key")).expect("its key");
    let key = Keypair::from_protobuf_encoding(&key).expect("a key");

    // Pings would tell in minutes.
    let minutes = |connections: &mut cpc_net::config::ConnectionsConfig| {
        (connections.ping_interval, connections.ping_timeout) = (Duration::from_secs(600), Duration::from_secs(120));
    };
    let node = start(config(&network).connections(minutes)).await;
    let twin = Twin::connect(key, address(&node));
    connected(&node, peer).await;
    let Twin { freeze, frozen, end, thread } = twin;
    freeze.send(()).expect("it runs");
    soon("its standstill", tokio::task::spawn_blocking(move || frozen.recv())).await.expect("joined").expect("told");

    let lost = node.send_message(peer, Message::event("into the void"), Priority::High).expect("accepted");
    let sent = async {
        while !matches!(lost.state(), ReceiptState::Sent { .. }) {
            lost.changed(&lost.state()).await;
        }
    };
    soon("the way it took", sent).await;
    let again = start(config(&network).data_dir(&place)).await;
    assert_eq!(again.local_peer_id(), peer);
    let mut messages = again.messages();
    again.connect(address(&node)).await.expect("connects");
    let next = node.send_message(peer, Message::event("to the one that lives"), Priority::High).expect("accepted");
    assert_eq!(soon("the receipt", next.delivered()).await, Ok(()));
    assert_eq!(soon("the receipt of what was lost", lost.delivered()).await, Ok(()));
    assert_eq!(text(&mut messages).await, "into the void");
    assert_eq!(text(&mut messages).await, "to the one that lives");
    assert!(nothing_waits(&mut messages));
    until(&node, "the end of the old connection", |node| {
        node.peer_info(&peer).is_some_and(|info| info.connections == 1)
    })
    .await;
    end.send(()).expect("it waits");
    thread.join().expect("no panic");
}
