//! A request for Converse. The model's name is in the path, not in the body.

use crate::protocol::{
    anthropic::{OPENING, Thinking, beside_thinking, thinking},
    json::{Json, RawObject, object},
    neutral::{
        Conversation, Dialect, Format, Function, Part, PartBody, Role, Sampling, Source, Target,
        Tool, ToolChoice, ToolResult, Turn, Warnings, Written, portable_id, target::part_path,
    },
};

const ME: Dialect = Dialect::Bedrock;
/// Longest id of a tool call ("ToolUseBlock").
const MAX_ID_CHARS: usize = 64;
/// Describes a tool that only the conversation so far knows: the model shall not call it.
const NOT_OFFERED: &str = "Was called earlier. Not available any more: do not call it.";

/// Writes a request.
pub fn write_request(conversation: &Conversation, target: &Target<'_>) -> Written {
    let mut warnings = conversation.warnings.clone();
    let mut writer = Writer { conversation, target, warnings: &mut warnings, documents: 0 };
    let (system, messages) = writer.turns();
    let mut body = object! { "messages": messages };
    body.put_list("system", &system);
    let mut sampling = target.sampling(conversation, &mut warnings);
    let mut inference = RawObject::default();
    inference.put_some("maxTokens", &conversation.max_output_tokens);
    let schema_tool = tools(conversation, &mut body, &mut warnings);
    let mut fields = RawObject::default();
    model_fields(
        conversation,
        target,
        &mut sampling,
        schema_tool.is_some(),
        &mut fields,
        &mut warnings,
    );
    match sampling.temperature {
        Some(temperature) if temperature > 1.0 => {
            inference.put("temperature", &1.0);
            warnings.add("temperature_clamped", "temperature");
        }
        temperature => inference.put_some("temperature", &temperature),
    }
    inference.put_some("topP", &sampling.top_p);
    inference.put_list("stopSequences", target.stops(conversation, &mut warnings));
    body.put_object("inferenceConfig", &inference);
    body.put_object("additionalModelRequestFields", &fields);
    for (name, given) in [
        ("presence_penalty", sampling.presence_penalty.is_some_and(|value| value != 0.0)),
        ("frequency_penalty", sampling.frequency_penalty.is_some_and(|value| value != 0.0)),
        ("seed", sampling.seed.is_some()),
        ("n", sampling.n.is_some_and(|n| n > 1)),
    ] {
        if given {
            warnings.add("sampling_dropped", name);
        }
    }
    if conversation.user.is_some() {
        warnings.add("field_dropped", "user");
    }
    conversation.carry_extra(ME, &mut body, &mut warnings);
    Written { body: body.to_bytes(), warnings, schema_tool }
}

/// What only Anthropic's models take, under their own names. Where they think, `sampling` loses
/// what they do not take beside it.
fn model_fields(
    conversation: &Conversation,
    target: &Target<'_>,
    sampling: &mut Sampling,
    schema_tool: bool,
    fields: &mut RawObject,
    warnings: &mut Warnings,
) {
    if !target.model.contains("anthropic.") {
        if sampling.top_k.is_some() {
            warnings.add("sampling_dropped", "top_k");
        }
        if target.reasoning(conversation, warnings).is_some() {
            warnings.add("reasoning_dropped", "reasoning");
        }
        return;
    }
    let forced = schema_tool
        || matches!(
            conversation.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Named(_)) if !conversation.tools.is_empty()
        );
    let max_tokens = conversation.max_output_tokens.unwrap_or(target.max_output_tokens);
    let thinks = match thinking(conversation, target, max_tokens, forced, warnings) {
        Thinking::Off | Thinking::Disabled => false,
        Thinking::Budget(budget) => {
            fields.put("thinking", &object! { "type": "enabled", "budget_tokens": budget });
            true
        }
        Thinking::Adaptive(effort) => {
            fields.put("thinking", &object! { "type": "adaptive" });
            if let Some(effort) = effort {
                fields.put("output_config", &object! { "effort": effort });
            }
            true
        }
    };
    if thinks {
        beside_thinking(sampling, warnings);
    }
    fields.put_some("top_k", &sampling.top_k);
}

struct Writer<'a> {
    conversation: &'a Conversation,
    target: &'a Target<'a>,
    warnings: &'a mut Warnings,
    /// Documents so far: each needs a name of its own.
    documents: usize,
}

