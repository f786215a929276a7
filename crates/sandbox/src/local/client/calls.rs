//! Owns tool calls under way: asked for, looked for, given up, judged. It runs none.

use std::io;

use bytes::Bytes;
use hand::wire::{Id, Output, ToHand, Tool};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::held::Turn;
use super::{Answer, Client, Inner, Request};
use crate::error::{Doing, Error};
use crate::limits::CANCEL;
use crate::local::answer::judged;
use crate::provider::ToolCall;

/// What the hand was asked last about a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    ToRun,
    HowItEnded,
    ToEnd,
}

impl Client {
    /// Whatever the hand does, it returns: at the latest when the call's own limit, those of the calls
    /// that have their turn before it, and [`TOOL_GRACE`](crate::limits::TOOL_GRACE) are over. Then nothing the hand says counts.
    ///
    /// A call with a key outlives this conversation.
    pub(in crate::local) async fn tool(
        &self,
        key: Option<&str>,
        call: ToolCall,
        cancel: CancellationToken,
    ) -> Result<Output, Error> {
        let input = serde_json::to_vec(&call.input).map_err(io::Error::from);
        let input = input.doing(|| "write a tool's input".to_owned())?;
        let (tool, key) = (call.name, key.map(str::to_owned));
        let caller = self.0.shells.caller(&call);
        let message = |id| ToHand::Call {
            id,
            tool,
            key,
            caller,
        };
        let ran = self.converse(&call, message, input.into(), cancel).await?;
        // Only of a call that was resumed nothing can be known.
        ran.ok_or_else(|| self.0.broken())
    }

    /// How the call with that key ended, once it has; `None` if the hand does not know it.
    pub(in crate::local) async fn resume(
        &self,
        key: &str,
        call: &ToolCall,
        cancel: CancellationToken,
    ) -> Result<Option<Output>, Error> {
        let key = key.to_owned();
        let message = |id| ToHand::Resume { id, key };
        self.converse(call, message, Bytes::new(), cancel).await
    }

    /// Has the hand end the shells of all other callers. Never waits.
    pub(in crate::local) fn callers(&self, keep: Vec<String>) {
        if self.0.shells.have_owners() {
            // What is not said now is said when the next one ends, or never: then its shell ends with the sandbox.
            let _ = self.0.try_send(&ToHand::Callers { keep }, &Bytes::new());
        }
    }

    /// The hand need not keep the result of that call.
    pub(in crate::local) fn taken(&self, key: &str) {
        let key = key.to_owned();
        // What is not said is kept until there is no room for it.
        let _ = self.0.try_send(&ToHand::Taken { key }, &Bytes::new());
    }

    /// Asks for a call's outcome, within the time that it may take.
    async fn converse(
        &self,
        call: &ToolCall,
        message: impl FnOnce(Id) -> ToHand,
        body: Bytes,
        cancel: CancellationToken,
    ) -> Result<Option<Output>, Error> {
        let turn = Turn::new(&self.0, call);
        let limit = turn.limit();
        let id = self.0.id();
        let outcome = self.outcome(id, call.name, message(id), body, cancel);
        match self.0.within(limit, outcome).await {
            Some(outcome) => outcome,
            None => {
                tracing::warn!(?limit, "a hand left a call unanswered");
                Err(self.0.broken())
            }
        }
    }

    async fn outcome(
        &self,
        id: Id,
        tool: Tool,
        message: ToHand,
        body: Bytes,
        cancel: CancellationToken,
    ) -> Result<Option<Output>, Error> {
        let asked = match message {
            ToHand::Resume { .. } => Asked::HowItEnded,
            _ => Asked::ToRun,
        };
        let mut request = Request::new(&self.0, id);
        tokio::select! {
            biased;
            // One that runs already cannot be cancelled before the hand knows which it is.
            () = cancel.cancelled(), if asked == Asked::ToRun => return Err(Error::Cancelled),
            sent = request.send(&message, body) => sent?,
        }
        tokio::select! {
            answer = &mut request.answer => {
                let answer = request.answered(answer)?;
                return self.0.judged(tool, answer, asked);
            }
            () = cancel.cancelled() => {}
            // Long calls are normal; a hand that does not answer is not.
            () = self.silence() => return Err(self.0.broken()),
        }
        if self.0.is_left() {
            return Err(Error::Cancelled);
        }
        // One who wants to leave does not wait for the end of a pause.
        let ended = timeout(CANCEL, async {
            let sent = self.0.send(&ToHand::Cancel { id }, Bytes::new()).await;
            sent.map_err(|_| Error::Lost)?;
            let answer = (&mut request.answer).await;
            request.answered(answer)
        });
        match ended.await {
            Ok(answer) => self.0.judged(tool, answer?, Asked::ToEnd),
            Err(_) => Err(Error::Cancelled),
        }
    }
}

impl Inner {
    /// What the answer to a tool call means; `None` that the hand does not know it. One that no honest hand
    /// gives ends the conversation.
    fn judged(&self, tool: Tool, answer: Answer, asked: Asked) -> Result<Option<Output>, Error> {
        match answer {
            Answer::Done(body) => {
                let output = judged(tool, &body).ok_or_else(|| self.broken());
                output.map(Some)
            }
            Answer::Unknown if asked != Asked::ToRun => Ok(None),
            Answer::Cancelled if asked != Asked::ToRun => Err(Error::Cancelled),
            Answer::Refused(refused) => Err(refused),
            Answer::Cancelled | Answer::Unknown | Answer::Pong | Answer::Spawned(_) => {
                Err(self.broken())
            }
        }
    }
}
