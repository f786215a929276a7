//! What stands in a sandbox where a secret would, and its replacement on the way out. Pure: it is told which
//! placeholders a host is covered by, and never decides that.
//!
//! A placeholder has a fixed length and only letters and digits, so that no encoding of URLs, forms or JSON
//! changes it, and so that a scanner of a stream holds back less than one of them.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use contract::ids::{CredentialId, SessionId};
use contract::secret::Secret;
use memchr::memmem::Finder;
use zeroize::Zeroizing;

use crate::handle::Vault;
use crate::limits::PUT_IN_AT_ONCE;

/// What every placeholder begins with.
pub const PREFIX: &[u8] = b"lhph";

/// Characters behind the prefix: 40 of 62 are 238 bits.
const MARK: usize = 40;

/// Bytes of a placeholder.
pub const LEN: usize = PREFIX.len() + MARK;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What stands in a sandbox where a secret would. It is no secret: nobody but the egress of its session takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Placeholder([u8; LEN]);

impl Placeholder {
    /// As it stands in the sandbox's environment.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The placeholder of that text, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = <[u8; LEN]>::try_from(text.as_bytes()).ok()?;
        let is_one = bytes.starts_with(PREFIX) && bytes.iter().all(u8::is_ascii_alphanumeric);
        is_one.then_some(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl Vault {
    /// The placeholder of a credential in a session: another in each, the same after every start and every
    /// rotation of the master key, and not to be guessed without this database's pepper.
    #[must_use]
    pub fn placeholder(&self, session: SessionId, credential: CredentialId) -> Placeholder {
        let (session, credential) = (session.to_string(), credential.to_string());
        let parts = [b"placeholder", session.as_bytes(), credential.as_bytes()];
        let mut number = self.mark(&parts);
        let mut text = [0; LEN];
        text[..PREFIX.len()].copy_from_slice(PREFIX);
        // The lowest digits of the hash in base 62: it is so much longer that none is likelier than another.
        for place in &mut text[PREFIX.len()..] {
            let mut rest = 0u32;
            for byte in &mut number {
                let here = rest * 256 + u32::from(*byte);
                (*byte, rest) = (u8::try_from(here / 62).unwrap_or(u8::MAX), here % 62);
            }
            *place = BASE62[usize::try_from(rest).unwrap_or(0)];
        }
        Placeholder(text)
    }

    /// What stands in a session's sandbox for the key of its model: another in each session, the same after every start
    /// and every rotation of the master key, and not to be guessed without this database's pepper. It opens nothing but
    /// the server's own door into that sandbox.
    #[must_use]
    pub fn stand_in(&self, session: SessionId) -> String {
        let mark = self.mark(&[b"stand-in", session.to_string().as_bytes()]);
        let mut text = "stand-in-".to_owned();
        for byte in mark {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }

    /// The id under which the audit knows a credential that stands in no vault: the same for the same name after every
    /// start.
    #[must_use]
    pub fn named(&self, name: &str) -> CredentialId {
        let mark = self.mark(&[b"named credential", name.as_bytes()]);
        let bits = mark.first_chunk::<16>().copied().unwrap_or_default();
        CredentialId::from_bits(u128::from_be_bytes(bits))
    }
}

/// Where a secret goes, which decides how it is written there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The value of a header: as it is; one with control characters cannot stand there.
    Header,
    /// The query of a URL: percent-encoded.
    Query,
    /// A form (`application/x-www-form-urlencoded`): as a query.
    Form,
    /// Within a string of JSON: escaped.
    Json,
    /// Anywhere else: as it is.
    Raw,
}

impl Place {
    /// Bytes that one of a secret takes there, at most.
    const fn growth(self) -> usize {
        match self {
            Self::Header | Self::Raw => 1,
            Self::Query | Self::Form => "%00".len(),
            Self::Json => "\\u0000".len(),
        }
    }
}

/// A secret that cannot stand where it would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret has line breaks or control characters, which a header cannot carry")]
pub struct Unfit;

/// A text that would grow by more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("secrets would make it longer by more than it may grow")]
pub struct TooMuch;

/// A text in which placeholders were replaced.
pub struct Replaced {
    /// As it is now.
    pub text: Zeroizing<Vec<u8>>,
    /// Which ones they were, each once.
    pub found: Vec<Placeholder>,
}

/// Placeholders and what replaces them in one kind of place.
pub struct Covered {
    /// None in the place of one that stays as it is. They are written when they are put in, and stand nowhere else: a
    /// request may be covered by very many.
    by: HashMap<[u8; LEN], Option<(Arc<Secret>, Place)>>,
    finder: Finder<'static>,
}

impl std::fmt::Debug for Covered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Covered({})", self.by.len())
    }
}

