//! `/v1/x/sandboxes/{id}/files` and `/content`: what is in a sandbox, in and out. Bytes are streamed both ways and
//! never held here.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use contract::parse::Invalid;
use contract::query::{self, SandboxPath};
use futures_util::stream;
use http_body_util::BodyExt as _;
use sandbox::{Download, Entry, Kind};
use serde::{Deserialize, Serialize};

use super::sandboxes::named;
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MakeDirectory {
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Move {
    from: String,
    to: String,
}

#[derive(Serialize)]
struct Shown {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    entry: Entry,
    /// Of a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Entry>>,
    /// Whether a directory has more than is listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_more: Option<bool>,
}

#[derive(Serialize)]
struct Done<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    path: &'a str,
}

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

fn done(kind: &'static str, path: &str) -> Result<Response, Failure> {
    reply::json(&Done { kind, path })
}
