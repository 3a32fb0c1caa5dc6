//! The living room: one request from start to end.
//!
//! [`Gateway::converse`] reads as the list in ARCHITECTURE does: classify, decide, forward, relay,
//! settle. The HTTP edge gives it a parsed request and turns what comes back into a response.

mod attempt;
mod billing;
mod error;
mod flow;
mod forward;
mod house;
mod info;
mod makers;
mod media;
mod prepare;
mod relay;
mod resolve;
mod routed;
mod sessions;
mod settle;
mod weigh;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use hyper::header::HeaderMap;

pub use billing::may_name;
pub use error::GatewayError;
pub use house::{House, ReloadError, Reloaded};
pub use info::{Deadlines, RequestInfo, forwarded};
use makers::Makers;
use media::Fetchers;
pub use relay::Relay;
pub use resolve::Target;
pub use routed::{Routed, needs};
use sessions::Sessions;
pub use settle::{Plan, Settlement, Stop, milliseconds};

use crate::{
    classify::{extract::text_to_weigh, queue::ScoringQueue},
    config::Config,
    ledger::{Ledger, meter::Pace},
    media::{Reach, is_public},
    protocol::{incoming::Incoming, neutral::Warnings},
    telemetry::{Metrics, decisions::DecisionLog},
    units::Probability,
    upstream::Upstreams,
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
    /// Where images and documents may be fetched from.
    reach: Reach,
    fetchers: Fetchers,
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
    pub upstream_headers: HeaderMap,
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

impl Gateway {
    /// A gateway without a classifier: until [`Self::scoring_ready`] is called, policies use
    /// their default tier.
    pub fn new(config: Config, upstreams: Upstreams, metrics: Arc<Metrics>, stop: Stop) -> Self {
        Self {
            fetchers: Fetchers::new(&config, &upstreams, is_public),
            config,
            upstreams,
            metrics,
            scoring: Arc::default(),
            decisions: None,
            ledger: None,
            sessions: Arc::default(),
            makers: Arc::default(),
            reach: is_public,
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

    /// The same, fetching images and documents from the addresses that `reach` allows instead of
    /// the public ones: for a program whose host is on its own machine. No configuration can say
    /// so.
    pub fn with_reach(self, reach: Reach) -> Self {
        Self { fetchers: Fetchers::new(&self.config, &self.upstreams, reach), reach, ..self }
    }

    /// The same gateway under another configuration: classifier, ledger, logs, sessions and
    /// metrics go on.
    fn reloaded(&self, config: Config, upstreams: Upstreams) -> Self {
        Self {
            fetchers: Fetchers::new(&config, &upstreams, self.reach),
            config,
            upstreams,
            metrics: Arc::clone(&self.metrics),
            scoring: Arc::clone(&self.scoring),
            decisions: self.decisions.clone(),
            ledger: self.ledger.clone(),
            sessions: Arc::clone(&self.sessions),
            makers: Arc::clone(&self.makers),
            reach: self.reach,
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
        // Boxed, because it goes from hand to hand and is large.
        let settlement = Settlement::new(plan, info.clone(), metrics, decisions);
        let mut settlement = Box::new(settlement.with_account(account));
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
    ) -> Result<Counted, GatewayError> {
        let routed = self.decide(request, info, dial).await?;
        let Some(card) = routed.model().cloned() else {
            return Err(GatewayError::NoEligibleModel(Box::new(routed)));
        };
        let asked = Instant::now();
        let counted = self.counted_tokens(request, info, &card).await;
        let overhead = info.received.elapsed().saturating_sub(asked.elapsed());
        let estimated = counted.is_none();
        let body = counted.unwrap_or_else(|| {
            format!("{{\"input_tokens\":{}}}", routed.needs.prompt_tokens).into()
        });
        Ok(Counted { routed, body, estimated, overhead })
    }
}

/// How many tokens a conversation has.
pub struct Counted {
    /// Whose tokens.
    pub routed: Routed,
    /// In Anthropic's shape.
    pub body: bytes::Bytes,
    /// Whether the number is ours and not the provider's.
    pub estimated: bool,
    /// Time not spent waiting for the provider.
    pub overhead: Duration,
}
