//! Owns starting one sandbox: the helper's image, its supervisor, the first words with both.
//! On any failure nothing of it is left running.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use jail::image;
use jail::plan::{self, Attached, By, Failure, Plan, Report, Volume};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::client::Client;
use super::disk::DiskKind;
use super::groups::Groups;
use super::memory::Memory;
use super::ranges::Range;
use super::running::Running;
use super::supervisor::{Body, Supervisor};
use super::template::Base;
use super::trust::{self, Trusting};
use super::unclaimed::{Born, bear};
use super::{Shared, net, probe};
use crate::diary::Steps;
use crate::error::{Doing, Error};
use crate::limits::{SEAL_TRIES, START, STOP};
use crate::provider::{How, SandboxId, Spec};

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
    (image::STATE, plan::STATE, false),
];

/// A sandbox that runs and is nobody's yet. Dropped, it ends.
pub(super) struct Started {
    pub(super) client: Client,
    supervisor: Supervisor,
    body: Body,
    range: Range,
    steps: Steps,
    /// It has its network already, and not only when it is somebody's.
    has_network: bool,
    trusting: Trusting,
}

pub(super) async fn launch(shared: &Arc<Shared>, spec: Spec) -> Result<Running, Error> {
    let id = spec.id.clone();
    let started = begun(shared, spec, Whose::Its).await?;
    let given = started.given(shared, id, How::Made).await;
    shared.bear_ahead();
    given
}

/// Starts one that is to wait until it is somebody's.
pub(super) async fn begin(shared: &Arc<Shared>, spec: Spec) -> Result<Started, Error> {
    begun(shared, spec, Whose::Nobodys).await
}

/// Whose a sandbox is when it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Its,
    Nobodys,
}

impl Started {
    /// It is that one's from now on: its name, its network, its share of the disk.
    pub(super) async fn given(
        mut self,
        shared: &Arc<Shared>,
        id: SandboxId,
        how: How,
    ) -> Result<Running, Error> {
        if !self.has_network {
            net::attach(shared, &id, &mut self.body, &self.trusting).await?;
        }
        self.trusting.is_up(self.client.clone());
        net::give_variables(shared, &id, &self.trusting).await?;
        // Whoever made it is not kept waiting for that: the first command is.
        let trusting = self.trusting.clone();
        shared.tasks.spawn(async move { trusting.settled().await });
        let steps = self.steps.end();
        let memory = Memory::of(&self.body.live);
        let (client, supervisor, body, range) =
            (self.client, self.supervisor, self.body, self.range);
        let parts = (client, self.trusting);
        let running = Running::new(parts, supervisor, body, range, memory, shared, id);
        Ok(running.born(how, steps))
    }

    /// Ends it, and returns when it has ended.
    pub(super) async fn end(mut self) {
        self.client.close();
        self.supervisor.end();
        if timeout(STOP, self.supervisor.ended()).await.is_err() {
            self.supervisor.kill();
        }
    }

    /// It was made before, and it is only now that somebody waits for it.
    pub(super) fn taken(mut self, steps: Steps) -> Self {
        self.steps = steps;
        self
    }
}

/// What has to be on the disk, or to be found there, before a sandbox starts.
struct Files {
    layers: Vec<PathBuf>,
    attached: Vec<Attached>,
    base: Arc<Base>,
    known: trust::Files,
    helper: Arc<OwnedFd>,
    groups: Arc<Groups>,
    gvisor: Option<plan::Gvisor>,
}

/// Starts one in the directory of that name.
async fn begun(shared: &Arc<Shared>, spec: Spec, whose: Whose) -> Result<Started, Error> {
    let mut steps = Steps::begin("lock");
    shared.disks.room()?;
    let lock = super::sweep::settle(shared.dirs.lock(&spec.id).await?).await?;
    // Not before: that may have to wait for a sandbox that dies, and nobody else waits for that one.
    steps.then("turn");
    let turn = shared.starts.acquire().await;
    let _turn = turn.map_err(|_| Error::Gone)?;
    steps.then("files");
    let (prepared, wanted) = (Arc::clone(shared), spec.clone());
    let blocking = tokio::task::spawn_blocking(move || prepared.files_of(&wanted));
    // Its supervisor is born while its files are made, once it is known what that takes. Not before the groups: to be
    // able to make them the server may have to move, and what it has started would stay behind.
    let known = shared.helper.get().zip(shared.groups.get());
    let early = known.map(|(helper, groups)| {
        let waited = match whose {
            Whose::Its => shared.unclaimed.claim(),
            Whose::Nobodys => None,
        };
        waited.map_or_else(|| bear(shared, helper, groups, spec.id.as_str()), Ok)
    });
    let files = match blocking.await {
        Ok(prepared) => prepared?,
        Err(_) => return Err(Error::Gone),
    };
    steps.then("supervisor");
    let another = || bear(shared, &files.helper, &files.groups, spec.id.as_str());
    let mut born = early.unwrap_or_else(another)?;
    let plan = plan_of(shared, &spec, &files);
    if !born.is_told(&plan, lock.as_fd())? {
        tracing::warn!("a supervisor that waited for a sandbox has gone");
        shared.sweep_groups();
        born = another()?;
        born.is_told(&plan, lock.as_fd())?;
    }
    // It has the lock from now on.
    drop(lock);
    let Born {
        mut supervisor,
        line,
        range,
        ..
    } = born;
    let trusting = Trusting::new(files.base.java.clone(), files.known);
    let attached = (whose == Whose::Its).then_some(&trusting);
    let started = comes_up(
        (shared, &spec.id, attached),
        (&mut supervisor, line),
        plan.generation,
        &mut steps,
    );
    let Ok(started) = timeout(START, started).await else {
        // One that is stuck in the set-up hears no word.
        supervisor.kill();
        return Err(late(&spec.id));
    };
    let (body, client) = started?;
    steps.then("network");
    Ok(Started {
        client,
        supervisor,
        body,
        range,
        steps,
        has_network: whose == Whose::Its,
        trusting,
    })
}

