//! What operators do: keys, workspaces, backups and what was used. It only asks and prints; what may be
//! done is the server's matter.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use crate::cli::{Backup, By, Keys, Master, Output, Usage, Workspaces};
use crate::client::Client;
use crate::view;

const KEY_COLUMNS: [&str; 7] = [
    "id",
    "name",
    "workspace_id",
    "operator",
    "hint",
    "created_at",
    "revoked_at",
];
const WORKSPACE_COLUMNS: [&str; 4] = ["id", "name", "created_at", "archived_at"];

const REPLICA_COLUMNS: [&str; 7] = [
    "name",
    "status",
    "version",
    "address",
    "heartbeat_at",
    "sessions",
    "sandboxes",
];

/// `longhand replicas`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn replicas(output: &Output, client: &Client) -> anyhow::Result<()> {
    let listed = client.get("/v1/x/replicas").await?;
    view::objects(data(&listed), &REPLICA_COLUMNS, output.json)?;
    Ok(())
}

/// `longhand keys …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn keys(command: Keys, client: &Client, workspace: Option<&str>) -> anyhow::Result<()> {
    match command {
        Keys::Create {
            name,
            operator,
            output,
        } => {
            let mut body = json!({"name": name, "operator": operator});
            if let Some(workspace) = workspace {
                body["workspace_id"] = json!(workspace);
            }
            let made = client.post("/v1/x/keys", Some(&body)).await?;
            if output.json || !view::is_terminal() {
                return Ok(view::object(&made, true)?);
            }
            eprintln!("The key is shown this once; keep it now.");
            println!("{}", made["key"].as_str().unwrap_or_default());
        }
        Keys::List { output } => {
            let listed = client.get("/v1/x/keys").await?;
            view::objects(data(&listed), &KEY_COLUMNS, output.json)?;
        }
        Keys::Master(command) => master(&command, client).await?,
        Keys::Revoke { id, output } => {
            let revoked = client
                .post(&format!("/v1/x/keys/{id}/revoke"), None)
                .await?;
            view::objects(&[revoked], &KEY_COLUMNS, output.json)?;
        }
    }
    Ok(())
}

/// `longhand keys master …`
async fn master(command: &Master, client: &Client) -> anyhow::Result<()> {
    let (key, output) = match command {
        Master::Show { output } => (client.get("/v1/x/master_key").await?, output),
        Master::Rotate { output } => {
            let done = client.post("/v1/x/master_key/rotate", None).await?;
            if view::is_terminal() && !output.json {
                eprintln!("Backups made before now need the old key; keep it as long as those.");
            }
            (done, output)
        }
    };
    view::objects(&[key], &["version", "rotating", "wrapped"], output.json)?;
    Ok(())
}

/// `longhand workspaces …`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn workspaces(command: Workspaces, client: &Client) -> anyhow::Result<()> {
    let (objects, output) = match command {
        Workspaces::Create { name, output } => {
            let body = json!({"name": name});
            (
                vec![client.post("/v1/x/workspaces", Some(&body)).await?],
                output,
            )
        }
        Workspaces::List { output } => {
            let listed = client.get("/v1/x/workspaces").await?;
            (data(&listed).to_vec(), output)
        }
        Workspaces::Archive { id, output } => {
            let path = format!("/v1/x/workspaces/{id}/archive");
            (vec![client.post(&path, None).await?], output)
        }
    };
    view::objects(&objects, &WORKSPACE_COLUMNS, output.json)?;
    Ok(())
}

/// What is added up, and how a person reads its name.
const COUNTS: [&str; 6] = [
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "active_seconds",
];

/// `longhand usage`
///
/// # Errors
/// What the server answered, or that it could not be reached.
pub async fn usage(command: &Usage, client: &Client) -> anyhow::Result<()> {
    let used = client.get("/v1/x/usage").await?;
    let mut sums = BTreeMap::<Vec<String>, Map<String, Value>>::new();
    for row in data(&used) {
        let text = |by: &By| row[by.field()].as_str().unwrap_or_default().to_owned();
        let sum = sums.entry(command.by.iter().map(text).collect());
        let sum = sum.or_insert_with(|| {
            let fields = command.by.iter().map(|by| by.field());
            fields
                .map(|name| (name.to_owned(), row[name].clone()))
                .collect()
        });
        add(sum, row);
    }
    let rows = sums.into_values().map(Value::Object).collect::<Vec<_>>();
    let columns = command.by.iter().map(|by| by.field());
    let shown = [
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "active_seconds",
        "list_cost_usd",
    ];
    let columns = columns.chain(shown).collect::<Vec<_>>();
    view::objects(&rows, &columns, command.output.json)?;
    Ok(())
}

/// Adds a row of the server's to a sum. Each row's cost is whole cents, so a sum is as exact as that.
fn add(sum: &mut Map<String, Value>, row: &Value) {
    for name in COUNTS {
        let earlier = sum.get(name).cloned().unwrap_or(json!(0));
        let total = match (earlier.as_u64(), row[name].as_u64()) {
            (Some(a), Some(b)) => json!(a.saturating_add(b)),
            _ => {
                let number = |value: &Value| value.as_f64().unwrap_or_default();
                json!(((number(&earlier) + number(&row[name])) * 1e6).round() / 1e6)
            }
        };
        sum.insert(name.to_owned(), total);
    }
    let cents = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let earlier = sum.get("list_cost_usd").and_then(Value::as_str);
    let earlier = cents(earlier.map(|text| text.replace('.', "")).as_deref());
    let total = earlier.saturating_add(cents(row["list_cost"]["amount"].as_str()));
    let dollars = format!("{}.{:02}", total / 100, total % 100);
    sum.insert("list_cost_usd".to_owned(), json!(dollars));
}

/// `longhand backup`
///
/// # Errors
/// What the server answered, or that the copy cannot be put where it was wanted.
pub async fn backup(command: Backup, client: &Client) -> anyhow::Result<()> {
    if let Some(to) = command.to.as_deref().filter(|to| to.exists()) {
        bail!(
            "{} exists already; a backup never replaces a file",
            to.display()
        );
    }
    let mut made = client.post("/v1/x/backup", None).await?;
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
