//! The events that each session of a deployment begins with (api.md §15.0). They have no ids: those come with
//! the session.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::client_event::{self, BlockParams, ClientEvent, Rubric};
use crate::content::Block;
use crate::limits::INITIAL_EVENTS;
use crate::parse::Invalid;

/// An event of a deployment, as stored and served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum DeploymentEvent {
    /// What the user says.
    #[serde(rename = "user.message")]
    UserMessage {
        /// Text, images and documents.
        #[schemars(schema_with = "crate::schema::said::<Block>")]
        content: Vec<Block>,
    },
    /// What the agent has to reach.
    #[serde(rename = "user.define_outcome")]
    UserDefineOutcome {
        /// In words.
        description: String,
        /// How it is judged.
        rubric: Rubric,
        /// Absent: the default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_iterations: Option<u32>,
    },
    /// What the operator says.
    #[serde(rename = "system.message")]
    SystemMessage {
        /// Text only.
        #[schemars(schema_with = "crate::schema::system::<Block>")]
        content: Vec<Block>,
    },
}

/// The events of a request, checked.
pub(super) fn accepted(events: Vec<ClientEvent>) -> Result<Vec<DeploymentEvent>, Invalid> {
    const FIELD: &str = "initial_events";
    if events.is_empty() {
        return Err(Invalid::at(FIELD, "must hold at least one event"));
    }
    check::count(FIELD, events.len(), INITIAL_EVENTS)?;
    client_event::check_system(FIELD, &events)?;
    let outcome = |event: &&ClientEvent| matches!(event, ClientEvent::UserDefineOutcome(_));
    if events.iter().filter(outcome).count() > 1 {
        return Err(Invalid::at(
            FIELD,
            "a session can have one outcome at a time",
        ));
    }
    let mut accepted = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        let read = event.check().and_then(|()| DeploymentEvent::of(event));
        accepted.push(read.map_err(|bad| bad.under_index(index).under(FIELD))?);
    }
    Ok(accepted)
}

impl DeploymentEvent {
    fn of(event: ClientEvent) -> Result<Self, Invalid> {
        let blocks = |content: Vec<BlockParams>| content.into_iter().map(Block::from).collect();
        Ok(match event {
            ClientEvent::UserMessage(message) => Self::UserMessage {
                content: blocks(message.content),
            },
            ClientEvent::UserDefineOutcome(outcome) => Self::UserDefineOutcome {
                description: outcome.description,
                rubric: outcome.rubric,
                max_iterations: outcome.max_iterations.map(std::num::NonZeroU32::get),
            },
            ClientEvent::SystemMessage(message) => Self::SystemMessage {
                content: blocks(message.content),
            },
            ClientEvent::UserInterrupt(_)
            | ClientEvent::UserToolConfirmation(_)
            | ClientEvent::UserCustomToolResult(_)
            | ClientEvent::UserToolResult(_) => {
                let problem = "unknown value; allowed: `user.message`, `user.define_outcome`, \
                    `system.message`";
                return Err(Invalid::at("type", problem));
            }
        })
    }
}
