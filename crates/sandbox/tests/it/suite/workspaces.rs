//! Whole workspaces: what a fork has, what a snapshot keeps, and that neither sees what is written later.

use std::sync::Arc;

use bytes::Bytes;
use sandbox::{Error, Exported, NewSnapshot, Provider, Sandbox, SnapshotId, Workspaces};

use super::sandbox;
use crate::support::{bash, id, ok, text, until};

/// Says everything that a sandbox can know of its own files that outlives a stop: pipes need not, where the kernel is the
/// sandbox's own. `ls` is not asked: not every kernel understands it.
const PORTRAIT: &str = "cd /; for d in workspace root mnt/session/outputs etc opt srv home; do \
    find $d -xdev '(' -type d -printf '%p %m %U:%G %T@\\n' ')' -o -printf '%p %y %m %U:%G %s %l %T@ %n\\n' | sort; done | grep -v '^etc/resolv\\|^etc/ssl/certs' ; \
    getfattr -dR -m user /workspace 2>/dev/null; cat workspace/*.txt etc/hostname; test -e etc/hosts && echo hosts; true";

/// Has files of every kind in every place, and some of the template's gone or replaced.
const LIVE_IN_IT: &str = "set -e; cd /workspace; mkdir -p deep/er; echo one > one.txt; ln one.txt deep/same; \
    ln -s one.txt link; mkfifo pipe; echo kept > deep/er/kept; chmod 4755 deep/er/kept; chown 1000:1001 deep; \
    chmod 1777 /workspace; truncate -s 1M holes; echo home > /root/.rc; mkdir -p /opt/tool; echo t > /opt/tool/t; \
    echo out > /mnt/session/outputs/out; rm /etc/hosts; echo changed > /etc/hostname; \
    rm -rf /etc/fonts; mkdir /etc/fonts; echo mine > /etc/fonts/mine; \
    ln -s loose $(printf 'a%.0s' {1..200}); setfattr -n user.x -v y one.txt 2>/dev/null || true; set +e";

pub fn workspaces(provider: &dyn Provider) -> &dyn Workspaces {
    provider
        .workspaces()
        .expect("it can do things with whole workspaces")
}

/// Whether a pipe that is made there lies on the disk; else it lasts as long as the sandbox runs.
fn pipes_last(sandbox: &Arc<dyn Sandbox>) -> bool {
    sandbox.isolation().is_none_or(|it| !it.own_kernel)
}

/// As [`PORTRAIT`].
async fn portrait(sandbox: &Arc<dyn Sandbox>) -> String {
    let seen = ok(sandbox, PORTRAIT).await;
    let lasts = |line: &&str| pipes_last(sandbox) || !line.starts_with("workspace/pipe p");
    let lines: Vec<&str> = seen.lines().filter(lasts).collect();
    lines.join("\n")
}

pub fn snapshot_id(name: &str) -> SnapshotId {
    SnapshotId::new(name).unwrap()
}

pub async fn a_fork_has_what_its_parent_had_and_sees_nothing_of_it_later(provider: &dyn Provider) {
    let whole = workspaces(provider);
    let parent = sandbox(provider, "parent").await;
    ok(&parent, LIVE_IN_IT).await;
    let had = portrait(&parent).await;
    assert!(had.contains("etc/fonts/mine"), "{had}");
    assert_eq!(had.contains("workspace/pipe p"), pipes_last(&parent));
    parent.stop().await.unwrap();
    // Three generations: the parent rests, and so do its forks.
    for (from, to) in [("parent", "child"), ("child", "grandchild")] {
        whole.fork(&id(from), &id(to)).await.unwrap();
        let fork = sandbox(provider, to).await;
        assert_eq!(portrait(&fork).await, had, "{to}");
        fork.stop().await.unwrap();
    }
    // All of them write now.
    let change = |who: &str| {
        format!(
            "echo {who} > one.txt; echo {who} > deep/new; rm deep/er/kept link; mkdir link; \
            rm -r /opt/tool; echo {who} > /etc/hosts; rm -r /etc/fonts; mv deep moved; cat moved/new one.txt /etc/hosts"
        )
    };
    for who in ["parent", "grandchild"] {
        let one = sandbox(provider, who).await;
        assert_eq!(ok(&one, &change(who)).await, format!("{who}\n{who}\n{who}"));
        assert!(
            ok(
                &one,
                "for d in /opt/tool deep /etc/fonts; do test ! -e $d && echo $d; done"
            )
            .await
                == "/opt/tool\ndeep\n/etc/fonts"
        );
    }
    let child = sandbox(provider, "child").await;
    assert_eq!(portrait(&child).await, had, "a fork sees what others write");
    let refused = whole.fork(&id("parent"), &id("child")).await.unwrap_err();
    assert!(refused.to_string().contains("exists already"), "{refused}");
    assert!(whole.fork(&id("nobody"), &id("other")).await.is_err());
}

