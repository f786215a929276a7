//! What a run does about a claude that an earlier server has left: takes it up, asks it how a call ended, or has the
//! next one made from the log. It decides nothing: whoever it asks, the session core is told a fact.

use std::time::{Duration, Instant};

use contract::ids::EventId;
use session::Fact;

use super::live::{Live, NotStarted};
use super::process::Broken;
use super::{Turn, start, wire};
use crate::bill::Bill;
use crate::causes::chain;
use crate::limits::{FOREIGN_ACCOUNT, FOREIGN_END};
use crate::native;
use crate::native::failed::gave_up;
use crate::plane::{Plane, PlaneError, Spent};

impl Turn<'_> {
    /// Takes up the claude that an earlier server has left in the session's sandbox, if there is one. None is started.
    pub(super) async fn adopt(&mut self) {
        if std::mem::replace(&mut self.looked, true) || self.live.is_some() {
            return;
        }
        let plane = self.plane;
        let Ok(Some(sandbox)) = plane.left_sandbox().await else {
            return;
        };
        let (began, messages) = (Instant::now(), self.conversation.messages());
        match Live::adopt(&sandbox, plane.brief(), &messages).await {
            Ok(Some(live)) => {
                tracing::info!("claude is taken over as it runs");
                plane.placed(live.how().name(), began.elapsed());
                self.live = Some(live);
            }
            Ok(None) => {}
            Err(why) => tracing::info!(why = %chain(&why), "claude is not taken over"),
        }
    }

    /// Takes the claude that waits for the session's next turn, if there is one: also while the turn begins one may come
    /// to be there that was started ahead.
    pub(super) fn take_rested(&mut self) {
        if self.live.is_none() {
            self.live = self.claude.resting().remove(&self.plane.session());
            if let Some(live) = self.live.as_ref().filter(|live| live.is_new()) {
                self.plane.placed(live.how().name(), Duration::ZERO);
            }
        }
    }

    /// Ends it, if it runs. Never waits.
    pub(super) fn end(&mut self) {
        if let Some(live) = self.live.take() {
            live.end();
            self.ended = Some(live);
        }
    }

    /// Waits until the one that was ended is gone, with its sandbox if need be; not for ever.
    pub(super) async fn gone(&mut self) {
        if let Some(live) = self.ended.take()
            && tokio::time::timeout(FOREIGN_END, live.gone())
                .await
                .is_err()
        {
            tracing::warn!("a claude that was ended is still there");
        }
    }

    /// Ends it, and has the next one start from the log.
    pub(super) async fn forget(&mut self) -> Result<(), NotStarted> {
        self.end();
        self.gone().await;
        let sandbox = self.plane.sandbox().await?;
        start::keep(sandbox.as_ref(), "", b"").await?;
        Ok(())
    }

    /// Finds out how a call ended that a run which is lost had started: by the claude that was let run it, if that goes
    /// on, or else by the hand.
    pub(super) async fn recover(&mut self, call: EventId) -> Result<Fact, PlaneError> {
        self.adopt().await;
        let plane = self.plane;
        let began = Instant::now();
        let wanted = { self.conversation.call(call) }.map(|it| it.provider_id.clone());
        let messages = self.conversation.messages();
        if let (Some(id), Some(live)) = (wanted, self.live.as_mut()) {
            let cancel = plane.cancelled();
            let ran = cancel.run_until_cancelled(recovered(plane, live, &messages, &id));
            match ran.await {
                None => {
                    self.end();
                    return gave_up(plane, &Bill::default());
                }
                Some(Ok(Some(result))) => {
                    plane.spent(Spent::Tool, began.elapsed());
                    return Ok(Fact::Finished {
                        call,
                        content: result.content,
                        is_error: result.is_error,
                    });
                }
                // It was not let run it: the hand was asked to, or nobody.
                Some(Ok(None)) => {}
                Some(Err(why)) => {
                    tracing::warn!(why = %chain(&why), "claude cannot say how a call ended");
                    self.end();
                }
            }
        }
        native::recover(plane, &self.conversation, call).await
    }
}

/// How a call ended that an earlier server had let it run; none if it was not let.
async fn recovered(
    plane: &dyn Plane,
    live: &mut Live,
    messages: &[model::Message],
    call: &str,
) -> Result<Option<wire::ToolResult>, Broken> {
    live.settle(messages).await?;
    if !live.reaches(call) {
        return Ok(None);
    }
    let wanted = tokio::time::timeout(FOREIGN_ACCOUNT, live.wanted(call, plane.brief())).await;
    if !wanted.unwrap_or(Err(Broken::Silent))? {
        return Ok(None);
    }
    let ran = live.run(call, plane.brief()).await;
    ran.map(Some).map_err(|(why, _)| why)
}
