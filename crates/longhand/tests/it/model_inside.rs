//! Programs in a sandbox that ask the session's model with a stand-in for its key: they are answered, it is the session's
//! bill, and the stand-in is worth nothing anywhere else.

use serde_json::{Value, json};
use testkit::{script, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::injected::own_address;
use crate::stage::{self, Stage};

/// The key of the model, which no sandbox has.
const KEY: &str = "model/key+5d0f2a9c71be";

/// A server whose sandboxes have a network, and whose model is the scripted one.
async fn carried() -> Stage {
    let (launch, model) = stage::carried(own_address()).await;
    let launch = launch.environment("ANTHROPIC_API_KEY", KEY);
    Stage::on(launch, model, 0).await
}

pub fn asks() -> (&'static str, Value) {
    ("metadata", json!({"longhand.sandbox_model": "true"}))
}

/// A command that sends that body there with the stand-in, with more of curl's options before it.
pub fn curl(options: &str, path: &str, body: &Value) -> String {
    // Not the script of the session itself.
    let body = body
        .to_string()
        .replace('\'', "")
        .replace("SCRIPT", "SCR''IPT");
    let [base, key] = if path == "/v1/messages" {
        ["$ANTHROPIC_BASE_URL/v1", "x-api-key: $ANTHROPIC_API_KEY"]
    } else {
        ["$OPENAI_BASE_URL", "Authorization: Bearer $OPENAI_API_KEY"]
    };
    let path = path.trim_start_matches("/v1");
    format!(
        "curl -sS --max-time 60 {options} -H \"{key}\" -H 'content-type: application/json' \"{base}{path}\" -d '{body}'"
    )
}

pub fn asked(text: &str) -> Value {
    json!({"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": text}]})
}

/// What the agent is told by that command, without the model's key, and the log then.
async fn told(stage: &Stage, session: &str, token: &str, command: &str) -> (String, Vec<Value>) {
    let (said, log) = stage.told(session, token, command).await;
    assert!(!said.contains(KEY), "{said}");
    (said, log)
}

/// The usage of each span that has ended, in the order of the log.
pub fn spans(log: &[Value]) -> Vec<u64> {
    let ends = log.iter().filter(|e| e["type"] == "span.model_request_end");
    let used = |end: &Value| {
        let usage = &end["model_usage"];
        let fields = [
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ];
        fields
            .iter()
            .map(|name| usage[name].as_u64().unwrap_or(0))
            .sum()
    };
    ends.map(used).collect()
}

