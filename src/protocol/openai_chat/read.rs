//! A caller's chat request.

use crate::protocol::{
    fields::{Fields, RequestError, StringOrParts},
    json::{Json, object},
    neutral::{
        Conversation, Dialect, Effort, Format, Function, KnownAs, Part, PartBody, Reasoning, Role,
        Signature, Source, Tool, ToolCall, ToolChoice, ToolResult, Turn, Warnings, freeform,
    },
};

const ME: Dialect = Dialect::OpenAiChat;

/// Reads a request. The body object `weighbridge` is left out; other unknown fields are kept.
pub fn read_request(body: &[u8]) -> Result<Conversation, RequestError> {
    let mut body = Fields::parse(body)?;
    let mut read = Conversation::new(ME, body.required("model")?);
    body.take("weighbridge");
    messages(&mut body, &mut read)?;
    read.stream = body.optional("stream")?.unwrap_or_default();
    if let Some(mut options) = body.object("stream_options")? {
        read.include_usage = options.optional("include_usage")?.unwrap_or_default();
        options.warn_rest(&mut read.warnings);
    }
    let old: Option<u32> = body.optional("max_tokens")?;
    read.max_output_tokens = body.optional("max_completion_tokens")?.or(old);
    read.sampling.temperature = body.optional("temperature")?;
    read.sampling.top_p = body.optional("top_p")?;
    read.sampling.top_k = body.optional("top_k")?;
    read.sampling.presence_penalty = body.optional("presence_penalty")?;
    read.sampling.frequency_penalty = body.optional("frequency_penalty")?;
    read.sampling.seed = body.optional("seed")?;
    read.sampling.n = body.optional("n")?;
    read.stop = stop(&mut body)?;
    read.user = body.optional("user")?;
    tools(&mut body, &mut read)?;
    read.parallel_tool_calls = body.optional("parallel_tool_calls")?;
    read.format = format(&mut body, &mut read.warnings)?;
    if let Some(effort) = body.optional::<String>("reasoning_effort")? {
        match Effort::from_name(&effort) {
            Some(effort) => {
                read.reasoning = Some(Reasoning { effort: Some(effort), ..Reasoning::default() });
            }
            None => read.warnings.add("reasoning_dropped", "reasoning_effort"),
        }
    }
    read.extra = body.rest();
    Ok(read)
}

/// `stop` is a string or an array of them.
fn stop(body: &mut Fields) -> Result<Vec<String>, RequestError> {
    let Some(value) = body.take("stop") else { return Ok(Vec::new()) };
    let one = value.as_string().map(|text| vec![text]);
    one.or_else(|| value.read())
        .ok_or_else(|| RequestError::at("stop", "must be a string or an array of strings"))
}

fn messages(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    let messages = body.objects("messages")?;
    if messages.is_empty() {
        return Err(RequestError::at("messages", "must hold at least one message"));
    }
    for mut message in messages {
        let path = message.path().to_owned();
        let role: String = message.required("role")?;
        let name: Option<String> = message.optional("name")?;
        let turn = |role, parts| Turn { role, name: name.clone(), parts, path };
        match role.as_str() {
            "system" | "developer" => {
                let parts = content(&mut message, "content", &mut read.warnings)?;
                if read.turns.is_empty() {
                    read.system.extend(parts);
                } else {
                    read.turns.push(turn(Role::System, parts));
                }
            }
            "user" => {
                let parts = content(&mut message, "content", &mut read.warnings)?;
                read.turns.push(turn(Role::User, parts));
            }
            "assistant" => {
                let parts = assistant(&mut message, &mut read.warnings)?;
                read.turns.push(turn(Role::Assistant, parts));
            }
            "tool" | "function" => {
                let call_id = match role.as_str() {
                    "tool" => message.required("tool_call_id")?,
                    _ => old_call_id(name.as_deref().unwrap_or_default()),
                };
                let content = content(&mut message, "content", &mut read.warnings)?;
                let result = ToolResult { call_id, content, is_error: false };
                let part = Part::new(PartBody::ToolResult(result));
                match read.turns.last_mut() {
                    Some(last) if last.role == Role::User && only_results(last) => {
                        last.parts.push(part);
                    }
                    _ => {
                        let path = message.path().to_owned();
                        let parts = vec![part];
                        read.turns.push(Turn { role: Role::User, name: None, parts, path });
                    }
                }
            }
            _ => {
                let role = format!("has a role that is not known: `{role}`");
                return Err(RequestError::at(message.path_of("role"), role));
            }
        }
        message.warn_rest(&mut read.warnings);
    }
    Ok(())
}

/// The id of a call in the older `function_call`, which has none.
fn old_call_id(name: &str) -> String {
    format!("call_{name}")
}

fn only_results(turn: &Turn) -> bool {
    turn.parts.iter().all(|part| matches!(part.body, PartBody::ToolResult(_)))
}

