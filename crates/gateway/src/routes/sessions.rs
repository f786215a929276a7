//! Sessions (api.md §7): what a new one is made from, the object, and changes through the core.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use contract::agent::{AgentOverrides, SessionAgent};
use contract::error::ApiError;
use contract::ids::{SessionId, ThreadId, WorkspaceId};
use contract::page::{BidiPage, Deleted};
use contract::patch::Patch;
use contract::query::{self, ListSessions};
use contract::session::{
    Budget, CreateSession, OutcomeEvaluation, SandboxWishes, Session, SessionAgentUpdate,
    SessionStats, SessionTag, Status, UpdateSession, in_agent, unbuilt,
};
use contract::time::Micros;
use contract::tools::Tool;
use session::input::Profile;
use session::policy::{Leads, ToolRules};
use session::{AgentChange, Command, Input, Opening};
use store::error::Thing;
use store::page::Slice;
use store::sessions::{NewSession, OutcomeRow, Resolved, SessionFilter, SessionRow};

use super::{agents, environments, events, stored};
use crate::call::Call;
use crate::cast::Cast;
use crate::error::{self, Failure};
use crate::gateway::Gateway;
use crate::paging::Keyset;
use crate::reply;

/// `POST /v1/sessions`
pub(crate) async fn create(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    // It is large, and goes through several hands.
    let request = call.json::<Box<CreateSession>>().await?;
    request.check()?;
    let asked = request.asked()?;
    let at = |thing: &Thing| path_of(&request, thing);
    let (environment, vaults) = (request.environment_id, request.vault_ids.clone());
    let resolved = gateway
        .store
        .resolve_for_session(
            call.workspace(),
            asked.id,
            asked.version,
            environment,
            vaults,
        )
        .await
        .map_err(|failure| error::named(failure, at))?;
    let agent_version = resolved.agent.version;
    let cast = cast(&gateway, call.workspace(), &resolved, asked.overrides).await?;
    let environment = environments::setting(&gateway, &resolved.environment)?;
    if let Some(missing) = unbuilt(&request, &cast.agent, &environment) {
        return Err(Failure::Api(missing.into()));
    }
    let budget = request.budget.as_ref().map(Budget::cents);
    if budget.is_some() {
        budgetable(&gateway, &cast.agent)?;
    }
    super::llm::check(
        &resolved.vaults,
        &cast.agent,
        gateway.config.claude.as_ref(),
    )?;
    let wishes = SandboxWishes::of(&request.metadata, &environment.metadata)?;
    super::volumes::check(&gateway, call.workspace(), &wishes.volumes).await?;
    super::sandbox_terms::check(&gateway, &wishes).await?;
    let initial = events::accept(&gateway, request.initial_events.clone(), "initial_events")?;
    let opening = Opening {
        session: SessionId::from_bits(gateway.id_bits()),
        thread: ThreadId::from_bits(gateway.id_bits()),
        agent_name: cast.agent.name.clone(),
        rules: cast.rules.clone(),
        budget,
        initial,
    };
    let new = NewSession {
        workspace: call.workspace(),
        agent_id: asked.id,
        agent_version,
        agent: Arc::clone(&cast.written),
        environment_id: request.environment_id,
        environment: Arc::clone(&resolved.environment.body),
        vault_ids: request.vault_ids.clone(),
        profile: Profile {
            title: request.title.clone().filter(|title| !title.is_empty()),
            metadata: request.metadata.clone(),
        },
        opening,
    };
    let (now, entropy) = (gateway.now(), gateway.random());
    let (edge, copy) = (Arc::clone(&gateway), Arc::clone(&cast));
    let store = call.store(&gateway, move |row: &SessionRow| {
        reply::bytes(&object_with(&edge, Box::new(row.clone()), &*copy.written))
    });
    let created = store.create_session(new, now, entropy).await;
    let row = created.map_err(|failure| error::named(failure, at))?;
    super::sandbox_terms::prepare(&gateway, &row, wishes);
    reply::json(&object_with(&gateway, row, &*cast.written))
}

/// The session's copy of the agent, with a copy of each agent of its team.
async fn cast(
    gateway: &Gateway,
    workspace: WorkspaceId,
    resolved: &Resolved,
    overrides: Option<AgentOverrides>,
) -> Result<Arc<Cast>, Failure> {
    let (id, version) = (resolved.agent.id, resolved.agent.version);
    if overrides.is_none()
        && let Some(known) = gateway.casts.known(&(id, version))
    {
        return Ok(known);
    }
    let agent = agents::definition(&resolved.agent)?;
    let alone = agent.multiagent.is_none();
    let team = agents::team(gateway, workspace, id, &agent).await?;
    let plain = overrides.is_none();
    let find = |id, version| team.get(&(id, version)).cloned();
    let agent = agent.team_snapshot(id, version, overrides, find)?;
    let written = stored::write(&agent)?.into();
    let rules = rules(&agent)?;
    let cast = Arc::new(Cast {
        agent,
        written,
        rules,
    });
    // The agents of a team may be archived meanwhile: they are looked at each time.
    if plain && alone {
        let bytes = cast.written.get().len();
        gateway.casts.keep((id, version), &cast, bytes);
    }
    Ok(cast)
}

