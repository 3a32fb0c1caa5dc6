//! From scores to the curve that raising a threshold draws, and what is read off it.
//!
//! Rows are drawn with weights (how often a bootstrap draw holds each), so that an order is sorted
//! once and every draw is one pass. With weights of one, everything equals the plain definition;
//! [`Curve::apgr`] is held to [`super::metrics::apgr`] by a property test.

/// Rows in the order of their scores, highest first; built once for a score.
#[derive(Debug, Clone)]
pub struct Order {
    /// Row indices.
    rows: Vec<usize>,
    /// Where in `rows` each run of equal scores ends.
    ends: Vec<usize>,
    /// The score of each run, descending.
    scores: Vec<f64>,
}

/// One threshold.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Point {
    /// Share of calls sent to the strong model, 0..=1.
    pub share: f64,
    /// Mean score of the answers, 0..=1.
    pub quality: f64,
    /// Mean cost of a call, in the data's unit.
    pub cost: f64,
}

/// Two models' results on the rows, `[n]` each.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The weak model's scores.
    pub weak: &'a [f64],
    /// The strong model's scores.
    pub strong: &'a [f64],
    /// What the weak model's calls cost.
    pub weak_cost: &'a [f64],
    /// What the strong model's calls cost.
    pub strong_cost: &'a [f64],
}

/// Points from "all weak" to "all strong".
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Ascending by share; the first sends nothing, the last everything.
    pub points: Vec<Point>,
}

impl Order {
    /// Sorts. NaN counts as the highest score.
    pub fn new(scores: &[f64]) -> Self {
        let score = |row: usize| scores.get(row).copied().unwrap_or(f64::NAN);
        let mut rows: Vec<usize> = (0..scores.len()).collect();
        rows.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        let (mut ends, mut run_scores, mut end) = (Vec::new(), Vec::new(), 0);
        for run in rows.chunk_by(|a, b| score(*a) == score(*b)) {
            end += run.len();
            ends.push(end);
            run_scores.push(run.first().map_or(f64::NAN, |row| score(*row)));
        }
        Self { rows, ends, scores: run_scores }
    }

    /// Rows of each run of equal scores, highest first.
    pub fn runs(&self) -> impl Iterator<Item = (f64, &[usize])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .zip(&self.scores)
            .filter_map(|((start, end), score)| Some((*score, self.rows.get(start..*end)?)))
    }

    /// Row indices, highest score first.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The curve at the quantiles of the drawn scores: `steps` equal steps, so `steps + 1`
    /// thresholds of which the highest sends nothing. Ten are RouteLLM's deciles. `None` without
    /// rows.
    ///
    /// Scores at or above a threshold go to the strong model (RouteLLM, `routellm/evals`).
    pub fn curve(&self, pair: Pair<'_>, weights: &[u32], steps: usize) -> Option<Curve> {
        let weight = |row: usize| weights.get(row).copied().unwrap_or(0);
        let at = |values: &[f64], row: usize| values.get(row).copied().unwrap_or_default();
        // Cumulative over runs: rows sent, their gain, what they cost more.
        let mut runs: Vec<(f64, u64, f64, f64)> = Vec::with_capacity(self.ends.len());
        let (mut sent, mut gain, mut dearer) = (0u64, 0.0, 0.0);
        let (mut weak, mut weak_cost) = (0.0, 0.0);
        for (score, rows) in self.runs() {
            let before = sent;
            for row in rows {
                let times = weight(*row);
                if times == 0 {
                    continue;
                }
                let factor = f64::from(times);
                sent += u64::from(times);
                gain += factor * (at(pair.strong, *row) - at(pair.weak, *row));
                dearer += factor * (at(pair.strong_cost, *row) - at(pair.weak_cost, *row));
                weak += factor * at(pair.weak, *row);
                weak_cost += factor * at(pair.weak_cost, *row);
            }
            if sent > before {
                runs.push((score, sent, gain, dearer));
            }
        }
        let n = sent as f64;
        let last = sent.checked_sub(1)?;
        let point = |run: Option<&(f64, u64, f64, f64)>| {
            let (_, sent, gain, dearer) = run.copied().unwrap_or_default();
            Point {
                share: sent as f64 / n,
                quality: (weak + gain) / n,
                cost: (weak_cost + dearer) / n,
            }
        };
        // The score at a place of the drawn scores in ascending order.
        let ascending = |place: u64| {
            let run = runs.partition_point(|(_, sent, ..)| *sent <= last - place.min(last));
            runs.get(run).map_or(f64::NAN, |(score, ..)| *score)
        };
        let quantile = |step: usize| {
            let place = step as f64 / steps as f64 * last as f64;
            let (low, part) = (place.floor() as u64, place.fract());
            let below = ascending(low);
            if part == 0.0 { below } else { below + part * (ascending(low + 1) - below) }
        };
        let mut thresholds: Vec<f64> = (0..=steps).map(quantile).collect();
        thresholds.dedup();
        thresholds.pop();
        let mut points = vec![point(None)];
        for threshold in thresholds.iter().rev() {
            let run = runs.partition_point(|(score, ..)| score >= threshold);
            points.push(point(run.checked_sub(1).and_then(|run| runs.get(run))));
        }
        // Equal scores have no threshold but the one that sends none: then all go together.
        points.push(point(runs.last()));
        points.dedup_by(|b, a| a.share == b.share);
        Some(Curve { points })
    }
}

