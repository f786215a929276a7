//! Fixtures: a provider in a directory of its own, and short words for tool calls.

use std::sync::Arc;

use sandbox::{
    Config, Content, Local, Provider, Sandbox, SandboxId, Spec, Tool, ToolCall, ToolOutput,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// A provider whose directory goes with it.
pub struct Host {
    pub local: Local,
    pub dir: TempDir,
}

pub fn host() -> Host {
    let dir = tempfile::tempdir().unwrap();
    let sandboxes = dir.path().join("sandboxes");
    let config = Config::beside(&sandboxes);
    Host {
        local: Local::new(sandboxes, config).unwrap(),
        dir,
    }
}

impl Host {
    /// Attaches, or fails with the provider's own words.
    pub async fn attach(&self, name: &str) -> Arc<dyn Sandbox> {
        let spec = Spec::new(SandboxId::new(name).unwrap());
        match self.local.attach(spec).await {
            Ok(sandbox) => sandbox,
            Err(error) => panic!("no sandbox on this host: {error}: {error:?}"),
        }
    }
}

pub async fn call(sandbox: &Arc<dyn Sandbox>, name: Tool, input: Value) -> ToolOutput {
    let call = ToolCall { name, input };
    sandbox.tool(call, CancellationToken::new()).await.unwrap()
}

pub async fn bash(sandbox: &Arc<dyn Sandbox>, command: &str) -> ToolOutput {
    call(sandbox, Tool::Bash, json!({ "command": command })).await
}

/// The output of a command that must succeed.
pub async fn ok(sandbox: &Arc<dyn Sandbox>, command: &str) -> String {
    let output = bash(sandbox, command).await;
    assert!(!output.is_error, "{command}: {}", text(&output));
    text(&output)
}

pub fn text(output: &ToolOutput) -> String {
    match output.content.as_slice() {
        [Content::Text { text }] => text.clone(),
        other => panic!("not one text: {other:?}"),
    }
}
