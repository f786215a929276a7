//! Deaths in a fork of what runs and in the collection of garbage, workspaces that are sealed five hundred times, and a
//! disk that fills while one is.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::reached::reached;
use super::tests::{Host, at_every_step, name, new, soon};
use crate::limits::LAYERS_MOST;

/// Seals of one workspace, more than the kernel has layers.
const SEALS: usize = 500;

#[test]
fn a_fork_of_what_runs_that_dies_leaves_the_parent_as_it_was_and_a_whole_child_or_none() {
    let expected = Host::new().seen("one");
    at_every_step(
        |host, layers| {
            let (from, to) = (host.path("one"), host.path("two"));
            layers.fork_live(&from, &to, soon()).unwrap();
        },
        |host, step| {
            assert_eq!(host.seen("one"), expected, "{step}");
            if host.path("two").exists() {
                assert_eq!(host.seen("two"), expected, "{step}");
                host.write("one", "workspace/later", "one");
                assert!(!host.seen("two").contains_key(Path::new("workspace/later")));
            } else {
                assert_ne!(step, "the end");
            }
        },
    );
}

#[test]
fn a_collection_that_dies_has_taken_nothing_that_anybody_needs_and_the_next_one_goes_on() {
    let expected = Host::new().seen("one");
    at_every_step(
        |host, layers| {
            // Layers of a fork that is gone, of a snapshot that is gone, and a workspace that never got a name.
            layers.fork(&host.path("one"), &host.path("gone")).unwrap();
            host.write("gone", "workspace/more", "more");
            layers
                .snapshot(&host.path("gone"), "gone", new("dropped"))
                .unwrap();
            layers.remove(&name("dropped")).unwrap();
            let _ = fs::remove_dir_all(host.path("gone"));
            fs::create_dir(host.path(".new-1")).unwrap();
            let trash = |path: &Path| {
                reached("found");
                fs::remove_dir_all(path)?;
                reached("taken");
                Ok(())
            };
            assert!(layers.collect(trash).unwrap());
        },
        |host, step| {
            assert_eq!(host.seen("one"), expected, "{step}");
            let back = host.layers().restore(&name("first"), &host.path("back"));
            assert!(back.unwrap().is_none());
            assert_eq!(host.seen("back").len(), 2, "{step}");
        },
    );
}

#[test]
fn five_hundred_seals_are_never_more_layers_than_may_be_and_every_fork_is_of_its_own_moment() {
    let host = Host::new();
    let layers = host.layers();
    for n in 0..SEALS {
        host.write("one", "workspace/n", &n.to_string());
        host.write("one", &format!("workspace/own/{n}"), "there");
        let to = host.path(&format!("fork-{n}"));
        layers.fork(&host.path("one"), &to).unwrap();
        let depth = layers.of(&host.path("one")).unwrap().len();
        assert!(depth <= LAYERS_MOST, "{n}: {depth}");
        // One in fifty stays.
        if !n.is_multiple_of(50) {
            fs::remove_dir_all(to).unwrap();
        }
    }
    for n in (0..SEALS).step_by(50) {
        let seen = host.seen(&format!("fork-{n}"));
        assert_eq!(seen[Path::new("workspace/n")], n.to_string());
        let own = seen.keys().filter(|path| path.starts_with("workspace/own"));
        assert_eq!(own.count(), n + 1);
    }
    host.nothing_is_leaked();
}

/// Does `work` in a thread whose working directory is a small file system in memory that nobody else sees.
fn on_a_small_disk(inodes: u32, work: impl FnOnce() + Send + 'static) {
    let place = tempfile::tempdir().unwrap();
    let at = place.path().to_owned();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root");
        let (none, private) = (None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
        mount(none, "/", none, private, none).unwrap();
        let options = format!("nr_inodes={inodes}");
        let plain = MsFlags::empty();
        mount(
            Some("tmpfs"),
            &at,
            Some("tmpfs"),
            plain,
            Some(options.as_str()),
        )
        .unwrap();
        std::env::set_current_dir(&at).unwrap();
        work();
    });
    thread.join().unwrap();
}

#[test]
fn a_disk_that_is_full_at_any_step_of_a_fork_leaves_the_parent_as_it_was_and_no_half_child() {
    on_a_small_disk(500, || {
        let expected = Host::new().seen("one");
        for room in 0.. {
            let host = Host::new();
            let full = host.dir.path().join("full");
            fs::create_dir(&full).unwrap();
            let fill = |n: u32| fs::write(full.join(n.to_string()), "");
            let taken = (0..).take_while(|n| fill(*n).is_ok()).count();
            for n in 0..room {
                fs::remove_file(full.join(n.to_string())).unwrap();
            }
            let forked = host.layers().fork(&host.path("one"), &host.path("two"));
            for n in room..u32::try_from(taken).unwrap() {
                fs::remove_file(full.join(n.to_string())).unwrap();
            }
            assert_eq!(host.seen("one"), expected, "{room}");
            if host.path("two").exists() {
                assert_eq!(host.seen("two"), expected, "{room}");
            }
            host.nothing_is_leaked();
            match forked {
                Ok(()) => return assert!(room > 3, "it takes no room"),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{room}"),
            }
        }
    });
}
