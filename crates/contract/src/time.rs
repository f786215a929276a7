//! Instants on the wire: integer microseconds inside, RFC 3339 with six digits and `Z` outside.
//! This module never reads a clock.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub i64);

impl Micros {
    /// The instant as milliseconds since the epoch, never negative (for [`crate::ids::compose`]).
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0 / 1_000).unwrap_or(0)
    }

    /// Seconds from `earlier` to `self`, never negative.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        // Exact below 2^53 microseconds, which is 285 years.
        (self.0 - earlier.0).max(0) as f64 / 1e6
    }

    /// Reads an RFC 3339 text; one without an offset is taken as UTC, since SDKs send naive datetimes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let civil = text.parse::<jiff::civil::DateTime>().ok()?;
            Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        })?;
        Some(Self(instant.as_microsecond()))
    }

    /// The day in UTC, as `2026-11-21`.
    #[must_use]
    pub fn date(self) -> String {
        self.to_string().chars().take(10).collect()
    }
}

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let instant =
            jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{instant:.6}")
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 date and time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_with_six_digits_and_read_back() {
        let t = Micros(1_790_000_000_000_010);
        assert_eq!(t.to_string(), "2026-09-21T14:13:20.000010Z");
        assert_eq!(Micros::parse(&t.to_string()), Some(t));
    }

    #[test]
    fn offsets_and_naive_texts_are_understood() {
        let noon = Micros::parse("2026-10-01T12:00:00Z");
        assert!(noon.is_some());
        assert_eq!(Micros::parse("2026-10-01T14:00:00+02:00"), noon);
        assert_eq!(Micros::parse("2026-10-01T12:00:00"), noon);
        assert_eq!(Micros::parse("yesterday"), None);
    }
}
