//! A Converse request: checked as Bedrock checks it, and read for what the answer is about.

use serde_json::Value;

use super::super::answer::Question;
use super::super::offer::{Offer, Tool, ToolChoice};
use super::super::reader::{Bad, Reader};
use super::super::tokens;
use super::super::wire::signature;

const BLOCKS: [&str; 12] = [
    "text",
    "image",
    "document",
    "video",
    "audio",
    "toolUse",
    "toolResult",
    "guardContent",
    "cachePoint",
    "reasoningContent",
    "citationsContent",
    "searchResult",
];
/// For every part that is not text, chosen.
const TOKENS_PER_ATTACHMENT: u64 = 85;
/// Chunks of reasoning in an answer whose caller wants it, chosen.
const REASONING_CHUNKS: usize = 3;

/// What `request` asks of `model`.
pub(super) fn question(request: &Reader<'_>, model: &str) -> Result<Question, Bad> {
    let mut conversation = Conversation::default();
    for block in request.objects("system")? {
        match block.which(&["text", "cachePoint", "guardContent"]) {
            Some("text") => conversation.tokens += tokens::count(block.required_string("text")?),
            Some(_) => {}
            None => return Err(Bad::says("", "The system field has a block without content.")),
        }
    }
    let offer = offer(request)?;
    conversation.messages(request, model)?;
    if conversation.uses_tools && request.get("toolConfig").is_none() {
        let sentence = "The toolConfig field must be defined when using toolUse and toolResult content blocks.";
        return Err(Bad::says("toolConfig", sentence));
    }
    let mut question = Question {
        model: model.to_owned(),
        prompt_tokens: conversation.tokens + offer.prompt_tokens(),
        subject: offer.subject(conversation.last_user_text, conversation.tool_result),
        max_tokens: None,
        stop: Vec::new(),
        choices: 1,
        reasoning: if thinks(request)? { REASONING_CHUNKS } else { 0 },
    };
    if let Some(config) = request.object("inferenceConfig")? {
        config.only(&["maxTokens", "temperature", "topP", "stopSequences"])?;
        question.max_tokens = config.unsigned("maxTokens")?;
        config.number("temperature", 0.0, 1.0)?;
        config.number("topP", 0.0, 1.0)?;
        question.stop = config.strings("stopSequences")?;
    }
    Ok(question)
}

/// What the model takes beside the fields of Converse: the thinking of Anthropic's models.
fn thinks(request: &Reader<'_>) -> Result<bool, Bad> {
    let Some(more) = request.object("additionalModelRequestFields")? else { return Ok(false) };
    let key = more.which(&["thinking", "reasoning_config"]).unwrap_or("thinking");
    let Some(thinking) = more.object(key)? else { return Ok(false) };
    Ok(matches!(thinking.string("type")?, Some("enabled" | "adaptive")))
}

fn offer(request: &Reader<'_>) -> Result<Offer, Bad> {
    let mut offer = Offer { format: format(request)?, ..Offer::default() };
    let Some(config) = request.object("toolConfig")? else { return Ok(offer) };
    for tool in config.some_objects("tools")? {
        let Some(spec) = tool.object("toolSpec")? else { continue };
        let name = spec.required_string("name")?.to_owned();
        let schema = spec.required_object("inputSchema")?;
        schema.required_object("json")?;
        offer.tools.push(Tool { name, parameters: schema.required("json")?.clone() });
    }
    let Some(choice) = config.object("toolChoice")? else { return Ok(offer) };
    offer.choice = match choice.which(&["auto", "any", "tool"]) {
        Some("auto") => ToolChoice::Auto,
        Some("any") => ToolChoice::Always,
        Some("tool") => {
            let name = choice.required_object("tool")?.required_string("name")?;
            if !offer.has_tool(name) {
                let sentence = format!(
                    "The toolChoice names the tool {name}, which toolConfig does not define."
                );
                return Err(Bad::says("toolConfig", sentence));
            }
            ToolChoice::Named(name.to_owned())
        }
        _ => return Err(Bad::says("toolConfig", "The toolChoice field must have one member.")),
    };
    Ok(offer)
}

fn format(request: &Reader<'_>) -> Result<Option<Value>, Bad> {
    let Some(config) = request.object("outputConfig")? else { return Ok(None) };
    let Some(format) = config.object("textFormat")? else { return Ok(None) };
    if format.required_string("type")? != "json_schema" {
        return Err(Bad::says(format.path(), "The textFormat type must be json_schema."));
    }
    let structure = format.required_object("structure")?;
    let schema = structure.required_object("jsonSchema")?.required_string("schema")?;
    let parsed = serde_json::from_str(schema);
    parsed.map(Some).map_err(|_| Bad::says(format.path(), "The JSON schema is not valid JSON."))
}

#[derive(Debug, Default)]
struct Conversation {
    last_user_text: String,
    tool_result: Option<String>,
    uses_tools: bool,
    tokens: u64,
}