impl Writer<'_> {
    fn warn(&mut self, code: &'static str, path: &str) {
        self.warnings.add(code, path);
    }

    /// The system blocks, later system turns among them, and the messages: neighbours of one
    /// role merged, tool results first.
    fn turns(&mut self) -> (Vec<RawObject>, Vec<RawObject>) {
        let conversation = self.conversation;
        let mut system = self.blocks(&conversation.system, "system");
        let mut merged: Vec<(Role, Vec<RawObject>)> = Vec::new();
        for turn in &conversation.turns {
            let blocks = self.turn(turn);
            if turn.role == Role::System {
                self.warn("system_moved", &turn.path);
                system.extend(blocks);
                continue;
            }
            // A turn that says nothing here must not part its neighbours.
            if blocks.is_empty() {
                continue;
            }
            match merged.last_mut() {
                Some((role, all)) if *role == turn.role => all.extend(blocks),
                _ => merged.push((turn.role, blocks)),
            }
        }
        // "A conversation must start with a user message."
        if let Some((Role::Assistant, _)) = merged.first() {
            merged.insert(0, (Role::User, vec![object! { "text": OPENING }]));
            let turn = self.conversation.turns.iter().find(|turn| turn.role == Role::Assistant);
            self.warn("turn_added", turn.map_or("", |turn| &turn.path));
        }
        let message = |(role, content): (Role, Vec<RawObject>)| {
            let role = if role == Role::Assistant { "assistant" } else { "user" };
            object! { "role": role, "content": content }
        };
        (system, merged.into_iter().map(message).collect())
    }

    fn turn(&mut self, turn: &Turn) -> Vec<RawObject> {
        if turn.name.is_some() {
            self.warn("field_dropped", &format!("{}.name", turn.path));
        }
        self.blocks(&turn.parts, &turn.path)
    }

    fn blocks(&mut self, parts: &[Part], path: &str) -> Vec<RawObject> {
        let mut blocks = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let path = part_path(path, at);
            blocks.extend(self.block(part, &path));
            if let Some(mark) = &part.cache {
                blocks.push(cache_point(mark));
            }
        }
        blocks
    }

    fn block(&mut self, part: &Part, path: &str) -> Option<RawObject> {
        Some(match &part.body {
            PartBody::Text(text) if text.is_empty() => return None,
            PartBody::Text(text) | PartBody::Refusal(text) => object! { "text": text },
            PartBody::Image { source: Source::Base64 { media_type, data }, detail } => {
                if detail.is_some() {
                    self.warn("field_dropped", &format!("{path}.detail"));
                }
                let format = match media_type.strip_prefix("image/").unwrap_or(media_type) {
                    "jpg" => "jpeg",
                    format => format,
                };
                let source = object! { "bytes": data };
                object! { "image": object! { "format": format, "source": source } }
            }
            PartBody::Image { .. } => return self.dropped("image_dropped", path),
            PartBody::Document { source, title, context } => {
                self.document(source, title.as_deref(), context.as_deref(), path)?
            }
            PartBody::Audio { .. } => return self.dropped("audio_dropped", path),
            PartBody::ToolCall(call) => {
                if call.signature.is_some() {
                    self.warn("signature_dropped", path);
                }
                let input = call.input(path, self.warnings);
                object! { "toolUse": object! {
                    "toolUseId": portable_id(&call.id, MAX_ID_CHARS), "name": call.name, "input": input,
                } }
            }
            PartBody::ToolResult(result) => self.result(result, path),
            PartBody::Thinking { text, signature: Some(made) } if self.target.takes(made) => {
                let reasoning = object! { "text": text, "signature": made.value };
                object! { "reasoningContent": object! { "reasoningText": reasoning } }
            }
            PartBody::RedactedThinking(data) if self.target.takes(data) => {
                object! { "reasoningContent": object! { "redactedContent": data.value } }
            }
            PartBody::Thinking { .. } | PartBody::RedactedThinking(_) => {
                return self.dropped("thinking_dropped", path);
            }
            PartBody::Native(_) => return self.dropped("part_dropped", path),
        })
    }

    fn dropped(&mut self, code: &'static str, path: &str) -> Option<RawObject> {
        self.warn(code, path);
        None
    }

    fn document(
        &mut self,
        source: &Source,
        title: Option<&str>,
        context: Option<&str>,
        path: &str,
    ) -> Option<RawObject> {
        let (format, source) = match source {
            Source::Base64 { media_type, data } => match document_format(media_type) {
                Some(format) => (format, object! { "bytes": data }),
                None => return self.dropped("document_dropped", path),
            },
            Source::Text(text) => ("txt", object! { "text": text }),
            Source::Url(_) | Source::FileId(_) => return self.dropped("document_dropped", path),
        };
        self.documents += 1;
        let name = document_name(title, self.documents);
        let mut document = object! { "format": format, "name": name, "source": source };
        document.put_some("context", &context);
        Some(object! { "document": document })
    }

    fn result(&mut self, result: &ToolResult, path: &str) -> RawObject {
        let mut content = Vec::new();
        for (at, part) in result.content.iter().enumerate() {
            content.extend(self.block(part, &part_path(path, at)));
        }
        let mut written =
            object! { "toolUseId": portable_id(&result.call_id, MAX_ID_CHARS), "content": content };
        if result.is_error {
            written.put("status", "error");
        }
        object! { "toolResult": written }
    }
}

