//! `/admin/usage` and `/admin/spend`: what was used and what it cost, by any dimension and step.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    Desk,
    access::Viewer,
    error::{AdminError, Asking},
    read::{Moment, Parameters},
};
use crate::{
    ledger::{
        export::csv_text,
        store::{Dimension, Step, UsageQuery, UsageRow, UsageSums, UsageValue},
    },
    units::NanoUsd,
};

/// Most dimensions at once, as the store tells them apart.
const MAX_DIMENSIONS: usize = 8;

/// What is asked.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only the OpenAPI document reads it; `question` reads the parameters")]
pub(super) struct Question {
    /// What the sums are told apart by: `key`, `project`, `team`, `organisation`, `user`,
    /// `tag:NAME`, `model`, `decided_model`, `provider`, `tier`, `policy`, `surface`, `outcome`,
    /// `reason`; several as `by=key,model` or one by one.
    #[param(required = false, max_items = 8, example = json!(["key", "model"]))]
    by: Vec<String>,
    /// A step of time in UTC.
    #[param(inline)]
    step: Option<StepView>,
    /// From this time, RFC 3339 or a date.
    #[param(example = "2026-01-01")]
    from: Option<String>,
    /// Until before this time, RFC 3339 or a date.
    #[param(example = "2026-02-01T00:00:00Z")]
    to: Option<String>,
    /// Only requests with this value, as `DIMENSION=VALUE`; several must all hold. An empty value
    /// is one that is missing.
    #[param(required = false, max_items = 20, example = json!(["model=small"]))]
    filter: Vec<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "only the OpenAPI document reads it")]
pub(super) enum StepView {
    Hour,
    Day,
    Week,
    Month,
}

/// Sums, ordered by time and then by cost, the highest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Lines<T> {
    data: Vec<Line<T>>,
}

/// Sums over some requests.
#[derive(Serialize, ToSchema)]
pub(super) struct Line<T> {
    /// Start of the step; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Moment>,
    /// The value of each dimension asked for.
    by: BTreeMap<String, ValueView>,
    #[serde(flatten)]
    figures: T,
}

#[derive(Default, Serialize, ToSchema)]
pub(super) struct ValueView {
    /// What people call it; null where the requests had none.
    name: Option<String>,
    /// Its id, of keys and groups.
    id: Option<String>,
}

/// What some requests used.
#[derive(Serialize, ToSchema)]
pub(super) struct Used {
    requests: u64,
    /// Of them: those that did not finish.
    failed: u64,
    /// Of them: those whose usage is partly an estimate.
    estimated: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// Of the prompt: read from providers' caches.
    cached_tokens: u64,
    /// Of the prompt: written to them.
    cache_write_tokens: u64,
    /// Of the completion: reasoning.
    reasoning_tokens: u64,
}

/// What some requests cost: in dollars, and the same in nano-dollars.
#[derive(Serialize, ToSchema)]
pub(super) struct Spent {
    requests: u64,
    /// Of them: those whose model had no price. They add nothing to the cost.
    unpriced: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    cost_usd: String,
    cost_nano_usd: i64,
    /// What providers say that it was, where they do.
    provider_cost_usd: String,
    provider_cost_nano_usd: i64,
    /// An estimate: the cost at the policies' strongest models, where it is known.
    strong_cost_usd: String,
    strong_cost_nano_usd: i64,
    /// An estimate: what routing saved, over the requests where both costs are known.
    saved_usd: String,
    saved_nano_usd: i64,
}

impl From<&UsageSums> for Used {
    fn from(sums: &UsageSums) -> Self {
        Self {
            requests: sums.requests,
            failed: sums.failed,
            estimated: sums.estimated,
            prompt_tokens: sums.prompt_tokens,
            completion_tokens: sums.completion_tokens,
            cached_tokens: sums.cached_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            reasoning_tokens: sums.reasoning_tokens,
        }
    }
}

impl From<&UsageSums> for Spent {
    fn from(sums: &UsageSums) -> Self {
        let usd = |nano_usd| NanoUsd(nano_usd).to_string();
        Self {
            requests: sums.requests,
            unpriced: sums.unpriced,
            prompt_tokens: sums.prompt_tokens,
            completion_tokens: sums.completion_tokens,
            cost_usd: usd(sums.cost_nano_usd),
            cost_nano_usd: sums.cost_nano_usd,
            provider_cost_usd: usd(sums.provider_cost_nano_usd),
            provider_cost_nano_usd: sums.provider_cost_nano_usd,
            strong_cost_usd: usd(sums.strong_cost_nano_usd),
            strong_cost_nano_usd: sums.strong_cost_nano_usd,
            saved_usd: usd(sums.saved_nano_usd),
            saved_nano_usd: sums.saved_nano_usd,
        }
    }
}

