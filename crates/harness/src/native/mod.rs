//! `native`: the resident loop. It makes the model request a step names, runs the call a step names,
//! and reports; the order of things is the session core's.

mod aim;
pub mod compact;
pub(crate) mod conversation;
pub(crate) mod failed;
pub mod grade;
pub mod prompt;
pub(crate) mod reply;
pub(crate) mod team;
pub(crate) mod tools;

use std::time::Instant;

use async_trait::async_trait;
use contract::content::Block;
use contract::event::SessionErrorKind;
use contract::ids::EventId;
use model::{
    Block as Said, Class, Client, Failure, Message, Reply, Request, Stop, Thinking, UserBlock,
};
use serde_json::value::to_raw_value;
use session::{Fact, Remedy, Step, Used};

use crate::Harness;
use crate::bill::Bill;
use crate::brief::Brief;
use crate::causes::chain;
use crate::judge;
use crate::limits::{BYTES_PER_TOKEN, CROWDED_FIFTHS, PAUSES, SUMMARY_TOKENS, SUMMARY_TRIES};
use crate::native::conversation::{Conversation, Wanted};
use crate::native::failed::{failed, gave_up};
use crate::native::reply::Previewer;
use crate::plane::{Plane, PlaneError, Spent};

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
            let taken = match step {
                Step::Rest => return Ok(()),
                Step::Request { span } => {
                    let fact = self.request(plane, span, &conversation).await?;
                    plane.report(fact).await?
                }
                Step::Compact { span } => {
                    let fact = self.compact(plane, span, &conversation).await?;
                    plane.report(fact).await?
                }
                Step::Execute { call } => {
                    let fact = match conversation
                        .call(call)
                        .filter(|w| team::leads(plane, &w.name))
                    {
                        Some(wanted) => {
                            team::carry_out(&self.client, plane, call, wanted, &conversation)
                                .await?
                        }
                        None => execute(plane, &conversation, call).await?,
                    };
                    plane.report(fact).await?
                }
                Step::Recover { call } => {
                    let fact = recover(plane, &conversation, call).await?;
                    plane.report(fact).await?
                }
                Step::Grade { start, beat } => {
                    grade::grade(&self.client, plane, (start, beat), &conversation).await?
                }
            };
            conversation.extend(taken.entries)?;
            step = taken.step;
        }
    }
}

impl Native {
    async fn request(
        &self,
        plane: &dyn Plane,
        span: EventId,
        conversation: &Conversation,
    ) -> Result<Fact, PlaneError> {
        let cancel = plane.cancelled();
        let mut previewer = Previewer::new(plane);
        let mut bill = Bill::default();
        let began = Instant::now();
        let outcome = self
            .reply(plane, conversation, &mut previewer, &mut bill)
            .await;
        plane.spent(Spent::Model, began.elapsed());
        let reply = match outcome {
            Ok(reply) => reply,
            Err(_) if cancel.is_cancelled() => return gave_up(plane, &bill),
            Err(failure) => return Ok(failed(span, &failure, &bill)),
        };
        let crowded = is_crowded(plane.brief(), &reply) && !conversation.is_condensed();
        let mut said = previewer.finish(reply, plane.endpoint().dialect)?;
        judge::judge(
            &self.client,
            plane,
            conversation.said(),
            &mut said.calls,
            &mut bill,
        )
        .await;
        // Calls that an interrupt left without a judgement are closed by the core. A judge that a shutdown
        // cut off says nothing: whoever takes the session up asks the model again.
        if cancel.is_cancelled() && !plane.interrupted() && is_judged(plane.brief(), &said.calls) {
            return Err(PlaneError::Stopping);
        }
        Ok(said.fact(span, &bill, crowded))
    }

