//! Attacks on processes, on what a sandbox may use, and on names that the host shares out.

use super::defence::Defence::{
    Capabilities, CgroupNamespace, Groups, HandClosed, HandsGroup, IpcNamespace, Limits, OomScore,
    PidNamespace, Seccomp, UserNamespace, UtsNamespace,
};
use super::stage::Stage;

cases! {
    process_of_the_host_is_seen {
        tries: "find a process of the host in `/proc`",
        stage: Stage::Process,
        attack: "print(done(tried(lambda: os.stat('/proc/{pid}'))))",
        denied: "ENOENT",
        stops: &[(PidNamespace, "ENOENT")],
        reached: "done",
    }
    process_of_the_host_is_signalled {
        tries: "signal a process of the host by its number",
        stage: Stage::Process,
        attack: "print(done(tried(lambda: os.kill({pid}, 0))))",
        denied: "ESRCH",
        stops: &[(PidNamespace, "ESRCH"), (UserNamespace, "EPERM")],
        reached: "done",
    }
    process_of_the_host_is_traced {
        tries: "attach to a process of the host as a debugger",
        stage: Stage::Process,
        attack: "print(done(call(101, 0x4206, {pid}, 0, 0)))",
        denied: "ESRCH",
        stops: &[(PidNamespace, "ESRCH"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    hand_is_traced {
        tries: "attach to PID 1 of the sandbox, which speaks with the server, as a debugger",
        stage: Stage::Nothing,
        attack: "print(done(call(101, 0x4206, 1, 0, 0)))",
        denied: "EPERM",
        stops: &[(HandClosed, "EPERM"), (HandsGroup, "EPERM")],
        reached: "done",
    }
    memory_of_the_hand_is_opened {
        tries: "open the memory of PID 1",
        stage: Stage::Nothing,
        attack: "print(opened('/proc/1/mem', os.O_RDWR))",
        denied: "EACCES",
        stops: &[(HandClosed, "EACCES"), (HandsGroup, "EACCES")],
        reached: "opened",
    }
    socket_of_the_hand_is_taken {
        tries: "take the socket on which PID 1 speaks with the server",
        stage: Stage::Nothing,
        attack: "print(done(call(438, os.pidfd_open(1), 3, 0)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (HandClosed, "EPERM"), (HandsGroup, "EPERM")],
        reached: "done",
    }
    memory_of_the_hand_is_written {
        tries: "write to the memory of PID 1 by process_vm_writev",
        stage: Stage::Nothing,
        attack: "held = ctypes.create_string_buffer(8); here = (ctypes.c_ulong * 2)(ctypes.addressof(held), 8); there = (ctypes.c_ulong * 2)(0, 8)\n\
            print(call(311, 1, here, 1, there, 1, 0))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (HandClosed, "EPERM"), (HandsGroup, "EPERM")],
        reached: "EFAULT",
    }
    limits_of_the_hand_are_lowered {
        tries: "lower how many processes PID 1 may have, by the number of one of its threads",
        stage: Stage::Nothing,
        attack: "few = (ctypes.c_ulong * 2)(5, 5); thread = sorted(map(int, os.listdir('/proc/1/task')))[1]\n\
            print(done(call(302, thread, 6, few, 0)))",
        denied: "EPERM",
        stops: &[(HandsGroup, "EPERM")],
        reached: "done",
    }
    first_process_has_no_limits {
        tries: "find PID 1 without the limits that hold for all that it starts",
        stage: Stage::Nothing,
        attack: "lines = [line for line in open('/proc/1/limits') if line.startswith('Max core file size')]\n\
            print('limited' if lines[0].split()[4:6] == ['1', '1'] else 'unlimited')",
        denied: "limited",
        stops: &[(Limits, "limited")],
        reached: "unlimited",
    }
    processes_are_made_without_end {
        tries: "fork more processes than the sandbox may have",
        stage: Stage::Nothing,
        attack: "children, end = [], 'all'\n\
            while len(children) < 500:\n    \
                try: pid = os.fork()\n    \
                except OSError as e: end = errno.errorcode[e.errno]; break\n    \
                if pid == 0: signal.pause()\n    \
                children.append(pid)\n\
            for pid in children: os.kill(pid, 9)\n\
            for pid in children: os.waitpid(pid, 0)\n\
            print(end)",
        denied: "EAGAIN",
        stops: &[(Limits, "EAGAIN"), (Groups, "EAGAIN")],
        reached: "all",
    }
    memory_is_taken_without_end {
        tries: "take more memory than the sandbox may have",
        stage: Stage::Nothing,
        attack: "pid = os.fork()\n\
            if pid == 0: held = bytearray(b'x') * (400 << 20); os._exit(0)\n\
            status = os.waitpid(pid, 0)[1]\n\
            print(signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else 'taken')",
        denied: "SIGKILL",
        stops: &[(Groups, "SIGKILL")],
        reached: "taken",
    }
    memory_of_the_host_is_spared_last {
        tries: "be ended no sooner than the server when the host's memory is short",
        stage: Stage::Nothing,
        attack: "print('first' if int(open('/proc/1/oom_score_adj').read()) >= 500 else 'as late')",
        denied: "first",
        stops: &[(OomScore, "first")],
        reached: "as late",
    }
    shared_memory_of_the_host_is_attached {
        tries: "attach a segment of shared memory of the host that everybody may read",
        stage: Stage::Segment,
        attack: "print(done(call(30, {segment}, 0, 0o10000)))",
        denied: "EINVAL",
        stops: &[(IpcNamespace, "EINVAL")],
        reached: "done",
    }
    name_of_the_host_is_read {
        tries: "read the host's name",
        stage: Stage::Nothing,
        attack: "print(os.uname().nodename)",
        denied: "sandbox",
        stops: &[(UtsNamespace, "sandbox")],
        reached: "{hostname}",
    }
    name_is_changed {
        tries: "change the host name",
        stage: Stage::Nothing,
        attack: "print(done(call(170, ctypes.c_char_p(b'owned'), 5)))",
        denied: "EPERM",
        stops: &[(Seccomp, "EPERM"), (UserNamespace, "EPERM"), (Capabilities, "EPERM")],
        reached: "done",
    }
    place_among_cgroups_is_read {
        tries: "read where in the host's cgroups it is",
        stage: Stage::Nothing,
        attack: "print('seen' if 'longhand-' in open('/proc/self/cgroup').read() else 'hidden')",
        denied: "hidden",
        stops: &[(CgroupNamespace, "hidden")],
        reached: "seen",
    }
}
