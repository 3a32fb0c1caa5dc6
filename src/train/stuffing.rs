//! Copies of prompts with words of other prompts stuffed behind them, and what they ask of a fit:
//! that the score stays where the prompt's own is.
//!
//! ```text
//! Σ_i v_i (β · (φ(x'_i) − φ(x_i)))²        x'_i  the copy of x_i
//! ```
//!
//! A copy has no label, so nothing says how hard stuffed text is, only that it is not harder or
//! easier. Copies of held-out prompts, and those with words of held-out prompts, are not fitted.

use ndarray::Array1;

use super::{
    features::{BUCKETS, Features},
    labels::{AUTHORED, group, groups},
    recipe::Stuffing,
    shifts::{Shifts, Sight},
};
use crate::{
    classify::model::Model,
    evaluate::{
        embed::Embedding,
        random::Random,
        record::weighed,
        rows::{Data, Row},
    },
};

/// Words of another prompt: at least, and how many more at most (chosen).
const LEAST_WORDS: usize = 2;
const MORE_WORDS: usize = 4;
/// How often they stand behind (chosen).
const TIMES: [usize; 3] = [1, 5, 20];
/// Prompts of a data set are copied below this many characters: of longer ones the encoder sees
/// little more than the stuffed end (chosen).
const LONGEST: usize = 1_200;
/// Letters of a word that is lent, at least: shorter ones say little (chosen).
const LEAST_LETTERS: usize = 4;
/// Share of the copies' weight on authored prompts (chosen).
const AUTHORED_SHARE: f64 = 0.5;

/// A prompt with something behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The prompt, as an index into the data's rows.
    pub row: usize,
    /// The prompt that lent the words.
    pub lender: usize,
    /// What is weighed of the copy.
    pub text: String,
}

/// One copy of each authored prompt and of a draw from each data set, the same for the same seed.
pub fn copies(data: &Data, per_root: f64, seed: u64) -> Vec<Copy> {
    let random = &mut Random::new(seed ^ 0x57ff);
    let text = |row: usize| data.rows.get(row).map_or("", |row| row.text.as_str());
    let mut sources = Vec::new();
    for (name, rows) in groups(data) {
        if name == AUTHORED {
            sources.extend(rows);
            continue;
        }
        let count = (per_root * (rows.len() as f64).sqrt()).round() as usize;
        let short: Vec<usize> =
            rows.into_iter().filter(|row| text(*row).chars().count() < LONGEST).collect();
        let order = random.permutation(short.len()).into_iter().take(count);
        sources.extend(order.filter_map(|at| short.get(at).copied()));
    }
    let lenders: Vec<(usize, Vec<&str>)> = sources
        .iter()
        .map(|row| (*row, lent(text(*row))))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    if lenders.len() < 2 {
        return Vec::new();
    }
    let copy = |row: usize| {
        let at = random.below(lenders.len());
        let mut others = [at, at + 1].into_iter().map(|at| at % lenders.len());
        let (lender, words) = lenders.get(others.find(|at| lenders[*at].0 != row)?)?;
        let count = LEAST_WORDS + random.below(MORE_WORDS + 1);
        let phrase: String =
            (0..count).flat_map(|_| [" ", words[random.below(words.len())]]).collect();
        let behind = phrase.repeat(TIMES[random.below(TIMES.len())]);
        let text = weighed(format!("{}{behind}", text(row)));
        Some(Copy { row, lender: *lender, text })
    };
    sources.into_iter().filter_map(copy).collect()
}

/// The words of a text that may stand behind another: of Latin letters, not too short.
fn lent(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_alphabetic());
    words.filter(|word| word.len() >= LEAST_LETTERS && word.is_ascii()).collect()
}

/// The copies and their features, in one order.
pub struct Stuffed {
    copies: Vec<Copy>,
    features: Features,
    /// What they weigh, as a share of the sum of the rows' weights.
    weight: f64,
}

impl Stuffed {
    /// Makes the copies of `data` and embeds them.
    pub fn read(
        data: &Data,
        stuffing: &Stuffing,
        base: &Model,
        embedding: &Embedding<'_>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let copies = copies(data, stuffing.copies_per_root, seed);
        let texts: Vec<&str> = copies.iter().map(|copy| copy.text.as_str()).collect();
        let embeddings = embedding.of(base, &texts)?;
        let features = Features::read(&texts, embeddings, BUCKETS);
        Ok(Self::new(copies, features, stuffing.weight))
    }

    /// Copies with their features, in the same order.
    pub fn new(copies: Vec<Copy>, features: Features, weight: f64) -> Self {
        Self { copies, features, weight }
    }

    /// How the features of copies differ from those of their prompts, as a fit to the `learned`
    /// rows sees them, and what each weighs.
    pub fn shifts(
        &self,
        data: &Data,
        features: &Features,
        learned: &[bool],
        sight: &Sight<'_>,
    ) -> Shifts {
        let is_learned = |row: usize| learned.get(row) == Some(&true);
        let fitted: Vec<usize> = (0..self.copies.len())
            .filter(|at| {
                let copy = self.copies.get(*at);
                copy.is_some_and(|copy| is_learned(copy.row) && is_learned(copy.lender))
            })
            .collect();
        let of: Vec<usize> =
            fitted.iter().filter_map(|at| self.copies.get(*at).map(|copy| copy.row)).collect();
        let rows: Vec<&Row> = of.iter().filter_map(|row| data.rows.get(*row)).collect();
        let (copied, prompts) = (self.features.select(&fitted), features.select(&of));
        Shifts::between(&copied, &prompts, sight, weights(&rows) * self.weight)
    }
}

