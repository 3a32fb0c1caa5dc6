//! Groups, keys and budgets, and the record of their changes.

use serde_json::json;

use super::super::{Store, StoreError};
use super::{PostgresSchema, actor, group, key, on_both};
use crate::ledger::{
    budget::{Budget, Kind, Unit, WhenSpent, Window},
    tenant::{Level, Origin, Restrictions, Scope},
};

fn budget(id: &str, level: Level, scope: &str) -> Budget {
    Budget {
        id: id.to_owned(),
        kind: Kind::Budget,
        scope: Scope { level, id: scope.to_owned() },
        unit: Unit::NanoUsd,
        amount: 10_000_000,
        window: Window::parse("rolling-90s").unwrap(),
        time_zone: Some("Europe/Berlin".to_owned()),
        hard: true,
        when_spent: WhenSpent::CheapTier,
        warn_at_percent: vec![50, 80],
        created_ms: 3,
        origin: Origin::Admin,
    }
}

#[tokio::test]
async fn groups_are_kept_as_they_were_made_and_names_are_unique_within_a_level() {
    on_both(async |store| {
        let by = actor();
        let org = group(Level::Organisation, "acme", None);
        let team = group(Level::Team, "research", Some("organisation_acme"));
        let project = group(Level::Project, "research", Some("team_research"));
        for group in [&org, &team, &project] {
            store.create_group(&by, group).await.unwrap();
        }
        assert_eq!(store.groups().await.unwrap(), [org, project, team.clone()]);

        let mut twin = group(Level::Team, "research", None);
        twin.id = "team_2".to_owned();
        let error = store.create_group(&by, &twin).await.unwrap_err();
        assert_eq!(error.to_string(), "there is already a team named `research`");
        twin.name = "sales".to_owned();
        store.create_group(&by, &twin).await.unwrap();
        let renamed = store.update_group(&by, "team_2", |team| team.name = "research".to_owned());
        assert!(matches!(renamed.await.unwrap_err(), StoreError::NameTaken { kind: "team", .. }));
        let moved = store.update_group(&by, "team_2", |team| team.parent = Some("x".to_owned()));
        assert!(matches!(moved.await.unwrap_err(), StoreError::Missing { .. }));
        let moved = store.update_group(&by, "team_2", |team| {
            team.parent = Some("team_research".to_owned());
        });
        assert_eq!(moved.await.unwrap_err().to_string(), "a team cannot belong to a team");
        let renamed = store.update_group(&by, "team_2", |team| {
            (team.name, team.id) = ("labs".to_owned(), "another".to_owned());
        });
        let renamed = renamed.await.unwrap();
        assert_eq!((renamed.id.as_str(), renamed.name.as_str()), ("team_2", "labs"));
    })
    .await;
}

