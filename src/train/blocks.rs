//! What a pair's head is fitted to: kernels of four blocks of columns, and the way from a fit in
//! kernels back to weights of a head.
//!
//! ```text
//! K = K_embedding + 3 K_words + ½ K_facts + ⅕ p pᵀ      p  the prior's score
//! ```
//!
//! Each kernel is centred and scaled to mean diagonal 1 before it is weighed. Kernels of linear
//! blocks are weights in disguise: `β = Xᵀ α`.

use anyhow::bail;
use ndarray::{Array1, Array2, Axis};

use super::{
    category::Kinds,
    features::{Features, Sparse, Standard},
    linear::Linear,
    ridge::{Block, Columns, Limits, Ridge},
};

/// Weights of the kernels of words, facts and the prior's score beside that of the embedding
/// (measured: a plateau; see the model card).
const WORDS_WEIGHT: f64 = 3.0;
const FACTS_WEIGHT: f64 = 0.5;
const PRIOR_WEIGHT: f64 = 0.2;
/// Added to a fact's standard deviation (chosen): a head has no clipping, so a fact that hardly
/// varies in few rows must not get a steep weight.
const FACT_FLOOR: f64 = 0.02;

/// What all fits share: the columns of every row.
pub struct Sight<'a> {
    /// All rows.
    pub features: &'a Features,
    /// The head that training starts from.
    pub prior: Linear,
    /// Its raw score of each row, `[n]`.
    pub prior_scores: Array1<f64>,
    /// Words under its idf.
    words: Sparse,
}

impl<'a> Sight<'a> {
    /// The rows as the prior sees them.
    pub fn new(features: &'a Features, prior: Linear) -> Self {
        Self {
            prior_scores: prior.predict(features),
            words: features.words(&prior.idf),
            features,
            prior,
        }
    }
}

/// The blocks of some rows, centred and scaled by them.
pub struct Blocks {
    /// `[m, hidden]`, centred.
    embeddings: Array2<f64>,
    embedding_mean: Array1<f64>,
    embedding_scale: f64,
    /// Not centred: that would fill it.
    words: Sparse,
    word_mean: Array1<f64>,
    /// `[m, m]`, weighed.
    word_kernel: Array2<f64>,
    word_scale: f64,
    /// `[m, 18]`, standardised.
    facts: Array2<f64>,
    standard: Standard,
    fact_scale: f64,
    /// `[m]`: the prior's score with mean 0 and spread 1.
    pub prior: Array1<f64>,
    /// Of the prior's score.
    pub prior_mean: f64,
    /// Of the prior's score, above 0.
    pub prior_spread: f64,
}

impl Blocks {
    /// The blocks of `rows`.
    pub fn new(of: &Sight<'_>, rows: &[usize]) -> Self {
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
        let word_scale = positive(word_kernel.diag().sum() / m) / WORDS_WEIGHT;

        let standard = of.features.standard(rows, FACT_FLOOR);
        let facts = standard.apply(&of.features.facts).select(Axis(0), rows);

        let prior: Array1<f64> = rows.iter().map(|row| of.prior_scores[*row]).collect();
        let prior_mean = prior.mean().unwrap_or_default();
        let prior_spread = spread(&prior);
        Self {
            embedding_scale: positive(squares(&embeddings) / m),
            embeddings,
            embedding_mean,
            words,
            word_mean,
            word_kernel: word_kernel / word_scale,
            word_scale,
            fact_scale: positive(squares(&facts) / m) / FACTS_WEIGHT,
            facts,
            standard,
            prior: (prior - prior_mean) / prior_spread,
            prior_mean,
            prior_spread,
        }
    }

    /// `[m, m]`
    pub fn kernel(&self) -> Array2<f64> {
        let prior = self.prior.view().insert_axis(Axis(1));
        &self.word_kernel
            + &(self.embeddings.dot(&self.embeddings.t()) / self.embedding_scale)
            + &(self.facts.dot(&self.facts.t()) / self.fact_scale)
            + &(prior.dot(&prior.t()) * PRIOR_WEIGHT)
    }

    /// β = Xᵀ α of each block, as weights of a head.
    pub fn weights_of_dual(&self, of: &Sight<'_>, alpha: &Array1<f64>) -> Linear {
        let words = self.words.transposed_dot(alpha.view()) - &self.word_mean * alpha.sum();
        self.head(
            of,
            self.embeddings.t().dot(alpha) / self.embedding_scale,
            words / self.word_scale,
            self.facts.t().dot(alpha) / self.fact_scale,
            self.prior.dot(alpha) * PRIOR_WEIGHT,
        )
    }