impl Curve {
    fn ends(&self) -> Option<(Point, Point)> {
        Some((*self.points.first()?, *self.points.last()?))
    }

    /// The share of the gap between all weak and all strong that a quality recovers (performance
    /// gap recovered, Ong et al. 2024, arXiv:2406.18665, eq. 5). `None` without a gap.
    pub fn pgr(&self, quality: f64) -> Option<f64> {
        let (weak, strong) = self.ends()?;
        let gap = strong.quality - weak.quality;
        (gap > 0.0).then(|| (quality - weak.quality) / gap)
    }

    /// Average performance gap recovered: the area under (share, PGR) by trapezoids (the same,
    /// eq. 7, at the thresholds of its evaluation code). A random order gives about 0.5.
    pub fn apgr(&self) -> Option<f64> {
        let mut area = 0.0;
        for pair in self.points.windows(2) {
            let [a, b] = pair else { continue };
            area += (b.share - a.share) * (self.pgr(a.quality)? + self.pgr(b.quality)?) / 2.0;
        }
        self.ends()?;
        Some(area)
    }

    /// Call-performance threshold: the least share of strong calls at which the curve, taken
    /// linearly between its points, recovers `recovered` of the gap (the same, eq. 8). On a curve
    /// that never falls this is the interpolation of RouteLLM's code; on one that does, that code
    /// has no defined answer and the paper's definition, the least share, holds.
    pub fn cpt(&self, recovered: f64) -> Option<f64> {
        let (weak, strong) = self.ends()?;
        self.pgr(weak.quality)?;
        let target = weak.quality + recovered * (strong.quality - weak.quality);
        self.crossing(target).map(|point| point.share)
    }

    /// The first point of the curve, taken linearly between its points, that has this quality.
    pub fn crossing(&self, quality: f64) -> Option<Point> {
        let first = self.points.first()?;
        if first.quality >= quality {
            return Some(*first);
        }
        self.points.windows(2).find_map(|pair| {
            let [a, b] = pair else { return None };
            if b.quality < quality {
                return None;
            }
            let part = (quality - a.quality) / (b.quality - a.quality);
            Some(Point {
                share: a.share + part * (b.share - a.share),
                quality,
                cost: a.cost + part * (b.cost - a.cost),
            })
        })
    }

    /// Average improvement in quality (Hu et al. 2024, arXiv:2403.12031, §3.3): the area under the
    /// non-decreasing convex hull of (cost, quality), extended flat to `largest_cost`, divided by
    /// that cost, as RouterBench's code does. Costs below the cheapest point count nothing. `None`
    /// when nothing costs anything.
    pub fn aiq(&self, largest_cost: f64) -> Option<f64> {
        let hull = self.hull();
        let last = hull.last()?;
        let largest = largest_cost.max(last.0);
        if largest <= 0.0 {
            return None;
        }
        let area: f64 = hull
            .windows(2)
            .filter_map(|pair| {
                let [a, b] = pair else { return None };
                Some((b.0 - a.0) * (a.1 + b.1) / 2.0)
            })
            .sum();
        Some((area + (largest - last.0) * last.1) / largest)
    }

    /// The upper convex hull of (cost, quality) from the cheapest point to the best one.
    fn hull(&self) -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = self.points.iter().map(|p| (p.cost, p.quality)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut hull: Vec<(f64, f64)> = Vec::new();
        for point in points {
            // What costs more and is no better is no choice.
            if hull.last().is_some_and(|last| point.1 <= last.1) {
                continue;
            }
            while let [.., a, b] = hull.as_slice() {
                let cross = (b.0 - a.0) * (point.1 - a.1) - (b.1 - a.1) * (point.0 - a.0);
                if cross < 0.0 {
                    break;
                }
                hull.pop();
            }
            hull.push(point);
        }
        hull
    }
}