fn assistant(message: &mut Fields, warnings: &mut Warnings) -> Result<Vec<Part>, RequestError> {
    let mut parts = Vec::new();
    let thinking: Option<String> = message.optional("reasoning_content")?;
    let blocks = message.objects("thinking_blocks")?;
    if blocks.is_empty() {
        let thinking = thinking.filter(|text| !text.is_empty());
        parts.extend(thinking.map(|text| Part::new(PartBody::Thinking { text, signature: None })));
    }
    for mut block in blocks {
        let text: Option<String> = block.optional("thinking")?;
        let signature: Option<String> = block.optional("signature")?;
        let data: Option<String> = block.optional("data")?;
        let sign = |text: Option<String>| text.and_then(|text| Signature::read(&text, ME));
        parts.push(Part::new(match sign(data) {
            Some(data) => PartBody::RedactedThinking(data),
            None => {
                PartBody::Thinking { text: text.unwrap_or_default(), signature: sign(signature) }
            }
        }));
    }
    parts.extend(content(message, "content", warnings)?);
    // Where it came from has been said.
    message.take("annotations");
    if let Some(refusal) = message.optional::<String>("refusal")? {
        parts.push(Part::new(PartBody::Refusal(refusal)));
    }
    for mut call in message.objects("tool_calls")? {
        let (mut called, field) = match (call.object("function")?, call.object("custom")?) {
            (Some(function), _) => (function, "arguments"),
            (None, Some(custom)) => (custom, "input"),
            (None, None) => {
                parts.push(Part::new(PartBody::Native(call.to_json())));
                continue;
            }
        };
        let signature = extra_signature(&mut call)?;
        let given: String = called.optional(field)?.unwrap_or_default();
        parts.push(Part::new(PartBody::ToolCall(ToolCall {
            id: call.required("id")?,
            name: called.required("name")?,
            arguments: if field == "input" { freeform::arguments(&given) } else { given },
            signature,
        })));
        call.take("type");
        called.warn_rest(warnings);
        call.warn_rest(warnings);
    }
    if let Some(mut call) = message.object("function_call")? {
        let name: String = call.required("name")?;
        let id = old_call_id(&name);
        let arguments = call.optional("arguments")?.unwrap_or_default();
        let call = ToolCall { id, name, arguments, signature: None };
        parts.push(Part::new(PartBody::ToolCall(call)));
    }
    Ok(parts)
}

/// Google's place for a call's signature in this dialect:
/// `extra_content.google.thought_signature`.
fn extra_signature(call: &mut Fields) -> Result<Option<Signature>, RequestError> {
    let Some(mut extra) = call.object("extra_content")? else { return Ok(None) };
    let Some(mut google) = extra.object("google")? else { return Ok(None) };
    let text: Option<String> = google.optional("thought_signature")?;
    Ok(text.and_then(|text| Signature::read(&text, ME)))
}

/// A content field: a string or an array of parts.
fn content(
    message: &mut Fields,
    field: &str,
    warnings: &mut Warnings,
) -> Result<Vec<Part>, RequestError> {
    match message.string_or_parts(field)? {
        StringOrParts::None => Ok(Vec::new()),
        StringOrParts::Text(text) => Ok(vec![Part::text(text)]),
        StringOrParts::Parts(parts) => {
            parts.into_iter().map(|fields| part(fields, warnings)).collect()
        }
    }
}

fn part(mut fields: Fields, warnings: &mut Warnings) -> Result<Part, RequestError> {
    let whole = fields.to_json();
    let kind: String = fields.required("type")?;
    let cache = fields.take("cache_control");
    let body = match kind.as_str() {
        "text" => PartBody::Text(fields.required("text")?),
        "refusal" => PartBody::Refusal(fields.required("refusal")?),
        "image_url" => {
            let mut image = match fields.take("image_url") {
                Some(url) if url.as_string().is_some() => {
                    let source = Source::from_url(&url.as_string().unwrap_or_default());
                    return Ok(Part { body: PartBody::Image { source, detail: None }, cache });
                }
                Some(image) => Fields::of(&image, fields.path_of("image_url"))?,
                None => return Err(RequestError::at(fields.path_of("image_url"), "is missing")),
            };
            let source = Source::from_url(&image.required::<String>("url")?);
            let detail = image.optional("detail")?;
            image.warn_rest(warnings);
            PartBody::Image { source, detail }
        }
        "input_audio" => {
            let mut audio = required_object(&mut fields, "input_audio")?;
            PartBody::Audio { data: audio.required("data")?, format: audio.required("format")? }
        }
        "file" => {
            let mut file = required_object(&mut fields, "file")?;
            let title = file.optional("filename")?;
            let source = match (file.optional("file_id")?, file.optional::<String>("file_data")?) {
                (Some(id), _) => Source::FileId(id),
                (None, Some(data)) => match Source::from_url(&data) {
                    Source::Url(data) => {
                        Source::Base64 { media_type: "application/pdf".to_owned(), data }
                    }
                    source => source,
                },
                (None, None) => {
                    return Err(RequestError::at(file.path_of("file_data"), "is missing"));
                }
            };
            file.warn_rest(warnings);
            PartBody::Document { source, title, context: None }
        }
        _ => return Ok(Part { body: PartBody::Native(whole), cache }),
    };
    fields.warn_rest(warnings);
    Ok(Part { body, cache })
}

