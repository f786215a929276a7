//! Hibernation: what the next sandbox of a name goes on from, and what it says.

use std::sync::Arc;

use sandbox::{Provider, Tool, ToolCall};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::sandbox;
use crate::support::{bash, ok, text, until};

const REASON: &str = "it was idle for 10 minutes";

pub async fn the_shell_is_where_it_was_after_hibernation(provider: &dyn Provider) {
    let first = sandbox(provider, "shell").await;
    ok(
        &first,
        "mkdir -p 'a dir' && cd 'a dir' && export TOKENS='x \"y\" $z\nnext' PATH=$PATH:/extra; local_one=1",
    )
    .await;
    first.hibernate(REASON).await.unwrap();
    assert!(!first.is_alive());
    let next = sandbox(provider, "shell").await;
    let output = text(
        &bash(
            &next,
            "pwd; printf '%s\\n' \"$TOKENS\"; echo ${PATH##*:}; echo [$local_one]",
        )
        .await,
    );
    let expected = "/workspace/a dir\nx \"y\" $z\nnext\n/extra\n[]\n[The sandbox was stopped: it was idle for 10 minutes. \
        Its files are there; the shell is back in /workspace/a dir with the variables it had exported.]";
    assert_eq!(output, expected);
    // A restart asks for a new shell and gets one.
    let restart = json!({ "restart": true });
    crate::support::call(&next, Tool::Bash, restart).await;
    assert_eq!(ok(&next, "pwd").await, "/workspace");
}

pub async fn what_was_ended_is_told_once(provider: &dyn Provider) {
    let first = sandbox(provider, "ended").await;
    // Between its start and its program it has the shell's name.
    let away = "sleep 1234 >/dev/null 2>&1 & until grep -qz '^1234$' /proc/$!/cmdline; do :; done";
    ok(&first, away).await;
    first.pause().await.unwrap();
    first.hibernate(REASON).await.unwrap();
    let next = sandbox(provider, "ended").await;
    let input = json!({"file_path": "x", "content": "y"});
    let output = text(&crate::support::call(&next, Tool::Write, input).await);
    assert!(output.contains("was ended: `sleep 1234`"), "{output}");
    assert_eq!(ok(&next, "echo quiet").await, "quiet");
    next.stop().await.unwrap();
    // Nothing was kept for this one.
    let last = sandbox(provider, "ended").await;
    assert_eq!(ok(&last, "echo quiet; pwd").await, "quiet\n/workspace");
}

pub async fn a_call_under_way_does_not_hold_up_hibernation(provider: &dyn Provider) {
    let first = sandbox(provider, "busy").await;
    let caller = Arc::clone(&first);
    let mut calls = JoinSet::new();
    calls.spawn(async move {
        let input = json!({"command": "touch /tmp/begun; sleep 1000", "timeout_ms": 900_000});
        let name = Tool::Bash;
        let cancel = CancellationToken::new();
        caller
            .tool(
                ToolCall {
                    name,
                    input,
                    caller: None,
                },
                cancel,
            )
            .await
    });
    until("it runs", || async {
        first.stat("/tmp/begun").await.is_ok()
    })
    .await;
    first.hibernate("its time to live is over").await.unwrap();
    assert!(calls.join_next().await.unwrap().unwrap().is_err());
    let next = sandbox(provider, "busy").await;
    let output = text(&bash(&next, "pwd").await);
    assert!(
        output.starts_with("/workspace\n[The sandbox was stopped: its time to live is over."),
        "{output}"
    );
    assert!(output.contains("the shell is a new one"), "{output}");
}

pub async fn a_shell_that_cannot_be_brought_back_is_a_new_one(provider: &dyn Provider) {
    let first = sandbox(provider, "spoilt").await;
    ok(&first, "mkdir gone; cd gone; declare -rx FIXED=1").await;
    first.hibernate(REASON).await.unwrap();
    let next = sandbox(provider, "spoilt").await;
    next.remove("gone", true).await.unwrap();
    let output = text(&bash(&next, "echo $FIXED; pwd").await);
    assert!(output.starts_with("1\n/workspace\n"), "{output}");
    next.hibernate(REASON).await.unwrap();
    let next = sandbox(provider, "spoilt").await;
    let spoilt = next
        .write("/var/lib/longhand/shell.sh", None)
        .await
        .unwrap();
    let mut spoilt = spoilt;
    spoilt.send(b"exit 3\n").await.unwrap();
    spoilt.finish().await.unwrap();
    assert!(text(&bash(&next, "pwd").await).starts_with("/workspace\n"));
}
