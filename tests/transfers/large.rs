//! More than fits: a gigabyte through two nodes of one process, in bounded memory.

use std::{
    io,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
    time::Instant,
};

use cpc_net::{PayloadHash, TransferOffer, TransferSource};
use futures::{AsyncRead, AsyncSeek};

use crate::payload::{Gauge, MIB, ended, offered, pair, peak, resident};

/// Bytes that repeat after this many, which is no multiple of any chunk.
static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| (0..1_000_003_u32).map(|at| (at ^ (at >> 9)) as u8).collect());

/// A payload that costs nearly nothing to make, so that what is measured is the transfer.
pub struct Repeated {
    pub length: u64,
    pub at: u64,
}

impl Repeated {
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let begin = usize::try_from(self.at % BLOCK.len() as u64).expect("within the block");
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let count = buffer.len().min(BLOCK.len() - begin).min(left);
        buffer[..count].copy_from_slice(&BLOCK[begin..begin + count]);
        self.at += count as u64;
        count
    }
}

impl AsyncRead for Repeated {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.fill(buffer)))
    }
}

impl AsyncSeek for Repeated {
    fn poll_seek(mut self: Pin<&mut Self>, _: &mut Context<'_>, place: io::SeekFrom) -> Poll<io::Result<u64>> {
        let io::SeekFrom::Start(at) = place else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        self.at = at;
        Poll::Ready(Ok(at))
    }
}

fn hash(length: u64) -> PayloadHash {
    let (mut made, mut hasher, mut buffer) = (Repeated { length, at: 0 }, blake3::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match made.fill(&mut buffer) {
            0 => return PayloadHash::from(*hasher.finalize().as_bytes()),
            count => drop(hasher.update(&buffer[..count])),
        }
    }
}

#[tokio::test]
async fn a_gigabyte_passes_in_bounded_memory() {
    let length = 1024 * MIB;
    let expected = hash(length);
    let (one, two) = pair().await;
    let before = resident();
    let began = Instant::now();
    let source = TransferSource::reader(Repeated { length, at: 0 });
    let offer = TransferOffer::new("a gigabyte").length(length);
    let sent = one.send_transfer(two.local_peer_id(), offer, source).expect("accepted");
    let gauge = Gauge::default();
    let received = offered(&two).await.accept(gauge.clone()).expect("in time");
    assert_eq!((ended(&sent).await, ended(&received).await), (Ok(expected), Ok(expected)));
    assert_eq!(gauge.hash(), expected);
    println!("{} MB/s", length as f64 / 1e6 / began.elapsed().as_secs_f64());
    if let (Some(before), Some(peak)) = (before, peak()) {
        let grown = peak.saturating_sub(before);
        println!("the memory grew by {} KiB at most", grown / 1024);
        assert!(grown < 64 * MIB, "the memory grew by {grown} bytes for {length}");
    }
}
