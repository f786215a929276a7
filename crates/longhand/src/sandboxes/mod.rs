//! `sandbox`: the sandboxes of a server for people. It speaks to the API and to nothing else.

mod archive;
mod copy;
mod exec;
mod follow;
mod forward;
mod whole;

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::cli::{Made, Program, Run, Sandbox};
use crate::client::Client;
use crate::view;
use crate::volumes::wanted;

const ALL: &str = "/v1/x/sandboxes";
/// Where a sandbox keeps what its background prints.
const PRINTED: &str = "/var/lib/longhand/background.log";

async fn logs(client: &Client, id: &str, json: bool) -> anyhow::Result<()> {
    let columns = ["at", "what", "seconds", "why"];
    let told = client.get(&path(id, "/logs")?).await?;
    let told = told["data"].as_array().cloned().unwrap_or_default();
    Ok(view::objects(&told, &columns, json)?)
}

/// `longhand sandbox …`
///
/// # Errors
/// What the server answered, or that it could not be reached; [`crate::Exited`] as the program in the sandbox.
pub async fn run(command: Sandbox, client: &Client) -> anyhow::Result<()> {
    let columns = [
        "id",
        "status",
        "session_id",
        "running_since",
        "last_used_at",
    ];
    match command {
        Sandbox::Ps { id: None, output } => {
            let all = client.get(ALL).await?;
            let all = all["data"].as_array().cloned().unwrap_or_default();
            Ok(view::objects(&all, &columns, output.json)?)
        }
        Sandbox::Ps {
            id: Some(id),
            output,
        } => processes(client, &id, output.json).await,
        Sandbox::Show(named) => {
            let one = client.get(&path(&named.id, "")?).await?;
            Ok(view::object(&one, named.output.json)?)
        }
        Sandbox::Logs {
            id, printed: true, ..
        } => copy::print(client, &id, PRINTED).await,
        Sandbox::Logs { id, output, .. } => logs(client, &id, output.json).await,
        Sandbox::Create(new) => {
            let made = create(client, new.id.as_deref(), &new.made).await?;
            Ok(view::objects(&[made], &columns, new.output.json)?)
        }
        Sandbox::Run(run) => fresh(client, &run).await,
        Sandbox::Exec { id, program } => exec::run(client, &id, &program).await,
        Sandbox::Follow { id, exec, output } => follow::run(client, &id, exec, output.json).await,
        Sandbox::Shell { id } => {
            let program = Program {
                interactive: true,
                tty: true,
                cwd: None,
                env: Vec::new(),
                timeout: None,
                command: vec!["/bin/bash".to_owned(), "-l".to_owned()],
            };
            exec::run(client, &id, &program).await
        }
        Sandbox::Cp { from, to } => copy::run(client, &from, &to).await,
        Sandbox::Pause(named) => {
            act(client, &named.id, "/pause", &columns, named.output.json).await
        }
        Sandbox::Resume(named) => {
            act(client, &named.id, "/resume", &columns, named.output.json).await
        }
        Sandbox::Stop(named) => act(client, &named.id, "/stop", &columns, named.output.json).await,
        Sandbox::Whole(command) => whole::run(command, client, &columns).await,
        Sandbox::Forward { id, ports } => forward::run(client, &id, &ports).await,
        Sandbox::Rm { ids, output } => remove(client, &ids, output.json).await,
        Sandbox::Gc { dry_run, output } => collect(client, dry_run, output.json).await,
    }
}

async fn processes(client: &Client, id: &str, as_json: bool) -> anyhow::Result<()> {
    let columns = [
        "pid",
        "parent",
        "state",
        "cpu_seconds",
        "memory_bytes",
        "command",
    ];
    let running = client.get(&path(id, "/processes")?).await?;
    let running = running["data"].as_array().cloned().unwrap_or_default();
    Ok(view::objects(&running, &columns, as_json)?)
}

/// The path of one sandbox, and what of it.
fn path(id: &str, rest: &str) -> anyhow::Result<String> {
    let id = sandbox::SandboxId::new(id)?;
    Ok(format!("{ALL}/{id}{rest}"))
}

async fn act(
    client: &Client,
    id: &str,
    verb: &str,
    columns: &[&str],
    as_json: bool,
) -> anyhow::Result<()> {
    let one = client.post(&path(id, verb)?, None).await?;
    Ok(view::objects(&[one], columns, as_json)?)
}

async fn create(client: &Client, id: Option<&str>, made: &Made) -> anyhow::Result<Value> {
    let named = [
        ("id", id),
        ("template", made.template.as_deref()),
        ("provider", made.provider.as_deref()),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let mut body: Map<String, Value> = named
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    if !made.volumes.is_empty() {
        body.insert("volumes".to_owned(), json!(wanted(&made.volumes)?));
    }
    client.post(ALL, Some(&body.into())).await
}

async fn fresh(client: &Client, run: &Run) -> anyhow::Result<()> {
    let made = create(client, None, &run.made).await?;
    let Some(id) = made["id"].as_str() else {
        bail!("the server made a sandbox and does not say which");
    };
    if run.keep {
        eprintln!("{id}");
    }
    let ran = exec::run(client, id, &run.program).await;
    if !run.keep {
        client.delete(&path(id, "")?).await?;
    }
    ran
}

async fn remove(client: &Client, ids: &[String], as_json: bool) -> anyhow::Result<()> {
    let mut gone = Vec::new();
    for id in ids {
        gone.push(client.delete(&path(id, "")?).await?);
    }
    Ok(view::objects(&gone, &["id", "type"], as_json)?)
}

async fn collect(client: &Client, dry_run: bool, as_json: bool) -> anyhow::Result<()> {
    let all = client.get(ALL).await?;
    let unused = |one: &&Value| one["session_id"].is_null() && one["status"] == "stopped";
    let all = all["data"].as_array().cloned().unwrap_or_default();
    let unused: Vec<Value> = all.iter().filter(unused).cloned().collect();
    if !dry_run {
        for one in &unused {
            client
                .delete(&path(one["id"].as_str().unwrap_or_default(), "")?)
                .await?;
        }
    }
    Ok(view::objects(&unused, &["id", "status"], as_json)?)
}
