//! The end of a request, however it comes: usage, cost, metrics and one log line.
//!
//! A [`Settlement`] lives as long as its request. [`Settlement::finish`] states how it ended;
//! when it is dropped without that, the caller has left, and that is what is recorded. Code after
//! a loop would not run then; `Drop` does.

use std::{
    mem::take,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Paces, RequestInfo, Routed,
    billing::{storable, surface_name, tags},
    flow::Seen,
    routed::estimate_of_bytes,
};
use crate::{
    classify::model::Stage,
    ledger::{
        Account,
        row::{self, Row},
        tenant::Tenant,
    },
    policy::ModelCard,
    protocol::incoming::Incoming,
    telemetry::{
        InFlight, Metrics, RequestSample,
        decisions::{self, Decided, DecisionLog, Line, LoggedNeeds},
    },
    units::{NanoUsd, Price, TokenCount},
    upstream::UpstreamError,
};

/// Told when the process wants to end: streams in flight then say so and close.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A signal and the handle to it.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until the process wants to end; for ever when the sender has gone.
    pub async fn wanted(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What is known of a request before it is forwarded.
#[derive(Debug, Clone)]
pub struct Plan {
    decision_id: String,
    policy: Option<String>,
    tier: Option<String>,
    model: Option<String>,
    provider: Option<String>,
    reason: &'static str,
    score: Option<f32>,
    threshold: Option<f32>,
    margin: Option<f32>,
    stage: Option<&'static str>,
    scored_tokens: Option<usize>,
    scoring_time: Duration,
    prompt_tokens_estimate: u64,
    output_tokens: Option<u32>,
    abilities: Vec<&'static str>,
    /// The first model of the route, whoever serves in the end.
    decided_model: Option<String>,
    /// The weighed text, when the decision log keeps it.
    prompt: Option<String>,
    stream: bool,
    surface: &'static str,
    user: Option<String>,
    tags: Vec<(String, String)>,
    /// What the policy's strongest model charges.
    strong_price: Option<Price>,
}

impl Plan {
    /// The parts of a decision that are recorded.
    pub fn new(routed: &Routed, request: &Incoming, info: &RequestInfo) -> Self {
        let decision = &routed.decision;
        Self {
            decision_id: routed.decision_id.clone(),
            policy: routed.policy.clone(),
            tier: routed.tier().map(str::to_owned),
            model: routed.model().map(|card| card.name.clone()),
            provider: routed.model().map(|card| card.provider.clone()),
            reason: decision.reason.label(),
            score: decision.score.ok().map(|score| score.get()),
            threshold: decision.threshold.map(|threshold| threshold.get()),
            margin: decision.margin,
            stage: routed.stage.map(Stage::label),
            scored_tokens: routed.scored_tokens,
            scoring_time: routed.scoring_time,
            prompt_tokens_estimate: routed.needs.prompt_tokens,
            output_tokens: routed.needs.output_tokens,
            abilities: routed.needs.abilities.iter().map(|ability| ability.name()).collect(),
            decided_model: routed.model().map(|card| card.name.clone()),
            prompt: None,
            stream: request.stream,
            surface: surface_name(request),
            user: request.user.clone(),
            tags: tags(request, info),
            strong_price: routed
                .strongest
                .and_then(|model| routed.models.get(model)?.price_at(info.unix_ms)),
        }
    }
}

impl Plan {
    /// The same with the text that was weighed.
    pub fn with_prompt(self, prompt: Option<String>) -> Self {
        Self { prompt, ..self }
    }
}

/// One request's account, closed exactly once.
#[derive(Debug)]
pub struct Settlement {
    plan: Plan,
    info: RequestInfo,
    metrics: Arc<Metrics>,
    decisions: Option<Arc<DecisionLog>>,
    /// What is reserved and will be written, where there is a ledger.
    pub(super) account: Option<Account>,
    attempts: usize,
    /// What became of each of them, for the ledger.
    attempted: Vec<row::Attempt>,
    /// What the model asked charges.
    price: Option<Price>,
    /// Whether a provider is being asked.
    asked: bool,
    /// What the last attempt's answer has said so far.
    seen: Seen,
    /// What attempts that came to nothing have used.
    lost: Lost,
    first_content: Option<Duration>,
    settled: bool,
    _in_flight: InFlight,
}

/// What was used for nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lost {
    pub tokens: TokenCount,
    /// `None` where nothing has a price.
    pub cost: Option<NanoUsd>,
    estimated: bool,
    /// Whether it has grown since the budgets were last asked.
    is_news: bool,
}

