//! What any router must beat: routers that know nothing, little, or everything.

use super::{
    judged::{Judged, Router},
    random::Random,
    sample::Sample,
    words::{Counts, Fit},
};

/// Folds of the baselines that learn from the evaluated rows.
pub const FOLDS: usize = 5;
/// A category's mean counts as much as the mean of all when it has this many rows (chosen: keeps
/// a category of three rows from ruling).
const CATEGORY_PRIOR: f64 = 5.0;
/// Words, each counted once a row, that one fit learns from and one fit predicts: bounds memory to
/// some 100 MB (chosen; 170,000 rows of 12 words or 10,000 of 200).
const MOST_WORDS: usize = 4_000_000;
/// Fewest rows that words are fitted to.
const LEAST_ROWS: usize = 20;

/// Rows with a gain that words are learned from, other than the evaluated ones.
pub struct Lessons {
    /// `[n]`
    pub counts: Vec<Counts>,
    /// `[n]`, strong minus weak.
    pub gains: Vec<f64>,
    /// Where they come from, for the report.
    pub from: String,
}

/// All baselines. `first` is the router under evaluation, whose mix of calls they share.
pub fn routers(
    sample: &Sample,
    judged: &Judged,
    first: &Router,
    fit: Fit<'_>,
    lessons: Option<&Lessons>,
    seed: u64,
) -> Vec<Router> {
    let n = judged.len();
    let mut random = Random::new(seed ^ 0x5eed);
    let uniform: Vec<f64> = (0..n).map(|_| random.uniform()).collect();
    let length: Vec<f64> = sample.rows.iter().map(|row| f64::from(row.length)).collect();
    let gains: Vec<f64> = (0..n).map(|row| judged.gain(row)).collect();
    let folds = Random::new(seed).folds(n, FOLDS);
    let categories: Vec<u32> = sample.rows.iter().map(|row| row.category).collect();
    let by_category = category_means(&gains, &categories, &folds);
    let last = judged.tiers().saturating_sub(1);
    let mut by_rank = |name: &str, note: &str, scores: &[f64]| {
        Router::by_rank(name, note, untied(scores, &mut random), first)
    };
    let mut routers = vec![
        Router::fixed("always cheap", "every call to the cheapest tier", vec![0; n]),
        Router::fixed("always strong", "every call to the strongest tier", vec![last; n]),
        by_rank("random", "a seeded draw", &uniform),
        by_rank("length", "words of the prompt", &length),
    ];
    let counts: Vec<&Counts> = sample.rows.iter().map(|row| &row.counts).collect();
    let (scores, note) = match lessons {
        Some(lessons) => {
            let learn: Vec<&Counts> = lessons.counts.iter().collect();
            let note = format!("TF-IDF and ridge, fitted to {}", lessons.from);
            (bounded(&learn, &lessons.gains, &counts, MOST_WORDS, fit), note)
        }
        None => {
            let note = format!(
                "TF-IDF and ridge, cross-fitted in {FOLDS} folds of the evaluated rows: it has seen their kind, which the model has not"
            );
            (cross_fitted(&counts, &gains, &folds, fit), note)
        }
    };
    if n >= LEAST_ROWS {
        routers.push(by_rank("words", &note, &scores));
    }
    let note = format!(
        "mean gain of the row's category, over the {} folds that do not hold it",
        FOLDS - 1
    );
    routers.push(by_rank("category", &note, &by_category));
    let mut oracle = by_rank("oracle", "knows every result", &gains);
    oracle.tiers.clone_from(&judged.best);
    routers.push(oracle);
    routers
}

