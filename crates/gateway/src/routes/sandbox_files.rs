//! `/v1/x/sandboxes/{id}/files` and `/content`: what is in a sandbox, in and out. Bytes are streamed both ways and
//! never held here.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use contract::parse::Invalid;
use contract::query::{self, SandboxPath};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use sandbox::{Change, Changes, Download, Entry, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sandboxes::named;
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;
use crate::sse::frame;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewSandboxDirectory")]
pub(crate) struct MakeDirectory {
    /// Absolute, or below the workspace. Those above it that are missing are made too.
    path: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SandboxMove")]
pub(crate) struct Move {
    /// Absolute, or below the workspace.
    from: String,
    /// On the same volume; a file there is replaced.
    to: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxFile")]
pub(crate) struct Shown {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_file"))]
    kind: &'static str,
    #[serde(flatten)]
    #[schemars(with = "Standing")]
    entry: Entry,
    /// Of a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Standing>>")]
    entries: Option<Vec<Entry>>,
    /// Whether a directory has more than is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_more: Option<bool>,
}

/// What stands under a name, as a sandbox says it.
#[derive(JsonSchema)]
#[schemars(rename = "SandboxEntry")]
#[allow(dead_code)] // it describes what is passed on as the sandbox said it
struct Standing {
    /// The last part of its path.
    name: String,
    #[schemars(extend("enum" = ["file", "directory", "symlink", "other"]))]
    kind: String,
    bytes: u64,
    /// Who may do what with it, as in chmod.
    mode: u32,
    /// When it was changed last, in seconds since 1970.
    modified: i64,
    /// Where a symlink leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// Something that was done at a path.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxFileDone")]
pub(crate) struct Done {
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["sandbox_file", "sandbox_file_deleted"]))]
    kind: &'static str,
    path: String,
}

/// What the stream of changes says.
#[derive(Serialize)]
struct Told {
    #[serde(rename = "type")]
    kind: &'static str,
    changes: Vec<Change>,
    /// Whether there was more than is told: whoever needs to know looks.
    has_more: bool,
}

const CHANGES: &str = "sandbox_file_changes";

/// `GET /v1/x/sandboxes/{sandbox_id}/files?path=`: what stands there, with what is in a directory.
pub(crate) async fn look(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let asked = SandboxPath::parse_look(call.query())?;
    let visit = named(&gateway, &call).await?.visit().await?;
    let entry = visit.stat(&asked.path).await?;
    let listing = match entry.kind {
        Kind::Directory => Some(visit.list(&asked.path).await?),
        Kind::File | Kind::Symlink | Kind::Other => None,
    };
    reply::json(&Shown {
        kind: "sandbox_file",
        entry,
        has_more: listing.as_ref().map(|listing| listing.more),
        entries: listing.map(|listing| listing.entries),
    })
}

/// `DELETE /v1/x/sandboxes/{sandbox_id}/files?path=&all=true`
pub(crate) async fn remove(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let asked = SandboxPath::parse_remove(call.query())?;
    let visit = named(&gateway, &call).await?.visit().await?;
    visit.remove(&asked.path, asked.all).await?;
    done("sandbox_file_deleted", &asked.path)
}

/// `POST /v1/x/sandboxes/{sandbox_id}/directories`
pub(crate) async fn make_directory(
    gateway: Arc<Gateway>,
    mut call: Call,
) -> Result<Response, Failure> {
    query::none(call.query())?;
    let asked = call.json::<MakeDirectory>().await?;
    let visit = named(&gateway, &call).await?.visit().await?;
    visit.make_directory(&asked.path).await?;
    done("sandbox_file", &asked.path)
}

/// `POST /v1/x/sandboxes/{sandbox_id}/move`
pub(crate) async fn rename(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let asked = call.json::<Move>().await?;
    let visit = named(&gateway, &call).await?.visit().await?;
    visit.rename(&asked.from, &asked.to).await?;
    done("sandbox_file", &asked.to)
}

/// `GET /v1/x/sandboxes/{sandbox_id}/content?path=`: a file's bytes. One that cannot be read to its end is cut,
/// and so is the connection.
pub(crate) async fn download(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let asked = SandboxPath::parse_look(call.query())?;
    let visit = named(&gateway, &call).await?.visit().await?;
    let download = visit.read(&asked.path, 0).await?;
    let bytes = stream::try_unfold((download, visit), |(mut download, visit)| async {
        let piece = Download::next(&mut download).await?;
        Ok::<_, sandbox::Error>(piece.map(|piece| (piece, (download, visit))))
    });
    let mut response = Response::new(Body::from_stream(bytes));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// `POST /v1/x/sandboxes/{sandbox_id}/content?path=&mode=`: the body becomes the file, whole or not at all.
pub(crate) async fn upload(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    let asked = SandboxPath::parse_upload(call.query())?;
    let visit = named(&gateway, &call).await?.visit().await?;
    let mut upload = visit.write(&asked.path, asked.mode).await?;
    let mut body = call.stream();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Invalid::at("body", "was cut; nothing was written"))?;
        if let Ok(bytes) = frame.into_data() {
            upload.send(&bytes).await?;
        }
    }
    upload.finish().await?;
    done("sandbox_file", &asked.path)
}

/// `GET /v1/x/sandboxes/{sandbox_id}/files/watch?path=&deep=true`: what changes there, as server-sent events, until
/// somebody hangs up. The first says that it is being looked at. Meanwhile the sandbox is in use.
pub(crate) async fn watch(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let asked = SandboxPath::parse_watch(call.query())?;
    let most = gateway.config.limits.streams_per_key;
    let seat = gateway
        .shares
        .stream(call.who.key, most, &gateway.metrics)?;
    let visit = named(&gateway, &call).await?.visit().await?;
    let watched = visit.watch(&asked.path, asked.all).await?;
    let state = Some((watched, (visit, seat)));
    let frames = stream::unfold(state, move |state| {
        let gateway = Arc::clone(&gateway);
        async move {
            let (mut watched, held) = state?;
            let said = tokio::select! {
                biased;
                () = gateway.shutdown.cancelled() => return Some((frame::GOODBYE, None)),
                said = watched.next() => said,
                () = tokio::time::sleep(gateway.config.ping) => {
                    return Some((frame::PING, Some((watched, held))));
                }
            };
            let Changes { changes, more } = match said {
                Ok(Some(changes)) => changes,
                // The sandbox ended, or it cannot be looked at any more.
                Ok(None) | Err(_) => return None,
            };
            let told = Told {
                kind: CHANGES,
                changes,
                has_more: more,
            };
            let json = serde_json::to_string(&told).ok()?;
            Some((frame::transient(CHANGES, &json), Some((watched, held))))
        }
    });
    let mut response = Response::new(Body::from_stream(frames.map(Ok::<_, Infallible>)));
    reply::stream_headers(response.headers_mut());
    Ok(response)
}

fn done(kind: &'static str, path: &str) -> Result<Response, Failure> {
    let path = path.to_owned();
    reply::json(&Done { kind, path })
}
