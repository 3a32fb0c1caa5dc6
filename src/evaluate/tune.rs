//! Thresholds for a goal, and what they give on rows that did not choose them.
//!
//! Thresholds are looked for on a grid of the scores' quantiles, every rising combination of them.
//! What is promised is measured by cross-validation: each row's tier comes from thresholds that the
//! other folds chose. Where the promise would fall short of the goal, thresholds are chosen for a
//! stricter goal until it does not.

use super::{
    metrics::{Draws, Interval},
    random::Random,
};

/// What the thresholds are for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The cheapest way to keep this share of the strongest tier's mean quality.
    KeepQuality(f64),
    /// The best quality for at most this share of the cost of always asking the strongest tier.
    MaxCost(f64),
    /// This share of requests goes to the strongest tier.
    StrongShare(f64),
}

/// Rows with their results by tier, from cheap to strong; all lengths are `n`.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// In 0..=1, `[n]`.
    pub scores: Vec<f64>,
    /// `[tiers][n]`, in 0..=1. Empty when only shares are of interest.
    pub quality: Vec<Vec<f64>>,
    /// `[tiers][n]`, in dollars or any other unit.
    pub cost: Vec<Vec<f64>>,
}

/// Thresholds and what they give.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Tuned {
    /// Between neighbouring tiers, rising; chosen on all rows.
    pub thresholds: Vec<f64>,
    /// Rows.
    pub n: usize,
    /// Cross-validated.
    pub promised: Outcome,
    /// Of the thresholds in force before, on the same rows.
    pub before: Outcome,
    /// Whether the promise meets the goal.
    pub reached: bool,
}

/// What thresholds give, each with an interval. Quality and cost are `None` without results.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// Share of the requests in each tier, from cheap to strong.
    pub shares: Vec<Interval>,
    /// Mean quality over that of always asking the strongest tier.
    pub quality_kept: Option<Interval>,
    /// Mean quality, in 0..=1.
    pub quality: Option<Interval>,
    /// Mean cost over that of always asking the strongest tier.
    pub cost_share: Option<Interval>,
}

/// Why there are no thresholds.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum TuneError {
    /// Cross-validation needs some rows in each fold.
    #[error("{0} rows are too few to tune on; at least {LEAST_ROWS} are needed")]
    TooFewRows(usize),
    /// A goal about quality or cost needs labels.
    #[error(
        "this goal needs rows with results of every tier; from a log only --strong-share can be tuned"
    )]
    NoResults,
    /// No thresholds meet the goal on these rows.
    #[error("no thresholds reach the goal on these rows; {0}")]
    OutOfReach(String),
}

/// Rows below which folds say nothing.
pub const LEAST_ROWS: usize = 20;
const FOLDS: usize = 5;
const DRAWS: usize = 1_000;
/// How often the goal is made stricter before giving up.
const STEPS: usize = 12;

/// Finds thresholds for `tiers` tiers. `current` are those in force: where a goal leaves freedom,
/// the lower tiers keep their proportions.
pub fn tune(results: &Results, current: &[f64], goal: Goal, seed: u64) -> Result<Tuned, TuneError> {
    let n = results.scores.len();
    if n < LEAST_ROWS {
        return Err(TuneError::TooFewRows(n));
    }
    if results.quality.is_empty() && !matches!(goal, Goal::StrongShare(_)) {
        return Err(TuneError::NoResults);
    }
    let all: Vec<usize> = (0..n).collect();
    let fold_of = Random::new(seed).folds(n, FOLDS);
    let mut found = None;
    let mut strictness = 0.0;
    for _ in 0..STEPS {
        let Some(cross) = cross_validated(results, current, goal, strictness, &fold_of) else {
            break;
        };
        let promised = results.outcome(&cross, seed);
        let short = goal.shortfall(&promised);
        let reached = short <= 0.0;
        let Some(thresholds) = choose(results, &all, current, goal, strictness) else { break };
        found = Some((thresholds, promised, reached));
        if reached {
            break;
        }
        strictness += short.max(0.001);
    }
    let Some((thresholds, promised, reached)) = found else {
        let strong = results.quality.last().map_or(0.0, |quality| mean(quality));
        return Err(TuneError::OutOfReach(format!(
            "always asking the strongest tier gives a mean quality of {strong:.3}"
        )));
    };
    let before: Vec<usize> = results.scores.iter().map(|score| tier_of(*score, current)).collect();
    Ok(Tuned { thresholds, n, promised, before: results.outcome(&before, seed), reached })
}

