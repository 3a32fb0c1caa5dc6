//! A request for a provider that speaks responses. Nothing is stored there: reasoning comes back
//! sealed instead, and goes with the next request.

use std::collections::HashSet;

use super::tools::{call_type, named_choice, put_call};
use crate::protocol::{
    json::{Json, RawObject, object},
    neutral::{
        Conversation, Dialect, Format, KnownTools, Part, PartBody, Role, Source, Target, Tool,
        ToolResult, Turn, Warnings, Written, freeform::is_freeform, portable_id, target::part_path,
    },
};

const ME: Dialect = Dialect::OpenAiResponses;
/// Longest id of a tool call (API reference, `call_id`).
const MAX_ID_CHARS: usize = 64;

/// Writes a request.
pub fn write_request(conversation: &Conversation, target: &Target<'_>) -> Written {
    let mut warnings = conversation.warnings.clone();
    for path in &conversation.stored {
        warnings.add("stored_state_dropped", path.clone());
    }
    let mut body = object! { "model": target.model };
    let known = conversation.known_tools_of(ME);
    let texts = conversation.tool_names().into_iter();
    let mut writer = Writer {
        conversation,
        target,
        warnings: &mut warnings,
        items: Vec::new(),
        known: &known,
        with_text: texts
            .filter(|(_, tool)| is_freeform(known.get(*tool)))
            .map(|(id, _)| id)
            .collect(),
    };
    let instructions = writer.texts(&conversation.system, "system");
    if !instructions.is_empty() {
        body.put("instructions", &instructions);
    }
    for turn in &conversation.turns {
        writer.turn(turn);
    }
    body.put("input", &writer.items);
    body.put("store", &false);
    if conversation.stream {
        body.put("stream", &true);
    }
    body.put_some("max_output_tokens", &conversation.max_output_tokens);
    sampling(conversation, target, &mut body, &mut warnings);
    body.put_some("user", &conversation.openai_user(&mut warnings));
    conversation.put_openai_tools(
        &known,
        &mut body,
        || written_tools(conversation, &mut warnings),
        |name| named_choice(name, known.get(name)),
    );
    let mut text = RawObject::default();
    if let Some(format) = &conversation.format {
        text.put("format", &format_object(format));
    }
    if target.reasoning {
        body.put("include", &["reasoning.encrypted_content"]);
    }
    if let Some(wanted) = target.reasoning(conversation, &mut warnings) {
        let mut reasoning = RawObject::default();
        reasoning.put_some("effort", &wanted.effort().map(|effort| effort.name()));
        // The other surfaces show reasoning whenever there is any.
        let summary = (conversation.origin != ME).then(|| "auto".to_owned());
        reasoning.put_some("summary", &wanted.summary.clone().or(summary));
        body.put_object("reasoning", &reasoning);
    }
    let mut extra = RawObject::default();
    conversation.carry_extra(ME, &mut extra, &mut warnings);
    for (name, value) in extra.into_fields() {
        match name.as_str() {
            "verbosity" => text.put("verbosity", &value),
            "include" | "store" => {}
            _ => body.put(&name, &value),
        }
    }
    body.put_object("text", &text);
    Written { body: body.to_bytes(), warnings, schema_tool: None }
}

struct Writer<'a> {
    conversation: &'a Conversation,
    target: &'a Target<'a>,
    warnings: &'a mut Warnings,
    items: Vec<RawObject>,
    known: &'a KnownTools,
    /// The ids of calls with a text.
    with_text: HashSet<&'a str>,
}

