//! Prints the JSON Schema of every request, object and event of the core routes, the keys of their queries
//! and the parts of their forms, as one JSON: our side of the comparison with the SDKs (`sdk-tests/python/test_types.py`).
//! It knows nothing of the SDKs.
#![forbid(unsafe_code)]

use contract::agent::{Agent, CreateAgent, UpdateAgent};
use contract::client_event::SendEvents;
use contract::credential::{CreateCredential, Credential, UpdateCredential, Validation};
use contract::deployment::{CreateDeployment, Deployment, DeploymentRun, UpdateDeployment};
use contract::dialect::{Generation, Vintage};
use contract::dream::{CreateDream, Dream};
use contract::environment::{CreateEnvironment, Environment, UpdateEnvironment};
use contract::error::ErrorKind;
use contract::event::{Event, Preview, SentEvents};
use contract::file::{File, UploadFile};
use contract::ids::{
    CredentialId, EnvironmentId, FileId, MemoryId, MemoryStoreId, ResourceId, SessionId, SkillId,
    SkillVersionId, VaultId,
};
use contract::memory::{
    CreateMemory, CreateMemoryStore, Memory, MemoryItem, MemoryPathConflict,
    MemoryPreconditionFailed, MemoryStore, MemoryVersion, UpdateMemory, UpdateMemoryStore,
};
use contract::model::ModelInfo;
use contract::page::{BidiPage, Deleted, IdPage, Page};
use contract::parse::Invalid;
use contract::query;
use contract::session::{
    AddResource, CreateSession, Resource, Session, SessionThread, UpdateResource, UpdateSession,
};
use contract::skill::{
    BetaSkill, BetaSkillVersion, CreateSkill, CreateSkillVersion, Skill, SkillVersion,
};
use contract::vault::{CreateVault, UpdateVault, Vault};
use contract::work::{
    Heartbeat, HeartbeatFailed, StopWork, UpdateWork, Work, WorkSecret, WorkStats,
};
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
        .of::<UpdateWork>("UpdateWork")
        .of::<StopWork>("StopWork")
        .of::<CreateSession>("CreateSession")
        .of::<UpdateSession>("UpdateSession")
        .of::<SendEvents>("SendEvents")
        .of::<AddResource>("AddResource")
        .of::<UpdateResource>("UpdateResource")
        .of::<CreateVault>("CreateVault")
        .of::<UpdateVault>("UpdateVault")
        .of::<CreateCredential>("CreateCredential")
        .of::<UpdateCredential>("UpdateCredential")
        .of::<CreateMemoryStore>("CreateMemoryStore")
        .of::<UpdateMemoryStore>("UpdateMemoryStore")
        .of::<CreateMemory>("CreateMemory")
        .of::<UpdateMemory>("UpdateMemory")
        .of::<CreateDeployment>("CreateDeployment")
        .of::<UpdateDeployment>("UpdateDeployment")
        .of::<CreateDream>("CreateDream")
        .found
}

