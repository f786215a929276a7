//! An authorization server and an MCP server of ours, on loopback: strict where real ones are, and as wrong as a
//! test asks. It decides nothing about the vault.

use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use contract::credential::{Auth, McpOauth, Refresh, TokenAuth};
use contract::ids::{CredentialId, VaultId, WorkspaceId};
use contract::secret::Secret;
use contract::time::Micros;
use serde_json::json;
use serde_json::value::RawValue;
use store::vaults::{CredentialChange, CredentialKind, CredentialRow, NewCredential};
use store::{Options, Store, Synchronous};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vault::Vault;
use vault::master::MasterKey;
use vault::refresh::{Named, Refresher, Settings, TokenError};
use vault::secret::CredentialSecret;

pub(crate) const WS: WorkspaceId = WorkspaceId::Default;
pub(crate) const VAULT: VaultId = VaultId::from_bits(1);

/// How the token endpoint behaves.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Tokens of this life; each refresh token is good for once.
    Good { expires_in: serde_json::Value },
    /// As good, once the gate was opened.
    Gated,
    /// Gives no other refresh token and takes the first for ever.
    Same,
    /// Never answers.
    Hang,
    /// Says this.
    Say(StatusCode, &'static str, String),
    /// Sends the client elsewhere, at its own origin.
    Redirect,
}

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) headers: HeaderMap,
    pub(crate) form: String,
}

#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) way: Way,
    pub(crate) tokens: Vec<Seen>,
    /// Requests to where the redirect leads.
    pub(crate) strayed: u32,
    /// How many refreshes were granted; names the tokens in force.
    pub(crate) granted: u32,
    /// What the MCP server answers to a good token.
    pub(crate) mcp: StatusCode,
    pub(crate) asked: Vec<String>,
}

