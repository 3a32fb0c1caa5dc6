//! An answer in no dialect, and how a stream's events add up to one.

use std::fmt;

use super::{Event, Part, PartBody, PartKind, ToolCall, Warnings};
use crate::units::TokenCount;

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// The provider's id; empty when it gives none.
    pub id: String,
    /// The model that answered, in the provider's words; empty when it does not say.
    pub model: String,
    /// What it says, in order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub stop: Stop,
    /// The text that ended it, when the provider says.
    pub stop_sequence: Option<String>,
    /// What it used; `None` when the provider did not say.
    pub usage: Option<Usage>,
    /// What has no place here; paths begin with `response`.
    pub lost: Warnings,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The model was done.
    #[default]
    EndTurn,
    /// One of the caller's stop texts came.
    StopSequence,
    /// The bound on the answer was reached.
    MaxTokens,
    /// The model waits for its tools.
    ToolUse,
    /// The provider's filter, or the model itself, declined.
    ContentFilter,
    /// A long turn was paused, to be continued by sending it back (Anthropic).
    PauseTurn,
    /// The model's context window is full.
    ContextWindow,
}

/// Tokens of one answer. Input counts everything, cached tokens included; output counts
/// reasoning.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens.
    pub input_tokens: u64,
    /// The part of them that was read from the provider's cache.
    pub cache_read_tokens: u64,
    /// The part of them that was written to the provider's cache.
    pub cache_write_tokens: u64,
    /// The part of those written that is kept for an hour.
    pub cache_write_1h_tokens: u64,
    /// The part of the input that is sound.
    pub audio_input_tokens: u64,
    /// The part of the input that is images.
    pub image_input_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// The part of them that was reasoning.
    pub reasoning_tokens: u64,
    /// The part of them that is sound.
    pub audio_output_tokens: u64,
    /// Whether the provider charges its batch prices.
    pub in_batch: bool,
}

/// The parts that few answers have are shown where there are any.
impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Usage");
        shown
            .field("input_tokens", &self.input_tokens)
            .field("cache_read_tokens", &self.cache_read_tokens)
            .field("cache_write_tokens", &self.cache_write_tokens)
            .field("output_tokens", &self.output_tokens)
            .field("reasoning_tokens", &self.reasoning_tokens);
        for (name, tokens) in [
            ("cache_write_1h_tokens", self.cache_write_1h_tokens),
            ("audio_input_tokens", self.audio_input_tokens),
            ("image_input_tokens", self.image_input_tokens),
            ("audio_output_tokens", self.audio_output_tokens),
        ] {
            if tokens > 0 {
                shown.field(name, &tokens);
            }
        }
        if self.in_batch {
            shown.field("in_batch", &true);
        }
        shown.finish()
    }
}

impl Usage {
    /// Input that was neither read from nor written to the cache, as Anthropic counts it.
    pub fn fresh_input_tokens(&self) -> u64 {
        self.input_tokens
            .saturating_sub(self.cache_read_tokens)
            .saturating_sub(self.cache_write_tokens)
    }

    /// Input and output together.
    pub fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }
}

impl From<Usage> for TokenCount {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            cached_tokens: usage.cache_read_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            cache_write_1h_tokens: usage.cache_write_1h_tokens,
            audio_prompt_tokens: usage.audio_input_tokens,
            image_prompt_tokens: usage.image_input_tokens,
            reasoning_tokens: usage.reasoning_tokens,
            audio_completion_tokens: usage.audio_output_tokens,
            in_batch: usage.in_batch,
        }
    }
}

