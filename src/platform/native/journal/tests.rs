//! The journal over real and failing disks.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use futures::executor::block_on;
use proptest::prelude::*;
use redb::StorageBackend;

use super::*;
use crate::{
    rows::{Change, Haste, Key},
    store::Journal,
};

type Model = BTreeMap<(Shelf, Key), Bytes>;

fn apply(model: &mut Model, changes: &[Change]) {
    for change in changes.iter().cloned() {
        match change {
            Change::Insert(shelf, key, value) | Change::Put(shelf, key, value) => {
                model.insert((shelf, key), value);
            }
            Change::Remove(shelf, key) => {
                model.remove(&(shelf, key));
            }
        }
    }
}

fn all(mut kept: Kept) -> Model {
    let rows = Shelf::ALL.map(|shelf| {
        let rows = std::mem::take(kept.shelf_mut(shelf));
        assert!(rows.is_sorted(), "each shelf comes in the order of its keys");
        rows.into_iter().map(move |(key, value)| ((shelf, key), value))
    });
    rows.into_iter().flatten().collect()
}

/// What an app does in a round: keys of the outbox are used once, those of windows again and again.
#[derive(Debug, Clone)]
enum Act {
    Accept(usize),
    End(usize),
    Window(Key, u8),
    Forget(Key),
}

fn acts() -> impl Strategy<Value = Vec<Vec<Act>>> {
    let act = prop_oneof![
        (0..2000_usize).prop_map(Act::Accept),
        any::<usize>().prop_map(Act::End),
        (0..4_u64, any::<u8>()).prop_map(|(key, value)| Act::Window(key, value)),
        (0..4_u64).prop_map(Act::Forget),
    ];
    proptest::collection::vec(proptest::collection::vec(act, 0..8), 1..40)
}

/// Turns acts into changes as the core would.
#[derive(Default)]
struct App {
    nonce: Key,
    open: Vec<Key>,
}

impl App {
    fn round(&mut self, acts: Vec<Act>) -> Vec<Change> {
        let changes = acts.into_iter().filter_map(|act| match act {
            Act::Accept(size) => {
                self.nonce += 1;
                self.open.push(self.nonce);
                let value = vec![u8::try_from(self.nonce % 251).expect("small"); size];
                Some(Change::Insert(Shelf::Outbox, self.nonce, value.into()))
            }
            Act::End(which) if !self.open.is_empty() => {
                let at = which % self.open.len();
                Some(Change::Remove(Shelf::Outbox, self.open.swap_remove(at)))
            }
            Act::End(_) => None,
            Act::Window(key, value) => Some(Change::Put(Shelf::Seen, key, vec![value; 3].into())),
            Act::Forget(key) => Some(Change::Remove(Shelf::Seen, key)),
        });
        changes.collect()
    }
}

/// A disk in memory that can be made to refuse, and that outlives the database on it.
#[derive(Debug, Clone, Default)]
struct Platter(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Mutex<Vec<u8>>,
    /// Writes until it refuses; below zero it refuses, above [`HEALTHY`] it never will.
    writes_left: AtomicI64,
    refused: AtomicU64,
}

const HEALTHY: i64 = i64::MAX / 2;

impl Platter {
    fn healthy() -> Self {
        let platter = Self::default();
        platter.fails_after(HEALTHY);
        platter
    }

