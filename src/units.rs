//! Small types with a unit in their name: money, prices, probabilities.
//!
//! Everything here is a plain value without I/O. Money is an integer number of
//! nano-dollars, so that a sum of a million requests is exact.

use std::fmt;

/// One dollar in nano-dollars.
const NANO_PER_USD: i64 = 1_000_000_000;
/// Prices are quoted for this many tokens.
const TOKENS_PER_MTOK: u128 = 1_000_000;

/// An amount of money in nano-dollars (10⁻⁹ US dollars), exact and totally ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NanoUsd(pub i64);

/// Dollars with all nine decimals that matter: trailing zeros are dropped, two are kept.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nano = self.0.unsigned_abs();
        let (dollars, rest) = (nano / NANO_PER_USD as u64, nano % NANO_PER_USD as u64);
        let decimals = format!("{rest:09}");
        let kept = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{dollars}.{}", &decimals[..kept])
    }
}

impl NanoUsd {
    /// Reads what [`fmt::Display`] writes: dollars with at most nine decimals.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (dollars, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if dollars.is_empty() || decimals.len() > 9 || !digits(dollars) || !digits(decimals) {
            return None;
        }
        let nano: i64 = format!("{decimals:0<9}").parse().ok()?;
        let nano = dollars.parse::<i64>().ok()?.checked_mul(NANO_PER_USD)?.checked_add(nano)?;
        Some(Self(if negative { -nano } else { nano }))
    }
}

/// What a model charges, in nano-dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// Prompt tokens that were not served from the provider's cache.
    pub input_nano_usd_per_mtok: u64,
    /// Completion tokens, reasoning included.
    pub output_nano_usd_per_mtok: u64,
    /// Prompt tokens served from the provider's cache; the input price when the table has none.
    pub cached_input_nano_usd_per_mtok: u64,
}

impl Price {
    /// What `tokens` cost, rounded half up to the nano-dollar. `cached_tokens` is a part of
    /// `prompt_tokens`, as in OpenAI's usage object.
    pub fn cost(&self, tokens: &TokenCount) -> NanoUsd {
        let cached = tokens.cached_tokens.min(tokens.prompt_tokens);
        let micro_nano = u128::from(tokens.prompt_tokens - cached)
            * u128::from(self.input_nano_usd_per_mtok)
            + u128::from(cached) * u128::from(self.cached_input_nano_usd_per_mtok)
            + u128::from(tokens.completion_tokens) * u128::from(self.output_nano_usd_per_mtok);
        let nano = (micro_nano + TOKENS_PER_MTOK / 2) / TOKENS_PER_MTOK;
        NanoUsd(i64::try_from(nano).unwrap_or(i64::MAX))
    }
}

/// Tokens that one answer used, as its provider counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenCount {
    /// All prompt tokens, those from the provider's cache included.
    pub prompt_tokens: u64,
    /// All tokens produced, reasoning included.
    pub completion_tokens: u64,
    /// The part of `prompt_tokens` that the provider served from its cache.
    pub cached_tokens: u64,
    /// The part of `completion_tokens` spent on reasoning.
    pub reasoning_tokens: u64,
}

/// A number in 0..=1; construction is the only place that checks it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Probability(f32);

impl Probability {
    /// Certainly not.
    pub const ZERO: Self = Self(0.0);
    /// Certainly.
    pub const ONE: Self = Self(1.0);

    /// `None` when the value is not a number in 0..=1.
    pub fn new(value: f32) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The nearest probability: values outside 0..=1 are clamped, NaN becomes 1 because a
    /// request that cannot be weighed is treated as heavy.
    pub fn clamped(value: f32) -> Self {
        if value.is_nan() { Self::ONE } else { Self(value.clamp(0.0, 1.0)) }
    }

    /// The value in 0..=1.
    pub fn get(self) -> f32 {
        self.0
    }
}

/// Four decimals: enough to replay a decision, short enough for a header.
impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_worked_by_hand() {
        // 1,000 prompt tokens of which 400 cached, 50 completion tokens; $0.10, $0.025, $0.40:
        // 600 × 100 + 400 × 25 + 50 × 400 nano-dollars = 60,000 + 10,000 + 20,000.
        let price = Price {
            input_nano_usd_per_mtok: 100_000_000,
            output_nano_usd_per_mtok: 400_000_000,
            cached_input_nano_usd_per_mtok: 25_000_000,
        };
        let tokens = TokenCount {
            prompt_tokens: 1_000,
            completion_tokens: 50,
            cached_tokens: 400,
            reasoning_tokens: 10,
        };
        assert_eq!(price.cost(&tokens), NanoUsd(90_000));
    }

    #[test]
    fn money_is_read_back_as_it_was_written() {
        for nano in [0, 1, 90_000, 1_500_000_000, -20_000_001, i64::MAX] {
            assert_eq!(NanoUsd::parse(&NanoUsd(nano).to_string()), Some(NanoUsd(nano)));
        }
        for text in ["", "1e3", "1.0000000001", "--1", "$1", "99999999999999999999"] {
            assert_eq!(NanoUsd::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_price_below_one_nano_dollar_a_token_still_adds_up() {
        let price = Price { input_nano_usd_per_mtok: 500_000, ..Price::default() };
        let tokens = TokenCount { prompt_tokens: 3, ..TokenCount::default() };
        assert_eq!(price.cost(&tokens), NanoUsd(2), "1.5 nano-dollars round half up");
    }

    #[test]
    fn money_prints_as_dollars_without_floats() {
        for (nano, text) in [
            (0, "0.00"),
            (90_000, "0.00009"),
            (1_500_000_000, "1.50"),
            (-1, "-0.000000001"),
            (i64::MAX, "9223372036.854775807"),
        ] {
            assert_eq!(NanoUsd(nano).to_string(), text);
        }
    }

    #[test]
    fn a_probability_is_a_number_between_zero_and_one() {
        assert!(Probability::new(f32::NAN).is_none());
        assert!(Probability::new(1.0001).is_none());
        assert_eq!(Probability::clamped(f32::NAN), Probability::ONE);
        assert_eq!(Probability::clamped(-3.0), Probability::ZERO);
    }
}
