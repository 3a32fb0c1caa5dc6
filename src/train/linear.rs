//! A head on its way: raw, in double precision, added up and scaled before it is calibrated.

use ndarray::{Array1, Array2};

use super::{
    features::{Features, Standard},
    platt::Platt,
    ridge::Ridge,
};
use crate::classify::head::{Head, StaticStage};

/// `raw = w_e · e + w_w · t + w_f · f + b`, in the notation of [`crate::classify::head`].
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[hidden]`
    pub embedding: Array1<f64>,
    /// `[buckets]`
    pub words: Array1<f64>,
    /// `[buckets]`
    pub idf: Vec<f64>,
    /// `[18]`, on facts as they are (0..=1).
    pub facts: Array1<f64>,
    /// Added last.
    pub intercept: f64,
}

impl From<&Head> for Linear {
    fn from(head: &Head) -> Self {
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect();
        Self {
            embedding: wide(&head.embedding),
            words: wide(&head.words),
            idf: head.idf.iter().copied().map(f64::from).collect(),
            facts: wide(&head.facts),
            intercept: f64::from(head.intercept),
        }
    }
}

impl Linear {
    /// From a ridge over the blocks embedding, words, standardised facts. `None` when it has
    /// other blocks.
    pub fn from_ridge(ridge: &Ridge, idf: Vec<f64>, standard: &Standard) -> Option<Self> {
        let [embedding, words, facts] = ridge.weights.as_slice() else { return None };
        // (f − mean) / spread · w = f · (w / spread) − mean · (w / spread)
        let facts = facts / &standard.spread;
        let intercept = ridge.intercept - facts.dot(&standard.mean);
        Some(Self { embedding: embedding.clone(), words: words.clone(), idf, facts, intercept })
    }

    /// Raw scores of all rows, `[n]`.
    pub fn predict(&self, features: &Features) -> Array1<f64> {
        features.embeddings.dot(&self.embedding)
            + features.words(&self.idf).dot(self.words.view())
            + features.facts.dot(&self.facts)
            + self.intercept
    }

    /// `factor · self`
    pub fn scaled(mut self, factor: f64) -> Self {
        self.embedding *= factor;
        self.words *= factor;
        self.facts *= factor;
        self.intercept *= factor;
        self
    }

    /// `self + factor · other`; both must have the same idf.
    pub fn plus(mut self, factor: f64, other: &Self) -> Self {
        self.embedding.scaled_add(factor, &other.embedding);
        self.words.scaled_add(factor, &other.words);
        self.facts.scaled_add(factor, &other.facts);
        self.intercept += factor * other.intercept;
        self
    }

    /// `self + constant`
    pub fn shifted(mut self, constant: f64) -> Self {
        self.intercept += constant;
        self
    }

    /// [`Self::calibrated`], with a model without embedding as its static stage.
    pub fn calibrated_with_stage(self, stage: Self, platt: &Platt) -> Head {
        let Head { words, facts, intercept, .. } = stage.calibrated(platt);
        let static_stage = Some(StaticStage { words, facts, intercept });
        Head { static_stage, ..self.calibrated(platt) }
    }

    /// The head that serves: the calibration is folded into the weights.
    pub fn calibrated(self, platt: &Platt) -> Head {
        let Self { embedding, words, idf, facts, intercept } = self.scaled(platt.slope);
        let narrow = |values: Array1<f64>| values.iter().map(|value| *value as f32).collect();
        Head {
            embedding: narrow(embedding),
            words: narrow(words),
            idf: idf.into_iter().map(|idf| idf as f32).collect(),
            facts: narrow(facts),
            intercept: (intercept + platt.intercept) as f32,
            static_stage: None,
        }
    }
}

/// Embeddings as a matrix, `[n, hidden]`. `None` when their lengths differ.
pub fn matrix(embeddings: &[Vec<f32>]) -> Option<Array2<f64>> {
    let hidden = embeddings.first().map_or(0, Vec::len);
    let flat = embeddings.iter().flatten().copied().map(f64::from).collect();
    Array2::from_shape_vec((embeddings.len(), hidden), flat).ok()
}

#[cfg(test)]
mod tests {
    use ndarray::arr1;

    use super::*;
    use crate::classify::{
        facts::{FACTS, TextFeatures},
        head::sigmoid,
    };

    #[test]
    fn the_head_scores_what_training_predicted() {
        let texts = ["Prove that 2 + 2 = 4.", "hi", "red red red", "Prove that red is a colour"];
        let embeddings: Vec<Vec<f32>> =
            vec![vec![0.6, 0.8], vec![1.0, 0.0], vec![0.0, -1.0], vec![-0.6, 0.8]];
        let features = Features::read(&texts, matrix(&embeddings).unwrap(), 64);
        let linear = Linear {
            embedding: arr1(&[0.5, -1.5]),
            words: Array1::from_shape_fn(64, |at| at as f64 / 20.0 - 1.0),
            idf: features.idf(&[0, 1, 2, 3]),
            facts: Array1::from_shape_fn(FACTS, |at| 1.0 - at as f64 / 9.0),
            intercept: 0.25,
        };
        let platt = Platt { slope: 2.0, intercept: -0.5 };
        let raw = linear.predict(&features);
        let head = linear.calibrated(&platt);
        for ((text, embedding), raw) in texts.iter().zip(&embeddings).zip(raw) {
            let served = head.logit(&head.parts(&TextFeatures::read(text), embedding));
            assert!((f64::from(served) - platt.logit(raw)).abs() < 1e-5);
            assert!((sigmoid(served) - head.score(text, embedding).get()).abs() < 1e-6);
        }
    }
}
