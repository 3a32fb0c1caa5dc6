//! `tune`: thresholds for a goal, with what they promise on unseen rows, into the configuration.

use std::{
    io::{IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, json};
use toml_edit::{DocumentMut, Item};

use super::{ConfigArg, ModelArg, inputs};
use crate::{
    config::Config,
    evaluate::{
        self, Question, Tools,
        import::decisions,
        judged::Judged,
        ladder::Ladder,
        metrics::Interval,
        report::Shows,
        tune::{Goal, Outcome, Results, Tuned, tune as find},
    },
    policy::Policy,
    telemetry::decisions::Line,
};

#[derive(Args)]
#[command(
    after_help = "Quality and cost are shares of those of always asking the strongest tier. What is promised is\ncross-validated: what rows that did not choose the thresholds gave.\n\nExamples:\n  weighbridge tune --data labelled.jsonl --keep-quality 0.95\n  weighbridge tune --log decisions.jsonl --strong-share 0.2 --write\n  weighbridge tune --data labelled.jsonl --table"
)]
#[command(group = clap::ArgGroup::new("goal").required(true))]
#[command(group = clap::ArgGroup::new("rows").required(true))]
pub struct TuneArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// The policy whose thresholds are tuned [default: the only one, or auto]
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Labelled prompts with results of every tier's model, in any layout that `eval` reads
    #[arg(long, value_name = "FILE", group = "rows")]
    data: Vec<PathBuf>,
    /// Recorded traffic (a decision log), for --strong-share alone
    #[arg(long, value_name = "FILE", group = "rows")]
    log: Vec<PathBuf>,
    /// The cheapest way to keep this share of the strongest tier's quality
    #[arg(long, value_name = "0..1", group = "goal")]
    keep_quality: Option<f64>,
    /// The best quality for at most this share of the strongest tier's cost
    #[arg(long, value_name = "0..1", group = "goal")]
    max_cost: Option<f64>,
    /// This share of requests to the strongest tier
    #[arg(long, value_name = "0..1", group = "goal")]
    strong_share: Option<f64>,
    /// Show what a range of goals would give, and change nothing
    #[arg(long, group = "goal")]
    table: bool,
    /// Write the thresholds into the configuration, comments kept; otherwise a diff is printed
    #[arg(long)]
    write: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArg,
    /// Keep embeddings in this file between runs
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Decides folds and draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Shares that the table goes through.
const TABLE: [f64; 7] = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9];

