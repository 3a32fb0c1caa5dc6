//! Keys, groups and budgets that the configuration file declares, brought into the store.
//!
//! What is declared is made or changed, what was declared before and no longer is goes: keys are
//! revoked, groups and budgets deleted. Records made by hand are left alone, unless the file
//! declares one of the same name, which it then owns. A declared key is known by its secret: under
//! another name, or declared again after it was gone, it is the key that it was.

use super::{
    budget::{Budget, Kind, Unit, WhenSpent, Window},
    secret,
    store::{Actor, Store, StoreError},
    tenant::{Group, Key, Level, Origin, Restrictions, Scope},
};

/// What a configuration declares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declared {
    /// Organisations first, then teams, then projects: each after what it belongs to.
    pub groups: Vec<DeclaredGroup>,
    /// Keys.
    pub keys: Vec<DeclaredKey>,
    /// Budgets and limits.
    pub budgets: Vec<DeclaredBudget>,
}

/// A group, by names.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredGroup {
    /// Its level.
    pub level: Level,
    /// Its name.
    pub name: String,
    /// Level and name of the group that it belongs to.
    pub parent: Option<(Level, String)>,
}

/// A key, by names.
#[derive(Clone, PartialEq)]
pub struct DeclaredKey {
    /// Its name.
    pub name: String,
    /// Its secret; `None` when the environment does not have it, which changes nothing.
    pub secret: Option<String>,
    /// Level and name of the group that it belongs to.
    pub group: Option<(Level, String)>,
    /// From when on it is refused, milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// What it may be used for.
    pub restrictions: Restrictions,
}

impl std::fmt::Debug for DeclaredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = self.secret.as_ref().map(|_| "[redacted]");
        f.debug_struct("DeclaredKey").field("name", &self.name).field("secret", &secret).finish()
    }
}

/// A budget or limit, by names.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredBudget {
    /// Its name in the file; makes its id.
    pub name: String,
    /// Money or pace.
    pub kind: Kind,
    /// Level and name of whose it is; of a model its configured name.
    pub scope: (Level, String),
    /// What is counted.
    pub unit: Unit,
    /// How much.
    pub amount: i64,
    /// In which time.
    pub window: Window,
    /// In which zone.
    pub time_zone: Option<String>,
    /// Whether it binds.
    pub hard: bool,
    /// What happens when it is spent.
    pub when_spent: WhenSpent,
    /// When to warn.
    pub warn_at_percent: Vec<u8>,
}

/// Brings the store in line with what is declared.
pub async fn reconcile(
    store: &Store,
    hash_key: &[u8; 32],
    declared: &Declared,
    now_ms: i64,
) -> Result<(), StoreError> {
    let actor = Actor { name: "configuration".to_owned(), now_ms };
    for group in &declared.groups {
        reconcile_group(store, &actor, group).await?;
    }
    for key in &declared.keys {
        let others = declared.keys.iter().map(|other| other.name.as_str());
        let others: Vec<_> = others.filter(|other| *other != key.name).collect();
        reconcile_key(store, &actor, hash_key, key, &others).await?;
    }
    let mut kept = Vec::new();
    for budget in &declared.budgets {
        kept.push(reconcile_budget(store, &actor, budget).await?);
    }
    for budget in store.budgets().await? {
        if budget.origin == Origin::Configuration && !kept.contains(&budget.id) {
            store.delete_budget(&actor, &budget.id).await?;
        }
    }
    for key in live_keys(store).await? {
        let is_declared = declared.keys.iter().any(|declared| declared.name == key.name);
        if key.origin == Origin::Configuration && !is_declared {
            store.update_key(&actor, &key.id, |key| key.revoked_ms = Some(now_ms)).await?;
        }
    }
    remove_groups(store, &actor, declared).await
}

/// From the bottom, so that nothing belongs to what goes. A group that other records belong to
/// stays until they are gone.
async fn remove_groups(
    store: &Store,
    actor: &Actor,
    declared: &Declared,
) -> Result<(), StoreError> {
    let groups = store.groups().await?;
    for level in [Level::Project, Level::Team, Level::Organisation] {
        let gone = groups.iter().filter(|group| {
            let same = |known: &DeclaredGroup| known.level == level && known.name == group.name;
            group.level == level
                && group.origin == Origin::Configuration
                && !declared.groups.iter().any(same)
        });
        for group in gone {
            match store.delete_group(actor, &group.id).await {
                Err(error @ StoreError::InUse { .. }) => {
                    tracing::warn!(%error, "a group that is no longer declared stays");
                }
                done => done?,
            }
        }
    }
    Ok(())
}

async fn live_keys(store: &Store) -> Result<Vec<Key>, StoreError> {
    let mut keys = store.keys().await?;
    keys.retain(|key| key.revoked_ms.is_none());
    Ok(keys)
}

