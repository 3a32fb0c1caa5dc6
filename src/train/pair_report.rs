//! What the held-out folds of a pair say, for people.

use super::{
    labels::PairLabels,
    pair::{FOLDS, HeldOut},
    platt::sigmoid,
    report::{Line, Table},
};
use crate::{
    classify::queue::DEFAULT_STATIC_MARGIN,
    evaluate::{
        metrics::{Draws, apgr, auroc, brier, ece},
        random::Random,
    },
};

/// Bootstrap draws of each figure.
const DRAWS: usize = 1_000;

/// How much of the prior is in the head.
pub fn share_note(share: f64) -> String {
    if share >= 1.0 {
        "No mixture with the fit holds against the prior on held-out folds: the head keeps the prior's order, with a new calibration.".to_owned()
    } else if share > 0.0 {
        format!(
            "The fit alone looks worse than the prior on held-out folds: the head keeps {:.0} % of the prior.",
            share * 100.0
        )
    } else {
        "The fit holds against the prior on held-out folds and was written as it is.".to_owned()
    }
}

/// That categories shaped the fit, and how well the features tell them.
pub fn category_note(explained: f64) -> String {
    format!(
        "The categories of the labelled rows shaped the fit: the features tell {:.0} % of their variance on rows left out.",
        explained * 100.0
    )
}

/// Whether words and facts may answer without the encoder.
pub fn stage_note(with_stage: bool, misforetold: f64) -> String {
    let (share, margin) = (misforetold * 100.0, DEFAULT_STATIC_MARGIN);
    if with_stage {
        format!(
            "The head has a static stage: words and facts miss its score by more than {margin} on {share:.1} % of held-out rows."
        )
    } else {
        format!(
            "No static stage was written: words and facts miss the score by more than {margin} on {share:.1} % of held-out rows, so the encoder reads every text."
        )
    }
}

/// Figures of the new head, the prior and the baselines; `words` is the length of each prompt.
pub fn table(
    labels: &PairLabels,
    held_out: &HeldOut,
    prior: &[f64],
    words: &[f64],
    seed: u64,
) -> Table {
    let n = labels.rows.len();
    let mut uniform = Random::new(seed ^ 0x5eed);
    let random: Vec<f64> = (0..n).map(|_| uniform.uniform()).collect();
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
            let probabilities: Vec<f64> = logits.iter().map(|logit| sigmoid(*logit)).collect();
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
        line("random", &random, None),
    ];
    Table {
        title: format!("Held out in {FOLDS} folds (event: the weak model's answer is worse)"),
        lines,
    }
}
