//! The ledgers, added up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// What one node has noted.
#[derive(Debug, Default)]
pub struct Account {
    /// How often it came up.
    pub ready: usize,
    /// Tags of messages that were tried at all.
    pub tried: BTreeSet<String>,
    /// Nonces of messages and their tags.
    tags: BTreeMap<u64, String>,
    accepted: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    pub failed: Vec<String>,
    pub broken: Vec<String>,
    /// Tags of messages that were seen, each time with whether it was marked.
    pub seen: BTreeMap<String, Vec<bool>>,
    pub restored: usize,
}

impl Account {
    /// Adds a ledger up. The last line may be cut off by a kill.
    pub fn of(ledger: &Path) -> Self {
        let text = fs::read_to_string(ledger).unwrap_or_default();
        let mut account = Self::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words = line.split(' ').collect::<Vec<_>>();
            let nonce = |at: usize| words[at].parse::<u64>().expect("a nonce");
            match words[0] {
                "ready" => account.ready += 1,
                "trying" => drop(account.tried.insert(words[1].to_owned())),
                "queued" => drop(account.tags.insert(nonce(1), words[2].to_owned())),
                "accepted" => drop(account.accepted.insert(nonce(1))),
                "delivered" => drop(account.delivered.insert(nonce(1))),
                "restored" => account.restored += 1,
                "seen" => account.seen.entry(words[1].to_owned()).or_default().push(words[2] == "again"),
                "failed" | "unaccepted" | "refused" => account.failed.push(line.to_owned()),
                "broken" => account.broken.push(line.to_owned()),
                other => panic!("{other:?} is no entry"),
            }
        }
        account
    }

    /// Tags of messages of which the app was told that they are accepted.
    pub fn accepted(&self) -> BTreeSet<&str> {
        self.tags_of(&self.accepted)
    }

    /// Tags of messages of which the app was told that they are delivered.
    pub fn delivered(&self) -> BTreeSet<&str> {
        self.tags_of(&self.delivered)
    }

    fn tags_of(&self, nonces: &BTreeSet<u64>) -> BTreeSet<&str> {
        // One that was restored may have been killed between its acceptance and the note of its tag.
        nonces.iter().filter_map(|nonce| self.tags.get(nonce).map(String::as_str)).collect()
    }

    /// Messages of the other that were promised and are not seen yet.
    pub fn misses(&self, other: &Account) -> Vec<String> {
        let promised = other.accepted().into_iter().chain(other.delivered()).collect::<BTreeSet<_>>();
        promised.into_iter().filter(|tag| !self.seen.contains_key(*tag)).map(str::to_owned).collect()
    }

    /// Panics unless everything is in order.
    pub fn check(&self, other: &Account, who: &str) {
        assert!(self.broken.is_empty(), "{who} could not start: {:?}", self.broken);
        assert!(self.failed.is_empty(), "{who}: nothing may fail here: {:?}", self.failed);
        let missing = self.misses(other);
        assert!(
            missing.is_empty(),
            "{who} never saw {} messages: {:?}",
            missing.len(),
            &missing[..missing.len().min(9)]
        );
        for (tag, times) in &self.seen {
            assert!(other.tried.contains(tag), "{who} saw {tag}, which nobody sent");
            assert!(times[1..].iter().all(|marked| *marked), "{who} was shown {tag} twice without a mark: {times:?}");
        }
    }

    /// How many messages were seen more than once.
    pub fn repeated(&self) -> usize {
        self.seen.values().filter(|times| times.len() > 1).count()
    }
}
