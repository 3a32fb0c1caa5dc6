//! What chat and text completions share: sampling parameters, usage, and the play of an answer.

use std::sync::Arc;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::super::answer::{Answer, Question, Usage};
use super::super::directives::{Directives, UsageMode};
use super::super::frames::StreamFormat;
use super::super::play::{Event, play};
use super::super::reply::Reply;
use super::Call;
use super::error::ApiError;
use super::fields::{Fields, check_length, type_of};

/// Answers in one request at most.
const MAX_CHOICES: i64 = 8;
/// Stop texts in one request at most (OpenAI API reference, "stop").
const MAX_STOPS: usize = 4;

/// The parameters that both kinds of completion take.
#[derive(Debug)]
pub(super) struct Sampling {
    /// The answer is a stream.
    pub streams: bool,
    /// The stream is to carry usage.
    pub wants_usage: bool,
    /// 1 to 8.
    pub choices: u32,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

impl Sampling {
    /// Reads and checks the parameters of `request`.
    pub fn parse(request: &Fields<'_>) -> Result<Self, ApiError> {
        request.number("temperature", 0.0..=2.0)?;
        request.number("top_p", 0.0..=1.0)?;
        request.number("presence_penalty", -2.0..=2.0)?;
        request.number("frequency_penalty", -2.0..=2.0)?;
        request.string("user")?;
        let streams = request.boolean("stream")?;
        let options = request.object("stream_options")?;
        if options.is_some() && !streams {
            let sentence =
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Err(ApiError::invalid("stream_options", "invalid_value", sentence));
        }
        let wants_usage = options.map(|options| options.boolean("include_usage")).transpose()?;
        let choices = request.integer("n", 1..=MAX_CHOICES)?.unwrap_or(1);
        Ok(Self {
            streams,
            wants_usage: wants_usage.unwrap_or(false),
            choices: u32::try_from(choices).unwrap_or(1),
            stop: stop_texts(request)?,
        })
    }
}

fn stop_texts(request: &Fields<'_>) -> Result<Vec<String>, ApiError> {
    let wrong = |value: &Value| {
        ApiError::wrong_type("stop", "a string or an array of strings", type_of(value))
    };
    match request.get("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(stop)) => Ok(vec![stop.clone()]),
        Some(Value::Array(stops)) => {
            check_length("stop", stops.len(), MAX_STOPS)?;
            let text = |stop: &Value| stop.as_str().map(str::to_owned).ok_or_else(|| wrong(stop));
            stops.iter().map(text).collect()
        }
        Some(other) => Err(wrong(other)),
    }
}

/// A token limit that may be absent.
pub(super) fn token_limit(request: &Fields<'_>, name: &str) -> Result<Option<u64>, ApiError> {
    let limit = request.integer(name, 1..=i64::from(i32::MAX))?;
    Ok(limit.and_then(|limit| u64::try_from(limit).ok()))
}

/// One of the two completion formats.
pub(super) trait Render: Send + 'static {
    /// The whole answer as one body.
    fn body(answer: &Answer, directives: &Directives) -> Vec<u8>;
    /// A renderer for one stream.
    fn new(answer: Arc<Answer>, call: &Call, wants_usage: bool) -> Self;
    /// The data of one event.
    fn render(&mut self, event: Event) -> Vec<u8>;
}

/// The reply with the answer to `question`, in the format `R`.
pub(super) fn generate<R: Render>(
    call: &Call,
    question: &Question,
    sampling: &Sampling,
    status: StatusCode,
) -> Reply {
    let directives = &call.script.directives;
    let answer = Arc::new(Answer::to(question, directives));
    if !sampling.streams {
        let body = call.flavour.body(R::body(&answer, directives));
        return Reply::whole(status, body, directives);
    }
    let cues = play(&answer, directives, sampling.wants_usage);
    let mut renderer = R::new(answer, call, sampling.wants_usage);
    let mut opening = call.flavour.opening();
    Reply::stream(status, StreamFormat::Events, cues, directives, move |event, frames| {
        if let Some(opening) = opening.take() {
            frames.data(&opening);
        }
        frames.data(&renderer.render(event));
    })
}

/// OpenAI's usage object.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct UsageObject {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl From<Usage> for UsageObject {
    fn from(usage: Usage) -> Self {
        let Usage { prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, .. } = usage;
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens, audio_tokens: 0 },
            completion_tokens_details: CompletionDetails { reasoning_tokens, ..Default::default() },
        }
    }
}

/// The usage of an answer that is no stream.
pub(super) fn body_usage(usage: Usage, directives: &Directives) -> Option<UsageObject> {
    (directives.usage != UsageMode::None).then(|| usage.into())
}

/// Follows a stream and says what stands in each chunk's `usage`.
#[derive(Debug)]
pub(super) struct UsageMeter {
    total: Usage,
    mode: UsageMode,
    wants_usage: bool,
    produced_tokens: u64,
}

impl UsageMeter {
    /// A meter for an answer that uses `total`.
    pub fn new(total: Usage, directives: &Directives, wants_usage: bool) -> Self {
        Self { total, mode: directives.usage, wants_usage, produced_tokens: 0 }
    }

    /// Counts what a chunk brought.
    pub fn produce(&mut self, tokens: u64) {
        self.produced_tokens = self.produced_tokens.saturating_add(tokens);
    }

    /// The whole usage.
    pub fn total(&self) -> UsageObject {
        self.total.into()
    }

    /// The field on a chunk with choices. `None`: absent; `Some(None)`: null, as OpenAI writes it
    /// on every chunk before the usage.
    #[expect(clippy::option_option, reason = "an absent and a null field are different answers")]
    pub fn on_chunk(&self, is_finish: bool) -> Option<Option<UsageObject>> {
        match self.mode {
            UsageMode::Choice | UsageMode::Every if is_finish => Some(Some(self.total())),
            UsageMode::Every => {
                let completion_tokens = self.produced_tokens.min(self.total.completion_tokens);
                Some(Some(Usage { completion_tokens, ..self.total }.into()))
            }
            UsageMode::Own if self.wants_usage => Some(None),
            UsageMode::Own | UsageMode::Choice | UsageMode::None => None,
        }
    }
}
