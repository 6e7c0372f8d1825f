//! One connection on the endpoint's side: str0m's machine, and whom to tell of what comes out of it.
//!
//! Each step (a datagram, a wish, a moment that has come) is followed by taking everything out, as str0m asks for.

mod negotiation;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use str0m::{
    Candidate, Event, IceConnectionState, IceCreds, Input, Output, Rtc, RtcConfig,
    channel::{ChannelConfig, ChannelId},
    net::{Protocol, Receive},
};
use web_time::Instant;

use negotiation::Negotiation;

use super::{
    certificate::{Certificate, crypto},
    connection::{DataChannel, Load, Shared, Wish},
    socket::Socket,
};
use crate::transport::webrtc::{Handle, LOW_WATER, Stream, Streams, direct::Fingerprint, signaling::INIT_CHANNEL};

/// How long the two sides may take to prove who they are.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long an address may take to prove that somebody is there. Real diallers need two round trips.
const REACHED: Duration = Duration::from_secs(5);

/// How long two sides may take to describe themselves and to connect. The signalling gives up earlier; this is for when
/// nobody is left to do so.
const NEGOTIATION: Duration = Duration::from_secs(20);

/// A peer that lives is heard every few seconds: ICE goes on asking. str0m gives up some 20 s after the last sign of
/// life; this is for what it may not notice.
const SILENCE: Duration = Duration::from_secs(25);

/// So often may str0m ask for another turn at once.
const TURNS: usize = 32;

/// The channel over which both sides prove who they are.
const HANDSHAKE_CHANNEL: u16 = 0;

struct Entry {
    number: u64,
    /// `None` once this side has closed it.
    handle: Option<Handle<DataChannel>>,
    /// This side has closed it, perhaps before str0m could open it.
    closed: bool,
    load: Arc<Load>,
    /// Whether the load was above [`LOW_WATER`] when it was looked at last.
    high: bool,
}

/// One connection.
pub(super) struct Session {
    rtc: Rtc,
    shared: Arc<Shared>,
    streams: Streams<DataChannel>,
    channels: HashMap<ChannelId, Entry>,
    numbers: HashMap<u64, ChannelId>,
    /// Channels that may have bytes in str0m.
    loaded: Vec<ChannelId>,
    /// What ICE knows this side by. With WebRTC-direct it is one name, and told to nobody.
    here: Vec<SocketAddr>,
    /// Set while the two sides describe themselves to each other.
    negotiation: Option<Negotiation>,
    /// The address of this machine that the other side writes to.
    local: Option<IpAddr>,
    begun: Instant,
    heard: Instant,
    /// When str0m wants its turn.
    turn: Instant,
    /// The other side has answered from its address.
    pub(super) is_reached: bool,
    /// The other side has proved who it is.
    pub(super) is_established: bool,
}

/// The two sides of a WebRTC-direct connection.
pub(super) enum Direct {
    /// Somebody dials: the names it has given itself and us, one the other's password.
    Listener {
        ours: String,
        theirs: String,
    },
    Dialler {
        name: String,
        listener: SocketAddr,
        certificate: Fingerprint,
    },
}

