//! The bash tool: one shell that lasts, and what ends a command.

use sandbox::{Error, Tool, ToolCall};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{bash, call, host, ok, text, until};

/// Lists the sleepers that are not dead; a dead one may wait a moment to be reaped.
const ALIVE: &str = "pgrep -r D,R,S,T sleep || true";

#[tokio::test]
async fn directory_variables_and_functions_last_from_call_to_call() {
    let host = host();
    let sandbox = host.attach("lasting").await;
    ok(
        &sandbox,
        "mkdir d; cd d; x=1; export y=2; f() { echo f$1; }; shopt -s extglob",
    )
    .await;
    assert_eq!(
        ok(
            &sandbox,
            "pwd; echo $x; printenv y; f 3; shopt -q extglob && echo on"
        )
        .await,
        "/workspace/d\n1\n2\nf3\non"
    );
}

#[tokio::test]
async fn output_is_both_streams_in_order_without_escapes_or_trailing_newlines() {
    let host = host();
    let sandbox = host.attach("output").await;
    let seen = ok(
        &sandbox,
        r"echo one; echo two >&2; printf '\e[31mred\e[0m\n\n\n'",
    )
    .await;
    assert_eq!(seen, "one\ntwo\nred");
}

#[tokio::test]
async fn a_failed_command_answers_with_its_output_or_else_its_status() {
    let host = host();
    let sandbox = host.attach("failed").await;
    let output = bash(&sandbox, "echo why; (exit 3)").await;
    assert_eq!((output.is_error, text(&output).as_str()), (true, "why"));
    let output = bash(&sandbox, "(exit 3)").await;
    assert_eq!(
        (output.is_error, text(&output).as_str()),
        (true, "exit code 3")
    );
    let output = bash(&sandbox, "kill -9 $BASHPID").await;
    assert_eq!(
        (output.is_error, text(&output).as_str()),
        (true, "killed by signal 9")
    );
    assert_eq!(ok(&sandbox, "true").await, "");
}

#[tokio::test]
async fn whatever_is_unfinished_in_a_command_does_not_reach_the_next() {
    let host = host();
    let sandbox = host.attach("unfinished").await;
    for broken in [
        "echo 'open",
        "cat <<X\nbody",
        "if true; then",
        "echo \"$(",
        "{ echo",
        "echo a\\",
    ] {
        bash(&sandbox, broken).await;
        assert_eq!(ok(&sandbox, "echo fine").await, "fine", "{broken}");
    }
    assert_eq!(
        ok(&sandbox, "cat <<'X'\nit's $HOME\nX\necho 'a\nb'").await,
        "it's $HOME\na\nb"
    );
}

#[tokio::test]
async fn commands_have_no_terminal_and_an_empty_input() {
    let host = host();
    let sandbox = host.attach("stdin").await;
    assert_eq!(
        ok(
            &sandbox,
            "cat; read x; echo \"[$x]\"; test -t 0 || echo none; readlink /proc/self/fd/0"
        )
        .await,
        "[]\nnone\n/dev/null"
    );
}

#[tokio::test]
async fn only_the_last_bytes_of_long_output_are_kept() {
    let host = host();
    let sandbox = host.attach("long").await;
    let seen = ok(
        &sandbox,
        "head -c 3000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo end",
    )
    .await;
    assert!(
        seen.starts_with("[output is 102"),
        "spilled: {}",
        &seen[..60]
    );
    assert!(seen.contains("[output truncated]\n") && seen.ends_with("end"));
    assert!(seen.len() < 5_000, "{}", seen.len());
    let path = seen
        .split("all of it is in ")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let part = call(
        &sandbox,
        Tool::Read,
        json!({"file_path": path, "view_range": [1, 2]}),
    )
    .await;
    assert!(
        text(&part).starts_with("[output truncated]\nxxx"),
        "{part:?}"
    );
    let seen = ok(&sandbox, "seq 1 1000000 | tail -c 90000; printf é").await;
    assert!(!seen.contains("truncated") && seen.ends_with("1000000\né"));
}

#[tokio::test]
async fn a_background_child_does_not_hold_up_its_call() {
    let host = host();
    let sandbox = host.attach("background").await;
    assert_eq!(
        ok(
            &sandbox,
            "sleep 1000 & (sleep 1000; echo never) & echo started"
        )
        .await,
        "started"
    );
    // The second one starts in a shell of its own, which may take its time.
    ok(&sandbox, "until test \"$(pgrep -c sleep)\" = 2; do :; done").await;
    // Its output, more than a pipe holds, is taken; nothing blocks it meanwhile.
    ok(
        &sandbox,
        "rm -f done; (head -c 300000 /dev/zero | tr '\\0' y; touch done) &",
    )
    .await;
    until("the background writer ends", || async {
        std::path::Path::new(&host.path("sandboxes/background/workspace/done")).exists()
    })
    .await;
}

#[tokio::test]
async fn what_the_background_prints_later_stands_in_a_log_and_in_no_later_answer() {
    let host = host();
    let sandbox = host.attach("noise").await;
    let command = "cd /workspace; (until test -e go; do sleep 0.01; done; echo late; echo worse >&2; touch printed; \
        until test -e again; do sleep 0.01; done; echo later; touch printed-again) & echo started";
    assert_eq!(ok(&sandbox, command).await, "started");
    let wait = "touch go; until test -e printed; do sleep 0.01; done; echo next";
    let next = ok(&sandbox, wait).await;
    let log = "/var/lib/longhand/background.log";
    assert!(next.starts_with("next"), "{next}");
    until("it is in the log", || async {
        text(&bash(&sandbox, &format!("cat {log}")).await).contains("late\nworse")
    })
    .await;
    let wait = "touch again; until test -e printed-again; do sleep 0.01; done; echo end";
    assert_eq!(ok(&sandbox, wait).await, "end", "where the log is was told");
    until("that too", || async {
        text(&bash(&sandbox, &format!("cat {log}")).await).contains("worse\nlater")
    })
    .await;
    let seen = ok(&sandbox, &format!("cat {log}")).await;
    assert!(
        seen.starts_with("--- cd /workspace; (until test -e go"),
        "{seen}"
    );
    assert_eq!(
        ok(&sandbox, "ls /run | grep -vcx harness").await,
        "1",
        "of the pipes there was, the name of its own is left"
    );
}

