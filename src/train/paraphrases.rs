//! Requests in two wordings: the score of the one should be that of the other.
//!
//! Pairs have no part in the labels. They are held out in the folds of the authored prompts, so
//! that the figures are those of wordings that a fit has not seen.

use anyhow::Context as _;
use indicatif::ProgressBar;
use ndarray::Array1;

use super::{
    features::{BUCKETS, Features},
    labels::AUTHORED,
    linear::Linear,
    platt::Platt,
    recipe,
    report::{Line, Table},
    shifts::{Shifts, Sight},
};
use crate::{
    classify::model::Model,
    evaluate::{
        embed::Embedding,
        import::{self, Format},
        metrics::Draws,
        random::Random,
        record::{Record, weighed},
        rows::Source,
    },
};

/// Bootstrap draws of each figure.
const DRAWS: usize = 2_000;
/// Where decisions are looked at.
const THRESHOLDS: [(f64, &str); 2] = [(0.42, "flips at 0.42"), (0.50, "flips at 0.50")];

/// The two wordings of each request, in one order.
pub struct Paraphrases {
    first: Features,
    second: Features,
    /// What all of them weigh, as a share of the sum of the rows' weights.
    weight: f64,
    /// Where they come from.
    pub sources: Vec<Source>,
}

impl Paraphrases {
    /// Reads and embeds the pairs that a recipe names.
    pub fn read(
        recipe: &recipe::Paraphrases,
        base: &Model,
        embedding: &Embedding<'_>,
    ) -> anyhow::Result<Self> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let mut take = |record: Record| {
            let other = record.other.get("paraphrase").and_then(|text| text.as_str());
            second.push(weighed(other.context("has no `paraphrase`")?.to_owned()));
            first.push(record.text.unwrap_or_default());
            Ok(())
        };
        let files = std::slice::from_ref(&recipe.file);
        let sources = import::read(files, Some(Format::Rows), &ProgressBar::hidden(), &mut take)?;
        let features = |texts: &[String]| -> anyhow::Result<Features> {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            Ok(Features::read(&texts, embedding.of(base, &texts)?, BUCKETS))
        };
        Ok(Self { sources, ..Self::new(features(&first)?, features(&second)?, recipe.weight) })
    }

    /// Pairs with their features, both in the same order.
    pub fn new(first: Features, second: Features, weight: f64) -> Self {
        Self { first, second, weight, sources: Vec::new() }
    }

    /// Pairs.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The fold in `0..folds` of each pair.
    pub fn folds(&self, folds: usize, seed: u64) -> Vec<usize> {
        Random::new(seed ^ 0x9a1).folds(self.first.len(), folds)
    }

    /// How the wordings of these pairs differ, as a fit sees them; each pair weighs the same.
    pub fn shifts(&self, pairs: &[usize], sight: &Sight<'_>) -> Shifts {
        let weights = Array1::from_elem(pairs.len(), self.weight / pairs.len().max(1) as f64);
        Shifts::between(&self.first.select(pairs), &self.second.select(pairs), sight, weights)
    }

    /// Raw scores of both wordings of every pair.
    pub fn scored(&self, linear: &Linear) -> Vec<[f64; 2]> {
        let (first, second) = (linear.predict(&self.first), linear.predict(&self.second));
        first.into_iter().zip(second).map(|(first, second)| [first, second]).collect()
    }
}

