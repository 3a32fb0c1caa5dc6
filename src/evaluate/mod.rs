//! Labelled prompts → how well scores route them.
//!
//! ```text
//! files → records, one at a time                       [`import`], [`record`]
//!       → scores; numbers that are kept, texts not     [`embed`], [`sample`]
//!       → columns, routers, baselines                  [`ladder`], [`judged`], [`baselines`]
//!       → figures with intervals                       [`curve`], [`figures`], [`metrics`]
//!       → report: text, JSON, HTML, SVG                [`report`]
//! ```
//!
//! [`evaluate`] is that path. A [`suite`] is a list of such questions as data. [`tune`] looks for
//! thresholds on the same columns; [`replay`] and [`rerun`] compare two policies. Training reads
//! rows ([`rows`]) and measures itself with the same functions.

pub mod baselines;
pub mod curve;
pub mod embed;
pub mod figures;
pub mod import;
pub mod judged;
pub mod ladder;
pub mod metrics;
pub mod placement;
pub mod random;
pub mod record;
pub mod replay;
pub mod report;
pub mod rerun;
pub mod results;
pub mod rows;
pub mod sample;
pub mod suite;
pub mod tune;
pub mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};

use self::{
    baselines::Lessons,
    embed::Embedder,
    import::Format,
    judged::{CostUnit, Judged, Router},
    ladder::Ladder,
    report::{ModelLine, Report, RowCounts, Shows, build::Build, served::ServedReport},
    sample::{Collector, Sample, Scorer},
    words::Fit,
};
use crate::classify::model::{Model, ModelFiles, sha256};

/// Fewest rows whose figures say something.
const FEW_ROWS: usize = 100;

/// What is asked.
pub struct Question<'a> {
    /// The set's name in the report.
    pub name: String,
    /// Files and directories.
    pub paths: &'a [PathBuf],
    /// Their layout; `None` to find out.
    pub format: Option<Format>,
    /// The tiers; `None` when only what was served is of interest.
    pub ladder: Option<&'a Ladder>,
    /// Rows with one of these fields are left out.
    pub drop: &'a Map<String, Value>,
    /// Rows that the words baseline learns from; none for cross-fitting.
    pub lessons: &'a [PathBuf],
    /// What the report shows.
    pub shows: Shows,
}

/// What it is answered with.
pub struct Tools<'a> {
    /// The model whose score is judged.
    pub model: &'a Loaded,
    /// A model to compare it with.
    pub against: Option<&'a Loaded>,
    /// A file that keeps embeddings between runs.
    pub cache: Option<&'a Path>,
    /// Fits the words baseline.
    pub fit: Fit<'a>,
    /// Bootstrap draws.
    pub draws: usize,
    /// Of folds, the random baseline and draws.
    pub seed: u64,
    /// Whether a person watches.
    pub progress: bool,
}

impl<'a> Tools<'a> {
    /// For scoring alone: nothing is compared, fitted or drawn.
    pub fn to_score(model: &'a Loaded, cache: Option<&'a Path>, progress: bool) -> Self {
        let fit: Fit<'a> = &|_, _, _| Vec::new();
        Self { model, against: None, cache, fit, draws: 0, seed: 0, progress }
    }

    /// Moves with the bytes of the files that were read; its message is the number of prompts
    /// scored. Hidden where nobody watches.
    fn bar(&self, paths: &[PathBuf]) -> anyhow::Result<ProgressBar> {
        let style = "{bar:40} {percent} % read, {msg} prompts scored, {eta} left";
        Ok(self.styled(style, import::bytes_of(paths)?)?.with_message("0"))
    }

    fn styled(&self, style: &str, length: u64) -> anyhow::Result<ProgressBar> {
        if !self.progress {
            return Ok(ProgressBar::hidden());
        }
        Ok(ProgressBar::new(length).with_style(ProgressStyle::with_template(style)?))
    }

