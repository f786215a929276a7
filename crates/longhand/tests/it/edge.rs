//! The binary on a network: behind a proxy, what its metrics are called, and that no secret is written
//! anywhere.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use testkit::api::{Api, id};
use testkit::process::{KEY, Server};
use testkit::{script, wait};

use crate::stage;

/// Bytes of the answer to a request on a connection of its own.
async fn ask(server: &Server, request: &str) -> (u16, String) {
    let mut conn = server.api().connect().await.expect("a connection");
    let answer = conn.exchange(request.as_bytes()).await.expect("an answer");
    (
        answer.status,
        String::from_utf8_lossy(&answer.body).into_owned(),
    )
}

/// What stands in docs/metrics.md, out of what a server says of itself.
fn document(text: &str) -> String {
    let mut out = String::from(
        "# Metrics\n\nWhat `GET /metrics` says, in OpenMetrics text; no key is asked for, and no label holds \
         what a client chose. Keep it from the public at your proxy. Made from a running server; a test \
         compares.\n\n| name | kind | what |\n|---|---|---|\n",
    );
    let mut help = ("", "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').expect("a name and a help text");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            assert_eq!(name, help.0, "the help stands before the type");
            let suffix = if kind == "counter" { "_total" } else { "" };
            out.push_str(&format!("| `{name}{suffix}` | {kind} | {} |\n", help.1));
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_of_the_metrics_is_what_a_server_says() {
    let (launch, _model) = stage::launch().await;
    let server = launch.start().await;
    // What is counted by route is there once a route has answered.
    ask(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    let (status, text) = ask(&server, request).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let now = document(&text);
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let written = fs::read_to_string(&home).unwrap_or_default();
    if written != now {
        let to = std::env::temp_dir().join("longhand-metrics.md");
        fs::write(&to, &now).expect("written");
        panic!(
            "docs/metrics.md is out of step; what it should be stands in {}",
            to.display()
        );
    }
}

/// Nginx in front of a server; it ends with the test.
struct Nginx {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Nginx {
    /// `None`, said loudly, if it is not installed.
    async fn before(server: &Server) -> Option<Self> {
        let found = Command::new("nginx")
            .arg("-v")
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            eprintln!(
                "SKIPPED: nginx is not installed (`.ci/run` installs it); nothing was tested"
            );
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("bound");
        drop(port);
        let upstream = server.address();
        // As a packager writes it: buffering is on, and nothing is said of streams.
        let config = format!(
            "daemon off; pid nginx.pid; error_log error.log; events {{ }}
             http {{
               access_log off;
               client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f;
               uwsgi_temp_path u; scgi_temp_path s; client_max_body_size 40m;
               server {{
                 listen {address};
                 location / {{
                   proxy_pass http://{upstream}; proxy_http_version 1.1;
                   proxy_set_header Connection \"\";
                   proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                 }}
               }}
             }}"
        );
        fs::write(dir.path().join("nginx.conf"), config).expect("written");
        let child = Command::new("nginx")
            .args(["-c", "nginx.conf", "-p"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx");
        wait::until("nginx to listen", || async {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        Some(Self {
            child,
            address,
            _dir: dir,
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers when it is asked to, not when it is killed.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_runs_through_a_reverse_proxy_and_its_stream_is_not_held_back() {
    let (launch, model) = stage::launch().await;
    let launch = launch
        .environment("LONGHAND_LOG_LEVEL", "gateway=debug,info")
        .environment("LONGHAND_SERVER_TRUSTED_PROXIES", "127.0.0.0/8");
    let server = launch.start().await;
    let Some(nginx) = Nginx::before(&server).await else {
        return;
    };
    let api = Api::new(nginx.address, KEY);
    let ground = api.ground().await.expect("an agent and an environment");
    let session = api.session(&ground).await.expect("a session");
    let mut stream = api.stream(&session, false).await.expect("a stream");
    // The model waits at a gate: what comes before it must be seen while the turn still runs.
    let steps = json!([{"gate": "g"}, {"text": "heard"}]);
    api.send(&session, &[script::message("a", &steps)])
        .await
        .expect("sent");
    let mut open = false;
    loop {
        let event = wait::within("the stream's next event", stream.next()).await;
        let event = event.expect("an open stream").expect("an event");
        match event["type"].as_str().unwrap_or_default() {
            "session.status_running" => {
                open = true;
                model.release("g");
            }
            "session.status_idle" => break,
            _ => {}
        }
    }
    assert!(open, "the turn was seen before it ended");
    let request = format!(
        "GET /v1/agents HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.9\r\nx-api-key: {KEY}\r\n\r\n"
    );
    let mut conn = api.connect().await.expect("a connection");
    conn.exchange(request.as_bytes()).await.expect("an answer");
    let log = fs::read_to_string(log_of(launch.data_dir())).expect("the log");
    assert!(
        log.contains("203.0.113.9"),
        "the client is known by its address"
    );
}

fn log_of(data_dir: &Path) -> std::path::PathBuf {
    data_dir
        .parent()
        .expect("it lies in a home")
        .join("server.log")
}

/// Something that must never be written; each place has its own, so that a leak says where it began.
fn canary(place: &str) -> String {
    format!("canary-{place}-5f0e1c7a9b")
}

/// Plants a canary wherever a secret may come in; returns every answer that was given.
async fn plant(server: &Server, model_url: &str) -> Vec<String> {
    let api = server.api();
    let mut answers = Vec::new();
    let host = format!(
        "host: x\r\nx-api-key: {}\r\nauthorization: ",
        canary("xkey")
    );
    let wrong = format!(
        "GET /v1/agents HTTP/1.1\r\n{host}Bearer {}\r\n\r\n",
        canary("key")
    );
    answers.push(ask(server, &wrong).await.1);
    let llm = json!({"display_name": "llm", "metadata": {
        "longhand.role": "llm", "longhand.harness": "native", "longhand.llm_api": "anthropic",
        "longhand.llm_base_url": model_url,
        "longhand.llm_headers": json!({"x-team": canary("metadata")}).to_string()}});
    let llm = post(&api, &mut answers, "/v1/vaults", &llm).await;
    let llm = id(&llm);
    let path = format!("/v1/vaults/{llm}/credentials");
    let key = json!({"auth": {"type": "static_bearer", "token": canary("llm")}});
    post(&api, &mut answers, &path, &key).await;
    let vault = id(&post(
        &api,
        &mut answers,
        "/v1/vaults",
        &json!({"display_name": "v"}),
    )
    .await);
    let path = format!("/v1/vaults/{vault}/credentials");
    let oauth = json!({"auth": {"type": "mcp_oauth", "access_token": canary("access"),
        "mcp_server_url": "https://o.example/", "refresh": {"client_id": "c",
        "refresh_token": canary("refresh"), "token_endpoint": "https://o.example/token",
        "token_endpoint_auth": {"type": "client_secret_basic", "client_secret": canary("client")}}}});
    let variable = json!({"auth": {"type": "environment_variable", "secret_name": "TOKEN",
        "secret_value": canary("variable"), "networking": {"type": "unrestricted"}}});
    // The same secrets in requests that are refused: wrong beside them, wrong themselves.
    let mut crooked = oauth.clone();
    crooked["auth"]["mcp_server_url"] = json!(7);
    let misplaced =
        json!({"auth": {"type": "static_bearer", "token": {"value": canary("object")}}});
    let misspelt = json!({"auth": {"type": "static_bearer", "tokn": canary("misspelt")}});
    for body in [oauth, variable, crooked, misplaced, misspelt] {
        post(&api, &mut answers, &path, &body).await;
    }
    let once =
        format!("idempotency-key: once\r\ncontent-type: application/json\r\nx-api-key: {KEY}\r\n");
    let body = json!({"auth": {"type": "static_bearer", "token": canary("once"),
        "mcp_server_url": "https://once.example/"}})
    .to_string();
    let versions = "anthropic-version: 2026-10-21\r\nanthropic-beta: managed-agents-2026-04-01\r\n";
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\n{once}{versions}content-length: {length}\r\n\r\n{body}"
    );
    let (status, answer) = ask(server, &request).await;
    assert_eq!(status, 200, "{answer}");
    answers.push(answer);
    run(&api, &llm, &mut answers).await;
    answers
}

/// A turn with the planted model key, and one that fails.
async fn run(api: &Api, llm: &str, answers: &mut Vec<String>) {
    let ground = api.ground().await.expect("an agent and an environment");
    let mut new = ground.session();
    new["vault_ids"] = json!([llm]);
    let session = id(&post(api, answers, "/v1/sessions", &new).await);
    for steps in [json!([{"text": "heard"}]), json!([{"error": 401}])] {
        let sent = api.send(&session, &[script::message("a", &steps)]).await;
        sent.expect("sent");
        answers.push(json!(api.idle(&session).await).to_string());
    }
}

async fn post(api: &Api, answers: &mut Vec<String>, path: &str, body: &Value) -> Value {
    let answer = match api.post(path, body).await {
        Ok(object) => object,
        Err(testkit::api::Failed::Refused { body, .. }) => body,
        Err(lost) => panic!("{path}: {lost}"),
    };
    answers.push(answer.to_string());
    answer
}

/// Every file below `dir` that may be read by somebody who backs it up.
fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            Ok(_) | Err(_) => {}
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_a_metric_an_answer_or_a_file() {
    let (launch, model) = stage::launch().await;
    let level = "gateway=trace,store=trace,vault=trace,model=trace,harness=trace,orchestrator=trace,\
                 session=trace,longhand=trace,hyper=debug,info";
    let launch = launch
        .environment("LONGHAND_LOG_LEVEL", level)
        .environment("ANTHROPIC_API_KEY", &canary("operator"));
    let server = launch.start().await;
    let answers = plant(&server, &model.base_url()).await;
    assert!(
        answers.iter().any(|answer| answer.contains("heard")),
        "the planted key was used"
    );
    let metrics = ask(&server, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .1;
    let mut wrong = Vec::new();
    // What clients may write for all to read shows that this search finds what is there.
    let mut plain = 0;
    let mut look = |place: String, bytes: &[u8]| {
        plain += usize::from(holds(bytes, &canary("metadata")));
        for secret in [
            "xkey", "key", "llm", "access", "refresh", "client", "variable", "object", "misspelt",
            "once", "operator",
        ] {
            if holds(bytes, &canary(secret)) {
                wrong.push(format!("{place}: {secret}"));
            }
        }
        if holds(bytes, KEY) {
            wrong.push(format!("{place}: the API key"));
        }
    };
    for answer in &answers {
        look(format!("an answer, {answer:.80}"), answer.as_bytes());
    }
    look("the metrics".to_owned(), metrics.as_bytes());
    let log = fs::read(log_of(launch.data_dir())).expect("the log");
    let lines = String::from_utf8_lossy(&log);
    let says =
        |line: &str| line.contains("http.request") && line.contains("\"session_id\":\"sesn_");
    assert!(lines.lines().any(says), "a request names its session");
    look("a log".to_owned(), &log);
    let mut all = Vec::new();
    files(launch.data_dir(), &mut all);
    assert!(all.iter().any(|path| path.ends_with("longhand.db")));
    for path in all {
        look(
            path.display().to_string(),
            &fs::read(&path).unwrap_or_default(),
        );
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(plain > 1, "metadata is in an answer and in the database");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_ends_no_server_and_is_answered_in_the_log() {
    let (launch, _model) = stage::launch().await;
    let server = launch.start().await;
    server.hang_up();
    wait::until("a word about the signal", || async {
        server
            .tail()
            .contains("SIGHUP: nothing is read again")
            .then_some(())
    })
    .await;
    let request = "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n";
    assert_eq!(ask(&server, request).await.0, 200);
    server.terminate();
    assert!(server.ended().await.success(), "it still ends in order");
}
