//! `/v1/x/templates`: the roots that sandboxes can be made on. Everybody sees which there are, for sessions name them; an
//! operator removes them. Importing one is a matter of the server's machine: `longhand template import`.

use std::sync::Arc;

use axum::response::Response;
use contract::error::ApiError;
use contract::page::Page;
use contract::query;
use contract::time::Micros;
use sandbox::{Template, TemplateRef};
use schemars::JsonSchema;
use serde::Serialize;

use super::sandboxes::keeper;
use crate::call::{Call, missing};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxTemplate")]
pub(crate) struct Shown {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_template"))]
    kind: &'static str,
    /// The digest of what is in it, as `sha256:…`.
    id: String,
    /// What it is called now.
    names: Vec<String>,
    /// When it was imported.
    created_at: Micros,
    /// The processor it is for, as images name it.
    architecture: String,
    /// Bytes of its files.
    bytes: u64,
    /// Its files and directories.
    files: u64,
    /// What it was made from; for operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxTemplateDeleted")]
pub(crate) struct Deleted {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_template_deleted"))]
    kind: &'static str,
    id: String,
}

fn shown(one: Template, call: &Call) -> Shown {
    Shown {
        kind: "sandbox_template",
        id: format!("sha256:{}", one.id),
        names: one.names,
        created_at: Micros(one.at),
        architecture: one.architecture,
        bytes: one.bytes,
        files: one.files,
        source: call.is_operator().then_some(one.source),
    }
}

/// The one that the path names; the host's is none that can be looked at.
fn which(call: &Call) -> Result<TemplateRef, ApiError> {
    let which: Option<TemplateRef> = call.text("template_id").parse().ok();
    let which = which.filter(|which| *which != TemplateRef::Host);
    which.ok_or_else(|| missing("Template"))
}

fn told(error: sandbox::Error) -> Failure {
    match error {
        sandbox::Error::Missing { .. } => Failure::Api(missing("Template")),
        sandbox::Error::Busy { problem } => Failure::Api(ApiError::conflict(problem)),
        other => other.into(),
    }
}

/// `GET /v1/x/templates`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let all = keeper(&gateway)?.templates().await?;
    reply::json(&Page {
        data: all.into_iter().map(|one| shown(one, &call)).collect(),
        next_page: None,
    })
}

/// `GET /v1/x/templates/{template_id}`, by name or digest.
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let found = keeper(&gateway)?.template(&which(&call)?).await;
    let found = found.map_err(told)?.ok_or_else(|| missing("Template"))?;
    reply::json(&shown(found, &call))
}

/// `DELETE /v1/x/templates/{template_id}`: one that sandboxes or snapshots lie on stays, 409.
pub(crate) async fn delete(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let removed = keeper(&gateway)?.remove_template(&which(&call)?).await;
    reply::json(&Deleted {
        kind: "sandbox_template_deleted",
        id: format!("sha256:{}", removed.map_err(told)?.id),
    })
}
