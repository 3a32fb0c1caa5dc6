//! A request for Gemini. The model's name is in the path, not in the body.

use std::collections::HashMap;

use crate::protocol::{
    json::{Json, RawObject, object},
    neutral::{
        Conversation, Dialect, Effort, Format, Part, PartBody, Reasoning, Role, Signature, Source,
        Target, Tool, ToolCall, ToolChoice, ToolResult, Turn, Warnings, Written, target::part_path,
    },
};

const ME: Dialect = Dialect::Gemini;
/// Stands in for the signature of a call that another model made ("Thought signatures", FAQ):
/// Gemini 3 refuses calls without one.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Writes a request.
pub fn write_request(conversation: &Conversation, target: &Target<'_>) -> Written {
    let mut warnings = conversation.warnings.clone();
    let tool_names = conversation.tool_names();
    let mut writer = Writer { conversation, target, tool_names, warnings: &mut warnings };
    let (system, contents) = writer.turns();
    let mut body = RawObject::default();
    if !system.is_empty() {
        body.put("systemInstruction", &object! { "parts": system });
    }
    body.put("contents", &contents);
    tools(conversation, &mut body, &mut warnings);
    let mut config = RawObject::default();
    let sampling = &conversation.sampling;
    config.put_some("temperature", &sampling.temperature);
    config.put_some("topP", &sampling.top_p);
    config.put_some("topK", &sampling.top_k);
    config.put_some("maxOutputTokens", &conversation.max_output_tokens);
    config.put_list("stopSequences", &conversation.stop);
    config.put_some("presencePenalty", &sampling.presence_penalty);
    config.put_some("frequencyPenalty", &sampling.frequency_penalty);
    config.put_some("seed", &sampling.seed);
    if sampling.n.is_some_and(|n| n > 1) {
        warnings.add("sampling_dropped", "n");
    }
    match &conversation.format {
        Some(Format::JsonObject) => config.put("responseMimeType", "application/json"),
        Some(Format::JsonSchema { schema, description, .. }) => {
            if description.is_some() {
                warnings.add("field_dropped", "response_format.description");
            }
            config.put("responseMimeType", "application/json");
            config.put("responseJsonSchema", schema);
        }
        None => {}
    }
    thinking(conversation, target, &mut config, &mut warnings);
    body.put_object("generationConfig", &config);
    if conversation.user.is_some() {
        warnings.add("field_dropped", "user");
    }
    conversation.carry_extra(ME, &mut body, &mut warnings);
    Written { body: body.to_bytes(), warnings, schema_tool: None }
}

/// The budget, where one is said. The thoughts use up the caller's bound on the answer, so it stays
/// below that: as for Anthropic, a word gives way; so does a number that reaches the bound, since
/// without a budget these models think as much as they like.
fn budget(wanted: &Reasoning, target: &Target<'_>, bound: Option<u32>) -> Option<u32> {
    let budget = wanted.budget_tokens()?;
    let Some(bound) = bound.filter(|_| budget > 0) else { return Some(budget) };
    let room = (bound / 2).max(least_budget(target.model));
    match wanted.budget_tokens {
        Some(said) if said < bound => Some(said),
        _ => Some(budget.min(room)),
    }
}

/// The least budget that a model of the family takes; of an unknown one, the largest of those
/// ("Gemini thinking", "Thinking budgets").
fn least_budget(model: &str) -> u32 {
    match model {
        lite if lite.contains("flash-lite") => 512,
        flash if flash.contains("flash") => 1,
        pro if pro.contains("pro") => 128,
        _ => 512,
    }
}

/// Gemini 3 takes a level, earlier models a budget; −1 lets the model decide.
fn thinking(
    conversation: &Conversation,
    target: &Target<'_>,
    config: &mut RawObject,
    warnings: &mut Warnings,
) {
    let Some(wanted) = target.reasoning(conversation, warnings) else { return };
    let mut thinking = RawObject::default();
    if by_level(target.model) {
        let level = wanted.effort().map(|effort| match effort {
            Effort::None | Effort::Minimal | Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High | Effort::XHigh => "high",
        });
        thinking.put_some("thinkingLevel", &level);
    } else if let Some(budget) = budget(wanted, target, conversation.max_output_tokens) {
        if wanted.budget_tokens.is_some_and(|said| said > budget) {
            warnings.add("reasoning_reduced", "reasoning");
        }
        thinking.put("thinkingBudget", &budget);
    } else if wanted.adaptive {
        thinking.put("thinkingBudget", &-1);
    }
    let off = wanted.effort == Some(Effort::None);
    if !off {
        thinking.put("includeThoughts", &true);
    }
    config.put("thinkingConfig", &thinking);
}

