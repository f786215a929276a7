//! `/v1/x/sandboxes/{id}/forward`: ports of a sandbox. Whoever hangs up ends the connection.

use std::sync::Arc;

use axum::response::Response;
use contract::query::SandboxPort;
use futures_util::{FutureExt as _, stream};
use http_body_util::BodyExt as _;
use sandbox::Connection;
use tokio::io::AsyncWriteExt as _;

use super::sandbox_exec::{done, endless, linger, piece};
use super::sandboxes::named;
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;

/// `POST /v1/x/sandboxes/{sandbox_id}/forward?port=`: a connection to a port inside; the two bodies are its two
/// ways.
pub(crate) async fn forward(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    let asked = SandboxPort::parse(call.query())?;
    let visit = named(&gateway, &call).await?.visit().await?;
    let Connection {
        read,
        mut write,
        held,
    } = visit.connect(asked.port).await?;
    let mut body = call.stream();
    let feed = async move {
        while let Some(Ok(piece)) = body.frame().await {
            let Ok(bytes) = piece.into_data() else {
                continue;
            };
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let shutdown = gateway.shutdown.clone();
    let state = (Some(read), Some(feed.boxed()), (held, visit));
    let bytes = stream::unfold(state, move |(mut read, mut feed, held)| {
        let shutdown = shutdown.clone();
        async move {
            loop {
                let piece = tokio::select! {
                    piece = piece(&mut read) => piece,
                    () = done(&mut feed) => { feed = None; continue }
                    () = shutdown.cancelled() => None,
                };
                let Some(piece) = piece else {
                    linger(feed).await;
                    return None;
                };
                return Some((Ok::<_, std::convert::Infallible>(piece), (read, feed, held)));
            }
        }
    });
    Ok(endless(bytes, "application/octet-stream"))
}
