//! How good a score is, each figure with an interval.
//!
//! Routing quality is measured on a pair of models: `gain` is the strong model's score minus the
//! weak model's, row by row. Everything is a plain function of slices of one length.

use super::random::Random;

/// Average performance gap recovered, as RouteLLM's evaluation computes it (Ong et al. 2024,
/// arXiv:2406.18665, §3.2, and its `routellm/evals`): thresholds at the deciles of the scores give
/// eleven points (share of calls sent to the strong model, share of the gap recovered); the area
/// under them by trapezoids. A random order gives about 0.5.
///
/// Scores at or above a threshold go to the strong model; the highest threshold sends none, the
/// lowest all. `None` when the strong model is not better on these rows.
pub fn apgr(scores: &[f64], gains: &[f64]) -> Option<f64> {
    let total: f64 = gains.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let mut rows: Vec<(f64, f64)> = scores.iter().copied().zip(gains.iter().copied()).collect();
    // Ties are sent as one, so their order among themselves does not matter.
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut recovered = Vec::with_capacity(rows.len() + 1);
    let mut sum = 0.0;
    recovered.push(0.0);
    for (_, gain) in &rows {
        sum += gain;
        recovered.push(sum / total);
    }
    let points = thresholds(&rows).into_iter().map(|threshold| {
        let sent = rows.partition_point(|(score, _)| *score >= threshold);
        (sent as f64 / rows.len() as f64, recovered.get(sent).copied().unwrap_or(1.0))
    });
    Some(area(points))
}

/// [`apgr`] of a router whose decision is no comparison of one score: at each of the thresholds
/// that `scores` give, `is_strong(row, threshold)` says which rows go to the strong model.
pub fn apgr_of_decisions(
    scores: &[f64],
    gains: &[f64],
    is_strong: impl Fn(usize, f64) -> bool,
) -> Option<f64> {
    let total: f64 = gains.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let mut rows: Vec<(f64, f64)> = scores.iter().copied().zip(gains.iter().copied()).collect();
    rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let mut points: Vec<(f64, f64)> = thresholds(&rows)
        .into_iter()
        .map(|threshold| {
            let sent = gains.iter().enumerate().filter(|(row, _)| is_strong(*row, threshold));
            let (count, sum) = sent.fold((0, 0.0), |(count, sum), (_, g)| (count + 1, sum + g));
            (f64::from(count) / rows.len() as f64, sum / total)
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(area(points))
}

/// The deciles of rows that descend by score, falling, without the highest, which sends none.
fn thresholds(rows: &[(f64, f64)]) -> Vec<f64> {
    let mut thresholds: Vec<f64> =
        (0..=10).map(|decile| descending_quantile(rows, f64::from(decile) / 10.0)).collect();
    thresholds.dedup();
    thresholds.pop();
    thresholds.reverse();
    thresholds
}

/// Area under points (share, recovered) that rise by share, from (0, 0) to (1, 1), by trapezoids.
fn area(points: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let (mut area, mut before) = (0.0, (0.0, 0.0));
    for point in points.into_iter().chain([(1.0, 1.0)]) {
        area += (point.0 - before.0) * (point.1 + before.1) / 2.0;
        before = point;
    }
    area
}

/// The quantile with linear interpolation (numpy's default) of rows that descend by score.
fn descending_quantile(rows: &[(f64, f64)], share: f64) -> f64 {
    let at = share * (rows.len() - 1) as f64;
    let ascending = |index: usize| rows.get(rows.len() - 1 - index).map_or(0.0, |row| row.0);
    let (low, part) = (at.floor() as usize, at.fract());
    let below = ascending(low);
    if part == 0.0 { below } else { below + part * (ascending(low + 1) - below) }
}

/// Ranks from 1, ties share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let value = |at: usize| values.get(at).copied().unwrap_or_default();
    order.sort_unstable_by(|a, b| value(*a).total_cmp(&value(*b)));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for tied in order.chunk_by(|a, b| value(*a) == value(*b)) {
        let rank = start as f64 + (tied.len() + 1) as f64 / 2.0;
        for at in tied {
            if let Some(to) = ranks.get_mut(*at) {
                *to = rank;
            }
        }
        start += tied.len();
    }
    ranks
}

/// Area under the ROC curve: the chance that a row of the class scores above one that is not
/// (Mann and Whitney's U over n₊ n₋); a tie counts a half. `None` when one of them is missing.
pub fn auroc(scores: &[f64], class: &[bool]) -> Option<f64> {
    let positive = class.iter().filter(|class| **class).count() as f64;
    let negative = class.len() as f64 - positive;
    if positive == 0.0 || negative == 0.0 {
        return None;
    }
    let ranks = ranks(scores);
    let sum: f64 = ranks.iter().zip(class).filter(|(_, class)| **class).map(|(rank, _)| rank).sum();
    Some((sum - positive * (positive + 1.0) / 2.0) / (positive * negative))
}

/// Expected calibration error over ten groups of equal count, in order of probability (Naeini et
/// al. 2015): the mean distance between a group's mean probability and its mean label.
pub fn ece(probabilities: &[f64], labels: &[f64]) -> f64 {
    const GROUPS: usize = 10;
    let mut rows: Vec<(f64, f64)> =
        probabilities.iter().copied().zip(labels.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = rows.len();
    let groups =
        (0..GROUPS).filter_map(|group| rows.get(group * n / GROUPS..(group + 1) * n / GROUPS));
    let off = |group: &[(f64, f64)]| group.iter().map(|(p, y)| p - y).sum::<f64>().abs();
    groups.map(off).sum::<f64>() / n.max(1) as f64
}

/// Mean squared distance between probability and label (Brier 1950).
pub fn brier(probabilities: &[f64], labels: &[f64]) -> f64 {
    let squares = probabilities.iter().zip(labels).map(|(p, y)| (p - y).powi(2));
    squares.sum::<f64>() / probabilities.len().max(1) as f64
}

/// Pearson's correlation; 0 when one side does not vary.
pub fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        ab += (a - mean_a) * (b - mean_b);
        aa += (a - mean_a).powi(2);
        bb += (b - mean_b).powi(2);
    }
    if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

/// Spearman's rank correlation.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    correlation(&ranks(a), &ranks(b))
}

