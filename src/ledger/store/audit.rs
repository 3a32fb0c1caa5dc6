//! Who changed what, and the count of changes that running gateways watch.

use sqlx::{Any, Row as _, Transaction};

use super::{Store, StoreError, sql::sql};

/// Who changes something, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// `cli:NAME`, `admin:NAME`, `configuration`
    pub name: String,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AuditEntry {
    /// The revision that it made; grows with every change.
    pub number: i64,
    /// When, milliseconds since 1970.
    pub time_ms: i64,
    /// Who, see [`Actor::name`].
    pub actor: String,
    /// `create`, `update`, `rotate`, `revoke`, `delete`
    pub action: String,
    /// `key`, `organisation`, `team`, `project`, `budget`, `limit`
    pub kind: String,
    /// Its id.
    pub object: String,
    /// The record as it was made or deleted, or of each changed field `[before, after]`.
    pub detail: serde_json::Value,
}

/// What a change was, see [`AuditEntry`].
pub(super) struct Changed<'c> {
    pub(super) action: &'static str,
    pub(super) kind: &'static str,
    pub(super) object: &'c str,
    pub(super) detail: serde_json::Value,
}

impl Store {
    /// How often keys, groups and budgets have been changed.
    ///
    /// # Errors
    /// Of the database.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        let query = sqlx::query("SELECT value FROM counters WHERE name = 'records'");
        Ok(query.fetch_one(&self.pool).await?.try_get("value")?)
    }

    /// At most `limit` changes, the newest first, of those before the number `before`.
    ///
    /// # Errors
    /// Of the database.
    pub async fn audit(
        &self,
        limit: u32,
        before: Option<i64>,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let query =
            sql("SELECT number, CAST(number AS TEXT) AS id, time_ms, actor, action, kind, \
             object, detail FROM audit WHERE number < $1 ORDER BY number DESC LIMIT $2")
            .with(before.unwrap_or(i64::MAX))
            .with(i64::from(limit))
            .query();
        let entry = |row: &sqlx::any::AnyRow| {
            Ok(AuditEntry {
                number: row.try_get("number")?,
                time_ms: row.try_get("time_ms")?,
                actor: row.try_get("actor")?,
                action: row.try_get("action")?,
                kind: row.try_get("kind")?,
                object: row.try_get("object")?,
                detail: super::word(row, "audit", "detail", |text| {
                    serde_json::from_str(text).ok()
                })?,
            })
        };
        query.fetch_all(&self.pool).await?.iter().map(entry).collect()
    }

    /// Begins a change of records. Changes wait for each other from here to their commit, in
    /// whatever process they run, so one sees what all before it did.
    pub(super) async fn begin_change(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let mut tx = self.begin_write().await?;
        sqlx::query("UPDATE counters SET value = value WHERE name = 'records'")
            .execute(&mut *tx)
            .await?;
        Ok(tx)
    }
}

/// Writes down what the transaction did, and counts it.
pub(super) async fn write_down(
    tx: &mut Transaction<'static, Any>,
    actor: &Actor,
    changed: Changed<'_>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE counters SET value = value + 1 WHERE name = 'records'")
        .execute(&mut **tx)
        .await?;
    sql("INSERT INTO audit (number, time_ms, actor, action, kind, object, detail) \
         SELECT value, $1, $2, $3, $4, $5, $6 FROM counters WHERE name = 'records'")
    .with(actor.now_ms)
    .with(&actor.name)
    .with(changed.action)
    .with(changed.kind)
    .with(changed.object)
    .with(&changed.detail.to_string())
    .query()
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Of each field that differs, `[before, after]`.
pub(super) fn difference(
    before: &serde_json::Value,
    after: &serde_json::Value,
) -> serde_json::Value {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
        return serde_json::json!([before, after]);
    };
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let changed = names.filter(|name| before.get(*name) != after.get(*name));
    changed
        .map(|name| (name.clone(), serde_json::json!([before.get(name), after.get(name)])))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
