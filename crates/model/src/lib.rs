//! Model providers: one request type, one streamed reply, several dialects. It knows nothing of sessions,
//! tools that run, or storage, and must never retry on its own or print a key.

#![forbid(unsafe_code)]

mod client;
mod endpoint;
mod error;
pub mod limits;
mod request;
mod transcript;

pub use client::{Client, ClientConfig, Sink};
pub use endpoint::{BaseUrl, BaseUrlError, Dialect, Endpoint, KeySource, Origin, Secret};
pub use error::{Class, Error, Failure, Phase};
pub use request::{Delta, Effort, Request, Thinking, ToolSpec};
pub use transcript::{Block, Message, Reply, ResultBlock, Source, Stop, Usage, UserBlock};
