//! One request's account: reserved before it is forwarded, settled exactly once.

use std::sync::Arc;

use super::{
    Ledger,
    counting::Hold,
    meter::{Amounts, Demand, Pace, Refusal},
    row::Row,
    tenant::{Level, Scope, Tenant},
};

/// Opened for a request that may be forwarded. Whoever holds it must [`Self::close`] it; an
/// account that is dropped without that gives its reservation back and leaves no row.
#[derive(Debug)]
pub struct Account {
    ledger: Arc<Ledger>,
    /// The caller's scopes; empty when the gateway is open.
    caller: Vec<Scope>,
    /// The caller's scopes and the model's.
    scopes: Vec<Scope>,
    /// Budgets that this request may overdraw, because they said so.
    exempt: Vec<String>,
    hold: Hold,
    closed: bool,
}

/// Why nothing could be reserved.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReserveError {
    /// A hard budget or limit cannot take it.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The ledger cannot keep its word: too much waits for the store, or the disk refuses.
    #[error("the ledger is not available: {0}")]
    Unavailable(String),
}

impl ReserveError {
    /// The same with the name of the caller's key or group that it is about.
    pub fn named(mut self, caller: Option<&Tenant>) -> Self {
        if let (Self::Refused(refusal), Some(caller)) = (&mut self, caller) {
            refusal.whose = caller.name_of(&refusal.budget.scope).map(str::to_owned);
        }
        self
    }
}

impl Account {
    pub(super) fn new(ledger: Arc<Ledger>, caller: Vec<Scope>) -> Self {
        let (scopes, exempt) = (caller.clone(), Vec::new());
        Self { ledger, caller, scopes, exempt, hold: Hold::default(), closed: false }
    }

    /// Completion tokens to reserve where the caller states no bound.
    pub fn assumed_output_tokens(&self) -> u32 {
        self.ledger.settings().assumed_output_tokens
    }

    /// Reserves a candidate's worst case, in the place of what was reserved before. `row` is what
    /// will stand in the ledger if the process dies: it counts in full.
    pub async fn reserve(
        &mut self,
        model: &str,
        demand: &Demand,
        row: &Row,
    ) -> Result<(), ReserveError> {
        self.scopes.truncate(self.caller.len());
        self.scopes.push(Scope { level: Level::Model, id: model.to_owned() });
        let reserved =
            self.ledger.reserve(&mut self.hold, &self.scopes, &self.exempt, demand, row).await;
        if let Err(error) = &reserved {
            tracing::debug!(request_id = row.request_id, %error, "nothing could be reserved");
        }
        reserved
    }

    /// From now on this request may overdraw a budget.
    pub fn exempt(&mut self, budget: String) {
        self.exempt.push(budget);
    }

    /// How much pace the caller has left: of requests and of tokens.
    pub fn pace(&self) -> (Option<Pace>, Option<Pace>) {
        self.ledger.pace(&self.hold, &self.scopes)
    }

    /// Puts what was used in the place of what was reserved, and writes the row.
    pub fn close(&mut self, row: Row) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let tokens = i64::try_from(row.tokens.total()).unwrap_or(i64::MAX);
        let used = Amounts { nano_usd: row.cost().0, tokens };
        self.ledger.settle(&mut self.hold, &self.scopes, used, row);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.closed {
            self.ledger.give_back(&mut self.hold);
        }
    }
}
