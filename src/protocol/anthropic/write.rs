//! A request for a provider that speaks messages.

use crate::protocol::{
    json::{Json, RawObject, object},
    neutral::{
        Conversation, Dialect, Effort, Format, Part, PartBody, Role, Sampling, Source, Target,
        Tool, ToolCall, ToolChoice, Turn, Warnings, Written, portable_id, target::part_path,
    },
};

const ME: Dialect = Dialect::Anthropic;
/// The least thinking that can be asked for (Anthropic, "Extended thinking").
const MIN_BUDGET_TOKENS: u32 = 1024;
/// Longest id of a tool call (Bedrock's bound on the same models; Anthropic states none).
const MAX_ID_CHARS: usize = 64;
/// Stands for the user's turn where a conversation begins with the model's.
pub(in crate::protocol) const OPENING: &str = "(The conversation begins with the assistant.)";

/// Writes a request.
pub fn write_request(conversation: &Conversation, target: &Target<'_>) -> Written {
    let mut warnings = conversation.warnings.clone();
    let max_tokens = conversation.max_output_tokens.unwrap_or(target.max_output_tokens);
    let mut body = object! { "model": target.model, "max_tokens": max_tokens };
    let mut writer = Writer { conversation, target, warnings: &mut warnings };
    let (system, messages) = writer.turns();
    match system.as_slice() {
        [] => {}
        [Part { body: PartBody::Text(text), cache: None }] => body.put("system", text),
        parts => {
            let mut blocks = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                blocks.extend(writer.block(part, &part_path("system", at)));
            }
            body.put_list("system", &blocks);
        }
    }
    body.put("messages", &messages);
    if conversation.stream {
        body.put("stream", &true);
    }
    body.put_list("stop_sequences", &conversation.stop);
    if let Some(user) = &conversation.user {
        body.put("metadata", &object! { "user_id": user });
    }
    let schema_tool = tools(conversation, target, &mut body, &mut warnings);
    let forced = schema_tool.is_some()
        || matches!(
            conversation.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Named(_)) if !conversation.tools.is_empty()
        );
    let mut output = RawObject::default();
    let thinks = match thinking(conversation, target, max_tokens, forced, &mut warnings) {
        Thinking::Off => false,
        Thinking::Disabled => {
            body.put("thinking", &object! { "type": "disabled" });
            false
        }
        Thinking::Budget(budget) => {
            body.put("thinking", &object! { "type": "enabled", "budget_tokens": budget });
            true
        }
        Thinking::Adaptive(effort) => {
            body.put("thinking", &object! { "type": "adaptive" });
            output.put_some("effort", &effort);
            true
        }
    };
    if let (Some(Format::JsonSchema { schema, description, .. }), None) =
        (&conversation.format, &schema_tool)
    {
        if description.is_some() {
            warnings.add("field_dropped", "response_format.description");
        }
        output.put("format", &object! { "type": "json_schema", "schema": schema });
    }
    body.put_object("output_config", &output);
    sampling(conversation, target, thinks, &mut body, &mut warnings);
    conversation.carry_extra(ME, &mut body, &mut warnings);
    Written { body: body.to_bytes(), warnings, schema_tool }
}

