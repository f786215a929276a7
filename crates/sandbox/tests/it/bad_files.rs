//! Files as nobody expects them: a full disk, very many of them, deep, odd names, loops, pipes, holes. Each is
//! answered clearly, nothing hangs, and another sandbox notices nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sandbox::{Provider, Tool, ToolOutput};
use serde_json::{Value, json};

use crate::bad_input::Pair;
use crate::support::{bash, call, host_on, id, ok, text, until};

/// The answer to a call; the deadline only ends a test that has failed.
async fn answer(pair: &Pair, tool: Tool, input: Value) -> ToolOutput {
    let deadline = Duration::from_secs(120);
    let answer = tokio::time::timeout(deadline, call(&pair.bad, tool, input)).await;
    answer.expect("the call hangs")
}

/// A small file system, which goes with this value.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(megabytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={megabytes}m,mode=700");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &size, "small"])
            .arg(dir.path());
        assert!(mount.status().unwrap().success());
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.path())
            .status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_by_every_tool_and_room_that_is_made_is_used() {
    let disk = Disk::of(64);
    let pair = Pair::on(host_on(tempfile::tempdir_in(disk.path()).unwrap())).await;
    let output = bash(&pair.bad, "head -c 200M /dev/zero > large").await;
    assert!(output.is_error && text(&output).contains("No space left on device"));
    for (tool, input) in [
        (
            Tool::Write,
            json!({"file_path": "new", "content": "x".repeat(100_000)}),
        ),
        (
            Tool::Edit,
            json!({"file_path": "before", "old_string": "file", "new_string": "x".repeat(100_000)}),
        ),
    ] {
        let output = answer(&pair, tool, input).await;
        let said = text(&output);
        assert!(
            output.is_error && said.to_lowercase().contains("no space left on device"),
            "{tool:?}: {said}"
        );
    }
    // What was there is still there, for everybody.
    pair.is_well().await;
    ok(&pair.bad, "rm large && echo more > new").await;
    pair.bad.stop().await.unwrap();
    let again = pair.host.attach("bad").await;
    assert_eq!(ok(&again, "cat new before").await, "more\nfile");
    again.stop().await.unwrap();
    pair.host.local.shutdown().await;
}

#[tokio::test]
async fn hundreds_of_thousands_of_files_are_searched_within_bounds_and_removed_in_the_background() {
    let pair = Pair::start().await;
    let make = "python3 -c '\nimport os\nfor d in range(10):\n    os.mkdir(\"d%d\" % d); os.chdir(\"d%d\" % d); open(\"0\", \"w\").close()\n    \
        for f in range(1, 20000): os.link(\"0\", str(f))\n    os.chdir(\"..\")\n'";
    let input = json!({"command": make, "timeout_ms": 600_000});
    assert!(!call(&pair.bad, Tool::Bash, input).await.is_error);
    for (tool, input) in [
        (Tool::Glob, json!({"pattern": "**/no-such-*"})),
        (Tool::Grep, json!({"pattern": "no such text"})),
    ] {
        let output = answer(&pair, tool, input).await;
        assert!(
            text(&output).contains("50000"),
            "{tool:?}: {}",
            text(&output)
        );
    }
    pair.is_well().await;
    pair.host.local.delete(&id("bad")).await.unwrap();
    assert!(!pair.host.path("sandboxes/bad").exists());
    pair.other_is_well().await;
}

#[tokio::test]
async fn directories_deeper_than_a_path_may_be_long_are_searched_and_removed() {
    let pair = Pair::start().await;
    let make = "python3 -c '\nimport os\nfor _ in range(3000): os.mkdir(\"deep\"); os.chdir(\"deep\")\nopen(\"needle\", \"w\").write(\"needle\")\n'";
    ok(&pair.bad, make).await;
    for (tool, input) in [
        (Tool::Glob, json!({"pattern": "**/needle"})),
        (Tool::Grep, json!({"pattern": "needle"})),
        (Tool::Read, json!({"file_path": "deep/".repeat(2000)})),
        (
            Tool::Write,
            json!({"file_path": format!("{}f", "deep/".repeat(2000)), "content": "x"}),
        ),
    ] {
        let output = answer(&pair, tool, input).await;
        assert!(text(&output).chars().count() < 20_000, "{tool:?}");
    }
    pair.is_well().await;
    pair.host.local.delete(&id("bad")).await.unwrap();
    until("the trash is empty", || async {
        std::fs::read_dir(pair.host.path("trash"))
            .unwrap()
            .next()
            .is_none()
    })
    .await;
}

