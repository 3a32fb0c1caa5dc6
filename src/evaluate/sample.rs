//! What is kept of the rows: numbers, never texts.
//!
//! A row takes about 150 bytes here, and where words are kept 4 for each distinct word or pair of
//! its text (at most [`words::MAX_WORDS`]). `eval/README.md` has what a whole run takes.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Context as _;
use indicatif::ProgressBar;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{
    embed::Embedder,
    ladder::Ladder,
    record::{Outcome, Record, Served},
    words::{self, Counts},
};
use crate::classify::model::Model;

/// Prompts that are scored together.
pub const CHUNK: usize = 256;

/// What is kept of one prompt.
#[derive(Debug, Clone)]
pub struct Row {
    /// Index into [`Sample::datasets`].
    pub dataset: u32,
    /// Index into [`Sample::categories`].
    pub category: u32,
    /// Words of the text that is weighed.
    pub length: u32,
    /// The model's score, in 0..=1.
    pub score: f32,
    /// The other model's score, where there is one.
    pub against: f32,
    /// By tier, from cheap to strong.
    pub tiers: Box<[TierResult]>,
    /// Hashed words; none where they are not kept.
    pub counts: Counts,
}

/// How a tier did on one prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TierResult {
    /// In 0..=1.
    pub quality: f64,
    /// Dollars; NaN when unknown.
    pub cost: f64,
}

/// The rows of one evaluation.
#[derive(Debug, Default)]
pub struct Sample {
    /// Rows with a result of every tier.
    pub rows: Vec<Row>,
    /// Names of data sets.
    pub datasets: Names,
    /// `data set / category`, for [`Row::category`].
    pub categories: Names,
    /// What routers that ran did.
    pub served: Vec<Served>,
    /// Records that were read.
    pub read: usize,
    /// Records that a filter dropped.
    pub dropped: usize,
    /// Records without a result of every tier.
    pub incomplete: usize,
    /// Records whose id was seen before in the same data set.
    pub repeated: usize,
    /// Models that the data has results of, with their number.
    pub models: BTreeMap<String, usize>,
    /// The model that stood for each tier, with the number of rows.
    pub by_tier: Vec<BTreeMap<String, usize>>,
}

/// Names by number.
#[derive(Debug, Default)]
pub struct Names {
    list: Vec<String>,
    index: HashMap<String, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.index.get(name) {
            return *number;
        }
        let number = self.list.len() as u32;
        self.list.push(name.to_owned());
        self.index.insert(name.to_owned(), number);
        number
    }

    /// The names, by number.
    pub fn list(&self) -> &[String] {
        &self.list
    }
}

/// A model that scores, with its embeddings.
pub struct Scorer<'m> {
    /// The model.
    pub model: &'m Model,
    /// `None` when the embeddings of the first scorer serve this one too.
    pub embedder: Option<Embedder<'m>>,
}

impl Scorer<'_> {
    /// Scores of the texts, in order. `embeddings` are those of the scorer before; this one puts
    /// its own there when it has an embedder.
    pub fn scores(
        &mut self,
        texts: &[&str],
        embeddings: &mut Vec<Vec<f32>>,
    ) -> anyhow::Result<Vec<f32>> {
        if let Some(embedder) = &mut self.embedder {
            *embeddings = embedder
                .embed(texts, &ProgressBar::hidden())
                .context("a prompt cannot be scored")?;
        }
        let head = self.model.head();
        let score = |(text, embedding): (&&str, &Vec<f32>)| head.score(text, embedding).get();
        Ok(texts.iter().zip(embeddings.iter()).map(score).collect())
    }
}

/// Fills a [`Sample`] record by record.
pub struct Collector<'a> {
    ladder: Option<&'a Ladder>,
    scorers: Vec<Scorer<'a>>,
    drop: &'a Map<String, Value>,
    bar: &'a ProgressBar,
    with_words: bool,
    waiting: Vec<(String, Row)>,
    seen: HashSet<[u8; 16]>,
    sample: Sample,
}