async fn group_id(
    store: &Store,
    wanted: Option<&(Level, String)>,
) -> Result<Option<String>, StoreError> {
    let Some((level, name)) = wanted else { return Ok(None) };
    let groups = store.groups().await?;
    let found = groups.into_iter().find(|group| group.level == *level && group.name == *name);
    match found {
        Some(group) => Ok(Some(group.id)),
        None => Err(StoreError::Missing { kind: level.name(), id: name.clone() }),
    }
}

async fn reconcile_group(
    store: &Store,
    actor: &Actor,
    declared: &DeclaredGroup,
) -> Result<(), StoreError> {
    let parent = group_id(store, declared.parent.as_ref()).await?;
    let known = group_id(store, Some(&(declared.level, declared.name.clone()))).await;
    match known {
        Ok(Some(id)) => {
            let change = |group: &mut Group| {
                group.parent = parent;
                group.origin = Origin::Configuration;
            };
            store.update_group(actor, &id, change).await.map(drop)
        }
        Ok(None) | Err(StoreError::Missing { .. }) => {
            let name = declared.name.clone();
            let group = Group::new(declared.level, name, parent, actor.now_ms);
            let group = Group { origin: Origin::Configuration, ..group };
            store.create_group(actor, &group).await
        }
        Err(error) => Err(error),
    }
}

/// `others` are the names of the other keys that are declared.
async fn reconcile_key(
    store: &Store,
    actor: &Actor,
    hash_key: &[u8; 32],
    declared: &DeclaredKey,
    others: &[&str],
) -> Result<(), StoreError> {
    let Some(text) = &declared.secret else { return Ok(()) };
    let group = group_id(store, declared.group.as_ref()).await?;
    let wanted = Key {
        group,
        expires_ms: declared.expires_ms,
        restrictions: declared.restrictions.clone(),
        origin: Origin::Configuration,
        ..Key::new(declared.name.clone(), &secret::minted(hash_key, text.clone()), actor.now_ms)
    };
    let keys = store.keys().await?;
    let named = keys.iter().find(|key| key.revoked_ms.is_none() && key.name == wanted.name);
    let holder = keys.iter().find(|key| key.hash == wanted.hash);
    if let Some(holder) = holder.filter(|holder| named.is_none_or(|named| named.id != holder.id)) {
        let is_anothers = holder.revoked_ms.is_none() && others.contains(&holder.name.as_str());
        if holder.origin == Origin::Admin || is_anothers {
            let (name, by) = (wanted.name, holder.name.clone());
            return Err(StoreError::SecretTaken { name, by });
        }
        if let Some(named) = named {
            let revoke = |key: &mut Key| key.revoked_ms = Some(actor.now_ms);
            store.update_key(actor, &named.id, revoke).await?;
        }
    }
    match holder.or(named) {
        None => store.create_key(actor, &wanted).await,
        Some(known) => {
            // Where the secret is the same, a rotation by hand is over.
            store.update_key(actor, &known.id, |key| *key = wanted).await.map(drop)
        }
    }
}

