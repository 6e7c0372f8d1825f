//! The inbox: files that peers send, in a folder of the operator's.
//!
//! Each peer has a folder of its own below it, called by its peer id; what the peer calls its file becomes a safe name in
//! there (`names`), and how much may lie there is bounded (`space`). While a file comes it is called
//! `<name>~<mark>.part`, where the mark follows from what the offer says: so what was cut goes on where it was, even when
//! this program was killed meanwhile. Invariant: without that ending a file is whole and verified, and no file is ever
//! replaced.

mod names;
mod space;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs,
    hash::{BuildHasher, RandomState},
    io,
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use clap::Args;
use cpc_net::{IncomingTransfer, NetworkHandler, PayloadHash, PeerId, Transfer, TransferState, error::TransferError};
use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use space::{Limits, Promise, Space};
use tokio::sync::Notify;

use crate::{
    failure::Failure,
    options,
    output::{self, Printer},
};

/// How long a partial file is kept that nobody goes on with.
const KEEP_PARTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often, at most, the folder is measured again when there seems to be no room: files may have been taken away.
const MEASURE_AGAIN: Duration = Duration::from_secs(10);

/// So many files of one name are numbered one after the other; those beyond get numbers at random, so that finding a free
/// one takes no longer the more there are.
const NUMBERED_IN_ORDER: u32 = 100;

/// Names are given one at a time: without hard links nothing else keeps two files from taking the same one.
static NAMING: Mutex<()> = Mutex::new(());

/// What `run` can be told about files.
#[derive(Debug, Args)]
pub(crate) struct InboxOptions {
    /// Take the files that peers send, into a folder for each peer below this one [default: none are taken]
    #[arg(long, value_name = "DIR")]
    inbox: Option<PathBuf>,
    /// Take files from this peer only; can be repeated [default: from everybody]
    #[arg(long, value_name = "PEER", requires = "inbox")]
    inbox_from: Vec<PeerId>,
    /// The longest file that is taken, such as 500MB or 2GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = options::size, requires = "inbox")]
    inbox_file_limit: u64,
    /// How much may lie in the folder of one peer
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = options::size, requires = "inbox")]
    inbox_peer_limit: u64,
    /// How much may lie in the inbox in all
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = options::size, requires = "inbox")]
    inbox_limit: u64,
}

/// Where files go, and who may send them.
pub(crate) struct Inbox {
    /// Without one, no file is taken.
    folder: Option<PathBuf>,
    from: Vec<PeerId>,
    space: RefCell<Space>,
    measured: RefCell<Instant>,
    /// How many transfers have ended: what was measured before another ended is no longer true.
    settled: Cell<u64>,
    /// Transfers under way by the file they write; without one while it is still looked at whether it is let in.
    under_way: RefCell<HashMap<PathBuf, Option<Transfer>>>,
    /// Told whenever one of them has ended.
    ended: Notify,
    json: bool,
}

impl InboxOptions {
    /// Opens the inbox, and finishes what an earlier run has left unfinished.
    pub(crate) fn open(&self, json: bool) -> Result<Inbox, Failure> {
        let limits = Limits { file: self.inbox_file_limit, peer: self.inbox_peer_limit, all: self.inbox_limit };
        let mut space = Space::new(limits);
        let folder = match &self.inbox {
            None => None,
            Some(folder) => {
                let shown = folder.display();
                let failed = |error: io::Error| Failure::Usage(format!("--inbox {shown} can't be used: {error}"));
                fs::create_dir_all(folder).map_err(failed)?;
                let folder = folder.canonicalize().map_err(failed)?;
                publish_leftovers(&folder).map_err(failed)?;
                space.measured(space::measure(&folder, KEEP_PARTS).map_err(failed)?);
                Some(folder)
            }
        };
        Ok(Inbox {
            folder,
            from: self.inbox_from.clone(),
            space: RefCell::new(space),
            measured: RefCell::new(Instant::now()),
            settled: Cell::default(),
            under_way: RefCell::default(),
            ended: Notify::new(),
            json,
        })
    }
}

