//! `/v1/x/sandboxes/{sandbox_id}/egress/rules`: what a sandbox may reach by rules of its own, below the operator's and
//! above its environment's networking. A key sets those of its workspace's sessions. It decides nothing: the egress
//! process does, and no rule here lifts what is always denied.

use std::borrow::Cow;
use std::sync::Arc;

use axum::response::Response;
use contract::parse::Invalid;
use contract::query;
use contract::time::Micros;
use egress::limits::SANDBOX_RULES;
use egress::policy::{Policy, Rule, RuleSet};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::egress::has_network;
use super::sandboxes::{Named, named};
use crate::call::Call;
use crate::error::Failure;
use crate::gateway::Gateway;
use crate::reply;

/// The rules that a sandbox is to have from now on, in place of all that it had.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetSandboxRules")]
pub(crate) struct Set {
    /// The first that matches decides, after the operator's. None: it has none any more.
    rules: Vec<One>,
}

/// The rules of a sandbox.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SandboxRules")]
pub(crate) struct Shown {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "sandbox_rules"))]
    kind: &'static str,
    sandbox_id: String,
    #[schemars(with = "Vec<One>")]
    rules: Box<RawValue>,
    /// When they last changed; null while it has none.
    updated_at: Option<Micros>,
}

/// One rule, as in the operator's settings.
#[derive(Deserialize)]
#[serde(transparent)]
struct One(Rule);

impl JsonSchema for One {
    fn schema_name() -> Cow<'static, str> {
        "SandboxRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let texts = || json_schema!({"type": "array", "items": {"type": "string"}});
        json_schema!({
            "type": "object",
            "description": "Where to, and what then; docs/egress.md has what each field means.",
            "required": ["name", "action"],
            "additionalProperties": false,
            "properties": {
                "name": {"type": "string", "description": "In answers and in the audit; unique."},
                "action": {"type": "string", "enum": ["allow", "deny"]},
                "to": texts(),
                "presets": {"type": "array", "items": {"type": "string", "enum":
                    ["npm", "pypi", "crates", "debian", "golang", "rubygems", "github"]}},
                "ports": {"type": "array", "items": {"type": ["integer", "string"]}},
                "protocol": {"type": "string", "enum": ["tcp", "tls", "http"]},
                "methods": texts(),
                "paths": texts(),
                "mcp_tools": texts(),
            },
        })
    }
}

/// `GET /v1/x/sandboxes/{sandbox_id}/egress/rules`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = that_may_have_some(&gateway, &call).await?;
    let held = gateway.store.sandbox_rules(named.id.as_str()).await?;
    let (rules, updated_at) = match held {
        Some(held) => (held.body, Some(held.updated_at)),
        None => (written(&[])?, None),
    };
    reply::json(&Shown {
        kind: "sandbox_rules",
        sandbox_id: named.id.to_string(),
        rules,
        updated_at,
    })
}

/// `POST /v1/x/sandboxes/{sandbox_id}/egress/rules`: in force as soon as they are stored, also for what is open.
pub(crate) async fn set(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let named = that_may_have_some(&gateway, &call).await?;
    let set = call.json::<Set>().await?;
    let rules: Vec<Rule> = set.rules.into_iter().map(|One(rule)| rule).collect();
    check(&rules)?;
    let (body, now) = (written(&rules)?, gateway.now());
    let kept = (!rules.is_empty()).then(|| body.clone());
    let updated_at = kept.is_some().then_some(now);
    gateway
        .store
        .set_sandbox_rules(named.id.as_str(), kept, now)
        .await?;
    reply::json(&Shown {
        kind: "sandbox_rules",
        sandbox_id: named.id.to_string(),
        rules: body,
        updated_at,
    })
}

/// A session's sandbox has rules before it is made; another one must be there.
async fn that_may_have_some(gateway: &Gateway, call: &Call) -> Result<Named, Failure> {
    let named = named(gateway, call).await?;
    if !named.is_of_session() {
        named.exists().await?;
    }
    has_network(gateway)?;
    Ok(named)
}

/// Refuses what would be no policy, naming the field.
fn check(rules: &[Rule]) -> Result<(), Failure> {
    if rules.len() > SANDBOX_RULES {
        let problem = format!("a sandbox has at most {SANDBOX_RULES} rules of its own");
        return Err(Invalid::at("rules", problem).into());
    }
    let alone = RuleSet {
        operator: rules.to_vec(),
        ..RuleSet::default()
    };
    match Policy::compile(alone) {
        Ok(_) => Ok(()),
        Err(error) => Err(Invalid::at(error.path, error.problem.to_string()).into()),
    }
}

fn written(rules: &[Rule]) -> Result<Box<RawValue>, Failure> {
    to_raw_value(rules).map_err(Failure::Encode)
}
