//! Tokens of MCP servers that are refused before their end, to clients in a sandbox: the server refreshes them, once for
//! all, and the request goes again. What refreshes them is in no other process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::json;
use testkit::canary::Canary;
use testkit::{script, wait};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::injected::own_address;
use crate::memory::holds;
use crate::stage::{self, Stage};

/// What the first token is refreshed with; the next ones are longer.
const REFRESH: &str = "refresh/token+4b1d9ce07f52";
const CLIENT: &str = "client/secret+c2a60f9d13e8";
const FIRST: &str = "access/token+70f3ab5d92c4";

/// Where the first token is taken as well as those after it.
const AHEAD: &str = "/ahead";

/// MCP servers and their authorization server in one: at each path another resource, whose first token is refused.
#[derive(Default)]
struct Service {
    /// The token that each path takes, and how often it was refreshed.
    paths: Mutex<HashMap<String, (String, usize)>>,
    /// What was said to a path by those who were let in.
    heard: Mutex<Vec<String>>,
    /// Somebody waits at `…/wait`, or was let in as before at [`AHEAD`].
    waits: Notify,
    release: Notify,
}

impl Service {
    fn refreshed(&self, path: &str) -> usize {
        self.paths.lock().unwrap().get(path).map_or(0, |it| it.1)
    }

    /// The status and the body of an answer.
    async fn answer(&self, path: &str, authorization: &str, said: &str) -> (u16, String) {
        if let Some(of) = path.strip_prefix("/token") {
            return self.grant(of, said);
        }
        if path == AHEAD && authorization == format!("Bearer {FIRST}") {
            self.waits.notify_one();
            return (200, "as before".to_owned());
        }
        let of = path.trim_end_matches("/wait");
        let taken = self.paths.lock().unwrap().get(of).cloned();
        if taken.is_none_or(|(token, _)| authorization != format!("Bearer {token}")) {
            return (401, "no such token".to_owned());
        }
        if of != path {
            self.waits.notify_one();
            self.release.notified().await;
        }
        self.heard.lock().unwrap().push(said.to_owned());
        (200, format!("let in with {authorization}"))
    }

    fn grant(&self, of: &str, said: &str) -> (u16, String) {
        let mut paths = self.paths.lock().unwrap();
        let (token, times) = paths.entry(of.to_owned()).or_default();
        // Each refresh token is good for one time.
        let expected = "refresh%2Ftoken%2B4b1d9ce07f52".to_owned() + &"x".repeat(*times);
        if !said
            .split('&')
            .any(|one| one == format!("refresh_token={expected}"))
        {
            return (400, json!({"error": "invalid_grant"}).to_string());
        }
        *times += 1;
        *token = format!("{FIRST}{}", "x".repeat(*times));
        let next = format!("{REFRESH}{}", "x".repeat(*times));
        let grant = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3_600,
            "refresh_token": next});
        (200, grant.to_string())
    }

    async fn serve(&self, conn: TcpStream) -> std::io::Result<()> {
        let mut conn = BufReader::new(conn);
        let mut first = String::new();
        conn.read_line(&mut first).await?;
        let (mut authorization, mut length, mut chunked) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            conn.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            match name.to_lowercase().as_str() {
                "authorization" => authorization = value.to_owned(),
                "content-length" => length = value.parse().expect("a length"),
                "transfer-encoding" => chunked = true,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        conn.read_exact(&mut body).await?;
        let mut line = String::new();
        while chunked && line != "0\r\n" {
            line.clear();
            conn.read_line(&mut line).await?;
        }
        let path = first.split(' ').nth(1).expect("a path");
        let said = String::from_utf8_lossy(&body).into_owned();
        let (status, body) = self.answer(path, &authorization, &said).await;
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        conn.write_all(answer.as_bytes()).await?;
        conn.shutdown().await
    }
}

/// A server whose sandboxes reach the service, and a session with a credential for each of its paths.
struct Renewed {
    stage: Stage,
    session: String,
    /// The path of each credential.
    credentials: Vec<String>,
    service: Arc<Service>,
    /// Where it is.
    base: String,
    _tasks: JoinSet<()>,
}

async fn renewed(paths: &[&str]) -> Renewed {
    let address = own_address();
    let listener = TcpListener::bind((address, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (service, mut tasks) = (Arc::<Service>::default(), JoinSet::new());
    let of = Arc::clone(&service);
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((conn, _)) = listener.accept().await {
            let of = Arc::clone(&of);
            // Who asked may have gone.
            open.spawn(async move { of.serve(conn).await });
        }
    });
    let (launch, model) = stage::carried(address).await;
    let stage = Stage::on(launch, model, 0).await;
    let base = format!("http://{address}:{port}");
    let credentials = paths.iter().map(|path| {
        json!({"type": "mcp_oauth", "access_token": FIRST,
            "mcp_server_url": format!("{base}{path}"), "refresh": {"client_id": "me",
            "refresh_token": REFRESH, "token_endpoint": format!("{base}/token{path}"),
            "token_endpoint_auth": {"type": "client_secret_post", "client_secret": CLIENT}}})
    });
    let credentials: Vec<_> = credentials.collect();
    let (vault, credentials) = stage.vault(json!({}), &credentials).await;
    let session = stage.session(&[("vault_ids", json!([vault]))]).await;
    Renewed {
        stage,
        session,
        credentials,
        service,
        base,
        _tasks: tasks,
    }
}

