//! A scripted language model that speaks the real dialects over real HTTP. Only `longhand demo` and tests
//! start it; nothing in the shipped path knows it, and it must never depend on another crate of ours.
//!
//! # Scripting
//! The latest user text that holds `SCRIPT: [ … ]` (a JSON array of steps) is the script. Each request is
//! answered by the step whose number is the count of assistant messages since that text, so a restart or a
//! retry goes on where the transcript stands. A user message without a script is echoed; past the last
//! step the answer is `Done.`. Steps:
//!
//! | Step | Answer |
//! |---|---|
//! | `{"text": t}` | text; with `"chunks": n`, `"delay_ms": d` between them, `"thinking": t` before |
//! | `{"tool": name, "input": {…}}` | one call; with `"text"`, `"thinking"` before |
//! | `{"tools": [{"name", "input"}, …]}` | parallel calls |
//! | any call with `"arguments": "text"` | its arguments to the letter, JSON or not |
//! | `{"echo_results": true}` | text that quotes the tool results of the last user message |
//! | `{"stop": "max_tokens" \| "refusal" \| …}` | that stop reason, with `"text"` |
//! | `{"error": 429, "retry_after": s}` | an HTTP error in the dialect's envelope |
//! | `{"error_event": "overloaded_error"}` | an error inside the stream |
//! | `{"too_long": true}` | HTTP 400 in the dialect's words for a request that does not fit |
//! | `{"cut": true}` | half an answer, then the connection breaks |
//! | `{"garbage": true}` | a stream that is not of the dialect |
//! | `{"hang": true}` | nothing, until the client goes |
//! | `{"wait": name}` | waits for `POST /_scripted/release/{name}`, then the same step's answer, or the next step's when it has none |
//! | any text with `"wait_mid": name` | waits after the first piece |
//!
//! | `{"window": n}` | no answer: every request of more than n tokens is refused as `too_long` |
//! | any with `"on"`: `"summary"`, `"judge"` or `"grade"` | answers requests of that kind, see below |
//!
//! The six failing steps (`error` to `hang`) and `"stop": "pause_turn"` put no assistant message into the transcript, so they are
//! counted here: each happens once, `"times": n` times, or for ever with `"times": 0`, and then the script
//! goes on. The count is kept for the dialect, the key and the user's and model's words up to the script:
//! two sessions that say the very same share it, so give each its own words.
//!
//! Three kinds of request stand beside the conversation. One that ends in a text with `<summary>` and
//! `</summary>` wants a summary, one whose only message is a JSON object with `user_messages` and `call`
//! wants a judgement, one that begins with a JSON object with `outcome`, `rubric` and `transcript` wants a
//! verdict. They are answered by the steps with that `"on"`, each once (or `"times"`), then by a
//! summary that says `SCRIPT-STEP: n (past: …)` (so that the script goes on where it stood when it comes back
//! quoted beside that mark), by `unclear` and by the verdict `satisfied`. A conversation that comes as one text names its speakers in lines of
//! their own, `[assistant]` among them.
//!
//! # Control
//! `GET /_scripted/requests` (a bounded log), `GET /_scripted/stats` (tokens, prefix breaks, who waits),
//! `POST /_scripted/release/{name}`, `POST /_scripted/script` (steps that answer conversations which bring no
//! script, instead of an echo). A key that begins with `bad` is refused with 401.

#![forbid(unsafe_code)]

mod anthropic;
mod anthropic_check;
mod limits;
mod main_args;
mod openai_chat;
mod openai_chat_check;
mod openai_responses;
mod openai_responses_check;
mod prefix;
mod pump;
mod script;
mod server;
mod state;

pub use main_args::main_with_args;
pub use prefix::{Break, Stats};
pub use server::{Running, Scripted};
pub use state::Recorded;
