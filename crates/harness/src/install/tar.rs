//! Takes the few files that are wanted out of a package, and nothing else: no path of the archive is ever a path
//! here. It reads gzip and ustar and believes no size that it has not seen.

use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::read::GzDecoder;

use crate::install::InstallError;

/// What is wanted, as the archive names it, and what it is called here.
const WANTED: [(&str, &str, u32); 2] = [
    ("package/claude", "claude", 0o755),
    ("package/LICENSE.md", "LICENSE.md", 0o644),
];
const BLOCK: usize = 512;
/// Bytes of one file.
const FILE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Entries of one archive.
const ENTRIES: usize = 10_000;

/// Unpacks into `place`; the bytes of the program.
pub(crate) fn unpack(archive: &Path, place: &Path) -> Result<u64, InstallError> {
    let file = File::open(archive).map_err(|source| InstallError::Io {
        path: archive.to_owned(),
        source,
    })?;
    read(GzDecoder::new(BufReader::new(file)), place)
}

fn read(mut from: impl Read, place: &Path) -> Result<u64, InstallError> {
    let odd = |problem: &str| InstallError::Archive(problem.to_owned());
    let cut = |error: io::Error| InstallError::Archive(format!("it cannot be read: {error}"));
    let mut program = None;
    for _ in 0..ENTRIES {
        let mut head = [0_u8; BLOCK];
        from.read_exact(&mut head).map_err(cut)?;
        if head.iter().all(|byte| *byte == 0) {
            return program.ok_or_else(|| odd("it holds no program"));
        }
        let size = size(&head).ok_or_else(|| odd("an entry has no size"))?;
        let padded = size.div_ceil(BLOCK as u64) * BLOCK as u64;
        let mut body = (&mut from).take(padded);
        // A regular file; links, devices and directories are of no use.
        let is_file = matches!(head[156], b'0' | 0);
        let wanted = WANTED
            .iter()
            .find(|(path, ..)| is_file && named(&head, path));
        if let Some((_, name, mode)) = wanted {
            let written = write(&mut body, size, &place.join(name), *mode)?;
            if written != size {
                return Err(odd("a file is cut"));
            }
            if *name == "claude" {
                program = Some(size);
            }
        }
        // The rest of it, and what fills its last block.
        io::copy(&mut body, &mut io::sink()).map_err(cut)?;
    }
    Err(odd("it has too many entries"))
}

fn write(from: &mut impl Read, size: u64, to: &Path, mode: u32) -> Result<u64, InstallError> {
    let io = |source| InstallError::Io {
        path: to.to_owned(),
        source,
    };
    // Twice the same name is one too many.
    let mut file = File::create_new(to).map_err(io)?;
    let written = io::copy(&mut from.take(size), &mut file).map_err(io)?;
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok(written)
}

/// Whether the header names exactly that.
fn named(head: &[u8; BLOCK], path: &str) -> bool {
    let field = &head[..100];
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(100);
    // A prefix makes it another path.
    &field[..end] == path.as_bytes() && head[345] == 0
}

fn size(head: &[u8; BLOCK]) -> Option<u64> {
    let text = std::str::from_utf8(&head[124..136]).ok()?;
    let text = text.trim_matches(['\0', ' ']);
    let size = u64::from_str_radix(text, 8).ok()?;
    (size <= FILE_BYTES).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut head = [0_u8; BLOCK];
        head[..path.len()].copy_from_slice(path.as_bytes());
        head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        head[156] = kind;
        let mut entry = head.to_vec();
        entry.extend_from_slice(content);
        entry.resize(entry.len().div_ceil(BLOCK) * BLOCK, 0);
        entry
    }

    fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut all = entries.concat();
        all.extend([0; 2 * BLOCK]);
        all
    }

    #[test]
    fn only_what_is_wanted_is_taken_out_and_to_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("place");
        std::fs::create_dir(&place).unwrap();
        let all = archive(&[
            entry("package/../../evil", b'0', b"evil"),
            entry("/etc/evil", b'0', b"evil"),
            entry("package/other", b'0', b"other"),
            entry("package/LICENSE.md", b'2', b""),
            entry("package/claude", b'0', b"program"),
        ]);
        assert_eq!(read(all.as_slice(), &place).unwrap(), 7);
        let names = |dir: &Path| {
            let names = std::fs::read_dir(dir).unwrap();
            names
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&place), ["claude"]);
        assert_eq!(names(dir.path()), ["place"]);
        assert_eq!(std::fs::read(place.join("claude")).unwrap(), b"program");
    }

    #[test]
    fn an_archive_that_lies_or_ends_early_installs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let whole = archive(&[entry("package/claude", b'0', b"program")]);
        for (what, bytes) in [
            ("cut in the file", &whole[..BLOCK + 3]),
            ("cut in the head", &whole[..100]),
            ("nothing in it", &whole[2 * BLOCK..]),
        ] {
            let place = tempfile::tempdir_in(dir.path()).unwrap();
            assert!(read(bytes, place.path()).is_err(), "{what}");
        }
        let twice = archive(&[
            entry("package/claude", b'0', b"a"),
            entry("package/claude", b'0', b"b"),
        ]);
        let place = tempfile::tempdir_in(dir.path()).unwrap();
        assert!(read(twice.as_slice(), place.path()).is_err());
        let mut huge = entry("package/claude", b'0', b"");
        huge[124..135].copy_from_slice(b"77777777777");
        let place = tempfile::tempdir_in(dir.path()).unwrap();
        assert!(read(huge.as_slice(), place.path()).is_err());
    }
}
