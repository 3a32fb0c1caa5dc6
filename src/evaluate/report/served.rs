//! What a router that ran did, by its log or its predictions: no other model's answers are
//! needed, so it says how good and dear the traffic was, not what another choice would have given.

use std::collections::BTreeMap;

use serde::Serialize;

use super::build::{mean, wilson};
use crate::evaluate::{
    curve::arena_score,
    metrics::{Interval, auroc, brier, ece},
    record::Served,
};

/// Answers judged below this did not do.
const FAILS_BELOW: f64 = 0.5;

/// The traffic as it was served.
#[derive(Debug, Clone, Serialize)]
pub struct ServedReport {
    /// Prompts.
    pub n: usize,
    /// Prompts whose answer was judged.
    pub judged: usize,
    /// Mean score of judged answers.
    pub quality: Option<Interval>,
    /// Dollars for a thousand prompts, over those whose cost is known.
    pub usd_per_thousand: Option<Interval>,
    /// RouterArena's score of these two ([`arena_score`]).
    pub arena: Option<f64>,
    /// By model (in a log: `tier / model`).
    pub models: Vec<ServedLine>,
    /// How the recorded scores meet the judgements of what was sent below the threshold.
    pub scores: Option<ServedScores>,
}

/// One model's part.
#[derive(Debug, Clone, Serialize)]
pub struct ServedLine {
    /// `tier / model`.
    pub name: String,
    /// Prompts.
    pub n: usize,
    /// Judged ones.
    pub judged: usize,
    /// Their mean score.
    pub quality: Option<Interval>,
    /// Dollars for a thousand prompts.
    pub usd_per_thousand: Option<Interval>,
}

/// Recorded scores against "the answer did not do", over judged answers that were sent below the
/// threshold: above it nobody knows what the cheap model would have answered.
#[derive(Debug, Clone, Serialize)]
pub struct ServedScores {
    /// Prompts.
    pub n: usize,
    /// Share that did not do.
    pub failed: Interval,
    /// Order.
    pub auroc: Option<f64>,
    /// Squared distance.
    pub brier: f64,
    /// Calibration.
    pub ece: f64,
}

impl ServedReport {
    /// `None` when nothing was served.
    pub fn of(served: &[Served]) -> Option<Self> {
        if served.is_empty() {
            return None;
        }
        let mut groups: BTreeMap<String, Vec<&Served>> = BTreeMap::new();
        for one in served {
            let name = match &one.tier {
                Some(tier) => format!("{tier} / {}", one.model),
                None => one.model.clone(),
            };
            groups.entry(name).or_default().push(one);
        }
        let all: Vec<&Served> = served.iter().collect();
        let ServedLine { n, judged, quality, usd_per_thousand, .. } = line(String::new(), &all);
        let both = quality.zip(usd_per_thousand);
        Some(Self {
            n,
            judged,
            quality,
            usd_per_thousand,
            arena: both.and_then(|(quality, usd)| arena_score(quality.value, usd.value)),
            models: groups.into_iter().map(|(name, of)| line(name, &of)).collect(),
            scores: scores(served),
        })
    }
}

fn line(name: String, served: &[&Served]) -> ServedLine {
    let quality: Vec<f64> = served.iter().filter_map(|one| one.quality).collect();
    let usd: Vec<f64> = served.iter().filter_map(|one| Some(1_000.0 * one.cost_usd?)).collect();
    ServedLine {
        name,
        n: served.len(),
        judged: quality.len(),
        quality: (!quality.is_empty()).then(|| mean(&quality)),
        usd_per_thousand: (!usd.is_empty()).then(|| mean(&usd)),
    }
}

fn scores(served: &[Served]) -> Option<ServedScores> {
    let judged = served.iter().filter_map(|one| {
        let (score, quality) = (one.score?, one.quality?);
        (score < one.threshold?).then_some((score, quality < FAILS_BELOW))
    });
    let (scores, failed): (Vec<f64>, Vec<bool>) = judged.unzip();
    if scores.is_empty() {
        return None;
    }
    let labels: Vec<f64> = failed.iter().map(|failed| f64::from(u8::from(*failed))).collect();
    Some(ServedScores {
        n: scores.len(),
        failed: wilson(failed.iter().filter(|failed| **failed).count(), failed.len()),
        auroc: auroc(&scores, &failed),
        brier: brier(&scores, &labels),
        ece: ece(&scores, &labels),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_worked_by_hand() {
        let one = |model: &str, score, quality: Option<f64>, cost| Served {
            model: model.to_owned(),
            tier: Some("t".to_owned()),
            score: Some(score),
            threshold: Some(0.4),
            quality,
            cost_usd: Some(cost),
        };
        let served = [
            one("a", 0.1, Some(1.0), 0.001),
            one("a", 0.3, Some(0.0), 0.001),
            one("b", 0.9, Some(1.0), 0.01),
            one("b", 0.9, None, 0.01),
        ];
        let report = ServedReport::of(&served).unwrap();
        assert_eq!((report.n, report.judged), (4, 3));
        assert!((report.usd_per_thousand.unwrap().value - 5.5).abs() < 1e-9);
        assert_eq!(report.models[1].quality.unwrap().value, 1.0);
        // Below the threshold: 0.1 did, 0.3 did not.
        let scores = report.scores.unwrap();
        assert_eq!((scores.n, scores.auroc), (2, Some(1.0)));
        assert!((scores.brier - (0.01 + 0.49) / 2.0).abs() < 1e-12);
        assert!(ServedReport::of(&[]).is_none());
    }
}
