//! The living room: one request from start to end.
//!
//! [`Gateway::converse`] reads as the list in ARCHITECTURE does: classify, decide, forward, relay,
//! settle. The HTTP edge gives it a parsed request and turns what comes back into a response.

mod attempt;
mod billing;
mod flow;
mod forward;
mod house;
mod info;
mod makers;
mod prepare;
mod relay;
mod resolve;
mod sessions;
mod settle;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

pub use house::{House, ReloadError, Reloaded};
pub use info::{Deadlines, RequestInfo, forwarded};
use makers::Makers;
pub use relay::Relay;
pub use resolve::Target;
use sessions::Sessions;
pub use settle::{Plan, Settlement, Stop, milliseconds};

use crate::{
    classify::{
        extract::text_to_weigh,
        model::{Scored, Stage},
        queue::{NoScore, ScoringQueue},
    },
    config::Config,
    ledger::{
        Ledger,
        budget::Kind,
        meter::{Pace, Refusal},
        shared::Shared,
    },
    policy::{
        Ability, Candidate, Decision, Fallback, Load, ModelCard, Needs, Override, Reason,
        session::{self, Pinned},
    },
    protocol::{
        fields::RequestError,
        incoming::Incoming,
        neutral::{ErrorKind, Warnings},
    },
    telemetry::{Metrics, decisions::DecisionLog},
    units::Probability,
    upstream::{UpstreamError, Upstreams, draw},
};

/// Everything a request needs; shared by all of them.
pub struct Gateway {
    config: Config,
    upstreams: Upstreams,
    metrics: Arc<Metrics>,
    /// Empty until the model is loaded.
    scoring: Arc<OnceLock<ScoringQueue>>,
    decisions: Option<Arc<DecisionLog>>,
    ledger: Option<Arc<Ledger>>,
    sessions: Arc<Sessions>,
    makers: Arc<Makers>,
    stop: Stop,
}

/// What a caller sets for one request, from headers; the body's own settings give way to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dial {
    /// A policy instead of the one in `model`.
    pub policy: Option<String>,
    /// Replaces the first threshold.
    pub threshold: Option<Probability>,
}

/// An answer, ready for the edge.
pub struct Reply {
    /// The decision and what became of it.
    pub routed: Routed,
    /// Providers asked.
    pub attempts: usize,
    /// Headers of the provider that may be shown, names already prefixed.
    pub upstream_headers: Vec<(String, Vec<u8>)>,
    /// Time spent in the gateway itself until the head of the answer.
    pub overhead: Duration,
    /// What a translation could not carry over.
    pub warnings: Warnings,
    /// How much pace the caller's limits leave.
    pub pace: Paces,
    /// The body.
    pub body: ReplyBody,
}

/// The pace left of requests and of tokens, where a limit applies.
pub type Paces = (Option<Pace>, Option<Pace>);

/// The body of an answer.
pub enum ReplyBody {
    /// JSON, as the provider sent it, and what it cost when the price is known.
    Whole(bytes::Bytes, Option<crate::units::NanoUsd>),
    /// A stream that settles itself when it ends or is dropped.
    Stream(Box<Relay>),
}

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
    fallback: Fallback,
    /// The conversation's key, where its model is remembered.
    session: Option<u64>,
    /// The model that the policy's last tier prefers.
    strongest: Option<usize>,
}

/// Why a request got no answer. The edge turns these into errors of its protocol.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// `model` names nothing that is configured.
    #[error("`model`: `{model}` is neither a policy nor a model of this gateway{hint}")]
    UnknownModel {
        /// What the caller wrote.
        model: String,
        /// What it could have written; starts with `; ` or is empty.
        hint: String,
    },
    /// The request cannot be read as a whole, which a provider of another protocol needs.
    #[error("{0}")]
    Request(RequestError),
    /// The dial is not a number in 0..=1 or names no policy.
    #[error("{0}")]
    BadOverride(String),
    /// No configured model can serve the request.
    #[error("no model can serve this request: {}", describe_rejections(.0))]
    NoEligibleModel(Box<Routed>),
    /// The caller's key may not use what was asked for.
    #[error("{0}")]
    Forbidden(String),
    /// A hard budget or a limit cannot take the request.
    #[error("{refusal}")]
    Refused {
        /// The decision.
        routed: Box<Routed>,
        /// Which budget, and when to come back.
        refusal: Box<Refusal>,
    },
    /// The ledger cannot account for the request.
    #[error("the ledger is not available: {message}")]
    LedgerUnavailable {
        /// The decision.
        routed: Box<Routed>,
        /// Why.
        message: String,
    },
    /// Every candidate failed; the last error, and how many were asked.
    #[error("{error}")]
    Upstream {
        /// The decision.
        routed: Box<Routed>,
        /// Of the last candidate.
        error: UpstreamError,
        /// Providers asked.
        attempts: usize,
    },
}