#[tokio::test]
async fn a_group_is_deleted_only_when_nothing_belongs_to_it_and_takes_its_budgets_along() {
    on_both(async |store| {
        let by = actor();
        store.create_group(&by, &group(Level::Team, "t", None)).await.unwrap();
        store.create_group(&by, &group(Level::Project, "p", Some("team_t"))).await.unwrap();
        store.create_key(&by, &key("key_1", "k", Some("team_t"))).await.unwrap();
        store.create_budget(&by, &budget("budget_1", Level::Team, "team_t")).await.unwrap();
        store.create_budget(&by, &budget("budget_2", Level::Project, "project_p")).await.unwrap();
        let refused = store.delete_group(&by, "team_t").await.unwrap_err();
        assert!(refused.to_string().contains("team `t` still has 1 keys"), "{refused}");
        store.update_key(&by, "key_1", |key| key.revoked_ms = Some(9)).await.unwrap();
        let refused = store.delete_group(&by, "team_t").await.unwrap_err();
        assert!(refused.to_string().contains("team `t` still has 1 groups"), "{refused}");
        store.delete_group(&by, "project_p").await.unwrap();
        store.delete_group(&by, "team_t").await.unwrap();
        assert_eq!(store.groups().await.unwrap(), []);
        assert_eq!(store.budgets().await.unwrap(), []);
        let gone = store.delete_group(&by, "team_t").await.unwrap_err();
        assert!(matches!(gone, StoreError::Missing { .. }));
        let last = store.audit(2, None).await.unwrap();
        let what: Vec<_> = last.iter().map(|e| (&*e.action, &*e.kind, &*e.object)).collect();
        assert_eq!(what, [("delete", "team", "team_t"), ("delete", "budget", "budget_1")]);
        // Its name is free again.
        let mut twin = group(Level::Team, "t", None);
        twin.id = "team_new".to_owned();
        store.create_group(&by, &twin).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn keys_are_kept_whole_and_a_revoked_ones_name_is_free() {
    on_both(async |store| {
        let by = actor();
        store.create_group(&by, &group(Level::Project, "p", None)).await.unwrap();
        let mut first = key("key_1", "ci", Some("project_p"));
        first.previous = Some((vec![0, 1, 255], 99));
        first.expires_ms = Some(1_000_000);
        first.restrictions = Restrictions {
            models: vec!["small".to_owned()],
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            cache: Some(false),
            ..Restrictions::default()
        };
        store.create_key(&by, &first).await.unwrap();
        assert_eq!(store.keys().await.unwrap(), [first.clone()]);

        let taken = store.create_key(&by, &key("key_2", "ci", None)).await.unwrap_err();
        assert_eq!(taken.to_string(), "there is already a key named `ci`");
        let lost = store.create_key(&by, &key("key_2", "b", Some("team_x"))).await.unwrap_err();
        assert_eq!(lost.to_string(), "there is no group `team_x`");
        let missing = store.update_key(&by, "key_9", |_| ()).await.unwrap_err();
        assert_eq!(missing.to_string(), "there is no key `key_9`");

        let rotated = store.update_key(&by, "key_1", |key| {
            key.previous = Some((std::mem::replace(&mut key.hash, vec![7]), 5_000));
        });
        assert_eq!(rotated.await.unwrap().previous, Some((first.hash.clone(), 5_000)));
        store.update_key(&by, "key_1", |key| key.revoked_ms = Some(6_000)).await.unwrap();
        store.create_key(&by, &key("key_2", "ci", None)).await.unwrap();
        let back = store.update_key(&by, "key_1", |key| key.revoked_ms = None);
        assert!(matches!(back.await.unwrap_err(), StoreError::NameTaken { .. }));
        let actions: Vec<_> =
            store.audit(9, None).await.unwrap().into_iter().map(|entry| entry.action).collect();
        assert_eq!(actions, ["create", "revoke", "rotate", "create", "create"]);
    })
    .await;
}

#[tokio::test]
async fn budgets_are_kept_whole_and_are_about_something() {
    on_both(async |store| {
        let by = actor();
        store.create_key(&by, &key("key_1", "k", None)).await.unwrap();
        let money = budget("budget_1", Level::Key, "key_1");
        let places = Budget {
            kind: Kind::Limit,
            unit: Unit::Concurrent,
            window: Window::Total,
            time_zone: None,
            hard: false,
            when_spent: WhenSpent::FreeModels,
            warn_at_percent: Vec::new(),
            ..budget("limit_1", Level::Model, "small")
        };
        for budget in [&money, &places] {
            store.create_budget(&by, budget).await.unwrap();
        }
        assert_eq!(store.budgets().await.unwrap(), [money.clone(), places]);
        for (level, id) in [(Level::Key, "key_2"), (Level::Team, "team_x")] {
            let lost = store.create_budget(&by, &budget("b", level, id)).await.unwrap_err();
            assert!(matches!(lost, StoreError::Missing { .. }), "{lost}");
        }
        let changed = store.update_budget(&by, "budget_1", |b| b.amount = 5).await.unwrap();
        assert_eq!(changed, Budget { amount: 5, ..money });
        assert_eq!(
            store.audit(1, None).await.unwrap()[0].detail,
            json!({"amount": [10_000_000, 5]})
        );
        store.delete_budget(&by, "limit_1").await.unwrap();
        assert_eq!(store.budgets().await.unwrap(), [changed]);
        assert!(store.delete_budget(&by, "limit_1").await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_key_is_made_with_its_budgets_or_not_at_all() {
    on_both(async |store| {
        let by = actor();
        let own = budget("budget_1", Level::Key, "key_1");
        let lost = budget("budget_2", Level::Team, "team_x");
        let both = [own.clone(), lost];
        let made = store.create_key_with(&by, &key("key_1", "k", None), &both).await;
        assert!(matches!(made.unwrap_err(), StoreError::Missing { .. }));
        assert_eq!((store.keys().await.unwrap(), store.revision().await.unwrap()), (vec![], 0));
        let made = store.create_key_with(&by, &key("key_1", "k", None), &both[..1]).await;
        made.unwrap();
        assert_eq!(store.budgets().await.unwrap(), [own]);
        assert_eq!(store.revision().await.unwrap(), 2);
    })
    .await;
}

#[tokio::test]
async fn every_change_is_written_down_and_counted_and_a_refused_one_is_not() {
    on_both(async |store| {
        let by = actor();
        assert_eq!(store.revision().await.unwrap(), 0);
        store.create_key(&by, &key("key_1", "one\0", None)).await.unwrap();
        store.create_key(&by, &key("key_2", "two", None)).await.unwrap();
        assert!(store.create_key(&by, &key("key_3", "two", None)).await.is_err());
        store.update_key(&by, "key_1", |key| key.expires_ms = Some(8)).await.unwrap();
        store.update_key(&by, "key_1", |key| key.expires_ms = Some(8)).await.unwrap();
        assert_eq!(store.revision().await.unwrap(), 3, "no change, no entry");
        let entries = store.audit(2, None).await.unwrap();
        assert_eq!(entries[0].detail, json!({"expires_ms": [null, 8]}));
        let first = &entries[0];
        assert_eq!((first.number, first.time_ms, &*first.actor), (3, 1_000, "cli:ada"));
        assert_eq!((&*first.action, &*first.kind, &*first.object), ("update", "key", "key_1"));
        let older = store.audit(9, Some(entries[1].number)).await.unwrap();
        assert_eq!(older.len(), 1);
        assert_eq!(older[0].detail["prefix"], "wb-abcdef");
        assert!(older[0].detail.get("hash").is_none(), "no hash in the audit");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_take_one_name_at_once_one_gets_it_and_no_change_is_lost() {
    async fn check(url: &str) {
        // Each with connections of its own, like processes.
        let mut tries = Vec::new();
        for at in 0..8 {
            let store = Store::open(url).await.unwrap();
            tries.push(tokio::spawn(async move {
                let named =
                    store.create_key(&actor(), &key(&format!("key_{at}"), "ci", None)).await;
                let own = key(&format!("key_own_{at}"), &format!("own {at}"), None);
                store.create_key(&actor(), &own).await.unwrap();
                store.close().await;
                named
            }));
        }
        let mut taken = 0;
        for attempt in tries {
            match attempt.await.unwrap() {
                Ok(()) => {}
                Err(StoreError::NameTaken { .. }) => taken += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(taken, 7);
        let store = Store::open(url).await.unwrap();
        assert_eq!(store.keys().await.unwrap().len(), 9);
        assert_eq!(store.revision().await.unwrap(), 9);
        assert_eq!(store.audit(99, None).await.unwrap().len(), 9);
        store.close().await;
    }
    let dir = tempfile::tempdir().unwrap();
    check(&format!("sqlite:{}/ledger.db", dir.path().display())).await;
    if let Some(schema) = PostgresSchema::create().await {
        check(&schema.url).await;
        schema.drop().await;
    }
}
