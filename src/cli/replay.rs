//! `replay`: recorded decisions under a configuration.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{ConfigArg, inputs};
use crate::{
    evaluate::replay::{Replayed, Side},
    policy::Policy,
    telemetry::decisions::Line,
    units::NanoUsd,
};

#[derive(Args)]
#[command(
    after_help = "The log is what `[decisions] log = \"FILE\"` in the configuration writes.\n\nExample:\n  weighbridge replay --config candidate.toml --log decisions.jsonl"
)]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Decision log, JSON Lines
    #[arg(long, value_name = "FILE", required = true)]
    log: Vec<PathBuf>,
    /// The policy to replay
    #[arg(long, value_name = "NAME", default_value = "auto")]
    policy: String,
    /// Print JSON, every changed request included
    #[arg(long)]
    json: bool,
}

/// Changed requests that the table shows.
const SHOWN: usize = 20;

pub fn replay(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let config = inputs::load_config(&args.config)?
        .context("there is no configuration: name one with --config")?;
    let policy = inputs::policy(&config, &args.policy)?;
    let mut replayed = Replayed::default();
    for path in &args.log {
        read(path, |line| {
            if let Line::Decision(decided) = line {
                replayed.take(&decided, policy, &config.models);
            }
        })?;
    }
    if replayed.requests == 0 {
        bail!("the log holds no decision of a policy");
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&replayed)?);
    } else {
        print(&replayed, policy);
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a log line by line; a last line that was cut off is left out.
pub fn read(path: &Path, mut take: impl FnMut(Line)) -> anyhow::Result<()> {
    let shown = path.display();
    let file = std::fs::File::open(path).with_context(|| format!("{shown} cannot be read"))?;
    let mut lines = BufReader::new(file);
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        let bytes = lines
            .read_line(&mut text)
            .with_context(|| format!("{shown}:{number} cannot be read"))?;
        if bytes == 0 {
            break;
        }
        match serde_json::from_str(&text) {
            Ok(line) => take(line),
            Err(_) if !text.ends_with('\n') => eprintln!("{shown}:{number}: cut off, left out"),
            Err(_) if text.trim().is_empty() => {}
            Err(error) => bail!("{shown}:{number} is no line of a decision log: {error}"),
        }
    }
    Ok(())
}

fn print(replayed: &Replayed, policy: &Policy) {
    let n = replayed.requests;
    println!("{n} decisions under policy `{}`", policy.name());
    if replayed.unscored > 0 {
        println!("{} without a score: they get the default tier", replayed.unscored);
    }
    if replayed.named > 0 {
        println!("{} left out: the caller had named a model", replayed.named);
    }
    println!("\n{:<16} {:>16} {:>16}", "tier", "recorded", "replayed");
    let share = |side: &Side, tier: &String| {
        let count = side.tiers.get(tier).copied().unwrap_or_default();
        format!("{count} ({:.1} %)", 100.0 * count as f64 / n as f64)
    };
    let mut tiers: Vec<&String> = policy.tiers().iter().map(|tier| &tier.name).collect();
    let others = replayed.before.tiers.keys().chain(replayed.after.tiers.keys());
    for tier in others {
        if !tiers.contains(&tier) {
            tiers.push(tier);
        }
    }
    for tier in tiers {
        let (before, after) = (share(&replayed.before, tier), share(&replayed.after, tier));
        println!("{tier:<16} {before:>16} {after:>16}");
    }
    let dollars = |side: &Side| NanoUsd(side.cost_nano_usd).to_string();
    println!(
        "{:<16} {:>16} {:>16}   dollars, {} requests with known prices, recorded tokens",
        "cost",
        dollars(&replayed.before),
        dollars(&replayed.after),
        replayed.after.priced
    );
    println!(
        "{:<16} {:>16.1} {:>16.1}   sum of the scores below the strongest tier",
        "expected misses", replayed.before.expected_misses, replayed.after.expected_misses
    );
    println!("\n{} requests change their tier", replayed.flips.len());
    for flip in replayed.flips.iter().take(SHOWN) {
        let score = flip.score.map_or("none".to_owned(), |score| format!("{score:.4}"));
        println!("  {}  score {score}  {} → {}", flip.id, flip.from, flip.to);
    }
    if replayed.flips.len() > SHOWN {
        println!("  … {} more with --json", replayed.flips.len() - SHOWN);
    }
}