fn objects() -> Map<String, Value> {
    Schemas::new(SchemaSettings::draft2020_12().for_serialize())
        .of::<Agent>("Agent")
        .of::<Environment>("Environment")
        .of::<Work>("Work")
        .of::<Heartbeat>("Heartbeat")
        .of::<WorkStats>("WorkStats")
        .of::<WorkSecret>("WorkSecret")
        .of::<HeartbeatFailed>("HeartbeatFailed")
        .of::<Session>("Session")
        .of::<SessionThread>("SessionThread")
        .of::<Resource>("Resource")
        .of::<Vault>("Vault")
        .of::<Credential>("Credential")
        .of::<Validation>("Validation")
        .of::<File>("File")
        .of::<Skill>("Skill")
        .of::<SkillVersion>("SkillVersion")
        .of::<BetaSkill>("BetaSkill")
        .of::<BetaSkillVersion>("BetaSkillVersion")
        .of::<MemoryStore>("MemoryStore")
        .of::<Memory>("Memory")
        .of::<MemoryItem>("MemoryItem")
        .of::<MemoryVersion>("MemoryVersion")
        .of::<MemoryPathConflict>("MemoryPathConflict")
        .of::<MemoryPreconditionFailed>("MemoryPreconditionFailed")
        .of::<Deployment>("Deployment")
        .of::<DeploymentRun>("DeploymentRun")
        .of::<Dream>("Dream")
        .of::<ModelInfo>("ModelInfo")
        .of::<Event>("Event")
        .of::<Preview>("Preview")
        .of::<SentEvents<'_>>("SentEvents")
        .of::<Page<Value>>("Page")
        .of::<BidiPage<Value>>("BidiPage")
        .of::<IdPage<Value>>("IdPage")
        .of::<Deleted<EnvironmentId>>("DeletedEnvironment")
        .of::<Deleted<SessionId>>("DeletedSession")
        .of::<Deleted<ResourceId>>("DeletedResource")
        .of::<Deleted<VaultId>>("DeletedVault")
        .of::<Deleted<CredentialId>>("DeletedCredential")
        .of::<Deleted<FileId>>("DeletedFile")
        .of::<Deleted<SkillId>>("DeletedSkill")
        .of::<Deleted<SkillVersionId>>("DeletedSkillVersion")
        .of::<Deleted<MemoryStoreId>>("DeletedMemoryStore")
        .of::<Deleted<MemoryId>>("DeletedMemory")
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
        "ListResources": keys(query::ListPlain::parse_resources),
        "ListWork": keys(query::ListPlain::parse_work),
        "PollWork": keys(query::PollWork::parse),
        "HeartbeatWork": keys(query::HeartbeatWork::parse),
        "ListFiles": keys(query::ListFiles::parse),
        "ListBetaFiles": keys(query::ListBetaFiles::parse),
        "ListSkills": keys(query::ListSkills::parse),
        "ListSkillVersions": keys(query::ListPlain::parse_skill_versions),
        "ListMemoryStores": keys(query::ListMemoryStores::parse),
        "GetMemory": keys(query::GetMemory::parse),
        "WriteMemory": keys(query::WriteMemory::parse),
        "DeleteMemory": keys(query::DeleteMemory::parse),
        "ListMemories": keys(query::ListMemories::parse),
        "ListMemoryVersions": keys(query::ListMemoryVersions::parse),
        "ListDeployments": keys(query::ListDeployments::parse),
        "ListDeploymentRuns": keys(query::ListDeploymentRuns::parse),
        "ListDreams": keys(query::ListDreams::parse),
    })
}

/// Reads the text parts of a form.
type ReadForm<T> = fn(Vec<(String, String)>) -> Result<T, Invalid>;

/// The parts of a form: those that hold files, and the texts out of the refusal of one that nobody knows.
fn parts<T>(file: &str, parse: ReadForm<T>) -> Value {
    let texts = parse(vec![("no_such_part".to_owned(), String::new())]);
    let problem = texts
        .err()
        .map(|refusal| refusal.problem)
        .unwrap_or_default();
    let texts = problem.split('`').skip(1).step_by(2);
    std::iter::once(file.trim_end_matches("[]"))
        .chain(texts)
        .collect()
}

fn forms() -> Value {
    json!({
        "UploadFile": parts(UploadFile::FILE, UploadFile::parse),
        "CreateSkill": parts(CreateSkill::FILES, |texts| CreateSkill::parse(texts, Vintage::General)),
        "CreateBetaSkill": parts(CreateSkill::FILES, |texts| CreateSkill::parse(texts, Vintage::Beta)),
        "CreateSkillVersion": parts(CreateSkill::FILES, CreateSkillVersion::parse),
    })
}

fn main() {
    let kinds = ErrorKind::ALL.map(|kind| kind.wire(Generation::V2026));
    let all = json!({
        "requests": requests(),
        "objects": objects(),
        "queries": queries(),
        "forms": forms(),
        "errors": kinds.into_iter().collect::<std::collections::BTreeSet<_>>(),
    });
    println!("{all}");
}
