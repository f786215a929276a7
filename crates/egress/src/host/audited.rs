//! Both ends of questions about the audit: the egress process has it, and a server asks. Each question has a
//! connection of its own, so that none holds up what sandboxes need.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use contract::time::Micros;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::{interval, timeout};

use super::client::{CarrierError, ask, stream};
use super::wire::{self, Answer, Request, VERSION};
use super::{AUDIT, Host};
use crate::audit::{Found, Retention, Search, search, trim};
use crate::limits;

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// So many days; none: forever.
    pub days: Option<u32>,
    /// So many bytes of records, roughly; none: as many as there are.
    pub bytes: Option<u64>,
}

impl Keep {
    /// As a retention at that instant, if anything is to go at all.
    fn at(self, now: Micros) -> Option<Retention> {
        const DAY: i64 = 86_400_000_000;
        if self.days.is_none() && self.bytes.is_none() {
            return None;
        }
        let since = self.days.map_or(Micros(i64::MIN), |days| {
            Micros(now.0 - i64::from(days) * DAY)
        });
        Some(Retention {
            since: since.max(Micros(0)),
            records: u64::MAX,
            bytes: self.bytes.unwrap_or(u64::MAX),
        })
    }
}

/// Answers a question about the audit; if it is to `wait`, when there is something. `None` when whoever asked has
/// gone, or this process ends.
pub(super) async fn answer(
    host: &Arc<Host>,
    server: &UnixStream,
    mut asked: Search,
    wait: bool,
) -> Option<(Answer, Option<OwnedFd>)> {
    let mut head = host.audit.head();
    loop {
        head.mark_unchanged();
        let found = {
            let _one_of_few = host.searches.acquire().await.ok()?;
            let (path, asked) = (host.dir.join(AUDIT), asked.clone());
            spawn_blocking(move || search(&path, &asked)).await.ok()?
        };
        match found {
            Ok(found) if wait && found.records.is_empty() && !found.more => {
                // What was looked at need not be looked at again.
                asked.from = found.last.or(asked.from);
            }
            Ok(found) => {
                let beside = wire::value_out(&found).ok()?;
                return Some((Answer::Found, Some(beside)));
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the audit cannot be read"
                );
                let problem = error.to_string();
                return Some((Answer::Refused { problem }, None));
            }
        }
        let receive = || wire::receive::<Request>(server);
        tokio::select! {
            () = host.stop.cancelled() => return None,
            changed = head.changed() => changed.ok()?,
            // It has nothing to say before it is answered.
            _ = server.async_io(Interest::READABLE, receive) => return None,
        }
    }
}

/// Removes what is beyond what a server wants to be kept, from time to time, until the process ends.
pub(super) async fn keep(host: Arc<Host>) {
    let mut wanted = host.keep.subscribe();
    let mut times = interval(limits::AUDIT_KEEP);
    loop {
        tokio::select! {
            () = host.stop.cancelled() => return,
            _ = times.tick() => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
        let now = host.now();
        let Some(retention) = wanted.borrow_and_update().and_then(|keep| keep.at(now)) else {
            continue;
        };
        let path = host.dir.join(AUDIT);
        let trimmed = spawn_blocking(move || trim(&path, retention)).await;
        match trimmed {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "old records left the egress audit"),
            Ok(Err(error)) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "old records cannot be removed from the egress audit"
            ),
        }
    }
}

/// Asks the egress process of `directory`, and waits until there is something if it is to `wait`.
///
/// Cancel safe: yes, nothing is changed.
pub(super) async fn ask_for(
    directory: &Path,
    asked: Search,
    wait: bool,
) -> Result<Found, CarrierError> {
    let silent = |_: io::Error| CarrierError::Silent;
    let connection = wire::connect(directory).and_then(stream).map_err(silent)?;
    let hello = Request::Hello { version: VERSION };
    let welcome = ask(&connection, &hello, &[]).await.map_err(silent)?;
    if welcome != (Answer::Welcome { version: VERSION }) {
        return Err(CarrierError::Silent);
    }
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
