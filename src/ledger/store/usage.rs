//! What was used and spent, by any dimension and step of time, for people.

use std::collections::{BTreeMap, HashMap};

use jiff::{Timestamp, ToSpan as _, Unit, civil::Weekday, tz::TimeZone};
use serde::Serialize;
use sqlx::{Row as _, any::AnyRow};

use super::{
    Backend, Store, StoreError,
    rows::unsigned,
    sql::{Statement, sql},
};

/// Most rows of an answer, and most rows that the database may hand over for it; chosen.
pub const MAX_USAGE_ROWS: usize = 100_000;

/// Most dimensions that are told apart at once, chosen.
pub const MAX_DIMENSIONS: usize = 8;

/// What requests are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The key.
    Key,
    /// Its project.
    Project,
    /// Its team.
    Team,
    /// Its organisation.
    Organisation,
    /// The end user that the caller named.
    User,
    /// The tag with this name.
    Tag(String),
    /// The model that served. What attempts at others used before it counts as theirs, with no
    /// request: a model that only failed has a cost.
    Model,
    /// The first model of the route.
    DecidedModel,
    /// The provider that served; attempts at others as for [`Self::Model`].
    Provider,
    /// The tier that served.
    Tier,
    /// The policy.
    Policy,
    /// Which of our surfaces was asked.
    Surface,
    /// How it ended.
    Outcome,
    /// Why the route was taken.
    Reason,
}

impl Dimension {
    /// Every dimension's name.
    pub const NAMES: [&str; 14] = [
        "key",
        "project",
        "team",
        "organisation",
        "user",
        "tag:NAME",
        "model",
        "decided_model",
        "provider",
        "tier",
        "policy",
        "surface",
        "outcome",
        "reason",
    ];

    /// The dimension with this spelling, like `key` or `tag:feature`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "key" => Self::Key,
            "project" => Self::Project,
            "team" => Self::Team,
            "organisation" => Self::Organisation,
            "user" => Self::User,
            "model" => Self::Model,
            "decided_model" => Self::DecidedModel,
            "provider" => Self::Provider,
            "tier" => Self::Tier,
            "policy" => Self::Policy,
            "surface" => Self::Surface,
            "outcome" => Self::Outcome,
            "reason" => Self::Reason,
            _ => Self::Tag(name.strip_prefix("tag:").filter(|tag| !tag.is_empty())?.to_owned()),
        })
    }

    /// Its spelling.
    pub fn name(&self) -> String {
        match self {
            Self::Key => "key",
            Self::Project => "project",
            Self::Team => "team",
            Self::Organisation => "organisation",
            Self::User => "user",
            Self::Tag(tag) => return format!("tag:{tag}"),
            Self::Model => "model",
            Self::DecidedModel => "decided_model",
            Self::Provider => "provider",
            Self::Tier => "tier",
            Self::Policy => "policy",
            Self::Surface => "surface",
            Self::Outcome => "outcome",
            Self::Reason => "reason",
        }
        .to_owned()
    }

    /// Whether attempts of one request can differ in it.
    fn is_of_attempts(&self) -> bool {
        matches!(self, Self::Model | Self::Provider)
    }

    /// Whether it is known by an id, and has a name besides.
    pub fn has_ids(&self) -> bool {
        matches!(self, Self::Key | Self::Project | Self::Team | Self::Organisation)
    }

    /// Writes the expression of its value.
    fn write(&self, backend: Backend, statement: Statement) -> Statement {
        let column = match self {
            Self::Tag(tag) => {
                return match backend {
                    Backend::Sqlite => statement
                        .text("(SELECT value FROM json_each(requests.tags) WHERE key = ")
                        .bind(tag)
                        .text(")"),
                    Backend::Postgres => {
                        statement.text("(CAST(tags AS jsonb) ->> ").bind(tag).text(")")
                    }
                };
            }
            Self::Key => "key_id",
            Self::Project => "project_id",
            Self::Team => "team_id",
            Self::Organisation => "organisation_id",
            Self::User => "end_user",
            Self::Model => "model",
            Self::DecidedModel => "decided_model",
            Self::Provider => "provider",
            Self::Tier => "tier",
            Self::Policy => "policy",
            Self::Surface => "surface",
            Self::Outcome => "outcome",
            Self::Reason => "reason",
        };
        statement.text(column)
    }
}

