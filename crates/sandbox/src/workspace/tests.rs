//! Seal, fork, snapshot, restore, merge and collect, with a death at every step of each.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jail::image::{LAYOUT, SEALED};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, lsetxattr, mknodat};
use tempfile::TempDir;

use super::Layers;
use super::copy::{Copier, Files};
use super::reached::tests::dies_after;
use crate::snapshot::{NewSnapshot, SnapshotId};

/// A directory of sandboxes.
pub(super) struct Host {
    pub(super) dir: TempDir,
}

/// All files of a workspace, as the sandbox would see them.
pub(super) type Seen = BTreeMap<PathBuf, String>;

impl Host {
    /// With one sandbox, `one`, that has layers already and has written since.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
        let host = Self { dir };
        fs::create_dir(host.sandboxes()).unwrap();
        let one = host.path("one");
        fs::create_dir(&one).unwrap();
        for name in LAYOUT {
            fs::create_dir(one.join(name)).unwrap();
        }
        host.write("one", "workspace/a", "1");
        host.write("one", "root/upper/etc/x", "1");
        host.write("one", "uploads/given", "by the session");
        host.write("one", "diary", "dear");
        host.write("one", "harness/claude", "what it knows");
        fs::set_permissions(one.join("workspace"), fs::Permissions::from_mode(0o1777)).unwrap();
        host.layers().snapshot(&one, "one", new("first")).unwrap();
        host.write("one", "workspace/b/c", "2");
        host.write("one", "workspace/a", "2");
        host
    }

    pub(super) fn layers(&self) -> Layers {
        Layers::open(self.dir.path().join("snapshots"), self.sandboxes(), true).unwrap()
    }

    fn sandboxes(&self) -> PathBuf {
        self.dir.path().join("sandboxes")
    }

    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }

    pub(super) fn write(&self, id: &str, path: &str, text: &str) {
        let path = self.path(id).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn seen(&self, id: &str) -> Seen {
        let (dir, mut seen) = (self.path(id), Seen::new());
        let mut layers = self.layers().of(&dir).unwrap();
        layers.reverse();
        for (name, place) in SEALED {
            for layer in &layers {
                look(&layer.join(name), &PathBuf::from(name), &mut seen);
            }
            look(&dir.join(place), &PathBuf::from(name), &mut seen);
        }
        seen
    }

    /// Collects what is garbage; what is left of layers and unfinished workspaces must be in use.
    pub(super) fn nothing_is_leaked(&self) {
        let trash = |path: &Path| fs::remove_dir_all(path);
        assert!(self.layers().collect(trash).unwrap());
        let mut used = Vec::new();
        for entry in fs::read_dir(self.sandboxes()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(!name.starts_with('.'), "{name}");
            used.extend(self.layers().of(&path).unwrap());
        }
        let manifests = fs::read_dir(self.dir.path().join("snapshots/manifests")).unwrap();
        let manifests: String = manifests
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "json"))
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        for layer in fs::read_dir(self.dir.path().join("snapshots/layers")).unwrap() {
            let path = layer.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(used.contains(&path) || manifests.contains(name), "{name}");
        }
    }
}

