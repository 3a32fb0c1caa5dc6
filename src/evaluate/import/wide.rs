//! Tables with one row a prompt: the house's columns, RouteLLM's responses, RouterBench.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, anyhow, bail};
use serde_json::{Map, Value};

use super::{
    CONTAMINATED, Input, lines,
    table::{self, Cells},
};
use crate::{
    classify::extract::text_to_weigh,
    evaluate::record::{Outcome, Record, dollars, share, weighed},
    protocol::chat::Message,
};

type Take<'t> = &'t mut dyn FnMut(Record) -> anyhow::Result<()>;

/// The house's columns.
pub fn rows(input: &Input<'_>, take: Take<'_>) -> anyhow::Result<()> {
    table::each(input, |row| {
        let mut results: BTreeMap<String, Outcome> = BTreeMap::new();
        let mut scored: HashSet<String> = HashSet::new();
        let mut other = Map::new();
        for (column, value) in &row.cells {
            let Some((model, field)) =
                column.strip_prefix("results.").and_then(|rest| rest.rsplit_once('.'))
            else {
                if !["id", "dataset", "category", "prompt", "messages"].contains(&column.as_str()) {
                    other.insert(column.clone(), typed(value));
                }
                continue;
            };
            let outcome = results.entry(model.to_owned()).or_default();
            let number = number(column, value)?;
            match field {
                "score" => {
                    outcome.score = share(&format!("`{column}`"), number)?;
                    scored.insert(model.to_owned());
                }
                "cost_usd" => outcome.cost_usd = Some(dollars(model, number)?),
                "in_tokens" => outcome.in_tokens = Some(number as u64),
                "out_tokens" => outcome.out_tokens = Some(number as u64),
                _ => bail!(
                    "the column `{column}` is not read: a model's columns end in .score, .cost_usd, .in_tokens or .out_tokens"
                ),
            }
        }
        results.retain(|model, _| scored.contains(model));
        let text = match (row.text("prompt"), row.get("messages")) {
            (Some(prompt), None) => weighed(prompt),
            (None, Some(messages)) => conversation(messages)?,
            (Some(_), Some(_)) => bail!("has both `prompt` and `messages`"),
            (None, None) => bail!("has neither `prompt` nor `messages`"),
        };
        take(Record {
            id: row.text("id").unwrap_or_else(|| format!("{}:{}", input.stem, row.number)),
            dataset: row.text("dataset").unwrap_or_else(|| input.stem.clone()),
            category: row.text("category").unwrap_or_default(),
            text: Some(text),
            results: Some(results),
            other,
            ..Record::default()
        })
    })
}

/// RouteLLM's `PREFIX_CATEGORY.csv`: a prompt and one column a model.
pub fn routellm(input: &Input<'_>, take: Take<'_>) -> anyhow::Result<()> {
    let contaminated = contaminated(input)?;
    let (dataset, category) = input.stem.split_once('_').unwrap_or((&input.stem, ""));
    let category = if category == "responses" { "" } else { category };
    table::each(input, |row| {
        let prompt = row.text("prompt").context("has no `prompt`")?;
        if contaminated.contains(&prompt) {
            return Ok(());
        }
        let mut results = BTreeMap::new();
        for (column, value) in &row.cells {
            // An index that pandas wrote has no name; responses are text.
            if column.is_empty() || column == "prompt" || column.starts_with("Unnamed: ") {
                continue;
            }
            if let Ok(score) = number(column, value) {
                let score = share(&format!("`{column}`"), score)?;
                results.insert(column.clone(), Outcome { score, ..Outcome::default() });
            }
        }
        if results.is_empty() {
            bail!("no column holds True, False or a number: RouteLLM's responses have one a model");
        }
        take(Record {
            id: format!("{}:{}", input.stem, row.number),
            dataset: dataset.to_owned(),
            category: category.to_owned(),
            text: Some(weighed(prompt)),
            results: Some(results),
            ..Record::default()
        })
    })
}

