//! What a scripted model answers, before any wire format.
//!
//! A dialect says what was asked as a [`Question`]; [`Answer::to`] decides between text, a
//! structured output and a tool call, and counts the tokens. Equal questions get equal answers.

use serde_json::Value;
use uuid::Uuid;

use super::directives::Directives;
use super::{schema, tokens};

/// Characters of the caller's text that an answer repeats.
const MAX_QUOTE_CHARS: usize = 120;
/// Bytes of a tool call's arguments in one chunk. Chosen: several chunks even for small calls.
const ARGUMENT_FRAGMENT_BYTES: usize = 8;
/// The text of every reasoning chunk.
pub(super) const REASONING_TEXT: &str = " Thinking it over.";

/// What is asked of the model.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The model's name, without directives.
    pub model: String,
    /// What the answer is about.
    pub subject: Subject,
    /// The estimate of the whole prompt.
    pub prompt_tokens: u64,
    /// `None`: no limit.
    pub max_tokens: Option<u64>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Answers wanted, 1 to 8.
    pub choices: u32,
}

/// What the answer is about.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// The last user message; empty when it has no text.
    Message(String),
    /// The results of the tools called before.
    ToolResult(String),
    /// A call of this function, with arguments after this schema.
    Call { function: String, parameters: Value },
    /// A JSON value after this schema.
    Structured { schema: Value },
}

/// One content chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A part of the text.
    Text(String),
    /// The call begins: its id and the function's name.
    CallHead,
    /// A part of the call's arguments.
    CallArguments(String),
}

/// A call of one tool.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub id: String,
    pub name: String,
    /// JSON, unless `max_tokens` cut it.
    pub arguments: String,
}

/// Tokens used, by all choices together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    pub prompt_tokens: u64,
    /// Reasoning included.
    pub completion_tokens: u64,
    pub reasoning_tokens: u64,
}

/// A whole answer; every choice is the same.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub model: String,
    /// In the order they are streamed; never empty.
    pub pieces: Vec<Piece>,
    /// Content chunks of each choice: with `chunks=N` the pieces are cycled or cut to this many.
    pub chunks: usize,
    /// The call, if the answer is one.
    pub call: Option<Call>,
    pub finish_reason: String,
    pub usage: Usage,
    pub choices: u32,
}

impl Answer {
    /// The answer to `question`, under the directives that shape content.
    pub fn to(question: &Question, directives: &Directives) -> Self {
        let (content, call_name) = content(question);
        let (content, mut finish_reason) = limited(question, &content);
        let is_call = call_name.is_some();
        if is_call && finish_reason == "stop" {
            finish_reason = "tool_calls";
        }
        let pieces = pieces(content, is_call, directives);
        // A call repeated would be no call: `chunks` is for text.
        let chunks = directives.chunks.filter(|_| !is_call).unwrap_or(pieces.len());
        if directives.chunks.is_some() && finish_reason == "length" {
            finish_reason = "stop";
        }
        let call = call_name.map(|name| Call {
            id: format!("call_{}", Uuid::now_v7().simple()),
            name: name.to_owned(),
            arguments: content.to_owned(),
        });
        Self {
            model: question.model.clone(),
            usage: usage(question, directives, &pieces, chunks, call.as_ref()),
            pieces,
            chunks,
            call,
            finish_reason: directives.finish.clone().unwrap_or_else(|| finish_reason.to_owned()),
            choices: question.choices,
        }
    }

    /// The piece that chunk number `chunk` carries: past the last they begin again.
    pub fn piece(&self, chunk: usize) -> Option<&Piece> {
        self.pieces.get(chunk.checked_rem(self.pieces.len())?)
    }

