//! Events as a client sends them (api.md §8.1, §3.9): seven types, each with the blocks it may hold.
//! Whether a session takes an event in its present state is decided in the session core.

mod blocks;

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::ids::{EventId, ThreadId};
use crate::limits::{EVENTS_PER_SEND, OUTCOME_ITERATIONS, RUBRIC, TOOL_DESCRIPTION};
use crate::parse::{Invalid, tagged};
pub use blocks::{
    BlockParams, CitationsParams, DataParams, DocumentParams, FileParams, ImageParams,
    SearchResultParams, SearchText, SourceParams, TextParams, UrlParams,
};
use blocks::{Place, check_blocks};

/// Body of `POST /v1/sessions/{id}/events`. [`SendEvents::check`] checks it.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendEvents {
    /// 1 to 1,000 events.
    pub events: Vec<ClientEvent>,
}

/// An event of a client.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the types are the contract's, api.md §8.1
pub enum ClientEvent {
    UserMessage(UserMessage),
    UserInterrupt(UserInterrupt),
    UserToolConfirmation(UserToolConfirmation),
    UserCustomToolResult(UserCustomToolResult),
    UserToolResult(UserToolResult),
    UserDefineOutcome(UserDefineOutcome),
    SystemMessage(SystemMessage),
}

tagged!(ClientEvent {
    "user.message" => UserMessage(UserMessage),
    "user.interrupt" => UserInterrupt(UserInterrupt),
    "user.tool_confirmation" => UserToolConfirmation(UserToolConfirmation),
    "user.custom_tool_result" => UserCustomToolResult(UserCustomToolResult),
    "user.tool_result" => UserToolResult(UserToolResult),
    "user.define_outcome" => UserDefineOutcome(UserDefineOutcome),
    "system.message" => SystemMessage(SystemMessage),
});

/// What the user says.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserMessage {
    /// Text, images and documents; at least one.
    #[schemars(schema_with = "crate::schema::message::<BlockParams>")]
    pub content: Vec<BlockParams>,
}

/// Stop what runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserInterrupt {
    /// Only this thread; absent: all.
    #[serde(default)]
    pub session_thread_id: Option<ThreadId>,
}

/// An answer to a call whose policy asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct UserToolConfirmation {
    pub tool_use_id: EventId,
    pub result: Confirmation,
    #[serde(default)]
    pub deny_message: Option<String>,
    /// The thread of the call; it is found without.
    #[serde(default)]
    pub session_thread_id: Option<ThreadId>,
}

/// Whether a call may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Confirmation {
    Allow,
    Deny,
}

/// The result of a custom tool.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCustomToolResult {
    /// The `agent.custom_tool_use` that is answered.
    pub custom_tool_use_id: EventId,
    /// Text, images, documents and search results; may be empty.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::result::<BlockParams>")]
    pub content: Vec<BlockParams>,
    /// Whether the tool failed.
    #[serde(default)]
    pub is_error: Option<bool>,
    /// The thread of the call; it is found without.
    #[serde(default)]
    pub session_thread_id: Option<ThreadId>,
}

/// The result of a tool that a self-hosted worker ran.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct UserToolResult {
    pub tool_use_id: EventId,
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::result::<BlockParams>")]
    pub content: Vec<BlockParams>,
    #[serde(default)]
    pub is_error: Option<bool>,
}

/// What the agent has to reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct UserDefineOutcome {
    pub description: String,
    pub rubric: Rubric,
    #[serde(default)]
    pub max_iterations: Option<NonZeroU32>,
}

/// How an outcome is judged; the same in requests and in the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Rubric {
    /// In the event.
    Text(RubricText),
    /// In the Files API.
    File(FileParams),
}

tagged!(Rubric { "text" => Text(RubricText), "file" => File(FileParams) });

/// A rubric in the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RubricText {
    pub content: String,
}

/// What the operator says to the model.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemMessage {
    /// Text only; at least one.
    #[schemars(schema_with = "crate::schema::system::<BlockParams>")]
    pub content: Vec<BlockParams>,
}

impl SendEvents {
    /// Checks every rule that does not need the session: counts, contents, and that this build serves
    /// each type.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.events.is_empty() {
            return Err(Invalid::at("events", "must hold at least one event"));
        }
        check::count("events", self.events.len(), EVENTS_PER_SEND)?;
        for (index, event) in self.events.iter().enumerate() {
            let at = |bad: Invalid| bad.under_index(index).under("events");
            event.check().map_err(at)?;
            if !event.served() {
                return Err(at(Invalid::at(
                    "type",
                    format!(
                        "not_implemented: `{}` is not supported by this build",
                        event.kind()
                    ),
                )));
            }
        }
        check_system("events", &self.events)?;
        check_files("events", &self.events)
    }
}

