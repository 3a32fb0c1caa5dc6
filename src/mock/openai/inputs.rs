//! The `input` of embeddings and the `prompt` of text completions: texts, or texts as tokens.

use serde_json::Value;

use super::super::tokens;
use super::error::ApiError;
use super::fields::{Fields, check_length, empty_array, type_of};

/// Inputs in one request at most (OpenAI API reference, "Create embeddings").
const MAX_INPUTS: usize = 2_048;

/// One text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input<'a> {
    /// As text.
    Text(&'a str),
    /// As token ids of the provider's tokeniser.
    Tokens(Vec<u64>),
}

impl Input<'_> {
    /// The estimate, exact for an input in tokens.
    pub fn tokens(&self) -> u64 {
        match self {
            Self::Text(text) => tokens::count(text),
            Self::Tokens(ids) => ids.len() as u64,
        }
    }

    /// The text, or the ids joined by blanks: there is no tokeniser here to turn them back.
    pub fn to_text(&self) -> String {
        match self {
            Self::Text(text) => (*text).to_owned(),
            Self::Tokens(ids) => ids.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
        }
    }
}

/// The inputs in the field `name`: a text, an array of texts, an array of token ids, or an array
/// of such arrays.
pub(super) fn inputs<'a>(request: &Fields<'a>, name: &str) -> Result<Vec<Input<'a>>, ApiError> {
    let wrong = |value: &Value| {
        let expected = "a string, an array of strings or an array of token arrays";
        ApiError::wrong_type(&request.path_of(name), expected, type_of(value))
    };
    let items = match request.required(name)? {
        Value::String(text) => return Ok(vec![Input::Text(text)]),
        Value::Array(items) => items,
        other => return Err(wrong(other)),
    };
    if items.is_empty() {
        return Err(empty_array(name));
    }
    if items.iter().all(Value::is_u64) {
        return Ok(vec![Input::Tokens(items.iter().filter_map(Value::as_u64).collect())]);
    }
    check_length(&request.path_of(name), items.len(), MAX_INPUTS)?;
    let input = |item: &'a Value| match item {
        Value::String(text) => Ok(Input::Text(text)),
        Value::Array(ids) if ids.iter().all(Value::is_u64) => {
            Ok(Input::Tokens(ids.iter().filter_map(Value::as_u64).collect()))
        }
        other => Err(wrong(other)),
    };
    items.iter().map(input).collect()
}
