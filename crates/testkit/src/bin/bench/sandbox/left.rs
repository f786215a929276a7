//! Sandboxes whose server was killed, until the next one looks after all of them.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use sandbox::{Config, Keeper, Local, Provider, Sandbox, SandboxId, Settings, Spec};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::first_output;
use crate::Wrong;
use crate::numbers::{millis, percentile, rounded};

/// How many are left.
const LEFT: usize = 200;
/// How often that is measured.
const ROUNDS: usize = 3;
/// How many are spoken to at once, as when they are taken over.
const AT_ONCE: usize = 64;
/// How long they live without a server.
const ORPHAN: Duration = Duration::from_secs(120);

/// `bench hold DIR`: a server that makes them, says so, and waits to be killed.
pub(crate) async fn hold(dir: &Path) -> Result<(), Wrong> {
    let local = local(dir)?;
    let mut held = Vec::new();
    for n in 0..LEFT {
        let sandbox = local.attach(Spec::new(name(n)?)).await?;
        first_output(&sandbox).await?;
        held.push(sandbox);
    }
    println!("ready");
    std::future::pending().await
}

/// From the start of the next provider until the last one is taken over; beside it, what it takes to ask each
/// whether it lives.
pub(super) async fn left() -> Result<Value, Wrong> {
    let (mut taken, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let place = tempfile::tempdir()?;
        let mut server = Command::new(std::env::current_exe()?)
            .arg("hold")
            .arg(place.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = server.stdout.take().ok_or("no output")?;
        let ready = BufReader::new(stdout).lines().next_line().await?;
        if ready.as_deref() != Some("ready") {
            return Err("the server that was to be killed did not start".into());
        }
        server.kill().await?;
        let begun = Instant::now();
        let keeper = Keeper::new(Arc::new(local(place.path())?), Settings::default(), || 0);
        let found = keeper.take_over().await?;
        taken.push(begun.elapsed());
        if found.len() != LEFT {
            return Err(format!("{} of {LEFT} were taken over", found.len()).into());
        }
        let begun = Instant::now();
        let running = found.iter().filter_map(|id| keeper.running(id));
        let answers = futures_util::stream::iter(running)
            .map(|sandbox: Arc<dyn Sandbox>| async move { sandbox.ping().await })
            .buffer_unordered(AT_ONCE);
        for answer in answers.collect::<Vec<_>>().await {
            answer?;
        }
        asked.push(begun.elapsed());
        keeper.stop_all("the measurement is over").await;
    }
    let (figure, floor) = (percentile(&taken, 50), percentile(&asked, 50));
    Ok(json!({
        "sandboxes": LEFT, "figure_p50_ms": millis(figure), "floor_p50_ms": millis(floor),
        "floor": "a question to each of them and its answer", "target": {"p50_ms": 100},
        "ratio": rounded(figure.as_secs_f64() / floor.as_secs_f64().max(1e-9)),
    }))
}

fn local(dir: &Path) -> Result<Local, Wrong> {
    let sandboxes = dir.join("sandboxes");
    let mut config = Config::beside(&sandboxes);
    config.orphan = ORPHAN;
    Ok(Local::new(sandboxes, config)?)
}

fn name(n: usize) -> Result<SandboxId, Wrong> {
    Ok(SandboxId::new(format!("left-{n}"))?)
}
