//! Owns what differs where gVisor's kernel, and not the host's, serves what runs in a sandbox: the directory that its
//! `runsc` is given to look at, the words that it is told, and the last steps before it. It serves no system call.
//!
//! Everything around it is what every sandbox has: namespaces, groups, the network, the files, a supervisor. `runsc` is
//! PID 1 there, as root of the sandbox's own user namespace and of nothing on the host, and sees of the host's files
//! only those of the sandbox and itself. What it starts sees less: that is gVisor's own doing.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::{Value, json};

use crate::attached::{self, attach_at};
use crate::error::{During, Result};
use crate::mounts::{self, BIND_PROGRAMS, BIND_USR, BIND_VOLUME, RUN, SHM, TMP, Trees, attach};
use crate::plan::{Gvisor, PROGRAMS, Plan, STATE};
use crate::privileges::{MAX_FILES, as_mapped_root};
use crate::seccomp;

const STAGE: &str = "stage what runsc sees";
const BIND_RUNSC: &str = "bind runsc";
/// Where `runsc` finds what it needs, below the root that it sees.
const PROGRAM: &str = "runsc";
const BUNDLE: &str = "bundle";
const RECORDS: &str = "records";
/// The hand, below the root that `runsc` sees, and in the sandbox.
const HAND: &str = "hand";
const HAND_INSIDE: &str = "/run/longhand-hand";
/// What the sandbox is called there: there is only one.
const NAME: &str = "sandbox";
/// Bytes of the file system in memory that holds the hand and what `runsc` notes for itself.
const STAGE_BYTES: &str = "16m";
/// As [`crate::privileges`] has them.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
];

/// The options of the file system in which everything is staged.
pub(crate) fn stage_options(plan: &Plan) -> String {
    format!("mode=755,size={STAGE_BYTES},uid={0},gid={0}", plan.id_base)
}

/// Completes the staged directory, which is the working one and has the sandbox's files in `root`, and makes it `/`.
/// Returns `/proc/sys` as in [`mounts::build`], and `runsc`, open.
pub(crate) fn build(
    plan: &Plan,
    gvisor: &Gvisor,
    trees: &Trees,
    volumes: &[OwnedFd],
) -> Result<(OwnedFd, OwnedFd)> {
    for name in [BUNDLE, RECORDS, HAND, "tmp", "proc", "dev"] {
        fs::create_dir(name).during(STAGE)?;
        chown(name, Some(plan.id_base), Some(plan.id_base)).during(STAGE)?;
    }
    fs::copy("/proc/self/exe", Path::new(HAND).join(HAND)).during(STAGE)?;
    let everybodys = Permissions::from_mode(0o755);
    fs::set_permissions(Path::new(HAND).join(HAND), everybodys).during(STAGE)?;
    let bound = binds(plan, trees, volumes)?;
    let words = serde_json::to_vec(&words(plan, &bound)).map_err(io::Error::from);
    fs::write(Path::new(BUNDLE).join("config.json"), words.during(STAGE)?).during(STAGE)?;
    mounts::fill_devices(trees)?;
    let settings = mounts::open_proc()?;
    File::create(PROGRAM).during(BIND_RUNSC)?;
    let program = mounts::take(&gvisor.program, &mounts::PROGRAM, BIND_RUNSC)?;
    attach(&program, PROGRAM).during(BIND_RUNSC)?;
    // What the root is made of is seen through the root only.
    for name in mounts::parts(plan) {
        unmount(&*name, UnmountFlags::DETACH).during(STAGE)?;
    }
    mounts::pivot()?;
    let program = rustix::fs::open(
        format!("/{PROGRAM}"),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    );
    Ok((settings, program.during(BIND_RUNSC)?))
}

/// What is to be bound from outside of the sandbox's root, and where it appears.
struct Bound {
    from: String,
    to: String,
    read_only: bool,
}

