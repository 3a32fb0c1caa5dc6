//! A routing decision, and what a request needs of a model.

use std::{sync::Arc, time::Duration};

use super::sessions::Keys;
use crate::{
    classify::model::Stage,
    policy::{Ability, Candidate, Decision, Fallback, ModelCard, Needs, Reason},
    protocol::{incoming::Incoming, neutral::ErrorKind},
    upstream::UpstreamError,
};

/// A routing decision with the names that explain it.
#[derive(Debug, Clone)]
pub struct Routed {
    /// Names this decision in logs.
    pub decision_id: String,
    /// The policy, or `None` when the caller named a model.
    pub policy: Option<String>,
    /// Names of the policy's tiers; empty when the caller named a model.
    pub tiers: Vec<String>,
    /// The decision. Its model indexes point into `models`.
    pub decision: Decision,
    /// The catalogue that the decision was made over.
    pub models: Arc<[ModelCard]>,
    /// What the request needs.
    pub needs: Needs,
    /// What gave the score; `None` without one.
    pub stage: Option<Stage>,
    /// Tokens that were scored; `None` without a score.
    pub scored_tokens: Option<usize>,
    /// From queueing the text to the score or its absence; zero when nothing was scored.
    pub scoring_time: Duration,
    /// The candidate that served, or the first of the route.
    pub served: Option<Candidate>,
    /// Which rejections another model may be asked about.
    pub(super) fallback: Fallback,
    /// The conversation's key, where its model is remembered.
    pub(super) session: Option<Keys>,
    /// The model that the policy's last tier prefers.
    pub(super) strongest: Option<usize>,
}

impl Routed {
    /// A decision that follows the caller's own choice of model.
    pub(super) fn named(models: Arc<[ModelCard]>, index: usize, needs: Needs) -> Self {
        let candidate = Candidate { model: index, tier: 0 };
        Self {
            decision_id: format!("dec_{}", uuid::Uuid::now_v7().simple()),
            policy: None,
            tiers: Vec::new(),
            decision: Decision {
                score: Err(Reason::ModelNamed),
                tier: 0,
                reason: Reason::ModelNamed,
                threshold: None,
                margin: None,
                route: vec![candidate],
                rejections: Vec::new(),
            },
            models,
            needs,
            stage: None,
            scored_tokens: None,
            scoring_time: Duration::ZERO,
            served: Some(candidate),
            fallback: Fallback::default(),
            session: None,
            strongest: None,
        }
    }

    /// The model that served or would serve.
    pub fn model(&self) -> Option<&ModelCard> {
        self.models.get(self.served?.model)
    }

    /// Whether the next candidate may be asked after this failure: not where the request itself is
    /// at fault, unless another model may see it otherwise.
    pub(super) fn may_fall_back(&self, error: &UpstreamError) -> bool {
        match error.rejection() {
            None => !matches!(error, UpstreamError::ShuttingDown),
            Some(ErrorKind::ContextLength) => self.fallback.context_length,
            Some(ErrorKind::ContentPolicy) => self.fallback.content_policy,
            Some(_) => false,
        }
    }

    /// The tier that served or would serve; `None` when the caller named a model.
    pub fn tier(&self) -> Option<&str> {
        let tier = self.served.map_or(self.decision.tier, |candidate| candidate.tier);
        self.tiers.get(tier).map(String::as_str)
    }
}

/// What the request needs of a model.
pub fn needs(request: &Incoming) -> Needs {
    let content = &request.content;
    let abilities = [
        (Ability::Tools, content.tools),
        (Ability::ParallelTools, content.parallel_tools),
        (Ability::Images, content.images),
        (Ability::Audio, content.audio),
        (Ability::Documents, content.documents),
        (Ability::JsonSchema, content.json_schema),
        (Ability::Reasoning, content.reasoning),
        (Ability::Streaming, request.stream),
        (Ability::Embeddings, content.embeddings),
    ];
    Needs {
        prompt_tokens: estimate_tokens(request),
        output_tokens: request.max_output_tokens,
        abilities: abilities.into_iter().filter_map(|(a, needed)| needed.then_some(a)).collect(),
    }
}

/// Bytes of text a token on average (chosen: English and code run at about 4 with today's
/// vocabularies; the estimate only has to keep a request from a window it clearly overflows).
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens that each message's frame costs (OpenAI cookbook, "How to count tokens").
const TOKENS_PER_MESSAGE: u64 = 4;

/// Tokens of a picture (chosen: OpenAI counts 85 to 1,105 at its usual sizes, Anthropic up to some
/// 1,600, a token for 750 pixels).
const TOKENS_PER_IMAGE: u64 = 1_000;
/// Bytes of base64 a token of a document (chosen: a page of a PDF comes at 1,500 to 3,000 tokens
/// with Anthropic, and has some hundred kilobytes).
const DOCUMENT_BYTES_PER_TOKEN: u64 = 64;
/// Bytes of base64 a token of sound (chosen: OpenAI counts ten tokens a second, for which
/// compressed sound takes some ten to twenty kilobytes).
const AUDIO_BYTES_PER_TOKEN: u64 = 1_024;

/// An estimate of the tokens of a text of so many bytes.
pub(super) fn estimate_of_bytes(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}

/// An estimate of the prompt's tokens: text, tools, message frames and attachments.
pub(super) fn estimate_tokens(request: &Incoming) -> u64 {
    let content = &request.content;
    estimate_of_bytes(content.text_bytes)
        + request.messages.len() as u64 * TOKENS_PER_MESSAGE
        + content.image_count as u64 * TOKENS_PER_IMAGE
        + (content.document_bytes as u64).div_ceil(DOCUMENT_BYTES_PER_TOKEN)
        + (content.audio_bytes as u64).div_ceil(AUDIO_BYTES_PER_TOKEN)
}
