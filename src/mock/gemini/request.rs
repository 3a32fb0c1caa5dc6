//! A `GenerateContentRequest`: checked as Google's transcoder checks it (unknown fields are
//! errors), and read for what the answer is about.

use serde_json::{Map, Value, json};

use super::super::answer::Question;
use super::super::offer::{Offer, Tool, ToolChoice, any_object};
use super::super::reader::{Bad, Reader};
use super::super::tokens;
use super::super::wire::signature;
use super::answer::SIGNED;

const FIELDS: [&str; 9] = [
    "model",
    "contents",
    "tools",
    "toolConfig",
    "safetySettings",
    "systemInstruction",
    "generationConfig",
    "cachedContent",
    "serviceTier",
];
const PARTS: [&str; 8] = [
    "text",
    "inlineData",
    "functionCall",
    "functionResponse",
    "fileData",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
];
const PART_FIELDS: [&str; 6] = [
    "thought",
    "thoughtSignature",
    "partMetadata",
    "videoMetadata",
    "mediaResolution",
    "toolResponse",
];
const CONFIG: [&str; 24] = [
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "_responseJsonSchema",
    "responseJsonSchema",
    "responseModalities",
    "candidateCount",
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "enableEnhancedCivicAnswers",
    "speechConfig",
    "thinkingConfig",
    "imageConfig",
    "mediaResolution",
    "responseFormat",
    "routingConfig",
    "audioTimestamp",
];
const SCHEMA_FIELDS: [&str; 23] = [
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
    "additionalProperties",
];
/// For every part that is not text; as Google counts a small image.
const TOKENS_PER_ATTACHMENT: u64 = 258;
/// Chunks of thoughts in an answer whose caller wants them, chosen.
const THOUGHT_CHUNKS: usize = 3;

/// What `request` asks of `model`.
pub(super) fn question(request: &Reader<'_>, model: &str) -> Result<Question, Bad> {
    request.only(&FIELDS)?;
    let mut offer = Offer { tools: tools(request)?, ..Offer::default() };
    offer.choice = choice(request, &offer)?;
    let mut conversation = Conversation::default();
    if let Some(system) = request.object("systemInstruction")? {
        for part in system.objects("parts")? {
            conversation.tokens += tokens::count(part.required_string("text")?);
        }
    }
    conversation.contents(request, model)?;
    let mut question = Question {
        model: model.to_owned(),
        prompt_tokens: conversation.tokens + offer.prompt_tokens(),
        // Replaced below, when the configuration has had its say.
        subject: super::super::answer::Subject::Message(String::new()),
        max_tokens: None,
        stop: Vec::new(),
        choices: 1,
        reasoning: 0,
    };
    if let Some(config) = request.object("generationConfig")? {
        offer.format = format(&config)?;
        configure(&config, &mut question)?;
    }
    question.subject = offer.subject(conversation.last_user_text, conversation.tool_result);
    Ok(question)
}

fn configure(config: &Reader<'_>, question: &mut Question) -> Result<(), Bad> {
    config.only(&CONFIG)?;
    config.number("temperature", 0.0, 2.0)?;
    config.number("topP", 0.0, 1.0)?;
    if config.unsigned("candidateCount")?.is_some_and(|count| count != 1) {
        return Err(Bad::says("", "Multiple candidates is not enabled for this model"));
    }
    question.max_tokens = config.unsigned("maxOutputTokens")?;
    question.stop = config.strings("stopSequences")?;
    if let Some(thinking) = config.object("thinkingConfig")? {
        thinking.only(&["includeThoughts", "thinkingBudget", "thinkingLevel"])?;
        if thinking.get("thinkingBudget").is_some() && thinking.get("thinkingLevel").is_some() {
            let sentence = "You can only set one of thinking budget and thinking level.";
            return Err(Bad::says("", sentence));
        }
        question.reasoning = if thinking.boolean("includeThoughts")? { THOUGHT_CHUNKS } else { 0 };
    }
    Ok(())
}

