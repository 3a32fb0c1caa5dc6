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
    /// Prompt tokens that were neither read from the provider's cache nor written to it.
    pub input_nano_usd_per_mtok: u64,
    /// Completion tokens, reasoning included unless it has its own price.
    pub output_nano_usd_per_mtok: u64,
    /// Prompt tokens served from the provider's cache; the input price when the table has none.
    pub cached_input_nano_usd_per_mtok: u64,
    /// Prompt tokens written to the provider's cache for its usual time; `None`: as input.
    pub cache_write_nano_usd_per_mtok: Option<u64>,
    /// Prompt tokens written to it for an hour; `None`: as any other write.
    pub cache_write_1h_nano_usd_per_mtok: Option<u64>,
    /// Completion tokens spent on reasoning; `None`: as output.
    pub reasoning_nano_usd_per_mtok: Option<u64>,
    /// Prompt tokens that are sound; `None`: as input.
    pub audio_input_nano_usd_per_mtok: Option<u64>,
    /// Completion tokens that are sound; `None`: as output.
    pub audio_output_nano_usd_per_mtok: Option<u64>,
    /// Prompt tokens that are images; `None`: as input.
    pub image_input_nano_usd_per_mtok: Option<u64>,
    /// What a request costs that the provider has served as a batch; `None`: the same.
    pub batch: Option<BatchPrice>,
    /// A fee for each request, in nano-dollars.
    pub request_nano_usd: u64,
    /// What long prompts cost instead.
    pub long_prompt: Option<LongPrompt>,
}

/// What prompt and completion tokens cost in a provider's batch. Its other prices change in the same
/// proportion: those of the prompt's parts as `input`, those of the completion's as `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchPrice {
    /// Prompt tokens.
    pub input_nano_usd_per_mtok: u64,
    /// Completion tokens.
    pub output_nano_usd_per_mtok: u64,
}

/// Prices that hold for a whole request once its prompt is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LongPrompt {
    /// They hold above this many prompt tokens, cached ones included.
    pub above_prompt_tokens: u64,
    /// Prompt tokens.
    pub input_nano_usd_per_mtok: u64,
    /// Completion tokens, reasoning and sound included.
    pub output_nano_usd_per_mtok: u64,
    /// Cached prompt tokens; `None`: as in short prompts.
    pub cached_input_nano_usd_per_mtok: Option<u64>,
    /// Prompt tokens written to the cache; `None`: as in short prompts.
    pub cache_write_nano_usd_per_mtok: Option<u64>,
    /// Those written for an hour; `None`: as in short prompts.
    pub cache_write_1h_nano_usd_per_mtok: Option<u64>,
}

impl Price {
    /// What `tokens` cost, rounded half up to the nano-dollar. The parts of prompt and completion
    /// are parts of them, as in OpenAI's usage object; what exceeds the whole is ignored.
    pub fn cost(&self, tokens: &TokenCount) -> NanoUsd {
        let price = self.for_prompt(tokens.prompt_tokens);
        let (batch_input, batch_output) = self.batch_shares(tokens.in_batch);
        let input = price.input_nano_usd_per_mtok;
        let output = price.output_nano_usd_per_mtok;
        let write = price.cache_write_nano_usd_per_mtok.unwrap_or(input);

        let mut prompt = tokens.prompt_tokens;
        let cached = take(&mut prompt, tokens.cached_tokens);
        let mut written = take(&mut prompt, tokens.cache_write_tokens);
        let written_1h = take(&mut written, tokens.cache_write_1h_tokens);
        let heard = take(&mut prompt, tokens.audio_prompt_tokens);
        let seen = take(&mut prompt, tokens.image_prompt_tokens);
        let mut completion = tokens.completion_tokens;
        let reasoning = take(&mut completion, tokens.reasoning_tokens);
        let spoken = take(&mut completion, tokens.audio_completion_tokens);

        let sum = |parts: &[(u64, u64)], (share, whole): (u64, u64)| {
            let full = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price));
            let full: u128 = full.sum();
            if share == whole { full } else { full * u128::from(share) / u128::from(whole.max(1)) }
        };
        let asked = [
            (prompt, input),
            (cached, price.cached_input_nano_usd_per_mtok),
            (written, write),
            (written_1h, price.cache_write_1h_nano_usd_per_mtok.unwrap_or(write)),
            (heard, price.audio_input_nano_usd_per_mtok.unwrap_or(input)),
            (seen, price.image_input_nano_usd_per_mtok.unwrap_or(input)),
        ];
        let answered = [
            (completion, output),
            (reasoning, price.reasoning_nano_usd_per_mtok.unwrap_or(output)),
            (spoken, price.audio_output_nano_usd_per_mtok.unwrap_or(output)),
        ];
        let micro_nano = sum(&asked, batch_input) + sum(&answered, batch_output);
        let nano = (micro_nano + TOKENS_PER_MTOK / 2) / TOKENS_PER_MTOK
            + u128::from(price.request_nano_usd);
        NanoUsd(i64::try_from(nano).unwrap_or(i64::MAX))
    }

    /// The batch's price and the usual one, of input and of output.
    fn batch_shares(&self, in_batch: bool) -> ((u64, u64), (u64, u64)) {
        let Some(batch) = self.batch.filter(|_| in_batch) else { return ((1, 1), (1, 1)) };
        (
            (batch.input_nano_usd_per_mtok, self.input_nano_usd_per_mtok),
            (batch.output_nano_usd_per_mtok, self.output_nano_usd_per_mtok),
        )
    }

    /// The prices that hold for a prompt of this length: no `long_prompt` is left to look at.
    pub fn for_prompt(&self, prompt_tokens: u64) -> Self {
        let short = Self { long_prompt: None, ..*self };
        let Some(long) = self.long_prompt.filter(|long| prompt_tokens > long.above_prompt_tokens)
        else {
            return short;
        };
        Self {
            input_nano_usd_per_mtok: long.input_nano_usd_per_mtok,
            output_nano_usd_per_mtok: long.output_nano_usd_per_mtok,
            cached_input_nano_usd_per_mtok: long
                .cached_input_nano_usd_per_mtok
                .unwrap_or(short.cached_input_nano_usd_per_mtok),
            cache_write_nano_usd_per_mtok: long
                .cache_write_nano_usd_per_mtok
                .or(short.cache_write_nano_usd_per_mtok),
            cache_write_1h_nano_usd_per_mtok: long
                .cache_write_1h_nano_usd_per_mtok
                .or(short.cache_write_1h_nano_usd_per_mtok),
            reasoning_nano_usd_per_mtok: None,
            audio_output_nano_usd_per_mtok: None,
            ..short
        }
    }
}

