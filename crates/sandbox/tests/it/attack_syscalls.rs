//! Attacks from inside by raw system calls: what is listed is EPERM, what is unknown ENOSYS.
#![cfg(target_arch = "x86_64")]

use crate::support::{bash, host, ok, python, text};

#[tokio::test]
async fn namespaces_and_mounts_cannot_be_made() {
    let host = host();
    let sandbox = host.attach("mount").await;
    let program = "p = ctypes.c_char_p\n\
        print('mount', call(165, p(b'tmpfs'), p(b'/tmp'), p(b'tmpfs'), 0, 0), 'remount', call(165, 0, p(b'/usr'), 0, 32, 0), 'umount', call(166, p(b'/usr'), 2))\n\
        print('pivot', call(155, p(b'.'), p(b'.')), 'open_tree', call(428, -100, p(b'/'), 1), 'fsopen', call(430, p(b'tmpfs'), 0), 'setattr', call(442, -100, p(b'/usr'), 0, 0, 0), 'move', call(429, 0, 0, 0, 0, 0), 'attr', call(467, 0, 0, 0, 0, 0))\n\
        print('statmount', call(457, 0, 0, 0, 0), call(458, 0, 0, 0, 0))\n\
        for flag in [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]: print(hex(flag), call(272, flag), call(56, flag | 17, 0, 0, 0, 0))\n\
        print('setns', call(308, os.open('/proc/self/ns/user', 0), 0), 'clone3', call(435, 0, 0))\n";
    let mut wanted = "mount EPERM remount EPERM umount EPERM\npivot EPERM open_tree EPERM fsopen EPERM setattr EPERM move EPERM attr EPERM\nstatmount EPERM EPERM\n".to_owned();
    for flag in [
        "0x20000",
        "0x2000000",
        "0x4000000",
        "0x8000000",
        "0x10000000",
        "0x20000000",
        "0x40000000",
    ] {
        wanted += &format!("{flag} EPERM EPERM\n");
    }
    wanted += "setns EPERM clone3 ENOSYS";
    assert_eq!(python(&sandbox, program).await, wanted);
    let output = bash(&sandbox, "unshare -Ur true 2>&1").await;
    assert!(
        output.is_error && text(&output).contains("Operation not permitted"),
        "{output:?}"
    );
}

#[tokio::test]
async fn the_kernels_risky_parts_are_refused() {
    let host = host();
    let sandbox = host.attach("risky").await;
    let program = "b = ctypes.create_string_buffer(256)\n\
        for name, number in dict(bpf=321, perf=298, userfaultfd=323, io_uring_setup=425, io_uring_enter=426, io_uring_register=427, keyctl=250, add_key=248, request_key=249, open_by_handle_at=304, name_to_handle_at=303, vm_readv=310, vm_writev=311, kcmp=312, quotactl=179, quotactl_fd=443, fanotify=300, acct=163, reboot=169, swapon=167, sethostname=170, init_module=175, finit_module=313, kexec=246, syslog=103, iopl=172, ioperm=173, modify_ldt=154, settimeofday=164, clock_settime=227, pidfd_getfd=438, uselib=134).items():\n    \
            print(name, call(number, 0, b, 0, 0, 0, 0))\n";
    for line in python(&sandbox, program).await.lines() {
        assert!(line.ends_with(" EPERM"), "{line}");
    }
}

#[tokio::test]
async fn unknown_x32_and_foreign_calls_do_not_reach_the_kernel() {
    let host = host();
    let sandbox = host.attach("numbers").await;
    let program = "print(call(999), call(600), call(0x40000000 + 39), call(0x40000000 + 165, 0, 0, 0, 0, 0), call(499))\n\
        print(call(135, 0xffffffff), call(135, 0x0400000), call(135, 0x10))\n";
    assert_eq!(
        python(&sandbox, program).await,
        "ENOSYS ENOSYS ENOSYS ENOSYS ENOSYS\n0 EPERM EPERM"
    );
    // mov eax, 20 (getpid of i386); int 0x80; ret
    let program = "import mmap\n\
        m = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('b814000000cd80c3'))\n\
        f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n\
        pid = os.fork()\n\
        if pid == 0: f(); os._exit(0)\n\
        print(os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGSYS)\n";
    assert_eq!(python(&sandbox, program).await, "True");
}

#[tokio::test]
async fn nobody_types_into_a_terminal() {
    let host = host();
    let sandbox = host.attach("tiocsti").await;
    let program = "import fcntl, pty\n\
        m, t = pty.openpty()\n\
        print(tried(lambda: fcntl.ioctl(t, 0x5412, b'x')), tried(lambda: fcntl.ioctl(t, 0x541C, b'x')))\n\
        print(call(16, t, 0x5412 | 1 << 32, ctypes.c_char_p(b'x')))\n";
    assert_eq!(python(&sandbox, program).await, "EPERM EPERM\nEPERM");
}

#[tokio::test]
async fn line_disciplines_and_pairs_beyond_unix_are_refused() {
    let host = host();
    let sandbox = host.attach("pairs").await;
    let program = "import fcntl, pty\n\
        m, t = pty.openpty()\n\
        print(tried(lambda: fcntl.ioctl(t, 0x5423, struct.pack('i', 0))))\n\
        b = (ctypes.c_int * 2)()\n\
        print([call(53, family, 1, 0, b) for family in [1, 2, 16, 30, 40]])\n";
    assert_eq!(
        python(&sandbox, program).await,
        "EPERM\n[0, 'EPERM', 'EPERM', 'EPERM', 'EPERM']"
    );
}

#[tokio::test]
async fn the_filter_holds_for_every_descendant() {
    let host = host();
    let sandbox = host.attach("descendants").await;
    let seen = ok(&sandbox, "setsid -w setpriv --reuid 1000 --regid 1000 --clear-groups bash -c 'grep -E \"^Seccomp(_filters)?:\" /proc/self/status | tr -d \"\\t\\n\"; unshare -U true 2>&1'; true").await;
    assert!(
        seen.starts_with("Seccomp:2Seccomp_filters:1") && seen.contains("Operation not permitted"),
        "{seen}"
    );
}
