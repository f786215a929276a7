//! Runs every operation on a small database, collects each statement it prepared, and refuses a plan
//! that scans or sorts a table that grows.

mod secrets;
mod turn;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use contract::ids::{
    AgentId, ApiKeyId, CredentialId, EnvironmentId, EventId, SessionId, ThreadId, VaultId,
    WorkspaceId,
};
use contract::time::Micros;
use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use serde_json::value::RawValue;
use session::input::Profile;
use session::policy::{ToolRule, ToolRules};
use session::{Command, Input, Opening, Status, UserEvent};

use super::warm::Warm;
use super::{
    Cx, Fault, agents, credentials, environments, events, keys, meta, migrate, remove,
    sandbox_rules, sessions, submit, threads, timeline, usage, vaults,
};
use crate::agents::VersionList;
use crate::caps::Caps;
use crate::clock;
use crate::error::{Error, SubmitError};
use crate::events::{EventList, Of};
use crate::keys::{ApiKeyRow, KeyHash, KeyRole};
use crate::page::{List, Order, TimeRange};
use crate::sessions::{NewSession, Scope, SessionFilter};
use crate::timeline::Beside;
use crate::vaults::{CredentialChange, CredentialKind, NewCredential, Sealed, Slot, VaultRow};

const GROWING: [&str; 18] = [
    "sandbox_rules",
    "refreshes",
    "threads",
    "outcomes",
    "bindings",
    "timeline",
    "usage_days",
    "agents",
    "agent_versions",
    "environments",
    "vaults",
    "credentials",
    "session_rows",
    "grounds",
    "session_states",
    "events",
    "records",
    "inbox",
];

const WS: WorkspaceId = WorkspaceId::Default;
const NOW: Micros = Micros(1_000);

thread_local! {
    static SEEN: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

fn note(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(_, sql) = event {
        SEEN.with(|seen| seen.borrow_mut().insert(sql.to_owned()));
    }
}

fn open() -> Connection {
    let mut conn = Connection::open_in_memory().expect("memory");
    migrate::migrate(&mut conn, Path::new("x")).expect("migrated");
    keys::ensure_default(&conn, NOW).expect("default");
    conn.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note))
        .expect("traced");
    conn
}

fn json() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("JSON")
}

fn ok<T>(done: Result<T, Fault<Error>>) -> T {
    done.map_err(Fault::settle).expect("done")
}

fn lists<I: Copy>(cursor: I) -> Vec<List<I>> {
    let desc = List::newest(2);
    let asc = List {
        order: Order::Asc,
        ..desc.clone()
    };
    [desc, asc]
        .into_iter()
        .flat_map(|l| {
            [
                l.clone(),
                l.clone().after(NOW, cursor),
                l.before(NOW, cursor),
            ]
        })
        .collect()
}