impl Writer<'_> {
    fn warn(&mut self, code: &'static str, path: &str) {
        self.warnings.add(code, path);
    }

    fn texts(&mut self, parts: &[Part], path: &str) -> String {
        let mut texts = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let path = part_path(path, at);
            self.cache(part, &path);
            match &part.body {
                PartBody::Text(text) => texts.push(text.as_str()),
                _ => self.warn("part_dropped", &path),
            }
        }
        texts.join("\n\n")
    }

    fn cache(&mut self, part: &Part, path: &str) {
        if part.cache.is_some() {
            self.warn("cache_control_dropped", &format!("{path}.cache_control"));
        }
    }

    fn turn(&mut self, turn: &Turn) {
        if turn.name.is_some() {
            self.warn("field_dropped", &format!("{}.name", turn.path));
        }
        match turn.role {
            Role::System => {
                let content = self.texts(&turn.parts, &turn.path);
                self.items.push(object! {
                    "type": "message", "role": "developer", "content": content,
                });
            }
            Role::User => self.user(turn),
            Role::Assistant => self.assistant(turn),
        }
    }

    /// Tool results are items of their own, before what else the turn says.
    fn user(&mut self, turn: &Turn) {
        let mut content = Vec::new();
        for (at, part) in turn.parts.iter().enumerate() {
            let path = format!("{}.content[{at}]", turn.path);
            self.cache(part, &path);
            match &part.body {
                PartBody::ToolResult(result) => self.result(result, &path),
                _ => content.extend(self.part(part, &path)),
            }
        }
        if !content.is_empty() {
            let message = object! { "type": "message", "role": "user", "content": content };
            self.items.push(message);
        }
    }

    fn result(&mut self, result: &ToolResult, path: &str) {
        if result.is_error {
            self.warn("tool_error_mark_dropped", &format!("{path}.is_error"));
        }
        let kind = match self.with_text.contains(result.call_id.as_str()) {
            true => "custom_tool_call_output",
            false => "function_call_output",
        };
        let call_id = portable_id(&result.call_id, MAX_ID_CHARS);
        let mut item = object! { "type": kind, "call_id": call_id };
        let texts: Option<Vec<&str>> = result
            .content
            .iter()
            .map(|part| match &part.body {
                PartBody::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        match texts {
            Some(texts) => item.put("output", &texts.join("\n")),
            None => {
                let mut parts = Vec::new();
                for (at, part) in result.content.iter().enumerate() {
                    parts.extend(self.part(part, &part_path(path, at)));
                }
                item.put("output", &parts);
            }
        }
        self.items.push(item);
    }

    fn part(&mut self, part: &Part, path: &str) -> Option<RawObject> {
        Some(match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) => {
                object! { "type": "input_text", "text": text }
            }
            PartBody::Image { source, detail } => {
                let mut image = object! { "type": "input_image" };
                match (source, source.to_url()) {
                    (_, Some(url)) => image.put("image_url", &url),
                    (Source::FileId(id), _) if self.is_from_openai() => image.put("file_id", id),
                    _ => return self.dropped("image_dropped", path),
                }
                image.put_some("detail", detail);
                image
            }
            PartBody::Document { source, title, context } => {
                if context.is_some() {
                    self.warn("field_dropped", &format!("{path}.context"));
                }
                let mut file = object! { "type": "input_file" };
                file.put_some("filename", title);
                match source {
                    Source::Base64 { .. } => file.put_some("file_data", &source.to_url()),
                    Source::Url(url) => file.put("file_url", url),
                    Source::FileId(id) if self.is_from_openai() => file.put("file_id", id),
                    Source::FileId(_) => return self.dropped("document_dropped", path),
                    Source::Text(text) => {
                        return Some(object! { "type": "input_text", "text": text });
                    }
                }
                file
            }
            PartBody::Audio { data, format } => {
                let audio = object! { "data": data, "format": format };
                object! { "type": "input_audio", "input_audio": audio }
            }
            _ => return self.dropped("part_dropped", path),
        })
    }

    fn is_from_openai(&self) -> bool {
        matches!(self.conversation.origin, Dialect::OpenAiChat | Dialect::OpenAiResponses)
    }

    fn dropped(&mut self, code: &'static str, path: &str) -> Option<RawObject> {
        self.warn(code, path);
        None
    }

    /// Reasoning, texts and calls are items of their own, in order.
    fn assistant(&mut self, turn: &Turn) {
        for (at, part) in turn.parts.iter().enumerate() {
            let path = format!("{}.content[{at}]", turn.path);
            self.cache(part, &path);
            let message = |content: RawObject| {
                object! { "type": "message", "role": "assistant", "content": [content] }
            };
            let item = match &part.body {
                PartBody::Text(text) => message(object! { "type": "output_text", "text": text }),
                PartBody::Refusal(text) => message(object! { "type": "refusal", "refusal": text }),
                PartBody::ToolCall(call) => {
                    if call.signature.is_some() {
                        self.warn("signature_dropped", &path);
                    }
                    let known = self.known.get(&call.name);
                    let mut item = object! { "type": call_type(known) };
                    let arguments = match call.arguments.as_str() {
                        "" if !is_freeform(known) => "{}",
                        arguments => arguments,
                    };
                    let id = portable_id(&call.id, MAX_ID_CHARS);
                    put_call(&mut item, &id, &call.name, arguments, known);
                    item
                }
                PartBody::Thinking { text, signature: Some(made) } if self.target.takes(made) => {
                    let mut summary = Vec::new();
                    if !text.is_empty() {
                        summary.push(object! { "type": "summary_text", "text": text });
                    }
                    object! {
                        "type": "reasoning", "summary": summary, "encrypted_content": made.value,
                    }
                }
                PartBody::Thinking { .. } | PartBody::RedactedThinking(_) => {
                    self.warn("thinking_dropped", &path);
                    continue;
                }
                PartBody::Native(item) if self.conversation.origin == ME => {
                    self.items.extend(RawObject::parse(item.text().as_bytes()).ok());
                    continue;
                }
                PartBody::Native(_)
                | PartBody::Image { .. }
                | PartBody::Document { .. }
                | PartBody::Audio { .. }
                | PartBody::ToolResult(_) => {
                    self.warn("part_dropped", &path);
                    continue;
                }
            };
            self.items.push(item);
        }
    }
}

