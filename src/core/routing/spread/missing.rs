//! Posts that neighbours have told of and that have not come.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use libp2p::PeerId;

use crate::frame::PostId;

/// How long a post that was told of may still come by itself.
const WAIT: Duration = Duration::from_millis(60);

/// How long a neighbour that was asked may take; then the next is asked.
const ANSWER: Duration = Duration::from_secs(2);

/// Posts that one neighbour may have told of and not sent; more are not listened to, since nobody needs to make so many
/// up who has them.
const MAX_PER_NEIGHBOUR: usize = 1024;

/// Posts that may be missed in all.
const MAX_MISSING: usize = 65_536;

/// How often neighbours are asked for one post.
const MAX_ASKS: u8 = 8;

struct Entry {
    /// Who has it and was not asked yet.
    tellers: VecDeque<PeerId>,
    asked: Option<PeerId>,
    /// How often somebody was asked.
    asks: u8,
    due: Duration,
}

#[derive(Default)]
struct Account {
    told: usize,
    asked: usize,
}

#[derive(Default)]
pub(super) struct Missing {
    entries: HashMap<PostId, Entry>,
    due: BTreeSet<(Duration, PostId)>,
    accounts: HashMap<PeerId, Account>,
}

impl Missing {
    /// A neighbour has a post that is not here.
    pub(super) fn told(&mut self, now: Duration, peer: PeerId, id: PostId) {
        let account = self.accounts.entry(peer).or_default();
        if account.told >= MAX_PER_NEIGHBOUR || self.entries.len() >= MAX_MISSING && !self.entries.contains_key(&id) {
            return;
        }
        let entry = self.entries.entry(id).or_insert_with(|| {
            self.due.insert((now + WAIT, id));
            Entry { tellers: VecDeque::new(), asked: None, asks: 0, due: now + WAIT }
        });
        if entry.asked != Some(peer) && !entry.tellers.contains(&peer) {
            entry.tellers.push_back(peer);
            account.told += 1;
        }
    }

    /// The post has come, or is not wanted any more.
    pub(super) fn end(&mut self, id: &PostId) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.due.remove(&(entry.due, *id));
        for peer in entry.tellers {
            if let Some(account) = self.accounts.get_mut(&peer) {
                account.told -= 1;
            }
        }
        self.release(entry.asked);
    }

    pub(super) fn gone(&mut self, now: Duration, peer: &PeerId) {
        self.accounts.remove(peer);
        for (id, entry) in &mut self.entries {
            entry.tellers.retain(|teller| teller != peer);
            if entry.asked == Some(*peer) {
                entry.asked = None;
                self.due.remove(&(entry.due, *id));
                entry.due = now;
                self.due.insert((now, *id));
            }
        }
    }

    /// What is due: whom to ask for which post. Of one neighbour no more is wanted at a time than `batch`.
    pub(super) fn ask(&mut self, now: Duration, batch: usize) -> Vec<(PeerId, PostId)> {
        let mut asks = Vec::new();
        while let Some(&(at, id)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(mut entry) = self.entries.remove(&id) else { continue };
            if let Some(peer) = entry.asked.take() {
                self.release(Some(peer));
                // Its answer may have been lost, or stand behind others: it is asked again once the others were.
                if entry.asks < MAX_ASKS && self.accounts.contains_key(&peer) {
                    self.accounts.entry(peer).or_default().told += 1;
                    entry.tellers.push_back(peer);
                }
            }
            let free = |peer: &PeerId| self.accounts.get(peer).is_none_or(|account| account.asked < batch);
            if let Some(place) = entry.tellers.iter().position(free)
                && let Some(peer) = entry.tellers.remove(place)
            {
                let account = self.accounts.entry(peer).or_default();
                account.told = account.told.saturating_sub(1);
                account.asked += 1;
                entry.asked = Some(peer);
                entry.asks = entry.asks.saturating_add(1);
                entry.due = now + ANSWER;
                asks.push((peer, id));
            } else if entry.tellers.is_empty() {
                // Nobody is left to be asked: whoever has it will tell again.
                continue;
            } else {
                entry.due = now + WAIT;
            }
            self.due.insert((entry.due, id));
            self.entries.insert(id, entry);
        }
        asks
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    fn release(&mut self, asked: Option<PeerId>) {
        if let Some(account) = asked.and_then(|peer| self.accounts.get_mut(&peer)) {
            account.asked -= 1;
        }
    }
}
