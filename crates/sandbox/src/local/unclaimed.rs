//! Owns the supervisor that is born ahead, with all that stands under any sandbox: the next start takes it, and waits
//! for what is its own only. It knows of no sandbox; what waited is taken once, or ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jail::plan::{Ground, Plan, SHARED, VERSION};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::groups::Groups;
use super::ranges::Range;
use super::supervisor::Supervisor;
use super::{Shared, blocking, starts_at_once};
use crate::error::{Doing, Error};
use crate::limits::{AHEAD_AFTER, STOP, STRAYS_AGAIN, STRAYS_TRIES};

/// A supervisor that waits for its plan, or is on its way to that.
pub(super) struct Born {
    pub(super) supervisor: Supervisor,
    /// To the hand that it will start.
    pub(super) line: UnixStream,
    pub(super) range: Range,
    /// Whether it was there before anybody wanted it.
    waited: bool,
}

/// The one that nobody has claimed.
#[derive(Default)]
pub(super) struct Unclaimed {
    one: Mutex<Option<Born>>,
    /// Whether somebody makes one.
    making: AtomicBool,
    closing: AtomicBool,
    next: AtomicU64,
}

impl Unclaimed {
    fn one(&self) -> MutexGuard<'_, Option<Born>> {
        self.one.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it, if there is one.
    pub(super) fn claim(&self) -> Option<Born> {
        self.one().take()
    }

    fn wants_one(&self) -> bool {
        !self.closing.load(Ordering::SeqCst) && self.one().is_none()
    }
}

/// Has one born. Its range is looked for from a place that depends on `name`.
pub(super) fn bear(
    shared: &Shared,
    helper: &OwnedFd,
    groups: &Groups,
    name: &str,
) -> Result<Born, Error> {
    let doing = || "start the supervisor".to_owned();
    let mut range = shared.ranges.take(name)?;
    let (control, control_theirs) = jail::control::pair().doing(doing)?;
    let (line, line_theirs) = std::os::unix::net::UnixStream::pair().doing(doing)?;
    line.set_nonblocking(true).doing(doing)?;
    let given = [control_theirs.as_fd(), line_theirs.as_fd()];
    let born = shared.nursery.bear(helper, shared.own_ids, given);
    born.doing(doing)?;
    let supervisor = Supervisor::expected(control, &shared.leaving).doing(doing)?;
    // Its last copy here goes with this: a descriptor less that is open in the server.
    let lock = range.hand_over();
    let ground = ground(shared, groups, &range);
    supervisor.give(&ground, lock.as_ref().map(AsFd::as_fd))?;
    Ok(Born {
        supervisor,
        line: UnixStream::from_std(line).doing(doing)?,
        range,
        waited: false,
    })
}

fn ground(shared: &Shared, groups: &Groups, range: &Range) -> Ground {
    Ground {
        version: VERSION,
        id_base: if shared.own_ids { range.base() } else { SHARED },
        sub_ids: shared.sub_ids,
        limits: groups.limits.clone(),
        groups: groups.each.clone(),
        network: shared.network.is_some(),
    }
}

impl Born {
    /// Says whose it is. False of one that waited and has gone: another takes its place. Of one that goes now, the
    /// reason is heard when it is asked for.
    pub(super) fn is_told(&self, plan: &Plan, lock: BorrowedFd<'_>) -> Result<bool, Error> {
        match self.supervisor.give(plan, Some(lock)) {
            Err(Error::Io { source, .. }) if has_gone(&source) => Ok(!self.waited),
            other => other.map(|()| true),
        }
    }
}

fn has_gone(error: &io::Error) -> bool {
    [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset].contains(&error.kind())
}

impl Shared {
    /// Has one wait for the next start, a moment after the last one was served, unless others are on their way up: it
    /// would take the processor from them. Never waits itself.
    pub(super) fn bear_ahead(self: &Arc<Self>) {
        let unclaimed = &self.unclaimed;
        // Without ids of its own it would keep a copy of the host's mounts.
        if !self.own_ids || !unclaimed.wants_one() || unclaimed.making.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let shared = Arc::downgrade(self);
        self.tasks.spawn(async move {
            sleep(AHEAD_AFTER).await;
            let Some(shared) = shared.upgrade() else {
                return;
            };
            if shared.starts.available_permits() == starts_at_once()
                && let Err(error) = shared.one_ahead().await
            {
                tracing::warn!(%error, "no supervisor waits for the next sandbox");
            }
            shared.unclaimed.making.store(false, Ordering::SeqCst);
        });
    }

    async fn one_ahead(&self) -> Result<(), Error> {
        let (Some(helper), Some(groups)) = (self.helper.get(), self.groups.get()) else {
            return Ok(());
        };
        let number = self.unclaimed.next.fetch_add(1, Ordering::Relaxed);
        let mut born = bear(self, helper, groups, &format!("ahead-{number}"))?;
        born.waited = born.supervisor.is_here().await;
        let closing = || self.unclaimed.closing.load(Ordering::SeqCst);
        if !born.waited || closing() {
            return Ok(());
        }
        *self.unclaimed.one() = Some(born);
        // Whoever closed meanwhile may have looked before it was there.
        if closing() {
            drop(self.unclaimed.claim());
        }
        Ok(())
    }

    /// Ends the one that waits; there will be no other.
    pub(super) async fn close_unclaimed(&self) {
        self.unclaimed.closing.store(true, Ordering::SeqCst);
        if let Some(Born { mut supervisor, .. }) = self.unclaimed.claim() {
            supervisor.end();
            if timeout(STOP, supervisor.ended()).await.is_err() {
                supervisor.kill();
            }
        }
    }

    /// Removes, in the background, the cgroups of a supervisor that was killed before it had written down whose they
    /// are.
    pub(super) fn sweep_groups(self: &Arc<Self>) {
        let Some(groups) = self.groups.get().cloned() else {
            return;
        };
        self.tasks.spawn(async move {
            for _ in 0..STRAYS_TRIES {
                let groups = Arc::clone(&groups);
                let swept = blocking(String::new, move || groups.sweep_strays()).await;
                if !swept.unwrap_or_default() {
                    return;
                }
                // What was in them is dying.
                sleep(STRAYS_AGAIN).await;
            }
        });
    }
}
