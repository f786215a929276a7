//! What whole workspaces cost, by the public interface of the `sandbox` crate: forks of what rests, snapshots of what
//! runs, names below many layers, archives. Beside each, in the same run and taking turns with it, the calls that
//! nobody can do without, or the tools that do the same with plain directories.
//!
//! All of it happens below `TMPDIR`: a file system with reflinks there gives the figures with them.

mod archives;
mod gvisor;
pub(crate) mod lookups;

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use sandbox::{NewSnapshot, SandboxId, SnapshotId, Workspaces};
use serde_json::{Value, json};
use testkit::setting;
use tokio::process::Command;

use crate::Wrong;
use crate::numbers::{median, millis, percentile, rounded};
use crate::sandbox::{Ground, first_output};

/// Files of a workspace that is forked.
const FORKED: [usize; 2] = [10_000, 200_000];
/// Files of one that is copied or packed.
const FILES: usize = 10_000;
/// Files of one directory.
const TOGETHER: usize = 100;
/// Rounds of what takes milliseconds, unless `TESTKIT_BENCH_ROUNDS` says otherwise; a tenth of them of what takes
/// longer.
const ROUNDS: u64 = 50;

/// Runs the benchmark, or the parts of it that `TESTKIT_BENCH_ONLY` names.
pub(crate) async fn run() -> Result<Value, Wrong> {
    let rounds = usize::try_from(setting::number("TESTKIT_BENCH_ROUNDS", ROUNDS))?;
    let few = (rounds / 10).max(3);
    let programs = lookups::programs()?;
    let place = programs.path().to_owned();
    let ground = Ground::with(|config| config.programs = Some(place))?;
    let reflink = reflink(&ground).await?;
    let mut figures = json!({"bench": "workspace", "reflink": reflink});
    let mut measured = |part: &str, figure: Value| {
        eprintln!("{part}: {figure:#}");
        figures[part] = figure;
    };
    if setting::is_asked_for("fork") {
        let mut forks = Vec::new();
        for files in FORKED {
            forks.push(fork(&ground, files, rounds).await?);
        }
        measured("fork", json!(forks));
    }
    if setting::is_asked_for("live_snapshot") {
        measured("live_snapshot", live(&ground, few, reflink).await?);
    }
    if setting::is_asked_for("lookups") {
        measured("lookups", lookups::lookups(&ground, few).await?);
    }
    if setting::is_asked_for("start") {
        measured("start", start(&ground, rounds).await?);
    }
    if setting::is_asked_for("archives") {
        measured("archives", archives::archives(&ground, few).await?);
    }
    if setting::is_asked_for("gvisor") {
        measured("gvisor", gvisor::gvisor(few).await?);
    }
    ground.local.shutdown().await;
    Ok(figures)
}

/// A fork of a sandbox that rests, by sealing what it has written: so many files. The floor is what changes names, bare.
async fn fork(ground: &Ground, files: usize, rounds: usize) -> Result<Value, Wrong> {
    // Made once, and moved into each workspace that is sealed, and out of the layer that came of it.
    let pile = ground.path("pile");
    plant(&pile, files, |_| 100)?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (from, to) = (format!("from-{round}"), format!("to-{round}"));
        rested(ground, &from).await?;
        fs::rename(&pile, workspace(ground, &from).join("pile"))?;
        let begun = Instant::now();
        ground.local.fork(&name(&from)?, &name(&to)?).await?;
        let took = begun.elapsed();
        fs::rename(sealed(ground)?, &pile)?;
        let bare = ground.path(&format!("bare-{round}"));
        fs::create_dir(&bare)?;
        let begun = Instant::now();
        renames(&bare)?;
        let renamed = begun.elapsed();
        fs::remove_dir_all(&bare)?;
        // The first round fills caches.
        if round > 0 {
            ours.push(took);
            floor.push(renamed);
        }
        for gone in [&from, &to] {
            ground.delete(gone).await?;
        }
    }
    fs::remove_dir_all(&pile)?;
    let mut figures = compared(&ours, &floor, "the same directories made and renamed");
    figures["files"] = json!(files);
    figures["target"] = json!({"p50_ms": 2.0});
    Ok(figures)
}

/// Where the pile lies that was just sealed.
fn sealed(ground: &Ground) -> Result<PathBuf, Wrong> {
    for layer in fs::read_dir(ground.path("snapshots/layers"))? {
        let pile = layer?.path().join("workspace/pile");
        if pile.exists() {
            return Ok(pile);
        }
    }
    Err("no layer came of what was sealed".into())
}

/// What a seal and a new workspace are at least: three directories take another name and are made anew, two links say
/// so, and a workspace is made under a name that is nobody's and then gets its own.
fn renames(dir: &Path) -> io::Result<()> {
    const PARTS: [&str; 3] = ["upper", "workspace", "outputs"];
    let (open, layer) = (dir.join("open"), dir.join("layer"));
    fs::create_dir(&open)?;
    fs::create_dir(&layer)?;
    for part in PARTS {
        fs::create_dir(open.join(part))?;
        fs::rename(open.join(part), layer.join(part))?;
        fs::create_dir(open.join(part))?;
    }
    for link in ["next", "stack"] {
        symlink("a stack of layers", dir.join("draft"))?;
        fs::rename(dir.join("draft"), dir.join(link))?;
    }
    let draft = dir.join("new");
    fs::create_dir(&draft)?;
    for n in 0..9 {
        fs::create_dir(draft.join(n.to_string()))?;
    }
    symlink("a stack of layers", draft.join("stack"))?;
    fs::rename(draft, dir.join("made"))
}

