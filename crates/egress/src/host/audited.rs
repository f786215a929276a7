//! The egress process's end of questions about its audit, and how long that is kept. A question holds nothing up
//! that sandboxes need.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use contract::time::Micros;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::interval;

use super::wire::{self, Answer, Keep, Request};
use super::{AUDIT, Host};
use crate::audit::{Retention, Search, search, trim};
use crate::limits;

/// As a retention at that instant, if anything is to go at all.
fn retention(keep: Keep, now: Micros) -> Option<Retention> {
    const DAY: i64 = 86_400_000_000;
    if keep.days.is_none() && keep.bytes.is_none() {
        return None;
    }
    let since = keep.days.map_or(Micros(i64::MIN), |days| {
        Micros(now.0 - i64::from(days) * DAY)
    });
    Some(Retention {
        since: since.max(Micros(0)),
        records: u64::MAX,
        bytes: keep.bytes.unwrap_or(u64::MAX),
    })
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
        let Some(retention) = wanted
            .borrow_and_update()
            .and_then(|keep| retention(keep, now))
        else {
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