/// Moves `part` out of `whole`, or all of it when the part is larger.
fn take(whole: &mut u64, part: u64) -> u64 {
    let taken = part.min(*whole);
    *whole -= taken;
    taken
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
    /// The part of `prompt_tokens` that the provider wrote to its cache.
    pub cache_write_tokens: u64,
    /// The part of `cache_write_tokens` that is kept for an hour.
    pub cache_write_1h_tokens: u64,
    /// The part of `prompt_tokens` that is sound.
    pub audio_prompt_tokens: u64,
    /// The part of `prompt_tokens` that is images.
    pub image_prompt_tokens: u64,
    /// The part of `completion_tokens` spent on reasoning.
    pub reasoning_tokens: u64,
    /// The part of `completion_tokens` that is sound.
    pub audio_completion_tokens: u64,
    /// Whether the provider served it at its batch prices.
    pub in_batch: bool,
}

impl TokenCount {
    /// What two answers used together; the batch prices are those of `last`.
    pub fn with(self, last: Self) -> Self {
        let sum = u64::saturating_add;
        Self {
            prompt_tokens: sum(self.prompt_tokens, last.prompt_tokens),
            completion_tokens: sum(self.completion_tokens, last.completion_tokens),
            cached_tokens: sum(self.cached_tokens, last.cached_tokens),
            cache_write_tokens: sum(self.cache_write_tokens, last.cache_write_tokens),
            cache_write_1h_tokens: sum(self.cache_write_1h_tokens, last.cache_write_1h_tokens),
            audio_prompt_tokens: sum(self.audio_prompt_tokens, last.audio_prompt_tokens),
            image_prompt_tokens: sum(self.image_prompt_tokens, last.image_prompt_tokens),
            reasoning_tokens: sum(self.reasoning_tokens, last.reasoning_tokens),
            audio_completion_tokens: sum(
                self.audio_completion_tokens,
                last.audio_completion_tokens,
            ),
            in_batch: last.in_batch,
        }
    }
}

