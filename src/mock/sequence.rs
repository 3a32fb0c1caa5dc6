//! Where each `status=503,503,200` sequence stands.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;

/// Model strings counted at most; beyond that every sequence begins again.
const MAX_SEQUENCES: usize = 10_000;

/// Counts requests for each model string whose script has a sequence of statuses.
#[derive(Debug, Default)]
pub(super) struct StatusSequences {
    requests: Mutex<HashMap<String, usize>>,
}

impl StatusSequences {
    /// The next of `statuses` for this model string, the last for ever; `None` if there are none.
    pub fn next(&self, model_string: &str, statuses: &[StatusCode]) -> Option<StatusCode> {
        let last = statuses.len().checked_sub(1)?;
        if last == 0 {
            return statuses.first().copied();
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() >= MAX_SEQUENCES && !requests.contains_key(model_string) {
            requests.clear();
        }
        let count = requests.entry(model_string.to_owned()).or_insert(0);
        let status = statuses.get((*count).min(last)).copied();
        *count = count.saturating_add(1);
        status
    }

    /// Every sequence begins again.
    pub fn clear(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
