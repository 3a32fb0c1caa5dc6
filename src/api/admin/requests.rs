//! `/admin/requests/{id}`: one request, and why it went where it went.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Desk,
    access::Viewer,
    error::{AdminError, Asking},
    read::{Id, Moment},
};
use crate::{
    ledger::row::{Attempt, Row, Tokens},
    units::NanoUsd,
};

/// One request in the ledger.
#[derive(Serialize, ToSchema)]
pub(super) struct RequestView {
    /// The decision's id, as in `x-weighbridge-decision-id`.
    id: String,
    /// The caller's `x-request-id`, or ours.
    request_id: String,
    /// When it had been read.
    time: Moment,
    caller: CallerView,
    /// `chat`, `completions`, `responses`, `messages` or `embeddings`.
    surface: String,
    stream: bool,
    decision: DecisionView,
    /// What served in the end.
    served: ServedView,
    /// What each attempt at a provider did, in order.
    attempts: Vec<AttemptView>,
    tokens: TokensView,
    /// Whether any of the tokens is an estimate.
    usage_estimated: bool,
    cost: CostView,
    latency: LatencyView,
    /// `finished`, or the label of what went wrong.
    outcome: String,
    /// Why the answer ended, in OpenAI's words.
    finish_reason: Option<String>,
    /// `hit-exact`, `hit-semantic`, `miss` or `bypass`.
    cache: String,
}

/// Who asked.
#[derive(Serialize, ToSchema)]
pub(super) struct CallerView {
    /// null when the gateway was open.
    key_id: Option<String>,
    project_id: Option<String>,
    team_id: Option<String>,
    organisation_id: Option<String>,
    /// The end user, as the caller names them.
    user: Option<String>,
    /// Free tags.
    tags: BTreeMap<String, String>,
}

/// Where the request was sent, and why.
#[derive(Serialize, ToSchema)]
pub(super) struct DecisionView {
    /// null when the caller named a model.
    policy: Option<String>,
    /// In 0..=1; null without a score.
    score: Option<f32>,
    /// What it was held against.
    threshold: Option<f32>,
    /// The first model of the route.
    model: Option<String>,
    /// Why the route was taken.
    reason: String,
}

/// What served.
#[derive(Serialize, ToSchema)]
pub(super) struct ServedView {
    tier: Option<String>,
    model: Option<String>,
    provider: Option<String>,
    /// Which of the provider's deployments, from 0.
    deployment: Option<u32>,
}

/// One attempt at a provider.
#[derive(Serialize, ToSchema)]
pub(super) struct AttemptView {
    model: String,
    provider: String,
    /// Which of the provider's deployments, from 0.
    deployment: Option<u32>,
    /// After the request had been read.
    started_us: u64,
    /// To its end, or to the first content of a stream.
    duration_us: u64,
    /// `ok`, or the label of what went wrong.
    outcome: String,
    /// The provider's HTTP status.
    status: Option<u16>,
    /// What it used, also where it came to nothing.
    prompt_tokens: u64,
    completion_tokens: u64,
    usage_estimated: bool,
    /// Null where nothing came of it, or the model has no price.
    cost_usd: Option<String>,
    cost_nano_usd: Option<i64>,
}

/// Tokens by kind. The parts are parts of the prompt and of the completion.
#[derive(Serialize, ToSchema)]
pub(super) struct TokensView {
    prompt: u64,
    completion: u64,
    cached: u64,
    cache_write: u64,
    /// Of those written: kept for an hour.
    cache_write_1h: u64,
    reasoning: u64,
    audio_prompt: u64,
    image_prompt: u64,
    audio_completion: u64,
    /// Whether the provider charged its batch prices.
    in_batch: bool,
}

