//! Misbehaviour, written into the model name: `name?key=value&key=value`.
//!
//! A test or an operator needs no more than one line of configuration to make an upstream fail.
//! Values are percent-decoded (`%20` a blank, `%26` an ampersand); numbers are decimal.
//! "After N chunks" counts content chunks: text or tool call deltas, of each choice when `n` is
//! above 1. The chunk with the role and reasoning chunks come before and are not counted. With
//! fewer than N chunks it happens after the last. In an answer that is not a stream it happens in
//! the middle of the body, or before it for N = 0.
//!
//! | directive | effect |
//! |---|---|
//! | `status=CODE[,CODE…]` | status of the answer; a sequence is counted per whole model string, the last code repeats |
//! | `retry_after=SECONDS` | `retry-after` header on answers with a status of 300 and above |
//! | `retry_after_date=SECONDS` | the same header as the date that many seconds from now |
//! | `retry_in_body=SECONDS` | the wait where the provider's error body says it: Gemini's `RetryInfo`, a sentence elsewhere |
//! | `error=TEXT` | message of the error object; without `status` it also makes the status 500 |
//! | `error_type=TEXT` | `type` of the error object |
//! | `error_code=TEXT` | `code` of the error object |
//! | `reject=context\|policy` | status 400 in the provider's words: the prompt is too long, or offends its policy |
//! | `head_ms=N` | delay before the response head |
//! | `first_ms=N` | head at once, then silence before the first byte of the body |
//! | `chunk_ms=N` | delay between chunks |
//! | `chunks=N` | number of content chunks, the text repeated or cut; overrides `max_tokens` |
//! | `chunk_bytes=N` | content chunks of at most N bytes instead of words |
//! | `reasoning=N` | N reasoning chunks first |
//! | `calls=N` | N tool calls where one would be made, the functions repeated |
//! | `preamble` | a sentence before the tool calls |
//! | `huge=BYTES` | before the text, one event with that many bytes of content |
//! | `endless` | content chunks for ever |
//! | `cut=N` | the connection drops after N chunks: the transport fails |
//! | `close=N` | the stream ends cleanly after N chunks, without finish reason and `[DONE]` |
//! | `stall=N` | after N chunks nothing more comes, the connection is held (10 minutes at most) |
//! | `garbage=N` | after N chunks one frame of malformed JSON, then the rest |
//! | `error_frame=N` | after N chunks one frame with an error object, then the clean end |
//! | `duplicate_start=N` | after N chunks the stream's first event comes again |
//! | `noise=N` | after N chunks bytes that are no frame |
//! | `no_done` | finish reason, but no `[DONE]`, `message_stop` or what else announces the end |
//! | `finish=REASON` | finish reason to report |
//! | `html` | an HTML page instead of JSON, status 200 unless `status` says otherwise |
//! | `empty` | an empty body or an empty stream, status 200 unless `status` says otherwise |
//! | `error_200` | an error object with status 200 |
//! | `content_type=TEXT` | `content-type` header of the answer |
//! | `length=N` | `content-length` says N, whatever the body has |
//! | `usage=none\|choice\|every` | usage missing, on the last chunk that has choices, on every chunk |
//! | `tokens_in=N` | prompt tokens to report |
//! | `tokens_out=N` | completion tokens to report |
//! | `cached=N` | prompt tokens to report as read from the cache |
//! | `cache_write=N` | prompt tokens to report as written to the cache |
//! | `split=N` | the body is written N bytes at a time, each flushed, whatever the frame borders |
//! | `comment` | a `: keep-alive` comment frame before each chunk |
//! | `crlf` | lines of the stream end with CRLF |

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};

use super::setting::Setting;

