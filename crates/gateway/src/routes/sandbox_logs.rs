//! `/v1/x/sandboxes/{id}/logs`: what became of a sandbox, as it was written down beside its files.

use std::sync::Arc;

use axum::response::Response;
use contract::page::Page;
use contract::query;
use contract::time::Micros;
use sandbox::DiaryEntry;
use schemars::JsonSchema;
use serde::Serialize;

use super::sandboxes::named;
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

/// One thing that happened to a sandbox.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxLog")]
pub(crate) struct Log {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_log"))]
    kind: &'static str,
    /// When it was over.
    at: Micros,
    #[schemars(extend("enum" = [
        "created", "restored", "adopted", "paused", "stopped", "lost", "failed"
    ]))]
    what: &'static str,
    /// Why, in the words of its supervisor where it has said something.
    why: Option<String>,
    /// For how long somebody waited for it.
    seconds: f64,
    /// What that time was spent on, one after another.
    steps: Vec<Step>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxStep")]
struct Step {
    name: String,
    seconds: f64,
}

/// `GET /v1/x/sandboxes/{sandbox_id}/logs`: the latest, oldest first.
pub(crate) async fn logs(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = named(&gateway, &call).await?;
    named.exists().await?;
    let diary = named.keeper.diary(&named.id).await?;
    reply::json(&Page {
        data: diary.entries().map(log).collect(),
        next_page: None,
    })
}

fn log(entry: &DiaryEntry) -> Log {
    let steps = entry.steps.iter().map(|step| Step {
        name: step.name.clone(),
        seconds: seconds(step.took),
    });
    Log {
        kind: "sandbox_log",
        at: Micros(entry.at),
        what: entry.what.name(),
        why: entry.why.clone(),
        seconds: seconds(entry.took),
        steps: steps.collect(),
    }
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}
