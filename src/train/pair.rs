//! A head for one pair of models from few labels, with a general head as prior.
//!
//! ```text
//! two ridge regressions over one kernel, [`super::blocks`], f₁ + 0.3 f₂:
//!   y₁ = strong − weak                        what routing is judged by
//!   y₂ = (strong − weak) + ½ (1 − weak)       steadier where the gain is mostly coin flips
//! rows with categories: what tells these apart is added to the kernel, [`super::category`]
//! the penalty of each by evidence, [`super::dual`]
//! → mixed with as much of the prior as held-out folds ask for, [`super::prior_share`]
//! → calibrated on held-out folds
//! ```
//!
//! Folds that saw none of this judge the whole procedure.

use anyhow::Context as _;
use ndarray::Array1;

use super::{
    blocks::{Blocks, Sight, spread, standardised},
    category::Kinds,
    dual::Dual,
    features::Features,
    labels::PairLabels,
    linear::Linear,
    pair_report,
    platt::{Platt, sigmoid, smoothed},
    prior_share::prior_share,
    report::Report,
    static_stage,
};
use crate::{
    classify::{head::Head, queue::DEFAULT_STATIC_MARGIN},
    evaluate::random::Random,
};

/// λ, for kernels of mean diagonal about 1 (measured: see the model card).
const PENALTIES: [f64; 7] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
/// Weight of "the weak model fails" beside the gain, in one of the two targets: it says more of a
/// row than the gain does, which is 0 both where the two succeed and where they fail (measured).
const WEAK_FAILS_WEIGHT: f64 = 0.5;
/// Shares of the fits to the two targets (measured: see the model card).
const FIT_WEIGHTS: [f64; 2] = [1.0, 0.3];
/// Rows that the kernel is computed over; of more, a seeded draw chooses penalty and prior share,
/// and all rows are then fitted by conjugate gradients.
const KERNEL_ROWS: usize = 2_000;
/// Folds that judge.
pub const FOLDS: usize = 5;
/// Folds inside a fit, for the prior's share and the calibration, and how often they are drawn.
const INNER_FOLDS: usize = 10;
const INNER_DRAWS: u64 = 8;
/// Share of held-out rows on which a static stage may be off by more than the default margin.
const MOST_MISFORETOLD: f64 = 0.01;

/// A fitted head for one pair.
pub struct Pair {
    /// Ready to serve.
    pub head: Head,
    /// Held-out figures, the prior and the baselines beside them.
    pub report: Report,
    /// How much of the prior's order the head keeps, in 0..=1.
    pub prior_share: f64,
}

/// Fits to the rows of `features`, which are those of `labels` in order; `words` is the length
/// of each prompt, the baseline.
pub fn train(
    features: &Features,
    labels: &PairLabels,
    prior: &Head,
    words: &[f64],
    seed: u64,
) -> anyhow::Result<Pair> {
    let fitter = Fitter::new(features, labels, prior, seed);
    let held_out = fitter.held_out()?;
    let all: Vec<usize> = (0..features.len()).collect();
    let fit = fitter.fit(&all)?;
    let platt = fitter.calibrate(&fit.left_out, &fit.rows);
    let with_stage = held_out.misforetold <= MOST_MISFORETOLD;
    let head = if with_stage {
        let stage = fitter.stage(&fit.linear, &all);
        fit.linear.calibrated_with_stage(stage, &platt)
    } else {
        fit.linear.calibrated(&platt)
    };
    let mut report = Report::default();
    let prior_scores = fitter.sight.prior_scores.to_vec();
    report.tables.push(pair_report::table(labels, &held_out, &prior_scores, words, seed));
    report.notes.push(pair_report::share_note(fit.prior_share));
    report.notes.extend(fit.explained.map(pair_report::category_note));
    report.notes.push(pair_report::stage_note(with_stage, held_out.misforetold));
    Ok(Pair { head, report, prior_share: fit.prior_share })
}

/// Out-of-fold scores of all rows.
pub struct HeldOut {
    /// Calibrated logits of the fits, comparable between folds.
    pub new: Vec<f64>,
    /// The prior's, recalibrated without the fold.
    pub prior: Vec<f64>,
    /// Share of rows whose score a static stage misses by more than the default margin.
    pub misforetold: f64,
}

