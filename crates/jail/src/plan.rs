//! What the server and a supervisor say to each other: one JSON value a packet (see
//! [`control`](crate::control)). Data only.

use std::path::PathBuf;

use crate::groups::Group;
use serde::{Deserialize, Serialize};

/// The version of this file's types and of the hand's protocol. The server that starts a supervisor is of
/// the same build; one that adopts may be of another, and all that it may say then is [`Request::End`],
/// which never changes.
pub const VERSION: u32 = 11;

/// How many user and group ids a sandbox has: 0..65536 inside.
pub const ID_COUNT: u32 = 65_536;

/// Where [`Plan::programs`] appears, relative to the sandbox's root. `/run` is made anew for each start, so nothing
/// inside can have put anything in its way.
pub const PROGRAMS: &str = "run/longhand";

/// Where what a loop inside remembers ([`image::STATE`](crate::image::STATE)) appears, in the same place and for the
/// same reason.
pub const STATE: &str = "run/harness";

/// Below which [`Plan::attached`] appears, relative to the sandbox's root.
pub const VOLUMES: &str = "mnt/volumes";

/// In place of the first id of a range: there is none.
pub const SHARED: u32 = 0;

/// What a sandbox stands on, whosever it is to be: all that can be made before anybody asks for it. The first that a
/// server says to a supervisor. Beside it, if the ids have one: the lock that keeps them from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ground {
    /// [`VERSION`].
    pub version: u32,
    /// The first host id of the sandbox's range of [`ID_COUNT`]. [`SHARED`]: it has one id only, and that is the
    /// user's who started the supervisor; for who may give it no others.
    pub id_base: u32,
    /// Where [`Ground::id_base`] is [`SHARED`]: ranges that the administrator has given this user, if there are any.
    pub sub_ids: Option<SubIds>,
    /// What the sandbox may use, its disk left out.
    pub limits: Limits,
    /// The cgroups that hold it to that.
    pub groups: Vec<Group>,
    /// Whether it has the two ends of a network (`jail::net`), or only its own loopback.
    pub network: bool,
}

/// Everything else that a supervisor needs to know, as soon as the sandbox is somebody's. Beside it: the lock of the
/// sandbox. All paths are absolute on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The sandbox's own directory.
    pub dir: PathBuf,
    /// Whether what [`image::LAYOUT`](crate::image::LAYOUT) names is in the image there, and not in the
    /// directory itself.
    pub image: bool,
    /// The lowest layer of the root: a whole one, or a generated tree without what is in `/usr`.
    pub template: PathBuf,
    /// What was sealed of this sandbox's files, uppermost first: each a directory that holds what
    /// [`SEALED`](crate::image::SEALED) names. They lie between the template and what is written from now on.
    pub layers: Vec<PathBuf>,
    /// What is bound at `/usr`, read-only; none if the template has it.
    pub usr: Option<PathBuf>,
    /// A directory of the operator's that appears at [`PROGRAMS`], read-only; nothing in it is secret.
    pub programs: Option<PathBuf>,
    /// Binds of directories that [`image::LAYOUT`](crate::image::LAYOUT) names.
    pub volumes: Vec<Volume>,
    /// Directories that outlive the sandbox and that others may have too, at most [`ATTACHED`].
    pub attached: Vec<Attached>,
    /// The whole environment of the hand and so of every command.
    pub env: Vec<(String, String)>,
    /// What it may have of the disk.
    pub disk: Limit,
    /// What serves the system calls of what runs in the sandbox, if not the kernel of this host.
    pub gvisor: Option<Gvisor>,
    /// Of the server that starts it; one that adopts it must have a higher one.
    pub generation: u32,
    /// How long the sandbox lives on, in milliseconds, when its server is gone and no other adopts it.
    pub orphan_millis: u64,
}

/// gVisor, as a user-space kernel of the sandbox's own. Source: <https://gvisor.dev/docs/>.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gvisor {
    /// The `runsc` of this host, a static program.
    pub program: PathBuf,
    /// By what it catches system calls, as its option `--platform` names it; none: as it likes best itself.
    pub platform: Option<String>,
}

/// The first of [`SUB_IDS`] user ids and of as many group ids of the host that a user without rights may give away.
/// Source: subuid(5), subgid(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubIds {
    /// In `/etc/subuid`.
    pub users: u32,
    /// In `/etc/subgid`.
    pub groups: u32,
}

/// How many of them there have to be: those of a sandbox but 0, which is the user itself.
pub const SUB_IDS: u32 = ID_COUNT - 1;

/// What a server says to its nursery for each supervisor that is to be born. Beside it, in this order: the supervisor's
/// end of its conversation with the server, and the hand's end of its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth;

