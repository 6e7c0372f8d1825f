//! One `RTCPeerConnection` as a [`Link`].
//!
//! All its events are heard from the moment it is made, so nothing that comes early is lost; when it closes, the handlers
//! are taken off and the browser's object is let go.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt as _, future::BoxFuture};
use js_sys::{Array, JSON, Promise, Reflect};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Event, EventTarget, RtcConfiguration, RtcDataChannel, RtcDataChannelEvent, RtcDataChannelInit, RtcIceCandidateInit,
    RtcIceServer, RtcPeerConnection, RtcPeerConnectionIceEvent, RtcPeerConnectionState, RtcSdpType,
    RtcSessionDescriptionInit,
};

use super::{
    data_channel::DataChannel,
    js_error,
    live::{Kind, Live},
};
use crate::{
    config::IceServer,
    transport::webrtc::{
        IceCandidate, Link, Negotiate, Stream, Streams,
        signaling::{Backend, INIT_CHANNEL},
    },
};

/// Local candidates that wait to be sent. A machine has a few; more than this are left out.
const MAX_CANDIDATES: usize = 64;

#[wasm_bindgen]
extern "C" {
    /// The same object as [`RtcPeerConnection`], for what web-sys doesn't have or lets throw.
    type RawConnection;

    #[wasm_bindgen(method, catch, js_name = createDataChannel)]
    fn create_data_channel(
        this: &RawConnection,
        label: &str,
        init: &RtcDataChannelInit,
    ) -> Result<RtcDataChannel, JsValue>;

    #[wasm_bindgen(method, getter)]
    fn sctp(this: &RawConnection) -> Option<EventTarget>;
}

/// One connection to a peer.
pub(crate) struct PeerConnection {
    inner: SendWrapper<Rc<Inner>>,
}

struct Inner {
    raw: RtcPeerConnection,
    state: Rc<RefCell<State>>,
    /// The channel that only makes the two sides connect.
    init: RefCell<Option<RtcDataChannel>>,
    callbacks: RefCell<Option<Callbacks>>,
    live: RefCell<Option<Live>>,
}

#[derive(Default)]
struct State {
    connected: bool,
    gone: Option<String>,
    candidates: VecDeque<IceCandidate>,
    gathered: bool,
    /// Who waits for any of it: the one task that works with the connection.
    waker: Option<Waker>,
    /// The end of SCTP is heard here, once there is SCTP.
    sctp: Option<(EventTarget, Listener)>,
}

type Listener = Closure<dyn FnMut(Event)>;

struct Callbacks {
    state: Closure<dyn FnMut(Event)>,
    channel: Closure<dyn FnMut(RtcDataChannelEvent)>,
    candidate: Closure<dyn FnMut(RtcPeerConnectionIceEvent)>,
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn end(&mut self, reason: &str) {
        self.gone.get_or_insert_with(|| reason.to_owned());
        self.wake();
    }
}

impl PeerConnection {
    /// A new connection, not connected to anybody. Channels that the other side opens become streams.
    ///
    /// # Errors
    /// When the browser has no WebRTC (workers don't), or no more of it.
    pub(crate) fn new(ice_servers: &[IceServer], streams: &Streams<DataChannel>) -> io::Result<Self> {
        let configuration = RtcConfiguration::new();
        let servers = ice_servers.iter().map(ice_server).collect::<Array>();
        configuration.set_ice_servers(&servers);
        let raw = RtcPeerConnection::new_with_configuration(&configuration)
            .map_err(|error| js_error("make a WebRTC connection (only windows can, workers can't)", &error))?;
        let state = Rc::new(RefCell::new(State::default()));
        let callbacks = Callbacks {
            state: Closure::new({
                let (raw, state) = (raw.clone(), state.clone());
                move |_| state_changed(&raw, &state)
            }),
            channel: Closure::new({
                let streams = streams.clone();
                move |event: RtcDataChannelEvent| channel_opened(event.channel(), &streams)
            }),
            candidate: Closure::new({
                let state = state.clone();
                move |event: RtcPeerConnectionIceEvent| candidate_found(&event, &mut state.borrow_mut())
            }),
        };
        raw.set_onconnectionstatechange(Some(callbacks.state.as_ref().unchecked_ref()));
        raw.set_ondatachannel(Some(callbacks.channel.as_ref().unchecked_ref()));
        raw.set_onicecandidate(Some(callbacks.candidate.as_ref().unchecked_ref()));
        let inner = Inner {
            raw,
            state,
            init: RefCell::default(),
            callbacks: RefCell::new(Some(callbacks)),
            live: RefCell::new(Some(Live::new(Kind::PeerConnection))),
        };
        Ok(Self { inner: SendWrapper::new(Rc::new(inner)) })
    }

    /// Opens a channel that both sides know by its number.
    ///
    /// # Errors
    /// When the browser refuses.
    pub(super) fn open_negotiated(
        &mut self,
        id: u16,
        streams: &Streams<DataChannel>,
    ) -> io::Result<Stream<DataChannel>> {
        let init = RtcDataChannelInit::new();
        init.set_negotiated(true);
        init.set_id(id);
        self.open_with(&init, streams)
    }

