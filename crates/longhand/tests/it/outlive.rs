//! A call that runs when its server ends: killed, or stopped in order and told to leave its sandboxes. The next
//! server finds it, and what it then answers is what the model hears.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::api::texts;
use testkit::{script, wait};
use tokio::io::AsyncReadExt as _;

use crate::stage::{self, Stage};
use crate::terminal;

/// Runs until the file `go` is there.
const LONG: &str =
    "x=kept; touch begun; until test -e go; do sleep 0.01; done; echo the real result; exit 7";

fn workspace(stage: &Stage) -> PathBuf {
    let session = &stage.subjects[0].session;
    let sandboxes = stage.launch.data_dir().join("sandboxes");
    sandboxes.join(session).join("workspace")
}

/// A session whose call runs.
async fn begun(stage: &mut Stage) {
    let steps = json!([script::bash(LONG), {"text": "heard"}]);
    stage.play(0, "long", &steps).await;
    let begun = workspace(stage).join("begun");
    wait::until("the call runs", || async { begun.exists().then_some(()) }).await;
}

/// Ends the call, and gives its result as the log has it.
async fn result(stage: &Stage) -> Value {
    std::fs::write(workspace(stage).join("go"), "").expect("the workspace is there");
    let log = stage.api().idle(&stage.subjects[0].session).await;
    let results = log.iter().filter(|e| e["type"] == "agent.tool_result");
    let results: Vec<_> = results.collect();
    assert_eq!(results.len(), 1, "{results:?}");
    assert_eq!(stage.subjects[0].ledger.audit(&log), Vec::<String>::new());
    results[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ran_when_the_server_was_killed_gives_its_real_result_to_the_next() {
    let mut stage = Stage::new(1).await;
    begun(&mut stage).await;
    stage.kill().await;
    stage.restart().await;
    let result = result(&stage).await;
    assert_eq!(texts(&result), "the real result");
    assert_eq!(result["is_error"], true, "its status is told too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_ready_before_the_server_ran_again_is_found() {
    let mut stage = Stage::new(1).await;
    begun(&mut stage).await;
    stage.kill().await;
    std::fs::write(workspace(&stage).join("go"), "").expect("the workspace is there");
    stage.restart().await;
    assert_eq!(texts(&result(&stage).await), "the real result");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_its_sandboxes_leaves_what_runs_in_them() {
    let (launch, model) = stage::launch().await;
    let launch = launch
        .environment("LONGHAND_SANDBOX_LEAVE_RUNNING", "true")
        .environment("LONGHAND_SERVER_DRAIN_SECONDS", "0");
    let mut stage = Stage::on(launch, model, 1).await;
    begun(&mut stage).await;
    let server = stage.server.take().expect("it runs");
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
    stage.restart().await;
    assert_eq!(texts(&result(&stage).await), "the real result");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_in_order_ends_its_sandboxes() {
    let mut stage = Stage::new(1).await;
    stage.ran(0, "warm").await;
    let socket = workspace(&stage).join("../control.sock");
    assert!(socket.exists(), "it runs");
    let server = stage.server.take().expect("it runs");
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(!socket.exists(), "it outlives an orderly end");
}

/// Prints, waits for the file `go`, prints again.
const PROGRAM: &str = "echo first; echo oops >&2; touch begun; until test -e go; do sleep 0.01; done; \
    printf 'l\\377st\\n'; exit 7";

/// A session in whose sandbox somebody's `exec` runs [`PROGRAM`]; its id, its workspace, and the command.
async fn commanded(stage: &Stage) -> (String, PathBuf, tokio::process::Child) {
    let (dir, workspace) = (stage.launch.data_dir(), workspace(stage));
    let id = stage.subjects[0].session.clone();
    let words = ["sandbox", "exec", &id, "--", "/bin/sh", "-c", PROGRAM];
    let mut exec = terminal::command(dir, &words);
    exec.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut exec = exec.spawn().expect("it runs");
    // From here on the command knows which program is its own.
    let mut printed = exec.stdout.take().expect("it is piped");
    let mut first = [0; 6];
    let read = printed.read_exact(&mut first);
    wait::within("the program's first line", read)
        .await
        .expect("it comes");
    assert_eq!(&first, b"first\n");
    exec.stdout = Some(printed);
    wait::until("the program waits", || async {
        workspace.join("begun").exists().then_some(())
    })
    .await;
    (id, workspace, exec)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_an_exec_outlives_a_server_that_is_killed_and_its_command_goes_on() {
    let mut stage = Stage::new(1).await;
    let (id, workspace, exec) = commanded(&stage).await;
    stage.kill().await;
    stage.restart().await;
    std::fs::write(workspace.join("go"), "").expect("the workspace is there");
    let ended = wait::within("the command to end", exec.wait_with_output()).await;
    let ended = ended.expect("it ran");
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.stdout, b"l\xffst\n", "{errors}");
    // It may have arrived before the server was killed, or after: each once.
    assert_eq!(errors.matches("oops\n").count(), 1, "{errors}");
    assert!(errors.contains("goes on"), "{errors}");
    assert_eq!(ended.status.code(), Some(7), "{errors}");
    // Whoever heard the end of it has it forgotten.
    let path = format!("/v1/x/sandboxes/{id}/exec");
    let known = stage.api().get(&path).await.expect("a list");
    assert_eq!(known["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_whose_command_is_gone_too_is_asked_about_by_its_id() {
    let mut stage = Stage::new(1).await;
    let (id, workspace, mut exec) = commanded(&stage).await;
    stage.kill().await;
    exec.kill().await.expect("it is killed");
    stage.restart().await;
    let dir = stage.launch.data_dir();
    let path = format!("/v1/x/sandboxes/{id}/exec");
    let api = stage.api();
    let known = api.get(&path).await.expect("a list");
    let one = &known["data"][0];
    assert_eq!(
        (&one["running"], &one["exit_code"]),
        (&json!(true), &Value::Null)
    );
    let program = one["id"].as_str().expect("an id").to_owned();
    let one = api.get(&format!("{path}/{program}")).await.expect("one");
    assert_eq!(
        (&one["stdout"], &one["stderr"]),
        (&json!("first\n"), &json!("oops\n"))
    );
    std::fs::write(workspace.join("go"), "").expect("the workspace is there");
    let ended = wait::until("it has ended", || async {
        let one = api.get(&format!("{path}/{program}?stdout_from=6")).await;
        one.ok().filter(|one| one["running"] == false)
    });
    let ended = ended.await;
    assert_eq!(
        (&ended["exit_code"], &ended["stdout"]),
        (&json!(7), &json!("l\u{fffd}st\n"))
    );
    let followed = terminal::piped(dir, &["sandbox", "follow", &id, &program]).await;
    assert_eq!(followed.stdout, b"first\nl\xffst\n");
    assert_eq!(followed.status.code(), Some(7));
    let gone = terminal::piped(dir, &["sandbox", "follow", &id, &program]).await;
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(said.contains("not known any more"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_program_runs_on_until_it_is_deleted() {
    let stage = Stage::new(1).await;
    let api = stage.api();
    let path = format!("/v1/x/sandboxes/{}", stage.subjects[0].session);
    let body = json!({"command": ["/bin/sh", "-c", "cat; exec sleep 1000"], "stdin": "fed", "detached": true});
    let started = api
        .post(&format!("{path}/exec"), &body)
        .await
        .expect("it starts");
    assert_eq!(started["running"], true);
    let program = format!("{path}/exec/{}", started["id"].as_str().expect("an id"));
    wait::until("it has printed", || async {
        let one = api.get(&program).await.ok()?;
        (one["stdout"] == "fed" && one["running"] == true).then_some(())
    })
    .await;
    let gone = api
        .call("DELETE", &program, None)
        .await
        .expect("it is ended");
    assert_eq!(gone["type"], "sandbox_exec_deleted");
    wait::until("nothing runs", || async {
        let all = api.get(&format!("{path}/processes")).await.ok()?;
        let all = all["data"].as_array()?.clone();
        (!all
            .iter()
            .any(|p| p["command"].as_str().is_some_and(|c| c.contains("sleep"))))
        .then_some(())
    })
    .await;
    assert!(api.get(&program).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_background_printed_is_shown_after_its_command_was_answered() {
    let mut stage = Stage::new(1).await;
    let session = stage.subjects[0].session.clone();
    let command =
        "(until test -e go; do sleep 0.01; done; echo from behind; touch said) & echo answered";
    stage
        .play(
            0,
            "behind",
            &json!([script::bash(command), {"text": "heard"}]),
        )
        .await;
    let log = stage.api().idle(&session).await;
    let result = log
        .iter()
        .find(|event| event["type"] == "agent.tool_result");
    assert_eq!(
        texts(result.expect("a result")).lines().next(),
        Some("answered")
    );
    std::fs::write(workspace(&stage).join("go"), "").expect("the workspace is there");
    let dir = stage.launch.data_dir();
    let printed = wait::until("it is printed", || async {
        let logs = terminal::piped(dir, &["sandbox", "logs", &session, "--printed"]).await;
        let said = String::from_utf8_lossy(&logs.stdout).into_owned();
        said.lines()
            .any(|line| line == "from behind")
            .then_some(said)
    })
    .await;
    assert!(
        printed.contains("answered"),
        "under the command it came from: {printed}"
    );
    assert!(!printed.lines().any(|line| line == "answered"), "{printed}");
}
