//! Owns the attributes of detached mounts. It attaches and opens nothing.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What to set on a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr<'a> {
    /// No writes through this mount.
    pub read_only: bool,
    /// Set-id bits have no effect.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Programs cannot be started from it.
    pub noexec: bool,
    /// Show ids shifted by the map of this user namespace.
    pub idmap: Option<BorrowedFd<'a>>,
    /// What is mounted below it appears nowhere else, and nothing that is mounted elsewhere appears below it.
    pub private: bool,
    /// Also on every mount below it.
    pub recursive: bool,
}

#[repr(C)]
struct RawAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

// Without gaps, as long as the kernel's MOUNT_ATTR_SIZE_VER0.
const _: () = assert!(size_of::<RawAttr>() == 32);

/// Sets `attr` on the mount behind `tree` (a detached tree of open_tree or fsmount).
///
/// # Errors
/// The errno of mount_setattr: `EINVAL` when the file system cannot do idmapped mounts, `EPERM`
/// without the right, `ENOSYS` before kernel 5.12.
pub fn mount_setattr(tree: BorrowedFd<'_>, attr: &MountAttr<'_>) -> io::Result<()> {
    let mut set = 0;
    for (wanted, bit) in [
        (attr.read_only, libc::MOUNT_ATTR_RDONLY),
        (attr.nosuid, libc::MOUNT_ATTR_NOSUID),
        (attr.nodev, libc::MOUNT_ATTR_NODEV),
        (attr.noexec, libc::MOUNT_ATTR_NOEXEC),
        (attr.idmap.is_some(), libc::MOUNT_ATTR_IDMAP),
    ] {
        if wanted {
            set |= bit;
        }
    }
    let userns_fd = attr
        .idmap
        .map_or(0, |fd| fd.as_raw_fd().unsigned_abs().into());
    let raw = RawAttr {
        set,
        clear: 0,
        propagation: if attr.private { libc::MS_PRIVATE } else { 0 },
        userns_fd,
    };
    let recursive = if attr.recursive {
        libc::AT_RECURSIVE
    } else {
        0
    };
    let empty = c"";
    // SAFETY: checked against mount_setattr(2). `raw` has the layout of struct mount_attr (four u64, no gaps)
    // and the size passed, which names its version, and lives through the call, which only reads it; the path
    // is an empty null-terminated string; both descriptors are borrowed and open, and the kernel keeps none.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const raw,
            size_of::<RawAttr>(),
        )
    };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
