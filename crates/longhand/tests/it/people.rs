//! The commands for people, over the control socket, over HTTP and without a server: JSON in a pipe, tables on
//! a terminal, a live view that is answered in place.

use serde_json::{Value, json};
use testkit::api::id;
use testkit::process::KEY;
use testkit::{script, wait};

use crate::stage::Stage;
use crate::terminal::{Terminal, command, lines, piped};

/// The message that makes the scripted model play `steps`, as one argument.
fn said(token: &str, steps: &Value) -> String {
    let message = script::message(token, steps);
    message["content"][0]["text"]
        .as_str()
        .expect("a text")
        .to_owned()
}

/// An agent that asks before each call, an environment and a session with a first message; its id.
async fn asking(stage: &Stage, steps: &Value) -> String {
    let dir = stage.launch.data_dir();
    let agent = [
        "agents",
        "create",
        "Careful",
        "--model",
        "claude-sonnet-5-5",
        "--ask",
    ];
    let agent = id(&lines(dir, &agent).await[0]);
    let environment = id(&lines(dir, &["environments", "create", "asking"]).await[0]);
    let message = said("m1", steps);
    let words = [
        "sessions",
        "create",
        "--agent",
        &agent,
        "--environment",
        &environment,
        "--title",
        "a test",
        "-m",
        &message,
    ];
    id(&lines(dir, &words).await[0])
}

