//! Every figure of every router, on the rows as they are and on bootstrap draws of them.
//!
//! All routers see the same draws, so that differences between them are paired.

use indicatif::ProgressBar;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{
    curve::{Curve, arena_score},
    judged::{CostUnit, Judged, Router},
    metrics::{Draws, Interval},
    random::Random,
};

/// What is measured; [`Figure::ALL`] is the order of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Mean score of the answers at the thresholds in force.
    Quality,
    /// Mean cost of a call at the thresholds in force.
    Cost,
    /// Share of the gap that is recovered there ([`Curve::pgr`]).
    Pgr,
    /// [`Curve::apgr`] at RouteLLM's deciles.
    Apgr,
    /// [`Curve::cpt`] of 20 %.
    Cpt20,
    /// [`Curve::cpt`] of 50 %.
    Cpt50,
    /// [`Curve::cpt`] of 80 %.
    Cpt80,
    /// [`Curve::aiq`] of the same points, up to the dearer of "all strong" and the dearest point.
    Aiq,
    /// [`arena_score`] at the thresholds in force; needs dollars.
    Arena,
    /// What this score costs where its curve reaches the quality that the first router has at its
    /// thresholds, as a share of what "all strong" costs.
    EqualQuality,
    /// Does the score tell the rows apart where the cheapest tier is worse? ([`super::metrics::auroc`])
    Auroc,
    /// Mean squared distance of the probability from that event ([`super::metrics::brier`]).
    Brier,
    /// Calibration error against that event ([`super::metrics::ece`]).
    Ece,
    /// Mean score that is lost against the oracle, which sends each row to its best tier.
    Regret,
}

impl Figure {
    /// In the order of reports.
    pub const ALL: [Self; 14] = [
        Self::Quality,
        Self::Cost,
        Self::Pgr,
        Self::Apgr,
        Self::Cpt20,
        Self::Cpt50,
        Self::Cpt80,
        Self::Aiq,
        Self::Arena,
        Self::EqualQuality,
        Self::Auroc,
        Self::Brier,
        Self::Ece,
        Self::Regret,
    ];

    /// The key in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::Cost => "cost",
            Self::Pgr => "pgr",
            Self::Apgr => "apgr",
            Self::Cpt20 => "cpt20",
            Self::Cpt50 => "cpt50",
            Self::Cpt80 => "cpt80",
            Self::Aiq => "aiq",
            Self::Arena => "arena",
            Self::EqualQuality => "cost_at_equal_quality",
            Self::Auroc => "auroc",
            Self::Brier => "brier",
            Self::Ece => "ece",
            Self::Regret => "regret",
        }
    }

    /// The heading in tables.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::Cost => "cost",
            Self::Pgr => "PGR",
            Self::Apgr => "APGR",
            Self::Cpt20 => "CPT20",
            Self::Cpt50 => "CPT50",
            Self::Cpt80 => "CPT80",
            Self::Aiq => "AIQ",
            Self::Arena => "arena",
            Self::EqualQuality => "cost at equal quality",
            Self::Auroc => "AUROC",
            Self::Brier => "Brier",
            Self::Ece => "ECE",
            Self::Regret => "regret",
        }
    }
}

const COUNT: usize = Figure::ALL.len();

/// One router's figures, each on the rows and on their draws.
#[derive(Debug, Clone)]
pub struct Measured {
    /// In the order of [`Figure::ALL`].
    draws: Vec<Draws>,
}

impl Measured {
    /// A figure with its interval; `None` where it is undefined.
    pub fn get(&self, figure: Figure) -> Option<Interval> {
        let at = Figure::ALL.iter().position(|other| *other == figure)?;
        self.draws.get(at)?.interval()
    }

    /// Paired differences, figure by figure.
    pub fn minus(&self, other: &Self) -> Self {
        let draws = self.draws.iter().zip(&other.draws).map(|(a, b)| a.minus(b)).collect();
        Self { draws }
    }
}

/// `{"apgr": {"value", "low", "high"} or null, …}`
impl Serialize for Measured {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(COUNT))?;
        for figure in Figure::ALL {
            map.serialize_entry(figure.key(), &self.get(figure))?;
        }
        map.end()
    }
}

