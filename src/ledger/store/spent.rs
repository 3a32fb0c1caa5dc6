//! What a scope has spent, slot by slot, for the windows of budgets.

use std::collections::BTreeMap;

use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{Store, StoreError, rows::unsigned, sql::sql};
use crate::ledger::{
    budget::Unit,
    tenant::{Level, Scope},
};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// What counts in budgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpentSums {
    /// Requests.
    pub requests: u64,
    /// Prompt and completion tokens.
    pub tokens: u64,
    /// Nano-dollars.
    pub nano_usd: i64,
}

impl SpentSums {
    /// The part that a unit counts.
    pub fn of(&self, unit: Unit) -> i64 {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        match unit {
            Unit::NanoUsd => self.nano_usd,
            Unit::Tokens => count(self.tokens),
            Unit::Requests => count(self.requests),
            Unit::Concurrent => 0,
        }
    }

    /// Counts more.
    pub fn add(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.tokens = self.tokens.saturating_add(more.tokens);
        self.nano_usd = self.nano_usd.saturating_add(more.nano_usd);
    }
}

/// A scope and the UTC day on which it spent.
pub(super) type Spender = (Scope, i64);

impl Store {
    /// What the scope has spent since that moment, by the start of slots of `slot_ms` counted from
    /// 1970; slots without requests are left out.
    ///
    /// Requests deleted for their age count by whole UTC days, at the day's start, from the day of
    /// `since_ms` on: rather too much than too little.
    ///
    /// # Errors
    /// Of the database.
    pub async fn spent(
        &self,
        scope: &Scope,
        since_ms: i64,
        slot_ms: i64,
    ) -> Result<Vec<(i64, SpentSums)>, StoreError> {
        let slot_ms = slot_ms.max(1);
        let requests = sql("SELECT slot, COUNT(*) AS requests, \
             CAST(SUM(tokens) AS BIGINT) AS tokens, CAST(SUM(nano_usd) AS BIGINT) AS nano_usd \
             FROM (SELECT time_ms / ")
        .bind(slot_ms)
        .text(
            " AS slot, prompt_tokens + completion_tokens AS tokens, \
                 COALESCE(cost_nano_usd, 0) AS nano_usd FROM requests WHERE time_ms >= ",
        )
        .bind(since_ms)
        .text(match scope.level {
            Level::Organisation => " AND organisation_id = ",
            Level::Team => " AND team_id = ",
            Level::Project => " AND project_id = ",
            Level::Key => " AND key_id = ",
            Level::Model => " AND model = ",
        })
        .bind(&scope.id)
        .text(") AS counted GROUP BY slot");
        let carried = sql("SELECT day_ms / $1 AS slot, requests, tokens, nano_usd FROM carried \
             WHERE day_ms >= $2 AND scope_level = $3 AND scope_id = $4")
        .with(slot_ms)
        .with(since_ms - since_ms.rem_euclid(DAY_MS))
        .with(scope.level.name())
        .with(&scope.id);
        let mut slots: BTreeMap<i64, SpentSums> = BTreeMap::new();
        // One transaction: a deleter between the two would hide or double what it carries over.
        let mut tx = self.begin_snapshot().await?;
        for statement in [requests, carried] {
            for row in statement.query().fetch_all(&mut *tx).await? {
                let sums = SpentSums {
                    requests: unsigned(&row, "requests")?,
                    tokens: unsigned(&row, "tokens")?,
                    nano_usd: row.try_get("nano_usd")?,
                };
                slots.entry(row.try_get::<i64, _>("slot")? * slot_ms).or_default().add(sums);
            }
        }
        Ok(slots.into_iter().collect())
    }
}

/// Whose budgets a request counted in, and what it counted for.
pub(super) fn spenders(row: &AnyRow) -> Result<Vec<(Spender, SpentSums)>, StoreError> {
    let time_ms: i64 = row.try_get("time_ms")?;
    let day_ms = time_ms - time_ms.rem_euclid(DAY_MS);
    let sums = SpentSums {
        requests: 1,
        tokens: unsigned(row, "tokens")?,
        nano_usd: row.try_get("nano_usd")?,
    };
    let mut found = Vec::new();
    for (level, column) in [
        (Level::Organisation, "organisation_id"),
        (Level::Team, "team_id"),
        (Level::Project, "project_id"),
        (Level::Key, "key_id"),
        (Level::Model, "model"),
    ] {
        if let Some(id) = row.try_get(column)? {
            found.push(((Scope { level, id }, day_ms), sums));
        }
    }
    Ok(found)
}

/// Remembers the sums of requests that are about to be deleted.
pub(super) async fn carry(
    tx: &mut Transaction<'static, Any>,
    (scope, day_ms): &Spender,
    sums: SpentSums,
) -> Result<(), StoreError> {
    let integer = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sql("INSERT INTO carried (scope_level, scope_id, day_ms, requests, tokens, nano_usd) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (scope_level, scope_id, day_ms) DO UPDATE \
         SET requests = carried.requests + excluded.requests, \
         tokens = carried.tokens + excluded.tokens, \
         nano_usd = carried.nano_usd + excluded.nano_usd")
    .with(scope.level.name())
    .with(&scope.id)
    .with(*day_ms)
    .with(integer(sums.requests))
    .with(integer(sums.tokens))
    .with(sums.nano_usd)
    .query()
    .execute(&mut **tx)
    .await?;
    Ok(())
}
