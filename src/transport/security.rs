//! Noise and TLS 1.3 side by side on one transport: both are offered, the first that both sides speak is taken.

use std::io;

use either::Either;
use futures::{AsyncRead, AsyncWrite, FutureExt as _, future, future::BoxFuture};
use libp2p::{
    PeerId,
    core::{
        UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    noise, tls,
};

/// Noise, or else TLS.
#[derive(Clone)]
pub(super) struct NoiseOrTls {
    pub(super) noise: noise::Config,
    pub(super) tls: tls::Config,
}

type NoiseName = <noise::Config as UpgradeInfo>::Info;
type TlsName = <tls::Config as UpgradeInfo>::Info;
type Secured<C> = (PeerId, future::Either<noise::Output<C>, tls::TlsStream<C>>);

impl UpgradeInfo for NoiseOrTls {
    type Info = Either<NoiseName, TlsName>;
    type InfoIter = Vec<Self::Info>;

    fn protocol_info(&self) -> Vec<Self::Info> {
        let noise = self.noise.protocol_info().map(Either::Left);
        noise.chain(self.tls.protocol_info().map(Either::Right)).collect()
    }
}

impl<C> InboundConnectionUpgrade<C> for NoiseOrTls
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured<C>>>;

    fn upgrade_inbound(self, socket: C, name: Self::Info) -> Self::Future {
        async move {
            match name {
                Either::Left(name) => noised(self.noise.upgrade_inbound(socket, name).await),
                Either::Right(name) => tlsed(self.tls.upgrade_inbound(socket, name).await),
            }
        }
        .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for NoiseOrTls
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Secured<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Secured<C>>>;

    fn upgrade_outbound(self, socket: C, name: Self::Info) -> Self::Future {
        async move {
            match name {
                Either::Left(name) => noised(self.noise.upgrade_outbound(socket, name).await),
                Either::Right(name) => tlsed(self.tls.upgrade_outbound(socket, name).await),
            }
        }
        .boxed()
    }
}

fn noised<C>(result: Result<(PeerId, noise::Output<C>), noise::Error>) -> io::Result<Secured<C>> {
    result.map(|(peer, stream)| (peer, future::Either::Left(stream))).map_err(io::Error::other)
}

fn tlsed<C>(result: Result<(PeerId, tls::TlsStream<C>), tls::UpgradeError>) -> io::Result<Secured<C>> {
    result.map(|(peer, stream)| (peer, future::Either::Right(stream))).map_err(io::Error::other)
}