    fn create_channel(&self, label: &str, init: &RtcDataChannelInit) -> io::Result<RtcDataChannel> {
        if let Some(reason) = &self.inner.state.borrow().gone {
            return Err(io::Error::new(io::ErrorKind::NotConnected, reason.clone()));
        }
        let raw = self.inner.raw.unchecked_ref::<RawConnection>();
        raw.create_data_channel(label, init).map_err(|error| js_error("open a data channel", &error))
    }

    fn open_with(
        &mut self,
        init: &RtcDataChannelInit,
        streams: &Streams<DataChannel>,
    ) -> io::Result<Stream<DataChannel>> {
        let channel = self.create_channel("", init)?;
        let (wrapped, handlers) = DataChannel::new(channel.clone());
        let open = wrapped.is_open();
        let (handle, stream) = streams.outgoing(wrapped);
        handlers.attach(&channel, &handle);
        if open {
            handle.opened();
        }
        Ok(stream)
    }

    /// The session description that would be offered; the dialler of WebRTC-direct changes it.
    pub(super) fn create_offer(&self) -> impl Future<Output = io::Result<String>> + Send + use<> {
        let raw = self.inner.raw.clone();
        SendWrapper::new(async move { description_of(JsFuture::from(raw.create_offer()).await, "make an offer") })
    }

    /// Takes a description as our own.
    pub(super) fn set_local(&self, kind: RtcSdpType, sdp: &str) -> impl Future<Output = io::Result<()>> + Send + use<> {
        done("set the local description", self.inner.raw.set_local_description(&description(kind, sdp)))
    }

    /// Takes a description as the other side's.
    pub(super) fn set_remote(
        &self,
        kind: RtcSdpType,
        sdp: &str,
    ) -> impl Future<Output = io::Result<()>> + Send + use<> {
        done("take the peer's description", self.inner.raw.set_remote_description(&description(kind, sdp)))
    }
}

fn done(what: &'static str, promise: Promise) -> impl Future<Output = io::Result<()>> + Send + use<> {
    SendWrapper::new(async move { JsFuture::from(promise).await.map(drop).map_err(|error| js_error(what, &error)) })
}

fn description(kind: RtcSdpType, sdp: &str) -> RtcSessionDescriptionInit {
    let description = RtcSessionDescriptionInit::new(kind);
    description.set_sdp(sdp);
    description
}

fn description_of(result: Result<JsValue, JsValue>, what: &str) -> io::Result<String> {
    let description = result.map_err(|error| js_error(what, &error))?;
    let sdp = Reflect::get(&description, &"sdp".into()).ok().and_then(|sdp| sdp.as_string());
    sdp.ok_or_else(|| io::Error::other("the browser made a session description without text"))
}

fn ice_server(server: &IceServer) -> RtcIceServer {
    let entry = RtcIceServer::new();
    let urls = server.urls.iter().map(|url| JsValue::from_str(url)).collect::<Array>();
    entry.set_urls(&urls);
    if let Some(username) = &server.username {
        entry.set_username(username);
    }
    if let Some(credential) = &server.credential {
        entry.set_credential(credential);
    }
    entry
}

fn state_changed(raw: &RtcPeerConnection, state: &Rc<RefCell<State>>) {
    match raw.connection_state() {
        RtcPeerConnectionState::Connected => {
            if let Some(sctp) = raw.unchecked_ref::<RawConnection>().sctp() {
                hear_sctp(&sctp, state);
            }
            let mut state = state.borrow_mut();
            state.connected = true;
            state.wake();
        }
        RtcPeerConnectionState::Failed => {
            let connected = state.borrow().connected;
            let reason = if connected {
                "the peer doesn't answer any more (WebRTC failed)"
            } else {
                "no way to the peer was found (ICE failed); a TURN server would help where both are behind strict NATs"
            };
            state.borrow_mut().end(reason);
        }
        RtcPeerConnectionState::Closed => state.borrow_mut().end("the connection was closed"),
        _ => {}
    }
}

/// A peer that closes in good order ends SCTP at once; the connection's own state would follow many seconds later.
fn hear_sctp(sctp: &EventTarget, state: &Rc<RefCell<State>>) {
    if state.borrow().sctp.is_some() {
        return;
    }
    let weak = Rc::downgrade(state);
    let changed = Closure::<dyn FnMut(Event)>::new({
        let sctp = sctp.clone();
        move |_| {
            let closed = Reflect::get(&sctp, &"state".into()).is_ok_and(|state| state == "closed");
            if let Some(state) = weak.upgrade().filter(|_| closed) {
                state.borrow_mut().end("the peer has closed the connection");
            }
        }
    });
    // An event target without this method is none; then the connection's state has to do.
    if sctp.add_event_listener_with_callback("statechange", changed.as_ref().unchecked_ref()).is_ok() {
        state.borrow_mut().sctp = Some((sctp.clone(), changed));
    }
}

