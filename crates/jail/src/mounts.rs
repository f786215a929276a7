//! Owns the sandbox's file tree: layers, volumes, devices, and the pivot. It drops no right.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use sys::{MountAttr, mount_setattr};

use crate::error::{During, IDMAP, OVERLAY, PROC, Result};
use crate::image;
use crate::plan::{PROGRAMS, Plan};
use crate::privileges::as_mapped_root;

const BIND_PROGRAMS: &str = "bind the operator's programs";

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// How large a directory in memory may grow.
struct InMemory {
    /// Bytes at most.
    most: u64,
    /// And at most one part in so many of the sandbox's memory: full, all of them together leave room
    /// to remove what is in them.
    part: u64,
}

const TMP: InMemory = InMemory {
    most: 1 << 30,
    part: 4,
};
const SHM: InMemory = InMemory {
    most: 256 << 20,
    part: 8,
};
const RUN: InMemory = InMemory {
    most: 64 << 20,
    part: 16,
};

impl InMemory {
    fn of(&self, plan: &Plan) -> u64 {
        self.most.min(plan.limits.memory.most / self.part)
    }
}

/// Trees taken from the host before its mounts are covered, each detached.
struct Trees {
    template: OwnedFd,
    layers: OwnedFd,
    usr: OwnedFd,
    programs: Option<OwnedFd>,
    volumes: Vec<OwnedFd>,
    devices: Vec<OwnedFd>,
}

/// Builds the sandbox's root in this (new, own) mount namespace and makes it `/`.
///
/// Names in the sandbox's mountinfo: the overlay is assembled in a staging tmpfs with relative
/// paths, so it names no directory of the host.
pub(crate) fn build(plan: &Plan, userns: BorrowedFd<'_>) -> Result<()> {
    const STAGE: &str = "stage the root";
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).during("make the mounts private")?;
    let disk = if plan.image {
        image::mount_in(&plan.dir)?
    } else {
        plan.dir.clone()
    };
    let trees = take_trees(plan, &disk, userns)?;
    tmpfs(&plan.dir, "mode=700,size=64k").during(STAGE)?;
    chdir(&plan.dir).during(STAGE)?;
    for name in ["lower", "rw", "root"] {
        fs::create_dir(name).during(STAGE)?;
    }
    attach(&trees.template, "lower").during(STAGE)?;
    attach(&trees.layers, "rw").during(STAGE)?;
    as_mapped_root(plan.id_base, || {
        // What the upper layer says was written from inside: nothing in it leads to other names, and
        // the host's defaults, which its administrator may have changed, do not count.
        let whose = if plan.has_own_ids() {
            c"lowerdir=lower,upperdir=rw/upper,workdir=rw/work,\
            redirect_dir=nofollow,metacopy=off,index=off"
        } else {
            // Who is root only in a user namespace may write no other attributes.
            c"lowerdir=lower,upperdir=rw/upper,workdir=rw/work,\
            redirect_dir=nofollow,metacopy=off,index=off,userxattr"
        };
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("overlay", "root", "overlay", flags, whose).during(OVERLAY)
    })?;
    chdir("root").during(STAGE)?;
    attach(&trees.usr, "usr").during("bind /usr")?;
    fill_dev(&trees, plan)?;
    fill_proc()?;
    let tmp = format!("mode=1777,size={},nr_inodes=400k", TMP.of(plan));
    tmpfs(Path::new("tmp"), &tmp).during("mount /tmp")?;
    let run = format!(
        "mode=755,size={1},nr_inodes=10k,uid={0},gid={0}",
        plan.id_base,
        RUN.of(plan)
    );
    tmpfs(Path::new("run"), &run).during("mount /run")?;
    if let Some(programs) = &trees.programs {
        fs::create_dir(PROGRAMS).during(BIND_PROGRAMS)?;
        attach(programs, PROGRAMS).during(BIND_PROGRAMS)?;
    }
    for (volume, tree) in plan.volumes.iter().zip(&trees.volumes) {
        attach(tree, &volume.target).during("bind a volume")?;
    }
    pivot()
}

