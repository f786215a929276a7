//! Accounting of prompt prefixes: what of a request a cache could have read, byte for byte. It compares
//! the bytes as they were sent, so that a change of key order shows; only cache marks are taken out.

use std::collections::VecDeque;

use serde::Serialize;

use crate::limits::{BREAKS, PREFIX_BYTES, PREFIX_ENTRIES};

/// A request's prompt in the order in which a provider reads it: tools, system, messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompt {
    bytes: Vec<u8>,
    /// Ends of the marked blocks, ascending: a cache gives back up to one of these and nothing in between.
    marks: Vec<usize>,
    /// Whether the provider caches without marks, to the byte.
    unmarked: bool,
    /// End of what the previous request of this conversation must have sent.
    settled: usize,
    first_message: Vec<u8>,
}

impl Prompt {
    /// A prompt from the raw JSON of its parts. `settled_messages` is the number of messages before the
    /// last assistant message: the previous request sent exactly these.
    pub(crate) fn new(head: &[&str], messages: &[&str], settled_messages: usize) -> Prompt {
        let mut prompt = Prompt::default();
        for part in head {
            prompt.add(part);
        }
        for (index, message) in messages.iter().enumerate() {
            if index == settled_messages && index > 0 {
                prompt.settled = prompt.bytes.len();
            }
            let from = prompt.bytes.len();
            prompt.add(message);
            if index == 0 {
                prompt.first_message = prompt.bytes.get(from..).unwrap_or_default().to_vec();
            }
        }
        prompt
    }

    /// Counts the whole prompt as cached, as providers that cache without marks do.
    pub(crate) fn cached_without_marks(mut self) -> Prompt {
        self.unmarked = true;
        self
    }

    /// Bytes of it that a cache can give back to a prompt that repeats its first `common`.
    fn readable(&self, common: usize) -> usize {
        let marked = self.marks.iter().copied().filter(|m| *m <= common).max();
        if self.unmarked {
            common
        } else {
            marked.unwrap_or(0)
        }
    }

    /// A number that differs between prompts.
    pub(crate) fn hash(&self) -> u64 {
        fnv(&self.bytes)
    }

    fn add(&mut self, raw: &str) {
        let base = self.bytes.len();
        let (stripped, marks) = strip_marks(raw);
        self.marks
            .extend(marks.iter().map(|at| base + end_of_object(&stripped, *at)));
        self.bytes.extend_from_slice(&stripped);
        self.bytes.push(b'\n');
    }
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The raw JSON without its cache marks, and their places. An unescaped `"cache_control":`
/// can only be a key: inside a string its quotes would be escaped.
fn strip_marks(raw: &str) -> (Vec<u8>, Vec<usize>) {
    const KEY: &str = "\"cache_control\"";
    let (mut out, mut rest, mut marks) = (String::with_capacity(raw.len()), raw, Vec::new());
    while let Some(at) = rest.find(KEY) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(KEY.len()..).unwrap_or_default();
        let value = after.trim_start().strip_prefix(':').map(str::trim_start);
        let end = value
            .filter(|_| !before.ends_with('\\'))
            .and_then(|v| Some((v, v.find('}')? + 1)));
        let Some((value, end)) = end.filter(|(v, _)| v.starts_with('{')) else {
            out.push_str(KEY);
            rest = after;
            continue;
        };
        rest = value.get(end..).unwrap_or_default();
        match rest.trim_start().strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => {
                let kept = out.trim_end().trim_end_matches(',').len();
                out.truncate(kept);
            }
        }
        marks.push(out.len());
    }
    out.push_str(rest);
    (out.into_bytes(), marks)
}

/// The end of the object that is open at `at`.
fn end_of_object(json: &[u8], at: usize) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_i64, false, false);
    for (index, byte) in json.iter().enumerate().skip(at) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => {
                depth -= 1;
                if depth < 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    json.len()
}

/// Input tokens of one request, by kind. A token is four bytes, rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) total: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_creation: u64,
}

impl Tokens {
    /// Neither read nor written.
    pub(crate) fn plain(&self) -> u64 {
        self.total
            .saturating_sub(self.cache_read)
            .saturating_sub(self.cache_creation)
    }
}

/// The place where a request stopped repeating what its conversation had sent before.
#[derive(Clone, Debug, Serialize)]
pub struct Break {
    /// Number of the request, from 0.
    pub index: u64,
    /// Bytes into the prompt (tools, system, messages; cache marks taken out).
    pub at: usize,
    /// What stood around there before.
    pub before: String,
    /// What stands there now.
    pub after: String,
}