impl Goal {
    /// By how much an outcome misses it, in its own unit; not above 0 when it is met.
    fn shortfall(self, outcome: &Outcome) -> f64 {
        let value = |interval: &Option<Interval>| interval.map_or(f64::NAN, |i| i.value);
        match self {
            Self::KeepQuality(share) => share - value(&outcome.quality_kept),
            Self::MaxCost(share) => value(&outcome.cost_share) - share,
            // A quantile has no optimism to make up for.
            Self::StrongShare(_) => 0.0,
        }
    }
}

/// The tier of each row under thresholds that its own fold did not choose.
fn cross_validated(
    results: &Results,
    current: &[f64],
    goal: Goal,
    strictness: f64,
    fold_of: &[usize],
) -> Option<Vec<usize>> {
    let mut tiers = vec![0; fold_of.len()];
    for fold in 0..FOLDS {
        let others: Vec<usize> =
            (0..fold_of.len()).filter(|row| fold_of.get(*row) != Some(&fold)).collect();
        let thresholds = choose(results, &others, current, goal, strictness)?;
        for (row, of) in fold_of.iter().enumerate() {
            if let (true, Some(score), Some(tier)) =
                (*of == fold, results.scores.get(row), tiers.get_mut(row))
            {
                *tier = tier_of(*score, &thresholds);
            }
        }
    }
    Some(tiers)
}

/// The tier of a score: the first whose threshold is greater.
pub fn tier_of(score: f64, thresholds: &[f64]) -> usize {
    thresholds.iter().take_while(|below| score >= **below).count()
}

/// The best thresholds for the goal on some rows.
fn choose(
    results: &Results,
    rows: &[usize],
    current: &[f64],
    goal: Goal,
    strictness: f64,
) -> Option<Vec<f64>> {
    let mut rows: Vec<usize> = rows.to_vec();
    let score = |row: &usize| results.scores.get(*row).copied().unwrap_or_default();
    rows.sort_by(|a, b| score(a).total_cmp(&score(b)));
    let sorted: Vec<f64> = rows.iter().map(score).collect();
    if let Goal::StrongShare(share) = goal {
        return Some(by_share(&sorted, current, share));
    }
    let grid = Grid::new(results, &rows, &sorted, current.len());
    grid.best(goal, strictness)
}

/// The last threshold leaves `share` above it; the lower ones keep the proportions that the
/// current thresholds give the lower tiers.
fn by_share(sorted: &[f64], current: &[f64], share: f64) -> Vec<f64> {
    let n = sorted.len() as f64;
    let below = |threshold: f64| sorted.partition_point(|score| *score < threshold) as f64 / n;
    let strong_below = current.last().map_or(1.0, |threshold| below(*threshold)).max(1e-9);
    let mut thresholds: Vec<f64> = Vec::with_capacity(current.len());
    for (tier, threshold) in current.iter().enumerate() {
        let part = if tier + 1 == current.len() { 1.0 } else { below(*threshold) / strong_below };
        let at = cut_at(sorted, (1.0 - share) * part);
        // Thresholds rise strictly, however coarse the scores are.
        let least = thresholds.last().map_or(0.0, |last| last + 1e-6);
        thresholds.push(at.max(least));
    }
    thresholds
}

