//! One model reply on its way from deltas to a fact: previews while it streams, then the events it
//! becomes and the exact record from which it is replayed.

use contract::event::RefusalDetails;
use contract::ids::EventId;
use model::{Block, Delta, Dialect, Reply, Stop};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use session::input::ReplyEnd;
use session::{Fact, ProposedCall};

use crate::bill::Bill;
use crate::plane::{Plane, PlaneError, Preview};

/// How a reply is recorded. A storage format: fields are only ever added.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReplyRecord {
    /// What the model said.
    pub(crate) blocks: Vec<Block>,
    /// Which event each call of `blocks` became, in order.
    pub(crate) calls: Vec<EventId>,
}

/// Shows a reply while it streams and remembers the ids it promised.
pub(crate) struct Previewer<'a> {
    plane: &'a dyn Plane,
    message: Option<EventId>,
    /// Block → index among the texts of the message.
    texts: Vec<usize>,
    /// White space that a block began with: it becomes a text only if words follow.
    held: Option<(usize, String)>,
    /// Blocks of the parts of this reply that came before a pause.
    before: usize,
    thinking: Vec<EventId>,
}

impl<'a> Previewer<'a> {
    pub(crate) fn new(plane: &'a dyn Plane) -> Self {
        Self {
            plane,
            message: None,
            texts: Vec::new(),
            held: None,
            before: 0,
            thinking: Vec::new(),
        }
    }

    /// The reply goes on in another answer, behind `blocks` blocks.
    pub(crate) fn resume(&mut self, blocks: usize) {
        self.before = blocks;
        self.held = None;
    }

    pub(crate) fn see(&mut self, delta: Delta) {
        match delta {
            Delta::Text { index, text } => self.text(self.before + index, text),
            Delta::ThinkingStart { .. } => {
                let id = self.plane.mint();
                self.thinking.push(id);
                self.plane.preview(Preview::Thinking { id });
            }
            // A message begins with its first word: an empty block makes no message.
            Delta::MessageStart
            | Delta::TextStart { .. }
            | Delta::Thinking { .. }
            | Delta::ToolStart { .. }
            | Delta::BlockEnd { .. } => {}
        }
    }

    fn text(&mut self, block: usize, piece: String) {
        let place = self.texts.iter().position(|known| *known == block);
        let (index, text) = match place {
            Some(index) => (index, piece),
            None => {
                let held = self.held.take().filter(|(held, _)| *held == block);
                let text = held.map_or_else(String::new, |(_, text)| text) + &piece;
                if text.trim().is_empty() {
                    self.held = Some((block, text));
                    return;
                }
                self.texts.push(block);
                (self.texts.len() - 1, text)
            }
        };
        let id = self.message();
        self.plane.preview(Preview::Text { id, index, text });
    }

    fn message(&mut self) -> EventId {
        if let Some(id) = self.message {
            return id;
        }
        let id = self.plane.mint();
        self.message = Some(id);
        self.plane.preview(Preview::Message { id });
        id
    }

    /// The reply in the words of the session core. Ids that were previewed are kept. What a refused reply had
    /// asked for is not run: it ends the turn.
    pub(crate) fn finish(mut self, mut reply: Reply, dialect: Dialect) -> Result<Said, PlaneError> {
        tracing::debug!(
            dialect = dialect.name(),
            model = reply.model,
            "model replied"
        );
        if matches!(reply.stop, Stop::Refusal { .. }) {
            let is_call = |block: &Block| matches!(block, Block::ToolUse { .. });
            reply.blocks.retain(|block| !is_call(block));
        }
        let mut texts = Vec::new();
        let mut calls = Vec::new();
        let mut thoughts = 0;
        for block in &reply.blocks {
            match block {
                Block::Text { text } if !text.trim().is_empty() => texts.push(text.clone()),
                Block::Thinking { .. }
                | Block::RedactedThinking { .. }
                | Block::Reasoning { .. } => thoughts += 1,
                Block::ToolUse { name, input, .. } => {
                    let id = self.plane.mint();
                    calls.push(ProposedCall {
                        id,
                        name: name.clone(),
                        input: to_raw_value(input).map_err(|e| PlaneError::Bug(e.to_string()))?,
                        judgement: None,
                    });
                }
                Block::Text { .. } | Block::Opaque { .. } => {}
            }
        }
        self.thinking.truncate(thoughts);
        while self.thinking.len() < thoughts {
            self.thinking.push(self.plane.mint());
        }
        let message = if texts.is_empty() {
            None
        } else {
            Some((self.message(), texts))
        };
        let record = ReplyRecord {
            blocks: reply.blocks,
            calls: calls.iter().map(|c| c.id).collect(),
        };
        Ok(Said {
            thinking: self.thinking,
            message,
            calls,
            record: to_raw_value(&record).map_err(|e| PlaneError::Bug(e.to_string()))?,
            end: end(reply.stop),
        })
    }
}

/// A reply whose calls may still be judged.
pub(crate) struct Said {
    thinking: Vec<EventId>,
    message: Option<(EventId, Vec<String>)>,
    pub(crate) calls: Vec<ProposedCall>,
    record: Box<RawValue>,
    end: ReplyEnd,
}

impl Said {
    /// The fact to report: the answer to the request `span`.
    pub(crate) fn fact(self, span: EventId, bill: &Bill, crowded: bool) -> Fact {
        Fact::Replied {
            span,
            thinking: self.thinking,
            message: self.message,
            calls: self.calls,
            record: self.record,
            used: bill.used(),
            end: self.end,
            crowded,
        }
    }
}

fn end(stop: Stop) -> ReplyEnd {
    match stop {
        Stop::Refusal {
            category,
            explanation,
        } => {
            let details = RefusalDetails {
                kind: "refusal".to_owned(),
                category,
                explanation,
            };
            ReplyEnd::Refused(Some(details))
        }
        Stop::EndTurn
        | Stop::ToolUse
        | Stop::MaxTokens
        | Stop::ContextWindow
        | Stop::StopSequence
        | Stop::Pause
        | Stop::Other { .. } => ReplyEnd::Complete,
    }
}
