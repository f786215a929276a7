//! What layers take: counted once, known after a restart, refused beyond, and given back.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::ledger::Shares;
use super::tests::{Host, new};
use super::{Layers, dies_after};
use crate::snapshot::SnapshotId;

const MIB: u64 = 1 << 20;

impl Host {
    /// With that many MiB for one sandbox, and for all.
    fn shared(&self, one: u64, all: u64) -> Layers {
        let shares = Shares {
            one: one * MIB,
            all: all * MIB,
        };
        self.layers().with_shares(shares)
    }

    fn writes_mib(&self, name: &str, mib: u64) {
        let path = self.path("one").join("workspace").join(name);
        fs::write(path, vec![7; usize::try_from(mib * MIB).unwrap()]).unwrap();
    }

    fn live(&self, layers: &Layers, name: &str) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let taken = layers.snapshot_live(&self.path("one"), "one", new(name), deadline);
        layers.count();
        taken.map(drop)
    }
}

fn collect(layers: &Layers) {
    let trash = |path: &Path| fs::remove_dir_all(path);
    assert!(layers.collect(trash).unwrap());
}

/// What is said of something that is too much.
fn refused(done: io::Result<()>) -> String {
    let error = done.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
    error.to_string()
}

#[test]
fn a_layer_is_counted_once_and_known_after_a_restart() {
    let host = Host::new();
    let layers = host.shared(90, 0);
    host.writes_mib("big", 3);
    layers
        .snapshot(&host.path("one"), "one", new("second"))
        .unwrap();
    assert_eq!(layers.ledger.all(), 0);
    layers.count();
    let all = layers.ledger.all();
    assert!((3 * MIB..4 * MIB).contains(&all), "{all}");
    // Nothing is walked again, whatever becomes of the files.
    assert_eq!(host.layers().ledger.all(), all);
    // What was torn is counted when the layer is found to be in use.
    for entry in fs::read_dir(layers.layers()).unwrap() {
        fs::write(entry.unwrap().path().join("taken.json"), "{\"by").unwrap();
    }
    let again = host.shared(90, 0);
    assert_eq!(again.ledger.all(), 0);
    collect(&again);
    again.count();
    assert!(again.ledger.all() >= all, "{} {all}", again.ledger.all());
}

#[test]
fn who_takes_too_much_is_told_which_snapshots_give_it_back() {
    let host = Host::new();
    let layers = host.shared(5, 0);
    for name in ["second", "third"] {
        host.writes_mib(name, 2);
        host.live(&layers, name).unwrap();
    }
    // The third has both files.
    let said = refused(host.live(&layers, "fourth"));
    assert!(said.contains("take 6 MiB, and 5 MiB"), "{said}");
    assert!(
        said.contains("third gives back 4 MiB, second gives back 2 MiB"),
        "{said}"
    );
    let fork = layers.fork(&host.path("one"), &host.path("two"));
    assert!(refused(fork).contains("layers_mib"));
    assert!(!host.path("two").exists());
    layers.remove(&SnapshotId::new("third").unwrap()).unwrap();
    collect(&layers);
    host.live(&layers, "fourth").unwrap();
    host.nothing_is_leaked();
}

#[test]
fn all_together_have_a_share_too_and_what_makes_no_layer_is_not_refused() {
    let host = Host::new();
    let layers = host.shared(0, 3);
    let one = host.path("one");
    host.writes_mib("big", 4);
    layers.fork(&one, &host.path("two")).unwrap();
    layers.count();
    layers.fork(&one, &host.path("three")).unwrap();
    host.write("one", "workspace/more", "!");
    let said = refused(layers.fork(&one, &host.path("four")));
    assert!(said.contains("layers_together_mib"), "{said}");
    assert!(
        !said.contains("first"),
        "another's snapshots are named: {said}"
    );
}

#[test]
fn what_is_merged_counts_once_and_what_was_hidden_is_given_back() {
    let host = Host::new();
    let layers = host.shared(8, 0);
    let one = host.path("one");
    for name in ["kept", "hidden"] {
        host.writes_mib(name, 4);
        layers.snapshot(&one, "one", new(name)).unwrap();
        layers.count();
    }
    // A new one in its place hides what is below.
    host.writes_mib("hidden", 1);
    let kept = layers.ledger.all();
    assert!(kept >= 8 * MIB);
    let said = refused(layers.snapshot(&one, "one", new("more")).map(drop));
    assert!(said.contains("it rests"), "{said}");
    assert!(layers.is_deep(&one), "what is too much is not merged");
    let merged = layers.merge(&one).unwrap().unwrap();
    layers.lay_on(&one, merged).unwrap();
    collect(&layers);
    layers.count();
    // Directories aside, it is the same files.
    assert_eq!(layers.ledger.all(), kept);
    for name in ["first", "kept", "hidden"] {
        layers.remove(&SnapshotId::new(name).unwrap()).unwrap();
    }
    collect(&layers);
    let alone = layers.ledger.all();
    assert!((8 * MIB..9 * MIB).contains(&alone), "{alone}");
    assert!(!layers.is_deep(&one), "one layer is merged with nothing");
    host.nothing_is_leaked();
}

#[test]
fn whoever_dies_while_it_is_counted_leaves_what_is_counted_again() {
    let host = Host::new();
    let one = host.path("one");
    host.writes_mib("big", 2);
    host.layers().snapshot(&one, "one", new("big")).unwrap();
    for steps in 0..40 {
        let layers = host.shared(90, 0);
        host.write("one", "workspace/more", &format!("{steps}"));
        let id = format!("s{steps}");
        let done = dies_after(steps, || {
            layers.snapshot(&host.path("one"), "one", new(&id))
        });
        let next = host.shared(90, 0);
        collect(&next);
        next.count();
        assert!(next.ledger.all() >= 2 * MIB, "{steps}");
        if done.is_ok() {
            return;
        }
    }
    panic!("it never came to its end");
}