fn look(dir: &Path, name: &Path, seen: &mut Seen) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = name.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            look(&entry.path(), &name, seen);
        } else {
            seen.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

pub(super) fn new(id: &str) -> NewSnapshot {
    NewSnapshot::new(SnapshotId::new(id).unwrap(), 1)
}

pub(super) fn name(id: &str) -> SnapshotId {
    SnapshotId::new(id).unwrap()
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

/// Does `work` on a new host again and again, dying one step later each time; `check` sees what is left.
pub(super) fn at_every_step(work: impl Fn(&Host, &Layers), check: impl Fn(&Host, &str)) {
    for steps in 0.. {
        let host = Host::new();
        let done = dies_after(steps, || work(&host, &host.layers()));
        check(&host, done.err().unwrap_or("the end"));
        host.nothing_is_leaked();
        if done.is_ok() {
            assert!(steps > 1, "there are no steps");
            return;
        }
    }
}

#[test]
fn a_fork_that_dies_leaves_the_parent_as_it_was_and_a_whole_child_or_none() {
    let expected = Host::new().seen("one");
    assert_eq!(expected.len(), 3);
    at_every_step(
        |host, layers| layers.fork(&host.path("one"), &host.path("two")).unwrap(),
        |host, step| {
            assert_eq!(host.seen("one"), expected, "{step}");
            let mode = fs::metadata(host.path("one/workspace")).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o1777, "{step}");
            if host.path("two").exists() {
                assert_eq!(host.seen("two"), expected, "{step}");
                host.write("one", "workspace/later", "one");
                host.write("two", "workspace/later", "two");
                assert_eq!(host.seen("two")[Path::new("workspace/later")], "two");
                assert_eq!(host.seen("one")[Path::new("workspace/later")], "one");
            } else {
                assert_ne!(step, "the end");
            }
        },
    );
}

#[test]
fn a_snapshot_that_dies_is_there_whole_or_not_at_all() {
    let expected = Host::new().seen("one");
    for live in [false, true] {
        at_every_step(
            |host, layers| {
                let dir = host.path("one");
                match live {
                    false => layers.snapshot(&dir, "one", new("second")),
                    true => layers.snapshot_live(&dir, "one", new("second"), soon()),
                }
                .unwrap();
            },
            |host, step| {
                assert_eq!(host.seen("one"), expected, "{step}");
                let all = host.layers().snapshots().unwrap();
                let there = all.iter().any(|one| one.id.as_str() == "second");
                assert!(there || step != "the end");
                if there {
                    let again = host.layers().restore(&name("second"), &host.path("again"));
                    assert!(again.unwrap().is_none());
                    assert_eq!(host.seen("again"), expected, "{step}");
                }
            },
        );
    }
}

#[test]
fn a_merge_that_dies_changes_nothing_that_is_seen() {
    let deep = |host: &Host| {
        for n in 0..4 {
            host.write("one", &format!("workspace/n{n}"), "n");
            host.write("one", "workspace/a", &n.to_string());
            let id = format!("deep-{n}");
            host.layers()
                .snapshot(&host.path("one"), "one", new(&id))
                .unwrap();
        }
    };
    let host = Host::new();
    deep(&host);
    let expected = host.seen("one");
    for steps in 0.. {
        let host = Host::new();
        deep(&host);
        let done = dies_after(steps, || {
            let merged = host.layers().merge(&host.path("one")).unwrap();
            host.layers()
                .lay_on(&host.path("one"), merged.unwrap())
                .unwrap();
        });
        assert_eq!(host.seen("one"), expected, "{done:?}");
        host.nothing_is_leaked();
        if done.is_ok() {
            assert!(steps > 3);
            assert_eq!(host.layers().of(&host.path("one")).unwrap().len(), 1);
            // What was merged is still what the snapshots had.
            host.layers()
                .restore(&name("deep-0"), &host.path("two"))
                .unwrap();
            assert_eq!(host.seen("two")[Path::new("workspace/a")], "0");
            return;
        }
    }
}

#[test]
fn what_was_sealed_while_others_were_merged_stays_above_them() {
    let host = Host::new();
    let (layers, one) = (host.layers(), host.path("one"));
    layers.fork(&one, &host.path("two")).unwrap();
    let merged = layers.merge(&one).unwrap().unwrap();
    host.write("one", "workspace/a", "later");
    layers.fork(&one, &host.path("three")).unwrap();
    let expected = host.seen("one");
    layers.lay_on(&one, merged).unwrap();
    assert_eq!(layers.of(&one).unwrap().len(), 2);
    assert_eq!(host.seen("one"), expected);
    // Set back meanwhile: what was merged is of no use.
    let merged = layers.merge(&one).unwrap().unwrap();
    layers.restore(&name("first"), &one).unwrap();
    let expected = host.seen("one");
    layers.lay_on(&one, merged).unwrap();
    assert_eq!(host.seen("one"), expected);
}

#[test]
fn what_nobody_refers_to_is_collected_and_nothing_while_anything_is_made() {
    let host = Host::new();
    let layers = host.layers();
    layers.fork(&host.path("one"), &host.path("two")).unwrap();
    let count = || {
        fs::read_dir(host.dir.path().join("snapshots/layers"))
            .unwrap()
            .count()
    };
    let trash = |path: &Path| fs::remove_dir_all(path);
    assert_eq!(count(), 2);
    let making = layers.hold().unwrap();
    assert!(
        !layers.collect(trash).unwrap(),
        "collected while something was made"
    );
    drop(making);
    fs::create_dir(host.path("plain")).unwrap();
    assert!(layers.leaves(&host.path("plain")), "something is owed");
    assert!(layers.leaves(&host.path("one")));
    fs::remove_dir_all(host.path("one")).unwrap();
    assert!(layers.collect(trash).unwrap());
    assert!(!layers.leaves(&host.path("plain")));
    assert!(layers.leaves(&host.path("two")));
    fs::remove_dir_all(host.path("plain")).unwrap();
    assert_eq!(count(), 2, "the fork needs both");
    fs::remove_dir_all(host.path("two")).unwrap();
    assert!(layers.collect(trash).unwrap());
    assert_eq!(count(), 1, "the snapshot needs one");
    assert!(layers.remove(&name("first")).unwrap());
    assert!(!layers.remove(&name("first")).unwrap());
    assert!(layers.collect(trash).unwrap());
    assert_eq!(count(), 0);
}

#[test]
fn an_unknown_manifest_keeps_everything() {
    let host = Host::new();
    let path = host.dir.path().join("snapshots/manifests/first.json");
    fs::write(&path, "{\"format\": 99}").unwrap();
    let trash = |_: &Path| panic!("something was removed");
    assert!(host.layers().collect(trash).is_err());
}

#[test]
fn a_workspace_that_has_not_changed_gets_no_layer_more() {
    let host = Host::new();
    let layers = host.layers();
    for n in 0..3 {
        layers
            .fork(&host.path("one"), &host.path(&format!("fork-{n}")))
            .unwrap();
        assert_eq!(layers.of(&host.path("one")).unwrap().len(), 2);
    }
    fs::set_permissions(host.path("one/outputs"), fs::Permissions::from_mode(0o700)).unwrap();
    layers
        .fork(&host.path("one"), &host.path("closed"))
        .unwrap();
    let mode = fs::metadata(host.path("closed/outputs")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn more_seals_than_layers_are_allowed_are_merged_in_time() {
    let host = Host::new();
    let layers = host.layers();
    for n in 0..crate::limits::LAYERS_MOST + 3 {
        host.write("one", "workspace/n", &n.to_string());
        let to = host.path(&format!("fork-{n}"));
        layers.fork(&host.path("one"), &to).unwrap();
    }
    let depth = layers.of(&host.path("one")).unwrap().len();
    assert!(depth <= crate::limits::LAYERS_MOST, "{depth}");
    assert_eq!(host.seen("fork-5")[Path::new("workspace/n")], "5");
}

#[test]
fn names_that_are_taken_are_refused_and_change_nothing() {
    let host = Host::new();
    let layers = host.layers();
    let kind = |result: std::io::Result<()>| result.unwrap_err().kind();
    let taken = std::io::ErrorKind::AlreadyExists;
    host.write("two", "workspace/mine", "mine");
    assert_eq!(
        kind(layers.fork(&host.path("one"), &host.path("two"))),
        taken
    );
    assert!(host.path("two/workspace/mine").exists());
    let again = layers.snapshot(&host.path("one"), "one", new("first"));
    assert_eq!(kind(again.map(drop)), taken);
    let none = layers.restore(&name("none"), &host.path("one")).map(drop);
    assert_eq!(kind(none), std::io::ErrorKind::NotFound);
}

#[test]
fn a_copy_that_takes_too_long_is_given_up() {
    let host = Host::new();
    let late = host
        .layers()
        .snapshot_live(&host.path("one"), "one", new("late"), Instant::now());
    assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    host.nothing_is_leaked();
}

/// A tree of everything that a sandbox can make.
pub(super) fn menagerie(dir: &Path) {
    let path = |name: &str| dir.join(name);
    fs::create_dir_all(path("deep/er")).unwrap();
    fs::write(path("deep/er/file"), "text").unwrap();
    fs::hard_link(path("deep/er/file"), path("other-name")).unwrap();
    symlink("/nowhere/at all", path("link")).unwrap();
    let file = fs::File::create(path("holes")).unwrap();
    file.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", 4 << 20).unwrap();
    let made = |name: &str, kind| mknodat(CWD, path(name), kind, Mode::from(0o640), 0).unwrap();
    made("fifo", FileType::Fifo);
    made("whiteout", FileType::CharacterDevice);
    std::os::unix::fs::lchown(path("link"), Some(1000), Some(1001)).unwrap();
    std::os::unix::fs::chown(path("deep"), Some(1000), Some(1000)).unwrap();
    std::os::unix::fs::chown(path("holes"), Some(7), Some(8)).unwrap();
    fs::set_permissions(path("holes"), fs::Permissions::from_mode(0o6755)).unwrap();
    for (name, attribute) in [
        ("deep", "trusted.overlay.opaque"),
        ("deep", "trusted.overlay.impure"),
        ("holes", "user.mine"),
    ] {
        lsetxattr(path(name), attribute, b"y", XattrFlags::empty()).unwrap();
    }
    // `setcap cap_net_bind_service=ep`, as it is on the disk.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let file = path("deep/er/file");
    lsetxattr(
        file,
        "security.capability",
        &capability,
        XattrFlags::empty(),
    )
    .unwrap();
}

/// What there is to know of each file of a tree.
pub(super) fn portrait(dir: &Path) -> BTreeMap<PathBuf, String> {
    let (mut all, mut open) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(path) = open.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        let of = |name: &str| {
            let mut value = [0; 64];
            let length = lgetxattr(&path, name, &mut value).ok();
            length.map(|length| value[..length].to_vec())
        };
        let attributes = ["trusted.overlay.opaque", "user.mine", "security.capability"].map(of);
        let text = match () {
            () if m.is_file() => fs::read(&path).unwrap(),
            () if m.is_symlink() => fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            () => Vec::new(),
        };
        if m.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let names = if m.is_dir() { 0 } else { m.nlink() };
        let said = format!(
            "{:o} {}:{} {}.{} {} {names} {attributes:?} {:x}",
            m.mode(),
            m.uid(),
            m.gid(),
            m.mtime(),
            m.mtime_nsec(),
            m.rdev(),
            crc(&text)
        );
        all.insert(path.strip_prefix(dir).unwrap().to_owned(), said);
    }
    all
}

fn crc(bytes: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Copies the menagerie within `dir` and compares.
fn copies_are_alike(dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    fs::create_dir(&from).unwrap();
    menagerie(&from);
    Copier::new(Files::Copied, None).tree(&from, &to).unwrap();
    assert_eq!(portrait(&from), portrait(&to));
    let impure = lgetxattr(to.join("deep"), "trusted.overlay.impure", &mut [0; 8]);
    assert!(impure.is_err(), "it says something of another mount");
    let (one, other) = (to.join("deep/er/file"), to.join("other-name"));
    assert_eq!(
        fs::metadata(&one).unwrap().ino(),
        fs::metadata(&other).unwrap().ino()
    );
    assert!(
        fs::metadata(to.join("holes")).unwrap().blocks() * 512 < 1 << 20,
        "no holes"
    );
    fs::write(&one, "changed").unwrap();
    assert_eq!(fs::read_to_string(from.join("other-name")).unwrap(), "text");
}

#[test]
fn a_copy_has_owners_modes_times_attributes_names_holes_and_whiteouts() {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    copies_are_alike(dir.path());
}

#[test]
fn a_tree_too_deep_to_copy_is_refused_and_not_followed() {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let mut deep = dir.path().join("from");
    for _ in 0..crate::limits::TREE_DEPTH + 3 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let copied =
        Copier::new(Files::Copied, None).tree(&dir.path().join("from"), &dir.path().join("to"));
    assert!(copied.unwrap_err().to_string().contains("in one another"));
}
