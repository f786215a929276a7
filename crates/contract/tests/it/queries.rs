//! Query strings: what SDKs send is read, everything else is refused by key.

use contract::ids::{AgentId, DeploymentId, MemoryStoreId};
use contract::query::{
    GetAgent, ListAgents, ListArchivable, ListEvents, ListModels, ListPlain, ListSessions,
    ListThreads, Order, StreamEvents, none,
};
use contract::session::Status;
use contract::time::Micros;

#[test]
fn defaults_are_those_of_the_contract() {
    assert_eq!(ListAgents::parse("").unwrap().paging.limit, 20);
    assert_eq!(ListArchivable::parse("beta=true").unwrap().paging.limit, 20);
    assert_eq!(ListPlain::parse_versions("").unwrap().paging.limit, 20);
    assert_eq!(
        ListPlain::parse_thread_events("").unwrap().paging.limit,
        1_000
    );
    assert_eq!(ListThreads::parse("").unwrap().paging.limit, 1_000);
    assert_eq!(ListModels::parse("").unwrap().limit, 20);
    let sessions = ListSessions::parse("").unwrap();
    assert_eq!((sessions.paging.limit, sessions.order), (20, Order::Desc));
    let events = ListEvents::parse("").unwrap();
    assert_eq!((events.paging.limit, events.order), (1_000, Order::Asc));
}

#[test]
fn arrays_come_bracketed_or_repeated() {
    for query in [
        "statuses%5B%5D=idle&statuses%5B%5D=running",
        "statuses[]=idle&statuses[]=running&statuses[]=idle",
        "statuses=idle&statuses=running",
    ] {
        assert_eq!(
            ListSessions::parse(query).unwrap().statuses,
            [Status::Idle, Status::Running],
            "{query}"
        );
        assert_eq!(ListThreads::parse(query).unwrap().statuses.len(), 2);
    }
    let events = ListEvents::parse("types[]=user.message&types[]=session.usage").unwrap();
    assert_eq!(events.types, ["user.message", "session.usage"]);
    let stream =
        StreamEvents::parse("event_deltas[]=agent.message&event_deltas[]=agent.thinking").unwrap();
    assert!(stream.message_deltas && stream.thinking_deltas);
    assert_eq!(StreamEvents::parse("").unwrap(), StreamEvents::default());
}

#[test]
fn instants_come_in_each_spelling_of_the_sdks() {
    let noon = Micros::parse("2026-10-01T12:00:00Z");
    for value in [
        "2026-10-01T12%3A00%3A00%2B00%3A00",
        "2026-10-01T12:00:00+00:00",
        "2026-10-01T12:00:00Z",
        "2026-10-01T12:00:00",
    ] {
        let query = format!("created_at%5Bgte%5D={value}&created_at[lt]={value}");
        let range = ListEvents::parse(&query).unwrap().created_at;
        assert_eq!(
            (range.gt, range.gte, range.lt, range.lte),
            (None, noon, noon, None),
            "{value}"
        );
    }
}

#[test]
fn filters_of_sessions_are_read() {
    let id = AgentId::from_bits(1);
    let (deployment, store) = (DeploymentId::from_bits(2), MemoryStoreId::from_bits(3));
    let list = ListSessions::parse(&format!(
        "agent_id={id}&agent_version=2&include_archived=true&order=asc&limit=1000&page=p%2Fq\
         &deployment_id={deployment}&memory_store_id={store}"
    ))
    .unwrap();
    assert_eq!((list.agent_id, list.agent_version), (Some(id), Some(2)));
    assert_eq!((list.order, list.include_archived), (Order::Asc, true));
    assert_eq!(
        (list.paging.limit, list.paging.page.as_deref()),
        (1_000, Some("p/q"))
    );
    assert_eq!(list.deployment_id, Some(deployment));
    assert_eq!(list.memory_store_id, Some(store));
}

#[test]
fn every_bad_key_is_named() {
    let bad = |query: &str| ListSessions::parse(query).expect_err(query).path;
    assert_eq!(bad("colour=red"), "colour");
    assert_eq!(bad("deployment_id=d"), "deployment_id");
    assert_eq!(bad("memory_store_id=m"), "memory_store_id");
    assert_eq!(bad("limit=0"), "limit");
    assert_eq!(bad("limit=-1"), "limit");
    assert_eq!(bad("limit=1001"), "limit");
    assert_eq!(bad("limit=9999999999999"), "limit");
    assert_eq!(bad("limit=x"), "limit");
    assert_eq!(bad("limit=1&limit=2"), "limit");
    assert_eq!(bad("order=up"), "order");
    assert_eq!(bad("statuses[]=busy"), "statuses");
    assert_eq!(bad("created_at[gte]=yesterday"), "created_at[gte]");
    assert_eq!(bad("created_at=2026-10-01T12:00:00Z"), "created_at");
    assert_eq!(bad("include_archived=1"), "include_archived");
    assert_eq!(bad("agent_id=x"), "agent_id");
    assert_eq!(bad("agent_version=2"), "agent_version");
    assert_eq!(bad("page=%ff"), "page");
    assert_eq!(bad("page=%00"), "page");
    assert_eq!(bad(&format!("page={}", "x".repeat(1_025))), "page");
    assert_eq!(ListAgents::parse("limit=101").unwrap_err().path, "limit");
    assert_eq!(
        ListAgents::parse("created_at[gt]=2026-10-01T12:00:00Z")
            .unwrap_err()
            .path,
        "created_at[gt]"
    );
    assert_eq!(
        ListEvents::parse("types[]=session.deleted")
            .unwrap_err()
            .path,
        "types"
    );
    assert_eq!(
        ListEvents::parse("include_archived=true").unwrap_err().path,
        "include_archived"
    );
    assert_eq!(
        StreamEvents::parse("event_deltas[]=agent.tool_use")
            .unwrap_err()
            .path,
        "event_deltas"
    );
    let many = "event_deltas[]=agent.message&".repeat(101);
    assert_eq!(StreamEvents::parse(&many).unwrap_err().path, "event_deltas");
    assert_eq!(GetAgent::parse("version=0").unwrap_err().path, "version");
    assert_eq!(
        ListModels::parse("after_id=a&before_id=b")
            .unwrap_err()
            .path,
        "before_id"
    );
    assert_eq!(none("x=1").unwrap_err().path, "x");
    assert!(none("beta=true").is_ok());
}