impl Answer {
    /// Bytes of text, reasoning and arguments.
    pub fn content_bytes(&self) -> usize {
        let bytes = |part: &Part| match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) | PartBody::Thinking { text, .. } => {
                text.len()
            }
            PartBody::ToolCall(call) => call.name.len() + call.arguments.len(),
            _ => 0,
        };
        self.parts.iter().map(bytes).sum()
    }

    /// A call for tools is one whatever the provider says: some end it like any other answer.
    pub fn settle_stop(&mut self) {
        let calls = self.parts.iter().any(|part| matches!(part.body, PartBody::ToolCall(_)));
        self.stop = self.stop.with_calls(calls);
    }

    /// Gives an id to calls that came without: their results could not name them.
    pub fn name_calls(&mut self) {
        for (at, part) in self.parts.iter_mut().enumerate() {
            if let PartBody::ToolCall(call) = &mut part.body
                && call.id.is_empty()
            {
                call.id = format!("call_{}_{at}", self.id);
            }
        }
    }

    /// Turns the call of the tool that stood in for a JSON schema back into text.
    pub fn unwrap_schema_tool(&mut self, tool: &str) {
        let mut unwrapped = false;
        for part in &mut self.parts {
            if let PartBody::ToolCall(call) = &mut part.body
                && call.name == tool
            {
                part.body = PartBody::Text(std::mem::take(&mut call.arguments));
                unwrapped = true;
            }
        }
        let calls = self.parts.iter().any(|part| matches!(part.body, PartBody::ToolCall(_)));
        if unwrapped && !calls && self.stop == Stop::ToolUse {
            self.stop = Stop::EndTurn;
        }
    }
}

impl Stop {
    /// The reason, given whether tools were called.
    pub fn with_calls(self, calls: bool) -> Self {
        if calls && self == Self::EndTurn { Self::ToolUse } else { self }
    }
}

/// Adds events up to an answer.
#[derive(Debug, Default)]
pub struct Accumulator {
    answer: Answer,
}

impl Accumulator {
    /// Adds one event. An error adds nothing.
    pub fn add(&mut self, event: &Event) {
        let answer = &mut self.answer;
        match event {
            Event::Start { id, model } => {
                answer.id.clone_from(id);
                answer.model.clone_from(model);
            }
            Event::PartStart { kind, .. } => answer.parts.push(Part::new(match kind {
                PartKind::Text => PartBody::Text(String::new()),
                PartKind::Thinking => PartBody::Thinking { text: String::new(), signature: None },
                PartKind::RedactedThinking(data) => PartBody::RedactedThinking(data.clone()),
                PartKind::Refusal => PartBody::Refusal(String::new()),
                PartKind::ToolCall { id, name, signature } => PartBody::ToolCall(ToolCall {
                    id: id.clone(),
                    name: name.clone(),
                    arguments: String::new(),
                    signature: signature.clone(),
                }),
            })),
            Event::TextDelta { index, text: delta } => {
                if let Some(
                    PartBody::Text(text)
                    | PartBody::Refusal(text)
                    | PartBody::Thinking { text, .. },
                ) = self.body(*index)
                {
                    text.push_str(delta);
                }
            }
            Event::ArgumentsDelta { index, fragment } => {
                if let Some(PartBody::ToolCall(call)) = self.body(*index) {
                    call.arguments.push_str(fragment);
                }
            }
            Event::Signature { index, signature: made } => {
                if let Some(PartBody::Thinking { signature, .. }) = self.body(*index) {
                    *signature = Some(made.clone());
                }
            }
            Event::Usage(usage) => answer.usage = Some(*usage),
            Event::Finish { stop, stop_sequence, usage } => {
                answer.stop = *stop;
                answer.stop_sequence.clone_from(stop_sequence);
                answer.usage = usage.or(answer.usage);
            }
            Event::PartEnd { .. } | Event::Error(_) => {}
        }
    }

    /// The part of this number, as far as it has come.
    pub fn part(&self, index: usize) -> Option<&PartBody> {
        self.answer.parts.get(index).map(|part| &part.body)
    }

    /// The answer so far.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// The answer.
    pub fn into_answer(self) -> Answer {
        self.answer
    }

    fn body(&mut self, index: usize) -> Option<&mut PartBody> {
        self.answer.parts.get_mut(index).map(|part| &mut part.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_no_model_can_have_do_not_overflow() {
        let most = u64::MAX;
        let usage = Usage {
            input_tokens: most,
            cache_read_tokens: most,
            cache_write_tokens: most,
            output_tokens: most,
            reasoning_tokens: most,
            ..Usage::default()
        };
        assert_eq!((usage.fresh_input_tokens(), usage.total_tokens()), (0, most));
    }
}