    /// One reply, whole: an answer that the provider paused is sent back until it is finished, and what came
    /// before the pause stands before what comes after it. Its usage is that of the last request, which is
    /// what the window holds; the bill is of all.
    async fn reply(
        &self,
        plane: &dyn Plane,
        conversation: &Conversation,
        previewer: &mut Previewer<'_>,
        bill: &mut Bill,
    ) -> Result<Reply, Failure> {
        let cancel = plane.cancelled();
        let mut request = request(plane.brief(), conversation.messages());
        let asked = request.messages.len();
        let mut said: Vec<Said> = Vec::new();
        let mut pauses = 0;
        loop {
            let mut sink = |delta| previewer.see(delta);
            let outcome = self
                .client
                .stream(plane.endpoint(), &request, &cancel, &mut sink)
                .await;
            let usage = match &outcome {
                Ok(reply) => &reply.usage,
                Err(failure) => &failure.partial_usage,
            };
            bill.add(plane, usage);
            let mut reply = outcome?;
            said.append(&mut reply.blocks);
            if reply.stop != Stop::Pause || pauses == PAUSES || said.is_empty() {
                reply.blocks = said;
                return Ok(reply);
            }
            pauses += 1;
            previewer.resume(said.len());
            request.messages.truncate(asked);
            request.messages.push(Message::Assistant(said.clone()));
        }
    }

    /// Asks for a summary of the conversation: of it as it stands, whose prefix is cached, and if that no
    /// longer fits, of as much of it as must fit, written out as text.
    pub(crate) async fn compact(
        &self,
        plane: &dyn Plane,
        span: EventId,
        conversation: &Conversation,
    ) -> Result<Fact, PlaneError> {
        let cancel = plane.cancelled();
        let mut bill = Bill::default();
        let began = Instant::now();
        let mut tried = 0;
        let outcome = loop {
            let request = summary_request(plane.brief(), conversation, tried);
            tried += 1;
            let mut unseen = |_| {};
            let outcome = self
                .client
                .stream(plane.endpoint(), &request, &cancel, &mut unseen)
                .await;
            let usage = match &outcome {
                Ok(reply) => &reply.usage,
                Err(failure) => &failure.partial_usage,
            };
            bill.add(plane, usage);
            let again = match &outcome {
                Ok(reply) => text_of(reply).trim().is_empty(),
                Err(failure) => failure.error.class() == Class::TooLong,
            };
            if !again || tried == SUMMARY_TRIES {
                break outcome;
            }
        };
        plane.spent(Spent::Model, began.elapsed());
        summarised(plane, span, conversation, outcome, &bill)
    }
}

/// The fact that an answer to the request for a summary makes.
fn summarised(
    plane: &dyn Plane,
    span: EventId,
    conversation: &Conversation,
    outcome: Result<Reply, Failure>,
    bill: &Bill,
) -> Result<Fact, PlaneError> {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(_) if plane.cancelled().is_cancelled() && plane.interrupted() => {
            return Ok(Fact::Interrupted { used: bill.used() });
        }
        Err(_) if plane.cancelled().is_cancelled() => return Err(PlaneError::Stopping),
        Err(failure) => return Ok(failed(span, &failure, bill)),
    };
    let text = text_of(&reply);
    if text.trim().is_empty() {
        return Ok(Fact::RequestFailed {
            span,
            kind: SessionErrorKind::ModelRequestFailedError,
            message: "the model was asked to summarise the conversation and said nothing"
                .to_owned(),
            used: bill.used(),
            remedy: Remedy::Wait { at_least: None },
        });
    }
    let (summary, open) = compact::read(&text);
    let record = conversation.record(summary, open);
    Ok(Fact::Compacted {
        span,
        record: to_raw_value(&record).map_err(|e| PlaneError::Bug(e.to_string()))?,
        used: bill.used(),
    })
}

fn request(brief: &Brief, messages: Vec<Message>) -> Request {
    Request {
        model: brief.model.clone(),
        system: prompt::system(brief),
        tools: tools::offered(brief),
        messages,
        max_tokens: brief.max_tokens,
        effort: brief.effort,
        thinking: Thinking::Unset,
    }
}

