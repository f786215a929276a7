//! Volumes: what outlives a sandbox and is seen by several, who may write to it, what cannot be removed, and that
//! nothing inside decides where one appears.

use std::path::Path;
use std::sync::Arc;

use sandbox::{
    Error, Mount, Mounts, NewSnapshot, NewVolume, Provider, Sandbox, SnapshotId, Spec, Volume,
    VolumeId, VolumeName, Volumes, Workspaces,
};

use crate::support::{Host, bash, host, host_with, id, local_in, ok, text, until};

const MIB: u64 = 1 << 20;

fn new(name: &str) -> NewVolume {
    NewVolume {
        id: VolumeId::new(format!("vol_{name}")).unwrap(),
        name: VolumeName::new(name).unwrap(),
        workspace: "mine".to_owned(),
        at: 7,
        bytes: None,
    }
}

/// `cache` or `cache:ro`.
fn mounts(words: &[&str]) -> Mounts {
    let mount = |word: &&str| Mount {
        name: word.trim_end_matches(":ro").to_owned(),
        read_only: word.ends_with(":ro"),
    };
    Mounts {
        workspace: "mine".into(),
        each: words.iter().map(mount).collect(),
    }
}

async fn tried(
    provider: &dyn Provider,
    name: &str,
    volumes: Option<&[&str]>,
) -> Result<Arc<dyn Sandbox>, Error> {
    let mut spec = Spec::new(id(name));
    spec.volumes = volumes.map(mounts);
    provider.attach(spec).await
}

/// A sandbox with those volumes; with none named, those that it had.
async fn with(host: &Host, name: &str, volumes: Option<&[&str]>) -> Arc<dyn Sandbox> {
    match tried(&host.local, name, volumes).await {
        Ok(sandbox) => sandbox,
        Err(error) => panic!("no sandbox on this host: {error}: {error:?}"),
    }
}

async fn made(host: &Host, name: &str) -> Volume {
    host.local.create_volume(new(name)).await.unwrap()
}

#[tokio::test]
async fn a_volume_outlives_its_sandboxes_and_what_one_writes_all_others_see() {
    let host = host();
    let volume = made(&host, "shared").await;
    assert_eq!((volume.at, volume.sandboxes.as_slice()), (7, [].as_slice()));
    let one = with(&host, "one", Some(&["shared"])).await;
    ok(
        &one,
        "echo hers > /mnt/volumes/shared/file && chown 1000:1001 /mnt/volumes/shared/file",
    )
    .await;
    // Another with other ids on the host, at the same time.
    let two = with(&host, "two", Some(&["shared"])).await;
    let seen = ok(
        &two,
        "stat -c %u:%g /mnt/volumes/shared/file; cat /mnt/volumes/shared/file",
    )
    .await;
    assert_eq!(seen, "1000:1001\nhers");
    ok(&two, "echo his >> /mnt/volumes/shared/file").await;
    assert_eq!(ok(&one, "cat /mnt/volumes/shared/file").await, "hers\nhis");
    let listed = host.local.list_volumes().await.unwrap();
    let mut having: Vec<_> = listed[0]
        .sandboxes
        .iter()
        .map(ToString::to_string)
        .collect();
    having.sort();
    assert_eq!(having, ["one", "two"]);
    for (sandbox, name) in [(one, "one"), (two, "two")] {
        drop(sandbox);
        host.local.delete(&id(name)).await.unwrap();
    }
    // Another provider, as after a restart.
    let again = local_in(host.path(""));
    let three = tried(&again, "three", Some(&["shared"])).await.unwrap();
    assert_eq!(
        ok(&three, "cat /mnt/volumes/shared/file").await,
        "hers\nhis"
    );
    three.stop().await.unwrap();
}

