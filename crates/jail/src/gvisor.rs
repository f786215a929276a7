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

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, mount, move_mount};
use rustix::process::chdir;
use serde_json::{Value, json};

use crate::attached::{self, attach_at};
use crate::error::{During, PROC, Result};
use crate::mounts::{BIND_PROGRAMS, BIND_USR, BIND_VOLUME, Trees, attach};
use crate::plan::{Ground, Gvisor, PROGRAMS, Plan, STATE};
use crate::privileges::{MAX_FILES, as_mapped_root};
use crate::seccomp::Filter;
use crate::stage::{RUN, SHM, Stage, TMP, TREES, tmpfs};

const STAGE: &str = "stage what runsc sees";
pub(crate) const BIND_RUNSC: &str = "bind runsc";
/// What `runsc` sees, while it is built.
const SEEN: &str = "seen";
/// Where it finds what it needs there.
const PROGRAM: &str = "runsc";
const BUNDLE: &str = "bundle";
const RECORDS: &str = "records";
/// The sandbox's own, there and where the layers are put together.
const ROOT: &str = "root";
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

/// Completes what `runsc` is to see, as a file system in memory beside `root`, which becomes a part of it: the working
/// directory then.
pub(crate) fn fill(
    stage: &Stage,
    ground: &Ground,
    plan: &Plan,
    trees: &Trees,
    volumes: &[OwnedFd],
    program: &OwnedFd,
) -> Result<()> {
    let owner = ground.id_base;
    fs::create_dir(SEEN).during(STAGE)?;
    let options = format!("mode=755,size={STAGE_BYTES},uid={owner},gid={owner}");
    tmpfs(Path::new(SEEN), &options).during(STAGE)?;
    chdir(SEEN).during(STAGE)?;
    for name in [BUNDLE, RECORDS, HAND, ROOT, "tmp", "proc", "dev"] {
        fs::create_dir(name).during(STAGE)?;
        chown(name, Some(owner), Some(owner)).during(STAGE)?;
    }
    fs::copy("/proc/self/exe", Path::new(HAND).join(HAND)).during(STAGE)?;
    let everybodys = Permissions::from_mode(0o755);
    fs::set_permissions(Path::new(HAND).join(HAND), everybodys).during(STAGE)?;
    move_mount(
        CWD,
        format!("../{ROOT}"),
        CWD,
        ROOT,
        MoveMountFlags::empty(),
    )
    .during(STAGE)?;
    let bound = binds(ground, plan, trees, volumes)?;
    let words = serde_json::to_vec(&words(ground, plan, &bound)).map_err(io::Error::from);
    fs::write(Path::new(BUNDLE).join("config.json"), words.during(STAGE)?).during(STAGE)?;
    let made = TREES.iter().zip(stage.made()?);
    for (_, devices) in made.filter(|(name, _)| **name == "dev") {
        attach(&devices, "dev").during(STAGE)?;
    }
    // What it starts mounts one of its own, which the kernel allows where a whole one is to be seen already.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", flags, None).during(PROC)?;
    File::create(PROGRAM).during(BIND_RUNSC)?;
    attach(program, PROGRAM).during(BIND_RUNSC)
}

/// The program, in what is `/` now.
pub(crate) fn open_program() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let program = rustix::fs::open(format!("/{PROGRAM}"), flags, Mode::empty());
    program.during(BIND_RUNSC)
}

/// What is to be bound from outside of the sandbox's root, and where it appears.
struct Bound {
    from: String,
    to: String,
    read_only: bool,
}

/// Binds what the sandbox's root holds, and keeps aside what belongs into `/run`, which gVisor makes itself.
fn binds(ground: &Ground, plan: &Plan, trees: &Trees, volumes: &[OwnedFd]) -> Result<Vec<Bound>> {
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
    chdir(ROOT).during(STAGE)?;
    if let Some(usr) = &trees.usr {
        attach(usr, "usr").during(BIND_USR)?;
    }
    for (volume, tree) in plan.volumes.iter().zip(volumes) {
        if volume.target != Path::new(STATE) {
            let target = volume.target.to_str().ok_or(rustix::io::Errno::INVAL);
            attach_at(ground, tree, target.during(BIND_VOLUME)?, BIND_VOLUME)?;
        }
    }
    attached::attach(ground, plan, &trees.attached)?;
    // gVisor puts its own there, and would make what is missing as the sandbox's own files.
    as_mapped_root(ground.id_base, || places().during(STAGE))?;
    chdir("..").during(STAGE)?;
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
fn words(ground: &Ground, plan: &Plan, bound: &[Bound]) -> Value {
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
        memory("/dev/shm", "1777", SHM.of(ground)),
        memory("/tmp", "1777", TMP.of(ground)),
        memory("/run", "755", RUN.of(ground)),
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
                limit("RLIMIT_NPROC", ground.limits.processes.most),
                limit("RLIMIT_CORE", 0),
            ],
            "noNewPrivileges": true,
        },
        "root": {"path": format!("/{ROOT}")},
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
    Filter::new()?.install()
}
