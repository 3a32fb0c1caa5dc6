//! The `tools`, `tool_choice` and `response_format` of a chat request, and which one the answer
//! follows.

use serde_json::{Value, json};

use super::super::offer::{Offer, Tool, ToolChoice, any_object};
use super::error::ApiError;
use super::fields::{Fields, type_of};

/// Tools in one request at most, and calls in one message (OpenAI API reference, "tools").
pub(super) const MAX_TOOLS: usize = 128;

/// Reads `tools`, `tool_choice`, `parallel_tool_calls` and `response_format` of `request`.
pub(super) fn offer(request: &Fields<'_>) -> Result<Offer, ApiError> {
    let offer = Offer {
        tools: functions(request)?,
        choice: tool_choice(request)?,
        one_call: is_one_call(request)?,
        format: response_format(request)?,
    };
    checked(offer)
}

/// Whether `parallel_tool_calls` is switched off.
pub(super) fn is_one_call(request: &Fields<'_>) -> Result<bool, ApiError> {
    let is_set = request.get("parallel_tool_calls").is_some();
    Ok(is_set && !request.boolean("parallel_tool_calls")?)
}

/// An offer whose choice can be met.
pub(super) fn checked(offer: Offer) -> Result<Offer, ApiError> {
    match &offer.choice {
        ToolChoice::Named(name) if !offer.has_tool(name) => {
            let message = format!("Tool choice '{name}' not found in 'tools' parameter.");
            Err(ApiError::invalid("tool_choice", "invalid_value", message))
        }
        ToolChoice::Always if offer.tools.is_empty() => {
            let message = "'tool_choice' is only allowed when 'tools' are specified.";
            Err(ApiError::invalid("tool_choice", "invalid_value", message))
        }
        _ => Ok(offer),
    }
}

fn functions(request: &Fields<'_>) -> Result<Vec<Tool>, ApiError> {
    let mut functions = Vec::new();
    for tool in request.objects_up_to(MAX_TOOLS, "tools")? {
        tool.required_string("type")?;
        // A custom tool takes text, which a schema cannot describe: accepted, never called.
        if tool.one_of("type", &["function", "custom"])? == Some("custom") {
            continue;
        }
        let function = tool.required_object("function")?;
        functions.push(declared(&function)?);
    }
    Ok(functions)
}

/// The name and the parameters of a declared function.
pub(super) fn declared(function: &Fields<'_>) -> Result<Tool, ApiError> {
    let name = function.required_string("name")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) {
        let path = function.path_of("name");
        let message = format!(
            "Invalid '{path}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]{{1,64}}$'."
        );
        return Err(ApiError::invalid(&path, "invalid_value", message));
    }
    function.object("parameters")?;
    let parameters = function.get("parameters").cloned().unwrap_or_else(|| json!({}));
    Ok(Tool { name: name.to_owned(), parameters })
}

fn tool_choice(request: &Fields<'_>) -> Result<ToolChoice, ApiError> {
    let choice = match request.get("tool_choice") {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(mode)) => return named_choice("tool_choice", mode),
        Some(Value::Object(_)) => request.required_object("tool_choice")?,
        Some(other) => {
            let expected = "one of a string or an object";
            return Err(ApiError::wrong_type("tool_choice", expected, type_of(other)));
        }
    };
    choice.required_string("type")?;
    match choice.one_of("type", &["function", "allowed_tools", "custom"])? {
        Some("function") => {
            let function = choice.required_object("function")?;
            Ok(ToolChoice::Named(function.required_string("name")?.to_owned()))
        }
        Some("allowed_tools") => {
            let allowed = choice.required_object("allowed_tools")?;
            named_choice("tool_choice.allowed_tools.mode", allowed.required_string("mode")?)
        }
        _ => Ok(ToolChoice::Auto),
    }
}

/// A choice without a name.
pub(super) fn named_choice(param: &str, mode: &str) -> Result<ToolChoice, ApiError> {
    match mode {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::Never),
        "required" => Ok(ToolChoice::Always),
        other => Err(ApiError::unsupported(param, other, &["none", "auto", "required"])),
    }
}

/// The schema that the text of the answer follows; `None`: free text.
fn response_format(request: &Fields<'_>) -> Result<Option<Value>, ApiError> {
    let Some(format) = request.object("response_format")? else { return Ok(None) };
    format.required_string("type")?;
    match format.one_of("type", &["json_object", "json_schema", "text"])? {
        Some("json_schema") => {
            let json_schema = format.required_object("json_schema")?;
            json_schema.required_string("name")?;
            json_schema.object("schema")?;
            Ok(Some(json_schema.get("schema").cloned().unwrap_or_else(any_object)))
        }
        Some("json_object") => Ok(Some(any_object())),
        _ => Ok(None),
    }
}
