//! What must hold for any bytes from outside: one function for each parser of them.
//!
//! A target takes bytes and panics when a promise is broken: a request that was read is written
//! for every dialect, a stream ends exactly once, what is written can be read again. Whoever
//! feeds it (the property tests, a long run, a fuzzer) finds the bytes. [`TARGETS`] lists them
//! all; `tests/door/fuzz.rs` runs them.

mod answers;
mod files;
mod requests;
mod streams;

use crate::protocol::{
    json::{Json, RawObject},
    neutral::{Answer, Dialect, KnownTools, PartBody, Surface},
    translate::Show,
};

pub use streams::check_promise;

/// A parser of outside bytes with what must hold for it.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also the name of its directory of inputs.
pub const TARGETS: &[Target] = &[
    ("request_openai_chat", |bytes| requests::converse(Surface::OpenAiChat, bytes)),
    ("request_openai_completions", |bytes| requests::converse(Surface::OpenAiCompletions, bytes)),
    ("request_openai_responses", |bytes| requests::converse(Surface::OpenAiResponses, bytes)),
    ("request_anthropic", |bytes| requests::converse(Surface::Anthropic, bytes)),
    ("request_embeddings", requests::embeddings),
    ("prompt", requests::prompt),
    ("sse", streams::sse),
    ("event_stream", streams::event_stream),
    ("stream_openai_chat", |bytes| streams::stream(Dialect::OpenAiChat, bytes)),
    ("stream_openai_responses", |bytes| streams::stream(Dialect::OpenAiResponses, bytes)),
    ("stream_anthropic", |bytes| streams::stream(Dialect::Anthropic, bytes)),
    ("stream_gemini", |bytes| streams::stream(Dialect::Gemini, bytes)),
    ("stream_bedrock", |bytes| streams::stream(Dialect::Bedrock, &streams::framed(bytes))),
    ("stream_cohere", |bytes| streams::stream(Dialect::Cohere, bytes)),
    ("answer_openai_chat", |bytes| answers::answer(Dialect::OpenAiChat, bytes)),
    ("answer_openai_responses", |bytes| answers::answer(Dialect::OpenAiResponses, bytes)),
    ("answer_anthropic", |bytes| answers::answer(Dialect::Anthropic, bytes)),
    ("answer_gemini", |bytes| answers::answer(Dialect::Gemini, bytes)),
    ("answer_bedrock", |bytes| answers::answer(Dialect::Bedrock, bytes)),
    ("answer_cohere", |bytes| answers::answer(Dialect::Cohere, bytes)),
    ("answer_embeddings", answers::embeddings),
    ("error", answers::error),
    ("configuration", files::configuration),
    ("catalogue", files::catalogue),
    ("litellm", files::litellm),
    ("row", files::row),
];

/// The model's name for the provider, in every target.
const MODEL: &str = "model-1";
/// Larger than any input: bounds are not what these targets are about.
const MAX_EVENT_BYTES: usize = 1 << 24;
/// Every surface.
const SURFACES: [Surface; 4] =
    [Surface::OpenAiChat, Surface::OpenAiCompletions, Surface::OpenAiResponses, Surface::Anthropic];

fn show() -> Show {
    Show {
        request_id: "req_1".to_owned(),
        id: "weighbridge-1".to_owned(),
        model: "auto".to_owned(),
        created: 1_700_000_000,
        include_usage: true,
        known_tools: KnownTools::default(),
    }
}

/// The dialect in which an answer on this surface can be read again: text completions are
/// written only.
fn readable(surface: Surface) -> Option<Dialect> {
    (surface != Surface::OpenAiCompletions).then(|| Dialect::from(surface))
}

/// Checks that bytes are a JSON object that names no field twice.
#[track_caller]
fn object_of(bytes: &[u8]) -> RawObject {
    match RawObject::parse(bytes) {
        Ok(object) => object,
        Err(error) => panic!("{error}: {}", String::from_utf8_lossy(bytes)),
    }
}

/// What an answer says, however its parts are cut.
#[derive(Debug, Default, PartialEq)]
struct Said {
    text: String,
    refusal: String,
    /// Id, name and arguments of each call.
    calls: Vec<[String; 3]>,
}

impl Said {
    /// As the answer has it.
    fn of(answer: &Answer) -> Self {
        let mut said = Self::default();
        for part in &answer.parts {
            match &part.body {
                PartBody::Text(text) => said.text.push_str(text),
                PartBody::Refusal(text) => said.refusal.push_str(text),
                PartBody::ToolCall(call) => {
                    said.calls.push([call.id.clone(), call.name.clone(), call.arguments.clone()]);
                }
                _ => {}
            }
        }
        // A call without a name is only begun when nothing more can come.
        said.calls.sort_by_key(|[_, name, _]| name.is_empty());
        said
    }

    /// As much of it as `dialect` can say: Anthropic has no refusals of their own, and takes
    /// arguments that are an object.
    fn on(mut self, answer: &Answer, dialect: Dialect, whole: bool) -> Self {
        if dialect == Dialect::Anthropic {
            self.refusal.clear();
            self.text.clear();
            for part in &answer.parts {
                if let PartBody::Text(text) | PartBody::Refusal(text) = &part.body {
                    self.text.push_str(text);
                }
            }
            for [.., arguments] in &mut self.calls {
                if whole && Json::parse_object(arguments).is_none() {
                    arguments.clear();
                }
            }
        }
        self
    }
}

/// A repeatable source of small numbers, seeded by the input itself (xorshift64).
struct Dice(u64);

impl Dice {
    fn of(bytes: &[u8]) -> Self {
        Self(u64::from(crc32fast::hash(bytes)) << 1 | 1)
    }

    /// In `0..below`; `below` is not 0.
    fn throw(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % below
    }
}