/// A threshold with this share of the sorted scores below it, between two scores where it can be.
fn cut_at(sorted: &[f64], share: f64) -> f64 {
    let at = ((share * sorted.len() as f64).round() as usize).min(sorted.len());
    match (at.checked_sub(1).and_then(|below| sorted.get(below)), sorted.get(at)) {
        (Some(below), Some(above)) => (below + above) / 2.0,
        (None, Some(first)) => *first,
        (Some(last), None) => (last + 1e-6).min(1.0),
        (None, None) => 0.5,
    }
}

/// Sums of quality and cost between the quantiles, so that any thresholds are judged in a few
/// additions.
struct Grid {
    /// Candidate thresholds, rising.
    cuts: Vec<f64>,
    /// `[tiers][cuts + 2]`: sums over the rows below each cut; the first is 0, the last all rows.
    quality: Vec<Vec<f64>>,
    cost: Vec<Vec<f64>>,
    thresholds: usize,
}

impl Grid {
    fn new(results: &Results, rows: &[usize], sorted: &[f64], thresholds: usize) -> Self {
        // So many that the combinations stay near a hundred thousand.
        let count = match thresholds {
            0 | 1 => 1_000,
            2 => 300,
            3 => 80,
            4 => 40,
            _ => 15 + thresholds,
        };
        let mut cuts: Vec<f64> =
            (0..=count).map(|at| cut_at(sorted, at as f64 / count as f64)).collect();
        cuts.dedup();
        let places: Vec<usize> =
            cuts.iter().map(|cut| sorted.partition_point(|score| score < cut)).collect();
        let sums = |of: &[Vec<f64>]| -> Vec<Vec<f64>> {
            of.iter()
                .map(|tier| {
                    let mut running = 0.0;
                    let prefix: Vec<f64> = std::iter::once(0.0)
                        .chain(rows.iter().map(|row| {
                            running += tier.get(*row).copied().unwrap_or_default();
                            running
                        }))
                        .collect();
                    let at = |place: usize| prefix.get(place).copied().unwrap_or(running);
                    let inner = places.iter().map(|place| at(*place));
                    std::iter::once(0.0).chain(inner).chain([running]).collect()
                })
                .collect()
        };
        Self { quality: sums(&results.quality), cost: sums(&results.cost), cuts, thresholds }
    }

    /// Quality and cost when tier `k` serves the rows between the cuts `bounds[k]` and
    /// `bounds[k + 1]` (indices into the sums).
    fn total(&self, of: &[Vec<f64>], bounds: &[usize]) -> f64 {
        let part = |(tier, ends): (&Vec<f64>, &[usize])| {
            let [from, to] = ends else { return 0.0 };
            tier.get(*to).copied().unwrap_or_default()
                - tier.get(*from).copied().unwrap_or_default()
        };
        of.iter().zip(bounds.windows(2)).map(part).sum()
    }

    fn best(&self, goal: Goal, strictness: f64) -> Option<Vec<f64>> {
        let end = self.cuts.len() + 1;
        let strong = |of: &[Vec<f64>]| of.last().and_then(|tier| tier.last()).copied();
        let (quality, cost) = (strong(&self.quality)?, strong(&self.cost)?);
        let mut best: Option<(f64, f64, Vec<usize>)> = None;
        let mut bounds = vec![0; self.thresholds + 2];
        if let Some(last) = bounds.last_mut() {
            *last = end;
        }
        self.each(1, &mut bounds, &mut |bounds| {
            let (found_quality, found_cost) =
                (self.total(&self.quality, bounds), self.total(&self.cost, bounds));
            let (meets, first, second) = match goal {
                Goal::KeepQuality(share) => {
                    let least = (share + strictness) * quality;
                    (
                        found_quality >= least.min(quality.max(f64::MIN_POSITIVE)),
                        -found_cost,
                        found_quality,
                    )
                }
                Goal::MaxCost(share) => {
                    (found_cost <= (share - strictness).max(0.0) * cost, found_quality, -found_cost)
                }
                Goal::StrongShare(_) => (false, 0.0, 0.0),
            };
            let better = best.as_ref().is_none_or(|(a, b, _)| (first, second) > (*a, *b));
            if meets && better {
                best = Some((first, second, bounds.to_vec()));
            }
        });
        let (_, _, bounds) = best?;
        let inner = bounds.get(1..bounds.len().saturating_sub(1))?;
        Some(inner.iter().filter_map(|at| self.cuts.get(at - 1).copied()).collect())
    }

