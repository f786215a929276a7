//! The defences that the corpus takes away one by one, and what each is on the way from the helper to the
//! hand: a system call that is left undone or changed. It traces nothing itself.

use super::debugger::{Call, Change, Role};

/// One thing that stands in an attack's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defence {
    OldRoot,
    UserNamespace,
    PidNamespace,
    NetNamespace,
    IpcNamespace,
    UtsNamespace,
    CgroupNamespace,
    Seccomp,
    Capabilities,
    NoNewPrivs,
    NoSuid,
    NoDev,
    NoUserNamespaces,
    ReadOnlyProc,
    CoveredProc,
    ReadOnlyUsr,
    Descriptors,
    HandClosed,
    Limits,
    Groups,
    OomScore,
    FileTools,
    KernelFiles,
}

use Defence::{
    Capabilities, CgroupNamespace, CoveredProc, Descriptors, FileTools, Groups, HandClosed,
    IpcNamespace, KernelFiles, Limits, NetNamespace, NoDev, NoNewPrivs, NoSuid, NoUserNamespaces,
    OldRoot, OomScore, PidNamespace, ReadOnlyProc, ReadOnlyUsr, Seccomp, UserNamespace,
    UtsNamespace,
};

impl Defence {
    /// For the table in docs/security.md.
    pub fn words(self) -> &'static str {
        match self {
            OldRoot => "a root of its own; the host's is unmounted",
            UserNamespace => "its own user namespace and ids",
            PidNamespace => "its own process ids",
            NetNamespace => "its own network namespace",
            IpcNamespace => "its own IPC namespace",
            UtsNamespace => "its own host name",
            CgroupNamespace => "its own view of cgroups",
            Seccomp => "the filter of system calls",
            Capabilities => "eleven capabilities only",
            NoNewPrivs => "no_new_privs",
            NoSuid => "mounts are nosuid",
            NoDev => "mounts are nodev",
            NoUserNamespaces => "max_user_namespaces 0",
            ReadOnlyProc => "kernel settings are read-only",
            CoveredProc => "files of /proc are covered",
            ReadOnlyUsr => "/usr is read-only",
            Descriptors => "all descriptors but three close",
            HandClosed => "the hand is not dumpable",
            Limits => "resource limits",
            Groups => "cgroups from the first instruction",
            OomScore => "the score for running out of memory",
            FileTools => "openat2 below the roots of the file tools",
            KernelFiles => "copies leave the kernel's own files alone",
        }
    }

    /// What becomes of a call when this defence is taken away; `None`: what was meant.
    pub fn change(self, role: Role, call: &Call) -> Option<Change> {
        match (role, self) {
            (Role::Hand, HandClosed) => call
                .prctl(libc::PR_SET_DUMPABLE)
                .then_some(Change::Argument(1, 1)),
            (Role::Hand, FileTools) => call
                .is(libc::SYS_openat2)
                .then_some(Change::Word(call.args[2] + RESOLVE_AT, 0)),
            (Role::Hand, KernelFiles) => call.is(libc::SYS_fstatfs).then_some(Change::Undone),
            (Role::Helper, _) => self.in_the_set_up(call),
            _ => None,
        }
    }

    /// Whether the debugger has to look at what the hand does, too.
    pub fn is_of_the_hand(self) -> bool {
        matches!(self, HandClosed | FileTools | KernelFiles)
    }

    fn in_the_set_up(self, call: &Call) -> Option<Change> {
        let undone = |wanted: bool| wanted.then_some(Change::Undone);
        match self {
            // What was left mounted would still lie under the sandbox's root, where nobody comes to: so that goes under
            // what was left.
            OldRoot => undone(call.is(libc::SYS_umount2)).or_else(|| becomes_root(call)),
            // Neither may the settings of the host's namespace change.
            UserNamespace => {
                undone(enters(call, libc::CLONE_NEWUSER)).or_else(|| call.elsewhere(NAMESPACES))
            }
            PidNamespace => less(call, libc::CLONE_NEWPID),
            // Neither may the settings of the host's namespace change.
            NetNamespace => less(call, libc::CLONE_NEWNET)
                .or_else(|| undone(unshares(call, libc::CLONE_NEWNET)))
                .or_else(|| call.elsewhere("proc/sys/net/ipv4/ip_unprivileged_port_start")),
            IpcNamespace => less(call, libc::CLONE_NEWIPC),
            UtsNamespace => less(call, libc::CLONE_NEWUTS).or_else(|| {
                undone(call.is(libc::SYS_sethostname) || call.is(libc::SYS_setdomainname))
            }),
            CgroupNamespace => undone(unshares(call, libc::CLONE_NEWCGROUP)),
            Seccomp => undone(call.is(libc::SYS_seccomp) || call.prctl(libc::PR_SET_SECCOMP)),
            Capabilities => undone(call.prctl(libc::PR_CAPBSET_DROP)).or_else(|| kept_all(call)),
            // The kernel takes no filter from a process without it.
            NoNewPrivs => undone(call.prctl(libc::PR_SET_NO_NEW_PRIVS))
                .or_else(|| Seccomp.in_the_set_up(call)),
            NoSuid => mounts_without(call, libc::MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
            NoDev => mounts_without(call, libc::MOUNT_ATTR_NODEV, libc::MS_NODEV),
            NoUserNamespaces => call.elsewhere(NAMESPACES),
            ReadOnlyProc => undone(call.mounted_at(&["proc/sys"])),
            CoveredProc => undone(call.mounted_at(&["proc/kallsyms", "proc/keys"])),
            ReadOnlyUsr => mounts_without(call, libc::MOUNT_ATTR_RDONLY, 0),
            Descriptors => undone(call.is(libc::SYS_close_range)),
            Limits => undone(call.is(libc::SYS_prlimit64) && call.args[2] != 0),
            Groups => call
                .elsewhere_if(|path| path.ends_with("/tasks") || path.ends_with("/cgroup.procs"))
                .or_else(|| started_outside(call)),
            OomScore => call.elsewhere("/proc/self/oom_score_adj"),
            HandClosed | FileTools | KernelFiles => None,
        }
    }
}

