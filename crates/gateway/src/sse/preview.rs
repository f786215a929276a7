//! Which previews one connection gets (behaviours §7.3): only of the types it asked for, and only of
//! messages whose start it saw. A delta without its start makes the SDKs raise.

use std::collections::HashSet;

use contract::ids::EventId;

/// The two types that can be previewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Previewed {
    /// `agent.message`: a start and deltas.
    Message,
    /// `agent.thinking`: a start only.
    Thinking,
}

impl Previewed {
    /// Reads a value of `event_deltas[]`.
    pub(crate) fn named(kind: &str) -> Option<Self> {
        match kind {
            "agent.message" => Some(Self::Message),
            "agent.thinking" => Some(Self::Thinking),
            _ => None,
        }
    }
}

/// The previews of one connection.
#[derive(Debug, Default)]
pub(crate) struct Previews {
    wanted: HashSet<Previewed>,
    /// Started here and not concluded yet.
    open: HashSet<EventId>,
}

impl Previews {
    pub(crate) fn new(wanted: impl IntoIterator<Item = Previewed>) -> Self {
        Self {
            wanted: wanted.into_iter().collect(),
            open: HashSet::new(),
        }
    }

    /// Whether to send the start of a preview.
    pub(crate) fn start(&mut self, kind: Previewed, id: EventId) -> bool {
        self.wanted.contains(&kind) && self.open.insert(id)
    }

    /// Whether to send a delta.
    pub(crate) fn delta(&self, id: EventId) -> bool {
        self.open.contains(&id)
    }

    /// A stored event was sent: it concludes the preview of the same id, and the end of a model request
    /// concludes whatever is left of it.
    pub(crate) fn stored(&mut self, kind: &str, id: EventId) {
        if kind == "span.model_request_end" {
            self.open.clear();
        } else {
            self.open.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_without_its_start_is_never_sent() {
        let (a, b) = (EventId::from_bits(1), EventId::from_bits(2));
        let mut previews = Previews::new([Previewed::Message]);
        assert!(!previews.delta(a), "joined in the middle of the message");
        assert!(previews.start(Previewed::Message, b));
        assert!(previews.delta(b));
        previews.stored("agent.message", b);
        assert!(
            !previews.delta(b),
            "the buffered event is the last thing of its id"
        );
    }

    #[test]
    fn only_what_was_asked_for_is_previewed() {
        let id = EventId::from_bits(1);
        assert!(!Previews::new([]).start(Previewed::Message, id));
        assert!(!Previews::new([Previewed::Message]).start(Previewed::Thinking, id));
    }

    #[test]
    fn the_end_of_the_model_request_closes_a_preview_that_was_cut() {
        let id = EventId::from_bits(1);
        let mut previews = Previews::new([Previewed::Message]);
        assert!(previews.start(Previewed::Message, id));
        previews.stored("span.model_request_end", EventId::from_bits(9));
        assert!(!previews.delta(id));
    }
}
