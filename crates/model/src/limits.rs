//! Every limit of this crate, with its unit and its reason. It holds numbers and must never hold behaviour.

use std::time::Duration;

/// Bytes of one whole answer, events and all. A full 128k-token answer with thinking is under 2 MiB of
/// text; event framing multiplies it by about eight.
pub const REPLY_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of one answer to a program in a sandbox: such a program may read slowly, and what it has not read is kept.
pub const PASSED_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of the list of betas that is passed on.
pub const BETAS_BYTES: usize = 1024;
/// Bytes of one line of an event stream. A provider may send a whole signature or tool input in one line.
pub const SSE_LINE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one event, over all its lines.
pub const SSE_EVENT_BYTES: usize = 8 * 1024 * 1024;
/// Lines of one event; empty `data:` lines cost memory too.
pub const SSE_EVENT_LINES: usize = 4096;
/// Blocks in one answer.
pub const REPLY_BLOCKS: usize = 4096;
/// Bytes of an error body that are read at all.
pub const ERROR_BODY_BYTES: usize = 64 * 1024;
/// Bytes of a provider's words that may enter an error text.
pub const ERROR_TEXT_BYTES: usize = 2 * 1024;
/// Time to ask an endpoint for its models when it does not know the one that was asked for.
pub const MODELS_TIME: Duration = Duration::from_secs(5);
/// Bytes of such a list that are read; OpenRouter's, of several hundred models, is about 700 KiB.
pub const MODELS_BYTES: usize = 2 * 1024 * 1024;
/// Models that an error names.
pub const MODELS_SHOWN: usize = 20;
/// A `retry-after` beyond this is cut to it.
pub const RETRY_AFTER: Duration = Duration::from_secs(300);
/// Time for TCP and TLS together.
pub const CONNECT: Duration = Duration::from_secs(10);
/// Time from the sent request to the head of the answer.
pub const FIRST_BYTE: Duration = Duration::from_secs(300);
/// Silence between two reads of the answer. Providers send a ping every few seconds.
pub const IDLE: Duration = Duration::from_secs(300);
/// Whole request, head to last byte: a reply of 128,000 tokens at 40 a second takes 53 minutes. One that has
/// nothing to say for long is cut by [`IDLE`].
pub const TOTAL: Duration = Duration::from_secs(3_600);
/// Time that the end of the body may take after the last event: seeing it keeps the connection for the
/// next request, which saves a TLS handshake.
pub const END_GRACE: Duration = Duration::from_millis(20);
/// Unknown model ids that are remembered so that each is logged once.
pub const UNKNOWN_MODELS_REMEMBERED: usize = 1024;
/// Input window assumed for a model that no catalog knows, in tokens.
pub const UNKNOWN_MAX_INPUT_TOKENS: u32 = 200_000;
/// Output limit assumed for a model that no catalog knows, in tokens.
pub const UNKNOWN_MAX_TOKENS: u32 = 8_192;

const _: () = assert!(SSE_LINE_BYTES <= SSE_EVENT_BYTES && SSE_EVENT_BYTES < REPLY_BYTES);
const _: () = assert!(ERROR_TEXT_BYTES < ERROR_BODY_BYTES);
const _: () = assert!(IDLE.as_secs() <= TOTAL.as_secs() && FIRST_BYTE.as_secs() <= TOTAL.as_secs());
