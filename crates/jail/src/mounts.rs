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

use crate::attached;
use crate::error::{During, IDMAP, OVERLAY, PROC, Result};
use crate::gvisor;
use crate::image;
use crate::plan::{Gvisor, PROGRAMS, Plan, Volume};
use crate::privileges::as_mapped_root;

pub(crate) const BIND_USR: &str = "bind /usr";
pub(crate) const BIND_PROGRAMS: &str = "bind the operator's programs";
pub(crate) const BIND_VOLUME: &str = "bind a volume";

const STAGE: &str = "stage the root";
const FILL_DEV: &str = "fill /dev";

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
    pub(crate) fn of(&self, plan: &Plan) -> u64 {
        self.most.min(plan.limits.memory.most / self.part)
    }
}

/// Trees taken from the host before its mounts are covered, each detached.
pub(crate) struct Trees {
    template: OwnedFd,
    /// What is written from now on, and where that is prepared.
    disk: OwnedFd,
    /// What was sealed, uppermost first.
    sealed: Vec<OwnedFd>,
    pub(crate) usr: Option<OwnedFd>,
    pub(crate) programs: Option<OwnedFd>,
    volumes: Vec<OwnedFd>,
    pub(crate) attached: Vec<OwnedFd>,
    devices: Vec<OwnedFd>,
}

/// Builds the sandbox's root in this (new, own) mount namespace and makes it `/`.
///
/// Names in the sandbox's mountinfo: the overlay is assembled in a staging tmpfs with relative
/// paths, so it names no directory of the host.
///
/// Returns the sandbox's `/proc/sys` as it was before it was made read-only.
pub(crate) fn build(plan: &Plan, userns: BorrowedFd<'_>) -> Result<OwnedFd> {
    let (trees, volumes) = stage(plan, userns, "mode=700,size=64k")?;
    finish(plan, &trees, &volumes)
}

/// The same for gVisor, in whose hands the last part is; and its program, open.
pub(crate) fn build_for(
    gvisor: &Gvisor,
    plan: &Plan,
    userns: BorrowedFd<'_>,
) -> Result<(OwnedFd, OwnedFd)> {
    let (trees, volumes) = stage(plan, userns, &gvisor::stage_options(plan))?;
    gvisor::build(plan, gvisor, &trees, &volumes)
}

/// Assembles the root, as `root` in a file system in memory with these options, which is the working directory then.
/// Beside what was taken from the host, the trees of the volumes.
fn stage(plan: &Plan, userns: BorrowedFd<'_>, options: &str) -> Result<(Trees, Vec<OwnedFd>)> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).during("make the mounts private")?;
    let disk = if plan.image {
        image::mount_in(&plan.dir)?
    } else {
        plan.dir.clone()
    };
    let trees = take_trees(plan, &disk, userns)?;
    tmpfs(&plan.dir, options).during(STAGE)?;
    chdir(&plan.dir).during(STAGE)?;
    for name in ["lower", "rw", "root"] {
        fs::create_dir(name).during(STAGE)?;
    }
    attach(&trees.template, "lower").during(STAGE)?;
    attach(&trees.disk, "rw").during(STAGE)?;
    for (layer, name) in trees.sealed.iter().zip(names(plan)) {
        fs::create_dir(&name).during(STAGE)?;
        attach(layer, &name).during(STAGE)?;
    }
    as_mapped_root(plan.id_base, || overlay(plan, "root", &root_layers(plan)))?;
    let volumes = volumes(plan, &trees)?;
    Ok((trees, volumes))
}

/// Puts into the root what is not of it, and makes it `/`.
fn finish(plan: &Plan, trees: &Trees, volumes: &[OwnedFd]) -> Result<OwnedFd> {
    chdir("root").during(STAGE)?;
    if let Some(usr) = &trees.usr {
        attach(usr, "usr").during(BIND_USR)?;
    }
    fill_dev(trees, plan)?;
    let settings = fill_proc()?;
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
    for (volume, tree) in plan.volumes.iter().zip(volumes) {
        let target = volume.target.to_str().ok_or(rustix::io::Errno::INVAL);
        attached::attach_at(plan, tree, target.during(BIND_VOLUME)?, BIND_VOLUME)?;
    }
    attached::attach(plan, &trees.attached)?;
    pivot()?;
    Ok(settings)
}

