//! What is known of one model: window, abilities, prices, and who says so.

use serde::{Deserialize, Serialize};

use crate::{
    policy::{Abilities, Mode, ModelCard},
    units::{BatchPrice, LongPrompt, Price},
};

/// What is known of a model at a provider.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelFacts {
    /// What it is asked through.
    pub mode: Mode,
    /// Prompt and completion tokens together; `None` when unknown.
    pub context_window: Option<u32>,
    /// Completion tokens at most; `None` when unknown.
    pub max_output_tokens: Option<u32>,
    /// What it can and cannot do.
    pub abilities: Abilities,
    /// What it costs; `None` when unknown.
    pub price: Option<ListPrice>,
    /// The day from which its provider serves it no more, `YYYY-MM-DD`.
    pub retires: Option<String>,
    /// Who says so.
    pub provenance: Provenance,
}

/// Where facts come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The list they were taken from, with its version.
    pub source: String,
    /// When they were taken from it, `YYYY-MM-DD`.
    pub date: String,
    /// The provider's page that the list names.
    pub page: Option<String>,
}

/// List prices as a file keeps them: nano-dollars for a million tokens, what is left out as
/// [`Price`] says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListPrice {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Prompt tokens read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<u64>,
    /// Prompt tokens written to the cache for its usual time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Prompt tokens written to the cache for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<u64>,
    /// Completion tokens spent on reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
    /// Prompt tokens that are sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input: Option<u64>,
    /// Completion tokens that are sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output: Option<u64>,
    /// Prompt tokens that are images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_input: Option<u64>,
    /// A fee for each request, in nano-dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// Prompt tokens that the provider serves as a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_input: Option<u64>,
    /// Completion tokens that it serves so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_output: Option<u64>,
    /// What long prompts cost instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<AbovePrice>,
}

/// Prices above a number of prompt tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbovePrice {
    /// They hold above this many prompt tokens.
    pub tokens: u64,
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Prompt tokens read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<u64>,
    /// Prompt tokens written to the cache for its usual time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Prompt tokens written to the cache for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<u64>,
}

impl From<ListPrice> for Price {
    fn from(list: ListPrice) -> Self {
        Self {
            input_nano_usd_per_mtok: list.input,
            output_nano_usd_per_mtok: list.output,
            cached_input_nano_usd_per_mtok: list.cached_input.unwrap_or(list.input),
            cache_write_nano_usd_per_mtok: list.cache_write,
            cache_write_1h_nano_usd_per_mtok: list.cache_write_1h,
            reasoning_nano_usd_per_mtok: list.reasoning,
            audio_input_nano_usd_per_mtok: list.audio_input,
            audio_output_nano_usd_per_mtok: list.audio_output,
            image_input_nano_usd_per_mtok: list.image_input,
            batch: list.batch_input.zip(list.batch_output).map(|(input, output)| BatchPrice {
                input_nano_usd_per_mtok: input,
                output_nano_usd_per_mtok: output,
            }),
            request_nano_usd: list.request.unwrap_or(0),
            long_prompt: list.above.map(LongPrompt::from),
        }
    }
}

impl From<AbovePrice> for LongPrompt {
    fn from(above: AbovePrice) -> Self {
        Self {
            above_prompt_tokens: above.tokens,
            input_nano_usd_per_mtok: above.input,
            output_nano_usd_per_mtok: above.output,
            cached_input_nano_usd_per_mtok: above.cached_input,
            cache_write_nano_usd_per_mtok: above.cache_write,
            cache_write_1h_nano_usd_per_mtok: above.cache_write_1h,
        }
    }
}

impl ModelFacts {
    /// The card of a model of which nothing else is known.
    pub fn card(&self, name: &str, provider: &str, upstream_name: &str) -> ModelCard {
        ModelCard {
            name: name.to_owned(),
            provider: provider.to_owned(),
            upstream_name: upstream_name.to_owned(),
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            price: self.price.map(Price::from),
            price_changes: Vec::new(),
            abilities: self.abilities.clone(),
            mode: Some(self.mode),
        }
    }

    /// Whether anything is known but that the model exists.
    pub fn says_something(&self) -> bool {
        self.context_window.is_some()
            || self.max_output_tokens.is_some()
            || self.price.is_some()
            || !self.abilities.is_unknown()
    }

    /// Whether two rows say the same, whoever says it.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let anonymous = |facts: &Self| Self { provenance: Provenance::default(), ..facts.clone() };
        anonymous(self) == anonymous(other)
    }
}
