//! Bytes on their way, as they are. It judges nothing: whoever calls it has.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::relay::relay;
use super::speech::Speech;
use crate::limits;

/// Bytes that were passed on.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) out: AtomicU64,
    pub(super) back: AtomicU64,
}

/// Passes on what each side says until both have ended, or one has failed. Where `line` is what a client has said
/// of a line, the rest of that is looked at first.
///
/// # Errors
/// `InvalidData` when the line turns out to speak of HTTP: what makes it one was not passed on. What either socket
/// says.
pub(super) async fn both_ways(
    client: &mut TcpStream,
    server: &mut TcpStream,
    line: Option<Vec<u8>>,
    counts: &Counts,
) -> std::io::Result<()> {
    let (mut client_read, client_write) = client.split();
    let (server_read, mut server_write) = server.split();
    let out = async {
        if let Some(line) = line {
            rest_of_line(line, &mut client_read, &mut server_write, &counts.out).await?;
        }
        relay(client_read, server_write, &counts.out).await
    };
    let back = relay(server_read, client_write, &counts.back);
    tokio::try_join!(out, back)?;
    Ok(())
}

/// Passes on what comes of a line until it is clear that it is no request of HTTP, or the client says no more.
async fn rest_of_line(
    mut line: Vec<u8>,
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &AtomicU64,
) -> std::io::Result<()> {
    loop {
        let passed = line.len();
        if from.read_buf(&mut line).await? == 0 {
            return Ok(());
        }
        let is_clear = match Speech::of(&line) {
            // Nothing of the word that makes it a request has gone on.
            Speech::Http | Speech::More => return Err(std::io::ErrorKind::InvalidData.into()),
            Speech::Begun => false,
            Speech::Opaque | Speech::Tls(_) | Speech::BadTls(_) => true,
        };
        let new = line.get(passed..).unwrap_or_default();
        to.write_all(new).await?;
        count.fetch_add(new.len() as u64, Ordering::Relaxed);
        if is_clear {
            return Ok(());
        }
    }
}

/// The same of two connections whose directions stand apart.
pub(super) async fn between(
    client_read: impl AsyncRead + Unpin,
    client_write: impl AsyncWrite + Unpin,
    server_read: impl AsyncRead + Unpin,
    server_write: impl AsyncWrite + Unpin,
    counts: &Counts,
) -> std::io::Result<()> {
    let out = pass(client_read, server_write, &counts.out);
    let back = pass(server_read, client_write, &counts.back);
    tokio::try_join!(out, back)?;
    Ok(())
}

/// Passes on what comes until it ends, and then the end.
pub(super) async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; limits::COPY];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..length).unwrap_or_default())
            .await?;
        to.flush().await?;
        count.fetch_add(length as u64, Ordering::Relaxed);
    }
}