    fn fails_after(&self, writes: i64) {
        self.0.writes_left.store(writes, Ordering::SeqCst);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_or_refuse(&self) -> io::Result<()> {
        if self.0.writes_left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        self.0.refused.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    /// What a crash leaves.
    fn copy(&self) -> Self {
        let copy = Self::healthy();
        copy.lock().clone_from(&self.lock());
        copy
    }

    fn disk(&self) -> Disk {
        let platter = self.clone();
        let open = move || redb::Builder::new().set_cache_size(CACHE).create_with_backend(platter.clone());
        Disk::with("the platter".to_owned(), Box::new(open)).expect("opens")
    }

    fn rows(&self) -> Model {
        all(block_on(self.disk().load()).expect("readable"))
    }
}

impl StorageBackend for Platter {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).expect("small");
        out.copy_from_slice(&self.lock()[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write_or_refuse()?;
        self.lock().resize(usize::try_from(len).expect("small"), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.write_or_refuse()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_or_refuse()?;
        let at = usize::try_from(offset).expect("small");
        self.lock()[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is done, and wherever the node stops in good order, the next one finds the same.
    #[test]
    fn what_was_written_is_found_again(rounds in acts(), stops in proptest::collection::vec(any::<bool>(), 40)) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = folder.path().display().to_string();
        let (mut app, mut model) = (App::default(), Model::new());
        let (mut journal, kept) = block_on(Journal::open(&place, false)).expect("opens");
        prop_assert_eq!(all(kept), Model::new());
        for (round, (acts, stop)) in rounds.into_iter().zip(stops).enumerate() {
            let changes = app.round(acts);
            apply(&mut model, &changes);
            journal.write(round as u64 + 1, changes, [Haste::Later, Haste::Soon, Haste::Now][round % 3]);
            if stop {
                block_on(journal.close());
                let (next, kept) = block_on(Journal::open(&place, false)).expect("opens again");
                prop_assert_eq!(all(kept), model.clone());
                journal = next;
            }
        }
        block_on(journal.close());
        let mut disk = block_on(Disk::open(&place, true)).expect("opens");
        prop_assert_eq!(all(block_on(disk.load()).expect("readable")), model);
    }

    /// The node dies at any write: the next one finds whole rounds, and at least all that were called stored.
    #[test]
    fn a_crash_leaves_whole_rounds_and_loses_none_that_was_stored(rounds in acts(), death in 0..400_i64) {
        let platter = Platter::healthy();
        let journal = Journal::over(platter.disk()).expect("starts");
        platter.fails_after(death);
        let (mut app, mut models) = (App::default(), vec![Model::new()]);
        for (round, acts) in rounds.into_iter().enumerate() {
            let changes = app.round(acts);
            let mut model = models[round].clone();
            apply(&mut model, &changes);
            models.push(model);
            journal.write(round as u64 + 1, changes, Haste::Now);
            while journal.report().failing.is_none() && journal.report().stored <= round as u64 {
                block_on(journal.next_report());
            }
        }
        let stored = usize::try_from(journal.report().stored).expect("small");
        let found = platter.copy().rows();
        let whole = models[stored..].contains(&found);
        prop_assert!(whole, "stored {stored} of {}, found {found:?}", models.len() - 1);
    }

    /// The disk refuses for a while at any write: nothing that was handed over is lost, and all is well afterwards.
    #[test]
    fn a_disk_that_recovers_gets_everything(rounds in acts(), trouble in 0..12_i64) {
        let platter = Platter::healthy();
        let journal = Journal::over(platter.disk()).expect("starts");
        platter.fails_after(trouble);
        let (mut app, mut model, mut last) = (App::default(), Model::new(), 0);
        for acts in rounds {
            let changes = app.round(acts);
            apply(&mut model, &changes);
            last += 1;
            journal.write(last, changes, Haste::Now);
        }
        block_on(async {
            let mut report = journal.report();
            while report.failing.is_none() && report.stored < last {
                report = journal.next_report().await;
            }
            if let Some(reason) = report.failing {
                assert!(platter.0.refused.load(Ordering::SeqCst) > 0 && !reason.is_empty(), "{reason}");
            }
            platter.fails_after(HEALTHY);
            while journal.report().stored < last {
                journal.next_report().await;
            }
            assert_eq!(journal.report().failing, None, "it says that it has recovered");
            journal.close().await;
        });
        prop_assert_eq!(platter.rows(), model);
    }
}

#[test]
fn what_is_not_urgent_is_written_too() {
    let platter = Platter::healthy();
    let journal = Journal::over(platter.disk()).expect("starts");
    journal.write(1, vec![Change::Put(Shelf::Marks, 0, Bytes::from_static(b"5"))], Haste::Later);
    let report = block_on(journal.next_report());
    assert_eq!((report.stored, report.failing), (1, None));
    // What cancels out is as good as written, and costs no commit.
    let before = platter.0.writes_left.load(Ordering::SeqCst);
    let insert = Change::Insert(Shelf::Outbox, 1, Bytes::from_static(b"message"));
    journal.write(2, vec![insert, Change::Remove(Shelf::Outbox, 1)], Haste::Now);
    assert_eq!(block_on(journal.next_report()).stored, 2);
    assert_eq!(platter.0.writes_left.load(Ordering::SeqCst), before);
}

#[test]
fn a_database_that_is_in_use_damaged_or_exposed_is_a_clear_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().display().to_string();
    let disk = block_on(Disk::open(&place, false)).expect("opens");
    let Err(error) = block_on(Disk::open(&place, false)) else { panic!("it is in use") };
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    drop(disk);
    let file = folder.path().join(FILE);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("changeable");
        let Err(error) = block_on(Disk::open(&place, false)) else { panic!("others can read it") };
        assert!(matches!(error, StoreError::Exposed { .. }), "{error:?}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changeable");
    }
    std::fs::write(&file, b"something else altogether, and long enough to be a header of its own").expect("writable");
    let Err(error) = block_on(Disk::open(&place, false)) else { panic!("it is damaged") };
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(std::fs::read(&file).expect("there").starts_with(b"something else"), "it is left as it is");
}
