//! `sessions list|show|create|send|why|timeline|archive`. The live view is in `watch`.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::cli::{CreateSession, ListSessions, Named, Send, Sessions};
use crate::client::Client;
use crate::things::{segment, text_or_input};
use crate::{view, watch};

const COLUMNS: [&str; 5] = ["id", "status", "title", "agent.name", "updated_at"];

/// `longhand sessions …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn run(command: Sessions, client: &Client) -> anyhow::Result<()> {
    match command {
        Sessions::List(command) => list(&command, client).await,
        Sessions::Show(named) => {
            let session = client.get(&path(&named)?).await?;
            Ok(view::object(&session, named.output.json)?)
        }
        Sessions::Create(command) => create(&command, client).await,
        Sessions::Watch(command) => watch::run(&command, client).await,
        Sessions::Send(command) => send(&command, client).await,
        Sessions::Why(named) => why(&named, client).await,
        Sessions::Timeline(named) => timeline(&named, client).await,
        Sessions::Archive(named) => {
            let path = format!("{}/archive", path(&named)?);
            let archived = client.post(&path, None).await?;
            Ok(view::objects(&[archived], &COLUMNS, named.output.json)?)
        }
    }
}

fn path(named: &Named) -> anyhow::Result<String> {
    Ok(format!("/v1/sessions/{}", segment(&named.id)?))
}

async fn list(command: &ListSessions, client: &Client) -> anyhow::Result<()> {
    let listed = &command.listed;
    let mut path = format!(
        "/v1/sessions?limit={}&include_archived={}",
        listed.limit.clamp(1, 1_000),
        listed.archived
    );
    for status in &command.status {
        path += &format!("&statuses%5B%5D={}", segment(status)?);
    }
    if let Some(agent) = &command.agent {
        path += &format!("&agent_id={}", segment(agent)?);
    }
    let sessions = client.list(&path, Some(listed.limit)).await?;
    Ok(view::objects(&sessions, &COLUMNS, listed.output.json)?)
}

async fn create(command: &CreateSession, client: &Client) -> anyhow::Result<()> {
    let mut body = json!({"agent": command.agent, "environment_id": command.environment});
    if let Some(title) = &command.title {
        body["title"] = json!(title);
    }
    if !command.vaults.is_empty() {
        body["vault_ids"] = json!(command.vaults);
    }
    if let Some(message) = &command.message {
        body["initial_events"] = json!([self::message(&text_or_input(message)?)]);
    }
    let session = client.post("/v1/sessions", Some(&body)).await?;
    view::objects(
        std::slice::from_ref(&session),
        &COLUMNS,
        command.output.json,
    )?;
    if view::is_terminal() && !command.output.json {
        let id = session["id"].as_str().unwrap_or_default();
        eprintln!("see it with: longhand sessions watch {id}");
    }
    Ok(())
}

/// A message of the user.
#[must_use]
pub fn message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

/// The answer to a call that the session asks about.
#[must_use]
pub fn confirmation(call: &str, allow: bool, reason: Option<&str>) -> Value {
    let result = if allow { "allow" } else { "deny" };
    let mut event =
        json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": result});
    if let Some(reason) = reason {
        event["deny_message"] = json!(reason);
    }
    event
}

/// The result of a custom tool's call.
#[must_use]
pub fn custom_result(call: &str, text: &str, is_error: bool) -> Value {
    json!({
        "type": "user.custom_tool_result", "custom_tool_use_id": call, "is_error": is_error,
        "content": [{"type": "text", "text": text}],
    })
}

/// Sends events to a session.
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn post(client: &Client, id: &str, events: &[Value]) -> anyhow::Result<Value> {
    let path = format!("/v1/sessions/{}/events", segment(id)?);
    client.post(&path, Some(&json!({ "events": events }))).await
}