impl Conversation {
    fn messages(&mut self, request: &Reader<'_>, model: &str) -> Result<(), Bad> {
        // Ids of the calls that the message before made.
        let mut called: Vec<&str> = Vec::new();
        let mut last_role = "assistant";
        for message in request.some_objects("messages")? {
            let role = message.required_string("role")?;
            if role != "user" && role != "assistant" {
                let path = message.path_of("role").replace('[', ".").replace(']', "");
                let sentence = format!(
                    "1 validation error detected: Value '{role}' at '{path}' failed to satisfy constraint: Member must satisfy enum value set: [user, assistant]"
                );
                return Err(Bad::says("", sentence));
            }
            if role == last_role {
                let sentence = match message.path() {
                    "messages[0]" => {
                        "A conversation must start with a user message. Try again with a conversation that starts with a user message."
                    }
                    _ => {
                        "A conversation must alternate between user and assistant roles. Make sure the conversation alternates between user and assistant roles and try again."
                    }
                };
                return Err(Bad::says("", sentence));
            }
            last_role = role;
            self.message(&message, role, model, &mut called)?;
        }
        Ok(())
    }

    fn message<'a>(
        &mut self,
        message: &Reader<'a>,
        role: &str,
        model: &str,
        called: &mut Vec<&'a str>,
    ) -> Result<(), Bad> {
        let mut texts = Vec::new();
        let mut results = Vec::new();
        let mut calls = Vec::new();
        let mut answered = Vec::new();
        for block in message.some_objects("content")? {
            let at = block.path().replace('[', ".").replace(']', "");
            match block.which(&BLOCKS) {
                Some("text") => {
                    let text = block.required_string("text")?;
                    if text.trim().is_empty() {
                        let sentence = format!(
                            "The text field in the ContentBlock object at {at} is blank. Add text to the text field, and try again."
                        );
                        return Err(Bad::says("", sentence));
                    }
                    texts.push(text);
                }
                Some("toolUse") => {
                    let call = block.required_object("toolUse")?;
                    calls.push(call.required_string("toolUseId")?);
                    call.required_string("name")?;
                    self.tokens += tokens::count(&call.required("input")?.to_string());
                }
                Some("toolResult") => {
                    let result = block.required_object("toolResult")?;
                    answered.push(result.required_string("toolUseId")?);
                    results.push(self.result_text(&result)?);
                }
                Some("reasoningContent") => check_signature(&block, model)?,
                Some("document") => {
                    let document = block.required_object("document")?;
                    check_document_name(document.required_string("name")?)?;
                    self.tokens += TOKENS_PER_ATTACHMENT;
                }
                Some("image") => {
                    let image = block.required_object("image")?;
                    image.required_string("format")?;
                    image.required_object("source")?;
                    self.tokens += TOKENS_PER_ATTACHMENT;
                }
                Some(_) => {}
                None => {
                    let sentence = format!(
                        "The content field in the Message object at {at} has no known member."
                    );
                    return Err(Bad::says("", sentence));
                }
            }
        }
        self.uses_tools |= !calls.is_empty() || !answered.is_empty();
        check_results(message, called, &answered)?;
        *called = calls;
        let text = texts.join("\n");
        self.tokens += tokens::count(&text);
        if role == "user" {
            self.tool_result = (!results.is_empty()).then(|| results.join(" "));
            if self.tool_result.is_none() {
                self.last_user_text = text;
            }
        }
        Ok(())
    }

    fn result_text(&mut self, result: &Reader<'_>) -> Result<String, Bad> {
        result.required("content")?;
        let mut texts = Vec::new();
        for part in result.objects("content")? {
            match part.which(&["text", "json"]) {
                Some("text") => texts.push(part.required_string("text")?.to_owned()),
                Some(_) => texts.push(part.required("json")?.to_string()),
                None => self.tokens += TOKENS_PER_ATTACHMENT,
            }
        }
        let text = texts.join("\n");
        self.tokens += tokens::count(&text);
        Ok(text)
    }
}

fn check_results(message: &Reader<'_>, called: &[&str], answered: &[&str]) -> Result<(), Bad> {
    let at = message.path_of("content").replace('[', ".").replace(']', "");
    if let Some(missing) = called.iter().find(|id| !answered.contains(id)) {
        let sentence =
            format!("Expected toolResult blocks at {at} for the following Ids: {missing}");
        return Err(Bad::says("", sentence));
    }
    if answered.iter().any(|id| !called.contains(id)) {
        let sentence = format!(
            "The number of toolResult blocks at {at} exceeds the number of toolUse blocks of previous turn."
        );
        return Err(Bad::says("", sentence));
    }
    Ok(())
}

fn check_document_name(name: &str) -> Result<(), Bad> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || " -()[]".contains(c);
    if name.is_empty() || !name.chars().all(is_allowed) || name.contains("  ") {
        let sentence = "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, parentheses, and square brackets. The name can't contain more than one consecutive whitespace character.";
        return Err(Bad::says("", sentence));
    }
    Ok(())
}

/// Reasoning comes back as it was given, to the model that gave it.
fn check_signature(block: &Reader<'_>, model: &str) -> Result<(), Bad> {
    let reasoning = block.required_object("reasoningContent")?;
    let Some(text) = reasoning.object("reasoningText")? else { return Ok(()) };
    if text.required_string("signature")? != signature(model, text.required_string("text")?) {
        return Err(Bad::says("", "The signature of a reasoningText block is not valid."));
    }
    Ok(())
}
