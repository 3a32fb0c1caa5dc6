//! Streams: a provider's bytes → events → a caller's bytes.

use std::collections::HashSet;

use bytes::Bytes;

use super::Show;
use crate::protocol::{
    anthropic, bedrock, cohere,
    event_stream::MessageReader,
    gemini,
    neutral::{
        Dialect, ErrorKind, Event, PartKind, ProviderError, Stop, Surface, Warnings, parts::Parts,
    },
    openai_chat, openai_completions, openai_responses,
    sse::FrameReader,
};

/// Reads a provider's stream, in pieces of any size.
///
/// It keeps the promise of [`crate::protocol::neutral::event`]: whatever the provider does, the
/// events are well formed and the last one is a finish or an error.
#[derive(Debug)]
pub struct StreamDecoder {
    framing: Framing,
    dialect: Decoder,
    parts: Parts,
    schema_tool: Option<SchemaTool>,
    state: State,
}

#[derive(Debug)]
enum Framing {
    Sse(FrameReader),
    EventStream(MessageReader),
}

#[derive(Debug)]
enum Decoder {
    Chat(openai_chat::Decoder),
    Responses(openai_responses::Decoder),
    Anthropic(anthropic::Decoder),
    Gemini(gemini::Decoder),
    Bedrock(bedrock::Decoder),
    Cohere(cohere::Decoder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Finished,
    Failed,
}

impl StreamDecoder {
    /// A decoder for one answer of `model`, holding at most `max_event_bytes` of an unfinished
    /// event. `schema_tool` is [`crate::protocol::neutral::Written::schema_tool`].
    pub fn new(
        dialect: Dialect,
        model: &str,
        schema_tool: Option<String>,
        max_event_bytes: usize,
    ) -> Self {
        let framing = match dialect {
            Dialect::Bedrock => Framing::EventStream(MessageReader::new(max_event_bytes)),
            _ => Framing::Sse(FrameReader::new(max_event_bytes)),
        };
        let decoder = match dialect {
            Dialect::OpenAiChat => Decoder::Chat(openai_chat::Decoder::default()),
            Dialect::OpenAiResponses => Decoder::Responses(openai_responses::Decoder::default()),
            Dialect::Anthropic => Decoder::Anthropic(anthropic::Decoder::default()),
            Dialect::Gemini => Decoder::Gemini(gemini::Decoder::default()),
            Dialect::Bedrock => Decoder::Bedrock(bedrock::Decoder::new(model)),
            Dialect::Cohere => Decoder::Cohere(cohere::Decoder::new(model)),
        };
        let schema_tool = schema_tool.map(|name| SchemaTool { name, ..SchemaTool::default() });
        Self { framing, dialect: decoder, parts: Parts::default(), schema_tool, state: State::Open }
    }

    /// Takes bytes from the socket and returns what they complete. After the last event nothing
    /// more comes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        if self.state != State::Open {
            return Vec::new();
        }
        match &mut self.framing {
            Framing::Sse(reader) => reader.push(bytes),
            Framing::EventStream(reader) => reader.push(bytes),
        }
        let outcome = self.read();
        self.settle(outcome)
    }

    /// The provider has closed the stream: the events that this completes, an error if the
    /// answer was not complete.
    pub fn close(&mut self) -> Vec<Event> {
        if self.state != State::Open {
            return Vec::new();
        }
        // A last event without its blank line counts if it can be read.
        let mut outcome = Ok(false);
        if let Framing::Sse(reader) = &mut self.framing {
            reader.push(b"\n\n");
            outcome = match self.read() {
                Err(error) if error.kind == ErrorKind::Malformed => Ok(false),
                outcome => outcome,
            };
        }
        let outcome = match outcome {
            Ok(false) => self.dialect.close(&mut self.parts),
            outcome => outcome,
        };
        self.settle(outcome)
    }

    /// Whether the answer came to its end: a finish has been given out.
    pub fn finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Whether the answer failed: an error has been given out.
    pub fn failed(&self) -> bool {
        self.state == State::Failed
    }

    /// Takes what has had no place in the events so far; paths begin with `response`.
    pub fn take_lost(&mut self) -> Warnings {
        self.parts.take_lost()
    }

    /// Whether the caller could see anything yet: until then another model may be tried.
    pub fn has_content(&self) -> bool {
        self.parts.count() > 0
    }

    fn read(&mut self) -> Result<bool, ProviderError> {
        loop {
            let done = match &mut self.framing {
                Framing::Sse(reader) => {
                    let frame = reader.next_frame().map_err(ProviderError::malformed)?;
                    let Some(frame) = frame else { return Ok(false) };
                    match frame.data() {
                        Some(data) if !data.trim_ascii().is_empty() => {
                            self.dialect.event(&data, &mut self.parts)?
                        }
                        _ => false,
                    }
                }
                Framing::EventStream(reader) => {
                    let message = reader.next_message().map_err(ProviderError::malformed)?;
                    let Some(message) = message else { return Ok(false) };
                    match &mut self.dialect {
                        Decoder::Bedrock(decoder) => decoder.message(&message, &mut self.parts)?,
                        _ => false,
                    }
                }
            };
            if done {
                return Ok(true);
            }
        }
    }

    fn settle(&mut self, outcome: Result<bool, ProviderError>) -> Vec<Event> {
        let mut events = Vec::new();
        match outcome {
            Ok(done) => {
                events.extend(self.parts.take_events());
                if done {
                    self.state = State::Finished;
                }
            }
            Err(error) => {
                events.extend(self.parts.take_events());
                events.push(Event::Error(error));
                self.state = State::Failed;
            }
        }
        if let Some(tool) = &mut self.schema_tool {
            events = events.into_iter().map(|event| tool.unwrap(event)).collect();
        }
        events
    }
}

