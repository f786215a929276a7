//! Cron schedules (api.md §15.0): five fields of POSIX, matched against the wall clock of a time zone. It says
//! which minutes match, and reads no clock.

use jiff::civil::{Date, DateTime};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check;
use crate::limits::{CRON, TIME_ZONE};
use crate::parse::{Invalid, tagged};
use crate::schema::constants;
use crate::time::Micros;

constants! { ScheduleTag = Cron; }

/// When a deployment runs, in a request and in store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ScheduleParams {
    /// The only form.
    Cron(CronParams),
}

tagged!(ScheduleParams { "cron" => Cron(CronParams) });

/// A cron schedule in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CronParams {
    /// `0 9 * * 1-5`.
    pub expression: String,
    /// `Europe/Berlin`.
    pub timezone: String,
}

/// A cron schedule as it is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Schedule {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: ScheduleTag,
    /// As it was sent.
    pub expression: String,
    /// As it was sent.
    pub timezone: String,
    /// When the last scheduled run began.
    pub last_run_at: Option<Micros>,
    /// The next matches, at most five.
    pub upcoming_runs_at: Vec<Micros>,
}

impl Schedule {
    /// A schedule as it is served.
    #[must_use]
    pub fn new(
        params: ScheduleParams,
        last_run_at: Option<Micros>,
        upcoming_runs_at: Vec<Micros>,
    ) -> Self {
        let ScheduleParams::Cron(cron) = params;
        Self {
            kind: ScheduleTag::Cron,
            expression: cron.expression,
            timezone: cron.timezone,
            last_run_at,
            upcoming_runs_at,
        }
    }
}

impl ScheduleParams {
    /// Checks the expression and that there is such a zone.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let Self::Cron(cron) = self;
        let at = |bad: Invalid| bad.under("schedule");
        check::length("expression", &cron.expression, 1, CRON).map_err(at)?;
        check::length("timezone", &cron.timezone, 1, TIME_ZONE).map_err(at)?;
        Cron::parse(&cron.expression).map_err(|problem| at(Invalid::at("expression", problem)))?;
        // The zones that came with the program: what the host has installed decides nothing.
        if jiff::tz::TimeZoneDatabase::bundled()
            .get(&cron.timezone)
            .is_err()
        {
            let problem = "unknown time zone; give an IANA name such as `Europe/Berlin` or `UTC`";
            return Err(at(Invalid::at("timezone", problem)));
        }
        Ok(())
    }
}

/// A cron expression that was read: a bit for each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// Both fields of days are restricted: one of them is enough.
    either_day: bool,
}

/// A field: its name and its bounds.
type Field = (&'static str, u32, u32);

const FIELDS: [Field; 5] = [
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 7),
];

/// Days of each month in a leap year.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Cron {
    /// Reads five fields.
    ///
    /// # Errors
    /// What is wrong, in words: a field too many or too few, a value out of bounds, syntax beyond POSIX (but
    /// steps such as `*/15` are read), a day that no month has.
    pub fn parse(expression: &str) -> Result<Self, String> {
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let count = fields.len();
            return Err(format!(
                "has {count} fields; 5 are needed: minute, hour, day of month, month, day of week"
            ));
        };
        let weekdays = bits(FIELDS[4], weekday)?;
        let cron = Self {
            minutes: bits(FIELDS[0], minute)?,
            hours: bits(FIELDS[1], hour)?,
            days: bits(FIELDS[2], day)?,
            months: bits(FIELDS[3], month)?,
            // 7 is Sunday too.
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let lasts = (1..)
            .zip(LONGEST)
            .filter(|(month, _)| has(cron.months, *month));
        let exists = lasts
            .into_iter()
            .any(|(_, last)| (1..=last).any(|day| has(cron.days, day)));
        if exists || cron.either_day {
            Ok(cron)
        } else {
            Err("never occurs: no such month has such a day".to_owned())
        }
    }

    /// Whether it matches the minute that this wall clock shows.
    #[must_use]
    pub fn matches(&self, clock: DateTime) -> bool {
        let bit = |set, value: i8| u32::try_from(value).is_ok_and(|value| has(set, value));
        bit(self.minutes, clock.minute()) && bit(self.hours, clock.hour()) && self.on(clock.date())
    }

    /// Whether it matches any minute of a day.
    #[must_use]
    pub fn on(&self, date: Date) -> bool {
        let bit = |set, value: i8| u32::try_from(value).is_ok_and(|value| has(set, value));
        let day = bit(self.days, date.day());
        let weekday = bit(self.weekdays, date.weekday().to_sunday_zero_offset());
        let matched = match self.either_day {
            true => day || weekday,
            false => day && weekday,
        };
        matched && bit(self.months, date.month())
    }
}

const fn has(set: u64, value: u32) -> bool {
    set >> value & 1 == 1
}

/// The values that a field names: a list of `*`, `a`, `a-b`, each but the second with a step.
fn bits(field: Field, text: &str) -> Result<u64, String> {
    let (name, least, most) = field;
    let mut set = 0;
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(number(field, step, 1, most)?)),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((first, last)) => (
                number(field, first, least, most)?,
                number(field, last, least, most)?,
            ),
            None if step.is_some() => {
                return Err(format!(
                    "{name}: a step needs a range, such as `*/15` or `0-30/15`"
                ));
            }
            None => {
                let value = number(field, range, least, most)?;
                (value, value)
            }
        };
        if first > last {
            return Err(format!("{name}: a range must not run backwards"));
        }
        let step = step.unwrap_or(1);
        set |= (first..=last)
            .filter(|value| (value - first).is_multiple_of(step))
            .fold(0, |set, value| set | 1 << value);
    }
    Ok(set)
}

fn number((name, ..): Field, text: &str, least: u32, most: u32) -> Result<u32, String> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let value = text.parse().ok().filter(|_| digits);
    value
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| {
            format!(
                "{name}: expected a number from {least} to {most}; lists, ranges and steps of \
                 numbers are read, names and `L`, `W`, `#`, `?` are not"
            )
        })
}
