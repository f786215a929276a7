//! One question of a server to the egress process, and its answer; questions about the audit have a connection of
//! their own each, so that none holds up what sandboxes need. It keeps nothing.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::wire::{self, Answer, Request, VERSION};
use crate::audit::{Found, Search};
use crate::limits;

/// The egress process did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// It does not run, or does not answer. What was asked is done as soon as it does; until then the sandbox
    /// has no network, or the one that it had.
    #[error("the egress process does not answer; sandboxes have no network until it does")]
    Silent,
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// What was asked about is no URL.
    #[error("{0}")]
    Url(String),
    /// It knows no such sandbox.
    #[error("no network is carried for that sandbox")]
    Unknown,
    /// A policy that cannot be handed over.
    #[error("a policy cannot be handed to the egress process")]
    Policy(#[source] io::Error),
}

/// A conversation, to be waited for.
pub(super) fn stream(socket: OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))
}

/// One question and its answer.
pub(super) async fn ask(
    connection: &UnixStream,
    request: &Request,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Answer> {
    wire::send(connection, request, descriptors)?;
    let receive = || wire::receive::<Answer>(connection);
    let answered = timeout(
        limits::ASK,
        connection.async_io(Interest::READABLE, receive),
    );
    let answered = answered.await.map_err(io::Error::from)??;
    let (answer, _) = answered.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(answer)
}

/// A conversation of its own with the egress process of `directory`, which must be of this version.
async fn own(directory: &Path) -> io::Result<UnixStream> {
    let connection = wire::connect(directory).and_then(stream)?;
    let hello = Request::Hello { version: VERSION };
    match ask(&connection, &hello, &[]).await? {
        Answer::Welcome { version: VERSION } => Ok(connection),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A conversation with the egress process of `directory` that brings it the tokens that were refused.
pub(super) async fn refusals(directory: &Path) -> io::Result<UnixStream> {
    let connection = own(directory).await?;
    match ask(&connection, &Request::Refusals, &[]).await? {
        Answer::Done => Ok(connection),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Asks the egress process of `directory`, and waits until there is something if it is to `wait`.
///
/// Cancel safe: yes, nothing is changed.
pub(super) async fn of_audit(
    directory: &Path,
    asked: Search,
    wait: bool,
) -> Result<Found, CarrierError> {
    let silent = |_: io::Error| CarrierError::Silent;
    let connection = own(directory).await.map_err(silent)?;
    let asked = Request::Audit {
        search: Box::new(asked),
        wait,
    };
    wire::send(&connection, &asked, &[]).map_err(silent)?;
    let receive = || wire::receive::<Answer>(&connection);
    let answered = connection.async_io(Interest::READABLE, receive);
    let answered = if wait {
        answered.await
    } else {
        let answered = timeout(limits::ASK, answered).await;
        answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    };
    match answered.map_err(silent)? {
        Some((Answer::Found, beside)) => {
            let page = beside.into_iter().next().ok_or(CarrierError::Silent)?;
            read(page).map_err(silent)
        }
        Some((Answer::Refused { problem }, _)) => Err(CarrierError::Refused(problem)),
        Some(_) | None => Err(CarrierError::Silent),
    }
}

/// The page behind a descriptor.
fn read(page: OwnedFd) -> io::Result<Found> {
    let mut file = File::from(page);
    file.rewind()?;
    let mut text = Vec::new();
    // Escaped, what a page holds may be longer; the other process is this user's own.
    file.take(4 * limits::AUDIT_PAGE_BYTES as u64)
        .read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
