//! Yamux frames as large as a peer likes, cut into such as the `yamux` crate takes.
//!
//! The specification gives a frame any size that the window allows, and js-libp2p makes use of it; the crate ends the
//! whole connection at the first one above [`MAX_BODY`]. A frame of data is the same as several with its parts, so this
//! passes the bytes on and puts headers between them. Nothing is gathered.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

/// The largest frame that the crate takes, bytes.
const MAX_BODY: u32 = 1024 * 1024;

/// Version, type, flags, stream and length (yamux specification, "Framing").
const HEADER: usize = 12;

/// The type of a frame that carries data.
const DATA: u8 = 0;

/// FIN and RST: what ends a stream comes with its last byte.
const ENDS: u16 = 4 | 8;

type Header = [u8; HEADER];

enum Reading {
    /// So much of a header has come.
    Header(Header, usize),
    /// So much of a header has been passed on; so much data follows it, and belongs to the same frame of the peer.
    Passing { header: Header, passed: usize, left: u32 },
    /// Of this part, and of the peer's frame after it.
    Body { header: Header, part: u32, after: u32 },
}

/// A connection whose frames are cut.
pub(super) struct CutFrames<C> {
    connection: C,
    reading: Reading,
}

impl<C> CutFrames<C> {
    pub(super) fn new(connection: C) -> Self {
        Self { connection, reading: Reading::Header([0; HEADER], 0) }
    }
}

fn length(header: &Header) -> u32 {
    u32::from_be_bytes([header[8], header[9], header[10], header[11]])
}

/// The header of the next part of a frame of which `left` bytes are to come.
fn part_of(header: &Header, left: u32) -> (Header, u32) {
    let part = left.min(MAX_BODY);
    let mut cut = *header;
    cut[8..].copy_from_slice(&part.to_be_bytes());
    if part < left {
        let flags = u16::from_be_bytes([header[2], header[3]]) & !ENDS;
        cut[2..4].copy_from_slice(&flags.to_be_bytes());
    }
    (cut, part)
}

/// The header that the parts after the first one have: what opens a stream is said once.
fn of_the_rest(header: &Header) -> Header {
    let mut rest = *header;
    let flags = u16::from_be_bytes([header[2], header[3]]) & ENDS;
    rest[2..4].copy_from_slice(&flags.to_be_bytes());
    rest
}

impl<C: AsyncRead + Unpin> AsyncRead for CutFrames<C> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { connection, reading } = self.get_mut();
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            match reading {
                Reading::Header(header, filled) if *filled < HEADER => {
                    let count = ready!(Pin::new(&mut *connection).poll_read(context, &mut header[*filled..]))?;
                    if count == 0 {
                        let whole = *filled == 0;
                        return Poll::Ready(if whole { Ok(0) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
                    }
                    *filled += count;
                }
                Reading::Header(header, _) => {
                    // The other types use the length for something else.
                    let left = if header[1] == DATA { length(header) } else { 0 };
                    *reading = Reading::Passing { header: *header, passed: 0, left };
                }
                Reading::Passing { header, passed, left } => {
                    let (cut, part) = if header[1] == DATA { part_of(header, *left) } else { (*header, 0) };
                    let count = buffer.len().min(HEADER - *passed);
                    buffer[..count].copy_from_slice(&cut[*passed..*passed + count]);
                    *passed += count;
                    if *passed == HEADER {
                        *reading = Reading::Body { header: of_the_rest(header), part, after: *left - part };
                    }
                    return Poll::Ready(Ok(count));
                }
                Reading::Body { part: 0, after: 0, .. } => *reading = Reading::Header([0; HEADER], 0),
                Reading::Body { header, part: 0, after } => {
                    *reading = Reading::Passing { header: *header, passed: 0, left: *after };
                }
                Reading::Body { part, .. } => {
                    let room = buffer.len().min(usize::try_from(*part).unwrap_or(usize::MAX));
                    let count = ready!(Pin::new(&mut *connection).poll_read(context, &mut buffer[..room]))?;
                    *part -= u32::try_from(count).expect("no more than the part was asked for");
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for CutFrames<C> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().connection).poll_write_vectored(context, parts)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_close(context)
    }
}

#[cfg(all(test, native))]
mod tests {
    use futures::{AsyncReadExt as _, executor::block_on, io::Cursor};

    use super::*;

    fn frame(kind: u8, flags: u16, length: u32) -> Vec<u8> {
        [&[0, kind][..], &flags.to_be_bytes(), &7_u32.to_be_bytes(), &length.to_be_bytes()].concat()
    }

    fn body(length: u32) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    /// Reads through the cutter, at most `step` bytes at a time.
    fn cut(bytes: Vec<u8>, step: usize) -> io::Result<Vec<u8>> {
        let mut frames = CutFrames::new(Cursor::new(bytes));
        let mut all = Vec::new();
        let mut buffer = vec![0; step];
        loop {
            match block_on(frames.read(&mut buffer))? {
                0 => return Ok(all),
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    fn what_is_small_enough_passes_as_it_is() {
        // Data, a window of 16 MiB, a ping, a goodbye.
        let others = [frame(1, 1, 16 << 20), frame(2, 1, u32::MAX), frame(3, 0, 0)].concat();
        let bytes = [frame(0, 1, 5), body(5), others, frame(0, 4, 0), frame(0, 0, MAX_BODY), body(MAX_BODY)].concat();
        for step in [1, 7, 12, 100_000] {
            assert!(cut(bytes.clone(), step).expect("whole") == bytes, "{step}");
        }
    }

    #[test]
    fn what_is_larger_comes_as_several_frames_with_each_flag_once() {
        let sent = body(2 * MAX_BODY + 3);
        let bytes = [frame(0, 1 | 4, 2 * MAX_BODY + 3), sent.clone(), frame(2, 1, 9)].concat();
        let (first, rest) = sent.split_at(MAX_BODY as usize);
        let (second, third) = rest.split_at(MAX_BODY as usize);
        let parts = [
            (frame(0, 1, MAX_BODY), first),
            (frame(0, 0, MAX_BODY), second),
            (frame(0, 4, 3), third),
            (frame(2, 1, 9), &[]),
        ];
        let expected = parts.iter().flat_map(|(header, body)| [header.as_slice(), body]).collect::<Vec<_>>().concat();
        for step in [5, 4096, 3 << 20] {
            assert!(cut(bytes.clone(), step).expect("whole") == expected, "{step}");
        }
    }

    #[test]
    fn an_end_in_the_middle_of_a_header_is_an_error() {
        let error = cut(frame(0, 0, 0)[..11].to_vec(), 64).expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(cut(Vec::new(), 64).expect("nothing came").is_empty());
    }
}
