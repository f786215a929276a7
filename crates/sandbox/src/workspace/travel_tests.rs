//! Archives: that they hold everything, and that nothing in one that anybody may have made does harm.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::tests::{Host, at_every_step, menagerie, name, new, portrait, soon};
use crate::archive::Bounds;
use crate::archive::{Fault, Kind, Meta, OPENING, Opening, Records, Refused, Writer};

pub(super) fn bounds() -> Bounds {
    Bounds {
        bytes: 1 << 30,
        entries: 1_000,
        // As though much had come: how small an archive is counts only where a test says so.
        came: Arc::new(AtomicU64::new(1 << 30)),
        own_ids: true,
        room: Box::new(|| Ok(())),
    }
}

/// The archive of what a sandbox has.
fn exported(host: &Host, id: &str) -> Vec<u8> {
    let mut archive = Vec::new();
    let still = host.layers().still(&host.path(id)).unwrap();
    still.pack(&mut archive).unwrap();
    archive
}

fn import(host: &Host, archive: impl Read, to: &str) -> Result<(), Fault> {
    host.layers()
        .import(archive, &host.path(to), &bounds(), &|_| true)
}

/// The archive that `write` fills, not packed.
pub(super) fn tar(write: impl FnOnce(&mut Writer<Vec<u8>>)) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &Opening::new(None)).unwrap();
    write(&mut writer);
    writer.finish().unwrap()
}

pub(super) fn packed(tar: &[u8]) -> Vec<u8> {
    zstd::encode_all(tar, 1).unwrap()
}

/// One entry without content.
pub(super) fn entry(kind: Kind, path: &str, link: &str) -> impl Fn(&mut Writer<Vec<u8>>) {
    said(kind, path, link, Records::default())
}

pub(super) fn said(
    kind: Kind,
    path: &str,
    link: &str,
    records: Records,
) -> impl Fn(&mut Writer<Vec<u8>>) {
    let meta = Meta {
        mode: 0o755,
        ..Meta::default()
    };
    move |writer| {
        let (path, link) = (path.as_bytes(), link.as_bytes());
        let written = writer.entry(kind, path, link, &meta, 0, records.clone());
        written.unwrap();
    }
}

/// What an archive is told whose entries are these, after a directory `workspace`.
pub(super) fn refused(write: impl FnOnce(&mut Writer<Vec<u8>>)) -> Refused {
    let archive = tar(|writer| {
        entry(Kind::Directory, "workspace/", "")(writer);
        write(writer);
    });
    told(&packed(&archive), &bounds())
}

pub(super) fn told(archive: &[u8], bounds: &Bounds) -> Refused {
    let host = Host::new();
    let done = host
        .layers()
        .import(archive, &host.path("two"), bounds, &|_| true);
    assert!(!host.path("two").exists());
    host.nothing_is_leaked();
    match done {
        Err(Fault::Refused(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_archive_has_owners_modes_times_attributes_names_and_holes() {
    let (here, there) = (Host::new(), Host::new());
    let tree = here.path("one/workspace/tree");
    fs::create_dir(&tree).unwrap();
    menagerie(&tree);
    let long = "n".repeat(200);
    fs::create_dir(tree.join(&long)).unwrap();
    fs::write(tree.join(&long).join(&long), "long").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), tree.join("far")).unwrap();
    import(&there, exported(&here, "one").as_slice(), "two").unwrap();
    let layers = there.layers().of(&there.path("two")).unwrap();
    let mut arrived = portrait(&layers[0].join("workspace/tree"));
    let sealed = here.layers().of(&here.path("one")).unwrap();
    let mut had = portrait(&sealed[0].join("workspace/tree"));
    assert!(had.remove(Path::new("whiteout")).is_some());
    // That the directory was opaque is said of layers, and there are none below it any more.
    for all in [&mut had, &mut arrived] {
        let deep = all.get_mut(Path::new("deep")).unwrap();
        *deep = deep.replace("Some([121])", "None");
    }
    assert_eq!(arrived, had);
    let holes = fs::metadata(layers[0].join("workspace/tree/holes")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&holes) * 512 < 1 << 20);
}

#[test]
fn what_is_gone_from_the_template_stays_gone() {
    let (here, there) = (Host::new(), Host::new());
    let upper = here.path("one/root/upper");
    let whiteout = |path: &Path| {
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, rustix::fs::Mode::empty(), 0).unwrap();
    };
    whiteout(&upper.join("gone"));
    fs::create_dir(upper.join("replaced")).unwrap();
    let yes = (b"y", rustix::fs::XattrFlags::empty());
    rustix::fs::lsetxattr(
        upper.join("replaced"),
        "trusted.overlay.opaque",
        yes.0,
        yes.1,
    )
    .unwrap();
    import(&there, exported(&here, "one").as_slice(), "two").unwrap();
    let layer = there.layers().of(&there.path("two")).unwrap()[0].join("root");
    let seen = portrait(&layer);
    assert!(seen[Path::new("gone")].starts_with("20000 "), "{seen:?}");
    assert!(
        seen[Path::new("replaced")].contains("Some([121])"),
        "{seen:?}"
    );
}

