//! What a server and the egress process say to each other, in packets of `control`. Data only; it decides nothing.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use contract::ids::{CredentialId, SessionId, WorkspaceId};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vault::Lent;
use zeroize::Zeroizing;

use crate::audit::Search;
use crate::inject::CredentialsFile;
use crate::intercept::Ca;
use crate::policy::PolicyFile;

/// The version of this file's types. A server that finds an egress process of another one has it end
/// ([`Request::End`] never changes) and starts its own.
pub const VERSION: u32 = 6;

/// Bytes of the longest packet.
const PACKET: usize = 64 << 10;
/// Bytes of a policy as it is handed over: the most targets that one may have, at the length of names.
const POLICY: u64 = 64 << 20;
/// Bytes of the credentials of a sandbox: the most that its vaults may hold, each at its longest.
const CREDENTIALS: u64 = 256 << 20;

/// What a server asks of the egress process. Each is answered, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// The first word. Answered by [`Answer::Welcome`].
    Hello {
        /// [`VERSION`].
        version: u32,
    },
    /// To carry for that sandbox from now on. Beside it: the pidfd of its PID 1, its listener, its socket for
    /// DNS, the line of who carries, its policy, memory in which its certificate authority outlives the egress
    /// process, and its credentials. One that is carried already gets policy and credentials. Answered by [`Answer::Attached`].
    Attach {
        /// Its name.
        sandbox: String,
        /// Whose it is; none for one that an operator made.
        owner: Option<Owner>,
    },
    /// Another policy for that sandbox, which is beside it with its credentials. What it no longer allows is
    /// closed.
    Policy {
        /// Its name.
        sandbox: String,
    },
    /// What would be done with that.
    Explain {
        /// Its name.
        sandbox: String,
        /// As `https://host/path`, `http://…` or `tcp://host:port`.
        url: String,
        /// The method of the request.
        method: String,
    },
    /// Records of the audit. Answered by [`Answer::Found`]; meanwhile the connection takes nothing else.
    Audit {
        /// Which ones.
        search: Box<Search>,
        /// To answer when there are any.
        wait: bool,
    },
    /// How long the audit is kept from now on.
    Keep {
        /// So long.
        keep: Keep,
    },
    /// To be told of tokens that were refused: after [`Answer::Done`] this connection brings a [`RefusedToken`] whenever there
    /// is one, and takes nothing. The last server that asks for it is told.
    Refusals,
    /// What there is instead of such a token is in force, if there is anything.
    Renewed {
        /// The sandbox.
        sandbox: String,
        /// The credential.
        credential: CredentialId,
    },
    /// To end: every sandbox loses its network.
    End,
}

/// What the egress process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Hello`].
    Welcome {
        /// [`VERSION`] of the egress process.
        version: u32,
    },
    /// To [`Request::Attach`].
    Attached {
        /// The certificate of the sandbox's own authority, as PEM: its programs are to trust it.
        certificate: String,
    },
    /// It is done.
    Done,
    /// It is not done. A sandbox whose policy could not be read may reach nothing.
    Refused {
        /// Why.
        problem: String,
    },
    /// To [`Request::Explain`].
    Explained(Explained),
    /// What was asked about is no URL.
    NoUrl {
        /// Why.
        problem: String,
    },
    /// That sandbox is not carried for.
    Unknown,
    /// To [`Request::Audit`]. Beside it: a page as JSON, which may be longer than a packet.
    Found,
}

/// A token that was lent, and that the server which it is for refused before its end. Answered by [`Request::Renewed`].
/// It is as good as the token, as what was lent is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefusedToken {
    /// The sandbox whose program showed it.
    pub sandbox: String,
    /// The credential.
    pub credential: CredentialId,
    /// As it was lent.
    pub lent: Lent,
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// So many days; none: forever.
    pub days: Option<u32>,
    /// So many bytes of records, roughly; none: as many as there are.
    pub bytes: Option<u64>,
}

/// Whose a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The session.
    pub session: SessionId,
    /// Its workspace.
    pub workspace: WorkspaceId,
}

/// What would be done with a URL, by the policy that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Whether it is let through.
    pub allowed: bool,
    /// The rule that decides.
    pub rule: String,
    /// One line.
    pub reason: String,
}

