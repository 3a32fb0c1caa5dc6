//! What a spent budget says.

use std::{fmt, sync::Arc};

use super::Pace;
use crate::{
    ledger::{
        budget::{Budget, Kind, Unit, WhenSpent, Window},
        tenant::Level,
    },
    units::NanoUsd,
};

/// A hard budget or limit that cannot take a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Which.
    pub budget: Arc<Budget>,
    /// What people call its key or group; `None` shows the id.
    pub whose: Option<String>,
    /// What it could still give, at least 0.
    pub left: i64,
    /// What the request needs of it.
    pub needed: i64,
    /// What is kept of it for other keys, which have had less.
    pub kept: i64,
    /// When to come back, in milliseconds; `None` when waiting does not help.
    pub retry_after_ms: Option<i64>,
}

/// `the day's budget of key:alice has $0.0005 left of $0.01, and this request may cost $0.002`
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { unit, amount, window, scope, kind, .. } = self.budget.as_ref();
        let scope = format!("{}:{}", scope.level.name(), self.whose.as_ref().unwrap_or(&scope.id));
        let (left, needed) = (self.left, self.needed);
        let shown = |amount: i64| match unit {
            Unit::NanoUsd => format!("${}", NanoUsd(amount)),
            Unit::Tokens => format!("{amount} tokens"),
            Unit::Requests | Unit::Concurrent => format!("{amount} requests"),
        };
        let what = match kind {
            Kind::Budget => "budget",
            Kind::Limit => "limit",
        };
        let kept = match self.kept {
            0 => String::new(),
            kept => format!(" for this key ({} kept for others that have had less)", shown(kept)),
        };
        if *unit == Unit::Concurrent {
            return write!(f, "{scope} has its limit of {amount} requests at the same time{kept}");
        }
        let window = match window {
            Window::Total => "in all".to_owned(),
            window => format!("per {window}"),
        };
        write!(
            f,
            "the {what} of {scope} ({} {window}) has {} left{kept}, and this request may need {}",
            shown(*amount),
            shown(left),
            shown(needed),
        )?;
        match self.retry_after_ms {
            Some(ms) => write!(f, "; try again in {} s", ms.max(0).unsigned_abs().div_ceil(1_000)),
            None => Ok(()),
        }
    }
}

/// What a refused request may still do.
impl Refusal {
    /// The way out that the budget leaves, when it is not refused outright.
    pub fn downgrade(&self) -> Option<WhenSpent> {
        let choice = self.budget.when_spent;
        (self.budget.kind == Kind::Budget && choice != WhenSpent::Reject).then_some(choice)
    }

    /// The pace of a limit that is spent: of requests and of tokens.
    pub fn pace(&self) -> (Option<Pace>, Option<Pace>) {
        let Budget { kind, unit, amount, .. } = *self.budget;
        let reset_ms = self.retry_after_ms.unwrap_or(0).max(0);
        let pace = Some(Pace { limit: amount, remaining: self.left.max(0), reset_ms });
        match (kind, unit) {
            (Kind::Limit, Unit::Requests) => (pace, None),
            (Kind::Limit, Unit::Tokens) => (None, pace),
            _ => (None, None),
        }
    }

    /// Whether another model could still be paid for: a limit of one model binds nobody else.
    pub fn is_about_model(&self) -> bool {
        self.budget.scope.level == Level::Model
    }
}
