//! Files planted from inside where the hand will write or read: none holds a call up or leads it astray.

use std::sync::Arc;
use std::time::Duration;

use sandbox::{Command, Sandbox, Tool, ToolOutput};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

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
    let mut found: Vec<_> = text(&output).lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "/workspace/found",
            "/workspace/rules/deep/y",
            "/workspace/rules/x"
        ]
    );
}

#[tokio::test]
async fn grep_is_not_held_up_by_rules_that_turn_into_fifos_meanwhile() {
    let host = host();
    let sandbox = host.attach("grep-race").await;
    // Exchanges a file of rules and a FIFO in each of many directories, without a pause.
    let program = "import ctypes, os\n\
        l = ctypes.CDLL(None)\n\
        names = []\n\
        for n in range(40):\n    \
            os.makedirs('d%d' % n); open('d%d/.gitignore' % n, 'w').write('nothing\\n'); os.mkfifo('d%d/fifo' % n)\n    \
            names.append((b'd%d/.gitignore' % n, b'd%d/fifo' % n))\n\
        os.mkdir('.git'); open('needle', 'w').write('needle'); print('ready', flush=True)\n\
        while True:\n    \
            for a, b in names: l.renameat2(-100, a, -100, b, 2)\n";
    let mut racer = sandbox
        .spawn(Command::new(["/usr/bin/python3", "-c", program]))
        .await
        .unwrap();
    let mut said = [0; 6];
    let mut stdout = racer.stdout.take().unwrap();
    stdout.read_exact(&mut said).await.unwrap();
    for _ in 0..40 {
        let output = answer(&sandbox, Tool::Grep, json!({"pattern": "needle"})).await;
        assert_eq!(text(&output), "/workspace/needle");
    }
}

#[tokio::test]
async fn a_problem_as_long_as_what_was_asked_is_shortened_and_loses_nothing() {
    let host = host();
    let sandbox = host.attach("long-problem").await;
    let long = format!("/workspace/{}", "x".repeat(2_000_000));
    for tool in [Tool::Read, Tool::Edit, Tool::Grep] {
        let input = json!({"file_path": long, "path": long, "pattern": "x", "old_string": "a", "new_string": "b"});
        let output = answer(&sandbox, tool, input).await;
        assert!(
            output.is_error && text(&output).chars().count() < 10_000,
            "{tool:?}"
        );
    }
    ok(&sandbox, "true").await;
}
