//! A client that says what a test wants said.

use scripted::{Running, Scripted};
use serde_json::{Value, json};

/// A server and a client for it.
pub(crate) struct Talk {
    pub(crate) server: Running,
    client: reqwest::Client,
}

impl Talk {
    pub(crate) async fn start() -> Talk {
        let client = dial::client(&dial::Mode::Exempt, &dial::Options::default()).unwrap();
        Talk {
            server: Scripted::start_local().await.unwrap(),
            client,
        }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client
            .post(format!("{}{path}", self.server.base_url()))
            .header("x-api-key", "key")
            .header("authorization", "Bearer key")
            .header("anthropic-version", "2023-06-01")
            .json(body)
    }

    /// Status and body of a Messages request that is not streamed.
    pub(crate) async fn messages(&self, messages: Value) -> (u16, Value) {
        self.send(json!({"model": "m", "max_tokens": 10, "messages": messages}))
            .await
    }

    pub(crate) async fn send(&self, body: Value) -> (u16, Value) {
        let response = self.post("/v1/messages", &body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self
            .client
            .get(format!("{}{path}", self.server.base_url()))
            .send()
            .await
            .unwrap();
        response.json().await.unwrap()
    }

    /// The text of the first block of an answer.
    pub(crate) async fn said(&self, messages: Value) -> String {
        let (status, body) = self.messages(messages).await;
        assert_eq!(status, 200, "{body}");
        body["content"][0]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(crate) fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}
