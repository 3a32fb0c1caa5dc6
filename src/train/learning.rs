//! The learning curve: what some labels of one's own are worth, on rows that were not learned from.
//!
//! For each number of labels and each seed, that many rows are drawn to train on and all others
//! judge. Beside the new head stand the head it started from, the number of words, and chance.

use anyhow::bail;

use super::{
    features::Features,
    labels::PairLabels,
    linear::Linear,
    pair,
    report::{Line, Report, Table},
};
use crate::{
    classify::head::{Head, sigmoid},
    evaluate::{
        metrics::{Interval, apgr, auroc, ece},
        random::Random,
    },
};

/// Rows that judge are at least this share of all.
const LEAST_TEST_SHARE: f64 = 0.1;

/// The curve over `counts`, each with `seeds` draws. Figures are means over the draws; intervals
/// are those means give or take 1.96 standard errors, so they say how much the draw of labels
/// matters, on this data.
pub fn curve(
    features: &Features,
    labels: &PairLabels,
    prior: &Head,
    words: &[f64],
    counts: &[usize],
    seeds: u64,
) -> anyhow::Result<Report> {
    let n = features.len();
    let (mut lines, mut notes) = (Vec::new(), Vec::new());
    for &count in counts {
        if count < super::labels::LEAST_ROWS
            || (n - count.min(n)) as f64 <= LEAST_TEST_SHARE * n as f64
        {
            bail!("{count} labels of {n} rows leave too little to learn from or to judge on");
        }
        let mut found: Vec<Vec<(&'static str, [f64; 3])>> = Vec::new();
        let mut prior_share = 0.0;
        for seed in 1..=seeds {
            let order = Random::new(seed).permutation(n);
            let (learn, test) = order.split_at(count);
            let (features_of, labels_of) = (features.select(learn), labels.select(learn));
            let words_of: Vec<f64> = learn.iter().map(|row| words[*row]).collect();
            let fitted = pair::train(&features_of, &labels_of, prior, &words_of, seed)?;
            prior_share += fitted.prior_share / seeds as f64;
            let judged = Judged::new(features, labels, test);
            let uniform = &mut Random::new(seed ^ 0x5eed);
            let random: Vec<f64> = test.iter().map(|_| uniform.uniform()).collect();
            let lengths: Vec<f64> = test.iter().map(|row| words[*row]).collect();
            found.push(vec![
                ("trained", judged.of_head(&fitted.head)),
                ("prior", judged.of_head(prior)),
                ("words", judged.of_scores(&lengths)),
                ("random", judged.of_scores(&random)),
            ]);
        }
        let names: Vec<&'static str> = found
            .first()
            .map(|first| first.iter().map(|(name, _)| *name).collect())
            .unwrap_or_default();
        for (at, name) in names.into_iter().enumerate() {
            let figure = |which: usize| {
                let values: Vec<f64> = found.iter().map(|seed| seed[at].1[which]).collect();
                mean_of_draws(&values)
            };
            lines.push(Line {
                on: format!("{count} labels"),
                n: n - count,
                score: name,
                figures: vec![("APGR", figure(0)), ("AUROC", figure(1)), ("ECE", figure(2))],
            });
        }
        notes.push(format!(
            "With {count} labels the head keeps {:.0} % of the prior, mean over the draws.",
            prior_share * 100.0
        ));
    }
    let title =
        format!("Learning curve: mean over {seeds} draws of labels, judged on all other rows (n)");
    Ok(Report { tables: vec![Table { title, lines }], notes })
}

/// The rows that judge.
struct Judged<'a> {
    features: &'a Features,
    rows: &'a [usize],
    gain: Vec<f64>,
    worse: Vec<f64>,
}

impl<'a> Judged<'a> {
    fn new(features: &'a Features, labels: &PairLabels, rows: &'a [usize]) -> Self {
        let pick = |of: &[f64]| rows.iter().map(|row| of[*row]).collect();
        Self { features, rows, gain: pick(&labels.gain), worse: pick(&labels.weak_is_worse) }
    }

    /// APGR, AUROC of "the weak model is worse", calibration error against that.
    fn of_head(&self, head: &Head) -> [f64; 3] {
        let logits = Linear::from(head).predict(self.features);
        let of_rows: Vec<f64> =
            self.rows.iter().map(|row| f64::from(sigmoid(logits[*row] as f32))).collect();
        let [area, roc, _] = self.of_scores(&of_rows);
        [area, roc, ece(&of_rows, &self.worse)]
    }

    /// The same of scores that are no probabilities.
    fn of_scores(&self, scores: &[f64]) -> [f64; 3] {
        let worse: Vec<bool> = self.worse.iter().map(|worse| *worse > 0.5).collect();
        let or_nan = |value: Option<f64>| value.unwrap_or(f64::NAN);
        [or_nan(apgr(scores, &self.gain)), or_nan(auroc(scores, &worse)), f64::NAN]
    }
}

/// The mean with its 95 % interval; `None` where a draw leaves it undefined.
fn mean_of_draws(values: &[f64]) -> Option<Interval> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if mean.is_nan() {
        return None;
    }
    let variance =
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let reach = 1.96 * (variance / n).sqrt();
    Some(Interval { value: mean, low: mean - reach, high: mean + reach })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_draws_worked_by_hand() {
        // Mean 2, standard deviation 1, standard error 1/√3.
        let interval = mean_of_draws(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(interval.value, 2.0);
        assert!((interval.high - 2.0 - 1.96 / 3f64.sqrt()).abs() < 1e-12);
        assert!(mean_of_draws(&[1.0, f64::NAN]).is_none());
    }
}
