//! Requests: written many at a time, once each; forgotten by age.

use std::collections::HashMap;

use sqlx::{Any, Row as _, Transaction, any::AnyRow};

use super::{
    Store, StoreError,
    spent::{self, Spender},
    sql::{Statement, sql, storable},
};
use crate::ledger::row::{Attempt, Row, Tokens};

/// Most rows in one statement, chosen; its values stay far below SQLite's 32,766.
const MAX_ROWS: usize = 64;
/// Requests that a transaction of [`Store::delete_before`] deletes, so that writers get through.
const DELETE_BATCH: i64 = 500;
/// Largest count or amount in a row, either way: what a JSON number holds exactly. A provider that
/// reports more is broken, and a thousand such rows still add up without overflow.
const MAX_AMOUNT: i64 = (1 << 53) - 1;

const INSERT_REQUESTS: &str = "INSERT INTO requests (id, request_id, time_ms, key_id, project_id, \
     team_id, organisation_id, end_user, tags, surface, policy, score, threshold, tier, \
     decided_model, model, provider, deployment, reason, prompt_tokens, completion_tokens, \
     cached_tokens, cache_write_tokens, reasoning_tokens, audio_prompt_tokens, \
     audio_completion_tokens, usage_estimated, cost_nano_usd, provider_cost_nano_usd, \
     strong_cost_nano_usd, scoring_us, first_content_us, duration_us, outcome, finish_reason, \
     cache, stream, cache_write_1h_tokens, image_prompt_tokens, in_batch) VALUES ";
const INSERT_ATTEMPTS: &str = "INSERT INTO attempts (request_id, number, model, provider, \
     deployment, started_us, duration_us, outcome, status, prompt_tokens, completion_tokens, \
     usage_estimated, cost_nano_usd) VALUES ";

impl Store {
    /// Writes rows and their attempts in one transaction. A row whose id is there already is left
    /// as it is.
    ///
    /// Of tags with the same name the first is kept. Counts and amounts beyond 2⁵³ − 1 are cut to
    /// it, and U+0000 becomes U+FFFD: no row is refused for what it says.
    ///
    /// # Errors
    /// Of the database; then nothing is written.
    pub async fn insert_rows(&self, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin_write().await?;
        for rows in powers_of_two(rows) {
            let statement = values(sql(INSERT_REQUESTS).of_many(self.backend), rows, request);
            let statement = statement.text(" ON CONFLICT DO NOTHING");
            statement.query().execute(&mut *tx).await?;
        }
        let attempts: Vec<(&str, i64, &Attempt)> = rows
            .iter()
            .flat_map(|row| {
                row.attempts.iter().zip(0..).map(|(attempt, number)| (&*row.id, number, attempt))
            })
            .collect();
        for attempts in powers_of_two(&attempts) {
            let statement = values(sql(INSERT_ATTEMPTS).of_many(self.backend), attempts, attempt);
            let statement = statement.text(" ON CONFLICT DO NOTHING");
            statement.query().execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    /// The request with this id, as it was written.
    ///
    /// # Errors
    /// Of the database.
    pub async fn row(&self, id: &str) -> Result<Option<Row>, StoreError> {
        let query = sql("SELECT * FROM requests WHERE id = $1").with(id).query();
        let Some(found) = query.fetch_optional(&self.pool).await? else { return Ok(None) };
        let query =
            sql("SELECT * FROM attempts WHERE request_id = $1 ORDER BY number").with(id).query();
        let attempts = query.fetch_all(&self.pool).await?;
        let attempts = attempts.iter().map(read_attempt).collect::<Result<_, _>>()?;
        Ok(Some(Row { attempts, ..read(&found)? }))
    }

    /// Deletes what is older, in small transactions, and says how many requests it was. What they
    /// spent is carried over, by scope and UTC day, so that [`Store::spent`] still knows it.
    ///
    /// # Errors
    /// Of the database; what was deleted by then stays deleted.
    pub async fn delete_before(&self, time_ms: i64) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let mut tx = self.begin_write().await?;
            // Deleters wait for each other: nothing may be carried over twice.
            sqlx::query("UPDATE counters SET value = value + 1 WHERE name = 'retention'")
                .execute(&mut *tx)
                .await?;
            let batch = delete_batch(&mut tx, time_ms).await?;
            tx.commit().await?;
            if batch == 0 {
                return Ok(deleted);
            }
            deleted += batch;
        }
    }
}

