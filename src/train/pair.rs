//! A head for one pair of models from few labels, with a general head as prior.
//!
//! Kernel ridge over three blocks and the prior's own score, each scaled to weigh the same:
//!
//! ```text
//! K = K_embedding + K_words + K_facts + p pᵀ      y = (strong − weak) + ½ (1 − weak)
//! ```
//!
//! The penalty and the share that the prior keeps are chosen by leave-one-out. Folds that saw none
//! of this judge the result; where the fit does not beat the prior there, the prior stays and only
//! its calibration is new. Kernels of linear blocks are weights in disguise, so what comes out is
//! an ordinary head.

use anyhow::Context as _;
use ndarray::{Array1, Array2, Axis};

use super::{
    dual::Dual,
    features::Features,
    labels::PairLabels,
    linear::Linear,
    platt::{Platt, smoothed},
    report::{Line, Report, Table},
    ridge::{Block, Columns, Limits, Ridge},
};
use crate::{
    classify::head::Head,
    evaluate::{
        metrics::{Draws, apgr, auroc, brier, correlation, ece},
        random::Random,
    },
};

/// λ, for kernels of mean diagonal 1 (measured: see the model card).
const PENALTIES: [f64; 7] = [0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
/// Shares of the prior in the mixture with the fit.
const PRIOR_SHARES: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Weight of "the weak model fails" beside the gain: it says more of a row than the gain does,
/// which is 0 both where the two succeed and where they fail (measured).
const WEAK_FAILS_WEIGHT: f64 = 0.5;
/// Added to a fact's standard deviation (chosen): a head has no clipping, so a fact that hardly
/// varies in few rows must not get a steep weight.
const FACT_FLOOR: f64 = 0.02;
/// Rows that the kernel is computed over; of more, a seeded draw chooses penalty and prior share,
/// and all rows are then fitted by conjugate gradients.
const KERNEL_ROWS: usize = 2_000;
/// Folds that judge.
const FOLDS: usize = 5;
/// Bootstrap draws of each figure.
const DRAWS: usize = 1_000;

/// A fitted head for one pair.
pub struct Pair {
    /// Ready to serve.
    pub head: Head,
    /// Held-out figures, the prior and the baselines beside them.
    pub report: Report,
    /// Whether the prior's order was kept because the fit did not beat it.
    pub prior_kept: bool,
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
    let n = features.len();
    let gain_of = |scores: &[f64]| apgr(scores, &labels.gain).unwrap_or_default();
    let prior_scores = fitter.prior_scores.to_vec();
    let prior_kept = gain_of(&held_out.new) <= gain_of(&prior_scores);

    let all: Vec<usize> = (0..n).collect();
    let head = if prior_kept {
        let platt = fitter.calibrate(&prior_scores, &all);
        fitter.prior.clone().calibrated(&platt)
    } else {
        let fit = fitter.fit(&all)?;
        let platt = fitter.calibrate(&fit.left_out, &fit.rows);
        fit.linear.calibrated(&platt)
    };

    let mut random = Random::new(seed ^ 0x5eed);
    let drawn: Vec<f64> = (0..n).map(|_| random.uniform()).collect();
    let mut report = Report::default();
    report.tables.push(table(labels, &held_out, &prior_scores, words, &drawn, seed));
    report.notes.push(if prior_kept {
        "The fit does not beat the prior on held-out folds: the head keeps the prior's order, with a new calibration.".to_owned()
    } else {
        "The fit beats the prior on held-out folds and was written.".to_owned()
    });
    Ok(Pair { head, report, prior_kept })
}

/// Out-of-fold scores of all rows.
struct HeldOut {
    /// Calibrated logits of the fits, comparable between folds.
    new: Vec<f64>,
    /// The prior's, recalibrated without the fold.
    prior: Vec<f64>,
}

/// What all fits share.
struct Fitter<'a> {
    features: &'a Features,
    labels: &'a PairLabels,
    prior: Linear,
    /// The prior's logit of each row, `[n]`.
    prior_scores: Array1<f64>,
    /// Words under the prior's idf.
    words: super::features::Sparse,
    /// `y`, not standardised, `[n]`.
    target: Array1<f64>,
    seed: u64,
}

/// A fit to some rows.
struct Fit {
    linear: Linear,
    /// Rows that chose penalty and prior share, and their leave-one-out scores.
    rows: Vec<usize>,
    left_out: Vec<f64>,
}

impl<'a> Fitter<'a> {
    fn new(features: &'a Features, labels: &'a PairLabels, prior: &Head, seed: u64) -> Self {
        let prior = Linear::from(prior);
        let target = labels.gain.iter().zip(&labels.weak_fails);
        Self {
            prior_scores: prior.predict(features),
            words: features.words(&prior.idf),
            target: target.map(|(gain, fails)| gain + WEAK_FAILS_WEIGHT * fails).collect(),
            features,
            labels,
            prior,
            seed,
        }
    }