    /// The judged model with its embeddings.
    fn scorer(&self) -> anyhow::Result<Scorer<'a>> {
        let model = self.model;
        let embedder = Embedder::open(&model.model, self.cache, &model.key)?;
        Ok(Scorer { model: &model.model, embedder: Some(embedder) })
    }
}

/// A model and what pins it.
pub struct Loaded {
    model: Model,
    key: String,
    line: ModelLine,
}

impl Loaded {
    /// Pins a model by its files.
    pub fn new(files: &ModelFiles, model: Model) -> Self {
        let sums = files.all().into_iter().map(|(name, bytes)| (name.to_owned(), sha256(bytes)));
        let line = ModelLine {
            name: files.name.clone(),
            sha256: sums.collect(),
            encoder: model.encoder_name(),
            max_tokens: model.max_tokens(),
        };
        Self { key: embed::key(files, &model), model, line }
    }
}

/// Reads, scores, judges.
pub fn evaluate(question: &Question<'_>, tools: &Tools<'_>) -> anyhow::Result<Report> {
    let (sample, sources) = collect(question, tools, true)?;
    let rows = RowCounts {
        read: sample.read,
        used: sample.rows.len(),
        dropped: sample.dropped,
        incomplete: sample.incomplete,
        repeated_ids: sample.repeated,
    };
    if sample.read == 0 {
        bail!("the data holds no row");
    }
    let served = ServedReport::of(&sample.served);
    let routed = match question.ladder {
        Some(ladder) if sample.rows.is_empty() && served.is_none() => {
            return Err(ladder::no_row(ladder, &sample.models));
        }
        Some(ladder) => route(question, tools, ladder, &sample)?,
        None if served.is_none() => {
            let names: Vec<&str> = sample.models.keys().map(String::as_str).collect();
            bail!(
                "name the models with --strong and --weak, or a policy with --config and --policy; the data has: {}",
                names.join(", ")
            )
        }
        None => None,
    };
    let notes = notes(&rows, routed.as_ref(), question, &sample);
    Ok(Report {
        name: question.name.clone(),
        sources,
        rows,
        model: tools.model.line.clone(),
        against: tools.against.map(|against| against.line.clone()),
        seed: tools.seed,
        draws: tools.draws,
        routed,
        served,
        notes,
        shows: question.shows.clone(),
    })
}

/// Reads and scores: the rows with what is kept of them, and the files. Hashed words are kept for
/// the words baseline alone.
pub fn collect(
    question: &Question<'_>,
    tools: &Tools<'_>,
    with_words: bool,
) -> anyhow::Result<(Sample, Vec<rows::Source>)> {
    let bar = tools.bar(question.paths)?;
    let mut scorers = vec![tools.scorer()?];
    if let Some(against) = tools.against {
        // One encoder under two heads is run once. Two have a cache each.
        let embedder = if against.key == tools.model.key {
            None
        } else {
            let cache = tools.cache.map(|path| {
                let mut name = path.as_os_str().to_owned();
                name.push(".against");
                PathBuf::from(name)
            });
            Some(Embedder::open(&against.model, cache.as_deref(), &against.key)?)
        };
        scorers.push(Scorer { model: &against.model, embedder });
    }
    let mut collector = Collector::new(question.ladder, scorers, question.drop, &bar, with_words);
    let sources =
        import::read(question.paths, question.format, &bar, &mut |record| collector.take(record))?;
    let sample = collector.finish()?;
    bar.finish_and_clear();
    Ok((sample, sources))
}

