//! How a session becomes what two session descriptions say (RFC 8829), one from each side.

use std::{io, net::SocketAddr, sync::Arc};

use str0m::{
    Candidate, RtcConfig,
    change::{SdpAnswer, SdpOffer, SdpPendingOffer},
    channel::ChannelId,
};
use web_time::Instant;

use super::{Certificate, DataChannel, INIT_CHANNEL, Session, Shared, Streams, crypto, host};

/// What is kept from one step of the signalling to the next.
#[derive(Default)]
pub(super) struct Negotiation {
    offer: Option<SdpPendingOffer>,
    init: Option<ChannelId>,
}

impl Session {
    /// A connection that is yet to be described by both sides. `here`: the addresses of this side.
    ///
    /// # Errors
    /// When str0m can use none of the addresses.
    pub(in super::super) fn negotiated(
        certificate: &Certificate,
        here: Vec<SocketAddr>,
        shared: Arc<Shared>,
        streams: Streams<DataChannel>,
        now: Instant,
    ) -> Result<Self, String> {
        let config = RtcConfig::new()
            .clear_codecs()
            .set_crypto_provider(crypto().clone())
            .set_dtls_cert(certificate.dtls())
            .set_sctp_max_buffered_amount(usize::MAX);
        let mut rtc = config.build(now);
        let here = here
            .into_iter()
            .filter(|address| host(*address).is_ok_and(|candidate| rtc.add_local_candidate(candidate).is_some()))
            .collect::<Vec<_>>();
        if here.is_empty() {
            return Err("this machine has no address that others could reach".to_owned());
        }
        Ok(Self::new(rtc, here, Some(Negotiation::default()), shared, streams, now))
    }

    pub(super) fn offer(&mut self) -> io::Result<String> {
        let negotiation = self.negotiation.as_mut().ok_or(io::ErrorKind::Unsupported)?;
        let mut api = self.rtc.sdp_api();
        let init = api.add_channel(INIT_CHANNEL.to_owned());
        let (offer, pending) = api.apply().ok_or_else(|| io::Error::other("there is nothing to offer"))?;
        *negotiation = Negotiation { offer: Some(pending), init: Some(init) };
        let number = self.shared.next_channel();
        self.insert(init, number, Arc::default(), None);
        Ok(offer.to_sdp_string())
    }

    pub(super) fn answer(&mut self, offer: &str) -> io::Result<String> {
        let offer = SdpOffer::from_sdp_string(&understood(offer)).map_err(|error| nonsense(&error))?;
        let answer = self.rtc.sdp_api().accept_offer(offer).map_err(|error| nonsense(&error))?;
        Ok(answer.to_sdp_string())
    }

    pub(super) fn accept(&mut self, answer: &str) -> io::Result<()> {
        let pending = self.negotiation.as_mut().and_then(|negotiation| negotiation.offer.take());
        let pending = pending.ok_or_else(|| io::Error::other("there was no offer"))?;
        let answer = SdpAnswer::from_sdp_string(&understood(answer)).map_err(|error| nonsense(&error))?;
        self.rtc.sdp_api().accept_answer(pending, answer).map_err(|error| nonsense(&error))
    }

    /// Closes the channel that made the two sides connect.
    pub(super) fn close_init(&mut self) {
        if let Some(id) = self.negotiation.as_mut().and_then(|negotiation| negotiation.init.take()) {
            self.rtc.direct_api().close_data_channel(id);
        }
    }
}

/// A session description without the candidates that are none to us, such as a page's `.local` names: one of them would
/// spoil all.
fn understood(description: &str) -> String {
    let known = |line: &&str| {
        line.strip_prefix("a=candidate:")
            .is_none_or(|rest| Candidate::from_sdp_string(&format!("candidate:{rest}")).is_ok())
    };
    description.lines().filter(known).map(|line| format!("{line}\r\n")).collect()
}

fn nonsense(error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the peer's session description: {error}"))
}