pub(crate) struct Authority {
    pub(crate) url: String,
    pub(crate) books: Arc<Mutex<Books>>,
    pub(crate) gate: Arc<Notify>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Shop(Arc<Mutex<Books>>, Arc<Notify>);

impl Authority {
    pub(crate) async fn start(way: Way) -> Self {
        let books = Arc::new(Mutex::new(Books {
            way,
            tokens: Vec::new(),
            strayed: 0,
            granted: 0,
            mcp: StatusCode::OK,
            asked: Vec::new(),
        }));
        let gate = Arc::new(Notify::new());
        let router = Router::new()
            .route("/token", post(token))
            .route("/elsewhere", post(elsewhere).get(elsewhere))
            .route("/mcp", post(mcp).delete(mcp))
            .with_state(Shop(books.clone(), gate.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self {
            url,
            books,
            gate,
            _tasks: tasks,
        }
    }

    pub(crate) fn granted(&self) -> u32 {
        self.books.lock().expect("whole").granted
    }

    pub(crate) fn asked(&self) -> usize {
        self.books.lock().expect("whole").tokens.len()
    }

    pub(crate) fn behave(&self, way: Way) {
        self.books.lock().expect("whole").way = way;
    }
}

fn answer(status: StatusCode, kind: &str, body: String) -> Response<Body> {
    let response = Response::builder()
        .status(status)
        .header("content-type", kind);
    response.body(Body::from(body)).expect("an answer")
}

/// The refresh token in force after so many grants.
pub(crate) fn refresh_token(n: u32) -> String {
    format!("refresh/token+{n}")
}

/// The access token in force after so many grants.
pub(crate) fn access_token(n: u32) -> String {
    format!("access-token-{n}")
}

async fn token(State(shop): State<Shop>, headers: HeaderMap, form: Bytes) -> Response<Body> {
    let form = String::from_utf8(form.to_vec()).expect("a form");
    let way = {
        let mut books = shop.0.lock().expect("whole");
        let seen = Seen {
            headers,
            form: form.clone(),
        };
        books.tokens.push(seen);
        books.way.clone()
    };
    let (expires_in, rotates) = match way {
        Way::Good { expires_in } => (expires_in, true),
        Way::Gated => {
            shop.1.notified().await;
            (json!(3_600), true)
        }
        Way::Same => (json!(3_600), false),
        Way::Hang => {
            std::future::pending::<()>().await;
            (json!(0), false)
        }
        Way::Say(status, kind, body) => return answer(status, kind, body),
        Way::Redirect => {
            let mut away = answer(StatusCode::TEMPORARY_REDIRECT, "text/plain", String::new());
            let to = "/elsewhere".parse().expect("a header");
            away.headers_mut().insert("location", to);
            return away;
        }
    };
    let mut books = shop.0.lock().expect("whole");
    let good = if rotates { books.granted } else { 0 };
    let good = refresh_token(good).replace('/', "%2F").replace('+', "%2B");
    if !form.contains(&format!("refresh_token={good}")) {
        let body = json!({"error": "invalid_grant"}).to_string();
        return answer(StatusCode::BAD_REQUEST, "application/json", body);
    }
    books.granted += 1;
    let mut body = json!({"access_token": access_token(books.granted), "token_type": "Bearer",
        "expires_in": expires_in});
    if rotates {
        body["refresh_token"] = json!(refresh_token(books.granted));
    }
    answer(StatusCode::OK, "application/json", body.to_string())
}

async fn elsewhere(State(shop): State<Shop>) -> Response<Body> {
    shop.0.lock().expect("whole").strayed += 1;
    answer(StatusCode::OK, "text/plain", String::new())
}

/// Opens to the access token in force only.
async fn mcp(State(shop): State<Shop>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let mut books = shop.0.lock().expect("whole");
    let message = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or("DELETE").to_owned();
    books.asked.push(method.clone());
    let sent = headers.get("authorization").and_then(|v| v.to_str().ok());
    let good = format!("Bearer {}", access_token(books.granted));
    if sent != Some(good.as_str()) {
        let sent = sent.unwrap_or_default();
        let said = format!("{{\"error\":\"you sent {sent}\"}}");
        return answer(StatusCode::UNAUTHORIZED, "application/json", said);
    }
    if !books.mcp.is_success() {
        let said = format!("{} {}", sent.unwrap_or_default(), "x".repeat(10_000));
        return answer(books.mcp, "text/plain", said);
    }
    if method == "initialize" {
        let mut hello = answer(StatusCode::OK, "application/json", "{}".to_owned());
        let session = "one".parse().expect("a header");
        hello.headers_mut().insert("mcp-session-id", session);
        return hello;
    }
    let session = headers.get("mcp-session-id");
    let known = session.is_some_and(|session| session == "one");
    let status = if known {
        StatusCode::OK
    } else {
        StatusCode::BAD_REQUEST
    };
    answer(status, "application/json", "{}".to_owned())
}

thread_local! {
    /// Seconds by which the tests' clock is ahead. Each test has a thread of its own.
    static AHEAD: Cell<i64> = const { Cell::new(0) };
}

pub(crate) fn now() -> Micros {
    Micros(store::clock::now().0 + AHEAD.get() * 1_000_000)
}

pub(crate) fn pass(seconds: i64) {
    AHEAD.set(AHEAD.get() + seconds);
}

pub(crate) fn within(seconds: i64) -> Option<Micros> {
    Some(Micros(now().0 + seconds * 1_000_000))
}

/// A store, a vault and a refresher; credentials are made for an authority.
pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) refresher: Refresher,
    dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options {
            synchronous: Synchronous::Off,
            ..Options::default()
        };
        let store = Store::open(&dir.path().join("t.db"), options).expect("a store");
        let made = store.create_vault(WS, VAULT, "v".to_owned(), [].into(), Micros(1));
        made.await.expect("a vault");
        let vault = Arc::new(Vault::with(&MasterKey::from_bytes([1; 32])));
        let refresher = Self::another(&store, &vault, "127.0.0.0/8");
        Self {
            store,
            vault,
            refresher,
            dir,
        }
    }

    /// What another server over the same store has.
    pub(crate) fn another(store: &Store, vault: &Arc<Vault>, lifted: &str) -> Refresher {
        let lifted = (!lifted.is_empty()).then(|| lifted.parse().expect("a net"));
        let settings = Settings {
            policy: dial::Policy {
                allow_private: lifted.into_iter().collect(),
            },
            clock: now,
            token_timeout: Duration::from_secs(2),
            ..Settings::default()
        };
        Refresher::new(store.clone(), vault.clone(), settings).expect("a refresher")
    }

