//! What a start costs that is not the plain one: after a hibernation, on a disk of its own, with a network. Each
//! beside the plain one or a process of the host, in the same run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sandbox::{DiskKind, Ends, Error, Network, Sandbox, SandboxId, Tool, ToolCall};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::contenders::host_process;
use super::{Ground, first_output, ratio};
use crate::Wrong;
use crate::numbers::{millis, percentile};

/// Bytes of a disk of its own.
const IMAGE: u64 = 1 << 30;

/// A session that was hibernated, until its shell has answered again, where it was; the floor is a shell of the host
/// that prints the same.
pub(super) async fn hibernated(ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let sandbox = ground.attach("resting").await?;
    said(&sandbox, "mkdir -p deep && cd deep && export KEPT=here").await?;
    sandbox.hibernate("a measurement").await?;
    drop(sandbox);
    for round in 0..=rounds {
        let begun = Instant::now();
        let sandbox = ground.attach("resting").await?;
        let there = said(&sandbox, "echo \"$PWD $KEPT\"").await?;
        let took = begun.elapsed();
        if !there.contains("/workspace/deep here") {
            return Err(format!("a hibernated shell is not where it was: {there}").into());
        }
        sandbox.hibernate("a measurement").await?;
        drop(sandbox);
        let begun = Instant::now();
        host_process(&["/bin/bash", "--norc", "-c", "echo x"]).await?;
        if round > 0 {
            ours.push(took);
            floor.push(begun.elapsed());
        }
    }
    ground.delete("resting").await?;
    Ok(compared(&ours, &floor, "bash on the host", 15.0))
}

/// From nothing to the first byte on a disk of its own; the floor is the same on a counted one.
pub(super) async fn image(plain: &Ground, rounds: usize) -> Result<Value, Wrong> {
    let ground = Ground::with(|config| {
        config.allowance.disk.kind = DiskKind::Image;
        config.allowance.disk.bytes = IMAGE;
    })?;
    let (ours, floor) = beside(&ground, plain, rounds).await?;
    ground.local.shutdown().await;
    let mut figures = compared(&ours, &floor, "the same on a counted disk", 0.0);
    figures["image_bytes"] = json!(IMAGE);
    Ok(figures)
}

/// From nothing to the first byte with ways out that nobody carries; the floor is the same without.
pub(super) async fn network(plain: &Ground, rounds: usize) -> Result<Value, Wrong> {
    let ground = Ground::with(|config| config.network = Some(Arc::new(Nobody)))?;
    let (ours, floor) = match beside(&ground, plain, rounds).await {
        Ok(times) => times,
        Err(error) => return Ok(json!({"left_out": error.to_string()})),
    };
    ground.local.shutdown().await;
    let mut figures = compared(&ours, &floor, "the same without a network", 0.0);
    let share = percentile(&ours, 50).saturating_sub(percentile(&floor, 50));
    figures["network_ms"] = json!(millis(share));
    Ok(figures)
}

/// Carries nothing.
#[derive(Debug)]
pub(crate) struct Nobody;

#[async_trait]
impl Network for Nobody {
    async fn attach(&self, _: &SandboxId, _: Ends) -> Result<(), Error> {
        Ok(())
    }

    fn gone(&self, _: &SandboxId) {}
}

/// The same start on two grounds, taking turns.
async fn beside(
    one: &Ground,
    other: &Ground,
    rounds: usize,
) -> Result<(Vec<Duration>, Vec<Duration>), Wrong> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        for (ground, times) in [(one, &mut first), (other, &mut second)] {
            let name = format!("kind-{round}");
            let begun = Instant::now();
            let sandbox = ground.attach(&name).await?;
            first_output(&sandbox).await?;
            if round > 0 {
                times.push(begun.elapsed());
            }
            drop(sandbox);
            ground.delete(&name).await?;
        }
    }
    Ok((first, second))
}

fn compared(ours: &[Duration], floor: &[Duration], what: &str, target: f64) -> Value {
    let mut figures = json!({
        "figure_p50_ms": millis(percentile(ours, 50)), "figure_p99_ms": millis(percentile(ours, 99)),
        "floor_p50_ms": millis(percentile(floor, 50)), "floor": what, "ratio": ratio(ours, floor),
    });
    if target > 0.0 {
        figures["target"] = json!({"p50_ms": target});
    }
    figures
}

/// What a command of the shell prints.
async fn said(sandbox: &Arc<dyn Sandbox>, command: &str) -> Result<String, Wrong> {
    let call = ToolCall {
        name: Tool::Bash,
        input: json!({"command": command}),
        caller: None,
    };
    let output = sandbox.tool(call, CancellationToken::new()).await?;
    let said = output.content.iter().map(|part| match part {
        sandbox::Content::Text { text } => text.as_str(),
        _ => "",
    });
    Ok(said.collect())
}
