//! Prints the JSON Schema of every request, object and event of the routes that are served, and the keys of
//! their queries, as one JSON: our side of the comparison with the SDKs (`sdk-tests/python/test_types.py`).
//! It knows nothing of the SDKs.
#![forbid(unsafe_code)]

use contract::agent::{Agent, CreateAgent, UpdateAgent};
use contract::client_event::SendEvents;
use contract::credential::{CreateCredential, Credential, UpdateCredential};
use contract::dialect::Generation;
use contract::environment::{CreateEnvironment, Environment, UpdateEnvironment};
use contract::error::ErrorKind;
use contract::event::{Event, Preview};
use contract::ids::{CredentialId, EnvironmentId, SessionId, VaultId};
use contract::model::ModelInfo;
use contract::page::{BidiPage, Deleted, IdPage, Page};
use contract::parse::Invalid;
use contract::query;
use contract::session::{CreateSession, Session, SessionThread, UpdateSession};
use contract::vault::{CreateVault, UpdateVault, Vault};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Schemas by name. Each is whole: no reference leads out of it.
struct Schemas {
    generator: SchemaGenerator,
    found: Map<String, Value>,
}

impl Schemas {
    fn new(settings: SchemaSettings) -> Self {
        let settings = settings.with(|it| it.inline_subschemas = true);
        Self {
            generator: settings.into_generator(),
            found: Map::new(),
        }
    }

    fn of<T: JsonSchema>(mut self, name: &str) -> Self {
        let schema = T::json_schema(&mut self.generator);
        self.found.insert(name.to_owned(), schema.to_value());
        self
    }
}

fn requests() -> Map<String, Value> {
    Schemas::new(SchemaSettings::draft2020_12().for_deserialize())
        .of::<CreateAgent>("CreateAgent")
        .of::<UpdateAgent>("UpdateAgent")
        .of::<CreateEnvironment>("CreateEnvironment")
        .of::<UpdateEnvironment>("UpdateEnvironment")
        .of::<CreateSession>("CreateSession")
        .of::<UpdateSession>("UpdateSession")
        .of::<SendEvents>("SendEvents")
        .of::<CreateVault>("CreateVault")
        .of::<UpdateVault>("UpdateVault")
        .of::<CreateCredential>("CreateCredential")
        .of::<UpdateCredential>("UpdateCredential")
        .found
}

fn objects() -> Map<String, Value> {
    Schemas::new(SchemaSettings::draft2020_12().for_serialize())
        .of::<Agent>("Agent")
        .of::<Environment>("Environment")
        .of::<Session>("Session")
        .of::<SessionThread>("SessionThread")
        .of::<Vault>("Vault")
        .of::<Credential>("Credential")
        .of::<ModelInfo>("ModelInfo")
        .of::<Event>("Event")
        .of::<Preview>("Preview")
        .of::<Page<Value>>("Page")
        .of::<BidiPage<Value>>("BidiPage")
        .of::<IdPage<Value>>("IdPage")
        .of::<Deleted<EnvironmentId>>("DeletedEnvironment")
        .of::<Deleted<SessionId>>("DeletedSession")
        .of::<Deleted<VaultId>>("DeletedVault")
        .of::<Deleted<CredentialId>>("DeletedCredential")
        .found
}

/// The keys of a query, out of the refusal of one that nobody knows.
fn keys<T>(parse: fn(&str) -> Result<T, Invalid>) -> Value {
    let Err(refusal) = parse("no_such_key=1") else {
        return Value::Null;
    };
    let keys = refusal.problem.split('`').skip(1).step_by(2);
    keys.map(|key| key.trim_end_matches("[]")).collect()
}

fn queries() -> Value {
    json!({
        "GetAgent": keys(query::GetAgent::parse),
        "ListAgents": keys(query::ListAgents::parse),
        "ListVersions": keys(query::ListPlain::parse_versions),
        "ListArchivable": keys(query::ListArchivable::parse),
        "ListSessions": keys(query::ListSessions::parse),
        "ListEvents": keys(query::ListEvents::parse),
        "StreamEvents": keys(query::StreamEvents::parse),
        "ListThreads": keys(query::ListThreads::parse),
        "ListThreadEvents": keys(query::ListPlain::parse_thread_events),
        "ListModels": keys(query::ListModels::parse),
    })
}

fn main() {
    let kinds = ErrorKind::ALL.map(|kind| kind.wire(Generation::V2026));
    let all = json!({
        "requests": requests(),
        "objects": objects(),
        "queries": queries(),
        "errors": kinds.into_iter().collect::<std::collections::BTreeSet<_>>(),
    });
    println!("{all}");
}