fn define(cx: &mut Cx<'_>) -> (AgentId, EnvironmentId, VaultId) {
    let (agent, environment) = (AgentId::from_bits(1), EnvironmentId::from_bits(1));
    let (vault, credential) = (VaultId::from_bits(1), CredentialId::from_bits(1));
    ok(agents::create(cx, WS, agent, json(), NOW));
    let changed = RawValue::from_string("[]".to_owned()).expect("JSON");
    ok(agents::update(cx, WS, agent, 1, changed, NOW));
    ok(agents::get(cx.conn, WS, agent, Some(1)));
    let list = VersionList {
        limit: 1,
        below: Some(2),
    };
    ok(agents::versions(cx.conn, WS, agent, list));
    let row = crate::environments::EnvironmentRow {
        id: environment,
        workspace: WS,
        revision: 1,
        name: "e".to_owned(),
        body: json().into(),
        created_at: NOW,
        updated_at: NOW,
        archived_at: None,
    };
    ok(environments::create(cx, row));
    ok(environments::update(
        cx,
        WS,
        environment,
        1,
        "f".to_owned(),
        json(),
        NOW,
    ));
    let row = VaultRow {
        id: vault,
        workspace: WS,
        revision: 1,
        display_name: "v".to_owned(),
        metadata: [].into(),
        created_at: NOW,
        updated_at: NOW,
        archived_at: None,
    };
    ok(vaults::create(cx, row, Caps::default()));
    ok(vaults::update(
        cx,
        WS,
        vault,
        1,
        "w".to_owned(),
        [].into(),
        NOW,
    ));
    let sealed = Sealed {
        blob: vec![1],
        key_version: 1,
    };
    let new = NewCredential {
        id: credential,
        kind: CredentialKind::StaticBearer,
        slot: Some(Slot::McpServerUrl("u".to_owned())),
        auth: json(),
        display_name: None,
        metadata: [].into(),
        sealed,
    };
    ok(credentials::create(cx, WS, vault, new, (NOW, 20)));
    let change = CredentialChange {
        base: 1,
        auth: json(),
        display_name: None,
        metadata: [].into(),
        sealed: None,
    };
    ok(credentials::update(cx, WS, vault, credential, change, NOW));
    for list in lists(credential) {
        ok(credentials::list(cx.conn, WS, vault, &list));
    }
    for (a, e, v) in lists(agent)
        .into_iter()
        .zip(lists(environment))
        .zip(lists(vault))
        .map(|((a, e), v)| (a, e, v))
    {
        ok(agents::list(cx.conn, WS, &a));
        ok(environments::list(cx.conn, WS, &e));
        ok(vaults::list(cx.conn, WS, &v));
    }
    (agent, environment, vault)
}

fn undefine(cx: &mut Cx<'_>, agent: AgentId, environment: EnvironmentId, vault: VaultId) {
    secrets::run(cx, vault);
    ok(agents::archive(cx, WS, agent, NOW));
    ok(environments::archive(cx, WS, environment, NOW));
    let id = CredentialId::from_bits(1);
    ok(credentials::archive(cx, WS, vault, id, NOW));
    ok(vaults::archive(cx, WS, vault, NOW));
    ok(credentials::delete(cx, WS, vault, id));
    ok(vaults::delete(cx, WS, vault));
    ok(environments::delete(cx, WS, environment));
}

fn administer(cx: &mut Cx<'_>) {
    let key = ApiKeyRow {
        id: ApiKeyId::from_bits(1),
        workspace: WS,
        hash: KeyHash([1; 32]),
        prefix: String::new(),
        last4: String::new(),
        name: String::new(),
        role: KeyRole::Workspace,
        created_at: NOW,
        revoked_at: None,
    };
    let key = ok(keys::create(cx, key));
    ok(keys::by_hash(cx.conn, key.hash));
    ok(keys::revoke(cx, key.id, NOW));
    ok(keys::list(cx.conn, Some(WS)));
    ok(keys::workspaces(cx.conn));
    ok(meta::init(cx, "k", b"v"));
    ok(meta::set(cx, "k", b"v"));
    ok(sandbox_rules::set(cx, "s", Some(json()), NOW));
    ok(sandbox_rules::get(cx.conn, "s"));
    ok(sandbox_rules::set(cx, "s", None, NOW));
}

fn read(cx: &Cx<'_>, session: SessionId, thread: ThreadId, agent: AgentId) {
    for of in [Of::Primary, Of::Thread(thread)] {
        for order in [Order::Asc, Order::Desc] {
            let list = EventList {
                limit: 1_000,
                order,
                after: None,
                kinds: vec!["user.message".to_owned()],
                processed: TimeRange::default(),
                of,
            };
            ok(events::list(cx.conn, WS.into(), session, &list));
            let processed = TimeRange::default().gt(NOW);
            ok(events::list(
                cx.conn,
                WS.into(),
                session,
                &EventList { processed, ..list },
            ));
        }
    }
    ok(events::after(cx.conn, session, 1, 1));
    ok(events::seq_of(cx.conn, session, EventId::from_bits(7)));
    ok(events::transcript(cx.conn, session, thread, 0, 10));
    ok(threads::list(
        cx.conn,
        WS.into(),
        session,
        0,
        10,
        &[Status::Idle],
    ));
    ok(threads::get(cx.conn, WS.into(), session, thread));
    ok(timeline::list(cx.conn, WS.into(), session, 0, 10));
    ok(timeline::binding(cx.conn, WS.into(), session));
    ok(usage::days(cx.conn, Some(WS), (0, 1), 10));
    ok(sessions::get(cx.conn, WS.into(), session));
    ok(sessions::existing(cx.conn, &[session]));
    for list in lists(session) {
        for agent_id in [None, Some(agent)] {
            let filter = SessionFilter {
                agent_id,
                agent_version: Some(1),
                statuses: vec![Status::Idle],
            };
            ok(sessions::list(cx.conn, WS, &list, &filter));
        }
    }
}