impl Covered {
    /// Nothing is covered.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            by: HashMap::new(),
            finder: Finder::new(PREFIX),
        }
    }

    /// Covers one more placeholder.
    ///
    /// # Errors
    /// [`Unfit`]; it is not covered then.
    pub fn cover(
        &mut self,
        placeholder: Placeholder,
        secret: &Arc<Secret>,
        place: Place,
    ) -> Result<(), Unfit> {
        if place == Place::Header && secret.expose().bytes().any(|byte| byte.is_ascii_control()) {
            return Err(Unfit);
        }
        let text = (Arc::clone(secret), place);
        self.by.insert(placeholder.0, Some(text));
        Ok(())
    }

    /// Notes one more placeholder wherever it is found, and leaves it as it is.
    pub fn watch(&mut self, placeholder: Placeholder) {
        self.by.insert(placeholder.0, None);
    }

    /// Whether nothing is covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    /// Whether that one is covered.
    #[must_use]
    pub fn has(&self, placeholder: Placeholder) -> bool {
        self.by.contains_key(&placeholder.0)
    }

    /// Bytes of a text that are to be replaced at one time: what comes of them has at most some
    /// [`PUT_IN_AT_ONCE`] bytes, though all of them be placeholders.
    #[must_use]
    pub fn step(&self) -> usize {
        (PUT_IN_AT_ONCE / self.longest().max(LEN)).max(1) * LEN
    }

    /// The value of a header with its placeholders replaced, also those inside the user and password of
    /// `Basic`; none if there are none. `raw` covers the same for [`Place::Raw`]: what `Basic` encodes may
    /// have any character. What is replaced may grow by `room` bytes, before it is encoded.
    ///
    /// # Errors
    /// [`TooMuch`].
    pub fn header(
        &self,
        value: &[u8],
        raw: &Covered,
        room: usize,
    ) -> Result<Option<Replaced>, TooMuch> {
        if let Some(pair) = basic(value)
            && let Some(Replaced { text, found }) = raw.whole(&pair, room)?
        {
            let text = as_basic(value, &text);
            return Ok(Some(Replaced { text, found }));
        }
        self.whole(value, room)
    }

    /// `text` with its placeholders replaced, which may grow by `room` bytes; none if there are none.
    ///
    /// # Errors
    /// [`TooMuch`]. No more than [`PUT_IN_AT_ONCE`] bytes beyond that were in memory.
    pub fn whole(&self, text: &[u8], room: usize) -> Result<Option<Replaced>, TooMuch> {
        let most = text.len().saturating_add(room);
        let mut scanner = Scanner::new(self);
        let mut out = Zeroizing::new(Vec::with_capacity(text.len() + self.longest()));
        for piece in text.chunks(self.step()) {
            scanner.push(piece, &mut out);
            // What follows adds to that.
            if out.len() + scanner.held() > most {
                return Err(TooMuch);
            }
        }
        let found = scanner.finish(&mut out);
        Ok((!found.is_empty()).then_some(Replaced { text: out, found }))
    }

    /// Bytes that none of them takes more of.
    fn longest(&self) -> usize {
        let secrets = self.by.values().flatten();
        let longest = secrets.map(|(secret, place)| secret.expose().len() * place.growth());
        longest.max().unwrap_or(0)
    }
}

const SCHEME: &[u8] = b"basic ";

/// What reads and writes the pairs of `Basic`, with or without their padding.
fn pairs() -> GeneralPurpose {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&STANDARD, lenient)
}

/// User and password of a header's value, if it is one of `Basic`.
fn basic(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, encoded) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let pair = pairs().decode(encoded.trim_ascii()).ok()?;
    Some(Zeroizing::new(pair))
}