impl GatewayError {
    /// The label in metrics and in the JSON `code`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownModel { .. } => "caller_unknown_model",
            Self::Request(_) => "caller_invalid_request",
            Self::BadOverride(_) => "caller_bad_override",
            Self::NoEligibleModel(_) => "policy_no_eligible_model",
            Self::Forbidden(_) => "caller_forbidden",
            Self::Refused { refusal, .. } => match refusal.budget.kind {
                Kind::Budget => "policy_budget_exhausted",
                Kind::Limit => "policy_rate_limited",
            },
            Self::LedgerUnavailable { .. } => "gateway_ledger_unavailable",
            Self::Upstream { error, .. } => error.label(),
        }
    }

    /// The decision, when one was made.
    pub fn routed(&self) -> Option<&Routed> {
        match self {
            Self::NoEligibleModel(routed)
            | Self::Upstream { routed, .. }
            | Self::Refused { routed, .. }
            | Self::LedgerUnavailable { routed, .. } => Some(routed),
            Self::UnknownModel { .. }
            | Self::Request(_)
            | Self::BadOverride(_)
            | Self::Forbidden(_) => None,
        }
    }
}

/// `images (small, large); context_window (…) (tiny)`
fn describe_rejections(routed: &Routed) -> String {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for rejection in &routed.decision.rejections {
        let lack = rejection.lack.to_string();
        let name = routed.models.get(rejection.model).map_or("?", |card| card.name.as_str());
        match reasons.iter_mut().find(|(known, _)| *known == lack) {
            Some((_, names)) => names.push(name),
            None => reasons.push((lack, vec![name])),
        }
    }
    let reasons: Vec<_> = reasons
        .into_iter()
        .map(|(lack, names)| format!("it needs {lack}, which {} cannot give", names.join(", ")))
        .collect();
    reasons.join("; ")
}

impl Routed {
    /// The model that served or would serve.
    pub fn model(&self) -> Option<&ModelCard> {
        self.models.get(self.served?.model)
    }

