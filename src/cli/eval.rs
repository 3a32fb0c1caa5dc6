//! `eval`: labelled prompts in, how well scores route them out.

use std::{
    fs::File,
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::Map;

use super::{ConfigArg, ModelArg, inputs};
use crate::{
    config::{Config, environment::DEFAULT_THRESHOLD},
    evaluate::{
        self, Question, Tools,
        import::Format,
        ladder::Ladder,
        report::{Report, Shows, charts, html},
        results::Results,
        suite::Suite,
    },
    train::words::fit_and_predict,
};

#[derive(Args)]
#[command(
    after_help = "A row of data is one line of JSON:\n  {\"id\": \"1\", \"prompt\": \"…\", \"dataset\": \"d\", \"category\": \"c\",\n   \"results\": {\"gpt-5.5\": {\"score\": 1, \"cost_usd\": 0.002}, \"qwen3-8b\": {\"score\": 0, \"cost_usd\": 0.0001}}}\nor a row of CSV or Parquet with the columns prompt, results.gpt-5.5.score, results.gpt-5.5.cost_usd, …\n\nExamples:\n  weighbridge eval --data labelled.jsonl --strong gpt-5.5 --weak qwen3-8b --html report.html\n  weighbridge eval --data labelled.csv --config weighbridge.toml --policy auto\n  weighbridge eval --data labelled.jsonl --strong gpt-5.5 --weak qwen3-8b --against my-model\n  weighbridge eval --suite routellm --from benchmarks/ --json routellm.json\n  weighbridge eval --data decisions.jsonl"
)]
pub struct EvalArgs {
    /// Labelled prompts: .jsonl, .json, .csv (each also .gz), .parquet; a directory means all such files in it
    #[arg(long, value_name = "FILE", required_unless_present = "suite", conflicts_with = "suite")]
    data: Vec<PathBuf>,
    /// Layout of the files: rows, routellm, routerbench, routerarena or decisions [default: by their content]
    #[arg(long, value_name = "FORMAT", value_parser = format_named, conflicts_with = "suite")]
    format: Option<Format>,
    /// The strong model of a pair, as the data names it
    #[arg(long, value_name = "NAME", requires = "weak", conflicts_with_all = ["suite", "config"])]
    strong: Option<String>,
    /// The weak model of a pair, as the data names it
    #[arg(long, value_name = "NAME", requires = "strong")]
    weak: Option<String>,
    /// Scores from here on go to the strong model of a pair
    #[arg(long, value_name = "0..1", default_value_t = DEFAULT_THRESHOLD)]
    threshold: f32,
    /// The policy of --config to judge: its tiers name the models [default: the only one, or auto]
    #[arg(long, value_name = "NAME", requires = "config")]
    policy: Option<String>,
    /// Configuration file with the policy, and the model unless --model names one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A suite by name (routellm, train-pairs) or file
    #[arg(long, value_name = "NAME", requires = "from")]
    suite: Option<String>,
    /// The directory that holds the suite's files
    #[arg(long, value_name = "DIR", requires = "suite")]
    from: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArg,
    /// A second model that scores the same rows, for paired differences
    #[arg(long, value_name = "DIR")]
    against: Option<String>,
    /// Rows that the words baseline learns from [default: other folds of the data]
    #[arg(long, value_name = "FILE")]
    train_data: Vec<PathBuf>,
    /// Keep embeddings in this file between runs
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report with plots to this file, complete in itself
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the plots into this directory as SVG
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Write the record of a suite's run to this file as JSON
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Bootstrap draws behind each interval
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(20..=100_000))]
    draws: u64,
    /// Decides folds, the random baseline and draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn format_named(name: &str) -> Result<Format, String> {
    let names = Format::ALL.map(Format::name).join(", ");
    Format::from_name(name).ok_or_else(|| format!("use one of {names}"))
}

pub fn eval(args: EvalArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.clone().map(|path| ConfigArg { config: Some(path) });
    let config = config.as_ref().map(inputs::load_config).transpose()?.flatten();
    let judged_by = |model: &ModelArg| match &config {
        Some(config) => inputs::pinned_model(model, config),
        None => inputs::pinned_model(model, &Config::default()),
    };
    let model = judged_by(&args.model)?;
    let against =
        args.against.clone().map(|dir| ModelArg { model: Some(dir), ..args.model.clone() });
    let against = against.as_ref().map(judged_by).transpose()?;
    let tools = Tools {
        model: &model,
        against: against.as_ref(),
        cache: args.cache.as_deref(),
        fit: &fit_and_predict,
        draws: args.draws as usize,
        seed: args.seed,
        progress: std::io::stderr().is_terminal(),
    };
    let suite = args.suite.as_deref().map(Suite::find).transpose()?;
    let reports = match (&suite, &args.from) {
        (Some(suite), Some(from)) => run(suite, from, &args, &tools)?,
        _ => vec![single(&args, config.as_ref(), &tools)?],
    };
    let about = suite.as_ref().map(|suite| (suite.name.as_str(), suite.about.as_str()));
    let results = Results::new(about, &reports);
    for path in args.json.iter().chain(&args.results) {
        let mut text = serde_json::to_string_pretty(&results)?;
        text.push('\n');
        write(path, &text)?;
    }
    if let Some(path) = &args.html {
        write(path, &html::page(&results))?;
    }
    if let Some(dir) = &args.svg {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
        for (name, svg) in reports.iter().flat_map(charts::files) {
            write(&dir.join(name), &svg)?;
        }
    }
    let mut out = std::io::stdout().lock();
    for report in &reports {
        writeln!(out, "{report}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run(
    suite: &Suite,
    from: &Path,
    args: &EvalArgs,
    tools: &Tools<'_>,
) -> anyhow::Result<Vec<Report>> {
    let mut reports = Vec::new();
    let shows = suite.shows()?;
    for set in &suite.sets {
        let ladder = Ladder::pair(&set.strong, &set.weak, args.threshold)?;
        let question = Question {
            name: format!("{} {}", suite.name, set.name),
            paths: &[from.join(&set.file)],
            format: set.format,
            ladder: Some(&ladder),
            drop: &set.drop,
            lessons: &args.train_data,
            shows: shows.clone(),
        };
        let report = evaluate::evaluate(&question, tools)
            .with_context(|| format!("the set {} of {}", set.name, suite.name))?;
        reports.push(report);
    }
    Ok(reports)
}

fn single(args: &EvalArgs, config: Option<&Config>, tools: &Tools<'_>) -> anyhow::Result<Report> {
    let ladder = ladder(args, config)?;
    let names = args.data.iter().filter_map(|path| path.file_name());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let name = match &ladder {
        Some(ladder) if ladder.name() != "pair" => {
            format!("{} under the policy {}", names.join(", "), ladder.name())
        }
        _ => names.join(", "),
    };
    let question = Question {
        name,
        paths: &args.data,
        format: args.format,
        ladder: ladder.as_ref(),
        drop: &Map::new(),
        lessons: &args.train_data,
        shows: Shows::default(),
    };
    evaluate::evaluate(&question, tools)
}

/// The tiers that flags name; `None` when they name none.
fn ladder(args: &EvalArgs, config: Option<&Config>) -> anyhow::Result<Option<Ladder>> {
    if let (Some(strong), Some(weak)) = (&args.strong, &args.weak) {
        return Ladder::pair(strong, weak, args.threshold).map(Some);
    }
    let Some(config) = config else { return Ok(None) };
    let policy = inputs::policy(config, args.policy.as_deref())?;
    Ladder::policy(policy.clone(), config.models.to_vec()).map(Some)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("{} cannot be written", path.display());
    let mut file = File::create(path).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
