//! From a question to a reply, for the dialects whose streams announce their parts.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::StatusCode;
use sha2::{Digest, Sha256};

use super::answer::{Answer, Call, Piece, Question, REASONING_TEXT, Usage, huge_tokens};
use super::directives::UsageMode;
use super::frames::{Frames, StreamFormat};
use super::play::{Event, play};
use super::reply::Reply;
use super::script::Script;
use super::tokens;

/// The answers of one dialect.
pub(super) trait Wire: Send + 'static {
    /// The answer as one body.
    fn whole(&self) -> Vec<u8>;
    /// The frames of one event; never called with [`Event::Noise`].
    fn write(&mut self, event: Event, frames: &mut Frames);
}

/// The reply with the answer to `question`, whole or framed.
pub(super) fn generate<W: Wire>(
    question: &Question,
    script: &Script,
    status: StatusCode,
    streams: Option<StreamFormat>,
    wire: impl FnOnce(Telling) -> W,
) -> Reply {
    let directives = &script.directives;
    let answer = Arc::new(Answer::to(question, directives));
    let cues = play(&answer, directives, true);
    let mut wire = wire(Telling { answer, script: script.clone(), produced_tokens: 0 });
    match streams {
        None => Reply::whole(status, wire.whole(), directives),
        Some(format) => Reply::stream(status, format, cues, directives, move |event, frames| {
            wire.write(event, frames);
        }),
    }
}

/// An answer being told.
#[derive(Debug)]
pub(super) struct Telling {
    pub answer: Arc<Answer>,
    pub script: Script,
    produced_tokens: u64,
}

/// What one event adds to the open block.
#[derive(Debug)]
pub(super) enum Delta {
    Reasoning(&'static str),
    Text(String),
    /// That call begins.
    CallHead(Call),
    Arguments(String),
}

impl Telling {
    /// What `event` adds, and counts it; `None` for events without content.
    pub fn delta(&mut self, event: Event) -> Option<Delta> {
        let (delta, tokens) = match event {
            Event::Reasoning { .. } => {
                (Delta::Reasoning(REASONING_TEXT), tokens::count(REASONING_TEXT))
            }
            Event::Huge { bytes } => (Delta::Text("x".repeat(bytes)), huge_tokens(bytes)),
            Event::Content { chunk, .. } => {
                let delta = match self.answer.piece(chunk)? {
                    Piece::Text(text) => Delta::Text(text.clone()),
                    Piece::CallHead { call } => {
                        Delta::CallHead(self.answer.calls.get(*call)?.clone())
                    }
                    Piece::CallArguments { fragment, .. } => Delta::Arguments(fragment.clone()),
                };
                (delta, self.answer.chunk_tokens(chunk))
            }
            _ => return None,
        };
        self.produced_tokens = self.produced_tokens.saturating_add(tokens);
        Some(delta)
    }

    /// Where usage goes.
    pub fn usage_mode(&self) -> UsageMode {
        self.script.directives.usage
    }

    /// The usage of the whole answer.
    pub fn usage(&self) -> Usage {
        self.answer.usage
    }

    /// The usage up to here.
    pub fn usage_so_far(&self) -> Usage {
        let total = self.answer.usage;
        let completion_tokens = self.produced_tokens.min(total.completion_tokens);
        let reasoning_tokens = total.reasoning_tokens.min(completion_tokens);
        Usage { completion_tokens, reasoning_tokens, ..total }
    }

    /// The whole text, the huge event's included.
    pub fn text(&self) -> String {
        self.answer.text_with_huge(&self.script.directives)
    }

    /// The arguments of a call as JSON; an empty object when the token limit cut them.
    pub fn arguments(call: &Call) -> Cow<'_, str> {
        match serde_json::from_str::<serde_json::Value>(&call.arguments) {
            Ok(_) => Cow::Borrowed(&call.arguments),
            Err(_) => Cow::Borrowed("{}"),
        }
    }
}

/// The signature of reasoning: of this model's and of no other's. Hexadecimal digits, of which
/// four are also three bytes in base64.
pub(super) fn signature(model: &str, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(model.as_bytes());
    hash.update([0]);
    hash.update(text.as_bytes());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
