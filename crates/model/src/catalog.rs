//! What is known about models: the embedded list and the operator's over it. It never refuses a model:
//! an unknown one has assumed limits.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use serde::Deserialize;
use session::Cost;

use crate::limits::{UNKNOWN_MAX_INPUT_TOKENS, UNKNOWN_MAX_TOKENS, UNKNOWN_MODELS_REMEMBERED};
use crate::prices::{self, Prices};
use crate::transcript::Usage;

const EMBEDDED: &str = include_str!("models.toml");

/// The field that carries the output limit in OpenAI Chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// `max_tokens`: most servers of the dialect.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's own models, which refuse the other.
    MaxCompletionTokens,
}

/// How a model differs from its dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// Which field carries the output limit (OpenAI Chat only).
    pub max_tokens_field: MaxTokensField,
    /// Whether the model thinks and takes an effort: `reasoning_effort` in OpenAI Chat, `reasoning.effort` in
    /// OpenAI Responses, where its thinking is then asked for in a form that can be sent back.
    pub reasoning_effort: bool,
    /// Whether thinking that came in a field of the message goes back in it (OpenAI Chat only).
    pub replay_reasoning: bool,
    /// Whether `output_config.effort` is understood (Anthropic Messages only). Every agent has an effort,
    /// and models that know none refuse it, so it is sent only to those that are known to take it.
    pub effort: bool,
    /// Whether it takes system messages in the middle of a conversation (Anthropic Messages only; in
    /// OpenAI Chat every model does).
    pub system_messages: bool,
}

impl Default for Quirks {
    fn default() -> Quirks {
        Quirks {
            max_tokens_field: MaxTokensField::default(),
            reasoning_effort: false,
            replay_reasoning: true,
            effort: false,
            system_messages: true,
        }
    }
}

/// Where a model is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// In use.
    #[default]
    Active,
    /// Works, but has an end date.
    Deprecated,
    /// Gone.
    Retired,
}

/// What is known about one model. Absent means not known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Its id.
    pub id: String,
    /// A name for people.
    pub display_name: String,
    /// RFC 3339; absent when not known.
    pub created_at: Option<String>,
    /// `haiku`, `sonnet`, `opus`, `fable`, `mythos`.
    pub line: Option<String>,
    /// Where it is in its life.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Other ids that mean this model.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Input window in tokens.
    pub max_input_tokens: Option<u32>,
    /// Output limit in tokens.
    pub max_tokens: Option<u32>,
    /// Names of the capabilities it is known to have, e.g. `image_input`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// List prices; a model without them cannot be budgeted.
    pub prices: Option<Prices>,
}

/// The limits a session runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Input window in tokens.
    pub max_input_tokens: u32,
    /// Output limit in tokens.
    pub max_tokens: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    model: Vec<Model>,
    quirks: Vec<QuirkRule>,
}

#[derive(Clone, Debug, Deserialize)]
struct QuirkRule {
    /// Provider model ids that begin so.
    prefix: String,
    #[serde(flatten)]
    quirks: Quirks,
}

/// The operator's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Not TOML, or not of the shape.
    #[error("the models file cannot be read")]
    Syntax(#[source] toml::de::Error),
    /// A price that is no decimal number.
    #[error(
        "the {kind} price {text:?} of model {id} is no decimal number of dollars per token with at most 12 decimals, e.g. \"0.000003\""
    )]
    Price {
        /// The model.
        id: String,
        /// Which price.
        kind: &'static str,
        /// As written.
        text: String,
    },
}

/// The models that are known.
#[derive(Debug)]
pub struct Catalog {
    models: BTreeMap<String, Model>,
    quirks: Vec<QuirkRule>,
    unknown_logged: Mutex<HashSet<String>>,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog::embedded()
    }
}