/// A measure on the rows as they are and on bootstrap draws of them (Efron 1979). NaN where a draw
/// leaves the measure undefined.
#[derive(Debug, Clone)]
pub struct Draws {
    value: f64,
    drawn: Vec<f64>,
}

impl Draws {
    /// Draws `0..n` with replacement. The same seed gives the same draws, which is what makes
    /// [`Self::minus`] a paired comparison.
    pub fn new(
        n: usize,
        draws: usize,
        seed: u64,
        measure: impl Fn(&[usize]) -> Option<f64>,
    ) -> Self {
        let mut random = Random::new(seed);
        let mut rows: Vec<usize> = (0..n).collect();
        let value = measure(&rows).unwrap_or(f64::NAN);
        let drawn = (0..draws)
            .map(|_| {
                rows.fill_with(|| random.below(n));
                measure(&rows).unwrap_or(f64::NAN)
            })
            .collect();
        Self { value, drawn }
    }

    /// From a value and its draws that were made elsewhere.
    pub fn of(value: f64, drawn: Vec<f64>) -> Self {
        Self { value, drawn }
    }

    /// The difference, draw by draw.
    pub fn minus(&self, other: &Self) -> Self {
        let drawn = self.drawn.iter().zip(&other.drawn).map(|(a, b)| a - b).collect();
        Self { value: self.value - other.value, drawn }
    }

    /// The mean over independent sets of rows, each weighing the same.
    pub fn mean(of: &[Self]) -> Self {
        let n = of.len() as f64;
        let draws = of.iter().map(|draws| draws.drawn.len()).min().unwrap_or(0);
        let mean_of =
            |at: usize| of.iter().filter_map(|draws| draws.drawn.get(at)).sum::<f64>() / n;
        Self {
            value: of.iter().map(|draws| draws.value).sum::<f64>() / n,
            drawn: (0..draws).map(mean_of).collect(),
        }
    }

