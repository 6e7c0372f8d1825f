//! The conversation of two sides that want to connect (libp2p specs, webrtc/webrtc.md, "Browser to Browser").
//!
//! The circuit's dialler offers, the other side answers, both tell their candidates as they find them. When they are
//! connected, the dialler closes the channel that made them connect and then the stream.

use std::{future::poll_fn, io, task::Poll, time::Duration};

use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _, StreamExt as _,
    future::{Either, select},
    io::{ReadHalf, WriteHalf},
    stream::{self, BoxStream},
};
use futures_timer::Delay;

use super::{
    Negotiate,
    message::{IceCandidate, Signal, hear, invalid, say},
};
use crate::transport::webrtc::{Link, Muxer, Streams};

/// Candidates that are taken from the other side. Browsers have a handful.
const MAX_CANDIDATES: usize = 64;

/// How long the answering side keeps the stream for the dialler to end it.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Offers over `stream`, which goes to the peer, and returns when the two are connected.
///
/// # Errors
/// When the stream breaks, the peer talks nonsense or no way is found. The circuit is none the worse for it.
pub(super) async fn offer<S, L>(stream: S, mut link: L, streams: Streams<L::Channel>) -> io::Result<Muxer<L>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    L: Negotiate,
{
    let mut talk = Talk::new(stream);
    let offer = link.offer().await?;
    talk.say(&Signal::Offer(offer)).await?;
    let mut early = Vec::new();
    loop {
        match talk.hear().await? {
            Some(Signal::Answer(answer)) => break link.accept(answer).await?,
            // Who answers may have found a way before it has found words.
            Some(Signal::Candidate(candidate)) if early.len() < MAX_CANDIDATES => early.push(candidate),
            Some(Signal::Nothing) => {}
            Some(_) => return Err(invalid("something else instead of an answer")),
            None => return Err(invalid("nothing instead of an answer")),
        }
    }
    talk.until_connected(&mut link, &streams, early).await?;
    link.close_init();
    // The peer has all it needs; whether it hears our last word changes nothing.
    let _ = talk.writing.close().await;
    Ok(Muxer::new(link, streams))
}

/// Answers what comes over `stream`, and returns when the two are connected, with what is left to wait for.
///
/// # Errors
/// As [`offer`].
pub(super) async fn answer<S, L>(
    stream: S,
    mut link: L,
    streams: Streams<L::Channel>,
) -> io::Result<(Muxer<L>, impl Future<Output = ()> + Send + use<S, L>)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    L: Negotiate,
{
    let mut talk = Talk::new(stream);
    let offer = match talk.hear().await? {
        Some(Signal::Offer(offer)) => offer,
        _ => return Err(invalid("something else instead of an offer")),
    };
    let answer = link.answer(offer).await?;
    talk.say(&Signal::Answer(answer)).await?;
    talk.until_connected(&mut link, &streams, Vec::new()).await?;
    Ok((Muxer::new(link, streams), talk.until_closed()))
}

/// One stream, both ways.
struct Talk<S> {
    /// Reading goes on where it was left, whatever else happens first.
    heard: BoxStream<'static, io::Result<Signal>>,
    writing: WriteHalf<S>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Talk<S> {
    fn new(stream: S) -> Self {
        let (reading, writing) = stream.split();
        let heard = stream::try_unfold(reading, |mut reading: ReadHalf<S>| async move {
            Ok(hear(&mut reading).await?.map(|signal| (signal, reading)))
        });
        Self { heard: heard.boxed(), writing }
    }

    async fn say(&mut self, signal: &Signal) -> io::Result<()> {
        say(&mut self.writing, signal).await
    }

    async fn hear(&mut self) -> io::Result<Option<Signal>> {
        self.heard.next().await.transpose()
    }

    /// Exchanges candidates until the two are connected.
    async fn until_connected<L: Negotiate>(
        &mut self,
        link: &mut L,
        streams: &Streams<L::Channel>,
        early: Vec<IceCandidate>,
    ) -> io::Result<()> {
        let (mut more_of_ours, mut more_of_theirs) = (true, true);
        let mut taken = early.len();
        for candidate in early {
            take(link, candidate).await;
        }
        loop {
            let heard = &mut self.heard;
            let step = poll_fn(|context| {
                if let Poll::Ready(error) = Link::poll(link, context, streams) {
                    return Poll::Ready(Err(error));
                }
                if link.is_connected() {
                    return Poll::Ready(Ok(Step::Connected));
                }
                if more_of_ours && let Poll::Ready(candidate) = link.poll_candidate(context) {
                    return Poll::Ready(Ok(Step::Ours(candidate)));
                }
                if more_of_theirs && let Poll::Ready(signal) = heard.poll_next_unpin(context) {
                    return Poll::Ready(signal.transpose().map(Step::Theirs));
                }
                Poll::Pending
            });
            match step.await? {
                Step::Connected => return Ok(()),
                Step::Ours(Some(candidate)) => self.say(&Signal::Candidate(candidate)).await?,
                Step::Ours(None) => {
                    more_of_ours = false;
                    self.say(&Signal::Nothing).await?;
                }
                Step::Theirs(Some(Signal::Candidate(candidate))) => {
                    taken += 1;
                    if taken > MAX_CANDIDATES {
                        return Err(invalid("more candidates than any machine has"));
                    }
                    take(link, candidate).await;
                }
                Step::Theirs(Some(Signal::Nothing)) => {}
                Step::Theirs(Some(_)) => return Err(invalid("a second session description")),
                // Who has said all may already be connected.
                Step::Theirs(None) => more_of_theirs = false,
            }
        }
    }

    /// Waits until the dialler has heard enough too.
    async fn until_closed(self) {
        let Self { mut heard, mut writing } = self;
        let all = async move { while let Some(Ok(_)) = heard.next().await {} };
        if let Either::Right(_) = select(all.boxed(), Delay::new(LAST_WORD)).await {
            tracing::debug!("the peer left its signalling stream open");
        }
        // It has served.
        let _ = writing.close().await;
    }
}

/// One that the machine can't use (another address family) is no reason to give up the others.
async fn take(link: &mut impl Negotiate, candidate: IceCandidate) {
    if let Err(error) = link.add_candidate(candidate).await {
        tracing::debug!(%error, "a candidate of the peer was left out");
    }
}

enum Step {
    Connected,
    Ours(Option<IceCandidate>),
    Theirs(Option<Signal>),
}
