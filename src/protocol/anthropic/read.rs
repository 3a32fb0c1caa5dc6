//! A caller's messages request.

use crate::protocol::{
    fields::{Fields, RequestError, StringOrParts},
    neutral::{
        Conversation, Dialect, Effort, Format, Function, Part, PartBody, Reasoning, Role,
        Signature, Source, Tool, ToolCall, ToolChoice, ToolResult, Turn, Warnings,
    },
};

const ME: Dialect = Dialect::Anthropic;

/// Reads a request. The body object `weighbridge` is left out; other unknown fields are kept.
pub fn read_request(body: &[u8]) -> Result<Conversation, RequestError> {
    let mut body = Fields::parse(body)?;
    let mut read = Conversation::new(ME, body.required("model")?);
    body.take("weighbridge");
    read.system = content(&mut body, "system", Place::Message, &mut read.warnings)?;
    messages(&mut body, &mut read)?;
    read.stream = body.optional("stream")?.unwrap_or_default();
    read.max_output_tokens = body.optional("max_tokens")?;
    read.sampling.temperature = body.optional("temperature")?;
    read.sampling.top_p = body.optional("top_p")?;
    read.sampling.top_k = body.optional("top_k")?;
    read.stop = body.optional("stop_sequences")?.unwrap_or_default();
    if let Some(mut metadata) = body.object("metadata")? {
        read.user = metadata.optional("user_id")?;
        metadata.warn_rest(&mut read.warnings);
    }
    tools(&mut body, &mut read)?;
    output(&mut body, &mut read)?;
    read.extra = body.rest();
    Ok(read)
}

/// `thinking`, `output_config` and the older `output_format`.
fn output(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    let mut reasoning = Reasoning::default();
    if let Some(mut thinking) = body.object("thinking")? {
        let kind: String = thinking.required("type")?;
        reasoning.adaptive = kind == "adaptive";
        reasoning.budget_tokens = thinking.optional("budget_tokens")?;
        if kind == "disabled" {
            reasoning.effort = Some(Effort::None);
        }
        // How much of it is shown is for the provider of this dialect only.
        thinking.warn_rest(&mut read.warnings);
    }
    let mut format = body.object("output_format")?;
    if let Some(mut config) = body.object("output_config")? {
        if let Some(effort) = config.optional::<String>("effort")? {
            let effort = Effort::from_name(&effort);
            if effort.is_none() {
                read.warnings.add("reasoning_dropped", "output_config.effort");
            }
            reasoning.effort = reasoning.effort.or(effort);
        }
        format = config.object("format")?.or(format);
        config.warn_rest(&mut read.warnings);
    }
    if reasoning != Reasoning::default() {
        read.reasoning = Some(reasoning);
    }
    if let Some(mut format) = format {
        format.take("type");
        read.format = Some(Format::JsonSchema {
            name: "answer".to_owned(),
            description: None,
            schema: format.required("schema")?,
            strict: Some(true),
        });
        format.warn_rest(&mut read.warnings);
    }
    Ok(())
}

fn messages(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    let messages = body.objects("messages")?;
    if messages.is_empty() {
        return Err(RequestError::at("messages", "must hold at least one message"));
    }
    for mut message in messages {
        let role: String = message.required("role")?;
        let role = match role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => {
                let what = format!("has a role that is not known: `{role}`");
                return Err(RequestError::at(message.path_of("role"), what));
            }
        };
        let parts = content(&mut message, "content", Place::Message, &mut read.warnings)?;
        let path = message.path().to_owned();
        message.warn_rest(&mut read.warnings);
        read.turns.push(Turn { role, name: None, parts, path });
    }
    Ok(())
}

/// Where blocks stand. Results do not nest: a body could otherwise nest them until the stack
/// is full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Message,
    Result,
}

/// A content field: a string or an array of blocks.
fn content(
    fields: &mut Fields,
    name: &str,
    place: Place,
    warnings: &mut Warnings,
) -> Result<Vec<Part>, RequestError> {
    match fields.string_or_parts(name)? {
        StringOrParts::None => Ok(Vec::new()),
        StringOrParts::Text(text) => Ok(vec![Part::text(text)]),
        StringOrParts::Parts(blocks) => {
            blocks.into_iter().map(|block| part(block, place, warnings)).collect()
        }
    }
}