#[tokio::test]
async fn a_volume_that_is_only_read_cannot_be_written_and_nothing_is_written_beside_volumes() {
    let host = host();
    made(&host, "data").await;
    made(&host, "own").await;
    let writer = with(&host, "writer", Some(&["data"])).await;
    ok(
        &writer,
        "echo kept > /mnt/volumes/data/file; chmod 666 /mnt/volumes/data/file",
    )
    .await;
    let reader = with(&host, "reader", Some(&["data:ro", "own"])).await;
    assert_eq!(
        ok(&reader, "cat /mnt/volumes/data/file; ls /mnt/volumes").await,
        "kept\ndata\nown"
    );
    for refused in [
        "echo x > /mnt/volumes/data/file",
        "rm /mnt/volumes/data/file",
        "chmod 600 /mnt/volumes/data/file",
        "touch -a /mnt/volumes/data/file",
        "echo x > /mnt/volumes/data/new",
        "mkdir /mnt/volumes/beside",
        "echo x > /mnt/volumes/beside",
        "mount -o remount,rw /mnt/volumes/data",
    ] {
        let said = bash(&reader, refused).await;
        assert!(said.is_error, "{refused}: {said:?}");
    }
    ok(&reader, "echo x > /mnt/volumes/own/file").await;
    assert_eq!(ok(&writer, "cat /mnt/volumes/data/file").await, "kept");
    // No set-id program and no device works from there.
    let options = ok(&reader, "grep ' /mnt/volumes' /proc/self/mounts").await;
    assert_eq!(options.lines().count(), 3, "{options}");
    assert!(
        options.lines().all(|line| line.contains("nosuid,nodev")),
        "{options}"
    );
}

