//! HTTP clients that dial through the guarded resolver. It owns their construction and must never send.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::Mode;
use crate::resolver::Resolver;

/// What differs between the clients of the house. One client per purpose, never one per request.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time for name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Longest silence while reading; `None` when the caller keeps time itself. There is no limit on the
    /// whole body here: it would cut streams.
    pub read_timeout: Option<Duration>,
    /// Whether to ask for gzip. Off for event streams: a compressor in between may hold events back.
    pub gzip: bool,
    /// Further roots that the operator trusts: PEM files, each with one certificate or more.
    pub extra_roots_pem: Vec<Vec<u8>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_timeout: Duration::from_secs(10),
            read_timeout: None,
            gzip: true,
            extra_roots_pem: Vec::new(),
        }
    }
}

/// Makes rustls use aws-lc-rs in this process. Idempotent; the first line of `main` and of test binaries
/// that use TLS. [`client`] calls it too, because building a client without a provider panics.
pub fn install_crypto_provider() {
    // An error means that one is installed already, which is all we want.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Which roots TLS trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    /// The system's, so that an enterprise's own are among them.
    System,
    /// Mozilla's, compiled in: the system has none, as in a bare container.
    Bundled,
}

/// A client that dials as `mode` says: follows no redirect (each hop would need [`crate::check_url`], and
/// credentials must not travel), and uses no proxy, not even one from the environment, because a proxy
/// would dial unchecked addresses for us. TLS trusts the system's roots, or those compiled in where the
/// system has none; [`client_and_roots`] tells which.
///
/// # Errors
/// `reqwest::Error` when an extra root in the options is no certificate.
pub fn client(mode: &Mode, options: &Options) -> Result<reqwest::Client, reqwest::Error> {
    client_and_roots(mode, options).map(|(client, _)| client)
}

/// As [`client`], with the roots that it trusts, for the log and for `doctor`.
///
/// # Errors
/// As [`client`].
pub fn client_and_roots(
    mode: &Mode,
    options: &Options,
) -> Result<(reqwest::Client, Roots), reqwest::Error> {
    install_crypto_provider();
    let mut extra = Vec::new();
    for pem in &options.extra_roots_pem {
        extra.extend(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    // With extra roots alone the system's absence would go unnoticed, so it is asked for without them.
    if let Ok(client) = builder(mode, options).build() {
        let client = if extra.is_empty() {
            client
        } else {
            builder(mode, options).tls_certs_merge(extra).build()?
        };
        return Ok((client, Roots::System));
    }
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        extra.push(reqwest::Certificate::from_der(root)?);
    }
    Ok((
        builder(mode, options).tls_certs_only(extra).build()?,
        Roots::Bundled,
    ))
}

fn builder(mode: &Mode, options: &Options) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .dns_resolver(Arc::new(Resolver::new(mode.clone())))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .gzip(options.gzip)
        .connect_timeout(options.connect_timeout)
        .tcp_keepalive(Duration::from_secs(60))
        .pool_max_idle_per_host(16)
        // Below what servers and middleboxes keep: a request on a dead connection fails.
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("longhand/", env!("CARGO_PKG_VERSION")));
    match options.read_timeout {
        Some(limit) => builder.read_timeout(limit),
        None => builder,
    }
}
