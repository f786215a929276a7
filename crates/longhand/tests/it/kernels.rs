//! Sandboxes with a kernel of their own: who asks for one, and what a server says that cannot give it.

use std::process::Command;

use serde_json::{Value, json};
use testkit::api::id;
use testkit::ledger::Ledger;
use testkit::script;

use crate::egress::command;
use crate::stage::{self, Stage, Subject};

/// An agent, and an environment that says this of its sandboxes.
async fn on(stage: &Stage, provider: &str) -> Value {
    let api = stage.api();
    let agent = json!({"name": "Apart", "model": "claude-sonnet-5-5", "tools": [{"type": "agent_toolset_20260401"}]});
    let agent = id(&api.post("/v1/agents", &agent).await.expect("an agent"));
    let environment = json!({
        "name": format!("on {provider}"), "config": {"type": "cloud"},
        "metadata": {"longhand.sandbox_provider": provider},
    });
    let environment = api.post("/v1/environments", &environment).await;
    let environment = id(&environment.expect("an environment"));
    json!({"agent": agent, "environment_id": environment})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_environment_asks_for_it_has_a_kernel_of_its_own() {
    let mut stage = Stage::new(0).await;
    let api = stage.api();
    let session = api.post("/v1/sessions", &on(&stage, "gvisor").await).await;
    let session = id(&session.expect("a session"));
    stage.subjects.push(Subject {
        session: session.clone(),
        ledger: Ledger::default(),
    });
    let steps = json!([script::bash("uname -r; echo kept > f; cat f"), {"text": "Done."}]);
    stage.play(0, "one", &steps).await;
    let (seen, _) = stage.heard(&session).await;
    assert_eq!(seen.trim(), "4.4.0\nkept");
    let record = api.get(&format!("/v1/x/sandboxes/{session}")).await;
    let record = record.expect("its record");
    assert_eq!(record["isolation"]["kernel"], "gvisor", "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_runsc_is_missing_a_session_that_asks_for_it_is_refused_with_the_cure() {
    let (launch, model) = stage::launch().await;
    let launch = launch.environment("LONGHAND_SANDBOX_RUNSC", "/nowhere/runsc");
    let stage = Stage::on(launch, model, 0).await;
    let api = stage.api();
    let refused = api.post("/v1/sessions", &on(&stage, "gvisor").await).await;
    let said = format!("{:?}", refused.expect_err("there is no runsc"));
    for word in [
        "400",
        "metadata.longhand.sandbox_provider",
        "apt install runsc",
    ] {
        assert!(said.contains(word), "{said}");
    }
    let own = ["sandbox", "create", "own", "--provider", "gvisor"];
    let refused = command(&stage, &own).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("`provider`") && said.contains("apt install runsc"),
        "{said}"
    );
}

#[test]
fn a_server_that_is_set_to_what_its_host_lacks_says_the_cure() {
    let home = tempfile::tempdir().expect("a directory");
    let refused = |settings: [(&str, &str); 2]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longhand"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(home.path().join("data"))
            // Its process would wait for another server, with our end of the output.
            .env("LONGHAND_EGRESS_ENABLED", "false")
            .envs(settings);
        let refused = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        (refused.status.code(), said)
    };
    let provider = ("LONGHAND_SANDBOX_PROVIDER", "gvisor");
    let (code, said) = refused([provider, ("LONGHAND_SANDBOX_RUNSC", "/nowhere/runsc")]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("apt install runsc"), "{said}");
    let level = ("LONGHAND_SANDBOX_REQUIRE_ISOLATION", "kernel");
    let (code, said) = refused([("LONGHAND_SANDBOX_PROVIDER", "local"), level]);
    assert_ne!(code, Some(0), "{said}");
    assert!(said.contains("sandbox.provider"), "{said}");
}
