//! `native`: the resident loop. It makes the model request a step names, runs the call a step names,
//! and reports; the order of things is the session core's.

mod conversation;
pub mod prompt;
mod reply;
mod tools;

use async_trait::async_trait;
use contract::content::Block;
use contract::event::SessionErrorKind;
use contract::ids::EventId;
use model::{Client, Error as ModelError, Failure, Request, Thinking};
use session::{Fact, Remedy, Step, Used};

use crate::Harness;
use crate::causes::chain;
use crate::native::conversation::{Conversation, Wanted};
use crate::native::reply::Previewer;
use crate::plane::{Plane, PlaneError};

/// The resident loop. One value serves every session.
pub struct Native {
    client: Client,
}

impl Native {
    /// A loop that reaches models through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Harness for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    async fn run(&self, plane: &dyn Plane, first: Step) -> Result<(), PlaneError> {
        if first == Step::Rest {
            return Ok(());
        }
        let mut conversation = Conversation::read(plane.transcript().await?)?;
        let mut step = first;
        loop {
            let fact = match step {
                Step::Rest => return Ok(()),
                Step::Request { .. } => self.request(plane, &conversation).await?,
                Step::Compact { .. } => return Err(PlaneError::Bug("compaction".to_owned())),
                Step::Execute { call } => execute(plane, &conversation, call).await?,
            };
            let taken = plane.report(fact).await?;
            conversation.extend(taken.entries)?;
            step = taken.step;
        }
    }
}

impl Native {
    async fn request(
        &self,
        plane: &dyn Plane,
        conversation: &Conversation,
    ) -> Result<Fact, PlaneError> {
        let brief = plane.brief();
        let request = Request {
            model: brief.model.clone(),
            system: prompt::system(brief),
            tools: tools::offered(brief),
            messages: conversation.messages(),
            max_tokens: brief.max_tokens,
            effort: brief.effort,
            thinking: Thinking::Unset,
        };
        let cancel = plane.cancelled();
        let mut previewer = Previewer::new(plane);
        let mut sink = |delta| previewer.see(delta);
        let outcome = self
            .client
            .stream(plane.endpoint(), &request, &cancel, &mut sink)
            .await;
        match outcome {
            Ok(reply) => previewer.fact(reply, plane.endpoint().dialect),
            Err(failure) if cancel.is_cancelled() => gave_up(plane, failure),
            Err(failure) => Ok(failed(failure)),
        }
    }
}

/// What was in flight ended because we ended it: for an interrupt that is a fact, for a shutdown nothing.
fn gave_up(plane: &dyn Plane, failure: Failure) -> Result<Fact, PlaneError> {
    if plane.interrupted() {
        Ok(Fact::Interrupted {
            used: reply::used(&failure.partial_usage),
        })
    } else {
        Err(PlaneError::Stopping)
    }
}

fn failed(failure: Failure) -> Fact {
    let kind = match &failure.error {
        ModelError::RateLimited { .. } => SessionErrorKind::ModelRateLimitedError,
        ModelError::Overloaded { .. } => SessionErrorKind::ModelOverloadedError,
        ModelError::BadRequest { status: 402, .. } => SessionErrorKind::BillingError,
        _ => SessionErrorKind::ModelRequestFailedError,
    };
    let message = chain(&failure.error);
    Fact::RequestFailed {
        kind,
        message,
        used: reply::used(&failure.partial_usage),
        remedy: Remedy::None,
    }
}

async fn execute(
    plane: &dyn Plane,
    conversation: &Conversation,
    call: EventId,
) -> Result<Fact, PlaneError> {
    let Some(wanted) = conversation.call(call) else {
        return Err(PlaneError::Bug(format!(
            "no recorded reply asks for {call}"
        )));
    };
    let told = |text: String| {
        Ok(Fact::Finished {
            call,
            content: vec![Block::text(text)],
            is_error: true,
        })
    };
    match run(plane, wanted).await {
        Ok((content, is_error)) => Ok(Fact::Finished {
            call,
            content,
            is_error,
        }),
        Err(sandbox::Error::Cancelled) if plane.interrupted() => Ok(Fact::Interrupted {
            used: Used::default(),
        }),
        Err(sandbox::Error::Cancelled) => Err(PlaneError::Stopping),
        Err(error @ sandbox::Error::Lost) => {
            tracing::warn!(error = %error, "tool call lost");
            told(format!(
                "The outcome of this call is unknown: {error}. It may have had all, some or none of its effects. Check before you try again."
            ))
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "tool call not run");
            // What lies behind it is the operator's business.
            told(format!("The call was not run: {error}"))
        }
    }
}

/// Runs a call in the session's sandbox. One that died while nobody used it is started again: the call
/// had not begun.
async fn run(plane: &dyn Plane, wanted: &Wanted) -> Result<(Vec<Block>, bool), sandbox::Error> {
    let once = || async {
        let sandbox = plane.sandbox().await?;
        tools::run(
            sandbox.as_ref(),
            &wanted.name,
            wanted.input.clone(),
            plane.cancelled(),
        )
        .await
    };
    match once().await {
        Err(sandbox::Error::Gone) => once().await,
        outcome => outcome,
    }
}
