//! The model of an agent (api.md §3.1) and the models that the server lists (§22). Any id is accepted:
//! which ones work is known to the providers, not here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::event::Speed;
use crate::limits::MODEL_ID;
use crate::parse::{Invalid, StringOr, tagged};
use crate::time::Micros;

/// How hard the model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

tagged!(Effort {
    "low" => Low, "medium" => Medium, "high" => High, "xhigh" => Xhigh, "max" => Max,
});

impl Effort {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::Xhigh,
            "max" => Self::Max,
            _ => return None,
        })
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}

/// A model as a request names it: an id, or an object.
pub type ModelParams = StringOr<ModelObject>;

/// The long form of a model in a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelObject {
    /// The model's id.
    pub id: String,
    /// `"high"` or `{"type":"high"}`.
    #[serde(default)]
    pub effort: Option<StringOr<Effort>>,
    /// Where inference must run.
    #[serde(default)]
    pub inference_geo: Option<String>,
    /// The provider's tier.
    #[serde(default)]
    pub speed: Option<Speed>,
}

/// A model with its defaults filled in, as stored and served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelConfig {
    /// The model's id.
    pub id: String,
    /// How hard it thinks. Absent only where a session's override dropped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// Where inference must run; absent: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_geo: Option<String>,
    /// The provider's tier.
    pub speed: Speed,
}

/// The effort of a model for which none was asked (behaviours §2).
pub const DEFAULT_EFFORT: Effort = Effort::High;

impl ModelConfig {
    /// Fills in the defaults. `stored` is the model before an update: its effort stays when the id is
    /// the same and the update names none.
    ///
    /// # Errors
    /// An empty or over-long id, an unknown effort.
    pub fn resolve(params: ModelParams, stored: Option<&Self>) -> Result<Self, Invalid> {
        let object = match params {
            StringOr::Object(object) => object,
            StringOr::String(id) => {
                check::length("model", &id, 1, MODEL_ID)?;
                ModelObject {
                    id,
                    effort: None,
                    inference_geo: None,
                    speed: None,
                }
            }
        };
        check::length("model.id", &object.id, 1, MODEL_ID)?;
        if let Some(geo) = &object.inference_geo {
            check::length("model.inference_geo", geo, 1, MODEL_ID)?;
        }
        let asked = match object.effort {
            None => None,
            Some(StringOr::Object(effort)) => Some(effort),
            Some(StringOr::String(name)) => Some(Effort::of(&name).ok_or_else(|| {
                Invalid::at(
                    "model.effort",
                    "unknown value; allowed: `low`, `medium`, `high`, `xhigh`, `max`",
                )
            })?),
        };
        let kept = stored
            .filter(|stored| stored.id == object.id)
            .and_then(|stored| stored.effort);
        Ok(Self {
            id: object.id,
            effort: Some(asked.or(kept).unwrap_or(DEFAULT_EFFORT)),
            inference_geo: object.inference_geo,
            speed: object.speed.unwrap_or(Speed::Standard),
        })
    }
}

/// A model in `/v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModelInfo {
    /// The id that agents name.
    pub id: String,
    /// Always `model`.
    #[serde(rename = "type")]
    pub kind: ModelTag,
    /// For people.
    pub display_name: String,
    /// When it was released; the epoch if unknown.
    pub created_at: Micros,
    /// Its stage.
    pub lifecycle: Lifecycle,
    /// `opus` and the like; null for none.
    pub line: Option<String>,
    /// Size of the context window in tokens.
    pub max_input_tokens: Option<u64>,
    /// Most tokens of one answer.
    pub max_tokens: Option<u64>,
    /// When it was deprecated.
    pub deprecated_at: Option<Micros>,
    /// When it retires.
    pub retires_at: Option<Micros>,
    /// Not known here: always null.
    pub allowed_fallback_models: Option<Vec<String>>,
    /// Not known here: always null.
    pub capabilities: Option<()>,
}

/// The constant `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelTag {
    /// The only value.
    #[default]
    Model,
}

/// The stage of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Lifecycle {
    Active,
    Deprecated,
    Retired,
}
