//! The tasks that read and write one stream. They run on the connection's own task, so a slow peer holds up nobody
//! else: a reader whose events nobody takes stops reading, and the peer's window fills.

use async_channel::{Receiver, Sender};
use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{PeerId, identity::Keypair};

use super::{
    decode,
    framing::{FrameDecoder, append_frame, framed_len},
    handler::Parcel,
    message_frame,
};
use crate::{
    event::RejectReason,
    frame::{Incoming, Rejection},
    message::Priority,
    platform,
};

/// Frames that wait for a lane leave together, up to this many bytes in one write.
const MAX_WRITE: usize = 64 * 1024;

/// Reads begin small, so that an idle lane costs little, and grow while they are filled.
const MIN_READ: usize = 2 * 1024;
const MAX_READ: usize = 64 * 1024;

/// Up to so many small frames are verified where they are read; waking another thread for them costs more than it saves.
const VERIFIED_INLINE: usize = 4;

/// Bytes of frames up to which they count as small: a large one may be a list of many signed records.
const SMALL: usize = 4096;

/// What the lanes are allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Largest frame, bytes.
    pub(crate) max_frame: usize,
    /// Largest payload of an app's message, bytes.
    pub(crate) max_payload: usize,
}

/// What a lane reports.
#[derive(Debug)]
pub(crate) enum LaneEvent {
    /// Frames came in, each taken or rejected. `bytes` counts their prefixes.
    Read { batch: Vec<Result<Incoming, Rejection>>, bytes: usize },
    /// So many frames were handed to the transport.
    Written { priority: Priority, count: usize, bytes: usize },
    /// So many frames were on their way when the lane broke; they may have arrived or not.
    Lost { priority: Priority, count: usize, reason: String },
}

/// Reads frames until the stream ends, breaks, or can't be understood any more.
pub(super) async fn read_lane<S: AsyncRead + Unpin>(
    mut stream: S,
    neighbour: PeerId,
    limits: Limits,
    events: Sender<LaneEvent>,
) {
    let mut decoder = FrameDecoder::new(limits.max_frame);
    let mut buffer = vec![0; MIN_READ];
    loop {
        let ended = match stream.read(&mut buffer).await {
            Ok(0) => Some(None),
            Ok(read) => {
                decoder.push(&buffer[..read]);
                resize(&mut buffer, read);
                None
            }
            Err(error) => Some(Some(error)),
        };
        let (frames, mut broken) = whole_frames(&mut decoder);
        if let (Some(None), None, false) = (&ended, &broken, decoder.is_between_frames()) {
            broken = Some(Rejection::new(RejectReason::Truncated, "the stream ended inside a frame"));
        }
        let bytes = frames.iter().map(|frame| framed_len(frame)).sum();
        let mut batch = verified(frames, neighbour, limits.max_payload).await;
        let unreadable = broken.is_some();
        batch.extend(broken.map(Err));
        if !batch.is_empty() && events.send(LaneEvent::Read { batch, bytes }).await.is_err() {
            return; // The connection is gone.
        }
        if ended.is_some() || unreadable {
            return; // Dropping the stream resets it.
        }
    }
}

fn resize(buffer: &mut Vec<u8>, read: usize) {
    if read == buffer.len() && read < MAX_READ {
        buffer.resize(read * 2, 0);
    } else if read < buffer.len() / 4 {
        *buffer = vec![0; MIN_READ];
    }
}

fn whole_frames(decoder: &mut FrameDecoder) -> (Vec<Bytes>, Option<Rejection>) {
    let mut frames = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(rejection) => return (frames, Some(rejection)),
        }
    }
}

async fn verified(frames: Vec<Bytes>, neighbour: PeerId, max_payload: usize) -> Vec<Result<Incoming, Rejection>> {
    let decode_all =
        move |frames: Vec<Bytes>| frames.iter().map(|frame| decode(frame, neighbour, max_payload)).collect::<Vec<_>>();
    let small = frames.len() <= VERIFIED_INLINE && frames.iter().map(Bytes::len).sum::<usize>() <= SMALL;
    if small { decode_all(frames) } else { platform::offload(move || decode_all(frames)).await }
}

