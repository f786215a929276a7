//! `bench bare DIR`: for each line of its input one bare clone with the namespaces, mounts and a filter of a
//! sandbox, which prints a byte; answers how long that took. One thread; nothing of ours runs in the clone.

use std::ffi::CString;
use std::fs::{File, create_dir, create_dir_all, read_dir, write};
use std::io::{BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, chdir, pivot_root, waitid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use sys::{Forked, clone_process, flags};

use super::PROGRAM;
use crate::Wrong;

/// The first id of the map of the clone.
const BASE: u32 = 2_000_000_000;
/// The calls that may be made, by number: somewhat more than a sandbox may, so the filter is as long.
const CALLS: i64 = 440;

/// Answers until its input ends.
pub(crate) fn serve(dir: &Path) -> Result<(), Wrong> {
    create_dir_all(dir)?;
    for (round, line) in std::io::stdin().lock().lines().enumerate() {
        line?;
        let home = dir.join(round.to_string());
        let begun = Instant::now();
        for name in ["upper", "work", "root", "a", "b", "c"] {
            create_dir_all(home.join(name))?;
        }
        let (pid, pidfd, mut output) = clone(&home)?;
        let mut byte = [0];
        output.read_exact(&mut byte)?;
        let took = begun.elapsed();
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{}", took.as_nanos())?;
        stdout.flush()?;
        let _ = (pid, std::fs::remove_dir_all(home));
    }
    Ok(())
}

fn clone(home: &Path) -> Result<(i32, OwnedFd, File), Wrong> {
    let (output, output_tx) = pipe_with(PipeFlags::CLOEXEC)?;
    let (go_rx, go) = pipe_with(PipeFlags::CLOEXEC)?;
    let all = flags::NEWUSER
        | flags::NEWNS
        | flags::NEWPID
        | flags::NEWNET
        | flags::NEWIPC
        | flags::NEWUTS;
    match clone_process(all, None)? {
        Forked::Child => {
            drop(go);
            let error = become_program(home, &go_rx, &output_tx);
            eprintln!("bare: {error:?}");
            std::process::exit(1)
        }
        Forked::Parent { pid, pidfd } => {
            let pid = pid.as_raw_nonzero().get();
            let map = format!("0 {BASE} 65536");
            write(format!("/proc/{pid}/uid_map"), &map)?;
            write(format!("/proc/{pid}/gid_map"), &map)?;
            File::from(go).write_all(b"g")?;
            drop(output_tx);
            Ok((pid, pidfd, File::from(output)))
        }
    }
}

fn become_program(home: &Path, go: &OwnedFd, output: &OwnedFd) -> Result<(), Wrong> {
    rustix::io::read(go, &mut [0])?;
    rustix::thread::set_thread_res_gid(
        rustix::thread::Gid::ROOT,
        rustix::thread::Gid::ROOT,
        rustix::thread::Gid::ROOT,
    )?;
    rustix::thread::set_thread_res_uid(
        rustix::thread::Uid::ROOT,
        rustix::thread::Uid::ROOT,
        rustix::thread::Uid::ROOT,
    )?;
    mounts(home)?;
    let program = open(PROGRAM[0], OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let rules = (0..CALLS).map(|call| (call, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Errno(38), SeccompAction::Allow, arch)?;
    let filter: BpfProgram = filter.try_into()?;
    apply_filter(&filter)?;
    let argv = PROGRAM
        .map(CString::new)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let standard = [null.as_fd(), output.as_fd(), null.as_fd()];
    Err(sys::exec_fd(program.as_fd(), &argv, &[], standard).into())
}

/// As many mounts, of the same kinds, as a sandbox has.
fn mounts(home: &Path) -> Result<(), Wrong> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    // Whoever mounts the overlay has to own its upper layer: here a layer in memory stands for it.
    mount("tmpfs", home, "tmpfs", plain, None)?;
    chdir(home)?;
    for name in ["lower", "upper", "work", "root"] {
        create_dir(name)?;
    }
    for name in [
        "usr",
        "dev",
        "proc",
        "tmp",
        "run",
        "workspace",
        "outputs",
        "uploads",
    ] {
        create_dir(format!("lower/{name}"))?;
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), format!("lower/{name}"))?;
    }
    let options = c"lowerdir=lower,upperdir=upper,workdir=work,userxattr";
    mount("overlay", "root", "overlay", plain, options)?;
    mount_bind_recursive("/usr", "root/usr")?;
    mount_remount(
        "root/usr",
        MountFlags::BIND | MountFlags::RDONLY | plain,
        "",
    )?;
    devices()?;
    below_proc()?;
    for name in ["tmp", "run", "workspace", "outputs", "uploads"] {
        mount("tmpfs", format!("root/{name}"), "tmpfs", plain, None)?;
    }
    chdir("root")?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(())
}

fn devices() -> Result<(), Wrong> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "root/dev", "tmpfs", plain, None)?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let to = format!("root/dev/{name}");
        File::create(&to)?;
        mount_bind(format!("/dev/{name}"), &to)?;
    }
    create_dir("root/dev/pts")?;
    create_dir("root/dev/shm")?;
    mount(
        "devpts",
        "root/dev/pts",
        "devpts",
        MountFlags::NOSUID,
        c"newinstance",
    )?;
    mount("tmpfs", "root/dev/shm", "tmpfs", plain, None)?;
    Ok(())
}

fn below_proc() -> Result<(), Wrong> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    mount(
        "proc",
        "root/proc",
        "proc",
        plain | MountFlags::NOEXEC,
        None,
    )?;
    for name in ["sys", "irq", "bus", "fs"] {
        let at = format!("root/proc/{name}");
        if read_dir(&at).is_ok() {
            mount_bind(&at, &at)?;
        }
    }
    for name in ["kcore", "keys", "timer_list", "kallsyms"] {
        let at = format!("root/proc/{name}");
        if File::open(&at).is_ok() || Path::new(&at).exists() {
            mount_bind("/dev/null", &at)?;
        }
    }
    Ok(())
}