fn watch(stage: &Stage, session: &str) -> Terminal {
    let words = ["sessions", "watch", session];
    Terminal::start(command(stage.launch.data_dir(), &words))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_is_answered_in_the_live_view_and_the_turn_goes_on() {
    let mut stage = Stage::new(0).await;
    let steps = json!([
        {"text": "I shall look.", "tool": "bash", "input": {"command": "echo look-$((40+2))"}},
        {"text": "It said so.", "chunks": 4},
    ]);
    let session = asking(&stage, &steps).await;
    let mut terminal = watch(&stage, &session);
    let seen = terminal.shows("may it run?", 1).await;
    assert!(seen.contains("echo look-$((40+2))"), "{seen}");
    assert!(
        !seen.contains("look-42"),
        "it ran before it was allowed: {seen}"
    );
    terminal.types("perhaps");
    terminal.shows("y lets it run, n forbids it", 1).await;
    terminal.types("y");
    terminal.shows("look-42", 1).await;
    let seen = terminal.shows("It said so.", 1).await;
    assert!(seen.contains('\u{1b}'), "a terminal has colours: {seen:?}");
    terminal.shows("end_turn", 1).await;
    terminal.types("and thank you");
    terminal.shows("end_turn", 2).await;
    terminal.types("/quit");
    let (seen, well) = terminal.ends().await;
    assert!(well, "{seen}");
    assert_eq!(
        seen.matches("It said so.").count(),
        1,
        "what was previewed is not shown again: {seen}"
    );
    let log = stage.api().idle(&session).await;
    let confirmed = log
        .iter()
        .filter(|event| event["type"] == "user.tool_confirmation")
        .count();
    assert_eq!(confirmed, 1, "what was unclear was not sent");
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_with_a_reason_and_a_custom_tools_result_are_typed_in_place() {
    let mut stage = Stage::new(0).await;
    let dir = stage.launch.data_dir().to_owned();
    let tool = json!({"type": "custom", "name": "weather", "description": "the weather", "input_schema": {"type": "object"}});
    let toolset = json!({"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}});
    let agent = json!({"name": "Both", "model": "claude-sonnet-5-5", "tools": [toolset, tool]});
    let file = dir.join("agent.json");
    std::fs::write(&file, agent.to_string()).expect("a file");
    let file = file.to_string_lossy().into_owned();
    let agent = id(&lines(&dir, &["agents", "create", "--file", &file]).await[0]);
    let environment = id(&lines(&dir, &["environments", "create", "both"]).await[0]);
    let steps = json!([
        {"tools": [{"name": "bash", "input": {"command": "touch /workspace/ran"}}, {"name": "weather", "input": {"place": "Oslo"}}]},
        {"text": "done", "echo_results": true},
    ]);
    let message = said("m1", &steps);
    let words = [
        "sessions",
        "create",
        "--agent",
        &agent,
        "--environment",
        &environment,
        "-m",
        &message,
    ];
    let session = id(&lines(&dir, &words).await[0]);
    let mut terminal = watch(&stage, &session);
    terminal.shows("may it run?", 1).await;
    terminal.types("n not on my machine");
    terminal.shows("its result", 1).await;
    terminal.types("rain all day");
    terminal.shows("end_turn", 1).await;
    terminal.types("/quit");
    let (seen, well) = terminal.ends().await;
    assert!(well, "{seen}");
    let log = stage.api().idle(&session).await;
    let of = |kind: &str| log.iter().find(|event| event["type"] == kind).expect(kind);
    let refusal = of("user.tool_confirmation");
    assert_eq!(refusal["deny_message"], "not on my machine", "{refusal}");
    assert_eq!(
        of("user.custom_tool_result")["content"][0]["text"],
        "rain all day"
    );
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_writes_cannot_steer_the_terminal() {
    let mut stage = Stage::new(0).await;
    let steps = json!([{"text": "before\u{1b}]0;owned\u{7}\u{1b}[2Jafter", "chunks": 3}]);
    let session = asking(&stage, &steps).await;
    let mut terminal = watch(&stage, &session);
    terminal.shows("end_turn", 1).await;
    terminal.types("/quit");
    let (seen, _) = terminal.ends().await;
    assert!(seen.contains("before␛]0;owned␇␛[2Jafter"), "{seen:?}");
    assert!(
        !seen.contains("\u{1b}]0;") && !seen.contains("\u{1b}[2J"),
        "{seen:?}"
    );
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_json_in_a_pipe_and_a_table_on_a_terminal() {
    let mut stage = Stage::new(2).await;
    let dir = stage.launch.data_dir();
    for noun in ["sessions", "agents", "environments"] {
        let found = lines(dir, &[noun, "list"]).await;
        assert_eq!(
            found.len(),
            if noun == "sessions" { 2 } else { 1 },
            "{noun}"
        );
        let shown = lines(dir, &[noun, "show", &id(&found[0])]).await;
        assert_eq!(shown[0]["id"], found[0]["id"], "{noun}");
        let (seen, well) = Terminal::start(command(dir, &[noun, "list"])).ends().await;
        assert!(well && seen.contains(&id(&found[0])), "{seen}");
        assert!(!seen.contains("{\""), "a table holds no JSON: {seen}");
        let forced = Terminal::start(command(dir, &[noun, "list", "--json"]));
        let (seen, _) = forced.ends().await;
        assert!(seen.starts_with('{'), "--json is JSON everywhere: {seen}");
    }
    assert_eq!(
        lines(dir, &["sessions", "list", "--limit", "1"])
            .await
            .len(),
        1
    );
    assert_eq!(
        lines(dir, &["sessions", "list", "--status", "running"])
            .await
            .len(),
        0
    );
    let vault = lines(dir, &["vaults", "create", "Keys", "--metadata", "team=a"]).await;
    assert_eq!(vault[0]["metadata"]["team"], "a");
    let shown = lines(dir, &["vaults", "show", &id(&vault[0])]).await;
    assert_eq!(shown[0]["credentials"], json!([]));
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_allowed_and_a_turn_interrupted_by_flags() {
    let mut stage = Stage::new(0).await;
    let steps =
        json!([script::bash("echo ran"), {"text": "half", "wait_mid": "never", "chunks": 2}]);
    let session = asking(&stage, &steps).await;
    let dir = stage.launch.data_dir().to_owned();
    let blocked = lines(&dir, &["sessions", "watch", &session, "--until-idle"]).await;
    let idle = blocked.last().expect("it became idle");
    assert_eq!(idle["stop_reason"]["type"], "requires_action", "{idle}");
    let call = idle["stop_reason"]["event_ids"][0]
        .as_str()
        .expect("an id")
        .to_owned();
    let why = lines(&dir, &["sessions", "why", &session]).await;
    assert_eq!(why[0]["calls"][0]["id"], json!(call));
    lines(&dir, &["sessions", "send", &session, "--allow", &call]).await;
    stage.model.reached(&["never".to_owned()]).await;
    lines(&dir, &["sessions", "send", &session, "--interrupt"]).await;
    let log = stage.api().idle(&session).await;
    let kinds = log
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect::<Vec<_>>();
    assert!(
        kinds.contains(&"user.tool_confirmation") && kinds.contains(&"user.interrupt"),
        "{kinds:?}"
    );
    let nothing = piped(&dir, &["sessions", "send", &session]).await;
    let text = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(
        !nothing.status.success() && text.contains("--interrupt"),
        "{text}"
    );
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_elsewhere_is_reached_with_its_key_and_an_error_says_what_to_try() {
    let mut stage = Stage::new(1).await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    let url = format!("http://{}", stage.server().address());
    let session = stage.subjects[0].session.clone();
    let ask = |words: &[&str], key: Option<&str>| {
        let mut command = command(elsewhere.path(), words);
        command.args(["--url", &url]);
        if let Some(key) = key {
            command.env("LONGHAND_API_KEY", key);
        }
        command
    };
    let said = |output: std::process::Output| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text)
    };
    let shown = ask(&["sessions", "show", &session], Some(KEY))
        .output()
        .await
        .expect("it runs");
    assert!(shown.status.success(), "{shown:?}");
    let shown = serde_json::from_slice::<Value>(&shown.stdout).expect("JSON");
    assert_eq!(shown["id"], json!(session));
    for (words, key, wanted) in [
        (
            &["sessions", "list"][..],
            Some("lh_wrong00000000000000"),
            "hint: make a key",
        ),
        (&["sessions", "list"], None, "LONGHAND_API_KEY"),
        (
            &["sessions", "show", "sesn_1111111111111111111111"],
            Some(KEY),
            "hint: `longhand sessions list`",
        ),
        (&["keys", "list"], Some(KEY), "operator"),
        (&["sessions", "show", "../agents"], Some(KEY), "is no id"),
    ] {
        let (well, text) = said(ask(words, key).output().await.expect("it runs"));
        assert!(!well && text.contains(wanted), "{words:?}: {text}");
        assert!(!text.contains("lh_"), "a key is never printed: {text}");
    }
    assert!(
        std::fs::read_dir(elsewhere.path())
            .expect("it is there")
            .next()
            .is_none(),
        "nothing is made here for a server elsewhere"
    );
    stage.kill().await;
    let (well, text) = said(
        ask(&["sessions", "list"], Some(KEY))
            .output()
            .await
            .expect("it runs"),
    );
    assert!(!well && text.contains("is it running"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_while_no_server_runs_is_done_by_the_next_one() {
    let mut stage = Stage::new(1).await;
    let session = stage.subjects[0].session.clone();
    stage.kill().await;
    let dir = stage.launch.data_dir().to_owned();
    let text = said("offline", &json!([{"text": "done later"}]));
    let sent = piped(&dir, &["sessions", "send", &session, &text]).await;
    let talk = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert!(
        sent.status.success() && talk.contains("longhand serve"),
        "{talk}"
    );
    let watched = piped(&dir, &["sessions", "watch", &session]).await;
    assert!(
        watched.status.success(),
        "the past can be seen, and it ends"
    );
    stage.restart().await;
    let log = wait::until("the message to be answered", || async {
        let log = stage.api().idle(&session).await;
        log.iter()
            .any(|event| event["type"] == "agent.message")
            .then_some(log)
    })
    .await;
    assert!(
        log.iter()
            .any(|event| event["content"][0]["text"] == "done later")
    );
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_added_up_by_what_is_asked_for() {
    let mut stage = Stage::new(2).await;
    for subject in 0..2 {
        stage
            .play(subject, &format!("u{subject}"), &json!([{"text": "heard"}]))
            .await;
        stage.api().idle(&stage.subjects[subject].session).await;
    }
    let dir = stage.launch.data_dir();
    let whole = lines(dir, &["usage"]).await;
    assert!(
        whole[0]["agent_id"].is_string() && whole[0]["date"].is_string(),
        "{whole:?}"
    );
    let by = lines(dir, &["usage", "--by", "workspace"]).await;
    assert_eq!(by.len(), 1);
    assert_eq!(by[0]["workspace_id"], "wrkspc_default");
    assert!(by[0].get("agent_id").is_none());
    let sum = |field: &str| {
        whole
            .iter()
            .filter_map(|row| row[field].as_u64())
            .sum::<u64>()
    };
    assert_eq!(by[0]["output_tokens"].as_u64(), Some(sum("output_tokens")));
    assert!(sum("output_tokens") > 0);
    stage.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_warns_of_a_data_directory_that_others_can_enter_and_names_the_mend() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().expect("a directory");
    let dir = home.path();
    for (mode, ok) in [(0o755, false), (0o700, true)] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).expect("ours");
        let found = lines(dir, &["doctor", "--json"]).await;
        let finding = |what: &str| {
            let found = found.iter().find(|finding| finding["what"] == what);
            found
                .unwrap_or_else(|| panic!("{what} is not looked at"))
                .clone()
        };
        let directory = finding("data directory");
        assert_eq!(directory["ok"], ok, "{directory}");
        let mend = directory["mend"].as_str().expect("a text");
        assert_eq!(mend.starts_with("chmod 0700 /"), !ok, "{directory}");
        for what in ["kernel", "core dumps", "CAP_SYS_RESOURCE"] {
            assert_eq!(finding(what)["required"], false, "{what} is advice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_root_certificates_speaks_to_its_own_server() {
    let mut stage = Stage::new(1).await;
    let mut command = command(stage.launch.data_dir(), &["sessions", "list"]);
    let command = command
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent");
    let listed = command.output().await.expect("it runs");
    assert!(
        listed.status.success(),
        "{}",
        String::from_utf8_lossy(&listed.stderr)
    );
    stage.kill().await;
}