/// Measures all routers on `draws` common draws; `bar` moves by one a draw. The first router is the
/// one that [`Figure::EqualQuality`] refers to.
pub fn measure(
    judged: &Judged,
    routers: &[Router],
    draws: usize,
    seed: u64,
    bar: &ProgressBar,
) -> Vec<Measured> {
    let n = judged.len();
    let mut random = Random::new(seed);
    let mut weights = vec![1u32; n];
    let once = one_draw(judged, routers, &weights);
    let mut drawn: Vec<Vec<Vec<f64>>> = routers.iter().map(|_| vec![Vec::new(); COUNT]).collect();
    for _ in 0..draws {
        weights.fill(0);
        for _ in 0..n {
            if let Some(weight) = weights.get_mut(random.below(n)) {
                *weight += 1;
            }
        }
        for (to, figures) in drawn.iter_mut().zip(one_draw(judged, routers, &weights)) {
            to.iter_mut().zip(figures).for_each(|(to, figure)| to.push(figure));
        }
        bar.inc(1);
    }
    let of = |(values, drawn): ([f64; COUNT], Vec<Vec<f64>>)| Measured {
        draws: values
            .into_iter()
            .zip(drawn)
            .map(|(value, drawn)| Draws::of(value, drawn))
            .collect(),
    };
    once.into_iter().zip(drawn).map(of).collect()
}

fn one_draw(judged: &Judged, routers: &[Router], weights: &[u32]) -> Vec<[f64; COUNT]> {
    let mut reference = f64::NAN;
    let mut all = Vec::with_capacity(routers.len());
    for (at, router) in routers.iter().enumerate() {
        let (quality, cost) = in_force(judged, &router.tiers, weights);
        if at == 0 {
            reference = quality;
        }
        all.push(figures(judged, router, weights, (quality, cost), reference));
    }
    all
}

/// Mean quality and cost of a choice.
fn in_force(judged: &Judged, tiers: &[usize], weights: &[u32]) -> (f64, f64) {
    let (mut quality, mut cost, mut n) = (0.0, 0.0, 0.0);
    for (row, (tier, weight)) in tiers.iter().zip(weights).enumerate() {
        let weight = f64::from(*weight);
        quality += weight * judged.quality_at(*tier, row);
        cost += weight * judged.cost_at(*tier, row);
        n += weight;
    }
    (quality / n, cost / n)
}

fn figures(
    judged: &Judged,
    router: &Router,
    weights: &[u32],
    (quality, cost): (f64, f64),
    reference: f64,
) -> [f64; COUNT] {
    let last = judged.tiers().saturating_sub(1);
    let n = judged.len();
    let mean_of = |tier: usize| in_force(judged, &vec![tier; n], weights);
    let (weak, strong) = (mean_of(0), mean_of(last));
    let gap = strong.0 - weak.0;
    let pgr = (gap > 0.0).then(|| (quality - weak.0) / gap);
    let curve = router.order.as_ref().and_then(|order| order.curve(judged.pair(), weights, 10));
    let on_curve = |read: &dyn Fn(&Curve) -> Option<f64>| curve.as_ref().and_then(read);
    let dearest =
        |curve: &Curve| curve.points.iter().map(|point| point.cost).fold(strong.1, f64::max);
    let value = |figure: Figure| match figure {
        Figure::Quality => Some(quality),
        Figure::Cost => Some(cost),
        Figure::Pgr => pgr,
        Figure::Apgr => on_curve(&|curve| curve.apgr()),
        Figure::Cpt20 => on_curve(&|curve| curve.cpt(0.2)),
        Figure::Cpt50 => on_curve(&|curve| curve.cpt(0.5)),
        Figure::Cpt80 => on_curve(&|curve| curve.cpt(0.8)),
        Figure::Aiq => on_curve(&|curve| curve.aiq(dearest(curve))),
        Figure::Arena => {
            let usd = judged.unit == CostUnit::Usd;
            usd.then(|| arena_score(quality, 1_000.0 * cost)).flatten()
        }
        Figure::EqualQuality => on_curve(&|curve| {
            let point = curve.crossing(reference)?;
            (strong.1 > 0.0).then(|| point.cost / strong.1)
        }),
        Figure::Auroc => auroc(judged, router, weights),
        Figure::Brier => brier(judged, router, weights),
        Figure::Ece => ece(judged, router, weights),
        Figure::Regret => Some(in_force(judged, &judged.best, weights).0 - quality),
    };
    Figure::ALL.map(|figure| value(figure).unwrap_or(f64::NAN))
}

/// Drawn rows, and those of them with the event, in a run.
fn count(judged: &Judged, rows: &[usize], weights: &[u32]) -> (f64, f64) {
    let (mut all, mut worse) = (0.0, 0.0);
    for row in rows {
        let weight = f64::from(weights.get(*row).copied().unwrap_or(0));
        all += weight;
        if judged.worse.get(*row) == Some(&true) {
            worse += weight;
        }
    }
    (all, worse)
}

