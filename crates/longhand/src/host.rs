//! What the doctor sees of this host beside the sandboxes themselves: each danger with the one command that
//! mends it. It looks at what it is given, and changes nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sandbox::Finding;

/// The oldest kernel on which everything that sandboxes use is there: `cgroup.kill`, and mounts whose owners are
/// mapped, are younger than most of it.
const KERNEL: (u32, u32) = (5, 14);
/// `CAP_SYS_RESOURCE` (capabilities(7)).
const SYS_RESOURCE: u32 = 24;

/// What is looked at.
pub struct Host {
    /// `/proc/sys/kernel/core_pattern`
    pub core_pattern: String,
    /// The release, as in uname(2).
    pub release: String,
    /// `CapEff` of `/proc/self/status`: a bit a capability.
    pub capabilities: u64,
}

impl Host {
    /// This host, as this process sees it. What cannot be read counts as found in order.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
        Self {
            core_pattern: read("/proc/sys/kernel/core_pattern").trim().to_owned(),
            release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            capabilities: effective.unwrap_or(u64::MAX),
        }
    }

    /// The findings, the data directory's among them.
    #[must_use]
    pub fn findings(&self, data_dir: &Path) -> Vec<Finding> {
        vec![
            self.kernel(),
            self.cores(),
            self.resources(),
            directory(data_dir),
        ]
    }

    fn kernel(&self) -> Finding {
        let mut numbers = self.release.split(['.', '-']).map(str::parse::<u32>);
        let found = (numbers.next(), numbers.next());
        let old = match found {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < KERNEL,
            _ => false,
        };
        advice(
            "kernel",
            !old,
            format!(
                "{}, {}.{} or newer is wanted",
                self.release, KERNEL.0, KERNEL.1
            ),
            "install a newer kernel, such as: apt-get install linux-image-amd64",
        )
    }

    /// A handler of core dumps runs as root outside every sandbox and reads the memory of what crashed inside.
    fn cores(&self) -> Finding {
        let piped = self.core_pattern.starts_with('|');
        let detail = if piped {
            format!(
                "dumps go to a program of this host ({}); sandboxes ask for none, and a flaw there is a way out",
                self.core_pattern
            )
        } else {
            "no program of this host is started for a dump".to_owned()
        };
        advice(
            "core dumps",
            !piped,
            detail,
            "sysctl -w kernel.core_pattern=core",
        )
    }

    fn resources(&self) -> Finding {
        let has = self.capabilities & (1 << SYS_RESOURCE) != 0;
        let detail = if has {
            "a sandbox's processes end before the server when memory is short"
        } else {
            "without it, a process of a sandbox can make itself as hard to end as the server when memory is short"
        };
        advice(
            "CAP_SYS_RESOURCE",
            has,
            detail.to_owned(),
            "start the container with --cap-add SYS_RESOURCE, or the unit with AmbientCapabilities=CAP_SYS_RESOURCE",
        )
    }
}

fn directory(path: &Path) -> Finding {
    let mode = std::fs::metadata(path).map(|it| it.permissions().mode() & 0o7777);
    let (ok, detail) = match mode {
        Ok(mode) if mode & 0o077 == 0 => (true, format!("{} is its owner's", path.display())),
        Ok(mode) => {
            let text = format!(
                "{} has mode {mode:04o}: others can look into it",
                path.display()
            );
            (false, text)
        }
        Err(error) => (false, format!("{}: {error}", path.display())),
    };
    let mend = format!("chmod 0700 {}", path.display());
    advice("data directory", ok, detail, &mend)
}

fn advice(what: &str, ok: bool, detail: String, mend: &str) -> Finding {
    Finding {
        what: what.to_owned(),
        ok,
        required: false,
        detail,
        mend: if ok { String::new() } else { mend.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Host {
        Host {
            core_pattern: "core".to_owned(),
            release: "6.1.0-18-amd64".to_owned(),
            capabilities: 1 << SYS_RESOURCE,
        }
    }

    fn found(host: &Host, what: &str) -> Finding {
        let dir = std::env::temp_dir();
        let findings = host.findings(&dir);
        findings
            .into_iter()
            .find(|finding| finding.what == what)
            .unwrap()
    }

    #[test]
    fn dumps_that_go_to_a_program_are_warned_of() {
        assert!(found(&sound(), "core dumps").ok);
        let host = Host {
            core_pattern: "|/usr/share/apport/apport %p".to_owned(),
            ..sound()
        };
        let warning = found(&host, "core dumps");
        assert!(!warning.ok && !warning.required);
        assert_eq!(warning.mend, "sysctl -w kernel.core_pattern=core");
        assert!(warning.detail.contains("apport"), "{}", warning.detail);
    }

    #[test]
    fn a_kernel_that_is_too_old_is_warned_of_and_one_that_cannot_be_read_is_not() {
        for (release, ok) in [
            ("5.14.0-362.el9.x86_64", true),
            ("6.1.0", true),
            ("10.0.1", true),
            ("5.13.19-generic", false),
            ("4.19.0-25-amd64", false),
            ("custom", true),
        ] {
            let host = Host {
                release: release.to_owned(),
                ..sound()
            };
            assert_eq!(found(&host, "kernel").ok, ok, "{release}");
        }
    }

    #[test]
    fn a_lack_of_the_right_to_order_who_dies_first_is_warned_of() {
        assert!(found(&sound(), "CAP_SYS_RESOURCE").ok);
        let host = Host {
            capabilities: !(1 << SYS_RESOURCE),
            ..sound()
        };
        let warning = found(&host, "CAP_SYS_RESOURCE");
        assert!(!warning.ok && warning.mend.contains("--cap-add SYS_RESOURCE"));
    }

    #[test]
    fn a_data_directory_that_others_can_enter_is_warned_of_with_the_command_that_mends_it() {
        let home = tempfile::tempdir().unwrap();
        for (mode, ok) in [
            (0o700, true),
            (0o750, false),
            (0o705, false),
            (0o711, false),
        ] {
            std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let finding = directory(home.path());
            assert_eq!(finding.ok, ok, "{mode:o}");
            if !ok {
                assert_eq!(
                    finding.mend,
                    format!("chmod 0700 {}", home.path().display())
                );
            }
        }
    }
}
