//! `models`: what is configured, what the catalogue knows, and refreshing it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{ConfigArg, inputs, table};
use crate::{
    config::{
        Config, Origins,
        catalogue::{
            CatalogueFile, LOCAL_FILE, MAX_FILE_BYTES, ModelFacts, Models, litellm, refresh,
        },
    },
    policy::{Abilities, ModelCard},
    units::{NanoUsd, Price},
};

/// Bound on fetching a price file.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);
/// The licence of LiteLLM's price file, kept with what is taken from it.
const LITELLM_LICENCE: &str = "MIT, Copyright (c) 2023 Berri AI";

#[derive(Args)]
pub struct ModelsArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Show only models whose provider/name contains this
    #[arg(value_name = "TEXT")]
    filter: Option<String>,
    /// List the catalogue instead of what is configured
    #[arg(long)]
    all: bool,
    /// Show only models of this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Print JSON, one model a line
    #[arg(long)]
    json: bool,
    /// Take newer facts from a file or URL in the format of LiteLLM's public price list
    #[arg(long, value_name = "FILE|URL", conflicts_with_all = ["filter", "all", "provider", "json"])]
    refresh: Option<String>,
    /// Write every row of the list to this file, instead of what is new to the local catalogue
    #[arg(long, value_name = "FILE", requires = "refresh")]
    out: Option<PathBuf>,
    /// What the list is, to be kept with its rows [default: its file name or URL]
    #[arg(long, value_name = "TEXT", requires = "refresh")]
    source: Option<String>,
    /// The day of the list: models that retire by then are left out [default: today]
    #[arg(long, value_name = "YYYY-MM-DD", requires = "refresh")]
    date: Option<jiff::civil::Date>,
}