/// Writes the frames of a queue, those that wait together in one write, until the queue's other end is gone or the
/// stream breaks.
pub(super) async fn write_lane<S: AsyncWrite + Unpin>(
    mut stream: S,
    priority: Priority,
    key: Keypair,
    queue: Receiver<Parcel>,
    events: Sender<LaneEvent>,
) {
    let mut buffer = Vec::new();
    while let Ok(first) = queue.recv().await {
        let mut count = 1;
        append_frame(&mut buffer, &encoded(first, &key));
        while buffer.len() < MAX_WRITE
            && let Ok(parcel) = queue.try_recv()
        {
            append_frame(&mut buffer, &encoded(parcel, &key));
            count += 1;
        }
        let written = async {
            stream.write_all(&buffer).await?;
            stream.flush().await
        };
        let event = match written.await {
            Ok(()) => LaneEvent::Written { priority, count, bytes: buffer.len() },
            Err(error) => {
                // What waits behind would otherwise overtake what was lost.
                count += std::iter::from_fn(|| queue.try_recv().ok()).count();
                LaneEvent::Lost { priority, count, reason: error.to_string() }
            }
        };
        let broken = matches!(event, LaneEvent::Lost { .. });
        if events.send(event).await.is_err() || broken {
            return;
        }
        buffer.clear();
        buffer.shrink_to(MIN_READ);
    }
}

fn encoded(parcel: Parcel, key: &Keypair) -> Bytes {
    match parcel {
        Parcel::Letter(letter) => {
            message_frame(&letter, key).expect("an Ed25519 key, and identities have no others, signs without fail")
        }
        Parcel::Frame(frame) => frame,
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, executor::block_on, io::Cursor};

    use super::*;
    use crate::{frame::ControlContent, wire::control_frame};

    const LIMITS: Limits = Limits { max_frame: 1024, max_payload: 512 };

    fn read_all(bytes: Vec<u8>) -> Vec<Result<Incoming, Rejection>> {
        block_on(async {
            let (sender, receiver) = async_channel::bounded(100);
            read_lane(Cursor::new(bytes), PeerId::random(), LIMITS, sender).await;
            receiver
                .flat_map(|event| match event {
                    LaneEvent::Read { batch, .. } => futures::stream::iter(batch),
                    event => panic!("a reader reports reads, not {event:?}"),
                })
                .collect()
                .await
        })
    }

    #[test]
    fn what_waits_leaves_together_and_arrives_in_order() {
        let frame = control_frame(ControlContent::Goodbye);
        let written = block_on(async {
            let (queue, frames) = async_channel::bounded(10);
            let (sender, events) = async_channel::bounded(10);
            for _ in 0..3 {
                queue.send(Parcel::Frame(frame.clone())).await.expect("room");
            }
            queue.close();
            let mut stream = Cursor::new(Vec::new());
            write_lane(&mut stream, Priority::High, Keypair::generate_ed25519(), frames, sender).await;
            let event = events.recv().await.expect("one report");
            assert!(matches!(event, LaneEvent::Written { count: 3, .. }), "{event:?}");
            assert!(events.recv().await.is_err(), "one write, one report");
            stream.into_inner()
        });
        assert_eq!(read_all(written).len(), 3);
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_reported() {
        let mut bytes = Vec::new();
        append_frame(&mut bytes, &control_frame(ControlContent::Goodbye));
        bytes.extend([20, 1, 2]);
        let results = read_all(bytes);
        assert!(results[0].is_ok());
        assert_eq!(results[1].as_ref().expect_err("cut").reason, RejectReason::Truncated);
    }

    #[test]
    fn after_a_bad_frame_the_next_one_is_read_and_after_a_bad_length_nothing() {
        let mut bytes = Vec::new();
        append_frame(&mut bytes, &[0xff; 9]);
        append_frame(&mut bytes, &control_frame(ControlContent::Goodbye));
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        append_frame(&mut bytes, &control_frame(ControlContent::Goodbye));
        let reasons = read_all(bytes).into_iter().map(|result| result.err().map(|rejection| rejection.reason));
        assert_eq!(reasons.collect::<Vec<_>>(), [Some(RejectReason::Malformed), None, Some(RejectReason::Oversized)]);
    }
}