/// The request for a summary, shorter with each try.
fn summary_request(brief: &Brief, conversation: &Conversation, tried: u32) -> Request {
    let text = |text: &str| UserBlock::Text {
        text: text.to_owned(),
    };
    let max_tokens = brief.max_tokens.min(SUMMARY_TOKENS);
    if tried == 0 {
        let mut messages = conversation.messages();
        messages.push(Message::User(vec![text(compact::PROMPT)]));
        return Request {
            max_tokens,
            ..request(brief, messages)
        };
    }
    let room = brief.max_input_tokens.saturating_sub(max_tokens);
    let limit = (room as usize * BYTES_PER_TOKEN) >> (tried - 1);
    let written = compact::written(&conversation.messages(), limit);
    Request {
        system: String::new(),
        tools: Vec::new(),
        max_tokens,
        ..request(
            brief,
            vec![Message::User(vec![text(&written), text(compact::PROMPT)])],
        )
    }
}

fn text_of(reply: &Reply) -> String {
    let texts = reply.blocks.iter().filter_map(|block| match block {
        Said::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Whether the next request might not fit any more: the reply and all that led to it fill most of what the
/// window leaves for them.
pub(crate) fn is_crowded(brief: &Brief, reply: &Reply) -> bool {
    let window = u64::from(brief.max_input_tokens);
    let room = window
        .saturating_sub(u64::from(brief.max_tokens))
        .max(window / 2);
    let filled = reply.usage.total_input().saturating_add(reply.usage.output);
    reply.stop == Stop::ContextWindow || filled.saturating_mul(5) > room * CROWDED_FIFTHS
}

pub(crate) fn is_judged(brief: &Brief, calls: &[session::ProposedCall]) -> bool {
    calls.iter().any(|call| brief.judged.contains(&call.name))
}

pub(crate) async fn execute(
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
    let began = Instant::now();
    let outcome = run(plane, call, wanted).await;
    plane.spent(Spent::Tool, began.elapsed());
    match outcome {
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

/// Finds out how a call ended that a runner which is lost had started. It may run on for long.
pub(crate) async fn recover(
    plane: &dyn Plane,
    conversation: &Conversation,
    call: EventId,
) -> Result<Fact, PlaneError> {
    let began = Instant::now();
    let outcome = match (plane.left_sandbox().await, conversation.call(call)) {
        (Ok(Some(sandbox)), Some(wanted)) => {
            let wanted = (wanted.name.as_str(), wanted.input.clone());
            tools::resume(plane, sandbox.as_ref(), call, wanted).await
        }
        (Ok(_), _) => Ok(None),
        (Err(error), _) => Err(error),
    };
    plane.spent(Spent::Tool, began.elapsed());
    match outcome {
        Ok(Some((content, is_error))) => Ok(Fact::Finished {
            call,
            content,
            is_error,
        }),
        Err(sandbox::Error::Cancelled) if plane.interrupted() => Ok(Fact::Interrupted {
            used: Used::default(),
        }),
        Err(sandbox::Error::Cancelled) if plane.cancelled().is_cancelled() => {
            Err(PlaneError::Stopping)
        }
        Ok(None) => Ok(Fact::Lost { call }),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "the outcome of a call is lost");
            Ok(Fact::Lost { call })
        }
    }
}

/// Runs a call in the session's sandbox. One that died while nobody used it is started again: the call
/// had not begun.
async fn run(
    plane: &dyn Plane,
    call: EventId,
    wanted: &Wanted,
) -> Result<(Vec<Block>, bool), sandbox::Error> {
    let once = || async {
        let sandbox = plane.sandbox().await?;
        let wanted = (wanted.name.as_str(), wanted.input.clone());
        tools::run(plane, sandbox.as_ref(), call, wanted).await
    };
    match once().await {
        Err(sandbox::Error::Gone) => once().await,
        outcome => outcome,
    }
}
