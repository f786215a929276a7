//! The same attacks on a sandbox with a kernel of its own. What stops them is not taken away here: whether an attack
//! works at all, the controls of each case show. Where it is denied otherwise than by the host's kernel, the difference
//! stands below and in docs/sandbox.md.

use std::sync::Arc;

use sandbox::{Allowance, Provider, Sandbox, Tool, ToolCall};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::SUBJECTS;
use super::case::Case;
use super::stage::{Outside, fill};
use crate::support::{PRELUDE, call, host_apart, id, text};

/// Cases that print something else than `denied` there: what, and why that is no less.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "chroot_is_left",
        "done",
        "what it looks for, `/sys/kernel`, is gVisor's own and in every root",
    ),
    (
        "core_pattern_is_opened_for_writing",
        "ENOENT",
        "there is none",
    ),
    (
        "kernel_symbols_are_read",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/kallsyms'",
        "there is none",
    ),
    (
        "device_is_made_and_opened",
        "done opened",
        "it is gVisor's own device: of the host's there is none behind any number",
    ),
    (
        "interface_is_changed",
        "ENOTTY",
        "gVisor knows no such call on an interface",
    ),
    (
        "namespace_is_entered",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/self/ns/uts'",
        "there is none",
    ),
    (
        "foreign_call_is_made",
        "done",
        "it ends in gVisor's kernel like every other: the host's never makes it",
    ),
    (
        "socket_of_the_hand_is_taken",
        "OSError: [Errno 38] Function not implemented",
        "there are no descriptors of processes",
    ),
    (
        "first_process_has_no_limits",
        "FileNotFoundError: [Errno 2] No such file or directory: '/proc/1/limits'",
        "limits are shown nowhere; the host's hold for gVisor as a whole",
    ),
    (
        "first_process_has_no_limits",
        "unlimited",
        "so says a later runsc (Debian 13); the host's hold for gVisor as a whole",
    ),
    (
        "processes_are_made_without_end",
        "the sandbox ends",
        "they are counted with gVisor's own, which cannot do without",
    ),
    (
        "memory_is_taken_without_end",
        "the sandbox ends",
        "the memory is gVisor's, and so is the end",
    ),
    (
        "memory_of_the_host_is_spared_last",
        "as late",
        "what is shown inside counts nowhere; outside, all of gVisor's processes are ended before the server",
    ),
];

/// What the attack shows there, and what it would show of its aim; none where gVisor is not to be had.
async fn attacked(case: &Case) -> Option<(String, String)> {
    let host = host_apart(|config| {
        config.allowance = Allowance {
            memory_bytes: 256 << 20,
            cpu_millis: 4000,
            processes: 300,
            ..Allowance::default()
        };
    })?;
    let outside = Outside::prepare(case.stage).await;
    let leak = case.stage.before(outside.values());
    let sandbox = host.attach("attacked").await;
    let dir = host.path("sandboxes/attacked");
    case.stage.inside(&sandbox, &dir).await;
    let attack = fill(case.attack, outside.values());
    let seen = first_line(&sandbox, &attack).await;
    drop(leak);
    // It may have ended by itself.
    let _ = sandbox.stop().await;
    drop(sandbox);
    host.local.delete(&id("attacked")).await.unwrap();
    host.local.shutdown().await;
    Some((seen, outside.fill(case.reached)))
}

/// What the attack prints, or the error that ends it, or that the sandbox ended.
async fn first_line(sandbox: &Arc<dyn Sandbox>, attack: &str) -> String {
    let input = json!({"file_path": "/tmp/attack.py", "content": format!("{PRELUDE}{attack}")});
    call(sandbox, Tool::Write, input).await;
    let command = "/usr/bin/python3 /tmp/attack.py 2>/tmp/err; tail -n 1 /tmp/err";
    let attack = ToolCall {
        name: Tool::Bash,
        input: json!({ "command": command }),
        caller: None,
    };
    match sandbox.tool(attack, CancellationToken::new()).await {
        Ok(output) if !output.is_error => {
            text(&output).lines().next().unwrap_or_default().to_owned()
        }
        // The shell itself does not fail.
        _ => "the sandbox ends".to_owned(),
    }
}

async fn all_are_denied(subject: &str) {
    let (_, cases) = SUBJECTS.iter().find(|(name, _)| *name == subject).unwrap();
    let mut wrong = Vec::new();
    for case in *cases {
        let others = DIFFERENCES.iter().filter(|(name, ..)| *name == case.name);
        let others: Vec<&str> = others.map(|(_, seen, _)| *seen).collect();
        let Some((seen, reached)) = attacked(case).await else {
            return;
        };
        // What one runsc does otherwise, a later one may do as the host's kernel does.
        let denied = seen == case.denied && seen != reached;
        if !denied && !others.contains(&&*seen) {
            let expected = (case.denied, others);
            wrong.push(format!("{}: {seen:?}, not one of {expected:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn files_and_devices_are_out_of_reach() {
    all_are_denied("Files and devices").await;
}

#[tokio::test]
async fn processes_and_names_are_out_of_reach_and_limits_hold() {
    all_are_denied("Processes, limits and names").await;
}

#[tokio::test]
async fn networks_are_out_of_reach() {
    all_are_denied("Networks").await;
}

#[tokio::test]
async fn calls_are_refused() {
    all_are_denied("The kernel's calls").await;
}

#[test]
fn docs_name_every_difference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sandbox.md");
    let document = std::fs::read_to_string(path).unwrap();
    for (name, seen, why) in DIFFERENCES {
        let row = format!("| `{name}` | `{seen}` | {why} |");
        assert!(document.contains(&row), "docs/sandbox.md lacks: {row}");
    }
}
