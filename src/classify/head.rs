//! The head: embedding, words and facts → one calibrated score.
//!
//! ```text
//! score = σ( w_e · e  +  w_w · t  +  w_f · f  +  b )
//! e  the encoder's embedding, L2-normalised              [hidden]
//! t  hashed words and pairs, (1 + ln count) · idf, L2-normalised   [buckets], sparse
//! f  the facts of [`super::facts`]                        [18]
//! ```
//!
//! A head may have a static stage besides: words and facts alone, which foretell the whole score in
//! microseconds, so that a text far from every threshold need not go through the encoder.
//!
//! The calibration (Platt 1999: σ(a·z + c)) is folded into the weights when they are written, so
//! nothing else happens here. One safetensors file holds it: `embedding`, `words`, `idf`, `facts`,
//! `intercept`, and for the static stage `static_words`, `static_facts`, `static_intercept`, all f32.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::facts::{FACTS, TextFeatures};
use crate::units::Probability;

/// A trained head.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `[hidden]`
    pub embedding: Vec<f32>,
    /// `[buckets]`, a power of two.
    pub words: Vec<f32>,
    /// `[buckets]`; zero for a bucket that training did not see often enough.
    pub idf: Vec<f32>,
    /// `[18]`
    pub facts: Vec<f32>,
    /// Added last.
    pub intercept: f32,
    /// What foretells the score without the encoder.
    pub static_stage: Option<StaticStage>,
}

/// Words and facts whose logit comes near that of the whole head. It shares the head's idf.
#[derive(Debug, Clone, PartialEq)]
pub struct StaticStage {
    /// `[buckets]`
    pub words: Vec<f32>,
    /// `[18]`
    pub facts: Vec<f32>,
    /// Added last.
    pub intercept: f32,
}

/// Why a head cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Not a safetensors file.
    #[error("head.safetensors cannot be read: {0}")]
    Unreadable(String),
    /// A tensor is missing or has another shape or type.
    #[error("head.safetensors: `{name}` must be f32 of shape [{expected}], {found}")]
    Shape {
        /// The tensor.
        name: &'static str,
        /// The shape.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// A score and what each part added to its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parts {
    /// From the embedding.
    pub embedding: f32,
    /// From the words.
    pub words: f32,
    /// From the facts.
    pub facts: f32,
}

impl Head {
    /// Reads the file; `hidden` is the width of the encoder's embedding.
    pub fn from_bytes(bytes: &[u8], hidden: usize) -> Result<Self, HeadError> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|error| HeadError::Unreadable(error.to_string()))?;
        let words = floats(&tensors, "words", None)?;
        if !words.len().is_power_of_two() {
            return Err(HeadError::Shape {
                name: "words",
                expected: "a power of two".to_owned(),
                found: format!("it has {}", words.len()),
            });
        }
        let one = |values: Vec<f32>| values.first().copied().unwrap_or_default();
        let static_stage = match tensors.tensor("static_words") {
            Err(_) => None,
            Ok(_) => Some(StaticStage {
                words: floats(&tensors, "static_words", Some(words.len()))?,
                facts: floats(&tensors, "static_facts", Some(FACTS))?,
                intercept: one(floats(&tensors, "static_intercept", Some(1))?),
            }),
        };
        Ok(Self {
            embedding: floats(&tensors, "embedding", Some(hidden))?,
            idf: floats(&tensors, "idf", Some(words.len()))?,
            words,
            facts: floats(&tensors, "facts", Some(FACTS))?,
            intercept: one(floats(&tensors, "intercept", Some(1))?),
            static_stage,
        })
    }

    /// The file's bytes. `notes` go into its metadata: data, seed, figures.
    pub fn to_bytes(&self, notes: HashMap<String, String>) -> Result<Vec<u8>, HeadError> {
        let intercept = [self.intercept];
        let mut parts: Vec<(&str, &[f32])> = vec![
            ("embedding", &self.embedding),
            ("words", &self.words),
            ("idf", &self.idf),
            ("facts", &self.facts),
            ("intercept", &intercept),
        ];
        let static_intercept = self.static_stage.as_ref().map(|stage| [stage.intercept]);
        if let (Some(stage), Some(intercept)) = (&self.static_stage, &static_intercept) {
            parts.extend([
                ("static_words", stage.words.as_slice()),
                ("static_facts", &stage.facts),
                ("static_intercept", intercept),
            ]);
        }
        let bytes: Vec<(&str, usize, Vec<u8>)> = parts
            .into_iter()
            .map(|(name, values)| {
                (name, values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
            })
            .collect();
        let unreadable =
            |error: safetensors::SafeTensorError| HeadError::Unreadable(error.to_string());
        let views = bytes
            .iter()
            .map(|(name, length, data)| {
                Ok((*name, TensorView::new(Dtype::F32, vec![*length], data).map_err(unreadable)?))
            })
            .collect::<Result<Vec<_>, HeadError>>()?;
        safetensors::serialize(views, Some(notes)).map_err(unreadable)
    }

    /// The score of a text with its embedding.
    pub fn score(&self, text: &str, embedding: &[f32]) -> Probability {
        let parts = self.parts(&TextFeatures::read(text), embedding);
        Probability::clamped(sigmoid(self.logit(&parts)))
    }

    /// The static stage's estimate of [`Self::score`]; `None` without such a stage.
    pub fn static_score(&self, features: &TextFeatures) -> Option<Probability> {
        let stage = self.static_stage.as_ref()?;
        let words = words_part(&features.word_hashes, &stage.words, &self.idf);
        let logit = words + dot(&stage.facts, &features.facts) + stage.intercept;
        Some(Probability::clamped(sigmoid(logit)))
    }

    /// The sum of the parts and the intercept.
    pub fn logit(&self, parts: &Parts) -> f32 {
        parts.embedding + parts.words + parts.facts + self.intercept
    }

    /// What each part adds to the logit.
    pub fn parts(&self, features: &TextFeatures, embedding: &[f32]) -> Parts {
        Parts {
            embedding: dot(&self.embedding, embedding),
            words: words_part(&features.word_hashes, &self.words, &self.idf),
            facts: dot(&self.facts, &features.facts),
        }
    }
}

