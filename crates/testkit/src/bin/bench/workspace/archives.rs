//! How fast a workspace becomes an archive and one becomes a workspace, beside `tar | zstd -1` and back.

use std::fs;
use std::time::{Duration, Instant};

use sandbox::{Exported, Workspaces};
use serde_json::{Value, json};

use super::{FILES, name, plant, rested, shell, size, workspace};
use crate::Wrong;
use crate::numbers::{median, millis, percentile, rounded};
use crate::sandbox::Ground;

/// A workspace out and in again.
pub(super) async fn archives(ground: &Ground, rounds: usize) -> Result<Value, Wrong> {
    rested(ground, "packed").await?;
    plant(&workspace(ground, "packed"), FILES, size)?;
    let (plain, file) = (ground.path("plain"), ground.path("plain.tar.zst"));
    plant(&plain, FILES, size)?;
    let bytes: usize = (0..FILES).map(size).sum();
    let (mut out, mut tar_out) = (Vec::new(), Vec::new());
    let (mut back, mut tar_back) = (Vec::new(), Vec::new());
    let mut packed = 0;
    for round in 0..=rounds {
        let begun = Instant::now();
        let from = Exported::Sandbox(name("packed")?);
        let mut export = ground.local.export(&from).await?;
        let mut pieces = Vec::new();
        packed = 0;
        while let Some(piece) = export.next().await? {
            packed += piece.len();
            pieces.push(piece);
        }
        let exported = begun.elapsed();
        let begun = Instant::now();
        let pack = "tar -C \"$1\" -cf - . | zstd -1 -q > \"$2\"";
        shell(pack, &[&plain, &file]).await?;
        let tarred = begun.elapsed();

        let to = format!("imported-{round}");
        let begun = Instant::now();
        let mut import = ground.local.import(&name(&to)?).await?;
        for piece in pieces {
            if !import.send(piece).await {
                break;
            }
        }
        import.finish().await?;
        let imported = begun.elapsed();
        let there = ground.path("unpacked");
        fs::create_dir(&there)?;
        let begun = Instant::now();
        // An import that was acknowledged is on the disk.
        let unpack = "zstd -dc \"$1\" | tar -C \"$2\" -xf - && sync -f \"$2\"";
        shell(unpack, &[&file, &there]).await?;
        let untarred = begun.elapsed();
        ground.delete(&to).await?;
        fs::remove_dir_all(there)?;
        if round > 0 {
            out.push(exported);
            tar_out.push(tarred);
            back.push(imported);
            tar_back.push(untarred);
        }
    }
    ground.delete("packed").await?;
    Ok(json!({
        "files": FILES, "bytes": bytes, "archive_bytes": packed,
        "export": speed(bytes, &out, &tar_out, "tar | zstd -1"),
        "import": speed(bytes, &back, &tar_back, "zstd -d | tar, and sync"),
    }))
}

/// How fast it is; the ratio says which part of the floor's speed it has.
fn speed(bytes: usize, ours: &[Duration], floor: &[Duration], what: &str) -> Value {
    let rate = |times: &[Duration]| {
        let seconds = percentile(times, 50).as_secs_f64().max(1e-9);
        (bytes as f64 / seconds / f64::from(1 << 20)).round()
    };
    let pairs = ours.iter().zip(floor);
    let part = median(pairs.map(|(a, b)| b.as_secs_f64() / a.as_secs_f64().max(1e-9)));
    json!({
        "figure_mib_per_second": rate(ours), "figure_p50_ms": millis(percentile(ours, 50)),
        "floor_mib_per_second": rate(floor), "floor_p50_ms": millis(percentile(floor, 50)), "floor": what,
        "ratio": rounded(part), "target": {"ratio": 0.7}, "rounds": ours.len(),
    })
}
