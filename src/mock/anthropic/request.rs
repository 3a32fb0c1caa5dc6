//! A messages request: checked as api.anthropic.com checks it, and read for what the answer is
//! about.

use serde_json::Value;

use super::super::answer::Question;
use super::super::offer::{Offer, Tool, ToolChoice};
use super::super::reader::{Bad, Reader};
use super::super::tokens;
use super::super::wire::signature;

const FIELDS: [&str; 20] = [
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
];
const BLOCKS: [&str; 8] = [
    "text",
    "image",
    "document",
    "search_result",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
];
/// Around every message, chosen.
const TOKENS_PER_MESSAGE: u64 = 4;
/// For every image or document, chosen.
const TOKENS_PER_ATTACHMENT: u64 = 85;
/// Blocks with `cache_control` at most ("Prompt caching").
const MAX_CACHE_CONTROLS: usize = 4;
/// "Building with extended thinking".
const MIN_BUDGET_TOKENS: u64 = 1_024;
/// Chunks of thinking in an answer whose caller wants it, chosen.
const THINKING_CHUNKS: usize = 3;

/// A request that can be answered.
#[derive(Debug)]
pub(super) struct Request {
    pub question: Question,
    pub streams: bool,
}

impl Request {
    /// Reads `request`, which names `model` apart from its directives.
    pub fn parse(request: &Reader<'_>, model: &str) -> Result<Self, Bad> {
        let known: Vec<&str> = FIELDS.iter().copied().chain(["top_p"]).collect();
        request.only(&known)?;
        request.required("max_tokens")?;
        let max_tokens = request.unsigned("max_tokens")?.unwrap_or(0);
        if max_tokens == 0 {
            return Err(Bad::says("max_tokens", "Input should be greater than or equal to 1"));
        }
        request.number("temperature", 0.0, 1.0)?;
        request.number("top_p", 0.0, 1.0)?;
        let offer = offer(request)?;
        let thinks = thinking(request, &offer, max_tokens)?;
        let conversation = Conversation::parse(request, model)?;
        let question = Question {
            model: model.to_owned(),
            prompt_tokens: conversation.tokens + offer.prompt_tokens(),
            subject: offer.subject(conversation.last_user_text, conversation.tool_result),
            max_tokens: Some(max_tokens),
            stop: request.strings("stop_sequences")?,
            choices: 1,
            reasoning: if thinks { THINKING_CHUNKS } else { 0 },
        };
        Ok(Self { question, streams: request.boolean("stream")? })
    }
}

/// The estimate for a request that is not sent.
pub(super) fn count_tokens(request: &Reader<'_>, model: &str) -> Result<u64, Bad> {
    let uncounted = ["max_tokens", "stream", "stop_sequences", "temperature", "top_k"];
    let known: Vec<&str> =
        FIELDS.iter().copied().filter(|name| !uncounted.contains(name)).collect();
    request.only(&known)?;
    Ok(Conversation::parse(request, model)?.tokens + offer(request)?.prompt_tokens())
}

