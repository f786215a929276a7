//! A client's commands, one after the other (the Redis serialization protocol: an array of texts with their lengths, or
//! a line). It holds one login at a time and never a whole command of another kind, and reads lengths as strictly as
//! the server does, so that both agree on where a command begins.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::super::password::{Said, Stop, refused};
use crate::inject::RULE;
use crate::limits;

/// Bytes of a line: a command on one (`PROTO_INLINE_MAX_SIZE`), or a length.
const LINE: usize = 64 << 10;
/// Bytes of one text of a login. Passwords are shorter than what a server takes before one (`PROTO_REPLY_CHUNK_BYTES`).
const TEXT: u64 = 16 << 10;
/// Texts of a login, from `AUTH password` to `HELLO 3 AUTH user password SETNAME name`.
const LOGIN_TEXTS: RangeInclusive<u64> = 2..=7;
/// Bytes of a login's name.
const LOGIN_NAME: RangeInclusive<u64> = 4..=5;

/// Passes commands on until the client has no more.
pub(super) async fn pass_on(said: Said<'_, '_>) -> Result<(), Stop> {
    let mut commands = Commands {
        said,
        come: BytesMut::new(),
        out: Zeroizing::default(),
    };
    while let Some(line) = commands.line().await? {
        match number(b'*', &line) {
            Some(texts @ 1..) => commands.command(&line, texts.unsigned_abs()).await?,
            // No command at all, or one on a line, in which nobody shows a placeholder but by hand: it goes as it is.
            Some(_) => commands.out.extend_from_slice(&line),
            None if !line.starts_with(b"*") => commands.out.extend_from_slice(&line),
            None => return Err(commands.malformed("a command's length")),
        }
    }
    commands.send().await?;
    Ok(commands.said.server.shutdown().await?)
}

/// Commands that log in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Login {
    Auth,
    Hello,
}

impl Login {
    fn of(name: &[u8]) -> Option<Self> {
        match name.to_ascii_uppercase().as_slice() {
            b"AUTH" => Some(Self::Auth),
            b"HELLO" => Some(Self::Hello),
            _ => None,
        }
    }

    /// Which of the texts is the password, the command's name being the first.
    fn password(self, texts: &[Bytes]) -> Option<usize> {
        match self {
            Self::Auth => texts
                .len()
                .checked_sub(1)
                .filter(|place| (1..=2).contains(place)),
            // `HELLO version [AUTH user password] [SETNAME name]`, in either order.
            Self::Hello => {
                let named = texts.get(2)?.eq_ignore_ascii_case(b"SETNAME");
                let auth = if named { 4 } else { 2 };
                let is_there = texts.get(auth)?.eq_ignore_ascii_case(b"AUTH");
                is_there.then_some(auth + 2)
            }
        }
    }
}

struct Commands<'a, 'f> {
    said: Said<'a, 'f>,
    /// What has come and is not read.
    come: BytesMut,
    /// What is to go on: it goes when nothing more has come.
    out: Zeroizing<Vec<u8>>,
}

impl Commands<'_, '_> {
    /// One command of so many texts, whose first line is `head`.
    async fn command(&mut self, head: &[u8], texts: u64) -> Result<(), Stop> {
        let (line, length) = self.text_head().await?;
        if LOGIN_NAME.contains(&length) && LOGIN_TEXTS.contains(&texts) {
            let name = self.text(length).await?;
            if let Some(login) = Login::of(&name) {
                return self.log_in(head, name, login, texts).await;
            }
            for part in [head, &line, &name, b"\r\n"] {
                self.out.extend_from_slice(part);
            }
        } else {
            self.out.extend_from_slice(head);
            self.out.extend_from_slice(&line);
            self.let_through(length).await?;
        }
        for _ in 1..texts {
            let (line, length) = self.text_head().await?;
            self.out.extend_from_slice(&line);
            self.let_through(length).await?;
        }
        Ok(())
    }

    /// A login, with the secret where it shows a placeholder.
    async fn log_in(
        &mut self,
        head: &[u8],
        name: Bytes,
        login: Login,
        count: u64,
    ) -> Result<(), Stop> {
        let mut texts = vec![name];
        for _ in 1..count {
            let (_, length) = self.text_head().await?;
            if length > TEXT {
                return Err(self.malformed("a login's length"));
            }
            texts.push(self.text(length).await?);
        }
        let place = login.password(&texts);
        let shown = place.and_then(|place| texts.get(place));
        let shown = shown.and_then(|text| std::str::from_utf8(text).ok());
        // With what the credentials are now, however long the connection has been there.
        let secret = match shown {
            Some(shown) => self.said.logins.password(shown),
            None => Ok(None),
        };
        let secret = secret
            .map_err(|why| Stop::Refused(refused(self.said.flow, 403, RULE, &why.to_string())))?;
        self.out.extend_from_slice(head);
        for (at, text) in texts.iter().enumerate() {
            let text = match secret {
                Some(secret) if place == Some(at) => secret.expose().as_bytes(),
                _ => text,
            };
            let head = format!("${}\r\n", text.len());
            for part in [head.as_bytes(), text, b"\r\n"] {
                self.out.extend_from_slice(part);
            }
        }
        Ok(())
    }

