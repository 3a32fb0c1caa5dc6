//! URLs, files, the schema's versions, and programs that start at once.

use super::super::{Store, StoreError, migrations, word};
use super::{PostgresSchema, full_row, on_both};

#[tokio::test]
async fn a_url_of_no_database_is_refused_without_its_password() {
    for url in ["mysql://root:hush@h/db", "ledger.db", "", "https://root:hush@h"] {
        let error = Store::open(url).await.unwrap_err();
        assert!(matches!(error, StoreError::Address(_)), "{url}");
        assert!(!error.to_string().contains("hush") && !error.is_retryable(), "{error}");
    }
    let error = Store::open("postgres://u:hush@127.0.0.1:9/db?password=hush").await.unwrap_err();
    assert!(error.to_string().starts_with("postgres://127.0.0.1:9/db cannot be opened: "));
    assert!(!error.to_string().contains("hush") && error.is_retryable(), "{error}");
    let error = Store::open("sqlite:/nowhere/at/all.db").await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all.db cannot be created"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_is_private_in_wal_mode_and_may_have_any_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a b?c%41#ü.db");
    let store = Store::open(&format!("sqlite:{}", path.display())).await.unwrap();
    store.insert_rows(&[full_row("r")]).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", path.display());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    let found = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(found, 3, "nothing else was made");
    store.close().await;
    let again = Store::open(&format!("sqlite://{}", path.display())).await.unwrap();
    assert_eq!(again.row("r").await.unwrap(), Some(full_row("r")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn programs_that_start_at_once_migrate_once_and_agree_on_a_value() {
    async fn check(url: String) {
        let starts: Vec<_> = (0..8)
            .map(|at| {
                let url = url.clone();
                tokio::spawn(async move {
                    let store = Store::open(&url).await.unwrap();
                    store.set_meta_if_absent("hash_key", &at.to_string()).await.unwrap()
                })
            })
            .collect();
        let mut values = Vec::new();
        for start in starts {
            values.push(start.await.unwrap());
        }
        values.dedup();
        assert_eq!(values.len(), 1, "{values:?}");
        let store = Store::open(&url).await.unwrap();
        assert_eq!(store.meta("hash_key").await.unwrap(), values.pop());
        assert_eq!(store.meta("other").await.unwrap(), None);
        store.close().await;
    }
    let dir = tempfile::tempdir().unwrap();
    check(format!("sqlite:{}/ledger.db", dir.path().display())).await;
    if let Some(schema) = PostgresSchema::create().await {
        check(schema.url.clone()).await;
        schema.drop().await;
    }
}

#[tokio::test]
async fn every_earlier_version_becomes_todays() {
    async fn check(url: &str, version: usize) {
        let earlier = migrations::VERSIONS.get(..version).unwrap();
        let store = Store::open_with(url, earlier).await.unwrap();
        // What a version can hold, later ones keep.
        if version > 0 {
            store.set_meta_if_absent("kept", "yes").await.unwrap();
        }
        migrations::migrate(&store.pool, store.backend, migrations::VERSIONS).await.unwrap();
        if version > 0 {
            assert_eq!(store.meta("kept").await.unwrap().as_deref(), Some("yes"));
        }
        store.insert_rows(&[full_row("r")]).await.unwrap();
        assert_eq!(store.row("r").await.unwrap(), Some(full_row("r")));
        assert_eq!(store.revision().await.unwrap(), 0);
        store.close().await;
    }
    for version in 0..=migrations::VERSIONS.len() {
        check("sqlite::memory:", version).await;
        if let Some(schema) = PostgresSchema::create().await {
            check(&schema.url, version).await;
            schema.drop().await;
        }
    }
}

#[tokio::test]
async fn a_later_version_is_applied_to_what_is_there_and_then_asks_for_a_newer_program() {
    on_both(async |store| {
        store.insert_rows(&[full_row("r")]).await.unwrap();
        let later = [
            migrations::VERSIONS,
            &["ALTER TABLE requests ADD COLUMN region TEXT; CREATE TABLE extra (a BYTES)"],
        ]
        .concat();
        migrations::migrate(&store.pool, store.backend, &later).await.unwrap();
        migrations::migrate(&store.pool, store.backend, &later).await.unwrap();
        assert_eq!(store.row("r").await.unwrap(), Some(full_row("r")));
        let today = migrations::migrate(&store.pool, store.backend, migrations::VERSIONS).await;
        let error = today.unwrap_err();
        assert!(matches!(error, StoreError::Newer { .. }));
        assert!(error.to_string().contains("use a newer weighbridge"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_version_that_fails_leaves_nothing_behind() {
    on_both(async |store| {
        let broken =
            [migrations::VERSIONS, &["CREATE TABLE extra (a TEXT); CREATE TABLE extra (b TEXT)"]]
                .concat();
        migrations::migrate(&store.pool, store.backend, &broken).await.unwrap_err();
        let fixed = [migrations::VERSIONS, &["CREATE TABLE extra (a TEXT)"]].concat();
        migrations::migrate(&store.pool, store.backend, &fixed).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_word_that_nobody_wrote_is_named_with_its_place() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    let query = sqlx::query("SELECT 'k' AS id, 'elsewhere' AS origin");
    let row = query.fetch_one(&store.pool).await.unwrap();
    let error = word(&row, "keys", "origin", |_| None::<()>).unwrap_err();
    assert_eq!(error.to_string(), "keys `k` has an unreadable origin: `elsewhere`");
}
