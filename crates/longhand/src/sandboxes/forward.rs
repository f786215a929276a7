//! A port here for a port in a sandbox. It listens on the loopback only.

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::path;
use crate::client::Client;

/// Pieces of one connection on their way in.
const QUEUED: usize = 8;
/// Bytes of one.
const PIECE: usize = 32 * 1024;
/// Connections at once; one more waits.
const AT_ONCE: usize = 64;
const BYTES: &str = "application/octet-stream";

/// `longhand sandbox forward`: until this process is ended.
pub(super) async fn run(client: &Client, id: &str, ports: &str) -> anyhow::Result<()> {
    let (here, inside) = parsed(ports)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, here)).await;
    let listener = listener.with_context(|| format!("cannot listen on 127.0.0.1:{here}"))?;
    println!(
        "{}",
        serde_json::json!({"listening": listener.local_addr()?.to_string(), "port": inside})
    );
    let path = path(id, &format!("/forward?port={inside}"))?;
    let serve = async |connection: TcpStream| {
        if let Err(error) = carry(client, &path, connection).await {
            eprintln!("{error:#}");
        }
    };
    let mut open = futures_util::stream::FuturesUnordered::new();
    loop {
        use futures_util::StreamExt as _;
        tokio::select! {
            accepted = listener.accept(), if open.len() < AT_ONCE => open.push(serve(accepted?.0)),
            Some(()) = open.next() => {}
        }
    }
}

fn parsed(ports: &str) -> anyhow::Result<(u16, u16)> {
    let (here, inside) = ports.split_once(':').unwrap_or((ports, ports));
    match (here.parse(), inside.parse()) {
        (Ok(here), Ok(inside)) if inside != 0 => Ok((here, inside)),
        _ => bail!(
            "{ports:?} is neither a port nor HERE:INSIDE; as 8080, or 0:8080 for any free one here"
        ),
    }
}

async fn carry(client: &Client, path: &str, connection: TcpStream) -> anyhow::Result<()> {
    let (mut reading, mut writing) = connection.into_split();
    let (pieces, queue) = mpsc::channel(QUEUED);
    let mut exchange = client.exchange(path, BYTES, queue).await?;
    let inward = async move {
        let mut piece = vec![0; PIECE];
        while let Ok(n @ 1..) = reading.read(&mut piece).await {
            if pieces
                .send(Bytes::copy_from_slice(&piece[..n]))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let outward = async {
        while let Some(piece) = exchange.next().await? {
            writing.write_all(&piece).await?;
        }
        writing.shutdown().await?;
        anyhow::Ok(())
    };
    let inward = async {
        inward.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    // When the sandbox's side is over, so is the connection.
    tokio::select! {
        never = inward => match never {},
        done = outward => done,
    }
}
