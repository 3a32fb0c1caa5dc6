//! `replay`: recorded decisions or labelled rows under a configuration.

use std::{
    io::{IsTerminal as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{ConfigArg, ModelArg, inputs};
use crate::{
    config::Config,
    evaluate::{
        Tools,
        import::decisions,
        ladder::Ladder,
        replay::{Replayed, Side},
        rerun::rerun,
    },
    policy::Policy,
    telemetry::decisions::Line,
    units::NanoUsd,
};

#[derive(Args)]
#[command(
    after_help = "A log is what `[decisions] log = \"FILE\"` in the configuration writes: what was recorded is\ncompared with what the policy decides. On labelled rows the policy is compared with that of\n--before, or with always asking the strongest tier.\n\nExamples:\n  weighbridge replay --config candidate.toml --log decisions.jsonl\n  weighbridge replay --config candidate.toml --before weighbridge.toml --data labelled.jsonl"
)]
#[command(group = clap::ArgGroup::new("rows").required(true))]
pub struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Decision log, JSON Lines, plain or .gz
    #[arg(long, value_name = "FILE", group = "rows")]
    log: Vec<PathBuf>,
    /// Labelled prompts with results of every tier's model, in any layout that `eval` reads
    #[arg(long, value_name = "FILE", group = "rows")]
    data: Vec<PathBuf>,
    /// Configuration that labelled rows are compared with [default: always the strongest tier]
    #[arg(long, value_name = "FILE", conflicts_with = "log")]
    before: Option<PathBuf>,
    /// The policy to replay [default: the only one, or auto]
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Print JSON, every changed request included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArg,
    /// Keep embeddings of labelled rows in this file between runs
    #[arg(long, value_name = "FILE", conflicts_with = "log")]
    cache: Option<PathBuf>,
}

/// Changed requests that the table shows.
const SHOWN: usize = 20;

pub fn replay(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let config = inputs::load_config(&args.config)?
        .context("there is no configuration: name one with --config")?;
    let policy = inputs::policy(&config, args.policy.as_deref())?;
    let replayed = if args.log.is_empty() {
        labelled(&args, &config, policy)?
    } else {
        recorded(&args.log, &config, policy)?
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&replayed)?)?;
    } else {
        let before = match (&args.before, args.log.is_empty()) {
            (_, false) => "recorded",
            (Some(_), true) => "before",
            (None, true) => "all strongest",
        };
        print(&mut out, &replayed, policy, before)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn recorded(paths: &[PathBuf], config: &Config, policy: &Policy) -> anyhow::Result<Replayed> {
    let mut replayed = Replayed::default();
    for path in paths {
        decisions::lines_of(path, |line| {
            if let Line::Decision(decided) = line {
                replayed.take(&decided, policy, &config.models);
            }
            Ok(())
        })?;
    }
    if replayed.requests == 0 {
        bail!("the log holds no decision of a policy");
    }
    Ok(replayed.finish())
}

fn labelled(args: &ReplayArgs, config: &Config, policy: &Policy) -> anyhow::Result<Replayed> {
    let after = Ladder::policy(policy.clone(), config.models.to_vec())?;
    let before = args.before.clone().map(|path| ConfigArg { config: Some(path) });
    let before = before.as_ref().map(inputs::load_config).transpose()?.flatten();
    let ladder_of = |config: &Config| {
        let policy = inputs::policy(config, args.policy.as_deref())?;
        Ladder::policy(policy.clone(), config.models.to_vec())
    };
    let before = before.as_ref().map(ladder_of).transpose()?;
    let model = inputs::pinned_model(&args.model, config)?;
    let progress = std::io::stderr().is_terminal();
    let tools = Tools::to_score(&model, args.cache.as_deref(), progress);
    rerun(&args.data, before.as_ref(), &after, &tools)
}

fn print(
    out: &mut impl Write,
    replayed: &Replayed,
    policy: &Policy,
    heading: &str,
) -> std::io::Result<()> {
    let Replayed { requests: n, before, after, .. } = replayed;
    writeln!(out, "{n} requests under policy `{}`", policy.name())?;
    if replayed.unscored > 0 {
        writeln!(out, "{} without a score: they get the default tier", replayed.unscored)?;
    }
    if replayed.named > 0 {
        writeln!(out, "{} left out: the caller had named a model", replayed.named)?;
    }
    if replayed.incomplete > 0 {
        writeln!(out, "{} left out: no prompt or no result of some tier", replayed.incomplete)?;
    }
    let mut rows = vec![("tier".to_owned(), heading.to_owned(), "replayed".to_owned(), "")];
    let mut add = |name: &str, of: &dyn Fn(&Side) -> String, about| {
        rows.push((name.to_owned(), of(before), of(after), about));
    };
    let mut tiers: Vec<&String> = policy.tiers().iter().map(|tier| &tier.name).collect();
    for tier in before.tiers.keys().chain(after.tiers.keys()) {
        if !tiers.contains(&tier) {
            tiers.push(tier);
        }
    }
    for tier in tiers {
        let share = |side: &Side| {
            let count = side.tiers.get(tier).copied().unwrap_or_default();
            format!("{count} ({:.1} %)", 100.0 * count as f64 / *n as f64)
        };
        add(tier, &share, "");
    }
    let known = format!("dollars; known for {} requests", after.priced);
    add("cost", &|side| NanoUsd(side.cost_nano_usd).to_string(), &known);
    let expected = |side: &Side| {
        side.expected_quality.map_or_else(|| "-".to_owned(), |quality| format!("{quality:.3}"))
    };
    let about = "share of answers as good as the strongest tier's, if the score is calibrated";
    add("expected quality", &expected, about);
    if after.quality.is_some() {
        let quality = |side: &Side| side.quality.map_or_else(String::new, |it| it.to_string());
        add("quality", &quality, "mean score of the labels");
    }
    writeln!(out)?;
    for (name, before, after, about) in rows {
        writeln!(out, "{}", format!("{name:<18} {before:>22} {after:>22}   {about}").trim_end())?;
    }
    if let Some(change) = replayed.quality_change {
        writeln!(out, "quality changes by {change}, row by row")?;
    }
    writeln!(out, "\n{} requests change their tier", replayed.flips.len())?;
    for flip in replayed.flips.iter().take(SHOWN) {
        let score = flip.score.map_or("none".to_owned(), |score| format!("{score:.4}"));
        writeln!(out, "  {}  score {score}  {} → {}", flip.id, flip.from, flip.to)?;
    }
    if replayed.flips.len() > SHOWN {
        writeln!(out, "  … {} more with --json", replayed.flips.len() - SHOWN)?;
    }
    Ok(())
}
