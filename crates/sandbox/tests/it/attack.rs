//! Attacks from inside on files, processes and rights. Each asserts the precise refusal.

use sandbox::Tool;
use serde_json::json;

use crate::support::{bash, call, host, ok, python, text};

#[tokio::test]
async fn no_file_of_the_host_outside_usr_can_be_read() {
    let host = host();
    std::fs::write(host.path("secret"), "secret").unwrap();
    let sandbox = host.attach("read").await;
    let secret = host.path("secret").display().to_string();
    for path in [
        secret.as_str(),
        "/etc/shadow",
        "/etc/ssl/private",
        "/boot",
        "/sys",
        "/var/lib/dpkg",
        "/root/.ssh",
        "/dev/vda",
        "/dev/sda",
        "/dev/kmsg",
        "/dev/mem",
    ] {
        let output = bash(&sandbox, &format!("LC_ALL=C ls -d {path} 2>&1")).await;
        assert_eq!(
            text(&output),
            format!("ls: cannot access '{path}': No such file or directory")
        );
    }
    let host_id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    assert_ne!(ok(&sandbox, "cat /etc/machine-id").await, host_id.trim());
}

#[tokio::test]
async fn no_name_on_the_way_to_the_sessions_directories_can_be_moved() {
    let host = host();
    let sandbox = host.attach("ways").await;
    // The next start would otherwise find there what the sandbox has put in its place. What the template has is not
    // renamed by overlayfs (EXDEV), and what is mounted by nobody (EBUSY).
    let tried = "python3 -c \"
import os
for way in '/mnt/session', '/mnt/session/outputs', '/workspace', '/mnt':
    try: os.rename(way, '/opt/away'); print('moved')
    except OSError as error: print(error.errno)\"";
    let [busy, other] = [libc::EBUSY, libc::EXDEV];
    assert_eq!(
        ok(&sandbox, tried).await,
        format!("{other}\n{busy}\n{busy}\n{other}")
    );
}

#[tokio::test]
async fn usr_is_the_hosts_read_only_without_set_id_and_only_what_everybody_may_read() {
    let host = host();
    let sandbox = host.attach("usr").await;
    let program = "s = os.statvfs('/usr'); print(s.f_flag & os.ST_RDONLY, s.f_flag & os.ST_NOSUID, s.f_flag & os.ST_NODEV)\n\
        print(os.stat('/usr').st_uid)\n\
        print(tried(lambda: os.chmod('/usr', 0o700)), tried(lambda: open('/usr/bin/x', 'w')))\n";
    assert_eq!(python(&sandbox, program).await, "1 2 4\n65534\nEROFS EROFS");
}

#[tokio::test]
async fn pid_1_cannot_be_looked_into_traced_or_killed() {
    let host = host();
    let sandbox = host.attach("pid1").await;
    let program = "for name in ['root', 'cwd', 'exe']: print(name, tried(lambda: os.readlink('/proc/1/' + name)))\n\
        for name in ['environ', 'maps', 'mem', 'auxv', 'stack', 'syscall']: print(name, tried(lambda: open('/proc/1/' + name, 'rb').read(1)))\n\
        print('fd', tried(lambda: os.listdir('/proc/1/fd')), 'ns', tried(lambda: os.readlink('/proc/1/ns/pid')))\n\
        print('attach', call(101, 16, 1, 0, 0), 'seize', call(101, 0x4206, 1, 0, 0))\n\
        os.kill(1, 9); os.kill(1, 15); os.kill(1, 19)\n\
        fd = os.pidfd_open(1); print('getfd', call(438, fd, 3, 0))\n\
        print('readv', call(310, 1, 0, 0, 0, 0, 0))\n";
    let seen = python(&sandbox, program).await;
    let wanted = "root EACCES\ncwd EACCES\nexe EACCES\nenviron EACCES\nmaps EACCES\nmem EACCES\nauxv EACCES\nstack EACCES\nsyscall EPERM\nfd EACCES ns EACCES\nattach EPERM seize EPERM\ngetfd EPERM\nreadv EPERM";
    assert_eq!(
        seen.replace("stack EPERM", "stack EACCES")
            .replace("syscall EACCES", "syscall EPERM"),
        wanted
    );
    assert_eq!(ok(&sandbox, "echo alive").await, "alive");
}