fn tools(request: &Reader<'_>) -> Result<Vec<Tool>, Bad> {
    let mut tools = Vec::new();
    for tool in request.objects("tools")? {
        for function in tool.objects("functionDeclarations")? {
            function.only(&[
                "name",
                "description",
                "behavior",
                "parameters",
                "parametersJsonSchema",
                "response",
                "responseJsonSchema",
            ])?;
            let name = function.required_string("name")?.to_owned();
            let parameters = match function.object("parameters")? {
                Some(schema) => json_schema(&schema)?,
                None => function.get("parametersJsonSchema").cloned().unwrap_or_else(|| json!({})),
            };
            tools.push(Tool { name, parameters });
        }
    }
    Ok(tools)
}

fn choice(request: &Reader<'_>, offer: &Offer) -> Result<ToolChoice, Bad> {
    let Some(config) = request.object("toolConfig")? else { return Ok(ToolChoice::Auto) };
    config.only(&[
        "functionCallingConfig",
        "retrievalConfig",
        "includeServerSideToolInvocations",
    ])?;
    let Some(calling) = config.object("functionCallingConfig")? else {
        return Ok(ToolChoice::Auto);
    };
    calling.only(&["mode", "allowedFunctionNames", "streamFunctionCallArguments"])?;
    let allowed = calling.strings("allowedFunctionNames")?;
    let mode = calling.string("mode")?.unwrap_or("AUTO");
    if let Some(unknown) = allowed.iter().find(|name| !offer.has_tool(name)) {
        let sentence = format!("allowed_function_names contains an unknown function: {unknown}");
        return Err(Bad::says(calling.path_of("allowedFunctionNames"), sentence));
    }
    if !allowed.is_empty() && mode != "ANY" && mode != "VALIDATED" {
        let sentence = "Please set allowed_function_names only when function calling mode is ANY.";
        return Err(Bad::says("", sentence));
    }
    match (mode, allowed.into_iter().next()) {
        ("NONE", _) => Ok(ToolChoice::Never),
        ("ANY", Some(name)) => Ok(ToolChoice::Named(name)),
        ("ANY", None) => Ok(ToolChoice::Always),
        ("AUTO" | "VALIDATED" | "MODE_UNSPECIFIED", _) => Ok(ToolChoice::Auto),
        (other, _) => {
            let sentence = format!("Invalid value: \"{other}\"");
            Err(Bad::says(calling.path_of("mode"), sentence))
        }
    }
}

fn format(config: &Reader<'_>) -> Result<Option<Value>, Bad> {
    let is_json = config.string("responseMimeType")? == Some("application/json");
    let schema = match config.object("responseSchema")? {
        Some(schema) => Some(json_schema(&schema)?),
        None => config.get("responseJsonSchema").cloned(),
    };
    if schema.is_some() && !is_json {
        let sentence =
            "Function calling or response schema requires response_mime_type 'application/json'";
        return Err(Bad::says("", sentence));
    }
    Ok(schema.or_else(|| is_json.then(any_object)))
}

/// Google's `Schema` (OpenAPI 3.0, types in capitals) as JSON schema.
fn json_schema(schema: &Reader<'_>) -> Result<Value, Bad> {
    schema.only(&SCHEMA_FIELDS)?;
    let mut rules = Map::new();
    for (name, value) in SCHEMA_FIELDS.iter().filter_map(|name| Some((*name, schema.get(name)?))) {
        let value = match (name, value) {
            ("type", Value::String(kind)) => json!(kind.to_lowercase()),
            ("items", _) => json_schema(&schema.required_object("items")?)?,
            ("anyOf", _) => {
                let all = schema.objects("anyOf")?;
                Value::Array(all.iter().map(json_schema).collect::<Result<_, _>>()?)
            }
            ("properties", Value::Object(properties)) => {
                let at = schema.path_of("properties");
                let read = |(name, value): (&String, &Value)| {
                    let property = schema.at(format!("{at}[0].value"), value)?;
                    Ok((name.clone(), json_schema(&property)?))
                };
                Value::Object(properties.iter().map(read).collect::<Result<_, Bad>>()?)
            }
            // Integers are strings in protobuf's JSON, and may be numbers.
            ("minItems" | "maxItems" | "minLength" | "maxLength", Value::String(number)) => {
                json!(number.parse::<u64>().unwrap_or(0))
            }
            _ => value.clone(),
        };
        rules.insert(name.to_owned(), value);
    }
    Ok(Value::Object(rules))
}

