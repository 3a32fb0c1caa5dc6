//! A request for Cohere: the chat request of [`super::super::openai_chat`], with the fields that
//! are called differently renamed and those that Cohere does not have left out.

use serde::Deserialize;

use crate::protocol::{
    json::{Json, RawObject, object},
    neutral::{
        Conversation, Dialect, Effort, Part, PartBody, Source, Target, ToolChoice, Warnings,
        Written, target::part_path,
    },
    openai_chat,
};

/// Writes a request.
pub fn write_request(conversation: &Conversation, target: &Target<'_>) -> Written {
    let chat = Target {
        dialect: Dialect::OpenAiChat,
        old_max_tokens: true,
        stream_usage: false,
        reasoning_content: false,
        ..*target
    };
    let conversation = &without_media(conversation);
    let Written { body, mut warnings, .. } = openai_chat::write_request(conversation, &chat);
    // What was just written is an object.
    let mut body = RawObject::parse(&body).unwrap_or_default();
    rename(&mut body, "top_p", "p");
    rename(&mut body, "stop", "stop_sequences");
    body.remove("top_k");
    body.put_some("k", &conversation.sampling.top_k);
    body.remove("tool_choice");
    match &conversation.tool_choice {
        Some(ToolChoice::None) => body.put("tool_choice", "NONE"),
        Some(ToolChoice::Required) => body.put("tool_choice", "REQUIRED"),
        Some(ToolChoice::Named(name)) => {
            // Some tool must be called, and no other is on offer.
            if !offer_only(name, &mut body) {
                warnings.add("tool_choice_weakened", "tool_choice");
            }
            body.put("tool_choice", "REQUIRED");
        }
        Some(ToolChoice::Auto) | None => {}
    }
    for name in ["n", "user", "parallel_tool_calls"] {
        drop_field(&mut body, name, &mut warnings);
    }
    // Fields of OpenAI's that the chat writer carried over.
    for (name, _) in &conversation.extra {
        drop_field(&mut body, name, &mut warnings);
    }
    format(&mut body);
    body.remove("reasoning_effort");
    if let Some(wanted) = target.reasoning(conversation, &mut warnings) {
        let mut thinking = match wanted.effort {
            Some(Effort::None) => object! { "type": "disabled" },
            _ => object! { "type": "enabled" },
        };
        let budget = wanted.budget_tokens.filter(|_| wanted.effort != Some(Effort::None));
        thinking.put_some("token_budget", &budget);
        body.put("thinking", &thinking);
    }
    Written { body: body.to_bytes(), warnings, schema_tool: None }
}

/// Leaves out what a message of Cohere's has no place for: sound, and documents other than texts
/// (API reference, "Chat", `UserMessageV2`).
fn without_media(conversation: &Conversation) -> Conversation {
    let mut kept = conversation.clone();
    // Named and left out with the other fields, however long it is.
    kept.user = kept.user.map(|_| String::new());
    let (turns, warnings) = (&mut kept.turns, &mut kept.warnings);
    for turn in turns {
        leave_out(&mut turn.parts, &turn.path, warnings);
    }
    kept
}

fn leave_out(parts: &mut Vec<Part>, path: &str, warnings: &mut Warnings) {
    let mut at = 0;
    parts.retain_mut(|part| {
        let path = part_path(path, at);
        at += 1;
        let code = match &mut part.body {
            PartBody::Audio { .. } => "audio_dropped",
            PartBody::Document { source: Source::Text(_), .. } => return true,
            PartBody::Document { .. } => "document_dropped",
            PartBody::ToolResult(result) => {
                leave_out(&mut result.content, &path, warnings);
                return true;
            }
            _ => return true,
        };
        warnings.add(code, path);
        false
    });
}

/// Leaves one tool in the list. A name that is not in it changes nothing and gives `false`.
fn offer_only(name: &str, body: &mut RawObject) -> bool {
    #[derive(Deserialize)]
    struct Tool {
        function: Function,
    }
    #[derive(Deserialize)]
    struct Function {
        name: String,
    }
    let tools = body.get("tools").map(|tools| serde_json::from_str::<Vec<Json>>(tools.get()));
    let tools = tools.and_then(Result::ok).unwrap_or_default();
    let is_named = |tool: &Json| tool.read::<Tool>().is_some_and(|tool| tool.function.name == name);
    let named = tools.into_iter().find(is_named);
    if let Some(tool) = &named {
        body.remove("tools");
        body.put("tools", &[tool]);
    }
    named.is_some()
}

fn rename(body: &mut RawObject, from: &str, to: &str) {
    if let Some(value) = body.take(from) {
        body.put(to, &value);
    }
}

fn drop_field(body: &mut RawObject, name: &str, warnings: &mut Warnings) {
    if body.take(name).is_some() {
        warnings.add("field_dropped", name);
    }
}

/// `{"type":"json_schema","json_schema":{"schema":…}}` is `{"type":"json_object","json_schema":…}`
/// here.
fn format(body: &mut RawObject) {
    let Some(format) = body.take("response_format") else { return };
    let mut format = RawObject::parse(format.text().as_bytes()).unwrap_or_default();
    let inner = format.take("json_schema");
    let schema = inner
        .and_then(|inner| RawObject::parse(inner.text().as_bytes()).ok())
        .and_then(|mut inner| inner.take("schema"));
    let mut written = object! { "type": "json_object" };
    written.put_some::<Json>("json_schema", &schema);
    body.put("response_format", &written);
}
