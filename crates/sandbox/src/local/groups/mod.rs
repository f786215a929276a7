//! Owns which cgroups of this host hold sandboxes to their limits, found by trying. It makes none for a sandbox: the supervisor does.

mod hierarchies;
mod traffic;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use jail::groups::{Group, Setting, Strays, Version, make, remove};
use jail::plan::{By, Limit, Limits};

use super::Allowance;
use super::freezer::Freezer;
use crate::provider::Finding;
use hierarchies::{FREEZER, Hierarchy, hierarchies};
use traffic::Traffic;

/// Microseconds of the period in which a quota of processor time counts: the kernel's own default.
const CPU_PERIOD: u64 = 100_000;
/// How long to wait before looking again whether what a killed supervisor left behind has died.
const LEFTOVER_RETRY: Duration = Duration::from_millis(5);

/// What holds the sandboxes of this host to their limits.
pub(super) struct Groups {
    pub(super) limits: Limits,
    /// What each sandbox's supervisor makes.
    pub(super) each: Vec<Group>,
    /// Bytes of memory of all sandboxes together, if that is to be limited, and the group that does.
    together: Option<(u64, Option<PathBuf>)>,
    /// Why a limit is not held by a cgroup.
    lacking: Vec<String>,
}

/// The bound of all sandboxes of one provider together.
pub(super) struct Together {
    /// Of its group: the same for every server on a directory, whose sandboxes may be older than itself.
    pub(super) name: String,
    /// Bytes of memory.
    pub(super) bytes: u64,
}

impl Drop for Groups {
    fn drop(&mut self) {
        if let Some((_, Some(dir))) = &self.together {
            // While sandboxes are left in it, it stays for the next server.
            let _ = fs::remove_dir(dir);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Resource {
    Memory,
    Cpu,
    Processes,
    Io,
}

/// What each sandbox is held to.
struct Wanted<'a> {
    allowance: &'a Allowance,
    /// Of its disk, if that is to be limited.
    traffic: Option<Traffic>,
}

impl Resource {
    const ALL: [Self; 4] = [Self::Memory, Self::Cpu, Self::Processes, Self::Io];

    /// The name of its controller.
    const fn controller(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Memory, _) => "memory",
            (Self::Cpu, _) => "cpu",
            (Self::Processes, _) => "pids",
            (Self::Io, Version::V1) => "blkio",
            (Self::Io, Version::V2) => "io",
        }
    }

    fn is_wanted(self, wanted: &Wanted<'_>) -> bool {
        self != Self::Io || wanted.traffic.is_some()
    }

    fn settings(self, version: Version, wanted: &Wanted<'_>) -> Vec<Setting> {
        let allowance = wanted.allowance;
        let bytes = allowance.memory_bytes.to_string();
        let quota = allowance.cpu_millis * CPU_PERIOD / 1000;
        let (must, may) = (|f, v| setting(f, v, false), |f, v| setting(f, v, true));
        match (self, version) {
            // Swap would let a sandbox have twice as much, and slow down everybody else.
            (Self::Memory, Version::V1) => vec![
                must("memory.limit_in_bytes", bytes.clone()),
                may("memory.memsw.limit_in_bytes", bytes),
            ],
            (Self::Memory, Version::V2) => vec![
                must("memory.max", bytes),
                may("memory.swap.max", "0".to_owned()),
            ],
            (Self::Cpu, Version::V1) => vec![
                must("cpu.cfs_period_us", CPU_PERIOD.to_string()),
                must("cpu.cfs_quota_us", quota.to_string()),
            ],
            (Self::Cpu, Version::V2) => vec![must("cpu.max", format!("{quota} {CPU_PERIOD}"))],
            (Self::Processes, _) => vec![must("pids.max", allowance.processes.to_string())],
            (Self::Io, _) => {
                let traffic = wanted.traffic.as_ref();
                traffic.map_or_else(Vec::new, |traffic| traffic.settings(version))
            }
        }
    }
}