/// What all fits share.
struct Fitter<'a> {
    sight: Sight<'a>,
    labels: &'a PairLabels,
    /// y₁ and y₂, not standardised, `[n]` each.
    targets: [Array1<f64>; 2],
    seed: u64,
}

/// A fit to some rows.
struct Fit {
    linear: Linear,
    prior_share: f64,
    /// How much of the rows' categories the features tell, where they shaped the fit.
    explained: Option<f64>,
    /// Rows that chose penalties and prior share, and their scores by folds that left them out.
    rows: Vec<usize>,
    left_out: Vec<f64>,
}

impl<'a> Fitter<'a> {
    fn new(features: &'a Features, labels: &'a PairLabels, prior: &Head, seed: u64) -> Self {
        let gain: Array1<f64> = labels.gain.iter().copied().collect();
        let fails: Array1<f64> = labels.weak_fails.iter().copied().collect();
        let steadier = &gain + &(fails * WEAK_FAILS_WEIGHT);
        let sight = Sight::new(features, Linear::from(prior));
        Self { sight, labels, targets: [gain, steadier], seed }
    }

    /// Each fold scored by a fit to the others.
    fn held_out(&self) -> anyhow::Result<HeldOut> {
        let features = self.sight.features;
        let n = features.len();
        let fold_of = Random::new(self.seed).folds(n, FOLDS);
        let mut held_out = HeldOut { new: vec![0.0; n], prior: vec![0.0; n], misforetold: 0.0 };
        let mut missed = 0usize;
        for fold in 0..FOLDS {
            let rows = |inside: bool| -> Vec<usize> {
                let rows = fold_of.iter().enumerate();
                rows.filter(|(_, of)| (**of == fold) == inside).map(|(row, _)| row).collect()
            };
            let learned = rows(false);
            let fit = self.fit(&learned)?;
            let platt = self.calibrate(&fit.left_out, &fit.rows);
            let raw = fit.linear.predict(features);
            let foretold = self.stage(&fit.linear, &learned).predict(features);
            let prior_scores = &self.sight.prior_scores;
            let known: Vec<f64> = learned.iter().map(|row| prior_scores[*row]).collect();
            let prior_platt = self.calibrate(&known, &learned);
            for row in rows(true) {
                let score = platt.logit(raw[row]);
                let miss = sigmoid(score) - platt.probability(foretold[row]);
                missed += usize::from(miss.abs() > f64::from(DEFAULT_STATIC_MARGIN));
                if let (Some(new), Some(prior)) =
                    (held_out.new.get_mut(row), held_out.prior.get_mut(row))
                {
                    *new = score;
                    *prior = prior_platt.logit(prior_scores[row]);
                }
            }
        }
        held_out.misforetold = missed as f64 / n.max(1) as f64;
        Ok(held_out)
    }

    /// Probability that the weak model's answer is worse, from raw scores of some rows.
    fn calibrate(&self, raw: &[f64], rows: &[usize]) -> Platt {
        let worse = &self.labels.weak_is_worse;
        let worse: Vec<f64> = rows.iter().filter_map(|row| worse.get(*row).copied()).collect();
        Platt::fit(raw, &smoothed(&worse), &vec![1.0; raw.len()])
    }

    /// Words and facts that foretell a head on texts like those of `rows`.
    fn stage(&self, linear: &Linear, rows: &[usize]) -> Linear {
        let mut weights = Array1::zeros(self.sight.features.len());
        rows.iter().for_each(|row| weights[*row] = 1.0);
        static_stage::distil(self.sight.features, linear, &weights)
    }

