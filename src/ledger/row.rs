//! What one request did, and what each attempt at a provider did for it.

use serde::{Deserialize, Serialize};

use crate::units::{NanoUsd, TokenCount};

/// One request in the ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The decision's id, unique: the row is written once however often it is sent.
    pub id: String,
    /// The caller's `x-request-id`, or ours; callers may repeat theirs.
    pub request_id: String,
    /// When the request had been read, milliseconds since 1970. Its windows and prices are those
    /// of this moment.
    pub time_ms: i64,
    /// The key; `None` when the gateway is open.
    pub key_id: Option<String>,
    /// The groups above it.
    pub project_id: Option<String>,
    /// See `project_id`.
    pub team_id: Option<String>,
    /// See `project_id`.
    pub organisation_id: Option<String>,
    /// The end user, as the caller names them.
    pub user: Option<String>,
    /// Free tags, from the body's `metadata` and from `x-weighbridge-tags`.
    pub tags: Vec<(String, String)>,
    /// `chat`, `completions`, `responses`, `messages`, `embeddings`
    pub surface: String,
    /// The policy; `None` when the caller named a model.
    pub policy: Option<String>,
    /// The score in 0..=1; `None` without one.
    pub score: Option<f32>,
    /// The threshold that it was held against.
    pub threshold: Option<f32>,
    /// The tier that served.
    pub tier: Option<String>,
    /// The first model of the route.
    pub decided_model: Option<String>,
    /// The model that served in the end.
    pub model: Option<String>,
    /// Its provider.
    pub provider: Option<String>,
    /// Which of the provider's deployments, counted from 0.
    pub deployment: Option<u32>,
    /// Why the route was taken.
    pub reason: String,
    /// What was used, by all attempts together.
    pub tokens: Tokens,
    /// Whether any of it is an estimate.
    pub usage_estimated: bool,
    /// What it cost, with attempts that failed; `None` when the model has no price.
    pub cost_nano_usd: Option<i64>,
    /// What the provider says that it cost, where it does.
    pub provider_cost_nano_usd: Option<i64>,
    /// An estimate: what the answer's tokens would have cost at the policy's strongest model.
    pub strong_cost_nano_usd: Option<i64>,
    /// From queueing the text to its score, in microseconds.
    pub scoring_us: u64,
    /// Until the first content, in microseconds.
    pub first_content_us: Option<u64>,
    /// Until the end, in microseconds.
    pub duration_us: u64,
    /// `finished`, or the label of what went wrong.
    pub outcome: String,
    /// Why the answer ended, in OpenAI's words.
    pub finish_reason: Option<String>,
    /// `hit-exact`, `hit-semantic`, `miss` or `bypass`
    pub cache: String,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// What each attempt did, in order.
    pub attempts: Vec<Attempt>,
}

impl Row {
    /// What it counts for in budgets.
    pub fn cost(&self) -> NanoUsd {
        NanoUsd(self.cost_nano_usd.unwrap_or(0))
    }
}

/// One attempt at a provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// The model asked.
    pub model: String,
    /// Its provider.
    pub provider: String,
    /// Which of the provider's deployments, counted from 0.
    pub deployment: Option<u32>,
    /// When it began, in microseconds after the request had been read.
    pub started_us: u64,
    /// How long it took, in microseconds: to its end, or to the first content of a stream.
    pub duration_us: u64,
    /// `ok`, or the label of what went wrong.
    pub outcome: String,
    /// The provider's HTTP status; `None` when there was none.
    pub status: Option<u16>,
    /// Prompt tokens that it used; the request has them by kind.
    pub prompt_tokens: u64,
    /// Tokens that it produced.
    pub completion_tokens: u64,
    /// Whether any of them is an estimate.
    pub usage_estimated: bool,
    /// What it cost; `None` when nothing came of it, or the model has no price.
    pub cost_nano_usd: Option<i64>,
}

/// Tokens by kind, see [`TokenCount`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// All prompt tokens.
    pub prompt: u64,
    /// All tokens produced.
    pub completion: u64,
    /// Of the prompt: read from the provider's cache.
    pub cached: u64,
    /// Of the prompt: written to it.
    pub cache_write: u64,
    /// Of those written: kept for an hour.
    pub cache_write_1h: u64,
    /// Of the completion: reasoning.
    pub reasoning: u64,
    /// Of the prompt: sound.
    pub audio_prompt: u64,
    /// Of the prompt: images.
    pub image_prompt: u64,
    /// Of the completion: sound.
    pub audio_completion: u64,
    /// Whether the provider charged its batch prices.
    pub in_batch: bool,
}

impl Tokens {
    /// Prompt and completion.
    pub fn total(&self) -> u64 {
        self.prompt.saturating_add(self.completion)
    }
}

impl From<TokenCount> for Tokens {
    fn from(count: TokenCount) -> Self {
        Self {
            prompt: count.prompt_tokens,
            completion: count.completion_tokens,
            cached: count.cached_tokens,
            cache_write: count.cache_write_tokens,
            cache_write_1h: count.cache_write_1h_tokens,
            reasoning: count.reasoning_tokens,
            audio_prompt: count.audio_prompt_tokens,
            image_prompt: count.image_prompt_tokens,
            audio_completion: count.audio_completion_tokens,
            in_batch: count.in_batch,
        }
    }
}
