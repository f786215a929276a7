//! Files planted from inside where the hand will write or read: none holds a call up or leads it astray.

use std::sync::Arc;
use std::time::Duration;

use sandbox::{Sandbox, Tool, ToolOutput};
use serde_json::{Value, json};

use crate::support::{call, host, ok, text};

/// More characters than an answer may have.
const LONG: &str = "head -c 102000 /dev/zero | tr '\\0' a";

/// The answer to a call; the deadline only ends a test that has failed.
async fn answer(sandbox: &Arc<dyn Sandbox>, tool: Tool, input: Value) -> ToolOutput {
    let deadline = Duration::from_secs(30);
    let answer = tokio::time::timeout(deadline, call(sandbox, tool, input)).await;
    answer.expect("the call hangs")
}

#[tokio::test]
async fn fifos_where_long_output_was_kept_hold_nothing_up() {
    let host = host();
    let sandbox = host.attach("spill-fifo").await;
    let plant =
        "mkdir /tmp/tool-outputs; for i in {0..50}; do mkfifo /tmp/tool-outputs/bash-$i.txt; done";
    ok(&sandbox, plant).await;
    let output = text(&answer(&sandbox, Tool::Bash, json!({"command": LONG})).await);
    let path = output.split("all of it is in ").nth(1);
    let path = path.and_then(|rest| rest.split(';').next()).unwrap();
    assert_eq!(ok(&sandbox, &format!("wc -c < {path}")).await, "102000");
}

#[tokio::test]
async fn long_output_is_not_kept_through_a_planted_link_or_fifo() {
    let host = host();
    let sandbox = host.attach("spill-link").await;
    for plant in [
        "mkdir away; ln -s /workspace/away /tmp/tool-outputs",
        "rm /tmp/tool-outputs; mkfifo /tmp/tool-outputs",
    ] {
        ok(&sandbox, plant).await;
        let output = text(&answer(&sandbox, Tool::Bash, json!({"command": LONG})).await);
        assert!(
            output.contains("it could not be kept in a file: "),
            "{}",
            &output[..200]
        );
    }
    assert_eq!(ok(&sandbox, "ls -A away").await, "");
}

#[tokio::test]
async fn grep_waits_for_no_fifo_in_the_tree() {
    let host = host();
    let sandbox = host.attach("grep-fifo").await;
    let plant = "mkfifo pipe; mkdir rules; echo needle > rules/x; mkfifo rules/.gitignore; git init -q .; \
        mkdir rules/deep; echo needle > rules/deep/y; echo needle > found";
    ok(&sandbox, plant).await;
    let output = answer(&sandbox, Tool::Grep, json!({"pattern": "needle"})).await;
    assert_eq!(text(&output), "/workspace/found");
    for path in ["rules", "rules/deep"] {
        let input = json!({"pattern": "needle", "path": path});
        assert_eq!(
            text(&answer(&sandbox, Tool::Grep, input).await),
            "grep: an ignore file in /workspace/rules is not a file"
        );
    }
}