/// A step of civil time in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// From the full hour.
    Hour,
    /// From midnight.
    Day,
    /// From Monday's midnight (ISO 8601).
    Week,
    /// From the first of the month.
    Month,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::Month];
    /// Their names, in the order of [`Self::ALL`].
    pub const NAMES: [&str; 4] = ["hour", "day", "week", "month"];

    /// The step with this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .position(|known| *known == name)
            .and_then(|at| Self::ALL.get(at).copied())
    }

    /// What the database groups by, in milliseconds: hours, or days of which weeks and months are
    /// made here.
    fn slot_ms(self) -> i64 {
        match self {
            Self::Hour => 60 * 60 * 1000,
            Self::Day | Self::Week | Self::Month => 24 * 60 * 60 * 1000,
        }
    }

    /// The start of the step that the moment lies in; the moment itself when it is in no calendar.
    fn start_ms(self, time_ms: i64) -> i64 {
        let day = || {
            let time = Timestamp::from_millisecond(time_ms).ok()?;
            let time = time
                .to_zoned(TimeZone::UTC)
                .round(jiff::ZonedRound::new().smallest(Unit::Day).mode(jiff::RoundMode::Trunc));
            let day = time.ok()?;
            match self {
                Self::Hour | Self::Day => Some(day),
                Self::Week => {
                    let past = day.weekday().since(Weekday::Monday);
                    day.checked_sub(i64::from(past).days()).ok()
                }
                Self::Month => day.first_of_month().ok(),
            }
        };
        match self {
            Self::Hour | Self::Day => time_ms - time_ms.rem_euclid(self.slot_ms()),
            _ => day().map_or(time_ms, |day| day.timestamp().as_millisecond()),
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// What the sums are told apart by; empty: one row for all.
    pub by: Vec<Dimension>,
    /// And by which time; `None`: over all of it.
    pub step: Option<Step>,
    /// From this moment, milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Until before this one.
    pub to_ms: Option<i64>,
    /// Only requests with these values. A name or an id, where there are both; several of a
    /// dimension must all hold; the empty text is a value that is missing.
    pub filters: Vec<(Dimension, String)>,
}

/// Sums over some requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Start of the step, milliseconds since 1970; `None` without one.
    pub start_ms: Option<i64>,
    /// The values of [`UsageQuery::by`], in its order; `None` where requests had none.
    pub values: Vec<Option<UsageValue>>,
    /// What they add up to.
    pub sums: UsageSums,
}

/// A value of a dimension.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageValue {
    /// What people call it; the id of a thing without record.
    pub name: String,
    /// Its id, of keys and groups. Two of one name are told apart by it.
    pub id: Option<String>,
}

/// Sums. Counts are of requests or tokens, amounts in nano-dollars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct UsageSums {
    /// Requests.
    pub requests: u64,
    /// Of them: those that did not finish.
    pub failed: u64,
    /// Of them: those whose usage is partly an estimate.
    pub estimated: u64,
    /// Of them: those whose model had no price. They add nothing to the cost.
    pub unpriced: u64,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
    /// Of the prompt: read from providers' caches.
    pub cached_tokens: u64,
    /// Of the prompt: written to them.
    pub cache_write_tokens: u64,
    /// Of the completion: reasoning.
    pub reasoning_tokens: u64,
    /// The cost.
    pub cost_nano_usd: i64,
    /// What providers say that it was, where they do.
    pub provider_cost_nano_usd: i64,
    /// An estimate: the cost at the policies' strongest models, where it is known.
    pub strong_cost_nano_usd: i64,
    /// An estimate: strong cost less cost, over the requests where both are known.
    pub saved_nano_usd: i64,
}