fn required_object(fields: &mut Fields, name: &str) -> Result<Fields, RequestError> {
    fields.object(name)?.ok_or_else(|| RequestError::at(fields.path_of(name), "is missing"))
}

fn tools(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    let (mut tools, mut whole) = (Vec::new(), Vec::new());
    for mut tool in body.objects("tools")? {
        whole.push(tool.to_json());
        let path = tool.path().to_owned();
        let kind: String = tool.required("type")?;
        let function = match kind.as_str() {
            "function" => function(required_object(&mut tool, "function")?, &mut read.warnings)?,
            "custom" => custom(required_object(&mut tool, "custom")?, &mut read.warnings)?,
            _ => {
                tools.extend(whole.last().map(|tool| Tool::Native { tool: tool.clone(), path }));
                continue;
            }
        };
        let cache = tool.take("cache_control");
        tools.push(Tool::Function(Function { cache, path, ..function }));
        tool.warn_rest(&mut read.warnings);
    }
    // The older list, and how its functions are offered today.
    for definition in body.objects("functions")? {
        let path = definition.path().to_owned();
        let offered = object! { "type": "function", "function": definition.to_json() };
        whole.push(Json::of(&offered));
        let function = function(definition, &mut read.warnings)?;
        tools.push(Tool::Function(Function { path, ..function }));
    }
    read.offer(tools, whole);
    let choice = body.take("tool_choice").or_else(|| body.take("function_call"));
    if let Some(choice) = choice {
        read.tool_choice = tool_choice(&choice);
        if read.tool_choice.is_none() {
            read.warnings.add("tool_choice_dropped", "tool_choice");
        }
    }
    Ok(())
}

fn function(mut definition: Fields, warnings: &mut Warnings) -> Result<Function, RequestError> {
    let function = Function {
        name: definition.required("name")?,
        description: definition.optional("description")?,
        parameters: definition.take("parameters"),
        strict: definition.optional("strict")?,
        ..Function::default()
    };
    definition.warn_rest(warnings);
    Ok(function)
}

/// A tool that takes a text.
fn custom(mut definition: Fields, warnings: &mut Warnings) -> Result<Function, RequestError> {
    let name: String = definition.required("name")?;
    let format = definition.object("format")?;
    // Beside responses' form there is one with the grammar a level deeper.
    let format =
        format.map(|mut format| format.take("grammar").unwrap_or_else(|| format.to_json()));
    let function = Function {
        known_as: Some(KnownAs::freeform(name.clone())),
        name,
        description: freeform::description(definition.optional("description")?, format.as_ref()),
        parameters: Some(freeform::schema()),
        ..Function::default()
    };
    definition.warn_rest(warnings);
    Ok(function)
}

/// A word, `{"type":"function","function":{"name":…}}`, the same with `custom`, or the older
/// `{"name":…}`.
fn tool_choice(choice: &Json) -> Option<ToolChoice> {
    if let Some(word) = choice.as_string() {
        return Some(match word.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "required" | "any" => ToolChoice::Required,
            _ => return None,
        });
    }
    let mut choice = Fields::of(choice, String::new()).ok()?;
    let named = choice.object("function").ok()?.or(choice.object("custom").ok()?);
    let mut named = named.unwrap_or(choice);
    named.optional("name").ok()?.map(ToolChoice::Named)
}

fn format(body: &mut Fields, warnings: &mut Warnings) -> Result<Option<Format>, RequestError> {
    let Some(mut format) = body.object("response_format")? else { return Ok(None) };
    let kind: String = format.required("type")?;
    match kind.as_str() {
        "json_object" => Ok(Some(Format::JsonObject)),
        "json_schema" => {
            let mut schema = required_object(&mut format, "json_schema")?;
            let read = Format::JsonSchema {
                name: schema.optional("name")?.unwrap_or_else(|| "answer".to_owned()),
                description: schema.optional("description")?,
                schema: schema.required("schema")?,
                strict: schema.optional("strict")?,
            };
            schema.warn_rest(warnings);
            Ok(Some(read))
        }
        "text" => Ok(None),
        _ => {
            warnings.add("format_dropped", "response_format");
            Ok(None)
        }
    }
}
