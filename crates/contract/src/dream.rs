//! Dreams (api.md §18): jobs that read sessions and rewrite a memory store. Requests and the object; nothing
//! here dreams.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::event::Speed;
use crate::ids::{DreamId, MemoryStoreId, SessionId};
use crate::limits::{DREAM_INSTRUCTIONS, DREAM_SESSIONS, MODEL_ID};
use crate::parse::{Invalid, StringOr, tagged};
use crate::patch::present;
use crate::schema::constants;
use crate::time::Micros;

constants! { DreamTag = Dream; }

/// Body of `POST /v1/dreams`. [`CreateDream::resolve`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDream {
    /// One memory store and one list of sessions.
    pub inputs: Vec<DreamInput>,
    /// A model id, or an object.
    pub model: StringOr<DreamModelParams>,
    /// What to look for.
    #[serde(default)]
    pub instructions: Option<String>,
    /// Absent: a store of its own.
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "OutputBehavior")]
    pub output_behavior: Option<OutputBehavior>,
}

/// What a dream reads, the same in requests, in store and in answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DreamInput {
    /// A memory store, which is not changed unless the dream says so.
    MemoryStore(DreamStore),
    /// Sessions.
    Sessions(DreamSessions),
}

tagged!(DreamInput { "memory_store" => MemoryStore(DreamStore), "sessions" => Sessions(DreamSessions) });

/// A memory store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DreamStore {
    /// Which.
    pub memory_store_id: MemoryStoreId,
}

/// Sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DreamSessions {
    /// 1 to 100 distinct ones; sorted once they are stored.
    pub session_ids: Vec<SessionId>,
}

/// A model in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DreamModelParams {
    /// Its id.
    pub id: String,
    /// Only `standard`.
    #[serde(default)]
    pub speed: Option<Speed>,
}

/// A model as stored and served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct DreamModel {
    pub id: String,
    pub speed: Speed,
}

/// Where a dream writes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputBehavior {
    /// Into a store of its own.
    #[default]
    CreateNew,
    /// Into the store that it reads.
    UpdateExisting(DreamStore),
}

tagged!(OutputBehavior { "create_new" => CreateNew, "update_existing" => UpdateExisting(DreamStore) });

/// A dream as it is asked for, checked: what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub struct DreamDefinition {
    pub inputs: Vec<DreamInput>,
    pub model: DreamModel,
    pub instructions: Option<String>,
    pub output_behavior: OutputBehavior,
}

/// A dream as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's, api.md §18
pub struct Dream {
    pub id: DreamId,
    #[serde(rename = "type")]
    pub kind: DreamTag,
    pub status: DreamStatus,
    #[serde(flatten)]
    pub definition: DreamDefinition,
    /// None or one.
    pub outputs: Vec<DreamOutput>,
    /// The session that it runs as; null until there is one.
    pub session_id: Option<SessionId>,
    pub usage: DreamUsage,
    pub error: Option<DreamError>,
    pub created_at: Micros,
    pub ended_at: Option<Micros>,
    pub archived_at: Option<Micros>,
}

/// How far a dream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the values are the contract's
pub enum DreamStatus {
    Pending,
    Running,
    Completed,
    Failed,
    Canceled,
}

/// What a dream wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DreamOutput {
    /// A memory store.
    MemoryStore {
        /// Which.
        memory_store_id: MemoryStoreId,
    },
}

/// Tokens of a dream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the fields are the contract's
pub struct DreamUsage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_creation_input_tokens: u64,
    pub cache_read_input_tokens: u64,
}

/// Why a dream failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DreamError {
    /// `timeout`, `internal_error` and others.
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    pub message: String,
}

impl CreateDream {
    /// Checks every rule that needs no other object and fills in the defaults.
    ///
    /// # Errors
    /// The first rule that is broken, with its path.
    pub fn resolve(self) -> Result<DreamDefinition, Invalid> {
        let (inputs, store) = inputs(self.inputs)?;
        let model = match self.model {
            StringOr::String(id) => {
                check::length("model", &id, 1, MODEL_ID)?;
                id
            }
            StringOr::Object(model) => {
                check::length("model.id", &model.id, 1, MODEL_ID)?;
                if model.speed.is_some_and(|speed| speed != Speed::Standard) {
                    let problem = "dreams run with `standard` only";
                    return Err(Invalid::at("model.speed", problem));
                }
                model.id
            }
        };
        if let Some(text) = &self.instructions {
            check::length("instructions", text, 1, DREAM_INSTRUCTIONS)?;
        }
        let output_behavior = self.output_behavior.unwrap_or_default();
        if let OutputBehavior::UpdateExisting(target) = &output_behavior
            && *target != store
        {
            let problem = "must be the memory store of `inputs`";
            return Err(Invalid::at("output_behavior.memory_store_id", problem));
        }
        Ok(DreamDefinition {
            inputs,
            model: DreamModel {
                id: model,
                speed: Speed::Standard,
            },
            instructions: self.instructions,
            output_behavior,
        })
    }
}

/// One of each kind, sessions in order; and the store.
fn inputs(mut inputs: Vec<DreamInput>) -> Result<(Vec<DreamInput>, DreamStore), Invalid> {
    let (mut stores, mut lists) = (Vec::new(), 0);
    for (index, input) in inputs.iter_mut().enumerate() {
        match input {
            DreamInput::MemoryStore(store) => stores.push(*store),
            DreamInput::Sessions(sessions) => {
                let at = |bad: Invalid| bad.under_index(index).under("inputs");
                lists += 1;
                sorted(&mut sessions.session_ids).map_err(at)?;
            }
        }
    }
    match (stores.as_slice(), lists) {
        ([store], 1) => Ok((inputs, *store)),
        _ => Err(Invalid::at(
            "inputs",
            "must hold one `memory_store` and one `sessions`",
        )),
    }
}

fn sorted(ids: &mut [SessionId]) -> Result<(), Invalid> {
    if ids.is_empty() {
        return Err(Invalid::at("session_ids", "must hold at least one session"));
    }
    check::count("session_ids", ids.len(), DREAM_SESSIONS)?;
    let mut seen = BTreeSet::new();
    if let Some(index) = ids.iter().position(|id| !seen.insert(*id)) {
        let path = format!("session_ids[{index}]");
        return Err(Invalid::at(path, "is there twice"));
    }
    ids.sort_unstable();
    Ok(())
}
