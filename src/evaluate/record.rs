//! One prompt as a file gives it, whatever the file's layout.
//!
//! The house's own layout is one line of JSON:
//!
//! ```json
//! {"id": "1", "prompt": "…", "dataset": "d", "category": "c",
//!  "results": {"gpt-5.5": {"score": 1, "cost_usd": 0.002, "in_tokens": 80, "out_tokens": 40}}}
//! ```
//!
//! with `messages` instead of `prompt` for conversations, and `difficulty` instead of `results`
//! for authored prompts. [`super::import`] brings other layouts into this shape.

use std::collections::BTreeMap;

use anyhow::bail;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    classify::extract::text_to_weigh,
    protocol::chat::{Content, Message},
};

/// A prompt with everything that is known of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// As the file gives it, else `FILE:LINE`.
    pub id: String,
    /// As the file gives it, else the file's name without its endings.
    pub dataset: String,
    /// As the file gives it, else empty.
    pub category: String,
    /// What is weighed; `None` where a log kept no prompt.
    pub text: Option<String>,
    /// Results by model; `None` where the file gives none at all.
    pub results: Option<BTreeMap<String, Outcome>>,
    /// In 0..=1: how much model the prompt needs, in its author's judgement.
    pub difficulty: Option<f64>,
    /// What a router that ran did with it.
    pub served: Option<Served>,
    /// Fields that nothing above reads, for the filters of a suite.
    pub other: Map<String, Value>,
}

/// How one model did on one prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// In 0..=1, 1 is best.
    pub score: f64,
    /// Dollars for this one call. Means are made of it, no account: a float will do.
    pub cost_usd: Option<f64>,
    /// Prompt tokens.
    pub in_tokens: Option<u64>,
    /// Completion tokens.
    pub out_tokens: Option<u64>,
}

/// What a router that ran did with a prompt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Served {
    /// The model that answered.
    pub model: String,
    /// The tier, where the log names one.
    pub tier: Option<String>,
    /// The router's score at the time, in 0..=1.
    pub score: Option<f64>,
    /// The threshold it was held against.
    pub threshold: Option<f64>,
    /// How good the answer was, in 0..=1, where that was judged.
    pub quality: Option<f64>,
    /// Dollars.
    pub cost_usd: Option<f64>,
}

/// A line as it stands in the file.
#[derive(Deserialize)]
struct Line {
    id: Option<Value>,
    dataset: Option<String>,
    category: Option<String>,
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    results: Option<BTreeMap<String, Option<Answer>>>,
    difficulty: Option<f64>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Deserialize)]
struct Answer {
    score: Option<f64>,
    cost_usd: Option<f64>,
    in_tokens: Option<u64>,
    out_tokens: Option<u64>,
}

impl Record {
    /// Reads one line. `stem` is the file's name without endings, `number` the line's.
    pub fn from_json(line: &str, stem: &str, number: usize) -> anyhow::Result<Self> {
        let mut json = serde_json::Deserializer::from_str(line);
        let line: Line = serde_path_to_error::deserialize(&mut json)?;
        json.end()?;
        let text = match (line.prompt, line.messages) {
            (Some(prompt), None) => weighed(prompt),
            (None, Some(messages)) => text_to_weigh(&messages).into_owned(),
            (Some(_), Some(_)) => bail!("has both `prompt` and `messages`"),
            (None, None) => bail!("has neither `prompt` nor `messages`"),
        };
        let (results, difficulty) = match (line.results, line.difficulty) {
            (Some(results), None) => (Some(checked(results)?), None),
            (None, Some(difficulty)) => (None, Some(share("`difficulty`", difficulty)?)),
            (Some(_), Some(_)) => bail!("has both `results` and `difficulty`"),
            (None, None) => bail!("has neither `results` nor `difficulty`"),
        };
        let id = match line.id {
            Some(Value::String(id)) => id,
            Some(other) => other.to_string(),
            None => format!("{stem}:{number}"),
        };
        Ok(Self {
            id,
            dataset: line.dataset.unwrap_or_else(|| stem.to_owned()),
            category: line.category.unwrap_or_default(),
            text: Some(text),
            results,
            difficulty,
            served: None,
            other: line.other,
        })
    }
}

/// The part of a lone prompt that the gateway would weigh.
pub fn weighed(prompt: String) -> String {
    let message = Message { role: "user".to_owned(), content: Content::Text(prompt) };
    text_to_weigh(&[message]).into_owned()
}

/// A model without a score was not asked.
fn checked(results: BTreeMap<String, Option<Answer>>) -> anyhow::Result<BTreeMap<String, Outcome>> {
    let mut outcomes = BTreeMap::new();
    for (model, answer) in results {
        let Some(Answer { score: Some(score), cost_usd, in_tokens, out_tokens }) = answer else {
            continue;
        };
        let score = share(&format!("the score of `{model}`"), score)?;
        let cost_usd = cost_usd.map(|cost| dollars(&model, cost)).transpose()?;
        outcomes.insert(model, Outcome { score, cost_usd, in_tokens, out_tokens });
    }
    Ok(outcomes)
}

/// A number in 0..=1, or a sentence that says it is none.
pub fn share(what: &str, value: f64) -> anyhow::Result<f64> {
    if !(0.0..=1.0).contains(&value) {
        bail!("{what} is {value}, which does not lie in 0..1");
    }
    Ok(value)
}

/// A cost, or a sentence that says it is none.
pub fn dollars(model: &str, cost: f64) -> anyhow::Result<f64> {
    if !(cost.is_finite() && cost >= 0.0) {
        bail!("the cost of `{model}` is {cost}, which is no amount of dollars");
    }
    Ok(cost)
}