#[tokio::test]
async fn only_processes_of_the_sandbox_are_visible_and_no_environment_of_the_host() {
    let host = host();
    let sandbox = host.attach("procs").await;
    let seen = ok(
        &sandbox,
        "for p in /proc/[0-9]*; do read c < $p/comm; echo $p $c; done",
    )
    .await;
    assert_eq!(
        seen.lines()
            .map(|line| line.split(' ').nth(1).unwrap())
            .collect::<Vec<_>>(),
        ["hand", "bash"]
    );
    let environments = ok(
        &sandbox,
        "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'",
    )
    .await;
    assert!(
        !environments.contains("CARGO") && !environments.contains("NEXTEST"),
        "{environments}"
    );
}

#[tokio::test]
async fn descriptors_of_the_server_do_not_leak() {
    let host = host();
    let sandbox = host.attach("fds").await;
    let seen = python(
        &sandbox,
        "print(sorted(os.listdir('/proc/self/fd'), key=int))",
    )
    .await;
    // The last one is the listing itself.
    assert_eq!(seen, "['0', '1', '2', '3']");
    let targets = ok(
        &sandbox,
        "for f in /proc/self/fd/[012]; do readlink $f | sed 's/:.*//; s/[.][0-9]*$//'; done",
    )
    .await;
    // The pipe to sed, and the command's own.
    assert_eq!(targets, "/dev/null\npipe\n/run/longhand-output");
}

#[tokio::test]
async fn rights_are_exactly_those_of_the_list() {
    let host = host();
    let sandbox = host.attach("rights").await;
    let seen = ok(
        &sandbox,
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -s '\\t\\n' ' '",
    )
    .await;
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
    assert_eq!(
        seen,
        "CapInh: 0000000000000000 CapPrm: 00000000800405fb CapEff: 00000000800405fb CapBnd: 00000000800405fb CapAmb: 0000000000000000 NoNewPrivs: 1 Seccomp: 2 "
    );
    let map = ok(&sandbox, "cat /proc/self/uid_map").await;
    let fields: Vec<u64> = map
        .split_whitespace()
        .map(|field| field.parse().unwrap())
        .collect();
    assert!(
        fields[0] == 0 && fields[1] >= 0x7000_0000 && fields[2] == 65536,
        "{map}"
    );
}

#[tokio::test]
async fn set_id_programs_give_nothing() {
    let host = host();
    let sandbox = host.attach("setid").await;
    let command = "cp /usr/bin/id ./id && chmod 4755 id && chmod 755 /root && setpriv --reuid 1000 --regid 1000 --clear-groups ./id -u";
    assert_eq!(ok(&sandbox, command).await, "1000");
    let seen = ok(
        &sandbox,
        "setpriv --reuid 1000 --regid 1000 --clear-groups grep CapEff /proc/self/status",
    )
    .await;
    assert_eq!(seen, "CapEff:\t0000000000000000");
    if std::path::Path::new("/usr/bin/su").exists() {
        let output = bash(
            &sandbox,
            "setpriv --reuid 1000 --regid 1000 --clear-groups su -c 'id -u' 2>&1 </dev/null",
        )
        .await;
        assert!(
            output.is_error && !text(&output).lines().any(|line| line == "0"),
            "{output:?}"
        );
    }
}

#[tokio::test]
async fn kernel_settings_cannot_be_written() {
    let host = host();
    let sandbox = host.attach("sysctl").await;
    let program = "for path in ['sys/kernel/core_pattern', 'sys/kernel/hostname', 'sys/net/ipv4/ip_forward', 'sys/user/max_user_namespaces', 'sys/vm/drop_caches', 'irq/default_smp_affinity']:\n    \
            print(path, tried(lambda: open('/proc/' + path, 'w')))\n\
        print(tried(lambda: open('/proc/sysrq-trigger', 'w')), tried(lambda: os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000')))\n\
        print(tried(lambda: os.stat('/proc/kcore').st_rdev == os.stat('/dev/null').st_rdev), tried(lambda: open('/proc/keys').read() == ''))\n";
    let seen = python(&sandbox, program).await;
    let mut lines = seen.lines();
    for line in lines.by_ref().take(6) {
        assert!(line.ends_with("EROFS"), "{line}");
    }
    // Some kernels have neither; where they are, they are empty or refuse.
    let rest: Vec<_> = lines.collect();
    assert!(
        ["EROFS EACCES", "ENOENT EACCES"].contains(&rest[0]),
        "{seen}"
    );
    assert!(
        ["True True", "ENOENT True", "True ENOENT"].contains(&rest[1]),
        "{seen}"
    );
}

#[tokio::test]
async fn devices_cannot_be_made_or_found() {
    let host = host();
    let sandbox = host.attach("devices").await;
    let program = "import stat\n\
        print(tried(lambda: os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0))), tried(lambda: os.mknod('mem', 0o600 | stat.S_IFCHR, os.makedev(1, 1))))\n\
        os.mkfifo('fine')\n\
        print(sorted(n for n in os.listdir('/dev')))\n\
        print(tried(lambda: open('/dev/x', 'w')))\n";
    assert_eq!(
        python(&sandbox, program).await,
        "EPERM EPERM\n['fd', 'full', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']\nEACCES"
    );
}

