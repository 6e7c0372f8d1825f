//! One `WebSocket` as a stream of bytes.
//!
//! Invariant: whatever ends the socket is kept as its end, wakes all who wait, and is told to everybody who asks later.
//! The handlers belong to the connection, and are taken off before they go with it.
//!
//! **Writing.** Bytes are gathered until a flush, at most [`MESSAGE`] of them, since each message costs the browser a
//! round through its processes. A flush hands them to the socket and waits for nothing. When more than [`HIGH_WATER`]
//! bytes wait in the socket, writers wait. Nothing tells that they have left: a `WebSocket` has no event for it. But
//! whoever receives much says so (yamux by its windows), so a writer that waits looks again with each message that comes.
//! Only for the case that none comes there is a timer, which runs while a writer waits and no longer. (`WebSocketStream`
//! would tell, but is Chromium's alone. A loop of tasks instead of the timer would work in hidden pages at full speed and
//! keep a core busy; measured, neither it nor a higher mark is faster.)
//!
//! **Reading.** What comes waits here until it is read. The page can't slow down who sends, but yamux grants only so much
//! at a time; who sends more is cut off.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures::{AsyncRead, AsyncWrite, FutureExt as _};
use futures_timer::Delay;
use js_sys::{ArrayBuffer, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, closure::Closure};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, WebSocket};

use crate::transport::{
    browser::{
        js_error,
        live::{Kind, Live},
    },
    multiplexing::RECEIVE_WINDOW,
};

/// Above so many bytes in the socket's send buffer, writers wait.
pub(super) const HIGH_WATER: usize = 256 * 1024;

/// The largest message that is sent.
pub(super) const MESSAGE: usize = 64 * 1024;

/// Received bytes that nobody has read. Yamux may have asked for [`RECEIVE_WINDOW`] of payload; the rest is for what is
/// around it.
pub(super) const MAX_HELD: usize = RECEIVE_WINDOW / 4 * 5;

/// When a writer that waits looks again; the pause doubles.
const FIRST_LOOK: Duration = Duration::from_millis(1);

/// The longest pause of a writer that waits.
const LAST_LOOK: Duration = Duration::from_millis(64);

/// RFC 6455, section 7.4.1: what it was for is done.
const NORMAL: u16 = 1000;

/// A WebSocket. Dropping it closes the socket.
pub(crate) struct Connection {
    inner: SendWrapper<Inner>,
}

struct Inner {
    socket: WebSocket,
    url: Rc<str>,
    state: Rc<RefCell<State>>,
    /// Written and not handed to the socket.
    unsent: Vec<u8>,
    /// While a writer waits: when it looks again, and how long the pause before is.
    look: Option<(Delay, Duration)>,
    _callbacks: Callbacks,
    _live: Live,
}

/// What the events have told.
#[derive(Default)]
struct State {
    open: bool,
    received: VecDeque<Bytes>,
    /// The bytes in `received`.
    held: usize,
    end: Option<(io::ErrorKind, String)>,
    reader: Option<Waker>,
    /// Who waits for the opening, for room, or for the close.
    writer: Option<Waker>,
}

struct Callbacks {
    open: Closure<dyn FnMut(Event)>,
    message: Closure<dyn FnMut(MessageEvent)>,
    error: Closure<dyn FnMut(Event)>,
    close: Closure<dyn FnMut(CloseEvent)>,
}

impl State {
    fn wake(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }

    fn end(&mut self, kind: io::ErrorKind, reason: String) {
        self.end.get_or_insert((kind, reason));
        self.wake();
    }

    fn check(&self) -> io::Result<()> {
        match &self.end {
            Some((kind, reason)) => Err(io::Error::new(*kind, reason.clone())),
            None => Ok(()),
        }
    }

    fn received(&mut self, message: &MessageEvent) {
        if self.end.is_some() {
            return;
        }
        let Ok(buffer) = message.data().dyn_into::<ArrayBuffer>() else {
            let reason = "the peer sent text, which nobody does who speaks libp2p".to_owned();
            return self.end(io::ErrorKind::InvalidData, reason);
        };
        let length = usize::try_from(buffer.byte_length()).unwrap_or(usize::MAX);
        if self.held.saturating_add(length) > MAX_HELD {
            let reason = format!("the peer sent more than the {MAX_HELD} bytes that may wait to be read");
            self.received.clear();
            return self.end(io::ErrorKind::OutOfMemory, reason);
        }
        if length > 0 {
            self.held += length;
            self.received.push_back(Uint8Array::new(&buffer).to_vec().into());
        }
        // The writer too: what comes may answer what has left.
        self.wake();
    }

    /// The browser has given up on the socket. It tells no page why, lest pages explore networks.
    fn broken(&mut self, url: &str) {
        if self.open {
            self.end(io::ErrorKind::ConnectionReset, "the WebSocket broke: the network or the peer is gone".to_owned());
        } else {
            let reason = format!(
                "{url} can't be opened: nobody answers there, no WebSocket server does, or the browser lets this page \
                 not go there (its console says which)"
            );
            self.end(io::ErrorKind::ConnectionRefused, reason);
        }
    }