fn events(command: &Send) -> anyhow::Result<Vec<Value>> {
    let mut events = Vec::new();
    if command.interrupt {
        events.push(json!({"type": "user.interrupt"}));
    }
    let reason = command.reason.as_deref();
    events.extend(
        command
            .allow
            .iter()
            .map(|call| confirmation(call, true, None)),
    );
    events.extend(
        command
            .deny
            .iter()
            .map(|call| confirmation(call, false, reason)),
    );
    for result in &command.result {
        let (call, text) = result
            .split_once('=')
            .with_context(|| format!("--result takes CALL=TEXT, not {result:?}"))?;
        events.push(custom_result(call, text, false));
    }
    if let Some(text) = &command.text {
        events.push(message(&text_or_input(text)?));
    }
    if events.is_empty() {
        bail!(
            "nothing to send: give a message, --interrupt, --allow, --deny or --result; `longhand sessions why {}` says what it waits for",
            command.id
        );
    }
    Ok(events)
}

async fn send(command: &Send, client: &Client) -> anyhow::Result<()> {
    let sent = post(client, &command.id, &events(command)?).await?;
    if !client.is_served() {
        eprintln!("It is stored, and waits for `longhand serve`.");
    }
    let data = sent["data"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(view::objects(
        data,
        &["id", "type", "processed_at"],
        command.output.json,
    )?)
}

/// The oldest entries of a timeline that are shown.
const ENTRIES: usize = 1_000;

async fn timeline(named: &Named, client: &Client) -> anyhow::Result<()> {
    let id = segment(&named.id)?;
    let path = format!("/v1/x/sessions/{id}/timeline?limit=1000");
    let entries = client.list(&path, Some(ENTRIES)).await?;
    if named.output.json || !view::is_terminal() {
        return Ok(view::objects(&entries, &[], true)?);
    }
    let rows = entries.iter().map(timeline_row).collect::<Vec<_>>();
    let columns = [
        "started_at",
        "seconds",
        "thread",
        "spent",
        "for",
        "trace_id",
    ];
    Ok(view::objects(&rows, &columns, false)?)
}

/// An entry in words: whose time it was, and for whom it waited.
fn timeline_row(entry: &Value) -> Value {
    let detail = &entry["detail"];
    let whom = match (
        detail["waited_for"].as_str(),
        detail["waited_for_session_thread_id"].as_str(),
    ) {
        (Some("thread"), Some(thread)) => thread.to_owned(),
        (Some(whom), _) => whom.to_owned(),
        (None, _) => detail["what"].as_str().unwrap_or_default().to_owned(),
    };
    json!({
        "started_at": entry["started_at"], "seconds": entry["seconds"], "spent": entry["spent"],
        "thread": detail["session_thread_id"].as_str().unwrap_or("primary"), "for": whom,
        "trace_id": entry["trace_id"],
    })
}

async fn why(named: &Named, client: &Client) -> anyhow::Result<()> {
    let id = segment(&named.id)?;
    let why = client.get(&format!("/v1/x/sessions/{id}/why")).await?;
    if named.output.json || !view::is_terminal() {
        return Ok(view::object(&why, true)?);
    }
    let text = |field: &str| why[field].as_str().unwrap_or_default().to_owned();
    println!("{id} is {} ({})", text("status"), text("phase"));
    println!("waits for   {}", text("waits_for"));
    println!("since       {}", text("since"));
    if let Some(due) = why["due_at"].as_str() {
        println!("goes on at  {due}");
    }
    for call in why["calls"].as_array().into_iter().flatten() {
        let id = call["id"].as_str().unwrap_or_default();
        println!(
            "call        {id} {}",
            view::clean(&call["tool"].to_string())
        );
    }
    if why["waiting_events"].as_u64() > Some(0) {
        println!("behind it   {} events wait", why["waiting_events"]);
    }
    if let Some(request) = why["unblock"].as_object() {
        let word = |field: &str| request[field].as_str().unwrap_or_default();
        let (method, path) = (word("method"), word("path"));
        println!("unblock it  {method} {path} {}", request["body"]);
    }
    Ok(())
}
