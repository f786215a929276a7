//! What belongs to the session and not to its files: what it has given, what is written down of it, and what the loop
//! inside remembers. No snapshot or fork has it, and a restore leaves it.

use std::fs;
use std::path::PathBuf;

use jail::image::STATE;

use super::tests::{Host, Seen, at_every_step, name, new, soon};

#[test]
fn a_restore_that_dies_leaves_what_was_or_what_is_restored_and_what_the_session_gave() {
    let before = Host::new().seen("one");
    let after = Seen::from([
        (PathBuf::from("workspace/a"), "1".to_owned()),
        (PathBuf::from("root/etc/x"), "1".to_owned()),
    ]);
    at_every_step(
        |host, layers| drop(layers.restore(&name("first"), &host.path("one")).unwrap()),
        |host, step| {
            let seen = host.seen("one");
            assert!(
                seen == after || seen == before && step != "the end",
                "{step}"
            );
            for (kept, text) in [
                ("uploads/given", "by the session"),
                ("diary", "dear"),
                ("harness/claude", "what it knows"),
            ] {
                let found = fs::read_to_string(host.path("one").join(kept)).ok();
                // A copy of the log, which may be lost between two renames.
                let lost = step == "state moved" && kept.starts_with(STATE);
                assert!(lost || found.as_deref() == Some(text), "{kept}: {step}");
            }
        },
    );
}

#[test]
fn what_a_loop_inside_remembers_is_in_no_fork_and_no_snapshot() {
    let host = Host::new();
    let (layers, one) = (host.layers(), host.path("one"));
    layers.snapshot(&one, "one", new("rests")).unwrap();
    layers
        .snapshot_live(&one, "one", new("runs"), soon())
        .unwrap();
    layers.fork(&one, &host.path("fork")).unwrap();
    layers
        .fork_live(&one, &host.path("branch"), soon())
        .unwrap();
    for of in ["rests", "runs"] {
        let made = layers.restore(&name(of), &host.path(of)).unwrap();
        assert!(made.is_none());
    }
    for other in ["fork", "branch", "rests", "runs"] {
        let state = fs::read_dir(host.path(other).join(STATE)).unwrap();
        assert_eq!(state.count(), 0, "{other}");
        assert_eq!(host.seen(other), host.seen("one"), "{other}");
    }
}
