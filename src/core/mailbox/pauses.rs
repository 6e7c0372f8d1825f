//! Neighbours whose lanes broke: mail for them rests for a while, so that one that doesn't read can't have the same letters
//! sent to it again and again without end.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;

/// After a lane broke, mail rests for so long; each further time in a row for twice as long, up to the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

struct Pause {
    /// While it rests.
    until: Option<Duration>,
    next: Duration,
}

/// Bounded by the connected neighbours: who is gone is forgotten.
#[derive(Default)]
pub(super) struct Pauses {
    of: BTreeMap<PeerId, Pause>,
}

impl Pauses {
    /// A lane to a neighbour broke. While it rests anyway, that changes nothing: afterwards all is sent again.
    pub(super) fn broke(&mut self, now: Duration, peer: PeerId) {
        let pause = self.of.entry(peer).or_insert(Pause { until: None, next: FIRST });
        if pause.until.is_none() {
            pause.until = Some(now + pause.next);
            pause.next = (pause.next * 2).min(LONGEST);
        }
    }

    /// A neighbour spoke of mail: it is there. A pause that has begun goes on, the next one is short.
    pub(super) fn heard(&mut self, peer: &PeerId) {
        if let Some(pause) = self.of.get_mut(peer) {
            pause.next = FIRST;
            if pause.until.is_none() {
                self.of.remove(peer);
            }
        }
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.of.remove(peer);
    }

    pub(super) fn rests(&self, peer: &PeerId) -> bool {
        self.of.get(peer).is_some_and(|pause| pause.until.is_some())
    }

    /// Neighbours whose pause is over.
    pub(super) fn take_over(&mut self, now: Duration) -> Vec<PeerId> {
        let over = self.of.iter_mut().filter(|(_, pause)| pause.until.is_some_and(|until| until <= now));
        over.map(|(peer, pause)| {
            pause.until = None;
            *peer
        })
        .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.of.values().filter_map(|pause| pause.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_is_heard_and_one_that_has_begun_goes_on() {
        let (mut pauses, peer, second) = (Pauses::default(), PeerId::random(), Duration::from_secs(1));
        let mut now = Duration::ZERO;
        let mut rest = |pauses: &mut Pauses| {
            pauses.broke(now, peer);
            pauses.broke(now + second / 2, peer);
            let until = pauses.next_deadline().expect("it rests");
            assert!(pauses.rests(&peer) && pauses.take_over(until - second / 4).is_empty());
            assert_eq!(pauses.take_over(until), [peer]);
            assert!(!pauses.rests(&peer));
            (until - std::mem::replace(&mut now, until)).as_secs()
        };
        assert_eq!([0; 7].map(|_| rest(&mut pauses)), [1, 2, 4, 8, 16, 30, 30]);
        pauses.heard(&peer);
        assert_eq!(rest(&mut pauses), 1);
        pauses.broke(now, peer);
        pauses.heard(&peer);
        assert!(pauses.rests(&peer));
        pauses.gone(&peer);
        assert_eq!((pauses.rests(&peer), pauses.next_deadline()), (false, None));
    }
}
