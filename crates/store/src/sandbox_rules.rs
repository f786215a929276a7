//! What a sandbox may reach by rules of its own. This module reads none of them: whoever keeps them has.

use contract::ids::SessionId;
use contract::time::Micros;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::feed::Changed;
use crate::store::{Store, on_back};

/// The rules of one sandbox.
#[derive(Debug, Clone)]
pub struct SandboxRules {
    /// As JSON.
    pub body: Box<RawValue>,
    /// When they last changed.
    pub updated_at: Micros,
}

impl Store {
    /// The rules of that sandbox, which is named as the session that it is of, or as an operator named it; none: it
    /// has none.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn sandbox_rules(&self, sandbox: &str) -> Result<Option<SandboxRules>, Error> {
        let sandbox = sandbox.to_owned();
        on_back!(self, read, |c| sandbox_rules::get(c, &sandbox))
    }

    /// Replaces the rules of that sandbox; none: it has none any more. Those of a session go with it.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn set_sandbox_rules(
        &self,
        sandbox: &str,
        body: Option<Box<RawValue>>,
        now: Micros,
    ) -> Result<(), Error> {
        let name = sandbox.to_owned();
        on_back!(self, write, |cx| sandbox_rules::set(cx, &name, body, now))?;
        self.feed().changed(match sandbox.parse::<SessionId>() {
            Ok(session) => Changed::Session(session),
            // There are few of these, and they seldom change.
            Err(_) => Changed::Anything,
        });
        Ok(())
    }
}
