//! Model providers: one request type, one streamed reply, several dialects. It knows nothing of sessions,
//! tools that run, or storage, and must never retry on its own or print a key.

#![forbid(unsafe_code)]

mod anthropic_request;
mod anthropic_stream;
mod catalog;
mod client;
mod endpoint;
mod error;
mod headers;
mod judge;
pub mod limits;
mod models;
mod openai_chat_request;
mod openai_chat_stream;
mod openai_content;
mod openai_responses_request;
mod openai_responses_stream;
mod passed;
mod prices;
#[cfg(test)]
mod reader_tests;
mod relay;
mod request;
mod sse;
mod stream;
mod transcript;

pub use catalog::{Catalog, CatalogError, Lifecycle, MaxTokensField, Model, ModelLimits, Quirks};
pub use client::{Client, ClientConfig, Sink};
pub use endpoint::{BaseUrl, BaseUrlError, Dialect, Endpoint, KeySource, Origin, Secret};
pub use error::{Class, Error, Failure, Phase};
pub use passed::{Passing, Piece, Unpassable};
pub use prices::{LongPrompt, Prices};
pub use relay::{Relayed, Words, anthropic_messages};
pub use request::{Delta, Effort, Request, Thinking, ToolSpec};
pub use transcript::{Block, Message, Reply, ResultBlock, Source, Stop, Usage, UserBlock};
