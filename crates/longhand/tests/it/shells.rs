//! The shells of a team in the one sandbox of its session: each thread has its own, through a kill of the server and
//! until it is archived.

use serde_json::{Value, json};
use testkit::api::{Api, texts};
use testkit::{script, wait};

use crate::stage::Stage;

const WHERE: &str = "echo $WHO in $PWD";

/// A session of a coordinator of two agents, `a` and `b`.
async fn team(api: &Api) -> String {
    let model = "claude-sonnet-5-5";
    let config = json!({"permission_policy": {"type": "always_allow"}});
    let tools = json!([{"type": "agent_toolset_20260401", "default_config": config}]);
    let mut agents = Vec::new();
    for name in ["a", "b"] {
        let agent = json!({"name": name, "model": model, "tools": tools});
        agents.push(api.post("/v1/agents", &agent).await.expect("an agent")["id"].clone());
    }
    let team = json!({"type": "coordinator", "agents": agents});
    let lead = json!({"name": "lead", "model": model, "tools": tools, "multiagent": team});
    let lead = api.post("/v1/agents", &lead).await.expect("a coordinator");
    let environment = json!({"name": "shells", "config": {"type": "cloud"}});
    let environment = api.post("/v1/environments", &environment).await;
    let environment = environment.expect("an environment");
    let session = json!({"agent": lead["id"], "environment_id": environment["id"]});
    let session = api.post("/v1/sessions", &session).await.expect("a session");
    session["id"].as_str().expect("an id").to_owned()
}

/// A call of the coordinator that has `commands` run by a thread, which answers with what the last one printed.
fn task(to: (&str, &str), commands: &[&str]) -> Value {
    let mut steps: Vec<Value> = commands.iter().map(|c| script::bash(c)).collect();
    steps.push(json!({"echo_results": true}));
    let message = format!("SCRIPT: {}", json!(steps));
    json!({"name": "send_to_agent", "input": {to.0: to.1, "message": message}})
}

/// The coordinator gives those tasks; what it hears.
async fn heard(api: &Api, session: &str, token: &str, tasks: &[Value]) -> String {
    let steps = json!([{"tools": tasks}, {"text": "I wait"}, {"text": "heard"}]);
    let message = script::message(token, &steps);
    api.send(session, &[message]).await.expect("a send");
    let log = api.idle(session).await;
    let own = log.iter().skip_while(|e| !texts(e).starts_with(token));
    let answers = own.filter(|e| e["type"] == "agent.thread_message_received");
    answers.map(texts).collect::<Vec<_>>().join("\n")
}

async fn thread_of(api: &Api, session: &str, agent: &str) -> String {
    let threads = format!("/v1/sessions/{session}/threads");
    let threads = api.get(&threads).await.expect("threads");
    let threads = threads["data"].as_array().expect("a list").clone();
    let thread = threads.iter().find(|t| t["agent"]["name"] == agent);
    thread.expect("its thread")["id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_thread_has_a_shell_of_its_own_through_a_kill_and_until_it_is_archived() {
    let mut stage = Stage::new(0).await;
    let api = stage.api();
    let session = team(&api).await;
    // Neither ends before the other has come as far: they run at the same time.
    let enter = |own: &str, other: &str, marker: u32| {
        format!(
            "mkdir {own}; cd {own}; export WHO={own}; sleep {marker} >/dev/null 2>&1 & \
             touch /tmp/{own}; until test -e /tmp/{other}; do sleep 0.05; done"
        )
    };
    let (a, b) = (enter("a", "b", 4_001), enter("b", "a", 4_002));
    let tasks = [
        task(("agent", "a"), &[&a, WHERE]),
        task(("agent", "b"), &[&b, WHERE]),
    ];
    let said = heard(&api, &session, "both", &tasks).await;
    assert!(said.contains("a in /workspace/a"), "{said}");
    assert!(said.contains("b in /workspace/b"), "{said}");
    stage.kill().await;
    stage.restart().await;
    let api = stage.api();
    let (a, b) = (
        thread_of(&api, &session, "a").await,
        thread_of(&api, &session, "b").await,
    );
    let tasks = [
        task(("thread_id", &a), &[WHERE]),
        task(("thread_id", &b), &[WHERE]),
    ];
    let said = heard(&api, &session, "again", &tasks).await;
    assert!(said.contains("a in /workspace/a"), "{said}");
    assert!(said.contains("b in /workspace/b"), "{said}");
    let archive = format!("/v1/sessions/{session}/threads/{a}/archive");
    api.post(&archive, &json!({})).await.expect("an archive");
    let processes = format!("/v1/x/sandboxes/{session}/processes");
    let running = wait::until("its shell ends", || async {
        let running = api.get(&processes).await.expect("processes").to_string();
        (!running.contains("sleep 4001")).then_some(running)
    })
    .await;
    assert!(
        running.contains("sleep 4002"),
        "the other's goes on: {running}"
    );
}