/// What all requests together cost.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Requests with a well-formed body.
    pub requests: u64,
    /// Their input tokens, cached or not.
    pub input_tokens: u64,
    /// Those of them that a cache could give back.
    pub cache_read_tokens: u64,
    /// Requests that did not repeat their conversation's prefix; the last hundred.
    pub prefix_breaks: Vec<Break>,
    /// Gates that somebody waits at now.
    pub waiting: Vec<String>,
}

/// What was sent before, by key.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: VecDeque<(String, Prompt)>,
    bytes: usize,
    pub(crate) stats: Stats,
}

impl Ledger {
    /// Counts a request and remembers it. `index` is its number in the log.
    pub(crate) fn enter(&mut self, key: &str, index: u64, prompt: Prompt) -> Tokens {
        let (mut read, mut known, mut best) = (0, 0, None);
        let (mut extends, mut same_conversation) = (Vec::new(), false);
        for (at, (_, earlier)) in self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, (k, _))| k == key)
        {
            let common = common_prefix(&earlier.bytes, &prompt.bytes);
            read = read.max(earlier.readable(common));
            if common >= known {
                (known, best) = (common, Some(at));
            }
            if common == earlier.bytes.len() {
                extends.push(at);
            }
            same_conversation |= earlier.first_message == prompt.first_message;
        }
        if same_conversation && known < prompt.settled {
            let earlier = best.and_then(|at| self.entries.get(at));
            let earlier = earlier.map(|(_, p)| p.bytes.as_slice()).unwrap_or_default();
            self.stats.prefix_breaks.push(Break {
                index,
                at: known,
                before: around(earlier, known),
                after: around(&prompt.bytes, known),
            });
            if self.stats.prefix_breaks.len() > BREAKS {
                self.stats.prefix_breaks.remove(0);
            }
        }
        let written = prompt.marks.last().map_or(0, |end| tokens_of(*end));
        let cache_read = tokens_of(read);
        let tokens = Tokens {
            total: tokens_of(prompt.bytes.len()),
            cache_read,
            cache_creation: written.saturating_sub(cache_read),
        };
        self.stats.requests += 1;
        self.stats.input_tokens += tokens.total;
        self.stats.cache_read_tokens += tokens.cache_read;
        self.remember(key, prompt, &extends);
        tokens
    }

    fn remember(&mut self, key: &str, mut prompt: Prompt, extends: &[usize]) {
        for at in extends.iter().rev() {
            if let Some((_, old)) = self.entries.remove(*at) {
                self.bytes -= old.bytes.len();
                prompt.marks.extend(old.marks);
            }
        }
        prompt.marks.sort_unstable();
        prompt.marks.dedup();
        self.bytes += prompt.bytes.len();
        self.entries.push_back((key.to_owned(), prompt));
        while self.entries.len() > PREFIX_ENTRIES || self.bytes > PREFIX_BYTES {
            let Some((_, old)) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= old.bytes.len();
        }
    }
}

/// Tokens of so many bytes.
pub(crate) fn tokens_of(bytes: usize) -> u64 {
    bytes.div_ceil(4) as u64
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    // By blocks first: prompts are long and mostly equal.
    const BLOCK: usize = 4096;
    let equal = a
        .chunks(BLOCK)
        .zip(b.chunks(BLOCK))
        .take_while(|(x, y)| x == y && x.len() == BLOCK)
        .count()
        * BLOCK;
    let rest = a
        .iter()
        .zip(b)
        .skip(equal)
        .take_while(|(x, y)| x == y)
        .count();
    equal + rest
}

fn around(bytes: &[u8], at: usize) -> String {
    let window = bytes.get(at.saturating_sub(40)..bytes.len().min(at + 80));
    String::from_utf8_lossy(window.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{end_of_object, strip_marks};

    #[test]
    fn marks_are_taken_out_wherever_they_stand() {
        let mark = r#""cache_control":{"type":"ephemeral"}"#;
        for (marked, plain) in [
            (format!(r#"{{{mark},"a":1}}"#), r#"{"a":1}"#),
            (format!(r#"{{"a":1,{mark}}}"#), r#"{"a":1}"#),
            (format!(r#"{{"a":1,{mark},"b":2}}"#), r#"{"a":1,"b":2}"#),
            (format!("{{{mark}}}"), "{}"),
        ] {
            let (stripped, marks) = strip_marks(&marked);
            assert_eq!(
                String::from_utf8(stripped.clone()).unwrap(),
                plain,
                "{marked}"
            );
            assert_eq!(end_of_object(&stripped, marks[0]), plain.len(), "{marked}");
        }
        let quoted = r#"{"text":"say \"cache_control\":{\"type\":1}, please"}"#;
        assert_eq!(
            strip_marks(quoted),
            (quoted.as_bytes().to_vec(), Vec::new())
        );
    }
}
