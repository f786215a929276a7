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
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_timeout: Duration::from_secs(10),
            read_timeout: None,
            gzip: true,
        }
    }
}

/// Makes rustls use aws-lc-rs in this process. Idempotent; the first line of `main` and of test binaries
/// that use TLS. [`client`] calls it too, because building a client without a provider panics.
pub fn install_crypto_provider() {
    // An error means that one is installed already, which is all we want.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A client that dials as `mode` says: follows no redirect (each hop would need [`crate::check_url`], and
/// credentials must not travel), and uses no proxy, not even one from the environment, because a proxy
/// would dial unchecked addresses for us. TLS trusts the system's roots.
///
/// # Errors
/// `reqwest::Error` when the system's roots cannot be loaded.
pub fn client(mode: &Mode, options: &Options) -> Result<reqwest::Client, reqwest::Error> {
    install_crypto_provider();
    let mut builder = reqwest::Client::builder()
        .dns_resolver(Arc::new(Resolver::new(mode.clone())))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .gzip(options.gzip)
        .connect_timeout(options.connect_timeout)
        .tcp_keepalive(Duration::from_secs(60))
        .pool_max_idle_per_host(16)
        .user_agent(concat!("longhand/", env!("CARGO_PKG_VERSION")));
    if let Some(limit) = options.read_timeout {
        builder = builder.read_timeout(limit);
    }
    builder.build()
}