/// Every directive as it is written, and what it does: the text of the help and of the error for
/// an unknown directive. The table above says the same at greater length.
pub const DIRECTIVES: &[(&str, &str)] = &[
    ("status=CODE[,CODE…]", "status of the answer, or one for each request; the last repeats"),
    ("retry_after=SECONDS", "retry-after header on answers with a status of 300 and above"),
    ("retry_after_date=SECONDS", "the same header as a date"),
    ("retry_in_body=SECONDS", "the wait where the provider's error body says it"),
    ("error=TEXT", "message of the error object; alone it also makes the status 500"),
    ("error_type=TEXT", "type of the error object"),
    ("error_code=TEXT", "code of the error object"),
    ("reject=context|policy", "status 400: the prompt is too long, or offends a policy"),
    ("head_ms=N", "delay before the response head"),
    ("first_ms=N", "head at once, then silence before the first byte of the body"),
    ("chunk_ms=N", "delay between chunks"),
    ("chunks=N", "number of content chunks, the text repeated or cut"),
    ("chunk_bytes=N", "content chunks of at most N bytes instead of words"),
    ("reasoning=N", "N reasoning chunks first"),
    ("calls=N", "N tool calls where one would be made"),
    ("preamble", "a sentence before the tool calls"),
    ("huge=BYTES", "before the text, one event with that many bytes of content"),
    ("endless", "content chunks for ever"),
    ("cut=N", "the connection drops after N content chunks"),
    ("close=N", "the stream ends cleanly after N content chunks, with no finish reason"),
    ("stall=N", "after N content chunks nothing more comes, the connection is held"),
    ("garbage=N", "after N content chunks one frame of malformed JSON"),
    ("error_frame=N", "after N content chunks one frame with an error object, then the end"),
    ("duplicate_start=N", "after N content chunks the stream's first event comes again"),
    ("noise=N", "after N content chunks bytes that are no frame"),
    ("no_done", "finish reason, but no [DONE], message_stop or the like"),
    ("finish=REASON", "finish reason to report"),
    ("html", "an HTML page instead of JSON"),
    ("empty", "an empty body or an empty stream"),
    ("error_200", "an error object with status 200"),
    ("content_type=TEXT", "content-type header of the answer"),
    ("length=N", "content-length says N, whatever the body has"),
    ("usage=none|choice|every", "usage missing, on the last chunk with choices, on every chunk"),
    ("tokens_in=N", "prompt tokens to report"),
    ("tokens_out=N", "completion tokens to report"),
    ("cached=N", "prompt tokens to report as read from the cache"),
    ("cache_write=N", "prompt tokens to report as written to the cache"),
    ("split=N", "the body is written N bytes at a time, whatever the frame borders"),
    ("comment", "a keep-alive comment before each chunk"),
    ("crlf", "lines of the stream end with CRLF"),
];

/// Longest wait a script may ask for, and how long a stalled answer is held.
pub const MAX_DELAY: Duration = Duration::from_secs(600);

// Bounds of the numbers, all chosen: far beyond what a rehearsal needs, small enough for memory.
const MAX_CHUNKS: usize = 100_000;
const MAX_CHUNK_BYTES: usize = 65_536;
const MAX_CONTENT_BYTES: usize = 16 << 20;
const MAX_HUGE_BYTES: usize = 32 << 20;
const MAX_CALLS: usize = 128;
const MAX_TOKENS: u64 = 1_000_000_000;
const MAX_RETRY_AFTER_S: u32 = 31_536_000;
const MAX_MODEL_BYTES: usize = 8_192;

/// Which chunks of a stream carry usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UsageMode {
    /// A chunk of its own, without choices, and only if the caller asked: what OpenAI does.
    #[default]
    Own,
    /// Nowhere, in answers that are no stream neither.
    None,
    /// On the chunk with the finish reason, asked for or not; no chunk of its own.
    Choice,
    /// On every chunk, counting up, and on the chunk of its own if the caller asked.
    Every,
}

/// Why a provider will not take a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It is longer than the model's context window.
    Context,
    /// It offends the content policy.
    Policy,
}