/// Whether the model is of the third generation or later: those sign calls and think by level.
fn by_level(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let generation = name.strip_prefix("gemini-").and_then(|rest| rest.split(['.', '-']).next());
    generation.and_then(|digits| digits.parse::<u32>().ok()).is_some_and(|number| number >= 3)
}

struct Writer<'a> {
    conversation: &'a Conversation,
    target: &'a Target<'a>,
    /// By the ids of calls.
    tool_names: HashMap<&'a str, &'a str>,
    warnings: &'a mut Warnings,
}

impl Writer<'_> {
    fn warn(&mut self, code: &'static str, path: &str) {
        self.warnings.add(code, path);
    }

    /// The system texts, later system turns among them, and the contents: neighbours of one
    /// role merged.
    fn turns(&mut self) -> (Vec<RawObject>, Vec<RawObject>) {
        let conversation = self.conversation;
        let mut system = self.parts(&conversation.system, "system");
        let mut merged: Vec<(Role, Vec<RawObject>)> = Vec::new();
        for turn in &conversation.turns {
            let parts = self.turn(turn);
            if turn.role == Role::System {
                self.warn("system_moved", &turn.path);
                system.extend(parts);
                continue;
            }
            // A turn that says nothing here must not part its neighbours.
            if parts.is_empty() {
                continue;
            }
            match merged.last_mut() {
                Some((role, all)) if *role == turn.role => all.extend(parts),
                _ => merged.push((turn.role, parts)),
            }
        }
        let content = |(role, parts): (Role, Vec<RawObject>)| {
            let role = if role == Role::Assistant { "model" } else { "user" };
            object! { "role": role, "parts": parts }
        };
        (system, merged.into_iter().map(content).collect())
    }

    fn turn(&mut self, turn: &Turn) -> Vec<RawObject> {
        if turn.name.is_some() {
            self.warn("field_dropped", &format!("{}.name", turn.path));
        }
        self.parts(&turn.parts, &turn.path)
    }

    fn parts(&mut self, parts: &[Part], path: &str) -> Vec<RawObject> {
        let mut written = Vec::new();
        // A surface without a place for a call's signature carries it in the reasoning just before
        // the call; Gemini itself signs calls and texts, not the reasoning that it shows.
        let mut carried: Option<&Signature> = None;
        let mut first_call = true;
        for (at, part) in parts.iter().enumerate() {
            let path = part_path(path, at);
            if part.cache.is_some() {
                self.warn("cache_control_dropped", &format!("{path}.cache_control"));
            }
            match &part.body {
                PartBody::Thinking { text, signature: Some(made) }
                    if self.target.takes(made)
                        && (text.is_empty() || parts.get(at + 1).is_some_and(is_unsigned_call)) =>
                {
                    carried = Some(made);
                    if !text.is_empty() {
                        written.push(object! { "text": text, "thought": true });
                    }
                }
                PartBody::ToolCall(call) => {
                    let made = call.signature.as_ref().or(carried.take());
                    written.push(self.call(call, made, first_call, &path));
                    first_call = false;
                }
                PartBody::ToolResult(result) => self.result(result, &path, &mut written),
                _ => written.extend(self.part(part, &path)),
            }
        }
        written
    }

    fn part(&mut self, part: &Part, path: &str) -> Option<RawObject> {
        Some(match &part.body {
            PartBody::Text(text) if text.is_empty() => return None,
            PartBody::Text(text) | PartBody::Refusal(text) => object! { "text": text },
            PartBody::Image { source, detail } => {
                if detail.is_some() {
                    self.warn("field_dropped", &format!("{path}.detail"));
                }
                match self.data(source) {
                    Some(data) => data,
                    None => return self.dropped("image_dropped", path),
                }
            }
            PartBody::Document { source, title, context } => {
                if title.is_some() || context.is_some() {
                    self.warn("field_dropped", &format!("{path}.title"));
                }
                match self.data(source) {
                    Some(data) => data,
                    None => return self.dropped("document_dropped", path),
                }
            }
            PartBody::Audio { data, format } => {
                let media_type = format!("audio/{format}");
                object! { "inlineData": object! { "mimeType": media_type, "data": data } }
            }
            PartBody::Thinking { text, signature: Some(made) } if self.target.takes(made) => {
                object! { "text": text, "thought": true, "thoughtSignature": made.value }
            }
            PartBody::Thinking { .. } | PartBody::RedactedThinking(_) => {
                return self.dropped("thinking_dropped", path);
            }
            PartBody::ToolCall(_) | PartBody::ToolResult(_) | PartBody::Native(_) => {
                return self.dropped("part_dropped", path);
            }
        })
    }

    fn dropped(&mut self, code: &'static str, path: &str) -> Option<RawObject> {
        self.warn(code, path);
        None
    }

    fn data(&self, source: &Source) -> Option<RawObject> {
        Some(match source {
            Source::Base64 { media_type, data } => {
                object! { "inlineData": object! { "mimeType": media_type, "data": data } }
            }
            Source::Url(url) => {
                let mut file = RawObject::default();
                file.put_some("mimeType", &media_type_of(url));
                file.put("fileUri", url);
                object! { "fileData": file }
            }
            Source::Text(text) => object! { "text": text },
            Source::FileId(_) => return None,
        })
    }

    /// The first call of a turn must be signed where calls are; the others need not be.
    fn call(
        &mut self,
        call: &ToolCall,
        made: Option<&Signature>,
        first: bool,
        path: &str,
    ) -> RawObject {
        let arguments = call.input(path, self.warnings);
        let function = object! { "id": call.id, "name": call.name, "args": arguments };
        let mut part = object! { "functionCall": function };
        match made {
            Some(made) if self.target.takes(made) => part.put("thoughtSignature", &made.value),
            made => {
                if made.is_some() {
                    self.warn("signature_dropped", path);
                }
                if first && by_level(self.target.model) {
                    part.put("thoughtSignature", NO_SIGNATURE);
                }
            }
        }
        part
    }

    /// A result is an object: the tool's own, if it gave one. Pictures follow it.
    fn result(&mut self, result: &ToolResult, path: &str, written: &mut Vec<RawObject>) {
        let mut texts = Vec::new();
        let mut media = Vec::new();
        for (at, part) in result.content.iter().enumerate() {
            let path = part_path(path, at);
            match &part.body {
                PartBody::Text(text) => texts.push(text.as_str()),
                _ => {
                    if let Some(part) = self.part(part, &path) {
                        self.warn("tool_result_media_moved", &path);
                        media.push(part);
                    }
                }
            }
        }
        let text = texts.join("\n");
        let response = match Json::parse_object(&text) {
            Some(object) if !result.is_error => object,
            _ if result.is_error => Json::of(&object! { "error": text }),
            _ => Json::of(&object! { "result": text }),
        };
        let name = self.tool_names.get(result.call_id.as_str()).copied();
        if name.is_none() {
            self.warn("tool_name_unknown", path);
        }
        written.push(object! { "functionResponse": object! {
            "id": result.call_id,
            "name": name.unwrap_or("tool"),
            "response": response,
        } });
        written.extend(media);
    }
}