/// [`super::metrics::auroc`] of drawn rows, in one pass.
fn auroc(judged: &Judged, router: &Router, weights: &[u32]) -> Option<f64> {
    let (mut won, mut above, mut fine) = (0.0, 0.0, 0.0);
    for (_, rows) in router.order.as_ref()?.runs() {
        let (all, worse) = count(judged, rows, weights);
        // Rows with the event that stand above, and half of those that tie.
        won += (above + worse / 2.0) * (all - worse);
        above += worse;
        fine += all - worse;
    }
    (above > 0.0 && fine > 0.0).then(|| won / (above * fine))
}

fn brier(judged: &Judged, router: &Router, weights: &[u32]) -> Option<f64> {
    let scores = router.scores.as_ref().filter(|_| router.is_probability)?;
    let (mut sum, mut n) = (0.0, 0.0);
    for ((score, worse), weight) in scores.iter().zip(&judged.worse).zip(weights) {
        sum += f64::from(*weight) * (score - f64::from(u8::from(*worse))).powi(2);
        n += f64::from(*weight);
    }
    (n > 0.0).then(|| sum / n)
}

/// [`super::metrics::ece`] of drawn rows: ten groups of equal count. A row that stands on the
/// border of two groups counts in the lower one.
fn ece(judged: &Judged, router: &Router, weights: &[u32]) -> Option<f64> {
    const GROUPS: u64 = 10;
    let scores = router.scores.as_ref().filter(|_| router.is_probability)?;
    let n: u64 = weights.iter().copied().map(u64::from).sum();
    let (mut off, mut group, mut seen, mut gap) = (0.0, 1, 0u64, 0.0f64);
    for row in router.order.as_ref()?.rows().iter().rev() {
        let weight = weights.get(*row).copied().unwrap_or(0);
        let event = f64::from(u8::from(judged.worse.get(*row) == Some(&true)));
        let score = scores.get(*row).copied().unwrap_or_default();
        gap += f64::from(weight) * (score - event);
        seen += u64::from(weight);
        while group <= GROUPS && seen >= group * n / GROUPS {
            off += gap.abs();
            gap = 0.0;
            group += 1;
        }
    }
    (n > 0).then(|| off / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::metrics;

    /// Four rows; the event holds on the second and the fourth.
    fn judged() -> Judged {
        Judged {
            quality: vec![vec![1.0, 0.0, 0.5, 0.0], vec![1.0, 1.0, 0.5, 0.5]],
            cost: vec![vec![0.001; 4], vec![0.01; 4]],
            unit: CostUnit::Usd,
            best: vec![0, 1, 0, 1],
            worse: vec![false, true, false, true],
        }
    }

    fn router(scores: &[f64]) -> Router {
        let ladder = crate::evaluate::ladder::Ladder::pair("s", "w", 0.5).unwrap();
        Router::by_thresholds("model", "", scores.to_vec(), &ladder)
    }

    fn measured(judged: &Judged, routers: &[Router], draws: usize, seed: u64) -> Vec<Measured> {
        measure(judged, routers, draws, seed, &ProgressBar::hidden())
    }

    fn value(measured: &Measured, figure: Figure) -> f64 {
        measured.get(figure).unwrap().value
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn figures_at_the_thresholds_worked_by_hand() {
        // Rows 2 and 3 go to the strong model: qualities 1, 1, 0.5, 0; the means are 0.375 and
        // 0.75. Costs 0.001 and 0.01, twice each.
        let (judged, router) = (judged(), router(&[0.1, 0.9, 0.6, 0.2]));
        let measured = measured(&judged, &[router], 20, 1).remove(0);
        assert!(near(value(&measured, Figure::Quality), 0.625));
        assert!(near(value(&measured, Figure::Cost), 0.0055));
        assert!(near(value(&measured, Figure::Pgr), (0.625 - 0.375) / 0.375));
        // The oracle has 1, 1, 0.5, 0.5.
        assert!(near(value(&measured, Figure::Regret), 0.125));
        assert!(near(value(&measured, Figure::Arena), arena_score(0.625, 5.5).unwrap()));
        // (0.9, 0.1), (0.9, 0.6), (0.2, 0.1) are won, (0.2, 0.6) is lost.
        assert!(near(value(&measured, Figure::Auroc), 0.75));
        assert!(near(value(&measured, Figure::Brier), (0.01 + 0.01 + 0.36 + 0.64) / 4.0));
    }

    #[test]
    fn figures_of_the_curve_worked_by_hand() {
        // Eleven rows with the scores 0 to 10; only the rows 8, 9 and 10 gain, each 1; costs 1 and
        // 3. Thresholds at the deciles: shares 0, 2/11, 3/11, … recover 0, 2/3, 1, … of the gap.
        let gains = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        let judged = Judged {
            quality: vec![vec![0.0; 11], gains.to_vec()],
            cost: vec![vec![1.0; 11], vec![3.0; 11]],
            unit: CostUnit::Usd,
            best: vec![0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
            worse: gains.iter().map(|gain| *gain > 0.0).collect(),
        };
        let scores: Vec<f64> = (0..11).map(|row| f64::from(row) / 10.0).collect();
        // The threshold 0.5 sends six rows, the three hard ones among them.
        let model = router(&scores);
        // This one finds the hard rows last: shares 0, 2/11, … recover nothing up to 8/11, then
        // 1/3, 2/3, 1.
        let turned = router(&scores.iter().rev().copied().collect::<Vec<_>>());
        let measured = measured(&judged, &[model, turned], 0, 1);
        let at = |figure| value(&measured[0], figure);
        // 20 % lies at 0.2 / (2/3) of the first step, 50 % at 0.5 / (2/3), 80 % at 0.4 of the
        // second, from 2/11 to 3/11.
        assert!(near(at(Figure::Cpt20), 0.3 * 2.0 / 11.0));
        assert!(near(at(Figure::Cpt50), 0.75 * 2.0 / 11.0));
        assert!(near(at(Figure::Cpt80), 2.4 / 11.0));
        // Quality 3/11 is reached with three strong calls; all strong costs 3 a call.
        let (three, all) = ((8.0 + 9.0) / 11.0, 3.0);
        assert!(near(at(Figure::EqualQuality), three / all));
        assert!(near(value(&measured[1], Figure::EqualQuality), 1.0), "only all calls do");
        // AIQ: from cost 1 to 15/11 the quality rises to 2/11, to 17/11 it rises to 3/11, then it
        // stays up to cost 3; on the hull the first two steps are one line.
        let area = 6.0 / 11.0 * 1.5 / 11.0 + 16.0 / 11.0 * 3.0 / 11.0;
        assert!(near(at(Figure::Aiq), area / 3.0));
        // One row a group but in the last, which holds two: each row's own distance, and of the
        // last two |0.9 + 1 − 2|.
        let off: f64 = (0..8).map(|row| f64::from(row) / 10.0).sum::<f64>() + 0.2 + 0.1;
        assert!(near(at(Figure::Ece), off / 11.0));
        let apgr = (2.0 / 3.0 * 2.0 / 2.0 + 5.0 / 6.0 + 8.0) / 11.0;
        assert!(near(at(Figure::Apgr), apgr));
        let turned_apgr = (1.0 / 6.0 + 0.5 + 5.0 / 6.0) / 11.0;
        let difference = measured[0].minus(&measured[1]);
        assert!(near(value(&difference, Figure::Apgr), apgr - turned_apgr));
    }

    #[test]
    fn weighted_figures_are_the_plain_ones_of_repeated_rows() {
        let (judged, router) = (judged(), router(&[0.1, 0.9, 0.6, 0.6]));
        let weights = [3, 0, 2, 5];
        let scores = [0.1, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6];
        let labels = [0., 0., 0., 0., 0., 1., 1., 1., 1., 1.];
        let class: Vec<bool> = labels.iter().map(|label| *label > 0.5).collect();
        assert!(near(
            auroc(&judged, &router, &weights).unwrap(),
            metrics::auroc(&scores, &class).unwrap()
        ));
        assert!(near(brier(&judged, &router, &weights).unwrap(), metrics::brier(&scores, &labels)));
        // Ten rows in ten groups: with weights the border lies behind a repeated row.
        let once = measured(&judged, &[router], 0, 1).remove(0);
        assert!(near(
            value(&once, Figure::Ece),
            metrics::ece(&[0.1, 0.9, 0.6, 0.6], &[0., 1., 0., 1.])
        ));
    }

    #[test]
    fn differences_are_paired_and_a_router_equals_itself() {
        let judged = judged();
        let (a, b) = (router(&[0.1, 0.9, 0.6, 0.2]), router(&[0.1, 0.9, 0.6, 0.2]));
        let measured = measured(&judged, &[a, b], 50, 3);
        let difference = measured[0].minus(&measured[1]);
        for figure in Figure::ALL {
            let interval = difference.get(figure).unwrap();
            assert_eq!((interval.value, interval.low, interval.high), (0.0, 0.0, 0.0));
        }
    }
}
