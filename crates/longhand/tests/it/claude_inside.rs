//! Programs that the harness `claude` starts have the stand-in as those of `native` do, and claude itself goes on by its own
//! path with its own key. The real program, here and everywhere.

use serde_json::{Value, json};
use testkit::api::texts;

use crate::claude::{Claudes, bash, install, of, rests, session_of};
use crate::claude_lost::{frozen, rested};
use crate::injected::own_address;
use crate::model_inside::{asked, curl, spans, used};
use crate::stage::{self, Stage};

/// Says which variables a program has and which its claude.
const WHOSE: &str =
    "env | grep ^ANTHROPIC; tr '\\0' '\\n' < /proc/$PPID/environ | sed -n 's/^ANTHROPIC/ITS_OWN/p'";

impl Claudes {
    /// Its sandboxes have a network, and its sessions this metadata.
    async fn carried(metadata: Value) -> Self {
        let (launch, model) = stage::carried(own_address()).await;
        install(launch.data_dir()).await;
        let stage = Stage::on(launch, model, 0).await;
        let mut session = session_of(&stage.api(), &stage.model.base_url(), "always_allow").await;
        session["metadata"] = metadata;
        Self { stage, session }
    }

    /// What a claude is told by that command, and what that turn added to the log.
    async fn told(&self, session: &str, command: &str) -> (String, Vec<Value>) {
        let steps = json!([bash(command), {"text": "heard"}]);
        let log = self.turn(session, &steps).await;
        assert_eq!(rests(&log), "end_turn", "{log:?}");
        let said = texts(of(&log, "agent.tool_result")[0]);
        (said, log)
    }

    /// What a claude asks its model with, beside the conversation.
    async fn words(&self, session: &str) -> Value {
        self.turn(session, &json!([{"text": "short"}])).await;
        let mut asked = self.stage.model.last(1).pop().expect("a request");
        let words = asked.as_object_mut().expect("an object");
        words.retain(|name, _| name != "messages" && name != "metadata");
        asked
    }
}

