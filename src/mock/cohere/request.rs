//! A chat request: checked, and read for what the answer is about.

use serde_json::{Value, json};

use super::super::answer::Question;
use super::super::offer::{Offer, Tool, ToolChoice, any_object};
use super::super::reader::{Bad, Reader};
use super::super::tokens;

const FIELDS: [&str; 21] = [
    "stream",
    "model",
    "messages",
    "tools",
    "strict_tools",
    "documents",
    "citation_options",
    "response_format",
    "safety_mode",
    "max_tokens",
    "stop_sequences",
    "temperature",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "k",
    "p",
    "logprobs",
    "tool_choice",
    "thinking",
    "priority",
];
/// Around every message, chosen.
const TOKENS_PER_MESSAGE: u64 = 3;
/// For every part that is not text, chosen.
const TOKENS_PER_ATTACHMENT: u64 = 85;
/// Chunks of thinking in an answer whose caller wants it, chosen.
const THINKING_CHUNKS: usize = 3;

/// What `request` asks of `model`.
pub(super) fn question(request: &Reader<'_>, model: &str) -> Result<Question, Bad> {
    request.only(&FIELDS)?;
    request.number("temperature", 0.0, 2.0)?;
    request.number("p", 0.0, 1.0)?;
    let mut conversation = Conversation::default();
    conversation.messages(request)?;
    let offer = offer(request)?;
    let thinks = match request.object("thinking")? {
        Some(thinking) => thinking.required_string("type")? == "enabled",
        None => false,
    };
    Ok(Question {
        model: model.to_owned(),
        prompt_tokens: conversation.tokens + offer.prompt_tokens(),
        subject: offer.subject(conversation.last_user_text, conversation.tool_result),
        max_tokens: request.unsigned("max_tokens")?,
        stop: request.strings("stop_sequences")?,
        choices: 1,
        reasoning: if thinks { THINKING_CHUNKS } else { 0 },
    })
}

fn offer(request: &Reader<'_>) -> Result<Offer, Bad> {
    let mut offer = Offer { format: format(request)?, ..Offer::default() };
    for tool in request.objects("tools")? {
        let function = tool.required_object("function")?;
        let name = function.required_string("name")?.to_owned();
        let parameters = function.get("parameters").cloned().unwrap_or_else(|| json!({}));
        offer.tools.push(Tool { name, parameters });
    }
    offer.choice = match request.string("tool_choice")? {
        None => ToolChoice::Auto,
        Some("REQUIRED") if offer.tools.is_empty() => {
            return Err(Bad::says("tool_choice", "tools must be specified"));
        }
        Some("REQUIRED") => ToolChoice::Always,
        Some("NONE") => ToolChoice::Never,
        Some(_) => return Err(Bad::says("tool_choice", "should be REQUIRED or NONE")),
    };
    Ok(offer)
}

fn format(request: &Reader<'_>) -> Result<Option<Value>, Bad> {
    let Some(format) = request.object("response_format")? else { return Ok(None) };
    match format.required_string("type")? {
        "text" => Ok(None),
        "json_object" if request.get("tools").is_some() => {
            Err(Bad::says("response_format", "cannot be used together with tools"))
        }
        "json_object" => {
            let schema = format.get("json_schema").or(format.get("schema"));
            Ok(Some(schema.cloned().unwrap_or_else(any_object)))
        }
        _ => Err(Bad::says(format.path_of("type"), "should be text or json_object")),
    }
}

#[derive(Debug, Default)]
struct Conversation {
    last_user_text: String,
    tool_result: Option<String>,
    tokens: u64,
}

impl Conversation {
    fn messages(&mut self, request: &Reader<'_>) -> Result<(), Bad> {
        // Ids of the calls that the last assistant message made.
        let mut called: Vec<&str> = Vec::new();
        for message in request.some_objects("messages")? {
            self.message(&message, &mut called)?;
        }
        Ok(())
    }

    fn message<'a>(&mut self, message: &Reader<'a>, called: &mut Vec<&'a str>) -> Result<(), Bad> {
        let text = self.text(message)?;
        self.tokens += TOKENS_PER_MESSAGE + tokens::count(&text);
        match message.required_string("role")? {
            "tool" => {
                let id = message.required_string("tool_call_id")?;
                if !called.contains(&id) {
                    let sentence = format!("no tool call has the id {id}");
                    return Err(Bad::says(message.path_of("tool_call_id"), sentence));
                }
                let result = self.tool_result.get_or_insert_default();
                if !result.is_empty() {
                    result.push(' ');
                }
                result.push_str(&text);
                return Ok(());
            }
            "assistant" => {
                let plan = message.string("tool_plan")?.unwrap_or_default();
                self.tokens += tokens::count(plan);
                called.clear();
                for call in message.objects("tool_calls")? {
                    called.push(call.required_string("id")?);
                    let function = call.required_object("function")?;
                    function.required_string("name")?;
                    self.tokens += tokens::count(function.required_string("arguments")?);
                }
                if text.is_empty() && called.is_empty() {
                    let sentence = "must have content or tool calls";
                    return Err(Bad::says(message.path(), sentence));
                }
            }
            "user" => self.last_user_text = text,
            "system" => {}
            _ => {
                let sentence = "should be user, assistant, system or tool";
                return Err(Bad::says(message.path_of("role"), sentence));
            }
        }
        self.tool_result = None;
        Ok(())
    }

    fn text(&mut self, message: &Reader<'_>) -> Result<String, Bad> {
        if let Some(Value::String(text)) = message.get("content") {
            return Ok(text.clone());
        }
        let mut texts = Vec::new();
        for part in message.objects("content")? {
            match part.required_string("type")? {
                "text" => texts.push(part.required_string("text")?.to_owned()),
                "thinking" => texts.push(part.required_string("thinking")?.to_owned()),
                "document" => {
                    let document = part.required_object("document")?;
                    texts.push(match document.required("data")? {
                        Value::String(text) => text.clone(),
                        data => data.to_string(),
                    });
                }
                "image_url" => {
                    part.required_object("image_url")?.required_string("url")?;
                    self.tokens += TOKENS_PER_ATTACHMENT;
                }
                kind => {
                    let sentence = format!("{kind} is not a valid type");
                    return Err(Bad::says(part.path_of("type"), sentence));
                }
            }
        }
        Ok(texts.join("\n"))
    }
}