    /// The same penalty on other rows, `[rows]` of them in `target`: λ s_k on a block whose kernel
    /// is divided by s_k, and λ / w on the scores of kinds.
    pub fn weights_of_ridge(
        &self,
        of: &Sight<'_>,
        rows: &[usize],
        target: &Array1<f64>,
        penalty: f64,
        kinds: Option<&Kinds>,
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
        let mut blocks = vec![
            dense(embeddings.view(), self.embedding_scale),
            Block { columns: Columns::Sparse(&words), penalty: penalty * self.word_scale },
            dense(facts.view(), self.fact_scale),
            dense(prior.view(), 1.0 / PRIOR_WEIGHT),
        ];
        let heads: Vec<Linear> = kinds.map_or_else(Vec::new, |kinds| {
            kinds
                .dual
                .columns()
                .into_iter()
                .map(|b| self.weights_of_dual(of, &b.to_owned()))
                .collect()
        });
        let mut scores = Array2::zeros((rows.len(), heads.len()));
        for (mut column, head) in scores.columns_mut().into_iter().zip(&heads) {
            let predicted = head.predict(of.features);
            column.assign(&predicted.select(Axis(0), rows));
        }
        if let Some(kinds) = kinds {
            blocks.push(dense(scores.view(), 1.0 / kinds.weight));
        }
        let limits = Limits { steps: 200, residual: 1e-4 };
        let ridge = Ridge::fit(&blocks, target, &Array1::ones(rows.len()), limits);
        let [embedding, words, facts, prior, of_kinds @ ..] = ridge.weights.as_slice() else {
            bail!("a block is missing");
        };
        let share = prior.sum();
        let head = self.head(of, embedding.clone(), words.clone(), facts.clone(), share);
        let of_kinds = of_kinds.iter().flatten().zip(&heads);
        Ok(of_kinds.fold(head, |head, (weight, kind)| head.plus(*weight, kind)))
    }

    /// Weights on centred, standardised columns → a head on columns as they are.
    fn head(
        &self,
        of: &Sight<'_>,
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

/// Standard deviation, never 0.
pub fn spread(values: &Array1<f64>) -> f64 {
    let n = values.len().max(1) as f64;
    let mean = values.sum() / n;
    (values.mapv(|value| (value - mean).powi(2)).sum() / n).sqrt().max(1e-9)
}

/// With mean 0 and spread 1.
pub fn standardised(values: &Array1<f64>) -> Array1<f64> {
    let centred = values - values.mean().unwrap_or_default();
    let spread = spread(&centred);
    centred / spread
}

/// A scale that may be divided by: a block that does not vary adds nothing, whatever its scale.
fn positive(scale: f64) -> f64 {
    if scale > 1e-12 { scale } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        evaluate::random::Random,
        train::{dual::Dual, pair::tests},
    };

    #[test]
    fn the_kernel_and_the_gradients_find_the_same_weights() {
        let (features, labels, _) = tests::rows(50, 0.8, 4);
        let sight = Sight::new(&features, Linear::from(&tests::prior(1)));
        let all: Vec<usize> = (0..50).collect();
        let blocks = Blocks::new(&sight, &all);
        let target = standardised(&labels.gain.iter().copied().collect());
        let dual = Dual::fit(&blocks.kernel(), std::slice::from_ref(&target), &[1.0]).remove(0);
        let a = blocks.weights_of_dual(&sight, &dual.alpha).predict(&features);
        let ridge = blocks.weights_of_ridge(&sight, &all, &target, 1.0, None).unwrap();
        for (a, b) in a.iter().zip(&ridge.predict(&features)) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        // And both predict what the kernel says: f = K α.
        let direct = blocks.kernel().dot(&dual.alpha);
        for (a, b) in a.iter().zip(&direct) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }

    #[test]
    fn with_kinds_the_kernel_and_the_gradients_find_the_same_weights() {
        let (features, labels, _) = tests::rows(50, 0.8, 4);
        let sight = Sight::new(&features, Linear::from(&tests::prior(1)));
        let all: Vec<usize> = (0..50).collect();
        let blocks = Blocks::new(&sight, &all);
        let kernel = blocks.kernel();
        let side = |row: usize| if features.embeddings[[row, 0]] > 0.0 { "hard" } else { "easy" };
        let kinds = Kinds::learn(&kernel, &(0..50).map(side).collect::<Vec<_>>()).unwrap();
        let target = standardised(&labels.gain.iter().copied().collect());
        let kernel = kinds.added_to(kernel);
        let dual = Dual::fit(&kernel, std::slice::from_ref(&target), &[1.0]).remove(0);
        let a = blocks.weights_of_dual(&sight, &kinds.folded(&dual.alpha)).predict(&features);
        let ridge = blocks.weights_of_ridge(&sight, &all, &target, 1.0, Some(&kinds)).unwrap();
        for (a, b) in a.iter().zip(&ridge.predict(&features)) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        for (a, b) in a.iter().zip(&kernel.dot(&dual.alpha)) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }

    #[test]
    fn blocks_weigh_what_they_are_said_to() {
        let texts: Vec<String> = (0..40)
            .map(|row| format!("{} line {}", "many ".repeat(row), "end. ".repeat(row % 3)))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (drawn, ..) = tests::rows(40, 0.8, 2);
        let features = Features::read(&texts, drawn.embeddings, tests::BUCKETS);
        let sight = Sight::new(&features, Linear::from(&tests::prior(1)));
        let rows = Random::new(1).permutation(40);
        let kernel = Blocks::new(&sight, &rows).kernel();
        let expected = 1.0 + WORDS_WEIGHT + FACTS_WEIGHT + PRIOR_WEIGHT;
        let found = kernel.diag().sum() / 40.0;
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        assert!(kernel.sum_axis(Axis(0)).iter().all(|sum| sum.abs() < 1e-9), "centred");
    }
}
