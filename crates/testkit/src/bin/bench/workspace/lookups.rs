//! How long names take to be found below many layers, by a program inside that asks the kernel for them one by one;
//! beside the same files in one layer.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::{Command, NewSnapshot, Sandbox, SnapshotId, Workspaces};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{TOGETHER, compared, name, plant, rested, workspace};
use crate::Wrong;
use crate::sandbox::Ground;

/// Seals under the deep one.
const SEALS: usize = 30;
/// Files that each brings.
const EACH: usize = 300;
/// Layers that are left as they are (`sandbox::limits::LAYERS_MANY`).
const MANY: usize = sandbox::limits::LAYERS_MANY;
/// How long merging may take before the measurement is given up.
const MERGING: Duration = Duration::from_secs(60);
/// Where the measuring program stands inside.
const PROGRAM: &str = "/run/longhand/lookups";

/// A directory with this program, for sandboxes to see.
pub(super) fn programs() -> Result<tempfile::TempDir, Wrong> {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let program = dir.path().join("lookups");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}

/// `bench lookups FILES ROUND`: nanoseconds to find every file of a workspace, and as many names that there are not and
/// nobody ever asked for.
pub(crate) fn measure(files: usize, round: usize) -> String {
    let there = timed(files, |n| format!("/workspace/d{}/f{n}", n / TOGETHER));
    let missing = timed(files, |n| {
        format!("/workspace/d{}/r{round}-{n}", n / TOGETHER)
    });
    format!("{} {}", there.as_nanos(), missing.as_nanos())
}

fn timed(files: usize, path: impl Fn(usize) -> String) -> Duration {
    let paths: Vec<String> = (0..files).map(path).collect();
    let begun = Instant::now();
    for path in &paths {
        let _ = std::hint::black_box(fs::symlink_metadata(path));
    }
    begun.elapsed()
}

/// A workspace that was sealed again and again, each time with more files, beside one that was sealed once.
pub(super) async fn lookups(ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    let files = SEALS * EACH;
    for one in ["deep", "flat"] {
        rested(ground, one).await?;
    }
    plant(&workspace(ground, "flat"), files, |_| 100)?;
    seal(ground, "flat", 0).await?;
    let pile = ground.path("pile");
    plant(&pile, files, |_| 100)?;
    for n in 0..SEALS {
        for directory in 0..EACH / TOGETHER {
            let moved = format!("d{}", n * EACH / TOGETHER + directory);
            fs::rename(pile.join(&moved), workspace(ground, "deep").join(&moved))?;
        }
        seal(ground, "deep", n).await?;
    }
    fs::remove_dir_all(pile)?;
    let deep = ground.attach("deep").await?;
    let flat = ground.attach("flat").await?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..=rounds {
        for (sandbox, at) in [(&deep, 0), (&flat, 2)] {
            forget_names();
            let [there, missing] = inside(sandbox, files, round).await?;
            if round > 0 {
                times[at].push(there);
                times[at + 1].push(missing);
            }
        }
    }
    drop((deep, flat));
    let figures = json!({
        "files": files, "seals": SEALS, "layers": layers(ground, "deep")?, "target": {"ratio": 2.0},
        "there": compared(&times[0], &times[2], "the same files in one layer"),
        "missing": compared(&times[1], &times[3], "the same names over one layer"),
    });
    for one in ["deep", "flat"] {
        ground.delete(one).await?;
    }
    Ok(figures)
}

/// Seals what was written since, and waits until the layers are merged if they became too many.
async fn seal(ground: &Ground, sandbox: &str, n: usize) -> Result<(), Wrong> {
    let id = SnapshotId::new(format!("{sandbox}-{n}"))?;
    let new = NewSnapshot::new(id, 0);
    ground.local.snapshot(&name(sandbox)?, new).await?;
    let begun = Instant::now();
    while layers(ground, sandbox)? > MANY {
        if begun.elapsed() > MERGING {
            return Err("the layers were not merged in time".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// How many layers lie under it.
fn layers(ground: &Ground, sandbox: &str) -> Result<usize, Wrong> {
    let stack = fs::read_link(ground.path("sandboxes").join(sandbox).join("stack"))?;
    let text = stack.to_string_lossy();
    Ok(text.split(':').filter(|name| !name.is_empty()).count())
}

/// Has the kernel forget which names there are, where it lets us: else only the first round asks the file systems.
fn forget_names() {
    let _ = fs::write(Path::new("/proc/sys/vm/drop_caches"), "2");
}

async fn inside(
    sandbox: &Arc<dyn Sandbox>,
    files: usize,
    round: usize,
) -> Result<[Duration; 2], Wrong> {
    let words = [
        PROGRAM.to_owned(),
        "lookups".to_owned(),
        files.to_string(),
        round.to_string(),
    ];
    let mut process = sandbox.spawn(Command::new(words)).await?;
    let mut said = String::new();
    let mut stdout = process.stdout.take().ok_or("no output")?;
    stdout.read_to_string(&mut said).await?;
    let ended = process.wait().await?;
    let mut times = said.split_whitespace().map(str::parse::<u64>);
    match (times.next(), times.next()) {
        (Some(Ok(there)), Some(Ok(missing))) => Ok([there, missing].map(Duration::from_nanos)),
        _ => Err(format!("the measuring program said {said:?} and ended with {ended:?}").into()),
    }
}