fn part(mut block: Fields, place: Place, warnings: &mut Warnings) -> Result<Part, RequestError> {
    let whole = block.to_json();
    let kind: String = block.required("type")?;
    let cache = block.take("cache_control");
    let sign = |text: Option<String>| text.and_then(|text| Signature::read(&text, ME));
    let body = match kind.as_str() {
        "text" => PartBody::Text(block.required("text")?),
        "image" => match source(&mut block)? {
            Some(source) => PartBody::Image { source, detail: None },
            None => PartBody::Native(whole),
        },
        "document" => match source(&mut block)? {
            Some(source) => PartBody::Document {
                source,
                title: block.optional("title")?,
                context: block.optional("context")?,
            },
            None => PartBody::Native(whole),
        },
        "tool_use" => PartBody::ToolCall(ToolCall {
            id: block.required("id")?,
            name: block.required("name")?,
            arguments: block.take("input").map_or_else(String::new, |json| json.text().to_owned()),
            signature: None,
        }),
        "tool_result" if place == Place::Result => {
            return Err(RequestError::at(block.path(), "is a tool result inside of another"));
        }
        "tool_result" => PartBody::ToolResult(ToolResult {
            call_id: block.required("tool_use_id")?,
            content: content(&mut block, "content", Place::Result, warnings)?,
            is_error: block.optional("is_error")?.unwrap_or_default(),
        }),
        "thinking" => PartBody::Thinking {
            text: block.required("thinking")?,
            signature: sign(block.optional("signature")?),
        },
        "redacted_thinking" => match sign(block.optional("data")?) {
            Some(data) => PartBody::RedactedThinking(data),
            None => return Err(RequestError::at(block.path_of("data"), "is missing")),
        },
        _ => PartBody::Native(whole),
    };
    if !matches!(body, PartBody::Native(_)) {
        block.warn_rest(warnings);
    }
    Ok(Part { body, cache })
}

/// A `source` object; `None` for one that only this dialect has.
fn source(block: &mut Fields) -> Result<Option<Source>, RequestError> {
    let Some(mut source) = block.object("source")? else {
        return Err(RequestError::at(block.path_of("source"), "is missing"));
    };
    let kind: String = source.required("type")?;
    Ok(Some(match kind.as_str() {
        "base64" => Source::Base64 {
            media_type: source.required("media_type")?,
            data: source.required("data")?,
        },
        "url" => Source::Url(source.required("url")?),
        "file" => Source::FileId(source.required("file_id")?),
        "text" => Source::Text(source.required("data")?),
        _ => return Ok(None),
    }))
}

fn tools(body: &mut Fields, read: &mut Conversation) -> Result<(), RequestError> {
    for mut tool in body.objects("tools")? {
        let whole = tool.to_json();
        let kind: Option<String> = tool.optional("type")?;
        if !matches!(kind.as_deref(), None | Some("custom")) {
            read.tools.push(Tool::Native { tool: whole, path: tool.path().to_owned() });
            continue;
        }
        read.tools.push(Tool::Function(Function {
            name: tool.required("name")?,
            description: tool.optional("description")?,
            parameters: tool.take("input_schema"),
            strict: tool.optional("strict")?,
            cache: tool.take("cache_control"),
            known_as: None,
            path: tool.path().to_owned(),
        }));
        tool.warn_rest(&mut read.warnings);
    }
    let Some(mut choice) = body.object("tool_choice")? else { return Ok(()) };
    let kind: String = choice.required("type")?;
    read.tool_choice = Some(match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required("name")?),
        _ => {
            let what = format!("is not known: `{kind}`");
            return Err(RequestError::at("tool_choice.type", what));
        }
    });
    let serial: Option<bool> = choice.optional("disable_parallel_tool_use")?;
    read.parallel_tool_calls = serial.map(|serial| !serial);
    choice.warn_rest(&mut read.warnings);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tool_results_inside_of_tool_results_are_refused_at_any_depth() {
        for depth in [2, 100_000] {
            let body = [
                r#"{"model":"m","messages":[{"role":"user","content":"#.to_owned(),
                r#"[{"type":"tool_result","tool_use_id":"a","content":"#.repeat(depth),
                "\"x\"".to_owned(),
                "}]".repeat(depth),
                "}]}".to_owned(),
            ];
            let error = read_request(body.concat().as_bytes()).unwrap_err();
            let place = "messages[0].content[0].content[0]";
            assert_eq!(error.param.as_deref(), Some(place), "{error}");
        }
    }
}
