//! The DTLS certificate whose hash is part of a node's WebRTC-direct addresses. It is kept, so that they survive a restart.

use std::sync::{Arc, OnceLock};

use pem::Pem;
use rustls::{crypto::ring::sign::any_ecdsa_type, pki_types::PrivateKeyDer};
use str0m::{
    config::{CryptoProvider, DtlsCert},
    crypto::from_feature_flags,
};

use crate::transport::webrtc::direct::Fingerprint;

/// What earlier versions of this crate called the key's block; libp2p-webrtc did so.
const PRIVATE_KEY_BEFORE: &str = "PRIVATE_KEY";
const PRIVATE_KEY: &str = "PRIVATE KEY";
const CERTIFICATE: &str = "CERTIFICATE";

/// A self-signed certificate with its key.
#[derive(Clone)]
pub(crate) struct Certificate {
    dtls: DtlsCert,
    fingerprint: Fingerprint,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("it can't be generated; the system may have no randomness")]
    NotGenerated,
    #[error("its kept certificate is no PEM ({0}); restore or delete it, deleting changes the node's addresses")]
    NoPem(String),
    #[error("its kept certificate has no {0}; restore or delete it, deleting changes the node's addresses")]
    Incomplete(&'static str),
    #[error("its kept certificate can't be used ({0}); restore or delete it, deleting changes the node's addresses")]
    Unusable(String),
}

impl Certificate {
    /// A new one, valid for everybody who knows its hash. (Nobody looks at the dates in it.)
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn generate() -> Result<Self, CertificateError> {
        let dtls = crypto().dtls_provider.generate_certificate().ok_or(CertificateError::NotGenerated)?;
        Self::checked(dtls)
    }

    /// Reads what [`to_pem`](Self::to_pem) wrote, or what libp2p-webrtc did: a block `EXPIRES` that says nothing of use,
    /// the PKCS#8 key under `PRIVATE_KEY`, and the certificate.
    ///
    /// # Errors
    /// When it is neither, or the key is none of the kind that WebRTC uses (ECDSA).
    pub(crate) fn from_pem(kept: &[u8]) -> Result<Self, CertificateError> {
        let blocks = pem::parse_many(kept).map_err(|error| CertificateError::NoPem(error.to_string()))?;
        if blocks.is_empty() {
            return Err(CertificateError::NoPem("there is no block in it".to_owned()));
        }
        let block = |tags: &[&str]| {
            let block = blocks.iter().find(|block| tags.contains(&block.tag()));
            block.map(|block| block.contents().to_vec())
        };
        let private_key = block(&[PRIVATE_KEY, PRIVATE_KEY_BEFORE]).ok_or(CertificateError::Incomplete("key"))?;
        let certificate = block(&[CERTIFICATE]).ok_or(CertificateError::Incomplete("certificate"))?;
        Self::checked(DtlsCert { certificate, private_key })
    }

    /// As it is kept: key and certificate.
    pub(crate) fn to_pem(&self) -> Vec<u8> {
        let key = Pem::new(PRIVATE_KEY, self.dtls.private_key.clone());
        let certificate = Pem::new(CERTIFICATE, self.dtls.certificate.clone());
        pem::encode_many(&[key, certificate]).into_bytes()
    }

    /// Reads the key once, since str0m takes it for granted that it can be read.
    fn checked(dtls: DtlsCert) -> Result<Self, CertificateError> {
        let key = PrivateKeyDer::try_from(dtls.private_key.as_slice())
            .map_err(|reason| CertificateError::Unusable(reason.to_owned()))?;
        any_ecdsa_type(&key).map_err(|error| CertificateError::Unusable(error.to_string()))?;
        let fingerprint = Fingerprint(crypto().sha256_provider.sha256(&dtls.certificate));
        Ok(Self { dtls, fingerprint })
    }

    /// What stands in addresses.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn dtls(&self) -> DtlsCert {
        self.dtls.clone()
    }
}

/// str0m's own, which has nothing to do with the provider of rustls.
pub(super) fn crypto() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(from_feature_flags()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::webrtc::direct::DirectAddress;

    #[test]
    fn what_was_kept_is_used_again() {
        let first = Certificate::generate().expect("made");
        let again = Certificate::from_pem(&first.to_pem()).expect("read");
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_ne!(first.fingerprint(), Certificate::generate().expect("made").fingerprint());
    }

    /// Written by libp2p-webrtc 0.10.0-alpha; the hash is the one that the node announced.
    #[test]
    fn what_earlier_versions_kept_is_still_the_same_address() {
        let kept = include_bytes!("certificate_before.pem");
        let hash = "uEiB27445nmdXlES33ruGwnDiJS0COmYVF2vuWIhwt1cVDQ";
        let announced = format!("/ip4/192.0.2.1/udp/1/webrtc-direct/certhash/{hash}");
        let announced = DirectAddress::parse(&announced.parse().expect("a multiaddr")).expect("ours");
        let certificate = Certificate::from_pem(kept).expect("read");
        assert_eq!(certificate.fingerprint(), announced.fingerprint);
        let again = Certificate::from_pem(&certificate.to_pem()).expect("read");
        assert_eq!(again.fingerprint(), announced.fingerprint);
    }

    #[test]
    fn what_is_no_certificate_is_refused_with_the_reason() {
        let good = String::from_utf8(Certificate::generate().expect("made").to_pem()).expect("text");
        let (key, certificate) = good.split_at(good.find("-----BEGIN CERTIFICATE").expect("the second block"));
        let broken_key = Pem::new(PRIVATE_KEY, vec![7; 100]).to_string() + certificate;
        for (kept, expected) in [
            ("garbage", "no PEM"),
            ("", "no PEM"),
            (key, "has no certificate"),
            (certificate, "has no key"),
            (&broken_key, "can't be used"),
        ] {
            let error = Certificate::from_pem(kept.as_bytes()).err().expect("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