    fn closed(&mut self, url: &str, event: &CloseEvent) {
        if !event.was_clean() {
            return self.broken(url);
        }
        let (code, said) = (event.code(), event.reason());
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        self.end(io::ErrorKind::ConnectionAborted, format!("the peer closed the WebSocket (code {code}{said})"));
    }
}

impl Callbacks {
    /// Hears what happens to a socket.
    fn attach(socket: &WebSocket, url: &Rc<str>, state: &Rc<RefCell<State>>) -> Self {
        let callbacks = Self {
            open: Closure::new({
                let state = state.clone();
                move |_| {
                    let mut state = state.borrow_mut();
                    state.open = true;
                    state.wake();
                }
            }),
            message: Closure::new({
                let state = state.clone();
                move |event: MessageEvent| state.borrow_mut().received(&event)
            }),
            error: Closure::new({
                let (url, state) = (url.clone(), state.clone());
                move |_| state.borrow_mut().broken(&url)
            }),
            close: Closure::new({
                let (url, state) = (url.clone(), state.clone());
                move |event: CloseEvent| state.borrow_mut().closed(&url, &event)
            }),
        };
        socket.set_onopen(Some(callbacks.open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(callbacks.message.as_ref().unchecked_ref()));
        socket.set_onerror(Some(callbacks.error.as_ref().unchecked_ref()));
        socket.set_onclose(Some(callbacks.close.as_ref().unchecked_ref()));
        callbacks
    }
}

impl Connection {
    /// Opens a WebSocket.
    ///
    /// # Errors
    /// When the browser refuses to, or nobody takes it.
    pub(super) async fn open(url: &str) -> io::Result<Self> {
        let socket = WebSocket::new(url).map_err(|error| js_error(&format!("open {url}"), &error))?;
        let mut connection = Self::new(socket, url);
        std::future::poll_fn(|context| connection.poll_opened(context)).await?;
        Ok(connection)
    }

    /// Takes over a socket that is opening, in the same turn of the event loop in which it was made.
    pub(super) fn new(socket: WebSocket, url: &str) -> Self {
        socket.set_binary_type(BinaryType::Arraybuffer);
        let (url, state) = (Rc::from(url), Rc::<RefCell<State>>::default());
        let callbacks = Callbacks::attach(&socket, &url, &state);
        let inner = Inner {
            socket,
            url,
            state,
            unsent: Vec::new(),
            look: None,
            _callbacks: callbacks,
            _live: Live::new(Kind::WebSocket),
        };
        Self { inner: SendWrapper::new(inner) }
    }

    /// Waits until the socket is open.
    pub(super) fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.inner.state.borrow_mut();
        state.check()?;
        if state.open {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Inner {
    fn buffered(&self) -> usize {
        usize::try_from(self.socket.buffered_amount()).unwrap_or(usize::MAX)
    }

    /// Waits until the socket takes more.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.buffered() >= HIGH_WATER {
            self.state.borrow_mut().writer = Some(context.waker().clone());
            let (look, pause) = self.look.get_or_insert_with(|| (Delay::new(FIRST_LOOK), FIRST_LOOK));
            ready!(look.poll_unpin(context));
            *pause = LAST_LOOK.min(*pause * 2);
            look.reset(*pause);
        }
        self.look = None;
        Poll::Ready(())
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        let what = || format!("send on the WebSocket to {}", self.url);
        self.socket.send_with_u8_array(message).map_err(|error| js_error(&what(), &error))
    }

    fn send_rest(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.send(&self.unsent)?;
            // The room is given back, so that an idle connection has none.
            self.unsent = Vec::new();
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    /// The end is an error in any case, since a WebSocket ends in both directions at once; what came before is read
    /// first.
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.inner.state.borrow_mut();
        let Some(first) = state.received.front_mut() else {
            state.check()?;
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let count = first.len().min(buffer.len());
        first.copy_to_slice(&mut buffer[..count]);
        if first.is_empty() {
            state.received.pop_front();
        }
        state.held -= count;
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self.get_mut().inner;
        this.state.borrow().check()?;
        ready!(this.poll_room(context));
        // Much at once needs no detour.
        if this.unsent.is_empty() && bytes.len() >= MESSAGE {
            this.send(&bytes[..MESSAGE])?;
            return Poll::Ready(Ok(MESSAGE));
        }
        let count = bytes.len().min(MESSAGE - this.unsent.len());
        this.unsent.extend_from_slice(&bytes[..count]);
        if this.unsent.len() == MESSAGE {
            this.send_rest()?;
        }
        Poll::Ready(Ok(count))
    }

    /// Ready at once: all that was written is handed to the socket.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().inner;
        this.state.borrow().check()?;
        Poll::Ready(this.send_rest())
    }

    /// Ready when the socket is closed. The browser sends what waits in it first, and gives up by itself on a peer that
    /// doesn't answer.
    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().inner;
        if this.state.borrow().end.is_some() {
            return Poll::Ready(Ok(()));
        }
        this.send_rest()?;
        // Again does nothing (WHATWG WebSockets, "close").
        this.socket.close_with_code(NORMAL).map_err(|error| js_error("close a WebSocket", &error))?;
        this.state.borrow_mut().writer = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onerror(None);
        self.socket.set_onclose(None);
        // It fails for codes that are out of range, which this one isn't.
        let _ = self.socket.close_with_code(NORMAL);
    }
}
