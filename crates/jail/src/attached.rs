//! Owns where named volumes appear in a sandbox: each as a directory of one small file system in memory, which is made
//! anew at each start and written by nobody. So nothing that was left in the sandbox's own files decides where a
//! volume goes, and what is written beside the volumes is refused instead of lost. The session's own directories are
//! put at their paths by the same rule: no link leads anywhere. It makes no volume.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use sys::{MountAttr, mount_setattr};

use crate::error::{During, Result};
use crate::plan::{Ground, Plan, VOLUMES};
use crate::privileges::as_mapped_root;

const STEP: &str = "attach a volume";

/// Puts the trees of [`Plan::attached`] where they belong. The working directory is the sandbox's root.
pub(crate) fn attach(ground: &Ground, plan: &Plan, trees: &[OwnedFd]) -> Result<()> {
    if trees.is_empty() {
        return Ok(());
    }
    let shelf = shelf(ground.id_base).during(STEP)?;
    attach_at(ground, &shelf, VOLUMES, STEP)?;
    let here = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    for (volume, tree) in plan.attached.iter().zip(trees) {
        mkdirat(&shelf, volume.name.as_str(), Mode::RWXU).during(STEP)?;
        move_mount(tree, c"", &shelf, volume.name.as_str(), here).during(STEP)?;
    }
    let closed = MountAttr {
        read_only: true,
        nosuid: true,
        nodev: true,
        noexec: true,
        ..MountAttr::default()
    };
    mount_setattr(shelf.as_fd(), &closed).during(STEP)
}

/// Puts a tree at that path, whatever the sandbox has left there. The working directory is the sandbox's root.
pub(crate) fn attach_at(
    ground: &Ground,
    tree: &OwnedFd,
    path: &str,
    step: &'static str,
) -> Result<()> {
    // As a rule it is there, and all of it directories.
    let place = match there(path) {
        Ok(place) => place,
        Err(_) => as_mapped_root(ground.id_base, || place(path).during(step))?,
    };
    let onto = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", &place, c"", onto).during(step)
}

/// The directory of that path, in the sandbox's own files, if no link leads to it.
fn there(path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(CWD, path, flags, Mode::empty(), within)
}

/// The directory of that path, made if need be, in the sandbox's own files: no link is followed.
fn place(path: &str) -> rustix::io::Result<OwnedFd> {
    let mut at = open(CWD, ".")?;
    for name in path.split('/') {
        at = directory(&at, name)?;
    }
    Ok(at)
}

/// The directory of that name. What else stands there, a link say, was put there from inside: it leads nowhere, and
/// gives way.
fn directory(at: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    match open(at, name) {
        Err(Errno::NOTDIR | Errno::LOOP) => unlinkat(at, name, AtFlags::empty())?,
        Err(Errno::NOENT) => {}
        other => return other,
    }
    mkdirat(at, name, Mode::from_raw_mode(0o755))?;
    open(at, name)
}

fn open(at: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// An empty file system in memory, which belongs to the sandbox's root.
fn shelf(root: u32) -> rustix::io::Result<OwnedFd> {
    let new = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let id = root.to_string();
    for (name, value) in [
        ("mode", "755"),
        ("size", "64k"),
        ("nr_inodes", "64"),
        ("uid", id.as_str()),
        ("gid", id.as_str()),
    ] {
        fsconfig_set_string(&new, name, value)?;
    }
    fsconfig_create(&new)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&new, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}
