//! The `input` of a responses request: a text, or items.

use serde_json::Value;

use super::super::super::tokens;
use super::super::super::wire::signature;
use super::super::error::ApiError;
use super::super::fields::{Fields, empty_array, type_of};

const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];
const INPUT_PARTS: [&str; 4] = ["input_text", "input_image", "input_file", "input_audio"];
const OUTPUT_PARTS: [&str; 2] = ["output_text", "refusal"];
/// Around every item, as for chat messages.
const TOKENS_PER_ITEM: u64 = 3;
/// For every part that is not text, as for chat messages.
const TOKENS_PER_ATTACHMENT: u64 = 85;

/// What a scripted model needs to know of the input.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub last_user_text: String,
    /// The results at the end of the input.
    pub tool_result: Option<String>,
    pub prompt_tokens: u64,
}

impl Items {
    /// Reads the `input` and the `instructions` of `request`.
    pub fn parse(request: &Fields<'_>, model: &str) -> Result<Self, ApiError> {
        let mut items = Self::default();
        items.prompt_tokens += tokens::count(request.string("instructions")?.unwrap_or_default());
        match request.required("input")? {
            Value::String(text) => {
                items.prompt_tokens += TOKENS_PER_ITEM + tokens::count(text);
                items.last_user_text.clone_from(text);
                return Ok(items);
            }
            Value::Array(input) if input.is_empty() => return Err(empty_array("input")),
            Value::Array(_) => {}
            other => {
                let expected = "one of a string or an array of objects";
                return Err(ApiError::wrong_type("input", expected, type_of(other)));
            }
        }
        let mut calls: Vec<&str> = Vec::new();
        for item in &request.objects("input")? {
            items.item(item, model, &mut calls)?;
        }
        Ok(items)
    }

    fn item<'a>(
        &mut self,
        item: &Fields<'a>,
        model: &str,
        calls: &mut Vec<&'a str>,
    ) -> Result<(), ApiError> {
        self.prompt_tokens += TOKENS_PER_ITEM;
        match item.string("type")?.unwrap_or("message") {
            "message" => self.message(item),
            "function_call" => {
                calls.push(item.required_string("call_id")?);
                let name = item.required_string("name")?;
                let arguments = item.required_string("arguments")?;
                self.prompt_tokens += tokens::count(name) + tokens::count(arguments);
                Ok(())
            }
            "function_call_output" => {
                let id = item.required_string("call_id")?;
                if !calls.contains(&id) {
                    let message =
                        format!("No tool call found for function call output with call_id {id}.");
                    return Err(ApiError::invalid("input", "invalid_value", message));
                }
                let text = match item.required("output")? {
                    Value::String(text) => text.clone(),
                    _ => self.parts(item, "output", &INPUT_PARTS)?,
                };
                self.prompt_tokens += tokens::count(&text);
                let result = self.tool_result.get_or_insert_default();
                if !result.is_empty() {
                    result.push(' ');
                }
                result.push_str(&text);
                Ok(())
            }
            "reasoning" => check_reasoning(item, model),
            "item_reference" => Err(super::not_stored(item.required_string("id")?)),
            _ => Ok(()),
        }
    }

    fn message(&mut self, item: &Fields<'_>) -> Result<(), ApiError> {
        item.required_string("role")?;
        let role = item.one_of("role", &ROLES)?.unwrap_or_default();
        let text = match item.required("content")? {
            Value::String(text) => text.clone(),
            Value::Array(_) if role == "assistant" => self.parts(item, "content", &OUTPUT_PARTS)?,
            Value::Array(_) => self.parts(item, "content", &INPUT_PARTS)?,
            other => {
                let expected = "one of a string or an array of objects";
                let path = item.path_of("content");
                return Err(ApiError::wrong_type(&path, expected, type_of(other)));
            }
        };
        self.prompt_tokens += tokens::count(&text);
        self.tool_result = None;
        if role == "user" {
            self.last_user_text = text;
        }
        Ok(())
    }

    fn parts(
        &mut self,
        item: &Fields<'_>,
        field: &str,
        kinds: &[&str],
    ) -> Result<String, ApiError> {
        let mut texts = Vec::new();
        for part in item.objects(field)? {
            part.required_string("type")?;
            match part.one_of("type", kinds)? {
                Some("input_text" | "output_text") => texts.push(part.required_string("text")?),
                Some("refusal") => texts.push(part.required_string("refusal")?),
                _ => self.prompt_tokens += TOKENS_PER_ATTACHMENT,
            }
        }
        Ok(texts.join("\n"))
    }
}

/// Encrypted reasoning comes back as it was given, to the model that gave it.
fn check_reasoning(item: &Fields<'_>, model: &str) -> Result<(), ApiError> {
    let summary = item.objects("summary")?;
    let texts = summary.iter().map(|part| part.required_string("text"));
    let text = texts.collect::<Result<Vec<_>, _>>()?.concat();
    let Some(encrypted) = item.string("encrypted_content")? else { return Ok(()) };
    if encrypted != signature(model, &text) {
        let message = "The encrypted content for item could not be verified.";
        let path = item.path_of("encrypted_content");
        return Err(ApiError::invalid(&path, "invalid_encrypted_content", message));
    }
    Ok(())
}
