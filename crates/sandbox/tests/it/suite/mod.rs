//! The provider suite: what every provider of sandboxes must do, in the words of the trait. Each rule takes
//! any provider; the list at the end runs all of them against those of this host.

mod callers;
mod exec;
mod files;
mod pause;
mod rest;
pub mod workspaces;

use std::sync::Arc;

use sandbox::{Provider, Sandbox, Spec};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::support::{host, host_apart, id};

/// A sandbox of its own for one rule.
pub async fn sandbox(provider: &dyn Provider, name: &str) -> Arc<dyn Sandbox> {
    match provider.attach(Spec::new(id(name))).await {
        Ok(sandbox) => sandbox,
        Err(error) => panic!("no sandbox on this host: {error}: {error:?}"),
    }
}

/// All of an output as text.
pub async fn text(from: &mut Option<Box<dyn AsyncRead + Send + Sync + Unpin>>) -> String {
    let mut text = Vec::new();
    from.take().unwrap().read_to_end(&mut text).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Rules that the kernel of gVisor cannot keep, and why. docs/sandbox.md has them.
const NOT_WITH_GVISOR: &[(&str, &str)] = &[
    (
        "a_terminal_passes_keys_on_as_signals",
        "its terminals make no signals of keys, and tell nobody outside whose turn it is",
    ),
    (
        "what_is_typed_ends_with_the_input",
        "a read from its terminals never ends: neither by the key for it nor when the other side is closed",
    ),
];

/// Whether gVisor keeps that rule; if not, that is said.
fn is_kept_by_gvisor(rule: &str) -> bool {
    let exception = NOT_WITH_GVISOR.iter().find(|(name, _)| *name == rule);
    if let Some((_, why)) = exception {
        eprintln!("NOT TESTED: gVisor cannot keep this rule: {why}");
    }
    exception.is_none()
}

#[test]
fn docs_name_every_rule_that_gvisor_does_not_keep() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sandbox.md");
    let document = std::fs::read_to_string(path).unwrap();
    for (name, why) in NOT_WITH_GVISOR {
        let row = format!("| `{name}` | {why} |");
        assert!(document.contains(&row), "docs/sandbox.md lacks: {row}");
    }
}

macro_rules! rules {
    ($($module:ident: $($rule:ident)*;)*) => {
        mod local {
            use super::*;
            $($(
                #[tokio::test]
                async fn $rule() {
                    let host = host();
                    super::$module::$rule(&host.local).await;
                }
            )*)*
        }
        mod gvisor {
            use super::*;
            $($(
                #[tokio::test]
                async fn $rule() {
                    if !is_kept_by_gvisor(stringify!($rule)) {
                        return;
                    }
                    let Some(host) = host_apart(|_| {}) else {
                        return;
                    };
                    super::$module::$rule(&host.local).await;
                }
            )*)*
        }
    };
}

rules! {
    callers: callers_share_files_and_neither_directory_nor_variables_nor_a_running_command
        every_caller_is_back_where_it_was_after_hibernation
        as_many_callers_as_there_may_be_have_a_shell_and_one_more_is_told_so;
    exec: arguments_and_environment_arrive_as_they_are
        input_is_streamed_and_its_end_is_seen
        a_process_that_runs_too_long_is_killed_and_says_so
        a_signal_reaches_the_process_and_its_children
        a_terminal_is_one_and_has_the_size_it_was_given
        a_terminal_passes_keys_on_as_signals
        what_is_typed_ends_with_the_input
        ports_inside_can_be_reached;
    files: a_file_goes_in_and_comes_out
        a_write_that_is_given_up_leaves_no_trace
        megabytes_go_in_and_come_out
        what_is_not_there_is_missing_and_what_is_no_file_is_invalid
        directories_are_made_listed_moved_and_removed
        what_changes_in_a_directory_is_told
        what_changes_below_is_told_if_it_is_wanted_and_a_file_may_come_later
        links_lead_to_what_is_in_the_sandbox
        a_full_disk_is_told_and_keeps_the_old_file;
    pause: a_paused_sandbox_does_nothing_and_the_next_use_resumes_it
        a_pause_during_a_call_takes_nothing_of_its_time
        a_paused_sandbox_can_be_stopped
        pause_and_resume_can_be_repeated
        what_it_uses_is_counted;
    rest: the_shell_is_where_it_was_after_hibernation
        what_was_ended_is_told_once
        a_call_under_way_does_not_hold_up_hibernation
        a_shell_that_cannot_be_brought_back_is_a_new_one;
    workspaces: a_fork_has_what_its_parent_had_and_sees_nothing_of_it_later
        a_snapshot_of_what_runs_is_of_one_moment_and_ends_nothing
        a_restore_sets_everything_back_and_can_be_repeated
        an_archive_takes_a_workspace_elsewhere
        many_seals_are_merged_and_nothing_is_seen_of_it;
}