/// Anthropic's mark as Converse has it: a block after the marked one.
fn cache_point(mark: &Json) -> RawObject {
    let ttl = RawObject::parse(mark.text().as_bytes()).ok().and_then(|mut mark| mark.take("ttl"));
    let mut point = object! { "type": "default" };
    point.put_some("ttl", &ttl);
    object! { "cachePoint": point }
}

fn document_format(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        _ => return None,
    })
}

/// Letters, digits, single spaces, hyphens, brackets: what "DocumentBlock" allows; unique within
/// a request.
fn document_name(title: Option<&str>, number: usize) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-()[]".contains(c);
    let plain: String = title
        .unwrap_or("document")
        .chars()
        .map(|c| if allowed(c) { c } else { ' ' })
        .take(150)
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    format!("{} {number}", words.join(" "))
}

/// Tools, their choice, and the tool that stands in for a JSON schema.
///
/// Converse has no word for "none": the caller's tools are left out, unless the conversation holds
/// calls, which it refuses without the tools' configuration. Where the caller offers none, that is
/// made from the calls' names.
fn tools(
    conversation: &Conversation,
    body: &mut RawObject,
    warnings: &mut Warnings,
) -> Option<String> {
    let spec = |name: &str, description: &Option<String>, schema: &Json| {
        let mut spec = object! { "name": name };
        spec.put_some("description", description);
        spec.put("inputSchema", &object! { "json": schema });
        object! { "toolSpec": spec }
    };
    let mut tools = Vec::new();
    let none = conversation.tool_choice == Some(ToolChoice::None);
    let offered: &[Tool] = match none && !conversation.has_tool_parts() {
        true => &[],
        false => &conversation.tools,
    };
    for tool in offered {
        let function = match tool {
            Tool::Function(function) => function,
            Tool::Native { path, .. } => {
                warnings.add("tool_dropped", path.clone());
                continue;
            }
        };
        tools.push(spec(&function.name, &function.description, &function.schema()));
        if function.strict == Some(true) {
            warnings.add("field_dropped", format!("{}.strict", function.path));
        }
        tools.extend(function.cache.as_ref().map(cache_point));
    }
    let mut schema_tool = None;
    match &conversation.format {
        Some(Format::JsonSchema { name, description, schema, .. }) => {
            tools.push(spec(name, description, schema));
            schema_tool = Some(name.clone());
        }
        Some(Format::JsonObject) => warnings.add("format_dropped", "response_format"),
        None => {}
    }
    if tools.is_empty() {
        let called = conversation.called_tools();
        if !called.is_empty() {
            let description = Some(NOT_OFFERED.to_owned());
            let schema = Function::default().schema();
            let called = called.iter().map(|name| spec(name, &description, &schema));
            body.put("toolConfig", &object! { "tools": called.collect::<Vec<_>>() });
            warnings.add("tools_added", "tools");
        }
        return None;
    }
    let mut config = object! { "tools": tools };
    let choice = match (&schema_tool, &conversation.tool_choice) {
        (Some(_), _) if tools.len() > 1 && !none => Some(object! { "any": RawObject::default() }),
        (Some(name), _) => Some(object! { "tool": object! { "name": name } }),
        (None, Some(ToolChoice::Auto)) => Some(object! { "auto": RawObject::default() }),
        (None, Some(ToolChoice::Required)) => Some(object! { "any": RawObject::default() }),
        (None, Some(ToolChoice::Named(name))) => Some(object! { "tool": object! { "name": name } }),
        (None, Some(ToolChoice::None)) => {
            warnings.add("tool_choice_dropped", "tool_choice");
            None
        }
        (None, None) => None,
    };
    config.put_some("toolChoice", &choice);
    body.put("toolConfig", &config);
    if conversation.parallel_tool_calls == Some(false) {
        warnings.add("parallel_tool_calls_dropped", "parallel_tool_calls");
    }
    schema_tool
}
