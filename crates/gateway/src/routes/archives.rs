//! `/export` and `/import` of sandboxes and snapshots: whole workspaces as archives, streamed both ways and never held
//! here.

use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use contract::error::ApiError;
use contract::parse::Invalid;
use contract::query;
use futures_util::stream;
use http_body_util::BodyExt as _;
use sandbox::{Export, Exported};

use super::sandboxes::{keeper, named, standing};
use super::snapshots::one;
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

/// `GET /v1/x/sandboxes/{sandbox_id}/export`: one that cannot be read to its end is cut, and so is the connection.
pub(crate) async fn of_sandbox(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = named(&gateway, &call).await?;
    named.exists().await?;
    let from = Exported::Sandbox(named.id);
    Ok(streamed(named.keeper.export(&from).await?))
}

/// `GET /v1/x/snapshots/{snapshot_id}/export`
pub(crate) async fn of_snapshot(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let found = one(&gateway, &call, call.text("snapshot_id")).await?;
    let from = Exported::Snapshot(found.id);
    Ok(streamed(keeper(&gateway)?.export(&from).await?))
}

fn streamed(export: Export) -> Response {
    let bytes = stream::try_unfold(export, |mut export| async {
        let piece = export.next().await?;
        Ok::<_, sandbox::Error>(piece.map(|piece| (piece, export)))
    });
    let mut response = Response::new(Body::from_stream(bytes));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// `POST /v1/x/sandboxes/{sandbox_id}/import`: the body is an archive; the sandbox, which has no files yet, has these.
pub(crate) async fn import(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = named(&gateway, &call).await?;
    let all = named.keeper.list().await?;
    if all.iter().any(|one| one.id == named.id) {
        let problem = format!("The sandbox {} has files already.", named.id);
        return Err(ApiError::conflict(problem).into());
    }
    let mut import = named.keeper.import(&named.id).await?;
    let mut body = call.stream();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Invalid::at("body", "was cut; nothing was kept"))?;
        if let Ok(bytes) = frame.into_data()
            && !import.send(bytes).await
        {
            break;
        }
    }
    import.finish().await?;
    reply::json(&standing(&gateway, &named.keeper.standing(named.id)))
}
