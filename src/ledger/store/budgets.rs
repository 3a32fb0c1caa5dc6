//! Budgets and limits.

use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{
    Actor, Store, StoreError,
    audit::{Changed, difference, write_down},
    groups, origin_name, origin_of,
    sql::{Statement, sql},
    word,
};
use crate::ledger::{
    budget::{Budget, Kind, Unit, WhenSpent, Window},
    tenant::{Level, Scope},
};

const COLUMNS: &str = "SELECT id, kind, scope_level, scope_id, unit, amount, time_window, \
     time_zone, hard, when_spent, warn_at_percent, created_ms, origin FROM budgets";

impl Store {
    /// Every budget and limit, oldest first.
    ///
    /// # Errors
    /// Of the database.
    pub async fn budgets(&self) -> Result<Vec<Budget>, StoreError> {
        let query = sql(COLUMNS).text(" ORDER BY created_ms, id").query();
        query.fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Adds a budget or limit.
    ///
    /// # Errors
    /// When the key or group that it is about is not there.
    pub async fn create_budget(&self, actor: &Actor, budget: &Budget) -> Result<(), StoreError> {
        let mut tx = self.begin_change().await?;
        insert(&mut tx, actor, budget).await?;
        Ok(tx.commit().await?)
    }

    /// Changes a budget as it is at that moment, and returns it as it now is. Its id and time of
    /// making stay. Nothing is written when nothing changes.
    ///
    /// # Errors
    /// When it is not there, or what it is about now is not.
    pub async fn update_budget(
        &self,
        actor: &Actor,
        id: &str,
        change: impl FnOnce(&mut Budget),
    ) -> Result<Budget, StoreError> {
        let mut tx = self.begin_change().await?;
        let before = find(&mut tx, id).await?;
        let mut budget = before.clone();
        change(&mut budget);
        budget = Budget { id: before.id.clone(), created_ms: before.created_ms, ..budget };
        if budget == before {
            return Ok(budget);
        }
        check(&mut tx, &budget.scope).await?;
        let update =
            sql("UPDATE budgets SET kind = $1, scope_level = $2, scope_id = $3, unit = $4, \
             amount = $5, time_window = $6, time_zone = $7, hard = $8, when_spent = $9, \
             warn_at_percent = $10, origin = $11 WHERE id = $12");
        with_fields(update, &budget).with(&budget.id).query().execute(&mut *tx).await?;
        let detail = difference(&serde_json::json!(before), &serde_json::json!(budget));
        let kind = budget.kind.name();
        let changed = Changed { action: "update", kind, object: &budget.id, detail };
        write_down(&mut tx, actor, changed).await?;
        tx.commit().await?;
        Ok(budget)
    }

    /// Deletes a budget or limit.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn delete_budget(&self, actor: &Actor, id: &str) -> Result<(), StoreError> {
        let mut tx = self.begin_change().await?;
        let budget = find(&mut tx, id).await?;
        delete(&mut tx, actor, &budget).await?;
        Ok(tx.commit().await?)
    }
}

/// Adds a budget or limit to what the transaction does.
pub(super) async fn insert(
    tx: &mut Transaction<'static, Any>,
    actor: &Actor,
    budget: &Budget,
) -> Result<(), StoreError> {
    check(tx, &budget.scope).await?;
    let statement =
        sql("INSERT INTO budgets (kind, scope_level, scope_id, unit, amount, time_window, \
         time_zone, hard, when_spent, warn_at_percent, origin, created_ms, id) VALUES \
         ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)");
    with_fields(statement, budget)
        .with(budget.created_ms)
        .with(&budget.id)
        .query()
        .execute(&mut **tx)
        .await?;
    let detail = serde_json::json!(budget);
    let kind = budget.kind.name();
    let changed = Changed { action: "create", kind, object: &budget.id, detail };
    write_down(tx, actor, changed).await
}

/// Deletes what is about a group that is deleted.
pub(super) async fn delete_of(
    tx: &mut Transaction<'static, Any>,
    actor: &Actor,
    level: Level,
    id: &str,
) -> Result<(), StoreError> {
    let query = sql(COLUMNS)
        .text(" WHERE scope_level = ")
        .bind(level.name())
        .text(" AND scope_id = ")
        .bind(id)
        .query();
    for row in query.fetch_all(&mut **tx).await? {
        delete(tx, actor, &read(&row)?).await?;
    }
    Ok(())
}

async fn delete(
    tx: &mut Transaction<'static, Any>,
    actor: &Actor,
    budget: &Budget,
) -> Result<(), StoreError> {
    let query = sql("DELETE FROM budgets WHERE id = $1").with(&budget.id).query();
    query.execute(&mut **tx).await?;
    let detail = serde_json::json!(budget);
    let kind = budget.kind.name();
    write_down(tx, actor, Changed { action: "delete", kind, object: &budget.id, detail }).await
}

async fn find(tx: &mut Transaction<'static, Any>, id: &str) -> Result<Budget, StoreError> {
    let query = sql(COLUMNS).text(" WHERE id = ").bind(id).query();
    match query.fetch_optional(&mut **tx).await? {
        Some(row) => read(&row),
        None => Err(StoreError::Missing { kind: "budget", id: id.to_owned() }),
    }
}

/// That the key or group is there. Models are the configuration's matter.
async fn check(tx: &mut Transaction<'static, Any>, scope: &Scope) -> Result<(), StoreError> {
    let missing = || StoreError::Missing { kind: scope.level.name(), id: scope.id.clone() };
    match scope.level {
        Level::Model => Ok(()),
        Level::Key => {
            let query = sql("SELECT id FROM keys WHERE id = $1").with(&scope.id).query();
            query.fetch_optional(&mut **tx).await?.map(drop).ok_or_else(missing)
        }
        level => {
            let group = groups::find(tx, &scope.id).await?;
            if group.level == level { Ok(()) } else { Err(missing()) }
        }
    }
}

/// The values of everything that can change, in the order of both statements.
fn with_fields(statement: Statement, budget: &Budget) -> Statement {
    statement
        .with(budget.kind.name())
        .with(budget.scope.level.name())
        .with(&budget.scope.id)
        .with(budget.unit.name())
        .with(budget.amount)
        .with(&budget.window.to_string())
        .with(budget.time_zone.as_deref())
        .with(budget.hard)
        .with(budget.when_spent.name())
        .with(&serde_json::json!(budget.warn_at_percent).to_string())
        .with(origin_name(budget.origin))
}

fn read(row: &AnyRow) -> Result<Budget, StoreError> {
    let hard: i64 = row.try_get("hard")?;
    let kind = |name: &str| [Kind::Budget, Kind::Limit].into_iter().find(|k| k.name() == name);
    Ok(Budget {
        id: row.try_get("id")?,
        kind: word(row, "budgets", "kind", kind)?,
        scope: Scope {
            level: word(row, "budgets", "scope_level", Level::from_name)?,
            id: row.try_get("scope_id")?,
        },
        unit: word(row, "budgets", "unit", Unit::from_name)?,
        amount: row.try_get("amount")?,
        window: word(row, "budgets", "time_window", Window::parse)?,
        time_zone: row.try_get("time_zone")?,
        hard: hard != 0,
        when_spent: word(row, "budgets", "when_spent", WhenSpent::from_name)?,
        warn_at_percent: word(row, "budgets", "warn_at_percent", |text| {
            serde_json::from_str(text).ok()
        })?,
        created_ms: row.try_get("created_ms")?,
        origin: word(row, "budgets", "origin", origin_of)?,
    })
}