async fn delete_batch(tx: &mut Transaction<'static, Any>, time_ms: i64) -> Result<u64, StoreError> {
    let query = sql("SELECT id, time_ms, key_id, project_id, team_id, organisation_id, model, \
         prompt_tokens + completion_tokens AS tokens, COALESCE(cost_nano_usd, 0) AS nano_usd \
         FROM requests WHERE time_ms < $1 ORDER BY time_ms LIMIT $2")
    .with(time_ms)
    .with(DELETE_BATCH)
    .query();
    let rows = query.fetch_all(&mut **tx).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut carried: HashMap<Spender, spent::SpentSums> = HashMap::new();
    let mut ids: Vec<String> = Vec::with_capacity(rows.len());
    for row in &rows {
        ids.push(row.try_get("id")?);
        for (spender, sums) in spent::spenders(row)? {
            carried.entry(spender).or_default().add(sums);
        }
    }
    for (spender, sums) in carried {
        spent::carry(tx, &spender, sums).await?;
    }
    for text in ["DELETE FROM attempts WHERE request_id IN ", "DELETE FROM requests WHERE id IN "] {
        sql(text).bind_all(&ids).query().execute(&mut **tx).await?;
    }
    Ok(ids.len() as u64)
}

/// Slices of 64, 32, 16 … so that only seven statements have to be prepared.
fn powers_of_two<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = 1 << rest.len().min(MAX_ROWS).checked_ilog2()?;
        let (slice, behind) = rest.split_at_checked(length)?;
        rest = behind;
        Some(slice)
    })
}

/// `(…), (…)`, one for each item.
fn values<T>(
    mut statement: Statement,
    items: &[T],
    one: impl Fn(Statement, &T) -> Statement,
) -> Statement {
    for (at, item) in items.iter().enumerate() {
        statement = one(statement.text(if at == 0 { "(" } else { ", (" }), item).text(")");
    }
    statement
}

/// The values of [`INSERT_REQUESTS`].
fn request(statement: Statement, row: &Row) -> Statement {
    let Tokens {
        prompt,
        completion,
        cached,
        cache_write,
        cache_write_1h,
        reasoning,
        audio_prompt,
        image_prompt,
        audio_completion,
        in_batch,
    } = row.tokens;
    let tags = tags_json(&row.tags);
    statement
        .bind(&row.id)
        .then(&row.request_id)
        .then(row.time_ms)
        .then(row.key_id.as_deref())
        .then(row.project_id.as_deref())
        .then(row.team_id.as_deref())
        .then(row.organisation_id.as_deref())
        .then(row.user.as_deref())
        .then(tags.as_deref())
        .then(&row.surface)
        .then(row.policy.as_deref())
        .text(", CAST(")
        .bind(float(row.score).as_deref())
        .text(" AS DOUBLE PRECISION), CAST(")
        .bind(float(row.threshold).as_deref())
        .text(" AS DOUBLE PRECISION), ")
        .bind(row.tier.as_deref())
        .then(row.decided_model.as_deref())
        .then(row.model.as_deref())
        .then(row.provider.as_deref())
        .then(row.deployment.map(i64::from))
        .then(&row.reason)
        .then(count(prompt))
        .then(count(completion))
        .then(count(cached))
        .then(count(cache_write))
        .then(count(reasoning))
        .then(count(audio_prompt))
        .then(count(audio_completion))
        .then(row.usage_estimated)
        .then(row.cost_nano_usd.map(amount))
        .then(row.provider_cost_nano_usd.map(amount))
        .then(row.strong_cost_nano_usd.map(amount))
        .then(count(row.scoring_us))
        .then(row.first_content_us.map(count))
        .then(count(row.duration_us))
        .then(&row.outcome)
        .then(row.finish_reason.as_deref())
        .then(&row.cache)
        .then(row.stream)
        .then(count(cache_write_1h))
        .then(count(image_prompt))
        .then(in_batch)
}

/// The values of [`INSERT_ATTEMPTS`].
fn attempt(statement: Statement, (id, number, attempt): &(&str, i64, &Attempt)) -> Statement {
    statement
        .bind(*id)
        .then(*number)
        .then(&attempt.model)
        .then(&attempt.provider)
        .then(attempt.deployment.map(i64::from))
        .then(count(attempt.started_us))
        .then(count(attempt.duration_us))
        .then(&attempt.outcome)
        .then(attempt.status.map(i64::from))
        .then(count(attempt.prompt_tokens))
        .then(count(attempt.completion_tokens))
        .then(i64::from(attempt.usage_estimated))
        .then(attempt.cost_nano_usd.map(amount))
}

fn count(count: u64) -> i64 {
    i64::try_from(count).map_or(MAX_AMOUNT, |count| count.min(MAX_AMOUNT))
}

