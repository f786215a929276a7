//! What the egress process holds for many sandboxes with open connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sandbox::{Sandbox, Tool, ToolCall};
use serde_json::{Value, json};
use testkit::setting;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Egress;
use super::server::{HOLD, SERVER};
use crate::Wrong;
use crate::memory::Held;

/// Sandboxes, unless `TESTKIT_BENCH_SANDBOXES` says otherwise, and connections of each.
const SANDBOXES: u64 = 1_000;
const EACH: usize = 5;
/// Megabytes that are wanted at most.
const TARGET_MB: u64 = 300;
/// How long all of them may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens them, over each of which a byte has gone, and looks.
pub(super) async fn memory(egress: &Egress) -> Result<Value, Wrong> {
    let sandboxes = usize::try_from(setting::number("TESTKIT_BENCH_SANDBOXES", SANDBOXES))?;
    let open = Arc::<AtomicUsize>::default();
    let (listener, counted) = (TcpListener::bind((SERVER, HOLD)).await?, Arc::clone(&open));
    let mut holding = JoinSet::new();
    holding.spawn(hold(listener, counted));
    let process = egress.process()?;
    let before = Held::by(process)?;
    let mut live: Vec<Arc<dyn Sandbox>> = Vec::new();
    for number in 0..sandboxes {
        live.push(egress.ground.attach(&format!("crowd-{number}")).await?);
    }
    let idle = Held::by(process)?;
    for sandbox in &live {
        // A shell of their own holds them, on numbers that it chooses (from 10 on a shell keeps its own), and waits;
        // it ends with the sandbox.
        let command = format!(
            "(for n in $(seq {EACH}); do exec {{fd}}<>/dev/tcp/{SERVER}/{HOLD}; read -rn1 -u $fd; done; read -ru $fd) >/dev/null 2>&1 &"
        );
        let call = ToolCall {
            name: Tool::Bash,
            input: json!({"command": command}),
            caller: None,
        };
        sandbox.tool(call, CancellationToken::new()).await?;
    }
    let wanted = sandboxes * EACH;
    let deadline = Instant::now() + PATIENCE;
    while open.load(Ordering::Relaxed) < wanted && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let full = Held::by(process)?;
    let opened = open.load(Ordering::Relaxed);
    holding.abort_all();
    live.clear();
    for number in 0..sandboxes {
        egress.ground.delete(&format!("crowd-{number}")).await?;
    }
    if opened < wanted {
        return Err(format!("{opened} of {wanted} connections came").into());
    }
    Ok(json!({
        "sandboxes": sandboxes, "connections": opened,
        "before": before.shown(), "without_connections": idle.shown(), "figure": full.shown(),
        "kib_a_sandbox": (idle.own.saturating_sub(before.own)) / 1024 / sandboxes.max(1) as u64,
        "kib_a_connection": (full.own.saturating_sub(idle.own)) / 1024 / wanted.max(1) as u64,
        "target_mb": TARGET_MB * sandboxes as u64 / SANDBOXES,
    }))
}

/// Greets whoever comes, and keeps all.
async fn hold(listener: TcpListener, open: Arc<AtomicUsize>) {
    let mut kept: Vec<TcpStream> = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        if stream.write_all(b"!").await.is_ok() {
            open.fetch_add(1, Ordering::Relaxed);
            kept.push(stream);
        }
    }
}
