//! What happens to a stream's bytes between provider and caller.
//!
//! Where both speak the same language, whole frames pass byte for byte and a decoder reads a
//! copy; where they do not, a decoder's events are written anew. Either way a [`Flow`] takes the
//! socket's bytes, hands out what may go to the caller, and knows what has been seen: usage, the
//! reason for the end, whether anything could be shown yet. It never hands out a broken frame.

use std::{mem, sync::Arc};

use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::{makers::Makers, routed::estimate_of_bytes};
use crate::{
    protocol::{
        chunk::{ChunkFacts, DONE},
        failure::read_error,
        json::{RawObject, raw},
        neutral::{Dialect, Event, PartKind, Surface, Usage, Warnings},
        openai_chat::finish_reason,
        sse::{Frame, FrameReader, data_frame},
        translate::{Show, StreamDecoder, StreamEncoder, end_mark},
    },
    units::{NanoUsd, Price, TokenCount},
    upstream::UpstreamError,
};

/// Largest single event of a stream (chosen: a whole image in base64 fits).
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Longest answer that is translated as it streams, in bytes of text, reasoning and arguments
/// (chosen: some eight million tokens). Some surfaces repeat the answer at its end, so it is held.
const MAX_TRANSLATED_BYTES: usize = 32 * 1024 * 1024;
/// How the first event of a stream begins, where a second one must not reach the caller.
const BEGINNINGS: [&[u8]; 2] = [b"event: message_start", b"event: response.created"];

/// What a stream has said so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The last usage that came.
    pub usage: Option<TokenCount>,
    /// What the provider says that it costs, where it does.
    pub provider_cost: Option<NanoUsd>,
    /// Why the answer ended, in OpenAI's words.
    pub finish_reason: Option<String>,
    /// Something came that a caller could see.
    pub has_content: bool,
    /// Bytes of text, reasoning and arguments: an estimate of the output where usage is missing.
    pub content_bytes: usize,
    /// The answer is complete.
    pub finished: bool,
    /// What its translation could not carry over.
    pub lost: Warnings,
}

impl Seen {
    /// A whole answer of which so many bytes came before it broke off: it had been made, and is
    /// charged for.
    pub fn broken_off(bytes: usize) -> Self {
        Self { has_content: bytes > 0, content_bytes: bytes, ..Self::default() }
    }
}

/// How a stream is passed on.
#[derive(Debug)]
pub struct Flow {
    way: Way,
    surface: Surface,
    request_id: String,
    prompt_tokens: u64,
    reasoning_beside_output: bool,
    seen: Seen,
    /// Frames ready for the caller.
    ready: Vec<Bytes>,
    ready_bytes: usize,
}

#[derive(Debug)]
enum Way {
    /// Chat to chat, or completions to completions: the frequent case, read as lightly as can be.
    Chat { reader: FrameReader, include_usage: bool, price: Option<Price> },
    /// The same language on both sides.
    Native {
        reader: FrameReader,
        decoder: Box<StreamDecoder>,
        started: bool,
        makers: Arc<Makers>,
        model: String,
    },
    /// Two languages.
    Translated { decoder: Box<StreamDecoder>, encoder: Box<StreamEncoder> },
}

/// Between which languages a stream runs.
#[derive(Debug)]
pub struct FlowSettings<'a> {
    /// The caller's.
    pub surface: Surface,
    /// The provider's.
    pub dialect: Dialect,
    /// Whether the provider's bytes are the surface's own.
    pub native: bool,
    /// The model, as the provider knows it.
    pub model: &'a str,
    /// The tool that stands in for a JSON schema.
    pub schema_tool: Option<String>,
    /// How a translated answer is shown.
    pub show: Show,
    /// For the cost beside a chat stream's usage.
    pub price: Option<Price>,
    /// An estimate of the prompt, shown in another language where the provider counts nothing.
    pub prompt_tokens: u64,
    /// Whether the provider counts reasoning beside the output.
    pub reasoning_beside_output: bool,
    /// Learns who signed what passes.
    pub makers: Arc<Makers>,
}

impl Flow {
    /// A flow for one answer.
    pub fn new(settings: FlowSettings<'_>) -> Self {
        let FlowSettings {
            surface,
            dialect,
            native,
            model,
            schema_tool,
            show,
            price,
            prompt_tokens,
            reasoning_beside_output,
            makers,
        } = settings;
        let request_id = show.request_id.clone();
        let reader = FrameReader::new(MAX_EVENT_BYTES);
        let decoder = || Box::new(StreamDecoder::new(dialect, model, schema_tool, MAX_EVENT_BYTES));
        let way = if !native {
            let encoder = Box::new(StreamEncoder::new(surface, show));
            Way::Translated { decoder: decoder(), encoder }
        } else if matches!(surface, Surface::OpenAiChat | Surface::OpenAiCompletions) {
            Way::Chat { reader, include_usage: show.include_usage, price }
        } else {
            let (decoder, model) = (decoder(), model.to_owned());
            Way::Native { reader, decoder, started: false, makers, model }
        };
        let (seen, ready) = (Seen::default(), Vec::new());
        Self {
            way,
            surface,
            request_id,
            prompt_tokens,
            reasoning_beside_output,
            seen,
            ready,
            ready_bytes: 0,
        }
    }

