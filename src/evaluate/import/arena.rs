//! RouterArena's predictions: which model a router chose for each prompt, and how it did.
//!
//! Entries marked `for_optimality` tell how the other models would have done; together they make
//! a prompt's results. Entries that were not evaluated yet (`accuracy` is null) are left out.

use std::{collections::BTreeMap, io::Read as _};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use super::{Input, MAX_LIST_BYTES};
use crate::evaluate::record::{Outcome, Record, Served, dollars, share, weighed};

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "global index", alias = "global_index")]
    index: Value,
    prompt: String,
    prediction: String,
    accuracy: Option<f64>,
    cost: Option<f64>,
    #[serde(default)]
    for_optimality: bool,
}

pub fn read(
    input: &Input<'_>,
    take: &mut dyn FnMut(Record) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let shown = input.path.display();
    let mut json = serde_json::Deserializer::from_reader(input.open()?.take(MAX_LIST_BYTES));
    let entries: Vec<Entry> = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        anyhow::anyhow!("{shown}: {error}; predictions are a list of {{\"global index\", \"prompt\", \"prediction\", \"accuracy\", \"cost\"}}")
    })?;
    let mut records: BTreeMap<String, Record> = BTreeMap::new();
    for (at, entry) in entries.into_iter().enumerate() {
        let Entry { index, prompt, prediction, accuracy, cost, for_optimality } = entry;
        let Some(accuracy) = accuracy else { continue };
        let place = || format!("{shown}, entry {at}");
        let score = share("`accuracy`", accuracy).with_context(place)?;
        let cost_usd =
            cost.map(|cost| dollars(&prediction, cost)).transpose().with_context(place)?;
        let id = match index {
            Value::String(id) => id,
            other => other.to_string(),
        };
        // `NarrativeQA_12` is row 12 of NarrativeQA.
        let category = id.rsplit_once('_').map_or("", |(category, _)| category).to_owned();
        let record = records.entry(id.clone()).or_insert_with(|| Record {
            id,
            dataset: "routerarena".to_owned(),
            category,
            text: Some(weighed(prompt)),
            results: Some(BTreeMap::new()),
            ..Record::default()
        });
        if !for_optimality {
            if record.served.is_some() {
                bail!("{}: a second prediction for the same index", place());
            }
            let served = Served {
                model: prediction.clone(),
                quality: Some(score),
                cost_usd,
                ..Served::default()
            };
            record.served = Some(served);
        }
        let outcome = Outcome { score, cost_usd, ..Outcome::default() };
        record.results.get_or_insert_default().insert(prediction, outcome);
    }
    if records.is_empty() {
        bail!("{shown}: no prediction has an `accuracy`; evaluate them first");
    }
    records.into_values().try_for_each(take)
}
