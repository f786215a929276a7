//! What a server says of one sandbox: data on its way to the egress process. It decides nothing.

use std::io;
use std::os::fd::OwnedFd;

use super::wire;
use crate::inject::CredentialsFile;
use crate::policy::PolicyFile;

/// What a sandbox may reach, and what it may use.
#[derive(Clone, Copy, Debug)]
pub struct Orders<'a> {
    /// Its policy.
    pub policy: &'a PolicyFile,
    /// Credentials that its programs know as placeholders.
    pub credentials: &'a CredentialsFile,
}

/// A policy without any credentials.
impl<'a> From<&'a PolicyFile> for Orders<'a> {
    fn from(policy: &'a PolicyFile) -> Self {
        const NONE: &CredentialsFile = &CredentialsFile {
            cleartext: false,
            credentials: Vec::new(),
        };
        Self {
            policy,
            credentials: NONE,
        }
    }
}

impl Orders<'_> {
    /// Whether connections in TLS may be looked into: programs have to trust the sandbox's authority before these are in
    /// force.
    #[must_use]
    pub fn look_into_tls(&self) -> bool {
        self.policy.looks_into_tls() || !self.credentials.credentials.is_empty()
    }

    pub(super) fn out(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([
            wire::policy_out(self.policy)?,
            wire::credentials_out(self.credentials)?,
        ])
    }
}