fn setting(file: &str, value: String, optional: bool) -> Setting {
    Setting {
        file: file.to_owned(),
        value,
        optional,
    }
}

impl Groups {
    /// Removes the groups below which nobody has a process any more and whose supervisors have gone: where also the
    /// directory of their sandbox has, nothing else tells of them. Whether there are such in which something still
    /// runs. Blocks.
    pub(super) fn sweep_strays(&self) -> bool {
        let mut any_left = false;
        for group in &self.each {
            let dir = group.above.display();
            match jail::groups::remove_strays(&group.above) {
                Ok(Strays { removed, left }) => {
                    any_left |= left > 0;
                    if removed > 0 {
                        tracing::info!(%dir, removed, "removed cgroups that sandboxes left behind");
                    }
                }
                Err(error) => {
                    tracing::warn!(%dir, %error, "cgroups that sandboxes left behind are not looked for");
                }
            }
        }
        any_left
    }

    /// Looks which hierarchies there are and tries each with a group that is removed again; the files of sandboxes are
    /// in `dir`. Blocks.
    pub(super) fn find(allowance: &Allowance, together: Option<&Together>, dir: &Path) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let found = hierarchies(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let traffic = (allowance.io_bytes > 0).then(|| Traffic::of(dir, allowance.io_bytes));
        let (traffic, problem) = match traffic.transpose() {
            Ok(traffic) => (traffic, None),
            Err(error) => (
                None,
                Some(format!("disk traffic cannot be limited: {error}")),
            ),
        };
        let mut groups = Self::among(found, &Wanted { allowance, traffic }, together);
        groups.lacking.extend(problem);
        groups
    }

    fn among(found: Vec<Hierarchy>, wanted: &Wanted<'_>, together: Option<&Together>) -> Self {
        let allowance = wanted.allowance;
        let limit = |most, by| Limit { most, by };
        let mut groups = Self {
            limits: Limits {
                memory: limit(allowance.memory_bytes, By::Rlimit),
                cpu: limit(allowance.cpu_millis, By::Nothing),
                processes: limit(allowance.processes, By::Rlimit),
                // Each sandbox keeps the kind that it was made with.
                disk: limit(allowance.disk.bytes, By::Nothing),
                io: limit(allowance.io_bytes, By::Nothing),
            },
            each: Vec::new(),
            together: together.map(|together| (together.bytes, None)),
            lacking: Vec::new(),
        };
        let freezes = found.iter().any(|h| h.version == Version::V2);
        for hierarchy in found {
            // Of version 1 there is one for it alone, of use where there is no version 2.
            let freezer = !freezes && hierarchy.controllers.contains(FREEZER);
            groups.add(hierarchy, wanted, freezer, together);
        }
        groups
    }

    /// Uses a hierarchy for what no other has been found for. One of version 2 without any of that is
    /// used all the same: a group of it can be frozen and killed as a whole.
    fn add(
        &mut self,
        mut hierarchy: Hierarchy,
        asked: &Wanted<'_>,
        freezer: bool,
        together: Option<&Together>,
    ) {
        let version = hierarchy.version;
        let names: Vec<_> = Resource::ALL
            .into_iter()
            .filter(|one| one.is_wanted(asked))
            .collect();
        let names: Vec<_> = names.iter().map(|one| one.controller(version)).collect();
        if let Err(problem) = hierarchy.lend_controllers(&names) {
            self.lacking.push(problem);
        }
        let wanted = Resource::ALL.into_iter().filter(|resource| {
            let has = hierarchy.controllers.contains(resource.controller(version));
            has && resource.is_wanted(asked) && !self.by_group(*resource)
        });
        let wanted: Vec<Resource> = wanted.collect();
        if wanted.is_empty() && version == Version::V1 && !freezer {
            return;
        }
        let oom_counter = match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        if let Some(together) = together.filter(|_| wanted.contains(&Resource::Memory)) {
            match hierarchy.bound_together(&together.name, together.bytes) {
                Ok(()) => self.together = Some((together.bytes, Some(hierarchy.home.clone()))),
                Err(error) => self.lacking.push(format!(
                    "the memory of all sandboxes together cannot be limited in {}: {error}",
                    hierarchy.home.display()
                )),
            }
        }
        let settings = wanted.iter().flat_map(|r| r.settings(version, asked));
        let group = Group {
            above: hierarchy.home,
            version,
            settings: settings.collect(),
            oom_counter: wanted
                .contains(&Resource::Memory)
                .then(|| oom_counter.to_owned()),
        };
        match tried(&group) {
            Ok(()) => {
                for resource in wanted {
                    self.limit(resource).by = match version {
                        Version::V1 => By::CgroupV1,
                        Version::V2 => By::CgroupV2,
                    };
                }
                self.each.push(group);
            }
            Err(error) => self.lacking.push(format!(
                "no group can be made and limited in {}: {error}",
                group.above.display()
            )),
        }
    }

