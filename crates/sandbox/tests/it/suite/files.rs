//! Files: in, out, and what stands where.

use sandbox::{Changed, Changes, Download, Error, FileWatch, Kind, Provider, Sandbox};

use super::sandbox;
use crate::support::ok;

async fn put(sandbox: &dyn Sandbox, path: &str, content: &[u8]) -> Result<(), Error> {
    let mut upload = sandbox.write(path, None).await?;
    upload.send(content).await?;
    upload.finish().await
}

async fn all(mut download: Download) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(piece) = download.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

async fn get(sandbox: &dyn Sandbox, path: &str, from: u64) -> Result<Vec<u8>, Error> {
    all(sandbox.read(path, from).await?).await
}

pub async fn a_file_goes_in_and_comes_out(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "file").await;
    let mut upload = sandbox.write("notes/a b.sh", Some(0o755)).await;
    assert!(matches!(upload, Err(Error::Missing { .. })));
    sandbox.make_directory("notes").await.unwrap();
    upload = sandbox.write("notes/a b.sh", Some(0o755)).await;
    let mut upload = upload.unwrap();
    upload.send(b"echo ").await.unwrap();
    upload.send(b"run").await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(ok(&sandbox, "sh 'notes/a b.sh'").await, "run");
    let entry = sandbox.stat("/workspace/notes/a b.sh").await.unwrap();
    assert_eq!(
        (entry.name.as_str(), entry.kind, entry.bytes, entry.mode),
        ("a b.sh", Kind::File, 8, 0o755)
    );
    let download = sandbox.read("notes/a b.sh", 0).await.unwrap();
    assert_eq!(download.entry, entry);
    assert_eq!(all(download).await.unwrap(), b"echo run");
    assert_eq!(get(&*sandbox, "notes/a b.sh", 5).await.unwrap(), b"run");
    assert_eq!(get(&*sandbox, "notes/a b.sh", 99).await.unwrap(), b"");
    // Its permissions stay when nobody gives others.
    put(&*sandbox, "notes/a b.sh", b"").await.unwrap();
    assert_eq!(sandbox.stat("notes/a b.sh").await.unwrap().mode, 0o755);
    put(&*sandbox, "/etc/motd", b"hello").await.unwrap();
    assert_eq!(ok(&sandbox, "cat /etc/motd").await, "hello");
}

pub async fn a_write_that_is_given_up_leaves_no_trace(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "given").await;
    put(&*sandbox, "kept", b"old").await.unwrap();
    let mut upload = sandbox.write("kept", None).await.unwrap();
    upload.send(b"new").await.unwrap();
    assert_eq!(get(&*sandbox, "kept", 0).await.unwrap(), b"old");
    drop(upload);
    crate::support::until("nothing is left of it", || async {
        sandbox.list("/workspace").await.unwrap().entries.len() == 1
    })
    .await;
    assert_eq!(get(&*sandbox, "kept", 0).await.unwrap(), b"old");
}

pub async fn megabytes_go_in_and_come_out(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "large").await;
    let sent: Vec<u8> = (0..6_000_000_u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2])
        .collect();
    put(&*sandbox, "large", &sent).await.unwrap();
    assert!(get(&*sandbox, "large", 0).await.unwrap() == sent);
    // One that is not read to its end holds up nobody.
    let mut download = sandbox.read("large", 0).await.unwrap();
    assert!(download.next().await.unwrap().is_some());
    assert_eq!(ok(&sandbox, "echo here").await, "here");
    drop(download);
    assert_eq!(get(&*sandbox, "large", 5_999_999).await.unwrap().len(), 1);
}

pub async fn what_is_not_there_is_missing_and_what_is_no_file_is_invalid(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "wrong").await;
    ok(&sandbox, "mkfifo pipe; mkdir dir; touch dir/file").await;
    for path in ["none", "none/none", "dir/file/none"] {
        let read = sandbox.read(path, 0).await.err().unwrap();
        assert!(matches!(read, Error::Missing { .. }), "{path}: {read:?}");
        assert!(read.to_string().contains(path), "{read}");
        let stat = sandbox.stat(path).await.unwrap_err();
        assert!(matches!(stat, Error::Missing { .. }), "{path}: {stat:?}");
    }
    for path in [
        "pipe",
        "dir",
        "/dev/zero",
        "",
        "a\0b",
        "/proc/1/mem",
        "/proc",
    ] {
        let read = sandbox.read(path, 0).await.err().unwrap();
        assert!(matches!(read, Error::Invalid { .. }), "{path}: {read:?}");
    }
    for path in ["dir", "/", "..", "/proc/1/mem", "/mnt/session/uploads/x"] {
        let write = sandbox.write(path, None).await.err().unwrap();
        assert!(matches!(write, Error::Invalid { .. }), "{path}: {write:?}");
    }
    assert!(matches!(
        sandbox.remove("dir", false).await,
        Err(Error::Invalid { .. })
    ));
}

pub async fn directories_are_made_listed_moved_and_removed(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "dirs").await;
    sandbox.make_directory("a/b/c").await.unwrap();
    sandbox.make_directory("a/b/c").await.unwrap();
    put(&*sandbox, "a/b/file", b"1234").await.unwrap();
    ok(&sandbox, "ln -s ../b a/b/link").await;
    let listing = sandbox.list("a/b").await.unwrap();
    let seen: Vec<_> = listing
        .entries
        .iter()
        .map(|e| (e.name.as_str(), e.kind, e.target.as_deref()))
        .collect();
    assert_eq!(
        seen,
        [
            ("c", Kind::Directory, None),
            ("file", Kind::File, None),
            ("link", Kind::Symlink, Some("../b"))
        ]
    );
    assert!(!listing.more);
    sandbox.rename("a/b", "moved").await.unwrap();
    assert!(matches!(
        sandbox.list("a/b").await,
        Err(Error::Missing { .. })
    ));
    sandbox.remove("moved", true).await.unwrap();
    sandbox.remove("a", false).await.unwrap();
    assert!(sandbox.list("").await.is_err());
    assert_eq!(sandbox.list(".").await.unwrap().entries, []);
}

