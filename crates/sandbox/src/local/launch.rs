//! Owns starting one sandbox: the helper's image, its supervisor, the first words with both.
//! On any failure nothing of it is left running.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use jail::plan::{Failure, Plan, Report, VERSION, Volume};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Shared;
use super::client::Client;
use super::memory::Memory;
use super::running::Running;
use crate::error::{Doing, Error};
use crate::limits::{REPORT_BYTES, SEAL_TRIES, START};
use crate::provider::Spec;

/// The environment of every command, before what the caller adds. Nothing of the host's.
const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "PATH",
        "/root/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/root"),
    ("USER", "root"),
    ("SHELL", "/bin/bash"),
    ("TZ", "UTC"),
    ("LANG", "C.UTF-8"),
];

const VOLUMES: &[(&str, &str, bool)] = &[
    ("workspace", "workspace", false),
    ("outputs", "mnt/session/outputs", false),
    ("uploads", "mnt/session/uploads", true),
];

/// A supervisor that has been started, and its control socket.
pub(super) struct Supervisor {
    pub(super) child: Child,
    pub(super) control: BufReader<UnixStream>,
    /// Of the sandbox's PID 1, once it runs; readable when it and all others in there have ended.
    pub(super) pid_one: Option<OwnedFd>,
    /// The directories of its cgroups, once it runs.
    pub(super) groups: Vec<PathBuf>,
}

pub(super) async fn launch(shared: &Arc<Shared>, spec: Spec) -> Result<Running, Error> {
    let lock = super::settle(shared.dirs.lock(&spec.id).await?).await?;
    let (prepared, id) = (Arc::clone(shared), spec.id.clone());
    let blocking = tokio::task::spawn_blocking(move || {
        prepared.dirs.fill(&id)?;
        let (template, helper) = (prepared.templates.host()?, prepared.helper()?);
        Ok::<_, Error>((template, helper, prepared.groups()))
    });
    let (template, helper, groups) = match blocking.await {
        Ok(prepared) => prepared?,
        Err(_) => return Err(Error::Gone),
    };
    let range = shared.ranges.take(spec.id.as_str())?;
    let plan = Plan {
        version: VERSION,
        dir: shared.dirs.path(&spec.id),
        template,
        usr: shared.templates.usr().to_owned(),
        id_base: range.base(),
        volumes: VOLUMES.iter().map(volume).collect(),
        env: environment(spec.env),
        limits: groups.limits.clone(),
        groups: groups.each.clone(),
    };
    let (mut supervisor, hand) = start(&helper, lock).await?;
    let started = async {
        supervisor.tell(&plan).await?;
        supervisor.started().await?;
        Client::connect(hand, &shared.tasks).await
    };
    let Ok(client) = timeout(START, started).await else {
        // One that is stuck in the set-up does not see its control socket close.
        let killed = supervisor.child.start_kill();
        tracing::warn!(?killed, sandbox = %spec.id, "a sandbox did not start in time");
        return Err(Error::Unsupported {
            step: "start the hand".to_owned(),
            errno: 0,
            hint: format!(
                "no answer within {} s: is the host overloaded?",
                START.as_secs()
            ),
        });
    };
    let client = client?;
    let memory = Memory::open(&groups, &supervisor.groups);
    Ok(Running::new(
        client, supervisor, range, memory, shared, spec.id,
    ))
}

fn volume((source, target, read_only): &(&str, &str, bool)) -> Volume {
    Volume {
        source: source.into(),
        target: target.into(),
        read_only: *read_only,
    }
}

fn environment(added: Vec<(String, String)>) -> Vec<(String, String)> {
    let own = |name: &str| !added.iter().any(|(other, _)| other == name);
    let mut env: Vec<_> = ENVIRONMENT
        .iter()
        .filter(|(name, _)| own(name))
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    env.extend(added);
    env
}

impl Shared {
    /// The helper in memory, sealed: nobody can change what later sandboxes start from.
    fn helper(&self) -> Result<Arc<OwnedFd>, Error> {
        if let Some(helper) = self.helper.get() {
            return Ok(Arc::clone(helper));
        }
        let image = image().doing(|| "keep the helper in memory".to_owned())?;
        Ok(Arc::clone(self.helper.get_or_init(|| Arc::new(image))))
    }
}

