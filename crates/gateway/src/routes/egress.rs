//! `/v1/x/egress_audit`: what sandboxes reached and what was refused; and what a sandbox would get for a URL. The
//! egress process has the records and decides; a key sees those of its workspace's sessions, an operator all.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use contract::error::{ApiError, ErrorKind};
use contract::ids::{CredentialId, SessionId, ThreadId, WorkspaceId};
use contract::page::Page;
use contract::parse::Invalid;
use contract::query::{EgressExplain, EgressFilter, ListEgressAudit, Order, StreamEgressAudit};
use contract::time::Micros;
use egress::audit::{Action, Found, Kind, Placed, Search};
use egress::host::{Carrier, CarrierError};
use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::sandboxes::named;
use crate::call::Call;
use crate::cursor::{Cursor, Scope, Side};
use crate::error::Failure;
use crate::gateway::{Egress, Gateway};
use crate::reply;
use crate::sse::frame;

/// The type of a record, and the name of its frames.
const RECORD: &str = "egress_record";
/// Records of one frame's worth of looking.
const BATCH: u32 = 100;

/// One flow or request of a sandbox, when it ended or was refused.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EgressRecord")]
pub(crate) struct Shown {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "egress_record"))]
    kind: &'static str,
    /// Its place in the chain of hashes.
    seq: u64,
    at: Micros,
    /// What it is about.
    #[schemars(extend("enum" = ["flow", "request", "dns"]))]
    about: &'static str,
    sandbox_id: String,
    workspace_id: Option<WorkspaceId>,
    session_id: Option<SessionId>,
    session_thread_id: Option<ThreadId>,
    /// The name that was asked for; null for a literal address.
    host: Option<String>,
    /// The address that was dialled, or would have been.
    #[schemars(with = "Option<String>")]
    address: Option<IpAddr>,
    port: Option<u16>,
    protocol: String,
    method: Option<String>,
    /// Without its query.
    path: Option<String>,
    #[schemars(extend("enum" = ["allowed", "denied", "observed"]))]
    action: &'static str,
    /// The rule that decided.
    rule: String,
    reason: String,
    credential_id: Option<CredentialId>,
    bytes_out: u64,
    bytes_in: u64,
    seconds: f64,
    upstream_status: Option<u16>,
}

/// What a URL would get.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EgressExplanation")]
pub(crate) struct Explanation {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "egress_explanation"))]
    kind: &'static str,
    sandbox_id: String,
    url: String,
    method: String,
    allowed: bool,
    /// The rule that decides.
    rule: String,
    /// Why, and what could be done, in one line.
    reason: String,
}

/// `GET /v1/x/egress_audit`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let asked = ListEgressAudit::parse(call.query())?;
    let bounds = [asked.filter.since, asked.filter.until];
    let scope = Scope::new(&call.path, asked.order, &bounds);
    let page = asked.paging.page.as_deref();
    let page = page.map(|text| scope.read::<u64>(text)).transpose()?;
    let search = Search {
        after: asked.after,
        newest_first: asked.order == Order::Desc,
        from: page.map(|Cursor { position, .. }| position),
        limit: asked.paging.limit,
        ..filter(&call, asked.filter)?
    };
    let found = look(&gateway, search).await?;
    let next = found.last.filter(|_| found.more);
    reply::json(&Page {
        data: found.records.into_iter().map(shown).collect(),
        next_page: next.map(|seq| scope.write(Side::After, &seq)),
    })
}

/// `GET /v1/x/egress_audit/stream`: what is recorded from now on, or behind `after`, as server-sent events. The id
/// of each is its place: a stream that broke goes on behind `last-event-id`.
pub(crate) async fn stream(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let asked = StreamEgressAudit::parse(call.query())?;
    let most = gateway.config.limits.streams_per_key;
    let seat = gateway
        .shares
        .stream(call.who.key, most, &gateway.metrics)?;
    let carrier = carrier(&gateway)?.clone();
    let resumed = match call.headers.get("last-event-id") {
        Some(value) => {
            let place = value.to_str().ok().and_then(|text| text.parse().ok());
            Some(place.ok_or_else(|| Invalid::at("last-event-id", "must be a record's place"))?)
        }
        None => asked.after,
    };
    let filter = filter(&call, asked.filter)?;
    let from = match resumed {
        Some(place) => place,
        None => last(&carrier).await?,
    };
    let search = Search {
        from: Some(from),
        limit: BATCH,
        ..filter
    };
    let frames = stream::unfold(Some((carrier, search, seat)), move |state| {
        let gateway = Arc::clone(&gateway);
        async move {
            let (carrier, mut search, seat) = state?;
            let found = tokio::select! {
                biased;
                () = gateway.shutdown.cancelled() => return Some((frame::GOODBYE, None)),
                found = carrier.audit(search.clone(), true) => found,
                () = tokio::time::sleep(gateway.config.ping) => {
                    return Some((frame::PING, Some((carrier, search, seat))));
                }
            };
            // Whoever follows comes again, behind the last one that it has.
            let found = found.ok()?;
            search.from = found.last.or(search.from);
            let frames: String = found.records.into_iter().map(told).collect();
            Some((frames.into(), Some((carrier, search, seat))))
        }
    });
    let mut response = Response::new(Body::from_stream(frames.map(Ok::<_, Infallible>)));
    reply::stream_headers(response.headers_mut());
    Ok(response)
}

