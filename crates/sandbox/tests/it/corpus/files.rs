//! Attacks on the host's files, on those of other sandboxes, on devices and on descriptors.

use super::defence::Defence::{
    Capabilities, CoveredProc, Descriptors, FileTools, HandClosed, HandsGroup, KernelFiles, NoDev,
    NoNewPrivs, NoSuid, OldRoot, ReadOnlyProc, ReadOnlyUsr, UserNamespace,
};
use super::stage::Stage;

cases! {
    host_file_is_read {
        tries: "read a file of the server's through a root that was left mounted under the sandbox's own",
        stage: Stage::Secret,
        attack: "print(tried(lambda: open('/..{secret}').read()))",
        denied: "ENOENT",
        stops: &[(OldRoot, "ENOENT"), (UserNamespace, "EACCES")],
        reached: "secret",
    }
    file_of_another_sandbox_is_read {
        tries: "read the workspace of another sandbox by its path on the host",
        stage: Stage::Neighbour,
        attack: "print(tried(lambda: open('/..{secret}').read()))",
        denied: "ENOENT",
        stops: &[(OldRoot, "ENOENT"), (UserNamespace, "EACCES")],
        reached: "secret",
    }
    socket_of_the_host_is_reached {
        tries: "connect to a Unix socket of the host by its path, as one would to a container engine's",
        stage: Stage::Socket,
        attack: "print(done(tried(lambda: socket.socket(socket.AF_UNIX).connect('/..{socket}'))))",
        denied: "ENOENT",
        stops: &[(OldRoot, "ENOENT"), (UserNamespace, "EACCES")],
        reached: "done",
    }
    chroot_is_left {
        tries: "the classic way out of a chroot: a descriptor of `/`, a chroot, a hundred times `..`",
        stage: Stage::Nothing,
        attack: "os.chdir('/tmp'); os.mkdir('d'); fd = os.open('/', os.O_RDONLY); os.chroot('d'); os.fchdir(fd)\n\
            for _ in range(100): os.chdir('..')\n\
            os.chroot('.'); print(done(tried(lambda: os.stat('/sys/kernel'))))",
        denied: "ENOENT",
        stops: &[(OldRoot, "ENOENT")],
        reached: "done",
    }
    setting_in_sys_is_opened_for_writing {
        tries: "open a kernel setting below the host's `/sys` for writing",
        stage: Stage::Nothing,
        attack: "print(opened('/../sys/kernel/rcu_expedited', os.O_WRONLY))",
        denied: "ENOENT",
        stops: &[(OldRoot, "ENOENT"), (UserNamespace, "EACCES")],
        reached: "opened",
    }
    core_pattern_is_opened_for_writing {
        tries: "open `core_pattern`, which names a program that the kernel starts as root of the host",
        stage: Stage::Nothing,
        attack: "print(opened('/proc/sys/kernel/core_pattern', os.O_WRONLY))",
        denied: "EACCES",
        stops: &[(ReadOnlyProc, "EROFS"), (UserNamespace, "EACCES")],
        reached: "opened",
    }
    kernel_symbols_are_read {
        tries: "read the list of the kernel's symbols",
        stage: Stage::Nothing,
        attack: "print('EOF' if open('/proc/kallsyms').read(64) == '' else 'read')",
        denied: "EOF",
        stops: &[(CoveredProc, "EOF")],
        reached: "read",
    }
    program_of_the_host_is_opened_for_writing {
        tries: "open a program below the host's `/usr` for writing",
        stage: Stage::Nothing,
        attack: "print(opened('/usr/bin/tac', os.O_WRONLY))",
        denied: "EACCES",
        stops: &[(ReadOnlyUsr, "EROFS"), (UserNamespace, "EACCES")],
        reached: "opened",
    }
    device_is_made_and_opened {
        tries: "make a device node of its own and open it",
        stage: Stage::Nothing,
        attack: "import stat\n\
            print(done(tried(lambda: os.mknod('/tmp/full', 0o600 | stat.S_IFCHR, os.makedev(1, 7)))) if not os.path.exists('/tmp/full') else '', end='')\n\
            print('' if not os.path.exists('/tmp/full') else ' ' + opened('/tmp/full', os.O_WRONLY))",
        denied: "EPERM",
        stops: &[(UserNamespace, "EPERM"), (Capabilities, "EPERM"), (NoDev, "done EACCES")],
        reached: "done opened",
    }
    set_id_program_on_a_volume_is_run {
        tries: "run a set-id program, planted in the workspace, as another user",
        stage: Stage::SetId,
        attack: "import subprocess\n\
            command = 'setpriv --reuid 1000 --regid 1000 --clear-groups /workspace/id -u'\n\
            print(subprocess.run(command.split(), capture_output=True, text=True).stdout.strip())",
        denied: "1000",
        stops: &[(NoSuid, "1000"), (NoNewPrivs, "1000")],
        reached: "0",
    }
    descriptor_of_the_server_is_inherited {
        tries: "read a file that the server has open and did not mark close-on-exec",
        stage: Stage::Open,
        attack: "read = [tried(lambda: os.pread(fd, 6, 0)) for fd in range(3, 64)]\n\
            print('secret' if b'secret' in read else ' '.join(sorted(set(map(str, read)))))",
        denied: "EBADF",
        stops: &[(Descriptors, "EBADF")],
        reached: "secret",
    }
    file_tools_are_led_astray {
        tries: "exchange a directory and a link to a place outside while the file tools write below it",
        stage: Stage::Race,
        attack: "print(done(tried(lambda: os.stat('/root/outside/f'))))",
        denied: "ENOENT",
        stops: &[(FileTools, "ENOENT")],
        reached: "done",
    }
    copy_is_led_to_the_memory_of_the_hand {
        tries: "exchange a directory and a link to `/proc/self` while files are copied out of it (`sandbox cp`)",
        stage: Stage::CopyOut,
        attack: "print(done(tried(lambda: os.stat('/workspace/got'))))",
        denied: "ENOENT",
        stops: &[(KernelFiles, "ENOENT")],
        reached: "done",
    }
    image_of_the_helper_is_opened {
        tries: "open the program that PID 1 runs, `/proc/1/exe`, to write to what later sandboxes start from",
        stage: Stage::Nothing,
        attack: "print(opened('/proc/1/exe', os.O_PATH))",
        denied: "EACCES",
        stops: &[(HandClosed, "EACCES"), (HandsGroup, "EACCES")],
        reached: "opened",
    }
}
