//! What an evaluation found out, as one value: [`text`] prints it, [`html`] shows it, serde
//! writes it.

pub mod build;
pub mod charts;
pub mod html;
pub mod served;
pub mod svg;
pub mod text;

use std::collections::BTreeMap;

use serde::Serialize;

use self::served::ServedReport;
use super::{
    curve::Point,
    figures::{Figure, Measured},
    judged::CostUnit,
    metrics::Interval,
    rows::Source,
};

/// One set of rows, judged.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The set's name.
    pub name: String,
    /// The files.
    pub sources: Vec<Source>,
    /// What became of the records.
    pub rows: RowCounts,
    /// Whose score is judged.
    pub model: ModelLine,
    /// The model that it is compared with.
    pub against: Option<ModelLine>,
    /// Of folds, random baseline and draws.
    pub seed: u64,
    /// Bootstrap draws behind each interval.
    pub draws: usize,
    /// The tiers judged by rows with results of each; `None` where there is no such row.
    pub routed: Option<Routed>,
    /// What routers that ran did; `None` where the files do not say.
    pub served: Option<ServedReport>,
    /// Sentences worth reading.
    pub notes: Vec<String>,
    /// What tables and plots show.
    #[serde(skip)]
    pub shows: Shows,
}

/// Which figures, tables and plots are shown to people. What is written for programs is always
/// whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shows(Option<Vec<String>>);

/// Tables and plots that [`Shows`] can name beside the figures.
const PARTS: [&str; 6] = ["tiers", "confusion", "categories", "frontier", "calibration", "scores"];

impl Shows {
    /// Only these; the name that is not known is the error.
    pub fn only(names: &[String]) -> Result<Self, String> {
        let figures = || Figure::ALL.iter().map(|figure| figure.key());
        match names.iter().find(|name| !figures().chain(PARTS).any(|known| known == **name)) {
            Some(name) => {
                let known: Vec<&str> = PARTS.into_iter().chain(figures()).collect();
                Err(format!("`report` names `{name}`; use some of {}", known.join(", ")))
            }
            None => Ok(Self(Some(names.to_vec()))),
        }
    }

    /// Whether a table or plot, or a figure by its key, is shown.
    pub fn part(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.iter().any(|shown| shown == name))
    }
}

/// What became of the records.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct RowCounts {
    /// Read.
    pub read: usize,
    /// Judged: with results of every tier.
    pub used: usize,
    /// Left out by a filter.
    pub dropped: usize,
    /// Left out because a tier has no result.
    pub incomplete: usize,
    /// Read with an id that was seen before in the same data set; they count.
    pub repeated_ids: usize,
}

/// A model, pinned.
#[derive(Debug, Clone, Serialize)]
pub struct ModelLine {
    /// The directory's name.
    pub name: String,
    /// Of each of its files.
    pub sha256: BTreeMap<String, String>,
    /// What computed.
    pub encoder: String,
    /// Tokens of a text that are scored at most.
    pub max_tokens: usize,
}

/// The tiers, judged.
#[derive(Debug, Clone, Serialize)]
pub struct Routed {
    /// Rows.
    pub n: usize,
    /// Cheapest first.
    pub tiers: Vec<TierLine>,
    /// What costs are in.
    pub cost_unit: CostUnit,
    /// Share of rows on which the cheapest tier is worse than the strongest.
    pub event_rate: Interval,
    /// The model first, then the one it is compared with, then the baselines.
    pub routers: Vec<RouterLine>,
    /// The model minus the one it is compared with, paired.
    pub difference: Option<Measured>,
    /// By category, most rows first.
    pub categories: Vec<CategoryLine>,
    /// `[chosen tier][best tier]`: rows at the thresholds in force.
    pub confusion: Vec<Vec<usize>>,
    /// Ten groups of equal count by score.
    pub calibration: Vec<CalibrationLine>,
    /// Twenty bins of equal width.
    pub distribution: Vec<Bin>,
}

/// One tier.
#[derive(Debug, Clone, Serialize)]
pub struct TierLine {
    /// Its name.
    pub name: String,
    /// Scores below this belong here; `None` for the strongest.
    pub below: Option<f64>,
    /// The names in the data that stood for it, with the number of rows.
    pub models: BTreeMap<String, usize>,
    /// Mean score if every call went there.
    pub quality: Interval,
    /// Mean cost of a call if every call went there.
    pub cost: f64,
    /// Share of the rows that the model sends there.
    pub calls: f64,
}

/// One router.
#[derive(Debug, Clone, Serialize)]
pub struct RouterLine {
    /// Its name.
    pub name: String,
    /// How it came about.
    pub note: String,
    /// All figures.
    pub figures: Measured,
    /// Cost and quality as the threshold falls; empty for a router without a score.
    pub curve: Vec<Point>,
}

/// One category.
#[derive(Debug, Clone, Serialize)]
pub struct CategoryLine {
    /// `data set / category`.
    pub name: String,
    /// Rows.
    pub n: usize,
    /// Mean score of the cheapest tier.
    pub weak: f64,
    /// Mean score of the strongest tier.
    pub strong: f64,
    /// Share of the rows that the model sends to the strongest tier.
    pub sent: f64,
    /// The model's figures; APGR is `None` where the strongest tier is no better.
    pub figures: Measured,
}

/// One group of the calibration curve.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CalibrationLine {
    /// Rows.
    pub n: usize,
    /// Mean score.
    pub score: f64,
    /// Share with the event, with Wilson's 95 % interval.
    pub rate: Interval,
}

/// One bin of the score distribution.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bin {
    /// Lower bound of the scores.
    pub from: f64,
    /// Upper bound.
    pub to: f64,
    /// Rows with the event.
    pub worse: usize,
    /// Rows without it.
    pub fine: usize,
}