    /// Ridge with the prior as a feature, then as much of the prior as held-out folds ask for.
    fn fit(&self, rows: &[usize]) -> anyhow::Result<Fit> {
        let chosen = self.chosen(rows);
        let blocks = Blocks::new(&self.sight, &chosen);
        let targets = self.targets.each_ref().map(|target| of_rows(target, &chosen));
        let categories: Vec<&str> = chosen
            .iter()
            .filter_map(|row| self.labels.categories.get(*row))
            .map(String::as_str)
            .collect();
        let kernel = blocks.kernel();
        let kinds = Kinds::learn(&kernel, &categories);
        let kernel = match &kinds {
            Some(kinds) => kinds.added_to(kernel),
            None => kernel,
        };
        let duals = Dual::fit(&kernel, &targets, &PENALTIES);
        let mut fit: Option<Linear> = None;
        for ((dual, target), weight) in duals.iter().zip(&self.targets).zip(FIT_WEIGHTS) {
            let one = if chosen.len() == rows.len() {
                let alpha = kinds.as_ref().map(|kinds| kinds.folded(&dual.alpha));
                blocks.weights_of_dual(&self.sight, alpha.as_ref().unwrap_or(&dual.alpha))
            } else {
                let (target, kinds) = (of_rows(target, rows), kinds.as_ref());
                blocks.weights_of_ridge(&self.sight, rows, &target, dual.penalty, kinds)?
            };
            fit = Some(match fit {
                Some(sum) => sum.plus(weight, &one),
                None => one.scaled(weight),
            });
        }
        let fit = fit.context("no penalty")?;

        let folds = self.inner_folds(&duals, chosen.len());
        let gain: Vec<f64> = chosen.iter().map(|row| self.labels.gain[*row]).collect();
        let share = prior_share(&folds, &blocks.prior, &gain, self.seed);
        let left_out = folds.iter().fold(Array1::zeros(chosen.len()), |sum, one| sum + one)
            / folds.len() as f64;
        let fit_spread = spread(&left_out);
        let left_out = left_out * ((1.0 - share) / fit_spread) + &blocks.prior * share;
        let linear = fit
            .scaled((1.0 - share) / fit_spread)
            .plus(share / blocks.prior_spread, &self.sight.prior)
            .shifted(-share * blocks.prior_mean / blocks.prior_spread);
        let explained = kinds.map(|kinds| kinds.explained);
        let left_out = left_out.to_vec();
        Ok(Fit { linear, prior_share: share, explained, left_out, rows: chosen })
    }

    /// Scores of the rows by fits without their fold, one vector a draw of folds.
    fn inner_folds(&self, duals: &[Dual], n: usize) -> Vec<Array1<f64>> {
        let draw = |draw: u64| {
            let fold_of = Random::new(self.seed ^ (0xf01d << 8 | draw)).folds(n, INNER_FOLDS);
            let mut sum = Array1::zeros(n);
            for (dual, weight) in duals.iter().zip(FIT_WEIGHTS) {
                sum.scaled_add(weight, &dual.left_out(&fold_of, INNER_FOLDS));
            }
            sum
        };
        (0..INNER_DRAWS).map(draw).collect()
    }

    /// The rows that the kernel is computed over, ascending.
    fn chosen(&self, rows: &[usize]) -> Vec<usize> {
        if rows.len() <= KERNEL_ROWS {
            return rows.to_vec();
        }
        let order = Random::new(self.seed ^ 0xc405e).permutation(rows.len());
        let mut chosen: Vec<usize> =
            order.into_iter().take(KERNEL_ROWS).filter_map(|at| rows.get(at).copied()).collect();
        chosen.sort_unstable();
        chosen
    }
}

