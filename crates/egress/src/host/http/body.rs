//! The body of a request, passed on exactly as far as it goes. It must never pass on a byte that is not of it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use crate::http1::Body;
use crate::limits;

/// Bytes of a line with a chunk's length: 16 digits of hex, and what nobody needs behind them.
const SIZE_LINE: usize = 256;

/// Passes on a body that begins with `rest`.
///
/// # Errors
/// `InvalidData` for chunks that are malformed; `UnexpectedEof`.
pub(super) async fn pass(
    framing: Body,
    rest: &[u8],
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> io::Result<()> {
    let mut from = BufReader::with_capacity(limits::COPY, rest.chain(from));
    let mut to = Counted { to, count };
    match framing {
        Body::None => Ok(()),
        Body::Length(length) => to.copy(&mut from, length).await,
        Body::Chunked => chunks(&mut from, &mut to).await,
    }
}

struct Counted<'a, W> {
    to: W,
    count: &'a AtomicU64,
}

impl<W: AsyncWrite + Unpin> Counted<'_, W> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes).await?;
        self.count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn copy(
        &mut self,
        from: &mut BufReader<impl AsyncRead + Unpin>,
        mut left: u64,
    ) -> io::Result<()> {
        while left > 0 {
            let some = from.fill_buf().await?;
            let length = some.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.write(some.get(..length).unwrap_or_default()).await?;
            from.consume(length);
            left -= length as u64;
        }
        Ok(())
    }
}

/// Chunk by chunk, each written anew, so that what is passed on can be read in one way only. Extensions and
/// trailers are left out.
async fn chunks(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    to: &mut Counted<'_, impl AsyncWrite + Unpin>,
) -> io::Result<()> {
    loop {
        let line = line(from, SIZE_LINE).await?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let length = size(digits).ok_or(io::ErrorKind::InvalidData)?;
        if length == 0 {
            return trailers(from, to).await;
        }
        to.write(format!("{length:x}\r\n").as_bytes()).await?;
        to.copy(from, length).await?;
        let mut end = [0; 2];
        from.read_exact(&mut end).await?;
        if end != *b"\r\n" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        to.write(b"\r\n").await?;
    }
}

/// Up to the empty line, at most as many bytes as a head may have.
async fn trailers(
    from: &mut BufReader<impl AsyncRead + Unpin>,
    to: &mut Counted<'_, impl AsyncWrite + Unpin>,
) -> io::Result<()> {
    let mut left = limits::HEAD;
    loop {
        let line = line(from, left).await?;
        if line.is_empty() {
            return to.write(b"0\r\n\r\n").await;
        }
        left = left.saturating_sub(line.len() + 2);
    }
}

/// A line without its CR LF.
async fn line(from: &mut BufReader<impl AsyncRead + Unpin>, most: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    (&mut *from)
        .take(limit)
        .read_until(b'\n', &mut line)
        .await?;
    match line.strip_suffix(b"\r\n") {
        Some(content) if !content.iter().any(|byte| matches!(byte, b'\r' | 0)) => {
            Ok(content.to_vec())
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Hex digits and nothing else; 16 of them could be more than any server counts.
fn size(digits: &[u8]) -> Option<u64> {
    if !(1..=15).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(framing: Body, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let (mut out, count) = (Vec::new(), AtomicU64::new(0));
        // Half of it was read with the head.
        let (rest, from) = bytes.split_at(bytes.len() / 2);
        pass(framing, rest, from, &mut out, &count).await?;
        assert_eq!(count.into_inner(), out.len() as u64);
        Ok(out)
    }

    #[tokio::test]
    async fn nothing_behind_a_body_is_passed_on() {
        let length = passed(Body::Length(3), b"abcGET / HTTP/1.1\r\n").await;
        assert_eq!(length.unwrap(), b"abc");
        let none = passed(Body::None, b"GET / HTTP/1.1\r\n").await;
        assert_eq!(none.unwrap(), b"");
        let chunked = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n";
        let chunked = passed(Body::Chunked, chunked).await;
        assert_eq!(
            chunked.unwrap(),
            b"3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn chunks_that_two_readers_could_read_in_two_ways_are_refused() {
        for bytes in [
            &b"3\nabc\r\n0\r\n\r\n"[..],
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"\r\n",
            b"ffffffffffffffff\r\nabc",
            b"3\r\nab",
            b"3\r\r\nabc\r\n0\r\n\r\n",
        ] {
            assert!(passed(Body::Chunked, bytes).await.is_err(), "{bytes:?}");
        }
    }
}
