//! Sandboxes that pretend: `echo TEXT` answers the text, `print N` answers N bytes, `wait` waits to be
//! released, `hang` to be cancelled; any file can be read. They run nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use sandbox::{
    Command, Content, Error, Process, Provider, Report, Sandbox, SandboxId, Spec, Tool, ToolCall,
    ToolOutput,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Makes sandboxes that pretend.
#[derive(Clone, Default)]
pub struct Pretend {
    hanging: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    gate: Arc<Notify>,
}

impl Pretend {
    /// Calls that hang now.
    pub fn hanging(&self) -> usize {
        self.hanging.load(Ordering::Acquire)
    }

    /// Lets one call that waits go on.
    pub fn release(&self) {
        self.gate.notify_one();
    }

    /// Calls so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }
}

#[async_trait]
impl Provider for Pretend {
    async fn attach(&self, _: Spec) -> Result<Arc<dyn Sandbox>, Error> {
        Ok(Arc::new(self.clone()))
    }

    async fn delete(&self, _: &SandboxId) -> Result<(), Error> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<SandboxId>, Error> {
        Ok(Vec::new())
    }

    async fn probe(&self) -> Report {
        Report {
            findings: Vec::new(),
        }
    }
}

#[async_trait]
impl Sandbox for Pretend {
    async fn tool(&self, call: ToolCall, cancel: CancellationToken) -> Result<ToolOutput, Error> {
        self.calls.fetch_add(1, Ordering::AcqRel);
        if call.name == Tool::Read {
            let content = vec![Content::Text {
                text: "a file".to_owned(),
            }];
            return Ok(ToolOutput {
                content,
                is_error: false,
            });
        }
        let command = call.input["command"].as_str().unwrap_or_default();
        let text = match command.split_once(' ') {
            Some(("echo", text)) => text.to_owned(),
            Some(("print", size)) => "x".repeat(size.parse().unwrap()),
            None if command == "wait" => {
                self.hanging.fetch_add(1, Ordering::AcqRel);
                self.gate.notified().await;
                self.hanging.fetch_sub(1, Ordering::AcqRel);
                "waited".to_owned()
            }
            _ => {
                self.hanging.fetch_add(1, Ordering::AcqRel);
                cancel.cancelled().await;
                self.hanging.fetch_sub(1, Ordering::AcqRel);
                return Err(Error::Cancelled);
            }
        };
        Ok(ToolOutput {
            content: vec![Content::Text { text }],
            is_error: false,
        })
    }

    async fn spawn(&self, _: Command) -> Result<Process, Error> {
        Err(Error::Gone)
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn stop(&self) -> Result<(), Error> {
        Ok(())
    }

    fn is_alive(&self) -> bool {
        true
    }
}
