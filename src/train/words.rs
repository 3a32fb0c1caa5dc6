//! Words alone: TF-IDF and ridge, the baseline that every router is held against.

use ndarray::Array1;

use super::{
    features::Sparse,
    ridge::{Block, Columns, Limits, Ridge},
};
use crate::evaluate::words::{BUCKETS, Counts};

/// λ, for rows of norm 1 (chosen from by a held-out fifth of the rows).
const PENALTIES: [f64; 3] = [3.0, 10.0, 30.0];
/// Early stopping is harmless here: the penalties are strong.
const LIMITS: Limits = Limits { steps: 40, residual: 1e-3 };
/// One row in this many judges the penalties.
const HELD_OUT: usize = 5;

/// Fits to `learn` with `targets` and predicts `predict`: `(1 + ln count) · idf`, L2-normalised,
/// as a head weighs words.
pub fn fit_and_predict(learn: &[&Counts], targets: &[f64], predict: &[&Counts]) -> Vec<f64> {
    let idf = idf(learn);
    let (rows, asked) = (weighed(learn, &idf), weighed(predict, &idf));
    let targets: Array1<f64> = targets.iter().copied().collect();
    let fit = |penalty: f64, weights: &Array1<f64>| {
        let blocks = [Block { columns: Columns::Sparse(&rows), penalty }];
        Ridge::fit(&blocks, &targets, weights, LIMITS)
    };
    let held_out = |row: usize| row % HELD_OUT == HELD_OUT - 1;
    let weights: Array1<f64> =
        (0..targets.len()).map(|row| f64::from(u8::from(!held_out(row)))).collect();
    let error = |penalty: f64| -> f64 {
        let blocks = [Block { columns: Columns::Sparse(&rows), penalty }];
        let predicted = fit(penalty, &weights).predict(&blocks);
        let squares = predicted.iter().zip(&targets).enumerate();
        squares.filter(|(row, _)| held_out(*row)).map(|(_, (a, b))| (a - b).powi(2)).sum()
    };
    let errors = PENALTIES.map(|penalty| (error(penalty), penalty));
    let best = errors.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
    let penalty = best.map_or(PENALTIES[0], |(_, penalty)| penalty);
    let blocks = [Block { columns: Columns::Sparse(&asked), penalty }];
    fit(penalty, &Array1::ones(targets.len())).predict(&blocks).to_vec()
}

/// `ln((1 + n) / (1 + df)) + 1` where at least two rows hold a bucket, else 0.
fn idf(rows: &[&Counts]) -> Vec<f64> {
    let mut frequency = vec![0u32; BUCKETS];
    for (bucket, _) in rows.iter().flat_map(|row| row.iter()) {
        if let Some(frequency) = frequency.get_mut(usize::from(*bucket)) {
            *frequency += 1;
        }
    }
    let n = 1.0 + rows.len() as f64;
    let weigh = |df: u32| if df >= 2 { (n / (1.0 + f64::from(df))).ln() + 1.0 } else { 0.0 };
    frequency.into_iter().map(weigh).collect()
}

fn weighed(rows: &[&Counts], idf: &[f64]) -> Sparse {
    let rows = rows.iter().map(|row| {
        let weigh = |(bucket, count): &(u16, u16)| {
            let idf = idf.get(usize::from(*bucket)).copied().unwrap_or_default();
            (idf > 0.0).then(|| (u32::from(*bucket), (1.0 + f64::from(*count).ln()) * idf))
        };
        let row: Vec<(u32, f64)> = row.iter().filter_map(weigh).collect();
        let norm = row.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
        row.into_iter().map(|(bucket, value)| (bucket, value / norm)).collect()
    });
    Sparse { rows: rows.collect(), columns: BUCKETS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::words::counts;

    #[test]
    fn a_word_that_tells_is_learned_and_an_unknown_text_gets_the_mean() {
        let (mut texts, mut targets) = (Vec::new(), Vec::new());
        for row in 0..40 {
            texts.push(counts(if row % 2 == 0 { "prove the lemma" } else { "say the word" }));
            targets.push(f64::from(1 - row % 2));
        }
        let learn: Vec<&Counts> = texts.iter().collect();
        let asked = [counts("prove it"), counts("say it"), counts("zzz")];
        let asked: Vec<&Counts> = asked.iter().collect();
        let predicted = fit_and_predict(&learn, &targets, &asked);
        assert!(predicted[0] > 0.6 && predicted[1] < 0.4, "{predicted:?}");
        assert!((predicted[2] - 0.5).abs() < 0.05, "{predicted:?}");
    }
}