/// Asks, and prints the status.
const ASK: &str = "curl -sS -o /dev/null -w '%{http_code} ' --max-time 100";

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_refreshed_once_for_all_and_what_can_be_said_again_is() {
    let it = renewed(&["/a", "/b"]).await;
    let ask = format!(
        "for n in $(seq 50); do {ASK} -d call=$n {}/a >$n & done; wait; for n in $(seq 50); do cat $n; done",
        it.base
    );
    let (said, _) = it.stage.told(&it.session, "fifty at once", &ask).await;
    assert_eq!(said.matches("200 ").count(), 50, "{said}");
    assert_eq!(it.service.refreshed("/a"), 1);
    let mut heard = std::mem::take(&mut *it.service.heard.lock().unwrap());
    heard.sort_by_key(|call| call.len());
    for n in 1..=50 {
        let call = format!("call={n}");
        assert!(heard.contains(&call), "{call} among {heard:?}");
    }
    assert_eq!(heard.len(), 50, "each was heard once: {heard:?}");

    // One without a length is not kept: its client is refused, and finds the new token when it asks again.
    let chunked = format!(
        "{ASK} -H 'Transfer-Encoding: chunked' -d later {}/b",
        it.base
    );
    let (said, _) = it
        .stage
        .told(&it.session, "twice", &format!("{chunked}; {chunked}"))
        .await;
    assert_eq!(said.trim(), "401 200");
    assert_eq!(it.service.refreshed("/b"), 1);

    // A token that is refused a moment after it was refreshed is not refreshed again.
    it.service
        .paths
        .lock()
        .unwrap()
        .get_mut("/a")
        .expect("it was refreshed")
        .0 = "another".to_owned();
    let (again, _) = it
        .stage
        .told(&it.session, "again", &format!("{ASK} {}/a", it.base))
        .await;
    assert_eq!(again.trim(), "401");
    assert_eq!(it.service.refreshed("/a"), 1);
    // Nor is one of which no credential is known.
    let (none, _) = it
        .stage
        .told(&it.session, "none", &format!("{ASK} {}/c", it.base))
        .await;
    assert_eq!(none.trim(), "401");
    crate::egress::end(it.stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_refreshes_a_token_is_not_in_the_egress_process() {
    let it = renewed(&["/a"]).await;
    let ask = format!("{ASK} {}/a; {ASK} {}/a/wait", it.base, it.base);
    let steps = json!([script::bash(&ask), {"text": "heard"}]);
    let api = it.stage.api();
    let message = script::message("waits", &steps);
    api.send(&it.session, &[message]).await.expect("sent");
    wait::within("a request that waits", it.service.waits.notified()).await;
    let egress = crate::egress::process(&it.stage).expect("it runs");
    let has = |secret: &str| holds(egress, &Canary::new("a token", secret));
    assert!(has(FIRST), "the token is spent there");
    assert!(!has(REFRESH), "what refreshes it is not");
    assert!(!has(CLIENT), "nor who does");
    it.service.release.notify_one();
    let (said, _) = it.stage.heard(&it.session).await;
    assert_eq!(said.trim(), "200 200");
    crate::egress::end(it.stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refreshed_ahead_of_its_end_is_in_force_though_none_was_refused() {
    let it = renewed(&[AHEAD]).await;
    let ask = format!(
        "until curl -sS --max-time 100 {}{AHEAD} | grep 'let in'; do sleep 0.05; done",
        it.base
    );
    let steps = json!([script::bash(&ask), {"text": "heard"}]);
    let api = it.stage.api();
    let message = script::message("ahead", &steps);
    api.send(&it.session, &[message]).await.expect("sent");
    let first = it.service.waits.notified();
    wait::within("a request with the first token", first).await;
    let soon = contract::time::Micros(store::clock::now().0 + 60_000_000);
    let due = json!({"auth": {"type": "mcp_oauth", "expires_at": soon}});
    let changed = api.post(&it.credentials[0], &due).await;
    changed.expect("changed");
    let (said, _) = it.stage.heard(&it.session).await;
    assert!(said.contains("let in"), "{said}");
    assert_eq!(it.service.refreshed(AHEAD), 1);
    crate::egress::end(it.stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_a_refusal_stays_one_and_the_next_server_renews_the_token() {
    let mut it = renewed(&["/a"]).await;
    let ask = format!(
        "touch begun; until test -e go; do sleep 0.01; done; {ASK} {}/a >first; touch asked; \
         until test -e back; do sleep 0.01; done; cat first; \
         until test \"$({ASK} {}/a)\" = '200 '; do sleep 0.05; done; echo 200",
        it.base, it.base
    );
    let steps = json!([script::bash(&ask), {"text": "heard"}]);
    let message = script::message("away", &steps);
    let api = it.stage.api();
    api.send(&it.session, &[message]).await.expect("sent");
    let sandboxes = it.stage.launch.data_dir().join("sandboxes");
    let workspace = sandboxes.join(&it.session).join("workspace");
    let there = async |name: &str| {
        let file = workspace.join(name);
        wait::until(name, || async { file.exists().then_some(()) }).await;
    };
    there("begun").await;
    it.stage.kill().await;
    std::fs::write(workspace.join("go"), "").expect("the workspace is there");
    there("asked").await;
    it.stage.restart().await;
    // It may be asked before it carries: the program asks until it is let in.
    std::fs::write(workspace.join("back"), "").expect("the workspace is there");
    let (said, _) = it.stage.heard(&it.session).await;
    assert_eq!(it.service.refreshed("/a"), 1, "{said}");
    assert_eq!(said.trim(), "401 200");
    crate::egress::end(it.stage).await;
}