    /// The value between the 2.5th and the 97.5th percentile of the draws. `None` when the
    /// measure is undefined on the rows.
    pub fn interval(&self) -> Option<Interval> {
        if self.value.is_nan() {
            return None;
        }
        let mut drawn: Vec<f64> = self.drawn.iter().copied().filter(|d| !d.is_nan()).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        let percentile = |share: f64| {
            let at = (share * drawn.len().saturating_sub(1) as f64).round() as usize;
            drawn.get(at).copied().unwrap_or(self.value)
        };
        Some(Interval { value: self.value, low: percentile(0.025), high: percentile(0.975) })
    }
}

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// On the rows as they are.
    pub value: f64,
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// `0.524 [0.513, 0.533]`
impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.value, self.low, self.high)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn apgr_worked_by_hand() {
        // Eleven rows: the deciles are the scores 0..=10 themselves. The three hardest carry the
        // whole gain. At threshold 10 nothing is sent; at 9 the rows 9 and 10 are: share 2/11,
        // recovered 2/3; at 8 share 3/11, recovered 1; then flat up to share 1.
        let scores: Vec<f64> = (0..=10).map(f64::from).collect();
        let gains = [0., 0., 0., 0., 0., 0., 0., 0., 1., 1., 1.];
        let expected = 2. / 11. * (2. / 3.) / 2. + 1. / 11. * (2. / 3. + 1.) / 2. + 8. / 11.;
        assert!(near(apgr(&scores, &gains).unwrap(), expected));
        // Turned round, nothing is recovered until the easiest are sent.
        let turned: Vec<f64> = scores.iter().map(|score| -score).collect();
        // Shares 0, 2/11, 3/11, …, 11/11; recovered 0 up to 8/11, then 1/3, 2/3, 1.
        let expected = (1. / 3. / 2. + (1. / 3. + 2. / 3.) / 2. + (2. / 3. + 1.) / 2.) / 11.;
        assert!(near(apgr(&turned, &gains).unwrap(), expected));
    }

    #[test]
    fn apgr_of_equal_scores_is_a_half_and_without_a_gap_nothing() {
        assert!(near(apgr(&[3.0; 4], &[1.0, 0.0, 0.0, 1.0]).unwrap(), 0.5));
        assert_eq!(apgr(&[1.0, 2.0], &[1.0, -1.0]), None);
    }

    #[test]
    fn auroc_worked_by_hand() {
        // Pairs (positive, negative): (0.8, 0.3) won, (0.8, 0.5) won, (0.5, 0.3) won, (0.5, 0.5) tied.
        let area = auroc(&[0.8, 0.5, 0.3, 0.5], &[true, true, false, false]).unwrap();
        assert!(near(area, 3.5 / 4.0));
        assert_eq!(auroc(&[0.1, 0.2], &[true, true]), None);
    }

    #[test]
    fn calibration_figures_worked_by_hand() {
        // Twenty rows in groups of two; each probability 0.3, every other label 1: off by 0.2.
        let labels: Vec<f64> = (0..20).map(|row| f64::from(row % 2)).collect();
        assert!(near(ece(&[0.3; 20], &labels), 0.2));
        assert!(near(brier(&[0.3, 0.9], &[0.0, 1.0]), (0.09 + 0.01) / 2.0));
    }

    #[test]
    fn rank_correlation_worked_by_hand() {
        assert!(near(spearman(&[1.0, 2.0, 30.0], &[-5.0, 0.0, 0.1]), 1.0));
        // Ranks 1, 2.5, 2.5 against 1, 2, 3: cov 0.5, variances 0.5 and 2/3.
        let expected = 0.5 / (0.5f64 * (2.0 / 3.0)).sqrt();
        assert!(near(spearman(&[1.0, 2.0, 2.0], &[1.0, 2.0, 3.0]), expected));
        assert!(near(correlation(&[1.0, 1.0], &[1.0, 2.0]), 0.0));
    }

    #[test]
    fn intervals_are_repeatable_and_pair_their_draws() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let mean = |shift: f64| {
            let values = &values;
            Draws::new(50, 100, 9, move |rows| {
                Some(rows.iter().map(|row| values[*row] + shift).sum::<f64>() / 50.0)
            })
        };
        let interval = mean(0.0).interval().unwrap();
        assert_eq!(Some(interval), mean(0.0).interval());
        assert!(near(interval.value, 24.5) && interval.low < 24.5 && interval.high > 24.5);
        let difference = mean(1.0).minus(&mean(0.0)).interval().unwrap();
        assert!((difference.high - difference.low).abs() < 1e-9, "a paired constant has no spread");
        assert!(Draws::new(3, 5, 1, |_| None).interval().is_none());
    }

    proptest! {
        /// Only the order of the scores matters, as long as no tie appears or vanishes.
        #[test]
        fn apgr_depends_on_the_order_of_distinct_scores_alone(
            gains in proptest::collection::vec(0.0f64..1.0, 11..=11),
            seed in any::<u64>(),
        ) {
            let order = Random::new(seed).permutation(11);
            let scores: Vec<f64> = order.iter().map(|place| *place as f64).collect();
            let cubed: Vec<f64> = scores.iter().map(|score| score.powi(3) - 7.0).collect();
            prop_assume!(gains.iter().sum::<f64>() > 0.1);
            let (a, b) = (apgr(&scores, &gains).unwrap(), apgr(&cubed, &gains).unwrap());
            prop_assert!((a - b).abs() < 1e-9);
            let by_score = |row: usize, threshold| scores[row] >= threshold;
            let decided = apgr_of_decisions(&scores, &gains, by_score).unwrap();
            prop_assert!((a - decided).abs() < 1e-9, "the same decisions, the same area");
        }
    }
}
