//! A caller's responses request.

use crate::protocol::{
    fields::{Fields, RequestError, StringOrParts},
    neutral::{
        Conversation, Dialect, Effort, Format, Part, PartBody, Reasoning, Role, Signature, Source,
        ToolCall, ToolResult, Turn, Warnings, freeform,
    },
};

use super::tools;

const ME: Dialect = Dialect::OpenAiResponses;

/// Reads a request. The body object `weighbridge` is left out; other unknown fields are kept.
pub fn read_request(body: &[u8]) -> Result<Conversation, RequestError> {
    let mut body = Fields::parse(body)?;
    let mut read = Conversation::new(ME, body.required("model")?);
    body.take("weighbridge");
    if let Some(text) = body.optional::<String>("instructions")? {
        read.system.push(Part::text(text));
    }
    stored(&mut body, &mut read)?;
    input(&mut body, &mut read)?;
    read.stream = body.optional("stream")?.unwrap_or_default();
    read.include_usage = true;
    read.max_output_tokens = body.optional("max_output_tokens")?;
    read.sampling.temperature = body.optional("temperature")?;
    read.sampling.top_p = body.optional("top_p")?;
    read.user = body.optional("user")?;
    read.parallel_tool_calls = body.optional("parallel_tool_calls")?;
    tools::read(&mut body, &mut read)?;
    text(&mut body, &mut read)?;
    if let Some(mut reasoning) = body.object("reasoning")? {
        let effort: Option<String> = reasoning.optional("effort")?;
        let summary = reasoning.optional("summary")?;
        let known = effort.as_deref().map(Effort::from_name);
        if known == Some(None) {
            read.warnings.add("reasoning_dropped", "reasoning.effort");
        }
        let effort = known.flatten();
        if effort.is_some() || summary.is_some() {
            read.reasoning = Some(Reasoning { effort, summary, ..Reasoning::default() });
        }
        reasoning.warn_rest(&mut read.warnings);
    }
    read.extra.extend(body.rest());
    Ok(read)
}

/// What only a provider with a store can honour.
fn stored(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    for name in ["previous_response_id", "conversation", "prompt"] {
        if body.take(name).is_some() {
            read.stored.push(name.to_owned());
        }
    }
    // Nothing is stored here: `false` is granted to everyone.
    if body.optional("store")? == Some(true) {
        read.stored.push("store".to_owned());
    }
    if body.optional("background")? == Some(true) {
        read.stored.push("background".to_owned());
    }
    Ok(())
}

fn input(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    match body.string_or_parts("input")? {
        StringOrParts::None if read.stored.is_empty() => {
            return Err(RequestError::at("input", "is missing"));
        }
        StringOrParts::None => {}
        StringOrParts::Text(text) => read.turns.push(Turn {
            role: Role::User,
            name: None,
            parts: vec![Part::text(text)],
            path: "input".to_owned(),
        }),
        StringOrParts::Parts(items) => {
            for item in items {
                self::item(item, read)?;
            }
        }
    }
    Ok(())
}

fn item(mut item: Fields, read: &mut Conversation) -> Result<(), RequestError> {
    let whole = item.to_json();
    let kind: Option<String> = item.optional("type")?;
    let path = item.path().to_owned();
    // Ids and states of items are OpenAI's bookkeeping.
    item.take("id");
    item.take("status");
    match kind.as_deref() {
        None | Some("message") => {
            let role: String = item.required("role")?;
            let parts = content(&mut item, "content", &mut read.warnings)?;
            item.take("phase");
            let role = match role.as_str() {
                "system" | "developer" if read.turns.is_empty() => {
                    read.system.extend(parts);
                    item.warn_rest(&mut read.warnings);
                    return Ok(());
                }
                "system" | "developer" => Role::System,
                "user" => Role::User,
                "assistant" => Role::Assistant,
                _ => {
                    let what = format!("has a role that is not known: `{role}`");
                    return Err(RequestError::at(item.path_of("role"), what));
                }
            };
            add(read, role, parts, path, role == Role::Assistant);
        }
        Some("function_call") => {
            let name = tools::name_in_call(&mut item)?;
            let arguments = item.optional("arguments")?.unwrap_or_default();
            let id = item.required("call_id")?;
            let call = ToolCall { id, name, arguments, signature: None };
            add(read, Role::Assistant, vec![Part::new(PartBody::ToolCall(call))], path, true);
        }
        Some("custom_tool_call") => {
            let name = tools::name_in_call(&mut item)?;
            let text: String = item.optional("input")?.unwrap_or_default();
            let (id, arguments) = (item.required("call_id")?, freeform::arguments(&text));
            let call = ToolCall { id, name, arguments, signature: None };
            add(read, Role::Assistant, vec![Part::new(PartBody::ToolCall(call))], path, true);
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            let result = ToolResult {
                call_id: item.required("call_id")?,
                content: content(&mut item, "output", &mut read.warnings)?,
                is_error: false,
            };
            let merge = read.turns.last().is_some_and(|turn| {
                turn.parts.iter().all(|part| matches!(part.body, PartBody::ToolResult(_)))
            });
            add(read, Role::User, vec![Part::new(PartBody::ToolResult(result))], path, merge);
        }
        Some("reasoning") => {
            let mut text = String::new();
            for field in ["summary", "content"] {
                for mut piece in item.objects(field)? {
                    text.push_str(&piece.optional::<String>("text")?.unwrap_or_default());
                }
            }
            let sealed: Option<String> = item.optional("encrypted_content")?;
            let signature = sealed.and_then(|text| Signature::read(&text, ME));
            let parts = vec![Part::new(PartBody::Thinking { text, signature })];
            add(read, Role::Assistant, parts, path, true);
        }
        Some("item_reference") => {
            read.stored.push(path);
            return Ok(());
        }
        Some(_) => {
            let native = vec![Part::new(PartBody::Native(whole))];
            add(read, Role::Assistant, native, path, true);
            return Ok(());
        }
    }
    item.warn_rest(&mut read.warnings);
    Ok(())
}