/// What is asked of the model's reasoning.
pub(in crate::protocol) enum Thinking {
    /// Nothing is said.
    Off,
    /// It is switched off.
    Disabled,
    /// So many tokens.
    Budget(u32),
    /// As the model sees fit, with an effort in Anthropic's word.
    Adaptive(Option<&'static str>),
}

/// What can be asked of the model's reasoning: a budget of at least 1,024 tokens below the bound
/// on the answer, not beside a forced tool, and not in a tool loop whose reasoning is lost, which
/// the provider would refuse ("Extended thinking", "Preserving thinking blocks"). Models that
/// decide for themselves are given an effort, also in such a loop ("Adaptive thinking").
pub(in crate::protocol) fn thinking(
    conversation: &Conversation,
    target: &Target<'_>,
    max_tokens: u32,
    forced: bool,
    warnings: &mut Warnings,
) -> Thinking {
    let Some(wanted) = target.reasoning(conversation, warnings) else { return Thinking::Off };
    let adaptive = target.traits.adaptive_thinking;
    if wanted.effort == Some(Effort::None) {
        if !target.traits.always_thinks {
            return Thinking::Disabled;
        }
        warnings.add("reasoning_kept", "reasoning");
    }
    if forced || !adaptive && loop_without_reasoning(conversation, target) {
        warnings.add("reasoning_dropped", "reasoning");
        return Thinking::Off;
    }
    if adaptive {
        return Thinking::Adaptive(wanted.effort().map(|effort| match effort {
            Effort::None | Effort::Minimal => "low",
            Effort::XHigh => "max",
            effort => effort.name(),
        }));
    }
    let adaptive = wanted.adaptive.then(|| Effort::High.budget_tokens());
    let Some(budget) = wanted.budget_tokens().or(adaptive) else { return Thinking::Off };
    // A budget that comes from a word gives way to the caller's bound; one in numbers does not.
    let budget = match wanted.budget_tokens {
        Some(budget) => budget,
        None => budget.min(max_tokens / 2),
    };
    if budget < MIN_BUDGET_TOKENS || budget >= max_tokens {
        warnings.add("reasoning_dropped", "reasoning");
        return Thinking::Off;
    }
    Thinking::Budget(budget)
}

/// Whether the model last called tools without reasoning that can be shown to it again.
fn loop_without_reasoning(conversation: &Conversation, target: &Target<'_>) -> bool {
    let last = conversation.turns.iter().rev().find(|turn| turn.role == Role::Assistant);
    let in_loop = conversation.turns.last().is_some_and(|turn| {
        turn.parts.iter().any(|part| matches!(part.body, PartBody::ToolResult(_)))
    });
    in_loop
        && last.is_some_and(|turn| {
            !turn.parts.iter().any(|part| match &part.body {
                PartBody::Thinking { signature: Some(made), .. } => target.takes(made),
                PartBody::RedactedThinking(data) => target.takes(data),
                _ => false,
            })
        })
}

/// The least nucleus that may be drawn from beside thinking (the same, "Feature compatibility").
const MIN_TOP_P: f64 = 0.95;

/// Leaves out what cannot be said beside thinking: a temperature other than 1, a small `top_p`, any
/// `top_k`.
pub(in crate::protocol) fn beside_thinking(sampling: &mut Sampling, warnings: &mut Warnings) {
    for (name, left_out) in [
        ("temperature", sampling.temperature.take_if(|value| *value != 1.0).is_some()),
        ("top_p", sampling.top_p.take_if(|value| *value < MIN_TOP_P).is_some()),
        ("top_k", sampling.top_k.take().is_some()),
    ] {
        if left_out {
            warnings.add("sampling_dropped", name);
        }
    }
}

/// Temperature lies in 0..=1.
fn sampling(
    conversation: &Conversation,
    target: &Target<'_>,
    thinks: bool,
    body: &mut RawObject,
    warnings: &mut Warnings,
) {
    let mut sampling = target.sampling(conversation, warnings);
    if thinks {
        beside_thinking(&mut sampling, warnings);
    }
    match sampling.temperature {
        Some(temperature) if temperature > 1.0 => {
            body.put("temperature", &1.0);
            warnings.add("temperature_clamped", "temperature");
        }
        temperature => body.put_some("temperature", &temperature),
    }
    body.put_some("top_p", &sampling.top_p);
    body.put_some("top_k", &sampling.top_k);
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
}

struct Writer<'a> {
    conversation: &'a Conversation,
    target: &'a Target<'a>,
    warnings: &'a mut Warnings,
}