/// A file that is to come.
struct Coming {
    peer: PeerId,
    /// Its safe name.
    name: String,
    /// Where it comes to lie while it isn't called by its name yet; with `.part` behind it while it isn't whole.
    staged: PathBuf,
    /// What lies there from an earlier attempt, bytes.
    here: Option<u64>,
    promise: Promise,
}

impl Inbox {
    /// Takes, or refuses, what is offered until the network stops.
    pub(crate) async fn serve(self, net: &NetworkHandler, printer: &Printer) {
        let inbox = Rc::new(self);
        let mut offers = net.transfers();
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                offer = offers.next() => match offer {
                    Some(offer) => running.push(inbox.clone().answer(offer, printer)),
                    None => break,
                },
                Some(()) = running.next() => {}
            }
        }
        // They end with the network; what has come stays, and can be gone on with.
        while running.next().await.is_some() {}
    }

    /// Serves beside something else, until that ends.
    pub(crate) async fn beside<T>(self, net: &NetworkHandler, printer: &Printer, other: impl Future<Output = T>) -> T {
        let (mut serving, mut other) = (pin!(self.serve(net, printer)), pin!(other));
        let mut served = false;
        loop {
            tokio::select! {
                end = &mut other => return end,
                () = &mut serving, if !served => served = true,
            }
        }
    }

    async fn answer(self: Rc<Self>, offer: IncomingTransfer, printer: &Printer) {
        let (peer, id, said) = (offer.peer(), offer.id(), offer.offer().clone());
        let head = json!({
            "event": "file", "peer": peer.to_string(), "id": id.to_string(), "name": said.name, "kind": said.kind,
            "length": said.length,
        });
        let coming = match self.let_in(&offer).await {
            Ok(coming) => coming,
            Err(reason) => {
                offer.refuse(&reason);
                let line = format!("refused {} from {}: {reason}", shown(&said.name), output::short(&peer));
                return self.tell(printer, head, "refused", json!({ "reason": reason }), &line, true).await;
            }
        };
        let result = self.take(&coming, offer, printer, &head).await;
        self.under_way.borrow_mut().remove(&coming.staged);
        self.ended.notify_waiters();
        let lies = match &result {
            Ok((_, file)) => size(file),
            // Whole, but without a name, it takes its room too.
            Err(_) => size(&part(&coming.staged)).or_else(|| size(&coming.staged)),
        };
        self.settled.set(self.settled.get() + 1);
        self.space.borrow_mut().settle(coming.promise, coming.here, lies);
        match result {
            Ok((hash, file)) => {
                let bytes = lies.unwrap_or_default();
                let more = json!({ "file": file.display().to_string(), "bytes": bytes, "hash": hash.to_string() });
                let line = format!("[file] {}: {bytes} bytes in {}", output::short(&peer), file.display());
                self.tell(printer, head, "received", more, &line, false).await;
            }
            Err(error) => {
                let more = json!({ "error": error });
                // It may hold what the peer said.
                let why = output::sanitised(&error.to_string(), 400);
                let line = format!("{} from {} did not arrive: {why}", shown(&said.name), output::short(&peer));
                self.tell(printer, head, "failed", more, &line, true).await;
            }
        }
    }

    /// Whether an offer is taken, and as what.
    async fn let_in(&self, offer: &IncomingTransfer) -> Result<Coming, String> {
        let Some(folder) = &self.folder else {
            return Err("this node takes no files (its operator could say --inbox)".into());
        };
        let (peer, said) = (offer.peer(), offer.offer());
        if !self.from.is_empty() && !self.from.contains(&peer) {
            return Err("this node takes files from those only whom its operator has named".into());
        }
        let name = names::safe(&said.name);
        let hash = said.hash.map(|hash| hash.to_string()).unwrap_or_default();
        let mark = PayloadHash::of(format!("{:?} {:?} {:?} {hash}", said.name, said.kind, said.length)).to_string();
        let staged = folder.join(peer.to_string()).join(format!("{name}~{}", &mark[..16]));
        // The same file again: its sender has started anew, and the transfer from before has nobody at its other end.
        let before = self.under_way.borrow().get(&staged).cloned();
        if let Some(before) = before {
            match before {
                Some(before) if before.progress().state == TransferState::Interrupted => before.cancel(),
                _ => return Err("the same file is on its way already".into()),
            }
            loop {
                // Registered before the look, or its end could be missed.
                let mut ended = pin!(self.ended.notified());
                ended.as_mut().enable();
                if !self.under_way.borrow().contains_key(&staged) {
                    break;
                }
                ended.await;
            }
        }
        // From here on nobody else begins the same file, also while this one waits.
        self.under_way.borrow_mut().insert(staged.clone(), None);
        let found = self.room(folder, peer, said.length, &staged).await;
        if found.is_err() {
            self.under_way.borrow_mut().remove(&staged);
            self.ended.notify_waiters();
        }
        found.map(|(here, promise)| Coming { peer, name, staged, here, promise })
    }

    /// Room for a file, and what of it lies here already.
    async fn room(
        &self,
        folder: &Path,
        peer: PeerId,
        length: Option<u64>,
        staged: &Path,
    ) -> Result<(Option<u64>, Promise), String> {
        let here = size(&part(staged));
        match self.promise(peer, length, here) {
            Err(_) if self.measured.borrow().elapsed() > MEASURE_AGAIN => {
                self.measure(folder).await;
                // Measuring also removes what is too old to be gone on with.
                let here = size(&part(staged));
                self.promise(peer, length, here).map(|promise| (here, promise))
            }
            promise => promise.map(|promise| (here, promise)),
        }
    }

    fn promise(&self, peer: PeerId, length: Option<u64>, here: Option<u64>) -> Result<Promise, String> {
        self.space.borrow_mut().promise(peer, length, here)
    }

    async fn measure(&self, folder: &Path) {
        self.measured.replace(Instant::now());
        let settled = self.settled.get();
        let folder = folder.to_owned();
        let measured = tokio::task::spawn_blocking(move || space::measure(&folder, KEEP_PARTS)).await;
        // A folder that can't be read has the room that it had.
        if let Ok(Ok(lying)) = measured
            // The one that asks for room has none yet.
            && self.under_way.borrow().len() <= 1
            && self.settled.get() == settled
        {
            self.space.borrow_mut().measured(lying);
        }
    }

    /// Takes an offer and waits for its end; gives the hash, and where the file lies.
    async fn take(
        &self,
        coming: &Coming,
        offer: IncomingTransfer,
        printer: &Printer,
        head: &Value,
    ) -> Result<(PayloadHash, PathBuf), TransferError> {
        let failed = |error: io::Error| TransferError::Writer { reason: error.to_string() };
        let folder = coming.staged.parent().unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(&folder).map_err(failed)?;
        let transfer = offer.at_most(coming.promise.bytes).accept_to_file(&coming.staged).await?;
        self.under_way.borrow_mut().insert(coming.staged.clone(), Some(transfer.clone()));
        let at = transfer.progress().transferred;
        let line = format!("{} comes from {}", shown(&coming.name), output::short(&coming.peer));
        self.tell(printer, head.clone(), "taken", json!({ "resumedAt": at }), &line, true).await;
        match transfer.finished().await {
            Ok(hash) => {
                let (staged, name) = (coming.staged.clone(), coming.name.clone());
                let published = tokio::task::spawn_blocking(move || publish(&staged, &name)).await;
                let file = published.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)?;
                Ok((hash, file))
            }
            Err(error) => {
                if matches!(error, TransferError::SourceChanged { .. } | TransferError::WrongHash) {
                    // What lies here is not the beginning of it; the next attempt begins anew.
                    let _ = fs::remove_file(part(&coming.staged));
                }
                Err(error)
            }
        }
    }

    /// A JSON line for programs, or one for people: of what has come on standard output, else as a note.
    async fn tell(&self, printer: &Printer, mut head: Value, state: &str, more: Value, line: &str, note: bool) {
        if !self.json {
            if note {
                output::note(line);
            } else {
                // Who prints the messages finds out that nobody reads them.
                let _ = printer.print(line.to_owned()).await;
            }
            return;
        }
        head["state"] = state.into();
        if let (Value::Object(head), Value::Object(more)) = (&mut head, more) {
            head.extend(more);
        }
        let _ = printer.print(head.to_string()).await;
    }
}

