//! Standing still, and what is used meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::{Provider, Sandbox, Tool, ToolCall};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::sandbox;
use crate::support::{bash, ok, text, until};

/// A counter that something in the background keeps raising.
async fn start_counter(sandbox: &Arc<dyn Sandbox>) {
    let command =
        "(i=0; while :; do i=$((i+1)); echo $i >/tmp/n; done) >/dev/null 2>&1 & disown; sleep 0.1";
    ok(sandbox, command).await;
}

pub async fn a_paused_sandbox_does_nothing_and_the_next_use_resumes_it(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "still").await;
    start_counter(&sandbox).await;
    sandbox.pause().await.unwrap();
    assert!(sandbox.is_paused() && sandbox.is_alive());
    let used = sandbox.stats().await.unwrap();
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        tokio::task::yield_now().await;
    }
    let later = sandbox.stats().await.unwrap();
    assert_eq!(later.cpu, used.cpu, "it worked while it was paused");
    assert!(sandbox.is_paused());
    let output = text(&bash(&sandbox, "echo back").await);
    assert!(!sandbox.is_paused());
    assert!(
        output.starts_with("back\n[The sandbox was paused for 0 s."),
        "{output}"
    );
    assert!(output.contains("goes on now"), "{output}");
    // Said once; and it does go on.
    let before = ok(&sandbox, "cat /tmp/n").await;
    crate::support::until("it counts on", || async {
        ok(&sandbox, "cat /tmp/n").await != before
    })
    .await;
}

pub async fn a_pause_during_a_call_takes_nothing_of_its_time(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "during").await;
    let (caller, input) = (
        Arc::clone(&sandbox),
        json!({"command": "touch /tmp/begun; sleep 0.2; echo end", "timeout_ms": 1500}),
    );
    let mut calls = JoinSet::new();
    calls.spawn(async move {
        let call = ToolCall {
            name: Tool::Bash,
            input,
            caller: None,
        };
        caller.tool(call, CancellationToken::new()).await
    });
    until("it has begun", || async {
        sandbox.stat("/tmp/begun").await.is_ok()
    })
    .await;
    sandbox.pause().await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2000) {
        tokio::task::yield_now().await;
    }
    assert!(calls.try_join_next().is_none());
    sandbox.resume().await.unwrap();
    let output = calls.join_next().await.unwrap().unwrap().unwrap();
    let output = text(&output);
    assert!(output.starts_with("end"), "{output}");
}

pub async fn a_paused_sandbox_can_be_stopped(provider: &dyn Provider) {
    let first = sandbox(provider, "stopped").await;
    start_counter(&first).await;
    first.pause().await.unwrap();
    first.stop().await.unwrap();
    assert!(!first.is_alive());
    let again = sandbox(provider, "stopped").await;
    assert_eq!(ok(&again, "pgrep -c bash").await, "1");
}

pub async fn pause_and_resume_can_be_repeated(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "again").await;
    sandbox.resume().await.unwrap();
    for round in 0..5 {
        sandbox.pause().await.unwrap();
        sandbox.pause().await.unwrap();
        sandbox.resume().await.unwrap();
        sandbox.resume().await.unwrap();
        // Nothing ran in the background, so there is nothing to say.
        assert_eq!(
            ok(&sandbox, &format!("echo {round}")).await,
            round.to_string()
        );
    }
}

pub async fn what_it_uses_is_counted(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "counted").await;
    ok(
        &sandbox,
        "head -c 3000000 /dev/urandom >big; sleep 1000 >/dev/null 2>&1 &",
    )
    .await;
    let stats = sandbox.stats().await.unwrap();
    assert!(
        stats.disk_bytes >= 3_000_000 && !stats.disk_more,
        "{stats:?}"
    );
    if let Some(processes) = stats.processes {
        assert!(processes >= 3, "{stats:?}");
    }
    if let Some(memory) = stats.memory_bytes {
        assert!(memory > 100_000, "{stats:?}");
    }
    let runs = async || sandbox.processes().await.unwrap();
    until("it sleeps", || async {
        let mut running = runs().await.into_iter();
        running.any(|p| p.command == "sleep 1000" && p.state == 'S')
    })
    .await;
    let processes = runs().await;
    let sleeper = processes.iter().find(|p| p.command == "sleep 1000");
    let sleeper = sleeper.unwrap();
    assert_eq!(sleeper.state, 'S');
    assert!(processes.iter().any(|p| p.pid == sleeper.parent));
    assert!(processes.iter().all(|p| p.pid != 1));
}
