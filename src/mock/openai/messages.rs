//! The `messages` of a chat request: checked, counted, and read for what the answer is about.

use serde_json::Value;

use super::super::tokens;
use super::error::ApiError;
use super::fields::{Fields, empty_array, type_of};
use super::tools::MAX_TOOLS;

const ROLES: [&str; 6] = ["system", "assistant", "user", "function", "tool", "developer"];
const PART_TYPES: [&str; 5] = ["text", "image_url", "input_audio", "file", "refusal"];
/// Around every message and before the answer, as in OpenAI's cookbook "How to count tokens".
const TOKENS_PER_MESSAGE: u64 = 3;
const TOKENS_BEFORE_ANSWER: u64 = 3;
/// An image at low detail (OpenAI, "Images and vision"); used for every part that is not text.
const TOKENS_PER_ATTACHMENT: u64 = 85;

/// What a scripted model needs to know of the messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conversation {
    /// The text of the last user message; empty when there is none.
    pub last_user_text: String,
    /// The tool results at the end, when the last message is one.
    pub tool_result: Option<String>,
    /// The estimate for all messages.
    pub prompt_tokens: u64,
}

impl Conversation {
    /// Reads the `messages` of `request`.
    pub fn parse(request: &Fields<'_>) -> Result<Self, ApiError> {
        request.required("messages")?;
        let messages = request.objects("messages")?;
        if messages.is_empty() {
            return Err(empty_array("messages"));
        }
        let mut conversation = Self { prompt_tokens: TOKENS_BEFORE_ANSWER, ..Self::default() };
        let mut open_calls: Vec<&str> = Vec::new();
        for message in &messages {
            conversation.read(message, &mut open_calls)?;
        }
        Ok(conversation)
    }

    /// `open_calls`: ids of the calls that the last assistant message made.
    fn read<'a>(
        &mut self,
        message: &Fields<'a>,
        open_calls: &mut Vec<&'a str>,
    ) -> Result<(), ApiError> {
        message.required_string("role")?;
        let role = message.one_of("role", &ROLES)?.unwrap_or_default();
        let calls = message.objects_up_to(MAX_TOOLS, "tool_calls")?;
        let content = message.get("content");
        if content.is_none() && role != "assistant" {
            return Err(ApiError::missing(&message.path_of("content")));
        }
        let (text, attachments) = content_text(message, content)?;
        self.prompt_tokens += TOKENS_PER_MESSAGE
            + tokens::count(role)
            + tokens::count(&text)
            + attachments * TOKENS_PER_ATTACHMENT;
        for call in &calls {
            let function = call.required_object("function")?;
            let name = function.required_string("name")?;
            let arguments = function.required_string("arguments")?;
            self.prompt_tokens += tokens::count(name) + tokens::count(arguments);
        }
        match role {
            "tool" => {
                check_tool_result(message, open_calls)?;
                let result = self.tool_result.get_or_insert_default();
                if !result.is_empty() {
                    result.push(' ');
                }
                result.push_str(&text);
                return Ok(());
            }
            "assistant" => {
                let ids = calls.iter().map(|call| call.required_string("id"));
                *open_calls = ids.collect::<Result<_, _>>()?;
            }
            "user" => self.last_user_text = text,
            _ => {}
        }
        self.tool_result = None;
        Ok(())
    }
}

fn check_tool_result(message: &Fields<'_>, open_calls: &[&str]) -> Result<(), ApiError> {
    let id = message.required_string("tool_call_id")?;
    if open_calls.contains(&id) {
        return Ok(());
    }
    // OpenAI's sentence, its spelling included.
    let sentence = "Invalid parameter: messages with role 'tool' must be a response to a \
        preceeding message with 'tool_calls'.";
    Err(ApiError::invalid(&message.path_of("role"), "invalid_value", sentence))
}

/// The text of a message, and how many of its parts are something else.
fn content_text(message: &Fields<'_>, content: Option<&Value>) -> Result<(String, u64), ApiError> {
    match content {
        None => Ok((String::new(), 0)),
        Some(Value::String(text)) => Ok((text.clone(), 0)),
        Some(Value::Array(_)) => parts_text(&message.objects("content")?),
        Some(other) => {
            let expected = "one of a string or array of objects";
            Err(ApiError::wrong_type(&message.path_of("content"), expected, type_of(other)))
        }
    }
}

fn parts_text(parts: &[Fields<'_>]) -> Result<(String, u64), ApiError> {
    let mut texts = Vec::new();
    let mut attachments = 0;
    for part in parts {
        part.required_string("type")?;
        match part.one_of("type", &PART_TYPES)? {
            Some("text") => texts.push(part.required_string("text")?),
            Some("refusal") => texts.push(part.required_string("refusal")?),
            Some(kind) => {
                part.required_object(kind)?;
                attachments += 1;
            }
            None => {}
        }
    }
    Ok((texts.join("\n"), attachments))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(messages: Value) -> Result<Conversation, ApiError> {
        let request = json!({ "messages": messages });
        Conversation::parse(&Fields::at(String::new(), &request)?)
    }

    #[test]
    fn the_last_user_message_counts_in_any_form() {
        let conversation = parse(json!([
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "answer"},
            {"role": "user", "content": [
                {"type": "text", "text": "what is"},
                {"type": "image_url", "image_url": {"url": "data:,"}},
                {"type": "text", "text": "this?"},
            ]},
        ]))
        .unwrap();
        assert_eq!(conversation.last_user_text, "what is\nthis?");
        assert_eq!(conversation.tool_result, None);
        // 3 + 4 × (3 + role 1) + texts (2 + 1 + 1 + 4) + "assistant" is a second token + image.
        assert_eq!(conversation.prompt_tokens, 3 + 16 + 8 + 1 + 85);
    }

    #[test]
    fn tool_results_must_answer_a_call() {
        let call = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]});
        let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": id});
        let conversation = parse(json!([call, result("a"), result("b")])).unwrap();
        assert_eq!(conversation.tool_result.as_deref(), Some("a b"));
        assert!(parse(json!([call, result("c")])).is_err());
        assert!(parse(json!([result("a")])).is_err());
        let later = json!([call, result("a"), {"role": "user", "content": "thanks"}]);
        assert_eq!(parse(later).unwrap().tool_result, None);
    }
}
