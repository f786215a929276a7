//! Where a session runs, as one run of it has that stored: along with its first fact, and with the first one after each
//! change. So no result from a sandbox is in the log before it is known which server has that sandbox, and that a loss was
//! told is known as soon as it is in the log. It decides nothing: who may run a session asks the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use contract::ids::SessionId;
use serde_json::json;
use serde_json::value::to_raw_value;
use store::SubmitError;
use store::timeline::Binding;

use crate::Inner;
use crate::loss::Loss;

/// What one run knows of it.
pub(crate) struct Whereabouts {
    /// The session's sandbox runs here, or has in this run.
    sandboxed: AtomicBool,
    /// How the harness' process came to be in it, if this run saw to that.
    placed: Mutex<Option<&'static str>>,
    /// What was stored of it last. Whoever stores something else holds it meanwhile: threads report side by side, and
    /// no older word may replace a newer one.
    pub(crate) stored: tokio::sync::Mutex<Option<Binding>>,
}

impl Whereabouts {
    /// Of a run that begins, and finds the session's sandbox running here, or not.
    pub(crate) fn new(sandboxed: bool) -> Self {
        Self {
            sandboxed: AtomicBool::new(sandboxed),
            placed: Mutex::default(),
            stored: tokio::sync::Mutex::default(),
        }
    }

    /// The session's sandbox runs here.
    pub(crate) fn uses_sandbox(&self) {
        self.sandboxed.store(true, Ordering::Relaxed);
    }

    /// The harness' process is there, and came to be there like that.
    pub(crate) fn placed(&self, how: &'static str) {
        self.uses_sandbox();
        *self.placed.lock().unwrap_or_else(PoisonError::into_inner) = Some(how);
    }

    /// What is to be stored now, with the loss that is still to be told.
    ///
    /// # Errors
    /// [`SubmitError::Bug`]: it cannot be written down.
    pub(crate) fn binding(
        &self,
        inner: &Inner,
        session: SessionId,
        harness: &str,
        untold: Option<&Loss>,
    ) -> Result<Binding, SubmitError> {
        let sandboxed = self.sandboxed.load(Ordering::Relaxed);
        let mut body = json!({
            "harness": harness,
            "runner": inner.holder.0,
            "sandbox": sandboxed.then(|| session.to_string()),
        });
        if let Some(how) = *self.placed.lock().unwrap_or_else(PoisonError::into_inner) {
            body["harness_process"] = how.into();
        }
        if let Some(lost) = untold {
            lost.note(&mut body, sandboxed);
        }
        let body = to_raw_value(&body).map_err(|e| SubmitError::Bug(e.into()))?;
        let here = inner.replica.as_ref().filter(|_| sandboxed);
        let host = here.map(|name| name.as_str().to_owned());
        Ok(Binding { body, host })
    }
}

/// Whether that was stored already.
pub(crate) fn is_stored(stored: Option<&Binding>, binding: &Binding) -> bool {
    stored.is_some_and(|it| it.body.get() == binding.body.get() && it.host == binding.host)
}
