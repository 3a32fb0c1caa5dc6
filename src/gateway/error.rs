//! Why a request got no answer.

use std::time::Duration;

use super::Routed;
use crate::{
    ledger::{budget::Kind, meter::Refusal},
    protocol::fields::RequestError,
    upstream::UpstreamError,
};

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
        /// Time that nobody spent waiting for them.
        overhead: Duration,
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