/// `w_w · t`
fn words_part(hashes: &[(u64, u32)], words: &[f32], idf: &[f32]) -> f32 {
    let (mut dot, mut squares) = (0.0f32, 0.0f32);
    for (bucket, count) in buckets(hashes, words.len()) {
        let value = (1.0 + (count as f32).ln()) * idf.get(bucket).copied().unwrap_or_default();
        dot += value * words.get(bucket).copied().unwrap_or_default();
        squares += value * value;
    }
    if squares > 0.0 { dot / squares.sqrt() } else { 0.0 }
}

/// `(bucket, count)` of each hash, ascending; hashes that share a bucket are counted together.
pub fn buckets(hashes: &[(u64, u32)], buckets: usize) -> Vec<(usize, u32)> {
    let mask = buckets as u64 - 1;
    let mut all: Vec<(usize, u32)> = hashes
        .iter()
        .map(|(hash, count)| (((hash ^ (hash >> 32)) & mask) as usize, *count))
        .collect();
    all.sort_unstable_by_key(|(bucket, _)| *bucket);
    let mut merged: Vec<(usize, u32)> = Vec::with_capacity(all.len());
    for (bucket, count) in all {
        match merged.last_mut() {
            Some((last, total)) if *last == bucket => *total += count,
            _ => merged.push((bucket, count)),
        }
    }
    merged
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// 1 / (1 + e^−z)
pub fn sigmoid(z: f32) -> f32 {
    1.0 / (1.0 + (-z).exp())
}

/// A named f32 vector; `length` when it must have one.
fn floats(
    tensors: &SafeTensors<'_>,
    name: &'static str,
    length: Option<usize>,
) -> Result<Vec<f32>, HeadError> {
    let expected = || length.map_or("any".to_owned(), |length| length.to_string());
    let wrong = |found: String| HeadError::Shape { name, expected: expected(), found };
    let view = tensors.tensor(name).map_err(|_| wrong("it is missing".to_owned()))?;
    let shape_fits = match view.shape() {
        [found] => length.is_none_or(|length| length == *found),
        _ => false,
    };
    if view.dtype() != Dtype::F32 || !shape_fits {
        return Err(wrong(format!("it is {:?} of shape {:?}", view.dtype(), view.shape())));
    }
    let (values, _) = view.data().as_chunks::<4>();
    Ok(values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            embedding: vec![1.0, -2.0],
            words: (0..16).map(|bucket| bucket as f32 * 0.1).collect(),
            idf: vec![1.0; 16],
            facts: vec![0.5; FACTS],
            intercept: -0.25,
            static_stage: Some(StaticStage {
                words: vec![0.25; 16],
                facts: vec![-0.5; FACTS],
                intercept: 0.75,
            }),
        }
    }

    #[test]
    fn a_head_survives_its_file() {
        let notes = HashMap::from([("seed".to_owned(), "1".to_owned())]);
        let bytes = head().to_bytes(notes).unwrap();
        assert_eq!(Head::from_bytes(&bytes, 2).unwrap(), head());
        let whole = Head { static_stage: None, ..head() };
        let bytes_without = whole.to_bytes(HashMap::new()).unwrap();
        assert_eq!(Head::from_bytes(&bytes_without, 2).unwrap(), whole);
        let message = Head::from_bytes(&bytes, 3).unwrap_err().to_string();
        assert!(message.contains("`embedding` must be f32 of shape [3]"), "{message}");
    }

    #[test]
    fn a_score_worked_by_hand() {
        // Two buckets, counts 1 and 3: values 1 and 1 + ln 3; bucket k weighs k/10.
        let hashes = [(2u64, 1u32), (5, 3)];
        let second = 1.0 + 3f32.ln();
        let expected = (0.2 + 0.5 * second) / (1.0 + second * second).sqrt();
        let head = head();
        assert!((words_part(&hashes, &head.words, &head.idf) - expected).abs() < 1e-6);
        // The static stage on the same words and facts of 1: 0.25 · (1 + second) / norm − 9 + 0.75.
        let features = TextFeatures { facts: [1.0; FACTS], word_hashes: hashes.to_vec() };
        let logit = 0.25 * (1.0 + second) / (1.0 + second * second).sqrt() - 8.25;
        let found = head.static_score(&features).unwrap().get();
        assert!((found - sigmoid(logit)).abs() < 1e-7);
        let parts = Parts { embedding: 1.0, words: 0.5, facts: 0.25 };
        assert_eq!(head.logit(&parts), 1.5);
        assert!((sigmoid(0.0) - 0.5).abs() < 1e-7);
    }

    #[test]
    fn hashes_that_share_a_bucket_are_counted_together() {
        let wide = 1u64 << 32;
        // 1 ^ (1 >> 32) = 1; (1<<32 | 0) ^ 1 = …1 in the low bits as well.
        assert_eq!(buckets(&[(1, 2), (wide, 3)], 16), [(1, 5)]);
    }
}