fn sampling(
    conversation: &Conversation,
    target: &Target<'_>,
    body: &mut RawObject,
    warnings: &mut Warnings,
) {
    let sampling = target.sampling(conversation, warnings);
    body.put_some("temperature", &sampling.temperature);
    body.put_some("top_p", &sampling.top_p);
    for (name, given) in [
        ("top_k", sampling.top_k.is_some()),
        ("presence_penalty", sampling.presence_penalty.is_some_and(|value| value != 0.0)),
        ("frequency_penalty", sampling.frequency_penalty.is_some_and(|value| value != 0.0)),
        ("seed", sampling.seed.is_some()),
        ("n", sampling.n.is_some_and(|n| n > 1)),
        ("stop", !conversation.stop.is_empty()),
    ] {
        if given {
            warnings.add("sampling_dropped", name);
        }
    }
}

fn written_tools(conversation: &Conversation, warnings: &mut Warnings) -> Vec<Json> {
    let mut tools: Vec<Json> = Vec::new();
    for tool in &conversation.tools {
        match tool {
            Tool::Function(function) => {
                let mut written = object! { "type": "function", "name": function.name };
                written.put_some("description", &function.description);
                written.put("parameters", &function.parameters);
                // Left out, it would mean true here and false on the other surfaces.
                let strict = function.strict.unwrap_or(conversation.origin == ME);
                written.put("strict", &strict);
                if function.cache.is_some() {
                    warnings
                        .add("cache_control_dropped", format!("{}.cache_control", function.path));
                }
                tools.push(Json::of(&written));
            }
            Tool::Native { tool, .. } if conversation.origin == ME => tools.push(tool.clone()),
            Tool::Native { path, .. } => warnings.add("tool_dropped", path.clone()),
        }
    }
    tools
}

fn format_object(format: &Format) -> RawObject {
    match format {
        Format::JsonObject => object! { "type": "json_object" },
        Format::JsonSchema { name, description, schema, strict } => {
            let mut written = object! { "type": "json_schema", "name": name };
            written.put_some("description", description);
            written.put("schema", schema);
            written.put_some("strict", strict);
            written
        }
    }
}
