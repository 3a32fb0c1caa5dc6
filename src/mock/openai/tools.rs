//! The `tools`, `tool_choice` and `response_format` of a chat request, and which one the answer
//! follows.

use serde_json::{Value, json};

use super::super::answer::Subject;
use super::super::tokens;
use super::error::ApiError;
use super::fields::{Fields, type_of};
use super::messages::Conversation;

/// Tools in one request at most, and calls in one message (OpenAI API reference, "tools").
pub(super) const MAX_TOOLS: usize = 128;

/// A declared function.
#[derive(Debug)]
struct Function<'a> {
    name: &'a str,
    /// `None`: it takes no arguments.
    parameters: Option<&'a Value>,
}

/// When a tool is to be called.
#[derive(Debug, PartialEq, Eq)]
enum ToolChoice<'a> {
    /// When the last user message names one and no result has come.
    Auto,
    Never,
    Always,
    Function(&'a str),
}

/// What the request lets the model produce.
#[derive(Debug)]
pub(super) struct Abilities<'a> {
    functions: Vec<Function<'a>>,
    choice: ToolChoice<'a>,
    /// The schema of a structured output.
    format: Option<Value>,
}

impl<'a> Abilities<'a> {
    /// Reads `tools`, `tool_choice` and `response_format` of `request`.
    pub fn parse(request: &Fields<'a>) -> Result<Self, ApiError> {
        let functions = functions(request)?;
        let choice = tool_choice(request)?;
        request.boolean("parallel_tool_calls")?;
        match choice {
            ToolChoice::Function(name) if !functions.iter().any(|f| f.name == name) => {
                let message = format!("Tool choice '{name}' not found in 'tools' parameter.");
                Err(ApiError::invalid("tool_choice", "invalid_value", message))
            }
            ToolChoice::Always if functions.is_empty() => {
                let message = "'tool_choice' is only allowed when 'tools' are specified.";
                Err(ApiError::invalid("tool_choice", "invalid_value", message))
            }
            _ => Ok(Self { functions, choice, format: response_format(request)? }),
        }
    }

    /// The estimate for the declarations, which are part of the prompt.
    pub fn prompt_tokens(&self) -> u64 {
        let of_function = |function: &Function<'_>| {
            let parameters = function.parameters.map(Value::to_string).unwrap_or_default();
            tokens::count(function.name) + tokens::count(&parameters)
        };
        let format = self.format.as_ref().map_or(0, |schema| tokens::count(&schema.to_string()));
        self.functions.iter().map(of_function).sum::<u64>() + format
    }

    /// What the answer to `conversation` is about. A call that is demanded is made even when the
    /// last message is a tool's result, as by the real API.
    pub fn subject(self, conversation: Conversation) -> Subject {
        if let Some(function) = self.function_to_call(&conversation) {
            let parameters = function.parameters.cloned().unwrap_or_else(|| json!({}));
            return Subject::Call { function: function.name.to_owned(), parameters };
        }
        match (self.format, conversation.tool_result) {
            (Some(schema), _) => Subject::Structured { schema },
            (None, Some(result)) => Subject::ToolResult(result),
            (None, None) => Subject::Message(conversation.last_user_text),
        }
    }

    fn function_to_call(&self, conversation: &Conversation) -> Option<&Function<'a>> {
        let named = || {
            let text = &conversation.last_user_text;
            let named = self.functions.iter().filter(|function| text.contains(function.name));
            // `get_weather_now` contains `get_weather`: the longer name is the one meant.
            named.max_by_key(|function| function.name.len())
        };
        match self.choice {
            ToolChoice::Never => None,
            ToolChoice::Function(name) => self.functions.iter().find(|f| f.name == name),
            ToolChoice::Always => named().or_else(|| self.functions.first()),
            ToolChoice::Auto if conversation.tool_result.is_some() => None,
            ToolChoice::Auto => named(),
        }
    }
}

fn functions<'a>(request: &Fields<'a>) -> Result<Vec<Function<'a>>, ApiError> {
    let mut functions = Vec::new();
    for tool in request.objects_up_to(MAX_TOOLS, "tools")? {
        tool.required_string("type")?;
        // A custom tool takes text, which a schema cannot describe: accepted, never called.
        if tool.one_of("type", &["function", "custom"])? == Some("custom") {
            continue;
        }
        let function = tool.required_object("function")?;
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
        functions.push(Function { name, parameters: function.get("parameters") });
    }
    Ok(functions)
}

fn tool_choice<'a>(request: &Fields<'a>) -> Result<ToolChoice<'a>, ApiError> {
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
            Ok(ToolChoice::Function(function.required_string("name")?))
        }
        Some("allowed_tools") => {
            let allowed = choice.required_object("allowed_tools")?;
            named_choice("tool_choice.allowed_tools.mode", allowed.required_string("mode")?)
        }
        _ => Ok(ToolChoice::Auto),
    }
}

fn named_choice<'a>(param: &str, mode: &str) -> Result<ToolChoice<'a>, ApiError> {
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

/// For a caller that wants JSON and does not say which.
fn any_object() -> Value {
    json!({
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
    })
}
