//! Owns for which processor a tree was made: an image says so, and its programs do (`e_machine` of ELF, elf(5)).

use std::io;

use super::rooted::Rooted;

/// Programs that most trees have one of.
const PROGRAMS: [&str; 6] = [
    "/bin/sh",
    "/usr/bin/env",
    "/bin/busybox",
    "/sbin/init",
    "/usr/bin/bash",
    "/bin/cat",
];
/// By the number in ELF: as images name them, and as this program is told.
const KNOWN: [(u16, &str, &str); 7] = [
    (62, "amd64", "x86_64"),
    (183, "arm64", "aarch64"),
    (3, "386", "x86"),
    (40, "arm", "arm"),
    (243, "riscv64", "riscv64"),
    (22, "s390x", "s390x"),
    (21, "ppc64le", "powerpc64"),
];

/// This host's, as images name it.
pub(super) fn of_host() -> &'static str {
    let here = std::env::consts::ARCH;
    let known = KNOWN.iter().find(|(_, _, rust)| *rust == here);
    known.map_or(here, |(_, name, _)| name)
}

/// The one that the programs of a tree are for; none if there is none that is known.
pub(super) fn of(tree: &Rooted) -> io::Result<Option<String>> {
    for program in PROGRAMS {
        let Some(head) = tree.read(program, 20)? else {
            continue;
        };
        if !head.starts_with(b"\x7fELF") || head.len() < 20 {
            continue;
        }
        let little = head[5] == 1;
        let number = match little {
            true => u16::from_le_bytes([head[18], head[19]]),
            false => u16::from_be_bytes([head[18], head[19]]),
        };
        let known = KNOWN.iter().find(|(known, ..)| *known == number);
        let name = known.map(|(_, name, _)| (*name).to_owned());
        return Ok(Some(name.unwrap_or_else(|| format!("machine {number}"))));
    }
    Ok(None)
}