/// What it cost, in dollars and in nano-dollars; null where nobody knows.
#[derive(Serialize, ToSchema)]
pub(super) struct CostView {
    usd: Option<String>,
    nano_usd: Option<i64>,
    /// What the provider says that it was.
    provider_usd: Option<String>,
    provider_nano_usd: Option<i64>,
    /// An estimate: the same tokens at the policy's strongest model.
    strong_usd: Option<String>,
    strong_nano_usd: Option<i64>,
}

/// Where the time went.
#[derive(Serialize, ToSchema)]
pub(super) struct LatencyView {
    /// From queueing the text to its score.
    scoring_us: u64,
    first_content_us: Option<u64>,
    /// Until the end.
    duration_us: u64,
}

/// Shows one request by the id of its decision.
#[utoipa::path(
    get, operation_id = "show_request", path = "/admin/requests/{id}", tag = "usage",
    params(("id" = String, Path)), responses((status = 200, body = RequestView), Asking)
)]
pub(super) async fn show(
    _: Viewer,
    State(desk): State<Desk>,
    Id(id): Id,
) -> Result<Json<RequestView>, AdminError> {
    let ledger = desk.ledger()?;
    // What has ended by now is there.
    ledger.flush().await?;
    match ledger.store().row(&id).await? {
        Some(row) => Ok(Json(row.into())),
        None => Err(AdminError::Missing { kind: "request", id }),
    }
}

impl From<Row> for RequestView {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            request_id: row.request_id,
            time: Moment(row.time_ms),
            caller: CallerView {
                key_id: row.key_id,
                project_id: row.project_id,
                team_id: row.team_id,
                organisation_id: row.organisation_id,
                user: row.user,
                tags: row.tags.into_iter().collect(),
            },
            surface: row.surface,
            stream: row.stream,
            decision: DecisionView {
                policy: row.policy,
                score: row.score,
                threshold: row.threshold,
                model: row.decided_model,
                reason: row.reason,
            },
            served: ServedView {
                tier: row.tier,
                model: row.model,
                provider: row.provider,
                deployment: row.deployment,
            },
            attempts: row.attempts.into_iter().map(AttemptView::from).collect(),
            tokens: row.tokens.into(),
            usage_estimated: row.usage_estimated,
            cost: CostView {
                usd: usd(row.cost_nano_usd),
                nano_usd: row.cost_nano_usd,
                provider_usd: usd(row.provider_cost_nano_usd),
                provider_nano_usd: row.provider_cost_nano_usd,
                strong_usd: usd(row.strong_cost_nano_usd),
                strong_nano_usd: row.strong_cost_nano_usd,
            },
            latency: LatencyView {
                scoring_us: row.scoring_us,
                first_content_us: row.first_content_us,
                duration_us: row.duration_us,
            },
            outcome: row.outcome,
            finish_reason: row.finish_reason,
            cache: row.cache,
        }
    }
}

/// Nano-dollars as dollars.
fn usd(nano_usd: Option<i64>) -> Option<String> {
    nano_usd.map(|nano_usd| NanoUsd(nano_usd).to_string())
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            model: attempt.model,
            provider: attempt.provider,
            deployment: attempt.deployment,
            started_us: attempt.started_us,
            duration_us: attempt.duration_us,
            outcome: attempt.outcome,
            status: attempt.status,
            prompt_tokens: attempt.prompt_tokens,
            completion_tokens: attempt.completion_tokens,
            usage_estimated: attempt.usage_estimated,
            cost_usd: usd(attempt.cost_nano_usd),
            cost_nano_usd: attempt.cost_nano_usd,
        }
    }
}

impl From<Tokens> for TokensView {
    fn from(tokens: Tokens) -> Self {
        Self {
            prompt: tokens.prompt,
            completion: tokens.completion,
            cached: tokens.cached,
            cache_write: tokens.cache_write,
            cache_write_1h: tokens.cache_write_1h,
            reasoning: tokens.reasoning,
            audio_prompt: tokens.audio_prompt,
            image_prompt: tokens.image_prompt,
            audio_completion: tokens.audio_completion,
            in_batch: tokens.in_batch,
        }
    }
}
