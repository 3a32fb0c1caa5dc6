//! A request for a provider that speaks chat completions.

use crate::protocol::{
    json::{Json, RawObject, object},
    neutral::{
        Conversation, Dialect, Format, KnownTools, Part, PartBody, Role, Signature, Source, Target,
        Tool, ToolResult, Turn, Warnings, Written,
        freeform::{self, is_freeform},
        portable_id, short_id,
        target::part_path,
    },
};

const ME: Dialect = Dialect::OpenAiChat;
/// Longest id of a tool call that OpenAI takes (its error message, "maximum length 40").
const MAX_ID_CHARS: usize = 40;

/// Writes a request.
pub fn write_request(conversation: &Conversation, target: &Target<'_>) -> Written {
    let mut warnings = conversation.warnings.clone();
    let mut body = object! { "model": target.model };
    let known = conversation.known_tools_of(ME);
    let mut writer = Writer {
        conversation,
        target,
        warnings: &mut warnings,
        messages: Vec::new(),
        known: &known,
    };
    writer.system();
    for turn in &conversation.turns {
        writer.turn(turn);
    }
    body.put("messages", &writer.messages);
    if conversation.stream {
        body.put("stream", &true);
        if target.stream_usage {
            body.put("stream_options", &object! { "include_usage": true });
        }
    }
    let limit = if target.old_max_tokens { "max_tokens" } else { "max_completion_tokens" };
    body.put_some(limit, &conversation.max_output_tokens);
    let sampling = target.sampling(conversation, &mut warnings);
    body.put_some("temperature", &sampling.temperature);
    body.put_some("top_p", &sampling.top_p);
    if sampling.top_k.is_some() {
        // Not OpenAI's own; a caller of this surface who sends it knows that the server takes it.
        if conversation.origin == ME {
            body.put_some("top_k", &sampling.top_k);
        } else {
            warnings.add("sampling_dropped", "top_k");
        }
    }
    body.put_some("presence_penalty", &sampling.presence_penalty);
    body.put_some("frequency_penalty", &sampling.frequency_penalty);
    body.put_some("seed", &sampling.seed);
    body.put_some("n", &sampling.n);
    body.put_list("stop", target.stops(conversation, &mut warnings));
    body.put_some("user", &conversation.openai_user(&mut warnings));
    conversation.put_openai_tools(
        &known,
        &mut body,
        || written_tools(conversation, &mut warnings),
        |name| named_choice(name, &known),
    );
    if let Some(format) = &conversation.format {
        body.put("response_format", &format_object(format));
    }
    if let Some(reasoning) = target.reasoning(conversation, &mut warnings) {
        body.put_some("reasoning_effort", &reasoning.effort().map(|effort| effort.name()));
    }
    conversation.carry_extra(ME, &mut body, &mut warnings);
    Written { body: body.to_bytes(), warnings, schema_tool: None }
}

struct Writer<'a> {
    conversation: &'a Conversation,
    target: &'a Target<'a>,
    warnings: &'a mut Warnings,
    messages: Vec<RawObject>,
    known: &'a KnownTools,
}

