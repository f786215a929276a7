//! Sandboxes that pretend: `echo TEXT` answers the text, `print N` answers N bytes, `hang` waits to be
//! cancelled. They run nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use sandbox::{
    Command, Content, Error, Process, Provider, Report, Sandbox, SandboxId, Spec, ToolCall,
    ToolOutput,
};
use tokio_util::sync::CancellationToken;

/// Makes sandboxes that pretend.
#[derive(Clone, Default)]
pub struct Pretend {
    hanging: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Pretend {
    /// Calls that hang now.
    pub fn hanging(&self) -> usize {
        self.hanging.load(Ordering::Acquire)
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
        let command = call.input["command"].as_str().unwrap_or_default();
        let text = match command.split_once(' ') {
            Some(("echo", text)) => text.to_owned(),
            Some(("print", size)) => "x".repeat(size.parse().unwrap()),
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