/// Sends one packet, whole or not at all. Never waits.
///
/// # Errors
/// `InvalidInput` for one that is too long; `WouldBlock`; `BrokenPipe` when the other side has gone.
pub(super) fn send(
    to: impl AsFd,
    value: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    control::send(to, value, descriptors, PACKET)
}

/// Sends the word of who carries (`jail::control::Carries`, which is JSON's `null`).
///
/// # Errors
/// As [`send`].
pub(super) fn send_word(to: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    control::send(to, &(), descriptors, PACKET)
}

/// Takes one packet and what came beside it; `None` when the other side has gone.
///
/// # Errors
/// `InvalidData` for what is no such packet; `WouldBlock`.
pub(super) fn receive<T: DeserializeOwned>(
    from: impl AsFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    control::receive(from, PACKET)
}

/// A policy as a descriptor, since it may be longer than a packet.
///
/// # Errors
/// The errno of memfd_create or write.
pub(super) fn policy_out(policy: &PolicyFile) -> io::Result<OwnedFd> {
    value_out(policy)
}

/// A value as a descriptor.
///
/// # Errors
/// The errno of memfd_create or write.
pub(super) fn value_out(value: &impl Serialize) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("value", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(value)?)?;
    Ok(file.into())
}

/// The credentials of a sandbox as a descriptor.
///
/// # Errors
/// The errno of memfd_create or write.
pub(super) fn credentials_out(credentials: &CredentialsFile) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("credentials", MemfdFlags::CLOEXEC)?);
    // Room at once: growing would leave copies behind of what opens them.
    let each = credentials.credentials.iter();
    let room: usize = each
        .map(|one| 2048 + one.lent.as_ref().map_or(0, |lent| 2 * lent.len()))
        .sum();
    let mut text = Zeroizing::new(Vec::with_capacity(256 + room));
    serde_json::to_writer(&mut *text, credentials)?;
    file.write_all(&text)?;
    Ok(file.into())
}

/// The credentials behind a descriptor.
///
/// # Errors
/// `InvalidData` for what is none, with the field.
pub(super) fn credentials_in(from: OwnedFd) -> io::Result<CredentialsFile> {
    let mut file = File::from(from);
    file.rewind()?;
    let length = file.metadata()?.len().min(CREDENTIALS);
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    file.take(CREDENTIALS).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// The policy behind a descriptor.
///
/// # Errors
/// `InvalidData` for what is none, with the field.
pub(super) fn policy_in(from: OwnedFd) -> io::Result<PolicyFile> {
    let mut file = File::from(from);
    file.rewind()?;
    let mut text = Vec::new();
    file.take(POLICY).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Memory for what must outlive the egress process and never come to a disk.
///
/// # Errors
/// The errno of memfd_create.
pub(super) fn memory() -> io::Result<OwnedFd> {
    Ok(memfd_create("authority", MemfdFlags::CLOEXEC)?)
}

/// What an earlier egress process saved there, if any did.
///
/// # Errors
/// The errno of read.
pub(super) fn saved(memory: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::from(memory.try_clone()?);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(PACKET as u64).read_to_end(&mut bytes)?;
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// Saves an authority there, in one write: one that is half there is none.
///
/// # Errors
/// The errno of write.
pub(super) fn save(memory: &OwnedFd, ca: &Ca) -> io::Result<()> {
    let saved = ca.saved();
    match rustix::io::pwrite(memory, &saved, 0)? {
        written if written == saved.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Listens in `directory`, in place of whatever an earlier process left there: the caller holds its lock.
///
/// # Errors
/// The errno of socket, bind or listen.
pub(super) fn listen(directory: &Path) -> io::Result<OwnedFd> {
    control::listen(open(directory)?)
}

/// A conversation with the egress process of `directory`.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when there is none; `PermissionDenied` when it is another user's.
pub(super) fn connect(directory: &Path) -> io::Result<OwnedFd> {
    control::connect(open(directory)?).map(|(conversation, _)| conversation)
}

/// Whether this user is at the other end.
///
/// # Errors
/// `PermissionDenied` if not.
pub(super) fn check_peer(socket: impl AsFd) -> io::Result<()> {
    control::peer(socket).map(|_| ())
}

/// The directory that this one's socket is reached through; it may be a link.
fn open(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}
