//! Builders of endpoints and requests, and a client with short limits.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    BaseUrl, Block, Client, ClientConfig, Delta, Dialect, Endpoint, Failure, KeySource, Message,
    Origin, Reply, Request, Secret, Thinking, ToolSpec, UserBlock,
};
use scripted::{Running, Scripted};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) const KEY: &str = "sk-test-0123456789";

pub(crate) fn endpoint(dialect: Dialect, base: &str) -> Endpoint {
    Endpoint {
        dialect,
        base_url: BaseUrl::parse(base).unwrap(),
        key: Secret::new(KEY.to_owned()),
        key_source: KeySource("vault vlt_test credential vcrd_test".to_owned()),
        headers: Vec::new(),
        model_map: BTreeMap::new(),
        origin: Origin::Operator,
    }
}

pub(crate) fn client() -> Client {
    client_with(|_| {})
}

pub(crate) fn client_with(change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig::default();
    change(&mut config);
    Client::new(config).unwrap()
}

pub(crate) async fn scripted() -> Running {
    Scripted::start_local().await.unwrap()
}

pub(crate) fn text(text: impl Into<String>) -> Message {
    Message::User(vec![UserBlock::Text { text: text.into() }])
}

pub(crate) fn script(steps: serde_json::Value) -> Message {
    text(format!("Please. SCRIPT: {steps}"))
}

pub(crate) fn tool(name: &str) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: format!("Runs {name}."),
        input_schema: json!({"type": "object", "properties": {"command": {"type": "string"}}}),
    }
}

pub(crate) fn request(messages: Vec<Message>) -> Request {
    Request {
        model: "claude-opus-5".to_owned(),
        system: "You are a careful engineer.".to_owned(),
        tools: vec![tool("read"), tool("bash")],
        messages,
        max_tokens: 1000,
        effort: None,
        thinking: Thinking::Unset,
    }
}

/// The answers to all calls of a reply.
pub(crate) fn results(reply: &Reply, said: &str) -> Message {
    let calls = reply.blocks.iter().filter_map(|b| match b {
        Block::ToolUse { id, .. } => Some(UserBlock::ToolResult {
            tool_use_id: id.clone(),
            content: vec![model::ResultBlock::Text {
                text: said.to_owned(),
            }],
            is_error: false,
        }),
        _ => None,
    });
    Message::User(calls.collect())
}

pub(crate) async fn ask(endpoint: &Endpoint, request: &Request) -> Result<Reply, Failure> {
    ask_with(&client(), endpoint, request).await.0
}

pub(crate) async fn ask_with(
    client: &Client,
    endpoint: &Endpoint,
    request: &Request,
) -> (Result<Reply, Failure>, Vec<Delta>) {
    let mut deltas = Vec::new();
    let outcome = client
        .stream(endpoint, request, &CancellationToken::new(), &mut |d| {
            deltas.push(d)
        })
        .await;
    (outcome, deltas)
}

pub(crate) fn said(reply: &Reply) -> String {
    let texts = reply.blocks.iter().filter_map(|b| match b {
        Block::Text { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Waits until `ready` says so; fails after ten seconds.
pub(crate) async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited too long for {what}"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