/// What is mounted beside the root where that is assembled.
pub(crate) fn parts(plan: &Plan) -> impl Iterator<Item = String> {
    let lie_on_layers = plan.volumes.iter().filter(|it| lies_on_layers(plan, it));
    let volumes = lie_on_layers.map(|volume| format!("volume-{}", volume.source.display()));
    let own = ["lower", "rw"].into_iter().map(str::to_owned);
    own.chain(names(plan)).chain(volumes)
}

/// Whether its tree is an overlay: one that can be sealed, of a sandbox of which something was.
fn lies_on_layers(plan: &Plan, volume: &Volume) -> bool {
    let mut sealable = image::SEALED.iter();
    !plan.layers.is_empty() && sealable.any(|(_, place)| volume.source == Path::new(place))
}

/// What the sealed layers are called where the root is assembled.
fn names(plan: &Plan) -> impl Iterator<Item = String> {
    (0..plan.layers.len()).map(|n| format!("l{n}"))
}

/// The layers of one overlay, as overlayfs wants them named.
struct Layers {
    lower: String,
    upper: String,
    work: String,
}

fn root_layers(plan: &Plan) -> Layers {
    if plan.layers.is_empty() {
        return Layers {
            lower: "lower".to_owned(),
            upper: "rw/upper".to_owned(),
            work: "rw/work".to_owned(),
        };
    }
    let sealed: String = names(plan).map(|name| format!("{name}/root:")).collect();
    Layers {
        lower: format!("{sealed}lower"),
        upper: "rw/root/upper".to_owned(),
        work: "rw/root/work".to_owned(),
    }
}

/// Mounts them at `target`. What the upper layer says was written from inside: nothing in it leads to other names,
/// and the host's defaults, which its administrator may have changed, do not count.
fn overlay(plan: &Plan, target: &str, layers: &Layers) -> Result<()> {
    let Layers { lower, upper, work } = layers;
    let mut options = format!(
        "lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=nofollow,metacopy=off,index=off"
    );
    if !plan.has_own_ids() {
        // Who is root only in a user namespace may write no other attributes.
        options.push_str(",userxattr");
    }
    let options = std::ffi::CString::new(options)
        .map_err(std::io::Error::from)
        .during(OVERLAY)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("overlay", target, "overlay", flags, options.as_c_str()).during(OVERLAY)
}

/// The trees of the volumes, in their order. One that can be sealed lies on what was sealed of it.
fn volumes(plan: &Plan, trees: &Trees) -> Result<Vec<OwnedFd>> {
    const STEP: &str = "lay a volume on what was sealed";
    let mut all = Vec::with_capacity(plan.volumes.len());
    for (volume, plain) in plan.volumes.iter().zip(&trees.volumes) {
        let name = volume.source.display();
        if !lies_on_layers(plan, volume) {
            all.push(plain.try_clone().during(STEP)?);
            continue;
        }
        let sealed: Vec<String> = names(plan).map(|layer| format!("{layer}/{name}")).collect();
        let layers = Layers {
            lower: sealed.join(":"),
            upper: format!("rw/{name}"),
            work: format!("rw/works/{name}"),
        };
        let target = format!("volume-{name}");
        fs::create_dir(&target).during(STEP)?;
        as_mapped_root(plan.id_base, || overlay(plan, &target, &layers))?;
        all.push(take(Path::new(&target), &GUARDED, STEP)?);
    }
    Ok(all)
}

/// Of every mount alike.
const GUARDED: MountAttr<'static> = MountAttr {
    nosuid: true,
    nodev: true,
    read_only: false,
    noexec: false,
    recursive: false,
    idmap: None,
};

/// Of a program of the host's that only this sandbox's runtime executes.
pub(crate) const PROGRAM: MountAttr<'static> = MountAttr {
    read_only: true,
    ..GUARDED
};

