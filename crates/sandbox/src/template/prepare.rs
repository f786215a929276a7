//! Owns what every sandbox needs of the template it lies on: places to mount at, and the few files of `/etc` that are the
//! sandbox's and not the image's. It follows no link to anywhere but the tree.

use std::io;

use super::rooted::Rooted;
use super::trusted;
use crate::error::{Doing, Error};

/// Directories with their modes where they are missing. Something is mounted at or below each, so none may be a link.
const DIRECTORIES: [(&str, u32); 14] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("mnt", 0o755),
    ("mnt/session", 0o755),
    ("mnt/session/outputs", 0o755),
    ("mnt/session/uploads", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("workspace", 0o755),
];

/// What an image has of these is about where it was built.
const REPLACED: [(&str, &str); 3] = [
    (
        "/etc/hosts",
        "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost ip6-loopback\n",
    ),
    // Where nothing else lies: whatever address is asked, the egress process answers. Without one, nobody.
    (
        "/etc/resolv.conf",
        "nameserver 198.19.255.53\noptions timeout:2 attempts:2\n",
    ),
    ("/etc/hostname", "sandbox\n"),
];

/// What programs look for, where the image has none.
const OTHERWISE: [(&str, &str); 4] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n",
    ),
    ("/etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nservices: files\n",
    ),
    // The same for all sandboxes of all templates: it names no machine.
    ("/etc/machine-id", "6c6f6e6768616e640000000000000001\n"),
];

/// Makes the tree one that sandboxes can lie on. Blocks. Doing it again changes nothing.
///
/// # Errors
/// [`Error::Invalid`] for a tree that has something else where a directory has to be; [`Error::Io`].
pub(super) fn prepare(tree: &Rooted) -> Result<(), Error> {
    let doing = || "prepare the template".to_owned();
    for (path, mode) in DIRECTORIES {
        if tree.plain_directory(path, mode).doing(doing)?.is_none() {
            return Err(Error::invalid(format!(
                "/{path} is no directory there: sandboxes have something mounted at it or below"
            )));
        }
    }
    files(tree).doing(doing)
}

fn files(tree: &Rooted) -> io::Result<()> {
    for (path, text) in REPLACED {
        tree.write(path, text.as_bytes(), 0o644)?;
    }
    for (path, text) in OTHERWISE {
        let there = tree.read(path, 1)?;
        if there.is_none_or(|there| there.is_empty()) {
            tree.write(path, text.as_bytes(), 0o644)?;
        }
    }
    if !tree.has("/etc/mtab")? {
        tree.link("/etc/mtab", "/proc/self/mounts")?;
    }
    trusted::prepare(tree)
}