/// What the agent's tools may do, those that come with its team included.
fn rules(agent: &SessionAgent) -> Result<ToolRules, Failure> {
    let leads = agent.multiagent.as_ref().map(|team| Leads {
        roster: !team.members().is_empty(),
        inline: team.makes_up(),
        advisor: team.advisor().is_some(),
    });
    let leads = leads.unwrap_or_default();
    for (index, tool) in agent.tools.iter().enumerate() {
        if let Tool::Custom(tool) = tool
            && leads.tools().any(|(name, _)| name == tool.name)
        {
            let text = format!(
                "agent.tools[{index}].name: `{}` is the name of a tool that a coordinator has; give this one another",
                tool.name
            );
            return Err(ApiError::invalid(text).into());
        }
    }
    Ok(ToolRules::of(&agent.tools).leading(leads))
}

/// Where the request names a thing that cannot be used.
fn path_of(request: &CreateSession, thing: &Thing) -> String {
    match thing {
        Thing::Environment(_) => "environment_id".to_owned(),
        Thing::Vault(id) => match request.vault_ids.iter().position(|vault| vault == id) {
            Some(index) => format!("vault_ids[{index}]"),
            None => "vault_ids".to_owned(),
        },
        Thing::Agent
        | Thing::AgentVersion(_)
        | Thing::Workspace
        | Thing::ApiKey
        | Thing::Credential(_)
        | Thing::Session(_) => "agent".to_owned(),
    }
}

/// `GET /v1/sessions/{session_id}`
pub(crate) async fn get(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let row = gateway.store.session(call.workspace(), id(&call)?).await?;
    reply::json(&object(&gateway, row)?)
}

/// `POST /v1/sessions/{session_id}`
pub(crate) async fn update(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    let id = id(&call)?;
    let update = call.json::<UpdateSession>().await?;
    update.check()?;
    let row = gateway.store.session(call.workspace(), id).await?;
    let held = agent(&row)?;
    let budget = match update.budget {
        Patch::Absent => Patch::Absent,
        Patch::Null => Patch::Null,
        Patch::Value(budget) => {
            budgetable(&gateway, &held)?;
            Patch::Value(budget.cents())
        }
    };
    let change = session::Update {
        title: update.title,
        metadata: changes(&row.profile, update.metadata)?,
        agent: update
            .agent
            .map(|update| agent_change(held, update))
            .transpose()?
            .flatten(),
        budget,
    };
    submit(&gateway, &call, id, Command::Update(Box::new(change))).await?;
    let row = gateway.store.session(call.workspace(), id).await?;
    super::sandbox_terms::agree(&gateway, &row)?;
    reply::json(&object(&gateway, row)?)
}

/// Refuses a budget for an agent whose model, or that of one of its team, has no list price: nobody could say when it is reached.
fn budgetable(gateway: &Gateway, agent: &SessionAgent) -> Result<(), Failure> {
    let team = agent.multiagent.as_ref();
    let members = team.iter().flat_map(|team| team.members());
    let members = members.map(|member| member.model.id.as_str());
    let advisor = team.and_then(|team| team.advisor());
    let models = std::iter::once(agent.model.id.as_str()).chain(members);
    let mut models = models.chain(advisor);
    let Some(model) = models.find(|model| !gateway.catalog.has_price(model)) else {
        return Ok(());
    };
    let text = format!(
        "budget: the model `{model}` has no list price here, so a session that runs it cannot have a budget (model_not_budgetable). The operator sets prices in the model catalogue."
    );
    Err(Failure::Api(
        ApiError::invalid(text).code("model_not_budgetable"),
    ))
}

/// The agent after an update, if it differs.
fn agent_change(
    held: SessionAgent,
    update: SessionAgentUpdate,
) -> Result<Option<AgentChange>, Failure> {
    let changed = held.updated(update.tools, update.mcp_servers)?;
    if let Some(missing) = in_agent(&changed) {
        return Err(Failure::Api(missing.into()));
    }
    if changed == held {
        return Ok(None);
    }
    Ok(Some(AgentChange {
        snapshot: stored::write(&changed)?,
        rules: rules(&changed)?,
    }))
}

/// The changes of a metadata patch. The limits hold for the result.
fn changes(
    profile: &Profile,
    patch: contract::metadata::MetadataPatch,
) -> Result<BTreeMap<String, Option<String>>, Failure> {
    use contract::metadata::{Empty, patched};
    let result = patched(&profile.metadata, patch.clone(), Empty::Keeps)?;
    SandboxWishes::of(&result, &BTreeMap::new())?;
    Ok(match patch {
        Patch::Absent | Patch::Null => BTreeMap::new(),
        Patch::Value(changes) => changes,
    })
}

