//! What the two ends of a stream do. The side that opens it measures, the other side serves.

use std::{io, time::Duration};

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use futures_timer::Delay;
use libp2p::StreamProtocol;
use sha2::{Digest as _, Sha256};

/// How much is written and read at once, bytes.
pub(super) const BLOCK: usize = 64 * 1024;

/// The longest that a stream may be held unread.
const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// What is done on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Whatever comes is sent back.
    Echo,
    /// Once all has come, its SHA-256 is sent back.
    Hash,
    /// Once all has come, its length is sent back.
    Sink,
    /// The number that comes says how many bytes are to be sent.
    Source,
    /// The number that comes says for how many milliseconds nothing is read; then as [`Work::Sink`].
    Hold,
}

impl Work {
    pub(super) const ALL: [Work; 5] = [Work::Echo, Work::Hash, Work::Sink, Work::Source, Work::Hold];

    pub(super) fn protocol(self) -> StreamProtocol {
        StreamProtocol::new(match self {
            Work::Echo => "/cpc-probe/echo/1",
            Work::Hash => "/cpc-probe/hash/1",
            Work::Sink => "/cpc-probe/sink/1",
            Work::Source => "/cpc-probe/source/1",
            Work::Hold => "/cpc-probe/hold/1",
        })
    }

    pub(super) fn of(protocol: &StreamProtocol) -> Option<Self> {
        Self::ALL.into_iter().find(|work| work.protocol() == *protocol)
    }
}

/// Serves one stream to its end.
///
/// # Errors
/// What the stream says when it breaks.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(work: Work, mut stream: S) -> io::Result<()> {
    match work {
        Work::Echo => {
            let mut buffer = vec![0; BLOCK];
            loop {
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    break;
                }
                stream.write_all(&buffer[..count]).await?;
                stream.flush().await?;
            }
        }
        Work::Hash => {
            let mut hash = Sha256::new();
            read_all(&mut stream, |bytes| hash.update(bytes)).await?;
            stream.write_all(&hash.finalize()).await?;
        }
        Work::Sink => {
            let count = read_all(&mut stream, |_| {}).await?;
            stream.write_all(&count.to_be_bytes()).await?;
        }
        Work::Source => {
            let count = read_number(&mut stream).await?;
            write_pattern(&mut stream, count, |_| {}).await?;
        }
        Work::Hold => {
            let pause = Duration::from_millis(read_number(&mut stream).await?).min(LONGEST_HOLD);
            Delay::new(pause).await;
            let count = read_all(&mut stream, |_| {}).await?;
            stream.write_all(&count.to_be_bytes()).await?;
        }
    }
    stream.close().await
}

/// Reads to the end; gives how much it was.
///
/// # Errors
/// What the stream says when it breaks.
pub(super) async fn read_all<S: AsyncRead + Unpin>(stream: &mut S, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; BLOCK];
    let mut all = 0;
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(all);
        }
        all += count as u64;
        take(&buffer[..count]);
    }
}

/// Writes `count` bytes that are the same on every run and different in every block, so that a block lost, doubled or
/// moved shows in the hash.
///
/// # Errors
/// What the stream says when it breaks.
pub(super) async fn write_pattern<S: AsyncWrite + Unpin>(
    stream: &mut S,
    count: u64,
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut block = pattern();
    let mut left = count;
    let mut number = 0_u64;
    while left > 0 {
        block[..8].copy_from_slice(&number.to_be_bytes());
        number += 1;
        let part = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        take(&block[..part]);
        stream.write_all(&block[..part]).await?;
        left -= part as u64;
    }
    stream.flush().await
}

/// One block of bytes that no compression and no short period can hide a fault in.
pub(super) fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        // xorshift64 (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_be_bytes());
    }
    block
}

async fn read_number<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes).await?;
    Ok(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    #[test]
    fn every_protocol_is_known_by_its_name() {
        for work in Work::ALL {
            assert_eq!(Work::of(&work.protocol()), Some(work));
        }
        assert_eq!(Work::of(&StreamProtocol::new("/cpc-probe/dance/1")), None);
    }

    #[test]
    fn the_pattern_is_the_same_again_and_no_block_is_like_another() {
        let written = |count| {
            let mut bytes = Cursor::new(Vec::new());
            let mut hash = Sha256::new();
            block_on(write_pattern(&mut bytes, count, |part| hash.update(part))).expect("memory");
            (bytes.into_inner(), hash.finalize().to_vec())
        };
        let (bytes, hash) = written(200_000);
        assert_eq!(bytes.len(), 200_000);
        assert_eq!(Sha256::digest(&bytes).to_vec(), hash);
        assert_eq!(written(200_000).1, hash);
        assert_ne!(bytes[..BLOCK], bytes[BLOCK..2 * BLOCK]);
    }
}