impl Writer<'_> {
    fn warn(&mut self, code: &'static str, path: &str) {
        self.warnings.add(code, path);
    }

    /// The system texts as one message: servers with a chat template of their own take one.
    fn system(&mut self) {
        let texts = self.texts(&self.conversation.system, "system");
        if !texts.is_empty() {
            let content = texts.join("\n\n");
            self.messages.push(object! { "role": "system", "content": content });
        }
    }

    /// The texts of parts that must be texts; what else there is goes into a warning.
    fn texts<'p>(&mut self, parts: &'p [Part], path: &str) -> Vec<&'p str> {
        let mut texts = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let path = part_path(path, at);
            self.cache(part, &path);
            match &part.body {
                PartBody::Text(text) => texts.push(text.as_str()),
                _ => self.warn("part_dropped", &path),
            }
        }
        texts
    }

    fn cache(&mut self, part: &Part, path: &str) {
        if part.cache.is_some() {
            self.warn("cache_control_dropped", &format!("{path}.cache_control"));
        }
    }

    fn turn(&mut self, turn: &Turn) {
        match turn.role {
            Role::System => {
                let content = self.texts(&turn.parts, &turn.path).join("\n\n");
                self.messages.push(object! { "role": "system", "content": content });
            }
            Role::User => self.user(turn),
            Role::Assistant => self.assistant(turn),
        }
    }

    /// Tool results become messages of their own, before what else the turn says; pictures in
    /// them, for which tool messages have no room, follow in the user's message.
    fn user(&mut self, turn: &Turn) {
        let mut parts = Vec::new();
        for (at, part) in turn.parts.iter().enumerate() {
            let path = format!("{}.content[{at}]", turn.path);
            self.cache(part, &path);
            if let PartBody::ToolResult(result) = &part.body {
                self.result(result, &path, &mut parts);
            } else {
                parts.extend(self.part(part, &path));
            }
        }
        if parts.is_empty() {
            return;
        }
        let mut message = object! { "role": "user" };
        message.put_some("name", &turn.name);
        match (turn.parts.as_slice(), parts.len()) {
            ([Part { body: PartBody::Text(text), .. }], 1) => message.put("content", text),
            _ => message.put("content", &parts),
        }
        self.messages.push(message);
    }

    fn result(&mut self, result: &ToolResult, path: &str, lifted: &mut Vec<RawObject>) {
        let mut texts = Vec::new();
        for (at, part) in result.content.iter().enumerate() {
            let path = part_path(path, at);
            match &part.body {
                PartBody::Text(text) => texts.push(text.as_str()),
                _ => {
                    if let Some(part) = self.part(part, &path) {
                        lifted.push(part);
                        self.warn("tool_result_media_moved", &path);
                    }
                }
            }
        }
        if result.is_error {
            self.warn("tool_error_mark_dropped", &format!("{path}.is_error"));
        }
        let content = texts.join("\n");
        let id = self.call_id(&result.call_id);
        self.messages.push(object! { "role": "tool", "tool_call_id": id, "content": content });
    }

    fn part(&mut self, part: &Part, path: &str) -> Option<RawObject> {
        let text = |text: &str| object! { "type": "text", "text": text };
        match &part.body {
            PartBody::Text(said) | PartBody::Refusal(said) => Some(text(said)),
            PartBody::Image { source, detail } => {
                let Some(url) = source.to_url() else {
                    self.warn("image_dropped", path);
                    return None;
                };
                let mut image = object! { "url": url };
                image.put_some("detail", detail);
                Some(object! { "type": "image_url", "image_url": image })
            }
            PartBody::Document { source, title, context } => {
                if context.is_some() {
                    self.warn("field_dropped", &format!("{path}.context"));
                }
                let mut file = RawObject::default();
                file.put_some("filename", title);
                match source {
                    Source::Base64 { .. } => file.put_some("file_data", &source.to_url()),
                    Source::FileId(id) if self.conversation.origin == ME => file.put("file_id", id),
                    Source::Text(said) => return Some(text(said)),
                    Source::Url(_) | Source::FileId(_) => {
                        self.warn("document_dropped", path);
                        return None;
                    }
                }
                Some(object! { "type": "file", "file": file })
            }
            PartBody::Audio { data, format } => {
                let audio = object! { "data": data, "format": format };
                Some(object! { "type": "input_audio", "input_audio": audio })
            }
            PartBody::Native(part) if self.conversation.origin == ME => {
                RawObject::parse(part.text().as_bytes()).ok()
            }
            _ => {
                self.warn("part_dropped", path);
                None
            }
        }
    }

    fn assistant(&mut self, turn: &Turn) {
        let mut said: Option<String> = None;
        let mut refusal: Option<String> = None;
        let mut thinking = String::new();
        let mut blocks = Vec::new();
        let mut calls = Vec::new();
        for (at, part) in turn.parts.iter().enumerate() {
            let path = format!("{}.content[{at}]", turn.path);
            self.cache(part, &path);
            match &part.body {
                PartBody::Text(text) => said.get_or_insert_default().push_str(text),
                PartBody::Refusal(text) => refusal.get_or_insert_default().push_str(text),
                PartBody::ToolCall(call) => calls.push(self.call(call, &path)),
                PartBody::Thinking { text, signature } => {
                    if self.target.reasoning_content {
                        thinking.push_str(text);
                    }
                    match signature.as_ref().filter(|made| self.target.takes(made)) {
                        Some(made) => blocks.push(object! {
                            "type": "thinking", "thinking": text, "signature": made.value,
                        }),
                        None if self.target.reasoning_content && signature.is_none() => {}
                        None => self.warn("thinking_dropped", &path),
                    }
                }
                PartBody::RedactedThinking(data) if self.target.takes(data) => {
                    blocks.push(object! { "type": "redacted_thinking", "data": data.value });
                }
                PartBody::RedactedThinking(_) => self.warn("thinking_dropped", &path),
                PartBody::Native(_)
                | PartBody::Image { .. }
                | PartBody::Document { .. }
                | PartBody::Audio { .. }
                | PartBody::ToolResult(_) => self.warn("part_dropped", &path),
            }
        }
        let mut message = object! { "role": "assistant" };
        message.put_some("name", &turn.name);
        if said.is_some() || calls.is_empty() && refusal.is_none() {
            message.put("content", &said.unwrap_or_default());
        } else {
            message.put("content", &None::<String>);
        }
        message.put_some("refusal", &refusal);
        if !thinking.is_empty() {
            message.put("reasoning_content", &thinking);
        }
        message.put_list("thinking_blocks", &blocks);
        message.put_list("tool_calls", &calls);
        self.messages.push(message);
    }

    /// Ids of this dialect stay as they are: servers differ in what they take.
    fn call_id(&self, id: &str) -> String {
        if self.target.short_tool_ids {
            return short_id(id);
        }
        if self.conversation.origin == ME { id.to_owned() } else { portable_id(id, MAX_ID_CHARS) }
    }

    fn call(&mut self, call: &crate::protocol::neutral::ToolCall, path: &str) -> RawObject {
        let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
        let mut written = object! { "id": self.call_id(&call.id) };
        put_call(&mut written, &call.name, arguments, self.known);
        match &call.signature {
            Some(made) if self.target.takes(made) => {
                written.put("extra_content", &google_signature(made, ME));
            }
            Some(_) => self.warn("signature_dropped", path),
            None => {}
        }
        written
    }
}

