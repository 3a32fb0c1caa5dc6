//! `check`, `init` and `models`: looking at a configuration.

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{ConfigArg, InitArgs, ModelsArgs, inputs};
use crate::{
    config::{self, Config, ConfigError, environment, template::TEMPLATE},
    policy::ModelCard,
    units::NanoUsd,
};

/// Prints every problem; fails when one of them is an error.
pub fn check(args: &ConfigArg) -> anyhow::Result<ExitCode> {
    let Some(path) = inputs::config_path(args) else {
        bail!(
            "there is no weighbridge.toml here; name a file with --config, or run `weighbridge init`"
        );
    };
    match config::load(&path) {
        Ok(checked) => {
            if !checked.warnings.list.is_empty() {
                println!("{}", checked.warnings);
            }
            let config = checked.config;
            println!(
                "{}: ok ({} providers, {} models, {} policies)",
                path.display(),
                config.providers.len(),
                config.models.len(),
                config.policies.len()
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(ConfigError::Invalid(problems)) => {
            println!("{problems}");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the commented configuration.
pub fn init(args: &InitArgs) -> anyhow::Result<ExitCode> {
    if args.file == Path::new("-") {
        std::io::stdout().write_all(TEMPLATE.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let shown = args.file.display();
    match options.open(&args.file) {
        Ok(mut file) => file.write_all(TEMPLATE.as_bytes())?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{shown} exists; --force replaces it");
        }
        Err(error) => return Err(error).with_context(|| format!("{shown} cannot be written")),
    }
    println!("wrote {shown}; `weighbridge check --config {shown}` checks it");
    Ok(ExitCode::SUCCESS)
}

/// Lists policies and models.
pub fn models(args: &ModelsArgs) -> anyhow::Result<ExitCode> {
    let config = match inputs::load_config(&args.config)? {
        Some(config) => config,
        None => environment::discover(&environment::variable, &[])
            .context(
                "there is no configuration and no provider key: run `weighbridge init`, or set one \
                 of the variables that `weighbridge --help` names",
            )?
            .config,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        for card in config.models.iter() {
            writeln!(out, "{}", as_json(card))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    print_policies(&mut out, &config)?;
    print_models(&mut out, &config)?;
    Ok(ExitCode::SUCCESS)
}

fn print_policies(out: &mut impl std::io::Write, config: &Config) -> std::io::Result<()> {
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

fn print_models(out: &mut impl std::io::Write, config: &Config) -> std::io::Result<()> {
    let width =
        config.models.iter().map(|card| card.name.chars().count()).max().unwrap_or(0).max(5);
    writeln!(
        out,
        "{:<width$}  {:<12} {:>9} {:>9} {:>9}  ABILITIES",
        "MODEL", "PROVIDER", "WINDOW", "IN $/M", "OUT $/M"
    )?;
    for card in config.models.iter() {
        let window = card.context_window.map_or("?".to_owned(), |tokens| tokens.to_string());
        let price = |nano: fn(&crate::units::Price) -> u64| {
            card.price.as_ref().map_or("?".to_owned(), |price| {
                NanoUsd(i64::try_from(nano(price)).unwrap_or(i64::MAX)).to_string()
            })
        };
        let abilities = card.abilities.as_ref().map_or("?".to_owned(), |abilities| {
            abilities.iter().map(|ability| ability.name()).collect::<Vec<_>>().join(" ")
        });
        writeln!(
            out,
            "{:<width$}  {:<12} {window:>9} {:>9} {:>9}  {abilities}",
            card.name,
            card.provider,
            price(|price| price.input_nano_usd_per_mtok),
            price(|price| price.output_nano_usd_per_mtok),
        )?;
    }
    Ok(())
}

fn as_json(card: &ModelCard) -> serde_json::Value {
    let usd = |nano: u64| nano as f64 / 1e9;
    json!({
        "id": card.name,
        "provider": card.provider,
        "upstream_name": card.upstream_name,
        "context_window": card.context_window,
        "max_output_tokens": card.max_output_tokens,
        "input_usd_per_mtok": card.price.map(|price| usd(price.input_nano_usd_per_mtok)),
        "output_usd_per_mtok": card.price.map(|price| usd(price.output_nano_usd_per_mtok)),
        "cached_input_usd_per_mtok": card.price.map(|price| usd(price.cached_input_nano_usd_per_mtok)),
        "abilities": card.abilities.as_ref().map(|abilities| {
            abilities.iter().map(|ability| ability.name()).collect::<Vec<_>>()
        }),
    })
}