    /// Each fold scored by a fit to the others.
    fn held_out(&self) -> anyhow::Result<HeldOut> {
        let n = self.features.len();
        let fold_of = Random::new(self.seed).folds(n, FOLDS);
        let mut held_out = HeldOut { new: vec![0.0; n], prior: vec![0.0; n] };
        for fold in 0..FOLDS {
            let rows = |inside: bool| -> Vec<usize> {
                let rows = fold_of.iter().enumerate();
                rows.filter(|(_, of)| (**of == fold) == inside).map(|(row, _)| row).collect()
            };
            let learned = rows(false);
            let fit = self.fit(&learned)?;
            let platt = self.calibrate(&fit.left_out, &fit.rows);
            let raw = fit.linear.predict(self.features);
            let known: Vec<f64> = learned.iter().map(|row| self.prior_scores[*row]).collect();
            let prior_platt = self.calibrate(&known, &learned);
            for row in rows(true) {
                if let (Some(new), Some(prior)) =
                    (held_out.new.get_mut(row), held_out.prior.get_mut(row))
                {
                    *new = platt.logit(raw[row]);
                    *prior = prior_platt.logit(self.prior_scores[row]);
                }
            }
        }
        Ok(held_out)
    }

    /// Probability that the weak model's answer is worse, from raw scores of some rows.
    fn calibrate(&self, raw: &[f64], rows: &[usize]) -> Platt {
        let worse = &self.labels.weak_is_worse;
        let worse: Vec<f64> = rows.iter().filter_map(|row| worse.get(*row).copied()).collect();
        Platt::fit(raw, &smoothed(&worse), &vec![1.0; raw.len()])
    }

    /// Ridge with the prior as a feature, then the mixture with the prior that leave-one-out
    /// likes best; of equals the one with more of the fit.
    fn fit(&self, rows: &[usize]) -> anyhow::Result<Fit> {
        let chosen = self.chosen(rows);
        let blocks = Blocks::new(self, &chosen);
        let target = self.standardised(&chosen);
        let dual = Dual::fit(&blocks.kernel(), &target, &PENALTIES).context("no penalty")?;
        let linear = if chosen.len() == rows.len() {
            blocks.weights_of_dual(self, &dual.alpha)
        } else {
            blocks.weights_of_ridge(self, rows, dual.penalty)?
        };
        let new_spread = spread(&dual.left_out);
        let gain: Vec<f64> = chosen.iter().map(|row| self.labels.gain[*row]).collect();
        let prior_z = &blocks.prior;
        let mixed = |share: f64| -> Vec<f64> {
            let mixed = dual.left_out.mapv(|new| (1.0 - share) * new / new_spread);
            (mixed + prior_z.mapv(|prior| share * prior)).to_vec()
        };
        let mut best = (0.0, f64::NEG_INFINITY);
        for share in PRIOR_SHARES {
            let found = correlation(&mixed(share), &gain);
            if found > best.1 {
                best = (share, found);
            }
        }
        let (share, _) = best;
        let linear = linear
            .scaled((1.0 - share) / new_spread)
            .plus(share / blocks.prior_spread, &self.prior)
            .shifted(-share * blocks.prior_mean / blocks.prior_spread);
        Ok(Fit { linear, left_out: mixed(share), rows: chosen })
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

    /// The target of some rows with mean 0 and spread 1.
    fn standardised(&self, rows: &[usize]) -> Array1<f64> {
        let target: Array1<f64> = rows.iter().map(|row| self.target[*row]).collect();
        let centred = &target - target.mean().unwrap_or_default();
        let spread = spread(&centred);
        centred / spread
    }
}

/// The blocks of some rows, centred and scaled by them.
struct Blocks {
    /// `[m, hidden]`, centred.
    embeddings: Array2<f64>,
    embedding_mean: Array1<f64>,
    embedding_scale: f64,
    /// Not centred: that would fill it.
    words: super::features::Sparse,
    word_mean: Array1<f64>,
    word_kernel: Array2<f64>,
    word_scale: f64,
    /// `[m, 18]`, standardised.
    facts: Array2<f64>,
    standard: super::features::Standard,
    fact_scale: f64,
    /// `[m]`, mean 0 and spread 1.
    prior: Array1<f64>,
    prior_mean: f64,
    prior_spread: f64,
}

impl Blocks {
    fn new(of: &Fitter<'_>, rows: &[usize]) -> Self {
        let m = rows.len() as f64;
        let embeddings = of.features.embeddings.select(Axis(0), rows);
        let embedding_mean = embeddings.sum_axis(Axis(0)) / m;
        let embeddings = embeddings - &embedding_mean;

        let words = of.words.select(rows);
        let word_mean = words.transposed_dot(Array1::from_elem(rows.len(), 1.0 / m).view());
        let gram = words.gram();
        let row_means = gram.sum_axis(Axis(1)) / m;
        let mean = row_means.sum() / m;
        let word_kernel = gram - &row_means - row_means.view().insert_axis(Axis(1)) + mean;
        let word_scale = positive(word_kernel.diag().sum() / m);

        let standard = of.features.standard(rows, FACT_FLOOR);
        let facts = standard.apply(&of.features.facts).select(Axis(0), rows);

        let prior: Array1<f64> = rows.iter().map(|row| of.prior_scores[*row]).collect();
        let prior_mean = prior.mean().unwrap_or_default();
        let centred = prior - prior_mean;
        let prior_spread = spread(&centred);
        Self {
            embedding_scale: positive(squares(&embeddings) / m),
            embeddings,
            embedding_mean,
            words,
            word_mean,
            word_kernel: word_kernel / word_scale,
            word_scale,
            fact_scale: positive(squares(&facts) / m),
            facts,
            standard,
            prior: centred / prior_spread,
            prior_mean,
            prior_spread,
        }
    }