fn offer(request: &Reader<'_>) -> Result<Offer, Bad> {
    let mut offer = Offer { format: format(request)?, ..Offer::default() };
    for tool in request.objects("tools")? {
        let name = tool.required_string("name")?;
        // Tools that Anthropic runs have a version in their type, and no schema.
        if !matches!(tool.string("type")?, None | Some("custom")) {
            continue;
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 128 || !name.chars().all(is_name) {
            let sentence = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'";
            return Err(Bad::says(tool.path_of("name"), sentence));
        }
        if offer.has_tool(name) {
            return Err(Bad::says("tools", "Tool names must be unique."));
        }
        let schema = tool.required_object("input_schema")?;
        if schema.required_string("type")? != "object" {
            return Err(Bad::says(schema.path_of("type"), "Input should be 'object'"));
        }
        let parameters = tool.required("input_schema")?.clone();
        offer.tools.push(Tool { name: name.to_owned(), parameters });
    }
    if let Some(choice) = request.object("tool_choice")? {
        if offer.tools.is_empty() {
            let sentence = "tool_choice may only be specified while providing tools";
            return Err(Bad::says("tool_choice", sentence));
        }
        offer.one_call = choice.boolean("disable_parallel_tool_use")?;
        offer.choice = match choice.required_string("type")? {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::Never,
            "any" => ToolChoice::Always,
            "tool" => named(&choice, &offer)?,
            _ => {
                return Err(Bad::says(
                    "tool_choice.type",
                    "Input should be 'auto', 'any', 'tool' or 'none'",
                ));
            }
        };
    }
    Ok(offer)
}

fn named(choice: &Reader<'_>, offer: &Offer) -> Result<ToolChoice, Bad> {
    let name = choice.required_string("name")?;
    if !offer.has_tool(name) {
        let sentence = format!("Tool '{name}' not found in provided tools");
        return Err(Bad::says("tool_choice.name", sentence));
    }
    Ok(ToolChoice::Named(name.to_owned()))
}

fn format(request: &Reader<'_>) -> Result<Option<Value>, Bad> {
    let Some(config) = request.object("output_config")? else { return Ok(None) };
    config.only(&["effort", "format", "task_budget"])?;
    let Some(format) = config.object("format")? else { return Ok(None) };
    if format.required_string("type")? != "json_schema" {
        return Err(Bad::says(format.path_of("type"), "Input should be 'json_schema'"));
    }
    format.required_object("schema")?;
    Ok(format.get("schema").cloned())
}

/// Whether the answer is to think, and the rules that come with it.
fn thinking(request: &Reader<'_>, offer: &Offer, max_tokens: u64) -> Result<bool, Bad> {
    let Some(thinking) = request.object("thinking")? else { return Ok(false) };
    match thinking.required_string("type")? {
        "disabled" => return Ok(false),
        "adaptive" | "between_tools" => return Ok(true),
        "enabled" => {}
        _ => {
            let sentence = "Input should be 'enabled', 'disabled' or 'adaptive'";
            return Err(Bad::says("thinking.type", sentence));
        }
    }
    thinking.required("budget_tokens")?;
    let budget = thinking.unsigned("budget_tokens")?.unwrap_or(0);
    if budget < MIN_BUDGET_TOKENS {
        let sentence = "Input should be greater than or equal to 1024";
        return Err(Bad::says("thinking.enabled.budget_tokens", sentence));
    }
    if budget >= max_tokens {
        return Err(Bad::says(
            "",
            "`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at https://docs.claude.com/en/docs/build-with-claude/extended-thinking#max-tokens-and-context-window-size",
        ));
    }
    if request.get("temperature").and_then(Value::as_f64).is_some_and(|t| t < 1.0) {
        return Err(Bad::says("", "`temperature` may only be set to 1 when thinking is enabled."));
    }
    if request.get("top_p").and_then(Value::as_f64).is_some_and(|p| p < 0.95) {
        let sentence =
            "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.";
        return Err(Bad::says("", sentence));
    }
    if request.get("top_k").is_some() {
        return Err(Bad::says("", "`top_k` must be unset when thinking is enabled."));
    }
    if matches!(offer.choice, ToolChoice::Always | ToolChoice::Named(_)) {
        return Err(Bad::says("", "Thinking may not be enabled when tool_choice forces tool use."));
    }
    Ok(true)
}

/// What a scripted model needs to know of the messages.
#[derive(Debug, Default)]
struct Conversation {
    last_user_text: String,
    tool_result: Option<String>,
    tokens: u64,
    cache_controls: usize,
}

impl Conversation {
    fn parse(request: &Reader<'_>, model: &str) -> Result<Self, Bad> {
        let mut conversation = Self::default();
        conversation.system(request, "system")?;
        // Ids of the calls that the message before made.
        let mut open_calls: Vec<&str> = Vec::new();
        for (number, message) in request.some_objects("messages")?.iter().enumerate() {
            message.only(&["role", "content"])?;
            let role = message.required_string("role")?;
            if !matches!(role, "user" | "assistant" | "system") {
                let sentence = "Input should be 'user', 'assistant' or 'system'";
                return Err(Bad::says(message.path_of("role"), sentence));
            }
            if number == 0 && role != "user" {
                let sentence = "first message must use the \"user\" role";
                return Err(Bad::says("messages", sentence));
            }
            // Instructions in the middle ("Mid-conversation system messages"): texts only.
            if role == "system" {
                conversation.tokens += TOKENS_PER_MESSAGE;
                conversation.system(message, "content")?;
                continue;
            }
            conversation.message(message, role, model, &mut open_calls)?;
        }
        if let Some(id) = open_calls.first() {
            return Err(unanswered("messages", id));
        }
        if conversation.cache_controls > MAX_CACHE_CONTROLS {
            let found = conversation.cache_controls;
            let sentence =
                format!("A maximum of 4 blocks with cache_control may be provided. Found {found}.");
            return Err(Bad::says("", sentence));
        }
        Ok(conversation)
    }

    fn system(&mut self, from: &Reader<'_>, field: &str) -> Result<(), Bad> {
        if let Some(Value::String(text)) = from.get(field) {
            self.tokens += tokens::count(text);
            return Ok(());
        }
        for block in from.objects(field)? {
            if block.required_string("type")? != "text" {
                return Err(Bad::says(block.path_of("type"), "Input should be 'text'"));
            }
            self.tokens += tokens::count(text_of(&block, field)?);
            self.cache_controls += usize::from(block.get("cache_control").is_some());
        }
        Ok(())
    }

    fn message<'a>(
        &mut self,
        message: &Reader<'a>,
        role: &str,
        model: &str,
        open_calls: &mut Vec<&'a str>,
    ) -> Result<(), Bad> {
        self.tokens += TOKENS_PER_MESSAGE;
        let blocks = match message.required("content")? {
            Value::String(text) => {
                if let Some(id) = open_calls.first() {
                    return Err(unanswered(message.path(), id));
                }
                self.tokens += tokens::count(text);
                if text.is_empty() {
                    let sentence = "text content blocks must be non-empty";
                    return Err(Bad::says("messages", sentence));
                }
                if role == "user" {
                    self.last_user_text.clone_from(text);
                    self.tool_result = None;
                }
                return Ok(());
            }
            _ => message.some_objects("content")?,
        };
        let mut texts = Vec::new();
        let mut results = Vec::new();
        let called = std::mem::take(open_calls);
        let mut unanswered_calls = called.clone();
        for block in &blocks {
            self.cache_controls += usize::from(block.get("cache_control").is_some());
            match block.required_string("type")? {
                "text" => texts.push(text_of(block, "messages")?),
                "tool_use" if role == "assistant" => {
                    open_calls.push(block.required_string("id")?);
                    block.required_string("name")?;
                    block.required_object("input")?;
                    self.tokens +=
                        block.get("input").map_or(0, |input| tokens::count(&input.to_string()));
                }
                "tool_result" if role == "user" => {
                    let id = block.required_string("tool_use_id")?;
                    if !called.contains(&id) {
                        return Err(Bad::says(
                            block.path(),
                            format!(
                                "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
                            ),
                        ));
                    }
                    unanswered_calls.retain(|open| *open != id);
                    results.push(self.result_text(block)?);
                }
                "thinking" if role == "assistant" => check_signature(block, model)?,
                "redacted_thinking" if role == "assistant" => {
                    block.required_string("data")?;
                }
                "image" | "document" if role == "user" => {
                    check_source(block)?;
                    self.tokens += TOKENS_PER_ATTACHMENT;
                }
                "search_result" if role == "user" => {}
                kind if BLOCKS.contains(&kind) => {
                    let sentence = format!("`{kind}` blocks are not allowed in `{role}` messages");
                    return Err(Bad::says(block.path(), sentence));
                }
                kind => {
                    let sentence = format!(
                        "Input tag '{kind}' found using 'type' does not match any of the expected tags"
                    );
                    return Err(Bad::says(block.path(), sentence));
                }
            }
        }
        if let Some(id) = unanswered_calls.first() {
            return Err(unanswered(message.path(), id));
        }
        let text = texts.join("\n");
        self.tokens += tokens::count(&text);
        if role == "user" {
            self.tool_result = (!results.is_empty()).then(|| results.join(" "));
            // A text after results goes on with them; alone it is a new question.
            if !text.is_empty() && self.tool_result.is_none() {
                self.last_user_text = text;
            }
        }
        Ok(())
    }

    fn result_text(&mut self, block: &Reader<'_>) -> Result<String, Bad> {
        block.boolean("is_error")?;
        if let Some(Value::String(text)) = block.get("content") {
            self.tokens += tokens::count(text);
            return Ok(text.clone());
        }
        let mut texts = Vec::new();
        for part in block.objects("content")? {
            match part.required_string("type")? {
                "text" => texts.push(part.required_string("text")?),
                _ => self.tokens += TOKENS_PER_ATTACHMENT,
            }
        }
        let text = texts.join("\n");
        self.tokens += tokens::count(&text);
        Ok(text)
    }
}