impl UsageSums {
    /// Counts more.
    pub fn add(&mut self, more: &Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.failed = self.failed.saturating_add(more.failed);
        self.estimated = self.estimated.saturating_add(more.estimated);
        self.unpriced = self.unpriced.saturating_add(more.unpriced);
        self.prompt_tokens = self.prompt_tokens.saturating_add(more.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(more.completion_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(more.cached_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(more.cache_write_tokens);
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(more.reasoning_tokens);
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(more.cost_nano_usd);
        self.provider_cost_nano_usd =
            self.provider_cost_nano_usd.saturating_add(more.provider_cost_nano_usd);
        self.strong_cost_nano_usd =
            self.strong_cost_nano_usd.saturating_add(more.strong_cost_nano_usd);
        self.saved_nano_usd = self.saved_nano_usd.saturating_add(more.saved_nano_usd);
    }
}

/// The sums of [`UsageSums`], over what [`counted`] selects.
const SUMS: &str = "CAST(SUM(requests) AS BIGINT) AS requests, \
     CAST(SUM(CASE WHEN outcome = 'finished' THEN 0 ELSE requests END) AS BIGINT) AS failed, \
     CAST(SUM(usage_estimated) AS BIGINT) AS estimated, \
     CAST(SUM(CASE WHEN cost_nano_usd IS NULL THEN requests ELSE 0 END) AS BIGINT) AS unpriced, \
     CAST(SUM(prompt_tokens) AS BIGINT) AS prompt_tokens, \
     CAST(SUM(completion_tokens) AS BIGINT) AS completion_tokens, \
     CAST(SUM(cached_tokens) AS BIGINT) AS cached_tokens, \
     CAST(SUM(cache_write_tokens) AS BIGINT) AS cache_write_tokens, \
     CAST(SUM(reasoning_tokens) AS BIGINT) AS reasoning_tokens, \
     CAST(COALESCE(SUM(cost_nano_usd), 0) AS BIGINT) AS cost_nano_usd, \
     CAST(COALESCE(SUM(provider_cost_nano_usd), 0) AS BIGINT) AS provider_cost_nano_usd, \
     CAST(COALESCE(SUM(strong_cost_nano_usd), 0) AS BIGINT) AS strong_cost_nano_usd, \
     CAST(COALESCE(SUM(saved_nano_usd), 0) AS BIGINT) AS saved_nano_usd";

/// Each request, with what it counts for.
const REQUESTS: &str = "SELECT time_ms, key_id, project_id, team_id, organisation_id, end_user, \
     tags, surface, policy, tier, decided_model, model, provider, reason, outcome, \
     1 AS requests, usage_estimated, prompt_tokens, completion_tokens, cached_tokens, \
     cache_write_tokens, reasoning_tokens, cost_nano_usd, provider_cost_nano_usd, \
     strong_cost_nano_usd, strong_cost_nano_usd - cost_nano_usd AS saved_nano_usd FROM requests";

/// Beside them: what attempts at another model or provider than the one that served have used, once
/// more at theirs, and taken away where it served.
const ELSEWHERE: &str = " UNION ALL SELECT time_ms, key_id, project_id, team_id, organisation_id, \
     end_user, tags, surface, policy, tier, decided_model, \
     CASE WHEN sign > 0 THEN attempts.model ELSE requests.model END, \
     CASE WHEN sign > 0 THEN attempts.provider ELSE requests.provider END, reason, \
     requests.outcome, 0, 0, sign * attempts.prompt_tokens, sign * attempts.completion_tokens, \
     0, 0, 0, sign * attempts.cost_nano_usd, NULL, NULL, \
     CASE WHEN strong_cost_nano_usd IS NULL THEN NULL ELSE -sign * attempts.cost_nano_usd END \
     FROM requests JOIN attempts ON attempts.request_id = requests.id \
     CROSS JOIN (SELECT 1 AS sign UNION ALL SELECT -1) AS signs \
     WHERE attempts.prompt_tokens + attempts.completion_tokens > 0 \
     AND (requests.model IS NULL OR attempts.model <> requests.model \
     OR requests.provider IS NULL OR attempts.provider <> requests.provider)";

/// Names of the columns of values, so that they can be read and grouped by.
const VALUES: [&str; MAX_DIMENSIONS] = ["v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7"];

impl Store {
    /// Sums by the dimensions asked for, ordered by time, then by cost, the highest first. Requests
    /// deleted for their age are not in it.
    ///
    /// Dimensions beyond [`MAX_DIMENSIONS`] are not told apart.
    ///
    /// # Errors
    /// [`StoreError::TooMuch`], or of the database.
    pub async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        let names = self.names().await?;
        let statement = grouped(self.backend, query, &names);
        let found = statement.query().fetch_all(&self.pool).await?;
        if found.len() > MAX_USAGE_ROWS {
            return Err(StoreError::TooMuch);
        }
        let mut rows: BTreeMap<(Option<i64>, Vec<Option<UsageValue>>), UsageSums> = BTreeMap::new();
        for row in &found {
            let start_ms = match query.step {
                Some(step) => Some(step.start_ms(row.try_get::<i64, _>("slot")? * step.slot_ms())),
                None => None,
            };
            let mut values = Vec::with_capacity(query.by.len());
            for (dimension, column) in query.by.iter().zip(VALUES) {
                let value: Option<String> = row.try_get(column)?;
                values.push(value.map(|value| names.value(dimension, value)));
            }
            rows.entry((start_ms, values)).or_default().add(&read_sums(row)?);
        }
        let rows = rows.into_iter();
        let mut rows: Vec<UsageRow> =
            rows.map(|((start_ms, values), sums)| UsageRow { start_ms, values, sums }).collect();
        rows.sort_by_key(|row| (row.start_ms, std::cmp::Reverse(row.sums.cost_nano_usd)));
        Ok(rows)
    }

    /// The names of all keys and groups, revoked and deleted ones too.
    async fn names(&self) -> Result<Names, StoreError> {
        let query = sqlx::query("SELECT id, name FROM keys UNION ALL SELECT id, name FROM groups");
        let rows = query.fetch_all(&self.pool).await?;
        let pair = |row: &AnyRow| Ok((row.try_get("id")?, row.try_get("name")?));
        Ok(Names(rows.iter().map(pair).collect::<Result<_, sqlx::Error>>()?))
    }
}

/// Names by id.
struct Names(HashMap<String, String>);

impl Names {
    fn value(&self, dimension: &Dimension, value: String) -> UsageValue {
        if !dimension.has_ids() {
            return UsageValue { name: value, id: None };
        }
        let name = self.0.get(&value).unwrap_or(&value).clone();
        UsageValue { name, id: Some(value) }
    }

    /// The ids of everything that is called so, and the text itself, which may be an id.
    fn ids(&self, name: &str) -> Vec<String> {
        let called = self.0.iter().filter(|(_, known)| *known == name).map(|(id, _)| id.clone());
        called.chain([name.to_owned()]).collect()
    }
}

fn grouped(backend: Backend, query: &UsageQuery, names: &Names) -> Statement {
    let columns: Vec<&'static str> = query.by.iter().zip(VALUES).map(|(_, name)| name).collect();
    let mut group: Vec<&'static str> = columns.clone();
    let mut statement = sql("SELECT ");
    if query.step.is_some() {
        group.push("slot");
    }
    for column in &group {
        statement = statement.text(column).text(", ");
    }
    statement = statement.text(SUMS).text(" FROM (");
    statement = filtered(counted(backend, query, statement, &columns), backend, query, names);
    statement = statement.text(") AS counted");
    for (at, column) in group.iter().enumerate() {
        statement = statement.text(if at == 0 { " GROUP BY " } else { ", " }).text(column);
    }
    // Sums over nothing are one row of nothing.
    let statement = statement.text(" HAVING COUNT(*) > 0 LIMIT ");
    statement.bind(MAX_USAGE_ROWS as i64 + 1)
}

/// The slot, values and amounts of each request, and of attempts where those are told apart.
fn counted(
    backend: Backend,
    query: &UsageQuery,
    mut statement: Statement,
    columns: &[&'static str],
) -> Statement {
    statement = statement.text("SELECT ");
    if let Some(step) = query.step {
        statement = statement.text("time_ms / ").bind(step.slot_ms()).text(" AS slot, ");
    }
    for (dimension, column) in query.by.iter().zip(columns) {
        statement = dimension.write(backend, statement).text(" AS ").text(column).text(", ");
    }
    let mut asked = query.by.iter().chain(query.filters.iter().map(|(dimension, _)| dimension));
    let splits = asked.any(Dimension::is_of_attempts);
    statement = statement.text(
        "outcome, requests, usage_estimated, prompt_tokens, completion_tokens, cached_tokens, \
         cache_write_tokens, reasoning_tokens, cost_nano_usd, provider_cost_nano_usd, \
         strong_cost_nano_usd, saved_nano_usd FROM (",
    );
    statement.text(REQUESTS).text(if splits { ELSEWHERE } else { "" }).text(") AS requests")
}

fn filtered(
    mut statement: Statement,
    backend: Backend,
    query: &UsageQuery,
    names: &Names,
) -> Statement {
    let from_ms = query.from_ms.unwrap_or(i64::MIN);
    statement = statement.text(" WHERE time_ms >= ").bind(from_ms);
    if let Some(to_ms) = query.to_ms {
        statement = statement.text(" AND time_ms < ").bind(to_ms);
    }
    for (dimension, value) in &query.filters {
        statement = dimension.write(backend, statement.text(" AND "));
        statement = if value.is_empty() {
            statement.text(" IS NULL")
        } else if dimension.has_ids() {
            statement.text(" IN ").bind_all(&names.ids(value))
        } else {
            statement.text(" = ").bind(value)
        };
    }
    statement
}

fn read_sums(row: &AnyRow) -> Result<UsageSums, StoreError> {
    Ok(UsageSums {
        requests: unsigned(row, "requests")?,
        failed: unsigned(row, "failed")?,
        estimated: unsigned(row, "estimated")?,
        unpriced: unsigned(row, "unpriced")?,
        prompt_tokens: unsigned(row, "prompt_tokens")?,
        completion_tokens: unsigned(row, "completion_tokens")?,
        cached_tokens: unsigned(row, "cached_tokens")?,
        cache_write_tokens: unsigned(row, "cache_write_tokens")?,
        reasoning_tokens: unsigned(row, "reasoning_tokens")?,
        cost_nano_usd: row.try_get("cost_nano_usd")?,
        provider_cost_nano_usd: row.try_get("provider_cost_nano_usd")?,
        strong_cost_nano_usd: row.try_get("strong_cost_nano_usd")?,
        saved_nano_usd: row.try_get("saved_nano_usd")?,
    })
}