impl Decoder {
    fn event(&mut self, data: &[u8], parts: &mut Parts) -> Result<bool, ProviderError> {
        match self {
            Self::Chat(decoder) => decoder.event(data, parts),
            Self::Responses(decoder) => decoder.event(data, parts),
            Self::Anthropic(decoder) => decoder.event(data, parts),
            Self::Gemini(decoder) => decoder.event(data, parts),
            Self::Cohere(decoder) => decoder.event(data, parts),
            Self::Bedrock(_) => Ok(false),
        }
    }

    fn close(&mut self, parts: &mut Parts) -> Result<bool, ProviderError> {
        match self {
            Self::Chat(decoder) => decoder.close(parts),
            Self::Responses(decoder) => decoder.close(parts),
            Self::Anthropic(decoder) => decoder.close(parts),
            Self::Gemini(decoder) => decoder.close(parts),
            Self::Bedrock(decoder) => decoder.close(parts),
            Self::Cohere(decoder) => decoder.close(parts),
        }
    }
}

/// Turns the calls of the tool that stands in for a JSON schema back into text.
#[derive(Debug, Default)]
struct SchemaTool {
    name: String,
    /// Parts that are calls of it.
    parts: HashSet<usize>,
    /// Other tools were called.
    others: bool,
}

impl SchemaTool {
    fn unwrap(&mut self, event: Event) -> Event {
        match event {
            Event::PartStart { index, kind: PartKind::ToolCall { name, .. } }
                if name == self.name =>
            {
                self.parts.insert(index);
                Event::PartStart { index, kind: PartKind::Text }
            }
            Event::ArgumentsDelta { index, fragment } if self.parts.contains(&index) => {
                Event::TextDelta { index, text: fragment }
            }
            Event::Finish { stop: Stop::ToolUse, stop_sequence, usage }
                if !self.parts.is_empty() && !self.others =>
            {
                Event::Finish { stop: Stop::EndTurn, stop_sequence, usage }
            }
            event => {
                self.others |=
                    matches!(&event, Event::PartStart { kind: PartKind::ToolCall { .. }, .. });
                event
            }
        }
    }
}

/// Writes a stream for a caller.
#[derive(Debug)]
pub struct StreamEncoder(Encoder);

#[derive(Debug)]
enum Encoder {
    Chat(openai_chat::Encoder),
    Completions(openai_completions::Encoder),
    Responses(Box<openai_responses::Encoder>),
    Anthropic(anthropic::Encoder),
}

impl StreamEncoder {
    /// An encoder for one answer.
    pub fn new(surface: Surface, show: Show) -> Self {
        Self(match surface {
            Surface::OpenAiChat => Encoder::Chat(openai_chat::Encoder::new(show)),
            Surface::OpenAiCompletions => {
                Encoder::Completions(openai_completions::Encoder::new(show))
            }
            Surface::OpenAiResponses => {
                Encoder::Responses(Box::new(openai_responses::Encoder::new(show)))
            }
            Surface::Anthropic => Encoder::Anthropic(anthropic::Encoder::new(show)),
        })
    }

    /// An encoder that goes on behind a stream that `decoder` has read while its bytes passed as
    /// they came: its events count on from there.
    pub fn after(decoder: &StreamDecoder, surface: Surface, show: Show) -> Self {
        let mut made = Self::new(surface, show);
        if let (Encoder::Responses(encoder), Decoder::Responses(read)) =
            (&mut made.0, &decoder.dialect)
        {
            encoder.go_on_at(read.next_sequence());
        }
        made
    }

    /// The caller's frames for these events; may be empty.
    pub fn encode(&mut self, events: &[Event]) -> Bytes {
        let mut out = Vec::new();
        for event in events {
            match &mut self.0 {
                Encoder::Chat(encoder) => encoder.encode(event, &mut out),
                Encoder::Completions(encoder) => encoder.encode(event, &mut out),
                Encoder::Responses(encoder) => encoder.encode(event, &mut out),
                Encoder::Anthropic(encoder) => encoder.encode(event, &mut out),
            }
        }
        Bytes::from(out)
    }
}

/// The frame that ends a finished stream whose bytes pass as they came, where the provider left it
/// out after the reason to stop. Empty on responses, where the last event holds the whole answer:
/// without it a stream is not finished.
pub fn end_mark(surface: Surface) -> &'static [u8] {
    match surface {
        Surface::OpenAiChat | Surface::OpenAiCompletions => b"data: [DONE]\n\n",
        Surface::OpenAiResponses => b"",
        Surface::Anthropic => b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    }
}

#[cfg(test)]
mod tests;