    /// A connection to its database beside the store's.
    pub(crate) fn beside(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.dir.path().join("t.db")).expect("the database")
    }

    /// The credential of an authority in its first state: `expires_at` as said.
    pub(crate) async fn credential(
        &self,
        authority: &Authority,
        expires_at: Option<Micros>,
        auth: TokenAuth,
    ) -> Named {
        let refresh = Refresh {
            client_id: "me & you".to_owned(),
            token_endpoint: format!("{}/token", authority.url),
            token_endpoint_auth: auth,
            resource: None,
            scope: None,
        };
        self.made(authority, expires_at, Some(refresh)).await
    }

    pub(crate) async fn made(
        &self,
        authority: &Authority,
        expires_at: Option<Micros>,
        refresh: Option<Refresh>,
    ) -> Named {
        let id = CredentialId::from_bits(store::clock::entropy());
        let secret = CredentialSecret {
            token: Secret::new(access_token(0)),
            refresh_token: refresh.is_some().then(|| Secret::new(refresh_token(0))),
            client_secret: Some(Secret::new("client/secret".to_owned())),
        };
        let auth = Auth::McpOauth(McpOauth {
            mcp_server_url: format!("{}/mcp", authority.url),
            expires_at,
            refresh,
        });
        let auth = serde_json::to_string(&auth).expect("JSON");
        let new = NewCredential {
            id,
            kind: CredentialKind::McpOauth,
            slot: None,
            auth: RawValue::from_string(auth).expect("JSON"),
            display_name: None,
            metadata: [].into(),
            sealed: self.vault.seal_credential(WS, id, &secret),
        };
        let made = self.store.create_credential(WS, VAULT, new, now()).await;
        made.expect("made");
        Named {
            workspace: WS,
            vault: VAULT,
            credential: id,
        }
    }

    pub(crate) async fn row(&self, it: Named) -> CredentialRow {
        let row = self.store.credential(WS, VAULT, it.credential).await;
        row.expect("there")
    }

    pub(crate) async fn stored(&self, it: Named) -> CredentialSecret {
        let sealed = self.row(it).await.sealed.expect("sealed");
        let opened = self.vault.open_credential(WS, it.credential, &sealed);
        opened.expect("opened")
    }
}

/// The owner gives other tokens, and leaves `auth` as it was.
pub(crate) async fn replace(bench: &Bench, it: Named, base: u32, refresh_token: &str) {
    let secret = CredentialSecret {
        token: Secret::new("another-access-token".to_owned()),
        refresh_token: Some(Secret::new(refresh_token.to_owned())),
        client_secret: None,
    };
    let row = bench.row(it).await;
    let change = CredentialChange {
        base,
        auth: row.auth,
        display_name: None,
        metadata: [].into(),
        sealed: Some(bench.vault.seal_credential(WS, it.credential, &secret)),
    };
    let changed = bench
        .store
        .update_credential(WS, VAULT, it.credential, change, now());
    changed.await.expect("changed");
}

/// The owner gives it another name, and leaves its tokens as they were.
pub(crate) async fn rename(bench: &Bench, it: Named) {
    let row = bench.row(it).await;
    let change = CredentialChange {
        base: row.revision,
        auth: row.auth,
        display_name: Some("renamed".to_owned()),
        metadata: [].into(),
        sealed: None,
    };
    let changed = bench
        .store
        .update_credential(WS, VAULT, it.credential, change, now());
    changed.await.expect("changed");
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !done().await {
        assert!(std::time::Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Has that refresher look for what is due until `done`.
pub async fn looks(refresher: &Refresher, done: impl AsyncFnMut() -> bool) {
    let (stop, refresher, mut running) =
        (CancellationToken::new(), refresher.clone(), JoinSet::new());
    let stopped = stop.clone();
    running.spawn(async move { refresher.run(stopped).await });
    until("the look for what is due", done).await;
    stop.cancel();
    running.join_all().await;
}

/// Asks for a token in a task of its own.
pub fn asking(bench: &Bench, it: Named) -> JoinSet<Result<Secret, TokenError>> {
    let (mut caller, refresher) = (JoinSet::new(), bench.refresher.clone());
    caller.spawn(async move { refresher.token(it).await });
    caller
}
