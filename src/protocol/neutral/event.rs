//! A stream in no dialect.
//!
//! A decoder's promise: one [`Event::Start`] first; parts are numbered from 0 in the order in
//! which they start; deltas name a part that has started and not ended; the last event is one
//! [`Event::Finish`] or one [`Event::Error`]. Before a finish every part ends; an error leaves
//! open what had not come to its end, so that nobody takes half of it for the whole. Parts may
//! overlap: the fragments of two parallel tool calls can come in turns.

use super::{ProviderError, Signature, Stop, Usage};

/// One thing that a stream says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The answer begins.
    Start {
        /// The provider's id; empty when it gives none.
        id: String,
        /// The model that answers, in the provider's words; empty when it does not say.
        model: String,
    },
    /// A part begins.
    PartStart {
        /// Its number.
        index: usize,
        /// What it is.
        kind: PartKind,
    },
    /// More text of a text, thinking or refusal part.
    TextDelta {
        /// The part.
        index: usize,
        /// The text.
        text: String,
    },
    /// The signature of a thinking part.
    Signature {
        /// The part.
        index: usize,
        /// The signature.
        signature: Signature,
    },
    /// More of a tool call's arguments: a piece of JSON text.
    ArgumentsDelta {
        /// The part.
        index: usize,
        /// The piece.
        fragment: String,
    },
    /// A part is complete.
    PartEnd {
        /// The part.
        index: usize,
    },
    /// What has been used so far; each replaces the one before.
    Usage(Usage),
    /// The answer is complete.
    Finish {
        /// Why it ended.
        stop: Stop,
        /// The text that ended it, when the provider says.
        stop_sequence: Option<String>,
        /// What it used; `None` when the provider did not say.
        usage: Option<Usage>,
    },
    /// The answer failed, or broke off.
    Error(ProviderError),
}

/// What a part of a stream is.
#[derive(Debug, Clone, PartialEq)]
pub enum PartKind {
    /// Text.
    Text,
    /// The model's reasoning.
    Thinking,
    /// Reasoning that only its maker can read; whole, without deltas.
    RedactedThinking(Signature),
    /// A refusal in OpenAI's own kind of part.
    Refusal,
    /// A tool call.
    ToolCall {
        /// Its id.
        id: String,
        /// The tool.
        name: String,
        /// Gemini signs calls.
        signature: Option<Signature>,
    },
}