/// `GET /v1/x/sandboxes/{sandbox_id}/egress/explain?url=&method=`
pub(crate) async fn explain(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let asked = EgressExplain::parse(call.query())?;
    let named = named(&gateway, &call).await?;
    if named.exists().await?.running.is_none() {
        let text =
            "The sandbox does not run, so no policy is in force for it; `POST …/resume` starts it.";
        return Err(ApiError::conflict(text).code("sandbox_not_running").into());
    }
    let id = named.id.as_str();
    let explained = carrier(&gateway)?
        .explain(id, &asked.url, &asked.method)
        .await;
    let explained = match explained {
        Err(CarrierError::Url(problem)) => return Err(Invalid::at("url", problem).into()),
        explained => explained.map_err(refused)?,
    };
    reply::json(&Explanation {
        kind: "egress_explanation",
        sandbox_id: id.to_owned(),
        url: asked.url,
        method: asked.method,
        allowed: explained.allowed,
        rule: explained.rule,
        reason: explained.reason,
    })
}

/// The place of the last record.
async fn last(carrier: &Carrier) -> Result<u64, Failure> {
    let newest = Search {
        newest_first: true,
        limit: 1,
        ..Search::default()
    };
    let found = carrier.audit(newest, false).await.map_err(refused)?;
    Ok(found.records.first().map_or(0, |one| one.seq))
}

async fn look(gateway: &Gateway, search: Search) -> Result<Found, Failure> {
    let Some(Egress::Left(path)) = gateway.egress.clone() else {
        return carrier(gateway)?
            .audit(search, false)
            .await
            .map_err(refused);
    };
    let looked = tokio::task::spawn_blocking(move || egress::audit::search(&path, &search)).await;
    match looked {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(Failure::Audit(error)),
        Err(_) => Err(refused(CarrierError::Silent)),
    }
}

fn carrier(gateway: &Gateway) -> Result<&Carrier, ApiError> {
    match has_network(gateway)? {
        Egress::Process(carrier) => Ok(carrier),
        Egress::Left(_) => Err(ApiError::not_implemented(
            "No server runs, so nothing is reached.",
        )),
    }
}

/// Whether sandboxes of this server reach anything at all.
pub(super) fn has_network(gateway: &Gateway) -> Result<&Egress, ApiError> {
    let text = "Sandboxes of this server have no network; `egress.enabled = true` gives them one.";
    let egress = gateway.egress.as_ref();
    egress.ok_or_else(|| ApiError::not_implemented(text))
}

fn refused(error: CarrierError) -> Failure {
    let text = match error {
        CarrierError::Silent | CarrierError::Policy(_) => {
            "The egress process does not answer right now. Try again.".to_owned()
        }
        CarrierError::Unknown => "No network is carried for that sandbox: it has none.".to_owned(),
        CarrierError::Refused(problem) | CarrierError::Url(problem) => problem,
    };
    ApiError::new(ErrorKind::Unavailable, text)
        .code("egress_unavailable")
        .retry_after(1)
        .into()
}

/// What is asked for, within what the caller may see.
fn filter(call: &Call, asked: EgressFilter) -> Result<Search, Failure> {
    let action = match asked.action {
        Some("allowed") => Some(Action::Allowed),
        Some("denied") => Some(Action::Denied),
        Some(_) => Some(Action::Observed),
        None => None,
    };
    let host = asked.host.map(|host| {
        let address = host.parse::<IpAddr>().map(|ip| ip.to_string());
        address.or_else(|_| egress::Name::parse(&host).map(|name| name.to_string()))
    });
    let host = host.transpose();
    Ok(Search {
        workspace: (!call.is_operator()).then(|| call.workspace()),
        session: asked.session_id,
        sandbox: asked.sandbox_id,
        host: host.map_err(|error| Invalid::at("host", error.to_string()))?,
        action,
        since: asked.since,
        until: asked.until,
        ..Search::default()
    })
}

fn told(one: Placed) -> String {
    let seq = one.seq;
    // Numbers and texts can always be written.
    let json = serde_json::to_string(&shown(one)).unwrap_or_default();
    format!("id: {seq}\nevent: {RECORD}\ndata: {json}\n\n")
}

fn shown(Placed { seq, record }: Placed) -> Shown {
    Shown {
        kind: RECORD,
        seq,
        at: record.at,
        about: match record.kind {
            Kind::Flow => "flow",
            Kind::Request => "request",
            Kind::Dns => "dns",
        },
        sandbox_id: record.sandbox,
        workspace_id: record.workspace,
        session_id: record.session,
        session_thread_id: record.thread,
        host: record.name,
        address: record.address,
        port: record.port,
        protocol: record.protocol,
        method: record.method,
        path: record.path,
        action: match record.action {
            Action::Allowed => "allowed",
            Action::Denied => "denied",
            Action::Observed => "observed",
        },
        rule: record.rule,
        reason: record.reason,
        credential_id: record.credential,
        bytes_out: record.bytes_out,
        bytes_in: record.bytes_in,
        seconds: std::time::Duration::from_micros(record.duration_us).as_secs_f64(),
        upstream_status: record.upstream_status,
    }
}
