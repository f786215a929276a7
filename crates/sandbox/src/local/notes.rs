//! What is said to all callers of one sandbox under their next results, to each once. It decides nothing about what is said.

use std::collections::HashMap;

use hand::wire::Output;

/// What was said to all callers, and how much of it each has heard.
#[derive(Default)]
pub(super) struct Notes {
    said: Vec<String>,
    heard: HashMap<Option<String>, usize>,
}

impl Notes {
    /// For the next result of each.
    pub(super) fn push(&mut self, note: String) {
        self.said.push(note);
    }

    /// The output, and under it what this caller has not heard.
    pub(super) fn told(&mut self, caller: &Option<String>, mut output: Output) -> Output {
        let heard = self.heard.get(caller).copied().unwrap_or(0);
        for note in self.said.iter().skip(heard) {
            output.add(note);
        }
        // Nothing is said in most sandboxes: then nobody is remembered.
        if heard < self.said.len() {
            self.heard.insert(caller.clone(), self.said.len());
        }
        output
    }
}