fn channel_opened(channel: RtcDataChannel, streams: &Streams<DataChannel>) {
    if channel.label() == INIT_CHANNEL {
        // It only made the browsers connect; its opener closes it.
        return;
    }
    let (wrapped, handlers) = DataChannel::new(channel.clone());
    let open = wrapped.is_open();
    if let Some(handle) = streams.incoming(wrapped, open) {
        handlers.attach(&channel, &handle);
    }
}

fn candidate_found(event: &RtcPeerConnectionIceEvent, state: &mut State) {
    match event.candidate() {
        // An empty one says the same as none (W3C WebRTC, "RTCIceCandidate", candidate attribute).
        Some(candidate) if !candidate.candidate().is_empty() => {
            let candidate = JSON::stringify(&candidate).ok().map(String::from);
            if state.candidates.len() < MAX_CANDIDATES {
                state.candidates.extend(candidate.and_then(|json| IceCandidate::from_json(&json)));
            }
        }
        _ => state.gathered = true,
    }
    state.wake();
}

impl Link for PeerConnection {
    type Channel = DataChannel;

    fn open(&mut self, streams: &Streams<DataChannel>) -> io::Result<Stream<DataChannel>> {
        self.open_with(&RtcDataChannelInit::new(), streams)
    }

    fn poll(&mut self, context: &mut Context<'_>, _streams: &Streams<DataChannel>) -> Poll<io::Error> {
        let mut state = self.inner.state.borrow_mut();
        state.waker = Some(context.waker().clone());
        match &state.gone {
            Some(reason) => Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, reason.clone())),
            None => Poll::Pending,
        }
    }

    fn close(&mut self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        self.init.borrow_mut().take();
        if self.callbacks.borrow_mut().take().is_some() {
            self.raw.set_onconnectionstatechange(None);
            self.raw.set_ondatachannel(None);
            self.raw.set_onicecandidate(None);
        }
        let sctp = self.state.borrow_mut().sctp.take();
        if let Some((sctp, changed)) = sctp {
            // It was added, so it can be removed.
            let _ = sctp.remove_event_listener_with_callback("statechange", changed.as_ref().unchecked_ref());
        }
        self.raw.close();
        self.live.borrow_mut().take();
        self.state.borrow_mut().end("this side has closed the connection");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Negotiate for PeerConnection {
    fn offer(&mut self) -> BoxFuture<'static, io::Result<String>> {
        let opened = self.create_channel(INIT_CHANNEL, &RtcDataChannelInit::new());
        let this = self.clone();
        SendWrapper::new(async move {
            *this.inner.init.borrow_mut() = Some(opened?);
            let sdp = this.create_offer().await?;
            this.set_local(RtcSdpType::Offer, &sdp).await?;
            Ok(sdp)
        })
        .boxed()
    }

    fn answer(&mut self, offer: String) -> BoxFuture<'static, io::Result<String>> {
        let this = self.clone();
        async move {
            this.set_remote(RtcSdpType::Offer, &offer).await?;
            let raw = this.inner.raw.clone();
            let answer = SendWrapper::new(async move {
                description_of(JsFuture::from(raw.create_answer()).await, "answer the peer's offer")
            });
            let sdp = answer.await?;
            this.set_local(RtcSdpType::Answer, &sdp).await?;
            Ok(sdp)
        }
        .boxed()
    }

    fn accept(&mut self, answer: String) -> BoxFuture<'static, io::Result<()>> {
        self.set_remote(RtcSdpType::Answer, &answer).boxed()
    }

    fn add_candidate(&mut self, candidate: IceCandidate) -> BoxFuture<'static, io::Result<()>> {
        let entry = RtcIceCandidateInit::new(&candidate.candidate);
        entry.set_sdp_mid(candidate.sdp_mid.as_deref());
        entry.set_sdp_m_line_index(candidate.sdp_m_line_index);
        let promise = self.inner.raw.add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(&entry));
        done("take the peer's candidate", promise).boxed()
    }

    fn poll_candidate(&mut self, context: &mut Context<'_>) -> Poll<Option<IceCandidate>> {
        let mut state = self.inner.state.borrow_mut();
        if let Some(candidate) = state.candidates.pop_front() {
            return Poll::Ready(Some(candidate));
        }
        if state.gathered {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn is_connected(&self) -> bool {
        self.inner.state.borrow().connected
    }

    fn close_init(&mut self) {
        if let Some(init) = self.inner.init.borrow_mut().take() {
            init.close();
        }
    }
}

impl Clone for PeerConnection {
    fn clone(&self) -> Self {
        Self { inner: SendWrapper::new(Rc::clone(&self.inner)) }
    }
}

/// Makes connections for pages that meet behind a relay.
#[derive(Clone)]
pub(crate) struct PeerConnections {
    pub(super) ice_servers: Vec<IceServer>,
}

impl Backend for PeerConnections {
    type Link = PeerConnection;

    fn connection(&self, streams: &Streams<DataChannel>) -> io::Result<PeerConnection> {
        PeerConnection::new(&self.ice_servers, streams)
    }
}
