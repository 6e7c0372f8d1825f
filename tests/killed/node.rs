//! One of the nodes, as a process: it writes to the other one as fast as that gets through, prints nothing, and notes in
//! its ledger what it has done and seen. A line is written with one call, so it outlives the process whole.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cpc_net::{
    Message, NetworkConfig, NetworkHandler, PeerId, Priority, Receipt,
    config::{ConnectionsConfig, DeliveryConfig, Durability},
};
use futures::{StreamExt as _, future::join};

/// Messages in one burst, and the pause after it.
const BURST: u64 = 4;
const PAUSE: Duration = Duration::from_millis(8);

/// Messages that may be on their way; a burst waits until fewer are.
const UNDER_WAY: usize = 200;

/// Who a process is, told by its environment.
pub struct Role {
    /// Where the node keeps everything; the ledger lies beside it.
    pub folder: PathBuf,
    /// The other's id, and where it is reached if this node has to go there.
    pub other: PeerId,
    pub bootstrap: Option<String>,
    pub listen: String,
    /// Distinguishes this run's messages from those of other runs.
    pub run: u64,
    /// Sends nothing new: the end of the story.
    pub quiet: bool,
    pub durability: Durability,
}

const PREFIX: &str = "CPC_KILLED_";

impl Role {
    pub fn of_this_process() -> Option<Self> {
        let value = |name: &str| std::env::var(format!("{PREFIX}{name}")).ok();
        Some(Self {
            folder: value("FOLDER")?.into(),
            other: value("OTHER")?.parse().expect("a peer id"),
            bootstrap: value("BOOTSTRAP"),
            listen: value("LISTEN")?,
            run: value("RUN")?.parse().expect("a number"),
            quiet: value("QUIET").is_some(),
            durability: if value("SYNCED").is_some() { Durability::Synced } else { Durability::Batched },
        })
    }

    pub fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
        let mut set = |name: &str, value: String| {
            command.env(format!("{PREFIX}{name}"), value);
        };
        set("FOLDER", self.folder.display().to_string());
        set("OTHER", self.other.to_string());
        self.bootstrap.iter().for_each(|bootstrap| set("BOOTSTRAP", bootstrap.clone()));
        set("LISTEN", self.listen.clone());
        set("RUN", self.run.to_string());
        if self.quiet {
            set("QUIET", "1".to_owned());
        }
        if self.durability == Durability::Synced {
            set("SYNCED", "1".to_owned());
        }
        command
    }
}

/// The ledger of the node in a folder.
pub fn ledger(folder: &Path) -> PathBuf {
    folder.with_extension("ledger")
}

#[derive(Clone)]
struct Ledger(Arc<File>);

impl Ledger {
    fn open(folder: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().append(true).create(true).open(ledger(folder)).expect("writable")))
    }

    fn note(&self, line: &str) {
        (&*self.0).write_all(format!("{line}\n").as_bytes()).expect("writable");
    }
}

pub fn run(role: Role) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(live(role));
}

async fn live(role: Role) {
    let ledger = Ledger::open(&role.folder);
    let delivery = |delivery: &mut DeliveryConfig| {
        delivery.timeout = Duration::from_secs(3600);
        delivery.acknowledge_timeout = Duration::from_millis(300);
    };
    let connections = |connections: &mut ConnectionsConfig| {
        connections.retry_initial = Duration::from_millis(10);
        connections.retry_max = Duration::from_millis(100);
    };
    let mut config = NetworkConfig::builder()
        .network("killed")
        .data_dir(role.folder.display().to_string())
        .durability(role.durability)
        .mdns(false)
        .listen(&role.listen)
        .delivery(delivery)
        .connections(connections);
    if let Some(bootstrap) = &role.bootstrap {
        config = config.bootstrap(bootstrap);
    }
    let net = NetworkHandler::new(config.build().expect("valid")).await.unwrap_or_else(|error| {
        ledger.note(&format!("broken {error}"));
        panic!("{error}");
    });
    for receipt in net.receipts() {
        ledger.note(&format!("restored {}", receipt.id().nonce));
        tokio::spawn(follow(receipt, ledger.clone()));
    }
    ledger.note("ready");
    if role.quiet {
        receive(&net, &ledger).await;
    } else {
        join(receive(&net, &ledger), send(&net, &role, &ledger)).await;
    }
}

async fn receive(net: &NetworkHandler, ledger: &Ledger) {
    let mut messages = net.messages();
    while let Some(message) = messages.next().await {
        let tag = String::from_utf8_lossy(&message.payload[..message.payload.len().min(40)]).into_owned();
        let tag = tag.split(' ').next().unwrap_or_default();
        ledger.note(&format!("seen {tag} {}", if message.redelivered { "again" } else { "new" }));
    }
}

async fn send(net: &NetworkHandler, role: &Role, ledger: &Ledger) {
    let name = role.folder.file_name().expect("a name").to_string_lossy().into_owned();
    for count in 0.. {
        for of_burst in 0..BURST {
            let number = count * BURST + of_burst;
            let tag = format!("{name}/{}/{number}", role.run);
            let priority = Priority::ALL[usize::try_from(number % 3).expect("small")];
            let padding = "x".repeat(usize::try_from(number * 37 % 2000).expect("small"));
            ledger.note(&format!("trying {tag}"));
            match net.send_message(role.other, Message::event(format!("{tag} {padding}")), priority) {
                Ok(receipt) => {
                    ledger.note(&format!("queued {} {tag}", receipt.id().nonce));
                    tokio::spawn(follow(receipt, ledger.clone()));
                }
                Err(error) => ledger.note(&format!("refused {tag} {}", error.code())),
            }
        }
        tokio::time::sleep(PAUSE).await;
        while net.receipts().len() > UNDER_WAY {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn follow(receipt: Receipt, ledger: Ledger) {
    let nonce = receipt.id().nonce;
    match receipt.accepted().await {
        Ok(()) => ledger.note(&format!("accepted {nonce}")),
        Err(error) => return ledger.note(&format!("unaccepted {nonce} {}", error.code())),
    }
    match receipt.delivered().await {
        Ok(()) => ledger.note(&format!("delivered {nonce}")),
        Err(error) => ledger.note(&format!("failed {nonce} {}", error.code())),
    }
}