impl Session {
    /// A WebRTC-direct connection, with the stream for the handshake. `port`: a socket of this machine, only its family
    /// and port matter.
    ///
    /// # Errors
    /// When str0m can't use the addresses.
    pub(super) fn direct(
        side: Direct,
        certificate: &Certificate,
        port: SocketAddr,
        shared: Arc<Shared>,
        streams: Streams<DataChannel>,
        now: Instant,
    ) -> Result<(Self, Stream<DataChannel>), String> {
        let named = |name: String| IceCreds { pass: name.clone(), ufrag: name };
        let (is_dialler, ours, theirs) = match &side {
            Direct::Listener { ours, theirs } => (false, ours.clone(), theirs.clone()),
            Direct::Dialler { name, .. } => (true, name.clone(), name.clone()),
        };
        let config = RtcConfig::new()
            .clear_codecs()
            .set_crypto_provider(crypto().clone())
            .set_dtls_cert(certificate.dtls())
            .set_local_ice_credentials(named(ours))
            // A dialler's certificate is proved by Noise instead (spec, "Browser to public Server", step 8).
            .set_fingerprint_verification(is_dialler)
            // The streams see to the bounds.
            .set_sctp_max_buffered_amount(usize::MAX);
        let mut rtc = config.build(now);
        // Addresses aren't exchanged, so this side may call itself as it likes.
        let localhost: IpAddr =
            if port.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        let here = SocketAddr::new(localhost, port.port());
        rtc.add_local_candidate(host(here)?);
        let expected = match side {
            // Not looked at, but str0m wants one.
            Direct::Listener { .. } => Fingerprint([0; 32]),
            Direct::Dialler { listener, certificate, .. } => {
                rtc.add_remote_candidate(host(listener)?);
                certificate
            }
        };
        let mut api = rtc.direct_api();
        api.set_remote_ice_credentials(named(theirs));
        api.set_remote_fingerprint(str0m::config::Fingerprint {
            hash_func: "sha-256".to_owned(),
            bytes: expected.0.to_vec(),
        });
        api.set_ice_controlling(is_dialler);
        api.start_dtls(is_dialler).map_err(|error| error.to_string())?;
        api.start_sctp(is_dialler);
        let mut session = Self::new(rtc, vec![here], None, shared, streams, now);
        let channel = DataChannel::new(session.shared.clone());
        let (number, load) = (channel.number, channel.load.clone());
        let (handle, stream) = session.streams.outgoing(channel);
        session.open(number, handle, load, Some(HANDSHAKE_CHANNEL));
        Ok((session, stream))
    }

    fn new(
        rtc: Rtc,
        here: Vec<SocketAddr>,
        negotiation: Option<Negotiation>,
        shared: Arc<Shared>,
        streams: Streams<DataChannel>,
        now: Instant,
    ) -> Self {
        Self {
            rtc,
            shared,
            streams,
            channels: HashMap::new(),
            numbers: HashMap::new(),
            loaded: Vec::new(),
            here,
            negotiation,
            local: None,
            begun: now,
            heard: now,
            turn: now,
            is_reached: false,
            is_established: false,
        }
    }

    /// When the session wants [`expire`](Self::expire) to be called.
    pub(super) fn due(&self) -> Instant {
        self.turn.min(self.limit())
    }

    fn limit(&self) -> Instant {
        match (self.is_established, self.is_reached) {
            (true, _) => self.heard + SILENCE,
            (false, _) if self.negotiation.is_some() => self.begun + NEGOTIATION,
            (false, true) => self.begun + HANDSHAKE,
            (false, false) => self.begun + REACHED,
        }
    }

    /// What ICE calls the address of this side that a datagram came to.
    fn destination(&self, source: SocketAddr, local: Option<IpAddr>) -> Option<SocketAddr> {
        if self.negotiation.is_none() {
            return self.here.first().copied();
        }
        let exact = self.here.iter().find(|address| Some(address.ip()) == local);
        exact.or_else(|| self.here.iter().find(|address| address.is_ipv4() == source.is_ipv4())).copied()
    }

