//! Attacks through system calls: mounts, namespaces, and parts of the kernel that have often been a way out.

use super::defence::Defence::{
    Capabilities, CgroupNamespace, NoUserNamespaces, Seccomp, UserNamespace,
};
use super::stage::Stage;

cases! {
    file_system_is_mounted {
        tries: "mount a file system over `/usr`",
        stage: Stage::Nothing,
        attack: "t = ctypes.c_char_p(b'tmpfs'); print(done(call(165, t, ctypes.c_char_p(b'/usr'), t, 0, 0)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    cover_of_proc_is_removed {
        tries: "unmount what covers `/proc/kallsyms`",
        stage: Stage::Nothing,
        attack: "print(done(call(166, ctypes.c_char_p(b'/proc/kallsyms'), 2)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    release_agent_is_opened {
        tries: "mount the hierarchy of cgroups and open `release_agent`, a program that the host runs as root",
        stage: Stage::Nothing,
        attack: "os.mkdir('/tmp/cg'); t = ctypes.c_char_p(b'cgroup')\n\
            mounted = call(165, t, ctypes.c_char_p(b'/tmp/cg'), t, 0, ctypes.c_char_p(b'memory'))\n\
            print(mounted if isinstance(mounted, str) else opened('/tmp/cg/release_agent', os.O_WRONLY))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM"), (CgroupNamespace, "ENOENT")],
        reached: "opened",
        optional: true,
    }
    root_is_pivoted {
        tries: "pivot_root to a file system of its own",
        stage: Stage::Nothing,
        attack: "os.chdir('/tmp'); dot = ctypes.c_char_p(b'.'); print(done(call(155, dot, dot)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    tree_is_cloned {
        tries: "clone the mounts by open_tree",
        stage: Stage::Nothing,
        attack: "print(done(call(428, -100, ctypes.c_char_p(b'/'), 1)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    user_namespace_is_made {
        tries: "make a user namespace, in which it would have all capabilities",
        stage: Stage::Nothing,
        attack: "print(done(call(272, 0x10000000)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (NoUserNamespaces, "ENOSPC")],
        reached: "done",
    }
    mount_namespace_is_made {
        tries: "make a mount namespace",
        stage: Stage::Nothing,
        attack: "print(done(call(272, 0x20000)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    net_namespace_is_made_by_clone {
        tries: "start a process in a network namespace that it owns",
        stage: Stage::Nothing,
        attack: "pid = call(56, 0x40000000 | 17, 0, 0, 0, 0)\n\
            if pid == 0: os._exit(0)\n\
            print(done(pid))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    namespace_is_entered {
        tries: "enter a namespace by its descriptor",
        stage: Stage::Nothing,
        attack: "print(done(call(308, os.open('/proc/self/ns/uts', 0), 0)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    clone3_hides_its_flags {
        tries: "call clone3, whose flags no filter can see",
        stage: Stage::Nothing,
        attack: "print(call(435, 0, 0))",
        denied: "ENOSYS",
        stops: &[(Seccomp, "ENOSYS")],
        reached: "EINVAL",
    }
    keyring_is_reached {
        tries: "find the user's keyring",
        stage: Stage::Nothing,
        attack: "print(done(call(250, 0, -4, 1)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM")],
        reached: "done",
        optional: true,
    }
    bpf_map_is_made {
        tries: "make a BPF map",
        stage: Stage::Nothing,
        attack: "a = ctypes.create_string_buffer(struct.pack('IIII', 1, 4, 4, 1) + bytes(112)); print(done(call(321, 0, a, 72)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
        optional: true,
    }
    performance_is_counted {
        tries: "open a counter of performance events",
        stage: Stage::Nothing,
        attack: "a = ctypes.create_string_buffer(struct.pack('IIQQQQQ', 1, 128, 0, 0, 0, 0, 0x60) + bytes(80)); print(done(call(298, a, 0, -1, -1, 0)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM")],
        reached: "done",
        optional: true,
    }
    page_faults_are_caught {
        tries: "userfaultfd, which holds the kernel up at a page of its choice",
        stage: Stage::Nothing,
        attack: "print(done(call(323, 1)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM")],
        reached: "done",
        optional: true,
    }
    io_uring_is_set_up {
        tries: "io_uring, which makes calls that no filter sees",
        stage: Stage::Nothing,
        attack: "print(done(call(425, 4, ctypes.create_string_buffer(120))))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM")],
        reached: "done",
        optional: true,
    }
    file_is_opened_by_handle {
        tries: "open a file of the host by a handle that it makes up (as Shocker did)",
        stage: Stage::Nothing,
        attack: "h = ctypes.create_string_buffer(struct.pack('Ii', 120, 0) + bytes(120)); m = ctypes.c_int()\n\
            named = call(303, -100, ctypes.c_char_p(b'/usr'), h, ctypes.byref(m), 0)\n\
            print(named if isinstance(named, str) else done(call(304, os.open('/usr', 0), h, 0)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
        optional: true,
    }
    foreign_call_is_made {
        tries: "make a system call of another architecture (int 0x80)",
        stage: Stage::Nothing,
        // mov eax, 20 (getpid of i386); int 0x80; ret
        attack: "import mmap\n\
            m = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('b814000000cd80c3'))\n\
            f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n\
            pid = os.fork()\n\
            if pid == 0: f(); os._exit(0)\n\
            status = os.waitpid(pid, 0)[1]\n\
            print(signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else 'done')",
        denied: "SIGSYS",
        stops: &[(Seccomp, "SIGSYS")],
        reached: "done",
        optional: true,
    }
    terminal_is_typed_into {
        tries: "push characters into a terminal (TIOCSTI)",
        stage: Stage::Nothing,
        attack: "import fcntl, pty\n\
            os.setsid(); m, t = pty.openpty(); fcntl.ioctl(t, 0x540E, 0)\n\
            print(done(tried(lambda: fcntl.ioctl(t, 0x5412, b'x'))))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM")],
        reached: "done",
        optional: true,
    }
}