async fn reconcile_budget(
    store: &Store,
    actor: &Actor,
    declared: &DeclaredBudget,
) -> Result<String, StoreError> {
    let (level, name) = &declared.scope;
    let missing = || StoreError::Missing { kind: level.name(), id: name.clone() };
    let id = match level {
        Level::Model => name.clone(),
        Level::Key => {
            let keys = live_keys(store).await?;
            keys.into_iter().find(|key| key.name == *name).map(|key| key.id).ok_or_else(missing)?
        }
        _ => group_id(store, Some(&declared.scope)).await?.ok_or_else(missing)?,
    };
    let (scope, amount) = (Scope { level: *level, id }, (declared.unit, declared.amount));
    let wanted = Budget {
        id: format!("{}_{}", declared.kind.name(), declared.name),
        time_zone: declared.time_zone.clone(),
        hard: declared.hard,
        when_spent: declared.when_spent,
        warn_at_percent: declared.warn_at_percent.clone(),
        origin: Origin::Configuration,
        ..Budget::new(declared.kind, scope, amount, declared.window, actor.now_ms)
    };
    let id = wanted.id.clone();
    match store.update_budget(actor, &id, |budget| *budget = wanted.clone()).await {
        Err(StoreError::Missing { kind: "budget", .. }) => {
            store.create_budget(actor, &wanted).await?;
        }
        done => drop(done?),
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::budget::Period;

    fn declared() -> Declared {
        let named = |level, name: &str, parent: Option<(Level, &str)>| DeclaredGroup {
            level,
            name: name.to_owned(),
            parent: parent.map(|(level, name)| (level, name.to_owned())),
        };
        Declared {
            groups: vec![
                named(Level::Organisation, "acme", None),
                named(Level::Team, "search", Some((Level::Organisation, "acme"))),
            ],
            keys: vec![DeclaredKey {
                name: "ci".to_owned(),
                secret: Some("a-secret-of-the-environment".to_owned()),
                group: Some((Level::Team, "search".to_owned())),
                expires_ms: None,
                restrictions: Restrictions::default(),
            }],
            budgets: vec![DeclaredBudget {
                name: "month".to_owned(),
                kind: Kind::Budget,
                scope: (Level::Team, "search".to_owned()),
                unit: Unit::NanoUsd,
                amount: 5,
                window: Window::Civil(Period::Month),
                time_zone: None,
                hard: true,
                when_spent: WhenSpent::Reject,
                warn_at_percent: vec![80],
            }],
        }
    }

    #[tokio::test]
    async fn what_is_declared_is_there_and_what_no_longer_is_goes() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let key = [7; 32];
        reconcile(&store, &key, &declared(), 1).await.unwrap();
        let revision = store.revision().await.unwrap();
        reconcile(&store, &key, &declared(), 2).await.unwrap();
        assert_eq!(store.revision().await.unwrap(), revision, "nothing has changed");
        let team = store.groups().await.unwrap().into_iter().find(|g| g.name == "search").unwrap();
        let found = store.keys().await.unwrap();
        assert_eq!(found[0].hash, secret::hash(&key, "a-secret-of-the-environment"));
        assert_eq!(found[0].group.as_ref(), Some(&team.id));
        assert_eq!(store.budgets().await.unwrap()[0].scope.id, team.id);

        let raised = DeclaredBudget { amount: 9, ..declared().budgets.remove(0) };
        let less = Declared { budgets: vec![raised], keys: Vec::new(), ..declared() };
        reconcile(&store, &key, &less, 3).await.unwrap();
        assert_eq!(store.budgets().await.unwrap()[0].amount, 9);
        assert_eq!(store.keys().await.unwrap()[0].revoked_ms, Some(3));
        reconcile(&store, &key, &Declared::default(), 4).await.unwrap();
        assert!(store.groups().await.unwrap().is_empty());
        assert!(store.budgets().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_declared_key_that_comes_back_or_is_renamed_is_the_key_that_it_was() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let key = [7; 32];
        let with = |keys: &[(&str, &str)]| {
            let declared_key = |(name, secret): &(&str, &str)| DeclaredKey {
                name: (*name).to_owned(),
                secret: Some((*secret).to_owned()),
                ..declared().keys.remove(0)
            };
            Declared { keys: keys.iter().map(declared_key).collect(), ..declared() }
        };
        let (one, two) = ("a-secret-of-the-environment", "another-secret-of-it");
        let mut ids = Vec::new();
        for (now, keys) in [
            vec![("ci", one)],
            vec![],
            vec![("ci", one)],
            vec![("robot", one)],
            vec![("robot", two)],
            vec![],
            vec![("robot", one)],
            vec![("ci", two)],
            vec![("ci", one), ("robot", two)],
        ]
        .into_iter()
        .enumerate()
        {
            reconcile(&store, &key, &with(&keys), now as i64).await.unwrap();
            let mut live = live_keys(&store).await.unwrap();
            live.sort_by(|a, b| a.name.cmp(&b.name));
            let found: Vec<_> =
                live.iter().map(|key| (key.name.as_str(), key.hash.clone())).collect();
            let expected = keys.iter().map(|(name, text)| (*name, secret::hash(&key, text)));
            assert_eq!(found, expected.map(|(n, hash)| (n, hash.to_vec())).collect::<Vec<_>>());
            ids.extend(live.first().map(|key| key.id.clone()));
        }
        assert!(ids[..3].iter().all(|id| *id == ids[0]), "{ids:?}");
        let shared = reconcile(&store, &key, &with(&[("ci", one), ("robot", one)]), 9).await;
        let said = shared.unwrap_err().to_string();
        assert_eq!(said, "the secret of key `robot` is that of key `ci`: give each its own");
    }

    #[tokio::test]
    async fn the_secret_of_a_key_that_was_revoked_by_hand_opens_nothing_again() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let actor = Actor { name: "cli".to_owned(), now_ms: 0 };
        let minted = secret::minted(&[7; 32], "a-secret-of-the-environment".to_owned());
        let leaked = Key { revoked_ms: Some(1), ..Key::new("leaked".to_owned(), &minted, 0) };
        store.create_key(&actor, &leaked).await.unwrap();
        let said = reconcile(&store, &[7; 32], &declared(), 2).await.unwrap_err().to_string();
        assert_eq!(said, "the secret of key `ci` is that of key `leaked`: give each its own");
    }

    #[tokio::test]
    async fn records_made_by_hand_are_left_alone() {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let actor = Actor { name: "cli".to_owned(), now_ms: 0 };
        let group = Group {
            id: "team_1".to_owned(),
            level: Level::Team,
            name: "by hand".to_owned(),
            parent: None,
            created_ms: 0,
            origin: Origin::Admin,
        };
        store.create_group(&actor, &group).await.unwrap();
        reconcile(&store, &[7; 32], &Declared::default(), 1).await.unwrap();
        assert_eq!(store.groups().await.unwrap(), [group]);
    }
}
