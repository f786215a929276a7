//! The transcript as a model hears it: a pure function of the log, extended and never rewritten, so that
//! each request has the one before it as its prefix.

use std::collections::{HashMap, HashSet};

use contract::content;
use contract::ids::EventId;
use model::{Block, Message, ResultBlock, Source, UserBlock};
use serde_json::Value;

use crate::limits::{ORDERS_BYTES, SAID, SAID_BYTES};
use crate::native::aim::{self, Aim};
use crate::native::compact::{self, SummaryRecord};
use crate::native::reply::ReplyRecord;
use crate::plane::{Entry, EntryBody, PlaneError};

/// What a model has asked for.
pub(crate) struct Wanted {
    /// The provider's id for the call.
    pub(crate) provider_id: String,
    /// The tool.
    pub(crate) name: String,
    /// Its input.
    pub(crate) input: Value,
}

/// What a call is in the contract's words, whatever the model calls it.
pub(crate) type InOurWords = fn(&str, &Value) -> (String, Value);

/// The transcript in memory for the length of a run.
#[derive(Default)]
pub(crate) struct Conversation {
    /// None if the model knows the contract's tools by their own names.
    words: Option<InOurWords>,
    messages: Vec<Message>,
    calls: HashMap<EventId, Wanted>,
    answered: HashSet<EventId>,
    /// The user's last texts, oldest first.
    said: Vec<String>,
    /// What the application has said, oldest first.
    orders: Vec<String>,
    /// How many of them came since the model's last word.
    unanswered: usize,
    /// How many of the messages are a summary.
    condensed: usize,
    /// The outcome that is open.
    aim: Option<Aim>,
}

impl Conversation {
    pub(crate) fn read(entries: Vec<Entry>) -> Result<Self, PlaneError> {
        let mut conversation = Self::default();
        conversation.extend(entries)?;
        Ok(conversation)
    }

