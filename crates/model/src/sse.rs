//! A push parser of event streams: bytes in, events out, bounded. It knows the framing and must never
//! look into the data.

use crate::limits::{SSE_EVENT_BYTES, SSE_EVENT_LINES, SSE_LINE_BYTES};

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The `event:` field; empty when there was none.
    pub(crate) name: String,
    /// The `data:` lines, joined by line feeds.
    pub(crate) data: String,
}

/// The stream broke a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow {
    /// What was counted.
    pub(crate) what: &'static str,
    /// The bound.
    pub(crate) limit: usize,
}

/// The parser. After an [`Overflow`] it must not be used again.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_cr: bool,
    past_first_line: bool,
    name: String,
    data: String,
    data_lines: usize,
    lines: usize,
}

impl Parser {
    /// Takes the next bytes, cut anywhere, and appends the events they complete to `out`.
    pub(crate) fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Event>) -> Result<(), Overflow> {
        while let Some(&first) = bytes.first() {
            if self.after_cr {
                self.after_cr = false;
                if first == b'\n' {
                    bytes = bytes.get(1..).unwrap_or_default();
                    continue;
                }
            }
            let end = bytes.iter().position(|b| matches!(b, b'\r' | b'\n'));
            let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + text.len() > SSE_LINE_BYTES {
                return Err(Overflow {
                    what: "bytes in a line",
                    limit: SSE_LINE_BYTES,
                });
            }
            self.line.extend_from_slice(text);
            bytes = rest;
            if let Some((terminator, rest)) = rest.split_first() {
                self.after_cr = *terminator == b'\r';
                bytes = rest;
                self.end_line(out)?;
            }
        }
        Ok(())
    }

    /// The stream ended: gives out what an unterminated last line or event holds. Some servers leave the
    /// last blank line away; a cut stream looks the same, so what this gives may be half an event.
    pub(crate) fn finish(&mut self, out: &mut Vec<Event>) -> Result<(), Overflow> {
        if !self.line.is_empty() {
            self.end_line(out)?;
        }
        self.end_event(out);
        Ok(())
    }

    fn end_line(&mut self, out: &mut Vec<Event>) -> Result<(), Overflow> {
        let bytes = std::mem::take(&mut self.line);
        let mut line: &[u8] = &bytes;
        if !std::mem::replace(&mut self.past_first_line, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            self.end_event(out);
        } else {
            self.field(line)?;
        }
        // The buffer is kept for the next line unless a giant made it large.
        self.line = bytes;
        self.line.clear();
        self.line.shrink_to(64 * 1024);
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Overflow> {
        self.lines += 1;
        if self.lines > SSE_EVENT_LINES {
            return Err(Overflow {
                what: "lines in an event",
                limit: SSE_EVENT_LINES,
            });
        }
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (field, rest) = line.split_at(colon);
        let value = rest.get(1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.data.len() + value.len() + 1 > SSE_EVENT_BYTES {
                    return Err(Overflow {
                        what: "bytes in an event",
                        limit: SSE_EVENT_BYTES,
                    });
                }
                if self.data_lines > 0 {
                    self.data.push('\n');
                }
                self.data_lines += 1;
                self.data.push_str(&String::from_utf8_lossy(value));
            }
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            // comments (an empty field name), id, retry, and whatever else
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self, out: &mut Vec<Event>) {
        let (name, data) = (
            std::mem::take(&mut self.name),
            std::mem::take(&mut self.data),
        );
        self.lines = 0;
        if std::mem::take(&mut self.data_lines) > 0 {
            out.push(Event { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Event, Parser};
    use crate::limits::{SSE_EVENT_LINES, SSE_LINE_BYTES};

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let (mut parser, mut out) = (Parser::default(), Vec::new());
        for piece in pieces {
            parser.push(piece, &mut out).unwrap();
        }
        parser.finish(&mut out).unwrap();
        out
    }

    fn check(stream: &str, expected: &[(&str, &str)]) {
        let events = parse(&[stream.as_bytes()]);
        let events: Vec<(&str, &str)> = events
            .iter()
            .map(|e| (e.name.as_str(), e.data.as_str()))
            .collect();
        assert_eq!(events, expected, "{stream:?}");
    }

    #[test]
    fn framing_follows_the_standard() {
        check("data: a\n\n", &[("", "a")]);
        check(
            "event: x\r\ndata:a\r\rdata: b\n\n",
            &[("x", "a"), ("", "b")],
        );
        check("\u{feff}data: a\n\n", &[("", "a")]);
        check("data: \u{feff}a\n\n", &[("", "\u{feff}a")]);
        check(": note\n\nid: 3\nretry: 1\n\n", &[]);
        check("data: a\ndata:  b\ndata\n\n", &[("", "a\n b\n")]);
        check("event: gone\n\ndata: a\n\n", &[("", "a")]);
    }

    #[test]
    fn the_end_of_the_stream_ends_the_event() {
        check("data: a", &[("", "a")]);
        check("data: a\n", &[("", "a")]);
    }

    #[test]
    fn bounds_hold() {
        let mut out = Vec::new();
        let line = vec![b'x'; SSE_LINE_BYTES + 1];
        assert!(Parser::default().push(&line, &mut out).is_err());
        let lines = "data:\n".repeat(SSE_EVENT_LINES + 1);
        assert!(Parser::default().push(lines.as_bytes(), &mut out).is_err());
        let ended = "data:\n\n".repeat(SSE_EVENT_LINES + 1);
        assert!(Parser::default().push(ended.as_bytes(), &mut out).is_ok());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "data: a", "data:", "event: e", ":c", "\n", "\r", "\r\n", "\n\n", "é\u{1F600}", "\u{feff}", " ", "x:",
                ]),
                0..40,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = parts.concat().into_bytes();
            let mut places: Vec<usize> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
            places.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for place in places {
                pieces.push(&stream[from..place]);
                from = place;
            }
            pieces.push(&stream[from..]);
            prop_assert_eq!(parse(&pieces), parse(&[&stream]));
        }
    }
}
