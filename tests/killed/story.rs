//! The killing, and the reckoning.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cpc_net::{Identity, config::Durability};

use crate::{
    accounts::Account,
    node::{Role, ledger},
};

/// How long a node may take to come up, and everything to arrive in the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small generator (xorshift64*), so that a seed gives the same moments.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// A node and the process that is it for now.
struct Node {
    role: Role,
    child: Option<Child>,
    /// Where its ledger ended when it was started last.
    ledger_end: usize,
}

impl Node {
    fn start(&mut self) {
        self.role.run += 1;
        self.ledger_end = fs::read(ledger(&self.role.folder)).map_or(0, |ledger| ledger.len());
        let log = fs::OpenOptions::new().append(true).create(true).open(self.role.folder.with_extension("log"));
        let mut command = self.role.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("writable"));
        self.child = Some(command.spawn().expect("it starts"));
    }

    fn await_ready(&mut self) {
        let began = Instant::now();
        while !self.is_ready() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("waitable"));
            assert!(ended.is_none(), "a node ended by itself: {ended:?}\n{}", self.log());
            assert!(began.elapsed() < PATIENCE, "a node doesn't come up\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Only what is new in the ledger is looked at: this is asked often.
    fn is_ready(&self) -> bool {
        let ledger = fs::read(ledger(&self.role.folder)).unwrap_or_default();
        let new = String::from_utf8_lossy(ledger.get(self.ledger_end..).unwrap_or_default()).into_owned();
        new.lines().any(|line| line == "ready")
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGKILL, on every Unix.
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
    }

    fn account(&self) -> Account {
        Account::of(&ledger(&self.role.folder))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.role.folder.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn identity(folder: &Path) -> cpc_net::PeerId {
    futures::executor::block_on(Identity::open(&folder.display().to_string())).expect("made").peer_id()
}

pub fn run() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = number("CPC_NET_TEST_SEED").unwrap_or(now.as_secs() << 20 | u64::from(now.subsec_micros())).max(1);
    let kills = number("CPC_NET_TEST_KILLS").unwrap_or(100);
    println!("CPC_NET_TEST_SEED={seed} CPC_NET_TEST_KILLS={kills}");
    let mut dice = Dice(seed);

    let home = tempfile::tempdir().expect("a temporary folder");
    let folders: [PathBuf; 2] = ["anna", "bert"].map(|name| home.path().join(name));
    let [anna, bert] = [identity(&folders[0]), identity(&folders[1])];
    // A port that is free now, so that bert is found again where he was.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let [first, second] = folders;
    let role = |folder, other, bootstrap, listen| Role {
        folder,
        other,
        bootstrap,
        listen,
        run: 0,
        quiet: false,
        durability: if seed.is_multiple_of(2) { Durability::Batched } else { Durability::Synced },
    };
    let mut nodes = [
        role(first, bert, Some(format!("{listen}/p2p/{bert}")), "/ip4/127.0.0.1/tcp/0".to_owned()),
        role(second, anna, None, listen),
    ]
    .map(|role| Node { role, child: None, ledger_end: 0 });
    nodes.iter_mut().for_each(Node::start);

    let began = Instant::now();
    for _ in 0..kills {
        // Mostly while it sends and receives, sometimes while it starts; mostly one, sometimes both.
        let starting = dice.below(8) == 0;
        let victims = match dice.below(5) {
            0 => 0..2,
            1 | 2 => 0..1,
            _ => 1..2,
        };
        if !starting {
            nodes.iter_mut().for_each(Node::await_ready);
        }
        std::thread::sleep(Duration::from_micros(dice.below(400_000)));
        for victim in victims {
            nodes[victim].kill();
            nodes[victim].start();
        }
    }
    println!("{kills} kills in {:?}", began.elapsed());

    for node in &mut nodes {
        node.await_ready();
        node.kill();
        node.role.quiet = true;
        node.start();
    }
    let began = Instant::now();
    loop {
        let [anna, bert] = [nodes[0].account(), nodes[1].account()];
        if (anna.misses(&bert).is_empty() && bert.misses(&anna).is_empty()) || began.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let [anna, bert] = [nodes[0].account(), nodes[1].account()];
    for (name, account, other) in [("anna", &anna, &bert), ("bert", &bert, &anna)] {
        println!(
            "{name}: tried {}, accepted {}, delivered {}, restored {}, seen {}, of these more than once {}; started {} times",
            account.tried.len(),
            account.accepted().len(),
            account.delivered().len(),
            account.restored,
            account.seen.len(),
            account.repeated(),
            account.ready,
        );
        account.check(other, name);
        assert!(account.accepted().len() as u64 > kills, "{name} got hardly anything done");
    }
    assert!(anna.ready + bert.ready > usize::try_from(kills).expect("small"), "they came up after the kills");
}