    /// As [`Conversation::read`], of a model that has tools of its own.
    pub(crate) fn read_with(words: InOurWords, entries: Vec<Entry>) -> Result<Self, PlaneError> {
        let mut conversation = Self {
            words: Some(words),
            ..Self::default()
        };
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
                // Not the user's word: it grants nothing.
                EntryBody::Thread { content } => {
                    let blocks = content.into_iter().filter_map(said).collect();
                    self.messages.push(Message::User(blocks));
                }
                EntryBody::System { content } => self.order(texts(&content)),
                EntryBody::Outcome {
                    description,
                    rubric,
                } => {
                    self.hear(&[content::Block::text(description.clone())]);
                    let aim = Aim {
                        description,
                        rubric,
                    };
                    self.tell(aim.shown());
                    self.aim = Some(aim);
                }
                EntryBody::Verdict {
                    result,
                    explanation,
                } => {
                    if result != "needs_revision" {
                        self.aim = None;
                    }
                    self.tell(aim::verdict(&result, &explanation));
                }
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

    /// The outcome that is open.
    pub(crate) fn aim(&self) -> Option<&Aim> {
        self.aim.as_ref()
    }

    /// Says something to the model that its user did not say.
    fn tell(&mut self, text: String) {
        self.messages
            .push(Message::User(vec![UserBlock::Text { text }]));
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
        let answered = self.said.len().saturating_sub(self.unanswered);
        SummaryRecord {
            version: compact::VERSION,
            summary,
            open,
            said: self.said.iter().take(answered).cloned().collect(),
            orders: self.orders.clone(),
            pending: self.pending(),
            aim: self.aim.clone(),
        }
    }

    /// What the user has said since the model's last word.
    fn pending(&self) -> Vec<UserBlock> {
        let mut messages = self.messages.iter();
        let last = messages.rposition(|message| matches!(message, Message::Assistant(_)));
        let from = last.map_or(0, |place| place + 1);
        // The text of a summary is not the user's.
        let ours = usize::from(last.is_none() && self.condensed > 0);
        let blocks = self.messages.iter().skip(from);
        let blocks = blocks.flat_map(|message| match message {
            Message::User(blocks) => blocks.as_slice(),
            Message::System(_) | Message::Assistant(_) => &[],
        });
        let said = blocks.skip(ours);
        // An outcome is kept by itself.
        let aim = self.aim.as_ref().map(Aim::shown);
        let is_aim = |block: &UserBlock| match block {
            UserBlock::Text { text } => Some(text) == aim.as_ref(),
            _ => false,
        };
        said.filter(|block| !matches!(block, UserBlock::ToolResult { .. }) && !is_aim(block))
            .cloned()
            .collect()
    }

    fn hear(&mut self, content: &[content::Block]) {
        let text = texts(content).join("\n");
        if text.is_empty() {
            return;
        }
        self.said.push(shortened(text));
        self.unanswered += 1;
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
        let mut said = record.said;
        let pending = record.pending.iter().filter_map(|block| match block {
            UserBlock::Text { text } => Some(shortened(text.clone())),
            _ => None,
        });
        let answered = said.len();
        said.extend(pending);
        let unanswered = said.len() - answered;
        let mut blocks = vec![UserBlock::Text { text }];
        blocks.extend(record.pending);
        *self = Self {
            messages: vec![Message::User(blocks)],
            aim: record.aim,
            said,
            unanswered,
            words: self.words,
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
                let (ours, told) = match self.words {
                    Some(words) => words(name, input),
                    None => (name.clone(), input.clone()),
                };
                let wanted = Wanted {
                    provider_id: id.clone(),
                    name: ours,
                    input: told,
                };
                self.calls.insert(event, wanted);
            }
        }
        if !record.blocks.is_empty() {
            self.unanswered = 0;
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

pub(crate) fn returned(block: content::Block) -> Option<ResultBlock> {
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

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    fn text(text: &str) -> content::Block {
        content::Block::text(text)
    }

    fn picture() -> content::Block {
        content::Block::Image {
            source: content::Source::Url {
                url: "https://example.com/a.png".to_owned(),
            },
        }
    }

    fn user(content: Vec<content::Block>) -> Entry {
        Entry {
            seq: 1,
            body: EntryBody::User { content },
        }
    }

    fn reply(said: &str) -> Entry {
        let record = ReplyRecord {
            blocks: vec![Block::Text {
                text: said.to_owned(),
            }],
            calls: Vec::new(),
        };
        let record = to_raw_value(&record).unwrap();
        Entry {
            seq: 2,
            body: EntryBody::Reply { record },
        }
    }

    fn summary(of: &Conversation) -> Entry {
        let record = to_raw_value(&of.record("short".to_owned(), String::new())).unwrap();
        Entry {
            seq: 3,
            body: EntryBody::Summary { record },
        }
    }

    fn blocks(conversation: &Conversation) -> Vec<UserBlock> {
        let messages = conversation.messages();
        let [Message::User(blocks)] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        blocks.clone()
    }

    #[test]
    fn what_is_not_answered_outlives_a_summary_pictures_and_all() {
        let answered = [user(vec![text("first")]), reply("one")];
        let asked = user(vec![text("what is this?"), picture()]);
        let before = answered.into_iter().chain([asked]).collect();
        let mut conversation = Conversation::read(before).unwrap();
        // Twice without a word from the model in between: nothing is lost, nothing said twice.
        for _ in 0..2 {
            let condensed = summary(&conversation);
            conversation.extend(vec![condensed]).unwrap();
            let shown = blocks(&conversation);
            let [
                UserBlock::Text { text: ours },
                UserBlock::Text { text },
                UserBlock::Image { .. },
            ] = shown.as_slice()
            else {
                panic!("{shown:?}")
            };
            assert!(ours.contains("[user]\nfirst\n"), "{ours}");
            assert!(!ours.contains("what is this?"), "{ours}");
            assert_eq!(text, "what is this?");
            assert_eq!(conversation.said(), ["first", "what is this?"]);
            assert!(conversation.is_condensed());
        }
        conversation.extend(vec![reply("a cat")]).unwrap();
        assert!(!conversation.is_condensed());
        let condensed = summary(&conversation);
        conversation.extend(vec![condensed]).unwrap();
        let shown = blocks(&conversation);
        assert_eq!(
            shown.len(),
            1,
            "what was answered is only told of: {shown:?}"
        );
        assert_eq!(conversation.said(), ["first", "what is this?"]);
    }

    #[test]
    fn a_summary_read_from_storage_is_shown_in_the_same_bytes() {
        let mut live = Conversation::read(vec![user(vec![text("first")]), reply("one")]).unwrap();
        let condensed = summary(&live);
        live.extend(vec![condensed.clone()]).unwrap();
        let later = Conversation::read(vec![condensed]).unwrap();
        assert_eq!(live.messages(), later.messages());
    }

    #[test]
    fn only_the_last_words_are_kept_and_long_ones_lose_their_middle() {
        let many = (0..SAID + 5).map(|n| user(vec![text(&n.to_string())]));
        let conversation = Conversation::read(many.collect()).unwrap();
        assert_eq!(conversation.said().len(), SAID);
        assert_eq!(conversation.said()[0], "5");
        let long = format!("begin {} end", "é".repeat(SAID_BYTES));
        let conversation = Conversation::read(vec![user(vec![text(&long)])]).unwrap();
        let kept = &conversation.said()[0];
        assert!(kept.len() <= SAID_BYTES + 8 && kept.starts_with("begin") && kept.ends_with("end"));
    }
}
