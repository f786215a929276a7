//! Others that do the same job, each from nothing to the first byte of the same program.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::PROGRAM;
use crate::Wrong;

/// One of them.
pub(super) enum Contender {
    /// posix_spawn, nothing else.
    Process,
    /// clone3 with the same namespaces, mounts and a filter, by a process with one thread.
    Bare(Bare),
    /// bubblewrap.
    Bubblewrap(PathBuf),
    /// crun, with the bundle in this directory.
    Crun(PathBuf, Option<Child>),
}

/// A process that makes one bare clone for each line it reads, and answers its nanoseconds.
pub(super) struct Bare {
    _child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Contender {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Process => "posix_spawn",
            Self::Bare(_) => "bare_clone",
            Self::Bubblewrap(_) => "bubblewrap",
            Self::Crun(..) => "crun",
        }
    }

    /// Whether each one is a program of its own, of which many may run at once.
    pub(super) fn is_a_program(&self) -> bool {
        !matches!(self, Self::Bare(_))
    }

    pub(super) async fn once(&mut self, round: usize) -> Result<Duration, Wrong> {
        let Self::Bare(bare) = self else {
            return self.beside_others(round).await;
        };
        bare.asks.write_all(b"\n").await?;
        let mut answer = String::new();
        bare.answers.read_line(&mut answer).await?;
        Ok(Duration::from_nanos(answer.trim().parse()?))
    }

    /// One of those that are [programs](Self::is_a_program).
    pub(super) async fn beside_others(&self, round: usize) -> Result<Duration, Wrong> {
        let begun = Instant::now();
        match self {
            Self::Process => timed(begun, &PROGRAM).await,
            Self::Bare(_) => Err("it answers one by one".into()),
            Self::Bubblewrap(work) => {
                let work = work.to_string_lossy();
                let mut words = vec![
                    "bwrap",
                    "--unshare-all",
                    "--die-with-parent",
                    "--cap-drop",
                    "ALL",
                ];
                words.extend(["--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"]);
                words.extend([
                    "--symlink",
                    "usr/lib",
                    "/lib",
                    "--symlink",
                    "usr/lib64",
                    "/lib64",
                ]);
                words.extend([
                    "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run",
                ]);
                words.extend(["--bind", &work, "/workspace", "--chdir", "/workspace", "--"]);
                words.extend(PROGRAM);
                timed(begun, &words).await
            }
            Self::Crun(bundle, view) => {
                let (bundle, id) = (bundle.to_string_lossy(), format!("bench-{round}"));
                let pid = view.as_ref().and_then(Child::id).map(|pid| pid.to_string());
                let mut words = Vec::new();
                if let Some(pid) = &pid {
                    words.extend(["nsenter", "--target", pid, "--mount"]);
                }
                words.extend(["crun", "--cgroup-manager=disabled", "run"]);
                words.extend(["--bundle", &bundle, &id]);
                timed(begun, &words).await
            }
        }
    }
}

/// Until the first byte; the program is waited for afterwards.
async fn timed(begun: Instant, words: &[&str]) -> Result<Duration, Wrong> {
    let mut child = started(words)?;
    let mut stdout = child.stdout.take().ok_or("no output")?;
    let read = stdout.read_exact(&mut [0]).await;
    let took = begun.elapsed();
    child.wait().await?;
    read.map_err(|error| format!("{}: {error}", words.join(" ")))?;
    Ok(took)
}

/// Runs a program of the host to its end.
pub(super) async fn host_process(words: &[&str]) -> Result<(), Wrong> {
    started(words)?.wait().await?;
    Ok(())
}

fn started(words: &[&str]) -> Result<Child, Wrong> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let child = command.spawn();
    Ok(child.map_err(|error| format!("{program}: {error}"))?)
}

/// Those that this host has.
fn all(dir: &Path) -> Result<Vec<Contender>, Wrong> {
    let work = dir.join("work");
    std::fs::create_dir_all(&work)?;
    let mut all = vec![
        Contender::Process,
        Contender::Bare(bare(&dir.join("bare"))?),
    ];
    if Path::new("/usr/bin/bwrap").exists() {
        all.push(Contender::Bubblewrap(work));
    }
    if Path::new("/usr/bin/crun").exists() {
        let bundle = crun_bundle(&dir.join("crun"))?;
        all.push(Contender::Crun(bundle, without_hybrid_cgroups()?));
    }
    Ok(all)
}

/// crun refuses a host with both versions of cgroups: there it is started, by nsenter, where the second
/// is not to be seen.
fn without_hybrid_cgroups() -> Result<Option<Child>, Wrong> {
    const UNIFIED: &str = "/sys/fs/cgroup/unified";
    if !Path::new(UNIFIED).exists() {
        return Ok(None);
    }
    let script = format!("umount -l {UNIFIED}; exec sleep 3600");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &script])
        .kill_on_drop(true);
    Ok(Some(command.spawn()?))
}

/// Those of them that work on this host, tried once.
pub(super) async fn working(dir: &Path) -> Result<Vec<Contender>, Wrong> {
    let mut working = Vec::new();
    for mut contender in all(dir)? {
        match contender.once(0).await {
            Ok(_) => working.push(contender),
            Err(error) => eprintln!("{} is left out: {error}", contender.name()),
        }
    }
    Ok(working)
}

fn bare(dir: &Path) -> Result<Bare, Wrong> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare").arg(dir).kill_on_drop(true);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(Bare {
        asks: child.stdin.take().ok_or("no pipe")?,
        answers: BufReader::new(child.stdout.take().ok_or("no pipe")?),
        _child: child,
    })
}

/// A bundle with a root of its own, the host's `/usr`, a user namespace and the mounts of ours.
fn crun_bundle(dir: &Path) -> Result<PathBuf, Wrong> {
    for name in ["usr", "proc", "dev", "tmp", "run", "workspace"] {
        std::fs::create_dir_all(dir.join("rootfs").join(name))?;
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), dir.join("rootfs").join(name))?;
    }
    let tmpfs = |at: &str| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]});
    let map = json!([{"containerID": 0, "hostID": 2_000_000_000, "size": 65_536}]);
    let kinds = ["pid", "network", "ipc", "uts", "mount", "user"];
    let config = json!({
        "ociVersion": "1.0.0",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": PROGRAM, "cwd": "/workspace",
            "env": ["PATH=/usr/bin"], "noNewPrivileges": true,
            "capabilities": {"bounding": [], "effective": [], "permitted": []},
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "sandbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]}, tmpfs("/tmp"), tmpfs("/run"),
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro", "nosuid", "nodev"]},
        ],
        "linux": {
            "namespaces": kinds.map(|kind| json!({"type": kind})), "uidMappings": map, "gidMappings": map,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mount", "bpf", "keyctl", "unshare"], "action": "SCMP_ACT_ERRNO"}],
            },
        },
    });
    std::fs::write(dir.join("config.json"), config.to_string())?;
    Ok(dir.to_owned())
}

/// What the others say of their versions.
pub(super) async fn versions() -> Vec<Value> {
    let mut said = Vec::new();
    for program in ["bwrap", "crun"] {
        let output = Command::new(program).arg("--version").output().await;
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_else(|_| format!("{program} is not installed"));
        said.push(json!(text.lines().next().unwrap_or_default()));
    }
    said
}
