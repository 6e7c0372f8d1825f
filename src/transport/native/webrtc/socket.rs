//! A UDP socket that takes and gives datagrams in batches, where the system can: one call for many of them.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::{io::Interest, net::UdpSocket};

/// What may wait for the socket, bytes. Above it datagrams are dropped, as any router would.
const MAX_WAITING: usize = 2 * 1024 * 1024;

/// The system's own queues, bytes: what comes while another task runs has to fit.
const SYSTEM_BUFFER: usize = 4 * 1024 * 1024;

/// What one call sends at most, bytes.
const MAX_BATCH: usize = 60_000;

/// Room for what one call receives: so many buffers, each for many datagrams of one sender.
const BUFFERS: usize = 8;
const BUFFER: usize = 64 * 1024;

/// Datagrams of one size to one address.
struct Batch {
    to: SocketAddr,
    from: Option<IpAddr>,
    bytes: Vec<u8>,
    segment: usize,
    /// A shorter datagram ends a batch.
    ended: bool,
}

/// One port.
pub(super) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
    /// IPv4 goes over this socket too, though it is one for IPv6.
    both: bool,
    waiting: VecDeque<Batch>,
    waiting_bytes: usize,
}

impl Socket {
    /// # Errors
    /// When the address can't be had.
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::bind_for(address, false)
    }

    /// Any free port, for both families where the machine has both.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn bind_anywhere() -> io::Result<Self> {
        let (ip6, ip4) = (IpAddr::from([0; 16]), IpAddr::from([0; 4]));
        Self::bind_for(SocketAddr::new(ip6, 0), true).or_else(|_| Self::bind_for(SocketAddr::new(ip4, 0), false))
    }

    fn bind_for(address: SocketAddr, both: bool) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            // Systems differ in what they do by themselves.
            socket.set_only_v6(!both)?;
        }
        socket.bind(&address.into())?;
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into())?;
        for (what, result) in [
            ("receive", state.set_recv_buffer_size((&socket).into(), SYSTEM_BUFFER)),
            ("send", state.set_send_buffer_size((&socket).into(), SYSTEM_BUFFER)),
        ] {
            if let Err(error) = result {
                tracing::debug!(%error, "the {what} buffer of a UDP socket stays as it is");
            }
        }
        let address = socket.local_addr()?;
        let io = UdpSocket::from_std(socket)?;
        Ok(Self { io, state, address, both, waiting: VecDeque::new(), waiting_bytes: 0 })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether datagrams can go to an address of this family.
    pub(super) fn carries(&self, ip: IpAddr) -> bool {
        self.both || ip.is_ipv4() == self.address.is_ipv4()
    }

    /// Leaves a datagram for [`poll_flush`](Self::poll_flush), under the address `from` of this machine where that is
    /// known.
    pub(super) fn push(&mut self, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        if self.waiting_bytes + datagram.len() > MAX_WAITING {
            tracing::debug!("a datagram was dropped: the socket takes no more");
            return;
        }
        self.waiting_bytes += datagram.len();
        // The system knows better which of its addresses reaches the other.
        let from = from.filter(|_| !self.both);
        let to = match to {
            SocketAddr::V4(to) if self.both => SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()),
            to => to,
        };
        let segments = self.state.max_gso_segments();
        if let Some(last) = self.waiting.back_mut()
            && (last.to, last.from, last.ended) == (to, from, false)
            && datagram.len() <= last.segment
            && last.bytes.len() + datagram.len() <= MAX_BATCH
            && last.bytes.len() / last.segment < segments
        {
            last.ended = datagram.len() < last.segment;
            last.bytes.extend_from_slice(datagram);
            return;
        }
        self.waiting.push_back(Batch { to, from, bytes: datagram.to_vec(), segment: datagram.len(), ended: false });
    }

    /// Sends what waits. Pending while the system takes no more.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(batch) = self.waiting.front() {
            let transmit = Transmit {
                destination: batch.to,
                ecn: None,
                contents: &batch.bytes,
                segment_size: (batch.bytes.len() > batch.segment).then_some(batch.segment),
                src_ip: batch.from,
            };
            let sent = self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.io.poll_send_ready(context) {
                    Poll::Ready(_) => continue,
                    Poll::Pending => return Poll::Pending,
                },
                // What could not be sent counts as lost; who waits for an answer will notice.
                Err(error) => tracing::debug!(%error, to = %batch.to, "datagrams could not be sent"),
                Ok(()) => {}
            }
            self.waiting_bytes -= batch.bytes.len();
            self.waiting.pop_front();
        }
        Poll::Ready(())
    }

    /// Receives a batch; so many of the inbox's buffers are filled.
    pub(super) fn poll_receive(&self, context: &mut Context<'_>, inbox: &mut Inbox) -> Poll<io::Result<usize>> {
        loop {
            match self.io.poll_recv_ready(context) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Poll::Pending,
            }
            let mut buffers = inbox.bytes.chunks_exact_mut(BUFFER).map(IoSliceMut::new);
            let mut buffers: [IoSliceMut<'_>; BUFFERS] =
                std::array::from_fn(|_| buffers.next().expect("the inbox has room for as many"));
            let received = self
                .io
                .try_io(Interest::READABLE, || self.state.recv((&self.io).into(), &mut buffers, &mut inbox.meta));
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

/// A datagram that came.
pub(super) struct Datagram<'a> {
    pub(super) source: SocketAddr,
    /// The address of this machine that it was sent to, where the system tells.
    pub(super) local: Option<IpAddr>,
    pub(super) bytes: &'a [u8],
}

/// Room for a batch. It is large, and empty between two turns, so all sockets of a thread share one.
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    meta: [RecvMeta; BUFFERS],
}

impl Inbox {
    /// Lends the thread's inbox.
    pub(super) fn lend<T>(work: impl FnOnce(&mut Inbox) -> T) -> T {
        thread_local! {
            static INBOX: RefCell<Inbox> = RefCell::new(Inbox::new());
        }
        INBOX.with_borrow_mut(work)
    }

    /// What is in the first buffers.
    pub(super) fn datagrams(&self, buffers: usize) -> impl Iterator<Item = Datagram<'_>> {
        self.bytes.chunks_exact(BUFFER).zip(&self.meta).take(buffers).flat_map(|(buffer, meta)| {
            // IPv4 senders look otherwise on a socket for both families.
            let source = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let local = meta.dst_ip.map(|ip| ip.to_canonical());
            buffer[..meta.len].chunks(meta.stride.max(1)).map(move |bytes| Datagram { source, local, bytes })
        })
    }

    fn new() -> Self {
        Self { bytes: vec![0; BUFFER * BUFFERS].into_boxed_slice(), meta: [RecvMeta::default(); BUFFERS] }
    }
}
