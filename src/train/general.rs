//! A general head from many models' answers: difficulty with its folds, fit, calibration, figures.
//!
//! What is held out is always a whole data set, because that is how far the shipped head has to
//! reach: traffic that nobody labelled. Authored prompts have one author, so they are held out in
//! folds and say less.

use anyhow::{Context as _, bail};
use ndarray::Array1;

use super::{
    features::Features,
    judge::{Judge, SPLIT},
    labels::{self, AUTHORED, difficulties, groups},
    linear::Linear,
    paraphrases::{self, Paraphrases},
    platt::Platt,
    recipe::Recipe,
    report::Report,
    ridge::{Block, Columns, Limits, Ridge},
    shifts::{Shifts, Sight},
    static_stage,
    stuffing::Stuffed,
};
use crate::{
    classify::queue::DEFAULT_STATIC_MARGIN,
    evaluate::{random::Random, rows::Data},
};

/// Folds of the authored prompts.
const AUTHORED_FOLDS: usize = 4;
/// Where the conjugate gradients stop: early stopping is part of the recipe that was measured.
const LIMITS: Limits = Limits { steps: 50, residual: 2e-3 };
/// Added to a fact's standard deviation against division by zero.
const FACT_FLOOR: f64 = 1e-6;

/// A fitted general head.
pub struct General {
    /// Not calibrated yet.
    pub linear: Linear,
    /// Words and facts that come near it.
    pub stage: Linear,
    /// Its calibration on held-out scores.
    pub platt: Platt,
    /// Held-out figures.
    pub report: Report,
    /// The raw score of each row by a fit that did not see it.
    pub held_out: Vec<f64>,
}

/// Texts without labels that should score as others do.
#[derive(Default)]
pub struct Alike {
    /// Copies of some rows.
    pub stuffed: Option<Stuffed>,
    /// Requests in two wordings.
    pub paraphrases: Option<Paraphrases>,
}

/// Fits on all rows, and on all folds for calibration and figures.
pub fn train(
    data: &Data,
    features: &Features,
    alike: &Alike,
    recipe: &Recipe,
    against: Option<Vec<f64>>,
    seed: u64,
) -> anyhow::Result<General> {
    let difficulty = difficulties(data, &recipe.anchors);
    let fit = Fit { data, features, alike, recipe, difficulty: &difficulty };
    let mut held_out = Array1::zeros(data.rows.len());
    let mut staged = held_out.clone();
    let pairs = alike.paraphrases.as_ref();
    let no_scores = pairs.map_or_else(Vec::new, |pairs| vec![[0.0; 2]; pairs.len()]);
    let (mut pairs_held_out, mut pairs_staged) = (no_scores.clone(), no_scores);
    for fold in &folds(data, pairs, seed)? {
        let (linear, stage) = fit.without(fold)?;
        let (whole, foretold) = (linear.predict(features), stage.predict(features));
        for row in &fold.rows {
            held_out[*row] = whole[*row];
            staged[*row] = foretold[*row];
        }
        let Some(pairs) = pairs.filter(|_| !fold.pairs.is_empty()) else { continue };
        let (whole, foretold) = (pairs.scored(&linear), pairs.scored(&stage));
        for pair in &fold.pairs {
            pairs_held_out[*pair] = whole[*pair];
            pairs_staged[*pair] = foretold[*pair];
        }
    }
    let platt = calibrate(data, &held_out, &difficulty);
    let (linear, stage) = fit.without(&Fold::default())?;
    let judge = Judge {
        data,
        recipe,
        difficulty: difficulty.to_vec(),
        held_out: held_out.to_vec(),
        staged: staged.to_vec(),
        against,
        platt,
        seed,
    };
    let mut report = judge.report();
    if pairs.is_some() {
        let cascade = (SPLIT, f64::from(DEFAULT_STATIC_MARGIN));
        let table = paraphrases::table(&pairs_held_out, &pairs_staged, &platt, cascade, seed);
        report.tables.push(table);
    }
    Ok(General { linear, stage, platt, report, held_out: judge.held_out })
}

