//! `/v1/x/replicas`: the servers on this one's database, as they said of themselves last. It asks none of them.

use std::sync::Arc;

use axum::response::Response;
use contract::page::Page;
use contract::query;
use contract::time::Micros;
use schemars::JsonSchema;
use serde::Serialize;

use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

#[derive(Serialize, JsonSchema)]
pub(crate) struct Replica {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "replica"))]
    kind: &'static str,
    name: String,
    /// Whether it is this one, that answers.
    own: bool,
    /// `live`; `gone` for one that has not been seen for so long that the others take over its turns; `left` for one
    /// that ended in order.
    #[schemars(extend("enum" = ["live", "gone", "left"]))]
    status: &'static str,
    version: String,
    /// Where it listens; null until it does.
    address: Option<String>,
    /// Since when its link to the database stands.
    linked_at: Micros,
    /// When it was seen last, by the database's clock; null once it has left.
    heartbeat_at: Option<Micros>,
    /// Sessions whose turns it runs: its load, by which turns are spread.
    sessions: u64,
    /// Sandboxes that run on it.
    sandboxes: u64,
}

/// `GET /v1/x/replicas`: none of a server that keeps its database in a file.
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let own = gateway.store.replica().map(|(name, _)| name);
    let rows = gateway.store.replicas().await?.into_iter();
    let data = rows.map(|seen| Replica {
        kind: "replica",
        own: own.as_ref().is_some_and(|own| own.as_str() == seen.name),
        status: match (seen.is_live, seen.seen_at) {
            (true, _) => "live",
            (false, Some(_)) => "gone",
            (false, None) => "left",
        },
        name: seen.name,
        version: seen.version,
        address: seen.address,
        linked_at: seen.linked_at,
        heartbeat_at: seen.seen_at,
        sessions: seen.turns,
        sandboxes: seen.sandboxes,
    });
    reply::json(&Page::<Replica> {
        data: data.collect(),
        next_page: None,
    })
}
