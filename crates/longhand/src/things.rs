//! `agents`, `environments` and `vaults`: lists, single objects, and the shortest way to make one.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::cli::{Agents, CreateAgent, CreateVault, Environments, Listed, Named, Vaults};
use crate::client::Client;
use crate::view;

/// The largest text that is taken from standard input or a file: what one request may hold.
const MAX_INPUT: u64 = 32 << 20;

/// `longhand agents …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn agents(command: Agents, client: &Client) -> anyhow::Result<()> {
    let columns = ["id", "name", "model.id", "version", "created_at"];
    match command {
        Agents::List(listed) => list(client, "agents", &columns, &listed).await,
        Agents::Show(named) => show(client, "agents", &named).await,
        Agents::Create(create) => {
            let made = client.post("/v1/agents", Some(&agent(&create)?)).await?;
            Ok(view::objects(&[made], &columns, create.output.json)?)
        }
    }
}

fn agent(create: &CreateAgent) -> anyhow::Result<Value> {
    if let Some(file) = &create.file {
        let text = input_or_file(file)?;
        return serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON", file.display()));
    }
    let mut toolset = json!({"type": "agent_toolset_20260401"});
    if create.ask {
        toolset["default_config"] = json!({"permission_policy": {"type": "always_ask"}});
    }
    let mut body = json!({"name": create.name, "model": create.model, "tools": [toolset]});
    if let Some(system) = &create.system {
        body["system"] = json!(text_or_input(system)?);
    }
    Ok(body)
}

/// `longhand environments …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn environments(command: Environments, client: &Client) -> anyhow::Result<()> {
    let columns = ["id", "name", "config.type", "created_at"];
    match command {
        Environments::List(listed) => list(client, "environments", &columns, &listed).await,
        Environments::Show(named) => show(client, "environments", &named).await,
        Environments::Create { name, output } => {
            let body = json!({"name": name, "config": {"type": "cloud"}});
            let made = client.post("/v1/environments", Some(&body)).await?;
            Ok(view::objects(&[made], &columns, output.json)?)
        }
    }
}

/// `longhand vaults …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn vaults(command: Vaults, client: &Client) -> anyhow::Result<()> {
    let columns = ["id", "display_name", "metadata", "created_at"];
    match command {
        Vaults::List(listed) => list(client, "vaults", &columns, &listed).await,
        Vaults::Show(named) => {
            let id = segment(&named.id)?;
            let mut vault = client.get(&format!("/v1/vaults/{id}")).await?;
            let path = format!("/v1/vaults/{id}/credentials?limit=100");
            vault["credentials"] = Value::Array(client.list(&path, None).await?);
            Ok(view::object(&vault, named.output.json)?)
        }
        Vaults::Create(create) => {
            let made = vault(&create, client).await?;
            Ok(view::objects(&[made], &columns, create.output.json)?)
        }
    }
}

async fn vault(create: &CreateVault, client: &Client) -> anyhow::Result<Value> {
    let mut metadata = Map::new();
    for entry in &create.metadata {
        let Some((key, value)) = entry.split_once('=') else {
            bail!("--metadata takes KEY=VALUE, not {entry:?}");
        };
        metadata.insert(key.to_owned(), json!(value));
    }
    // Read first: a vault without the credential that was meant for it helps nobody.
    let token = create.token.then(|| text_or_input("-")).transpose()?;
    let body = json!({"display_name": create.name, "metadata": metadata});
    let made = client.post("/v1/vaults", Some(&body)).await?;
    let Some(token) = token else {
        return Ok(made);
    };
    let id = made["id"].as_str().context("a vault has an id")?;
    let mut auth = json!({"type": "static_bearer", "token": token.trim()});
    if let Some(server) = &create.mcp_server {
        auth["mcp_server_url"] = json!(server);
    }
    let path = format!("/v1/vaults/{id}/credentials");
    client
        .post(&path, Some(&json!({ "auth": auth })))
        .await
        .with_context(|| format!("the vault {id} was made, but its credential was not"))?;
    Ok(made)
}

async fn list(
    client: &Client,
    noun: &str,
    columns: &[&str],
    listed: &Listed,
) -> anyhow::Result<()> {
    let path = format!(
        "/v1/{noun}?limit={}&include_archived={}",
        listed.limit.clamp(1, 100),
        listed.archived
    );
    let items = client.list(&path, Some(listed.limit)).await?;
    Ok(view::objects(&items, columns, listed.output.json)?)
}

async fn show(client: &Client, noun: &str, named: &Named) -> anyhow::Result<()> {
    let id = segment(&named.id)?;
    let found = client.get(&format!("/v1/{noun}/{id}")).await?;
    Ok(view::object(&found, named.output.json)?)
}

/// An id as a segment of a path: nothing that would name another route.
///
/// # Errors
/// It holds what no id holds.
pub fn segment(id: &str) -> anyhow::Result<&str> {
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if id.is_empty() || !id.chars().all(known) {
        bail!("{id:?} is no id; ids look like sesn_… and are listed by `list`");
    }
    Ok(id)
}

/// `text`, or standard input if it is `-`.
///
/// # Errors
/// Standard input cannot be read, is no text, or too long.
pub fn text_or_input(text: &str) -> anyhow::Result<String> {
    if text != "-" {
        return Ok(text.to_owned());
    }
    let mut read = String::new();
    let mut input = std::io::stdin().lock().take(MAX_INPUT);
    input
        .read_to_string(&mut read)
        .context("cannot read standard input")?;
    if read.trim().is_empty() {
        bail!("standard input is empty");
    }
    Ok(read)
}

fn input_or_file(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return text_or_input("-");
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