    /// What has been seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Frames and bytes that wait to be taken.
    pub fn held(&self) -> (usize, usize) {
        (self.ready.len(), self.ready_bytes)
    }

    /// Takes bytes from the socket. After an error nothing more may be pushed; what was complete
    /// before it can still be taken.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), UpstreamError> {
        match &mut self.way {
            Way::Chat { reader, .. } => {
                reader.push(bytes);
                self.chat_frames()
            }
            Way::Native { reader, .. } => {
                reader.push(bytes);
                self.native_frames()
            }
            Way::Translated { decoder, .. } => {
                let events = decoder.push(bytes);
                self.seen.lost.extend(&decoder.take_lost());
                self.translate(events)
            }
        }
    }

    /// The provider has closed the stream: an error unless the answer was complete.
    pub fn close(&mut self) -> Result<(), UpstreamError> {
        if self.seen.finished {
            return Ok(());
        }
        match &mut self.way {
            Way::Chat { .. } if self.seen.finish_reason.is_some() => {
                self.put(Bytes::from_static(b"data: [DONE]\n\n"));
                self.seen.finished = true;
            }
            Way::Chat { .. } => {}
            Way::Native { decoder, .. } => {
                let events = decoder.close();
                self.observe(&events)?;
                if self.seen.finished {
                    self.put(Bytes::from_static(end_mark(self.surface)));
                }
            }
            Way::Translated { decoder, .. } => {
                let events = decoder.close();
                self.translate(events)?;
            }
        }
        if self.seen.finished {
            return Ok(());
        }
        let what = if self.seen.has_content {
            return Err(UpstreamError::Cut("the stream ended without a finish reason".to_owned()));
        } else {
            "the stream ended before it said anything"
        };
        Err(UpstreamError::Malformed(what.to_owned()))
    }

    /// What may go to the caller, in one piece; empty when there is nothing.
    pub fn take(&mut self) -> Bytes {
        self.ready_bytes = 0;
        match mem::take(&mut self.ready).as_mut_slice() {
            [] => Bytes::new(),
            [one] => mem::take(one),
            several => {
                let length = several.iter().map(Bytes::len).sum();
                let mut joined = BytesMut::with_capacity(length);
                for frame in several {
                    joined.extend_from_slice(frame);
                }
                joined.freeze()
            }
        }
    }

    /// The frame that ends a broken stream, in the surface's own shape.
    pub fn error_frame(&mut self, error: &UpstreamError) -> Bytes {
        let event = [Event::Error(error.to_provider_error())];
        let show = || Show { request_id: self.request_id.clone(), ..Show::default() };
        match &mut self.way {
            Way::Translated { encoder, .. } => encoder.encode(&event),
            Way::Chat { .. } => StreamEncoder::new(self.surface, show()).encode(&event),
            Way::Native { decoder, .. } => {
                StreamEncoder::after(decoder, self.surface, show()).encode(&event)
            }
        }
    }

    fn counted(&self, usage: TokenCount) -> TokenCount {
        if self.reasoning_beside_output { with_reasoning_inside(usage) } else { usage }
    }

    fn put(&mut self, frame: Bytes) {
        if !frame.is_empty() {
            self.ready_bytes += frame.len();
            self.ready.push(frame);
        }
    }

    fn chat_frames(&mut self) -> Result<(), UpstreamError> {
        while !self.seen.finished {
            let Way::Chat { reader, .. } = &mut self.way else { break };
            let Some(frame) = reader.next_frame().map_err(malformed)? else { break };
            self.chat_frame(frame)?;
        }
        Ok(())
    }

    /// Passes a chat frame on, but for two: the usage chunk is dropped when the caller did not
    /// ask for it, and gets the cost when it did.
    fn chat_frame(&mut self, frame: Frame) -> Result<(), UpstreamError> {
        let Some(data) = frame.data() else {
            self.put(frame.raw);
            return Ok(());
        };
        if data.as_ref() == DONE {
            if !self.seen.has_content && self.seen.finish_reason.is_none() {
                return Err(malformed("the stream is done before it said anything"));
            }
            self.seen.finished = true;
            self.put(frame.raw.clone());
            return Ok(());
        }
        let facts = ChunkFacts::read(&data).ok_or_else(|| malformed("an event is not JSON"))?;
        if facts.error.is_some() {
            return Err(UpstreamError::of_event(read_error(200, &data)));
        }
        self.seen.has_content |= facts.has_content;
        self.seen.content_bytes += facts.content_bytes;
        self.seen.finish_reason = facts.finish_reason.or(self.seen.finish_reason.take());
        let usage = facts.usage.map(|usage| self.counted(usage));
        self.seen.usage = usage.or(self.seen.usage);
        self.seen.provider_cost = facts.cost.or(self.seen.provider_cost);
        if !(facts.usage.is_some() && facts.no_choices) {
            self.put(frame.raw.clone());
            return Ok(());
        }
        let Way::Chat { include_usage: true, price, .. } = &self.way else { return Ok(()) };
        let cost = price.zip(self.seen.usage).map(|(price, usage)| price.cost(&usage).to_string());
        let priced = match (cost, RawObject::parse(&data)) {
            (Some(cost), Ok(mut chunk)) => {
                chunk.set("weighbridge", raw(&json!({"cost_usd": cost})));
                data_frame(&String::from_utf8_lossy(&chunk.to_bytes()))
            }
            _ => frame.raw.clone(),
        };
        self.put(priced);
        Ok(())
    }

    fn native_frames(&mut self) -> Result<(), UpstreamError> {
        while !self.seen.finished {
            let Way::Native { reader, decoder, started, .. } = &mut self.way else { break };
            let Some(frame) = reader.next_frame().map_err(malformed)? else { break };
            let events = decoder.push(&frame.raw);
            // A second beginning would make the caller's SDK throw away what it has.
            let begins = BEGINNINGS.iter().any(|begin| frame.raw.starts_with(begin));
            let again = begins && mem::replace(started, *started || begins);
            let outcome = self.observe(&events);
            if outcome.is_ok() && !again {
                self.put(frame.raw);
            }
            outcome?;
        }
        Ok(())
    }

    fn translate(&mut self, mut events: Vec<Event>) -> Result<(), UpstreamError> {
        let mut outcome = self.observe(&events);
        if self.seen.content_bytes > MAX_TRANSLATED_BYTES {
            outcome =
                Err(malformed(format_args!("it is larger than {MAX_TRANSLATED_BYTES} bytes")));
        }
        if let Some(Event::Finish { usage: usage @ None, .. }) = events.last_mut() {
            *usage = Some(estimated_usage(self.prompt_tokens, self.seen.content_bytes));
        }
        let shown = match events.as_slice() {
            [shown @ .., Event::Error(_)] => shown,
            all => all,
        };
        if let Way::Translated { encoder, .. } = &mut self.way {
            let frames = encoder.encode(shown);
            self.put(frames);
        }
        outcome
    }

    /// Notes what a decoder's events say.
    fn observe(&mut self, events: &[Event]) -> Result<(), UpstreamError> {
        let beside = self.reasoning_beside_output;
        let tokens = |usage: Usage| match TokenCount::from(usage) {
            usage if beside => with_reasoning_inside(usage),
            usage => usage,
        };
        let seen = &mut self.seen;
        for event in events {
            if let Way::Native { makers, model, .. } = &self.way
                && let Event::Signature { signature: made, .. }
                | Event::PartStart { kind: PartKind::RedactedThinking(made), .. } = event
            {
                makers.note(made, model);
            }
            match event {
                Event::PartStart { .. } | Event::Signature { .. } => seen.has_content = true,
                Event::TextDelta { text: piece, .. }
                | Event::ArgumentsDelta { fragment: piece, .. } => {
                    seen.has_content = true;
                    seen.content_bytes += piece.len();
                }
                Event::Usage(usage) => seen.usage = Some(tokens(*usage)),
                Event::Finish { stop, usage, .. } => {
                    seen.usage = usage.map(tokens).or(seen.usage);
                    seen.finish_reason = Some(finish_reason(*stop).to_owned());
                    seen.finished = true;
                }
                Event::Error(error) => return Err(UpstreamError::of_event(error.clone())),
                Event::Start { .. } | Event::PartEnd { .. } => {}
            }
        }
        Ok(())
    }
}