fn route(
    question: &Question<'_>,
    tools: &Tools<'_>,
    ladder: &Ladder,
    sample: &Sample,
) -> anyhow::Result<Option<report::Routed>> {
    let judged = Judged::of(sample, ladder.tiers().len());
    let scores = |pick: fn(&sample::Row) -> f32| -> Vec<f64> {
        sample.rows.iter().map(|row| f64::from(pick(row))).collect()
    };
    let note = "the loaded model's score, at the thresholds in force";
    let mut routers = vec![Router::by_thresholds("model", note, scores(|row| row.score), ladder)];
    if let Some(against) = tools.against {
        let note = format!("the score of {}, at the same thresholds", against.line.name);
        routers.push(Router::by_thresholds("against", &note, scores(|row| row.against), ladder));
    }
    let lessons = lessons(question, ladder)?;
    if let Some(first) = routers.first() {
        let baselines =
            baselines::routers(sample, &judged, first, tools.fit, lessons.as_ref(), tools.seed);
        routers.extend(baselines);
    }
    let style = "{bar:40} {pos} of {len} bootstrap draws, {eta} left";
    let bar = tools.styled(style, tools.draws as u64)?;
    let build = Build {
        sample,
        judged: &judged,
        ladder,
        routers: &routers,
        is_compared: tools.against.is_some(),
        draws: tools.draws,
        seed: tools.seed,
        bar: &bar,
    };
    let routed = build.routed();
    bar.finish_and_clear();
    Ok(routed)
}

/// Rows that the words baseline learns from.
fn lessons(question: &Question<'_>, ladder: &Ladder) -> anyhow::Result<Option<Lessons>> {
    if question.lessons.is_empty() {
        return Ok(None);
    }
    let (mut counts, mut gains) = (Vec::new(), Vec::new());
    let bar = ProgressBar::hidden();
    let sources = import::read(question.lessons, None, &bar, &mut |record| {
        let results = record.results.unwrap_or_default();
        if let (Some(tiers), Some(text)) = (sample::tiers(ladder, &results), record.text)
            && let (Some((_, weak)), Some((_, strong))) = (tiers.first(), tiers.last())
        {
            counts.push(words::counts(&text));
            gains.push(strong.quality - weak.quality);
        }
        Ok(())
    })
    .context("--train-data cannot be used")?;
    if counts.is_empty() {
        bail!("no row of --train-data has results of every tier");
    }
    let files: Vec<&str> = sources.iter().map(|source| source.file.as_str()).collect();
    let from = format!("{} rows of {}", counts.len(), files.join(", "));
    Ok(Some(Lessons { counts, gains, from }))
}

fn notes(
    rows: &RowCounts,
    routed: Option<&report::Routed>,
    question: &Question<'_>,
    sample: &Sample,
) -> Vec<String> {
    let mut notes = Vec::new();
    let RowCounts { used, dropped, incomplete, repeated_ids, .. } = *rows;
    if dropped > 0 {
        notes.push(format!("{dropped} rows were left out by a filter."));
    }
    if incomplete > 0 && question.ladder.is_some() {
        notes.push(format!(
            "{incomplete} rows lack a prompt or a result of some tier and were left out."
        ));
    }
    if repeated_ids > 0 {
        notes.push(format!(
            "{repeated_ids} rows repeat an id of their data set; they count as rows of their own."
        ));
    }
    let Some(routed) = routed else { return notes };
    if routed.cost_unit == CostUnit::StrongShare {
        notes.push("Not every result has a cost, so cost is the share of strong calls (between tiers: their place).".to_owned());
    }
    if used < FEW_ROWS {
        notes.push(format!("{used} rows are few: read the intervals, not the figures."));
    }
    if let (Some(weak), Some(strong)) = (routed.tiers.first(), routed.tiers.last())
        && strong.quality.value <= weak.quality.value
    {
        notes.push("The strongest tier is no better than the cheapest on these rows, so PGR, APGR and CPT are undefined; are the names swapped?".to_owned());
    }
    let categories = sample.categories.list().len();
    if categories > routed.categories.len() {
        notes.push(format!(
            "{} of {categories} categories are shown, those with most rows.",
            routed.categories.len()
        ));
    }
    if routed.tiers.len() > 2 {
        notes.push("Curves and what is read off them are between the cheapest and the strongest tier; the figures at the thresholds are of all tiers.".to_owned());
    }
    for router in &routed.routers {
        notes.push(format!("{}: {}.", router.name, router.note));
    }
    notes
}