    /// `[m, m]`
    fn kernel(&self) -> Array2<f64> {
        let prior = self.prior.view().insert_axis(Axis(1));
        &self.word_kernel
            + &(self.embeddings.dot(&self.embeddings.t()) / self.embedding_scale)
            + &(self.facts.dot(&self.facts.t()) / self.fact_scale)
            + &prior.dot(&prior.t())
    }

    /// β = Xᵀ α of each block, as weights of a head.
    fn weights_of_dual(&self, of: &Fitter<'_>, alpha: &Array1<f64>) -> Linear {
        let words = self.words.transposed_dot(alpha.view()) - &self.word_mean * alpha.sum();
        self.head(
            of,
            self.embeddings.t().dot(alpha) / self.embedding_scale,
            words / self.word_scale,
            self.facts.t().dot(alpha) / self.fact_scale,
            self.prior.dot(alpha),
        )
    }

    /// The same penalty on all rows: λ s_k on a block whose kernel is divided by s_k.
    fn weights_of_ridge(
        &self,
        of: &Fitter<'_>,
        rows: &[usize],
        penalty: f64,
    ) -> anyhow::Result<Linear> {
        let embeddings = of.features.embeddings.select(Axis(0), rows);
        let words = of.words.select(rows);
        let facts = self.standard.apply(&of.features.facts).select(Axis(0), rows);
        let prior: Array1<f64> = rows.iter().map(|row| of.prior_scores[*row]).collect();
        let prior = ((prior - self.prior_mean) / self.prior_spread).insert_axis(Axis(1));
        let dense = |columns, scale: f64| Block {
            columns: Columns::Dense(columns),
            penalty: penalty * scale,
        };
        let blocks = [
            dense(embeddings.view(), self.embedding_scale),
            Block { columns: Columns::Sparse(&words), penalty: penalty * self.word_scale },
            dense(facts.view(), self.fact_scale),
            dense(prior.view(), 1.0),
        ];
        let limits = Limits { steps: 200, residual: 1e-4 };
        let target = of.standardised(rows);
        let ridge = Ridge::fit(&blocks, &target, &Array1::ones(rows.len()), limits);
        let [embedding, words, facts, prior] = ridge.weights.as_slice() else {
            anyhow::bail!("a block is missing");
        };
        let share = prior.sum();
        Ok(self.head(of, embedding.clone(), words.clone(), facts.clone(), share))
    }

    /// Weights on centred, standardised columns → a head on columns as they are.
    fn head(
        &self,
        of: &Fitter<'_>,
        embedding: Array1<f64>,
        words: Array1<f64>,
        facts: Array1<f64>,
        prior: f64,
    ) -> Linear {
        let facts = facts / &self.standard.spread;
        let intercept = -(embedding.dot(&self.embedding_mean)
            + words.dot(&self.word_mean)
            + facts.dot(&self.standard.mean)
            + prior * self.prior_mean / self.prior_spread);
        Linear { embedding, words, idf: of.prior.idf.clone(), facts, intercept }
            .plus(prior / self.prior_spread, &of.prior)
    }
}

fn squares(matrix: &Array2<f64>) -> f64 {
    matrix.iter().map(|value| value * value).sum()
}

/// Standard deviation around 0, never 0.
fn spread(values: &Array1<f64>) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.sum() / n;
    (values.mapv(|value| (value - mean).powi(2)).sum() / n).sqrt().max(1e-9)
}

/// A scale that may be divided by: a block that does not vary adds nothing, whatever its scale.
fn positive(scale: f64) -> f64 {
    if scale > 1e-12 { scale } else { 1.0 }
}