impl<'a> Collector<'a> {
    /// `scorers` are one or two; rows whose fields equal one of `drop` are left out. Without a
    /// ladder only what was served is kept.
    pub fn new(
        ladder: Option<&'a Ladder>,
        scorers: Vec<Scorer<'a>>,
        drop: &'a Map<String, Value>,
        bar: &'a ProgressBar,
        with_words: bool,
    ) -> Self {
        let sample = Sample {
            by_tier: vec![BTreeMap::new(); ladder.map_or(0, |ladder| ladder.tiers().len())],
            ..Sample::default()
        };
        let waiting = Vec::with_capacity(CHUNK);
        Self { ladder, scorers, drop, bar, with_words, waiting, seen: HashSet::new(), sample }
    }

    /// Takes one record.
    pub fn take(&mut self, record: Record) -> anyhow::Result<()> {
        let sample = &mut self.sample;
        sample.read += 1;
        if self.drop.iter().any(|(field, value)| record.other.get(field) == Some(value)) {
            sample.dropped += 1;
            return Ok(());
        }
        if !self.seen.insert(id_hash(&record)) {
            sample.repeated += 1;
        }
        sample.served.extend(record.served);
        let results = record.results.unwrap_or_default();
        for model in results.keys() {
            match sample.models.get_mut(model) {
                Some(rows) => *rows += 1,
                None => drop(sample.models.insert(model.clone(), 1)),
            }
        }
        let tiers = self.ladder.and_then(|ladder| tiers(ladder, &results));
        let (Some(tiers), Some(text)) = (tiers, record.text) else {
            sample.incomplete += 1;
            return Ok(());
        };
        for ((model, _), by_tier) in tiers.iter().zip(&mut sample.by_tier) {
            *by_tier.entry((*model).to_owned()).or_default() += 1;
        }
        let category = match record.category.as_str() {
            "" => record.dataset.clone(),
            category => format!("{} / {category}", record.dataset),
        };
        let row = Row {
            dataset: sample.datasets.number(&record.dataset),
            category: sample.categories.number(&category),
            length: text.split_whitespace().count() as u32,
            score: f32::NAN,
            against: f32::NAN,
            tiers: tiers.into_iter().map(|(_, result)| result).collect(),
            counts: if self.with_words { words::counts(&text) } else { Counts::default() },
        };
        self.waiting.push((text, row));
        if self.waiting.len() == CHUNK { self.score() } else { Ok(()) }
    }

    /// Scores what waits and hands the sample over.
    pub fn finish(mut self) -> anyhow::Result<Sample> {
        self.score()?;
        Ok(self.sample)
    }

    fn score(&mut self) -> anyhow::Result<()> {
        let texts: Vec<&str> = self.waiting.iter().map(|(text, _)| text.as_str()).collect();
        let mut embeddings = Vec::new();
        let mut scores: Vec<Vec<f32>> = Vec::new();
        for scorer in &mut self.scorers {
            scores.push(scorer.scores(&texts, &mut embeddings)?);
        }
        self.bar.set_message((self.sample.rows.len() + texts.len()).to_string());
        let of = |scorer: usize, row: usize| {
            scores.get(scorer).and_then(|scores| scores.get(row)).copied().unwrap_or(f32::NAN)
        };
        for (at, (_, mut row)) in self.waiting.drain(..).enumerate() {
            (row.score, row.against) = (of(0, at), of(1, at));
            self.sample.rows.push(row);
        }
        Ok(())
    }
}

/// Each tier's model on a row and how it did; `None` when a tier has no result.
pub fn tiers<'l>(
    ladder: &'l Ladder,
    results: &BTreeMap<String, Outcome>,
) -> Option<Vec<(&'l str, TierResult)>> {
    let tier = |tier: usize| {
        let names = ladder.names(tier).into_iter();
        let (name, outcome) = names.filter_map(|name| Some((name, results.get(name)?))).next()?;
        let by_price = || ladder.price_usd(name, outcome.in_tokens?, outcome.out_tokens?);
        let cost = outcome.cost_usd.or_else(by_price).unwrap_or(f64::NAN);
        Some((name, TierResult { quality: outcome.score, cost }))
    };
    (0..ladder.tiers().len()).map(tier).collect()
}

fn id_hash(record: &Record) -> [u8; 16] {
    let digest = Sha256::new().chain_update(&record.dataset).chain_update([0]);
    let digest: [u8; 32] = digest.chain_update(&record.id).finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}