#[test]
fn no_operation_scans_or_sorts_a_table_that_grows() {
    let conn = open();
    let mut cx = Cx::new(&conn, Warm::default());
    administer(&mut cx);
    let (agent, environment, vault) = define(&mut cx);
    let (id, thread) = (SessionId::from_bits(1), ThreadId::from_bits(1));
    let rules = [
        ("bash", ToolRule::Allow),
        ("ask", ToolRule::Custom),
        ("send_to_agent", ToolRule::Team),
    ];
    let new = NewSession {
        workspace: WS,
        agent_id: agent,
        agent_version: 2,
        agent: json().into(),
        environment_id: environment,
        environment: json().into(),
        vault_ids: vec![vault],
        profile: Profile::default(),
        opening: Opening {
            session: id,
            thread,
            agent_name: "a".to_owned(),
            rules: ToolRules(rules.map(|(n, r)| (n.to_owned(), r)).into_iter().collect()),
            budget: Some(100),
            initial: vec![UserEvent::Message {
                content: Vec::new(),
            }],
        },
    };
    ok(submit::create(
        &mut cx,
        &new,
        Caps::default(),
        NOW,
        clock::entropy(),
    ));
    turn::turn(&mut cx, id);
    read(&cx, id, thread, agent);
    let gone = crate::rules::decided::Given {
        input: Input::Command(Command::Delete),
        now: NOW,
        entropy: clock::entropy(),
        beside: Beside::default(),
    };
    let gone = submit::submit(&mut cx, Scope::Any, id, gone).map_err(Fault::settle);
    gone.map_err(|e: SubmitError| e.to_string())
        .expect("deleted");
    while remove::sweep(&conn).expect("swept") {}
    undefine(&mut cx, agent, environment, vault);

    let statements = SEEN.with(RefCell::take);
    assert!(
        statements.len() > 70,
        "only {} statements were seen",
        statements.len()
    );
    let mut bad = Vec::new();
    for sql in statements.iter().filter(|s| !s.starts_with("--")) {
        for step in plan(&conn, sql) {
            let scanned = GROWING.iter().any(|t| is_scan(&step, t, sql));
            if scanned || step.contains("TEMP B-TREE") {
                bad.push(format!("{step}: {sql}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
}

/// True if the step walks the whole table, under its name or the alias the statement gives it.
fn is_scan(step: &str, table: &str, sql: &str) -> bool {
    let Some(walked) = step
        .strip_prefix("SCAN ")
        .and_then(|s| s.split_whitespace().next())
    else {
        return false;
    };
    let aliased = |keyword: &str| sql.contains(&format!("{keyword} {table} {walked}"));
    walked == table || aliased("FROM") || aliased("JOIN")
}

fn plan(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .expect("a plan");
    // Unbound parameters are null: the plan does not depend on them.
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().expect("a step") {
        steps.push(row.get(3).expect("its text"));
    }
    steps
}

#[test]
fn the_test_sees_a_scan() {
    let conn = open();
    let sql = "SELECT t.body FROM events t WHERE t.kind = 'x'";
    assert!(
        plan(&conn, sql)
            .iter()
            .any(|step| is_scan(step, "events", sql))
    );
}
