//! Owns what a sandbox's file tree is built on, before anybody knows whose it is: a mount namespace with an empty root
//! and nothing of the host, and in it the directories of the kernel and in memory. It takes nothing of anybody's.
//!
//! The host's mounts are left altogether, not kept for later: nothing here keeps the host from unmounting a disk, and
//! what is mounted there meanwhile is seen all the same by who goes back for a moment.

use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{Mode, OFlags, chown};
use rustix::mount::{
    MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, open_tree,
    unmount,
};
use rustix::process::{Gid, Uid, chdir, chroot, fchdir, pivot_root};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::MountAttr;

use crate::error::{During, PROC, Result};
use crate::mounts::{GUARDED, attach, take};
use crate::plan::Ground;

/// Where the layers are put together: unmounted as a whole when that is done.
pub(crate) const LAYERS: &str = "layers";
/// What is made here for the root, each a mount at its place in it.
pub(crate) const TREES: [&str; 4] = ["dev", "proc", "tmp", "run"];
/// Where the host is, for who cannot go back to its namespace.
const HOST: &str = "host";
/// A directory of every host, covered only while the stage is set up.
const BEGIN: &str = "/dev";

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// How large a directory in memory may grow.
pub(crate) struct InMemory {
    /// Bytes at most.
    most: u64,
    /// And at most one part in so many of the sandbox's memory: full, all of them together leave room
    /// to remove what is in them.
    part: u64,
}

pub(crate) const TMP: InMemory = InMemory {
    most: 1 << 30,
    part: 4,
};
pub(crate) const SHM: InMemory = InMemory {
    most: 256 << 20,
    part: 8,
};
pub(crate) const RUN: InMemory = InMemory {
    most: 64 << 20,
    part: 16,
};

impl InMemory {
    pub(crate) fn of(&self, ground: &Ground) -> u64 {
        self.most.min(ground.limits.memory.most / self.part)
    }
}

/// The namespace, from inside.
pub(crate) struct Stage {
    /// The root of the namespace.
    top: OwnedFd,
    host: Host,
    /// The sandbox's `/proc/sys` as it was before it was made read-only.
    settings: OwnedFd,
}

/// Where what is the host's is taken from.
enum Host {
    /// Its namespace; and the way back to this one.
    Elsewhere { host: OwnedFd, own: OwnedFd },
    /// A copy of its mounts below [`HOST`], in which this process resolves paths: who is root only in a user namespace
    /// may not go to the host's own.
    Below,
}

impl Stage {
    /// Sets it up in this mount namespace, a new copy of `host`, and in the other namespaces of the sandbox.
    pub(crate) fn new(ground: &Ground, host: BorrowedFd<'_>) -> Result<Self> {
        const STEP: &str = "set up the stage";
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).during("make the mounts private")?;
        let devices = take_devices()?;
        let host = if ground.has_own_ids() {
            Host::Elsewhere {
                host: host.try_clone_to_owned().during(STEP)?,
                own: namespace().during(STEP)?,
            }
        } else {
            Host::Below
        };
        // `/run` lies in it: what is written there is what it is for.
        let options = format!("mode=700,size={},nr_inodes=10k", RUN.of(ground));
        tmpfs(Path::new(BEGIN), &options).during(STEP)?;
        chdir(BEGIN).during(STEP)?;
        for name in TREES.into_iter().chain([LAYERS, HOST]) {
            fs::create_dir(name).during(STEP)?;
            // Whatever the umask.
            fs::set_permissions(name, Permissions::from_mode(0o755)).during(STEP)?;
        }
        attach(&take(Path::new(LAYERS), &GUARDED, STEP)?, LAYERS).during(STEP)?;
        fill_dev(&devices, ground)?;
        let settings = fill_proc()?;
        let tmp = format!("mode=1777,size={},nr_inodes=400k", TMP.of(ground));
        tmpfs(Path::new("tmp"), &tmp).during("mount /tmp")?;
        let owner = (Uid::from_raw(ground.id_base), Gid::from_raw(ground.id_base));
        chown("run", Some(owner.0), Some(owner.1)).during(STEP)?;
        attach(&take(Path::new("run"), &GUARDED, STEP)?, "run").during(STEP)?;
        let top = pivot(&host)?;
        Ok(Self {
            top,
            host,
            settings,
        })
    }

    /// The root of the namespace.
    pub(crate) fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    /// For who is in the user namespace.
    pub(crate) fn settings(&self) -> BorrowedFd<'_> {
        self.settings.as_fd()
    }

    /// Does `work` where absolute paths are the host's. What it mounts there the host would have, too: it only takes
    /// detached trees.
    pub(crate) fn on_the_host<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        const STEP: &str = "take from the host";
        let Host::Elsewhere { host, own } = &self.host else {
            return work();
        };
        let mounts = Some(LinkNameSpaceType::Mount);
        move_into_link_name_space(host.as_fd(), mounts).during(STEP)?;
        let taken = work();
        // Whatever has come of it: nothing is mounted by who has not come back.
        move_into_link_name_space(own.as_fd(), mounts).during(STEP)?;
        fchdir(&self.top).during(STEP)?;
        chroot(".").during(STEP)?;
        taken
    }

    /// The mounts of [`TREES`], to be moved.
    pub(crate) fn made(&self) -> Result<Vec<OwnedFd>> {
        let open = |name| {
            open_tree(&self.top, name, OpenTreeFlags::OPEN_TREE_CLOEXEC)
                .during("take from the stage")
        };
        TREES.into_iter().map(open).collect()
    }

    /// Unmounts what the layers were put together in, and what there is of the host.
    pub(crate) fn clear(&self) -> rustix::io::Result<()> {
        fchdir(&self.top)?;
        unmount(LAYERS, UnmountFlags::DETACH)?;
        match self.host {
            Host::Elsewhere { .. } => Ok(()),
            Host::Below => unmount(HOST, UnmountFlags::DETACH),
        }
    }
}

