//! How much of the disk a sandbox may take, soft and hard: what happens at the limit, what the model is told,
//! what others notice, and that nothing of a disk of its own stays behind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbox::{Command, Disk, DiskKind, Error, Provider, Sandbox, Spec, Tool, ToolOutput};
use serde_json::json;

use crate::support::{Host, bash, call, host_with, id, ok, text, until};

const MIB: u64 = 1 << 20;

fn soft(bytes: u64, files: u64) -> Host {
    with(Disk {
        bytes,
        files,
        kind: DiskKind::Soft,
    })
}

fn image(bytes: u64) -> Host {
    with(Disk {
        bytes,
        files: 0,
        kind: DiskKind::Image,
    })
}

fn with(disk: Disk) -> Host {
    host_with(|config| config.allowance.disk = disk)
}

/// The answer; the deadline only ends a test that has failed.
async fn answer(sandbox: &Arc<dyn Sandbox>, command: &str) -> ToolOutput {
    let answer = tokio::time::timeout(Duration::from_secs(120), bash(sandbox, command)).await;
    answer.expect("the call hangs")
}

/// Bytes on the disk below a directory of the host.
fn taken(dir: &Path) -> u64 {
    let ran = std::process::Command::new("du")
        .args(["-s", "-B1"])
        .arg(dir)
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    said.split_whitespace().next().unwrap().parse().unwrap()
}

/// Room is there again when the files have been removed and looked for.
async fn room(sandbox: &Arc<dyn Sandbox>) {
    until("there is room again", || async {
        let input = json!({"file_path": "/workspace/room", "content": "room"});
        !call(sandbox, Tool::Write, input).await.is_error
    })
    .await;
}

#[tokio::test]
async fn a_command_that_fills_the_disk_is_ended_and_the_model_told_what_to_do() {
    let host = soft(64 * MIB, 0);
    let sandbox = host.attach("full").await;
    let other = host.attach("other").await;
    ok(&sandbox, "echo before > kept").await;
    let output = answer(&sandbox, "head -c 20G /dev/zero > large; echo after").await;
    let said = text(&output);
    assert!(
        output.is_error && said.contains("[Disk full: the files of the sandbox take"),
        "{said}"
    );
    assert!(
        said.contains("may take 64 MiB") && !said.contains("after"),
        "{said}"
    );
    assert!(taken(&host.path("sandboxes/full")) < 8 << 30, "it went on");
    // Nothing more is written, by any way, and looking and removing work.
    let input = json!({"file_path": "more", "content": "more"});
    let refused = call(&sandbox, Tool::Write, input).await;
    assert!(
        refused.is_error && text(&refused).starts_with("Nothing was written"),
        "{refused:?}"
    );
    let refused = sandbox.write("/workspace/up", None).await;
    assert!(matches!(refused, Err(Error::Failed { .. })));
    assert_eq!(
        ok(&sandbox, "cat kept; rm large; echo removed").await,
        "before\nremoved"
    );
    room(&sandbox).await;
    assert_eq!(
        ok(&sandbox, "head -c 10M /dev/zero > small; stat -c %s small").await,
        "10485760"
    );
    assert_eq!(ok(&other, "echo well").await, "well");
}

#[tokio::test]
async fn who_goes_on_writing_over_the_limit_is_ended_again() {
    let host = soft(64 * MIB, 0);
    let sandbox = host.attach("again").await;
    for round in 0..3 {
        let output = answer(&sandbox, &format!("head -c 20G /dev/zero > large{round}")).await;
        assert!(text(&output).contains("[Disk full"), "{round}: {output:?}");
    }
    assert!(taken(&host.path("sandboxes/again")) < 12 << 30);
}

#[tokio::test]
async fn what_writes_in_the_background_is_ended_and_the_next_answer_says_so() {
    let host = soft(64 * MIB, 0);
    let sandbox = host.attach("background").await;
    ok(
        &sandbox,
        "(while :; do head -c 1M /dev/zero; done > log) 2>/dev/null &",
    )
    .await;
    until("it was ended", || async {
        let running = sandbox.processes().await.unwrap();
        running.iter().all(|process| process.state == 'Z')
    })
    .await;
    let said = text(&answer(&sandbox, "echo here").await);
    assert!(said.starts_with("here\n[Disk full"), "{said}");
    assert_eq!(
        text(&answer(&sandbox, "echo here").await),
        "here",
        "it was told once"
    );
}

#[tokio::test]
async fn a_file_that_has_no_name_any_more_counts() {
    let host = soft(64 * MIB, 0);
    let sandbox = host.attach("nameless").await;
    let output = answer(&sandbox, "exec 9> gone; rm gone; head -c 20G /dev/zero >&9").await;
    assert!(text(&output).contains("[Disk full"), "{output:?}");
    // It goes with what had it open.
    room(&sandbox).await;
}

