//! Attacks from inside on what limits the sandbox: leaving its groups, changing them, running a program of
//! the host through `release_agent`.

use crate::support::{host, ok, python};

/// Mounts the hierarchies anew, which is where a program for the host to run is named (`release_agent`):
/// the classic way out of a container.
const MOUNTS: &str = "import ctypes, errno, os\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]\n\
    def mounted(kind, options): return 'done' if libc.mount(kind, b'/tmp', kind, 0, options) == 0 else errno.errorcode[ctypes.get_errno()]\n\
    print(mounted(b'cgroup2', None), mounted(b'cgroup', b'memory'))\n";

#[tokio::test]
async fn no_hierarchy_can_be_mounted_and_so_no_release_agent_named() {
    let host = host();
    let sandbox = host.attach("release").await;
    assert_eq!(python(&sandbox, MOUNTS).await, "EPERM EPERM");
    // The same without a sandbox, in a mount namespace that goes with it: it is the sandbox that refuses.
    let outside = std::process::Command::new("unshare")
        .args(["--mount", "python3", "-c", MOUNTS])
        .output()
        .unwrap();
    let outside = String::from_utf8(outside.stdout).unwrap();
    assert!(outside.starts_with("done "), "{outside}");
}

#[tokio::test]
async fn no_file_of_a_cgroup_can_be_seen_from_inside() {
    let host = host();
    let sandbox = host.attach("seen").await;
    let seen = ok(
        &sandbox,
        "ls -d /sys /sys/fs/cgroup 2>/dev/null; grep -c cgroup /proc/self/mountinfo; true",
    )
    .await;
    assert_eq!(seen, "0");
    let program = "print(tried(lambda: os.write(os.open('/proc/self/cgroup', os.O_WRONLY), b'0')), tried(lambda: os.listdir('/sys')))\n";
    assert_eq!(python(&sandbox, program).await, "EINVAL ENOENT");
}

#[tokio::test]
async fn a_process_can_neither_leave_its_groups_nor_be_started_outside_them() {
    let host = host();
    let sandbox = host.attach("leave").await;
    // setns into the group of PID 1, a namespace of its own, clone3 into a group.
    let program = "print(call(272, 0x2000000), call(56, 0x2000000 | 17, 0, 0, 0, 0), call(435, 0, 88))\n\
        print(tried(lambda: os.open('/proc/1/ns/cgroup', 0)), call(308, os.open('/proc/self/ns/cgroup', 0), 0x2000000))\n";
    assert_eq!(
        python(&sandbox, program).await,
        "EPERM EPERM ENOSYS\nEACCES EPERM"
    );
}