/// What was used: requests, and tokens by kind. As CSV where `accept` asks for it.
#[utoipa::path(
    get, path = "/admin/usage", tag = "usage", params(Question),
    responses(
        (status = 200, content((Lines<Used> = "application/json"), (String = "text/csv"))),
        Asking,
    )
)]
pub(super) async fn usage(
    _: Viewer,
    State(desk): State<Desk>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, AdminError> {
    answer::<Used>(&desk, &uri, &headers).await
}

/// What was spent, and what routing saved. As CSV where `accept` asks for it.
#[utoipa::path(
    get, path = "/admin/spend", tag = "usage", params(Question),
    responses(
        (status = 200, content((Lines<Spent> = "application/json"), (String = "text/csv"))),
        Asking,
    )
)]
pub(super) async fn spend(
    _: Viewer,
    State(desk): State<Desk>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, AdminError> {
    answer::<Spent>(&desk, &uri, &headers).await
}

async fn answer<T>(desk: &Desk, uri: &Uri, headers: &HeaderMap) -> Result<Response, AdminError>
where
    T: Serialize + for<'s> From<&'s UsageSums>,
{
    let query = question(Parameters::of(uri))?;
    let ledger = desk.ledger()?;
    // What has ended by now is in the answer.
    ledger.flush().await?;
    let rows = ledger.store().usage(&query).await?;
    if wants_csv(headers) {
        let csv = table::<T>(&query, &rows)?;
        return Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], csv).into_response());
    }
    let line = |row: UsageRow| Line {
        start: row.start_ms.map(Moment),
        by: query.by.iter().map(Dimension::name).zip(row.values.into_iter().map(shown)).collect(),
        figures: T::from(&row.sums),
    };
    Ok(Json(Lines { data: rows.into_iter().map(line).collect() }).into_response())
}

fn shown(value: Option<UsageValue>) -> ValueView {
    value.map(|UsageValue { name, id }| ValueView { name: Some(name), id }).unwrap_or_default()
}

/// Reads the parameters.
fn question(mut parameters: Parameters) -> Result<UsageQuery, AdminError> {
    let (by, step) = (parameters.all("by"), parameters.one("step")?);
    let (from_ms, to_ms) = (parameters.moment("from")?, parameters.moment("to")?);
    let filters = parameters.all("filter");
    parameters.finish()?;
    let wrong = |param, message| AdminError::Value { param, message };
    // Empty ones count as well: the schema's bound is of the list as it was sent.
    let by: Vec<_> = by.iter().flat_map(|names| names.split(',')).collect();
    if by.len() > MAX_DIMENSIONS {
        return Err(wrong("by", format!("names {}; name at most {MAX_DIMENSIONS}", by.len())));
    }
    let by = by.into_iter().filter(|name| !name.is_empty());
    let by = by.map(|name| dimension("by", name)).collect::<Result<_, _>>()?;
    let step = step.map(|name| {
        let known = || format!("`{name}` is not a step; use one of: {}", Step::NAMES.join(", "));
        Step::from_name(&name).ok_or_else(|| wrong("step", known()))
    });
    let step = step.transpose()?;
    if from_ms.zip(to_ms).is_some_and(|(from, to)| from >= to) {
        return Err(wrong("to", "is not after `from`; name a later time".to_owned()));
    }
    let filters = filters.iter().map(|text| match text.split_once('=') {
        Some((name, value)) => Ok((dimension("filter", name)?, value.to_owned())),
        None => Err(wrong("filter", format!("`{text}` has no value; write DIMENSION=VALUE"))),
    });
    let filters = filters.collect::<Result<_, _>>()?;
    Ok(UsageQuery { by, step, from_ms, to_ms, filters })
}

fn dimension(param: &'static str, name: &str) -> Result<Dimension, AdminError> {
    Dimension::from_name(name).ok_or_else(|| AdminError::Value {
        param,
        message: format!("`{name}` is not a dimension; use {}", Dimension::NAMES.join(", ")),
    })
}

/// Whether CSV is asked for, and JSON is not asked for before it.
fn wants_csv(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let kinds = lines.flat_map(|line| line.split(','));
    let mut kinds = kinds.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    kinds.find(|kind| ["text/csv", "application/json"].contains(kind)) == Some("text/csv")
}

/// The same lines as CSV: a column for each dimension, and one for its id where it has one.
fn table<T>(query: &UsageQuery, rows: &[UsageRow]) -> Result<Vec<u8>, AdminError>
where
    T: Serialize + for<'s> From<&'s UsageSums>,
{
    let figures = |sums: &UsageSums| match serde_json::to_value(T::from(sums)) {
        Ok(Value::Object(figures)) => figures,
        // Lines are structs of numbers and texts.
        _ => serde_json::Map::new(),
    };
    let has_id = |dimension: &Dimension| {
        use Dimension as D;
        matches!(dimension, D::Key | D::Project | D::Team | D::Organisation)
    };
    let mut head: Vec<String> = query.step.map(|_| "start".to_owned()).into_iter().collect();
    for dimension in &query.by {
        head.push(dimension.name());
        head.extend(has_id(dimension).then(|| format!("{}_id", dimension.name())));
    }
    head.extend(figures(&UsageSums::default()).into_iter().map(|(name, _)| name));
    let mut out = csv::Writer::from_writer(Vec::new());
    let mut write = |cells: Vec<String>| out.write_record(cells).map_err(AdminError::Csv);
    write(head)?;
    for row in rows {
        let start = row.start_ms.map(|start_ms| Moment(start_ms).to_string());
        let mut cells: Vec<String> = start.into_iter().collect();
        for (dimension, value) in query.by.iter().zip(&row.values) {
            let value = value.as_ref();
            let name = value.map(|value| csv_text(&value.name).into_owned());
            cells.push(name.unwrap_or_default());
            let id = || value.and_then(|value| value.id.clone()).unwrap_or_default();
            cells.extend(has_id(dimension).then(id));
        }
        cells.extend(figures(&row.sums).into_iter().map(|(_, value)| match value {
            Value::String(text) => text,
            number => number.to_string(),
        }));
        write(cells)?;
    }
    out.into_inner().map_err(|error| AdminError::Csv(error.into_error().into()))
}