    /// The line before a text, and the text's length.
    async fn text_head(&mut self) -> Result<(Bytes, u64), Stop> {
        let line = self.line().await?.ok_or(Stop::Gone)?;
        match number(b'$', &line).map(u64::try_from) {
            Some(Ok(length)) => Ok((line, length)),
            Some(Err(_)) | None => Err(self.malformed("a text's length")),
        }
    }

    /// A text of that length, which is short, without the two bytes behind it that every server skips.
    async fn text(&mut self, length: u64) -> Result<Bytes, Stop> {
        let length = usize::try_from(length).map_err(|_| Stop::Gone)?;
        while self.come.len() < length + 2 {
            self.more().await?;
        }
        let mut text = self.come.split_to(length + 2);
        text.truncate(length);
        Ok(text.freeze())
    }

    /// Lets a text of that length through, with the two bytes behind it.
    async fn let_through(&mut self, length: u64) -> Result<(), Stop> {
        let mut left = length.saturating_add(2);
        while left > 0 {
            if self.come.is_empty() {
                self.more().await?;
            }
            let here = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.come.len());
            self.out.extend_from_slice(&self.come.split_to(here));
            left -= here as u64;
            if self.out.len() >= limits::COPY {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// The next line with its end; none if the client has ended before it.
    async fn line(&mut self) -> Result<Option<Bytes>, Stop> {
        let mut seen = 0;
        loop {
            let new = self.come.get(seen..).unwrap_or_default();
            if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.come.split_to(seen + end + 1).freeze()));
            }
            seen = self.come.len();
            if seen >= LINE {
                return Err(self.malformed("a line's length"));
            }
            match self.more().await {
                Err(Stop::Gone) if seen == 0 => return Ok(None),
                more => more?,
            }
        }
    }

    /// Reads some more; what is decided goes on before.
    async fn more(&mut self) -> Result<(), Stop> {
        self.send().await?;
        self.come.reserve(limits::COPY);
        match self.said.client.read_buf(&mut self.come).await? {
            0 => Err(Stop::Gone),
            _ => Ok(()),
        }
    }

    async fn send(&mut self) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.said.server.write_all(&self.out).await?;
        self.said.server.flush().await?;
        let count = self.out.len() as u64;
        self.said.counts.out.fetch_add(count, Ordering::Relaxed);
        self.out.zeroize();
        Ok(())
    }

    fn malformed(&self, what: &str) -> Stop {
        let why = format!("the client speaks no Redis: {what} is malformed");
        Stop::Refused(refused(self.said.flow, 400, "protocol", &why))
    }
}

/// The number of a line that says one of that kind, as Redis reads it; none if it is no such line.
fn number(kind: u8, line: &[u8]) -> Option<i64> {
    let digits = line.strip_prefix(&[kind])?.strip_suffix(b"\r\n")?;
    let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
    // Redis takes neither a plus nor a zero before another digit.
    let is_plain = is_number(unsigned) && (unsigned.len() == 1 || !unsigned.starts_with(b"0"));
    let text = std::str::from_utf8(digits).ok()?;
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_read_as_strictly_as_redis_reads_it() {
        for (line, expected) in [
            (&b"*3\r\n"[..], Some(3)),
            (b"*0\r\n", Some(0)),
            (b"*-1\r\n", Some(-1)),
            (b"*+3\r\n", None),
            (b"*03\r\n", None),
            (b"*3\n", None),
            (b"*3 \r\n", None),
            (b"* 3\r\n", None),
            (b"*\r\n", None),
            (b"*-\r\n", None),
            (b"$3\r\n", None),
            (b"*3\r$4\r\n", None),
            (b"*99999999999999999999\r\n", None),
            (b"PING\r\n", None),
        ] {
            assert_eq!(number(b'*', line), expected, "{line:?}");
        }
    }

    #[test]
    fn the_password_of_a_login_is_where_redis_looks_for_it() {
        let place = |command: &str| {
            let texts: Vec<_> = command
                .split(' ')
                .map(|text| Bytes::copy_from_slice(text.as_bytes()))
                .collect();
            Login::of(texts.first()?)?.password(&texts)
        };
        for (command, expected) in [
            ("AUTH p", Some(1)),
            ("auth u p", Some(2)),
            ("AUTH", None),
            ("AUTH u p more", None),
            ("HELLO 3", None),
            ("hello 3 auth u p", Some(4)),
            ("HELLO 3 SETNAME n AUTH u p", Some(6)),
            ("HELLO 3 SETNAME AUTH AUTH u p", Some(6)),
            ("HELLO 3 AUTH SETNAME p", Some(4)),
            ("HELLO 3 MORE AUTH u p", None),
            ("GET AUTH", None),
        ] {
            assert_eq!(place(command), expected, "{command}");
        }
    }
}
