//! What a sandbox with a kernel of its own costs, beside the bare `runsc run` of a bundle with the same program, the same
//! options and the host's `/usr`; and one that waited for its first use.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sandbox::{Gvisor, How, Provider, ProviderName};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::compared;
use crate::Wrong;
use crate::numbers::{millis, percentile};
use crate::sandbox::{Ground, PROGRAM, first_output};

/// What both are compared with.
const BARE: &str = "bare runsc run, to the first byte of a program";
/// How long one may take to wait for its first use.
const PATIENCE: Duration = Duration::from_secs(60);

/// The figures of so many rounds; where there is no `runsc`, that.
pub(super) async fn gvisor(rounds: usize) -> Result<Value, Wrong> {
    let ground = Ground::with(|config| config.provider = ProviderName::Gvisor)?;
    if let Err(error) = ground.local.makes(ProviderName::Gvisor) {
        return Ok(json!({"not_measured": error.to_string()}));
    }
    let create = create(&ground, rounds).await?;
    let claim = claim(rounds).await?;
    ground.local.shutdown().await;
    Ok(json!({"create": create, "claim": claim}))
}

/// From nothing until the sandbox answers, and until the first byte that a program in it prints; of the bare one only the
/// latter can be seen.
async fn create(ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    let bundle = ground.path("bundle");
    bare_bundle(&bundle)?;
    let (mut ours, mut ready, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let name = format!("own-{round}");
        let begun = Instant::now();
        let sandbox = ground.attach(&name).await?;
        let attached = begun.elapsed();
        first_output(&sandbox).await?;
        let took = begun.elapsed();
        sandbox.stop().await?;
        drop(sandbox);
        ground.delete(&name).await?;
        let bare = bare(&bundle, &name).await?;
        if round > 0 {
            ours.push(took);
            ready.push(attached);
            floor.push(bare);
        }
    }
    let mut created = compared(&ready, &floor, BARE);
    created["target"] = json!({"ratio": 1.2});
    let first_byte = compared(&ours, &floor, BARE);
    Ok(json!({"created": created, "first_byte": first_byte}))
}

/// A root of directories to mount on, and the program.
fn bare_bundle(bundle: &Path) -> Result<(), Wrong> {
    let root = bundle.join("root");
    for name in ["usr", "proc", "dev", "tmp", "run", "sys", "workspace"] {
        fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    let memory = |place: &str| json!({"destination": place, "type": "tmpfs", "source": "tmpfs"});
    let words = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": PROGRAM, "env": ["PATH=/usr/bin"], "cwd": "/workspace",
            "noNewPrivileges": true,
        },
        "root": {"path": root},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            memory("/tmp"), memory("/run"), memory("/dev/shm"),
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["ro"]},
        ],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]},
    });
    fs::write(bundle.join("config.json"), serde_json::to_vec(&words)?)?;
    Ok(())
}

/// The same with nothing of ours; what it leaves is removed while nobody counts.
async fn bare(bundle: &Path, name: &str) -> Result<Duration, Wrong> {
    let state = bundle.join("state");
    let begun = Instant::now();
    let mut child = Command::new(Gvisor::default().program)
        .arg(format!("--root={}", state.display()))
        .args([
            "--network=host",
            "--ignore-cgroups",
            "--file-access=shared",
            "--overlay2=none",
        ])
        .arg("run")
        .arg(format!("--bundle={}", bundle.display()))
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    stdout.read_exact(&mut [0]).await?;
    let took = begun.elapsed();
    child.wait().await?;
    Ok(took)
}

/// One that waits, until it is somebody's.
async fn claim(rounds: usize) -> Result<Value, Wrong> {
    let ground = Ground::with(|config| {
        config.provider = ProviderName::Gvisor;
        config.warm = 1;
    })?;
    ground.local.warm_up().await?;
    let mut claimed = Vec::new();
    for round in 0..=rounds {
        let deadline = Instant::now() + PATIENCE;
        while ground.local.waiting() == 0 {
            if Instant::now() > deadline {
                return Err("no sandbox came to wait for its first use".into());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let name = format!("waited-{round}");
        let begun = Instant::now();
        let sandbox = ground.attach(&name).await?;
        let took = begun.elapsed();
        if sandbox.birth().how != How::Ready {
            return Err("one that waited was not taken".into());
        }
        if round > 0 {
            claimed.push(took);
        }
        drop(sandbox);
        ground.delete(&name).await?;
    }
    ground.local.shutdown().await;
    Ok(json!({
        "figure_p50_ms": millis(percentile(&claimed, 50)), "figure_p99_ms": millis(percentile(&claimed, 99)),
        "rounds": claimed.len(), "target": {"p50_ms": 5.0},
    }))
}
