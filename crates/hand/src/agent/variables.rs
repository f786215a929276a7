//! Owns the variables that the server gives a sandbox once it is somebody's. It never changes the hand's own.

use std::sync::{Arc, Mutex, PoisonError};

/// Variables of everything that is started from now on.
#[derive(Clone, Default)]
pub(crate) struct Variables(Arc<Mutex<Given>>);

/// What was given last.
#[derive(Clone, Default)]
pub(crate) struct Given {
    /// Grows with each time that they are given.
    pub(crate) number: u64,
    pub(crate) all: Vec<(String, String)>,
}

impl Variables {
    /// Takes them in the place of those before.
    pub(crate) fn set(&self, all: Vec<(String, String)>) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.number += 1;
        given.all = all;
    }

    /// Those of now.
    pub(crate) fn now(&self) -> Given {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.clone()
    }
}

impl Given {
    /// What brings them into a shell that runs already.
    pub(crate) fn exports(&self) -> String {
        let each = self.all.iter().map(|(name, value)| {
            let quoted = value.replace('\'', r"'\''");
            format!("builtin export {name}='{quoted}'\n")
        });
        each.collect()
    }
}
