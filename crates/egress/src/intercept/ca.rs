//! The certificate authority of one sandbox, and the certificates that it has signed so far. Its key must never
//! leave memory, nor sign for anything but a name that a client of this sandbox dialled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use contract::time::Micros;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_ecdsa_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

use crate::limits;
use crate::name::Target;

/// What is taken off the time, for programs whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(86_400);
/// For how long the authority is valid: longer than any sandbox lives.
const VALID: Duration = Duration::from_secs(3_650 * 86_400);
/// For how long what it signs is valid; after half of that it is signed anew.
const SIGNED: Duration = Duration::from_secs(60 * 86_400);
/// The name of every authority: one sandbox has one, and never sees another's. Where programs look for it in a
/// directory, its place is made of its name (`sandbox`, `local::trust`).
const COMMON_NAME: &str = "Longhand egress authority";

/// The authority of one sandbox.
pub struct Ca {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    /// One key for all that it signs: making one costs more than signing.
    leaf: KeyPair,
    signer: Arc<dyn SigningKey>,
    signed: Mutex<Signed>,
}

#[derive(Default)]
struct Signed {
    by_name: HashMap<Target, Leaf>,
    uses: u64,
}

struct Leaf {
    config: Arc<ServerConfig>,
    at: Micros,
    used: u64,
}

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// By rcgen.
    #[error("a certificate cannot be made")]
    Made(#[from] rcgen::Error),
    /// By rustls.
    #[error("a certificate cannot be used")]
    Used(#[from] rustls::Error),
    /// What was saved is no authority.
    #[error("no authority was saved here")]
    Saved,
    /// The random source.
    #[error("there is no randomness")]
    Random,
}

impl Ca {
    /// A new one.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn new(now: Micros) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = params(now)?;
        let certificate = params.self_signed(&key)?;
        Self::of(params, key, certificate.der().clone())
    }

    /// The one that [`Self::saved`] was made of.
    ///
    /// # Errors
    /// [`CaError::Saved`] for what is none.
    pub fn restored(saved: &[u8], now: Micros) -> Result<Self, CaError> {
        let (length, rest) = saved.split_first_chunk::<4>().ok_or(CaError::Saved)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (key, certificate) = rest.split_at_checked(length).ok_or(CaError::Saved)?;
        let key = PrivatePkcs8KeyDer::from(key.to_vec());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| CaError::Saved)?;
        // An issuer is its name and its key; the rest stands in the certificate, which is kept.
        Self::of(params(now)?, key, certificate.to_vec().into())
    }

    /// Its key and its certificate, for memory that outlives this process.
    #[must_use]
    pub fn saved(&self) -> Vec<u8> {
        let key = self.issuer.key().serialized_der();
        let length = u32::try_from(key.len()).expect("a key of P-256 is short");
        [&length.to_be_bytes(), key, self.certificate.as_ref()].concat()
    }

    /// Its certificate, as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// How to be that server, with a certificate for it: HTTP/2 or HTTP/1.1, TLS 1.2 or 1.3.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn server(&self, target: &Target, now: Micros) -> Result<Arc<ServerConfig>, CaError> {
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        signed.uses += 1;
        let uses = signed.uses;
        if let Some(leaf) = signed.by_name.get_mut(target)
            && now.0.abs_diff(leaf.at.0) < micros(SIGNED / 2)
        {
            leaf.used = uses;
            return Ok(Arc::clone(&leaf.config));
        }
        // Some 50 µs, and once a name: not worth a second thread's waiting outside the lock.
        let config = self.sign(target, now)?;
        if signed.by_name.len() >= limits::LEAVES
            && let Some(oldest) = oldest(&signed.by_name)
        {
            signed.by_name.remove(&oldest);
        }
        let leaf = Leaf {
            config: Arc::clone(&config),
            at: now,
            used: uses,
        };
        signed.by_name.insert(target.clone(), leaf);
        Ok(config)
    }

    fn of(
        params: CertificateParams,
        key: KeyPair,
        certificate: CertificateDer<'static>,
    ) -> Result<Self, CaError> {
        let leaf = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = PrivateKeyDer::Pkcs8(leaf.serialize_der().into());
        Ok(Self {
            pem: pem(&certificate),
            certificate,
            issuer: Issuer::new(params, key),
            leaf,
            signer: any_ecdsa_type(&der)?,
            signed: Mutex::default(),
        })
    }

    fn sign(&self, target: &Target, now: Micros) -> Result<Arc<ServerConfig>, CaError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match target {
            Target::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Target::Address(ip) => SanType::IpAddress(*ip),
        }];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "Longhand egress");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, SIGNED)?;
        let certificate = params.signed_by(&self.leaf, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = CertifiedKey::new(chain, Arc::clone(&self.signer));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(limits::TLS_SESSIONS);
        Ok(Arc::new(config))
    }
}

fn oldest(leaves: &HashMap<Target, Leaf>) -> Option<Target> {
    let oldest = leaves.iter().min_by_key(|(_, leaf)| leaf.used);
    oldest.map(|(target, _)| target.clone())
}

fn params(now: Micros) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, COMMON_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, VALID)?;
    Ok(params)
}

/// From yesterday on, under a number of its own.
fn valid(params: &mut CertificateParams, now: Micros, time: Duration) -> Result<(), CaError> {
    let since = Duration::from_micros(u64::try_from(now.0).unwrap_or(0));
    let since = since.saturating_sub(BACKDATED);
    params.not_before = date_time_ymd(1970, 1, 1) + since;
    params.not_after = date_time_ymd(1970, 1, 1) + since + BACKDATED + time;
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(|_| CaError::Random)?;
    // Positive, as it must be.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// RFC 7468.
fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
