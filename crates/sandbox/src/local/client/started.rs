//! Owns what is started through one hand, and what an earlier server had started and kept. It carries no stream.

use std::io;
use std::sync::Arc;

use hand::wire::{Id, KEEPS, Kept, Open, Spawn, ToHand};

use super::held::Unstarted;
use super::{Answer, Client, Request};
use crate::error::{Doing, Error};
use crate::limits::SPAWN;
use crate::process::{Command, Process};

impl Client {
    pub(in crate::local) async fn spawn(&self, mut command: Command) -> Result<Process, Error> {
        let key = command.key.take();
        let spawn = spawn(command);
        let started = self.start(|id| ToHand::Spawn { id, key }, &spawn);
        Ok(started.await?.0)
    }

    /// Starts a process that is kept for the next server, in place of the one that is. A hand of an older build only
    /// starts it.
    pub(in crate::local) async fn keep(
        &self,
        key: &str,
        command: Command,
    ) -> Result<Process, Error> {
        if self.0.version < KEEPS {
            return self.spawn(command).await;
        }
        let key = key.to_owned();
        let keep = |id| ToHand::Keep { id, key };
        Ok(self.lasting(self.start(keep, &spawn(command)).await?.0))
    }

    /// The process that an earlier server had kept.
    pub(in crate::local) async fn kept(&self, key: &str) -> Result<Option<(Process, Kept)>, Error> {
        if self.0.version < KEEPS {
            return Ok(None);
        }
        let key = key.to_owned();
        match self.start(|id| ToHand::Attach { id, key }, &()).await {
            Ok((process, kept)) => {
                let process = self.lasting(process);
                let kept = serde_json::from_slice(&kept).map_err(|_| self.0.broken())?;
                Ok(Some((process, kept)))
            }
            Err(Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// It goes on where its sandbox does.
    fn lasting(&self, mut process: Process) -> Process {
        process.left = Arc::clone(&self.0.left);
        process
    }

    /// Opens a stream; what the hand said of it comes beside it.
    pub(in crate::local) async fn open(&self, open: &Open) -> Result<(Process, Vec<u8>), Error> {
        self.start(|id| ToHand::Open { id }, open).await
    }

    async fn start(
        &self,
        message: impl FnOnce(Id) -> ToHand,
        what: &impl serde::Serialize,
    ) -> Result<(Process, Vec<u8>), Error> {
        let what = serde_json::to_vec(what).map_err(io::Error::from);
        let what = what.doing(|| "write what is to be started".to_owned())?;
        let id = self.0.id();
        // Before the request, so that no chunk can come too early.
        let (unstarted, process) = Unstarted::open(&self.0, id)?;
        let mut request = Request::new(&self.0, id);
        let answered = self.0.within(SPAWN, async {
            request.send(&message(id), what.into()).await?;
            let answer = (&mut request.answer).await;
            request.answered(answer)
        });
        match answered.await {
            Some(answer) => match answer? {
                Answer::Spawned(said) => {
                    unstarted.started();
                    Ok((process, said))
                }
                Answer::Refused(refused) => Err(refused),
                _ => Err(self.0.broken()),
            },
            None => Err(self.0.broken()),
        }
    }
}

/// In the hand's words.
fn spawn(command: Command) -> Spawn {
    let limit = command.time_limit.map(|limit| limit.as_millis());
    Spawn {
        argv: command.argv,
        env: command.env,
        cwd: command.cwd,
        terminal: command.terminal,
        time_limit_ms: limit.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
    }
}
