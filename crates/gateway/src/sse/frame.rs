//! Frames of an event stream (api.md §1.9). The JSON of an event is serialised once, by whoever stores
//! it; every stream shares those bytes and only adds the lines around them.

use std::sync::Arc;

use bytes::Bytes;
use contract::dialect::Generation;
use contract::ids::EventId;

/// The JSON of an event, shared by all streams.
struct Shared(Arc<str>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The pieces of one frame, to be written one after the other.
pub(crate) type Frame = [Bytes; 3];

const END: Bytes = Bytes::from_static(b"\n\n");

/// Sent while nothing else is.
pub(crate) const PING: Bytes = Bytes::from_static(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");

/// The last words of a stream that ends because the server does. A comment: an `error` would make the
/// SDKs raise, and nothing went wrong.
pub(crate) const GOODBYE: Bytes = Bytes::from_static(b": the server is shutting down\n\n");

/// A frame of a stored event by its [`name`]. `id` is where a client may resume; an event that only waits has
/// no place yet, so it gets none.
pub(crate) fn event(id: Option<EventId>, name: &str, json: Arc<str>) -> Frame {
    let head = match id {
        Some(id) => format!("id: {id}\nevent: {name}\ndata: "),
        None => format!("event: {name}\ndata: "),
    };
    [Bytes::from(head), Bytes::from_owner(Shared(json)), END]
}

/// A frame of something that is not stored: a preview or an error. `json` is one line.
pub(crate) fn transient(name: &str, json: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

/// The names that every SDK of the older generation delivers, from 0.96 on. It drops all others, but for
/// `message`.
const NAMES_OF_2023: [&str; 20] = [
    "user.message",
    "user.interrupt",
    "user.tool_confirmation",
    "user.custom_tool_result",
    "agent.message",
    "agent.thinking",
    "agent.tool_use",
    "agent.tool_result",
    "agent.mcp_tool_use",
    "agent.mcp_tool_result",
    "agent.custom_tool_use",
    "agent.thread_context_compacted",
    "session.status_running",
    "session.status_idle",
    "session.status_rescheduled",
    "session.status_terminated",
    "session.error",
    "session.deleted",
    "span.model_request_start",
    "span.model_request_end",
];

/// The name a frame goes by: the event's type, or `message` where an SDK of the client's generation may not
/// know it; the type inside decides everywhere. The newest types are `message` for everyone (design, SSE).
pub(crate) fn name(kind: &str, generation: Generation) -> &str {
    let newest = kind == "session.usage" || kind.starts_with("workflow_run.");
    let known = match generation {
        Generation::V2023 => NAMES_OF_2023.contains(&kind),
        Generation::V2026 => !newest,
    };
    if known { kind } else { "message" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(frame: Frame) -> String {
        String::from_utf8(frame.concat()).unwrap()
    }

    #[test]
    fn a_frame_has_id_name_and_one_line_of_data() {
        let id = EventId::from_bits(1);
        let frame = event(Some(id), "agent.message", Arc::from("{\"a\":1}"));
        assert_eq!(
            text(frame),
            format!("id: {id}\nevent: agent.message\ndata: {{\"a\":1}}\n\n")
        );
    }

    #[test]
    fn types_that_a_generation_does_not_know_are_named_message() {
        use Generation::{V2023, V2026};
        for kind in ["session.usage", "workflow_run.created"] {
            assert_eq!(
                [name(kind, V2023), name(kind, V2026)],
                ["message", "message"]
            );
        }
        for kind in [
            "session.thread_status_idle",
            "system.message",
            "event_delta",
        ] {
            assert_eq!([name(kind, V2023), name(kind, V2026)], ["message", kind]);
        }
        for kind in NAMES_OF_2023 {
            assert_eq!([name(kind, V2023), name(kind, V2026)], [kind, kind]);
        }
    }
}
