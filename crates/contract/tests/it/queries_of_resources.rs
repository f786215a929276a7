//! Query strings of files, skills, memory, deployments, dreams and work.

use contract::deployment::{DeploymentStatus, TriggerKind};
use contract::dream::DreamStatus;
use contract::ids::{AgentId, DeploymentId, FileId, MemoryId, SessionId};
use contract::memory::{Operation, View};
use contract::parse::Invalid;
use contract::query::{
    DeleteMemory, Depth, ExpectedHeartbeat, Files, GetMemory, HeartbeatWork, ListBetaFiles,
    ListDeploymentRuns, ListDeployments, ListDreams, ListFiles, ListMemories, ListMemoryStores,
    ListMemoryVersions, ListPlain, ListSkills, PollWork, WriteMemory,
};

#[test]
fn defaults_are_those_of_the_contract() {
    let files = ListFiles::parse("").unwrap();
    assert!(matches!(files.files, Files::Page(paging) if paging.limit == 20));
    assert_eq!(ListBetaFiles::parse("").unwrap().limit, 20);
    assert_eq!(ListSkills::parse("").unwrap().paging.limit, 20);
    assert_eq!(
        ListPlain::parse_skill_versions("").unwrap().paging.limit,
        20
    );
    assert_eq!(ListPlain::parse_resources("").unwrap().paging.limit, 1_000);
    assert_eq!(ListMemoryStores::parse("").unwrap().paging.limit, 20);
    assert_eq!(GetMemory::parse("").unwrap().view, View::Full);
    assert_eq!(WriteMemory::parse("").unwrap().view, View::Basic);
    let memories = ListMemories::parse("").unwrap();
    assert_eq!((memories.view, memories.depth), (View::Basic, Depth::All));
    assert_eq!(
        ListDeploymentRuns::parse("limit=1000")
            .unwrap()
            .paging
            .limit,
        1_000
    );
    let poll = PollWork::parse("").unwrap();
    assert_eq!((poll.block_ms, poll.reclaim_older_than_ms), (None, 5_000));
    let beat = HeartbeatWork::parse("").unwrap();
    assert_eq!((beat.desired_ttl_seconds, beat.expected), (None, None));
}

#[test]
fn filters_are_read() {
    let (one, two) = (FileId::from_bits(1), FileId::from_bits(2));
    let session = SessionId::from_bits(3);
    let query = format!("ids%5B%5D={one}&ids%5B%5D={two}&ids[]={one}&scope_id={session}");
    let files = ListFiles::parse(&query).unwrap();
    assert_eq!(files.files, Files::Ids(vec![one, two]));
    assert_eq!(files.scope_id, Some(session));
    let older = ListBetaFiles::parse(&format!("limit=1&after_id={one}")).unwrap();
    assert_eq!((older.limit, older.after_id), (1, Some(one)));
    assert_eq!(
        ListSkills::parse("source=custom")
            .unwrap()
            .source
            .as_deref(),
        Some("custom")
    );

    let memories = ListMemories::parse("path_prefix=/a/&depth=1&view=full&limit=20").unwrap();
    assert_eq!(
        (memories.path_prefix.as_deref(), memories.depth),
        (Some("/a/"), Depth::Children)
    );
    let memory = MemoryId::from_bits(4);
    let query = format!("memory_id={memory}&operation=deleted&session_id={session}");
    let versions = ListMemoryVersions::parse(&query).unwrap();
    assert_eq!(versions.memory_id, Some(memory));
    assert_eq!(versions.operation, Some(Operation::Deleted));
    assert_eq!(versions.session_id, Some(session));
    let digest = "a".repeat(64);
    let expected = DeleteMemory::parse(&format!("expected_content_sha256={digest}")).unwrap();
    assert_eq!(expected.expected_content_sha256, Some(digest));

    let agent = AgentId::from_bits(5);
    let deployments = ListDeployments::parse(&format!("agent_id={agent}&status=paused")).unwrap();
    assert_eq!(deployments.agent_id, Some(agent));
    assert_eq!(deployments.status, Some(DeploymentStatus::Paused));
    let deployment = DeploymentId::from_bits(6);
    let query = format!("deployment_id={deployment}&has_error=true&trigger_type=schedule");
    let runs = ListDeploymentRuns::parse(&query).unwrap();
    assert_eq!(runs.deployment_id, Some(deployment));
    assert_eq!(
        (runs.has_error, runs.trigger_type),
        (Some(true), Some(TriggerKind::Schedule))
    );
    let dreams = ListDreams::parse("statuses[]=failed&statuses[]=canceled&include_archived=true");
    assert_eq!(
        dreams.unwrap().statuses,
        [DreamStatus::Failed, DreamStatus::Canceled]
    );

    let beat = |query: &str| HeartbeatWork::parse(query).unwrap().expected;
    assert_eq!(
        beat("expected_last_heartbeat=NO_HEARTBEAT"),
        Some(ExpectedHeartbeat::None)
    );
    let last = "2026-10-01T12:00:00.000001Z";
    let expected = Some(ExpectedHeartbeat::Last(last.to_owned()));
    assert_eq!(beat(&format!("expected_last_heartbeat={last}")), expected);
}

