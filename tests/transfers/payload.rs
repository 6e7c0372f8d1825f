//! Payloads that need no memory, writers that take no more than they are let, and two nodes to try them on.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use cpc_net::{IncomingTransfer, NetworkHandler, PayloadHash, Transfer, TransferSource, error::TransferError};
use futures::{AsyncRead, AsyncSeek, AsyncWrite, StreamExt as _};

use crate::support::{address, config, connected, network, soon, start};

pub const MIB: u64 = 1024 * 1024;

/// A payload that needs no memory: its bytes follow from their place.
#[derive(Clone)]
pub struct Made {
    pub length: u64,
    pub at: u64,
}

impl Made {
    pub fn source(length: u64) -> TransferSource {
        TransferSource::reader(Made { length, at: 0 })
    }

    pub fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let count = usize::try_from(self.length - self.at).unwrap_or(usize::MAX).min(buffer.len());
        for (byte, place) in buffer[..count].iter_mut().zip(self.at..) {
            *byte = ((place / 509) ^ place) as u8;
        }
        self.at += count as u64;
        count
    }

    pub fn hash(length: u64) -> PayloadHash {
        let (mut made, mut hasher, mut buffer) = (Made { length, at: 0 }, blake3::Hasher::new(), vec![0; 1 << 16]);
        loop {
            match made.fill(&mut buffer) {
                0 => return PayloadHash::from(*hasher.finalize().as_bytes()),
                count => drop(hasher.update(&buffer[..count])),
            }
        }
    }
}

impl AsyncRead for Made {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.fill(buffer)))
    }
}

impl AsyncSeek for Made {
    fn poll_seek(mut self: Pin<&mut Self>, _: &mut Context<'_>, place: io::SeekFrom) -> Poll<io::Result<u64>> {
        let io::SeekFrom::Start(at) = place else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        self.at = at;
        Poll::Ready(Ok(at))
    }
}

/// A writer that hashes what it gets, and takes no more than it is let.
#[derive(Clone, Default)]
pub struct Gauge {
    inner: Arc<Mutex<GaugeInner>>,
}

#[derive(Default)]
struct GaugeInner {
    hasher: blake3::Hasher,
    taken: u64,
    limit: Option<u64>,
    closed: bool,
    waker: Option<Waker>,
}

impl Gauge {
    pub fn up_to(limit: u64) -> Self {
        let gauge = Self::default();
        gauge.inner.lock().unwrap().limit = Some(limit);
        gauge
    }

    /// Lets so much in.
    pub fn let_in(&self, limit: u64) {
        let mut inner = self.inner.lock().unwrap();
        inner.limit = Some(limit);
        inner.waker.take().into_iter().for_each(Waker::wake);
    }

    pub fn open(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.limit = None;
        inner.waker.take().into_iter().for_each(Waker::wake);
    }

    pub fn taken(&self) -> u64 {
        self.inner.lock().unwrap().taken
    }

    pub fn hash(&self) -> PayloadHash {
        let inner = self.inner.lock().unwrap();
        assert!(inner.closed, "a writer is closed when all is there");
        PayloadHash::from(*inner.hasher.finalize().as_bytes())
    }
}

impl AsyncWrite for Gauge {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.inner.lock().unwrap();
        let room = inner.limit.map_or(u64::MAX, |limit| limit - inner.taken);
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        if count == 0 {
            inner.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        inner.hasher.update(&bytes[..count]);
        inner.taken += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.lock().unwrap().closed = true;
        Poll::Ready(Ok(()))
    }
}

/// Two connected nodes.
pub async fn pair() -> (NetworkHandler, NetworkHandler) {
    let network = network();
    let (one, two) = (start(config(&network)).await, start(config(&network)).await);
    soon("connecting", one.connect(address(&two))).await.expect("connects");
    connected(&two, one.local_peer_id()).await;
    (one, two)
}

pub async fn offered(net: &NetworkHandler) -> IncomingTransfer {
    soon("an offer", net.transfers().next()).await.expect("the node runs")
}

pub async fn ended(transfer: &Transfer) -> Result<PayloadHash, TransferError> {
    let patience = Duration::from_secs(120);
    tokio::time::timeout(patience, transfer.finished()).await.unwrap_or_else(|_| panic!("no end: {transfer:?}"))
}

pub async fn until_taken(gauge: &Gauge, bytes: u64) {
    let mut looks = 0;
    while gauge.taken() < bytes {
        tokio::time::sleep(Duration::from_millis(2)).await;
        looks += 1;
        assert!(looks < 10_000, "only {} bytes came", gauge.taken());
    }
}

/// Memory that this process holds, bytes; where the system tells.
pub fn resident() -> Option<u64> {
    of_status("VmRSS:")
}

/// The most that it ever held. Each test is a process of its own with nextest; elsewhere it is too much at worst.
pub fn peak() -> Option<u64> {
    of_status("VmHWM:")
}

fn of_status(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
