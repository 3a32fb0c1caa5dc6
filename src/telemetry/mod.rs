//! Metric names, all spelled here, and the log's set-up.
//!
//! Prometheus conventions: prefix `weighbridge_`, base units, `_total` for counters. Labels hold
//! configured names and closed sets only: never a prompt, a session or a key.

pub mod decisions;

use std::{fmt::Write as _, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

use crate::units::{NanoUsd, TokenCount};

/// Seconds; from a cached score to a long answer.
const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];
/// Seconds of scoring, which takes milliseconds.
const SCORING_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0];
/// Scores, in tenths.
const SCORES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    policy: String,
    tier: String,
    model: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    provider: String,
    model: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TokenLabels {
    model: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PolicyLabel {
    policy: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WarningLabel {
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// What one finished request adds.
#[derive(Debug, Clone)]
pub struct RequestSample<'a> {
    /// The policy's name, or `none` when the caller named a model.
    pub policy: &'a str,
    /// The tier that served, or `none`.
    pub tier: &'a str,
    /// The model that served, or `none`. A configured name.
    pub model: &'a str,
    /// `finished`, `cancelled`, or the label of an error.
    pub outcome: &'static str,
    /// From the request's last byte to the answer's.
    pub duration: Duration,
    /// What the provider counted, if it did.
    pub usage: Option<TokenCount>,
    /// Whether the gateway had to estimate it, in whole or in part.
    pub usage_estimated: bool,
    /// What that cost, when the price is known.
    pub cost: Option<NanoUsd>,
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<PolicyLabel, Histogram, fn() -> Histogram>,
    refused: Family<OutcomeLabel, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    cost_nano_usd: Family<ModelLabel, Counter>,
    scores: Family<PolicyLabel, Histogram, fn() -> Histogram>,
    scoring: Family<OutcomeLabel, Counter>,
    scoring_seconds: Histogram,
    queue_depth: Gauge,
    in_flight: Gauge,
    lost_decisions: Gauge,
    usage_estimated: Counter,
    warnings: Family<WarningLabel, Counter>,
    image_fetches: Family<OutcomeLabel, Counter>,
    document_fetches: Family<OutcomeLabel, Counter>,
    reloads: Family<OutcomeLabel, Counter>,
    reload_failed: Gauge,
    ledger_waiting: Gauge,
    ledger_down: Gauge,
    price_differs: Family<ModelLabel, Counter>,
}

/// Registers a metric under its name.
fn kept<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("weighbridge");
        let r = &mut registry;
        let request_seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let scores: fn() -> Histogram = || Histogram::new(SCORES);
        Self {
            requests: kept(r, "requests", "Requests routed, by how they ended", Family::default()),
            request_seconds: kept(
                r,
                "request_duration_seconds",
                "From the whole request read to the whole answer sent",
                Family::new_with_constructor(request_seconds),
            ),
            refused: kept(
                r,
                "refused_requests",
                "Requests refused before routing",
                Family::default(),
            ),
            attempts: kept(r, "upstream_attempts", "Attempts at providers", Family::default()),
            tokens: kept(r, "tokens", "Tokens as counted by providers", Family::default()),
            cost_nano_usd: kept(
                r,
                "cost_nano_usd",
                "Cost of answers in nano-dollars, exact",
                Family::default(),
            ),
            scores: kept(r, "score", "Scores given", Family::new_with_constructor(scores)),
            scoring: kept(
                r,
                "scoring",
                "Texts given to the classifier, by result",
                Family::default(),
            ),
            scoring_seconds: kept(
                r,
                "scoring_duration_seconds",
                "From queueing a text to its score",
                Histogram::new(SCORING_SECONDS),
            ),
            queue_depth: kept(
                r,
                "scoring_queue_depth",
                "Texts waiting for a score",
                Gauge::default(),
            ),
            in_flight: kept(r, "requests_in_flight", "Requests being answered", Gauge::default()),
            lost_decisions: kept(
                r,
                "decision_log_lost_lines",
                "Lines of the decision log that could not be written",
                Gauge::default(),
            ),
            usage_estimated: kept(
                r,
                "usage_estimated",
                "Answers whose tokens had to be estimated",
                Counter::default(),
            ),
            warnings: kept(
                r,
                "translation_warnings",
                "What translations could not carry over",
                Family::default(),
            ),
            image_fetches: kept(
                r,
                "image_fetches",
                "Images by address that a provider could not fetch itself, by what came of them",
                Family::default(),
            ),
            document_fetches: kept(
                r,
                "document_fetches",
                "Documents by address that a provider could not fetch itself, by what came of them",
                Family::default(),
            ),
            reloads: kept(r, "config_reloads", "Reloads of the configuration", Family::default()),
            reload_failed: kept(
                r,
                "config_reload_failed",
                "1 while the configuration file is not the one in force",
                Gauge::default(),
            ),
            ledger_waiting: kept(
                r,
                "ledger_waiting_rows",
                "Rows that wait for the ledger's store",
                Gauge::default(),
            ),
            ledger_down: kept(
                r,
                "ledger_store_down",
                "1 while the ledger's store cannot be written",
                Gauge::default(),
            ),
            price_differs: kept(
                r,
                "provider_cost_differs",
                "Answers whose provider's own cost differs from ours by more than 1 %",
                Family::default(),
            ),
            registry,
        }
    }
}