/// What a query is refused for.
fn refusal<T>(parse: fn(&str) -> Result<T, Invalid>, query: &str) -> String {
    parse(query).err().expect(query).path
}

#[test]
fn what_no_sdk_sends_is_refused_by_its_key() {
    let file = FileId::from_bits(1);
    for (query, key) in [
        ("limit=1001", "limit"),
        ("scope_id=sesn_1", "scope_id"),
        ("ids[]=x", "ids[0]"),
        (&format!("ids[]={file}&limit=3"), "limit"),
        (&format!("ids[]={file}&page=x"), "page"),
        ("after_id=x", "after_id"),
    ] {
        assert_eq!(refusal(ListFiles::parse, query), key, "{query}");
    }
    let many = (0..101).map(|bits| format!("ids[]={}", FileId::from_bits(bits)));
    let many = many.collect::<Vec<_>>().join("&");
    assert_eq!(refusal(ListFiles::parse, &many), "ids");
    let both = format!("after_id={file}&before_id={file}");
    assert_eq!(refusal(ListBetaFiles::parse, &both), "before_id");
    assert_eq!(refusal(ListBetaFiles::parse, "page=x"), "page");

    for (query, key) in [
        ("view=all", "view"),
        ("view=full&limit=21", "limit"),
        ("limit=101", "limit"),
        ("depth=2", "depth"),
        ("path_prefix=/a", "path_prefix"),
        ("order=asc", "order"),
    ] {
        assert_eq!(refusal(ListMemories::parse, query), key, "{query}");
    }
    assert_eq!(
        refusal(ListMemoryVersions::parse, "operation=renamed"),
        "operation"
    );
    assert_eq!(
        refusal(ListMemoryVersions::parse, "memory_id=mem_1"),
        "memory_id"
    );
    assert_eq!(
        refusal(ListMemoryStores::parse, "created_at[gt]=x"),
        "created_at[gt]"
    );
    let short = "expected_content_sha256=abc";
    assert_eq!(
        refusal(DeleteMemory::parse, short),
        "expected_content_sha256"
    );

    let both = "status=active&include_archived=false";
    assert_eq!(refusal(ListDeployments::parse, both), "status");
    assert_eq!(refusal(ListDeployments::parse, "status=archived"), "status");
    assert_eq!(refusal(ListDeploymentRuns::parse, "limit=1001"), "limit");
    assert_eq!(
        refusal(ListDeploymentRuns::parse, "deployment_id=depl_1"),
        "deployment_id"
    );
    assert_eq!(refusal(ListDreams::parse, "statuses[]=lucid"), "statuses");
    assert_eq!(
        refusal(ListDreams::parse, "created_at[gte]=x"),
        "created_at[gte]"
    );

    for (query, key) in [
        ("block_ms=0", "block_ms"),
        ("block_ms=1000", "block_ms"),
        ("block_ms=+5", "block_ms"),
        ("reclaim_older_than_ms=-1", "reclaim_older_than_ms"),
        ("reclaim_older_than_ms=3600001", "reclaim_older_than_ms"),
        ("limit=1", "limit"),
    ] {
        assert_eq!(refusal(PollWork::parse, query), key, "{query}");
    }
    let long = format!("expected_last_heartbeat={}", "9".repeat(65));
    assert_eq!(
        refusal(HeartbeatWork::parse, &long),
        "expected_last_heartbeat"
    );
    assert_eq!(
        refusal(HeartbeatWork::parse, "desired_ttl_seconds=0"),
        "desired_ttl_seconds"
    );
}