/// A snapshot of a sandbox that runs, which has written so many files since its last seal. The floor is `cp -a` of the
/// same, and that on the disk.
async fn live(ground: &Ground, rounds: usize, reflink: bool) -> Result<Value, Wrong> {
    let sandbox = ground.attach("live").await?;
    let files = workspace(ground, "live");
    plant(&files, FILES, size)?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let id = SnapshotId::new(format!("live-{round}"))?;
        let begun = Instant::now();
        let new = NewSnapshot::new(id.clone(), 0);
        ground.local.snapshot(&name("live")?, new).await?;
        let took = begun.elapsed();
        let copy = ground.path("copy");
        let begun = Instant::now();
        shell(
            "cp -a --reflink=auto \"$1\" \"$2\" && sync -f \"$2\"",
            &[&files, &copy],
        )
        .await?;
        if round > 0 {
            ours.push(took);
            floor.push(begun.elapsed());
        }
        ground.local.remove_snapshot(&id).await?;
        fs::remove_dir_all(copy)?;
    }
    drop(sandbox);
    ground.delete("live").await?;
    let mut figures = compared(&ours, &floor, "cp -a and sync");
    figures["files"] = json!(FILES);
    if reflink {
        figures["target"] = json!({"p50_ms": 500.0});
    }
    Ok(figures)
}

/// From nothing to the first byte of a program in a sandbox that lies on a layer, beside a bare one.
async fn start(ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    rested(ground, "model").await?;
    plant(&workspace(ground, "model"), TOGETHER, size)?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (forked, bare) = (format!("forked-{round}"), format!("plain-{round}"));
        ground.local.fork(&name("model")?, &name(&forked)?).await?;
        for (one, times) in [(&forked, &mut ours), (&bare, &mut floor)] {
            let begun = Instant::now();
            first_output(&ground.attach(one).await?).await?;
            if round > 0 {
                times.push(begun.elapsed());
            }
            ground.delete(one).await?;
        }
    }
    ground.delete("model").await?;
    let mut figures = compared(&ours, &floor, "a sandbox without layers");
    let more = percentile(&ours, 50).saturating_sub(percentile(&floor, 50));
    figures["more_p50_ms"] = json!(millis(more));
    figures["target"] = json!({"more_p50_ms": 1.0});
    Ok(figures)
}

fn compared(ours: &[Duration], floor: &[Duration], what: &str) -> Value {
    let pairs = ours.iter().zip(floor);
    let ratio = median(pairs.map(|(a, b)| a.as_secs_f64() / b.as_secs_f64().max(1e-9)));
    json!({
        "figure_p50_ms": millis(percentile(ours, 50)), "figure_p99_ms": millis(percentile(ours, 99)),
        "floor_p50_ms": millis(percentile(floor, 50)), "floor": what, "ratio": rounded(ratio), "rounds": ours.len(),
    })
}

/// Makes a sandbox that does not run, of which nothing is on its way out any more.
async fn rested(ground: &Ground, name: &str) -> Result<(), Wrong> {
    ground.attach(name).await?.stop().await?;
    let lock = fs::File::open(ground.path("sandboxes").join(name).join("lock"))?;
    while flock(&lock, FlockOperation::NonBlockingLockShared).is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

fn name(text: &str) -> Result<SandboxId, Wrong> {
    Ok(SandboxId::new(text)?)
}

/// Where a sandbox's `/workspace` lies, or what of it was written since the last seal.
fn workspace(ground: &Ground, name: &str) -> PathBuf {
    ground.path("sandboxes").join(name).join("workspace")
}

/// Bytes of the files of a workspace: most are small, some are not.
fn size(n: usize) -> usize {
    if n.is_multiple_of(10) {
        64 << 10
    } else {
        4 << 10
    }
}

/// Makes so many files below `dir`, [`TOGETHER`] in a directory, of what compresses about as source code does.
fn plant(dir: &Path, files: usize, bytes: impl Fn(usize) -> usize) -> Result<(), Wrong> {
    for n in 0..files {
        let place = dir.join(format!("d{}", n / TOGETHER));
        if n.is_multiple_of(TOGETHER) {
            fs::create_dir_all(&place)?;
        }
        let mut text = String::with_capacity(bytes(n) + 64);
        let mut word = n as u64;
        while text.len() < bytes(n) {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str("let value = ");
            text.push_str(&(word >> 44).to_string());
            text.push_str(";\n");
        }
        text.truncate(bytes(n));
        fs::write(place.join(format!("f{n}")), text)?;
    }
    Ok(())
}

/// Whether files of the ground can share their blocks.
async fn reflink(ground: &Ground) -> Result<bool, Wrong> {
    let (from, to) = (ground.path("probe"), ground.path("probe-copy"));
    fs::write(&from, "some bytes")?;
    let copied = shell(
        "cp --reflink=always \"$1\" \"$2\" 2>/dev/null",
        &[&from, &to],
    )
    .await;
    Ok(copied.is_ok())
}

/// Runs a script of the host with these paths as its arguments; it must succeed.
async fn shell(script: &str, paths: &[&Path]) -> Result<(), Wrong> {
    let script = format!("set -o pipefail; {script}");
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &script, "bash"]).args(paths);
    let status = command.status().await?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{script}: {status}").into()),
    }
}
