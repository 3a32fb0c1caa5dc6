//! Labelled prompts → a head.
//!
//! ```text
//! rows → text as served → embedding, words, facts     [`rows`], [`crate::evaluate::embed`], [`features`]
//!      → labels and weights, texts that score alike   [`labels`], [`stuffing`], [`paraphrases`]
//!      → folds → fit → calibration on held-out scores [`general`] or [`pair`]
//!      → head, report, model directory                [`report`], [`output`]
//! ```
//!
//! Two ways in: [`train_general`] learns difficulty from many models' answers, for a head that
//! serves traffic it has no labels of; [`train_pair`] learns one pair's gain from some hundred
//! labels of one's own, starting from such a head. Both are deterministic: the same rows, seed and
//! encoder give the same bytes. The arithmetic is in [`ridge`], [`dual`] and [`platt`], the
//! figures in [`crate::evaluate::metrics`] and [`judge`].

pub mod blocks;
pub mod category;
pub mod dual;
pub mod features;
pub mod general;
pub mod held_out;
pub mod judge;
pub mod labels;
pub mod learning;
pub mod linear;
pub mod output;
pub mod pair;
pub mod pair_report;
pub mod paraphrases;
pub mod platt;
pub mod prior_share;
pub mod recipe;
pub mod report;
pub mod ridge;
pub mod shifts;
pub mod static_stage;
pub mod stuffing;
pub mod words;

use std::path::Path;

use anyhow::Context as _;

use self::{
    features::{BUCKETS, Features},
    general::Alike,
    held_out::HeldOut,
    labels::PairLabels,
    paraphrases::Paraphrases,
    recipe::Recipe,
    report::Report,
    stuffing::Stuffed,
};
use crate::{
    classify::{head::Head, model::Model},
    evaluate::{
        embed::Embedding,
        rows::{self, Data, Source},
    },
};

/// A head and how it came about.
pub struct Trained {
    /// Ready to serve.
    pub head: Head,
    /// Held-out figures.
    pub report: Report,
    /// One sentence: what was learned from what.
    pub method: String,
    /// The files.
    pub sources: Vec<Source>,
    /// Rows that were learned from.
    pub rows: usize,
    /// The recipe's text, where there is one.
    pub recipe: Option<String>,
    /// The seed.
    pub seed: u64,
    /// Of a general head: each row's score by a fit that did not see it.
    pub held_out: Vec<HeldOut>,
}

/// A head for traffic without labels, from many models' answers and authored prompts. `data`
/// holds both; `recipe_text` goes into the record; `against` is another run's held-out scores.
pub fn train_general(
    data: Data,
    recipe: &Recipe,
    recipe_text: String,
    base: &Model,
    embedding: &Embedding<'_>,
    against: Option<&Path>,
    seed: u64,
) -> anyhow::Result<Trained> {
    let against = against.map(|path| held_out::read(path, &data)).transpose()?;
    let features = features(&data, base, embedding, BUCKETS)?;
    let stuffed = recipe
        .stuffing
        .as_ref()
        .map(|stuffing| Stuffed::read(&data, stuffing, base, embedding, seed))
        .transpose()?;
    let paraphrases = recipe
        .paraphrases
        .as_ref()
        .map(|paraphrases| Paraphrases::read(paraphrases, base, embedding))
        .transpose()?;
    let mut sources = data.sources.clone();
    sources.extend(paraphrases.iter().flat_map(|paraphrases| paraphrases.sources.clone()));
    let alike = Alike { stuffed, paraphrases };
    let general = general::train(&data, &features, &alike, recipe, against, seed)?;
    Ok(Trained {
        head: general.linear.calibrated_with_stage(general.stage, &general.platt),
        report: general.report,
        method: "A general head: difficulty of prompts, from many models' answers and from authored prompts.".to_owned(),
        rows: data.rows.len(),
        held_out: held_out::of(&data, &general.held_out),
        sources,
        recipe: Some(recipe_text),
        seed,
    })
}

/// Rows that both models of a pair answered, ready to learn from.
struct PairRows {
    data: Data,
    labels: PairLabels,
    features: Features,
    words: Vec<f64>,
    /// Rows without a result of one of the two.
    unlabelled: usize,
}

impl PairRows {
    fn of(
        data: Data,
        strong: &str,
        weak: &str,
        base: &Model,
        embedding: &Embedding<'_>,
    ) -> anyhow::Result<Self> {
        let labels = PairLabels::of(&data, strong, weak)?;
        let unlabelled = data.rows.len() - labels.rows.len();
        let rows = labels.rows.iter().filter_map(|row| data.rows.get(*row).cloned()).collect();
        let data = Data { rows, ..data };
        let features = features(&data, base, embedding, base.head().words.len())?;
        let words = data.rows.iter().map(rows::Row::words).collect();
        Ok(Self { data, labels, features, words, unlabelled })
    }
}

/// A head for one pair of models, from rows that both answered; the base's head is the prior.
pub fn train_pair(
    data: Data,
    strong: &str,
    weak: &str,
    base: &Model,
    embedding: &Embedding<'_>,
    seed: u64,
) -> anyhow::Result<Trained> {
    let PairRows { data, labels, features, words, unlabelled } =
        PairRows::of(data, strong, weak, base, embedding)?;
    let mut pair = pair::train(&features, &labels, base.head(), &words, seed)
        .context("the head cannot be fitted")?;
    if unlabelled > 0 {
        pair.report.notes.push(format!(
            "{unlabelled} rows lack a result of one of the two models and were left out."
        ));
    }
    Ok(Trained {
        head: pair.head,
        report: pair.report,
        method: format!(
            "A head for one pair: the chance that `{weak}` answers worse than `{strong}`."
        ),
        rows: data.rows.len(),
        sources: data.sources,
        recipe: None,
        seed,
        held_out: Vec::new(),
    })
}

/// What each number of labels of a pair is worth on the rows that it leaves.
pub fn learning_curve(
    data: Data,
    (strong, weak): (&str, &str),
    base: &Model,
    embedding: &Embedding<'_>,
    counts: &[usize],
    seeds: u64,
) -> anyhow::Result<Report> {
    let rows = PairRows::of(data, strong, weak, base, embedding)?;
    learning::curve(&rows.features, &rows.labels, base.head(), &rows.words, counts, seeds)
}

fn features(
    data: &Data,
    base: &Model,
    embedding: &Embedding<'_>,
    buckets: usize,
) -> anyhow::Result<Features> {
    let texts: Vec<&str> = data.rows.iter().map(|row| row.text.as_str()).collect();
    let embeddings = embedding.of(base, &texts)?;
    Ok(Features::read(&texts, embeddings, buckets))
}