/// The target of some rows with mean 0 and spread 1.
fn of_rows(target: &Array1<f64>, rows: &[usize]) -> Array1<f64> {
    standardised(&rows.iter().map(|row| target[*row]).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::{classify::facts::FACTS, evaluate::metrics::auroc};

    const HIDDEN: usize = 6;
    pub const BUCKETS: usize = 64;

    /// Rows whose embedding is noise but for the sign of its first number: where it is positive
    /// the weak model fails, as often as `reliability` says.
    pub fn rows(n: usize, reliability: f64, seed: u64) -> (Features, PairLabels, Vec<f64>) {
        let mut random = Random::new(seed);
        let mut embeddings = Array2::from_shape_fn((n, HIDDEN), |_| random.uniform() - 0.5);
        let mut texts = Vec::new();
        let mut fails = Vec::new();
        for row in 0..n {
            let hard = random.uniform() < 0.5;
            embeddings[[row, 0]] += if hard { 0.6 } else { -0.6 };
            fails.push(f64::from(u8::from((random.uniform() < reliability) == hard)));
            texts.push(format!("word{} and word{}", random.below(9), random.below(9)));
        }
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let labels = PairLabels {
            rows: (0..n).collect(),
            gain: fails.clone(),
            weak_fails: fails.clone(),
            weak_is_worse: fails,
            categories: vec![String::new(); n],
        };
        let words = (0..n).map(|_| random.uniform()).collect();
        (Features::read(&texts, embeddings, BUCKETS), labels, words)
    }

    /// A prior that looks at one number of the embedding.
    pub fn prior(column: usize) -> Head {
        let mut embedding = vec![0.0; HIDDEN];
        embedding[column] = 1.0;
        Head {
            embedding,
            words: vec![0.0; BUCKETS],
            idf: vec![1.0; BUCKETS],
            facts: vec![0.0; FACTS],
            intercept: 0.3,
            static_stage: None,
        }
    }

    #[test]
    fn labels_that_the_prior_does_not_know_are_learned() {
        let (features, labels, words) = rows(120, 0.9, 1);
        let pair = train(&features, &labels, &prior(3), &words, 1).unwrap();
        assert_eq!(pair.prior_share, 0.0);
        let new = Linear::from(&pair.head).predict(&features).to_vec();
        let class: Vec<bool> = labels.gain.iter().map(|gain| *gain > 0.5).collect();
        assert!(auroc(&new, &class).unwrap() > 0.85);
        let table = &pair.report.tables[0];
        let figure = |score: &str| {
            let line = table.lines.iter().find(|line| line.score == score).unwrap();
            line.figures[0].1.unwrap().value
        };
        assert!(figure("new") > figure("prior") + 0.1);
    }

    #[test]
    fn what_the_prior_knows_is_not_lost_to_few_labels() {
        // The prior knows all there is to know, and sixty labels add coin flips.
        let (features, labels, words) = rows(60, 0.9, 5);
        let (others, other_labels, _) = rows(400, 0.9, 6);
        let class: Vec<bool> = other_labels.gain.iter().map(|gain| *gain > 0.5).collect();
        let on_others =
            |head: &Head| auroc(&Linear::from(head).predict(&others).to_vec(), &class).unwrap();
        let prior = prior(0);
        let pair = train(&features, &labels, &prior, &words, 1).unwrap();
        assert!(on_others(&pair.head) > on_others(&prior) - 0.02, "{}", pair.report);
    }

    #[test]
    fn categories_that_tell_gain_apart_help_and_one_category_changes_nothing() {
        let (features, mut labels, words) = rows(40, 0.8, 8);
        let (others, other_labels, _) = rows(400, 0.8, 9);
        let class: Vec<bool> = other_labels.gain.iter().map(|gain| *gain > 0.5).collect();
        let mut fit = |category: &dyn Fn(usize) -> &'static str| {
            labels.categories = (0..40).map(|row| category(row).to_owned()).collect();
            let pair = train(&features, &labels, &prior(3), &words, 1).unwrap();
            let area = auroc(&Linear::from(&pair.head).predict(&others).to_vec(), &class).unwrap();
            (pair.head, area, pair.report.notes.join(" "))
        };
        let (without, area, notes) = fit(&|_| "");
        assert!(!notes.contains("categor"), "{notes}");
        assert_eq!(fit(&|_| "chat").0, without);
        let side = |row: usize| if features.embeddings[[row, 0]] > 0.0 { "hard" } else { "easy" };
        let (_, with, notes) = fit(&side);
        assert!(with > area + 0.005, "{with} {area}");
        assert!(notes.contains("categories of the labelled rows"), "{notes}");
    }

    #[test]
    fn the_same_seed_gives_the_same_head() {
        let (features, labels, words) = rows(40, 0.8, 3);
        let fit = || train(&features, &labels, &prior(2), &words, 7).unwrap().head;
        assert_eq!(fit(), fit());
    }
}
