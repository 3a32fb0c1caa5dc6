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
use super::{curve::Point, figures::Measured, judged::CostUnit, metrics::Interval, rows::Source};

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