    fn by_group(&self, resource: Resource) -> bool {
        let limit = match resource {
            Resource::Memory => self.limits.memory,
            Resource::Cpu => self.limits.cpu,
            Resource::Processes => self.limits.processes,
            Resource::Io => self.limits.io,
        };
        matches!(limit.by, By::CgroupV1 | By::CgroupV2)
    }

    fn limit(&mut self, resource: Resource) -> &mut Limit {
        match resource {
            Resource::Memory => &mut self.limits.memory,
            Resource::Cpu => &mut self.limits.cpu,
            Resource::Processes => &mut self.limits.processes,
            Resource::Io => &mut self.limits.io,
        }
    }

    /// For `doctor`: what holds a sandbox to each limit.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let lacking = if self.lacking.is_empty() {
            "this host shows no such cgroup".to_owned()
        } else {
            self.lacking.join("; ")
        };
        let finding = |what: &str, most: String, by: By| {
            let ok = matches!(by, By::CgroupV1 | By::CgroupV2);
            let held = held(by);
            Finding {
                what: format!("{what} of a sandbox"),
                ok,
                required: false,
                detail: if ok {
                    format!("at most {most}, held by {held}")
                } else {
                    format!("at most {most}, held by {held}: {lacking}")
                },
                mend: if ok { String::new() } else { MEND.to_owned() },
            }
        };
        let Limits {
            memory,
            cpu,
            processes,
            disk: _,
            io,
        } = &self.limits;
        let cpus = format!("{}.{:03} processors", cpu.most / 1000, cpu.most % 1000);
        let mut findings = vec![
            finding("memory", size(memory.most), memory.by),
            finding("processor time", cpus, cpu.by),
            finding("processes", processes.most.to_string(), processes.by),
        ];
        if io.most > 0 {
            let most = format!("{} a second each way", size(io.most));
            findings.push(finding("disk traffic", most, io.by));
        }
        if let Some((bytes, group)) = &self.together {
            let ok = group.is_some();
            findings.push(Finding {
                what: "memory of all sandboxes".to_owned(),
                ok,
                required: false,
                detail: match ok {
                    true => format!("at most {}, held by a cgroup", size(*bytes)),
                    false => format!(
                        "{} are wanted, and nothing holds them: {lacking}",
                        size(*bytes)
                    ),
                },
                mend: if ok { String::new() } else { MEND.to_owned() },
            });
        }
        findings
    }
}

const MEND: &str = "run the server as root where it may make cgroups: as a systemd unit with \
    Delegate=yes, or in a container of its own with /sys/fs/cgroup writable";

/// In words, for people.
fn held(by: By) -> &'static str {
    match by {
        By::CgroupV1 => "cgroup v1",
        By::CgroupV2 => "cgroup v2",
        By::Rlimit => "resource limits (of memory: each process by itself)",
        By::Watch => "counting, and ending what runs when there is too much",
        By::Image => "a file system of its own",
        By::Nothing => "nothing",
    }
}

/// A number of bytes in words.
pub(super) fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    let mib = bytes / MIB;
    if mib >= 1024 && mib.is_multiple_of(1024) {
        format!("{} GiB", mib / 1024)
    } else {
        format!("{mib} MiB")
    }
}