pub fn tune(args: TuneArgs) -> anyhow::Result<ExitCode> {
    let path = inputs::config_path(&args.config)
        .context("there is no configuration: name one with --config")?;
    let config = inputs::load_config(&ConfigArg { config: Some(path.clone()) })?
        .context("there is no configuration")?;
    let policy = inputs::policy(&config, args.policy.as_deref())?;
    let ladder = Ladder::policy(policy.clone(), config.models.to_vec())?;
    let results =
        if args.log.is_empty() { labelled(&args, &config, &ladder)? } else { recorded(&args.log)? };
    let current = ladder.thresholds();
    if args.table {
        return table(&args, &results, &current, policy);
    }
    let goal = goal(&args)?;
    let tuned = find(&results, &current, goal, args.seed)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let found = json!({"policy": policy.name(), "tuned": tuned});
        writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
    } else {
        print(&mut out, &tuned, &current, policy)?;
    }
    let text = std::fs::read_to_string(&path)?;
    let edited = with_thresholds(&text, policy, &tuned.thresholds)?;
    if args.write {
        std::fs::write(&path, &edited)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        eprintln!("wrote {}", path.display());
    } else if !args.json {
        writeln!(out, "\n{}\n--write changes the file.", diff(&path, &text, &edited))?;
    }
    if !tuned.reached {
        eprintln!("the goal is not reached on rows that did not choose the thresholds");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn goal(args: &TuneArgs) -> anyhow::Result<Goal> {
    let share = |flag: &str, value: f64| {
        if !(0.0..=1.0).contains(&value) {
            bail!("--{flag} is {value}, which does not lie in 0..1");
        }
        Ok(value)
    };
    Ok(match (args.keep_quality, args.max_cost, args.strong_share) {
        (Some(value), ..) => Goal::KeepQuality(share("keep-quality", value)?),
        (_, Some(value), _) => Goal::MaxCost(share("max-cost", value)?),
        (.., Some(value)) => Goal::StrongShare(share("strong-share", value)?),
        // Clap asks for one of them.
        (None, None, None) => bail!("name a goal"),
    })
}

/// Scores and results of labelled rows.
fn labelled(args: &TuneArgs, config: &Config, ladder: &Ladder) -> anyhow::Result<Results> {
    let model = inputs::pinned_model(&args.model, config)?;
    let question = Question {
        name: String::new(),
        paths: &args.data,
        format: None,
        ladder: Some(ladder),
        drop: &Map::new(),
        lessons: &[],
        shows: Shows::default(),
    };
    let progress = std::io::stderr().is_terminal();
    let tools = Tools::to_score(&model, args.cache.as_deref(), progress);
    let (sample, _) = evaluate::collect(&question, &tools, false)?;
    if sample.rows.is_empty() {
        return Err(evaluate::ladder::no_row(ladder, &sample.models));
    }
    let judged = Judged::of(&sample, ladder.tiers().len());
    let scores = sample.rows.iter().map(|row| f64::from(row.score)).collect();
    Ok(Results { scores, quality: judged.quality, cost: judged.cost })
}

/// Scores of recorded decisions.
fn recorded(paths: &[PathBuf]) -> anyhow::Result<Results> {
    let mut scores = Vec::new();
    for path in paths {
        decisions::lines_of(path, |line| {
            if let Line::Decision(decided) = line {
                scores.extend(decided.score.filter(|_| decided.policy.is_some()).map(f64::from));
            }
            Ok(())
        })?;
    }
    Ok(Results { scores, ..Results::default() })
}

fn table(
    args: &TuneArgs,
    results: &Results,
    current: &[f64],
    policy: &Policy,
) -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    for share in TABLE {
        found.push(find(results, current, Goal::StrongShare(share), args.seed)?);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(
            out,
            "{}",
            serde_json::to_string_pretty(&json!({"policy": policy.name(), "table": found}))?
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{} rows; shares, quality and cost as rows that did not choose the thresholds gave\n",
        results.scores.len()
    )?;
    writeln!(
        out,
        "{:<24} {:<8} {:<22} {:<22} {:<22}",
        "thresholds", "strong", "quality kept", "quality", "cost share"
    )?;
    for tuned in &found {
        let thresholds: Vec<String> = tuned.thresholds.iter().map(|t| format!("{t:.3}")).collect();
        let strong = tuned.promised.shares.last().map_or(0.0, |share| share.value);
        let Outcome { quality_kept, quality, cost_share, .. } = &tuned.promised;
        writeln!(
            out,
            "{:<24} {:<8} {:<22} {:<22} {:<22}",
            thresholds.join(" "),
            format!("{:.1} %", 100.0 * strong),
            shown(quality_kept),
            shown(quality),
            shown(cost_share),
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(interval: &Option<Interval>) -> String {
    interval.map_or_else(|| "-".to_owned(), |interval| interval.to_string())
}

fn print(
    out: &mut impl Write,
    tuned: &Tuned,
    current: &[f64],
    policy: &Policy,
) -> std::io::Result<()> {
    writeln!(out, "policy `{}`, {} rows", policy.name(), tuned.n)?;
    writeln!(out, "\n{:<16} {:<24} {:<24}", "", "now", "promised (cross-validated)")?;
    for (at, tier) in policy.tiers().iter().enumerate() {
        let share = |outcome: &Outcome| shown(&outcome.shares.get(at).copied());
        writeln!(
            out,
            "{:<16} {:<24} {:<24}",
            format!("share {}", tier.name),
            share(&tuned.before),
            share(&tuned.promised)
        )?;
    }
    for (name, of) in [
        ("quality kept", (|outcome| shown(&outcome.quality_kept)) as fn(&Outcome) -> String),
        ("quality", |outcome| shown(&outcome.quality)),
        ("cost share", |outcome| shown(&outcome.cost_share)),
    ] {
        writeln!(out, "{name:<16} {:<24} {:<24}", of(&tuned.before), of(&tuned.promised))?;
    }
    for ((tier, before), after) in policy.tiers().iter().zip(current).zip(&tuned.thresholds) {
        writeln!(out, "below {:<10} {before:<24.4} {after:<24.4}", tier.name)?;
    }
    Ok(())
}

/// The configuration with new thresholds: nothing else changes, comments stay.
fn with_thresholds(text: &str, policy: &Policy, thresholds: &[f64]) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse()?;
    let tiers = document
        .get_mut("policies")
        .and_then(|policies| policies.get_mut(policy.name()))
        .and_then(|policy| policy.get_mut("tiers"))
        .with_context(|| format!("the file has no [policies.{}] with tiers", policy.name()))?;
    // Rounded thresholds still rise.
    let mut least = -1e-4;
    for (at, threshold) in thresholds.iter().enumerate() {
        let below = match &mut *tiers {
            Item::ArrayOfTables(tables) => tables
                .get_mut(at)
                .and_then(|tier| tier.get_mut("below"))
                .and_then(Item::as_value_mut),
            Item::Value(value) => value
                .as_array_mut()
                .and_then(|tiers| tiers.get_mut(at))
                .and_then(|tier| tier.as_inline_table_mut())
                .and_then(|tier| tier.get_mut("below")),
            _ => None,
        };
        let below = below.with_context(|| format!("tier {} has no `below` to write", at + 1))?;
        let decor = below.decor().clone();
        least = rounded(*threshold).max(rounded(least + 1e-4));
        *below = least.into();
        *below.decor_mut() = decor;
    }
    Ok(document.to_string())
}

/// Four decimals, which is how precisely a score is shown.
fn rounded(threshold: f64) -> f64 {
    (threshold * 1e4).round() / 1e4
}

/// Changed lines, old and new; an edit of values never moves a line.
fn diff(path: &Path, old: &str, new: &str) -> String {
    let mut text = format!("--- {0}\n+++ {0}\n", path.display());
    for (number, (old, new)) in old.lines().zip(new.lines()).enumerate() {
        if old != new {
            text += &format!("@@ line {} @@\n-{old}\n+{new}\n", number + 1);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::Tier, units::Probability};

    fn policy() -> Policy {
        let tier = |name: &str, below: Option<f32>, model| Tier {
            name: name.to_owned(),
            below: below.map(Probability::clamped),
            models: vec![model],
        };
        let tiers = vec![tier("a", Some(0.3), 0), tier("b", Some(0.6), 1), tier("c", None, 2)];
        Policy::new("auto".to_owned(), tiers, 2).unwrap()
    }

    #[test]
    fn thresholds_change_and_rise_and_comments_stay_in_both_ways_of_writing_tiers() {
        let close = "[policies.auto]\ntiers = [\n  { name = \"a\", below = 0.3 },\n  { name = \"b\", below = 0.6 },\n  { name = \"c\" },\n]\n";
        let edited = with_thresholds(close, &policy(), &[0.25, 0.250001]).unwrap();
        assert_eq!(edited, close.replace("0.3 ", "0.25 ").replace("0.6 ", "0.2501 "));

        let tables = "# mine\n[[policies.auto.tiers]]\nname = \"a\"\nbelow = 0.3   # week one\n[[policies.auto.tiers]]\nname = \"b\"\nbelow = 0.6\n[[policies.auto.tiers]]\nname = \"c\"\n";
        let edited = with_thresholds(tables, &policy(), &[0.25, 0.71236]).unwrap();
        assert_eq!(edited, tables.replace("0.3 ", "0.25 ").replace("0.6", "0.7124"));
        assert!(
            diff(Path::new("f"), tables, &edited)
                .contains("@@ line 4 @@\n-below = 0.3   # week one\n+below = 0.25   # week one\n")
        );

        let inline = "[policies.auto]\ntiers = [\n  { name = \"a\", below = 0.3 }, # one\n  { name = \"b\", below = 0.6 },\n  { name = \"c\" },\n]\n";
        let edited = with_thresholds(inline, &policy(), &[0.25, 0.7]).unwrap();
        assert_eq!(edited, inline.replace("0.3 ", "0.25 ").replace("0.6 ", "0.7 "));
    }
}