/// How a request ended when nobody said: its caller had gone.
const CANCELLED: &str = "caller_cancelled";
/// The outcome of an attempt that gave an answer, or the beginning of one.
pub const ANSWERED: &str = "ok";
/// The label of a request that got its whole answer.
pub const FINISHED: &str = "finished";
/// Stands for a name that does not apply.
const NONE: &str = "none";

impl Settlement {
    /// Opens the account.
    pub fn new(
        plan: Plan,
        info: RequestInfo,
        metrics: Arc<Metrics>,
        decisions: Option<Arc<DecisionLog>>,
    ) -> Self {
        let in_flight = metrics.in_flight();
        Self {
            plan,
            info,
            metrics,
            decisions,
            account: None,
            attempts: 0,
            attempted: Vec::new(),
            price: None,
            asked: false,
            seen: Seen::default(),
            lost: Lost::default(),
            first_content: None,
            settled: false,
            _in_flight: in_flight,
        }
    }

    /// The same with an account in the ledger.
    pub fn with_account(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    /// The name of the request.
    pub fn request_id(&self) -> &str {
        &self.info.request_id
    }

    /// When the request had been read.
    pub fn received(&self) -> Instant {
        self.info.received
    }

    /// A provider is about to be asked for this model, which stands in this tier.
    pub fn attempt(&mut self, card: &ModelCard, tier: Option<&str>) {
        self.attempts += 1;
        self.asked = true;
        self.plan.tier = tier.map(str::to_owned);
        self.plan.model = Some(card.name.clone());
        self.plan.provider = Some(card.provider.clone());
        self.price = card.price_at(self.info.unix_ms);
    }

    /// Where the attempt that runs notes what its answer has said so far.
    pub fn seen(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// Whether failed attempts have used more since this was last asked.
    pub fn has_lost_more(&mut self) -> bool {
        take(&mut self.lost.is_news)
    }

    /// What failed attempts have used.
    pub(super) fn lost(&self) -> Lost {
        self.lost
    }

    /// What became of the attempt that began at `started`: an answer, or a failure.
    pub fn attempt_ended(
        &mut self,
        deployment: usize,
        started: Instant,
        failure: Option<&UpstreamError>,
    ) {
        let failed = failure.is_some();
        self.asked = failure.is_some_and(UpstreamError::may_be_charged);
        let used = self.used().filter(|_| failed);
        self.asked = false;
        if let Some((tokens, estimated)) = used {
            let cost = self.price.map(|price| price.cost(&tokens));
            self.lost = Lost {
                tokens: self.lost.tokens.with(tokens),
                cost: both(self.lost.cost, cost),
                estimated: self.lost.estimated || estimated,
                is_news: true,
            };
        }
        if failed {
            self.seen = Seen::default();
        }
        if self.account.is_none() {
            return;
        }
        let since = started.saturating_duration_since(self.info.received);
        let attempt = row::Attempt {
            model: self.plan.model.as_deref().map(storable).unwrap_or_default(),
            provider: self.plan.provider.clone().unwrap_or_default(),
            deployment: u32::try_from(deployment).ok(),
            started_us: microseconds(since),
            duration_us: microseconds(started.elapsed()),
            outcome: failure.map_or(ANSWERED, UpstreamError::label).to_owned(),
            status: failure.map_or(Some(200), UpstreamError::status),
            ..row::Attempt::default()
        };
        self.attempted.push(self.with_use(attempt, used));
    }

    /// The attempt with what it used.
    fn with_use(&self, attempt: row::Attempt, used: Option<(TokenCount, bool)>) -> row::Attempt {
        let Some((tokens, usage_estimated)) = used else { return attempt };
        row::Attempt {
            prompt_tokens: tokens.prompt_tokens,
            completion_tokens: tokens.completion_tokens,
            usage_estimated,
            cost_nano_usd: self.price.map(|price| price.cost(&tokens).0),
            ..attempt
        }
    }

    /// From now on this request may overdraw a budget.
    pub fn exempt(&mut self, budget: String) {
        if let Some(account) = &mut self.account {
            account.exempt(budget);
        }
    }

    /// How much pace the caller's limits leave.
    pub fn pace(&self) -> Paces {
        self.account.as_ref().map(Account::pace).unwrap_or_default()
    }

    /// Whose request it is.
    pub(super) fn caller(&self) -> Option<&Tenant> {
        self.info.caller.as_deref()
    }

    /// When the request had been read, milliseconds since 1970.
    pub(super) fn time_ms(&self) -> i64 {
        self.info.unix_ms
    }

    /// The request's row as far as it is known, without what it used.
    pub(super) fn row(&self) -> Row {
        let (plan, caller) = (&self.plan, self.info.caller.as_deref());
        Row {
            id: plan.decision_id.clone(),
            request_id: self.info.request_id.clone(),
            time_ms: self.info.unix_ms,
            key_id: caller.map(|caller| caller.key.id.clone()),
            project_id: caller.and_then(|caller| Some(caller.project.as_ref()?.id.clone())),
            team_id: caller.and_then(|caller| Some(caller.team.as_ref()?.id.clone())),
            organisation_id: caller.and_then(|c| Some(c.organisation.as_ref()?.id.clone())),
            user: plan.user.as_deref().map(storable),
            tags: plan.tags.clone(),
            surface: plan.surface.to_owned(),
            policy: plan.policy.clone(),
            score: plan.score,
            threshold: plan.threshold,
            tier: plan.tier.clone(),
            decided_model: plan.decided_model.as_deref().map(storable),
            model: plan.model.as_deref().map(storable),
            provider: plan.provider.clone(),
            reason: plan.reason.to_owned(),
            scoring_us: microseconds(plan.scoring_time),
            cache: "bypass".to_owned(),
            stream: plan.stream,
            ..Row::default()
        }
    }

    fn final_row(&self, outcome: &str, duration: Duration) -> Row {
        let usage = self.usage();
        let (tokens, usage_estimated) = usage.unwrap_or_default();
        let (cost, answered) = (self.cost(), self.used());
        let strong_price = self.plan.strong_price.or(self.price).filter(|_| cost.is_some());
        let strong_cost =
            strong_price.zip(answered).map(|(price, (tokens, _))| price.cost(&tokens));
        let mut attempts = self.attempted.clone();
        if let Some(last) = attempts.pop_if(|last| last.outcome == ANSWERED) {
            attempts.push(self.with_use(last, answered));
        }
        Row {
            deployment: self.attempted.last().and_then(|attempt| attempt.deployment),
            tokens: tokens.into(),
            usage_estimated,
            cost_nano_usd: cost.map(|cost| cost.0),
            provider_cost_nano_usd: self.seen.provider_cost.map(|cost| cost.0),
            strong_cost_nano_usd: strong_cost.map(|cost| cost.0),
            first_content_us: self.first_content.map(microseconds),
            duration_us: microseconds(duration),
            outcome: outcome.to_owned(),
            finish_reason: self.seen.finish_reason.clone(),
            attempts,
            ..self.row()
        }
    }

    /// Providers asked so far.
    pub fn attempts(&self) -> usize {
        self.attempts
    }

    /// The first content has come.
    pub fn first_content(&mut self) {
        self.first_content.get_or_insert(self.info.received.elapsed());
    }

    /// Notes what an answer has said so far.
    pub fn observe(&mut self, seen: &Seen) {
        self.seen.clone_from(seen);
    }

    /// What the request has used: its answer, and attempts that came to nothing.
    fn usage(&self) -> Option<(TokenCount, bool)> {
        let Lost { tokens, estimated, .. } = self.lost;
        match self.used() {
            Some((used, guessed)) => Some((tokens.with(used), estimated || guessed)),
            None => (tokens != TokenCount::default()).then_some((tokens, estimated)),
        }
    }

    /// What the last attempt has used: the provider's count, or an estimate where it gave none. An
    /// answer that broke off was counted up to some point before; what came after is estimated.
    /// Where a provider was left while it was being asked, it has read the prompt, as far as anyone
    /// can know. `None` when nothing came, which costs nothing that could be known.
    fn used(&self) -> Option<(TokenCount, bool)> {
        let estimate = TokenCount {
            prompt_tokens: self.plan.prompt_tokens_estimate,
            completion_tokens: estimate_of_bytes(self.seen.content_bytes),
            ..TokenCount::default()
        };
        match self.seen.usage {
            Some(usage) if self.seen.finished => Some((usage, false)),
            Some(usage) if usage.completion_tokens >= estimate.completion_tokens => {
                Some((usage, false))
            }
            Some(usage) => {
                let completion_tokens = estimate.completion_tokens;
                Some((TokenCount { completion_tokens, ..usage }, true))
            }
            None => (self.seen.has_content || self.asked).then_some((estimate, true)),
        }
    }

    /// What the request has cost so far; `None` without usage or price.
    pub fn cost(&self) -> Option<NanoUsd> {
        both(self.lost.cost, self.answer_cost())
    }

    fn answer_cost(&self) -> Option<NanoUsd> {
        Some(self.price?.cost(&self.used()?.0))
    }

    /// Closes the account with a label: `finished` or that of an error.
    pub fn finish(&mut self, outcome: &'static str) {
        if self.settled {
            return;
        }
        self.settled = true;
        let duration = self.info.received.elapsed();
        let plan = &self.plan;
        let counted = self.usage();
        let estimated = counted.map(|(_, estimated)| estimated);
        let counted = counted.map(|(usage, _)| usage);
        let usage = counted.unwrap_or_default();
        self.metrics.request_ended(&RequestSample {
            policy: plan.policy.as_deref().unwrap_or(NONE),
            tier: plan.tier.as_deref().unwrap_or(NONE),
            model: self.metric_model(),
            outcome,
            duration,
            usage: counted,
            usage_estimated: estimated == Some(true),
            cost: self.cost(),
        });
        tracing::info!(
            request_id = self.info.request_id,
            decision_id = plan.decision_id,
            policy = plan.policy,
            tier = plan.tier,
            model = plan.model,
            provider = plan.provider,
            reason = plan.reason,
            score = plan.score,
            threshold = plan.threshold,
            margin = plan.margin,
            stage = plan.stage,
            scored_tokens = plan.scored_tokens,
            scoring_ms = milliseconds(plan.scoring_time),
            prompt_tokens_estimate = plan.prompt_tokens_estimate,
            stream = plan.stream,
            attempts = self.attempts,
            outcome,
            finish_reason = self.seen.finish_reason,
            prompt_tokens = counted.map(|_| usage.prompt_tokens),
            completion_tokens = counted.map(|_| usage.completion_tokens),
            cached_tokens = counted.map(|_| usage.cached_tokens),
            reasoning_tokens = counted.map(|_| usage.reasoning_tokens),
            usage_estimated = estimated,
            cost_usd = self.cost().map(|cost| cost.to_string()),
            first_content_ms = self.first_content.map(milliseconds),
            duration_ms = milliseconds(duration),
            "request"
        );
        for warning in self.seen.lost.iter() {
            self.metrics.translation_warned(warning.code);
        }
        if let (Some(ours), Some(theirs)) = (self.answer_cost(), self.seen.provider_cost)
            && differs(ours, theirs)
        {
            self.metrics.provider_cost_differs(self.metric_model());
        }
        if let Some(mut account) = self.account.take() {
            account.close(self.final_row(outcome, duration));
        }
        if let Some(log) = &self.decisions {
            log.append(Line::Decision(Box::new(self.decided(outcome, duration))));
        }
    }

    fn decided(&self, outcome: &str, duration: Duration) -> Decided {
        let plan = &self.plan;
        Decided {
            id: plan.decision_id.clone(),
            time: decisions::now(),
            request_id: self.info.request_id.clone(),
            policy: plan.policy.clone(),
            score: plan.score,
            stage: plan.stage.map(str::to_owned),
            threshold: plan.threshold,
            tier: plan.tier.clone(),
            model: plan.decided_model.clone(),
            served_model: plan.model.clone(),
            reason: plan.reason.to_owned(),
            needs: LoggedNeeds {
                prompt_tokens: plan.prompt_tokens_estimate,
                output_tokens: plan.output_tokens,
                abilities: plan.abilities.iter().map(|ability| (*ability).to_owned()).collect(),
            },
            prompt_tokens: self.usage().map(|(usage, _)| usage.prompt_tokens),
            completion_tokens: self.usage().map(|(usage, _)| usage.completion_tokens),
            cost_usd: self.cost().map(|cost| cost.to_string()),
            outcome: outcome.to_owned(),
            duration_ms: milliseconds(duration),
            prompt: plan.prompt.clone(),
        }
    }

    /// The model's name as a metric label. A model that callers name freely would make a label of
    /// every name they think of.
    pub fn metric_model(&self) -> &str {
        match (&self.plan.policy, &self.plan.model) {
            (Some(_), Some(model)) => model,
            (None, Some(model)) if self.price.is_some() => model,
            (None, Some(_)) => "unpriced",
            (_, None) => NONE,
        }
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        self.finish(CANCELLED);
    }
}

/// Two costs together; what has no price adds nothing.
fn both(one: Option<NanoUsd>, other: Option<NanoUsd>) -> Option<NanoUsd> {
    match (one, other) {
        (Some(one), Some(other)) => Some(NanoUsd(one.0.saturating_add(other.0))),
        (one, other) => one.or(other),
    }
}

/// By more than 1 % of the larger one.
fn differs(a: NanoUsd, b: NanoUsd) -> bool {
    a.0.abs_diff(b.0) > a.0.max(b.0).unsigned_abs() / 100
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Whole microseconds, in milliseconds.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
