//! Bytes on their way, as they are. It judges nothing: whoever calls it has.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::limits;

/// Bytes that were passed on.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) out: AtomicU64,
    pub(super) back: AtomicU64,
}

/// Passes on what each side says until both have ended, or one has failed.
pub(super) async fn both_ways(
    client: &mut TcpStream,
    server: &mut TcpStream,
    counts: &Counts,
) -> std::io::Result<()> {
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    between(client_read, client_write, server_read, server_write, counts).await
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
