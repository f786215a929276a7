//! The frames of a streamed `exec`, both ways over one request: a byte for what it is, four for how long (big
//! endian), and that many bytes. It opens no stream and gives no frame a meaning.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The content type of both bodies.
pub const MEDIA_TYPE: &str = "application/vnd.longhand.exec";
/// Bytes of one frame's payload.
pub const PAYLOAD: usize = 1 << 20;
const HEAD: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From the client, first and once: what to run, as the JSON of a plain `exec`, and `terminal`.
    Start,
    /// From the client: input.
    Stdin,
    /// From the client: no more input.
    StdinEnd,
    /// From the client: the terminal's new size, as JSON.
    Resize,
    /// From the client: a signal, as JSON.
    Signal,
    /// From the server, first and once: the id of the program, as JSON. It is asked about by that if the connection
    /// is lost.
    Started,
    /// From the server: output.
    Stdout,
    /// From the server: what it complains.
    Stderr,
    /// From the server, last: how it ended, as the JSON of a plain `exec` without its output.
    Exit,
    /// From the server, last: the envelope of an error.
    Error,
}

impl Kind {
    const ALL: [(Self, u8); 10] = [
        (Self::Start, b'c'),
        (Self::Stdin, b'i'),
        (Self::StdinEnd, b'z'),
        (Self::Resize, b'r'),
        (Self::Signal, b's'),
        (Self::Started, b'n'),
        (Self::Stdout, b'o'),
        (Self::Stderr, b'e'),
        (Self::Exit, b'x'),
        (Self::Error, b'!'),
    ];

    fn of(byte: u8) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, other)| *other == byte).map(|(kind, _)| kind)
    }

    fn byte(self) -> u8 {
        let mut all = Self::ALL.into_iter();
        all.find(|(kind, _)| *kind == self)
            .map_or(b'?', |(_, byte)| byte)
    }
}

/// One frame. A payload over [`PAYLOAD`] is cut: whoever has more makes several.
#[must_use]
pub fn frame(kind: Kind, payload: &[u8]) -> Bytes {
    let payload = payload.get(..PAYLOAD).unwrap_or(payload);
    let mut frame = BytesMut::with_capacity(HEAD + payload.len());
    frame.put_u8(kind.byte());
    frame.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    frame.put_slice(payload);
    frame.freeze()
}

/// What came is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came is no frame of {MEDIA_TYPE}")]
pub struct Broken;

/// Bytes that come, until they are frames. It holds one frame and the piece that came last.
#[derive(Debug, Default)]
pub struct Frames(BytesMut);

impl Frames {
    /// More bytes.
    pub fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// [`Broken`]: nothing that follows can be used.
    pub fn take(&mut self) -> Result<Option<(Kind, Bytes)>, Broken> {
        let Some(head) = self.0.get(..HEAD) else {
            return Ok(None);
        };
        let kind = head.first().and_then(|byte| Kind::of(*byte));
        let kind = kind.ok_or(Broken)?;
        let length = (&head[1..]).get_u32() as usize;
        if length > PAYLOAD {
            return Err(Broken);
        }
        if self.0.len() < HEAD + length {
            return Ok(None);
        }
        self.0.advance(HEAD);
        Ok(Some((kind, self.0.split_to(length).freeze())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let mut wire = Vec::new();
        for (kind, _) in Kind::ALL {
            wire.extend_from_slice(&frame(kind, format!("{kind:?}").as_bytes()));
        }
        wire.extend_from_slice(&frame(Kind::Stdout, &vec![7; PAYLOAD + 1]));
        for step in [1, 3, 4096, wire.len()] {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for piece in wire.chunks(step) {
                frames.push(piece);
                while let Some(frame) = frames.take().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got.len(), Kind::ALL.len() + 1);
            assert_eq!(got[3], (Kind::Resize, Bytes::from_static(b"Resize")));
            assert_eq!(got[Kind::ALL.len()].1.len(), PAYLOAD);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_collected() {
        let mut frames = Frames::default();
        frames.push(b"{\"com");
        assert_eq!(frames.take(), Err(Broken));
        let mut frames = Frames::default();
        frames.push(b"o\xff\xff\xff\xff");
        assert_eq!(frames.take(), Err(Broken));
    }
}
