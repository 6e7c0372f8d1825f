//! How much room the inbox has: for one file, for one peer, in all.
//!
//! What lies in the folder counts, whether it came in this run or not, and so does what has been promised to transfers
//! under way. Each file costs a little more than its bytes, so that a flood of empty ones has an end too.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use cpc_net::PeerId;

/// What a file or a folder costs beside its content, bytes: a block of most file systems.
const EACH: u64 = 4096;

/// The bounds, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) file: u64,
    pub(crate) peer: u64,
    pub(crate) all: u64,
}

/// What is taken.
#[derive(Debug)]
pub(crate) struct Space {
    limits: Limits,
    /// What lies in each peer's folder.
    lying: BTreeMap<PeerId, u64>,
    /// What has been promised beyond that.
    promised: BTreeMap<PeerId, u64>,
}

/// A promise to one transfer; it is to be given back with [`Space::settle`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    peer: PeerId,
    cost: u64,
    /// How many bytes the file may have.
    pub(crate) bytes: u64,
}

impl Space {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, lying: BTreeMap::new(), promised: BTreeMap::new() }
    }

    /// Sets what lies in the folders.
    pub(crate) fn measured(&mut self, lying: BTreeMap<PeerId, u64>) {
        self.lying = lying;
    }

    /// Promises room for a file, of which so many bytes lie `here` already, if it does. One of unknown length gets what
    /// there is.
    ///
    /// # Errors
    /// What the peer is told.
    pub(crate) fn promise(&mut self, peer: PeerId, length: Option<u64>, here: Option<u64>) -> Result<Promise, String> {
        let Limits { file, peer: of_peer, all } = self.limits;
        if length.is_some_and(|length| length > file) {
            return Err(format!("it takes files of at most {file} bytes"));
        }
        let newcomer = if self.lying.contains_key(&peer) || self.promised.contains_key(&peer) { 0 } else { EACH };
        let used = self.lying.get(&peer).copied().unwrap_or_default() + self.promised.get(&peer).copied().unwrap_or(0);
        let used_by_all = self.lying.values().sum::<u64>() + self.promised.values().sum::<u64>();
        let fixed = newcomer + if here.is_none() { EACH } else { 0 };
        let here = here.unwrap_or_default();
        let room = |limit: u64, used: u64| (limit + here).checked_sub(used + fixed);
        let none_of_peer = || format!("it has no room for more from you: at most {of_peer} bytes for each peer");
        let none = || "it has no room for more".to_owned();
        let room_of_peer = room(of_peer, used).ok_or_else(none_of_peer)?;
        let room_of_all = room(all, used_by_all).ok_or_else(none)?;
        let bytes = length.unwrap_or(file.min(room_of_peer).min(room_of_all));
        if bytes > room_of_peer {
            return Err(none_of_peer());
        }
        if bytes > room_of_all {
            return Err(none());
        }
        let cost = fixed + bytes.saturating_sub(here);
        *self.promised.entry(peer).or_default() += cost;
        Ok(Promise { peer, cost, bytes })
    }

    /// A transfer is over: so many bytes of it lay `here` before and `lies` there now, if a file does.
    pub(crate) fn settle(&mut self, promise: Promise, here: Option<u64>, lies: Option<u64>) {
        let promised = self.promised.entry(promise.peer).or_default();
        *promised = promised.saturating_sub(promise.cost);
        if *promised == 0 {
            self.promised.remove(&promise.peer);
        }
        let lying = self.lying.entry(promise.peer).or_insert(EACH);
        let cost = |file: Option<u64>| file.map_or(0, |bytes| bytes + EACH);
        *lying = lying.saturating_sub(cost(here)) + cost(lies);
    }
}

/// Looks at what lies in the folders of peers. Partial files that nobody has touched for `keep` are removed.
pub(crate) fn measure(inbox: &Path, keep: Duration) -> io::Result<BTreeMap<PeerId, u64>> {
    let mut lying = BTreeMap::new();
    for folder in fs::read_dir(inbox)? {
        let folder = folder?;
        // What is not a peer's is the operator's own business.
        let Some(peer) = folder.file_name().to_str().and_then(|name| name.parse::<PeerId>().ok()) else { continue };
        let mut cost = EACH;
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            let metadata = file.metadata()?;
            let idle = metadata.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            let partial = file.path().extension().is_some_and(|extension| extension == "part");
            if partial && metadata.is_file() && idle > keep {
                fs::remove_file(file.path())?;
            } else {
                cost += EACH + metadata.len();
            }
        }
        lying.insert(peer, cost);
    }
    Ok(lying)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { file: 100_000, peer: 200_000, all: 300_000 };

    #[test]
    fn each_limit_holds_and_what_is_settled_is_room_again() {
        let mut space = Space::new(LIMITS);
        let (one, two) = (PeerId::random(), PeerId::random());
        assert!(space.promise(one, Some(100_001), None).expect_err("too long").contains("100000"));
        let first = space.promise(one, Some(90_000), None).expect("there is room");
        space.promise(one, Some(90_000), None).expect("there is room");
        assert!(space.promise(one, Some(20_000), None).expect_err("its part is full").contains("from you"));
        space.promise(two, Some(90_000), None).expect("there is room for others");
        assert_eq!(space.promise(two, Some(90_000), None).expect_err("it is full"), "it has no room for more");
        // The first one broke after a third.
        space.settle(first, None, Some(30_000));
        let again = space.promise(one, Some(90_000), Some(30_000)).expect("the rest of it fits");
        space.settle(again, Some(30_000), None);
        space.promise(two, Some(60_000), None).expect("there is room again");
    }

    #[test]
    fn a_length_that_is_not_known_gets_what_there_is() {
        let mut space = Space::new(LIMITS);
        let peer = PeerId::random();
        assert_eq!(space.promise(peer, None, None).expect("room").bytes, 100_000);
        let rest = space.promise(peer, None, None).expect("room").bytes;
        assert!((80_000..90_000).contains(&rest), "{rest}");
        assert!(space.promise(peer, None, None).is_err(), "nothing is left");
    }

    #[test]
    fn empty_files_have_an_end_too() {
        let mut space = Space::new(LIMITS);
        let peer = PeerId::random();
        let many = (0..1000).take_while(|_| space.promise(peer, Some(0), None).is_ok()).count();
        assert!((40..50).contains(&many), "{many}");
    }

    #[test]
    fn what_lies_there_is_measured_and_old_partial_files_go() {
        let inbox = tempfile::tempdir().expect("a temporary folder");
        let peer = PeerId::random();
        let folder = inbox.path().join(peer.to_string());
        fs::create_dir(&folder).expect("made");
        for name in ["film", "old.part"] {
            fs::write(folder.join(name), [0; 1000]).expect("written");
        }
        fs::create_dir(inbox.path().join("something else")).expect("made");
        let measured = measure(inbox.path(), Duration::from_secs(3600)).expect("readable");
        assert_eq!(measured, BTreeMap::from([(peer, 3 * EACH + 2000)]));
        std::thread::sleep(Duration::from_millis(20));
        let measured = measure(inbox.path(), Duration::ZERO).expect("readable");
        assert_eq!(measured, BTreeMap::from([(peer, 2 * EACH + 1000)]));
        assert!(!folder.join("old.part").exists() && folder.join("film").exists());
    }
}