impl Catalog {
    /// The embedded list alone.
    #[must_use]
    pub fn embedded() -> Catalog {
        let mut catalog = Catalog {
            models: BTreeMap::new(),
            quirks: Vec::new(),
            unknown_logged: Mutex::default(),
        };
        catalog
            .add(EMBEDDED)
            .expect("models.toml is parsed by the test embedded_catalog_is_valid");
        catalog
    }

    /// The embedded list with the operator's file over it: an entry of the same id replaces ours whole,
    /// and the file's quirks are tried first.
    ///
    /// # Errors
    /// [`CatalogError`] names what is wrong in the file.
    pub fn with_operator_file(text: &str) -> Result<Catalog, CatalogError> {
        let mut catalog = Catalog::embedded();
        catalog.add(text)?;
        Ok(catalog)
    }

    fn add(&mut self, text: &str) -> Result<(), CatalogError> {
        let file: File = toml::from_str(text).map_err(CatalogError::Syntax)?;
        for model in &file.model {
            if let Some(prices) = &model.prices {
                prices::check(&model.id, prices)?;
            }
        }
        self.models
            .extend(file.model.into_iter().map(|m| (m.id.clone(), m)));
        self.quirks.splice(0..0, file.quirks);
        Ok(())
    }

    /// The model of that id or alias.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Model> {
        self.models.get(id).or_else(|| {
            self.models
                .values()
                .find(|m| m.aliases.iter().any(|a| a == id))
        })
    }

    /// All models, newest first, those of unknown age last, then by id.
    #[must_use]
    pub fn list(&self) -> Vec<&Model> {
        let mut all: Vec<&Model> = self.models.values().collect();
        all.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| a.id.cmp(&b.id))
        });
        all
    }

    /// The limits of a model; of an unknown one 200,000 and 8,192, and one log line for each such id.
    #[must_use]
    pub fn limits(&self, id: &str) -> ModelLimits {
        let known = self.get(id);
        if known.is_none() {
            self.log_unknown(id);
        }
        ModelLimits {
            max_input_tokens: known
                .and_then(|m| m.max_input_tokens)
                .unwrap_or(UNKNOWN_MAX_INPUT_TOKENS),
            max_tokens: known
                .and_then(|m| m.max_tokens)
                .unwrap_or(UNKNOWN_MAX_TOKENS),
        }
    }

    /// What `usage` costs at the list price of the model, to the picodollar; `None` if it has none.
    #[must_use]
    pub fn price(&self, id: &str, usage: &Usage) -> Option<Cost> {
        let prices = self.get(id)?.prices.as_ref()?;
        Some(prices::cost(prices, usage))
    }

    /// Whether the model has a list price, and so can be budgeted.
    #[must_use]
    pub fn has_price(&self, id: &str) -> bool {
        self.get(id).is_some_and(|model| model.prices.is_some())
    }

    /// Whether the model takes `system.message` in the middle of a conversation. True of what is not
    /// known.
    #[must_use]
    pub fn takes_system_messages(&self, id: &str) -> bool {
        let known = self.get(id).map_or(id, |model| &model.id);
        self.quirks(known).system_messages
    }

    /// How the provider's model of that id differs from its dialect.
    #[must_use]
    pub fn quirks(&self, provider_model: &str) -> Quirks {
        // Routers prefix the maker's name: "openai/gpt-5".
        let bare = provider_model.rsplit('/').next().unwrap_or(provider_model);
        let rule = self
            .quirks
            .iter()
            .find(|r| provider_model.starts_with(&r.prefix) || bare.starts_with(&r.prefix));
        rule.map(|r| r.quirks).unwrap_or_default()
    }

    fn log_unknown(&self, id: &str) {
        let Ok(mut logged) = self.unknown_logged.lock() else {
            return;
        };
        if logged.len() < UNKNOWN_MODELS_REMEMBERED && logged.insert(id.to_owned()) {
            tracing::warn!(
                model = id,
                max_input_tokens = UNKNOWN_MAX_INPUT_TOKENS,
                max_tokens = UNKNOWN_MAX_TOKENS,
                "no catalog knows this model; assuming its limits"
            );
        }
    }
}