    /// Every strictly rising choice of cuts.
    fn each(&self, at: usize, bounds: &mut Vec<usize>, visit: &mut impl FnMut(&[usize])) {
        if at > self.thresholds {
            return visit(bounds);
        }
        let from = bounds.get(at - 1).copied().unwrap_or_default() + 1;
        let to = self.cuts.len() + 1 - (self.thresholds - at);
        for cut in from..to {
            if let Some(place) = bounds.get_mut(at) {
                *place = cut;
            }
            self.each(at + 1, bounds, visit);
        }
    }
}

impl Results {
    /// What it gives to serve each row by its tier.
    pub fn outcome(&self, tiers: &[usize], seed: u64) -> Outcome {
        let n = tiers.len();
        let last = self.quality.len().max(self.tiers_of(tiers)) - 1;
        let share = |tier: usize| {
            Draws::new(n, DRAWS, seed, |drawn| {
                let hits = drawn.iter().filter(|row| tiers.get(**row) == Some(&tier)).count();
                Some(hits as f64 / n as f64)
            })
            .interval()
        };
        let served = |of: &[Vec<f64>], row: usize| -> f64 {
            let tier = tiers.get(row).and_then(|tier| of.get(*tier));
            tier.and_then(|tier| tier.get(row)).copied().unwrap_or(f64::NAN)
        };
        let strong = |of: &[Vec<f64>], row: usize| -> f64 {
            of.last().and_then(|tier| tier.get(row)).copied().unwrap_or(f64::NAN)
        };
        let ratio = |of: &[Vec<f64>]| {
            if of.is_empty() {
                return None;
            }
            let draws = Draws::new(n, DRAWS, seed, |drawn| {
                let sum = |pick: &dyn Fn(usize) -> f64| drawn.iter().map(|row| pick(*row)).sum();
                let (part, whole): (f64, f64) =
                    (sum(&|row| served(of, row)), sum(&|row| strong(of, row)));
                (whole > 0.0).then_some(part / whole)
            });
            draws.interval()
        };
        let quality = Draws::new(n, DRAWS, seed, |drawn| {
            Some(drawn.iter().map(|row| served(&self.quality, *row)).sum::<f64>() / n as f64)
        });
        Outcome {
            shares: (0..=last).filter_map(share).collect(),
            quality_kept: ratio(&self.quality),
            quality: if self.quality.is_empty() { None } else { quality.interval() },
            cost_share: ratio(&self.cost),
        }
    }