/// The mount namespace that this process is in.
pub(crate) fn namespace() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty())
}

/// Makes the working directory, which is the root of a mount, that of the namespace, and stands there.
fn pivot(host: &Host) -> Result<OwnedFd> {
    const STEP: &str = "pivot to the stage";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(".", flags, Mode::empty()).during(STEP)?;
    match host {
        Host::Elsewhere { .. } => {
            pivot_root(".", ".").during(STEP)?;
            unmount(".", UnmountFlags::DETACH).during(STEP)?;
            fchdir(&top).during(STEP)?;
        }
        Host::Below => {
            pivot_root(".", HOST).during(STEP)?;
            fchdir(&top).during(STEP)?;
            chroot(HOST).during(STEP)?;
        }
    }
    Ok(top)
}

pub(crate) fn tmpfs(target: &Path, options: &str) -> rustix::io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = std::ffi::CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    mount("tmpfs", target, "tmpfs", flags, options.as_c_str())
}

fn take_devices() -> Result<Vec<OwnedFd>> {
    let attr = MountAttr {
        nosuid: true,
        noexec: true,
        private: true,
        ..MountAttr::default()
    };
    let device = |name| take(&Path::new("/dev").join(name), &attr, "bind a device");
    DEVICES.into_iter().map(device).collect()
}

fn fill_dev(devices: &[OwnedFd], ground: &Ground) -> Result<()> {
    const STEP: &str = "fill /dev";
    attach(&take(Path::new("dev"), &GUARDED, STEP)?, "dev").during(STEP)?;
    for (name, tree) in DEVICES.iter().zip(devices) {
        let target = Path::new("dev").join(name);
        File::create(&target).during(STEP)?;
        attach(tree, &target).during(STEP)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(to, Path::new("dev").join(name)).during(STEP)?;
    }
    fs::create_dir("dev/pts").during(STEP)?;
    fs::create_dir("dev/shm").during(STEP)?;
    // The group `tty`, or the only one that there is.
    let tty = if ground.has_own_ids() { 5 } else { 0 };
    let tty_gid = ground.id_base.saturating_add(tty);
    let options = format!("newinstance,ptmxmode=0666,mode=0620,gid={tty_gid},max=256");
    let options = std::ffi::CString::new(options)
        .map_err(std::io::Error::from)
        .during(STEP)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "dev/pts", "devpts", flags, options.as_c_str()).during("mount /dev/pts")?;
    let shm = format!("mode=1777,size={},nr_inodes=10k", SHM.of(ground));
    tmpfs(Path::new("dev/shm"), &shm).during(STEP)
}

/// A /proc of the new pid namespace, mounted by the real root: what it guards with root's rights,
/// the sandbox's root does not have.
///
/// The settings of the network and of the user namespace are written through it and not through the host's: there
/// the kernel keeps those of all sandboxes under one name, and looks through them one by one. The latter can be
/// written only from inside that namespace: returns `/proc/sys` for that.
fn fill_proc() -> Result<OwnedFd> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", flags, None).during(PROC)?;
    // The network namespace is not owned by the sandbox's user namespace, so its root could
    // otherwise not bind a port below 1024.
    fs::write("proc/sys/net/ipv4/ip_unprivileged_port_start", "0").during("open the low ports")?;
    const MASK: &str = "mask parts of /proc";
    let beneath = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let settings = rustix::fs::open("proc/sys", beneath, Mode::empty()).during(MASK)?;
    let read_only = MountAttr {
        read_only: true,
        nosuid: true,
        nodev: true,
        noexec: true,
        ..MountAttr::default()
    };
    for name in ["sys", "irq", "bus", "fs", "acpi", "scsi", "asound"] {
        let target = Path::new("proc").join(name);
        if target.exists() {
            attach(&take(&target, &read_only, MASK)?, &target).during(MASK)?;
        }
    }
    let null = MountAttr {
        read_only: true,
        nosuid: true,
        noexec: true,
        ..MountAttr::default()
    };
    for name in [
        "kcore",
        "keys",
        "key-users",
        "timer_list",
        "sysrq-trigger",
        "sched_debug",
        "kallsyms",
    ] {
        let target = Path::new("proc").join(name);
        if target.exists() {
            attach(&take(Path::new("dev/null"), &null, MASK)?, &target).during(MASK)?;
        }
    }
    Ok(settings)
}