/// `GET /v1/sessions`
pub(crate) async fn list(gateway: Arc<Gateway>, call: Call) -> Result<Response, Failure> {
    let query = ListSessions::parse(call.query())?;
    let (created, archived) = (query.created_at, query.include_archived);
    let keys = Keyset::new(&call, &query.paging, query.order, created, archived)?;
    let nothing = query.deployment_id.is_some() || query.memory_store_id.is_some();
    let filter = SessionFilter {
        agent_id: query.agent_id,
        agent_version: query.agent_version,
        statuses: query
            .statuses
            .iter()
            .map(|status| core_status(*status))
            .collect(),
    };
    let slice = if nothing {
        // No session of this build comes from a deployment or holds a memory store.
        Slice {
            items: Vec::new(),
            has_prev: false,
            has_next: false,
        }
    } else {
        gateway
            .store
            .sessions(call.workspace(), keys.list.clone(), filter)
            .await?
    };
    let key = |row: &SessionRow| (row.created_at, row.id);
    let (next_page, prev_page) = (keys.next(&slice, key), keys.prev(&slice, key));
    let data = slice.items.into_iter().map(|row| object(&gateway, row));
    let data = data.collect::<Result<Vec<_>, _>>()?;
    reply::json(&BidiPage {
        data,
        next_page,
        prev_page,
    })
}

/// `POST /v1/sessions/{session_id}/archive`
pub(crate) async fn archive(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let id = id(&call)?;
    submit(&gateway, &call, id, Command::Archive).await?;
    super::sandbox_terms::dismiss(&gateway, id);
    let row = gateway.store.session(call.workspace(), id).await?;
    reply::json(&object(&gateway, row)?)
}

/// `DELETE /v1/sessions/{session_id}`
pub(crate) async fn delete(gateway: Arc<Gateway>, mut call: Call) -> Result<Response, Failure> {
    query::none(call.query())?;
    call.nothing().await?;
    let id = id(&call)?;
    submit(&gateway, &call, id, Command::Delete).await?;
    reply::json(&Deleted { id })
}

/// Puts a client's command to the core.
pub(super) async fn submit(
    gateway: &Gateway,
    call: &Call,
    id: SessionId,
    command: Command,
) -> Result<store::sessions::Committed, Failure> {
    submit_to(&gateway.store, gateway, call, id, command).await
}

/// The same, with the store that keeps its answer.
pub(super) async fn submit_to(
    store: &store::Store,
    gateway: &Gateway,
    call: &Call,
    id: SessionId,
    command: Command,
) -> Result<store::sessions::Committed, Failure> {
    let (input, now) = (Input::Command(command), gateway.now());
    Ok(store
        .submit(call.workspace(), id, input, now, gateway.random())
        .await?)
}

/// The session that the path names.
pub(super) fn id(call: &Call) -> Result<SessionId, Failure> {
    Ok(call.id("session_id", "Session")?)
}

/// The agent of a session, as stored.
pub(super) fn agent(row: &SessionRow) -> Result<SessionAgent, Failure> {
    stored::read("a session's agent", &row.agent)
}

pub(super) fn core_status(status: Status) -> session::Status {
    match status {
        Status::Rescheduling => session::Status::Rescheduling,
        Status::Running => session::Status::Running,
        Status::Idle => session::Status::Idle,
        Status::Terminated => session::Status::Terminated,
    }
}

/// The status of a session.
pub(super) fn status(row: &SessionRow) -> Status {
    status_of(row.state.status())
}

pub(super) fn status_of(status: session::Status) -> Status {
    match status {
        session::Status::Rescheduling => Status::Rescheduling,
        session::Status::Running => Status::Running,
        session::Status::Idle => Status::Idle,
        session::Status::Terminated => Status::Terminated,
    }
}

/// Seconds since the session was made; they stop when it ends.
pub(super) fn duration(row: &SessionRow, now: Micros) -> f64 {
    row.archived_at.unwrap_or(now).seconds_since(row.created_at)
}

/// How far a session is with an outcome, as its object shows it.
fn evaluation(row: OutcomeRow) -> OutcomeEvaluation {
    OutcomeEvaluation {
        outcome_id: row.id,
        description: row.description,
        iteration: row.iteration,
        result: row.result,
        explanation: row.explanation,
        completed_at: row.completed_at,
    }
}

fn object(gateway: &Gateway, row: SessionRow) -> Result<Session, Failure> {
    let agent = agent(&row)?;
    Ok(object_with(gateway, Box::new(row), agent))
}

/// The object of a session whose agent is at hand, as itself or as it is written.
fn object_with<A>(gateway: &Gateway, mut row: Box<SessionRow>, agent: A) -> Session<A> {
    let now = gateway.now();
    let outcomes = std::mem::take(&mut row.outcomes);
    let totals = &row.state.totals;
    Session {
        outcome_evaluations: outcomes.into_iter().map(evaluation).collect(),
        id: row.id,
        kind: SessionTag::Session,
        status: status(&row),
        agent,
        environment_id: row.environment_id,
        resources: Vec::new(),
        budget: row.state.budget.shown(),
        stats: SessionStats {
            active_seconds: row.state.threads_active_seconds(now),
            duration_seconds: duration(&row, now),
        },
        usage: totals.usage(now),
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
        deployment_id: None,
        title: row.profile.title,
        metadata: row.profile.metadata,
        vault_ids: row.vault_ids,
    }
}