/// What forbids further user namespaces, below `/proc/sys`.
const NAMESPACES: &str = "user/max_user_namespaces";
/// Where `resolve` stands in `struct open_how`.
const RESOLVE_AT: u64 = 16;
/// Of linux/mount.h (Linux 6.5).
const MOVE_MOUNT_BENEATH: u64 = 0x200;
/// `CLONE_INTO_CGROUP` of linux/sched.h.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3 without one of its namespaces.
fn less(call: &Call, namespace: i32) -> Option<Change> {
    without_flag(call, u64::from(namespace.cast_unsigned()))
}

/// The last mount of the set-up, beneath what is mounted where it goes to and not above it.
fn becomes_root(call: &Call) -> Option<Change> {
    let above = u64::from(libc::MOVE_MOUNT_T_EMPTY_PATH);
    (call.is(libc::SYS_move_mount) && call.args[4] == above)
        .then_some(Change::Argument(4, above | MOVE_MOUNT_BENEATH))
}

/// Whether it enters a namespace of that kind.
fn enters(call: &Call, namespace: i32) -> bool {
    call.is(libc::SYS_setns) && call.args[1] == u64::from(namespace.cast_unsigned())
}

/// Whether it leaves that namespace for a new one.
fn unshares(call: &Call, namespace: i32) -> bool {
    call.is(libc::SYS_unshare) && call.args[0] == u64::from(namespace.cast_unsigned())
}

fn started_outside(call: &Call) -> Option<Change> {
    without_flag(call, INTO_CGROUP)
}

fn without_flag(call: &Call, flag: u64) -> Option<Change> {
    if !call.is(libc::SYS_clone3) {
        return None;
    }
    let flags = call.word(call.args[0]);
    (flags & flag != 0).then(|| Change::Word(call.args[0], flags & !flag))
}

/// A mount without one of its attributes, whether new or taken from the host.
fn mounts_without(call: &Call, attribute: u64, flag: u64) -> Option<Change> {
    if call.is(libc::SYS_mount) && flag != 0 {
        return Some(Change::Argument(3, call.args[3] & !flag));
    }
    if call.is(libc::SYS_mount_setattr) {
        let set = call.word(call.args[3]);
        return Some(Change::Word(call.args[3], set & !attribute));
    }
    None
}

/// The last capset of the set-up is the one that asks for few: it has none that can be inherited and is
/// made inside the user namespace. Those of `as_mapped_root` before it keep all.
fn kept_all(call: &Call) -> Option<Change> {
    if !call.is(libc::SYS_capset) {
        return None;
    }
    // Effective, permitted, inheritable, each the lower half.
    let effective = call.word(call.args[1]) & 0xffff_ffff;
    (effective == KEPT).then_some(Change::Undone)
}

/// The capabilities of a sandbox, as `/proc/self/status` shows them.
const KEPT: u64 = 0x8004_05fb;