fn take_trees(plan: &Plan, disk: &Path, userns: BorrowedFd<'_>) -> Result<Trees> {
    let guarded = MountAttr {
        nosuid: true,
        nodev: true,
        ..MountAttr::default()
    };
    let mapped = MountAttr {
        // Without ids of its own the host's are those seen inside.
        idmap: plan.has_own_ids().then_some(userns),
        ..guarded
    };
    let mut volumes = Vec::with_capacity(plan.volumes.len());
    for volume in &plan.volumes {
        let attr = MountAttr {
            read_only: volume.read_only,
            ..mapped
        };
        volumes.push(take(&disk.join(&volume.source), &attr, IDMAP)?);
    }
    let mut devices = Vec::with_capacity(DEVICES.len());
    for name in DEVICES {
        let attr = MountAttr {
            nosuid: true,
            noexec: true,
            ..MountAttr::default()
        };
        devices.push(take(&Path::new("/dev").join(name), &attr, "bind a device")?);
    }
    // The lowest layer is written by nobody; nodev and nosuid are asked of every mount alike.
    let template = MountAttr {
        read_only: true,
        ..mapped
    };
    // Not id-mapped on purpose: the sandbox sees /usr as "other" and so reads only what is
    // readable for everybody on the host.
    let usr = MountAttr {
        read_only: true,
        recursive: true,
        ..guarded
    };
    let programs = plan.programs.as_ref();
    let programs = programs.map(|dir| take(dir, &usr, BIND_PROGRAMS));
    Ok(Trees {
        programs: programs.transpose()?,
        template: take(&plan.template, &template, IDMAP)?,
        layers: take(&disk.join("root"), &mapped, IDMAP)?,
        usr: take(&plan.usr, &usr, "bind /usr")?,
        volumes,
        devices,
    })
}

/// A detached copy of the mount at `path` with `attr` set, so that it is never seen without it.
fn take(path: &Path, attr: &MountAttr<'_>, step: &'static str) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if attr.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, path, flags).during(step)?;
    mount_setattr(tree.as_fd(), attr).during(step)?;
    Ok(tree)
}

fn attach(tree: &OwnedFd, target: impl AsRef<Path>) -> rustix::io::Result<()> {
    move_mount(
        tree,
        c"",
        CWD,
        target.as_ref(),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
}

fn tmpfs(target: &Path, options: &str) -> rustix::io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let options = std::ffi::CString::new(options).map_err(|_| rustix::io::Errno::INVAL)?;
    mount("tmpfs", target, "tmpfs", flags, options.as_c_str())
}

fn fill_dev(trees: &Trees, plan: &Plan) -> Result<()> {
    const STEP: &str = "fill /dev";
    tmpfs(Path::new("dev"), "mode=755,size=64k,nr_inodes=64").during(STEP)?;
    for (name, tree) in DEVICES.iter().zip(&trees.devices) {
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
    let tty = if plan.has_own_ids() { 5 } else { 0 };
    let tty_gid = plan.id_base.saturating_add(tty);
    let options = format!("newinstance,ptmxmode=0666,mode=0620,gid={tty_gid},max=256");
    let options = std::ffi::CString::new(options)
        .map_err(std::io::Error::from)
        .during(STEP)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "dev/pts", "devpts", flags, options.as_c_str()).during("mount /dev/pts")?;
    let shm = format!("mode=1777,size={},nr_inodes=10k", SHM.of(plan));
    tmpfs(Path::new("dev/shm"), &shm).during(STEP)
}

/// A /proc of the new pid namespace, mounted by the real root: what it guards with root's rights,
/// the sandbox's root does not have.
///
/// The network's setting is written through it and not through the host's: there the kernel keeps those of all
/// sandboxes under one name, and looks through them one by one.
fn fill_proc() -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", flags, None).during(PROC)?;
    // The network namespace is not owned by the sandbox's user namespace, so its root could
    // otherwise not bind a port below 1024.
    fs::write("proc/sys/net/ipv4/ip_unprivileged_port_start", "0").during("open the low ports")?;
    const MASK: &str = "mask parts of /proc";
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
    Ok(())
}

fn pivot() -> Result<()> {
    const STEP: &str = "pivot to the new root";
    let root = rustix::fs::open(".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    fchdir(root.during(STEP)?).during(STEP)?;
    pivot_root(".", ".").during(STEP)?;
    unmount(".", UnmountFlags::DETACH).during(STEP)?;
    chdir("/").during(STEP)
}
