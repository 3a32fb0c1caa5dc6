//! Keys, without their secrets.

use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{
    Actor, Store, StoreError,
    audit::{Changed, difference, write_down},
    budgets, groups, origin_name, origin_of,
    sql::sql,
    word,
};
use crate::ledger::{budget::Budget, tenant::Key};

const COLUMNS: &str = "SELECT id, name, prefix, hash, previous_hash, previous_until_ms, group_id, \
     created_ms, expires_ms, revoked_ms, restrictions, origin FROM keys";

impl Store {
    /// Every key, revoked ones too, oldest first.
    ///
    /// # Errors
    /// Of the database.
    pub async fn keys(&self) -> Result<Vec<Key>, StoreError> {
        let query = sql(COLUMNS).text(" ORDER BY created_ms, id").query();
        query.fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Adds a key.
    ///
    /// # Errors
    /// When its name is taken, or its group is not there.
    pub async fn create_key(&self, actor: &Actor, key: &Key) -> Result<(), StoreError> {
        self.create_key_with(actor, key, &[]).await
    }

    /// Adds a key and what it may spend, or neither: there is no moment at which the key is
    /// without its budgets.
    ///
    /// # Errors
    /// As [`Self::create_key`] and [`Self::create_budget`].
    pub async fn create_key_with(
        &self,
        actor: &Actor,
        key: &Key,
        budgets: &[Budget],
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_change().await?;
        check(&mut tx, key).await?;
        sql("INSERT INTO keys (id, name, prefix, hash, previous_hash, previous_until_ms, \
             group_id, created_ms, expires_ms, revoked_ms, restrictions, origin) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)")
        .with(&key.id)
        .with(&key.name)
        .with(&key.prefix)
        .with(key.hash.as_slice())
        .with(key.previous.as_ref().map(|(hash, _)| hash.as_slice()))
        .with(key.previous.as_ref().map(|(_, until_ms)| *until_ms))
        .with(key.group.as_deref())
        .with(key.created_ms)
        .with(key.expires_ms)
        .with(key.revoked_ms)
        .with(&serde_json::json!(key.restrictions).to_string())
        .with(origin_name(key.origin))
        .query()
        .execute(&mut *tx)
        .await?;
        let detail = serde_json::json!(key);
        let changed = Changed { action: "create", kind: "key", object: &key.id, detail };
        write_down(&mut tx, actor, changed).await?;
        for budget in budgets {
            budgets::insert(&mut tx, actor, budget).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Changes a key as it is at that moment, and returns it as it now is. Its id and time of
    /// making stay. Nothing is written when nothing changes.
    ///
    /// # Errors
    /// When it is not there, its new name is taken, or its new group is not there.
    pub async fn update_key(
        &self,
        actor: &Actor,
        id: &str,
        change: impl FnOnce(&mut Key),
    ) -> Result<Key, StoreError> {
        let mut tx = self.begin_change().await?;
        let query = sql(COLUMNS).text(" WHERE id = ").bind(id).query();
        let before = match query.fetch_optional(&mut *tx).await? {
            Some(row) => read(&row)?,
            None => return Err(StoreError::Missing { kind: "key", id: id.to_owned() }),
        };
        let mut key = before.clone();
        change(&mut key);
        key = Key { id: before.id.clone(), created_ms: before.created_ms, ..key };
        if key == before {
            return Ok(key);
        }
        check(&mut tx, &key).await?;
        sql("UPDATE keys SET name = $1, prefix = $2, hash = $3, previous_hash = $4, \
             previous_until_ms = $5, group_id = $6, expires_ms = $7, revoked_ms = $8, \
             restrictions = $9, origin = $10 WHERE id = $11")
        .with(&key.name)
        .with(&key.prefix)
        .with(key.hash.as_slice())
        .with(key.previous.as_ref().map(|(hash, _)| hash.as_slice()))
        .with(key.previous.as_ref().map(|(_, until_ms)| *until_ms))
        .with(key.group.as_deref())
        .with(key.expires_ms)
        .with(key.revoked_ms)
        .with(&serde_json::json!(key.restrictions).to_string())
        .with(origin_name(key.origin))
        .with(&key.id)
        .query()
        .execute(&mut *tx)
        .await?;
        let action = match (key.revoked_ms, before.revoked_ms) {
            (Some(_), None) => "revoke",
            _ if key.hash != before.hash => "rotate",
            _ => "update",
        };
        let detail = difference(&serde_json::json!(before), &serde_json::json!(key));
        write_down(&mut tx, actor, Changed { action, kind: "key", object: &key.id, detail })
            .await?;
        tx.commit().await?;
        Ok(key)
    }
}

/// That its name is free, and its group there.
async fn check(tx: &mut Transaction<'static, Any>, key: &Key) -> Result<(), StoreError> {
    if key.revoked_ms.is_some() {
        return Ok(());
    }
    let taken = sql("SELECT id FROM keys WHERE revoked_ms IS NULL AND name = $1 AND id <> $2")
        .with(&key.name)
        .with(&key.id)
        .query();
    if taken.fetch_optional(&mut **tx).await?.is_some() {
        return Err(StoreError::NameTaken { kind: "key", name: key.name.clone() });
    }
    if let Some(group) = &key.group {
        groups::find(tx, group).await?;
    }
    Ok(())
}

fn read(row: &AnyRow) -> Result<Key, StoreError> {
    let previous: Option<Vec<u8>> = row.try_get("previous_hash")?;
    let until_ms: Option<i64> = row.try_get("previous_until_ms")?;
    Ok(Key {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        prefix: row.try_get("prefix")?,
        hash: row.try_get("hash")?,
        previous: previous.zip(until_ms),
        group: row.try_get("group_id")?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
        restrictions: word(row, "keys", "restrictions", |text| serde_json::from_str(text).ok())?,
        origin: word(row, "keys", "origin", origin_of)?,
    })
}