/// Lists, or refreshes.
pub fn models(args: &ModelsArgs) -> anyhow::Result<ExitCode> {
    match &args.refresh {
        Some(from) => refresh(args, from)?,
        None => list(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(args: &ModelsArgs) -> anyhow::Result<()> {
    let configured = inputs::load_config(&args.config)?;
    let mut out = std::io::stdout().lock();
    if args.all {
        let models = match configured {
            Some(config) => config.catalogue,
            None => Models::with_local_file(Path::new(LOCAL_FILE))?,
        };
        return list_catalogue(args, &models, &mut out);
    }
    let config = match configured {
        Some(config) => config,
        None => inputs::discovered()?,
    };
    if !args.json && args.filter.is_none() && args.provider.is_none() {
        print_policies(&mut out, &config)?;
    }
    let shown = config.models.iter().enumerate().filter(|(_, card)| {
        wanted(args, &card.provider, &card.upstream_name)
            || wanted(args, &card.provider, &card.name)
    });
    let rows: Vec<(&ModelCard, Origins)> = shown
        .map(|(at, card)| (card, config.origins.get(at).copied().unwrap_or_default()))
        .collect();
    if args.json {
        for (card, origins) in rows {
            writeln!(out, "{}", card_json(card, origins))?;
        }
        return Ok(());
    }
    let table = rows.iter().map(|(card, origins)| configured_row(card, *origins)).collect();
    print_table(&mut out, table)?;
    Ok(())
}

fn list_catalogue(args: &ModelsArgs, models: &Models, out: &mut impl Write) -> anyhow::Result<()> {
    let rows: Vec<(&str, &str, &ModelFacts)> = models
        .all()
        .into_iter()
        .filter(|(provider, model, _)| wanted(args, provider, model))
        .collect();
    if args.json {
        for (provider, model, facts) in rows {
            writeln!(out, "{}", facts_json(provider, model, facts))?;
        }
        return Ok(());
    }
    if rows.is_empty() {
        bail!("the catalogue has no such model");
    }
    let row = |(provider, model, facts): (&str, &str, &ModelFacts)| {
        let card = facts.card(&format!("{provider}/{model}"), provider, model);
        let provenance = &facts.provenance;
        table_row(&card, format!("{}, {}", provenance.source, provenance.date))
    };
    print_table(out, rows.into_iter().map(row).collect())?;
    Ok(())
}

fn wanted(args: &ModelsArgs, provider: &str, model: &str) -> bool {
    args.provider.as_ref().is_none_or(|wanted| wanted == provider)
        && args.filter.as_ref().is_none_or(|text| format!("{provider}/{model}").contains(text))
}

fn refresh(args: &ModelsArgs, from: &str) -> anyhow::Result<()> {
    let text = read(from)?;
    let name = || if is_url(from) { without_query(from) } else { file_name(from) };
    let source = args.source.clone().unwrap_or_else(name);
    let date = args
        .date
        .map_or_else(|| jiff::Timestamp::now().strftime("%F").to_string(), |date| date.to_string());
    let news = litellm::convert(&text, &source, &date)
        .with_context(|| format!("{} cannot be used", without_query(from)))?;
    let news = CatalogueFile { licence: Some(LITELLM_LICENCE.to_owned()), ..news };
    if let Some(path) = &args.out {
        let mut file = news;
        for models in file.rows.values_mut() {
            models.retain(|_, facts| facts.is_some());
        }
        write(path, &file)?;
        println!("{}: {} models", path.display(), file.facts().count());
        return Ok(());
    }
    let (models, path) = match inputs::load_config(&args.config)? {
        Some(config) => (config.catalogue, config.catalogue_path),
        None => (Models::with_local_file(Path::new(LOCAL_FILE))?, PathBuf::from(LOCAL_FILE)),
    };
    let (file, changes) = refresh::merge(&models, news);
    println!("{changes}");
    let rows_changed = models.local().map_or(!file.rows.is_empty(), |old| old.rows != file.rows);
    if rows_changed {
        write(&path, &file)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn is_url(from: &str) -> bool {
    from.starts_with("http://") || from.starts_with("https://")
}

/// A query may hold a key.
fn without_query(from: &str) -> String {
    from.split(['?', '#']).next().unwrap_or(from).to_owned()
}

fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name();
    name.map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The text of a file or URL, at most [`MAX_FILE_BYTES`] of it.
fn read(from: &str) -> anyhow::Result<String> {
    let shown = without_query(from);
    let bytes = if is_url(from) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(fetch(from)).with_context(|| format!("{shown} cannot be fetched"))?
    } else {
        let size =
            std::fs::metadata(from).with_context(|| format!("{shown} cannot be read"))?.len();
        check_size(size)?;
        std::fs::read(from).with_context(|| format!("{shown} cannot be read"))?
    };
    String::from_utf8(bytes).with_context(|| format!("{shown} is not text"))
}

async fn fetch(url: &str) -> anyhow::Result<Vec<u8>> {
    let client = reqwest::Client::builder()
        .timeout(FETCH_TIMEOUT)
        .user_agent(concat!("weighbridge/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let response = client.get(url).send().await.map_err(reqwest::Error::without_url)?;
    let mut response = response.error_for_status().map_err(reqwest::Error::without_url)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        bytes.extend_from_slice(&chunk);
        check_size(bytes.len() as u64)?;
    }
    Ok(bytes)
}

fn check_size(bytes: u64) -> anyhow::Result<()> {
    if bytes > MAX_FILE_BYTES {
        bail!("it is larger than {MAX_FILE_BYTES} bytes");
    }
    Ok(())
}

/// Replaces the file in one step, so that a server that starts meanwhile reads all or nothing.
fn write(path: &Path, file: &CatalogueFile) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, file.write())
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn print_policies(out: &mut impl Write, config: &Config) -> std::io::Result<()> {
    for policy in &config.policies {
        writeln!(out, "policy {} (default tier: {})", policy.name(), policy.default_tier().name)?;
        for tier in policy.tiers() {
            let below = tier.below.map_or("the rest".to_owned(), |below| format!("below {below}"));
            let names: Vec<_> = tier
                .models
                .iter()
                .filter_map(|&index| config.models.get(index))
                .map(|card| card.name.as_str())
                .collect();
            writeln!(out, "  {:<12} {below:<14} {}", tier.name, names.join(", "))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What a list shows of a model, in the order of [`HEADINGS`].
type TableRow = [String; 8];
const HEADINGS: [&str; 8] =
    ["MODEL", "PROVIDER", "WINDOW", "IN $/M", "OUT $/M", "CACHED $/M", "ABILITIES", "FROM"];

fn configured_row(card: &ModelCard, origins: Origins) -> TableRow {
    let parts = [
        ("price", origins.price),
        ("window", origins.context_window),
        ("abilities", origins.abilities),
    ];
    let first = parts[0].1;
    let from = if parts.iter().all(|(_, origin)| *origin == first) {
        first.label().to_owned()
    } else {
        parts.map(|(part, origin)| format!("{part}: {}", origin.label())).join(", ")
    };
    table_row(card, from)
}

fn table_row(card: &ModelCard, from: String) -> TableRow {
    let usd = |part: fn(&Price) -> u64| {
        card.price.as_ref().map_or("?".to_owned(), |price| {
            let long = if price.long_prompt.is_some() { "+" } else { "" };
            format!("{}{long}", NanoUsd(i64::try_from(part(price)).unwrap_or(i64::MAX)))
        })
    };
    [
        card.name.clone(),
        card.provider.clone(),
        card.context_window.map_or("?".to_owned(), |tokens| tokens.to_string()),
        usd(|price| price.input_nano_usd_per_mtok),
        usd(|price| price.output_nano_usd_per_mtok),
        usd(|price| price.cached_input_nano_usd_per_mtok),
        if card.abilities.is_unknown() {
            "?".to_owned()
        } else {
            affirmed(&card.abilities).join(" ")
        },
        from,
    ]
}

fn affirmed(abilities: &Abilities) -> Vec<&'static str> {
    abilities.affirmed().map(|ability| ability.name()).collect()
}

fn print_table(out: &mut impl Write, rows: Vec<TableRow>) -> std::io::Result<()> {
    table::print(out, HEADINGS, &rows, |column| (2..=5).contains(&column))?;
    if rows.iter().any(|row| row.iter().any(|cell| cell.ends_with('+'))) {
        writeln!(out, "+ more for long prompts; --json says from where on")?;
    }
    Ok(())
}

fn card_json(card: &ModelCard, origins: Origins) -> Value {
    let mut object = common_json(card);
    object["id"] = json!(card.name);
    object["from"] = json!({
        "context_window": origins.context_window.label(),
        "max_output_tokens": origins.max_output_tokens.label(),
        "price": origins.price.label(),
        "abilities": origins.abilities.label(),
    });
    object
}

fn facts_json(provider: &str, model: &str, facts: &ModelFacts) -> Value {
    let mut object = common_json(&facts.card("", provider, model));
    object["id"] = json!(format!("{provider}/{model}"));
    object["retires"] = json!(facts.retires);
    let batch = |part: fn(&crate::config::catalogue::ListPrice) -> Option<u64>| {
        facts.price.as_ref().and_then(part).map(usd)
    };
    object["batch_input_usd_per_mtok"] = json!(batch(|price| price.batch_input));
    object["batch_output_usd_per_mtok"] = json!(batch(|price| price.batch_output));
    let provenance = &facts.provenance;
    object["from"] =
        json!({ "source": provenance.source, "date": provenance.date, "page": provenance.page });
    object
}

fn usd(nano: u64) -> f64 {
    nano as f64 / 1e9
}

fn common_json(card: &ModelCard) -> Value {
    let price = |part: fn(&Price) -> Option<u64>| card.price.as_ref().and_then(part).map(usd);
    let long = card.price.and_then(|price| price.long_prompt);
    json!({
        "id": null,
        "provider": card.provider,
        "upstream_name": card.upstream_name,
        "mode": card.mode.map(|mode| mode.name()),
        "context_window": card.context_window,
        "max_output_tokens": card.max_output_tokens,
        "input_usd_per_mtok": price(|price| Some(price.input_nano_usd_per_mtok)),
        "output_usd_per_mtok": price(|price| Some(price.output_nano_usd_per_mtok)),
        "cached_input_usd_per_mtok": price(|price| Some(price.cached_input_nano_usd_per_mtok)),
        "cache_write_usd_per_mtok": price(|price| price.cache_write_nano_usd_per_mtok),
        "cache_write_1h_usd_per_mtok": price(|price| price.cache_write_1h_nano_usd_per_mtok),
        "reasoning_usd_per_mtok": price(|price| price.reasoning_nano_usd_per_mtok),
        "audio_input_usd_per_mtok": price(|price| price.audio_input_nano_usd_per_mtok),
        "audio_output_usd_per_mtok": price(|price| price.audio_output_nano_usd_per_mtok),
        "image_input_usd_per_mtok": price(|price| price.image_input_nano_usd_per_mtok),
        "batch_input_usd_per_mtok": price(|price| price.batch.map(|b| b.input_nano_usd_per_mtok)),
        "batch_output_usd_per_mtok":
            price(|price| price.batch.map(|b| b.output_nano_usd_per_mtok)),
        "request_usd": card.price.map(|price| usd(price.request_nano_usd)),
        "long_prompt": long.map(|long| json!({
            "above_prompt_tokens": long.above_prompt_tokens,
            "input_usd_per_mtok": usd(long.input_nano_usd_per_mtok),
            "output_usd_per_mtok": usd(long.output_nano_usd_per_mtok),
            "cached_input_usd_per_mtok": long.cached_input_nano_usd_per_mtok.map(usd),
        })),
        "abilities": (!card.abilities.is_unknown()).then(|| affirmed(&card.abilities)),
        "lacks": card.abilities.denied().map(|ability| ability.name()).collect::<Vec<_>>(),
    })
}