#[tokio::test]
async fn a_mapped_file_that_has_no_name_and_is_not_open_counts() {
    let host = soft(64 * MIB, 0);
    let sandbox = host.attach("mapped").await;
    let program = "import mmap, os, time\n\
        fd = os.open('gone', os.O_RDWR | os.O_CREAT); os.ftruncate(fd, 1 << 30); os.unlink('gone')\n\
        m = mmap.mmap(fd, 1 << 30); os.close(fd)\n\
        for at in range(0, 1 << 30, 4096): m[at] = 1\n\
        m.flush()\n\
        time.sleep(1000)\n";
    let output = answer(&sandbox, &format!("python3 -c \"{program}\"")).await;
    assert!(text(&output).contains("[Disk full"), "{output:?}");
}

#[tokio::test]
async fn a_million_files_are_as_many_as_are_allowed() {
    let host = soft(10 << 30, 20_000);
    let sandbox = host.attach("many").await;
    let program = "import os\n\
        for d in range(1000):\n    \
            os.mkdir('d%d' % d)\n    \
            for f in range(1000): os.close(os.open('d%d/%d' % (d, f), os.O_CREAT))\n";
    let output = answer(&sandbox, &format!("python3 -c \"{program}\"")).await;
    let said = text(&output);
    assert!(
        said.contains("there are more files in the sandbox than the 20000"),
        "{said}"
    );
    let files = ok(&sandbox, "find . | wc -l; find . -delete 2>/dev/null; true").await;
    assert!(files.trim().parse::<u64>().unwrap() < 700_000, "{files}");
    room(&sandbox).await;
}

#[tokio::test]
async fn an_upload_that_fills_the_disk_ends_and_leaves_nothing_half_done() {
    let host = soft(64 * MIB, 0);
    let sandbox = host.attach("upload").await;
    let mut upload = sandbox.write("/workspace/large", None).await.unwrap();
    let chunk = vec![7; 1 << 20];
    let mut sent = 0_u64;
    let ended = tokio::time::timeout(Duration::from_secs(120), async {
        loop {
            if let Err(error) = upload.send(&chunk).await {
                return error;
            }
            sent += 1;
            assert!(sent < 20_000, "nobody stops it");
        }
    });
    let error = ended.await.expect("it hangs").to_string();
    assert_eq!(
        error,
        "nothing was written: the disk of the sandbox is full"
    );
    let said = text(&answer(&sandbox, "ls -A").await);
    assert!(said.starts_with("[Disk full"), "{said}");
    room(&sandbox).await;
}

#[tokio::test]
async fn while_the_host_is_nearly_full_none_starts_and_what_writes_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let free = {
        let stat = rustix::fs::statvfs(dir.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    // Room for so much that what others of this host write meanwhile does not matter.
    let host = host_with(|config| {
        config.disk_reserve = free.saturating_sub(512 * MIB);
        config.allowance.disk.bytes = 0;
    });
    let Ok(sandbox) = host.local.attach(Spec::new(id("writes"))).await else {
        return;
    };
    let output = answer(&sandbox, "head -c 20G /dev/zero > large; echo after").await;
    let said = text(&output);
    assert!(
        said.contains("the disk of the machine that this sandbox runs on is nearly full"),
        "{said}"
    );
    let refused = host.local.attach(Spec::new(id("more"))).await;
    let Err(Error::Busy { problem }) = refused else {
        panic!("it started")
    };
    assert!(problem.contains("nearly full"), "{problem}");
}

#[tokio::test]
async fn a_disk_of_its_own_is_full_at_its_size_and_says_so_as_any_disk_does() {
    let host = image(128 * MIB);
    let sandbox = host.attach("hard").await;
    let other = host.attach("other").await;
    let fill = "head -c 20G /dev/zero > large; echo after; head -c 1M /dev/zero > /root/more";
    let output = answer(&sandbox, fill).await;
    let said = text(&output);
    assert_eq!(said.matches("No space left on device").count(), 2, "{said}");
    assert!(said.contains("after"), "{said}");
    let image = std::fs::metadata(host.path("sandboxes/hard/disk.img")).unwrap();
    assert_eq!(image.len(), 128 * MIB);
    assert!(taken(&host.path("sandboxes/hard")) <= 130 * MIB);
    // Room that is made is used, and given back to the host.
    ok(&sandbox, "rm large; echo kept > f; sync").await;
    until("the host has it back", || async {
        taken(&host.path("sandboxes/hard")) < 64 * MIB
    })
    .await;
    assert_eq!(
        ok(&other, "head -c 1M /dev/zero > f; stat -c %s f").await,
        "1048576"
    );
    sandbox.stop().await.unwrap();
    let again = host.attach("hard").await;
    assert_eq!(
        ok(&again, "cat f; touch /etc/new; ls -d /mnt/session/outputs").await,
        "kept\n/mnt/session/outputs"
    );
}

#[tokio::test]
async fn a_disk_of_its_own_has_an_end_of_its_files_too() {
    let host = image(128 * MIB);
    let sandbox = host.attach("inodes").await;
    let program = "import os\n\
        try:\n    \
            for d in range(1000):\n        \
                os.mkdir('d%d' % d)\n        \
                for f in range(1000): os.close(os.open('d%d/%d' % (d, f), os.O_CREAT))\n\
        except OSError as e: print(e)\n";
    let said = text(&answer(&sandbox, &format!("python3 -c \"{program}\"")).await);
    assert!(said.contains("No space left on device"), "{said}");
}

/// Loop devices whose file is below `dir`.
fn attached(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block").unwrap().flatten() {
        let backing = entry.path().join("loop/backing_file");
        let backing = std::fs::read_to_string(backing).unwrap_or_default();
        found.extend(Path::new(&backing).starts_with(dir).then_some(backing));
    }
    found
}

