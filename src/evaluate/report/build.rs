//! From judged rows to the tables and curves of a report.

use indicatif::ProgressBar;

use super::{Bin, CalibrationLine, CategoryLine, Routed, RouterLine, TierLine};
use crate::evaluate::{
    figures::{Measured, measure},
    judged::{Judged, Router},
    ladder::Ladder,
    metrics::Interval,
    sample::Sample,
};

/// Categories that are shown, those with most rows.
const CATEGORIES: usize = 60;
/// Bootstrap draws of a category's figures.
const CATEGORY_DRAWS: usize = 300;
/// Groups of the calibration curve.
const GROUPS: usize = 10;
/// Bins of the score distribution.
const BINS: usize = 20;
/// Steps of a drawn curve.
const STEPS: usize = 50;

/// What is judged, and how often it is drawn.
pub struct Build<'a> {
    /// The rows.
    pub sample: &'a Sample,
    /// The same, as columns.
    pub judged: &'a Judged,
    /// The tiers.
    pub ladder: &'a Ladder,
    /// The model first.
    pub routers: &'a [Router],
    /// Whether the second router is the model that the first is compared with.
    pub is_compared: bool,
    /// Bootstrap draws.
    pub draws: usize,
    /// Their seed.
    pub seed: u64,
    /// Moves by one a draw.
    pub bar: &'a ProgressBar,
}

