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

#[cfg(test)]
mod tests {
    use super::*;

    const SURFACES: [Surface; 4] = [
        Surface::OpenAiChat,
        Surface::OpenAiCompletions,
        Surface::OpenAiResponses,
        Surface::Anthropic,
    ];

    fn relayed(dialect: Dialect, surface: Surface, stream: &str) -> String {
        let mut decoder = StreamDecoder::new(dialect, "m", None, 1 << 20);
        let mut encoder = StreamEncoder::new(surface, Show::default());
        let mut events = decoder.push(stream.as_bytes());
        events.extend(decoder.close());
        String::from_utf8(encoder.encode(&events).to_vec()).unwrap()
    }

    /// Were each fragment searched for among the calls or among what waits, this would take some
    /// 10⁹ steps; as it is, a step or two each.
    #[test]
    fn fragments_of_many_calls_in_turns_are_found_without_a_search() {
        const CALLS: usize = 1000;
        const ROUNDS: usize = 40;
        let chunk = |at: usize, head: &str, arguments: &str| {
            format!(
                r#"data: {{"choices":[{{"delta":{{"tool_calls":[{{"index":{at},{head}"function":{{{arguments}}}}}]}}}}]}}"#
            ) + "\n\n"
        };
        let mut stream = String::new();
        for at in 0..CALLS {
            let name = format!(r#""name":"f{at}","arguments":"""#);
            stream += &chunk(at, &format!(r#""id":"c{at}","#), &name);
        }
        for _ in 0..ROUNDS {
            (0..CALLS).for_each(|at| stream += &chunk(at, "", r#""arguments":"1""#));
        }
        stream += "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
        stream += "data: [DONE]\n\n";
        let marks = ["\"arguments\":\"1\"", "", ".arguments.delta\"", "input_json_delta"];
        for (surface, mark) in SURFACES.into_iter().zip(marks) {
            let mark = mark.replace(".arguments", ".function_call_arguments");
            let shown = relayed(Dialect::OpenAiChat, surface, &stream);
            if !mark.is_empty() {
                let frames = shown.split("\n\n").filter(|frame| {
                    frame.lines().any(|line| line.starts_with("data: ") && line.contains(&mark))
                });
                assert_eq!(frames.count(), CALLS * ROUNDS, "{surface:?}");
            }
        }
    }

    #[test]
    fn reasoning_signed_again_and_again_is_not_repeated_as_often() {
        let event = |kind: &str, fields: &str| {
            format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{fields}}}\n\n")
        };
        let delta = |fields: &str| {
            event("content_block_delta", &format!("\"index\":0,\"delta\":{{{fields}}}"))
        };
        let text = "x".repeat(10_000);
        let stream = [
            event("message_start", "\"message\":{\"id\":\"a\",\"model\":\"m\"}"),
            event(
                "content_block_start",
                "\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}",
            ),
            delta(&format!("\"type\":\"thinking_delta\",\"thinking\":\"{text}\"")),
            delta("\"type\":\"signature_delta\",\"signature\":\"s\"").repeat(1000),
            event("content_block_stop", "\"index\":0"),
            event("message_delta", "\"delta\":{\"stop_reason\":\"end_turn\"}"),
            event("message_stop", "\"x\":0"),
        ]
        .concat();
        for surface in SURFACES {
            let shown = relayed(Dialect::Anthropic, surface, &stream);
            assert!(shown.len() < 2 * stream.len(), "{surface:?}: {}", shown.len());
        }
        let shown = relayed(Dialect::Anthropic, Surface::OpenAiChat, &stream);
        assert_eq!(shown.matches("thinking_blocks").count(), 1);
    }

    #[test]
    fn a_calls_signature_stands_on_the_reasoning_before_it() {
        let part = |part: &str, more: &str| {
            let candidate = format!(r#"{{"content":{{"parts":[{part}]}}{more}}}"#);
            format!("data: {{\"modelVersion\":\"g\",\"candidates\":[{candidate}]}}\n\n")
        };
        let call = r#"{"functionCall":{"name":"f","args":{}},"thoughtSignature":"sig"}"#;
        let end = r#","finishReason":"STOP""#;
        let thought = part(r#"{"text":"hm","thought":true}"#, "");
        let blocks = |stream: &str| {
            let shown = relayed(Dialect::Gemini, Surface::Anthropic, stream);
            let starts: Vec<String> = shown
                .split("\n\n")
                .filter_map(|frame| frame.split_once("data: "))
                .map(|(_, data)| serde_json::from_str::<serde_json::Value>(data).unwrap())
                .filter_map(|event| match event["type"].as_str()? {
                    "content_block_start" => Some(event["content_block"]["type"].to_string()),
                    "content_block_delta" => Some(event["delta"]["type"].to_string()),
                    "content_block_stop" => Some("stop".to_owned()),
                    _ => None,
                })
                .collect();
            starts.join(" ").replace('"', "")
        };
        assert_eq!(
            blocks(&(thought.clone() + &part(call, end))),
            "thinking thinking_delta signature_delta stop tool_use input_json_delta stop"
        );
        assert_eq!(
            blocks(&part(call, end)),
            "thinking signature_delta stop tool_use input_json_delta stop"
        );
        let text = part(r#"{"text":"so"}"#, "");
        assert_eq!(
            blocks(&(thought.clone() + &text + &part(call, end))),
            "thinking thinking_delta stop text text_delta stop \
             thinking signature_delta stop tool_use input_json_delta stop"
        );
        assert_eq!(
            blocks(&(thought + &part("", end))),
            "thinking thinking_delta stop",
            "the end is written even where nothing follows"
        );
    }

    /// A text that came to its end, a call that did not.
    const BROKEN_IN_A_CALL: &str = concat!(
        r#"data: {"id":"c","choices":[{"delta":{"content":"Look: "}}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"k","function":{"name":"f","arguments":"{\"a\":"}}]}}]}"#,
        "\n\n",
    );

    #[test]
    fn what_breaks_off_is_not_called_done() {
        for more in ["", "data: {\"error\":{\"message\":\"full\"}}\n\n", "data: {no\n\n"] {
            let stream = format!("{BROKEN_IN_A_CALL}{more}");
            let shown = relayed(Dialect::OpenAiChat, Surface::OpenAiResponses, &stream);
            assert!(!shown.contains("function_call_arguments.done"), "{shown}");
            assert_eq!(shown.matches("event: response.output_text.done").count(), 1, "{shown}");
            assert_eq!(shown.matches("event: response.output_item.done").count(), 1, "{shown}");
            let (_, last) = shown.split_once("event: response.failed\ndata: ").unwrap();
            let last: serde_json::Value = serde_json::from_str(last).unwrap();
            let output = &last["response"]["output"];
            assert_eq!(
                (&output[0]["type"], &output[0]["status"]),
                (&"message".into(), &"completed".into())
            );
            assert_eq!(output[1]["status"], "incomplete");
            assert_eq!(output[1]["arguments"], "{\"a\":");

            let shown = relayed(Dialect::OpenAiChat, Surface::Anthropic, &stream);
            assert_eq!(shown.matches("event: content_block_start").count(), 2, "{shown}");
            assert_eq!(shown.matches("event: content_block_stop").count(), 1, "{shown}");
            for end in ["message_delta", "message_stop"] {
                assert!(!shown.contains(end), "{shown}");
            }

            for surface in [Surface::OpenAiChat, Surface::OpenAiCompletions] {
                let shown = relayed(Dialect::OpenAiChat, surface, &stream);
                assert!(!shown.contains("\"finish_reason\":\""), "{surface:?}: {shown}");
                assert!(!shown.contains("[DONE]"), "{surface:?}: {shown}");
            }
        }
    }

    #[test]
    fn reasoning_and_text_that_break_off_are_incomplete() {
        for (field, kind) in [("content", "message"), ("reasoning_content", "reasoning")] {
            let stream =
                format!("data: {{\"choices\":[{{\"delta\":{{\"{field}\":\"hm\"}}}}]}}\n\n");
            let shown = relayed(Dialect::OpenAiChat, Surface::OpenAiResponses, &stream);
            assert!(!shown.contains(".done\n"), "{shown}");
            let (_, last) = shown.split_once("event: response.failed\ndata: ").unwrap();
            let last: serde_json::Value = serde_json::from_str(last).unwrap();
            let item = &last["response"]["output"][0];
            assert_eq!((&item["type"], &item["status"]), (&kind.into(), &"incomplete".into()));
            assert!(item.to_string().contains("hm"), "what came is kept: {item}");
            let shown = relayed(Dialect::OpenAiChat, Surface::Anthropic, &stream);
            assert!(!shown.contains("content_block_stop"), "{shown}");
            // Also where the gateway, not the provider, says that it broke.
            let mut decoder = StreamDecoder::new(Dialect::OpenAiChat, "m", None, 1 << 20);
            let mut events = decoder.push(stream.as_bytes());
            events.push(Event::Error(ProviderError::truncated()));
            for surface in [Surface::OpenAiResponses, Surface::Anthropic] {
                let mut encoder = StreamEncoder::new(surface, Show::default());
                let shown = String::from_utf8(encoder.encode(&events).to_vec()).unwrap();
                assert!(!shown.contains("\"status\":\"completed\""), "{shown}");
                assert!(!shown.contains("content_block_stop"), "{shown}");
            }
        }
    }
}