#[tokio::test]
async fn no_device_and_no_mount_of_a_disk_of_its_own_outlives_its_sandbox() {
    let host = image(64 * MIB);
    for round in 0..5 {
        let sandbox = host.attach("leaves").await;
        assert_eq!(attached(&host.path("")).len(), 1);
        ok(&sandbox, "sleep 1000 & echo more >> f").await;
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(host.path("sandboxes/leaves/lock")).unwrap())
                .unwrap();
        assert_eq!(
            record["limits"]["disk"],
            json!({"most": 64 * MIB, "by": "image"})
        );
        if round % 2 == 0 {
            sandbox.stop().await.unwrap();
        } else {
            let pid = record["supervisor"]["pid"].as_i64().unwrap();
            let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        // At once: the next one waits until the disk is let go.
        drop(sandbox);
        let again = loop {
            match host.local.attach(Spec::new(id("leaves"))).await {
                Ok(again) => break again,
                Err(Error::Busy { .. } | Error::Lost | Error::Gone) => {
                    tokio::task::yield_now().await
                }
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(ok(&again, "cat f | wc -l").await, format!("{}", round + 1));
        again.stop().await.unwrap();
    }
    until("the device lets go", || async {
        attached(&host.path("")).is_empty()
    })
    .await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(host.path("").to_str().unwrap()),
        "{mounts}"
    );
    host.local.delete(&id("leaves")).await.unwrap();
}

#[tokio::test]
async fn a_sandbox_keeps_the_kind_of_disk_that_it_was_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let local = |kind| {
        let sandboxes = dir.path().join("sandboxes");
        let mut config = sandbox::Config::beside(&sandboxes);
        config.orphan = Duration::ZERO;
        config.allowance.disk = Disk {
            bytes: 64 * MIB,
            files: 0,
            kind,
        };
        sandbox::Local::new(sandboxes, config).unwrap()
    };
    for (name, first, second) in [
        ("soft", DiskKind::Soft, DiskKind::Image),
        ("image", DiskKind::Image, DiskKind::Soft),
    ] {
        for (kind, command) in [(first, "echo kept > f"), (second, "cat f")] {
            let local = local(kind);
            let sandbox = crate::support::attach(&local, name).await;
            ok(&sandbox, command).await;
            sandbox.stop().await.unwrap();
            local.shutdown().await;
        }
        let own = dir.path().join("sandboxes").join(name).join("disk.img");
        assert_eq!(own.exists(), first == DiskKind::Image);
    }
}

#[tokio::test]
async fn a_share_of_the_disk_that_is_too_small_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (bytes, files, kind, said) in [
        (
            1,
            0,
            DiskKind::Soft,
            "disk of a sandbox: 1 is less than 16777216 bytes",
        ),
        (
            0,
            0,
            DiskKind::Image,
            "disk of a sandbox: 0 is less than 67108864 bytes",
        ),
        (
            0,
            1,
            DiskKind::Soft,
            "files of a sandbox: 1 is less than 1000",
        ),
    ] {
        let mut config = sandbox::Config::beside(&dir.path().join("sandboxes"));
        config.allowance.disk = Disk { bytes, files, kind };
        let error = sandbox::Local::new(dir.path().join("sandboxes"), config)
            .err()
            .unwrap();
        assert_eq!(error.to_string(), said);
    }
}

#[tokio::test]
async fn a_process_from_outside_that_fills_the_disk_is_ended_too() {
    let host = soft(64 * MIB, 0);
    let sandbox = host.attach("exec").await;
    let fill = Command::new([
        "/bin/sh",
        "-c",
        "exec head -c 20G /dev/zero > /workspace/large",
    ]);
    let process = sandbox.spawn(fill).await.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(120), process.wait()).await;
    assert_eq!(status.expect("it goes on").unwrap().signal, Some(9));
}
