//! `POST /v1/responses`: the Responses API, whole and streamed, without stored responses.
//!
//! `items` reads the input, `answer` writes responses and their events. Source: OpenAI API
//! reference, "Responses" and "Streaming events".

mod answer;
mod items;

use axum::http::StatusCode;
use serde_json::Value;

use self::answer::ResponseWire;
use self::items::Items;
use super::super::answer::Question;
use super::super::frames::StreamFormat;
use super::super::offer::{Offer, Tool, ToolChoice, any_object};
use super::super::reply::Reply;
use super::super::script::Fault;
use super::super::sequence::StatusSequences;
use super::super::wire::generate;
use super::Call;
use super::error::ApiError;
use super::fields::Fields;
use super::generation::token_limit;
use super::tools::{checked, declared, is_one_call, named_choice};

/// Chunks of reasoning in an answer whose caller wants a summary, chosen.
const REASONING_CHUNKS: usize = 3;

/// The reply to one call.
pub(super) fn reply(call: &Call, sequences: &StatusSequences) -> Result<Reply, ApiError> {
    let request = call.fields();
    let question = question(call, &request)?;
    let streams = request.boolean("stream")?.then_some(StreamFormat::Events);
    let status = call.status(sequences);
    let instead = call.instead(status, streams.is_some());
    let echo = answer::echo(&request);
    let failure = ApiError::scripted(&call.script.inner_fault());
    let wire = |telling| ResponseWire::new(telling, echo, failure);
    let answer = || generate(&question, &call.script, status, streams, wire);
    Ok(instead.unwrap_or_else(answer))
}

fn question(call: &Call, request: &Fields<'_>) -> Result<Question, ApiError> {
    stored(request)?;
    request.number("temperature", 0.0..=2.0)?;
    request.number("top_p", 0.0..=1.0)?;
    request.string("instructions")?;
    request.boolean("store")?;
    let wants_summary = match request.object("reasoning")? {
        Some(reasoning) => {
            reasoning.string("effort")?;
            reasoning.string("summary")?.is_some()
        }
        None => false,
    };
    let model = &call.script.model;
    let offer = offer(request)?;
    let items = Items::parse(request, model)?;
    Ok(Question {
        model: model.clone(),
        prompt_tokens: items.prompt_tokens + offer.prompt_tokens(),
        subject: offer.subject(items.last_user_text, items.tool_result),
        max_tokens: token_limit(request, "max_output_tokens")?,
        stop: Vec::new(),
        choices: 1,
        reasoning: if wants_summary { REASONING_CHUNKS } else { 0 },
    })
}

/// Nothing is stored here, so nothing can be referred to.
fn stored(request: &Fields<'_>) -> Result<(), ApiError> {
    let Some(id) = request.string("previous_response_id")? else { return Ok(()) };
    let message = format!("Previous response with id '{id}' not found.");
    let error = ApiError::invalid("previous_response_id", "previous_response_not_found", message);
    Err(error)
}

fn offer(request: &Fields<'_>) -> Result<Offer, ApiError> {
    let mut offer =
        Offer { one_call: is_one_call(request)?, format: format(request)?, ..Offer::default() };
    for tool in request.objects("tools")? {
        // Tools that OpenAI runs, and custom ones, which no schema describes, are never called.
        if tool.required_string("type")? == "function" {
            let Tool { name, parameters } = declared(&tool)?;
            offer.tools.push(Tool { name, parameters });
        }
    }
    offer.choice = match request.get("tool_choice") {
        None => ToolChoice::Auto,
        Some(Value::String(mode)) => named_choice("tool_choice", mode)?,
        Some(_) => {
            let choice = request.required_object("tool_choice")?;
            match choice.required_string("type")? {
                "function" => ToolChoice::Named(choice.required_string("name")?.to_owned()),
                "allowed_tools" => {
                    named_choice("tool_choice.mode", choice.required_string("mode")?)?
                }
                _ => ToolChoice::Auto,
            }
        }
    };
    checked(offer)
}

fn format(request: &Fields<'_>) -> Result<Option<Value>, ApiError> {
    let Some(text) = request.object("text")? else { return Ok(None) };
    let Some(format) = text.object("format")? else { return Ok(None) };
    format.required_string("type")?;
    match format.one_of("type", &["text", "json_object", "json_schema"])? {
        Some("json_schema") => {
            format.required_string("name")?;
            format.required_object("schema")?;
            Ok(format.get("schema").cloned())
        }
        Some("json_object") => Ok(Some(any_object())),
        _ => Ok(None),
    }
}

/// The error of a reference to what was never stored.
fn not_stored(id: &str) -> ApiError {
    let message = format!(
        "Item with id '{id}' not found. Items are not persisted when `store` is set to false."
    );
    ApiError::scripted(&Fault::saying(StatusCode::NOT_FOUND, message))
}