/// Google's place for a call's signature in this dialect.
pub(super) fn google_signature(made: &Signature, surface: Dialect) -> RawObject {
    object! { "google": object! { "thought_signature": made.write(surface) } }
}

/// Writes what is called with what. The arguments are a provider's.
pub(super) fn put_call(call: &mut RawObject, name: &str, arguments: &str, known: &KnownTools) {
    if is_freeform(known.get(name)) {
        call.put("type", "custom");
        call.put("custom", &object! { "name": name, "input": freeform::text(arguments) });
    } else {
        call.put("type", "function");
        call.put("function", &object! { "name": name, "arguments": arguments });
    }
}

/// The choice of this tool.
fn named_choice(name: &str, known: &KnownTools) -> RawObject {
    let kind = if is_freeform(known.get(name)) { "custom" } else { "function" };
    let mut choice = object! { "type": kind };
    choice.put(kind, &object! { "name": name });
    choice
}

fn written_tools(conversation: &Conversation, warnings: &mut Warnings) -> Vec<Json> {
    let mut tools: Vec<Json> = Vec::new();
    for tool in &conversation.tools {
        match tool {
            Tool::Function(function) => {
                let mut definition = object! { "name": function.name };
                definition.put_some("description", &function.description);
                definition.put_some("parameters", &function.parameters);
                definition.put_some("strict", &function.strict);
                if function.cache.is_some() {
                    warnings
                        .add("cache_control_dropped", format!("{}.cache_control", function.path));
                }
                tools.push(Json::of(&object! { "type": "function", "function": definition }));
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
            let mut written = object! { "name": name };
            written.put_some("description", description);
            written.put("schema", schema);
            written.put_some("strict", strict);
            object! { "type": "json_schema", "json_schema": written }
        }
    }
}
