//! Hashed words of the rows, for the baseline that knows nothing else.
//!
//! Fitting is left to the caller (training has the arithmetic), so that reading and
//! judging stand below learning.

use crate::classify::{facts::TextFeatures, head::buckets};

/// Buckets of the hashed words, as a general head has them.
pub const BUCKETS: usize = 1 << 16;
/// Distinct buckets kept of one text: bounds memory; a text of more has its rest left out, which
/// is a random part of its words because buckets are hashes.
pub const MAX_WORDS: usize = 512;

/// `(bucket, count)` of one text, ascending by bucket.
pub type Counts = Box<[(u16, u16)]>;

/// Fits to `(rows, targets)` and predicts the target of other rows: `fit(learn, targets, predict)`
/// gives one number for each of `predict`.
pub type Fit<'f> = &'f dyn Fn(&[&Counts], &[f64], &[&Counts]) -> Vec<f64>;

/// The counts of a text.
pub fn counts(text: &str) -> Counts {
    let hashes = TextFeatures::read(text).word_hashes;
    let counted = buckets(&hashes, BUCKETS).into_iter().take(MAX_WORDS);
    counted.map(|(bucket, count)| (bucket as u16, count.min(u32::from(u16::MAX)) as u16)).collect()
}
