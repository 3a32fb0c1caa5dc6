//! The rows as columns of numbers, ready to be judged.

use super::{
    curve::{Order, Pair},
    ladder::Ladder,
    sample::Sample,
};

/// Results of every tier on every row.
#[derive(Debug, Clone)]
pub struct Judged {
    /// `[tiers][n]`, in 0..=1.
    pub quality: Vec<Vec<f64>>,
    /// `[tiers][n]`, in [`Self::unit`].
    pub cost: Vec<Vec<f64>>,
    /// What a cost is.
    pub unit: CostUnit,
    /// `[n]`: the cheapest of the best tiers, which an oracle would choose.
    pub best: Vec<usize>,
    /// `[n]`: the cheapest tier's answer is worse than the strongest one's, the event that a
    /// score estimates.
    pub worse: Vec<bool>,
}

/// What a cost is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CostUnit {
    /// Dollars for one call, by the data or by the configuration's prices.
    Usd,
    /// The data has no costs: a call of the strongest tier costs 1, of the cheapest 0, of those
    /// between their place.
    StrongShare,
}

impl Judged {
    /// Columns of a sample. Costs count only when every result of every row has one.
    pub fn of(sample: &Sample, tiers: usize) -> Self {
        let results = || sample.rows.iter().flat_map(|row| row.tiers.iter());
        let has_costs = results().next().is_some() && results().all(|result| !result.cost.is_nan());
        let unit = if has_costs { CostUnit::Usd } else { CostUnit::StrongShare };
        let last = tiers.saturating_sub(1);
        let column = |tier: usize, pick: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            let results = sample.rows.iter().filter_map(|row| row.tiers.get(tier));
            results.map(|result| pick(result.quality, result.cost)).collect()
        };
        let place = |tier: usize| tier as f64 / last.max(1) as f64;
        let quality = (0..tiers).map(|tier| column(tier, &|quality, _| quality)).collect();
        let cost = (0..tiers)
            .map(|tier| {
                column(tier, &|_, cost| if unit == CostUnit::Usd { cost } else { place(tier) })
            })
            .collect();
        let judged = Self { quality, cost, unit, best: Vec::new(), worse: Vec::new() };
        let n = sample.rows.len();
        let best = (0..n).map(|row| judged.best_of(row)).collect();
        let worse = (0..n).map(|row| judged.gain(row) > 0.0).collect();
        Self { best, worse, ..judged }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.best.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.best.is_empty()
    }

    /// Tiers.
    pub fn tiers(&self) -> usize {
        self.quality.len()
    }

    /// A tier's score on a row.
    pub fn quality_at(&self, tier: usize, row: usize) -> f64 {
        self.quality.get(tier).and_then(|of| of.get(row)).copied().unwrap_or_default()
    }

    /// A tier's cost on a row.
    pub fn cost_at(&self, tier: usize, row: usize) -> f64 {
        self.cost.get(tier).and_then(|of| of.get(row)).copied().unwrap_or_default()
    }

    /// What the strongest tier gains over the cheapest on a row.
    pub fn gain(&self, row: usize) -> f64 {
        self.quality_at(self.tiers().saturating_sub(1), row) - self.quality_at(0, row)
    }

    fn best_of(&self, row: usize) -> usize {
        let mut best = 0;
        for tier in 1..self.tiers() {
            let (a, b) = (self.quality_at(tier, row), self.quality_at(best, row));
            if a > b || (a == b && self.cost_at(tier, row) < self.cost_at(best, row)) {
                best = tier;
            }
        }
        best
    }

    /// The cheapest and the strongest tier.
    pub fn pair(&self) -> Pair<'_> {
        let last = self.tiers().saturating_sub(1);
        Pair {
            weak: column(&self.quality, 0),
            strong: column(&self.quality, last),
            weak_cost: column(&self.cost, 0),
            strong_cost: column(&self.cost, last),
        }
    }

    /// Some of the rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        let columns = |of: &[Vec<f64>]| of.iter().map(|column| pick(column, rows)).collect();
        Self {
            quality: columns(&self.quality),
            cost: columns(&self.cost),
            unit: self.unit,
            best: pick(&self.best, rows),
            worse: pick(&self.worse, rows),
        }
    }
}

fn column(columns: &[Vec<f64>], tier: usize) -> &[f64] {
    columns.get(tier).map_or(&[], Vec::as_slice)
}

/// The values of some rows.
pub fn pick<T: Copy>(values: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().filter_map(|row| values.get(*row).copied()).collect()
}

/// A way to route the rows.
#[derive(Debug, Clone)]
pub struct Router {
    /// Its name in reports.
    pub name: String,
    /// How it came about, in one sentence.
    pub note: String,
    /// `[n]`, higher for rows that need more; `None` for a router that looks at nothing.
    pub scores: Option<Vec<f64>>,
    /// Whether the scores are probabilities of [`Judged::worse`].
    pub is_probability: bool,
    /// `[n]`: the tier each row is sent to.
    pub tiers: Vec<usize>,
    /// The rows by score.
    pub order: Option<Order>,
}

impl Router {
    /// A score that decides by the ladder's thresholds.
    pub fn by_thresholds(name: &str, note: &str, scores: Vec<f64>, ladder: &Ladder) -> Self {
        let tiers = scores.iter().map(|score| ladder.tier_of(*score)).collect();
        Self::new(name, note, Some(scores), true, tiers)
    }

    /// A score without thresholds of its own: as many rows go to each tier as `like` sends there,
    /// so that the two are compared at one mix of calls.
    pub fn by_rank(name: &str, note: &str, scores: Vec<f64>, like: &Self) -> Self {
        let mut tiers = vec![0; scores.len()];
        let mut sizes = like.tiers.clone();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        for (row, tier) in Order::new(&scores).rows().iter().zip(sizes) {
            if let Some(to) = tiers.get_mut(*row) {
                *to = tier;
            }
        }
        Self::new(name, note, Some(scores), false, tiers)
    }

    /// A fixed choice for each row.
    pub fn fixed(name: &str, note: &str, tiers: Vec<usize>) -> Self {
        Self::new(name, note, None, false, tiers)
    }

    fn new(
        name: &str,
        note: &str,
        scores: Option<Vec<f64>>,
        is_probability: bool,
        tiers: Vec<usize>,
    ) -> Self {
        let order = scores.as_deref().map(Order::new);
        let (name, note) = (name.to_owned(), note.to_owned());
        Self { name, note, scores, is_probability, tiers, order }
    }

    /// Some of the rows.
    pub fn select(&self, rows: &[usize]) -> Self {
        let scores = self.scores.as_ref().map(|scores| pick(scores, rows));
        Self::new(&self.name, &self.note, scores, self.is_probability, pick(&self.tiers, rows))
    }
}