/// Prompts that RouteLLM's evaluation leaves out.
fn contaminated(input: &Input<'_>) -> anyhow::Result<HashSet<String>> {
    #[derive(serde::Deserialize)]
    struct Line {
        eval_prompt: String,
    }
    let mut prompts = HashSet::new();
    let dirs = input.path.parent().into_iter().flat_map(|dir| [Some(dir), dir.parent()]);
    let list = dirs.flatten().map(|dir| dir.join(CONTAMINATED)).find(|list| list.exists());
    if let Some(path) = list {
        let list = Input::lines(&path);
        lines::each(&list, |line, _| {
            prompts.insert(serde_json::from_str::<Line>(line)?.eval_prompt);
            Ok(())
        })?;
    }
    Ok(prompts)
}

/// RouterBench's wide table.
pub fn routerbench(input: &Input<'_>, take: Take<'_>) -> anyhow::Result<()> {
    const COST: &str = "|total_cost";
    let columns = table::columns(input)?;
    let models: Vec<&str> = columns.iter().filter_map(|name| name.strip_suffix(COST)).collect();
    if models.is_empty() {
        bail!(
            "{}: no column ends in `{COST}`: RouterBench's table has one beside each model's scores",
            input.path.display()
        );
    }
    table::each(input, |row: Cells| {
        let mut results = BTreeMap::new();
        for model in &models {
            let Some(value) = row.get(model) else { continue };
            let score = share(&format!("`{model}`"), number(model, value)?)?;
            let column = format!("{model}{COST}");
            let cost = row.get(&column).map(|value| number(&column, value)).transpose()?;
            let cost_usd = cost.map(|cost| dollars(model, cost)).transpose()?;
            results.insert((*model).to_owned(), Outcome { score, cost_usd, ..Outcome::default() });
        }
        let prompt = match row.get("prompt").context("has no `prompt`")? {
            Value::Array(parts) => {
                parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
            }
            Value::String(text) => python_list(text).unwrap_or_else(|| text.clone()),
            _ => bail!("`prompt` is no text"),
        };
        let eval_name = row.text("eval_name").unwrap_or_default();
        take(Record {
            id: row.text("sample_id").unwrap_or_else(|| format!("{}:{}", input.stem, row.number)),
            dataset: "routerbench".to_owned(),
            category: eval_name,
            text: Some(weighed(prompt)),
            results: Some(results),
            ..Record::default()
        })
    })
}

/// The texts of a list as Python prints it, joined by line ends; `None` for other text.
fn python_list(text: &str) -> Option<String> {
    let mut rest = text.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut parts = Vec::new();
    while let Some(quote) = rest.chars().next() {
        let mut part = String::new();
        let mut chars = rest.get(1..)?.char_indices();
        if quote != '\'' && quote != '"' {
            return None;
        }
        let end = loop {
            match chars.next()? {
                (at, c) if c == quote => break at + 2,
                (_, '\\') => match chars.next()?.1 {
                    'n' => part.push('\n'),
                    't' => part.push('\t'),
                    'r' => part.push('\r'),
                    other => part.push(other),
                },
                (_, c) => part.push(c),
            }
        };
        parts.push(part);
        rest = rest.get(end..)?.trim_start().trim_start_matches(',').trim_start();
    }
    (!parts.is_empty()).then(|| parts.join("\n"))
}

/// A number, or a truth as 0 or 1.
fn number(column: &str, value: &Value) -> anyhow::Result<f64> {
    let number = match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.trim() {
            "True" | "true" => Some(1.0),
            "False" | "false" => Some(0.0),
            text => text.parse().ok(),
        },
        _ => None,
    };
    number.ok_or_else(|| anyhow!("`{column}` is {value}, which is no number"))
}

/// A cell as JSON would have it: filters compare `true` with `true`.
fn typed(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.as_str() {
            "True" | "true" => Value::Bool(true),
            "False" | "false" => Value::Bool(false),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

fn conversation(messages: &Value) -> anyhow::Result<String> {
    let messages: Vec<Message> = match messages {
        Value::String(text) => serde_json::from_str(text),
        other => serde_json::from_value(other.clone()),
    }
    .context("`messages` is no list of {\"role\", \"content\"}")?;
    Ok(text_to_weigh(&messages).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_list_is_read_back() {
        let text = r#"['one\n\'two\'', "it's"]"#;
        assert_eq!(python_list(text).as_deref(), Some("one\n'two'\nit's"));
        assert_eq!(python_list("[1, 2]"), None);
        assert_eq!(python_list("Solve [x]"), None);
        assert_eq!(python_list("['open"), None);
    }
}