#[tokio::test]
async fn chroot_does_not_lead_out() {
    let host = host();
    let sandbox = host.attach("chroot").await;
    // The classic way out of a chroot that is not a root of mounts.
    let program = "os.mkdir('d'); fd = os.open('/', os.O_RDONLY); os.chroot('d'); os.fchdir(fd)\n\
        for _ in range(100): os.chdir('..')\n\
        os.chroot('.'); print(sorted(os.listdir('/')))\n";
    let root = ok(
        &sandbox,
        "python3 -c 'import os; print(sorted(os.listdir(\"/\")))'",
    )
    .await;
    assert_eq!(python(&sandbox, program).await, root);
    assert!(!root.contains("sys") && root.contains("workspace"));
}

#[tokio::test]
async fn the_mount_table_names_no_directory_of_the_layers() {
    let host = host();
    let sandbox = host.attach("mounts").await;
    let seen = ok(&sandbox, "grep ' / / ' /proc/self/mountinfo").await;
    assert!(
        seen.contains("lowerdir=lower,upperdir=rw/upper,workdir=rw/work"),
        "{seen}"
    );
    assert!(seen.contains("nosuid,nodev"), "{seen}");
    // The only one of the three that the kernel prints when it is off, since it is not the default.
    assert!(seen.contains("redirect_dir=nofollow"), "{seen}");
    let others = ok(&sandbox, "awk '{print $5}' /proc/self/mountinfo | grep -v '^/proc/\\|^/dev' | sort -u | tr '\\n' ' '").await;
    assert_eq!(
        others,
        "/ /mnt/session/outputs /mnt/session/uploads /proc /run /run/harness /tmp /usr /workspace "
    );
}

#[tokio::test]
async fn file_tools_do_not_follow_a_link_out_of_their_directories() {
    let host = host();
    let sandbox = host.attach("links").await;
    ok(
        &sandbox,
        "echo text > f; mkdir d; echo inner > d/g; ln -s /etc/passwd file; ln -s /etc dir; ln -s ../etc/passwd up; ln -s /proc/self/root magic; \
         ln -s /etc/new dangling; ln -s /workspace/f inside; ln -s d/g relative; ln -s /workspace/d indir; cp /etc/passwd before",
    )
    .await;
    for path in [
        "file",
        "dir/passwd",
        "up",
        "../etc/passwd",
        "/etc/passwd",
        "/workspace/../etc/passwd",
        "magic/etc/passwd",
        "/proc/self/environ",
        "d/../../etc/passwd",
    ] {
        for (tool, input) in [
            (Tool::Read, json!({"file_path": path})),
            (Tool::Write, json!({"file_path": path, "content": "owned"})),
            (
                Tool::Edit,
                json!({"file_path": path, "old_string": "root", "new_string": "owned", "replace_all": true}),
            ),
        ] {
            let output = call(&sandbox, tool, input).await;
            assert!(output.is_error, "{tool:?} {path}: {output:?}");
            assert!(
                text(&output).contains("outside the directories that file tools may use"),
                "{tool:?} {path}: {output:?}"
            );
        }
    }
    for (path, input) in [
        ("dangling", json!({"file_path": "dangling", "content": "x"})),
        ("dir/new", json!({"file_path": "dir/new", "content": "x"})),
        ("dir/a/b", json!({"file_path": "dir/a/b", "content": "x"})),
    ] {
        assert!(call(&sandbox, Tool::Write, input).await.is_error, "{path}");
    }
    for (tool, input) in [
        (Tool::Glob, json!({"pattern": "*", "path": "dir"})),
        (Tool::Grep, json!({"pattern": "root", "path": "file"})),
    ] {
        assert!(
            text(&call(&sandbox, tool, input).await).contains("outside"),
            "{tool:?}"
        );
    }
    assert_eq!(
        ok(
            &sandbox,
            "cmp before /etc/passwd && ls /etc/new /etc/a 2>&1 | grep -c 'No such'"
        )
        .await,
        "2"
    );
    for (path, content) in [
        ("inside", "text\n"),
        ("relative", "inner\n"),
        ("indir/g", "inner\n"),
        ("d/../f", "text\n"),
    ] {
        let output = call(&sandbox, Tool::Read, json!({"file_path": path})).await;
        assert_eq!(
            (output.is_error, text(&output).as_str()),
            (false, content),
            "{path}"
        );
    }
}