#[tokio::test]
async fn what_stands_inside_in_the_place_of_the_volumes_leads_nowhere_and_gives_way() {
    let host = host();
    made(&host, "cache").await;
    for plant in [
        "ln -s /etc volumes",
        "ln -s ../../../../../../tmp volumes",
        "echo file > volumes",
        "mkdir -p volumes/cache; ln -s /etc volumes/cache/x; echo mine > volumes/own",
        "mkfifo volumes",
    ] {
        let plain = with(&host, "planter", Some(&[])).await;
        ok(&plain, &format!("cd /mnt; rm -rf volumes; {plant}")).await;
        plain.stop().await.unwrap();
        let sandbox = with(&host, "planter", Some(&["cache"])).await;
        let seen = ok(
            &sandbox,
            "ls -A /mnt/volumes /mnt/volumes/cache; ls /etc/cache 2>&1 | head -1",
        )
        .await;
        assert!(
            seen.starts_with("/mnt/volumes:\ncache\n\n/mnt/volumes/cache:"),
            "{plant}: {seen}"
        );
        assert!(seen.contains("/etc/cache"), "{plant}: {seen}");
        sandbox.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_volume_in_use_is_not_removed_and_with_force_only_from_what_does_not_run() {
    let host = host();
    let volume = made(&host, "needed").await;
    let sandbox = with(&host, "user", Some(&["needed"])).await;
    ok(&sandbox, "echo kept > /mnt/volumes/needed/file").await;
    for force in [false, true] {
        let refused = host
            .local
            .remove_volume(&volume.id, force)
            .await
            .unwrap_err();
        let said = refused.to_string();
        assert!(matches!(refused, Error::Conflict { .. }), "{refused:?}");
        assert!(said.contains("needed is in use by user"), "{said}");
    }
    sandbox.stop().await.unwrap();
    let refused = host
        .local
        .remove_volume(&volume.id, false)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("force"), "{refused}");
    host.local.remove_volume(&volume.id, true).await.unwrap();
    assert!(host.local.list_volumes().await.unwrap().is_empty());
    let gone = host
        .local
        .remove_volume(&volume.id, true)
        .await
        .unwrap_err();
    assert!(matches!(gone, Error::Missing { .. }), "{gone:?}");
    // It says what is missing, until it is told to do without.
    let missing = tried(&host.local, "user", None).await.err().unwrap();
    assert!(
        missing.to_string().contains("no volume needed"),
        "{missing}"
    );
    // One of the same name is another one.
    let other = NewVolume {
        id: VolumeId::new("vol_other").unwrap(),
        ..new("needed")
    };
    host.local.create_volume(other).await.unwrap();
    assert!(tried(&host.local, "user", None).await.is_err());
    let sandbox = with(&host, "user", Some(&["needed"])).await;
    assert_eq!(ok(&sandbox, "ls -A /mnt/volumes/needed").await, "");
    sandbox.stop().await.unwrap();
    let sandbox = with(&host, "user", Some(&[])).await;
    assert!(bash(&sandbox, "ls /mnt/volumes/needed").await.is_error);
    until_empty(&host.path("trash")).await;
}

/// What was removed is gone from the disk.
async fn until_empty(dir: &Path) {
    until("the trash is empty", || async {
        std::fs::read_dir(dir).unwrap().next().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_sandbox_keeps_its_volumes_through_stops_and_restores_and_a_fork_has_none() {
    let host = host();
    made(&host, "kept").await;
    let sandbox = with(&host, "first", Some(&["kept:ro"])).await;
    let taken = SnapshotId::new("taken").unwrap();
    let new = NewSnapshot::new(taken.clone(), 1);
    host.local.snapshot(&id("first"), new).await.unwrap();
    host.local.fork(&id("first"), &id("forked")).await.unwrap();
    sandbox.stop().await.unwrap();
    let look = "grep -c ' /mnt/volumes/kept .*[ ,]ro,' /proc/self/mounts";
    let again = with(&host, "first", None).await;
    assert_eq!(ok(&again, look).await, "1");
    again.stop().await.unwrap();
    host.local.restore(&taken, &id("first")).await.unwrap();
    let restored = with(&host, "first", None).await;
    assert_eq!(ok(&restored, look).await, "1");
    // Not asked for it: what the two write must stay apart.
    let forked = with(&host, "forked", None).await;
    assert!(bash(&forked, "ls /mnt/volumes/kept").await.is_error);
}

#[tokio::test]
async fn names_are_a_workspaces_own_and_what_cannot_be_is_refused() {
    let host = host_with(|config| config.volume_bytes = 64 * MIB);
    made(&host, "same").await;
    let twice = NewVolume {
        id: VolumeId::new("vol_twice").unwrap(),
        ..new("same")
    };
    let refused = host.local.create_volume(twice.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { .. }), "{refused:?}");
    let theirs = NewVolume {
        workspace: "theirs".to_owned(),
        ..twice
    };
    host.local.create_volume(theirs).await.unwrap();
    let sandbox = with(&host, "mine", Some(&["same"])).await;
    ok(&sandbox, "echo mine > /mnt/volumes/same/whose").await;
    let files = |id: &str| host.path("volumes").join(id).join("files/whose").exists();
    assert!(files("vol_same") && !files("vol_twice"));
    for (bytes, bad) in [(0, true), (MIB, true), (65 * MIB, true), (16 * MIB, false)] {
        let name = format!("sized-{}", bytes / MIB);
        let asked = NewVolume {
            bytes: Some(bytes),
            ..new(&name)
        };
        let made = host.local.create_volume(asked).await;
        assert_eq!(made.is_err(), bad, "{bytes}: {made:?}");
    }
    for bad in [vec!["nothing"], vec!["same", "same:ro"]] {
        let refused = tried(&host.local, "bad", Some(&bad)).await.err().unwrap();
        assert!(
            matches!(refused, Error::Missing { .. } | Error::Invalid { .. }),
            "{bad:?}: {refused:?}"
        );
    }
    // Whoever was killed while making one left no volume, and nobody's way is blocked.
    std::fs::create_dir_all(host.path("volumes/new/files/half")).unwrap();
    made(&host, "next").await;
    let names = host.local.list_volumes().await.unwrap();
    assert!(names.iter().any(|one| one.name.as_str() == "next"));
    assert!(!host.path("volumes/new").exists());
}

#[tokio::test]
async fn a_volume_beyond_its_size_has_what_writes_to_it_ended_and_is_named() {
    let host = host();
    let small = NewVolume {
        bytes: Some(16 * MIB),
        ..new("small")
    };
    host.local.create_volume(small).await.unwrap();
    let writer = with(&host, "writer", Some(&["small"])).await;
    let reader = with(&host, "reader", Some(&["small:ro"])).await;
    let said = bash(
        &writer,
        "head -c 40G /dev/zero > /mnt/volumes/small/large; echo after",
    )
    .await;
    let said = text(&said);
    assert!(
        said.contains("the files of the volume small") && said.contains("may take 16 MiB"),
        "{said}"
    );
    assert!(
        said.contains("du -h /mnt/volumes/small") && !said.contains("after"),
        "{said}"
    );
    // Who only reads has nothing to do with it, and what lies elsewhere neither.
    assert!(!bash(&reader, "ls /mnt/volumes/small").await.is_error);
    // What was ended once more, while it was on its way out, is told with the next answer.
    until("there is room again", || async {
        let remove = "rm -f /mnt/volumes/small/large; echo fits > /mnt/volumes/small/file";
        !bash(&writer, remove).await.is_error
    })
    .await;
    let (bytes, more) = host.local.volume_usage(&new("small").id).await.unwrap();
    assert!(bytes < 16 * MIB && !more, "{bytes}");
}