#[test]
fn an_export_of_what_runs_and_of_a_snapshot_are_of_that_moment() {
    let (here, there) = (Host::new(), Host::new());
    let expected = here.seen("one");
    let mut live = Vec::new();
    let still = here.layers().still_live(&here.path("one"), soon()).unwrap();
    here.write("one", "workspace/a", "later");
    still.pack(&mut live).unwrap();
    drop(still);
    import(&there, live.as_slice(), "live").unwrap();
    assert_eq!(there.seen("live"), expected);
    let mut first = Vec::new();
    here.layers()
        .still_of(&name("first"))
        .unwrap()
        .pack(&mut first)
        .unwrap();
    import(&there, first.as_slice(), "first").unwrap();
    assert_eq!(there.seen("first")[Path::new("workspace/a")], "1");
    here.nothing_is_leaked();
    assert!(here.layers().still_of(&name("none")).is_err());
}

#[test]
fn nothing_is_collected_while_it_is_exported() {
    let host = Host::new();
    let still = host.layers().still(&host.path("one")).unwrap();
    fs::remove_dir_all(host.path("one")).unwrap();
    host.layers().remove(&name("first")).unwrap();
    assert!(
        !host
            .layers()
            .collect(|path| fs::remove_dir_all(path))
            .unwrap()
    );
    let mut archive = Vec::new();
    still.pack(&mut archive).unwrap();
    import(&host, archive.as_slice(), "two").unwrap();
    assert_eq!(host.seen("two")[Path::new("workspace/a")], "2");
}