/// What every fold is fitted to.
struct Fit<'a> {
    data: &'a Data,
    features: &'a Features,
    alike: &'a Alike,
    recipe: &'a Recipe,
    difficulty: &'a Array1<f64>,
}

impl Fit<'_> {
    /// A fit that sees nothing of `held_out`, and its static stage.
    fn without(&self, held_out: &Fold) -> anyhow::Result<(Linear, Linear)> {
        let mut learned = vec![true; self.features.len()];
        for row in &held_out.rows {
            if let Some(learned) = learned.get_mut(*row) {
                *learned = false;
            }
        }
        let rows: Vec<usize> =
            learned.iter().enumerate().filter(|(_, l)| **l).map(|(row, _)| row).collect();
        let authored = self.recipe.authored.as_ref().map_or(0.0, |authored| authored.weight);
        let weights = labels::row_weights(self.data, &learned, authored);
        let idf = self.features.idf(&rows);
        let words = self.features.words(&idf);
        let standard = self.features.standard(&rows, FACT_FLOOR);
        let facts = standard.apply(&self.features.facts);
        let penalties = self.recipe.penalties;
        let blocks = [
            Block {
                columns: Columns::Dense(self.features.embeddings.view()),
                penalty: penalties.embedding,
            },
            Block { columns: Columns::Sparse(&words), penalty: penalties.words },
            Block { columns: Columns::Dense(facts.view()), penalty: penalties.facts },
        ];
        let shifts = self.shifts(&learned, held_out, &Sight { idf: &idf, standard: &standard })?;
        let differences = shifts.as_ref().map(Shifts::differences);
        let ridge = Ridge::fit_with_differences(
            &blocks,
            differences.as_ref(),
            self.difficulty,
            &weights,
            LIMITS,
        );
        let linear = Linear::from_ridge(&ridge, idf, &standard).context("a block is missing")?;
        let stage = static_stage::distil(self.features, &linear, &weights);
        Ok((linear, stage))
    }

    /// What differs between texts that should score alike, without those in `held_out`.
    fn shifts(
        &self,
        learned: &[bool],
        held_out: &Fold,
        sight: &Sight<'_>,
    ) -> anyhow::Result<Option<Shifts>> {
        let copies = self.alike.stuffed.as_ref();
        let copies = copies.map(|of| of.shifts(self.data, self.features, learned, sight));
        let pairs = self.alike.paraphrases.as_ref().map(|of| {
            let fitted: Vec<usize> =
                (0..of.len()).filter(|pair| !held_out.pairs.contains(pair)).collect();
            of.shifts(&fitted, sight)
        });
        match (copies, pairs) {
            (Some(copies), Some(pairs)) => copies.and(pairs).map(Some),
            (copies, pairs) => Ok(copies.or(pairs)),
        }
    }
}

/// What is held out at once.
#[derive(Default)]
struct Fold {
    /// Indices into the data's rows.
    rows: Vec<usize>,
    /// Indices of paraphrases.
    pairs: Vec<usize>,
}

/// Each data set, and parts of the authored prompts and of the paraphrases.
fn folds(data: &Data, pairs: Option<&Paraphrases>, seed: u64) -> anyhow::Result<Vec<Fold>> {
    let groups = groups(data);
    let sets = groups.keys().filter(|group| **group != AUTHORED).count();
    if sets < 2 {
        bail!("a general head is judged by leaving whole data sets out, and the data holds {sets}");
    }
    let authored = groups.get(AUTHORED).map_or(&[][..], Vec::as_slice);
    let of_rows = Random::new(seed).folds(authored.len(), AUTHORED_FOLDS);
    let of_pairs = pairs.map_or_else(Vec::new, |pairs| pairs.folds(AUTHORED_FOLDS, seed));
    let of = |fold: usize| Fold {
        rows: authored
            .iter()
            .zip(&of_rows)
            .filter(|(_, of)| **of == fold)
            .map(|(r, _)| *r)
            .collect(),
        pairs: (0..of_pairs.len()).filter(|pair| of_pairs.get(*pair) == Some(&fold)).collect(),
    };
    let mut folds: Vec<Fold> = (0..AUTHORED_FOLDS).map(of).collect();
    let sets = groups.into_iter().filter(|(group, _)| *group != AUTHORED);
    folds.extend(sets.map(|(_, rows)| Fold { rows, pairs: Vec::new() }));
    folds.retain(|fold| !(fold.rows.is_empty() && fold.pairs.is_empty()));
    Ok(folds)
}