/// The value of that variable, as [`WHOSE`] says it.
fn value<'a>(said: &'a str, name: &str) -> &'a str {
    let mut values = said
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.next().unwrap_or_else(|| panic!("{name}: {said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_claudes_asks_with_the_stand_in_and_claude_as_it_always_does() {
    let claudes = Claudes::carried(json!({"longhand.sandbox_model": "true"})).await;
    let (stage, session) = (&claudes.stage, claudes.session().await);
    let mut streamed = asked("and as a stream");
    streamed["stream"] = json!(true);
    let with_python = "python3 -c \"import json, os, urllib.request as u; b = json.dumps({'model': 'claude-sonnet-5-5', 'max_tokens': 9, 'messages': [{'role': 'user', 'content': 'by python'}]}).encode(); print(json.load(u.urlopen(u.Request(os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages', b, {'x-api-key': os.environ['ANTHROPIC_API_KEY'], 'content-type': 'application/json'})))['content'][0]['text'])\"";
    let command = [
        &curl("", "/v1/messages", &asked("as a whole")),
        &curl("", "/v1/messages", &streamed),
        with_python,
        WHOSE,
    ]
    .join("; echo; ");
    let (said, log) = claudes.told(&session, &command).await;
    for heard in [
        "as a whole",
        "and as a stream",
        "by python",
        "event: message_stop",
        "ANTHROPIC_BASE_URL=http://127.0.0.1:9797\n",
    ] {
        assert!(said.contains(heard), "{heard}: {said}");
    }
    let (theirs, its_own) = (
        value(&said, "ANTHROPIC_API_KEY"),
        value(&said, "ITS_OWN_API_KEY"),
    );
    assert!(
        theirs.starts_with("stand-in-") && its_own.starts_with("stand-in-") && theirs != its_own,
        "{said}"
    );
    assert_ne!(value(&said, "ITS_OWN_BASE_URL"), "http://127.0.0.1:9797");
    // No file of the sandbox's has it.
    let state = stage.launch.data_dir().join("sandboxes").join(&session);
    let preamble = std::fs::read_to_string(state.join("harness/preamble.sh")).unwrap();
    assert!(
        preamble.contains("export ANTHROPIC_API_KEY=") && !preamble.contains("stand-in"),
        "{preamble}"
    );
    // Claude's own two requests and the three of its program, each once.
    let ends = spans(&log);
    assert_eq!(ends.len(), 5, "{ends:?}");
    assert!(ends.iter().all(|used| *used > 0), "{ends:?}");
    assert_eq!(ends.iter().sum::<u64>(), used(stage, &session).await);
    assert_eq!(stage.model.asked(), 5);

    // In its next turn the same process knows no other words than one whose programs ask nobody.
    let with = claudes.words(&session).await;
    let mut without = claudes.session.clone();
    without["metadata"] = json!({});
    let without = testkit::api::id(&claudes.api().post("/v1/sessions", &without).await.unwrap());
    assert_eq!(with, claudes.words(&without).await);
    // Nor do programs that ask nobody see what claude asks with.
    let (said, _) = claudes.told(&without, WHOSE).await;
    assert!(
        !said.contains("ANTHROPIC") && value(&said, "ITS_OWN_API_KEY").starts_with("stand-in-"),
        "{said}"
    );
    crate::egress::end(claudes.stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_of_a_program_of_claudes_is_worth_nothing_elsewhere_nor_is_claudes_own_key_there()
 {
    let claudes = Claudes::carried(json!({"longhand.sandbox_model": "true"})).await;
    let stage = &claudes.stage;
    let (first, second) = (claudes.session().await, claudes.session().await);
    let (said, _) = claudes.told(&first, WHOSE).await;
    let stand_in = value(&said, "ANTHROPIC_API_KEY").to_owned();
    let (own_key, own_url) = (
        value(&said, "ITS_OWN_API_KEY"),
        value(&said, "ITS_OWN_BASE_URL"),
    );
    let status = |key: &str, base: &str| {
        format!(
            "curl -s --max-time 60 -o /dev/null -w '%{{http_code}} ' -H 'x-api-key: {key}' {base}/v1/messages -d '{{}}'"
        )
    };
    let door = "http://127.0.0.1:9797";
    let before = stage.model.asked();
    // What opens one of the two doors of a sandbox does not open the other, and the neighbour's neither; claude's own is not
    // served while one of its tools runs.
    let command = [
        status(own_key, door),
        status("another", door),
        status(&stand_in, door),
    ]
    .join("; ");
    let (said, _) = claudes.told(&first, &command).await;
    assert_eq!(said.trim(), "401 401 400", "{own_url}");
    let (said, _) = claudes.told(&second, &status(&stand_in, door)).await;
    assert_eq!(said.trim(), "401");
    assert_eq!(
        stage.model.asked() - before,
        4,
        "none of that was passed on"
    );

    // The turn is over, and its sandbox is still there.
    rested(&claudes).await;
    let words = [
        "sandbox",
        "exec",
        &first,
        "--",
        "/bin/sh",
        "-c",
        &status(&stand_in, door),
    ];
    let after = crate::terminal::piped(stage.launch.data_dir(), &words).await;
    assert_eq!(String::from_utf8_lossy(&after.stdout).trim(), "000");
    crate::egress::end(claudes.stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_a_claude_that_was_started_ahead_adopted_or_revived_ask_as_well() {
    let metadata = json!({"longhand.sandbox_model": "true", "longhand.sandbox": "eager"});
    let mut claudes = Claudes::carried(metadata).await;
    let session = claudes.session().await;
    frozen(&claudes, &session).await;
    let ask = |text: &str| curl("", "/v1/messages", &asked(text));
    for placed in ["ahead", "adopted", "revived"] {
        match placed {
            "adopted" => {
                claudes.stage.kill().await;
                claudes.stage.restart().await;
            }
            "revived" => {
                rested(&claudes).await;
                let stop = format!("/v1/x/sandboxes/{session}/stop");
                claudes.api().post(&stop, &json!({})).await.unwrap();
            }
            _ => {}
        }
        let (said, log) = claudes.told(&session, &ask(placed)).await;
        assert!(
            said.contains(placed) && said.contains("end_turn"),
            "{placed}: {said}"
        );
        assert_eq!(spans(&log).len(), 3, "{placed}: {log:?}");
        assert_eq!(claudes.placed(&session).await, placed);
    }
    crate::egress::end(claudes.stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_the_name_of_claudes_own_key_is_its_programs() {
    let mut claudes = Claudes::carried(json!({"longhand.sandbox_model": "true"})).await;
    let variable = |name: &str| {
        json!({"type": "environment_variable", "secret_name": name, "secret_value": "of-somebody-else",
            "networking": {"type": "unrestricted"}, "injection_location": {"header": true, "body": false}})
    };
    // The other is one that claude would show as well.
    let variables = [
        variable("ANTHROPIC_API_KEY"),
        variable("ANTHROPIC_AUTH_TOKEN"),
    ];
    let (vault, _) = claudes.stage.vault(json!({}), &variables).await;
    let vaults = claudes.session["vault_ids"]
        .as_array_mut()
        .expect("an LLM vault");
    vaults.push(json!(vault));
    let session = claudes.session().await;
    let (said, _) = claudes.told(&session, WHOSE).await;
    let key = value(&said, "ANTHROPIC_API_KEY");
    assert!(
        !key.starts_with("stand-in-") && !key.contains("somebody"),
        "{said}"
    );
    assert!(!said.contains("ANTHROPIC_BASE_URL"), "{said}");
    assert!(
        value(&said, "ITS_OWN_API_KEY").starts_with("stand-in-"),
        "{said}"
    );
    crate::egress::end(claudes.stage).await;
}
