//! What commands do by mistake or on purpose: endless output, odd output, no shell left, too many processes.
//! Each is answered clearly, the sandbox goes on or comes back, and another one notices nothing.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use sandbox::{Command, Error, Provider, Sandbox, Spec, Tool};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::support::{Host, bash, call, host, id, ok, text, until};

/// A sandbox that is treated badly, and one beside it.
pub struct Pair {
    pub host: Host,
    pub bad: Arc<dyn Sandbox>,
    other: Arc<dyn Sandbox>,
}

impl Pair {
    pub async fn start() -> Self {
        Self::on(host()).await
    }

    pub async fn on(host: Host) -> Self {
        let (bad, other) = (host.attach("bad").await, host.attach("other").await);
        ok(&other, "kept=yes").await;
        ok(&bad, "echo file > before").await;
        Self { host, bad, other }
    }

    /// Both answer, and have what they had.
    pub async fn is_well(&self) {
        assert_eq!(ok(&self.bad, "cat /workspace/before").await, "file");
        self.other_is_well().await;
    }

    pub async fn other_is_well(&self) {
        assert_eq!(ok(&self.other, "echo $kept").await, "yes");
    }
}

/// Kilobytes that the hand has ever held.
async fn most_held(sandbox: &Arc<dyn Sandbox>) -> u64 {
    let line = ok(sandbox, "grep VmHWM /proc/1/status").await;
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn gigabytes_of_output_without_a_newline_leave_the_last_bytes_and_no_memory() {
    let pair = Pair::start().await;
    let before = most_held(&pair.bad).await;
    let output = bash(&pair.bad, "head -c 2G /dev/zero; printf end").await;
    let said = text(&output);
    assert!(
        said.contains("end") && said.len() < 200_000,
        "{}",
        said.len()
    );
    let grown = most_held(&pair.bad).await - before;
    assert!(grown < 16 * 1024, "the hand grew by {grown} kB");
    pair.is_well().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_are_shown_as_text_all_the_same() {
    let pair = Pair::start().await;
    let all = "python3 -c 'import sys; sys.stdout.buffer.write(bytes(range(256)))'";
    assert!(ok(&pair.bad, all).await.contains("abc"));
    let said = ok(&pair.bad, "printf 'a\\xff\\xfeb\\xc3'").await;
    assert_eq!(said, "a\u{fffd}\u{fffd}b\u{fffd}");
    pair.is_well().await;
}

#[tokio::test]
async fn a_command_that_is_not_there_or_no_program_is_told_by_its_name() {
    let pair = Pair::start().await;
    for (command, said) in [
        ("no-such-command", "no-such-command: command not found"),
        ("./before", "./before: Permission denied"),
        ("/workspace", "/workspace: Is a directory"),
        (
            "./missing/program",
            "./missing/program: No such file or directory",
        ),
    ] {
        let output = bash(&pair.bad, command).await;
        assert!(
            output.is_error && text(&output).contains(said),
            "{output:?}"
        );
    }
    pair.is_well().await;
}

#[tokio::test]
async fn a_megabyte_of_arguments_arrives_and_one_argument_that_is_too_long_is_told() {
    let pair = Pair::start().await;
    let count = "/usr/bin/env printf '%s' $(seq -f %0100.0f 10000) | wc -c";
    assert_eq!(ok(&pair.bad, count).await, "1000000");
    let long = "/usr/bin/env printf %s $(head -c 2000000 /dev/zero | tr '\\0' a)";
    let output = bash(&pair.bad, long).await;
    assert!(output.is_error && text(&output).contains("Argument list too long"));
    let arguments = (0..10_000).map(|n| format!("{n:0>100}"));
    let program = ["/usr/bin/printf".to_owned(), "%s".to_owned()];
    let command = Command::new(program.into_iter().chain(arguments));
    let mut process = pair.bad.spawn(command).await.unwrap();
    let mut said = Vec::new();
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_to_end(&mut said).await.unwrap();
    assert_eq!(said.len(), 1_000_000);
    let command = Command::new(["/usr/bin/printf".to_owned(), "a".repeat(1 << 20)]);
    let refused = pair.bad.spawn(command).await.err().unwrap();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused:?}");
    pair.is_well().await;
}

#[tokio::test]
async fn closed_streams_harm_only_the_command_that_closed_them() {
    let pair = Pair::start().await;
    ok(&pair.bad, "(exec 0<&- 1>&- 2>&-; cat; echo lost; true)").await;
    bash(&pair.bad, "exec 0<&- 1>&- 2>&-").await;
    bash(
        &pair.bad,
        "for fd in {3..40}; do eval \"exec $fd>&-\"; done",
    )
    .await;
    pair.is_well().await;
}

#[tokio::test]
async fn a_shell_that_ends_or_kills_itself_is_told_and_followed_by_another() {
    let pair = Pair::start().await;
    for end in [
        "exit 3",
        "kill -9 $$",
        "exec /bin/true",
        "exec /nonexistent; exit",
    ] {
        let output = bash(&pair.bad, &format!("lost=1; {end}")).await;
        let says_why = !output.is_error || !text(&output).is_empty();
        assert!(says_why, "{end}");
        assert_eq!(ok(&pair.bad, "echo ${lost:-new}").await, "new", "{end}");
    }
    pair.is_well().await;
}

#[tokio::test]
async fn killing_everything_ends_what_runs_inside_and_nothing_else() {
    let pair = Pair::start().await;
    let mut beside = std::process::Command::new("sleep");
    let mut beside = beside.arg("1000").stdout(Stdio::null()).spawn().unwrap();
    bash(&pair.bad, "kill -9 -1").await;
    let all = "setsid python3 -c 'import os; os.kill(-1, 9)'; echo after";
    let output = bash(&pair.bad, all).await;
    // The shell was among them.
    assert!(output.is_error && !text(&output).is_empty(), "{output:?}");
    assert!(beside.try_wait().unwrap().is_none());
    beside.kill().unwrap();
    beside.wait().unwrap();
    pair.is_well().await;
}

#[tokio::test]
async fn a_daemon_that_holds_the_output_open_and_goes_on_writing_disturbs_no_later_call() {
    let pair = Pair::start().await;
    let daemon = "python3 -c 'import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        \
        open(\"runs\", \"w\")\n        while True: os.write(1, b\"noise\")\n    os._exit(0)'; echo started";
    let said = ok(&pair.bad, daemon).await;
    assert!(said.contains("started"), "{}", said.len());
    until("it runs", || async {
        pair.host.path("sandboxes/bad/workspace/runs").exists()
    })
    .await;
    // It shares the shell's output: what it writes stands there too, as much as one answer holds, or less where
    // that was written to a file.
    let later = ok(&pair.bad, "echo later").await;
    assert!(later.len() <= hand::limits::SPILL_CHARS, "{}", later.len());
    ok(
        &pair.bad,
        "pkill -9 python3; while pgrep python3; do :; done >/dev/null",
    )
    .await;
    ok(&pair.bad, "echo the rest of it").await;
    pair.is_well().await;
}

#[tokio::test]
async fn a_fork_bomb_of_the_shell_leaves_the_file_tools_and_ends_with_its_sandbox() {
    let pair = Pair::start().await;
    bash(&pair.bad, "bomb() { bomb | bomb & }; bomb").await;
    pair.other_is_well().await;
    let read = call(&pair.bad, Tool::Read, json!({"file_path": "before"}));
    assert_eq!(text(&read.await), "file\n");
    // A new shell may find no room; whatever it is, it is an answer.
    let answer = tokio::time::timeout(Duration::from_secs(60), bash(&pair.bad, "true")).await;
    assert!(answer.is_ok(), "the call hangs");
    pair.bad.stop().await.unwrap();
    assert_eq!(
        ok(&pair.host.attach("bad").await, "cat before").await,
        "file"
    );
    pair.other_is_well().await;
}

#[tokio::test]
async fn a_claim_that_is_given_up_at_any_moment_leaves_nothing_running() {
    let host = host();
    drop(host.attach("warm").await);
    for round in 0..40 {
        let name = format!("given-up-{round}");
        let claim = host.local.attach(Spec::new(id(&name)));
        // From before the first step to after the last.
        let given_up = tokio::time::timeout(Duration::from_micros(500 * round), claim).await;
        drop(given_up);
        ok(&host.attach(&name).await, "true").await;
        host.local.delete(&id(&name)).await.unwrap();
    }
    host.local.shutdown().await;
    let left = host.local.list().await.unwrap();
    assert_eq!(left, [id("warm")]);
}

// With threads: one reaps what another looks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sandboxes_that_are_dropped_and_deleted_at_once_in_crowds_give_no_error() {
    const IN_ALL: usize = 400;
    let host = host();
    let one = |n: usize| {
        let local = &host.local;
        async move {
            let id = id(&format!("crowd-{n}"));
            drop(local.attach(Spec::new(id.clone())).await?);
            // It ends by itself at this moment.
            local.delete(&id).await
        }
    };
    let all = futures_util::stream::iter(0..IN_ALL).map(one);
    let errors: Vec<_> = all
        .buffer_unordered(40)
        .filter_map(|outcome| async { outcome.err() })
        .collect()
        .await;
    assert!(errors.is_empty(), "{errors:?}");
    assert!(host.local.list().await.unwrap().is_empty());
}