/// What its supervisor is told.
fn plan_of(shared: &Shared, spec: &Spec, files: &Files) -> Plan {
    let dir = shared.dirs.path(&spec.id);
    let disk = shared.disks.settings().limit(&dir);
    let base = &files.base;
    Plan {
        image: disk.by == By::Image,
        dir,
        template: base.tree.clone(),
        layers: files.layers.clone(),
        usr: base.usr.clone(),
        programs: shared.programs.clone(),
        volumes: VOLUMES.iter().map(volume).collect(),
        attached: files.attached.clone(),
        env: environment(&base.env, spec.env.clone()),
        disk,
        gvisor: files.gvisor.clone(),
        generation: shared.dirs.generation(),
        orphan_millis: orphan_millis(shared, &spec.id),
    }
}

fn late(id: &SandboxId) -> Error {
    tracing::warn!(sandbox = %id, "a sandbox did not start in time");
    let seconds = START.as_secs();
    Error::Unsupported {
        step: "start the hand".to_owned(),
        errno: 0,
        hint: format!("no answer within {seconds} s: is the host overloaded?"),
    }
}

/// Returns when that supervisor has started it; with its network, if it is told whom that is to have trusted.
async fn comes_up(
    (shared, id, trusting): (&Arc<Shared>, &SandboxId, Option<&Trusting>),
    (supervisor, line): (&mut Supervisor, UnixStream),
    generation: u32,
    steps: &mut Steps,
) -> Result<(Body, Client), Error> {
    let mut body = runs(shared, supervisor).await?;
    steps.then("hand");
    // While the hand comes up: the two know nothing of each other.
    let network = async {
        match trusting {
            Some(trusting) => net::attach(shared, id, &mut body, trusting).await,
            None => Ok(()),
        }
    };
    let connecting = Client::connect(line, generation, &shared.tasks);
    let (client, ()) = tokio::try_join!(connecting, network)?;
    Ok((body, client))
}

/// A probe is of no use to the next server.
fn orphan_millis(shared: &Shared, id: &SandboxId) -> u64 {
    if probe::is_of(id) {
        return 0;
    }
    u64::try_from(shared.orphan.as_millis()).unwrap_or(u64::MAX)
}

fn volume((source, target, read_only): &(&str, &str, bool)) -> Volume {
    Volume {
        source: source.into(),
        target: target.into(),
        read_only: *read_only,
    }
}

/// Ours, before that what the template's image says, before that what the caller adds.
fn environment(
    of_template: &[(String, String)],
    added: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let ours = ENVIRONMENT.iter();
    let ours = ours.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut env: Vec<(String, String)> = Vec::new();
    for (name, value) in ours.chain(of_template.iter().cloned()).chain(added) {
        env.retain(|(other, _)| *other != name);
        env.push((name, value));
    }
    env
}

impl Shared {
    /// The files of a sandbox, made if it has none. Blocks.
    fn files_of(&self, spec: &Spec) -> Result<Files, Error> {
        let (id, dir) = (&spec.id, self.dirs.path(&spec.id));
        let disk = *self.disks.settings();
        // A seal that somebody has begun is finished before anything is made that seems to be missing.
        let layers = self.layers.of(&dir);
        let layers = layers.doing(|| format!("find the layers of sandbox {id}"))?;
        let base = self.base_for(&dir, spec.template.as_ref())?;
        let known = match layers.is_empty() && self.dirs.is_blank(id) {
            true => trust::Files::New,
            false => trust::Files::Used,
        };
        self.dirs.fill(id, |dir| match disk.kind {
            DiskKind::Soft => Ok(false),
            DiskKind::Image => self.images.give(dir, disk.bytes).map(|()| true),
        })?;
        Ok(Files {
            layers,
            attached: self.volumes.attach(&dir, spec.volumes.as_ref())?,
            base,
            known,
            helper: self.helper()?,
            groups: self.groups(),
            gvisor: self.gvisor_for(&dir, spec.provider)?,
        })
    }

    /// The helper in memory, sealed: nobody can change what later sandboxes start from.
    pub(super) fn helper(&self) -> Result<Arc<OwnedFd>, Error> {
        if let Some(helper) = self.helper.get() {
            return Ok(Arc::clone(helper));
        }
        let image = image().doing(|| "keep the helper in memory".to_owned())?;
        Ok(Arc::clone(self.helper.get_or_init(|| Arc::new(image))))
    }
}

pub(super) fn image() -> io::Result<OwnedFd> {
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

/// Waits until the supervisor says that the sandbox runs.
async fn runs(shared: &Arc<Shared>, supervisor: &mut Supervisor) -> Result<Body, Error> {
    let word = match supervisor.is_here().await {
        true => supervisor.report().await,
        false => None,
    };
    let body = match word {
        Some((Report::Started(live), descriptors)) => Body::new(live, descriptors),
        Some((Report::Failed(Failure { step, errno, hint }), _)) => {
            return Err(Error::Unsupported { step, errno, hint });
        }
        _ => None,
    };
    body.ok_or_else(|| {
        tracing::warn!("a supervisor ended without a word");
        shared.sweep_groups();
        Error::Unsupported {
            step: "start the supervisor".to_owned(),
            errno: 0,
            hint: "the helper ended without a word; can this host execute from memory \
                   (sysctl vm.memfd_noexec=0)?"
                .to_owned(),
        }
    })
}
