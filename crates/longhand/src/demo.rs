//! `longhand demo`: a whole session on this machine. The model is scripted and says so; everything else
//! is real: the server, the store, the stream, the sandbox and what runs in it.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::secret::Secret;
use sandbox::Provider as _;
use serde_json::{Value, json};

use crate::client::Client;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::{cli, doctor, provider, serve, sessions, signals, view};

/// What the scripted model does when it gets the demo's message.
fn script() -> Value {
    let program = "def primes(n):\n    found = []\n    for k in range(2, n):\n        if all(k % p for p in found):\n            found.append(k)\n    return founds\n\nprint(primes(30))\n";
    json!([
        {"text": "I'll write it to a file and run it.", "tool": "write",
         "input": {"file_path": "primes.py", "content": program}},
        {"tool": "bash", "input": {"command": "python3 primes.py"}},
        {"text": "A typo: the name is `found`.", "tool": "edit",
         "input": {"file_path": "primes.py", "old_string": "return founds", "new_string": "return found"}},
        {"tools": [
            {"name": "bash", "input": {"command": "python3 primes.py | tee /mnt/session/outputs/primes.txt"}},
            {"name": "bash", "input": {"command": "id -un; ls -m /; cat /etc/shadow 2>&1 | head -1; (echo > /dev/tcp/192.0.2.1/80) 2>&1 | tail -1"}}
        ]},
        {"text": "Done: primes.py prints the primes below 30, and the result is in /mnt/session/outputs/primes.txt."}
    ])
}

/// Runs the demo.
///
/// # Errors
/// The server does not start, or this machine cannot run sandboxes (exit code 3, with the mend).
pub async fn run(demo: &cli::Demo, mut config: Config) -> anyhow::Result<()> {
    let home = tempfile::Builder::new()
        .prefix("longhand-demo-")
        .tempdir()?;
    let data_dir = DataDir::open(Some(home.path()))?;
    config.sandbox = config.sandbox.short_lived();
    doctor::require(
        &serve::local_provider(&data_dir, &config.sandbox, None)?
            .probe()
            .await,
    )?;
    let scripted = scripted::Scripted::start(([127, 0, 0, 1], 0).into())
        .await
        .context("cannot start the scripted model")?;
    if !demo.keep {
        config.server.listen = ([127, 0, 0, 1], 0).into();
    }
    let model = provider::scripted(&scripted.base_url())?;
    let server = serve::Server::start(&config, data_dir, Some(model)).await?;
    let key = server.new_key("demo").await?;
    let played = play(server.url(), key.expose(), demo.json).await;
    if played.is_ok() && demo.keep {
        eprintln!("\nThe server stays up (Ctrl-C ends it). Point an SDK at it:");
        eprintln!(
            "  anthropic.Anthropic(base_url=\"{}\", api_key=\"{}\")",
            server.url(),
            key.expose()
        );
        signals::Signals::take()?.next().await;
    }
    server.stop(Duration::from_secs(5)).await?;
    scripted.shutdown().await;
    played
}

async fn play(url: &str, key: &str, as_json: bool) -> anyhow::Result<()> {
    let api = Client::remote(url, Secret::new(key.to_owned()))?;
    let agent = json!({
        "name": "Demo coder", "model": "claude-sonnet-5-5",
        "system": "You are a careful programmer.",
        "tools": [{"type": "agent_toolset_20260401"}],
    });
    let agent = api.post("/v1/agents", Some(&agent)).await?;
    let networking = json!({"type": "unrestricted"});
    let environment =
        json!({"name": "demo", "config": {"type": "cloud", "networking": networking}});
    let environment = api.post("/v1/environments", Some(&environment)).await?;
    let session = json!({
        "agent": agent["id"], "environment_id": environment["id"], "title": "Longhand demo",
    });
    let session = api.post("/v1/sessions", Some(&session)).await?;
    let id = session["id"].as_str().context("a session has an id")?;
    let mut stream = api.stream(id, None).await?;
    let text = format!(
        "Write a program that prints the primes below 30.\n\nSCRIPT: {}",
        script()
    );
    sessions::post(&api, id, &[sessions::message(&text)]).await?;
    let mut failed = false;
    loop {
        let next = tokio::time::timeout(Duration::from_secs(120), stream.next());
        let event = next.await.context("the session fell silent")??;
        let event = event.context("the stream ended early")?;
        // Previews, and what only waits, are not shown here.
        if event["processed_at"].is_null() {
            continue;
        }
        if as_json {
            writeln!(std::io::stdout(), "{event}")?;
        } else {
            view::event(&event)?;
        }
        match event["type"].as_str() {
            Some("session.error") => failed = true,
            Some("agent.tool_result") => failed |= not_started(&event),
            Some("session.status_idle") => break,
            _ => {}
        }
    }
    if failed {
        bail!(
            "the demo's session did not go as it should; `longhand doctor` says what this machine lacks"
        );
    }
    Ok(())
}

/// The sandbox itself failed (a command that fails inside is part of the demo).
fn not_started(event: &Value) -> bool {
    let text = event["content"][0]["text"].as_str().unwrap_or_default();
    text.contains("sandbox could not be started")
        || text.contains("outcome of this call is unknown")
}
