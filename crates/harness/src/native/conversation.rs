//! The transcript as a model hears it: a pure function of the log, extended and never rewritten, so that
//! each request has the one before it as its prefix.

use std::collections::{HashMap, HashSet};

use contract::content;
use contract::ids::EventId;
use model::{Block, Message, ResultBlock, Source, UserBlock};
use serde_json::Value;

use crate::limits::{ORDERS_BYTES, SAID, SAID_BYTES};
use crate::native::compact::{self, SummaryRecord};
use crate::native::reply::ReplyRecord;
use crate::plane::{Entry, EntryBody, PlaneError};

/// What a model has asked for.
pub(crate) struct Wanted {
    /// The provider's id for the call.
    provider_id: String,
    /// The tool.
    pub(crate) name: String,
    /// Its input.
    pub(crate) input: Value,
}

/// The transcript in memory for the length of a run.
#[derive(Default)]
pub(crate) struct Conversation {
    messages: Vec<Message>,
    calls: HashMap<EventId, Wanted>,
    answered: HashSet<EventId>,
    /// The user's last texts, oldest first.
    said: Vec<String>,
    /// What the application has said, oldest first.
    orders: Vec<String>,
    /// How many of the messages are a summary.
    condensed: usize,
}

impl Conversation {
    pub(crate) fn read(entries: Vec<Entry>) -> Result<Self, PlaneError> {
        let mut conversation = Self::default();
        conversation.extend(entries)?;
        Ok(conversation)
    }