impl Build<'_> {
    /// Everything. `None` without rows or routers.
    pub fn routed(&self) -> Option<Routed> {
        let model = self.routers.first().filter(|_| !self.judged.is_empty())?;
        let bar = self.bar;
        let measured = measure(self.judged, self.routers, self.draws, self.seed, bar);
        let difference = match measured.as_slice() {
            [model, against, ..] if self.is_compared => Some(model.minus(against)),
            _ => None,
        };
        let n = self.judged.len();
        let worse = self.judged.worse.iter().filter(|worse| **worse).count();
        Some(Routed {
            n,
            tiers: self.tiers(model),
            cost_unit: self.judged.unit,
            event_rate: wilson(worse, n),
            routers: self.routers.iter().zip(measured).map(|(r, m)| self.line(r, m)).collect(),
            difference,
            categories: self.categories(model),
            confusion: self.confusion(model),
            calibration: self.calibration(model),
            distribution: self.distribution(model),
        })
    }

    fn tiers(&self, model: &Router) -> Vec<TierLine> {
        let n = self.judged.len() as f64;
        let line = |(at, tier): (usize, &crate::policy::Tier)| {
            let scores = self.judged.quality.get(at).map_or(&[][..], Vec::as_slice);
            let cost = self.judged.cost.get(at).map_or(0.0, |cost| cost.iter().sum::<f64>() / n);
            TierLine {
                name: tier.name.clone(),
                below: tier.below.map(|below| f64::from(below.get())),
                models: self.sample.by_tier.get(at).cloned().unwrap_or_default(),
                quality: mean(scores),
                cost,
                calls: model.tiers.iter().filter(|tier| **tier == at).count() as f64 / n,
            }
        };
        self.ladder.tiers().iter().enumerate().map(line).collect()
    }

    fn line(&self, router: &Router, figures: Measured) -> RouterLine {
        let weights = vec![1; self.judged.len()];
        let curve = router
            .order
            .as_ref()
            .and_then(|order| order.curve(self.judged.pair(), &weights, STEPS))
            .map_or_else(Vec::new, |curve| curve.points);
        RouterLine { name: router.name.clone(), note: router.note.clone(), figures, curve }
    }

    fn categories(&self, model: &Router) -> Vec<CategoryLine> {
        let names = self.sample.categories.list();
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
        for (at, row) in self.sample.rows.iter().enumerate() {
            if let Some(rows) = rows.get_mut(row.category as usize) {
                rows.push(at);
            }
        }
        let mut groups: Vec<(&String, Vec<usize>)> = names.iter().zip(rows).collect();
        groups.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then(a.0.cmp(b.0)));
        let last = self.judged.tiers().saturating_sub(1);
        let line = |(name, rows): (&String, Vec<usize>)| {
            let (judged, router) = (self.judged.select(&rows), model.select(&rows));
            let n = rows.len() as f64;
            let mean = |tier: usize| {
                judged.quality.get(tier).map_or(0.0, |scores| scores.iter().sum::<f64>() / n)
            };
            let sent = router.tiers.iter().filter(|tier| **tier == last).count() as f64 / n;
            let (weak, strong) = (mean(0), mean(last));
            let hidden = ProgressBar::hidden();
            let figures = measure(&judged, &[router], CATEGORY_DRAWS, self.seed, &hidden).pop()?;
            Some(CategoryLine { name: name.clone(), n: rows.len(), weak, strong, sent, figures })
        };
        groups.into_iter().take(CATEGORIES).filter_map(line).collect()
    }

    fn confusion(&self, model: &Router) -> Vec<Vec<usize>> {
        let tiers = self.judged.tiers();
        let mut counts = vec![vec![0; tiers]; tiers];
        for (chosen, best) in model.tiers.iter().zip(&self.judged.best) {
            if let Some(count) = counts.get_mut(*chosen).and_then(|row| row.get_mut(*best)) {
                *count += 1;
            }
        }
        counts
    }

    fn calibration(&self, model: &Router) -> Vec<CalibrationLine> {
        let (Some(scores), Some(order)) = (&model.scores, &model.order) else { return Vec::new() };
        let rows: Vec<usize> = order.rows().iter().rev().copied().collect();
        let n = rows.len();
        let line = |group: usize| {
            let rows = rows.get(group * n / GROUPS..(group + 1) * n / GROUPS)?;
            let sum: f64 = rows.iter().filter_map(|row| scores.get(*row)).sum();
            let worse = rows.iter().filter(|row| self.judged.worse.get(**row) == Some(&true));
            let (n, worse) = (rows.len(), worse.count());
            (n > 0).then(|| CalibrationLine { n, score: sum / n as f64, rate: wilson(worse, n) })
        };
        (0..GROUPS).filter_map(line).collect()
    }

    fn distribution(&self, model: &Router) -> Vec<Bin> {
        let width = 1.0 / BINS as f64;
        let bin = |at: usize| Bin {
            from: at as f64 * width,
            to: (at + 1) as f64 * width,
            worse: 0,
            fine: 0,
        };
        let mut bins: Vec<Bin> = (0..BINS).map(bin).collect();
        for (score, worse) in model.scores.iter().flatten().zip(&self.judged.worse) {
            let at = ((score / width) as usize).min(BINS - 1);
            if let Some(bin) = bins.get_mut(at) {
                let count = if *worse { &mut bin.worse } else { &mut bin.fine };
                *count += 1;
            }
        }
        bins
    }
}

/// The mean with its 95 % interval by the normal approximation.
pub fn mean(values: &[f64]) -> Interval {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    let half = 1.96 * (variance / n).sqrt();
    Interval { value: mean, low: mean - half, high: mean + half }
}

/// A share with Wilson's 95 % interval (Wilson 1927).
pub fn wilson(of: usize, n: usize) -> Interval {
    const Z: f64 = 1.96;
    let n = n.max(1) as f64;
    let share = of as f64 / n;
    let middle = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval { value: share, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_worked_by_hand() {
        // 5 of 10: the middle stays ½; half width 1.96 / (1 + 0.38416) · √(0.025 + 0.0096040).
        let interval = wilson(5, 10);
        let half = 1.96 / 1.38416 * (0.025f64 + 0.009604).sqrt();
        assert!((interval.high - 0.5 - half).abs() < 1e-9 && interval.value == 0.5);
        assert_eq!(wilson(0, 10).low, 0.0);
        // Values 0 and 1: variance ¼, n 2: half width 1.96 · √⅛.
        let interval = mean(&[0.0, 1.0]);
        assert!((interval.high - 0.5 - 1.96 * 0.125f64.sqrt()).abs() < 1e-12);
    }
}