#[tokio::test]
async fn a_timeout_kills_the_shell_and_asks_for_a_restart() {
    let host = host();
    let sandbox = host.attach("timeout").await;
    ok(&sandbox, "x=1").await;
    let input = json!({"command": "echo before; sleep 1000 | cat", "timeout_ms": 300});
    let output = call(&sandbox, Tool::Bash, input).await;
    assert_eq!(
        (output.is_error, text(&output).as_str()),
        (true, "bash: bash command timed out after 0.3s")
    );
    for _ in 0..2 {
        let output = bash(&sandbox, "echo again").await;
        assert_eq!(
            (output.is_error, text(&output).as_str()),
            (true, "bash: bash session terminated; restart required")
        );
    }
    let output = call(&sandbox, Tool::Bash, json!({"restart": true})).await;
    assert_eq!(
        (output.is_error, text(&output).as_str()),
        (false, "bash session restarted")
    );
    assert_eq!(ok(&sandbox, &format!("echo [$x]; {ALIVE}")).await, "[]");
}

#[tokio::test]
async fn a_command_that_ends_the_shell_is_answered_and_the_next_has_a_new_one() {
    let host = host();
    let sandbox = host.attach("exit").await;
    let output = bash(&sandbox, "cd /tmp; sleep 1000 & echo bye; exit 4").await;
    assert_eq!((output.is_error, text(&output).as_str()), (true, "bye"));
    assert_eq!(ok(&sandbox, "pwd").await, "/workspace");
    assert_eq!(ok(&sandbox, "exec echo replaced").await, "replaced");
    assert_eq!(ok(&sandbox, "set -e; true").await, "");
    assert_eq!(text(&bash(&sandbox, "false").await), "exit code 1");
    assert_eq!(ok(&sandbox, "false; echo alive").await, "alive");
}

#[tokio::test]
async fn a_cancelled_command_is_killed_with_its_children_and_the_next_works() {
    let host = host();
    let sandbox = host.attach("cancel").await;
    let cancel = CancellationToken::new();
    let input =
        json!({"command": "touch started; sleep 1000 & bash -c 'sleep 1000; true'; echo never"});
    let running = sandbox.tool(
        ToolCall {
            name: Tool::Bash,
            input,
            caller: None,
        },
        cancel.clone(),
    );
    let (result, ()) = tokio::join!(running, async {
        until("the command runs", || async {
            host.path("sandboxes/cancel/workspace/started").exists()
        })
        .await;
        cancel.cancel();
    });
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert_eq!(ok(&sandbox, ALIVE).await, "");
}

#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    let host = host();
    let sandbox = host.attach("dropped").await;
    let input = json!({"command": "touch started; sleep 1000"});
    let running = sandbox.tool(
        ToolCall {
            name: Tool::Bash,
            input,
            caller: None,
        },
        CancellationToken::new(),
    );
    tokio::select! {
        ended = running => panic!("ended: {ended:?}"),
        () = until("the command runs", || async { host.path("sandboxes/dropped/workspace/started").exists() }) => {}
    }
    assert_eq!(ok(&sandbox, ALIVE).await, "");
}

#[tokio::test]
async fn commands_of_parallel_calls_run_one_after_another() {
    let host = host();
    let sandbox = host.attach("parallel").await;
    let add = || {
        ok(
            &sandbox,
            "n=$((${n:-0} + 1)); test ! -e busy && touch busy && sleep 0.01; rm busy; echo $n",
        )
    };
    let (a, b, c) = tokio::join!(add(), add(), add());
    let mut seen = [a, b, c];
    seen.sort();
    assert_eq!(seen, ["1", "2", "3"]);
}

#[tokio::test]
async fn bad_input_is_answered_by_the_tool() {
    let host = host();
    let sandbox = host.attach("input").await;
    for (input, says) in [
        (json!({}), "bash: command is required"),
        (json!({"command": null}), "bash: command is required"),
        (json!({"command": 1}), "bash: command must be a string"),
        (
            json!({"command": "true", "restart": "yes"}),
            "bash: restart must be true or false",
        ),
        (
            json!({"command": "true", "timeout_ms": -1}),
            "bash: timeout_ms must be a whole number, not negative",
        ),
        (
            json!({"command": "a\0b"}),
            "bash: command contains a NUL byte",
        ),
        (json!([]), "bash: input must be an object"),
    ] {
        let output = call(&sandbox, Tool::Bash, input.clone()).await;
        assert_eq!(
            (output.is_error, text(&output).as_str()),
            (true, says),
            "{input}"
        );
    }
    let output = call(
        &sandbox,
        Tool::Bash,
        json!({"command": "echo", "unknown": [1]}),
    )
    .await;
    assert!(!output.is_error);
    let long = "#".repeat(1024 * 1024 + 1);
    assert!(bash(&sandbox, &long).await.is_error);
    assert!(!bash(&sandbox, &long[2..]).await.is_error);
}