impl Writer<'_> {
    fn warn(&mut self, code: &'static str, path: &str) {
        self.warnings.add(code, path);
    }

    /// The system parts, later system turns among them, and the messages: neighbours of one
    /// role merged, tool results first.
    fn turns(&mut self) -> (Vec<Part>, Vec<RawObject>) {
        let mut system = self.conversation.system.clone();
        let mut merged: Vec<(Role, Vec<RawObject>, Vec<RawObject>)> = Vec::new();
        for turn in &self.conversation.turns {
            // Some models take instructions in the middle; a caller of this surface knows which.
            if turn.role == Role::System && self.conversation.origin != ME {
                self.warn("system_moved", &turn.path);
                system.extend(turn.parts.iter().cloned());
                continue;
            }
            let (results, others) = self.blocks(turn);
            // An empty message is refused, and must not part its neighbours.
            if results.is_empty() && others.is_empty() {
                continue;
            }
            match merged.last_mut() {
                Some((role, all_results, all_others)) if *role == turn.role => {
                    all_results.extend(results);
                    all_others.extend(others);
                }
                _ => merged.push((turn.role, results, others)),
            }
        }
        // "First message must use the user role."
        if let Some((Role::Assistant, ..)) = merged.first() {
            let opening = object! { "type": "text", "text": OPENING };
            merged.insert(0, (Role::User, Vec::new(), vec![opening]));
            let turn = self.conversation.turns.iter().find(|turn| turn.role == Role::Assistant);
            self.warn("turn_added", turn.map_or("", |turn| &turn.path));
        }
        let message = |(role, results, others): (Role, Vec<RawObject>, Vec<RawObject>)| {
            let content: Vec<RawObject> = results.into_iter().chain(others).collect();
            let role = match role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            object! { "role": role, "content": content }
        };
        (system, merged.into_iter().map(message).collect())
    }

    /// The blocks of a turn: tool results, and the others.
    fn blocks(&mut self, turn: &Turn) -> (Vec<RawObject>, Vec<RawObject>) {
        if turn.name.is_some() {
            self.warn("field_dropped", &format!("{}.name", turn.path));
        }
        let (mut results, mut others) = (Vec::new(), Vec::new());
        for (at, part) in turn.parts.iter().enumerate() {
            let path = format!("{}.content[{at}]", turn.path);
            let to = match part.body {
                PartBody::ToolResult(_) => &mut results,
                _ => &mut others,
            };
            to.extend(self.block(part, &path));
        }
        (results, others)
    }

    fn block(&mut self, part: &Part, path: &str) -> Option<RawObject> {
        let mut block = match &part.body {
            // An empty text block is refused.
            PartBody::Text(text) if text.is_empty() => return None,
            PartBody::Text(text) | PartBody::Refusal(text) => {
                object! { "type": "text", "text": text }
            }
            PartBody::Image { source, detail } => {
                if detail.is_some() {
                    self.warn("field_dropped", &format!("{path}.detail"));
                }
                match self.source(source) {
                    Some(source) => object! { "type": "image", "source": source },
                    None => return self.dropped("image_dropped", path),
                }
            }
            PartBody::Document { source, title, context } => match self.source(source) {
                Some(source) => {
                    let mut block = object! { "type": "document", "source": source };
                    block.put_some("title", title);
                    block.put_some("context", context);
                    block
                }
                None => return self.dropped("document_dropped", path),
            },
            PartBody::Audio { .. } => return self.dropped("audio_dropped", path),
            PartBody::ToolCall(call) => self.call(call, path),
            PartBody::ToolResult(result) => {
                let mut content = Vec::new();
                for (at, part) in result.content.iter().enumerate() {
                    content.extend(self.block(part, &format!("{path}.content[{at}]")));
                }
                let mut block = object! { "type": "tool_result", "tool_use_id": portable_id(&result.call_id, MAX_ID_CHARS) };
                block.put("content", &content);
                if result.is_error {
                    block.put("is_error", &true);
                }
                block
            }
            PartBody::Thinking { text, signature: Some(made) } if self.target.takes(made) => {
                object! { "type": "thinking", "thinking": text, "signature": made.value }
            }
            PartBody::RedactedThinking(data) if self.target.takes(data) => {
                object! { "type": "redacted_thinking", "data": data.value }
            }
            PartBody::Thinking { .. } | PartBody::RedactedThinking(_) => {
                return self.dropped("thinking_dropped", path);
            }
            PartBody::Native(block) if self.conversation.origin == ME => {
                return RawObject::parse(block.text().as_bytes()).ok();
            }
            PartBody::Native(_) => return self.dropped("part_dropped", path),
        };
        block.put_some("cache_control", &part.cache);
        Some(block)
    }

    fn dropped(&mut self, code: &'static str, path: &str) -> Option<RawObject> {
        self.warn(code, path);
        None
    }

    fn call(&mut self, call: &ToolCall, path: &str) -> RawObject {
        if call.signature.is_some() {
            self.warn("signature_dropped", path);
        }
        let input = call.input(path, self.warnings);
        let id = portable_id(&call.id, MAX_ID_CHARS);
        object! { "type": "tool_use", "id": id, "name": call.name, "input": input }
    }

    fn source(&self, source: &Source) -> Option<RawObject> {
        Some(match source {
            Source::Base64 { media_type, data } => {
                object! { "type": "base64", "media_type": media_type, "data": data }
            }
            Source::Url(url) => object! { "type": "url", "url": url },
            Source::Text(text) => {
                object! { "type": "text", "media_type": "text/plain", "data": text }
            }
            Source::FileId(id) if self.conversation.origin == ME => {
                object! { "type": "file", "file_id": id }
            }
            Source::FileId(_) => return None,
        })
    }
}

