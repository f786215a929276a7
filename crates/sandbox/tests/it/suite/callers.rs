//! Several who call one sandbox: a shell each, files and processes in common.

use std::sync::Arc;

use hand::limits::CALLERS;
use sandbox::{Error, Provider, Sandbox, Tool, ToolCall, ToolOutput};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::sandbox;
use crate::support::{ok, text, until};

const REASON: &str = "it was idle for 10 minutes";

/// One call of `caller`.
async fn call(sandbox: &Arc<dyn Sandbox>, caller: &str, name: Tool, input: Value) -> ToolOutput {
    let call = ToolCall {
        name,
        input,
        caller: Some(caller.to_owned()),
    };
    sandbox.tool(call, CancellationToken::new()).await.unwrap()
}

/// What a command of `caller` answers.
async fn said(sandbox: &Arc<dyn Sandbox>, caller: &str, command: &str) -> String {
    let input = json!({ "command": command });
    text(&call(sandbox, caller, Tool::Bash, input).await)
}

/// After `first`, a program in the background; over when it is that program, and no shell that is about to be.
fn background(first: &str) -> String {
    format!(
        "{first}sleep 1234 >/dev/null 2>&1 & until grep -qz '^1234$' /proc/$!/cmdline; do :; done"
    )
}

pub async fn callers_share_files_and_neither_directory_nor_variables_nor_a_running_command(
    provider: &dyn Provider,
) {
    let sandbox = sandbox(provider, "callers").await;
    // Each ends only when the other has come as far: one after another they would wait for ever.
    let (a, b) = tokio::join!(
        said(
            &sandbox,
            "a",
            "mkdir -p one; cd one; export WHO=a; touch /tmp/a; until test -e /tmp/b; do sleep 0.01; done; pwd"
        ),
        said(
            &sandbox,
            "b",
            "mkdir -p two; cd two; export WHO=b; touch /tmp/b; until test -e /tmp/a; do sleep 0.01; done; pwd"
        ),
    );
    assert_eq!(
        (a.as_str(), b.as_str()),
        ("/workspace/one", "/workspace/two")
    );
    let (long, ()) = tokio::join!(
        said(
            &sandbox,
            "a",
            "until test -e /tmp/go; do sleep 0.01; done; echo $WHO; echo file >shared"
        ),
        async {
            assert_eq!(
                said(&sandbox, "b", "echo $WHO; pwd").await,
                "b\n/workspace/two"
            );
            assert_eq!(
                ok(&sandbox, "echo [$WHO]; pwd; touch /tmp/go").await,
                "[]\n/workspace"
            );
        }
    );
    assert_eq!(long, "a");
    assert_eq!(said(&sandbox, "b", "cat ../one/shared").await, "file");
    // A restart, and a command that runs too long, are the matter of one.
    call(&sandbox, "a", Tool::Bash, json!({"restart": true})).await;
    assert_eq!(
        said(&sandbox, "a", "echo [$WHO]; pwd").await,
        "[]\n/workspace"
    );
    let late = json!({"command": "sleep 1000", "timeout_ms": 50});
    let late = call(&sandbox, "a", Tool::Bash, late).await;
    assert_eq!(text(&late), "bash: bash command timed out after 0.1s");
    assert_eq!(
        said(&sandbox, "b", "echo $WHO; pwd").await,
        "b\n/workspace/two"
    );
    assert!(
        said(&sandbox, "a", "true")
            .await
            .contains("restart required")
    );
    // What stood still is told to each, once.
    said(&sandbox, "b", &background("")).await;
    sandbox.pause().await.unwrap();
    let heard = said(&sandbox, "b", "echo $WHO").await;
    assert!(heard.starts_with("b\n[The sandbox was paused"), "{heard}");
    let write = json!({"file_path": "x", "content": "y"});
    let heard = text(&call(&sandbox, "a", Tool::Write, write).await);
    assert!(heard.contains("goes on now: `sleep 1234`"), "{heard}");
    assert_eq!(said(&sandbox, "b", "echo $WHO").await, "b");
    for name in ["", "../up", "two words"] {
        let call = ToolCall {
            name: Tool::Bash,
            input: json!({"command": "true"}),
            caller: Some(name.to_owned()),
        };
        let refused = sandbox.tool(call, CancellationToken::new()).await;
        assert!(
            matches!(refused, Err(Error::Invalid { .. })),
            "{name}: {refused:?}"
        );
    }
}

pub async fn every_caller_is_back_where_it_was_after_hibernation(provider: &dyn Provider) {
    let first = sandbox(provider, "rested").await;
    ok(&first, "cd /tmp; export WHO=first").await;
    said(&first, "a", "mkdir -p 'a dir'; cd 'a dir'; export WHO=a").await;
    said(&first, "b", &background("cd /usr; export WHO=b; ")).await;
    first.hibernate(REASON).await.unwrap();
    let next = sandbox(provider, "rested").await;
    // One of them sleeps through a second rest.
    let b = said(&next, "b", "echo $WHO; pwd").await;
    assert!(b.starts_with("b\n/usr\n[The sandbox was stopped"), "{b}");
    assert!(
        b.contains("the shell is back in /usr") && b.contains("`sleep 1234`"),
        "{b}"
    );
    assert_eq!(
        said(&next, "new", "echo [$WHO]; pwd").await,
        "[]\n/workspace"
    );
    next.hibernate(REASON).await.unwrap();
    let last = sandbox(provider, "rested").await;
    let a = said(&last, "a", "echo $WHO; pwd").await;
    assert!(
        a.starts_with("a\n/workspace/a dir\n[The sandbox was stopped"),
        "{a}"
    );
    let b = said(&last, "b", "echo $WHO; pwd").await;
    assert!(
        b.starts_with("b\n/usr\n") && b.contains("back in /usr"),
        "{b}"
    );
    let one = text(&crate::support::bash(&last, "echo $WHO; pwd").await);
    assert!(one.starts_with("first\n/tmp\n"), "{one}");
}

pub async fn as_many_callers_as_there_may_be_have_a_shell_and_one_more_is_told_so(
    provider: &dyn Provider,
) {
    let sandbox = sandbox(provider, "crowd").await;
    let names: Vec<String> = (1..CALLERS).map(|n| format!("caller-{n}")).collect();
    for name in &names {
        assert_eq!(
            said(&sandbox, name, "echo $$ >/tmp/$$; sleep 4321 & echo ready").await,
            "ready"
        );
    }
    let no_room = said(&sandbox, "late", "echo never").await;
    assert!(
        no_room.starts_with("bash: 26 threads have a shell"),
        "{no_room}"
    );
    assert!(
        no_room.contains("there is room again when one of them has ended"),
        "{no_room}"
    );
    // Files need no shell.
    let write = json!({"file_path": "x", "content": "y"});
    assert!(!call(&sandbox, "late", Tool::Write, write).await.is_error);
    let (kept, gone) = names.split_at(2);
    let running = || async { ok(&sandbox, "pgrep -c -f '^sleep 4321' || true").await };
    assert_eq!(running().await, (CALLERS - 1).to_string());
    assert_eq!(gone.len(), CALLERS - 3);
    sandbox.callers(kept.to_vec());
    until("their shells have ended, with what ran in them", || async {
        running().await == "2"
    })
    .await;
    assert_eq!(
        said(&sandbox, "late", "echo room; pwd").await,
        "room\n/workspace"
    );
    assert_eq!(
        said(&sandbox, &kept[0], "test -e /tmp/$$ && echo same").await,
        "same"
    );
}
