//! Owns the failure of a set-up step: which one, the errno, the mend. It prints nothing.

use std::io;

use rustix::io::Errno;

use crate::net::STEER;
use crate::plan::Failure;

/// A step that failed. The hint is found from step and errno in one place, below.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub(crate) struct SetupError {
    step: &'static str,
    #[source]
    source: io::Error,
}

pub(crate) type Result<T> = std::result::Result<T, SetupError>;

/// Names the step that an operation belongs to.
pub(crate) trait During<T> {
    fn during(self, step: &'static str) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, step: &'static str) -> Result<T> {
        self.map_err(|source| SetupError {
            step,
            source: source.into(),
        })
    }
}

impl SetupError {
    pub(crate) fn to_failure(&self) -> Failure {
        let errno = self.source.raw_os_error().unwrap_or(0);
        Failure {
            step: self.step.to_owned(),
            errno,
            hint: hint(self.step, errno).to_owned(),
        }
    }
}

fn hint(step: &str, errno: i32) -> &'static str {
    let is = |wanted: Errno| errno == wanted.raw_os_error();
    if step == USER_NAMESPACE && (is(Errno::NOSPC) || is(Errno::USERS)) {
        return "user namespaces are switched off: set sysctl user.max_user_namespaces to 10000";
    }
    if step == USER_NAMESPACE && (is(Errno::PERM) || is(Errno::ACCESS)) {
        return "user namespaces are forbidden: run as root, or set sysctl \
                kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), \
                kernel.unprivileged_userns_clone=1 (Debian), or start the outer container with \
                --privileged";
    }
    if step == NAMESPACES && is(Errno::PERM) {
        return "the server needs root with CAP_SYS_ADMIN: run it as root, or start its container \
                with --privileged";
    }
    if step == IDMAP && (is(Errno::INVAL) || is(Errno::NOSYS)) {
        return "this kernel or file system has no id-mapped mounts: put the data directory on \
                ext4, XFS or btrfs, kernel 5.19 or later";
    }
    if step == DISK && is(Errno::BUSY) {
        return "another sandbox of that name has not let go of its disk yet: try again";
    }
    if step == DISK {
        return "this host has no loop devices for the server, or no ext4: modprobe loop ext4, give an \
                outer container /dev/loop-control and /dev/loop*, or set `sandbox.disk = \"soft\"`";
    }
    if step == OVERLAY && is(Errno::INVAL) {
        return "overlayfs refuses this data directory (often because it is itself on an overlay, \
                as in a container): put the data directory on a volume";
    }
    if step == OVERLAY && is(Errno::NODEV) {
        return "this kernel has no overlayfs: modprobe overlay";
    }
    if step == PROC && is(Errno::PERM) {
        return "an outer container masks /proc: start it with --privileged, or with \
                --security-opt systempaths=unconfined";
    }
    if step == GROUPS {
        return "the cgroups that worked when the server started refuse now: did something take them \
                away or change them? Restart the server to look again";
    }
    if step == LISTEN {
        return "the data directory's file system has no sockets: put it on a local one";
    }
    if step == STEER {
        return "one of two is needed: the kernel's sk_lookup (Linux 5.9 or later, CAP_BPF and CAP_NET_ADMIN, \
                bpf(2) not forbidden by an outer container or lockdown), or tproxy of nf_tables (modprobe \
                nf_tables nft_tproxy); or set `egress.enabled = false`: then sandboxes have no network";
    }
    if step == RUNSC {
        return "is `runsc` there, static and executable? apt install runsc";
    }
    if step == SECCOMP {
        return "the kernel needs CONFIG_SECCOMP_FILTER";
    }
    if is(Errno::PERM) || is(Errno::ACCESS) {
        return "the server lacks a right for this step: run it as root with all capabilities";
    }
    if is(Errno::NOSYS) {
        return "this kernel, or an outer container's seccomp filter, lacks a system call: Linux \
                5.19 or later, outer container with --privileged";
    }
    "see the errno; `longhand doctor` tries every step by itself"
}

pub(crate) const USER_NAMESPACE: &str = "make the user namespace";
pub(crate) const NAMESPACES: &str = "make the namespaces";
pub(crate) const IDMAP: &str = "map the ids of a volume";
pub(crate) const DISK: &str = "attach the sandbox's own disk";
pub(crate) const OVERLAY: &str = "mount the root overlay";
pub(crate) const PROC: &str = "mount /proc";
pub(crate) const GROUPS: &str = "limit the sandbox by cgroups";
pub(crate) const LISTEN: &str = "listen for the next server";
pub(crate) const RUNSC: &str = "start runsc";
pub(crate) const SECCOMP: &str = "install the seccomp filter";