pub async fn a_snapshot_of_what_runs_is_of_one_moment_and_ends_nothing(provider: &dyn Provider) {
    let whole = workspaces(provider);
    let live = sandbox(provider, "live").await;
    ok(&live, LIVE_IN_IT).await;
    // Two files that are never different for long: a copy that is not of one moment has them far apart.
    ok(&live, "(n=0; while :; do n=$((n+1)); echo $n >> /root/a; echo $n >> first; done) >/dev/null 2>&1 & echo $! > /tmp/pid")
        .await;
    until("it counts", || async { live.stat("first").await.is_ok() }).await;
    let mut new = NewSnapshot::new(snapshot_id("moment"), 7);
    (new.note, new.workspace) = (Some("a note".to_owned()), Some("somebody".to_owned()));
    let taken = whole.snapshot(&id("live"), new).await.unwrap();
    assert!(taken.live && taken.sandbox == "live" && taken.at == 7);
    assert!(whole.snapshots().await.unwrap().contains(&taken));
    // It goes on, with what it ran.
    ok(
        &live,
        "kill -0 $(cat /tmp/pid); n=$(wc -l < first); until [ $(wc -l < first) -gt $n ]; do :; done",
    )
    .await;
    whole.fork(&id("live"), &id("branched")).await.unwrap();
    ok(
        &live,
        "kill $(cat /tmp/pid); rm one.txt; rm -r /opt/tool; echo later > later",
    )
    .await;
    whole
        .restore(&snapshot_id("moment"), &id("back"))
        .await
        .unwrap();
    for name in ["back", "branched"] {
        let other = sandbox(provider, name).await;
        let apart = ok(
            &other,
            "echo $(($(wc -l < /root/a) - $(wc -l < /workspace/first)))",
        )
        .await;
        assert!(["0", "1"].contains(&apart.as_str()), "{name}: {apart}");
        let seen = ok(&other, "cat one.txt deep/er/kept /opt/tool/t; test -e later || test -e /etc/hosts || echo neither; find one.txt -printf '%n\\n'").await;
        assert_eq!(seen, "one\nkept\nt\nneither\n2");
        let pipe = ok(&other, "test -p pipe && echo pipe || echo none").await;
        assert_eq!(pipe == "pipe", pipes_last(&other));
    }
}

pub async fn a_restore_sets_everything_back_and_can_be_repeated(provider: &dyn Provider) {
    let whole = workspaces(provider);
    let one = sandbox(provider, "set-back").await;
    ok(&one, LIVE_IN_IT).await;
    one.stop().await.unwrap();
    let new = NewSnapshot::new(snapshot_id("before"), 1);
    assert!(
        !whole
            .snapshot(&id("set-back"), new.clone())
            .await
            .unwrap()
            .live
    );
    let again = whole.snapshot(&id("set-back"), new).await.unwrap_err();
    assert!(again.to_string().contains("exists already"), "{again}");
    let one = sandbox(provider, "set-back").await;
    let had = portrait(&one).await;
    for _ in 0..2 {
        let one = sandbox(provider, "set-back").await;
        ok(
            &one,
            "rm -rf /workspace/* /opt/* /etc/fonts; echo other > /workspace/one.txt",
        )
        .await;
        // It runs: it is ended.
        whole
            .restore(&snapshot_id("before"), &id("set-back"))
            .await
            .unwrap();
        assert!(!one.is_alive());
        let back = sandbox(provider, "set-back").await;
        assert_eq!(portrait(&back).await, had);
    }
    // What was made from a snapshot does not need it any more.
    whole.remove_snapshot(&snapshot_id("before")).await.unwrap();
    assert!(whole.remove_snapshot(&snapshot_id("before")).await.is_err());
    assert!(
        whole
            .restore(&snapshot_id("before"), &id("set-back"))
            .await
            .is_err()
    );
    let back = sandbox(provider, "set-back").await;
    assert_eq!(portrait(&back).await, had);
}

