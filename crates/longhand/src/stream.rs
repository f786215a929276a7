//! A session's event stream as it arrives. It keeps one frame at most and knows nothing of what an event
//! means.

use anyhow::{Context, bail};
use serde_json::Value;

/// The longest frame that is taken: an event's text is at most this long by far.
const MAX_FRAME: usize = 64 << 20;

/// An open stream.
pub struct Stream {
    response: reqwest::Response,
    buffer: Vec<u8>,
    /// How much of the buffer has no end of a frame.
    searched: usize,
}

impl Stream {
    /// The stream in the body of `response`.
    #[must_use]
    pub const fn new(response: reqwest::Response) -> Self {
        Self {
            response,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next event, previews included, no pings; `None` when the server ended the stream. Cancel safe:
    /// what has arrived is kept.
    ///
    /// # Errors
    /// The connection broke, or what came is no event stream.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            while let Some(frame) = self.frame() {
                if let Some(event) = parse(&frame)? {
                    return Ok(Some(event));
                }
            }
            let chunk = self.response.chunk().await;
            let Some(chunk) = chunk.context("the stream broke")? else {
                return Ok(None);
            };
            if self.buffer.len() + chunk.len() > MAX_FRAME {
                bail!("the stream has a frame of more than {MAX_FRAME} bytes");
            }
            self.buffer.extend_from_slice(&chunk);
        }
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        let from = self.searched.saturating_sub(1);
        let unseen = self.buffer.get(from..).unwrap_or_default();
        let Some(end) = unseen.windows(2).position(|pair| pair == b"\n\n") else {
            self.searched = self.buffer.len();
            return None;
        };
        self.searched = 0;
        Some(self.buffer.drain(..from + end + 2).collect())
    }
}

fn parse(frame: &[u8]) -> anyhow::Result<Option<Value>> {
    let text = String::from_utf8_lossy(frame);
    let Some(data) = text.lines().find_map(|line| line.strip_prefix("data:")) else {
        return Ok(None);
    };
    let event = serde_json::from_str::<Value>(data.trim_start()).context("a frame is no JSON")?;
    Ok(Some(event).filter(|event| event["type"] != "ping"))
}
