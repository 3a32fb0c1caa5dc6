//! The gateway's own decision log: what was decided, what it cost, and feedback that came later.
//!
//! Feedback is joined to its decision by id and may stand before or after it; of several the last
//! counts. The file is read twice, so that only the feedback is held. A last line that a stop cut
//! off is left out.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use super::{Input, lines};
use crate::{
    evaluate::record::{Outcome, Record, Served, share, weighed},
    telemetry::decisions::{Decided, Line},
    units::NanoUsd,
};

/// Hands over each line of a log, whatever its name ends in; `.gz` is unpacked.
pub fn lines_of(
    path: &Path,
    mut take: impl FnMut(Line) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    each(&Input::lines(path), &mut take)
}

/// Every decision of a log as a record, with its feedback.
pub(super) fn read(
    input: &Input<'_>,
    take: &mut dyn FnMut(Record) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut feedback: HashMap<String, f64> = HashMap::new();
    each(&Input::lines(input.path), &mut |line| {
        if let Line::Feedback(given) = line {
            feedback.insert(given.id, share("the feedback's `score`", given.score)?);
        }
        Ok(())
    })?;
    each(input, &mut |line| {
        let Line::Decision(decided) = line else { return Ok(()) };
        let quality = feedback.get(&decided.id).copied();
        record(*decided, quality)?.map_or(Ok(()), &mut *take)
    })
}

fn each(input: &Input<'_>, take: &mut dyn FnMut(Line) -> anyhow::Result<()>) -> anyhow::Result<()> {
    lines::each(input, |text, _| {
        let mut json = serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize(&mut json) {
            Ok(line) => take(line),
            Err(_) if !text.ends_with('\n') => Ok(()),
            Err(error) => anyhow::bail!("no line of a decision log: {error}"),
        }
    })
}

/// `None` where no model was asked.
fn record(decided: Decided, quality: Option<f64>) -> anyhow::Result<Option<Record>> {
    let Some(model) = decided.served_model.or(decided.model) else { return Ok(None) };
    let cost_usd = decided.cost_usd.as_deref().and_then(NanoUsd::parse);
    let cost_usd = cost_usd.map(|cost| cost.0 as f64 / 1e9);
    let score = decided.score.map(|score| share("`score`", f64::from(score))).transpose()?;
    let results = quality.map(|score| {
        let outcome = Outcome {
            score,
            cost_usd,
            in_tokens: decided.prompt_tokens,
            out_tokens: decided.completion_tokens,
        };
        BTreeMap::from([(model.clone(), outcome)])
    });
    Ok(Some(Record {
        id: decided.id,
        dataset: "decisions".to_owned(),
        category: decided.policy.unwrap_or_default(),
        text: decided.prompt.map(weighed),
        results,
        served: Some(Served {
            model,
            tier: decided.tier,
            score,
            threshold: decided.threshold.map(f64::from),
            quality,
            cost_usd,
        }),
        ..Record::default()
    }))
}