/// What a server asks of a supervisor that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// To look after the sandbox from now on. Answered by [`Report::Adopted`] or [`Report::Refused`].
    Adopt {
        /// [`VERSION`].
        version: u32,
        /// Above that of every server before.
        generation: u32,
    },
    /// To end the sandbox. Answered by [`Report::Ended`] when nothing of it is left, or, if another
    /// server looks after it, by [`Report::Refused`]. A server that goes without it leaves the sandbox
    /// to the next.
    End,
}

/// Why a sandbox is not given to who asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The server that looks after it is there.
    Owned,
    /// It belonged to a later server already.
    Stale,
    /// The supervisor is of a build that speaks otherwise.
    Version,
    /// The hand takes no new line.
    Hand,
}

impl Ground {
    /// Whether the sandbox has ids that nobody else has.
    #[must_use]
    pub fn has_own_ids(&self) -> bool {
        self.id_base != SHARED
    }
}

/// What a server has to know of a sandbox that runs, to look after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The pid of the sandbox's PID 1 on the host.
    pub pid: i32,
    /// The first host id of its range.
    pub id_base: u32,
    /// How many ids it has: [`ID_COUNT`], or 1.
    pub ids: u32,
    /// The directories of its cgroups.
    pub groups: Vec<PathBuf>,
    /// The file that counts what was ended for want of memory, where a cgroup limits memory.
    pub oom_counter: Option<PathBuf>,
    /// What it may use.
    pub limits: Limits,
    /// By what means its network leads to what is handed over with it. None, although the plan wanted that, where
    /// this host can make none.
    pub network: Option<Steering>,
    /// Whether it has a kernel of its own, gVisor's.
    pub gvisor: bool,
}

/// By what means the kernel brings what a sandbox sends to the egress process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Steering {
    /// A program that chooses the socket of each connection (`sk_lookup`, by bpf(2)).
    SkLookup,
    /// Rules in the sandbox's network (`tproxy` of nf_tables), where that is refused.
    Tproxy,
}

/// What a sandbox may use as a whole, and what holds it to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, files in memory (`/tmp`, `/dev/shm`) included.
    pub memory: Limit,
    /// Thousandths of one processor.
    pub cpu: Limit,
    /// Processes and threads.
    pub processes: Limit,
    /// Bytes on the disk, of the workspace and of what was changed elsewhere.
    pub disk: Limit,
    /// Bytes a second to and from the disk, each way. Not in records of builds before it.
    #[serde(default = "Limit::none")]
    pub io: Limit,
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// How much; the unit is the field's.
    pub most: u64,
    /// By what means.
    pub by: By,
}

impl Limit {
    /// Nothing is limited.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            most: 0,
            by: By::Nothing,
        }
    }
}

/// What holds a sandbox to a limit on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A cgroup of version 1, for the whole sandbox.
    CgroupV1,
    /// A cgroup of version 2, for the whole sandbox.
    CgroupV2,
    /// Resource limits: of processes for the whole sandbox, of memory for each process by itself.
    Rlimit,
    /// By looking how much there is, and ending what runs when that is too much: it may be exceeded.
    Watch,
    /// A file system of its own of that size.
    Image,
    /// Nothing: this host has no means, or nothing is limited.
    Nothing,
}

/// A directory of the host shown in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name in the directory or image.
    pub source: PathBuf,
    /// Where it appears, relative to the sandbox's root; exists in the template, or is [`STATE`].
    pub target: PathBuf,
    /// Whether the sandbox may write to it.
    pub read_only: bool,
}

/// How many there may be of [`Plan::attached`]: each is a mount more that a start waits for.
pub const ATTACHED: usize = 16;

/// A directory with files of its own, shown below [`VOLUMES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The directory on the host. Ids on the disk count from 0, as in the sandbox.
    pub source: PathBuf,
    /// Its name in the sandbox: one that is neither empty nor `.` or `..`, without slashes.
    pub name: String,
    /// Whether the sandbox may write to it.
    pub read_only: bool,
}

/// What a supervisor tells the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// The first word of a supervisor, to the server that had it born. Beside it: its own pidfd.
    Here,
    /// The hand was started; from now on its socket speaks. Beside it: the pidfd of PID 1, and with a network its
    /// listener for TCP, its socket for DNS, and the line of who carries them ([`crate::control::Carries`]).
    Started(Live),
    /// Who asked looks after the sandbox now. Beside it: the pidfd of PID 1, a new line to the hand,
    /// and with a network the same.
    Adopted(Live),
    /// Nothing has changed.
    Refused {
        /// Why.
        why: Refusal,
    },
    /// A step of the set-up failed; nothing runs.
    Failed(Failure),
    /// PID 1 ended, and with it every process of the sandbox.
    Ended {
        /// Its exit code, when it ended by itself.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Processes of it that the kernel ended for want of memory, from first to last.
        oom_kills: u64,
    },
}

/// Which step of the set-up failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done, e.g. `mount the root overlay`.
    pub step: String,
    /// The kernel's errno; 0 when the refusal is ours.
    pub errno: i32,
    /// What the operator can do about it.
    pub hint: String,
}