/// Whether a provider that names this service tier in an answer charges its batch prices: OpenAI's
/// `flex` and everybody's `batch` (OpenAI's and Anthropic's pricing pages, 2026-11).
pub fn is_batch_tier(service_tier: &str) -> bool {
    matches!(service_tier, "flex" | "batch")
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
            ..Price::default()
        };
        let tokens = TokenCount {
            prompt_tokens: 1_000,
            completion_tokens: 50,
            cached_tokens: 400,
            reasoning_tokens: 10,
            ..TokenCount::default()
        };
        assert_eq!(price.cost(&tokens), NanoUsd(90_000));
    }

    #[test]
    fn cache_writes_reasoning_sound_and_fees_worked_by_hand() {
        let price = Price {
            input_nano_usd_per_mtok: 3_000_000_000,
            output_nano_usd_per_mtok: 15_000_000_000,
            cached_input_nano_usd_per_mtok: 300_000_000,
            cache_write_nano_usd_per_mtok: Some(3_750_000_000),
            cache_write_1h_nano_usd_per_mtok: Some(6_000_000_000),
            reasoning_nano_usd_per_mtok: Some(20_000_000_000),
            audio_input_nano_usd_per_mtok: Some(10_000_000_000),
            audio_output_nano_usd_per_mtok: Some(30_000_000_000),
            request_nano_usd: 5_000_000,
            ..Price::default()
        };
        let tokens = TokenCount {
            prompt_tokens: 10_000,
            cached_tokens: 4_000,
            cache_write_tokens: 3_000,
            cache_write_1h_tokens: 1_000,
            audio_prompt_tokens: 500,
            completion_tokens: 1_000,
            reasoning_tokens: 600,
            audio_completion_tokens: 100,
            ..TokenCount::default()
        };
        // Prompt: 2,500 × 3,000 + 4,000 × 300 + 2,000 × 3,750 + 1,000 × 6,000 + 500 × 10,000
        //       = 7,500,000 + 1,200,000 + 7,500,000 + 6,000,000 + 5,000,000 = 27,200,000.
        // Completion: 300 × 15,000 + 600 × 20,000 + 100 × 30,000 = 19,500,000. Fee: 5,000,000.
        assert_eq!(price.cost(&tokens), NanoUsd(51_700_000));
        // Without prices of their own, writes and sound cost as input, reasoning as output:
        // 6,000 × 3,000 + 4,000 × 300 + 1,000 × 15,000 = 34,200,000.
        let plain = Price {
            input_nano_usd_per_mtok: 3_000_000_000,
            output_nano_usd_per_mtok: 15_000_000_000,
            cached_input_nano_usd_per_mtok: 300_000_000,
            ..Price::default()
        };
        assert_eq!(plain.cost(&tokens), NanoUsd(34_200_000));
    }

    #[test]
    fn images_and_batches_worked_by_hand() {
        let price = Price {
            input_nano_usd_per_mtok: 2_000_000_000,
            output_nano_usd_per_mtok: 8_000_000_000,
            cached_input_nano_usd_per_mtok: 1_000_000_000,
            image_input_nano_usd_per_mtok: Some(3_000_000_000),
            batch: Some(BatchPrice {
                input_nano_usd_per_mtok: 1_000_000_000,
                output_nano_usd_per_mtok: 4_000_000_000,
            }),
            ..Price::default()
        };
        let tokens = TokenCount {
            prompt_tokens: 1_000,
            cached_tokens: 100,
            image_prompt_tokens: 200,
            completion_tokens: 10,
            ..TokenCount::default()
        };
        // 700 × 2,000 + 100 × 1,000 + 200 × 3,000 + 10 × 8,000 nano-dollars.
        assert_eq!(price.cost(&tokens), NanoUsd(2_180_000));
        assert_eq!(price.cost(&TokenCount { in_batch: true, ..tokens }), NanoUsd(1_090_000));
        let usual = Price { batch: None, ..price };
        assert_eq!(usual.cost(&TokenCount { in_batch: true, ..tokens }), NanoUsd(2_180_000));
    }

    #[test]
    fn a_long_prompt_raises_the_price_of_the_whole_request() {
        // Gemini 2.5 Pro: $1.25, $10, cached $0.125; above 200,000 tokens $2.50, $15, $0.25.
        let price = Price {
            input_nano_usd_per_mtok: 1_250_000_000,
            output_nano_usd_per_mtok: 10_000_000_000,
            cached_input_nano_usd_per_mtok: 125_000_000,
            reasoning_nano_usd_per_mtok: Some(10_000_000_000),
            long_prompt: Some(LongPrompt {
                above_prompt_tokens: 200_000,
                input_nano_usd_per_mtok: 2_500_000_000,
                output_nano_usd_per_mtok: 15_000_000_000,
                cached_input_nano_usd_per_mtok: Some(250_000_000),
                ..LongPrompt::default()
            }),
            ..Price::default()
        };
        let tokens = |prompt_tokens| TokenCount {
            prompt_tokens,
            cached_tokens: 100_000,
            completion_tokens: 1_000,
            reasoning_tokens: 400,
            ..TokenCount::default()
        };
        // 100,000 × 1,250 + 100,000 × 125 + 1,000 × 10,000 nano-dollars.
        assert_eq!(price.cost(&tokens(200_000)), NanoUsd(147_500_000));
        // 100,001 × 2,500 + 100,000 × 250 + 1,000 × 15,000.
        assert_eq!(price.cost(&tokens(200_001)), NanoUsd(290_002_500));
    }

    #[test]
    fn parts_larger_than_the_whole_never_make_a_cost_negative_or_count_twice() {
        let price = Price {
            input_nano_usd_per_mtok: 1_000_000,
            output_nano_usd_per_mtok: 1_000_000,
            cached_input_nano_usd_per_mtok: 1_000_000,
            ..Price::default()
        };
        let tokens = TokenCount {
            prompt_tokens: 10,
            cached_tokens: 8,
            cache_write_tokens: 8,
            audio_prompt_tokens: 8,
            completion_tokens: 5,
            reasoning_tokens: 9,
            audio_completion_tokens: 9,
            ..TokenCount::default()
        };
        assert_eq!(price.cost(&tokens), NanoUsd(15));
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