fn image() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC is unknown before 6.3, where every memfd can be executed.
    let file =
        memfd_create("hand", flags | MemfdFlags::EXEC).or_else(|_| memfd_create("hand", flags))?;
    let mut file = File::from(file);
    file.write_all(bundle::HELPER)?;
    // Executable but not readable for the sandbox's root: so the kernel itself keeps the hand, which
    // is made from it, closed to everybody inside, from its first instruction.
    file.set_permissions(Permissions::from_mode(0o711))?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    seal(&file, seals)?;
    Ok(file.into())
}

/// The kernel answers EBUSY while it holds a page of the file itself, as when it moves pages about on a
/// busy host; each call waits a little for that. Source: mm/memfd.c, `memfd_wait_for_pins`.
fn seal(file: &File, seals: SealFlags) -> io::Result<()> {
    for _ in 1..SEAL_TRIES {
        match fcntl_add_seals(file, seals) {
            Err(Errno::BUSY) => {}
            other => return Ok(other?),
        }
    }
    Ok(fcntl_add_seals(file, seals)?)
}

async fn start(helper: &OwnedFd, lock: File) -> Result<(Supervisor, UnixStream), Error> {
    let doing = || "start the supervisor".to_owned();
    let (control, control_theirs) = std::os::unix::net::UnixStream::pair().doing(doing)?;
    let (hand, hand_theirs) = std::os::unix::net::UnixStream::pair().doing(doing)?;
    control.set_nonblocking(true).doing(doing)?;
    hand.set_nonblocking(true).doing(doing)?;
    let mut command = Command::new(format!("/proc/self/fd/{}", helper.as_raw_fd()));
    command
        .arg("supervisor")
        .env_clear()
        // The three numbers that survive posix_spawn carry what it needs; see `jail::plan`.
        .stdin(Stdio::from(OwnedFd::from(control_theirs)))
        .stdout(Stdio::from(OwnedFd::from(hand_theirs)))
        .stderr(Stdio::from(OwnedFd::from(lock)))
        // A signal from the terminal is for the server, which drains first.
        .process_group(0);
    // Not killed when dropped: its control socket closes then, and it ends the sandbox and cleans up.
    let child = command.spawn().doing(doing)?;
    drop(command);
    let control = BufReader::new(UnixStream::from_std(control).doing(doing)?);
    let hand = UnixStream::from_std(hand).doing(doing)?;
    let supervisor = Supervisor {
        child,
        control,
        pid_one: None,
        groups: Vec::new(),
    };
    Ok((supervisor, hand))
}

impl Supervisor {
    async fn tell(&mut self, plan: &Plan) -> Result<(), Error> {
        let doing = || "talk to the supervisor".to_owned();
        let mut line = serde_json::to_vec(plan)
            .map_err(io::Error::from)
            .doing(doing)?;
        line.push(b'\n');
        self.control.get_mut().write_all(&line).await.doing(doing)
    }

    async fn started(&mut self) -> Result<(), Error> {
        match self.report().await {
            Some(Report::Started { pid, groups }) => {
                self.groups = groups;
                tracing::debug!(pid, "sandbox started");
                let doing = || "watch the sandbox".to_owned();
                let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData);
                // Not reaped before the supervisor has seen it end, so the number is still its own.
                let pidfd = pidfd_open(pid.doing(doing)?, PidfdFlags::empty()).doing(doing)?;
                self.pid_one = Some(pidfd);
                Ok(())
            }
            Some(Report::Failed(Failure { step, errno, hint })) => {
                Err(Error::Unsupported { step, errno, hint })
            }
            Some(Report::Ended { .. }) | None => {
                let status = self.child.try_wait().ok().flatten();
                tracing::warn!(?status, "a supervisor ended without a word");
                Err(Error::Unsupported {
                    step: "start the supervisor".to_owned(),
                    errno: 0,
                    hint: "the helper ended without a word; can this host execute from memory \
                           (sysctl vm.memfd_noexec=0)?"
                        .to_owned(),
                })
            }
        }
    }

    /// Tells it to end the sandbox. It can still say how that went, unless this is false.
    pub(super) async fn hang_up(&mut self) -> bool {
        self.control.get_mut().shutdown().await.is_ok()
    }

    /// The next thing the supervisor says; `None` when it has gone or talks nonsense.
    pub(super) async fn report(&mut self) -> Option<Report> {
        let mut line = String::new();
        let limit = u64::try_from(REPORT_BYTES).unwrap_or(u64::MAX);
        (&mut self.control)
            .take(limit)
            .read_line(&mut line)
            .await
            .ok()?;
        serde_json::from_str(&line).ok()
    }
}
