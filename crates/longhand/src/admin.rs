//! `keys` and `workspaces`: the same handlers, over the control socket of a running server or, if none
//! runs, in this process under the data directory's lock.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, bail};
use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::cli::{Backup, Keys, Sessions, Workspaces};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::{serve, view};

const KEY_COLUMNS: [&str; 7] = [
    "id",
    "name",
    "workspace_id",
    "role",
    "prefix",
    "created_at",
    "revoked_at",
];
const WORKSPACE_COLUMNS: [&str; 4] = ["id", "name", "created_at", "archived_at"];

/// `longhand keys …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn keys(command: Keys, config: &Config, data_dir: DataDir) -> anyhow::Result<()> {
    match command {
        Keys::Create {
            name,
            workspace,
            operator,
            output,
        } => {
            let body = json!({"name": name, "workspace_id": workspace, "operator": operator});
            let made = call(config, data_dir, "POST", "/v1/x/keys", Some(body)).await?;
            if output.json || !view::is_terminal() {
                return Ok(view::objects(&[made], &[], true)?);
            }
            eprintln!("The key is shown this once; keep it now.");
            println!("{}", made["key"].as_str().unwrap_or_default());
        }
        Keys::List { output } => {
            let listed = call(config, data_dir, "GET", "/v1/x/keys", None).await?;
            view::objects(data(&listed), &KEY_COLUMNS, output.json)?;
        }
        Keys::Revoke { id, output } => {
            let path = format!("/v1/x/keys/{id}/revoke");
            let revoked = call(config, data_dir, "POST", &path, None).await?;
            view::objects(&[revoked], &KEY_COLUMNS, output.json)?;
        }
    }
    Ok(())
}

/// `longhand workspaces …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn workspaces(
    command: Workspaces,
    config: &Config,
    data_dir: DataDir,
) -> anyhow::Result<()> {
    let (objects, output) = match command {
        Workspaces::Create { name, output } => {
            let body = json!({"name": name});
            let made = call(config, data_dir, "POST", "/v1/x/workspaces", Some(body)).await?;
            (vec![made], output)
        }
        Workspaces::List { output } => {
            let listed = call(config, data_dir, "GET", "/v1/x/workspaces", None).await?;
            (data(&listed).to_vec(), output)
        }
        Workspaces::Archive { id, output } => {
            let path = format!("/v1/x/workspaces/{id}/archive");
            (
                vec![call(config, data_dir, "POST", &path, None).await?],
                output,
            )
        }
    };
    view::objects(&objects, &WORKSPACE_COLUMNS, output.json)?;
    Ok(())
}

/// `longhand sessions …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn sessions(command: Sessions, config: &Config, data_dir: DataDir) -> anyhow::Result<()> {
    let Sessions::Why { id, output } = command;
    let path = format!("/v1/x/sessions/{id}/why");
    let why = call(config, data_dir, "GET", &path, None).await?;
    if output.json || !view::is_terminal() {
        return Ok(view::objects(&[why], &[], true)?);
    }
    let text = |field: &str| why[field].as_str().unwrap_or_default().to_owned();
    println!("{id} is {} ({})", text("status"), text("phase"));
    println!("waits for   {}", text("waits_for"));
    println!("since       {}", text("since"));
    if let Some(due) = why["due_at"].as_str() {
        println!("goes on at  {due}");
    }
    for call in why["calls"].as_array().into_iter().flatten() {
        println!(
            "call        {} {}",
            call["id"].as_str().unwrap_or_default(),
            call["tool"]
        );
    }
    if why["waiting_events"].as_u64() > Some(0) {
        println!("behind it   {} events wait", why["waiting_events"]);
    }
    if let Some(request) = why["unblock"].as_object() {
        let word = |field: &str| request[field].as_str().unwrap_or_default();
        println!(
            "unblock it  {} {} {}",
            word("method"),
            word("path"),
            request["body"]
        );
    }
    Ok(())
}

/// `longhand backup`
///
/// # Errors
/// What the server answered, or that the copy cannot be put where it was wanted.
pub async fn backup(command: Backup, config: &Config, data_dir: DataDir) -> anyhow::Result<()> {
    if let Some(to) = command.to.as_deref().filter(|to| to.exists()) {
        bail!(
            "{} exists already; a backup never replaces a file",
            to.display()
        );
    }
    let mut made = call(config, data_dir, "POST", "/v1/x/backup", None).await?;
    if let Some(to) = command.to {
        let from = made["file"].as_str().unwrap_or_default().to_owned();
        keep(Path::new(&from), &to)
            .with_context(|| format!("the copy is in {from}, but not in {}", to.display()))?;
        made["file"] = json!(to);
    }
    if view::is_terminal() && !command.output.json {
        eprintln!("The master key is not in it: keep DIR/master.key somewhere else.");
    }
    view::objects(&[made], &["file", "seconds"], command.output.json)?;
    Ok(())
}

/// Moves a copy to another place, over the border of a file system too; it is durable there before it is
/// gone here.
fn keep(from: &Path, to: &Path) -> std::io::Result<()> {
    if std::fs::rename(from, to).is_ok() {
        return Ok(());
    }
    let mut source = std::fs::File::open(from)?;
    let mut target = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    std::io::copy(&mut source, &mut target)?;
    target.sync_all()?;
    std::fs::remove_file(from)
}

fn data(listed: &Value) -> &[Value] {
    listed["data"].as_array().map_or(&[], Vec::as_slice)
}

/// One operator request.
async fn call(
    config: &Config,
    data_dir: DataDir,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    let (status, answer) = match data_dir.try_lock()? {
        Some(lock) => {
            let answer = in_process(config, &data_dir, method, path, body).await;
            drop(lock);
            answer?
        }
        None => over_socket(&data_dir, method, path, body).await?,
    };
    let answer: Value = serde_json::from_slice(&answer).context("the answer is not JSON")?;
    if !(200..300).contains(&status) {
        bail!(
            "{}",
            answer["error"]["message"]
                .as_str()
                .unwrap_or("the server refused")
        );
    }
    Ok(answer)
}

async fn in_process(
    config: &Config,
    data_dir: &DataDir,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<(u16, Vec<u8>)> {
    // Whoever meant the server of another user sees it here.
    eprintln!(
        "No server runs on {}; working on the directory itself.",
        data_dir.path().display()
    );
    let offline = serve::offline(config, data_dir).await?;
    let mut request = axum::http::Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    let response = offline.router.clone().oneshot(request.body(body)?).await?;
    let status = response.status().as_u16();
    let answer = response.into_body().collect().await?.to_bytes().to_vec();
    offline.store.close().await;
    Ok((status, answer))
}

async fn over_socket(
    data_dir: &DataDir,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<(u16, Vec<u8>)> {
    let socket = data_dir.join("control.sock");
    let client = reqwest::Client::builder()
        .no_proxy()
        .unix_socket(socket.clone())
        .build()?;
    let url = format!("http://control{path}");
    let mut request = client.request(method.parse()?, url);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.with_context(|| {
        format!(
            "a server uses {} but does not answer on {}",
            data_dir.path().display(),
            socket.display()
        )
    })?;
    let status = response.status().as_u16();
    Ok((status, response.bytes().await?.to_vec()))
}
