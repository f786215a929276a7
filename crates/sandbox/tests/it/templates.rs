//! Sandboxes on templates that were imported: what is seen from inside, what a workspace remembers, and what may go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use sandbox::{
    Config, Error, Exported, Local, NewSnapshot, NewTemplate, Progress, Provider, Sandbox,
    SnapshotId, Spec, TemplateId, TemplateName, TemplateRef, Templates, Workspaces,
};
use tempfile::TempDir;

use crate::support::{Host, bash, host, host_with, id, lasting, ok, text, until};

/// Programs of the host that the little template has.
const PROGRAMS: [&str; 14] = [
    "bash", "cat", "chmod", "env", "id", "ls", "mkdir", "mv", "rm", "sleep", "stat", "touch",
    "true", "dash",
];

/// A root that is made of some of the host's programs and what they load.
pub fn little() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["usr/bin", "usr/lib", "usr/lib64", "etc", "opt/there"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for (link, to) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
    ] {
        std::os::unix::fs::symlink(to, root.join(link)).unwrap();
    }
    for program in PROGRAMS {
        let program = Path::new("/usr/bin").join(program);
        copy(&program, root);
        let loads = Command::new("ldd").arg(&program).output().unwrap();
        let loads = String::from_utf8(loads.stdout).unwrap();
        for word in loads
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            copy(Path::new(word), root);
        }
    }
    std::os::unix::fs::symlink("dash", root.join("usr/bin/sh")).unwrap();
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/bash\nown:x:77:77::/:/bin/bash\n",
    )
    .unwrap();
    fs::write(root.join("opt/there/mark"), "of the template\n").unwrap();
    fs::write(root.join("usr/lib/mark"), "of its usr\n").unwrap();
    dir
}

/// A file of the host at the same place below `/usr` of a root.
fn copy(file: &Path, root: &Path) {
    let below = file.strip_prefix("/").unwrap();
    let below = match below.starts_with("usr") {
        true => below.to_owned(),
        false => Path::new("usr").join(below),
    };
    let to = root.join(below);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if !to.exists() {
        fs::copy(file, to).unwrap();
    }
}

pub fn tar(root: &Path) -> Vec<u8> {
    let out = Command::new("tar")
        .args(["--numeric-owner", "--sort=name", "-c", "."])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(out.status.success());
    out.stdout
}

/// Imports an archive as `name` into the templates beside the sandboxes in `dir`.
pub fn import(dir: &Path, archive: Vec<u8>, name: &str) -> TemplateId {
    let home = sandbox::template_home(dir.join("templates"), 0).unwrap();
    let archive = Box::new(std::io::Cursor::new(archive));
    let mut new = NewTemplate::from_archive(archive, "a test".to_owned(), 1);
    new.name = Some(TemplateName::new(name).unwrap());
    home.import(new, &Progress::default()).unwrap().template.id
}

/// A host with the little template under that name.
fn with_little(name: &str) -> (Host, TemplateId) {
    let host = host();
    let made = import(&host.path("."), tar(little().path()), name);
    (host, made)
}

pub async fn on(local: &Local, name: &str, template: &str) -> Arc<dyn Sandbox> {
    let spec = Spec::new(id(name)).on(template.parse().unwrap());
    match local.attach(spec).await {
        Ok(sandbox) => sandbox,
        Err(error) => panic!("no sandbox on {template}: {error}: {error:?}"),
    }
}

