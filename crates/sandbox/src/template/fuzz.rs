//! Archives and layers that anybody may have made: right but for a few bytes, cut, repeated, with names and links that lead
//! elsewhere. Each is put or refused, and nothing beside the tree that is being made changes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::apply::{Dialect, Tree};
use super::prepare::prepare;
use super::tests::{Tar, text};
use super::*;
use crate::archive::{Bounds, Fault};
use crate::dice::Dice;

/// How long this goes on in every run of the tests; `FUZZ_SECONDS` for a long one.
const SECONDS: u64 = 20;
/// Seeds that once found something. They run first.
const FOUND: &[u64] = &[0, 1, 0xffff_ffff_ffff_ffff];
/// Names of which an archive is made: good ones, and such as lead elsewhere.
const NAMES: &[&str] = &[
    "./",
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "way",
    "way/kept",
    "way/new",
    "up",
    "up/kept",
    "etc",
    "etc/hosts",
    "etc/ssl",
    "etc/ssl/certs/ca-certificates.crt",
    "etc/longhand",
    "var/lib",
    "tmp",
    "dev/null",
    "a/../../kept",
    "/tmp/new-of-template",
    "a/.wh.b",
    "way/.wh.kept",
    "way/.wh..wh..opq",
    "up/.wh.kept",
    ".wh..wh..opq",
    ".wh.a",
    ".wh...",
];
const LINKS: &[&str] = &[
    "",
    "..",
    "../../beside",
    "../../../../../../../../../..",
    "/",
    "a",
    "a/b",
    "way/kept",
    "/proc/self/root",
    "/proc/self/cwd",
    "/tmp",
    "a/../../beside/kept",
];

fn archive(seed: u64, outside: &str) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut tar = Tar::default();
    for _ in 0..dice.roll(9) {
        let kind = b"0055222163"[dice.roll(10) as usize];
        let name = NAMES[dice.roll(NAMES.len() as u64) as usize];
        let link = match dice.roll(4) {
            0 => outside,
            _ => LINKS[dice.roll(LINKS.len() as u64) as usize],
        };
        let content = if kind == b'0' {
            dice.bytes(1_500)
        } else {
            Vec::new()
        };
        tar = tar.entry(kind, name, link, &content);
    }
    let mut bytes = tar.end();
    for _ in 0..[0, 0, 1, 3][dice.roll(4) as usize] {
        let at = dice.roll(bytes.len() as u64) as usize;
        let block = at / 512 * 512;
        match dice.roll(4) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at] = dice.roll(256) as u8,
            2 => {
                let repeated = bytes[block..(block + 512).min(bytes.len())].to_vec();
                bytes.splice(block..block, repeated);
            }
            _ => {
                // A header that fits what it says.
                if let Some(header) = bytes.get_mut(block..block + 512) {
                    header[dice.roll(512) as usize] = dice.roll(256) as u8;
                    Tar::sum(header);
                }
            }
        }
    }
    bytes
}

/// What lies beside the tree, with its content.
fn portrait(beside: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(beside).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        all.push((name, text(entry.path())));
    }
    all.sort();
    all
}

fn known(fault: &Fault, seed: u64) {
    if let Fault::Host(error) = fault {
        // A kernel that does not take a file's length or a name.
        let known = [libc::EINVAL, libc::EPERM, libc::ENOTSUP, libc::EFBIG];
        let number = error.raw_os_error().unwrap_or(0);
        assert!(known.contains(&number), "seed {seed}: {error}");
    }
}

#[test]
fn whatever_layers_say_nothing_beside_the_template_changes() {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let (beside, root) = (dir.path().join("beside"), dir.path().join("tree"));
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("kept"), "kept").unwrap();
    let outside = beside.to_str().unwrap();
    let before = portrait(&beside);
    let bounds = Bounds {
        bytes: 1 << 30,
        entries: 1_000,
        came: Arc::new(AtomicU64::new(1 << 30)),
        own_ids: true,
        room: Box::new(|| Ok(())),
    };
    let seconds = std::env::var_os("FUZZ_SECONDS").and_then(|text| text.to_str()?.parse().ok());
    let lasts = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let (begun, first) = (Instant::now(), u64::from(std::process::id()) << 32);
    let (mut put, mut refused) = (0, 0);
    for seed in FOUND.iter().copied().chain(first..) {
        fs::create_dir(&root).unwrap();
        // Two layers: the second meets the links of the first.
        for number in 0..2 {
            let layer = archive(seed.wrapping_mul(2).wrapping_add(number), outside);
            let mut tree = Tree::open(&root, &bounds).unwrap();
            let hidden = tree.hide(layer.as_slice());
            match hidden.and_then(|()| tree.put(layer.as_slice(), Dialect::Layer)) {
                Ok(()) => put += 1,
                Err(fault) => {
                    refused += 1;
                    known(&fault, seed);
                }
            }
        }
        // Whatever came of it is looked at as a whole one is.
        let rooted = Rooted::open(&root).unwrap();
        let _ = prepare(&rooted);
        let _ = super::architecture::of(&rooted).unwrap();
        super::digest::sum(&root, true).unwrap();
        drop(rooted);
        assert_eq!(portrait(&beside), before, "seed {seed}");
        let around = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(around, 2, "seed {seed}");
        assert!(!Path::new("/tmp/new-of-template").exists(), "seed {seed}");
        fs::remove_dir_all(&root).unwrap();
        if begun.elapsed() > lasts {
            break;
        }
    }
    println!("{put} put, {refused} refused, from seed {first}");
    assert!(put > 0 && refused > 0);
}