pub async fn links_lead_to_what_is_in_the_sandbox(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "links").await;
    ok(
        &sandbox,
        "echo inside >/etc/marked; ln -s /etc/marked link; ln -s /proc/self/mem memory; ln -s loop loop",
    )
    .await;
    assert_eq!(get(&*sandbox, "link", 0).await.unwrap(), b"inside\n");
    put(&*sandbox, "link", b"mine").await.unwrap();
    assert_eq!(sandbox.stat("link").await.unwrap().kind, Kind::File);
    assert_eq!(get(&*sandbox, "/etc/marked", 0).await.unwrap(), b"inside\n");
    for path in ["memory", "loop"] {
        assert!(sandbox.read(path, 0).await.is_err(), "{path}");
    }
    // The link itself, not what it leads to.
    sandbox.remove("memory", true).await.unwrap();
}

pub async fn a_full_disk_is_told_and_keeps_the_old_file(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "full").await;
    // A device of the sandbox's own that is full after a while.
    let room = ok(&sandbox, "df --output=avail -B1 /dev/shm | tail -1").await;
    let room: usize = room.trim().parse().unwrap();
    put(&*sandbox, "/dev/shm/kept", b"old").await.unwrap();
    let mut upload = sandbox.write("/dev/shm/kept", None).await.unwrap();
    let piece = vec![0; 1 << 20];
    let mut sent = 0;
    let failed = loop {
        match upload.send(&piece).await {
            Ok(()) if sent <= room + (8 << 20) => sent += piece.len(),
            Ok(()) => break upload.finish().await.err(),
            Err(error) => break Some(error),
        }
    };
    let failed = failed.unwrap();
    assert!(matches!(failed, Error::Failed { .. }), "{failed:?}");
    assert!(failed.to_string().contains("no space left"), "{failed}");
    assert_eq!(get(&*sandbox, "/dev/shm/kept", 0).await.unwrap(), b"old");
}

/// What is told until `last` is, without what came of nothing.
async fn told(watched: &mut FileWatch, last: &str) -> Vec<(String, Changed)> {
    let mut all = Vec::new();
    loop {
        let said = watched.next().await.unwrap().expect("it goes on");
        assert!(!said.more, "{said:?}");
        all.extend(said.changes.into_iter().map(|one| (one.path, one.change)));
        if all.iter().any(|(path, _)| path == last) {
            return all;
        }
    }
}

pub async fn what_changes_in_a_directory_is_told(provider: &dyn Provider) {
    let sandbox = sandbox(provider, "watched").await;
    ok(&sandbox, "mkdir -p d/below; echo 1 >d/old; echo 1 >d/gone").await;
    let mut watched = sandbox.watch("d", false).await.unwrap();
    assert_eq!(watched.next().await.unwrap(), Some(Changes::default()));
    ok(
        &sandbox,
        "cd d; echo 2 >>old; rm gone; touch below/unseen; mkdir new; mv new last",
    )
    .await;
    let all = told(&mut watched, "/workspace/d/last").await;
    for (path, change) in [
        ("old", Changed::Written),
        ("gone", Changed::Removed),
        ("last", Changed::Created),
    ] {
        let path = format!("/workspace/d/{path}");
        let latest = all.iter().rfind(|(of, _)| *of == path);
        assert_eq!(
            latest.map(|(_, change)| *change),
            Some(change),
            "{path}: {all:?}"
        );
    }
    assert!(
        !all.iter().any(|(path, _)| path.contains("unseen")),
        "{all:?}"
    );
    let missing = sandbox.watch("none/at/all", true).await.err().unwrap();
    assert!(matches!(missing, Error::Missing { .. }), "{missing:?}");
    let kernels = sandbox.watch("/proc", true).await.err().unwrap();
    assert!(matches!(kernels, Error::Invalid { .. }), "{kernels:?}");
}

pub async fn what_changes_below_is_told_if_it_is_wanted_and_a_file_may_come_later(
    provider: &dyn Provider,
) {
    let sandbox = sandbox(provider, "deep").await;
    ok(&sandbox, "mkdir -p d/a/b").await;
    let mut deep = sandbox.watch("/workspace/d", true).await.unwrap();
    let mut file = sandbox.watch("d/a/awaited", true).await.unwrap();
    for watched in [&mut deep, &mut file] {
        assert_eq!(watched.next().await.unwrap(), Some(Changes::default()));
    }
    // What is in a directory that is new may have been there before anybody looked.
    ok(
        &sandbox,
        "cd d; mkdir -p a/new/er; touch a/new/er/x; echo >a/b/y; echo >a/awaited",
    )
    .await;
    let all = told(&mut deep, "/workspace/d/a/awaited").await;
    for path in ["a/new", "a/new/er", "a/new/er/x", "a/b/y"] {
        let path = format!("/workspace/d/{path}");
        assert!(
            all.contains(&(path.clone(), Changed::Created)),
            "{path}: {all:?}"
        );
    }
    let all = told(&mut file, "/workspace/d/a/awaited").await;
    assert_eq!(
        all,
        [("/workspace/d/a/awaited".to_owned(), Changed::Created)]
    );
    // Nobody looks any more: nothing of it is left.
    drop((deep, file));
    ok(&sandbox, "echo >/workspace/d/a/b/z").await;
    sandbox.stop().await.unwrap();
}