/// Makes the group under a name of this process, and removes it.
fn tried(group: &Group) -> io::Result<()> {
    let name = format!("longhand-tried-{}", std::process::id());
    // Left by an earlier process of the same number.
    let dir: PathBuf = group.above.join(&name);
    remove(&dir)?;
    let made = make(group, &name);
    remove(&dir)?;
    made.map(drop)
}

/// Removes the groups of a sandbox that nobody runs any more. Blocks until its last process has gone,
/// at most until `deadline`; what stays then is found at the next start.
pub(super) fn sweep(record: &jail::Record, deadline: Instant) {
    if !record.left_groups() {
        return;
    }
    thaw(record);
    while record.lives() && Instant::now() < deadline {
        thread::sleep(LEFTOVER_RETRY);
    }
    remove_all(&record.groups);
}

/// Has the processes of a sandbox that nobody runs any more die: what a group of version 1 has frozen does not.
pub(super) fn thaw(record: &jail::Record) {
    if let Err(error) = Freezer::among(&record.groups).thaw() {
        tracing::warn!(%error, "what a sandbox left behind may stand still");
    }
}

/// Removes groups whose processes have ended. Blocks, as a rule for microseconds.
pub(super) fn remove_all(groups: &[PathBuf]) {
    for dir in groups {
        if let Err(error) = remove(dir) {
            let dir: &Path = dir;
            tracing::warn!(dir = %dir.display(), %error, "a cgroup stays behind until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance() -> Allowance {
        Allowance {
            memory_bytes: 3 << 29,
            cpu_millis: 1500,
            processes: 300,
            ..Allowance::default()
        }
    }

    fn asked(allowance: &Allowance) -> Wanted<'_> {
        Wanted {
            allowance,
            traffic: None,
        }
    }

    #[test]
    fn a_host_without_cgroups_limits_by_rlimits_and_says_what_is_missing() {
        let groups = Groups::among(Vec::new(), &asked(&allowance()), None);
        assert!(groups.each.is_empty());
        let by = [
            groups.limits.memory.by,
            groups.limits.cpu.by,
            groups.limits.processes.by,
        ];
        assert_eq!(by, [By::Rlimit, By::Nothing, By::Rlimit]);
        let findings = groups.findings();
        assert!(findings.iter().all(|f| !f.ok && !f.required));
        assert_eq!(
            findings[0].detail,
            "at most 1536 MiB, held by resource limits (of memory: each process by itself): \
             this host shows no such cgroup"
        );
        assert!(
            findings[1]
                .detail
                .starts_with("at most 1.500 processors, held by nothing")
        );
        assert!(findings.iter().all(|f| f.mend.contains("Delegate=yes")));
    }

    #[test]
    fn each_version_is_written_in_its_own_files() {
        let files = |resource: Resource, version| -> Vec<String> {
            let settings = resource.settings(version, &asked(&allowance())).into_iter();
            settings
                .map(|s| format!("{}={}", s.file, s.value))
                .collect()
        };
        assert_eq!(
            files(Resource::Cpu, Version::V1),
            ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"]
        );
        assert_eq!(files(Resource::Cpu, Version::V2), ["cpu.max=150000 100000"]);
        assert_eq!(
            files(Resource::Memory, Version::V2),
            ["memory.max=1610612736", "memory.swap.max=0"]
        );
        assert_eq!(files(Resource::Processes, Version::V1), ["pids.max=300"]);
    }

    #[test]
    fn a_hierarchy_that_refuses_is_not_used_and_the_reason_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy {
            version: Version::V1,
            controllers: ["memory".to_owned()].into(),
            home: dir.path().join("none"),
        };
        let groups = Groups::among(vec![hierarchy], &asked(&allowance()), None);
        assert!(groups.each.is_empty() && groups.limits.memory.by == By::Rlimit);
        let said = &groups.findings()[0].detail;
        assert!(
            said.contains("no group can be made and limited in"),
            "{said}"
        );
    }
}