    /// The text of the whole answer; empty for a call.
    pub fn text(&self) -> String {
        let texts = (0..self.chunks).filter_map(|chunk| match self.piece(chunk) {
            Some(Piece::Text(text)) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The estimate for one content chunk.
    pub fn chunk_tokens(&self, chunk: usize) -> u64 {
        self.piece(chunk).map_or(0, |piece| piece_tokens(piece, self.call.as_ref()))
    }
}

/// The text or the arguments, and the function called.
fn content(question: &Question) -> (String, Option<&str>) {
    let model = &question.model;
    let preamble = format!("This is {model}, a scripted model: no provider was called.");
    match &question.subject {
        Subject::Message(text) if text.trim().is_empty() => {
            (format!("{preamble} You sent no text."), None)
        }
        Subject::Message(text) => (format!("{preamble} You asked: {}", quote(text)), None),
        Subject::ToolResult(text) => (format!("{preamble} The tool said: {}", quote(text)), None),
        Subject::Structured { schema } => (schema::minimal_instance(schema).to_string(), None),
        Subject::Call { function, parameters } => {
            (schema::minimal_instance(parameters).to_string(), Some(function))
        }
    }
}

/// The beginning of `text` on one line, with an ellipsis where it goes on.
fn quote(text: &str) -> String {
    let mut quoted = String::new();
    let mut chars_left = MAX_QUOTE_CHARS;
    for word in text.split_whitespace() {
        if !quoted.is_empty() {
            quoted.push(' ');
            chars_left = chars_left.saturating_sub(1);
        }
        let word_chars = word.chars().take(chars_left + 1).count();
        if word_chars > chars_left {
            quoted.extend(word.chars().take(chars_left));
            quoted.truncate(quoted.trim_end().len());
            quoted.push('…');
            break;
        }
        quoted.push_str(word);
        chars_left -= word_chars;
    }
    quoted
}

/// `content` up to the first stop text and the token limit, and the reason it ends there.
fn limited<'a>(question: &Question, content: &'a str) -> (&'a str, &'static str) {
    let stops = question.stop.iter().filter(|stop| !stop.is_empty());
    let end = stops.filter_map(|stop| content.find(stop.as_str())).min();
    let content = end.and_then(|end| content.get(..end)).unwrap_or(content);
    let cut = question.max_tokens.map_or(content, |max| tokens::cut(content, max));
    (cut, if cut.len() < content.len() { "length" } else { "stop" })
}

fn pieces(content: &str, is_call: bool, directives: &Directives) -> Vec<Piece> {
    if is_call {
        let fragment_bytes = directives.chunk_bytes.unwrap_or(ARGUMENT_FRAGMENT_BYTES);
        let fragments = tokens::slices(content, fragment_bytes);
        let arguments = fragments.map(|fragment| Piece::CallArguments(fragment.to_owned()));
        return std::iter::once(Piece::CallHead).chain(arguments).collect();
    }
    let text = |piece: &str| Piece::Text(piece.to_owned());
    let pieces: Vec<Piece> = match directives.chunk_bytes {
        None => tokens::words(content).map(text).collect(),
        Some(bytes) => tokens::slices(&stretched(content, bytes), bytes).map(text).collect(),
    };
    if pieces.is_empty() { vec![text("")] } else { pieces }
}

/// `content` repeated until one chunk of `bytes` is full.
fn stretched(content: &str, bytes: usize) -> String {
    if content.is_empty() || content.len() >= bytes {
        return content.to_owned();
    }
    let repeated = content.repeat(bytes.div_ceil(content.len()));
    repeated.get(..repeated.floor_char_boundary(bytes)).unwrap_or(content).to_owned()
}

fn piece_tokens(piece: &Piece, call: Option<&Call>) -> u64 {
    match piece {
        Piece::Text(text) | Piece::CallArguments(text) => tokens::count(text),
        Piece::CallHead => call.map_or(0, |call| tokens::count(&call.name)),
    }
}

fn usage(
    question: &Question,
    directives: &Directives,
    pieces: &[Piece],
    chunks: usize,
    call: Option<&Call>,
) -> Usage {
    let counts: Vec<u64> = pieces.iter().map(|piece| piece_tokens(piece, call)).collect();
    let rounds = chunks.checked_div(counts.len()).unwrap_or(0);
    let rest = chunks.checked_rem(counts.len()).unwrap_or(0);
    let content_tokens =
        counts.iter().sum::<u64>() * rounds as u64 + counts.iter().take(rest).sum::<u64>();
    let reasoning_tokens = tokens::count(REASONING_TEXT) * directives.reasoning as u64;
    let choices = u64::from(question.choices);
    let huge_tokens = directives.huge_bytes.map_or(0, huge_tokens);
    let estimate = (content_tokens + reasoning_tokens) * choices + huge_tokens;
    let completion_tokens = directives.tokens_out.unwrap_or(estimate);
    Usage {
        prompt_tokens: directives.tokens_in.unwrap_or(question.prompt_tokens),
        completion_tokens,
        // Part of the completion, so never more than it.
        reasoning_tokens: (reasoning_tokens * choices).min(completion_tokens),
    }
}

/// The estimate for the huge event, a word of that many letters; only the first choice has it.
pub(super) fn huge_tokens(bytes: usize) -> u64 {
    bytes.div_ceil(tokens::WORD_TOKEN_CHARS) as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::directives::parse_model;
    use super::*;

    fn ask(model: &str, subject: Subject, max_tokens: Option<u64>) -> Answer {
        let (name, directives) = parse_model(model).unwrap();
        let question = Question {
            model: name.to_owned(),
            subject,
            prompt_tokens: 5,
            max_tokens,
            stop: vec!["STOP".to_owned()],
            choices: 1,
        };
        Answer::to(&question, &directives)
    }

    fn message(text: &str) -> Subject {
        Subject::Message(text.to_owned())
    }

    #[test]
    fn says_who_answers_and_what_was_asked() {
        let answer = ask("m", message("  What\nis 水?  "), None);
        assert_eq!(
            answer.text(),
            "This is m, a scripted model: no provider was called. You asked: What is 水?"
        );
        assert_eq!(answer.finish_reason, "stop");
        assert_eq!(answer.usage.completion_tokens, tokens::count(&answer.text()));
    }

    #[test]
    fn a_quote_is_short_in_any_script() {
        assert_eq!(quote(&"水".repeat(500)).chars().count(), MAX_QUOTE_CHARS + 1);
        assert!(quote(&"word ".repeat(500)).ends_with("word…"));
        assert_eq!(quote("a  b"), "a b");
    }

    #[test]
    fn limits_give_their_finish_reason() {
        let short = ask("m", message("x"), Some(3));
        assert_eq!((short.text().as_str(), short.finish_reason.as_str()), ("This is m", "length"));
        assert_eq!(short.usage.completion_tokens, 3);
        let stopped = ask("m", message("before STOP after"), None);
        assert!(stopped.text().ends_with("before "));
        assert_eq!(stopped.finish_reason, "stop");
        assert_eq!(
            ask("m?finish=content_filter", message("x"), None).finish_reason,
            "content_filter"
        );
    }

    #[test]
    fn chunks_are_as_many_and_as_large_as_scripted() {
        let answer = ask("m?chunks=50&chunk_bytes=10", message("x"), Some(1));
        assert_eq!(answer.chunks, 50);
        assert_eq!(answer.finish_reason, "stop");
        assert_eq!(ask("m?chunk_bytes=5000&chunks=2", message("x"), None).text().len(), 10_000);
        assert_eq!(ask("m?chunks=0", message("x"), None).text(), "");
        let sum: u64 = (0..50).map(|chunk| answer.chunk_tokens(chunk)).sum();
        assert_eq!(answer.usage.completion_tokens, sum);
    }

    #[test]
    fn a_call_has_its_arguments_in_fragments() {
        let parameters = json!({
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        });
        let subject = Subject::Call { function: "weather".to_owned(), parameters };
        let answer = ask("m", subject, None);
        assert_eq!(answer.finish_reason, "tool_calls");
        assert_eq!(answer.pieces.first(), Some(&Piece::CallHead));
        assert!(answer.pieces.len() > 2);
        assert_eq!(answer.call.unwrap().arguments, r#"{"city":"example"}"#);
    }
}
