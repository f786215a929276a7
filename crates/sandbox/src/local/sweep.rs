//! Owns what sandboxes left on the host whose supervisor was killed: finds it and has it removed. It ends nothing that
//! is looked after.

use std::fs::File;
use std::sync::Weak;
use std::thread;
use std::time::Instant;

use super::dirs::InUse;
use super::{Shared, dirs, groups, probe, workspaces};
use crate::error::Error;
use crate::limits::{HANDOVER, SWEEP_AGAIN, SWEEP_TIME};

/// Removes what sandboxes left on the host whose supervisor was killed. What was killed together with the
/// former server may be dying still: looks again until it has.
pub(super) fn sweep(shared: &Weak<Shared>) {
    let start = Instant::now();
    let deadline = start + HANDOVER;
    if let Some(shared) = shared.upgrade() {
        workspaces::collect(&shared);
    }
    while let Some(shared) = shared.upgrade() {
        let until = match sweep_once(&shared, deadline) {
            InUse::Nothing => return,
            InUse::ByTheLiving => start + SWEEP_TIME,
            InUse::ByTheDying => deadline,
        };
        drop(shared);
        if Instant::now() > until {
            return;
        }
        thread::sleep(SWEEP_AGAIN);
    }
}

fn sweep_once(shared: &Shared, deadline: Instant) -> InUse {
    shared.dirs.each_left(|id, record| {
        groups::sweep(record, deadline);
        shared.dirs.remove_socket(id);
        // Whoever probed was killed before it could remove this.
        if probe::is_of(id)
            && let Err(error) = shared.trash.take(&shared.dirs.path(id))
        {
            tracing::warn!(sandbox = %id, %error, "what a probe left stays until the next start");
        }
    })
}

/// The lock, once what its former sandbox left on the host is gone.
pub(super) async fn settle(lock: File) -> Result<File, Error> {
    // Its socket is the next supervisor's to replace, or goes with the directory.
    let settled = tokio::task::spawn_blocking(move || {
        if let Some(former) = dirs::former(&lock) {
            groups::sweep(&former, Instant::now() + HANDOVER);
        }
        lock
    });
    settled.await.map_err(|_| Error::Gone)
}