    /// Whether the next candidate may be asked after this failure: not where the request itself is
    /// at fault, unless another model may see it otherwise.
    fn may_fall_back(&self, error: &UpstreamError) -> bool {
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

impl Gateway {
    /// A gateway without a classifier: until [`Self::scoring_ready`] is called, policies use
    /// their default tier.
    pub fn new(config: Config, upstreams: Upstreams, metrics: Arc<Metrics>, stop: Stop) -> Self {
        Self {
            config,
            upstreams,
            metrics,
            scoring: Arc::default(),
            decisions: None,
            ledger: None,
            sessions: Arc::default(),
            makers: Arc::default(),
            stop,
        }
    }

    /// The same, logging every decision where there is a log.
    pub fn with_decision_log(self, log: Option<DecisionLog>) -> Self {
        Self { decisions: log.map(Arc::new), ..self }
    }

    /// The same with a ledger: keys are asked for where there are any, and every request leaves a
    /// row.
    pub fn with_ledger(self, ledger: Option<Arc<Ledger>>) -> Self {
        Self { ledger, ..self }
    }

    /// The same gateway under another configuration: classifier, ledger, logs, sessions and
    /// metrics go on.
    fn reloaded(&self, config: Config, upstreams: Upstreams) -> Self {
        Self {
            config,
            upstreams,
            metrics: Arc::clone(&self.metrics),
            scoring: Arc::clone(&self.scoring),
            decisions: self.decisions.clone(),
            ledger: self.ledger.clone(),
            sessions: Arc::clone(&self.sessions),
            makers: Arc::clone(&self.makers),
            stop: self.stop.clone(),
        }
    }

    /// The ledger, where there is one.
    pub fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.ledger.as_ref()
    }

    /// The decision log, where there is one.
    pub fn decision_log(&self) -> Option<&DecisionLog> {
        self.decisions.as_deref()
    }

    /// Hands over the scoring threads once the model is loaded. A second call is ignored.
    pub fn scoring_ready(&self, queue: ScoringQueue) {
        let _ = self.scoring.set(queue);
    }

    /// Whether the classifier is loaded.
    pub fn is_ready(&self) -> bool {
        self.scoring.get().is_some()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Texts waiting for a score.
    pub fn queue_depth(&self) -> usize {
        self.scoring.get().map_or(0, ScoringQueue::depth)
    }

    /// Answers a conversation. Dropping the future cancels it and settles what it used.
    pub async fn converse(
        &self,
        request: &Incoming,
        info: RequestInfo,
        dial: Dial,
    ) -> Result<Reply, GatewayError> {
        let routed = self.route(request, &info, dial).await?;
        let keeps_prompts = self.decisions.as_ref().is_some_and(|log| log.keeps_prompts());
        let prompt = keeps_prompts.then(|| text_to_weigh(&request.messages).into_owned());
        let plan = Plan::new(&routed, request, &info).with_prompt(prompt);
        let (metrics, decisions) = (Arc::clone(&self.metrics), self.decisions.clone());
        let account = self.ledger.as_ref().map(|ledger| ledger.account(info.caller.as_deref()));
        let mut settlement =
            Settlement::new(plan, info.clone(), metrics, decisions).with_account(account);
        if routed.decision.route.is_empty() {
            let error = GatewayError::NoEligibleModel(Box::new(routed));
            settlement.finish(error.label());
            return Err(error);
        }
        self.forward(request, &info, routed, settlement).await
    }

    /// Tokens of an Anthropic request, in the answer's own shape: the provider's count, or an
    /// estimate, and whether it is one.
    pub async fn count_tokens(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        dial: Dial,
    ) -> Result<(Routed, bytes::Bytes, bool), GatewayError> {
        let routed = self.route(request, info, dial).await?;
        let Some(card) = routed.model().cloned() else {
            return Err(GatewayError::NoEligibleModel(Box::new(routed)));
        };
        if let Some(body) = self.counted_tokens(request, info, &card).await {
            return Ok((routed, body, false));
        }
        let body = format!("{{\"input_tokens\":{}}}", routed.needs.prompt_tokens);
        Ok((routed, body.into(), true))
    }

    /// Scores and decides, and forwards nothing.
    pub async fn route(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        dial: Dial,
    ) -> Result<Routed, GatewayError> {
        let needs = needs(request);
        let dial = Dial {
            policy: dial.policy.or_else(|| request.overrides.policy.clone()),
            threshold: dial.threshold.or(request.overrides.threshold.and_then(Probability::new)),
        };
        let target = resolve::resolve(&self.config, &request.model, &dial)?;
        let allowed = info.caller.as_deref().map(|caller| &caller.key.restrictions);
        let (policy, threshold, modifier) = match target {
            Target::Policy { policy, threshold, modifier } => (policy, threshold, modifier),
            Target::Model { models, index } => {
                let mut routed = named_model(models, index, needs);
                allowed.map_or(Ok(()), |allowed| billing::restrict(&mut routed, allowed))?;
                return Ok(routed);
            }
        };
        if let Some(allowed) = allowed.filter(|allowed| !allowed.allows_policy(policy.name())) {
            let names = allowed.policies.join(", ");
            let message = format!("`model`: the API key may use only the policies {names}");
            return Err(GatewayError::Forbidden(message));
        }
        let started = Instant::now();
        let dial = Override { threshold };
        let scored = self.score(request, &policy.thresholds(dial)).await;
        let scoring_time = started.elapsed();
        let outcome = match scored {
            Ok(scored) => scored.stage.label(),
            Err(reason) => reason.label(),
        };
        let score = scored.ok().map(|scored| scored.score.get());
        self.metrics.scoring_ended(policy.name(), outcome, score, scoring_time);
        let models = &self.config.models;
        let mut decision = policy.decide(models, &needs, scored.map(|scored| scored.score), dial);
        let load = |model: usize| self.load(model);
        policy.arrange(&mut decision.route, models, &needs, modifier, &load, &mut draw);
        let session =
            policy.settings().sessions.then(|| sessions::key(policy.name(), request, info));
        if let Some((key, turn)) = session.zip(sessions::turn(request))
            && let Some(pinned) = self.pinned(key).await
        {
            session::keep(&mut decision, models, &needs, &pinned, turn);
        }
        let strongest = policy.tiers().last().and_then(|tier| tier.models.first()).copied();
        let mut routed = Routed {
            decision_id: format!("dec_{}", uuid::Uuid::now_v7().simple()),
            policy: Some(policy.name().to_owned()),
            tiers: policy.tiers().iter().map(|tier| tier.name.clone()).collect(),
            served: decision.route.first().copied(),
            decision,
            models: Arc::clone(&self.config.models),
            needs,
            stage: scored.ok().map(|scored| scored.stage),
            scored_tokens: scored.ok().map(|scored| scored.tokens),
            scoring_time,
            fallback: policy.settings().fallback,
            session,
            strongest,
        };
        if routed.served.is_some() {
            allowed.map_or(Ok(()), |allowed| billing::restrict(&mut routed, allowed))?;
        }
        Ok(routed)
    }

    /// The conversation's next turn will know which model served this one.
    fn remember(&self, routed: &Routed) {
        let (Some(key), Some(candidate), Some(card)) =
            (routed.session, routed.served, routed.model())
        else {
            return;
        };
        let pinned = Pinned {
            model: card.name.clone(),
            tier: candidate.tier,
            prompt_tokens: routed.needs.prompt_tokens,
        };
        if let Some(shared) = self.shared() {
            shared.remember(key, sessions::to_text(&pinned));
        }
        self.sessions.remember(key, pinned, Instant::now());
    }

    /// What is remembered of a conversation, by this gateway or by those beside it.
    async fn pinned(&self, key: u64) -> Option<Pinned> {
        let told = match self.shared() {
            Some(shared) => shared.recall(key).await,
            None => None,
        };
        let told = told.as_deref().and_then(sessions::from_text);
        told.or_else(|| self.sessions.find(key, Instant::now()))
    }

    fn shared(&self) -> Option<&Arc<Shared>> {
        self.ledger.as_ref()?.shared()
    }

    /// What is measured of a model of the catalogue.
    fn load(&self, model: usize) -> Load {
        let Some(card) = self.config.models.get(model) else { return Load::default() };
        let observed = self.upstreams.observed(&card.provider, &card.upstream_name);
        Load { first_content_ms: observed.first_content_ms, in_flight: observed.in_flight }
    }

    /// The score, or the reason why there is none.
    async fn score(
        &self,
        request: &Incoming,
        thresholds: &[Probability],
    ) -> Result<Scored, Reason> {
        let queue = self.scoring.get().ok_or(Reason::ClassifierUnavailable)?;
        let text = text_to_weigh(&request.messages).into_owned();
        queue.score(text, thresholds).await.map_err(|error| match error {
            NoScore::QueueFull => Reason::ClassifierQueueFull,
            NoScore::DeadlinePassed => Reason::ClassifierTimeout,
            NoScore::Failed => Reason::ClassifierUnavailable,
        })
    }
}

/// A decision that follows the caller's own choice of model.
fn named_model(models: Arc<[ModelCard]>, index: usize, needs: Needs) -> Routed {
    let candidate = Candidate { model: index, tier: 0 };
    Routed {
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

/// An estimate of the prompt's tokens: text, tools and message frames; attachments not counted.
fn estimate_tokens(request: &Incoming) -> u64 {
    let bytes = request.content.text_bytes as u64;
    bytes.div_ceil(BYTES_PER_TOKEN) + request.messages.len() as u64 * TOKENS_PER_MESSAGE
}
