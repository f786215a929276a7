//! Models (api.md §22): what the catalogue knows. Agents may name any other model as well.

use std::sync::Arc;

use axum::response::Response;
use contract::error::ApiError;
use contract::model::{Lifecycle, ModelInfo, ModelTag};
use contract::page::IdPage;
use contract::query::{self, ListModels};
use contract::time::Micros;
use model::Model;

use crate::call::{Call, missing};
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

/// `GET /v1/models`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let query = ListModels::parse(call.query())?;
    let stages = match query.lifecycle.as_slice() {
        [] => &[Lifecycle::Active, Lifecycle::Deprecated],
        stages => stages,
    };
    let all = gateway.catalog.list();
    let all = all
        .into_iter()
        .filter(|model| stages.contains(&lifecycle(model)))
        .collect::<Vec<_>>();
    let place = |key: &str, id: &str| {
        let found = all.iter().position(|model| model.id == id);
        found.ok_or_else(|| ApiError::invalid(format!("`{key}`: no such model in this list")))
    };
    let limit = query.limit as usize;
    let (page, has_more) = if let Some(id) = &query.before_id {
        let end = place("before_id", id)?;
        let start = end.saturating_sub(limit);
        (all.get(start..end).unwrap_or_default(), start > 0)
    } else {
        let start = match &query.after_id {
            Some(id) => place("after_id", id)? + 1,
            None => 0,
        };
        let end = all.len().min(start + limit);
        (all.get(start..end).unwrap_or_default(), end < all.len())
    };
    let data = page.iter().map(|model| object(model)).collect::<Vec<_>>();
    let first_id = data.first().map(|model| model.id.clone());
    let last_id = data.last().map(|model| model.id.clone());
    reply::json(&IdPage {
        data,
        has_more,
        first_id,
        last_id,
    })
}

/// `GET /v1/models/{model_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let model = gateway
        .catalog
        .get(call.text("model_id"))
        .ok_or_else(|| missing("Model"))?;
    reply::json(&object(model))
}

fn lifecycle(model: &Model) -> Lifecycle {
    match model.lifecycle {
        model::Lifecycle::Active => Lifecycle::Active,
        model::Lifecycle::Deprecated => Lifecycle::Deprecated,
        model::Lifecycle::Retired => Lifecycle::Retired,
    }
}

fn object(model: &Model) -> ModelInfo {
    let created = model.created_at.as_deref().and_then(Micros::parse);
    ModelInfo {
        id: model.id.clone(),
        kind: ModelTag::Model,
        display_name: model.display_name.clone(),
        created_at: created.unwrap_or_default(),
        lifecycle: lifecycle(model),
        line: model.line.clone(),
        max_input_tokens: model.max_input_tokens.map(u64::from),
        max_tokens: model.max_tokens.map(u64::from),
        deprecated_at: None,
        retires_at: None,
        allowed_fallback_models: None,
        capabilities: None,
    }
}
