//! The store on SQLite, and on PostgreSQL where `WEIGHBRIDGE_TEST_POSTGRES` is the URL of one.

mod opening;
mod records;
mod requests;

use super::{Actor, Store};
use crate::ledger::{
    row::{Attempt, Row, Tokens},
    tenant::{Group, Key, Level, Origin, Restrictions},
};

/// Runs the test on an empty store of each kind. PostgreSQL's is a schema of its own.
async fn on_both(test: impl AsyncFn(Store)) {
    test(Store::open("sqlite::memory:").await.unwrap()).await;
    let Some(schema) = PostgresSchema::create().await else { return };
    let store = Store::open(&schema.url).await.unwrap();
    test(store.clone()).await;
    store.close().await;
    schema.drop().await;
}

struct PostgresSchema {
    admin: sqlx::AnyPool,
    name: String,
    url: String,
}

impl PostgresSchema {
    /// `None`, and a line that says so, when there is no PostgreSQL.
    async fn create() -> Option<Self> {
        let Ok(url) = std::env::var("WEIGHBRIDGE_TEST_POSTGRES") else {
            println!("skipped: PostgreSQL, for WEIGHBRIDGE_TEST_POSTGRES is not set");
            return None;
        };
        sqlx::any::install_default_drivers();
        let options = sqlx::any::AnyPoolOptions::new().max_connections(1);
        let admin = options.connect(&url).await.unwrap();
        let name = format!("wb_{}", uuid::Uuid::now_v7().simple());
        let text = format!("CREATE SCHEMA {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&admin).await.unwrap();
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}options[search_path]={name}");
        Some(Self { admin, name, url })
    }

    async fn drop(self) {
        let text = format!("DROP SCHEMA {} CASCADE", self.name);
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&self.admin).await.unwrap();
    }
}

fn actor() -> Actor {
    Actor { name: "cli:ada".to_owned(), now_ms: 1_000 }
}

fn group(level: Level, name: &str, parent: Option<&str>) -> Group {
    Group {
        id: format!("{}_{name}", level.name()),
        level,
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        created_ms: 1,
        origin: Origin::Admin,
    }
}

fn key(id: &str, name: &str, group: Option<&str>) -> Key {
    Key {
        id: id.to_owned(),
        name: name.to_owned(),
        prefix: "wb-abcdef".to_owned(),
        hash: id.bytes().chain([0, 255]).collect(),
        previous: None,
        group: group.map(str::to_owned),
        created_ms: 7,
        expires_ms: None,
        revoked_ms: None,
        restrictions: Restrictions::default(),
        origin: Origin::Configuration,
    }
}

/// A request with every field set.
fn full_row(id: &str) -> Row {
    let text = |text: &str| Some(text.to_owned());
    Row {
        id: id.to_owned(),
        request_id: "from-the-caller".to_owned(),
        time_ms: 1_764_000_000_123,
        key_id: text("key_1"),
        project_id: text("project_1"),
        team_id: text("team_1"),
        organisation_id: text("org_1"),
        user: text("ünï"),
        tags: vec![("a\"b".to_owned(), "1".to_owned()), ("feature".to_owned(), "x".to_owned())],
        surface: "chat".to_owned(),
        policy: text("auto"),
        score: Some(0.1),
        threshold: Some(0.38),
        tier: text("cheap"),
        decided_model: text("small"),
        model: text("large"),
        provider: text("openai"),
        deployment: Some(1),
        reason: "score".to_owned(),
        tokens: Tokens {
            prompt: 10,
            completion: 20,
            cached: 3,
            cache_write: 4,
            reasoning: 5,
            audio_prompt: 6,
            audio_completion: 7,
            cache_write_1h: 2,
            image_prompt: 8,
            in_batch: true,
        },
        usage_estimated: true,
        cost_nano_usd: Some(90_000),
        provider_cost_nano_usd: Some(91_000),
        strong_cost_nano_usd: Some(500_000),
        scoring_us: 1_234,
        first_content_us: Some(5_678),
        duration_us: 9_999,
        outcome: "finished".to_owned(),
        finish_reason: text("stop"),
        cache: "miss".to_owned(),
        stream: true,
        attempts: vec![
            Attempt {
                model: "small".to_owned(),
                provider: "local".to_owned(),
                deployment: None,
                started_us: 1,
                duration_us: 2,
                outcome: "upstream_status".to_owned(),
                status: Some(503),
                prompt_tokens: 5,
                completion_tokens: 6,
                usage_estimated: true,
                cost_nano_usd: Some(7),
            },
            Attempt { model: "large".to_owned(), outcome: "ok".to_owned(), ..Attempt::default() },
        ],
    }
}
