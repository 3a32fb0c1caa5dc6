//! Output items as a caller sees them: one for each part of an answer.

use std::collections::HashSet;

use crate::protocol::{
    json::{RawObject, object},
    neutral::{
        Answer, Dialect, KnownTools, Part, PartBody, ProviderError, Stop, Usage,
        freeform::is_freeform,
    },
    translate::Show,
};

use super::{
    incomplete_reason,
    tools::{call_type, put_call},
};

/// The item of one part; `None` for parts that answers of this dialect do not have. `status` is
/// `in_progress` while it grows, `completed` after, and `incomplete` where it broke off.
pub(super) fn item(
    part: &Part,
    id: &str,
    index: usize,
    status: &str,
    known: &KnownTools,
) -> Option<RawObject> {
    let id = item_id(part, id, index, known);
    Some(match &part.body {
        PartBody::Text(_) | PartBody::Refusal(_) => {
            let content: Vec<RawObject> =
                content_part(part).filter(|_| status != "in_progress").into_iter().collect();
            object! {
                "id": id, "type": "message", "status": status, "role": "assistant",
                "content": content,
            }
        }
        PartBody::ToolCall(call) => {
            let known = known.get(&call.name);
            let mut item = object! { "id": id, "type": call_type(known), "status": status };
            put_call(&mut item, &call.id, &call.name, &call.arguments, known);
            item
        }
        PartBody::Thinking { text, signature } => {
            let mut summary = Vec::new();
            if !text.is_empty() && status != "in_progress" {
                summary.push(object! { "type": "summary_text", "text": text });
            }
            let sealed = signature.as_ref().map(|made| made.write(Dialect::OpenAiResponses));
            let mut item = object! { "id": id, "type": "reasoning", "summary": summary };
            if status == "incomplete" {
                item.put("status", status);
            }
            item.put_some("encrypted_content", &sealed);
            item
        }
        PartBody::RedactedThinking(data) => object! {
            "id": id, "type": "reasoning", "summary": [(); 0],
            "encrypted_content": data.write(Dialect::OpenAiResponses),
        },
        PartBody::Image { .. }
        | PartBody::Document { .. }
        | PartBody::Audio { .. }
        | PartBody::ToolResult(_)
        | PartBody::Native(_) => return None,
    })
}

/// An item's id, made from the response's and its position.
pub(super) fn item_id(part: &Part, id: &str, index: usize, known: &KnownTools) -> String {
    let prefix = match &part.body {
        PartBody::ToolCall(call) if is_freeform(known.get(&call.name)) => "ctc",
        PartBody::ToolCall(_) => "fc",
        PartBody::Thinking { .. } | PartBody::RedactedThinking(_) => "rs",
        _ => "msg",
    };
    format!("{prefix}_{id}_{index}")
}

/// The one content part of a message item.
pub(super) fn content_part(part: &Part) -> Option<RawObject> {
    match &part.body {
        PartBody::Text(text) => Some(object! {
            "type": "output_text", "text": text, "annotations": [(); 0], "logprobs": [(); 0],
        }),
        PartBody::Refusal(text) => Some(object! { "type": "refusal", "refusal": text }),
        _ => None,
    }
}

/// How far a response has come.
pub(super) enum Progress<'a> {
    /// Being written.
    Running,
    /// At its end.
    Ended,
    /// Broken off.
    Failed {
        /// By what.
        error: &'a ProviderError,
        /// The parts that had begun and not ended.
        open: &'a HashSet<usize>,
    },
}

/// The response object around the items.
pub(super) fn response(answer: &Answer, show: &Show, progress: &Progress<'_>) -> RawObject {
    let id = show.id_or(&answer.id);
    let incomplete = match progress {
        Progress::Ended => incomplete_reason(answer.stop),
        _ => None,
    };
    let status = match progress {
        Progress::Running => "in_progress",
        Progress::Failed { .. } => "failed",
        Progress::Ended if incomplete.is_some() => "incomplete",
        Progress::Ended => "completed",
    };
    let error = match progress {
        Progress::Failed { error, .. } => Some(object! {
            "code": error.code.as_deref().unwrap_or_else(|| error.kind.label()),
            "message": error.message,
        }),
        _ => None,
    };
    let mut output = Vec::new();
    if !matches!(progress, Progress::Running) {
        let known = &show.known_tools;
        for (at, (number, part)) in with_call_signatures(answer).iter().enumerate() {
            let status = match progress {
                Progress::Failed { open, .. } if number.is_some_and(|n| open.contains(&n)) => {
                    "incomplete"
                }
                _ => "completed",
            };
            output.extend(item(part, id, at, status, known));
        }
    }
    object! {
        "id": id,
        "object": "response",
        "created_at": show.created,
        "status": status,
        "error": error,
        "incomplete_details": incomplete.map(|reason| object! { "reason": reason }),
        "instructions": None::<u8>,
        "metadata": RawObject::default(),
        "model": show.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": None::<u8>,
        "store": false,
        "temperature": None::<u8>,
        "tool_choice": "auto",
        "tools": [(); 0],
        "top_p": None::<u8>,
        "usage": answer.usage.filter(|_| !matches!(progress, Progress::Running))
            .as_ref().map(usage_object),
    }
}

/// This dialect has no place for a call's signature: it goes before the call, as sealed
/// reasoning without text. The others come with their numbers.
fn with_call_signatures(answer: &Answer) -> Vec<(Option<usize>, Part)> {
    let mut parts = Vec::new();
    for (number, part) in answer.parts.iter().enumerate() {
        if let PartBody::ToolCall(call) = &part.body
            && call.signature.is_some()
        {
            let signature = call.signature.clone();
            parts.push((None, Part::new(PartBody::Thinking { text: String::new(), signature })));
        }
        parts.push((Some(number), part.clone()));
    }
    parts
}

fn usage_object(usage: &Usage) -> RawObject {
    object! {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": object! {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": object! { "reasoning_tokens": usage.reasoning_tokens },
        "total_tokens": usage.total_tokens(),
    }
}

/// Whether a stop leaves the response incomplete.
pub(super) fn is_incomplete(stop: Stop) -> bool {
    incomplete_reason(stop).is_some()
}