/// A parsed script. The default is an upstream that behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directives {
    /// One status for each request with this model string, the last repeating; empty: 200.
    pub statuses: Vec<StatusCode>,
    /// Seconds of the `retry-after` header.
    pub retry_after_s: Option<u32>,
    /// Seconds from now to the date in the `retry-after` header.
    pub retry_after_date_s: Option<u32>,
    /// Seconds to wait that the error body names.
    pub retry_in_body_s: Option<u32>,
    /// Message of error objects.
    pub error: Option<String>,
    /// `type` of error objects.
    pub error_type: Option<String>,
    /// `code` of error objects.
    pub error_code: Option<String>,
    /// The prompt is refused.
    pub reject: Option<Rejection>,
    /// Wait before the response head.
    pub head_delay: Duration,
    /// Wait between the head and the first byte of the body.
    pub first_delay: Duration,
    /// Wait between chunks.
    pub chunk_delay: Duration,
    /// Number of content chunks; `None`: as many as the text has.
    pub chunks: Option<usize>,
    /// Bytes of content in a chunk at most; `None`: a word each.
    pub chunk_bytes: Option<usize>,
    /// Number of reasoning chunks.
    pub reasoning: usize,
    /// Number of tool calls in an answer that makes any; `None`: as the request demands.
    pub calls: Option<usize>,
    /// Text before the tool calls.
    pub preamble: bool,
    /// Bytes of the one huge event.
    pub huge_bytes: Option<usize>,
    /// Content never ends.
    pub endless: bool,
    /// Content chunks before the transport fails.
    pub cut: Option<usize>,
    /// Content chunks before the stream ends too early.
    pub close: Option<usize>,
    /// Content chunks before silence.
    pub stall: Option<usize>,
    /// Content chunks before malformed JSON.
    pub garbage: Option<usize>,
    /// Content chunks before an error object in the stream.
    pub error_frame: Option<usize>,
    /// Content chunks before the stream's first event is repeated.
    pub duplicate_start: Option<usize>,
    /// Content chunks before bytes that are no frame.
    pub noise: Option<usize>,
    /// The stream's end is not announced.
    pub no_done: bool,
    /// Finish reason in place of the true one.
    pub finish: Option<String>,
    /// An HTML page instead of JSON.
    pub html: bool,
    /// An empty body.
    pub empty: bool,
    /// An error object under status 200.
    pub error_200: bool,
    /// `content-type` in place of the true one.
    pub content_type: Option<HeaderValue>,
    /// `content-length` in place of the true one.
    pub length: Option<usize>,
    /// Where usage is reported.
    pub usage: UsageMode,
    /// Prompt tokens in place of the estimate.
    pub tokens_in: Option<u64>,
    /// Completion tokens in place of the estimate.
    pub tokens_out: Option<u64>,
    /// Prompt tokens read from the cache.
    pub cached: u64,
    /// Prompt tokens written to the cache.
    pub cache_write: u64,
    /// Bytes of each write.
    pub split: Option<usize>,
    /// A comment frame before each chunk.
    pub comment: bool,
    /// CRLF line ends.
    pub crlf: bool,
}

/// Why a model string is no script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectiveError {
    /// There is no model name before the `?`, or the string is too long.
    BadModel,
    /// No directive has this name.
    Unknown(String),
    /// The directive was given before in the same string.
    Repeated(String),
    /// The directive cannot have this value.
    BadValue {
        /// The directive's name.
        name: String,
        /// What it can have.
        expected: String,
    },
}

impl fmt::Display for DirectiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadModel => {
                return write!(
                    f,
                    "a model is 1 to {MAX_MODEL_BYTES} bytes, with a name before '?'"
                );
            }
            Self::Unknown(name) => write!(f, "unknown directive '{name}'")?,
            Self::Repeated(name) => write!(f, "directive '{name}' is given twice")?,
            Self::BadValue { name, expected } => write!(f, "directive '{name}' takes {expected}")?,
        }
        let forms: Vec<&str> = DIRECTIVES.iter().map(|(form, _)| *form).collect();
        write!(f, "; known directives: {}", forms.join(", "))
    }
}

impl std::error::Error for DirectiveError {}

/// What each dialect answers, how to script it, and the scenarios that are asked for most.
const HELP: &str = "\
Dialects, told by the path of the request:
  OpenAI       /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses, /v1/models
  Anthropic    /v1/messages, /v1/messages/count_tokens, also under /anthropic
  Gemini       /v1beta/models/MODEL:generateContent, :streamGenerateContent, :countTokens,
               :embedContent, :batchEmbedContents
  Azure        /openai/deployments/MODEL/chat/completions?api-version=…, /openai/v1/…
  Bedrock      /model/MODEL/converse, /converse-stream, /invoke (SigV4; signatures are
               recomputed for access keys that begin with AKIDEXAMPLE, whose secret is
               wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY)
  Cohere       /v2/chat, /v2/embed
Where the model is in the path, its script is percent-encoded: m%3Fstatus=503.

Tools are called when the last message names them or tool_choice demands it; thinking comes when
it is asked for. Thinking that comes back must carry the signature it was given, unchanged and
with the same model.

Credentials: a key that contains bad-STATUS (bad-401, sk-bad-429-second) is refused with that
status, bad-key with 401. GET /_requests lists what arrived, DELETE /_requests forgets it.

