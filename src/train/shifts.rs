//! Pairs of texts that should get one score: how their features differ, and what that asks of a fit.
//!
//! ```text
//! Σ_i v_i (β · (φ(x'_i) − φ(x_i)))²
//! ```

use ndarray::{Array1, Array2, Axis, concatenate};

use super::{
    features::{Features, Sparse, Standard},
    ridge::{Columns, Differences},
};

/// What a fit has learned of its rows before it weighs features.
pub struct Sight<'a> {
    /// `[buckets]`
    pub idf: &'a [f64],
    /// Of the facts.
    pub standard: &'a Standard,
}

/// Texts minus those that they should score like, block by block, `m` of them.
pub struct Shifts {
    /// `[m, hidden]`
    pub embeddings: Array2<f64>,
    /// `[m, buckets]`
    words: Sparse,
    /// `[m, 18]`, standardised.
    facts: Array2<f64>,
    /// v, `[m]`, in the unit of the row weights.
    pub weights: Array1<f64>,
}

impl Shifts {
    /// `texts` minus `others`, in the same order and number.
    pub fn between(
        texts: &Features,
        others: &Features,
        sight: &Sight<'_>,
        weights: Array1<f64>,
    ) -> Self {
        Self {
            embeddings: &texts.embeddings - &others.embeddings,
            words: texts.words(sight.idf).minus(&others.words(sight.idf)),
            facts: (&texts.facts - &others.facts) / &sight.standard.spread,
            weights,
        }
    }

    /// These and others.
    pub fn and(self, other: Self) -> anyhow::Result<Self> {
        let stacked = |a: Array2<f64>, b: Array2<f64>| concatenate(Axis(0), &[a.view(), b.view()]);
        Ok(Self {
            embeddings: stacked(self.embeddings, other.embeddings)?,
            words: self.words.and(&other.words),
            facts: stacked(self.facts, other.facts)?,
            weights: concatenate(Axis(0), &[self.weights.view(), other.weights.view()])?,
        })
    }

    /// In the order of the head's blocks.
    pub fn differences(&self) -> Differences<'_> {
        Differences {
            columns: vec![
                Columns::Dense(self.embeddings.view()),
                Columns::Sparse(&self.words),
                Columns::Dense(self.facts.view()),
            ],
            weights: self.weights.clone(),
        }
    }
}
