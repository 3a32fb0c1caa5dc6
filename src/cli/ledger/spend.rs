//! `spend` and `usage`: what was spent and used, by any dimension and step of time.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use jiff::tz::TimeZone;

use super::{
    ConfigArg, Office, at_the_office, moment,
    sheet::{Cell, Holds, Sheet},
};
use crate::{
    config::did_you_mean,
    ledger::store::{Dimension, MAX_DIMENSIONS, Step, UsageQuery, UsageRow, UsageSums},
};

#[derive(Args)]
#[command(after_help = "Dimensions: key, project, team, organisation, user, tag:NAME, model, \
    decided_model, provider, tier, policy, surface, outcome, reason.\n\nCosts are those of the \
    price table at the time of each request. What always using the strongest model would have \
    cost, and so what was saved, is an estimate on the same tokens.")]
pub struct SpendArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Tell requests apart by these dimensions
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    by: Vec<String>,
    /// And by time, in UTC; weeks begin on Monday
    #[arg(long, value_name = "STEP", value_parser = Step::NAMES)]
    step: Option<String>,
    /// Only requests from this moment on: a date (UTC), a time, or a length of time back like 7d
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,
    /// Only requests before this moment
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,
    /// Only requests with this value, like model=small; nothing after = for those without one
    #[arg(long, value_name = "DIMENSION=VALUE")]
    filter: Vec<String>,
    /// Print a JSON array
    #[arg(long, conflicts_with_all = ["csv", "parquet"])]
    json: bool,
    /// Write CSV to this file; `-` for standard output
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write Parquet to this file
    #[arg(long, value_name = "FILE")]
    parquet: Option<PathBuf>,
}

/// Money first; by key unless told otherwise.
pub fn spend(args: &SpendArgs) -> anyhow::Result<ExitCode> {
    let by_key = ["key".to_owned()];
    let by = if args.by.is_empty() { &by_key[..] } else { &args.by };
    at_the_office(&args.config, async |office| show(office, args, by, SPEND).await)
}

/// Every sum; all in one row unless told otherwise.
pub fn usage(args: &SpendArgs) -> anyhow::Result<ExitCode> {
    at_the_office(&args.config, async |office| show(office, args, &args.by, USAGE).await)
}