    fn tiers_of(&self, tiers: &[usize]) -> usize {
        tiers.iter().max().map_or(1, |tier| tier + 1)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The chance that the cheap tier fails is the score itself; the strong tier always succeeds.
    fn rows(n: usize, tiers: usize, seed: u64) -> Results {
        let mut random = Random::new(seed);
        let mut results = Results {
            scores: Vec::new(),
            quality: vec![Vec::new(); tiers],
            cost: (0..tiers).map(|tier| vec![(tier + 1) as f64; n]).collect(),
        };
        for _ in 0..n {
            let (score, luck) = (random.uniform(), random.uniform());
            results.scores.push(score);
            for (tier, quality) in results.quality.iter_mut().enumerate() {
                let fails = score * (1.0 - tier as f64 / (tiers - 1) as f64);
                quality.push(f64::from(u8::from(luck >= fails)));
            }
        }
        results
    }

    #[test]
    fn a_score_at_a_threshold_belongs_above_it() {
        let tiers = [0.0, 0.39, 0.4, 0.7, 1.0].map(|score| tier_of(score, &[0.4, 0.7]));
        assert_eq!(tiers, [0, 0, 1, 2, 2]);
    }

    #[test]
    fn thresholds_worked_by_hand() {
        // Rows in order of score; the cheap tier fails on the last two. Costs 1 and 5.
        let results = Results {
            scores: vec![0.1, 0.2, 0.3, 0.4],
            quality: vec![vec![1.0, 1.0, 0.0, 0.0], vec![1.0; 4]],
            cost: vec![vec![1.0; 4], vec![5.0; 4]],
        };
        let rows = [0, 1, 2, 3];
        let choose = |goal| choose(&results, &rows, &[0.5], goal, 0.0).unwrap()[0];
        // All of the quality: both hard rows must go up; the threshold lies between 0.2 and 0.3.
        assert!((choose(Goal::KeepQuality(1.0)) - 0.25).abs() < 1e-9);
        // Three quarters of it: one hard row goes up.
        assert!((choose(Goal::KeepQuality(0.75)) - 0.35).abs() < 1e-9);
        // Half the cost (10 of 20): at most one row for 5: 3 + 5 = 8.
        assert!((choose(Goal::MaxCost(0.5)) - 0.35).abs() < 1e-9);
        assert!((choose(Goal::StrongShare(0.25)) - 0.35).abs() < 1e-9);
    }

    #[test]
    fn what_is_promised_is_what_unseen_rows_give() {
        for (tiers, current) in [(2, vec![0.5]), (3, vec![0.3, 0.6])] {
            let (known, unseen) = (rows(600, tiers, 5), rows(20_000, tiers, 6));
            for goal in [Goal::KeepQuality(0.9), Goal::MaxCost(0.7), Goal::StrongShare(0.3)] {
                let tuned = tune(&known, &current, goal, 1).unwrap();
                let tiers: Vec<usize> =
                    unseen.scores.iter().map(|score| tier_of(*score, &tuned.thresholds)).collect();
                let realised = unseen.outcome(&tiers, 1);
                let near = |a: Option<Interval>, b: Option<Interval>| {
                    let (a, b) = (a.unwrap().value, b.unwrap().value);
                    assert!((a - b).abs() < 0.04, "{goal:?}: {a} {b}");
                };
                near(tuned.promised.quality_kept, realised.quality_kept);
                near(tuned.promised.cost_share, realised.cost_share);
                let strong = |outcome: &Outcome| outcome.shares.last().copied();
                near(strong(&tuned.promised), strong(&realised));
                assert!(tuned.reached, "{goal:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let few = rows(10, 2, 1);
        let error = tune(&few, &[0.5], Goal::KeepQuality(0.9), 1).unwrap_err();
        assert_eq!(error, TuneError::TooFewRows(10));
        let log = Results { scores: rows(100, 2, 1).scores, ..Results::default() };
        assert_eq!(tune(&log, &[0.5], Goal::MaxCost(0.5), 1).unwrap_err(), TuneError::NoResults);
        let log = Results { scores: rows(2_000, 2, 1).scores, ..Results::default() };
        let tuned = tune(&log, &[0.5], Goal::StrongShare(0.2), 1).unwrap();
        assert!((tuned.promised.shares[1].value - 0.2).abs() < 0.01);
        assert_eq!(tuned.promised.quality, None);
        let error = tune(&rows(100, 2, 1), &[0.5], Goal::MaxCost(0.1), 1).unwrap_err();
        assert!(matches!(error, TuneError::OutOfReach(_)), "even the cheap tier costs a half");
    }

    proptest! {
        /// Thresholds rise, however coarse the scores are.
        #[test]
        fn thresholds_rise(
            scores in proptest::collection::vec(0u8..5, 20..60), share in 0.0f64..1.0,
        ) {
            let scores = scores.into_iter().map(|score| f64::from(score) / 5.0).collect();
            let log = Results { scores, ..Results::default() };
            let tuned = tune(&log, &[0.2, 0.4, 0.6], Goal::StrongShare(share), 3).unwrap();
            prop_assert!(tuned.thresholds.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
