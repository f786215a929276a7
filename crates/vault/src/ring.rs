//! The keys that wrap: one, or two while the master key is rotated. What is sealed is sealed under the newest;
//! what was sealed before opens under its own.

use zeroize::Zeroizing;

use crate::master::{LEN, MasterKey};

/// A key that wraps data keys.
pub(crate) struct Wrap {
    /// The version of the master key it is derived from.
    pub(crate) version: u32,
    pub(crate) key: Zeroizing<[u8; LEN]>,
}

impl Wrap {
    pub(crate) fn of(key: &MasterKey, version: u32) -> Self {
        let key = key.derive("wrap data keys v1");
        Self { version, key }
    }
}

/// The keys that wrap, the newest first.
pub(crate) struct Ring {
    newest: Wrap,
    older: Option<Wrap>,
}

impl Ring {
    pub(crate) fn new(current: Wrap) -> Self {
        Self {
            newest: current,
            older: None,
        }
    }

    /// Takes the next key: from now on it seals.
    pub(crate) fn begin(&mut self, next: Wrap) {
        self.older = Some(std::mem::replace(&mut self.newest, next));
    }

    /// Forgets the key before the newest.
    pub(crate) fn finish(&mut self) {
        self.older = None;
    }

    pub(crate) fn newest(&self) -> &Wrap {
        &self.newest
    }

    /// The version that is being rotated away.
    pub(crate) fn leaving(&self) -> Option<u32> {
        self.older.as_ref().map(|older| older.version)
    }

    pub(crate) fn of(&self, version: u32) -> Option<&Wrap> {
        let all = [Some(&self.newest), self.older.as_ref()];
        all.into_iter()
            .flatten()
            .find(|wrap| wrap.version == version)
    }
}