/// A `system.message` is the last event, alone of its kind, and goes with what it follows (api.md §8.1). `field`
/// is the list that holds the events.
pub(crate) fn check_system(field: &str, events: &[ClientEvent]) -> Result<(), Invalid> {
    let is_system = |event: &ClientEvent| matches!(event, ClientEvent::SystemMessage(_));
    let Some(index) = events.iter().position(is_system) else {
        return Ok(());
    };
    let at = |problem| Err(Invalid::at(format!("{field}[{index}]"), problem));
    if index + 1 != events.len() {
        return at("a `system.message` must be the last event, and there can be one in a request");
    }
    match index.checked_sub(1).and_then(|before| events.get(before)) {
        Some(
            ClientEvent::UserMessage(_)
            | ClientEvent::UserToolResult(_)
            | ClientEvent::UserCustomToolResult(_),
        ) => Ok(()),
        _ => at(
            "a `system.message` must directly follow the `user.message`, `user.tool_result` or `user.custom_tool_result` it goes with",
        ),
    }
}

/// Refuses sources of type `file`, which need the Files API. `field` is the list that holds the events.
pub(crate) fn check_files(field: &str, events: &[ClientEvent]) -> Result<(), Invalid> {
    for (index, event) in events.iter().enumerate() {
        if let Some(path) = event.file_source() {
            return Err(Invalid::at(
                format!("{field}[{index}].{path}"),
                "not_implemented: sources of type `file` are not supported by this build",
            ));
        }
    }
    Ok(())
}

impl ClientEvent {
    /// Its type on the wire.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UserMessage(_) => "user.message",
            Self::UserInterrupt(_) => "user.interrupt",
            Self::UserToolConfirmation(_) => "user.tool_confirmation",
            Self::UserCustomToolResult(_) => "user.custom_tool_result",
            Self::UserToolResult(_) => "user.tool_result",
            Self::UserDefineOutcome(_) => "user.define_outcome",
            Self::SystemMessage(_) => "system.message",
        }
    }

    /// Whether this build serves its type.
    #[must_use]
    pub const fn served(&self) -> bool {
        match self {
            Self::UserMessage(_)
            | Self::UserInterrupt(_)
            | Self::UserToolConfirmation(_)
            | Self::UserCustomToolResult(_)
            | Self::UserDefineOutcome(_)
            | Self::SystemMessage(_) => true,
            Self::UserToolResult(_) => false,
        }
    }

    /// Checks the contents. Paths start inside the event.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::UserMessage(message) => check_blocks(&message.content, Place::Message, 1),
            Self::UserInterrupt(_) => Ok(()),
            Self::UserToolConfirmation(answer) => match (&answer.deny_message, answer.result) {
                (Some(_), Confirmation::Allow) => Err(Invalid::at(
                    "deny_message",
                    "is only for `result: \"deny\"`",
                )),
                (Some(text), Confirmation::Deny) => {
                    check::length("deny_message", text, 0, TOOL_DESCRIPTION)
                }
                (None, _) => Ok(()),
            },
            Self::UserCustomToolResult(result) => check_blocks(&result.content, Place::Result, 0),
            Self::UserToolResult(result) => check_blocks(&result.content, Place::Result, 0),
            Self::UserDefineOutcome(outcome) => {
                check::length("description", &outcome.description, 1, RUBRIC)?;
                if let Rubric::Text(rubric) = &outcome.rubric {
                    check::length("rubric.content", &rubric.content, 1, RUBRIC)?;
                }
                match outcome.max_iterations {
                    Some(n) if n.get() > OUTCOME_ITERATIONS => Err(Invalid::at(
                        "max_iterations",
                        format!("at most {OUTCOME_ITERATIONS} are allowed"),
                    )),
                    _ => Ok(()),
                }
            }
            Self::SystemMessage(message) => check_blocks(&message.content, Place::System, 1),
        }
    }

    /// The path of the first source of type `file`, seen from the event.
    #[must_use]
    pub fn file_source(&self) -> Option<String> {
        if let Self::UserDefineOutcome(UserDefineOutcome {
            rubric: Rubric::File(_),
            ..
        }) = self
        {
            return Some("rubric.type".to_owned());
        }
        let blocks = match self {
            Self::UserMessage(message) => &message.content,
            Self::UserCustomToolResult(result) => &result.content,
            Self::UserToolResult(result) => &result.content,
            _ => return None,
        };
        let index = blocks.iter().position(|block| {
            matches!(
                block,
                BlockParams::Image(ImageParams {
                    source: SourceParams::File(_)
                }) | BlockParams::Document(DocumentParams {
                    source: SourceParams::File(_),
                    ..
                })
            )
        })?;
        Some(format!("content[{index}].source.type"))
    }
}