Scenarios:
  m?status=503,503,200               two failures, then an answer
  m?status=429&retry_after=2         rate limited, with the wait in a header
  m?status=429&retry_in_body=2       the same where the provider's body says it
  m?reject=context                   the prompt is too long; reject=policy: it is refused
  m?cut=5                            the connection breaks within the answer
  m?close=5                          the stream ends early and cleanly: a truncated answer
  m?stall=5                          silence in the middle; first_ms=60000: before the first byte
  m?garbage=2, m?noise=2             malformed JSON; bytes that are no frame
  m?error_frame=3                    an error inside the stream
  m?endless&chunk_ms=20              a stream that never ends
  m?html&status=502                  a proxy's page; empty: nothing; error_200: an error with 200
  m?length=1000000                   a content-length that lies
  m?usage=none, m?usage=choice       usage missing, or on an odd chunk
  m?duplicate_start=1                message_start (or the like) twice
  m?calls=3&preamble                 text and three tool calls in parallel
  m?chunks=200&chunk_ms=20           a long answer, 50 chunks a second
";

/// The scenarios and the directives, one a line with what it does: for a command's help.
pub fn directives_help() -> String {
    let mut help = format!("{HELP}\nDirectives, in the model name: name?key=value&key=value\n");
    for (form, effect) in DIRECTIVES {
        help.push_str(&format!("  {form:<24} {effect}\n"));
    }
    help
}

/// The model's name and its script, from the model string of a request.
pub fn parse_model(model: &str) -> Result<(&str, Directives), DirectiveError> {
    let (name, query) = model.split_once('?').unwrap_or((model, ""));
    if name.is_empty() || model.len() > MAX_MODEL_BYTES {
        return Err(DirectiveError::BadModel);
    }
    let mut directives = Directives::default();
    let mut seen: Vec<&str> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (pair, None),
        };
        if seen.contains(&key) {
            return Err(DirectiveError::Repeated(key.to_owned()));
        }
        seen.push(key);
        directives.set(key, &Setting { name: key, value })?;
    }
    let content_bytes = directives.chunks.unwrap_or(1) * directives.chunk_bytes.unwrap_or(1);
    if content_bytes > MAX_CONTENT_BYTES {
        let expected = format!("with chunk_bytes at most {MAX_CONTENT_BYTES} bytes of content");
        return Err(DirectiveError::BadValue { name: "chunks".to_owned(), expected });
    }
    Ok((name, directives))
}

