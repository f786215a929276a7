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
