//! A query string as pairs that are taken out one by one; what nobody took is unknown.

use super::{Paging, Range};
use crate::limits::{CURSOR, QUERY_VALUES};
use crate::parse::Invalid;
use crate::time::Micros;

/// The pairs not yet taken, in order, and the keys that were asked for.
pub(super) struct Pairs {
    left: Vec<(String, String)>,
    known: Vec<String>,
}

impl Pairs {
    pub(super) fn read(query: &str) -> Result<Self, Invalid> {
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key =
                decode(key).ok_or_else(|| Invalid::at("query", "a key is not valid UTF-8"))?;
            let value =
                decode(value).ok_or_else(|| Invalid::at(key.as_str(), "is not valid UTF-8"))?;
            if value.contains('\0') || key.contains('\0') {
                return Err(Invalid::at(
                    key.replace('\0', ""),
                    "contains a NUL character",
                ));
            }
            if key != "beta" {
                pairs.push((key, value));
            }
            if pairs.len() > QUERY_VALUES * 4 {
                return Err(Invalid::at("query", "has too many parameters"));
            }
        }
        Ok(Self {
            left: pairs,
            known: Vec::new(),
        })
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Invalid> {
        let Some((key, _)) = self.left.first() else {
            return Ok(());
        };
        let problem = match self.known.as_slice() {
            [] => "unknown query parameter; none is allowed here".to_owned(),
            known => format!("unknown query parameter; allowed: `{}`", known.join("`, `")),
        };
        Err(Invalid::at(key.as_str(), problem))
    }

    /// Every value of a list: `key[]=a&key[]=b`, or `key=a&key=b`.
    fn all(&mut self, key: &str) -> Vec<String> {
        let bracketed = format!("{key}[]");
        self.known.push(bracketed.clone());
        let mut values = Vec::new();
        self.left.retain_mut(|(found, value)| {
            let taken = *found == key || *found == bracketed;
            if taken {
                values.push(std::mem::take(value));
            }
            !taken
        });
        values
    }

    /// The value of a key that may stand once.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Invalid> {
        self.known.push(key.to_owned());
        let mut found = None;
        while let Some(index) = self.left.iter().position(|(name, _)| name == key) {
            let (_, value) = self.left.remove(index);
            if found.replace(value).is_some() {
                return Err(Invalid::at(key, "stands twice"));
            }
        }
        Ok(found)
    }

    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, Invalid> {
        self.choice(key, &[("true", true), ("false", false)])
    }

    pub(super) fn positive(&mut self, key: &str) -> Result<Option<u32>, Invalid> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        match text.parse::<u32>() {
            Ok(number) if number > 0 && text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Some(number))
            }
            _ => Err(Invalid::at(key, "must be an integer of at least 1")),
        }
    }

    pub(super) fn instant(&mut self, key: &str) -> Result<Option<Micros>, Invalid> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        // A plus that was not percent-encoded arrives as a space.
        let text = text.replace(' ', "+");
        match Micros::parse(&text) {
            Some(instant) => Ok(Some(instant)),
            None => Err(Invalid::at(key, "must be an RFC 3339 date and time")),
        }
    }

    pub(super) fn range(&mut self) -> Result<Range, Invalid> {
        Ok(Range {
            gt: self.instant("created_at[gt]")?,
            gte: self.instant("created_at[gte]")?,
            lt: self.instant("created_at[lt]")?,
            lte: self.instant("created_at[lte]")?,
        })
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, Invalid> {
        self.text(key)?
            .map(|text| chosen(key, &text, choices))
            .transpose()
    }

    /// The distinct values of a list.
    pub(super) fn choices<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
        most: usize,
    ) -> Result<Vec<T>, Invalid> {
        let values = self.all(key);
        if values.len() > most {
            return Err(Invalid::at(key, format!("has more than {most} values")));
        }
        let mut out = Vec::new();
        for value in values {
            let value = chosen(key, &value, choices)?;
            if !out.contains(&value) {
                out.push(value);
            }
        }
        Ok(out)
    }

    pub(super) fn limit(&mut self, (default, most): (u32, u32)) -> Result<u32, Invalid> {
        match self.positive("limit") {
            Ok(None) => Ok(default),
            Ok(Some(limit)) if limit <= most => Ok(limit),
            Ok(Some(_)) | Err(_) => Err(Invalid::at("limit", format!("must be from 1 to {most}"))),
        }
    }

    pub(super) fn paging(&mut self, limits: (u32, u32)) -> Result<Paging, Invalid> {
        let limit = self.limit(limits)?;
        let page = self.text("page")?;
        if page.as_ref().is_some_and(|page| page.len() > CURSOR) {
            return Err(Invalid::at("page", "invalid page cursor"));
        }
        Ok(Paging { limit, page })
    }
}

fn chosen<T: Copy>(key: &str, text: &str, choices: &[(&str, T)]) -> Result<T, Invalid> {
    choices
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            Invalid::at(
                key,
                format!("unknown value; allowed: `{}`", names.join("`, `")),
            )
        })
}

/// Percent-decoding with `+` as a space; `None` if the bytes are not UTF-8. A percent sign that starts
/// no escape stands for itself, as the URL standard has it.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        let escape = || {
            let (high, low) = (*tail.first()?, *tail.get(1)?);
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        };
        match first {
            b'+' => out.push(b' '),
            b'%' => match escape() {
                Some(byte) => {
                    out.push(byte);
                    rest = tail.get(2..).unwrap_or_default();
                }
                None => out.push(b'%'),
            },
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}