impl Metrics {
    /// A request that was routed has ended.
    pub fn request_ended(&self, sample: &RequestSample<'_>) {
        self.requests
            .get_or_create(&RequestLabels {
                policy: sample.policy.to_owned(),
                tier: sample.tier.to_owned(),
                model: sample.model.to_owned(),
                outcome: sample.outcome,
            })
            .inc();
        self.request_seconds
            .get_or_create(&PolicyLabel { policy: sample.policy.to_owned() })
            .observe(sample.duration.as_secs_f64());
        if let Some(usage) = sample.usage {
            let mut labels = TokenLabels { model: sample.model.to_owned(), kind: "" };
            for (kind, count) in [
                ("prompt", usage.prompt_tokens),
                ("completion", usage.completion_tokens),
                ("cached_prompt", usage.cached_tokens),
                ("reasoning", usage.reasoning_tokens),
            ] {
                labels.kind = kind;
                self.tokens.get_or_create(&labels).inc_by(count);
            }
        }
        if sample.usage_estimated {
            self.usage_estimated.inc();
        }
        if let Some(cost) = sample.cost {
            let label = ModelLabel { model: sample.model.to_owned() };
            self.cost_nano_usd.get_or_create(&label).inc_by(cost.0.max(0).unsigned_abs());
        }
    }

    /// A request was refused before it was routed; `outcome` is the error's label.
    pub fn request_refused(&self, outcome: &'static str) {
        self.refused.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A translation could not carry something over; `code` is the warning's word.
    pub fn translation_warned(&self, code: &'static str) {
        self.warnings.get_or_create(&WarningLabel { code }).inc();
    }

    /// An image by address was fetched (`ok`), or was not: the error's label.
    pub fn image_fetched(&self, outcome: &'static str) {
        self.image_fetches.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The same of a document.
    pub fn document_fetched(&self, outcome: &'static str) {
        self.document_fetches.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// One attempt at a provider has its result: `ok` or the error's label.
    pub fn attempt_ended(&self, provider: &str, model: &str, outcome: &'static str) {
        let labels =
            AttemptLabels { provider: provider.to_owned(), model: model.to_owned(), outcome };
        self.attempts.get_or_create(&labels).inc();
    }

    /// The classifier answered: `encoder`, `static`, `memory`, or the reason why not.
    pub fn scoring_ended(
        &self,
        policy: &str,
        outcome: &'static str,
        score: Option<f32>,
        took: Duration,
    ) {
        self.scoring.get_or_create(&OutcomeLabel { outcome }).inc();
        self.scoring_seconds.observe(took.as_secs_f64());
        if let Some(score) = score {
            let label = PolicyLabel { policy: policy.to_owned() };
            self.scores.get_or_create(&label).observe(f64::from(score));
        }
    }

    /// The configuration was reloaded, or could not be.
    pub fn reload_ended(&self, done: bool) {
        let outcome = if done { "ok" } else { "failed" };
        self.reloads.get_or_create(&OutcomeLabel { outcome }).inc();
        self.reload_failed.set(i64::from(!done));
    }

    /// How the ledger stands.
    pub fn ledger_stands(&self, waiting_rows: usize, store_down: bool) {
        self.ledger_waiting.set(i64::try_from(waiting_rows).unwrap_or(i64::MAX));
        self.ledger_down.set(i64::from(store_down));
    }

    /// A provider says that an answer costs more than 1 % more or less than we do.
    pub fn provider_cost_differs(&self, model: &str) {
        self.price_differs.get_or_create(&ModelLabel { model: model.to_owned() }).inc();
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// The text that `/metrics` answers with (OpenMetrics 1.0).
    pub fn render(&self, queue_depth: usize, lost_decisions: u64) -> String {
        self.lost_decisions.set(i64::try_from(lost_decisions).unwrap_or(i64::MAX));
        self.queue_depth.set(i64::try_from(queue_depth).unwrap_or(i64::MAX));
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing to a string cannot fail; say so rather than answer with half a page.
            text.clear();
            let _ = writeln!(text, "# the metrics could not be encoded");
        }
        text
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Logs as JSON lines on stderr; `RUST_LOG`-style `filter`, `info` by default.
pub fn start_log(filter: Option<&str>) {
    use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};
    let filter = EnvFilter::new(filter.unwrap_or("info"));
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(std::io::stderr);
    // A second start (in tests) keeps the first log.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}