/// The value of a header that has that pair in place of its own.
fn as_basic(value: &[u8], pair: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = SCHEME.len() + pair.len().div_ceil(3) * 4;
    let mut out = Zeroizing::new(vec![0; length]);
    let (scheme, encoded) = out.split_at_mut(SCHEME.len());
    scheme.copy_from_slice(value.get(..SCHEME.len()).unwrap_or(SCHEME));
    let written = pairs().encode_slice(pair, encoded);
    written.expect("there is room for four characters for each three bytes");
    out
}

/// Appends a secret as that place writes it.
fn write(secret: &Secret, place: Place, out: &mut Vec<u8>) {
    let bytes = secret.expose().as_bytes();
    match place {
        Place::Header | Place::Raw => out.extend_from_slice(bytes),
        Place::Query | Place::Form => percent(bytes, out),
        Place::Json => json(secret.expose(), out),
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn percent(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(*byte),
            _ => out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
}

fn digit(nibble: u8) -> u8 {
    HEX[usize::from(nibble & 15)]
}

fn json(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1F => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

/// Replaces placeholders in a stream, wherever its chunks are cut. It holds back less than [`LEN`] bytes.
pub struct Scanner<C> {
    covered: C,
    /// What may be the beginning of a placeholder.
    held: Vec<u8>,
    found: Vec<Placeholder>,
}

impl<C: Deref<Target = Covered>> Scanner<C> {
    /// A scanner at the beginning of a stream.
    #[must_use]
    pub fn new(covered: C) -> Self {
        Self {
            covered,
            held: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Takes the next chunk and appends to `out` what is decided by now.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.held.is_empty() {
            let rest = self.scan(chunk, out);
            self.held.extend_from_slice(rest);
            return;
        }
        // Only the border is copied; whatever begins before it ends within it.
        let (head, tail) = chunk.split_at(chunk.len().min(LEN));
        let mut border = std::mem::take(&mut self.held);
        border.extend_from_slice(head);
        let rest = self.scan(&border, out);
        if tail.is_empty() {
            self.held = rest.to_vec();
        } else {
            // Shorter than `head`, so it stands in the chunk, and what follows it too.
            let undecided = head.len() - rest.len();
            let rest = self.scan(&chunk[undecided..], out);
            self.held.extend_from_slice(rest);
        }
    }

    /// Those that were found so far, each once.
    #[must_use]
    pub fn found(&self) -> &[Placeholder] {
        &self.found
    }

    /// Bytes that are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Appends what was held back: nothing has followed it for so long that it is taken for no placeholder.
    pub fn let_go(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// The end of the stream: what was held back is no placeholder. Returns those that were found, each once.
    pub fn finish(self, out: &mut Vec<u8>) -> Vec<Placeholder> {
        out.extend_from_slice(&self.held);
        self.found
    }

    /// Appends what is decided in `text` to `out` and returns the rest, which is shorter than a placeholder.
    fn scan<'t>(&mut self, text: &'t [u8], out: &mut Vec<u8>) -> &'t [u8] {
        let mut rest = text;
        while let Some(at) = self.covered.finder.find(rest) {
            let (before, from) = rest.split_at(at);
            out.extend_from_slice(before);
            let Some((candidate, behind)) = from.split_first_chunk::<LEN>() else {
                return from;
            };
            if let Some(secret) = self.covered.by.get(candidate) {
                match secret {
                    Some((secret, place)) => write(secret, *place, out),
                    None => out.extend_from_slice(candidate),
                }
                let placeholder = Placeholder(*candidate);
                if !self.found.contains(&placeholder) {
                    self.found.push(placeholder);
                }
                rest = behind;
            } else {
                // One that is covered may begin inside.
                let (first, others) = from.split_at(1);
                out.extend_from_slice(first);
                rest = others;
            }
        }
        let begun = (1..PREFIX.len())
            .rev()
            .find(|n| rest.ends_with(&PREFIX[..*n]));
        let (done, held) = rest.split_at(rest.len() - begun.unwrap_or(0));
        out.extend_from_slice(done);
        held
    }
}
