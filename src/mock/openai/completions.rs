//! `POST /v1/completions`: text completions, the format before chat.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::answer::{Answer, Piece, Question, Subject, huge_tokens};
use super::super::directives::Directives;
use super::super::frames::MALFORMED;
use super::super::play::Event;
use super::super::reply::Reply;
use super::super::sequence::StatusSequences;
use super::error::ApiError;
use super::generation::{Render, Sampling, UsageMeter, body_usage, generate, token_limit};
use super::inputs::{Input, inputs};
use super::{Call, finish_word, now_s};

/// The reply to one call. The answer is to the last prompt of several.
pub(super) fn reply(call: &Call, sequences: &StatusSequences) -> Result<Reply, ApiError> {
    let request = call.fields();
    let prompts = inputs(&request, "prompt")?;
    let sampling = Sampling::parse(&request)?;
    let question = Question {
        model: call.script.model.clone(),
        prompt_tokens: prompts.iter().map(Input::tokens).sum(),
        subject: Subject::Message(prompts.last().map(Input::to_text).unwrap_or_default()),
        max_tokens: token_limit(&request, "max_tokens")?,
        stop: sampling.stop.clone(),
        choices: sampling.choices,
        reasoning: 0,
    };
    let status = call.status(sequences);
    let instead = call.instead(status, sampling.streams);
    let answer = || generate::<TextFormat>(call, &question, &sampling, status);
    Ok(instead.unwrap_or_else(answer))
}

/// Answers as text completions; whole bodies and chunks have the same shape.
struct TextFormat {
    id: String,
    created: u64,
    answer: Arc<Answer>,
    meter: UsageMeter,
    /// The error object of a failure inside the stream.
    failure: Vec<u8>,
}

impl Render for TextFormat {
    fn body(answer: &Answer, directives: &Directives) -> Vec<u8> {
        let text = |index| {
            let huge = directives.huge_bytes.filter(|_| index == 0).unwrap_or(0);
            "x".repeat(huge) + &answer.text()
        };
        let choices: Vec<Value> = (0..answer.choices)
            .map(|index| choice(index, &text(index), Some(answer.finish_reason(finish_word))))
            .collect();
        let mut body = completion(&completion_id(), now_s(), &answer.model, &choices);
        if let Some(usage) = body_usage(answer.usage, directives) {
            body["usage"] = json!(usage);
        }
        body.to_string().into_bytes()
    }

    fn new(answer: Arc<Answer>, call: &Call, wants_usage: bool) -> Self {
        let directives = &call.script.directives;
        Self {
            id: completion_id(),
            created: now_s(),
            meter: UsageMeter::new(answer.usage, directives, wants_usage),
            answer,
            failure: call.error_body(&call.script.inner_fault()),
        }
    }

    fn render(&mut self, event: Event) -> Vec<u8> {
        let answer = Arc::clone(&self.answer);
        match event {
            // This format has neither roles nor reasoning: an empty text stands for both.
            Event::Open { choice } | Event::Reasoning { choice } => self.chunk(choice, "", None),
            Event::Huge { bytes } => {
                let filler = "x".repeat(bytes);
                self.meter.produce(huge_tokens(bytes));
                self.chunk(0, &filler, None)
            }
            Event::Content { choice, chunk } => {
                self.meter.produce(answer.chunk_tokens(chunk));
                let text = match answer.piece(chunk) {
                    Some(Piece::Text(text)) => text,
                    _ => "",
                };
                self.chunk(choice, text, None)
            }
            Event::Finish { choice } => {
                self.chunk(choice, "", Some(answer.finish_reason(finish_word)))
            }
            Event::Usage => {
                let mut chunk = completion(&self.id, self.created, &answer.model, &[]);
                chunk["usage"] = json!(self.meter.total());
                chunk.to_string().into_bytes()
            }
            Event::Done => b"[DONE]".to_vec(),
            Event::Malformed => MALFORMED.to_vec(),
            Event::Noise => Vec::new(),
            Event::Failure => self.failure.clone(),
        }
    }
}

impl TextFormat {
    fn chunk(&self, index: u32, text: &str, finish_reason: Option<&str>) -> Vec<u8> {
        let choices = [choice(index, text, finish_reason)];
        let mut chunk = completion(&self.id, self.created, &self.answer.model, &choices);
        if let Some(usage) = self.meter.on_chunk(finish_reason.is_some()) {
            chunk["usage"] = json!(usage);
        }
        chunk.to_string().into_bytes()
    }
}

fn completion_id() -> String {
    format!("cmpl-{}", Uuid::now_v7().simple())
}

fn completion(id: &str, created: u64, model: &str, choices: &[Value]) -> Value {
    json!({
        "id": id,
        "object": "text_completion",
        "created": created,
        "model": model,
        "choices": choices,
    })
}

fn choice(index: u32, text: &str, finish_reason: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish_reason})
}
