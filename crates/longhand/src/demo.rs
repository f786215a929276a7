//! `longhand demo`: a whole session on this machine. The model is scripted and says so; everything else
//! is real: the server, the store, the stream, the sandbox and what runs in it.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, bail};
use sandbox::Provider as _;
use serde_json::{Value, json};

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::{cli, doctor, provider, serve, view};

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
    doctor::require(&serve::local_provider(&data_dir)?.probe().await)?;
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
        serve::Signals::take()?.next().await;
    }
    server.stop(Duration::from_secs(5)).await?;
    scripted.shutdown().await;
    played
}

async fn play(url: &str, key: &str, as_json: bool) -> anyhow::Result<()> {
    let api = Api {
        client: reqwest::Client::builder().no_proxy().build()?,
        url: url.to_owned(),
        key: key.to_owned(),
    };
    let agent = api
        .post(
            "/v1/agents",
            &json!({
                "name": "Demo coder", "model": "claude-sonnet-5-5",
                "system": "You are a careful programmer.",
                "tools": [{"type": "agent_toolset_20260401"}],
            }),
        )
        .await?;
    let environment = api
        .post("/v1/environments", &json!({"name": "demo", "config": {"type": "cloud", "networking": {"type": "unrestricted"}}}))
        .await?;
    let session = api
        .post(
            "/v1/sessions",
            &json!({
                "agent": agent["id"], "environment_id": environment["id"], "title": "Longhand demo",
            }),
        )
        .await?;
    let id = session["id"].as_str().context("a session has an id")?;
    let mut stream = api.stream(id).await?;
    let text = format!(
        "Write a program that prints the primes below 30.\n\nSCRIPT: {}",
        script()
    );
    let message = json!({"type": "user.message", "content": [{"type": "text", "text": text}]});
    api.post(
        &format!("/v1/sessions/{id}/events"),
        &json!({"events": [message]}),
    )
    .await?;
    let mut failed = false;
    loop {
        let next = tokio::time::timeout(Duration::from_secs(120), stream.next());
        let event = next.await.context("the session fell silent")??;
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

/// The few requests the demo makes, over real HTTP like any client's.
struct Api {
    client: reqwest::Client,
    url: String,
    key: String,
}

impl Api {
    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.key)
            .header("anthropic-version", "2026-10-21")
            .header("anthropic-beta", "managed-agents-2026-04-01")
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self
            .request(reqwest::Method::POST, path)
            .json(body)
            .send()
            .await?;
        let status = response.status();
        let answer = response.json::<Value>().await?;
        if !status.is_success() {
            bail!("POST {path}: {status}: {}", answer["error"]["message"]);
        }
        Ok(answer)
    }

    async fn stream(&self, session: &str) -> anyhow::Result<Stream> {
        let path = format!("/v1/sessions/{session}/events/stream");
        let response = self
            .request(reqwest::Method::GET, &path)
            .send()
            .await?
            .error_for_status()?;
        Ok(Stream {
            response,
            buffer: Vec::new(),
        })
    }
}

/// The session's events as they happen.
struct Stream {
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Stream {
    async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
                let frame = self.buffer.drain(..end + 2).collect::<Vec<_>>();
                let frame = String::from_utf8_lossy(&frame);
                let data = frame.lines().find_map(|line| line.strip_prefix("data: "));
                let event = data.map(serde_json::from_str::<Value>).transpose()?;
                if let Some(event) =
                    event.filter(|e| e["type"] != "ping" && !e["processed_at"].is_null())
                {
                    return Ok(event);
                }
            }
            let chunk = self
                .response
                .chunk()
                .await?
                .context("the stream ended early")?;
            self.buffer.extend_from_slice(&chunk);
        }
    }
}
