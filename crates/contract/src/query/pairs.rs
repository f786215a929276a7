//! A query string, or the text parts of a form, as pairs that are taken out one by one; what nobody took is
//! unknown.

use std::str::FromStr;

use super::{Paging, Range};
use crate::ids::BadId;
use crate::limits::{CURSOR, QUERY_VALUES};
use crate::parse::Invalid;
use crate::time::Micros;

/// The pairs not yet taken, in order, and the keys that were asked for.
pub(crate) struct Pairs {
    left: Vec<(String, String)>,
    known: Vec<String>,
    /// What a pair is called.
    noun: &'static str,
}

impl Pairs {
    /// The text parts of a form: name and content.
    pub(crate) fn form(parts: Vec<(String, String)>) -> Self {
        Self {
            left: parts,
            known: Vec::new(),
            noun: "part of the form",
        }
    }

    pub(crate) fn read(query: &str) -> Result<Self, Invalid> {
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
            noun: "query parameter",
        })
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), Invalid> {
        let Some((key, _)) = self.left.first() else {
            return Ok(());
        };
        let problem = match self.known.as_slice() {
            [] => format!("unknown {}; none is allowed here", self.noun),
            known => format!("unknown {}; allowed: `{}`", self.noun, known.join("`, `")),
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
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, Invalid> {
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

    pub(crate) fn boolean(&mut self, key: &str) -> Result<Option<bool>, Invalid> {
        self.choice(key, &[("true", true), ("false", false)])
    }

    pub(crate) fn positive(&mut self, key: &str) -> Result<Option<u32>, Invalid> {
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

    /// An integer between two bounds.
    pub(crate) fn number(
        &mut self,
        key: &str,
        (least, most): (u32, u32),
    ) -> Result<Option<u32>, Invalid> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u32>() {
            Ok(number) if digits && (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(Invalid::at(
                key,
                format!("must be an integer from {least} to {most}"),
            )),
        }
    }

    /// An id of one kind.
    pub(crate) fn id<T: FromStr<Err = BadId>>(&mut self, key: &str) -> Result<Option<T>, Invalid> {
        let read = |text: String| {
            text.parse()
                .map_err(|bad: BadId| Invalid::at(key, bad.to_string()))
        };
        self.text(key)?.map(read).transpose()
    }

    /// The distinct ids of a list.
    pub(crate) fn ids<T: FromStr<Err = BadId> + PartialEq>(
        &mut self,
        key: &str,
        most: usize,
    ) -> Result<Vec<T>, Invalid> {
        let mut out = Vec::new();
        for (index, text) in self.all(key).into_iter().enumerate() {
            let id = text
                .parse()
                .map_err(|bad: BadId| Invalid::at(format!("{key}[{index}]"), bad.to_string()))?;
            if !out.contains(&id) {
                out.push(id);
            }
            if out.len() > most {
                return Err(Invalid::at(key, format!("has more than {most} values")));
            }
        }
        Ok(out)
    }

    pub(crate) fn instant(&mut self, key: &str) -> Result<Option<Micros>, Invalid> {
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

    pub(crate) fn range(&mut self) -> Result<Range, Invalid> {
        Ok(Range {
            gt: self.instant("created_at[gt]")?,
            gte: self.instant("created_at[gte]")?,
            lt: self.instant("created_at[lt]")?,
            lte: self.instant("created_at[lte]")?,
        })
    }

    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, Invalid> {
        self.text(key)?
            .map(|text| chosen(key, &text, choices))
            .transpose()
    }

    /// The distinct values of a list.
    pub(crate) fn choices<T: Copy + PartialEq>(
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

    pub(crate) fn limit(&mut self, (default, most): (u32, u32)) -> Result<u32, Invalid> {
        match self.positive("limit") {
            Ok(None) => Ok(default),
            Ok(Some(limit)) if limit <= most => Ok(limit),
            Ok(Some(_)) | Err(_) => Err(Invalid::at("limit", format!("must be from 1 to {most}"))),
        }
    }

    pub(crate) fn paging(&mut self, limits: (u32, u32)) -> Result<Paging, Invalid> {
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