/// The figures of pairs that the fits did not see: `whole` are raw scores of the head, `staged` of
/// the static stage, which takes what is `margin` away from the default threshold.
pub fn table(
    whole: &[[f64; 2]],
    staged: &[[f64; 2]],
    platt: &Platt,
    (threshold, margin): (f64, f64),
    seed: u64,
) -> Table {
    let calibrated = |pair: &[f64; 2]| pair.map(|raw| platt.probability(raw));
    let whole: Vec<[f64; 2]> = whole.iter().map(calibrated).collect();
    let staged: Vec<[f64; 2]> = staged.iter().map(calibrated).collect();
    let served: Vec<[f64; 2]> = whole
        .iter()
        .zip(&staged)
        .map(|(whole, staged)| {
            [0, 1].map(|side: usize| {
                let is_clear = (staged[side] - threshold).abs() >= margin;
                if is_clear { staged[side] } else { whole[side] }
            })
        })
        .collect();
    let line = |score: &'static str, pairs: &[[f64; 2]], is_own: bool| {
        let figure = |measure: &dyn Fn(&[[f64; 2]]) -> f64| {
            let draws = Draws::new(pairs.len(), DRAWS, seed, |drawn| {
                let drawn: Vec<[f64; 2]> =
                    drawn.iter().filter_map(|at| pairs.get(*at).copied()).collect();
                Some(measure(&drawn))
            });
            draws.interval()
        };
        let mut figures: Vec<_> = THRESHOLDS
            .into_iter()
            .map(|(threshold, name)| {
                let of = if is_own { flips } else { unrelated_flips };
                (name, figure(&|pairs| of(pairs, threshold)))
            })
            .collect();
        if is_own {
            figures.push(("mean distance", figure(&mean_distance)));
        }
        Line { on: AUTHORED.to_owned(), n: pairs.len(), score, figures }
    };
    Table {
        title: "Paraphrases that training never saw, held out in folds: decisions that the other wording flips (unrelated: that another request's wording flips)".to_owned(),
        lines: vec![
            line("head", &whole, true),
            line("served", &served, true),
            line("unrelated", &whole, false),
        ],
    }
}

fn share(pairs: &[[f64; 2]], is: impl Fn(&[f64; 2]) -> bool) -> f64 {
    pairs.iter().filter(|pair| is(pair)).count() as f64 / pairs.len().max(1) as f64
}

/// Share of pairs whose wordings lie on two sides.
fn flips(pairs: &[[f64; 2]], threshold: f64) -> f64 {
    share(pairs, |[first, second]| (*first >= threshold) != (*second >= threshold))
}

/// The same if every first wording met every second one.
fn unrelated_flips(pairs: &[[f64; 2]], threshold: f64) -> f64 {
    let first = share(pairs, |pair| pair[0] >= threshold);
    let second = share(pairs, |pair| pair[1] >= threshold);
    first * (1.0 - second) + (1.0 - first) * second
}

fn mean_distance(pairs: &[[f64; 2]]) -> f64 {
    let sum: f64 = pairs.iter().map(|[first, second]| (first - second).abs()).sum();
    sum / pairs.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_worked_by_hand() {
        let pairs = [[0.1, 0.2], [0.1, 0.6], [0.7, 0.3], [0.9, 0.8]];
        assert_eq!(flips(&pairs, 0.5), 0.5);
        // Of the first wordings 2 of 4 lie above, of the second 2 of 4.
        assert_eq!(unrelated_flips(&pairs, 0.5), 0.5);
        assert_eq!(unrelated_flips(&pairs, 0.25), 0.5 * 0.25 + 0.5 * 0.75);
        assert!((mean_distance(&pairs) - 0.275).abs() < 1e-12);
    }

    #[test]
    fn the_stage_takes_what_is_clear_to_it_and_the_head_the_rest() {
        let platt = Platt { slope: 1.0, intercept: 0.0 };
        // As logits: the head says that both wordings are the same, the stage that they differ,
        // in the second pair only near the threshold.
        let (whole, staged) = ([[0.5, 0.5], [0.5, 0.5]], [[-2.0, 2.0], [-0.1, 0.1]]);
        let table = table(&whole, &staged, &platt, (0.5, 0.1), 1);
        let flips = |at: usize| table.lines[at].figures[1].1.unwrap().value;
        assert_eq!((flips(0), flips(1)), (0.0, 0.5));
    }
}
