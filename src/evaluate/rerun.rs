//! Another policy on labelled rows: each row is scored once and sent where either side would.
//!
//! What changes is counted by [`Replayed`]. Rows come as a stream: only those of one chunk are in
//! memory.

use std::{collections::BTreeMap, path::PathBuf};

use indicatif::ProgressBar;

use super::{
    Tools, import,
    ladder::Ladder,
    record::Record,
    replay::{Choice, Replayed},
    sample::{CHUNK, Scorer, TierResult, tiers},
};
use crate::units::NanoUsd;

/// Sends every row of the files where `before` and `after` would. Without `before`, everything
/// went to the strongest tier of `after`.
pub fn rerun(
    paths: &[PathBuf],
    before: Option<&Ladder>,
    after: &Ladder,
    tools: &Tools<'_>,
) -> anyhow::Result<Replayed> {
    let bar = tools.bar(paths)?;
    let mut rerun = Rerun {
        before,
        after,
        scorer: tools.scorer()?,
        bar: &bar,
        scored: 0,
        waiting: Vec::with_capacity(CHUNK),
        models: BTreeMap::new(),
        replayed: Replayed::default(),
    };
    import::read(paths, None, &bar, &mut |record| rerun.take(record))?;
    rerun.score()?;
    bar.finish_and_clear();
    if rerun.replayed.requests == 0 {
        return Err(super::ladder::no_row(after, &rerun.models));
    }
    Ok(rerun.replayed.finish())
}

/// A row on its way to its score, with each side's tiers by model and result.
struct Waiting {
    text: String,
    id: String,
    before: Option<Tiers>,
    after: Tiers,
}

type Tiers = Vec<(String, TierResult)>;

struct Rerun<'a> {
    before: Option<&'a Ladder>,
    after: &'a Ladder,
    scorer: Scorer<'a>,
    bar: &'a ProgressBar,
    scored: usize,
    waiting: Vec<Waiting>,
    models: BTreeMap<String, usize>,
    replayed: Replayed,
}

impl Rerun<'_> {
    fn take(&mut self, record: Record) -> anyhow::Result<()> {
        let results = record.results.unwrap_or_default();
        for model in results.keys() {
            *self.models.entry(model.clone()).or_default() += 1;
        }
        let of = |ladder: &Ladder| -> Option<Tiers> {
            let tiers = tiers(ladder, &results)?.into_iter();
            Some(tiers.map(|(model, result)| (model.to_owned(), result)).collect())
        };
        let before = self.before.map(of);
        let (Some(after), Some(text), false) =
            (of(self.after), record.text, matches!(before, Some(None)))
        else {
            self.replayed.incomplete += 1;
            return Ok(());
        };
        self.waiting.push(Waiting { text, id: record.id, before: before.flatten(), after });
        if self.waiting.len() == CHUNK { self.score() } else { Ok(()) }
    }

    fn score(&mut self) -> anyhow::Result<()> {
        let texts: Vec<&str> = self.waiting.iter().map(|row| row.text.as_str()).collect();
        let scores = self.scorer.scores(&texts, &mut Vec::new())?;
        self.scored += texts.len();
        self.bar.set_message(self.scored.to_string());
        let strongest = self.after.tiers().last().map(|tier| tier.name.as_str());
        for (row, score) in self.waiting.drain(..).zip(scores) {
            let sent = |ladder: &Ladder| ladder.tier_of(f64::from(score));
            let after = choice(self.after, &row.after, sent(self.after));
            let before = match (self.before, &row.before) {
                (Some(ladder), Some(tiers)) => choice(ladder, tiers, sent(ladder)),
                _ => choice(self.after, &row.after, self.after.tiers().len().saturating_sub(1)),
            };
            self.replayed.compare(&row.id, Some(score), strongest, before, after);
        }
        Ok(())
    }
}

fn choice<'a>(ladder: &'a Ladder, tiers: &'a Tiers, tier: usize) -> Choice<'a> {
    let found = tiers.get(tier);
    let cost = found.map(|(_, result)| result.cost).filter(|cost| !cost.is_nan());
    Choice {
        tier: ladder.tiers().get(tier).map(|tier| tier.name.as_str()),
        model: found.map(|(model, _)| model.as_str()),
        // Beyond what fits the saturating cast there is no money.
        cost: cost.map(|usd| NanoUsd((1e9 * usd).round() as i64)),
        quality: found.map(|(_, result)| result.quality),
    }
}