fn take_trees(plan: &Plan, disk: &Path, userns: BorrowedFd<'_>) -> Result<Trees> {
    let mapped = MountAttr {
        // Without ids of its own the host's are those seen inside.
        idmap: plan.has_own_ids().then_some(userns),
        ..GUARDED
    };
    let mut volumes = Vec::with_capacity(plan.volumes.len());
    for volume in &plan.volumes {
        let attr = MountAttr {
            read_only: volume.read_only,
            ..mapped
        };
        volumes.push(take(&disk.join(&volume.source), &attr, IDMAP)?);
    }
    let attached = plan.attached.iter().map(|volume| {
        let attr = MountAttr {
            read_only: volume.read_only,
            ..mapped
        };
        take(&volume.source, &attr, IDMAP)
    });
    let attached = attached.collect::<Result<_>>()?;
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
        ..GUARDED
    };
    let sealed = plan.layers.iter();
    let sealed = sealed.map(|layer| take(layer, &template, IDMAP));
    let programs = plan.programs.as_ref();
    let programs = programs.map(|dir| take(dir, &usr, BIND_PROGRAMS));
    let host = plan.usr.as_ref().map(|dir| take(dir, &usr, BIND_USR));
    Ok(Trees {
        programs: programs.transpose()?,
        template: take(&plan.template, &template, IDMAP)?,
        // A volume that lies on layers is prepared beside it, in the same mount.
        disk: if plan.layers.is_empty() {
            take(&disk.join("root"), &mapped, IDMAP)?
        } else {
            take(disk, &mapped, IDMAP)?
        },
        sealed: sealed.collect::<Result<_>>()?,
        usr: host.transpose()?,
        volumes,
        attached,
        devices,
    })
}

/// A detached copy of the mount at `path` with `attr` set, so that it is never seen without it.
pub(crate) fn take(path: &Path, attr: &MountAttr<'_>, step: &'static str) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if attr.recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, path, flags).during(step)?;
    mount_setattr(tree.as_fd(), attr).during(step)?;
    Ok(tree)
}

pub(crate) fn attach(tree: &OwnedFd, target: impl AsRef<Path>) -> rustix::io::Result<()> {
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

/// A `/dev` with nothing but the devices that everybody may have.
pub(crate) fn fill_devices(trees: &Trees) -> Result<()> {
    tmpfs(Path::new("dev"), "mode=755,size=64k,nr_inodes=64").during(FILL_DEV)?;
    for (name, tree) in DEVICES.iter().zip(&trees.devices) {
        let target = Path::new("dev").join(name);
        File::create(&target).during(FILL_DEV)?;
        attach(tree, &target).during(FILL_DEV)?;
    }
    Ok(())
}

fn fill_dev(trees: &Trees, plan: &Plan) -> Result<()> {
    const STEP: &str = FILL_DEV;
    fill_devices(trees)?;
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

/// A `/proc` of the new pid namespace with nothing of it covered, and its settings.
pub(crate) fn open_proc() -> Result<OwnedFd> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", flags, None).during(PROC)?;
    // The network namespace is not owned by the sandbox's user namespace, so its root could
    // otherwise not bind a port below 1024.
    fs::write("proc/sys/net/ipv4/ip_unprivileged_port_start", "0").during("open the low ports")?;
    let beneath = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("proc/sys", beneath, Mode::empty()).during(PROC)
}

/// A /proc of the new pid namespace, mounted by the real root: what it guards with root's rights,
/// the sandbox's root does not have.
///
/// The settings of the network and of the user namespace are written through it and not through the host's: there
/// the kernel keeps those of all sandboxes under one name, and looks through them one by one. The latter can be
/// written only from inside that namespace: returns `/proc/sys` for that.
fn fill_proc() -> Result<OwnedFd> {
    const MASK: &str = "mask parts of /proc";
    let settings = open_proc()?;
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

pub(crate) fn pivot() -> Result<()> {
    const STEP: &str = "pivot to the new root";
    let root = rustix::fs::open(".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    fchdir(root.during(STEP)?).during(STEP)?;
    pivot_root(".", ".").during(STEP)?;
    unmount(".", UnmountFlags::DETACH).during(STEP)?;
    chdir("/").during(STEP)
}