/// On held-out scores, half the weight for authored prompts: without them the level would be that
/// of examination questions.
fn calibrate(data: &Data, held_out: &Array1<f64>, difficulty: &Array1<f64>) -> Platt {
    let weights = labels::row_weights(data, &vec![true; data.rows.len()], 0.5);
    let soft: Vec<f64> = difficulty.iter().map(|label| label.clamp(0.0, 1.0)).collect();
    Platt::fit(&held_out.to_vec(), &soft, &weights.to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::Array2;

    use super::*;
    use crate::{
        evaluate::rows::{Label, Row},
        train::{recipe::Penalties, stuffing::Copy},
    };

    /// Two data sets and authored prompts; the first number of the embedding is the difficulty.
    fn rows() -> (Data, Features) {
        let mut random = Random::new(11);
        let (n, hidden) = (90, 5);
        let mut embeddings = Array2::from_shape_fn((n, hidden), |_| random.uniform() - 0.5);
        let mut rows = Vec::new();
        for at in 0..n {
            let difficulty = random.uniform();
            embeddings[[at, 0]] = difficulty - 0.5;
            let fails = |strength: f64| f64::from(u8::from(strength > difficulty));
            let label = match at % 3 {
                0 => Label::Difficulty(difficulty),
                _ => Label::Answers(vec![(0, fails(0.3)), (1, fails(0.6)), (2, fails(0.95))]),
            };
            rows.push(Row {
                id: at.to_string(),
                dataset: if at % 3 == 1 { "one" } else { "two" }.to_owned(),
                category: String::new(),
                text: format!("prompt number {}", random.below(7)),
                label,
            });
        }
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let features = Features::read(&texts, embeddings, 64);
        let models = ["a-weak", "b-middle", "c-strong"].map(str::to_owned).to_vec();
        let data = Data { sources: vec![], models, rows };
        (data, features)
    }

    fn recipe() -> Recipe {
        Recipe {
            max_tokens: 256,
            penalties: Penalties { embedding: 0.1, words: 5.0, facts: 100.0 },
            authored: None,
            stuffing: None,
            paraphrases: None,
            anchors: BTreeMap::from([("one".to_owned(), 0.5), ("none".to_owned(), 0.5)]),
            pairs: BTreeMap::from([(
                "one".to_owned(),
                vec![["c-strong".to_owned(), "a-weak".to_owned()]],
            )]),
        }
    }

    #[test]
    fn difficulty_is_learned_and_carried_to_a_data_set_that_was_left_out() {
        let (data, features) = rows();
        let general = train(&data, &features, &Alike::default(), &recipe(), None, 1).unwrap();
        assert!(general.platt.slope > 0.0);
        let lines = &general.report.tables[0].lines;
        let head = lines.iter().find(|line| line.on == "one" && line.score == "head").unwrap();
        assert!(head.figures[2].1.unwrap().value > 0.5, "{}", general.report);
        let order = &general.report.tables[1].lines;
        let one = order.iter().find(|line| line.on == "one").unwrap();
        assert!(one.figures[0].1.unwrap().value > 0.6, "{}", general.report);
        let notes = general.report.notes.join("\n");
        assert!(notes.contains("The anchor for none matches no row"), "{notes}");
        assert!(notes.contains("two: the recipe names no pair"), "{notes}");
    }

    #[test]
    fn the_same_seed_gives_the_same_head_and_report() {
        let (data, features) = rows();
        let fit = || {
            let general = train(&data, &features, &Alike::default(), &recipe(), None, 1).unwrap();
            (general.report.to_string(), general.linear.calibrated(&general.platt))
        };
        assert_eq!(fit(), fit());
    }

    #[test]
    fn a_score_that_stuffing_moves_is_moved_less_by_a_fit_that_saw_copies() {
        let (data, features) = rows();
        let copies: Vec<Copy> = (0..90)
            .map(|row| Copy { row, lender: (row + 1) % 90, text: format!("copy {row}") })
            .collect();
        let texts: Vec<&str> = copies.iter().map(|copy| copy.text.as_str()).collect();
        // Stuffing looks hard: it moves the number that says how hard a prompt is.
        let mut embeddings = features.embeddings.clone();
        embeddings.column_mut(0).mapv_inplace(|hard| hard + 0.3);
        let copied = Features::read(&texts, embeddings, 64);
        let moved = |weight: Option<f64>| {
            let stuffed = weight.map(|weight| Stuffed::new(copies.clone(), copied.clone(), weight));
            let alike = Alike { stuffed, paraphrases: None };
            let general = train(&data, &features, &alike, &recipe(), None, 1).unwrap().linear;
            let moved = general.predict(&copied) - general.predict(&features);
            moved.mapv(f64::abs).mean().unwrap()
        };
        let (without, with) = (moved(None), moved(Some(3.0)));
        assert!(without > 0.1 && with < 0.7 * without, "{without} {with}");
    }

    #[test]
    fn without_copies_the_head_is_the_one_without_stuffing() {
        let (data, features) = rows();
        let nothing = Stuffed::new(vec![], Features::read(&[], Array2::zeros((0, 5)), 64), 0.3);
        let head = |stuffed: Option<Stuffed>| {
            let alike = Alike { stuffed, paraphrases: None };
            let general = train(&data, &features, &alike, &recipe(), None, 1).unwrap();
            general.linear.calibrated_with_stage(general.stage, &general.platt)
        };
        assert_eq!(head(Some(nothing)), head(None));
    }

    #[test]
    fn two_wordings_that_differ_score_closer_in_a_fit_that_saw_such_pairs() {
        let (data, features) = rows();
        let wordings = |shift: f64| {
            let texts: Vec<String> = (0..40).map(|at| format!("request {at}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut random = Random::new(5);
            let mut embeddings = Array2::from_shape_fn((40, 5), |_| random.uniform() - 0.5);
            embeddings.column_mut(0).mapv_inplace(|hard| hard + shift);
            Features::read(&texts, embeddings, 64)
        };
        let figures = |weight: f64| {
            let pairs = Paraphrases::new(wordings(0.0), wordings(0.3), weight);
            let alike = Alike { stuffed: None, paraphrases: Some(pairs) };
            let report = train(&data, &features, &alike, &recipe(), None, 1).unwrap().report;
            let table = report.tables.last().unwrap();
            assert_eq!(table.lines[0].n, 40);
            [0, 1].map(|line: usize| table.lines[line].figures[2].1.unwrap().value)
        };
        let (barely, much) = (figures(1e-6), figures(3.0));
        for line in [0, 1] {
            assert!(much[line] < 0.7 * barely[line], "{line}: {barely:?} {much:?}");
        }
    }

    #[test]
    fn one_data_set_alone_cannot_be_left_out() {
        let (mut data, features) = rows();
        data.rows.iter_mut().for_each(|row| row.dataset = "one".to_owned());
        let error = train(&data, &features, &Alike::default(), &recipe(), None, 1).err().unwrap();
        assert!(error.to_string().contains("the data holds 1"));
    }
}