#[test]
fn an_import_that_dies_leaves_a_whole_sandbox_or_none() {
    let archive = exported(&Host::new(), "one");
    let expected = Host::new().seen("one");
    at_every_step(
        |host, _| import(host, archive.as_slice(), "two").unwrap(),
        |host, step| match host.path("two").exists() {
            true => assert_eq!(host.seen("two"), expected, "{step}"),
            false => assert_ne!(step, "the end"),
        },
    );
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused_as_cut() {
    let archive = exported(&Host::new(), "one");
    for length in [
        0,
        1,
        10,
        archive.len() / 3,
        archive.len() / 2,
        archive.len() - 1,
    ] {
        assert_eq!(
            told(&archive[..length], &bounds()),
            Refused::Cut,
            "{length}"
        );
    }
    // The same where the packing is whole but not what is packed.
    let tar = zstd::decode_all(archive.as_slice()).unwrap();
    for blocks in 1..tar.len() / 512 - 4 {
        let cut = packed(&tar[..blocks * 512]);
        assert_eq!(told(&cut, &bounds()), Refused::Cut, "{blocks}");
    }
}

#[test]
fn an_archive_that_was_changed_is_refused() {
    let whole = tar(|writer| {
        entry(Kind::Directory, "workspace/", "")(writer);
        let meta = Meta::default();
        let file = b"workspace/file";
        let records = Records::default();
        writer
            .entry(Kind::File, file, b"", &meta, 4, records)
            .unwrap();
        writer.bytes(b"text").unwrap();
    });
    import(&Host::new(), packed(&whole).as_slice(), "two").unwrap();
    let mut changed = whole.clone();
    let at = whole.windows(4).position(|four| four == b"text").unwrap();
    changed[at] = b'T';
    assert_eq!(told(&packed(&changed), &bounds()), Refused::Digest);
    let mut renamed = whole.clone();
    let at = whole.windows(4).position(|four| four == b"file").unwrap();
    renamed[at] = b'F';
    assert!(matches!(
        told(&packed(&renamed), &bounds()),
        Refused::Checksum(_)
    ));
    // In the packed form.
    let mut flipped = packed(&whole);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    told(&flipped, &bounds());
    let longer = [packed(&whole), b"more".to_vec()].concat();
    assert_eq!(told(&longer, &bounds()), Refused::Trailing);
    let more = [whole.as_slice(), b"more"].concat();
    assert_eq!(told(&packed(&more), &bounds()), Refused::Trailing);
    assert_eq!(told(&packed(&[0; 1024]), &bounds()), Refused::Foreign);
    assert!(matches!(
        told(b"no archive at all", &bounds()),
        Refused::Foreign
    ));
    let format = Opening::new(None).text();
    let newer = format.replace("1}", "9}");
    let at = whole
        .windows(format.len())
        .position(|some| some == format.as_bytes());
    let mut foreign = whole.clone();
    foreign[at.unwrap()..][..newer.len()].copy_from_slice(newer.as_bytes());
    assert_eq!(told(&packed(&foreign), &bounds()), Refused::Foreign);
    assert!(whole.starts_with(OPENING.as_bytes()));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    use Kind::{Directory, Fifo, File, Link, Symlink};
    let said = |kind, path: &str, link: &str| refused(entry(kind, path, link)).to_string();
    for (kind, path, link, says) in [
        (File, "/etc/passwd", "", "begins with a slash"),
        (File, "workspace/../../up", "", "leads upwards"),
        (Directory, "..", "", "leads upwards"),
        (File, "workspace/./here", "", "no name of a file"),
        (File, "workspace//twice", "", "no name of a file"),
        (File, "workspace/", "", "is there twice"),
        (File, "elsewhere", "", "neither in root"),
        (Directory, "layers", "", "neither in root"),
        (File, "uploads/given", "", "neither in root"),
        (File, "workspace/new/file", "", "comes before its directory"),
        (Symlink, "root", "/etc", "neither in root"),
        (Link, "workspace/name", "/etc/shadow", "another name of"),
        (
            Link,
            "workspace/name",
            "workspace/../../x",
            "another name of",
        ),
        (Link, "workspace/name", "root/etc/x", "another name of"),
        (Link, "workspace/name", "workspace/none", "another name of"),
        (Link, "workspace/name", "workspace", "another name of"),
        (Symlink, "workspace/name", "", "another name of"),
        (Fifo, "workspace", "", "neither in root"),
    ] {
        let said = said(kind, path, link);
        assert!(said.contains(says), "{kind:?} {path} {link}: {said}");
    }
    let long = format!("workspace/{}", "n".repeat(256));
    assert!(matches!(refused(entry(File, &long, "")), Refused::Name(_)));
    // A header ends its name at the first zero; a record does not.
    let zero = format!("workspace/{}\0b", "n".repeat(120));
    let zero = refused(entry(File, &zero, ""));
    assert!(matches!(zero, Refused::Name(_)), "{zero:?}");
}

#[test]
fn a_link_is_never_followed() {
    let through = refused(|writer| {
        entry(Kind::Symlink, "workspace/out", "/")(writer);
        entry(Kind::File, "workspace/out/file", "")(writer);
    });
    assert!(matches!(through, Refused::Order(_)), "{through:?}");
    let as_directory = refused(|writer| {
        entry(Kind::Symlink, "workspace/out", "/")(writer);
        entry(Kind::Directory, "workspace/out/", "")(writer);
    });
    assert!(
        matches!(as_directory, Refused::Twice(_)),
        "{as_directory:?}"
    );
    let linked = refused(|writer| {
        entry(Kind::Symlink, "workspace/out", "/etc")(writer);
        entry(Kind::Link, "workspace/passwd", "workspace/out/passwd")(writer);
    });
    assert!(matches!(linked, Refused::Link(..)), "{linked:?}");
    let again = refused(|writer| {
        entry(Kind::Directory, "workspace/a/", "")(writer);
        entry(Kind::Directory, "workspace/b/", "")(writer);
        entry(Kind::File, "workspace/a/late", "")(writer);
    });
    assert!(matches!(again, Refused::Order(_)), "{again:?}");
    let twice = refused(|writer| {
        entry(Kind::File, "workspace/a", "")(writer);
        entry(Kind::File, "workspace/a", "")(writer);
    });
    assert!(matches!(twice, Refused::Twice(_)), "{twice:?}");
    let whole = refused(entry(Kind::Directory, "workspace/", ""));
    assert!(matches!(whole, Refused::Twice(_)), "{whole:?}");
}

#[test]
fn devices_owners_attributes_and_whiteouts_of_others_are_refused() {
    let mut device = tar(|writer| {
        entry(Kind::Directory, "workspace/", "")(writer);
        entry(Kind::Fifo, "workspace/null", "")(writer);
    });
    let at = device
        .windows(14)
        .position(|some| some == b"workspace/null")
        .unwrap();
    for kind in [b'3', b'4', b'D', b'S'] {
        device[at + 156] = kind;
        sum(&mut device[at..at + 512]);
        let said = told(&packed(&device), &bounds());
        let known = matches!(said, Refused::Device(_) | Refused::Unknown(..));
        assert!(known, "{}: {said}", char::from(kind));
    }
    let owner = refused(|writer| {
        let meta = Meta {
            uid: 65_536,
            ..Meta::default()
        };
        let path = b"workspace/file";
        writer
            .entry(Kind::File, path, b"", &meta, 0, Records::default())
            .unwrap();
    });
    assert!(matches!(owner, Refused::Owner(_, 65_536, 0)), "{owner:?}");
    for name in [
        "trusted.overlay.opaque",
        "user.overlay.whiteout",
        "security.selinux",
        "x",
    ] {
        let records = Records {
            attributes: vec![(name.to_owned(), b"y".to_vec())],
            ..Records::default()
        };
        let said = refused(said(Kind::File, "workspace/file", "", records));
        assert!(matches!(said, Refused::Attribute(..)), "{name}: {said}");
    }
    let gone = Records {
        whiteout: true,
        ..Records::default()
    };
    let said_of = refused(said(Kind::File, "workspace/gone", "", gone));
    assert!(matches!(said_of, Refused::Whiteout(_)), "{said_of:?}");
    let opaque = Records {
        opaque: true,
        ..Records::default()
    };
    let said_of = refused(said(Kind::Directory, "workspace/all/", "", opaque));
    assert!(matches!(said_of, Refused::Whiteout(_)), "{said_of:?}");
}

/// The checksum that fits a header.
pub(super) fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn a_name_that_is_taken_is_refused_and_changes_nothing() {
    let host = Host::new();
    let before = host.seen("one");
    let archive = exported(&Host::new(), "one");
    let done = import(&host, archive.as_slice(), "one");
    let Err(Fault::Host(error)) = done else {
        panic!("{done:?}");
    };
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(host.seen("one"), before);
    host.layers()
        .snapshot(&host.path("one"), "one", new("after"))
        .unwrap();
    host.nothing_is_leaked();
}
