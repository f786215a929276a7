//! What a client sees of a server: in a process of its own, so that the same program measures inside a sandbox and
//! outside. It prints one line of JSON and judges nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::server::{BIG, SERVER};
use crate::Wrong;
use crate::numbers::{percentile, rounded};

/// Small requests on one connection, and new connections, of one run: as many as there is time for.
const WARM: usize = 1_000;
const FRESH: usize = 60;
/// After which no other one is begun. A median of few says enough of what is so slow.
const ENOUGH: Duration = Duration::from_secs(1);
/// The most that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Measures the server at `tls`, whose certificate is held against `root`, and the one at `plain` unless it is `-`.
pub(crate) fn run(tls: &str, plain: &str, root: &Path) -> Result<Value, Wrong> {
    let (to, config) = (tls.parse()?, config(root)?);
    let mut figures = inside_tls(&config, to)?;
    if plain != "-" {
        let to = plain.parse()?;
        let first = timed(FRESH, || greeted(to).map(drop))?;
        figures["first_byte_us"] = micros(&first);
        figures["plain_mb_per_s"] = json!(flood(to)?);
    }
    Ok(figures)
}

/// Takes the long answer so many times on one connection, and nothing else.
pub(crate) fn bulk(tls: &str, root: &Path, times: &str) -> Result<Value, Wrong> {
    let (to, times) = (tls.parse()?, times.parse::<usize>()?);
    let mut kept = connect(&config(root)?, to)?;
    let (begun, mut bytes) = (Instant::now(), 0);
    for _ in 0..times {
        bytes += get(&mut kept, "/big")?;
    }
    Ok(json!({"bytes": bytes, "mb_per_s": megabytes(bytes, begun)}))
}

fn inside_tls(config: &Arc<ClientConfig>, to: SocketAddr) -> Result<Value, Wrong> {
    let mut kept = connect(config, to)?;
    get(&mut kept, "/x")?;
    let warm = timed(WARM, || get(&mut kept, "/x"))?;
    let fresh = timed(FRESH, || get(&mut connect(config, to)?, "/x"))?;
    let begun = Instant::now();
    let bytes = get(&mut kept, "/big")?;
    let speed = megabytes(bytes, begun);
    Ok(json!({"warm_us": micros(&warm), "fresh_us": micros(&fresh), "tls_mb_per_s": speed}))
}

/// A connection on which the server has said its first byte.
fn greeted(to: SocketAddr) -> Result<TcpStream, Wrong> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

/// Megabytes a second of what is neither TLS nor HTTP.
fn flood(to: SocketAddr) -> Result<f64, Wrong> {
    let mut stream = greeted(to)?;
    stream.write_all(b"\x01")?;
    let (begun, mut buffer, mut bytes) = (Instant::now(), vec![0; 256 << 10], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(megabytes(bytes, begun)),
            length => bytes += length,
        }
    }
}

pub(super) fn megabytes(bytes: usize, begun: Instant) -> f64 {
    rounded(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

pub(super) fn micros(times: &[Duration]) -> Value {
    json!(rounded(percentile(times, 50).as_secs_f64() * 1e6))
}

pub(super) fn config(root: &Path) -> Result<Arc<ClientConfig>, Wrong> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(root)? {
        roots.add(root?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A new connection is a whole handshake.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

pub(super) fn connect(config: &Arc<ClientConfig>, to: SocketAddr) -> Result<Tls, Wrong> {
    // Whoever stands between shows a certificate for the server.
    let name = ServerName::try_from(SERVER)?;
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let session = ClientConnection::new(Arc::clone(config), name)?;
    Ok(StreamOwned::new(session, stream))
}

/// Bytes of the answer's body, which has a length.
fn get(tls: &mut Tls, path: &str) -> Result<usize, Wrong> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {SERVER}\r\n\r\n");
    tls.write_all(request.as_bytes())?;
    let length = answered(tls)?;
    if path == "/big" && length != BIG {
        return Err("it is not the whole answer".into());
    }
    Ok(length)
}

/// Bytes of the body of the next answer, which has a length.
pub(super) fn answered(tls: &mut Tls) -> Result<usize, Wrong> {
    let (mut seen, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    let head = loop {
        match tls.read(&mut buffer)? {
            0 => return Err("the connection ended".into()),
            length => seen.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
        if let Some(end) = memchr::memmem::find(&seen, b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(seen.get(..head).unwrap_or_default()).to_lowercase();
    let length = text
        .strip_prefix("http/1.1 200")
        .and_then(|rest| rest.split_once("content-length: "))
        .and_then(|(_, rest)| rest.split("\r\n").next()?.parse::<usize>().ok())
        .ok_or_else(|| format!("not the answer that was asked for: {text}"))?;
    let mut had = seen.len() - head;
    while had < length {
        match tls.read(&mut buffer)? {
            0 => return Err("the answer ended early".into()),
            more => had += more,
        }
    }
    Ok(length)
}

/// How long each of so many took.
pub(super) fn timed<T>(
    times: usize,
    mut what: impl FnMut() -> Result<T, Wrong>,
) -> Result<Vec<Duration>, Wrong> {
    let (whole, mut took) = (Instant::now(), Vec::with_capacity(times));
    while took.len() < times && (took.is_empty() || whole.elapsed() < ENOUGH) {
        let begun = Instant::now();
        what()?;
        took.push(begun.elapsed());
    }
    Ok(took)
}
