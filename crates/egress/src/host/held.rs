//! Owns what a server keeps of each sandbox, to tell every egress process that it speaks with. It starts none of them.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use tokio::net::UnixStream;

use super::question::ask;
use super::wire::{Answer, Owner, Request};

/// What is told to each egress process anew.
pub(super) struct Held {
    pub(super) owner: Option<Owner>,
    pub(super) ends: [OwnedFd; 4],
    /// Its policy and its credentials.
    pub(super) orders: [OwnedFd; 2],
    /// Where the egress process keeps what the next one must know. Never read here.
    pub(super) memory: OwnedFd,
    /// That of its authority, once a process has carried for it.
    pub(super) certificate: Option<String>,
}

impl Held {
    /// Has the process at the other end carry for it.
    pub(super) async fn attach(
        &self,
        connection: &UnixStream,
        sandbox: &str,
    ) -> io::Result<Answer> {
        let request = Request::Attach {
            sandbox: sandbox.to_owned(),
            owner: self.owner,
        };
        let [pid_one, tcp, dns, line] = &self.ends;
        let [policy, credentials] = &self.orders;
        let all = [pid_one, tcp, dns, line, policy, &self.memory, credentials];
        let descriptors = all.map(|fd| fd.as_fd());
        ask(connection, &request, &descriptors).await
    }
}
