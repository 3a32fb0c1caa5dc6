//! Organisations, teams and projects.

use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{
    Actor, Store, StoreError,
    audit::{Changed, difference, write_down},
    budgets, origin_name, origin_of,
    sql::sql,
    word,
};
use crate::ledger::tenant::{Group, Level};

const COLUMNS: &str = "SELECT id, level, name, parent, created_ms, origin FROM groups";

impl Store {
    /// Every group, oldest first.
    ///
    /// # Errors
    /// Of the database.
    pub async fn groups(&self) -> Result<Vec<Group>, StoreError> {
        let query = sql(COLUMNS).text(" WHERE deleted_ms IS NULL ORDER BY created_ms, id").query();
        query.fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Adds a group.
    ///
    /// # Errors
    /// When its name is taken within its level, or its parent is not there or of a wrong level.
    pub async fn create_group(&self, actor: &Actor, group: &Group) -> Result<(), StoreError> {
        let mut tx = self.begin_change().await?;
        check(&mut tx, group).await?;
        sql("INSERT INTO groups (id, level, name, parent, created_ms, origin) VALUES ")
            .text("($1, $2, $3, $4, $5, $6)")
            .with(&group.id)
            .with(group.level.name())
            .with(&group.name)
            .with(group.parent.as_deref())
            .with(group.created_ms)
            .with(origin_name(group.origin))
            .query()
            .execute(&mut *tx)
            .await?;
        let detail = serde_json::json!(group);
        let kind = group.level.name();
        let changed = Changed { action: "create", kind, object: &group.id, detail };
        write_down(&mut tx, actor, changed).await?;
        Ok(tx.commit().await?)
    }

    /// Changes a group as it is at that moment, and returns it as it now is. Its id, level and
    /// time of making stay. Nothing is written when nothing changes.
    ///
    /// # Errors
    /// When it is not there, its new name is taken, or its new parent is not there or of a wrong
    /// level.
    pub async fn update_group(
        &self,
        actor: &Actor,
        id: &str,
        change: impl FnOnce(&mut Group),
    ) -> Result<Group, StoreError> {
        let mut tx = self.begin_change().await?;
        let before = find(&mut tx, id).await?;
        let mut group = before.clone();
        change(&mut group);
        group = Group { id: before.id.clone(), level: before.level, ..group };
        group.created_ms = before.created_ms;
        if group == before {
            return Ok(group);
        }
        check(&mut tx, &group).await?;
        sql("UPDATE groups SET name = $1, parent = $2, origin = $3 WHERE id = $4")
            .with(&group.name)
            .with(group.parent.as_deref())
            .with(origin_name(group.origin))
            .with(&group.id)
            .query()
            .execute(&mut *tx)
            .await?;
        let detail = difference(&serde_json::json!(before), &serde_json::json!(group));
        let kind = group.level.name();
        let changed = Changed { action: "update", kind, object: &group.id, detail };
        write_down(&mut tx, actor, changed).await?;
        tx.commit().await?;
        Ok(group)
    }

    /// Deletes a group and its budgets. What it spent keeps its name.
    ///
    /// # Errors
    /// When it is not there, or keys or other groups belong to it.
    pub async fn delete_group(&self, actor: &Actor, id: &str) -> Result<(), StoreError> {
        let mut tx = self.begin_change().await?;
        let group = find(&mut tx, id).await?;
        for (what, text) in [
            (
                "keys",
                "SELECT COUNT(*) AS found FROM keys WHERE group_id = $1 AND revoked_ms IS NULL",
            ),
            (
                "groups",
                "SELECT COUNT(*) AS found FROM groups WHERE parent = $1 AND deleted_ms IS NULL",
            ),
        ] {
            let count = sql(text).with(id).query().fetch_one(&mut *tx).await?.try_get("found")?;
            if count > 0 {
                return Err(StoreError::InUse {
                    kind: group.level.name(),
                    name: group.name,
                    count,
                    what,
                });
            }
        }
        budgets::delete_of(&mut tx, actor, group.level, id).await?;
        sql("UPDATE groups SET deleted_ms = $1 WHERE id = $2")
            .with(actor.now_ms)
            .with(id)
            .query()
            .execute(&mut *tx)
            .await?;
        let detail = serde_json::json!(group);
        let changed = Changed { action: "delete", kind: group.level.name(), object: id, detail };
        write_down(&mut tx, actor, changed).await?;
        Ok(tx.commit().await?)
    }
}

/// A group that is not deleted.
pub(super) async fn find(
    tx: &mut Transaction<'static, Any>,
    id: &str,
) -> Result<Group, StoreError> {
    let query = sql(COLUMNS).text(" WHERE deleted_ms IS NULL AND id = ").bind(id).query();
    match query.fetch_optional(&mut **tx).await? {
        Some(row) => read(&row),
        None => Err(StoreError::Missing { kind: "group", id: id.to_owned() }),
    }
}

/// That its name is free, and that it may belong to its parent.
async fn check(tx: &mut Transaction<'static, Any>, group: &Group) -> Result<(), StoreError> {
    let taken = sql("SELECT id FROM groups WHERE deleted_ms IS NULL AND level = $1 AND name = $2")
        .text(" AND id <> $3")
        .with(group.level.name())
        .with(&group.name)
        .with(&group.id)
        .query();
    if taken.fetch_optional(&mut **tx).await?.is_some() {
        return Err(StoreError::NameTaken { kind: group.level.name(), name: group.name.clone() });
    }
    let Some(parent) = &group.parent else { return Ok(()) };
    let parent = find(tx, parent).await?;
    match (group.level, parent.level) {
        (Level::Team, Level::Organisation)
        | (Level::Project, Level::Team | Level::Organisation) => Ok(()),
        (child, parent) => {
            Err(StoreError::WrongParent { child: child.name(), parent: parent.name() })
        }
    }
}

fn read(row: &AnyRow) -> Result<Group, StoreError> {
    Ok(Group {
        id: row.try_get("id")?,
        level: word(row, "groups", "level", Level::from_name)?,
        name: row.try_get("name")?,
        parent: row.try_get("parent")?,
        created_ms: row.try_get("created_ms")?,
        origin: word(row, "groups", "origin", origin_of)?,
    })
}