impl Directives {
    fn set(&mut self, key: &str, setting: &Setting<'_>) -> Result<(), DirectiveError> {
        match key {
            "status" => self.statuses = setting.statuses()?,
            "retry_after" => self.retry_after_s = Some(setting.number(0..=MAX_RETRY_AFTER_S)?),
            "retry_after_date" => {
                self.retry_after_date_s = Some(setting.number(0..=MAX_RETRY_AFTER_S)?);
            }
            "retry_in_body" => {
                self.retry_in_body_s = Some(setting.number(0..=MAX_RETRY_AFTER_S)?);
            }
            "error" => self.error = Some(setting.text()?),
            "error_type" => self.error_type = Some(setting.text()?),
            "error_code" => self.error_code = Some(setting.text()?),
            "reject" => self.reject = Some(setting.rejection()?),
            "head_ms" => self.head_delay = setting.delay()?,
            "first_ms" => self.first_delay = setting.delay()?,
            "chunk_ms" => self.chunk_delay = setting.delay()?,
            "chunks" => self.chunks = Some(setting.number(0..=MAX_CHUNKS)?),
            "chunk_bytes" => self.chunk_bytes = Some(setting.number(1..=MAX_CHUNK_BYTES)?),
            "reasoning" => self.reasoning = setting.number(0..=MAX_CHUNKS)?,
            "calls" => self.calls = Some(setting.number(1..=MAX_CALLS)?),
            "preamble" => self.preamble = setting.flag()?,
            "huge" => self.huge_bytes = Some(setting.number(1..=MAX_HUGE_BYTES)?),
            "endless" => self.endless = setting.flag()?,
            "cut" => self.cut = Some(setting.number(0..=MAX_CHUNKS)?),
            "close" => self.close = Some(setting.number(0..=MAX_CHUNKS)?),
            "stall" => self.stall = Some(setting.number(0..=MAX_CHUNKS)?),
            "garbage" => self.garbage = Some(setting.number(0..=MAX_CHUNKS)?),
            "error_frame" => self.error_frame = Some(setting.number(0..=MAX_CHUNKS)?),
            "duplicate_start" => self.duplicate_start = Some(setting.number(0..=MAX_CHUNKS)?),
            "noise" => self.noise = Some(setting.number(0..=MAX_CHUNKS)?),
            "no_done" => self.no_done = setting.flag()?,
            "finish" => self.finish = Some(setting.finish_reason()?),
            "html" => self.html = setting.flag()?,
            "empty" => self.empty = setting.flag()?,
            "error_200" => self.error_200 = setting.flag()?,
            "content_type" => self.content_type = Some(setting.header()?),
            "length" => self.length = Some(setting.number(0..=MAX_HUGE_BYTES)?),
            "usage" => self.usage = setting.usage()?,
            "tokens_in" => self.tokens_in = Some(setting.number(0..=MAX_TOKENS)?),
            "tokens_out" => self.tokens_out = Some(setting.number(0..=MAX_TOKENS)?),
            "cached" => self.cached = setting.number(0..=MAX_TOKENS)?,
            "cache_write" => self.cache_write = setting.number(0..=MAX_TOKENS)?,
            "split" => self.split = Some(setting.number(1..=MAX_CHUNK_BYTES)?),
            "comment" => self.comment = setting.flag()?,
            "crlf" => self.crlf = setting.flag()?,
            _ => return Err(DirectiveError::Unknown(key.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_list_name_the_same_directives() {
        let rows = include_str!("directives.rs").lines().filter_map(|line| {
            let cell = line.strip_prefix("//! | `")?;
            Some(cell.split_once("` |")?.0.replace("\\|", "|"))
        });
        let listed: Vec<&str> = DIRECTIVES.iter().map(|(form, _)| *form).collect();
        assert_eq!(rows.collect::<Vec<_>>(), listed);
    }

    #[test]
    fn every_scenario_of_the_help_is_a_script() {
        let scripts = HELP.lines().filter_map(|line| line.strip_prefix("  m?"));
        let scripts = scripts.flat_map(|line| {
            let column = line.split("  ").next().unwrap_or_default();
            column.split(", m?").map(|script| format!("m?{script}")).collect::<Vec<_>>()
        });
        let scripts: Vec<String> = scripts.collect();
        assert!(scripts.len() > 15, "{scripts:?}");
        for script in scripts {
            parse_model(&script).unwrap_or_else(|error| panic!("{script}: {error}"));
        }
    }

    #[test]
    fn every_listed_directive_is_understood() {
        for (form, _) in DIRECTIVES {
            let (name, value) = form.split_once('=').map_or((*form, None), |(n, v)| (n, Some(v)));
            let setting = match (name, value) {
                (_, None) => name.to_owned(),
                ("status", _) => "status=503,200".to_owned(),
                ("usage", _) => "usage=every".to_owned(),
                ("reject", _) => "reject=policy".to_owned(),
                _ => format!("{name}=7"),
            };
            let model = format!("m?{setting}");
            let (parsed_name, directives) = parse_model(&model).unwrap();
            assert_eq!(parsed_name, "m");
            assert_ne!(directives, Directives::default(), "{setting} does nothing");
        }
    }

    #[test]
    fn values_are_decoded_and_bounded() {
        let (_, directives) =
            parse_model("m?error=a%20%26%20b%3D%e4%bd%a0&content_type=text/plain; charset=x")
                .unwrap();
        assert_eq!(directives.error.as_deref(), Some("a & b=你"));
        assert_eq!(directives.content_type.unwrap(), "text/plain; charset=x");
        for bad in [
            "?cut=1",
            "m?cut",
            "m?cut=-1",
            "m?cut=1&cut=2",
            "m?html=1",
            "m?status=",
            "m?status=503,,200",
            "m?status=100",
            "m?status=204",
            "m?head_ms=600001",
            "m?usage=some",
            "m?error=%f",
            "m?error=%ff",
            "m?nonsense",
            "m?chunks=100000&chunk_bytes=65536",
            "m?content_type=a%0ab",
            "m?=1",
            "",
        ] {
            assert!(parse_model(bad).is_err(), "{bad} was accepted");
        }
    }
}
