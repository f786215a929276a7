//! What the certificates of servers are held against: roots, and lists of what was revoked. It must never accept
//! a certificate that could not be held against them.

use std::io;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::limits;

/// What servers are trusted by. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

/// It is not to be used as given; the text says what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// No PEM.
    #[error("{what} is no PEM with {of}")]
    Pem {
        /// Which input.
        what: &'static str,
        /// What it should have.
        of: &'static str,
    },
    /// A certificate that is no root.
    #[error("a certificate among the roots cannot be used")]
    Root(#[source] rustls::Error),
    /// A list that cannot be read.
    #[error("a list of revoked certificates cannot be used")]
    Revoked(#[from] rustls::client::VerifierBuilderError),
    /// Of rustls.
    #[error("TLS towards servers")]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// The system's roots, or those compiled in where it has none, and `extra` ones as PEM; and what `revoked`
    /// lists (CRLs as PEM). What no list speaks of is taken for not revoked.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn system(extra: Option<&[u8]>, revoked: Option<&[u8]>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        // A file of the system that cannot be read is as one that is not there.
        let found = rustls_native_certs::load_native_certs().certs;
        let (added, _) = roots.add_parsable_certificates(found);
        if added == 0 {
            let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned();
            roots.add_parsable_certificates(bundled);
        }
        Self::of(roots, extra, revoked)
    }

    /// Those roots as PEM, and no others.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn only(roots: &[u8], revoked: Option<&[u8]>) -> Result<Self, TrustError> {
        Self::of(RootCertStore::empty(), Some(roots), revoked)
    }

    fn of(
        mut roots: RootCertStore,
        extra: Option<&[u8]>,
        revoked: Option<&[u8]>,
    ) -> Result<Self, TrustError> {
        for root in CertificateDer::pem_slice_iter(extra.unwrap_or_default()) {
            let root = root.map_err(|_| TrustError::Pem {
                what: "the file of roots",
                of: "certificates",
            })?;
            roots.add(root).map_err(TrustError::Root)?;
        }
        let mut lists = Vec::new();
        for list in CertificateRevocationListDer::pem_slice_iter(revoked.unwrap_or_default()) {
            lists.push(list.map_err(|_| TrustError::Pem {
                what: "the file of revoked certificates",
                of: "lists (X509 CRL)",
            })?);
        }
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .with_crls(lists)
                .allow_unknown_revocation_status()
                .build()?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// For one sandbox, whose sessions are nobody else's: HTTP/2 or HTTP/1.1, as the server likes.
    pub(crate) fn both(&self) -> Arc<ClientConfig> {
        self.with(&[b"h2", b"http/1.1"])
    }

    /// For one sandbox: HTTP/1.1 only.
    pub(crate) fn only_one(&self) -> Arc<ClientConfig> {
        self.with(&[b"http/1.1"])
    }

    fn with(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(limits::TLS_SESSIONS);
        Arc::new(config)
    }
}

/// Why a handshake with a server failed, in one line.
pub(crate) fn problem(error: &io::Error) -> String {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(tls) = tls else {
        return format!("the handshake of TLS failed: {error}");
    };
    let rustls::Error::InvalidCertificate(why) = tls else {
        return format!("the handshake of TLS failed: {tls}");
    };
    let why = match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet"
        }
        CertificateError::Revoked => "it was revoked",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name"
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "nobody who is trusted has signed it"
        }
        other => return format!("its certificate is not accepted: {other}"),
    };
    format!("its certificate is not accepted: {why}")
}
