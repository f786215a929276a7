//! From stored events to what a harness is shown of them. A pure function of what is stored.

use contract::client_event::Rubric;
use contract::content::Block;
use contract::ids::{EventId, ThreadId};
use harness::{Entry, EntryBody, PlaneError};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::plane::read;

/// A recorded event as a transcript entry.
pub(crate) fn recorded(
    seq: u64,
    kind: &str,
    json: &str,
    record: Box<RawValue>,
) -> Result<Entry, PlaneError> {
    #[derive(Deserialize)]
    struct Advice {
        call: EventId,
        is_error: bool,
    }
    #[derive(Deserialize)]
    struct Said {
        content: Vec<Block>,
    }
    let body = match kind {
        "agent.thread_context_compacted" => EntryBody::Summary { record },
        "agent.thread_message_received" => {
            let Advice { call, is_error } = read(&record, "advice")?;
            let bad = |e| PlaneError::Bug(format!("stored event at {seq}: {e}"));
            let Said { content } = serde_json::from_str(json).map_err(bad)?;
            EntryBody::Result {
                call,
                content,
                is_error,
            }
        }
        _ => EntryBody::Reply { record },
    };
    Ok(Entry { seq, body })
}

/// What another thread said, as the model is shown it: its coordinator's words as they are, an agent's under its name.
fn heard(json: &str) -> Result<EntryBody, serde_json::Error> {
    #[derive(Deserialize)]
    struct Received {
        from_session_thread_id: ThreadId,
        from_agent_name: Option<String>,
        content: Vec<Block>,
    }
    let Received {
        from_session_thread_id: thread,
        from_agent_name,
        mut content,
    } = serde_json::from_str(json)?;
    if let Some(name) = from_agent_name {
        content.insert(0, Block::text(format!("[From {name}, thread {thread}]")));
    }
    Ok(EntryBody::Thread { content })
}

/// A stored outcome or verdict as a transcript entry.
fn aim(kind: &str, json: &str) -> Result<Option<EntryBody>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Defined {
        description: String,
        rubric: Rubric,
    }
    #[derive(Deserialize)]
    struct Ended {
        result: String,
        explanation: String,
    }
    Ok(match kind {
        "user.define_outcome" => {
            let Defined {
                description,
                rubric,
            } = serde_json::from_str(json)?;
            match rubric {
                Rubric::Text(rubric) => Some(EntryBody::Outcome {
                    description,
                    rubric: rubric.content,
                }),
                // Refused at the edge until there is a Files API.
                Rubric::File(_) => None,
            }
        }
        "span.outcome_evaluation_end" => {
            let Ended {
                result,
                explanation,
            } = serde_json::from_str(json)?;
            Some(EntryBody::Verdict {
                result,
                explanation,
            })
        }
        _ => None,
    })
}

/// A stored event as a transcript entry, if the model is shown its kind.
pub(crate) fn entry(seq: u64, kind: &str, json: &str) -> Result<Option<Entry>, PlaneError> {
    #[derive(Deserialize)]
    struct Shown {
        #[serde(default)]
        content: Vec<Block>,
        #[serde(alias = "custom_tool_use_id")]
        tool_use_id: Option<EventId>,
        is_error: Option<bool>,
    }
    let bad = |e| PlaneError::Bug(format!("stored event at {seq}: {e}"));
    if let Some(body) = aim(kind, json).map_err(bad)? {
        return Ok(Some(Entry { seq, body }));
    }
    if kind == "agent.thread_message_received" {
        let body = heard(json).map_err(bad)?;
        return Ok(Some(Entry { seq, body }));
    }
    if !matches!(
        kind,
        "user.message" | "system.message" | "user.custom_tool_result" | "agent.tool_result"
    ) {
        return Ok(None);
    }
    let shown: Shown = serde_json::from_str(json).map_err(bad)?;
    let body = match shown.tool_use_id {
        None if kind == "system.message" => EntryBody::System {
            content: shown.content,
        },
        None => EntryBody::User {
            content: shown.content,
        },
        Some(call) => EntryBody::Result {
            call,
            content: shown.content,
            is_error: shown.is_error.unwrap_or(false),
        },
    };
    Ok(Some(Entry { seq, body }))
}