/// Tools, their choice, and the tool that stands in for a JSON schema, if one must.
fn tools(
    conversation: &Conversation,
    target: &Target<'_>,
    body: &mut RawObject,
    warnings: &mut Warnings,
) -> Option<String> {
    let mut tools: Vec<Json> = Vec::new();
    for tool in &conversation.tools {
        match tool {
            Tool::Function(function) => {
                let mut written = object! { "name": function.name };
                written.put_some("description", &function.description);
                written.put("input_schema", &function.schema());
                written.put_some("strict", &function.strict.filter(|strict| *strict));
                written.put_some("cache_control", &function.cache);
                tools.push(Json::of(&written));
            }
            Tool::Native { tool, .. } if conversation.origin == ME => tools.push(tool.clone()),
            Tool::Native { path, .. } => warnings.add("tool_dropped", path.clone()),
        }
    }
    let mut schema_tool = None;
    match &conversation.format {
        Some(Format::JsonSchema { name, description, schema, .. }) if !target.json_schema => {
            let mut written = object! { "name": name };
            written.put_some("description", description);
            written.put("input_schema", schema);
            tools.push(Json::of(&written));
            schema_tool = Some(name.clone());
        }
        Some(Format::JsonObject) => warnings.add("format_dropped", "response_format"),
        _ => {}
    }
    body.put_list("tools", &tools);
    if tools.is_empty() {
        return None;
    }
    let choice = match (&schema_tool, &conversation.tool_choice) {
        // With tools of the caller's beside it, the model must be free to call those first.
        (Some(_), choice) if tools.len() > 1 && *choice != Some(ToolChoice::None) => {
            Some(object! { "type": "any" })
        }
        (Some(name), _) => Some(object! { "type": "tool", "name": name }),
        (None, Some(ToolChoice::Auto)) => Some(object! { "type": "auto" }),
        (None, Some(ToolChoice::None)) => Some(object! { "type": "none" }),
        (None, Some(ToolChoice::Required)) => Some(object! { "type": "any" }),
        (None, Some(ToolChoice::Named(name))) => Some(object! { "type": "tool", "name": name }),
        (None, None) => None,
    };
    let serial = conversation.parallel_tool_calls == Some(false)
        && conversation.tool_choice != Some(ToolChoice::None);
    let choice = choice.or_else(|| serial.then(|| object! { "type": "auto" }));
    if let Some(mut choice) = choice {
        if serial {
            choice.put("disable_parallel_tool_use", &true);
        }
        body.put("tool_choice", &choice);
    }
    schema_tool
}
