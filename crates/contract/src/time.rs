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

/// An instant's text. Every event has one, so it is written without a formatter.
struct Text([u8; 27]);

impl Text {
    fn of(instant: Micros) -> Self {
        let instant =
            jiff::Timestamp::from_microsecond(instant.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let at = jiff::tz::Offset::UTC.to_datetime(instant);
        let year = u32::from(at.year().unsigned_abs());
        let micros = at.subsec_nanosecond().unsigned_abs() / 1_000;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[..4], year);
        digits(&mut text[5..7], u32::from(at.month().unsigned_abs()));
        digits(&mut text[8..10], u32::from(at.day().unsigned_abs()));
        digits(&mut text[11..13], u32::from(at.hour().unsigned_abs()));
        digits(&mut text[14..16], u32::from(at.minute().unsigned_abs()));
        digits(&mut text[17..19], u32::from(at.second().unsigned_abs()));
        digits(&mut text[20..26], micros);
        Self(text)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and signs are ASCII")
    }
}

/// Writes a number with leading zeros.
fn digits(out: &mut [u8], mut number: u32) {
    for slot in out.iter_mut().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Text::of(*self).as_str())
    }
}

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(Text::of(*self).as_str())
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
    fn every_instant_is_written_as_the_library_writes_it() {
        // From the year 1 to 9999, in steps that meet every month, hour and minute.
        let (first, last) = (-62_135_596_800_000_000, 253_402_207_199_999_999);
        let instants = (first..=last).step_by(97_654_321_987_651);
        for t in instants.chain([first, -1, 0, 1, last]) {
            let expected = jiff::Timestamp::from_microsecond(t).unwrap();
            assert_eq!(Micros(t).to_string(), format!("{expected:.6}"));
        }
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
