//! Owns which ids a user without rights may give to sandboxes, and getting back what those ids have. It gives none: the
//! supervisor does.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use jail::plan::{SUB_IDS, SubIds};

use super::launch;

/// Without either of them nothing can be given.
const PROGRAMS: [&str; 2] = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"];

/// What the administrator has given this user, if it is enough for a sandbox and there are programs to give it with.
pub(super) fn of_this_user() -> Option<SubIds> {
    if !PROGRAMS.iter().all(|program| Path::new(program).exists()) {
        return None;
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let user = rustix::process::getuid().as_raw().to_string();
    let name = name_of(&read("/etc/passwd"), &user)?;
    Some(SubIds {
        users: first(&read("/etc/subuid"), &name, &user)?,
        groups: first(&read("/etc/subgid"), &name, &user)?,
    })
}

/// Who has that number. Source: passwd(5). The programs refuse a user that has no name.
fn name_of(passwd: &str, user: &str) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        (fields.nth(1)? == user).then(|| name.to_owned())
    })
}

/// The first id of a range that is large enough. Source: subuid(5).
fn first(ranges: &str, name: &str, user: &str) -> Option<u32> {
    ranges.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        let (first, count): (u32, u32) =
            (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let fits = count >= SUB_IDS && first.checked_add(SUB_IDS).is_some();
        ((whose == name || whose == user) && fits).then_some(first)
    })
}

/// Gives the directories below `dir` back to this user. Blocks.
pub(super) fn reclaim(dir: &Path, ids: SubIds) -> io::Result<()> {
    let helper = launch::image()?;
    let mut reclaim = Command::new(format!("/proc/self/fd/{}", helper.as_raw_fd()));
    reclaim.arg("reclaim").env_clear().stdin(Stdio::null());
    reclaim.args([ids.users.to_string(), ids.groups.to_string()]);
    let status = reclaim.arg(dir).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_that_is_this_users_and_large_enough() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nmia:x:1000:1000::/home/mia:/bin/sh\n";
        assert_eq!(name_of(passwd, "1000").as_deref(), Some("mia"));
        assert_eq!(name_of(passwd, "1001"), None);
        let ranges = "leo:100000:65536\nmia:165536:1000\nmia:300000:65536\n1000:500000:65536\n";
        assert_eq!(first(ranges, "mia", "1000"), Some(300_000));
        assert_eq!(first("1000:500000:65535\n", "mia", "1000"), Some(500_000));
        assert_eq!(first("mia:4294967000:65536\nmia:x\n", "mia", "1000"), None);
        assert_eq!(first(ranges, "ann", "1"), None);
    }
}
