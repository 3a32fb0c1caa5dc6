//! How many rows a second the ledger's store takes: `cargo bench --bench store`.
//!
//! Rows like those of real requests, two attempts each, in batches as a gateway writes them. SQLite
//! in a file of its own; PostgreSQL too where `WEIGHBRIDGE_TEST_POSTGRES` is the URL of a database
//! that may be written to.

use std::time::Instant;

use weighbridge::ledger::{
    row::{Attempt, Row, Tokens},
    store::{Dimension, Step, Store, UsageQuery},
    tenant::{Level, Scope},
};

const BATCHES: usize = 50;

fn row() -> Row {
    let text = |text: &str| Some(text.to_owned());
    let attempt = Attempt {
        model: "small".to_owned(),
        provider: "openai".to_owned(),
        started_us: 900,
        duration_us: 350_000,
        outcome: "ok".to_owned(),
        status: Some(200),
        ..Attempt::default()
    };
    Row {
        id: uuid::Uuid::now_v7().to_string(),
        request_id: uuid::Uuid::now_v7().to_string(),
        time_ms: jiff::Timestamp::now().as_millisecond(),
        key_id: text("key_0192f0c5a6b17c3e8d0f1a2b3c4d5e6f"),
        team_id: text("team_0192f0c5a6b17c3e8d0f1a2b3c4d5e6f"),
        tags: vec![("feature".to_owned(), "search".to_owned())],
        surface: "chat".to_owned(),
        policy: text("auto"),
        score: Some(0.31),
        threshold: Some(0.4),
        tier: text("cheap"),
        decided_model: text("small"),
        model: text("small"),
        provider: text("openai"),
        reason: "score".to_owned(),
        tokens: Tokens { prompt: 812, completion: 240, ..Tokens::default() },
        cost_nano_usd: Some(177_200),
        strong_cost_nano_usd: Some(4_024_000),
        scoring_us: 1_300,
        first_content_us: Some(210_000),
        duration_us: 1_400_000,
        outcome: "finished".to_owned(),
        cache: "miss".to_owned(),
        attempts: vec![attempt.clone(), attempt],
        ..Row::default()
    }
}

async fn measure(name: &str, url: &str) {
    let store = Store::open(url).await.unwrap();
    for batch in [100, 1_000, 5_000] {
        let batches: Vec<Vec<Row>> =
            (0..BATCHES).map(|_| std::iter::repeat_with(row).take(batch).collect()).collect();
        let start = Instant::now();
        for rows in &batches {
            store.insert_rows(rows).await.unwrap();
        }
        let rate = (BATCHES * batch) as f64 / start.elapsed().as_secs_f64();
        println!("{name}: {rate:.0} rows/s in batches of {batch}");
    }
    let by = vec![Dimension::Key, Dimension::Model];
    let query = UsageQuery { by, step: Some(Step::Day), ..UsageQuery::default() };
    let start = Instant::now();
    let found = store.usage(&query).await.unwrap();
    let requests: u64 = found.iter().map(|row| row.sums.requests).sum();
    println!("{name}: usage over {requests} rows in {:.0?}", start.elapsed());
    let key = Scope { level: Level::Key, id: row().key_id.unwrap() };
    let start = Instant::now();
    let slots = store.spent(&key, 0, 60_000).await.unwrap();
    println!("{name}: spent of a key, {} slots, in {:.0?}", slots.len(), start.elapsed());
    let start = Instant::now();
    let deleted = store.delete_before(i64::MAX).await.unwrap();
    let rate = deleted as f64 / start.elapsed().as_secs_f64();
    println!("{name}: {rate:.0} rows/s deleted for their age");
    store.close().await;
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    measure("SQLite", &format!("sqlite:{}", dir.path().join("w.db").display())).await;
    match std::env::var("WEIGHBRIDGE_TEST_POSTGRES") {
        Ok(url) => measure("PostgreSQL", &url).await,
        Err(_) => println!("PostgreSQL: skipped, for WEIGHBRIDGE_TEST_POSTGRES is not set"),
    }
}