/// Binds what the sandbox's root holds, and keeps aside what belongs into `/run`, which gVisor makes itself.
fn binds(plan: &Plan, trees: &Trees, volumes: &[OwnedFd]) -> Result<Vec<Bound>> {
    let mut bound = vec![Bound {
        from: format!("/{HAND}"),
        to: HAND_INSIDE.to_owned(),
        read_only: true,
    }];
    if let Some(programs) = &trees.programs {
        fs::create_dir("programs").during(BIND_PROGRAMS)?;
        attach(programs, "programs").during(BIND_PROGRAMS)?;
        bound.push(Bound {
            from: "/programs".to_owned(),
            to: format!("/{PROGRAMS}"),
            read_only: true,
        });
    }
    for (volume, tree) in plan.volumes.iter().zip(volumes) {
        if volume.target == Path::new(STATE) {
            fs::create_dir("state").during(BIND_VOLUME)?;
            attach(tree, "state").during(BIND_VOLUME)?;
            bound.push(Bound {
                from: "/state".to_owned(),
                to: format!("/{STATE}"),
                read_only: volume.read_only,
            });
        }
    }
    rustix::process::chdir("root").during(STAGE)?;
    if let Some(usr) = &trees.usr {
        attach(usr, "usr").during(BIND_USR)?;
    }
    for (volume, tree) in plan.volumes.iter().zip(volumes) {
        if volume.target != Path::new(STATE) {
            let target = volume.target.to_str().ok_or(rustix::io::Errno::INVAL);
            attach_at(plan, tree, target.during(BIND_VOLUME)?, BIND_VOLUME)?;
        }
    }
    attached::attach(plan, &trees.attached)?;
    // gVisor puts its own there, and would make what is missing as the sandbox's own files.
    as_mapped_root(plan.id_base, || places().during(STAGE))?;
    rustix::process::chdir("..").during(STAGE)?;
    Ok(bound)
}

/// The directories that gVisor mounts something on.
fn places() -> io::Result<()> {
    for name in ["proc", "sys", "dev", "tmp", "run"] {
        match fs::create_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}

/// What `runsc` is told. Source: the runtime specification of the Open Container Initiative, config.md.
fn words(plan: &Plan, bound: &[Bound]) -> Value {
    let memory = |place: &str, mode: &str, bytes: u64| {
        let options = [
            format!("mode={mode}"),
            format!("size={bytes}"),
            "nosuid".into(),
            "nodev".into(),
        ];
        json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options})
    };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        memory("/dev/shm", "1777", SHM.of(plan)),
        memory("/tmp", "1777", TMP.of(plan)),
        memory("/run", "755", RUN.of(plan)),
    ];
    mounts.extend(bound.iter().map(|one| {
        let rights = if one.read_only { "ro" } else { "rw" };
        json!({"destination": one.to, "type": "bind", "source": one.from,
            "options": [rights, "nosuid", "nodev"]})
    }));
    let env = plan
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let limit = |name: &str, most: u64| json!({"type": name, "soft": most, "hard": most});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [format!("{HAND_INSIDE}/{HAND}"), "hand-in-gvisor"],
            "env": env.collect::<Vec<_>>(),
            "cwd": "/workspace",
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
            },
            "rlimits": [
                limit("RLIMIT_NOFILE", MAX_FILES),
                limit("RLIMIT_NPROC", plan.limits.processes.most),
                limit("RLIMIT_CORE", 0),
            ],
            "noNewPrivileges": true,
        },
        "root": {"path": "/root"},
        "hostname": "sandbox",
        "mounts": mounts,
        "linux": {"namespaces": [
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
        ]},
    })
}

/// How `runsc` is started. Its network is the one that it is in, which has no way out but ours; what it writes is on the
/// disk and not in its memory, since it is killed when it ends.
pub(crate) fn argv(gvisor: &Gvisor) -> io::Result<Vec<CString>> {
    let platform = gvisor.platform.as_ref();
    let platform = platform.map(|name| format!("--platform={name}"));
    let records = format!("--root=/{RECORDS}");
    let bundle = format!("--bundle=/{BUNDLE}");
    let words = [
        PROGRAM,
        &records,
        "--network=host",
        "--ignore-cgroups",
        "--file-access=shared",
        "--overlay2=none",
        "--log=/dev/null",
    ];
    let run = ["run", &bundle, NAME];
    let words = words.into_iter().chain(platform.as_deref()).chain(run);
    let words = words.map(CString::new);
    Ok(words.collect::<std::result::Result<_, _>>()?)
}

/// Inside, before the hand does anything: the same refusals of system calls as in every sandbox, whatever gVisor would
/// answer.
///
/// # Errors
/// Those of prctl and seccomp.
pub fn prepare_in_gvisor() -> io::Result<()> {
    seccomp::install()
}