fn text_of<'a>(block: &Reader<'a>, field: &str) -> Result<&'a str, Bad> {
    let text = block.required_string("text")?;
    if text.is_empty() {
        return Err(Bad::says(field, "text content blocks must be non-empty"));
    }
    Ok(text)
}

/// Thinking comes back as it was given, to the model that gave it.
fn check_signature(block: &Reader<'_>, model: &str) -> Result<(), Bad> {
    let thinking = block.required_string("thinking")?;
    if block.required_string("signature")? != signature(model, thinking) {
        return Err(Bad::says(block.path(), "Invalid `signature` in `thinking` block"));
    }
    Ok(())
}

fn check_source(block: &Reader<'_>) -> Result<(), Bad> {
    let source = block.required_object("source")?;
    let field = match source.required_string("type")? {
        "base64" => {
            source.required_string("media_type")?;
            "data"
        }
        "text" => "data",
        "url" => "url",
        "file" => "file_id",
        "content" => return Ok(()),
        _ => {
            let sentence = "Input should be 'base64', 'url' or 'file'";
            return Err(Bad::says(source.path_of("type"), sentence));
        }
    };
    source.required_string(field).map(drop)
}

fn unanswered(path: &str, id: &str) -> Bad {
    Bad::says(
        path,
        format!(
            "`tool_use` ids were found without `tool_result` blocks immediately after: {id}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
        ),
    )
}