#[tokio::test]
async fn names_with_newlines_quotes_and_broken_text_are_found_and_read() {
    let pair = Pair::start().await;
    ok(&pair.bad, "mkdir odd; cd odd; echo needle > $'a\\nb'; echo needle > $'quote\"\\'$(touch owned)'; echo needle > $'\\xff'; echo needle > -rf; cd ..").await;
    let found = text(&answer(&pair, Tool::Glob, json!({"pattern": "odd/*"})).await);
    for name in ["a\nb", "quote\"'$(touch owned)", "-rf"] {
        assert!(found.contains(name), "{found}");
        let read = answer(
            &pair,
            Tool::Read,
            json!({"file_path": format!("odd/{name}")}),
        )
        .await;
        assert_eq!(text(&read), "needle\n");
    }
    let found = text(
        &answer(
            &pair,
            Tool::Grep,
            json!({"pattern": "needle", "path": "odd"}),
        )
        .await,
    );
    assert!(found.contains("a\nb") && found.contains("-rf"), "{found}");
    assert_eq!(ok(&pair.bad, "ls odd | grep -c owned").await, "1");
    pair.is_well().await;
}

#[tokio::test]
async fn loops_of_links_end_with_an_error_that_says_so() {
    let pair = Pair::start().await;
    ok(
        &pair.bad,
        "ln -s b a; ln -s a b; ln -s . self; mkdir d; ln -s .. d/up; echo needle > d/f",
    )
    .await;
    for (tool, input) in [
        (Tool::Read, json!({"file_path": "a"})),
        (Tool::Write, json!({"file_path": "a", "content": "x"})),
        (
            Tool::Edit,
            json!({"file_path": "a/f", "old_string": "x", "new_string": "y"}),
        ),
    ] {
        let output = answer(&pair, tool, input).await;
        assert!(
            output.is_error && text(&output).contains("too many symbolic links"),
            "{output:?}"
        );
    }
    let found = text(&answer(&pair, Tool::Grep, json!({"pattern": "needle"})).await);
    assert_eq!(found, "/workspace/d/f");
    pair.is_well().await;
}

#[tokio::test]
async fn pipes_sockets_and_devices_are_refused_without_waiting() {
    let pair = Pair::start().await;
    ok(&pair.bad, "mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'; ln -s /dev/zero zero; ln -s /proc/self/fd/0 stdin").await;
    for path in [
        "pipe",
        "socket",
        "zero",
        "stdin",
        "/dev/zero",
        "/dev/tty",
        ".",
    ] {
        for (tool, input) in [
            (Tool::Read, json!({"file_path": path})),
            (Tool::Write, json!({"file_path": path, "content": "x"})),
            (
                Tool::Edit,
                json!({"file_path": path, "old_string": "x", "new_string": "y"}),
            ),
        ] {
            let output = answer(&pair, tool, input).await;
            assert!(
                output.is_error && !text(&output).is_empty(),
                "{tool:?} {path}: {output:?}"
            );
        }
    }
    assert_eq!(
        ok(&pair.bad, "test -p pipe && test -S socket && echo same").await,
        "same"
    );
    pair.is_well().await;
}

#[tokio::test]
async fn a_file_of_holes_takes_neither_memory_nor_time() {
    let pair = Pair::start().await;
    ok(&pair.bad, "truncate -s 1T sparse; echo needle > found").await;
    let output = answer(&pair, Tool::Read, json!({"file_path": "sparse"})).await;
    assert!(
        output.is_error && text(&output).contains("bytes"),
        "{output:?}"
    );
    let output = answer(
        &pair,
        Tool::Edit,
        json!({"file_path": "sparse", "old_string": "x", "new_string": "y"}),
    )
    .await;
    assert!(output.is_error, "{output:?}");
    let found = text(&answer(&pair, Tool::Grep, json!({"pattern": "needle"})).await);
    assert!(found.contains("/workspace/found"), "{found}");
    pair.is_well().await;
}
