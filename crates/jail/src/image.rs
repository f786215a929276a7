//! Owns the disk of a sandbox that has one of its own: an image file, mounted where only the sandbox sees it, and there
//! only while its layers are put together.
//! It makes no image and chooses no size.
//!
//! The mount stands in the sandbox's own mount namespace and nowhere else, and the loop device lets go of the
//! file when that mount does: whatever is killed, both go with the last process of the sandbox.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::error::{DISK, During, Result};

/// The name of the image in the directory of its sandbox.
pub const IMAGE: &str = "disk.img";
/// What every sandbox's disk holds, parents first; each is owned by the sandbox's root.
pub const LAYOUT: [&str; 7] = [
    "root",
    "root/upper",
    "root/work",
    "workspace",
    "outputs",
    "uploads",
    STATE,
];

/// What a loop that runs inside remembers. It belongs to the session, as the log does that it is a copy of: it is never
/// sealed, so no snapshot, fork or export has it.
pub const STATE: &str = "harness";

/// What of a sandbox's disk can be sealed: its name in a sealed layer, and its name on the disk.
pub const SEALED: [(&str, &str); 3] = [
    ("root", "root/upper"),
    ("workspace", "workspace"),
    ("outputs", "outputs"),
];

/// Where volumes that lie on sealed layers are prepared by the kernel; only such disks have them, parents first.
pub const WORKS: [&str; 3] = ["works", "works/workspace", "works/outputs"];

/// How long the former sandbox of that name may take to let its disk go. Two mounts of one image would
/// destroy what is in it.
const LET_GO: Duration = Duration::from_secs(10);
const LET_GO_RETRY: Duration = Duration::from_millis(5);

/// Mounts the image in `dir`, nowhere yet: what the mount is attached by.
pub(crate) fn mounted(dir: &Path) -> Result<OwnedFd> {
    let image = dir.join(IMAGE);
    wait_until_let_go(&image).during(DISK)?;
    let file = OpenOptions::new().read(true).write(true).open(&image);
    let file = file.during(DISK)?;
    let (device, path) = sys::attach_disk(file.as_fd()).during(DISK)?;
    let mount = of_device(&path).during(DISK)?;
    // From here on the mount keeps it.
    drop(device);
    Ok(mount)
}

fn of_device(path: &str) -> rustix::io::Result<OwnedFd> {
    let new = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&new, "source", path)?;
    // `discard`: what is deleted inside is free outside. `noinit_itable`: else the kernel fills the whole of a
    // new, sparse file with empty tables in the background.
    fsconfig_set_flag(&new, "discard")?;
    fsconfig_set_flag(&new, "noinit_itable")?;
    fsconfig_set_string(&new, "errors", "remount-ro")?;
    fsconfig_create(&new)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    fsmount(&new, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// Makes what is missing of [`LAYOUT`] on the disk that is mounted at `target`.
pub(crate) fn fill(target: &Path) -> Result<()> {
    for name in LAYOUT {
        let place = target.join(name);
        match fs::create_dir(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // The mode asked for, whatever the umask.
            other => other
                .and_then(|()| fs::set_permissions(&place, Permissions::from_mode(0o755)))
                .during(DISK)?,
        }
    }
    Ok(())
}

fn wait_until_let_go(image: &Path) -> io::Result<()> {
    let deadline = Instant::now() + LET_GO;
    while is_attached(image)? {
        if Instant::now() > deadline {
            return Err(Errno::BUSY.into());
        }
        thread::sleep(LET_GO_RETRY);
    }
    Ok(())
}

/// Whether a loop device has it. Source of the file: Documentation/ABI/testing/sysfs-block-loop.
fn is_attached(image: &Path) -> io::Result<bool> {
    for entry in fs::read_dir("/sys/block")? {
        let backing = entry?.path().join("loop/backing_file");
        let Ok(backing) = fs::read_to_string(backing) else {
            continue;
        };
        if Path::new(backing.trim_end_matches('\n')) == image {
            return Ok(true);
        }
    }
    Ok(false)
}