    /// Takes a datagram. Whether it was for this session is told; an error is the end.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        source: SocketAddr,
        local: Option<IpAddr>,
        datagram: &[u8],
        socket: &mut Socket,
    ) -> Result<bool, String> {
        let Some(here) = self.destination(source, local) else { return Ok(false) };
        let Ok(received) = Receive::new(Protocol::Udp, source, here, datagram) else { return Ok(false) };
        let is_stun = datagram[0] < 2;
        let input = Input::Receive(now, received);
        if is_stun && !self.rtc.accepts(&input) {
            return Ok(false);
        }
        if local.is_some() {
            self.local = local;
        }
        match self.rtc.handle_input(input) {
            Ok(()) => self.heard = now,
            // Garbage from anywhere must not end what stands.
            Err(error) if self.is_reached && !self.is_established => return Err(format!("the handshake: {error}")),
            Err(error) => tracing::trace!(%error, "a datagram was ignored"),
        }
        self.drain(now, socket)?;
        Ok(true)
    }

    /// Does what libp2p's side wishes. Whether the connection was established by it is told; an error is the end.
    pub(super) fn obey(&mut self, now: Instant, socket: &mut Socket) -> Result<(), String> {
        for wish in self.shared.take_wishes() {
            match wish {
                Wish::Open { number, handle, load } => self.open(number, handle, load, None),
                Wish::Send { number, message } => self.send(number, &message),
                Wish::Close { number } => self.close(number),
                Wish::Established => self.is_established = true,
                Wish::End => return Err("this side has closed the connection".to_owned()),
                Wish::Offer { reply } => drop(reply.send(self.offer())),
                Wish::Answer { offer, reply } => drop(reply.send(self.answer(&offer))),
                Wish::Accept { answer, reply } => drop(reply.send(self.accept(&answer))),
                Wish::Candidate { candidate } => self.rtc.add_remote_candidate(candidate),
                Wish::CloseInit => self.close_init(),
            }
            self.drain(now, socket)?;
        }
        Ok(())
    }

    /// A moment that was waited for has come. An error is the end.
    pub(super) fn expire(&mut self, now: Instant, socket: &mut Socket) -> Result<(), String> {
        if now >= self.limit() {
            return Err(match (self.is_established, self.is_reached) {
                (true, _) => format!("the peer was not heard for {} s", SILENCE.as_secs()),
                (false, true) => format!("the handshake took more than {} s", HANDSHAKE.as_secs()),
                (false, false) => format!("nobody answered within {} s", (now - self.begun).as_secs()),
            });
        }
        self.rtc.handle_input(Input::Timeout(now)).map_err(|error| error.to_string())?;
        self.drain(now, socket)
    }

    /// Tells both sides that it is over.
    pub(super) fn end(mut self, now: Instant, reason: &str, socket: &mut Socket) {
        // Whoever is gone can't be told.
        let _ = self.rtc.close();
        let _ = self.rtc.handle_input(Input::Timeout(now));
        while let Ok(Output::Transmit(_) | Output::Event(_)) = self.rtc.poll_output().inspect(|output| {
            if let Output::Transmit(datagram) = output {
                socket.push(self.local, datagram.destination, &datagram.contents);
            }
        }) {}
        self.shared.gone(reason);
        self.streams.failed(reason);
    }

    /// After a turn: tells writers where there is room again.
    pub(super) fn settle(&mut self) {
        let Self { rtc, channels, loaded, .. } = self;
        loaded.retain(|id| {
            let Some(entry) = channels.get_mut(id) else { return false };
            let inside = rtc.channel(*id).map_or(0, |mut channel| channel.buffered_amount());
            entry.load.inside.store(inside, Ordering::Release);
            let high = entry.load.total() > LOW_WATER;
            if std::mem::replace(&mut entry.high, high)
                && !high
                && let Some(handle) = &entry.handle
            {
                handle.drained();
            }
            inside > 0
        });
    }

    fn drain(&mut self, now: Instant, socket: &mut Socket) -> Result<(), String> {
        for _ in 0..TURNS {
            loop {
                match self.rtc.poll_output().map_err(|error| error.to_string())? {
                    Output::Timeout(at) => {
                        self.turn = at;
                        break;
                    }
                    Output::Transmit(datagram) => socket.push(self.local, datagram.destination, &datagram.contents),
                    Output::Event(event) => self.happened(event)?,
                }
            }
            if !self.rtc.is_alive() {
                return Err("the connection broke".to_owned());
            }
            if self.turn > now {
                return Ok(());
            }
            self.rtc.handle_input(Input::Timeout(now)).map_err(|error| error.to_string())?;
        }
        // It has nothing to do and wants to do it at once; another moment will do.
        self.turn = now + Duration::from_millis(1);
        Ok(())
    }

    fn happened(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::IceConnectionStateChange(state) if state.is_connected() => self.is_reached = true,
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) if self.is_reached => {
                return Err("the peer doesn't answer any more".to_owned());
            }
            Event::Connected => {
                let theirs = self.rtc.direct_api().remote_dtls_fingerprint().map(|theirs| theirs.bytes.clone());
                let theirs = theirs.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                let theirs = theirs.ok_or_else(|| "the peer has shown no certificate".to_owned())?;
                // The description came from the peer itself, and DTLS has compared its hash.
                self.is_established |= self.negotiation.is_some();
                self.shared.connected(Fingerprint(theirs));
            }
            Event::ChannelOpen(id, label) => match self.channels.get(&id) {
                Some(entry) if entry.closed => self.rtc.direct_api().close_data_channel(id),
                Some(entry) => {
                    if let Some(handle) = entry.handle.clone() {
                        handle.opened();
                    }
                }
                None => self.opened_by_peer(id, &label),
            },
            Event::ChannelData(data) => {
                let handle = self.channels.get(&data.id).and_then(|entry| entry.handle.clone());
                if let Some(handle) = handle {
                    handle.received(data.data.into());
                }
            }
            Event::ChannelClose(id) => {
                if let Some(entry) = self.channels.remove(&id) {
                    self.numbers.remove(&entry.number);
                    if let Some(handle) = entry.handle {
                        handle.closed();
                    }
                }
            }
            Event::Closed => return Err("the peer has closed the connection".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn opened_by_peer(&mut self, id: ChannelId, label: &str) {
        if label == INIT_CHANNEL {
            // It only made the two sides connect; its opener closes it.
            return;
        }
        let channel = DataChannel::new(self.shared.clone());
        let (number, load) = (channel.number, channel.load.clone());
        self.insert(id, number, load, None);
        // Without a place for it the channel is dropped, which is the wish to close it.
        let handle = self.streams.incoming(channel, true);
        if let Some(entry) = self.channels.get_mut(&id) {
            entry.handle = handle;
        }
    }

    fn open(&mut self, number: u64, handle: Handle<DataChannel>, load: Arc<Load>, negotiated: Option<u16>) {
        let config = ChannelConfig { negotiated, ..ChannelConfig::default() };
        let id = self.rtc.direct_api().create_data_channel(config);
        self.insert(id, number, load, Some(handle));
    }

    fn insert(&mut self, id: ChannelId, number: u64, load: Arc<Load>, handle: Option<Handle<DataChannel>>) {
        self.numbers.insert(number, id);
        self.channels.insert(id, Entry { number, handle, closed: false, load, high: false });
    }

    fn send(&mut self, number: u64, message: &[u8]) {
        let Some((id, entry)) = self.numbers.get(&number).and_then(|id| Some((*id, self.channels.get_mut(id)?))) else {
            return;
        };
        let written =
            self.rtc.channel(id).is_some_and(|mut channel| channel.write(true, message).is_ok_and(|taken| taken));
        entry.load.inside.fetch_add(message.len(), Ordering::AcqRel);
        entry.load.waiting.fetch_sub(message.len(), Ordering::AcqRel);
        entry.high |= entry.load.total() > LOW_WATER;
        if !self.loaded.contains(&id) {
            self.loaded.push(id);
        }
        if !written && let Some(handle) = entry.handle.take() {
            // A stream with a hole in it is none.
            handle.closed();
        }
    }

    fn close(&mut self, number: u64) {
        let Some(id) = self.numbers.get(&number).copied() else { return };
        if let Some(entry) = self.channels.get_mut(&id) {
            entry.handle = None;
            entry.closed = true;
        }
        self.rtc.direct_api().close_data_channel(id);
    }
}

fn host(address: SocketAddr) -> Result<Candidate, String> {
    Candidate::host(address, "udp").map_err(|error| format!("{address} can't be used: {error}"))
}