/// What each copy of these prompts weighs, `[copies]`, of a sum of 1.
fn weights(rows: &[&Row]) -> Array1<f64> {
    let authored: Vec<bool> = rows.iter().map(|row| group(row) == AUTHORED).collect();
    let count = |of: bool| authored.iter().filter(|authored| **authored == of).count() as f64;
    let (with, without) = (count(true), count(false));
    let share = if without == 0.0 { 1.0 } else { AUTHORED_SHARE };
    let rest = if with == 0.0 { 1.0 } else { 1.0 - AUTHORED_SHARE };
    authored.iter().map(|authored| if *authored { share / with } else { rest / without }).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::evaluate::rows::Label;

    /// Sixteen prompts of a data set, nine of another, four authored ones.
    fn data() -> Data {
        let row = |dataset: &str, at: usize, label: Label| Row {
            id: at.to_string(),
            dataset: dataset.to_owned(),
            category: String::new(),
            text: format!("What is {dataset}{at}? Tell me a number{at}, an item or über"),
            label,
        };
        let measured = || Label::Answers(Vec::new());
        let rows = (0..16)
            .map(|at| row("first", at, measured()))
            .chain((0..9).map(|at| row("second", at, measured())))
            .chain((0..4).map(|at| row("own", at, Label::Difficulty(0.5))));
        Data { rows: rows.collect(), ..Data::default() }
    }

    #[test]
    fn copies_are_prompts_with_words_of_another_behind_and_the_same_for_the_same_seed() {
        let data = data();
        let made = copies(&data, 2.0, 1);
        assert_eq!(made, copies(&data, 2.0, 1));
        assert_ne!(made, copies(&data, 2.0, 2));
        let of = |rows: std::ops::Range<usize>| {
            let of: Vec<usize> =
                made.iter().map(|copy| copy.row).filter(|row| rows.contains(row)).collect();
            let distinct: std::collections::BTreeSet<&usize> = of.iter().collect();
            assert_eq!(distinct.len(), of.len(), "one copy a prompt");
            of.len()
        };
        // Twice the root of 16 and of 9, and every authored prompt.
        assert_eq!((of(0..16), of(16..25), of(25..29)), (8, 6, 4));
        for copy in &made {
            assert_ne!(copy.row, copy.lender);
            let behind = copy.text.strip_prefix(&data.rows[copy.row].text).unwrap();
            let words: Vec<&str> = behind.split_whitespace().collect();
            assert!(words.len() >= LEAST_WORDS, "{behind}");
            let lent = lent(&data.rows[copy.lender].text);
            assert!(words.iter().all(|word| lent.contains(word)), "{behind}: {lent:?}");
        }
        assert_eq!(
            lent("Tell me a naïve plan: über x2, café-bar items"),
            ["Tell", "plan", "items"]
        );
    }

    #[test]
    fn nothing_of_a_held_out_prompt_is_fitted_and_half_the_weight_is_on_authored_ones() {
        let data = data();
        let made = copies(&data, 4.0, 1);
        let texts = |of: Vec<&str>| {
            // The embedding is a number of its own for each text, to be known by.
            let embeddings = Array2::from_shape_fn((of.len(), 1), |(row, _)| row as f64);
            Features::read(&of, embeddings, 64)
        };
        let features = texts(data.rows.iter().map(|row| row.text.as_str()).collect());
        let copied = texts(made.iter().map(|copy| copy.text.as_str()).collect());
        let stuffed = Stuffed::new(made.clone(), copied, 0.3);
        let shifts = |learned: &[bool]| {
            let rows: Vec<usize> = (0..29).filter(|row| learned[*row]).collect();
            let (idf, standard) = (features.idf(&rows), features.standard(&rows, 1.0));
            stuffed.shifts(&data, &features, learned, &Sight { idf: &idf, standard: &standard })
        };
        let all = shifts(&[true; 29]);
        assert_eq!(all.weights.len(), made.len());
        let without_first: Vec<bool> = (0..29).map(|row| row >= 16).collect();
        let some = shifts(&without_first);
        let expected: Vec<usize> =
            (0..made.len()).filter(|at| made[*at].row >= 16 && made[*at].lender >= 16).collect();
        assert!(expected.len() > 2 && expected.len() < made.len() / 2, "{expected:?}");
        let shift = |at: &usize| *at as f64 - made[*at].row as f64;
        assert_eq!(
            some.embeddings.column(0).to_vec(),
            expected.iter().map(shift).collect::<Vec<_>>()
        );
        for (shifts, copies) in [(all, (0..made.len()).collect()), (some, expected)] {
            assert!((shifts.weights.sum() - 0.3).abs() < 1e-12);
            let authored: f64 = copies
                .iter()
                .zip(&shifts.weights)
                .filter(|(at, _)| made[**at].row >= 25)
                .map(|(_, weight)| weight)
                .sum();
            assert!((authored - 0.15).abs() < 1e-12, "{authored}");
        }
    }
}
