//! The server that is reached, directly or by what stands between: a thread a connection each. It ends with the
//! process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::inject;
use super::relays::{Relay, between};
use crate::Wrong;

/// Where the server is, and who stands between: documentation addresses on a loopback that leads nowhere.
pub(crate) const SERVER: &str = "198.51.100.10";
pub(super) const PAIR: &str = "198.51.100.11";
pub(super) const LOOP: &str = "198.51.100.14";
pub(super) const KERNEL: &str = "198.51.100.15";
pub(super) const HAPROXY: &str = "198.51.100.12";
pub(super) const MITMPROXY: &str = "198.51.100.13";
/// TLS; what greets first and then floods; what greets and then waits.
pub(super) const TLS: u16 = 443;
pub(super) const PLAIN: u16 = 7_000;
pub(super) const HOLD: u16 = 7_001;
/// Bytes of the long answer, and of the flood.
pub(super) const BIG: usize = 64 << 20;
const FLOOD: usize = 512 << 20;

/// Starts it; `root` is where the certificate is written that it is held against.
pub(super) fn start(root: &Path) -> Result<(), Wrong> {
    let config = config(root)?;
    each(SERVER, TLS, move |stream| {
        // Whoever has gone has seen what it wanted.
        let _gone = https(&config, stream);
    })?;
    each(SERVER, PLAIN, |stream| {
        let _gone = flood(stream);
    })?;
    for (address, how) in [
        (PAIR, Relay::Threads),
        (LOOP, Relay::Loop),
        (KERNEL, Relay::Kernel),
    ] {
        for port in [TLS, PLAIN] {
            each(address, port, move |client| {
                let _gone = between(client, port, how);
            })?;
        }
    }
    Ok(())
}

fn each(
    ip: &str,
    port: u16,
    with: impl Fn(TcpStream) + Clone + Send + 'static,
) -> Result<(), Wrong> {
    let listener = TcpListener::bind((ip, port))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let with = with.clone();
            std::thread::spawn(move || with(stream));
        }
    });
    Ok(())
}

fn config(root: &Path) -> Result<Arc<ServerConfig>, Wrong> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "bench");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    std::fs::write(root, issuer.pem())?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([SERVER.to_owned()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(Arc::new(config))
}

/// Answers one request after the other.
fn https(config: &Arc<ServerConfig>, stream: TcpStream) -> Result<(), Wrong> {
    stream.set_nodelay(true)?;
    let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(config))?, stream);
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        while let Some(end) = memchr::memmem::find(&seen, b"\r\n\r\n") {
            let is_big = seen.starts_with(b"GET /big ");
            let head: Vec<u8> = seen.drain(..end + 4).collect();
            if head.starts_with(b"POST ") && !posted(&head, &mut seen, &mut tls)? {
                return Ok(());
            }
            let length = if is_big { BIG } else { 6 };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            if is_big {
                tls.write_all(head.as_bytes())?;
                zeros(&mut tls, BIG)?;
            } else {
                tls.write_all(format!("{head}hello\n").as_bytes())?;
            }
            tls.flush()?;
        }
        match tls.read(&mut buffer)? {
            0 => return Ok(()),
            length => seen.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// Reads a body to its end. Of one at `/told` it is looked whether the secret of a benchmark is where it is to be; false
/// if it is not.
fn posted(head: &[u8], seen: &mut Vec<u8>, from: &mut impl Read) -> Result<bool, Wrong> {
    let text = String::from_utf8_lossy(head).to_lowercase();
    let length = text.split_once("content-length: ");
    let length = length.and_then(|(_, rest)| rest.split("\r\n").next()?.parse::<usize>().ok());
    let keeps = text.starts_with("post /told/");
    let (mut body, mut had, mut buffer) = (Vec::new(), 0, vec![0; 256 << 10]);
    let mut tail = std::mem::take(seen);
    let mut piece = tail.clone();
    loop {
        had += piece.len();
        if keeps {
            body.extend_from_slice(&piece);
        }
        // One without a length is chunked: it ends so, and nothing in it does.
        let is_over = match length {
            Some(length) => had >= length,
            None => tail.ends_with(b"0\r\n\r\n"),
        };
        if is_over {
            break;
        }
        let read = match from.read(&mut buffer)? {
            0 => return Ok(false),
            read => buffer.get(..read).unwrap_or_default(),
        };
        piece.clear();
        piece.extend_from_slice(read);
        tail.extend_from_slice(read.get(read.len().saturating_sub(8)..).unwrap_or_default());
        tail.drain(..tail.len().saturating_sub(8));
    }
    let has = |bytes: &[u8]| memchr::memmem::find(bytes, inject::SECRET.as_bytes()).is_some();
    let found = match (has(head), has(&body)) {
        (false, false) => "none",
        (true, false) => "header",
        (true, true) => "both",
        (false, true) => "body",
    };
    Ok(!keeps || text.starts_with(&format!("post /told/{found} ")))
}

/// Greets; what answers is flooded.
fn flood(mut stream: TcpStream) -> Result<(), Wrong> {
    stream.set_nodelay(true)?;
    stream.write_all(b"!")?;
    if stream.read(&mut [0])? == 0 {
        return Ok(());
    }
    zeros(&mut stream, FLOOD)
}

fn zeros(to: &mut impl Write, mut bytes: usize) -> Result<(), Wrong> {
    let piece = vec![0; 256 << 10];
    while bytes > 0 {
        let length = bytes.min(piece.len());
        to.write_all(piece.get(..length).unwrap_or_default())?;
        bytes -= length;
    }
    Ok(())
}