/// RouterArena's score (Lu et al. 2025, arXiv:2510.00202, with its code's constants): the weighted
/// harmonic mean `S = 1.1 A C / (0.1 A + C)` of accuracy `A` and the cost's place `C` between $200
/// and $0.0044 for a thousand queries, on a logarithmic scale. Cheaper than the cheapest counts as
/// that, dearer than the dearest gives 0. `None` where there is neither accuracy nor place.
pub fn arena_score(accuracy: f64, usd_per_thousand: f64) -> Option<f64> {
    const BETA: f64 = 0.1;
    const DEAREST: f64 = 200.0;
    const CHEAPEST: f64 = 0.0044;
    let cost = usd_per_thousand.clamp(CHEAPEST, DEAREST);
    let place = (DEAREST / cost).ln() / (DEAREST / CHEAPEST).ln();
    let below = BETA * accuracy + place;
    (below > 0.0).then(|| (1.0 + BETA) * accuracy * place / below)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evaluate::{metrics, random::Random};

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    fn curve(points: &[(f64, f64, f64)]) -> Curve {
        let point = |(share, quality, cost): &(f64, f64, f64)| Point {
            share: *share,
            quality: *quality,
            cost: *cost,
        };
        Curve { points: points.iter().map(point).collect() }
    }

    #[test]
    fn a_curve_worked_by_hand() {
        // Two rows, scores 1 and 2. The hard one gains 1, the easy one nothing; costs 1 and 5.
        // Quantiles at steps of a half: 1, 1.5, 2; the highest sends none, 1.5 the hard row.
        let pair = Pair {
            weak: &[1.0, 0.0],
            strong: &[1.0, 1.0],
            weak_cost: &[1.0, 1.0],
            strong_cost: &[5.0, 5.0],
        };
        let drawn = Order::new(&[1.0, 2.0]).curve(pair, &[1, 1], 2).unwrap();
        assert_eq!(drawn, curve(&[(0.0, 0.5, 1.0), (0.5, 1.0, 3.0), (1.0, 1.0, 5.0)]));
        // PGR 0, 1, 1 at shares 0, ½, 1: area ¼ + ½.
        assert!(near(drawn.apgr().unwrap(), 0.75));
        // Half of the gap lies at the middle of the first step.
        assert!(near(drawn.cpt(0.5).unwrap(), 0.25));
        assert!(near(drawn.crossing(0.75).unwrap().cost, 2.0));
    }

    #[test]
    fn the_least_share_counts_where_a_curve_falls() {
        let falls = curve(&[(0.0, 0.0, 0.0), (0.2, 0.6, 0.0), (0.5, 0.3, 0.0), (1.0, 1.0, 0.0)]);
        // 0.5 is crossed at 0.2 · 0.5 / 0.6, long before the curve comes back to it.
        assert!(near(falls.cpt(0.5).unwrap(), 1.0 / 6.0));
        assert_eq!(curve(&[(0.0, 1.0, 0.0), (1.0, 1.0, 0.0)]).cpt(0.5), None);
    }

    #[test]
    fn improvement_in_quality_worked_by_hand() {
        // Hull: (1, 0.2) → (2, 0.8) → (4, 1.0). The point (3, 0.7) lies below it.
        // Area 1·0.5 + 2·0.9 = 2.3, then flat from 4 to 5: 1.0. Over 5: 0.66.
        let points = [(0.0, 0.2, 1.0), (0.3, 0.8, 2.0), (0.6, 0.7, 3.0), (1.0, 1.0, 4.0)];
        assert!(near(curve(&points).aiq(5.0).unwrap(), 3.3 / 5.0));
        assert_eq!(curve(&[(0.0, 0.5, 0.0)]).aiq(0.0), None);
    }

    #[test]
    fn the_arena_score_worked_by_hand() {
        // C is 1 at $0.0044: 1.1 · 0.5 / (0.05 + 1). At the geometric mean of the bounds it is ½.
        assert!(near(arena_score(0.5, 0.0044).unwrap(), 0.55 / 1.05));
        let middle = (200.0f64 * 0.0044).sqrt();
        assert!((arena_score(0.8, middle).unwrap() - 1.1 * 0.8 * 0.5 / 0.58).abs() < 1e-12);
        assert_eq!(arena_score(0.8, 500.0), Some(0.0));
        assert_eq!(arena_score(0.0, 200.0), None);
    }

    proptest! {
        /// Weights are repetitions: a weighted curve is the plain one of the repeated rows.
        #[test]
        fn weights_are_repetitions(seed in any::<u64>(), n in 2usize..40, levels in 1usize..12) {
            let mut random = Random::new(seed);
            let scores: Vec<f64> = (0..n).map(|_| random.below(levels) as f64 / 7.0).collect();
            let weak: Vec<f64> = (0..n).map(|_| random.uniform() / 2.0).collect();
            let strong: Vec<f64> = (0..n).map(|_| random.uniform()).collect();
            let weights: Vec<u32> = (0..n).map(|_| random.below(4) as u32).collect();
            let (mut repeated, mut gains) = (Vec::new(), Vec::new());
            for row in 0..n {
                for _ in 0..weights[row] {
                    repeated.push(scores[row]);
                    gains.push(strong[row] - weak[row]);
                }
            }
            prop_assume!(gains.iter().sum::<f64>() > 0.05);
            let pair = Pair { weak: &weak, strong: &strong, weak_cost: &weak, strong_cost: &strong };
            let ours = Order::new(&scores).curve(pair, &weights, 10).unwrap().apgr().unwrap();
            let plain = metrics::apgr(&repeated, &gains).unwrap();
            prop_assert!((ours - plain).abs() < 1e-9, "{ours} {plain}");
        }
    }
}
