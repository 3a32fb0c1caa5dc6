//! A whole Converse answer.

use serde::Deserialize;

use crate::protocol::{
    anthropic::stop_from,
    json::{Json, object},
    neutral::{
        Answer, Dialect, Part, PartBody, ProviderError, Signature, ToolCall, Usage, Warnings,
    },
};

const ME: Dialect = Dialect::Bedrock;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    output: Option<Output>,
    stop_reason: Option<String>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Output {
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Vec<Block>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    text: Option<String>,
    tool_use: Option<ToolUse>,
    reasoning_content: Option<Reasoning>,
    citations_content: Option<CitationsContent>,
}

/// A text with where it comes from.
#[derive(Deserialize)]
struct CitationsContent {
    #[serde(default)]
    content: Vec<Cited>,
}

#[derive(Deserialize)]
struct Cited {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse {
    tool_use_id: Option<String>,
    name: Option<String>,
    input: Option<Json>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning {
    reasoning_text: Option<ReasoningText>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    text: Option<String>,
    signature: Option<String>,
}

/// Input leaves the cached tokens out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
}

impl WireUsage {
    pub fn usage(&self) -> Usage {
        let read = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_write_input_tokens.unwrap_or(0);
        let fresh = self.input_tokens.unwrap_or(0);
        Usage {
            input_tokens: fresh.saturating_add(read).saturating_add(written),
            cache_read_tokens: read,
            cache_write_tokens: written,
            output_tokens: self.output_tokens.unwrap_or(0),
            ..Usage::default()
        }
    }
}

/// Reads a provider's answer. Converse names neither an id nor the model.
pub fn read_answer(body: &[u8], model: &str) -> Result<Answer, ProviderError> {
    let wire: Response = serde_json::from_slice(body).map_err(ProviderError::malformed)?;
    let message = wire.output.and_then(|output| output.message);
    let blocks = message.and_then(|message| message.content);
    let blocks = blocks.ok_or_else(|| ProviderError::malformed("it has no content"))?;
    let mut lost = Warnings::default();
    for (at, block) in blocks.iter().enumerate() {
        if block.citations_content.is_some() {
            lost.add("citations_dropped", format!("response.content[{at}].citationsContent"));
        } else if block.text.is_none()
            && block.tool_use.is_none()
            && block.reasoning_content.is_none()
        {
            lost.add("part_dropped", format!("response.content[{at}]"));
        }
    }
    Ok(Answer {
        lost,
        id: String::new(),
        model: model.to_owned(),
        parts: blocks.into_iter().map(|block| Part::new(part(block, model))).collect(),
        stop: wire.stop_reason.as_deref().map(stop_from).unwrap_or_default(),
        stop_sequence: None,
        usage: wire.usage.as_ref().map(WireUsage::usage),
    })
}

fn part(block: Block, model: &str) -> PartBody {
    if let Some(text) = block.text {
        return PartBody::Text(text);
    }
    if let Some(cited) = block.citations_content {
        return PartBody::Text(cited.content.into_iter().filter_map(|cited| cited.text).collect());
    }
    if let Some(call) = block.tool_use {
        return PartBody::ToolCall(ToolCall {
            id: call.tool_use_id.unwrap_or_default(),
            name: call.name.unwrap_or_default(),
            arguments: call.input.map_or_else(String::new, |input| input.text().to_owned()),
            signature: None,
        });
    }
    if let Some(reasoning) = block.reasoning_content {
        if let Some(data) = Signature::some(reasoning.redacted_content, ME, model) {
            return PartBody::RedactedThinking(data);
        }
        if let Some(text) = reasoning.reasoning_text {
            return PartBody::Thinking {
                text: text.text.unwrap_or_default(),
                signature: Signature::some(text.signature, ME, model),
            };
        }
    }
    PartBody::Native(Json::of(&object! {}))
}