/// What an answer in another language says that it used where its provider counted nothing: zeros
/// would be taken for a count.
pub fn estimated_usage(prompt_tokens: u64, content_bytes: usize) -> Usage {
    let output_tokens = estimate_of_bytes(content_bytes);
    Usage { input_tokens: prompt_tokens, output_tokens, ..Usage::default() }
}

/// A count whose completion tokens hold the reasoning tokens that stood beside them.
pub fn with_reasoning_inside(usage: TokenCount) -> TokenCount {
    let completion_tokens = usage.completion_tokens.saturating_add(usage.reasoning_tokens);
    TokenCount { completion_tokens, ..usage }
}

/// The answer breaks its protocol.
pub fn malformed(what: impl ToString) -> UpstreamError {
    UpstreamError::Malformed(what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(surface: Surface, dialect: Dialect) -> Flow {
        Flow::new(FlowSettings {
            surface,
            dialect,
            native: surface.speaks(dialect),
            model: "m",
            schema_tool: None,
            show: Show { include_usage: true, ..Show::default() },
            price: None,
            prompt_tokens: 7,
            reasoning_beside_output: false,
            makers: Arc::default(),
        })
    }

    const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"a\",\"model\":\"m\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n";
    const MESSAGES_END: &str = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    #[test]
    fn a_native_stream_passes_byte_for_byte_and_is_understood() {
        let mut flow = flow(Surface::Anthropic, Dialect::Anthropic);
        flow.push(MESSAGES.as_bytes()).unwrap();
        assert!(flow.seen().has_content && !flow.seen().finished);
        flow.push(MESSAGES_END.as_bytes()).unwrap();
        assert_eq!(flow.take(), format!("{MESSAGES}{MESSAGES_END}"));
        let usage = flow.seen().usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (3, 2));
        assert_eq!(flow.seen().finish_reason.as_deref(), Some("stop"));
        flow.close().unwrap();
    }

    #[test]
    fn a_native_stream_that_breaks_off_is_an_error_and_shows_no_half_frame() {
        let mut flow = flow(Surface::Anthropic, Dialect::Anthropic);
        flow.push(format!("{MESSAGES}event: content_bl").as_bytes()).unwrap();
        assert_eq!(flow.take(), MESSAGES);
        let error = flow.close().unwrap_err();
        assert_eq!(error.label(), "provider_answer_cut");
        let frame = flow.error_frame(&error);
        assert!(frame.starts_with(b"event: error\ndata: {\"type\":\"error\""), "{frame:?}");
    }

    #[test]
    fn a_native_stream_that_told_its_stop_reason_is_whole_without_its_end_mark() {
        let mut flow = flow(Surface::Anthropic, Dialect::Anthropic);
        let end = MESSAGES_END.find("event: message_stop").unwrap();
        let (end, _) = MESSAGES_END.split_at(end);
        flow.push(format!("{MESSAGES}{end}event: mess").as_bytes()).unwrap();
        flow.close().unwrap();
        assert_eq!(flow.take(), format!("{MESSAGES}{MESSAGES_END}"));
    }

    #[test]
    fn an_error_behind_native_responses_counts_on() {
        let mut flow = flow(Surface::OpenAiResponses, Dialect::OpenAiResponses);
        let event = r#"{"type":"response.output_text.delta","sequence_number":5,"delta":"Hi"}"#;
        flow.push(format!("data: {event}\n\n").as_bytes()).unwrap();
        let error = flow.close().unwrap_err();
        let frame = String::from_utf8(flow.error_frame(&error).to_vec()).unwrap();
        assert!(frame.contains("\"sequence_number\":6"), "{frame}");
    }

    #[test]
    fn a_second_message_start_is_left_out() {
        let mut flow = flow(Surface::Anthropic, Dialect::Anthropic);
        let start = &MESSAGES[..MESSAGES.find("event: content_block_start").unwrap()];
        flow.push(format!("{start}{MESSAGES}{MESSAGES_END}").as_bytes()).unwrap();
        assert_eq!(flow.take(), format!("{MESSAGES}{MESSAGES_END}"));
    }

    #[test]
    fn another_language_is_written_anew_and_an_error_is_told_in_the_callers() {
        let mut flow = flow(Surface::OpenAiChat, Dialect::Anthropic);
        flow.push(MESSAGES.as_bytes()).unwrap();
        let shown = String::from_utf8(flow.take().to_vec()).unwrap();
        assert!(shown.contains("\"content\":\"Hi\"") && !shown.contains("message_start"));
        let error = flow.close().unwrap_err();
        let frame = String::from_utf8(flow.error_frame(&error).to_vec()).unwrap();
        assert!(frame.contains("provider_answer_cut") && !frame.contains("[DONE]"), "{frame}");
    }

    #[test]
    fn a_translated_answer_is_not_held_without_bound() {
        let mut flow = flow(Surface::OpenAiResponses, Dialect::Anthropic);
        flow.push(MESSAGES.as_bytes()).unwrap();
        let text = "x".repeat(MAX_TRANSLATED_BYTES / 4);
        let frame = format!(
            "data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        );
        let mut pushed = (0..8).map(|_| flow.push(frame.as_bytes()));
        let error = pushed.find_map(Result::err).unwrap();
        assert_eq!(error.label(), "provider_malformed_answer");
    }
}
