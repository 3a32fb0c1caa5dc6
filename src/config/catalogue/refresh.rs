//! Merging newer facts into a local catalogue, and what that changes.
//!
//! The local file holds only what differs from the catalogue inside the program. A model that is
//! named in the newer facts takes all of them; one that is not named stays as it was.

use std::fmt;

use super::{
    Models,
    file::{CatalogueFile, Rows},
    model::ModelFacts,
};
use crate::units::NanoUsd;

/// Lines shown of each kind of change.
const MAX_SHOWN: usize = 40;

/// What a refresh changes for whoever looks a model up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// `provider/model` that was not there.
    pub added: Vec<String>,
    /// `provider/model: what changed`.
    pub changed: Vec<String>,
    /// `provider/model` that is there no more.
    pub removed: Vec<String>,
}

impl Changes {
    /// Whether everything stays as it was.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// The new local file, and what it changes against `models` as they are. `news` win over both.
pub fn merge(models: &Models, news: CatalogueFile) -> (CatalogueFile, Changes) {
    let mut changes = Changes::default();
    let mut rows = models.local().map(|local| local.rows.clone()).unwrap_or_default();
    for (provider, news) in news.rows {
        for (model, new) in news {
            compare(
                &format!("{provider}/{model}"),
                models.find(&provider, &model),
                new.as_ref(),
                &mut changes,
            );
            let shipped = Models::shipped().find(&provider, &model).flatten();
            let same = match (&new, shipped) {
                (Some(new), Some(shipped)) => new.agrees_with(shipped),
                (None, None) => true,
                _ => false,
            };
            put(&mut rows, &provider, model, new, same);
        }
    }
    rows.retain(|_, models| !models.is_empty());
    (CatalogueFile { rows, source: news.source, date: news.date, licence: news.licence }, changes)
}

/// Keeps a row when it says something that the shipped catalogue does not.
fn put(rows: &mut Rows, provider: &str, model: String, new: Option<ModelFacts>, same: bool) {
    let models = rows.entry(provider.to_owned()).or_default();
    let unchanged = |old: &Option<ModelFacts>| match (old, &new) {
        (Some(old), Some(new)) => old.agrees_with(new),
        (None, None) => true,
        _ => false,
    };
    if same {
        models.remove(&model);
    } else if !models.get(&model).is_some_and(unchanged) {
        models.insert(model, new);
    }
}

fn compare(name: &str, old: Option<&ModelFacts>, new: Option<&ModelFacts>, changes: &mut Changes) {
    match (old, new) {
        (None, Some(_)) => changes.added.push(name.to_owned()),
        (Some(_), None) => changes.removed.push(name.to_owned()),
        (Some(old), Some(new)) if !old.agrees_with(new) => {
            changes.changed.push(format!("{name}: {}", difference(old, new)));
        }
        _ => {}
    }
}

/// What differs, in words.
fn difference(old: &ModelFacts, new: &ModelFacts) -> String {
    let shown =
        |tokens: Option<u32>| tokens.map_or("unknown".to_owned(), |tokens| tokens.to_string());
    let usd = |nano: Option<u64>| {
        let nano = nano.map(|nano| NanoUsd(i64::try_from(nano).unwrap_or(i64::MAX)));
        nano.map_or("unknown".to_owned(), |nano| format!("${nano}"))
    };
    let mut words = Vec::new();
    let mut note = |what: &str, old: String, new: String| {
        if old != new {
            words.push(format!("{what} {old} → {new}"));
        }
    };
    note("mode", old.mode.name().to_owned(), new.mode.name().to_owned());
    note("window", shown(old.context_window), shown(new.context_window));
    note("output limit", shown(old.max_output_tokens), shown(new.max_output_tokens));
    let price = |facts: &ModelFacts, part: fn(&super::ListPrice) -> u64| {
        usd(facts.price.as_ref().map(part))
    };
    note("input", price(old, |price| price.input), price(new, |price| price.input));
    note("output", price(old, |price| price.output), price(new, |price| price.output));
    let known = |facts: &ModelFacts| format!("[{}]", facts.abilities);
    note("abilities", known(old), known(new));
    let date = |facts: &ModelFacts| facts.retires.clone().unwrap_or("never".to_owned());
    note("retires", date(old), date(new));
    if words.is_empty() { "other prices".to_owned() } else { words.join(", ") }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (sign, lines) in [("+", &self.added), ("~", &self.changed), ("-", &self.removed)] {
            for line in lines.iter().take(MAX_SHOWN) {
                writeln!(f, "{sign} {line}")?;
            }
            if lines.len() > MAX_SHOWN {
                writeln!(f, "{sign} and {} more", lines.len() - MAX_SHOWN)?;
            }
        }
        let (added, changed) = (self.added.len(), self.changed.len());
        write!(f, "{added} added, {changed} changed, {} removed", self.removed.len())
    }
}