fn table(
    labels: &PairLabels,
    held_out: &HeldOut,
    prior: &[f64],
    words: &[f64],
    random: &[f64],
    seed: u64,
) -> Table {
    let n = labels.rows.len();
    let worse: Vec<bool> = labels.weak_is_worse.iter().map(|worse| *worse > 0.5).collect();
    let of = |values: &[f64], rows: &[usize]| -> Vec<f64> {
        rows.iter().filter_map(|row| values.get(*row).copied()).collect()
    };
    let area = |scores: &[f64]| {
        Draws::new(n, DRAWS, seed, |rows| apgr(&of(scores, rows), &of(&labels.gain, rows)))
    };
    let roc = |scores: &[f64]| {
        let measure = |rows: &[usize]| {
            let class: Vec<bool> = rows.iter().filter_map(|row| worse.get(*row).copied()).collect();
            auroc(&of(scores, rows), &class)
        };
        Draws::new(n, DRAWS, seed, measure).interval()
    };
    let calibration = |logits: &[f64], measure: fn(&[f64], &[f64]) -> f64| {
        Draws::new(n, DRAWS, seed, |rows| {
            let logits = of(logits, rows);
            let probabilities: Vec<f64> =
                logits.iter().map(|logit| super::platt::sigmoid(*logit)).collect();
            Some(measure(&probabilities, &of(&labels.weak_is_worse, rows)))
        })
        .interval()
    };
    let prior_area = area(prior);
    let line = |score, order: &[f64], logits: Option<&[f64]>| {
        let area = area(order);
        let against = (score != "prior").then(|| area.minus(&prior_area).interval()).flatten();
        let calibrated = |measure| logits.and_then(|logits| calibration(logits, measure));
        Line {
            on: "all rows".to_owned(),
            n,
            score,
            figures: vec![
                ("APGR", area.interval()),
                ("APGR minus prior", against),
                ("AUROC", roc(order)),
                ("ECE", calibrated(ece)),
                ("Brier", calibrated(brier)),
            ],
        }
    };
    // The prior's order is the same in every fold, so its logits as they are show it best;
    // probabilities need the calibration that each fold had.
    let lines = vec![
        line("new", &held_out.new, Some(&held_out.new)),
        line("prior", prior, Some(&held_out.prior)),
        line("words", words, None),
        line("random", random, None),
    ];
    Table {
        title: format!("Held out in {FOLDS} folds (event: the weak model's answer is worse)"),
        lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::facts::FACTS;

    const HIDDEN: usize = 6;
    const BUCKETS: usize = 64;

    /// Rows whose embedding is noise but for the sign of its first number: where it is positive
    /// the weak model fails, as often as `reliability` says.
    fn rows(n: usize, reliability: f64, seed: u64) -> (Features, PairLabels, Vec<f64>) {
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
        };
        let words = (0..n).map(|_| random.uniform()).collect();
        (Features::read(&texts, embeddings, BUCKETS), labels, words)
    }

    /// A prior that looks at one number of the embedding.
    fn prior(column: usize) -> Head {
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
        assert!(!pair.prior_kept);
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
    fn labels_that_are_noise_leave_the_order_of_the_prior() {
        // The prior knows all there is to know, and the labels add coin flips.
        let (features, labels, words) = rows(60, 0.9, 5);
        let prior = prior(0);
        let pair = train(&features, &labels, &prior, &words, 1).unwrap();
        assert!(pair.prior_kept, "{}", pair.report);
        let (new, old) = (Linear::from(&pair.head), Linear::from(&prior));
        let (new, old) = (new.predict(&features), old.predict(&features));
        let slope = (new[1] - new[0]) / (old[1] - old[0]);
        assert!(slope > 0.0);
        for row in 1..60 {
            assert!((new[row] - new[0] - slope * (old[row] - old[0])).abs() < 1e-4);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_head() {
        let (features, labels, words) = rows(40, 0.8, 3);
        let fit = || train(&features, &labels, &prior(2), &words, 7).unwrap().head;
        assert_eq!(fit(), fit());
    }

    #[test]
    fn the_kernel_and_the_gradients_find_the_same_weights() {
        let (features, labels, _) = rows(50, 0.8, 4);
        let prior = prior(1);
        let fitter = Fitter::new(&features, &labels, &prior, 1);
        let all: Vec<usize> = (0..50).collect();
        let blocks = Blocks::new(&fitter, &all);
        let dual = Dual::fit(&blocks.kernel(), &fitter.standardised(&all), &[1.0]).unwrap();
        let a = blocks.weights_of_dual(&fitter, &dual.alpha).predict(&features);
        let b = blocks.weights_of_ridge(&fitter, &all, 1.0).unwrap().predict(&features);
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        // And both predict what the kernel says: f = K α.
        let direct = blocks.kernel().dot(&dual.alpha);
        for (a, b) in a.iter().zip(&direct) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}
