//! List prices: how they are written and what tokens cost at them, exactly. It must never meet a
//! floating-point number.

use serde::Deserialize;
use session::Cost;

use crate::catalog::CatalogError;
use crate::transcript::Usage;

/// Decimals of a dollar that a price may have: a picodollar.
const DECIMALS: usize = 12;

/// Prices in US dollars per token, as exact decimal texts. A cache price that is absent is that of
/// uncached input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Uncached input.
    pub input: String,
    /// Output.
    pub output: String,
    /// Read from the cache.
    pub cache_read: Option<String>,
    /// Written to the 5-minute cache.
    pub cache_creation_5m: Option<String>,
    /// Written to the 1-hour cache.
    pub cache_creation_1h: Option<String>,
    /// What every token of a request costs whose prompt is longer than a bound.
    pub long_prompt: Option<LongPrompt>,
}

/// Prices of requests with a long prompt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPrompt {
    /// The bound: tokens of input, cache reads and cache writes together.
    pub above: u64,
    /// Uncached input.
    pub input: String,
    /// Output.
    pub output: String,
    /// Read from the cache.
    pub cache_read: Option<String>,
    /// Written to the 5-minute cache.
    pub cache_creation_5m: Option<String>,
    /// Written to the 1-hour cache.
    pub cache_creation_1h: Option<String>,
}

/// One row of prices, whichever request it is for: kind, text (that of input where a kind has none).
type Row<'a> = [(&'static str, &'a str); 5];

impl Prices {
    fn row(&self) -> Row<'_> {
        let or_input = |text| or(text, &self.input);
        [
            ("input", &self.input),
            ("output", &self.output),
            ("cache_read", or_input(&self.cache_read)),
            ("cache_creation_5m", or_input(&self.cache_creation_5m)),
            ("cache_creation_1h", or_input(&self.cache_creation_1h)),
        ]
    }
}

impl LongPrompt {
    fn row(&self) -> Row<'_> {
        let or_input = |text| or(text, &self.input);
        [
            ("input", &self.input),
            ("output", &self.output),
            ("cache_read", or_input(&self.cache_read)),
            ("cache_creation_5m", or_input(&self.cache_creation_5m)),
            ("cache_creation_1h", or_input(&self.cache_creation_1h)),
        ]
    }
}

fn or<'a>(text: &'a Option<String>, input: &'a str) -> &'a str {
    text.as_deref().unwrap_or(input)
}

/// Refuses prices that are no exact number of picodollars.
pub(crate) fn check(id: &str, prices: &Prices) -> Result<(), CatalogError> {
    let long = prices.long_prompt.iter().flat_map(LongPrompt::row);
    for (kind, text) in prices.row().into_iter().chain(long) {
        if picodollars(text).is_none() {
            return Err(CatalogError::Price {
                id: id.to_owned(),
                kind,
                text: text.to_owned(),
            });
        }
    }
    Ok(())
}

/// What `usage` costs. Saturates.
pub(crate) fn cost(prices: &Prices, usage: &Usage) -> Cost {
    let long = prices.long_prompt.as_ref();
    let row = match long.filter(|long| usage.total_input() > long.above) {
        Some(long) => long.row(),
        None => prices.row(),
    };
    let tokens = [
        usage.input,
        usage.output,
        usage.cache_read,
        usage.cache_creation_5m,
        usage.cache_creation_1h,
    ];
    let parts = row.into_iter().zip(tokens).map(|((_, text), tokens)| {
        let price = picodollars(text).expect("prices are checked when the catalog is read");
        u128::from(tokens) * u128::from(price)
    });
    Cost(u64::try_from(parts.sum::<u128>()).unwrap_or(u64::MAX))
}

/// The price of one token; `None` if the text is no decimal number, too fine or too large.
fn picodollars(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > DECIMALS {
        return None;
    }
    format!("{whole}{fraction:0<DECIMALS$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_text_is_an_exact_number_of_picodollars() {
        assert_eq!(picodollars("0.000003"), Some(3_000_000));
        assert_eq!(picodollars("0.00000025"), Some(250_000));
        assert_eq!(picodollars("0.000000000001"), Some(1));
        assert_eq!(picodollars("0.0000000000010"), Some(1));
        assert_eq!(picodollars("1"), Some(1_000_000_000_000));
        for wrong in [
            "0.0000000000001",
            "",
            ".5",
            "1.",
            "3e-6",
            "-1",
            "1,5",
            "99999999999",
        ] {
            assert_eq!(picodollars(wrong), None, "{wrong}");
        }
    }
}