/// A sum that is shown.
type Column = (&'static str, Holds, fn(&UsageSums) -> i64);

const REQUESTS: Column = ("requests", Holds::Count, |sums| count(sums.requests));
const PROMPT: Column = ("prompt_tokens", Holds::Count, |sums| count(sums.prompt_tokens));
const COMPLETION: Column =
    ("completion_tokens", Holds::Count, |sums| count(sums.completion_tokens));
const COST: Column = ("cost_usd", Holds::Money, |sums| sums.cost_nano_usd);
const STRONG: Column = ("strong_cost_usd", Holds::Money, |sums| sums.strong_cost_nano_usd);
const SAVED: Column = ("saved_usd", Holds::Money, |sums| sums.saved_nano_usd);

const SPEND: &[Column] = &[REQUESTS, PROMPT, COMPLETION, COST, STRONG, SAVED];
const USAGE: &[Column] = &[
    REQUESTS,
    ("failed", Holds::Count, |sums| count(sums.failed)),
    ("estimated", Holds::Count, |sums| count(sums.estimated)),
    ("unpriced", Holds::Count, |sums| count(sums.unpriced)),
    PROMPT,
    ("cached_tokens", Holds::Count, |sums| count(sums.cached_tokens)),
    ("cache_write_tokens", Holds::Count, |sums| count(sums.cache_write_tokens)),
    COMPLETION,
    ("reasoning_tokens", Holds::Count, |sums| count(sums.reasoning_tokens)),
    COST,
    ("provider_cost_usd", Holds::Money, |sums| sums.provider_cost_nano_usd),
    STRONG,
    SAVED,
];

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

async fn show(
    office: &Office,
    args: &SpendArgs,
    by: &[String],
    columns: &[Column],
) -> anyhow::Result<()> {
    let query = query(args, by, office.actor.now_ms)?;
    let rows = office.store.usage(&query).await?;
    let mut sheet = sheet(&query, &rows, columns);
    if let Some(path) = &args.parquet {
        sheet.write_parquet(created(path)?).with_context(|| unwritten(path))?;
    }
    match &args.csv {
        Some(path) if path == Path::new("-") => return sheet.write_csv(std::io::stdout().lock()),
        Some(path) => sheet.write_csv(created(path)?).with_context(|| unwritten(path))?,
        None => {}
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        return sheet.print_json(&mut out);
    }
    if args.csv.is_some() || args.parquet.is_some() {
        return Ok(());
    }
    if rows.is_empty() {
        writeln!(out, "no requests")?;
        return Ok(());
    }
    // Ids are for programs.
    sheet.drop_columns(|name| name.ends_with("_id"));
    let mut total = UsageSums::default();
    rows.iter().for_each(|row| total.add(&row.sums));
    sheet.print(&mut out)?;
    if rows.len() > 1 {
        let sums = columns.iter().map(|(name, holds, sum)| {
            let cell = Cell::Number(Some(sum(&total)));
            format!("{} {}", super::sheet::shown(&cell, *holds).unwrap_or_default(), label(name))
        });
        writeln!(out, "total: {}", sums.collect::<Vec<_>>().join(", "))?;
    }
    if total.unpriced > 0 {
        let n = total.unpriced;
        writeln!(out, "{n} requests used nothing, or a model without a price, and count as free")?;
    }
    Ok(())
}

fn label(column: &str) -> String {
    column.strip_suffix("_usd").map_or(column, |name| name).replace('_', " ")
}

fn created(path: &Path) -> anyhow::Result<BufWriter<File>> {
    Ok(BufWriter::new(File::create(path).with_context(|| unwritten(path))?))
}

fn unwritten(path: &Path) -> String {
    format!("{} cannot be written", path.display())
}

fn query(args: &SpendArgs, by: &[String], now_ms: i64) -> anyhow::Result<UsageQuery> {
    let by: Vec<Dimension> =
        by.iter().map(|name| dimension("--by", name)).collect::<Result<_, _>>()?;
    ensure!(by.len() <= MAX_DIMENSIONS, "--by takes at most {MAX_DIMENSIONS} dimensions");
    for (at, one) in by.iter().enumerate() {
        ensure!(!by.iter().take(at).any(|other| other == one), "--by names {} twice", one.name());
    }
    let filters = args.filter.iter().map(|filter| {
        let (name, value) = filter
            .split_once('=')
            .ok_or_else(|| anyhow!("--filter `{filter}` has no =: write it like model=small"))?;
        Ok((dimension("--filter", name)?, value.to_owned()))
    });
    let at = |flag, text: &Option<String>| {
        text.as_deref().map(|text| moment(flag, text, now_ms, &TimeZone::UTC, false)).transpose()
    };
    Ok(UsageQuery {
        by,
        step: args.step.as_deref().and_then(Step::from_name),
        from_ms: at("--from", &args.from)?,
        to_ms: at("--to", &args.to)?,
        filters: filters.collect::<anyhow::Result<_>>()?,
    })
}

fn dimension(flag: &str, name: &str) -> anyhow::Result<Dimension> {
    if let Some(dimension) = Dimension::from_name(name) {
        return Ok(dimension);
    }
    let fix = did_you_mean(name, Dimension::NAMES.into_iter())
        .unwrap_or_else(|| format!("use {}", Dimension::NAMES.join(", ")));
    bail!("{flag} `{name}` is not a dimension: {fix}")
}

/// Time, dimensions (keys and groups with their ids), sums.
fn sheet(query: &UsageQuery, rows: &[UsageRow], columns: &[Column]) -> Sheet {
    let mut sheet = Sheet::default();
    if query.step.is_some() {
        sheet.columns.push(("start".to_owned(), Holds::Time));
    }
    for dimension in &query.by {
        sheet.columns.push((dimension.name(), Holds::Text));
        if dimension.has_ids() {
            sheet.columns.push((format!("{}_id", dimension.name()), Holds::Text));
        }
    }
    for (name, holds, _) in columns {
        sheet.columns.push(((*name).to_owned(), *holds));
    }
    for row in rows {
        let mut cells = Vec::with_capacity(sheet.columns.len());
        cells.extend(query.step.map(|_| Cell::Number(row.start_ms)));
        for (dimension, value) in query.by.iter().zip(&row.values) {
            cells.push(Cell::Text(value.as_ref().map(|value| value.name.clone())));
            if dimension.has_ids() {
                cells.push(Cell::Text(value.as_ref().and_then(|value| value.id.clone())));
            }
        }
        cells.extend(columns.iter().map(|(_, _, sum)| Cell::Number(Some(sum(&row.sums)))));
        sheet.rows.push(cells);
    }
    sheet
}
