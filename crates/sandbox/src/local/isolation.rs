//! Owns what this process may give a sandbox by its own rights, and what a sandbox has by its record. It asks
//! nobody for more.

use jail::plan::{By, Limit, Limits, SHARED};
use rustix::thread::{CapabilitySet, capabilities};

use crate::isolation::{Held, Isolation, Level};
use crate::provider::Finding;

/// What it takes to map ids and files of others.
const NEEDED: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// Whether this process can give a sandbox ids of its own. Root that cannot is refused later, in words: its id
/// is nobody's to share.
pub(super) fn gives_own_ids() -> bool {
    let may = capabilities(None).is_ok_and(|own| own.effective.contains(NEEDED));
    may || rustix::process::geteuid().is_root()
}

/// Of a sandbox whose ids begin there, and that has so many; and a kernel of its own or not.
pub(super) fn isolation(id_base: u32, ids: u32, own_kernel: bool, limits: &Limits) -> Isolation {
    let own_ids = id_base != SHARED;
    let memory = match limits.memory.by {
        // Of such a kernel it is no process of the sandbox that has the memory.
        By::Rlimit if own_kernel => Limit::none(),
        _ => limits.memory,
    };
    let (memory, cpu) = (held(memory, false), held(limits.cpu, false));
    // The kernel counts processes for a whole user namespace, whoever counts besides.
    let (processes, disk) = (held(limits.processes, true), held(limits.disk, false));
    let level = match () {
        () if !own_ids => Level::Basic,
        () if !(memory.firmly && cpu.firmly && processes.firmly) => Level::Ids,
        () if !disk.firmly => Level::Limits,
        () => Level::Disk,
    };
    Isolation {
        level,
        own_kernel,
        own_ids,
        ids,
        memory,
        cpu,
        processes,
        disk,
        io: held(limits.io, false),
    }
}

fn held(limit: Limit, rlimit_is_firm: bool) -> Held {
    let (by, firmly) = match limit.by {
        By::CgroupV1 => ("cgroup v1", true),
        By::CgroupV2 => ("cgroup v2", true),
        By::Rlimit if rlimit_is_firm => ("resource limits", true),
        By::Rlimit => ("resource limits of each process", false),
        By::Watch => ("counting", false),
        By::Image => ("a file system of its own", true),
        By::Nothing => ("nothing", false),
    };
    Held {
        most: limit.most,
        by,
        firmly,
    }
}

/// For `doctor`: whose ids sandboxes have, and the level that they reach.
pub(super) fn findings(isolation: &Isolation) -> Vec<Finding> {
    let user = rustix::process::geteuid().as_raw();
    let ids = Finding {
        what: "user ids of a sandbox".to_owned(),
        ok: isolation.own_ids,
        required: false,
        detail: if isolation.own_ids {
            "65,536 that nobody else on this host has".to_owned()
        } else {
            let how_many = match isolation.ids {
                1 => "one, and outside it is",
                _ => "65,536, those of /etc/subuid for all sandboxes; root inside is outside",
            };
            format!(
                "{how_many} user {user}, as the server is: namespaces, the filter of system \
                 calls and resource limits alone keep sandboxes from the server's files and from each other"
            )
        },
        mend: if isolation.own_ids {
            String::new()
        } else {
            let root = "run the server as root, or as a service with CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID";
            match isolation.ids {
                1 => format!(
                    "{root}; or, so that programs inside can change their user: newuidmap and newgidmap (package \
                     uidmap) and 65,535 ids of /etc/subuid and /etc/subgid for user {user}"
                ),
                _ => root.to_owned(),
            }
        },
    };
    let weaker = isolation.weaker();
    let best = isolation.level >= Level::Limits;
    let level = Finding {
        what: "level of isolation".to_owned(),
        ok: best,
        required: false,
        detail: match weaker.as_slice() {
            [] => isolation.level.to_string(),
            weaker => format!("{}; {}", isolation.level, weaker.join("; ")),
        },
        mend: if best {
            String::new()
        } else {
            "see above what is lacking; `serve --require-isolation limits` refuses to run below that level"
                .to_owned()
        },
    };
    vec![ids, level]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory: By, cpu: By, processes: By, disk: By) -> Limits {
        let limit = |by| Limit { most: 1, by };
        Limits {
            memory: limit(memory),
            cpu: limit(cpu),
            processes: limit(processes),
            disk: limit(disk),
            io: Limit::none(),
        }
    }

    #[test]
    fn each_level_has_all_of_those_before_it() {
        use By::{CgroupV1, CgroupV2, Image, Nothing, Rlimit, Watch};
        let all = limits(CgroupV1, CgroupV2, CgroupV2, Image);
        for (id_base, limits, level) in [
            (1 << 20, all.clone(), Level::Disk),
            (
                1 << 20,
                limits(CgroupV1, CgroupV1, CgroupV1, Watch),
                Level::Limits,
            ),
            (
                1 << 20,
                limits(CgroupV1, CgroupV1, Rlimit, Image),
                Level::Disk,
            ),
            (
                1 << 20,
                limits(Rlimit, CgroupV1, CgroupV1, Image),
                Level::Ids,
            ),
            (
                1 << 20,
                limits(CgroupV2, Nothing, CgroupV2, Image),
                Level::Ids,
            ),
            (SHARED, all, Level::Basic),
        ] {
            assert_eq!(
                isolation(id_base, 1, false, &limits).level,
                level,
                "{id_base} {limits:?}"
            );
        }
        let apart =
            |memory| isolation(1 << 20, 1, true, &limits(memory, CgroupV1, CgroupV1, Watch));
        assert!(apart(CgroupV2).reaches(Level::Kernel));
        assert!(
            !apart(Rlimit).reaches(Level::Kernel),
            "its memory is held by nothing"
        );
        assert!(!apart(CgroupV2).reaches(Level::Disk));
        let weak = isolation(SHARED, 1, false, &limits(Rlimit, Nothing, Rlimit, Watch)).weaker();
        assert_eq!(weak.len(), 4, "{weak:?}");
    }
}