/// Adds a turn, or its parts to the last turn of the same role.
fn add(read: &mut Conversation, role: Role, parts: Vec<Part>, path: String, merge: bool) {
    match read.turns.last_mut() {
        Some(last) if merge && last.role == role => last.parts.extend(parts),
        _ => read.turns.push(Turn { role, name: None, parts, path }),
    }
}

fn content(
    fields: &mut Fields,
    name: &str,
    warnings: &mut Warnings,
) -> Result<Vec<Part>, RequestError> {
    match fields.string_or_parts(name)? {
        StringOrParts::None => Ok(Vec::new()),
        StringOrParts::Text(text) => Ok(vec![Part::text(text)]),
        StringOrParts::Parts(parts) => parts.into_iter().map(|p| part(p, warnings)).collect(),
    }
}

fn part(mut fields: Fields, warnings: &mut Warnings) -> Result<Part, RequestError> {
    let whole = fields.to_json();
    let kind: String = fields.required("type")?;
    let body = match kind.as_str() {
        "input_text" | "output_text" | "text" => {
            // What a search found and how likely each token was has been said.
            fields.take("annotations");
            fields.take("logprobs");
            PartBody::Text(fields.required("text")?)
        }
        "refusal" => PartBody::Refusal(fields.required("refusal")?),
        "input_image" => {
            let detail = fields.optional("detail")?;
            let url: Option<String> = fields.optional("image_url")?;
            let source = match (url, fields.optional("file_id")?) {
                (Some(url), _) => Source::from_url(&url),
                (None, Some(id)) => Source::FileId(id),
                (None, None) => {
                    return Err(RequestError::at(fields.path_of("image_url"), "is missing"));
                }
            };
            PartBody::Image { source, detail }
        }
        "input_file" => {
            let title = fields.optional("filename")?;
            let data: Option<String> = fields.optional("file_data")?;
            let url: Option<String> = fields.optional("file_url")?;
            let source = match (data, url, fields.optional("file_id")?) {
                (Some(data), _, _) => match Source::from_url(&data) {
                    Source::Url(data) => {
                        Source::Base64 { media_type: "application/pdf".to_owned(), data }
                    }
                    source => source,
                },
                (_, Some(url), _) => Source::Url(url),
                (_, _, Some(id)) => Source::FileId(id),
                _ => return Err(RequestError::at(fields.path_of("file_data"), "is missing")),
            };
            PartBody::Document { source, title, context: None }
        }
        "input_audio" => {
            let Some(mut audio) = fields.object("input_audio")? else {
                return Err(RequestError::at(fields.path_of("input_audio"), "is missing"));
            };
            PartBody::Audio { data: audio.required("data")?, format: audio.required("format")? }
        }
        _ => return Ok(Part::new(PartBody::Native(whole))),
    };
    fields.warn_rest(warnings);
    Ok(Part::new(body))
}

/// `text.format` and `text.verbosity`.
fn text(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    let Some(mut text) = body.object("text")? else { return Ok(()) };
    if let Some(mut format) = text.object("format")? {
        let kind: String = format.required("type")?;
        read.format = match kind.as_str() {
            "json_schema" => Some(Format::JsonSchema {
                name: format.optional("name")?.unwrap_or_else(|| "answer".to_owned()),
                description: format.optional("description")?,
                schema: format.required("schema")?,
                strict: format.optional("strict")?,
            }),
            "json_object" => Some(Format::JsonObject),
            _ => None,
        };
        format.warn_rest(&mut read.warnings);
    }
    if let Some(verbosity) = text.take("verbosity") {
        // Its place on the chat surface: no writer may find it twice.
        if body.take("verbosity").is_some() {
            read.warnings.add("field_dropped", "verbosity");
        }
        read.extra.push(("verbosity".to_owned(), verbosity));
    }
    text.warn_rest(&mut read.warnings);
    Ok(())
}