/// What the session has used in all.
pub async fn used(stage: &Stage, session: &str) -> u64 {
    let session = stage.api().get(&format!("/v1/sessions/{session}")).await;
    let usage = session.expect("the session")["usage"].clone();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let cached = &usage["cache_creation"];
    number(&usage["input_tokens"])
        + number(&usage["output_tokens"])
        + number(&usage["cache_read_input_tokens"])
        + number(&cached["ephemeral_5m_input_tokens"])
        + number(&cached["ephemeral_1h_input_tokens"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_asks_the_sessions_model_with_a_stand_in_and_the_session_pays() {
    let stage = carried().await;
    let session = stage.session(&[asks()]).await;
    let mut streamed = asked("and as a stream");
    streamed["stream"] = json!(true);
    let with_python = "python3 -c \"import json, os, urllib.request as u; b = json.dumps({'model': 'claude-sonnet-5-5', 'max_tokens': 9, 'messages': [{'role': 'user', 'content': 'by python'}]}).encode(); print(json.load(u.urlopen(u.Request(os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages', b, {'x-api-key': os.environ['ANTHROPIC_API_KEY'], 'content-type': 'application/json'})))['content'][0]['text'])\"";
    let command = [
        &curl("", "/v1/messages", &asked("as a whole")),
        &curl("", "/v1/messages", &streamed),
        with_python,
        "env",
    ]
    .join("; echo; ");
    let (said, log) = told(&stage, &session, "inside", &command).await;
    for heard in [
        "as a whole",
        "and as a stream",
        "by python",
        "event: message_stop",
    ] {
        assert!(said.contains(heard), "{heard}: {said}");
    }
    assert!(said.contains("ANTHROPIC_API_KEY=stand-in-"), "{said}");
    let spans = spans(&log);
    // Its own two requests and the three of its programs.
    assert_eq!(spans.len(), 5, "{spans:?}");
    assert!(spans.iter().all(|used| *used > 0), "{spans:?}");
    assert_eq!(spans.iter().sum::<u64>(), used(&stage, &session).await);
    assert_eq!(stage.model.asked(), 5);
    crate::egress::end(stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_opens_one_path_of_one_sandbox_while_a_turn_runs_and_nothing_else() {
    let stage = carried().await;
    let address = own_address();
    let listener = TcpListener::bind((address, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut conn, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(conn.read_u8().await.expect("a head"));
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        conn.write_all(answer).await.expect("answered");
        String::from_utf8_lossy(&head).into_owned()
    });
    let first = stage.session(&[asks()]).await;
    let second = stage.session(&[asks()]).await;
    let without = stage.session(&[]).await;
    let status = "-o /dev/null -w '%{http_code} '";
    let mut searching = asked("with a tool");
    searching["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let mut unknown = asked("no such field");
    unknown["mcp_servers"] = json!([]);
    let before = stage.model.asked();
    let plain = |url: &str| format!("curl -sS {status} -H \"x-api-key: $ANTHROPIC_API_KEY\" {url}");
    let base = "$ANTHROPIC_BASE_URL";
    let command = [
        "echo $ANTHROPIC_API_KEY".to_owned(),
        format!("curl -sS {status} -H 'x-api-key: another' {base}/v1/messages -d '{{}}'"),
        format!("curl -sS {status} {base}/v1/messages -d '{{}}'"),
        plain(&format!("{base}/v1/models")),
        plain(&format!("--path-as-is {base}/v1/./messages -d '{{}}'")),
        plain(&format!("{base}/v1/messages%2fbatches -d '{{}}'")),
        plain(&format!("{base}/v1/messages")),
        curl(status, "/v1/messages", &searching),
        curl(status, "/v1/messages", &unknown),
        plain(&format!("http://{address}:{port}/")),
    ]
    .join("; ");
    let (said, _) = told(&stage, &first, "attacks", &command).await;
    let (stand_in, codes) = said.split_once('\n').expect(&said);
    assert!(
        codes.starts_with("401 401 404 404 404 405 400 400 200"),
        "{said}"
    );
    assert_eq!(
        stage.model.asked() - before,
        2,
        "none of that was passed on"
    );
    let head = wait::within("a request", tasks.join_next()).await;
    let head = head.expect("it is asked").expect("a head");
    assert!(head.contains(stand_in) && !head.contains(KEY), "{head}");

    let (said, _) = told(&stage, &second, "its neighbour's", &format!("echo $ANTHROPIC_API_KEY; curl -sS {status} -H 'x-api-key: {stand_in}' {base}/v1/messages -d '{{}}'")).await;
    assert!(said.contains("401") && !said.contains(stand_in), "{said}");
    let nobody = format!(
        "echo \"has $ANTHROPIC_API_KEY$ANTHROPIC_BASE_URL\"; curl -s {status} -H 'x-api-key: {stand_in}' http://127.0.0.1:9797/v1/messages -d '{{}}'"
    );
    let (said, _) = told(&stage, &without, "without", &nobody).await;
    assert!(said.starts_with("has \n000"), "{said}");

    // The turn is over, and its sandbox is still there.
    let before = stage.model.asked();
    let ask = format!(
        "curl -s {status} -H 'x-api-key: {stand_in}' http://127.0.0.1:9797/v1/messages -d '{{}}'"
    );
    let words = ["sandbox", "exec", &first, "--", "/bin/sh", "-c", &ask];
    let after = crate::terminal::piped(stage.launch.data_dir(), &words).await;
    let after = String::from_utf8_lossy(&after.stdout).into_owned();
    assert!(after.starts_with("000"), "{after}");
    assert_eq!(stage.model.asked(), before);
    crate::egress::end(stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_cuts_what_a_program_has_asked_and_counts_it() {
    let stage = carried().await;
    let session = stage.session(&[asks()]).await;
    let mut waits =
        asked("SCRIPT: [{\"text\": \"one and two\", \"chunks\": 2, \"wait_mid\": \"inside\"}]");
    waits["stream"] = json!(true);
    let steps = json!([script::bash(&curl("-N", "/v1/messages", &waits)), {"text": "heard"}]);
    let api = stage.api();
    let message = script::message("interrupted", &steps);
    api.send(&session, &[message]).await.expect("sent");
    stage.model.reached(&["inside".to_owned()]).await;
    let interrupt = json!({"type": "user.interrupt"});
    api.send(&session, &[interrupt]).await.expect("sent");
    // The turn ends with it; what the program used is in the log when it does, or right behind.
    api.idle(&session).await;
    let log = wait::until("the program's span", || async {
        let log = api.events(&session).await.expect("the log");
        (spans(&log).len() == 2).then_some(log)
    })
    .await;
    let ends = log.iter().filter(|e| e["type"] == "span.model_request_end");
    let failed = ends.filter(|e| e["is_error"] == true).count();
    assert_eq!(failed, 1, "{log:?}");
    assert_eq!(
        spans(&log).iter().sum::<u64>(),
        used(&stage, &session).await
    );
    stage.model.release("inside");
    crate::egress::end(stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_chooses_the_words_and_a_budget_the_models() {
    let stage = carried().await;
    for (name, path, field) in [
        ("openai_chat", "/v1/chat/completions", "messages"),
        ("openai_responses", "/v1/responses", "input"),
    ] {
        let metadata = json!({"longhand.role": "llm", "longhand.llm_api": name,
            "longhand.llm_base_url": format!("{}/v1", stage.model.base_url())});
        let key = json!({"type": "static_bearer", "token": KEY});
        let (vault, _) = stage.vault(metadata, &[key]).await;
        let more = [asks(), ("vault_ids", json!([vault]))];
        let session = stage.session(&more).await;
        let body = |text: &str, streams: bool| json!({"model": "gpt-5-mini", field: [{"role": "user", "content": text}], "stream": streams});
        let command = [
            curl("", path, &body("a whole one", false)),
            curl("", path, &body("a stream", true)),
            "env | grep -c '^OPENAI_API_KEY=stand-in-'".to_owned(),
        ]
        .join("; echo; ");
        let (said, log) = told(&stage, &session, name, &command).await;
        assert!(
            said.contains("a whole one") && said.contains("stream"),
            "{said}"
        );
        assert!(
            !said.contains("\"choices\":[]"),
            "nobody asked for it: {said}"
        );
        let spans = spans(&log);
        assert_eq!(spans.len(), 4, "{said} {spans:?}");
        assert!(spans.iter().all(|used| *used > 0), "{spans:?}");
        assert_eq!(spans.iter().sum::<u64>(), used(&stage, &session).await);
    }
    let budget = json!({"type": "limit", "max_list_cost": {"amount": "1000", "currency": "USD"}});
    let session = stage.session(&[asks(), ("budget", budget)]).await;
    let mut unpriced = asked("for nothing");
    unpriced["model"] = json!("nobody-has-priced-this");
    let command = format!(
        "{}; echo; {}",
        curl("", "/v1/messages", &unpriced),
        curl("", "/v1/messages", &asked("for money"))
    );
    let (said, log) = told(&stage, &session, "budget", &command).await;
    assert!(
        said.contains("no list price") && said.contains("for money"),
        "{said}"
    );
    assert_eq!(spans(&log).len(), 3);
    crate::egress::end(stage).await;
}

/// Sends sixteen bodies of two million numbers each, and then sixteen of which half never comes.
const GREEDY: &str = r#"
import http.client, json, os, socket, threading, time
key = os.environ["ANTHROPIC_API_KEY"]
body = {"model": "claude-sonnet-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
body["stop_sequences"] = [0] * (2 << 20)
body = json.dumps(body, separators=(",", ":")).encode()
said = []

def ask():
    door = http.client.HTTPConnection("127.0.0.1", 9797)
    door.request("POST", "/v1/messages", body, {"x-api-key": key})
    answer = door.getresponse()
    said.append((answer.status, json.loads(answer.read())["error"]["type"]))

asking = [threading.Thread(target=ask) for _ in range(16)]
[thread.start() for thread in asking]
[thread.join() for thread in asking]
half = []
for _ in range(16):
    door = socket.create_connection(("127.0.0.1", 9797))
    head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: %s\r\ncontent-length: 33554432\r\n\r\n" % key
    door.sendall(head.encode() + b" " * 65536)
    half.append(door)
with open("/workspace/said", "w") as file:
    json.dump(said, file)
os.rename("/workspace/said", "/workspace/all")
time.sleep(600)
"#;

/// A number of `/proc/PID/status` of the server, in MiB.
fn memory(stage: &Stage, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.server().pid()));
    let status = status.expect("it runs");
    let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
    let number = lines.next().and_then(|line| line.split_whitespace().nth(1));
    number.expect(name).parse::<u64>().expect(name) / 1_024
}

/// What is in that file of a sandbox, when it is there.
async fn written(stage: &Stage, session: &str, path: &str) -> String {
    let read = ["sandbox", "exec", session, "--", "/bin/cat", path];
    wait::until(path, || async {
        let read = crate::terminal::piped(stage.launch.data_dir(), &read).await;
        let text = String::from_utf8_lossy(&read.stdout).into_owned();
        Some(text).filter(|text| !text.is_empty())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_one_sandbox_neither_fill_the_server_nor_keep_another_from_its_model() {
    let stage = carried().await;
    let (greedy, honest) = (
        stage.session(&[asks()]).await,
        stage.session(&[asks()]).await,
    );
    // From here on the most is counted anew (proc_pid_clear_refs(5)).
    std::fs::write(format!("/proc/{}/clear_refs", stage.server().pid()), "5").expect("root");
    let before = memory(&stage, "VmRSS");
    let steps = json!([script::bash(&format!("python3 -c '{GREEDY}'")), {"text": "heard"}]);
    let api = stage.api();
    let message = script::message("greedy", &steps);
    api.send(&greedy, &[message]).await.expect("sent");
    let said = written(&stage, &greedy, "/workspace/all").await;
    // Sixteen are before the door, four of them inside, and it goes on as ever elsewhere.
    let ask = curl("", "/v1/messages", &asked("an honest question"));
    let (heard, log) = told(&stage, &honest, "honest", &ask).await;
    assert!(heard.contains("an honest question"), "{heard}");
    assert_eq!(spans(&log).len(), 3, "{log:?}");
    let grown = memory(&stage, "VmHWM") - before;
    assert!(grown < 192, "{grown} MiB more than {before}: {said}");
    let said: Vec<(u16, String)> = serde_json::from_str(&said).expect(&said);
    let large = (413, "request_too_large".to_owned());
    assert_eq!(said, vec![large; 16]);
    let interrupt = json!({"type": "user.interrupt"});
    api.send(&greedy, &[interrupt]).await.expect("sent");
    api.idle(&greedy).await;
    crate::egress::end(stage).await;
}
