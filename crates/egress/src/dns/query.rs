//! A DNS query, read strictly (RFC 1035 §4.1, RFC 6891). It must never follow a compression pointer nor
//! trust a length, and takes nothing that a stub resolver does not send.

use std::ops::Range;

use crate::limits;
use crate::name::{Name, NameError};

/// Bytes of the header.
pub(super) const HEADER: usize = 12;
const CLASS_IN: u16 = 1;
const TYPE_OPT: u16 = 41;

/// A query that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Its id, which the answer repeats.
    pub id: u16,
    /// Recursion desired, which the answer repeats.
    pub recursion_desired: bool,
    /// The name that is asked for, in canonical form; `Err` for a name that no host has. It is answered,
    /// since the query itself is well-formed.
    pub name: Result<Name, NameError>,
    /// What is asked for.
    pub record: RecordType,
    /// EDNS, if the query has it.
    pub edns: Option<Edns>,
    /// The question as it came: the answer repeats it byte by byte, since some clients mix the case of
    /// names to know their answers.
    pub(super) question: Vec<u8>,
}

/// What a query says about EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Bytes that the client takes over UDP, at least 512.
    pub payload: u16,
    /// Its version; only 0 is known.
    pub version: u8,
}

/// The type of record that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// ANY, AXFR, IXFR, MAILA and MAILB: questions for more than one type.
    Several(u16),
    /// Everything else.
    Other(u16),
}

/// A response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    /// No error.
    NoError,
    /// The query is malformed.
    FormErr,
    /// We cannot answer now.
    ServFail,
    /// Not a kind of query that we know.
    NotImp,
    /// We will not answer.
    Refused,
    /// An EDNS version that we do not know (RFC 6891 §6.1.3).
    BadVers,
}

impl Rcode {
    /// Its number; only [`Rcode::BadVers`] needs more than four bits.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVers => 16,
        }
    }
}

/// A packet that is no query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing is sent back: it is no query at all, and an answer could be answered.
    #[error("not a DNS query")]
    Silent,
    /// [`Malformed::reply`] is sent back.
    #[error("a malformed DNS query: {why}")]
    Reply {
        /// Its id.
        id: u16,
        /// What to say.
        rcode: Rcode,
        /// What is wrong, for the log.
        why: &'static str,
    },
}

impl Malformed {
    /// The answer to a malformed query: a header, never any byte of what was malformed.
    #[must_use]
    pub fn reply(&self) -> Option<[u8; HEADER]> {
        let Self::Reply { id, rcode, .. } = *self else {
            return None;
        };
        let [high, low] = id.to_be_bytes();
        let mut reply = [0; HEADER];
        reply[..4].copy_from_slice(&[high, low, 0x80, rcode.number()]);
        Some(reply)
    }
}

impl Query {
    /// Reads a packet, as it comes over UDP, or over TCP without its length.
    ///
    /// # Errors
    /// [`Malformed`], with the answer that it gets.
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let header: &[u8; HEADER] = packet.first_chunk().ok_or(Malformed::Silent)?;
        let [id_high, id_low, flags, _, counts @ ..] = *header;
        if flags & 0x80 != 0 {
            return Err(Malformed::Silent);
        }
        let id = u16::from_be_bytes([id_high, id_low]);
        let wrong = |rcode, why| Malformed::Reply { id, rcode, why };
        let form = |why| wrong(Rcode::FormErr, why);
        if packet.len() > limits::DNS_QUERY {
            return Err(form("too long"));
        }
        if flags & 0x78 != 0 {
            return Err(wrong(Rcode::NotImp, "not a standard query"));
        }
        if flags & 0x06 != 0 {
            return Err(form("an answer's flags"));
        }
        let [_, 1, 0, 0, 0, 0, _, additional] = counts else {
            return Err(form("not one question and nothing else"));
        };
        if counts[0] != 0 || counts[6] != 0 || additional > 1 {
            return Err(form("not one question and nothing else"));
        }
        let mut reader = Reader { packet, at: HEADER };
        let name = reader.name().ok_or_else(|| form("its name"))?;
        let kind = reader.u16().ok_or_else(|| form("cut short"))?;
        let class = reader.u16().ok_or_else(|| form("cut short"))?;
        let question = reader.since(HEADER);
        let edns = match additional {
            0 => None,
            _ => Some(reader.edns().ok_or_else(|| form("its EDNS record"))?),
        };
        if reader.at != packet.len() {
            return Err(form("bytes after its end"));
        }
        if class != CLASS_IN {
            return Err(wrong(Rcode::Refused, "not of the internet's class"));
        }
        Ok(Self {
            id,
            recursion_desired: flags & 1 != 0,
            name: canonical(&packet[name]),
            record: record(kind),
            edns,
            question: question.to_vec(),
        })
    }
}

fn record(kind: u16) -> RecordType {
    match kind {
        1 => RecordType::A,
        28 => RecordType::Aaaa,
        251..=255 => RecordType::Several(kind),
        other => RecordType::Other(other),
    }
}

/// The name of labels on the wire, which [`Reader::name`] has checked.
fn canonical(wire: &[u8]) -> Result<Name, NameError> {
    let mut text = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let Some((label, after)) = after.split_at_checked(usize::from(*length)) else {
            return Err(NameError::Label);
        };
        // A dot inside a label would become a border between two.
        if label.contains(&b'.') || !label.is_ascii() {
            return Err(NameError::Character);
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().copied().map(char::from));
        rest = after;
    }
    Name::parse(&text)
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(bytes)?;
        let taken = self.packet.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(*self.take(2)?.first_chunk()?))
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.packet.get(start..self.at).unwrap_or_default()
    }

    /// Where an uncompressed name stands, at most 255 bytes with its root.
    fn name(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        loop {
            let length = usize::from(self.u8()?);
            // A pointer has the two upper bits; nothing precedes a question that it could point to.
            if length > limits::LABEL {
                return None;
            }
            self.take(length)?;
            if self.at - start > limits::NAME + 2 {
                return None;
            }
            if length == 0 {
                return Some(start..self.at);
            }
        }
    }

    /// The OPT record, which is at the root and has options that we skip.
    fn edns(&mut self) -> Option<Edns> {
        let root = self.u8()?;
        let kind = self.u16()?;
        let payload = self.u16()?;
        let [_, version, _, _] = *self.take(4)?.first_chunk()?;
        let length = self.u16()?;
        let mut options = Reader {
            packet: self.take(usize::from(length))?,
            at: 0,
        };
        while options.at < options.packet.len() {
            options.u16()?;
            let length = options.u16()?;
            options.take(usize::from(length))?;
        }
        (root == 0 && kind == TYPE_OPT).then_some(Edns {
            payload: payload.max(512),
            version,
        })
    }
}
