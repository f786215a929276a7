//! `/v1/x/sandboxes/{id}/exec` for programs that were started before: how they stand, what they printed, and their end.
//! It starts none, and no sandbox: in one that does not run, no program is known.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contract::page::Page;
use contract::query::{self, SandboxOutput};
use sandbox::{Exec, Sandbox};
use schemars::JsonSchema;
use serde::Serialize;

use super::sandboxes::named;
use crate::call::{Call, missing};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

/// A program that was started in a sandbox, by this server or one before it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxProgram")]
pub(crate) struct Known {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_exec"))]
    kind: &'static str,
    id: String,
    /// Program and arguments, cut.
    command: String,
    running: bool,
    /// When it ended by itself.
    exit_code: Option<i32>,
    /// The number of the signal that ended it.
    signal: Option<i32>,
    timed_out: bool,
    /// Bytes that it has printed in all.
    stdout_bytes: u64,
    stderr_bytes: u64,
    /// What it printed, where one is asked about: from that byte on, as far as it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
}

impl From<Exec> for Known {
    fn from(exec: Exec) -> Self {
        Self {
            kind: "sandbox_exec",
            id: exec.key,
            command: exec.command,
            running: !exec.ended,
            exit_code: exec.code,
            signal: exec.signal,
            timed_out: exec.timed_out,
            stdout_bytes: exec.stdout_bytes,
            stderr_bytes: exec.stderr_bytes,
            stdout_from: None,
            stdout: None,
            stderr_from: None,
            stderr: None,
        }
    }
}

/// A program that is not known any more.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxProgramDeleted")]
pub(crate) struct Forgotten {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_exec_deleted"))]
    kind: &'static str,
    id: String,
}

/// `GET /v1/x/sandboxes/{sandbox_id}/exec`: those that run, and those whose end nobody has asked for; oldest first.
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = named(&gateway, &call).await?;
    let known = match named.exists().await?.running {
        Some(running) => running.execs().await?,
        None => Vec::new(),
    };
    reply::json(&Page {
        data: known.into_iter().map(Known::from).collect(),
        next_page: None,
    })
}

/// `GET /v1/x/sandboxes/{sandbox_id}/exec/{exec_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let asked = SandboxOutput::parse(call.query())?;
    let sandbox = running(&gateway, &call).await?;
    let id = call.text("exec_id");
    let printed = sandbox.exec(id, asked.stdout_from, asked.stderr_from);
    let printed = printed.await.map_err(unknown)?;
    let text = |bytes: &[u8]| match asked.base64 {
        true => STANDARD.encode(bytes),
        false => String::from_utf8_lossy(bytes).into_owned(),
    };
    reply::json(&Known {
        stdout_from: Some(printed.stdout_from),
        stdout: Some(text(&printed.stdout)),
        stderr_from: Some(printed.stderr_from),
        stderr: Some(text(&printed.stderr)),
        ..Known::from(printed.exec)
    })
}

/// `DELETE /v1/x/sandboxes/{sandbox_id}/exec/{exec_id}`
pub(crate) async fn delete(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let sandbox = running(&gateway, &call).await?;
    let id = call.text("exec_id");
    sandbox.end_exec(id).await.map_err(unknown)?;
    reply::json(&Forgotten {
        kind: "sandbox_exec_deleted",
        id: id.to_owned(),
    })
}

/// The sandbox, if it runs.
async fn running(gateway: &Gateway, call: &Call) -> Result<Arc<dyn Sandbox>, Failure> {
    let standing = named(gateway, call).await?.exists().await?;
    let running = standing.running;
    running.ok_or_else(|| Failure::Api(missing("Program")))
}

/// The words of the hand are about keys.
fn unknown(error: sandbox::Error) -> Failure {
    match error {
        sandbox::Error::Missing { .. } => Failure::Api(missing("Program")),
        other => other.into(),
    }
}