#[derive(Debug, Default)]
struct Conversation {
    last_user_text: String,
    tool_result: Option<String>,
    tokens: u64,
}

impl Conversation {
    fn contents(&mut self, request: &Reader<'_>, model: &str) -> Result<(), Bad> {
        // Names of the functions that the content before called.
        let mut called: Vec<&str> = Vec::new();
        for content in request.some_objects("contents")? {
            content.only(&["role", "parts"])?;
            let role = content.string("role")?.unwrap_or("user");
            if !["user", "model", "function"].contains(&role) {
                let sentence = "Please use a valid role: user, model.";
                return Err(Bad::says("", sentence));
            }
            self.content(&content, role, model, &mut called)?;
        }
        Ok(())
    }

    fn content<'a>(
        &mut self,
        content: &Reader<'a>,
        role: &str,
        model: &str,
        called: &mut Vec<&'a str>,
    ) -> Result<(), Bad> {
        let mut texts = Vec::new();
        let mut results = Vec::new();
        let mut calls = Vec::new();
        for part in content.some_objects("parts")? {
            let known: Vec<&str> = PARTS.into_iter().chain(PART_FIELDS).collect();
            part.only(&known)?;
            check_signature(&part, model)?;
            match part.which(&PARTS) {
                Some("text") => texts.push(part.required_string("text")?),
                Some("functionCall") => {
                    let call = part.required_object("functionCall")?;
                    call.only(&["id", "name", "args", "partialArgs", "willContinue"])?;
                    calls.push(call.required_string("name")?);
                    self.tokens += tokens::count(&part.required("functionCall")?.to_string());
                }
                Some("functionResponse") => {
                    let response = part.required_object("functionResponse")?;
                    response.only(&[
                        "id",
                        "name",
                        "response",
                        "parts",
                        "willContinue",
                        "scheduling",
                    ])?;
                    response.required_string("name")?;
                    results.push(result_text(&response)?);
                }
                Some(kind) => {
                    if kind == "inlineData" {
                        let data = part.required_object(kind)?;
                        data.required_string("mimeType")?;
                        data.required_string("data")?;
                    }
                    self.tokens += TOKENS_PER_ATTACHMENT;
                }
                None => {
                    let sentence = "required oneof field 'data' must have one initialized field";
                    return Err(Bad::says(part.path(), sentence));
                }
            }
        }
        if results.len() != called.len() {
            return Err(Bad::says(
                "",
                "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.",
            ));
        }
        *called = calls;
        let text = texts.join("\n");
        self.tokens += tokens::count(&text) + results.iter().map(|r| tokens::count(r)).sum::<u64>();
        if role != "model" {
            self.tool_result = (!results.is_empty()).then(|| results.join(" "));
            if self.tool_result.is_none() {
                self.last_user_text = text;
            }
        }
        Ok(())
    }
}

/// The text that a result's struct carries, or the struct itself.
fn result_text(response: &Reader<'_>) -> Result<String, Bad> {
    let fields = response.required_object("response")?;
    let value = ["result", "output", "content", "error"].iter().find_map(|name| fields.get(name));
    Ok(match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => response.required("response")?.to_string(),
    })
}

/// Signatures come back as they were given, to the model that gave them.
fn check_signature(part: &Reader<'_>, model: &str) -> Result<(), Bad> {
    match part.string("thoughtSignature")? {
        Some(given) if given != signature(model, SIGNED) => {
            Err(Bad::says("", "Thought signature is not valid."))
        }
        _ => Ok(()),
    }
}