fn is_unsigned_call(part: &Part) -> bool {
    matches!(&part.body, PartBody::ToolCall(call) if call.signature.is_none())
}

/// The media type that a URL's ending promises; `None` leaves it to the provider.
fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url).to_ascii_lowercase();
    Some(match path.rsplit('.').next()? {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        _ => return None,
    })
}

fn tools(conversation: &Conversation, body: &mut RawObject, warnings: &mut Warnings) {
    let mut functions = Vec::new();
    for tool in &conversation.tools {
        let function = match tool {
            Tool::Function(function) => function,
            Tool::Native { path, .. } => {
                warnings.add("tool_dropped", path.clone());
                continue;
            }
        };
        let mut written = object! { "name": function.name };
        written.put_some("description", &function.description);
        written.put_some("parametersJsonSchema", &function.parameters);
        if function.strict == Some(true) {
            warnings.add("field_dropped", format!("{}.strict", function.path));
        }
        if function.cache.is_some() {
            warnings.add("cache_control_dropped", format!("{}.cache_control", function.path));
        }
        functions.push(written);
    }
    if functions.is_empty() {
        return;
    }
    body.put("tools", &[object! { "functionDeclarations": functions }]);
    let calling = match &conversation.tool_choice {
        Some(ToolChoice::Auto) => Some(object! { "mode": "AUTO" }),
        Some(ToolChoice::None) => Some(object! { "mode": "NONE" }),
        Some(ToolChoice::Required) => Some(object! { "mode": "ANY" }),
        Some(ToolChoice::Named(name)) => {
            Some(object! { "mode": "ANY", "allowedFunctionNames": [name] })
        }
        None => None,
    };
    if let Some(calling) = calling {
        body.put("toolConfig", &object! { "functionCallingConfig": calling });
    }
    if conversation.parallel_tool_calls == Some(false) {
        warnings.add("parallel_tool_calls_dropped", "parallel_tool_calls");
    }
}
