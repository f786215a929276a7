//! The API as a client without retries sees it: each request is sent once, on a connection of its own.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

use crate::http::{Answer, Conn, request};
use crate::stream::EventStream;
use crate::wait;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// No whole answer came: whether it was done is unknown.
    #[error("the answer was lost")]
    Lost(#[from] io::Error),
    /// The server refused.
    #[error("{status}: {body}")]
    Refused {
        /// The status.
        status: u16,
        /// The error envelope.
        body: Value,
    },
}

/// A client.
#[derive(Debug, Clone)]
pub struct Api {
    address: SocketAddr,
    headers: String,
}

impl Api {
    /// A client of the server at `address`.
    #[must_use]
    pub fn new(address: SocketAddr, key: &str) -> Self {
        let headers = format!(
            "authorization: Bearer {key}\r\nanthropic-version: 2026-10-21\r\n\
             anthropic-beta: managed-agents-2026-04-01\r\naccept: application/json\r\n"
        );
        Self { address, headers }
    }

    /// The bytes of a request of this client.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
        let body = body.map(|body| body.to_string().into_bytes());
        request(method, path, &self.headers, body.as_deref())
    }

    /// A connection to the server.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(&self) -> io::Result<Conn<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Conn::new(stream))
    }

    /// One request, once.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failed> {
        let mut conn = self.connect().await?;
        judge(&conn.exchange(&self.request(method, path, body)).await?)
    }

    /// `POST`.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failed> {
        self.call("POST", path, Some(body)).await
    }

    /// `GET`.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn get(&self, path: &str) -> Result<Value, Failed> {
        self.call("GET", path, None).await
    }

    /// An agent with the whole toolset and a cloud environment: what a session needs.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn ground(&self) -> Result<Ground, Failed> {
        let agent = json!({"name": "Tester", "model": "claude-sonnet-5-5", "tools": [{"type": "agent_toolset_20260401"}]});
        let environment = json!({"name": "tests", "config": {"type": "cloud"}});
        Ok(Ground {
            agent: id(&self.post("/v1/agents", &agent).await?),
            environment: id(&self.post("/v1/environments", &environment).await?),
        })
    }

    /// A new session; its id.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn session(&self, ground: &Ground) -> Result<String, Failed> {
        Ok(id(&self.post("/v1/sessions", &ground.session()).await?))
    }

    /// A vault whose model at `base_url` is asked by that harness, with `key`; its id.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn llm_vault(
        &self,
        harness: &str,
        base_url: &str,
        key: &str,
    ) -> Result<String, Failed> {
        let vault = json!({"display_name": "model", "metadata": {
            "longhand.role": "llm", "longhand.harness": harness, "longhand.llm_base_url": base_url}});
        let vault = id(&self.post("/v1/vaults", &vault).await?);
        let key = json!({"auth": {"type": "static_bearer", "token": key}});
        let path = format!("/v1/vaults/{vault}/credentials");
        self.post(&path, &key).await?;
        Ok(vault)
    }

    /// Sends events; their ids.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn send(&self, session: &str, events: &[Value]) -> Result<Vec<String>, Failed> {
        self.send_on(&mut self.connect().await?, session, events)
            .await
    }

    /// Sends events on a connection that is open.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn send_on(
        &self,
        conn: &mut Conn<TcpStream>,
        session: &str,
        events: &[Value],
    ) -> Result<Vec<String>, Failed> {
        let path = format!("/v1/sessions/{session}/events");
        let request = self.request("POST", &path, Some(&json!({"events": events})));
        let answer = judge(&conn.exchange(&request).await?)?;
        let data = answer["data"].as_array().into_iter().flatten();
        Ok(data.map(id).collect())
    }

    /// The whole log, page by page.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn events(&self, session: &str) -> Result<Vec<Value>, Failed> {
        let mut events = Vec::new();
        let mut path = format!("/v1/sessions/{session}/events?limit=1000");
        loop {
            let page = self.get(&path).await?;
            events.extend(page["data"].as_array().into_iter().flatten().cloned());
            match page["next_page"].as_str() {
                Some(next) => {
                    path = format!("/v1/sessions/{session}/events?limit=1000&page={next}")
                }
                None => return Ok(events),
            }
        }
    }

    /// The session's stream from now on; `deltas` asks for previews of `agent.message`.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn stream(&self, session: &str, deltas: bool) -> Result<EventStream, Failed> {
        let query = if deltas {
            "?event_deltas%5B%5D=agent.message"
        } else {
            ""
        };
        let mut conn = self.connect().await?;
        let path = format!("/v1/sessions/{session}/events/stream{query}");
        conn.send(&self.request("GET", &path, None)).await?;
        let mut head = conn.head().await?;
        if head.status == 200 {
            return Ok(EventStream::new(conn, head));
        }
        let mut body = Vec::new();
        while let Some(piece) = conn.piece(&mut head).await? {
            body.extend_from_slice(&piece);
        }
        Err(refused(head.status, &body))
    }

    /// Waits until the session is idle and nothing waits in it; the log then.
    ///
    /// # Panics
    /// That did not happen in time.
    pub async fn idle(&self, session: &str) -> Vec<Value> {
        wait::until(&format!("session {session} to be idle"), || async {
            let status = self.get(&format!("/v1/sessions/{session}")).await.ok()?;
            if status["status"] != "idle" {
                return None;
            }
            let events = self.events(session).await.ok()?;
            let settled = events.iter().all(|event| !event["processed_at"].is_null());
            let rests = events
                .last()
                .is_none_or(|event| event["type"] == "session.status_idle");
            (settled && rests).then_some(events)
        })
        .await
    }
}

/// What sessions of a test stand on.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The agent's id.
    pub agent: String,
    /// The environment's id.
    pub environment: String,
}

impl Ground {
    /// The body that creates a session on it.
    #[must_use]
    pub fn session(&self) -> Value {
        json!({"agent": self.agent, "environment_id": self.environment})
    }
}

/// `GET` on the control socket of a running server, which takes its own user for an operator.
///
/// # Errors
/// [`Failed`].
pub async fn control(socket: &Path, path: &str) -> Result<Value, Failed> {
    let mut conn = Conn::new(UnixStream::connect(socket).await?);
    judge(&conn.exchange(&request("GET", path, "", None)).await?)
}

/// An object's id.
#[must_use]
pub fn id(object: &Value) -> String {
    object["id"].as_str().unwrap_or_default().to_owned()
}

/// The texts of an event's content, joined by line ends.
#[must_use]
pub fn texts(event: &Value) -> String {
    let blocks = event["content"].as_array().into_iter().flatten();
    blocks
        .filter_map(|block| block["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

fn judge(answer: &Answer) -> Result<Value, Failed> {
    if (200..300).contains(&answer.status) {
        let body = serde_json::from_slice(&answer.body).map_err(io::Error::from)?;
        return Ok(body);
    }
    Err(refused(answer.status, &answer.body))
}

fn refused(status: u16, body: &[u8]) -> Failed {
    let text = || Value::String(String::from_utf8_lossy(body).into_owned());
    Failed::Refused {
        status,
        body: serde_json::from_slice(body).unwrap_or_else(|_| text()),
    }
}
