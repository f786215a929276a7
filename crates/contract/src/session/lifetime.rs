//! Owns what a session's metadata says about its sandbox. It limits nothing else of metadata.

use std::time::Duration;

use crate::metadata::Metadata;
use crate::parse::Invalid;

/// How long a session's sandbox may run, in seconds; `"0"` is no limit. The second is the seed product's name
/// for it and counts when the first is absent.
pub const SANDBOX_TTL: [&str; 2] = [
    "longhand.sandbox_ttl_seconds",
    "sandbox0.managed_agents.hard_ttl_seconds",
];

/// The longest time to live that can be asked for, in seconds: a year.
pub const SANDBOX_TTL_MAX: u64 = 366 * 86_400;

/// The time to live of the sandbox that `metadata` asks for, if it does.
///
/// # Errors
/// A value that is no whole number of seconds from 0 to [`SANDBOX_TTL_MAX`], by its path.
pub fn sandbox_ttl(metadata: &Metadata) -> Result<Option<Duration>, Invalid> {
    let mut found = None;
    // Both are read, so that a mistake in the one that does not count is told too.
    for name in SANDBOX_TTL.iter().rev() {
        let Some(value) = metadata.get(*name) else {
            continue;
        };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = value.parse::<u64>().ok().filter(|_| digits);
        let seconds = seconds.filter(|seconds| *seconds <= SANDBOX_TTL_MAX);
        found = Some(seconds.ok_or_else(|| {
            Invalid::at(
                format!("metadata.{name}"),
                format!(
                    "must be a whole number of seconds from 0 (no limit) to {SANDBOX_TTL_MAX}, not {value:?}"
                ),
            )
        })?);
    }
    Ok(found
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ttl(entries: &[(&str, &str)]) -> Result<Option<u64>, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let metadata: Metadata = entries.iter().map(own).collect();
        let found = sandbox_ttl(&metadata).map(|ttl| ttl.map(|ttl| ttl.as_secs()));
        found.map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn the_own_name_counts_before_the_alias_and_zero_is_none() {
        let [own, alias] = SANDBOX_TTL;
        assert_eq!(ttl(&[]), Ok(None));
        assert_eq!(ttl(&[(own, "60")]), Ok(Some(60)));
        assert_eq!(ttl(&[(alias, "90")]), Ok(Some(90)));
        assert_eq!(ttl(&[(own, "60"), (alias, "90")]), Ok(Some(60)));
        assert_eq!(ttl(&[(own, "0"), (alias, "90")]), Ok(None));
        assert_eq!(ttl(&[("other", "x")]), Ok(None));
    }

    #[test]
    fn what_is_no_number_of_seconds_is_refused_by_its_path() {
        for name in SANDBOX_TTL {
            for bad in ["", "-1", "+1", "1.5", "1h", " 1", "99999999999", "x"] {
                let refused = ttl(&[(name, bad)]).unwrap_err();
                assert!(refused.contains(&format!("metadata.{name}")), "{refused}");
                assert!(refused.contains("whole number of seconds"), "{refused}");
            }
        }
    }
}
