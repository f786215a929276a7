//! Archives that anybody may have made: right but for a few bytes, cut, repeated. Each is unpacked or refused, and
//! nothing beside the layer it is unpacked into changes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::tests::portrait;
use super::travel_tests::{bounds, tar};
use super::unpack::unpack;
use crate::archive::{Fault, Kind, Meta, Records, Sparse, Writer};
use crate::dice::Dice;

/// How long this goes on in every run of the tests; `FUZZ_SECONDS` for a long one.
const SECONDS: u64 = 20;
/// Seeds that once found something. They run first.
const FOUND: &[u64] = &[0, 1, 0xffff_ffff_ffff_ffff];
/// Names of which an archive is made: good ones, and such as lead elsewhere.
const NAMES: &[&str] = &[
    "workspace/",
    "root/",
    "outputs/",
    "workspace/a",
    "workspace/a/",
    "workspace/a/b",
    "workspace/a/../../..",
    "root/etc/",
    "root/etc/passwd",
    "../beside/new",
    "/tmp/new",
    "workspace/out",
    "workspace/out/new",
    "longhand.sha256",
];
const LINKS: &[&str] = &[
    "",
    "../../../beside",
    "/",
    "workspace/a",
    "workspace/out/kept",
    "root/../beside/kept",
    "..",
];

fn pick<'a>(dice: &mut Dice, all: &[&'a str]) -> &'a str {
    all[dice.roll(all.len() as u64) as usize]
}

fn add(dice: &mut Dice, writer: &mut Writer<Vec<u8>>) {
    use Kind::{Directory, Fifo, File, Link, Symlink};
    let kind = [File, Directory, Directory, Symlink, Link, Fifo][dice.roll(6) as usize];
    let (path, link) = (pick(dice, NAMES), pick(dice, LINKS));
    let content = if kind == File {
        dice.bytes(2_000)
    } else {
        Vec::new()
    };
    let size = content.len() as u64;
    let mut records = Records {
        whiteout: dice.roll(20) == 0,
        opaque: dice.roll(20) == 0,
        ..Records::default()
    };
    if dice.roll(10) == 0 {
        let name = ["user.a", "trusted.overlay.redirect", "security.capability"];
        let name = name[dice.roll(3) as usize].to_owned();
        records.attributes.push((name, dice.bytes(30)));
    }
    if dice.roll(10) == 0 {
        let at = dice.roll(1 << 20);
        let parts = vec![(0, size / 2), (at, size - size / 2)];
        let length = [at + size, at, u64::MAX][dice.roll(3) as usize];
        records.sparse = Some(Sparse { length, parts });
    }
    let meta = Meta {
        mode: dice.roll(0o10000) as u32,
        uid: [0, 0, 1000, 70_000][dice.roll(4) as usize],
        gid: 0,
        mtime: (dice.roll(1 << 40) as i64, dice.roll(1_000_000_000) as u32),
    };
    let (path, link) = (path.as_bytes(), link.as_bytes());
    writer
        .entry(kind, path, link, &meta, size, records)
        .unwrap();
    writer.bytes(&content).unwrap();
}

/// An archive, whole or with some of its bytes changed, cut out or repeated.
fn archive(seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut bytes = tar(|writer| {
        // Most would end at the first name otherwise.
        if dice.roll(4) > 0 {
            let (kind, meta) = (Kind::Directory, Meta::default());
            let records = Records::default();
            writer
                .entry(kind, b"workspace/", b"", &meta, 0, records)
                .unwrap();
        }
        (0..dice.roll(6)).for_each(|_| add(&mut dice, writer));
    });
    for _ in 0..[0, 0, 1, 3][dice.roll(4) as usize] {
        let at = dice.roll(bytes.len() as u64) as usize;
        match dice.roll(4) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes[at] = dice.roll(256) as u8,
            2 => {
                let block = at / 512 * 512;
                let repeated = bytes[block..(block + 512).min(bytes.len())].to_vec();
                bytes.splice(block..block, repeated);
            }
            _ => {
                // A header that fits what it says.
                let block = at / 512 * 512;
                if let Some(header) = bytes.get_mut(block..block + 512) {
                    header[dice.roll(512) as usize] = dice.roll(256) as u8;
                    super::travel_tests::sum(header);
                }
            }
        }
    }
    bytes
}

#[test]
fn whatever_an_archive_says_nothing_beside_it_changes() {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let (beside, layer) = (dir.path().join("beside"), dir.path().join("layers/new"));
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("kept"), "kept").unwrap();
    let before = portrait(&beside);
    let seconds = std::env::var_os("FUZZ_SECONDS").and_then(|text| text.to_str()?.parse().ok());
    let lasts = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let (begun, first) = (Instant::now(), u64::from(std::process::id()) << 32);
    let (mut taken, mut refused) = (0, 0);
    for seed in FOUND.iter().copied().chain(first..) {
        fs::create_dir_all(&layer).unwrap();
        match unpack(archive(seed).as_slice(), &layer, &bounds(), &|_| true) {
            Ok(_) => taken += 1,
            Err(Fault::Refused(_)) => refused += 1,
            // A kernel that does not take an attribute's or a file's bytes.
            Err(Fault::Host(error)) => {
                let known = [libc::EINVAL, libc::EPERM, libc::ENOTSUP, libc::EFBIG];
                let number = error.raw_os_error().unwrap_or(0);
                assert!(known.contains(&number), "seed {seed}: {error}");
            }
        }
        assert_eq!(portrait(&beside), before, "seed {seed}");
        let around: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(around.len(), 2, "seed {seed}: {around:?}");
        let parts = fs::read_dir(&layer).unwrap().count();
        assert!(parts <= 3, "seed {seed}");
        assert!(!Path::new("/tmp/new").exists(), "seed {seed}");
        fs::remove_dir_all(dir.path().join("layers")).unwrap();
        if begun.elapsed() > lasts {
            break;
        }
    }
    println!("{taken} unpacked, {refused} refused, from seed {first}");
    assert!(taken > 0 && refused > 0);
}
