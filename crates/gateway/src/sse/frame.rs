//! Frames of an event stream (api.md §1.9). The JSON of an event is serialised once, by whoever stores
//! it; every stream shares those bytes and only adds the lines around them.

use std::sync::Arc;

use bytes::Bytes;
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

/// A frame of a stored event. `id` is where a client may resume; an event that only waits has no place
/// yet, so it gets none.
pub(crate) fn event(id: Option<EventId>, kind: &str, json: Arc<str>) -> Frame {
    let name = name(kind);
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

/// The name a frame goes by. SDKs before 2.0 drop names that they do not know, but know `message`; the
/// type inside decides everywhere.
fn name(kind: &str) -> &str {
    match kind {
        "session.usage" => "message",
        kind if kind.starts_with("workflow_run.") => "message",
        kind => kind,
    }
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
    fn types_that_old_sdks_do_not_know_are_named_message() {
        for kind in ["session.usage", "workflow_run.created"] {
            assert!(text(event(None, kind, Arc::from("{}"))).starts_with("event: message\n"));
        }
    }
}