fn snapshot(name: &str) -> NewSnapshot {
    NewSnapshot::new(SnapshotId::new(name).unwrap(), 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_sees_its_template_and_nothing_of_the_hosts_usr() {
    let (host, template) = with_little("little");
    let sandbox = on(&host.local, "one", "little").await;
    assert_eq!(
        ok(&sandbox, "cat /opt/there/mark /usr/lib/mark").await,
        "of the template\nof its usr"
    );
    // What the host has and the template has not.
    assert_eq!(ok(&sandbox, "ls /usr").await, "bin\nlib\nlib64");
    assert_eq!(
        ok(&sandbox, "ls /usr/bin | while read one; do echo -n x; done")
            .await
            .len(),
        PROGRAMS.len() + 1
    );
    assert!(ok(&sandbox, "cat /etc/passwd").await.contains("own:x:77"));
    assert!(ok(&sandbox, "cat /etc/hosts").await.contains("sandbox"));
    assert_eq!(
        ok(&sandbox, "id -u; stat -c %u:%a / /usr /workspace").await,
        "0\n0:755\n0:755\n0:755"
    );
    // It is its own to change, and the template stays.
    ok(
        &sandbox,
        "echo more > /usr/lib/more; rm /opt/there/mark; mkdir /usr/local; touch /usr/bin/new",
    )
    .await;
    let other = on(&host.local, "two", &format!("sha256:{template}")).await;
    assert_eq!(
        ok(&other, "cat /opt/there/mark; ls /usr").await,
        "of the template\nbin\nlib\nlib64"
    );
    let home = sandbox::template_home(host.path("templates"), 0).unwrap();
    assert!(home.verify(&TemplateRef::Id(template)).unwrap().1);
    // One that asks for nothing is on the host's /usr.
    let plain = host.attach("three").await;
    assert!(ok(&plain, "ls /usr").await.contains("share"));
    let found = host.local.template_of(&id("one")).await.unwrap();
    assert!(
        found.is_some()
            && host
                .local
                .template_of(&id("three"))
                .await
                .unwrap()
                .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_stays_on_its_template_whatever_its_name_means_later() {
    let (host, first) = with_little("little");
    let sandbox = on(&host.local, "one", "little").await;
    ok(&sandbox, "rm /usr/lib/mark; echo kept > /opt/there/own").await;
    sandbox.stop().await.unwrap();
    // The name gets another template.
    let root = little();
    fs::write(root.path().join("usr/lib/mark"), "of another\n").unwrap();
    fs::write(root.path().join("usr/lib/second"), "").unwrap();
    let second = import(&host.path("."), tar(root.path()), "little");
    assert_ne!(first, second);
    let look = "cat /opt/there/own; ls /usr/lib/mark /usr/lib/second 2>&1; true";
    for wanted in ["little", "host"] {
        let again = on(&host.local, "one", wanted).await;
        let seen = ok(&again, look).await;
        assert!(
            seen.starts_with("kept\n") && seen.matches("No such file").count() == 2,
            "{seen}"
        );
        again.stop().await.unwrap();
    }
    let fresh = on(&host.local, "two", "little").await;
    assert_eq!(ok(&fresh, "cat /usr/lib/mark").await, "of another");
    // One that was on the host's stays there.
    host.attach("three").await.stop().await.unwrap();
    let three = on(&host.local, "three", "little").await;
    assert!(ok(&three, "ls /usr").await.contains("share"));
}

#[tokio::test(flavor = "multi_thread")]
async fn forks_snapshots_and_restores_are_on_the_template_of_their_parent() {
    let (host, template) = with_little("little");
    let one = on(&host.local, "one", "little").await;
    ok(&one, "rm /opt/there/mark; echo first > /usr/lib/own").await;
    // Of one that runs, and of one that rests.
    host.local.fork(&id("one"), &id("live")).await.unwrap();
    host.local
        .snapshot(&id("one"), snapshot("kept"))
        .await
        .unwrap();
    one.stop().await.unwrap();
    host.local.fork(&id("one"), &id("rests")).await.unwrap();
    // In the place of one that lies on the host's, and of none.
    host.attach("other").await.stop().await.unwrap();
    let kept = SnapshotId::new("kept").unwrap();
    for to in ["other", "fresh"] {
        host.local.restore(&kept, &id(to)).await.unwrap();
    }
    for name in ["live", "rests", "other", "fresh"] {
        assert_eq!(
            host.local.template_of(&id(name)).await.unwrap(),
            Some(template.clone()),
            "{name}"
        );
        let sandbox = host.attach(name).await;
        let seen = ok(
            &sandbox,
            "cat /usr/lib/own /usr/lib/mark; ls /opt/there /usr",
        )
        .await;
        assert_eq!(
            seen, "first\nof its usr\n/opt/there:\n\n/usr:\nbin\nlib\nlib64",
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_taken_where_its_template_is_and_nowhere_else() {
    let (here, root) = (host(), tar(little().path()));
    let template = import(&here.path("."), root.clone(), "little");
    let one = on(&here.local, "one", "little").await;
    ok(&one, "rm /opt/there/mark; echo taken > /workspace/own").await;
    let archive = exported(&here.local, "one").await;
    let there = host();
    let refused = imported(&there.local, "two", &archive).await.unwrap_err();
    assert!(refused.to_string().contains(template.as_str()), "{refused}");
    assert!(there.local.list().await.unwrap().is_empty());
    // The same root is the same template, whatever it is called.
    assert_eq!(import(&there.path("."), root, "else"), template);
    imported(&there.local, "two", &archive).await.unwrap();
    let two = there.attach("two").await;
    assert_eq!(ok(&two, "cat /workspace/own; ls /opt/there").await, "taken");
    imported(&here.local, "two", &archive).await.unwrap();
    let two = here.attach("two").await;
    assert_eq!(
        ok(&two, "cat /workspace/own /usr/lib/mark; ls /opt/there").await,
        "taken\nof its usr"
    );
}

async fn exported(local: &Local, name: &str) -> Vec<u8> {
    let mut export = local.export(&Exported::Sandbox(id(name))).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = export.next().await.unwrap() {
        all.extend_from_slice(&piece);
    }
    all
}

async fn imported(local: &Local, to: &str, archive: &[u8]) -> Result<(), Error> {
    let mut import = local.import(&id(to)).await?;
    for piece in archive.chunks(1 << 16) {
        if !import.send(Bytes::copy_from_slice(piece)).await {
            break;
        }
    }
    import.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_goes_when_nobody_lies_on_it() {
    let (host, template) = with_little("little");
    let which: TemplateRef = "little".parse().unwrap();
    let one = on(&host.local, "one", "little").await;
    host.local
        .snapshot(&id("one"), snapshot("kept"))
        .await
        .unwrap();
    let in_the_way = |error: Error| match error {
        Error::Busy { problem } => problem,
        other => panic!("{other:?}"),
    };
    let used = in_the_way(host.local.remove_template(&which).await.unwrap_err());
    assert!(
        used.contains("sandbox one") && used.contains("snapshot kept"),
        "{used}"
    );
    assert_eq!(ok(&one, "cat /usr/lib/mark").await, "of its usr");
    one.stop().await.unwrap();
    host.local.delete(&id("one")).await.unwrap();
    let used = in_the_way(host.local.remove_template(&which).await.unwrap_err());
    assert!(
        !used.contains("sandbox one") && used.contains("snapshot kept"),
        "{used}"
    );
    host.local
        .remove_snapshot(&SnapshotId::new("kept").unwrap())
        .await
        .unwrap();
    // What was removed is collected in the background, which counts as making something.
    until("the template goes", || async {
        host.local.remove_template(&which).await.is_ok()
    })
    .await;
    let left = Templates::templates(&host.local).await.unwrap();
    assert!(left.is_empty());
    let which = TemplateRef::Id(template);
    let missing = host.local.remove_template(&which).await.unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }), "{missing:?}");
    let spec = Spec::new(id("two")).on(which);
    let missing = host.local.attach(spec).await.err().unwrap();
    assert!(matches!(missing, Error::Missing { .. }), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_template_is_what_sandboxes_are_made_on_the_warm_ones_too() {
    let host = host_with(|config: &mut Config| {
        config.template = "little".parse().unwrap();
        config.warm = 1;
    });
    import(&host.path("."), tar(little().path()), "little");
    host.local.warm_up().await.unwrap();
    until("one waits", || async { host.local.waiting() == 1 }).await;
    let warm = host.attach("warm").await;
    assert_eq!(ok(&warm, "ls /usr").await, "bin\nlib\nlib64");
    let plain = on(&host.local, "plain", "host").await;
    assert!(ok(&plain, "ls /usr").await.contains("share"));
    host.local.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_on_a_template_outlives_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let orphan = std::time::Duration::from_secs(120);
    let first = lasting(dir.path(), orphan);
    import(dir.path(), tar(little().path()), "little");
    let one = on(&first, "one", "little").await;
    ok(&one, "x=kept; echo on > /usr/lib/own").await;
    first.leave().await;
    drop((one, first));
    let second = lasting(dir.path(), orphan);
    let one = second.attach(Spec::new(id("one"))).await.unwrap();
    assert_eq!(
        ok(&one, "echo $x; cat /usr/lib/own; ls /usr").await,
        "kept\non\nbin\nlib\nlib64"
    );
    one.stop().await.unwrap();
    let one = second.attach(Spec::new(id("one"))).await.unwrap();
    assert_eq!(
        ok(&one, "cat /usr/lib/own /usr/lib/mark").await,
        "on\nof its usr"
    );
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_images_environment_is_the_programs_but_not_over_the_callers() {
    let host = host();
    let root = little();
    let layout = layout(root.path());
    let home = sandbox::template_home(host.path("templates"), 0).unwrap();
    let mut new = NewTemplate::at_path(layout.path(), None, 1).unwrap();
    new.name = Some(TemplateName::new("image").unwrap());
    home.import(new, &Progress::default()).unwrap();
    let spec = Spec::new(id("one")).on("image".parse().unwrap());
    let one = host.local.attach(spec.env("CALLER", "mine")).await.unwrap();
    let seen = ok(&one, "echo $WORD $CALLER $PATH $HOME; cat /opt/there/mark").await;
    assert_eq!(seen, "said mine /usr/bin:/opt/bin /root\nof the template");
    let gone = text(&bash(&one, "cat /usr/lib/mark").await);
    assert!(gone.contains("No such file"), "{gone}");
}

/// An OCI image layout of two layers, packed by gzip and zstd; the second hides `usr/lib/mark`.
fn layout(root: &Path) -> TempDir {
    let layout = tempfile::tempdir().unwrap();
    fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
    fs::write(
        layout.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let hides = tempfile::tempdir().unwrap();
    fs::create_dir_all(hides.path().join("usr/lib")).unwrap();
    fs::write(hides.path().join("usr/lib/.wh.mark"), "").unwrap();
    let (below, above) = (tar(root), tar(hides.path()));
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let layers = [
        blob(
            layout.path(),
            &piped("gzip", &below),
            &format!("{kind}+gzip"),
        ),
        blob(
            layout.path(),
            &piped("zstd", &above),
            &format!("{kind}+zstd"),
        ),
    ];
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/opt/bin", "HOME=/x", "WORD=said", "CALLER=theirs"]},
        "rootfs": {"type": "layers", "diff_ids": [sum(&below), sum(&above)]},
    });
    let config = config.to_string();
    let config = blob(
        layout.path(),
        config.as_bytes(),
        "application/vnd.oci.image.config.v1+json",
    );
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = blob(layout.path(), manifest.to_string().as_bytes(), kind);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
    layout
}

fn sum(bytes: &[u8]) -> String {
    let said = piped("sha256sum", bytes);
    format!("sha256:{}", String::from_utf8_lossy(&said[..64]))
}

fn blob(layout: &Path, bytes: &[u8], kind: &str) -> serde_json::Value {
    let digest = sum(bytes);
    let place: PathBuf = layout.join("blobs/sha256").join(&digest["sha256:".len()..]);
    fs::write(place, bytes).unwrap();
    serde_json::json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
}

/// What a program of the host makes of its input.
fn piped(program: &str, input: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), input).unwrap();
    let out = Command::new(program)
        .stdin(file.reopen().unwrap())
        .output()
        .unwrap();
    assert!(out.status.success(), "{program}");
    out.stdout
}