/// All of an archive.
async fn exported(whole: &dyn Workspaces, from: &Exported) -> Bytes {
    let (mut export, mut archive) = (whole.export(from).await.unwrap(), Vec::new());
    while let Some(piece) = export.next().await.unwrap() {
        archive.extend_from_slice(&piece);
    }
    archive.into()
}

async fn import(whole: &dyn Workspaces, archive: &Bytes, to: &str) -> Result<(), Error> {
    let mut import = whole.import(&id(to)).await?;
    let mut rest = archive.clone();
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(5_000));
        if !import.send(piece).await {
            break;
        }
    }
    import.finish().await
}

pub async fn an_archive_takes_a_workspace_elsewhere(provider: &dyn Provider) {
    let whole = workspaces(provider);
    let sender = sandbox(provider, "sender").await;
    ok(&sender, LIVE_IN_IT).await;
    let had = portrait(&sender).await;
    let from = Exported::Sandbox(id("sender"));
    let live = exported(whole, &from).await;
    sender.stop().await.unwrap();
    let resting = exported(whole, &from).await;
    let new = NewSnapshot::new(snapshot_id("sent"), 1);
    whole.snapshot(&id("sender"), new).await.unwrap();
    let kept = exported(whole, &Exported::Snapshot(snapshot_id("sent"))).await;
    for (archive, to) in [
        (live, "arrived"),
        (resting, "arrived-2"),
        (kept, "arrived-3"),
    ] {
        import(whole, &archive, to).await.unwrap();
        let arrived = sandbox(provider, to).await;
        assert_eq!(portrait(&arrived).await, had, "{to}");
        ok(
            &arrived,
            "echo more >> one.txt; rm -r deep; touch /etc/hosts",
        )
        .await;
        arrived.stop().await.unwrap();
        let taken = import(whole, &archive, to).await.unwrap_err();
        assert!(taken.to_string().contains("exists already"), "{taken}");
        let cut = archive.slice(..archive.len() - 20);
        let cut = import(whole, &cut, "cut").await.unwrap_err();
        assert!(cut.to_string().contains("was cut"), "{cut}");
        assert!(!provider.list().await.unwrap().contains(&id("cut")));
    }
    let none = whole.export(&Exported::Snapshot(snapshot_id("none"))).await;
    assert!(matches!(none.map(drop), Err(Error::Missing { .. })));
    let none = whole.export(&Exported::Sandbox(id("nobody"))).await;
    assert!(matches!(none.map(drop), Err(Error::Missing { .. })));
}

pub async fn many_seals_are_merged_and_nothing_is_seen_of_it(provider: &dyn Provider) {
    let whole = workspaces(provider);
    let rounds = sandbox::limits::LAYERS_MANY + 2;
    for n in 0..rounds {
        let one = sandbox(provider, "deep").await;
        let mut does = format!("mkdir -p d/e; echo {n} > d/n{n}; echo {n} > /root/last");
        match n {
            0 => does.push_str("; rm /etc/hosts; rm -r /etc/fonts; touch gone"),
            1 => does.push_str("; rm gone; mkdir /etc/fonts; touch /etc/fonts/mine"),
            2 => does.push_str("; rm -r d; mkdir d; ln -s x gone"),
            3 => does.push_str("; rm gone; mkdir gone; touch gone/in"),
            _ => {}
        }
        ok(&one, &does).await;
        one.stop().await.unwrap();
        let name = snapshot_id(&format!("round-{n}"));
        whole
            .snapshot(&id("deep"), NewSnapshot::new(name, 1))
            .await
            .unwrap();
    }
    let one = sandbox(provider, "deep").await;
    let look = "find . /etc/fonts | sort; cat /root/last; test -e /etc/hosts || echo no hosts; grep -c . /etc/passwd";
    let before = text(&bash(&one, look).await);
    assert!(
        before.contains("/mine") && before.contains("no hosts") && !before.contains("n1\n"),
        "{before}"
    );
    one.stop().await.unwrap();
    // It rests; what is made of it says on how many layers it lies.
    let mut forks = 0..;
    until("it is merged", || {
        let fork = format!("of-deep-{}", forks.next().unwrap());
        async move {
            whole.fork(&id("deep"), &id(&fork)).await.unwrap();
            let one = sandbox(provider, &fork).await;
            !ok(&one, "grep ' / / ' /proc/self/mountinfo")
                .await
                .contains("l2/root")
        }
    })
    .await;
    let one = sandbox(provider, "deep").await;
    assert_eq!(text(&bash(&one, look).await), before);
}