/// A peer's name for a file, for people.
fn shown(name: &str) -> String {
    format!("{:?}", output::sanitised(name, 80))
}

/// Where the library keeps what has come of a file.
fn part(staged: &Path) -> PathBuf {
    let mut part = staged.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

fn size(file: &Path) -> Option<u64> {
    fs::metadata(file).ok().map(|metadata| metadata.len())
}

/// Gives a whole file its name, or the next free one like it. No other file is replaced.
fn publish(staged: &Path, name: &str) -> io::Result<PathBuf> {
    let _naming = NAMING.lock().unwrap_or_else(PoisonError::into_inner);
    let at_random = std::iter::repeat_with(|| RandomState::new().hash_one(name) as u32 | 1 << 31);
    for number in (1..=NUMBERED_IN_ORDER).chain(at_random.take(100)) {
        let file = staged.with_file_name(names::numbered(name, number));
        // A second name for the same file fails where there is one already, which a rename doesn't.
        match fs::hard_link(staged, &file) {
            Ok(()) => {
                fs::remove_file(staged)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // A file system without hard links; nobody else writes to this folder.
            Err(_) if !file.exists() => return fs::rename(staged, &file).map(|()| file),
            Err(_) => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name was found for it"))
}

/// Names what was whole when an earlier run ended and had no name yet.
fn publish_leftovers(inbox: &Path) -> io::Result<()> {
    for folder in fs::read_dir(inbox)?.collect::<Result<Vec<_>, _>>()? {
        if folder.file_name().to_str().is_none_or(|name| name.parse::<PeerId>().is_err()) {
            continue;
        }
        for file in fs::read_dir(folder.path())?.collect::<Result<Vec<_>, _>>()? {
            let called = file.file_name();
            let Some((name, mark)) = called.to_str().and_then(|called| called.rsplit_once('~')) else { continue };
            if mark.len() == 16 && mark.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                // One that can't be named is no reason not to start; it counts, and is looked at again next time.
                if let Err(error) = publish(&file.path(), name) {
                    output::note(&format!("{} keeps that name: {error}", file.path().display()));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_whole_gets_its_name_at_the_next_start_and_replaces_nothing() {
        let inbox = tempfile::tempdir().expect("a temporary folder");
        let folder = inbox.path().join(PeerId::random().to_string());
        fs::create_dir(&folder).expect("made");
        for (name, text) in
            [("note.txt", "old"), ("note.txt~0123456789abcdef", "new"), ("film~0123456789abcdef.part", "half")]
        {
            fs::write(folder.join(name), text).expect("written");
        }
        publish_leftovers(inbox.path()).expect("published");
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        assert_eq!(read("note.txt").as_deref(), Some("old"));
        assert_eq!(read("note (2).txt").as_deref(), Some("new"));
        assert_eq!(read("note.txt~0123456789abcdef"), None);
        assert_eq!(read("film~0123456789abcdef.part").as_deref(), Some("half"), "that one isn't whole");
    }

    #[test]
    fn however_many_files_have_a_name_the_next_one_finds_another() {
        let inbox = tempfile::tempdir().expect("a temporary folder");
        for number in 1..=NUMBERED_IN_ORDER + 50 {
            let staged = inbox.path().join(format!("x~{number:016x}"));
            fs::write(&staged, number.to_string()).expect("written");
            let file = publish(&staged, "x").expect("named");
            assert_eq!(fs::read_to_string(file).expect("read"), number.to_string());
        }
        let files = fs::read_dir(inbox.path()).expect("read").count();
        assert_eq!(files, usize::try_from(NUMBERED_IN_ORDER + 50).expect("fits"), "none was replaced");
    }
}