    pub(crate) fn extend(&mut self, entries: Vec<Entry>) -> Result<(), PlaneError> {
        for entry in entries {
            match entry.body {
                EntryBody::User { content } => {
                    self.hear(&content);
                    let blocks = content.into_iter().filter_map(said).collect();
                    self.messages.push(Message::User(blocks));
                }
                EntryBody::System { content } => self.order(texts(&content)),
                EntryBody::Summary { record } => self.restart(entry.seq, &record)?,
                EntryBody::Reply { record } => self.reply(entry.seq, &record)?,
                EntryBody::Result {
                    call,
                    content,
                    is_error,
                } => {
                    self.result(call, content, is_error);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn call(&self, id: EventId) -> Option<&Wanted> {
        self.calls.get(&id)
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.messages.clone()
    }

    /// The user's last texts, oldest first; bounded.
    pub(crate) fn said(&self) -> &[String] {
        &self.said
    }

    /// True while there is nothing but a summary: condensing that would gain nothing.
    pub(crate) fn is_condensed(&self) -> bool {
        self.condensed > 0 && self.messages.len() == self.condensed
    }

    /// What a summary keeps beside the model's words.
    pub(crate) fn record(&self, summary: String, open: String) -> SummaryRecord {
        SummaryRecord {
            version: compact::VERSION,
            summary,
            open,
            said: self.said.clone(),
            orders: self.orders.clone(),
        }
    }

    fn hear(&mut self, content: &[content::Block]) {
        let text = texts(content).join("\n");
        if text.is_empty() {
            return;
        }
        self.said.push(shortened(text));
        let surplus = self.said.len().saturating_sub(SAID);
        self.said.drain(..surplus);
    }

    fn order(&mut self, texts: Vec<String>) {
        self.orders.extend(texts.iter().cloned());
        let mut bytes = self.orders.iter().map(String::len).sum::<usize>();
        while bytes > ORDERS_BYTES && self.orders.len() > 1 {
            bytes -= self.orders.remove(0).len();
        }
        self.messages.push(Message::System(texts));
    }

    /// A summary stands in place of everything before it.
    fn restart(
        &mut self,
        seq: u64,
        record: &serde_json::value::RawValue,
    ) -> Result<(), PlaneError> {
        let record: SummaryRecord = serde_json::from_str(record.get())
            .map_err(|e| PlaneError::Bug(format!("the summary recorded at {seq}: {e}")))?;
        let text = compact::shown(&record);
        *self = Self {
            messages: vec![Message::User(vec![UserBlock::Text { text }])],
            said: record.said,
            ..Self::default()
        };
        if !record.orders.is_empty() {
            self.order(record.orders);
        }
        self.condensed = self.messages.len();
        Ok(())
    }

    fn reply(&mut self, seq: u64, record: &serde_json::value::RawValue) -> Result<(), PlaneError> {
        let record: ReplyRecord = serde_json::from_str(record.get())
            .map_err(|e| PlaneError::Bug(format!("the reply recorded at {seq}: {e}")))?;
        let mut events = record.calls.into_iter();
        for block in &record.blocks {
            if let Block::ToolUse { id, name, input } = block {
                let event = events.next().ok_or_else(|| {
                    PlaneError::Bug(format!("the reply recorded at {seq} names too few calls"))
                })?;
                let wanted = Wanted {
                    provider_id: id.clone(),
                    name: name.clone(),
                    input: input.clone(),
                };
                self.calls.insert(event, wanted);
            }
        }
        if !record.blocks.is_empty() {
            self.messages.push(Message::Assistant(record.blocks));
        }
        Ok(())
    }

    /// The first result of a call counts; a late duplicate is history, not conversation.
    fn result(&mut self, call: EventId, content: Vec<content::Block>, is_error: bool) {
        let Some(wanted) = self.calls.get(&call) else {
            return;
        };
        if !self.answered.insert(call) {
            return;
        }
        let tool_use_id = wanted.provider_id.clone();
        let content = content.into_iter().filter_map(returned).collect();
        self.messages
            .push(Message::User(vec![UserBlock::ToolResult {
                tool_use_id,
                content,
                is_error,
            }]));
    }
}

/// The texts of a message.
fn texts(content: &[content::Block]) -> Vec<String> {
    let text = |block: &content::Block| match block {
        content::Block::Text { text } if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    content.iter().filter_map(text).collect()
}

/// A text without its middle, if it is long: people ask at the beginning or at the end.
fn shortened(text: String) -> String {
    if text.len() <= SAID_BYTES {
        return text;
    }
    let head = text.floor_char_boundary(SAID_BYTES / 2);
    let tail = text.ceil_char_boundary(text.len() - SAID_BYTES / 2);
    format!("{} [...] {}", &text[..head], &text[tail..])
}

fn source(source: content::Source) -> Option<Source> {
    match source {
        content::Source::Base64 { data, media_type } => Some(Source::Base64 { media_type, data }),
        content::Source::Text { data, .. } => Some(Source::Text { data }),
        content::Source::Url { url } => Some(Source::Url { url }),
        // Refused at the edge until there is a Files API.
        content::Source::File { .. } => None,
    }
}

fn said(block: content::Block) -> Option<UserBlock> {
    match block {
        content::Block::Text { text } => Some(UserBlock::Text { text }),
        content::Block::Image { source: s } => Some(UserBlock::Image { source: source(s)? }),
        content::Block::Document {
            source: s,
            context,
            title,
        } => Some(UserBlock::Document {
            source: source(s)?,
            title,
            context,
        }),
        content::Block::SearchResult { .. } | content::Block::Redacted {} => None,
    }
}

fn returned(block: content::Block) -> Option<ResultBlock> {
    match block {
        content::Block::Text { text } => Some(ResultBlock::Text { text }),
        content::Block::Image { source: s } => Some(ResultBlock::Image { source: source(s)? }),
        content::Block::Document {
            source: s,
            context,
            title,
        } => Some(ResultBlock::Document {
            source: source(s)?,
            title,
            context,
        }),
        content::Block::SearchResult {
            source,
            title,
            citations,
            content,
        } => Some(ResultBlock::SearchResult {
            source,
            title,
            content: content.into_iter().map(|t| t.text).collect(),
            citations: citations.enabled,
        }),
        content::Block::Redacted {} => None,
    }
}