fn amount(amount: i64) -> i64 {
    amount.clamp(-MAX_AMOUNT, MAX_AMOUNT)
}

/// The shortest decimals that read back as the same number. No JSON, and not every database, has
/// infinities: such a score is none.
fn float(number: Option<f32>) -> Option<String> {
    number.filter(|number| number.is_finite()).map(|number| number.to_string())
}

/// `{"name":"value"}`; `None` without tags.
fn tags_json(tags: &[(String, String)]) -> Option<String> {
    let mut object = serde_json::Map::new();
    for (name, value) in tags {
        object.entry(storable(name)).or_insert_with(|| storable(value).into());
    }
    (!object.is_empty()).then(|| serde_json::Value::Object(object).to_string())
}

fn read(row: &AnyRow) -> Result<Row, StoreError> {
    let tags: Option<String> = row.try_get("tags")?;
    let tags = match tags {
        Some(_) => super::word(row, "requests", "tags", |text| {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(text).ok()?;
            let pair = |(name, value): (String, serde_json::Value)| {
                value.as_str().map(|value| (name, value.to_owned()))
            };
            object.into_iter().map(pair).collect::<Option<Vec<_>>>()
        })?,
        None => Vec::new(),
    };
    Ok(Row {
        id: row.try_get("id")?,
        request_id: row.try_get("request_id")?,
        time_ms: row.try_get("time_ms")?,
        key_id: row.try_get("key_id")?,
        project_id: row.try_get("project_id")?,
        team_id: row.try_get("team_id")?,
        organisation_id: row.try_get("organisation_id")?,
        user: row.try_get("end_user")?,
        tags,
        surface: row.try_get("surface")?,
        policy: row.try_get("policy")?,
        score: row.try_get::<Option<f64>, _>("score")?.map(|score| score as f32),
        threshold: row.try_get::<Option<f64>, _>("threshold")?.map(|score| score as f32),
        tier: row.try_get("tier")?,
        decided_model: row.try_get("decided_model")?,
        model: row.try_get("model")?,
        provider: row.try_get("provider")?,
        deployment: optional(row, "deployment")?,
        reason: row.try_get("reason")?,
        tokens: Tokens {
            prompt: unsigned(row, "prompt_tokens")?,
            completion: unsigned(row, "completion_tokens")?,
            cached: unsigned(row, "cached_tokens")?,
            cache_write: unsigned(row, "cache_write_tokens")?,
            cache_write_1h: unsigned(row, "cache_write_1h_tokens")?,
            reasoning: unsigned(row, "reasoning_tokens")?,
            audio_prompt: unsigned(row, "audio_prompt_tokens")?,
            image_prompt: unsigned(row, "image_prompt_tokens")?,
            audio_completion: unsigned(row, "audio_completion_tokens")?,
            in_batch: row.try_get::<i64, _>("in_batch")? != 0,
        },
        usage_estimated: row.try_get::<i64, _>("usage_estimated")? != 0,
        cost_nano_usd: row.try_get("cost_nano_usd")?,
        provider_cost_nano_usd: row.try_get("provider_cost_nano_usd")?,
        strong_cost_nano_usd: row.try_get("strong_cost_nano_usd")?,
        scoring_us: unsigned(row, "scoring_us")?,
        first_content_us: optional(row, "first_content_us")?,
        duration_us: unsigned(row, "duration_us")?,
        outcome: row.try_get("outcome")?,
        finish_reason: row.try_get("finish_reason")?,
        cache: row.try_get("cache")?,
        stream: row.try_get::<i64, _>("stream")? != 0,
        attempts: Vec::new(),
    })
}

fn read_attempt(row: &AnyRow) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        model: row.try_get("model")?,
        provider: row.try_get("provider")?,
        deployment: optional(row, "deployment")?,
        started_us: unsigned(row, "started_us")?,
        duration_us: unsigned(row, "duration_us")?,
        outcome: row.try_get("outcome")?,
        status: optional(row, "status")?,
        prompt_tokens: unsigned(row, "prompt_tokens")?,
        completion_tokens: unsigned(row, "completion_tokens")?,
        usage_estimated: row.try_get::<i64, _>("usage_estimated")? != 0,
        cost_nano_usd: row.try_get("cost_nano_usd")?,
    })
}

/// A count; nobody writes a negative one.
pub(super) fn unsigned(row: &AnyRow, column: &str) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

fn optional<T: TryFrom<i64>>(row: &AnyRow, column: &str) -> Result<Option<T>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.and_then(|number| T::try_from(number).ok()))
}