/// The place of each row in the order of the scores, equal scores in random order. Thresholds lie at
/// quantiles, so a score of three values would be judged at two of them only, and an oracle on
/// right and wrong answers has three values.
fn untied(scores: &[f64], random: &mut Random) -> Vec<f64> {
    let mut order: Vec<(f64, f64, usize)> =
        scores.iter().enumerate().map(|(row, score)| (*score, random.uniform(), row)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut places = vec![0.0; scores.len()];
    for (place, (_, _, row)) in order.into_iter().enumerate() {
        if let Some(to) = places.get_mut(row) {
            *to = place as f64;
        }
    }
    places
}

/// Each row's prediction by a fit to the other folds.
fn cross_fitted(counts: &[&Counts], gains: &[f64], folds: &[usize], fit: Fit<'_>) -> Vec<f64> {
    let mut scores = vec![0.0; gains.len()];
    for fold in 0..FOLDS {
        let (mut learn, mut targets, mut predict, mut at) = (vec![], vec![], vec![], vec![]);
        for (row, ((counts, gain), of)) in counts.iter().zip(gains).zip(folds).enumerate() {
            if *of == fold {
                predict.push(*counts);
                at.push(row);
            } else {
                learn.push(*counts);
                targets.push(*gain);
            }
        }
        if learn.is_empty() {
            continue;
        }
        let predicted = bounded(&learn, &targets, &predict, MOST_WORDS, fit);
        for (row, score) in at.into_iter().zip(predicted) {
            if let Some(to) = scores.get_mut(row) {
                *to = score;
            }
        }
    }
    scores
}

/// `fit`, which learns from evenly spaced rows that hold about `most` words, and predicts so many at
/// a time.
fn bounded(
    learn: &[&Counts],
    targets: &[f64],
    predict: &[&Counts],
    most: usize,
    fit: Fit<'_>,
) -> Vec<f64> {
    let words: usize = learn.iter().map(|row| row.len()).sum();
    let every = words.div_ceil(most).max(1);
    let learn: Vec<&Counts> = learn.iter().copied().step_by(every).collect();
    let targets: Vec<f64> = targets.iter().copied().step_by(every).collect();
    let mut scores = Vec::with_capacity(predict.len());
    let mut rest = predict;
    while !rest.is_empty() {
        let mut words = 0;
        let fits = rest.iter().take_while(|row| {
            words += row.len();
            words <= most
        });
        let (part, others) = rest.split_at(fits.count().max(1));
        scores.extend(fit(&learn, &targets, part));
        rest = others;
    }
    scores
}

/// The mean gain of each row's category in the other folds, drawn towards the mean of all of them.
fn category_means(gains: &[f64], categories: &[u32], folds: &[usize]) -> Vec<f64> {
    let count = categories.iter().max().map_or(0, |last| *last as usize + 1);
    let mut scores = vec![0.0; gains.len()];
    for fold in 0..FOLDS {
        let mut sums = vec![(0.0, 0.0); count];
        let (mut all, mut n) = (0.0, 0.0);
        for ((gain, category), of) in gains.iter().zip(categories).zip(folds) {
            if let Some((sum, rows)) = sums.get_mut(*category as usize).filter(|_| *of != fold) {
                *sum += gain;
                *rows += 1.0;
                all += gain;
                n += 1.0;
            }
        }
        let mean = if n > 0.0 { all / n } else { 0.0 };
        for ((score, category), of) in scores.iter_mut().zip(categories).zip(folds) {
            if *of == fold {
                let (sum, rows) = sums.get(*category as usize).copied().unwrap_or_default();
                *score = (sum + CATEGORY_PRIOR * mean) / (rows + CATEGORY_PRIOR);
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_mean_never_sees_its_own_row() {
        // Fold 0 holds the first row alone; the others gain 0 and 1 in categories 0 and 1.
        // Category 0 of the others: sum 0, one row; mean of all others ½: (0 + 5·½) / (1 + 5).
        let scores = category_means(&[9.0, 0.0, 1.0], &[0, 0, 1], &[0, 1, 1]);
        assert!((scores[0] - 2.5 / 6.0).abs() < 1e-12, "{scores:?}");
        let other = category_means(&[-9.0, 0.0, 1.0], &[0, 0, 1], &[0, 1, 1]);
        assert_eq!(scores[0], other[0]);
    }

    #[test]
    fn equal_scores_get_places_of_their_own() {
        let mut places = untied(&[1.0, 0.0, 1.0, 2.0], &mut Random::new(1));
        assert_eq!((places[1], places[3]), (0.0, 3.0));
        places.sort_by(f64::total_cmp);
        assert_eq!(places, [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_fit_is_given_no_more_words_than_it_may_hold_and_predicts_every_row() {
        let counts: Vec<Counts> =
            (0..10u16).map(|row| vec![(row, 1), (row + 50, 1)].into()).collect();
        let counts: Vec<&Counts> = counts.iter().collect();
        let gains: Vec<f64> = (0..10).map(f64::from).collect();
        let fit = |learn: &[&Counts], targets: &[f64], predict: &[&Counts]| -> Vec<f64> {
            // 20 words at 6 a fit: every fourth row.
            assert_eq!((learn.len(), targets), (3, &[0.0, 4.0, 8.0][..]));
            assert!(predict.len() <= 3);
            predict.iter().map(|row| f64::from(row[0].0)).collect()
        };
        assert_eq!(bounded(&counts, &gains, &counts, 6, &fit), gains);
    }

    #[test]
    fn words_are_fitted_to_the_other_folds_only() {
        let counts: Vec<Counts> = (0..10u16).map(|row| vec![(row, 1)].into()).collect();
        let counts: Vec<&Counts> = counts.iter().collect();
        let gains: Vec<f64> = (0..10).map(f64::from).collect();
        let folds: Vec<usize> = (0..10).map(|row| row % FOLDS).collect();
        // Predicts how many of the rows it learned from equal the one it is asked for.
        let fit = |learn: &[&Counts], _: &[f64], predict: &[&Counts]| -> Vec<f64> {
            let same = |row: &&Counts| learn.iter().filter(|other| *other == row).count() as f64;
            predict.iter().map(same).collect()
        };
        assert_eq!(cross_fitted(&counts, &gains, &folds, &fit), [0.0; 10]);
    }
}
