//! A credential of a vault on its whole way: through the API, the store, the server and its egress process into the
//! request of a program in a sandbox, which never has it.

use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testkit::api::id;
use testkit::{script, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::stage::{self, Stage};

pub const SECRET: &str = "first/secret+6f1d0a7c94e2";
const ROTATED: &str = "second/secret+0c8be93a71d5";

/// An address of this host that is not its loopback, which a sandbox has of its own. Sends nothing.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("198.51.100.1:9").expect("a route");
    socket.local_addr().expect("an address").ip()
}

/// A server that answers each request with its own head; the heads that it was told.
async fn echo(address: IpAddr, tasks: &mut JoinSet<()>) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind((address, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (heads, heard) = mpsc::channel(100);
    tasks.spawn(async move {
        while let Ok((conn, _)) = listener.accept().await {
            // Who asked has gone, or the test has.
            if let Ok(head) = answer(conn).await
                && heads.send(head).await.is_err()
            {
                return;
            }
        }
    });
    (port, heard)
}

async fn answer(mut conn: TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(conn.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let length = head.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{head}");
    conn.write_all(answer.as_bytes()).await?;
    conn.shutdown().await?;
    Ok(head)
}

/// A session with a variable of that value; it, and the path of its credential.
pub async fn session(stage: &Stage) -> (String, String) {
    let variable = json!({"type": "environment_variable", "secret_name": "TOKEN", "secret_value": SECRET,
        "networking": {"type": "unrestricted"}});
    let (vault, mut paths) = stage.vault(json!({}), &[variable]).await;
    let session = stage.session(&[("vault_ids", json!([vault]))]).await;
    (session, paths.remove(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vaults_credential_reaches_the_server_and_not_the_sandbox_and_follows_its_owner() {
    let mut tasks = JoinSet::new();
    let address = own_address();
    let (port, mut heard) = echo(address, &mut tasks).await;
    let (launch, model) = stage::carried(address).await;
    let stage = Stage::on(launch, model, 0).await;
    let (session, credential) = session(&stage).await;
    let ask = format!(
        "echo \"has $TOKEN\"; curl -sS --max-time 20 -H \"Authorization: Bearer $TOKEN\" http://{address}:{port}/"
    );
    let (said, _) = stage.told(&session, "first", &ask).await;
    let head = wait::within("a request", heard.recv()).await.expect(&said);
    assert!(head.contains(&format!("Bearer {SECRET}\r\n")), "{head}");
    assert!(!said.contains(SECRET), "{said}");
    // Once as the variable, once in the place of what came back.
    assert_eq!(said.matches("lhph").count(), 2, "{said}");

    let rotated = json!({"auth": {"type": "environment_variable", "secret_value": ROTATED}});
    let rotated = stage.api().post(&credential, &rotated).await;
    rotated.expect("changed");
    let now = format!("Bearer {ROTATED}\r\n");
    heard_until(&stage, &session, &ask, (&mut heard, &now)).await;

    let archive = format!("{credential}/archive");
    let archived = stage.api().post(&archive, &json!({})).await;
    archived.expect("archived");
    heard_until(&stage, &session, &ask, (&mut heard, "Bearer lhph")).await;
    crate::egress::end(stage).await;
}

/// Has the agent ask until the server is told `wanted`. What changed is in force soon, not at once.
async fn heard_until(
    stage: &Stage,
    session: &str,
    ask: &str,
    (heard, wanted): (&mut mpsc::Receiver<String>, &str),
) {
    let deadline = std::time::Instant::now() + wait::deadline();
    for again in 0.. {
        let (said, _) = stage.told(session, &format!("{wanted} {again}"), ask).await;
        assert!(!said.contains(SECRET) && !said.contains(ROTATED), "{said}");
        let head = wait::within("a request", heard.recv()).await.expect(&said);
        if head.contains(wanted) {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{wanted} never comes, but {head}"
        );
    }
}

/// The errors of a session about credentials, each with its credential and its text.
fn unreachable(log: &[Value]) -> Vec<(String, String)> {
    let errors = log.iter().filter(|e| e["type"] == "session.error");
    let errors = errors.map(|e| &e["error"]);
    let ours = errors.filter(|error| error["type"] == "credential_host_unreachable_error");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    ours.map(|error| {
        assert_eq!(error["retry_status"]["type"], "retrying", "{error}");
        assert!(text(&error["vault_id"]).starts_with("vlt_"), "{error}");
        (text(&error["credential_id"]), text(&error["message"]))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_says_which_credentials_its_environment_keeps_from_their_hosts_and_goes_on() {
    let (launch, model) = stage::launch().await;
    let launch = launch.environment("LONGHAND_EGRESS_ENABLED", "true");
    let stage = Stage::on(launch, model, 0).await;
    let api = stage.api();
    let all = [
        ("EVERYWHERE", json!({"type": "unrestricted"})),
        (
            "REACHED",
            json!({"type": "limited", "allowed_hosts": ["api.example.test", "*.example.test"]}),
        ),
        (
            "KEPT",
            json!({"type": "limited", "allowed_hosts": ["api.example.test", "far.test", "*.far.test"]}),
        ),
    ];
    let all = all.map(|(name, networking)| {
        json!({"type": "environment_variable", "secret_name": name, "secret_value": SECRET,
            "networking": networking})
    });
    let (vault, credentials) = stage.vault(json!({}), &all).await;
    let agent = json!({"name": "Kept", "model": "claude-sonnet-5-5"});
    let agent = id(&api.post("/v1/agents", &agent).await.expect("an agent"));
    let networking = |hosts: Value| json!({"type": "cloud", "networking": {"type": "limited", "allowed_hosts": hosts}});
    let environment = json!({"name": "kept", "config": networking(json!(["api.example.test"]))});
    let environment = api.post("/v1/environments", &environment).await;
    let environment = id(&environment.expect("an environment"));
    let own = [
        ("agent", json!(agent)),
        ("environment_id", json!(environment)),
        ("vault_ids", json!([vault])),
    ];
    let session = stage.session(&own).await;

    let turn = async |token: &str| {
        let message = script::message(token, &json!([{"text": "heard"}]));
        api.send(&session, &[message]).await.expect("sent");
        api.idle(&session).await
    };
    for said in 1..=2 {
        let log = turn(&format!("turn {said}")).await;
        let errors = unreachable(&log);
        assert_eq!(errors.len(), said, "once a turn: {errors:?}");
        for (credential, message) in errors {
            assert!(credentials[2].ends_with(&credential), "{credential}");
            assert!(message.contains("(far.test, *.far.test)"), "{message}");
        }
        let messages = log.iter().filter(|e| e["type"] == "agent.message");
        assert_eq!(messages.count(), said, "the turn goes on: {log:?}");
    }
    let wider =
        json!({"config": networking(json!(["api.example.test", "far.test", "a.far.test"]))});
    let wider = api
        .post(&format!("/v1/environments/{environment}"), &wider)
        .await;
    wider.expect("changed");
    assert_eq!(
        unreachable(&turn("wider").await).len(),
        2,
        "nothing more is said"
    );
    crate::egress::end(stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_credential_is_in_requests_of_every_sandbox_and_follows_its_file() {
    let mut tasks = JoinSet::new();
    let address = own_address();
    let (port, mut heard) = echo(address, &mut tasks).await;
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("secret");
    let write = |secret: &str| {
        let new = home.path().join("new");
        std::fs::write(&new, format!("{secret}\n")).expect("written");
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).expect("private");
        std::fs::rename(&new, &file).expect("in its place");
    };
    write(SECRET);
    let config = home.path().join("longhand.toml");
    let text = format!(
        "[[egress.credentials]]\nname = 'registry'\nhosts = ['{address}']\nheader = 'X-Registry: token {{secret}}'\nsecret_file = '{}'\n",
        file.display()
    );
    std::fs::write(&config, text).expect("written");
    let (launch, model) = stage::carried(address).await;
    let launch = launch.arguments(&["--config", config.to_str().expect("a text")]);
    let stage = Stage::on(launch, model, 1).await;
    let session = stage.subjects[0].session.clone();
    let ask = format!("env; curl -sS --max-time 20 -H 'X-Registry: mine' http://{address}:{port}/");
    let (said, _) = stage.told(&session, "first", &ask).await;
    let head = wait::within("a request", heard.recv()).await.expect(&said);
    assert!(
        head.to_lowercase()
            .contains("x-registry: token first/secret"),
        "{head}"
    );
    assert!(
        !head.contains("mine") && !said.contains(SECRET),
        "{head} {said}"
    );
    write(ROTATED);
    heard_until(&stage, &session, &ask, (&mut heard, ROTATED)).await;
    crate::egress::end(stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_an_mcp_server_are_let_in_with_its_token_and_a_models_key_goes_nowhere() {
    let mut tasks = JoinSet::new();
    let address = own_address();
    let (port, mut heard) = echo(address, &mut tasks).await;
    let (launch, model) = stage::carried(address).await;
    let stage = Stage::on(launch, model, 0).await;
    let api = stage.api();
    let server = format!("http://{address}:{port}");
    let llm = json!({"longhand.role": "llm", "longhand.llm_base_url": stage.model.base_url()});
    let (mut vaults, mut credential) = (Vec::new(), String::new());
    for (metadata, auth) in [
        (
            json!({}),
            json!({"type": "static_bearer", "mcp_server_url": format!("{server}/a/mcp/"), "token": SECRET}),
        ),
        (
            json!({}),
            json!({"type": "mcp_oauth", "mcp_server_url": format!("{server}/oauth"), "access_token": ROTATED}),
        ),
        (
            llm,
            json!({"type": "static_bearer", "mcp_server_url": format!("{server}/model"), "token": "model/key"}),
        ),
    ] {
        let (vault, mut paths) = stage.vault(metadata, &[auth]).await;
        if credential.is_empty() {
            credential = paths.remove(0);
        }
        vaults.push(vault);
    }
    let session = stage.session(&[("vault_ids", json!(vaults))]).await;
    for (path, wanted) in [
        ("/a/mcp", Some(SECRET)),
        ("/a/mcp/sse", Some(SECRET)),
        ("/oauth", Some(ROTATED)),
        ("/a/mcp2", None),
        ("/a//mcp", None),
        ("/model", None),
    ] {
        let ask = format!(
            "curl -sS --max-time 20 --path-as-is -H 'Authorization: Bearer mine' {server}{path}"
        );
        let (said, _) = stage.told(&session, path, &ask).await;
        let head = wait::within("a request", heard.recv()).await.expect(&said);
        let shown = format!("Bearer {}\r\n", wanted.unwrap_or("mine"));
        assert!(head.contains(&shown), "{path}: {head}");
        assert!(!said.contains(SECRET) && !said.contains(ROTATED), "{said}");
    }
    let rotated = json!({"auth": {"type": "static_bearer", "token": ROTATED}});
    api.post(&credential, &rotated).await.expect("changed");
    let (ask, now) = (
        format!("curl -sS --max-time 20 {server}/a/mcp"),
        format!("Bearer {ROTATED}\r\n"),
    );
    heard_until(&stage, &session, &ask, (&mut heard, &now)).await;
    crate::egress::end(stage).await;
}
