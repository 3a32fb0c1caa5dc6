//! The static stage: words and facts fitted to what the whole head says.
//!
//! Words and facts of the whole head are already linear in words and facts; only what the embedding
//! adds has to be foretold. So the stage is the head without its embedding, plus a ridge from words
//! and facts to the embedding's part. It learns from the head alone, never from labels.

use ndarray::Array1;

use super::{
    features::Features,
    linear::Linear,
    ridge::{Block, Columns, Limits, Ridge},
};

/// Strength of the ridge on words and on standardised facts. The target has no noise, so they are
/// weaker than the head's own. Chosen by the error on data sets left out in turn.
const WORD_PENALTY: f64 = 1.0;
const FACT_PENALTY: f64 = 10.0;
const LIMITS: Limits = Limits { steps: 50, residual: 2e-3 };
const FACT_FLOOR: f64 = 0.02;

/// A linear model without embedding that comes near `whole`, from rows of positive weight.
pub fn distil(features: &Features, whole: &Linear, row_weights: &Array1<f64>) -> Linear {
    let rows: Vec<usize> =
        row_weights.iter().enumerate().filter(|(_, w)| **w > 0.0).map(|(row, _)| row).collect();
    let words = features.words(&whole.idf);
    let standard = features.standard(&rows, FACT_FLOOR);
    let facts = standard.apply(&features.facts);
    let blocks = [
        Block { columns: Columns::Sparse(&words), penalty: WORD_PENALTY },
        Block { columns: Columns::Dense(facts.view()), penalty: FACT_PENALTY },
    ];
    let target = features.embeddings.dot(&whole.embedding);
    let ridge = Ridge::fit(&blocks, &target, row_weights, LIMITS);
    let mut stage = whole.clone();
    stage.embedding.fill(0.0);
    if let [words, facts] = ridge.weights.as_slice() {
        let facts = facts / &standard.spread;
        stage.words += words;
        stage.intercept += ridge.intercept - facts.dot(&standard.mean);
        stage.facts += &facts;
    }
    stage
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, arr1};

    use super::*;
    use crate::classify::facts::FACTS;

    #[test]
    fn what_words_can_foretell_is_foretold() {
        // The embedding says whether the text has the word "proof"; the words can say so too.
        let texts: Vec<String> = (0..200)
            .map(|n| format!("{} number {}", if n % 2 == 0 { "proof" } else { "poem" }, n % 5))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embeddings = Array2::from_shape_fn((200, 1), |(row, _)| (row % 2) as f64);
        let features = Features::read(&texts, embeddings, 1 << 10);
        let whole = Linear {
            embedding: arr1(&[2.0]),
            words: Array1::zeros(1 << 10),
            idf: features.idf(&(0..200).collect::<Vec<_>>()),
            facts: Array1::zeros(FACTS),
            intercept: -0.5,
        };
        let weights = Array1::from_shape_fn(200, |row| f64::from(u8::from(row < 150)));
        let stage = distil(&features, &whole, &weights);
        assert_eq!(stage.embedding[0], 0.0);
        let (found, expected) = (stage.predict(&features), whole.predict(&features));
        for row in 150..200 {
            assert!((found[row] - expected[row]).abs() < 0.2, "{} {}", found[row], expected[row]);
        }
    }
}
