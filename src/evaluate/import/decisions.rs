//! The gateway's own decision log: what was decided, what it cost, and feedback that came later.
//!
//! Feedback is joined to its decision by id and may stand before or after it; of several the last
//! counts. The file is read twice, so that only the feedback is held.

use std::collections::{BTreeMap, HashMap};

use anyhow::bail;
use serde::Deserialize;

use super::{Input, lines};
use crate::evaluate::record::{Outcome, Record, Served, dollars, share, weighed};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Decision(Decision),
    Feedback { id: String, score: f64 },
}

#[derive(Deserialize)]
struct Decision {
    id: String,
    policy: Option<String>,
    score: Option<f64>,
    threshold: Option<f64>,
    tier: Option<String>,
    model: Option<String>,
    served_model: Option<String>,
    prompt: Option<String>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    cost_usd: Option<f64>,
}

pub fn read(
    input: &Input<'_>,
    take: &mut dyn FnMut(Record) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut feedback: HashMap<String, f64> = HashMap::new();
    lines::each(input, |line, _| {
        if let Line::Feedback { id, score } = parse(line)? {
            feedback.insert(id, share("the feedback's `score`", score)?);
        }
        Ok(())
    })?;
    lines::each(input, |line, _| {
        let Line::Decision(decision) = parse(line)? else { return Ok(()) };
        let Some(model) = decision.served_model.or(decision.model) else {
            bail!("a decision without `model` and `served_model`");
        };
        let quality = feedback.get(&decision.id).copied();
        let cost_usd = decision.cost_usd.map(|cost| dollars(&model, cost)).transpose()?;
        let score = decision.score.map(|score| share("`score`", score)).transpose()?;
        let results = quality.map(|score| {
            let outcome = Outcome {
                score,
                cost_usd,
                in_tokens: decision.prompt_tokens,
                out_tokens: decision.completion_tokens,
            };
            BTreeMap::from([(model.clone(), outcome)])
        });
        take(Record {
            id: decision.id,
            dataset: "decisions".to_owned(),
            category: decision.policy.unwrap_or_default(),
            text: decision.prompt.map(weighed),
            results,
            served: Some(Served {
                model,
                tier: decision.tier,
                score,
                threshold: decision.threshold,
                quality,
                cost_usd,
            }),
            ..Record::default()
        })
    })
}

fn parse(line: &str) -> anyhow::Result<Line> {
    let mut json = serde_json::Deserializer::from_str(line);
    Ok(serde_path_to_error::deserialize(&mut json)?)
}
