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
    /// Reasoning chunks that the caller asked for; the script may ask for more.
    pub reasoning: usize,
}

/// What the answer is about.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// The last user message; empty when it has no text.
    Message(String),
    /// The results of the tools called before.
    ToolResult(String),
    /// Calls of these functions, with arguments after these schemas; never empty.
    Calls(Vec<(String, Value)>),
    /// A JSON value after this schema.
    Structured { schema: Value },
}

/// One content chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A part of the text.
    Text(String),
    /// That call begins: its id and the function's name.
    CallHead { call: usize },
    /// A part of that call's arguments.
    CallArguments { call: usize, fragment: String },
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Cached tokens included.
    pub prompt_tokens: u64,
    /// Read from the provider's prompt cache.
    pub cached_tokens: u64,
    /// Written to it.
    pub cache_write_tokens: u64,
    /// Reasoning included.
    pub completion_tokens: u64,
    pub reasoning_tokens: u64,
}

/// Why an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// All was said.
    Stop,
    /// At this text of the caller's.
    StopText(String),
    /// At the token limit.
    Length,
    /// With calls of tools.
    Calls,
}

/// A whole answer; every choice is the same.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub model: String,
    /// In the order they are streamed; never empty.
    pub pieces: Vec<Piece>,
    /// Content chunks of each choice: with `chunks=N` the pieces are cycled or cut to this many.
    pub chunks: usize,
    /// The calls, if the answer makes any.
    pub calls: Vec<Call>,
    /// Why it ends.
    pub ended: Ended,
    /// The script's finish reason, in the dialect's words.
    pub finish: Option<String>,
    pub usage: Usage,
    /// Chunks of reasoning before the content.
    pub reasoning: usize,
    pub choices: u32,
}

impl Answer {
    /// The answer to `question`, under the directives that shape content.
    pub fn to(question: &Question, directives: &Directives) -> Self {
        let (content, called) = content(question, directives);
        let (content, ended) = limited(question, &content);
        let (calls, calls_are_cut) = calls(&called, content, question.max_tokens);
        let is_call = !calls.is_empty();
        let ended = match ended {
            Ended::Stop if calls_are_cut => Ended::Length,
            Ended::Stop if is_call => Ended::Calls,
            other => other,
        };
        let pieces = pieces(content, &calls, directives);
        // A call repeated would be no call: `chunks` is for text.
        let chunks = directives.chunks.filter(|_| !is_call).unwrap_or(pieces.len());
        let is_cut = ended == Ended::Length;
        let ended = if directives.chunks.is_some() && is_cut { Ended::Stop } else { ended };
        let reasoning = question.reasoning.max(directives.reasoning);
        Self {
            model: question.model.clone(),
            usage: usage(question, directives, &pieces, chunks, &calls),
            pieces,
            chunks,
            calls,
            ended,
            finish: directives.finish.clone(),
            choices: question.choices,
            reasoning,
        }
    }

    /// The finish reason: the script's, or the dialect's word for why it ends.
    pub fn finish_reason(&self, word: impl FnOnce(&Ended) -> &'static str) -> &str {
        self.finish.as_deref().unwrap_or_else(|| word(&self.ended))
    }

    /// The text of all reasoning.
    pub fn reasoning_text(&self) -> String {
        REASONING_TEXT.repeat(self.reasoning)
    }

    /// The whole text, with the huge event's content before it.
    pub fn text_with_huge(&self, directives: &Directives) -> String {
        "x".repeat(directives.huge_bytes.unwrap_or(0)) + &self.text()
    }

    /// The piece that chunk number `chunk` carries: past the last they begin again.
    pub fn piece(&self, chunk: usize) -> Option<&Piece> {
        self.pieces.get(chunk.checked_rem(self.pieces.len())?)
    }

    /// The text of the whole answer; empty for a call without a preamble.
    pub fn text(&self) -> String {
        let texts = (0..self.chunks).filter_map(|chunk| match self.piece(chunk) {
            Some(Piece::Text(text)) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The estimate for one content chunk.
    pub fn chunk_tokens(&self, chunk: usize) -> u64 {
        self.piece(chunk).map_or(0, |piece| piece_tokens(piece, &self.calls))
    }
}

/// The text, and the functions called with their schemas.
fn content(question: &Question, directives: &Directives) -> (String, Vec<(String, Value)>) {
    let model = &question.model;
    let preamble = format!("This is {model}, a scripted model: no provider was called.");
    let text = match &question.subject {
        Subject::Message(text) if text.trim().is_empty() => {
            format!("{preamble} You sent no text.")
        }
        Subject::Message(text) => format!("{preamble} You asked: {}", quote(text)),
        Subject::ToolResult(text) => format!("{preamble} The tool said: {}", quote(text)),
        Subject::Structured { schema } => schema::minimal_instance(schema).to_string(),
        Subject::Calls(offered) => {
            let count = directives.calls.unwrap_or(offered.len());
            let called = offered.iter().cycle().take(count).cloned().collect();
            let text = if directives.preamble { preamble } else { String::new() };
            return (text, called);
        }
    };
    (text, Vec::new())
}

/// The calls, after a text that took its part of the token limit, and whether the limit cut them.
fn calls(called: &[(String, Value)], text: &str, max_tokens: Option<u64>) -> (Vec<Call>, bool) {
    let mut left = max_tokens.unwrap_or(u64::MAX).saturating_sub(tokens::count(text));
    let mut is_cut = false;
    let mut calls = Vec::new();
    for (name, parameters) in called {
        let whole = schema::minimal_instance(parameters).to_string();
        let arguments = tokens::cut(&whole, left);
        left = left.saturating_sub(tokens::count(arguments));
        is_cut |= arguments.len() < whole.len();
        let id = format!("call_{}", Uuid::now_v7().simple());
        calls.push(Call { id, name: name.clone(), arguments: arguments.to_owned() });
        if is_cut {
            break;
        }
    }
    (calls, is_cut)
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

/// `content` up to the first stop text and the token limit, and why it ends there.
fn limited<'a>(question: &Question, content: &'a str) -> (&'a str, Ended) {
    let stops = question.stop.iter().filter(|stop| !stop.is_empty());
    let places = stops.filter_map(|stop| Some((content.find(stop.as_str())?, stop)));
    let stop = places.min_by_key(|(at, _)| *at);
    let said = stop.and_then(|(at, _)| content.get(..at)).unwrap_or(content);
    let cut = question.max_tokens.map_or(said, |max| tokens::cut(said, max));
    match stop {
        _ if cut.len() < said.len() => (cut, Ended::Length),
        Some((_, stop)) => (cut, Ended::StopText(stop.clone())),
        None => (cut, Ended::Stop),
    }
}

fn pieces(content: &str, calls: &[Call], directives: &Directives) -> Vec<Piece> {
    let text = |piece: &str| Piece::Text(piece.to_owned());
    let mut pieces: Vec<Piece> = match directives.chunk_bytes {
        None => tokens::words(content).map(text).collect(),
        // Arguments are not stretched, and neither is the text before them.
        Some(bytes) if !calls.is_empty() => tokens::slices(content, bytes).map(text).collect(),
        Some(bytes) => tokens::slices(&stretched(content, bytes), bytes).map(text).collect(),
    };
    let fragment_bytes = directives.chunk_bytes.unwrap_or(ARGUMENT_FRAGMENT_BYTES);
    for (call, Call { arguments, .. }) in calls.iter().enumerate() {
        let fragments = tokens::slices(arguments, fragment_bytes);
        pieces.push(Piece::CallHead { call });
        pieces.extend(fragments.map(|f| Piece::CallArguments { call, fragment: f.to_owned() }));
    }
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

fn piece_tokens(piece: &Piece, calls: &[Call]) -> u64 {
    match piece {
        Piece::Text(text) | Piece::CallArguments { fragment: text, .. } => tokens::count(text),
        Piece::CallHead { call } => calls.get(*call).map_or(0, |call| tokens::count(&call.name)),
    }
}

fn usage(
    question: &Question,
    directives: &Directives,
    pieces: &[Piece],
    chunks: usize,
    calls: &[Call],
) -> Usage {
    let counts: Vec<u64> = pieces.iter().map(|piece| piece_tokens(piece, calls)).collect();
    let rounds = chunks.checked_div(counts.len()).unwrap_or(0);
    let rest = chunks.checked_rem(counts.len()).unwrap_or(0);
    let content_tokens =
        counts.iter().sum::<u64>() * rounds as u64 + counts.iter().take(rest).sum::<u64>();
    let reasoning = question.reasoning.max(directives.reasoning);
    let reasoning_tokens = tokens::count(REASONING_TEXT) * reasoning as u64;
    let choices = u64::from(question.choices);
    let huge_tokens = directives.huge_bytes.map_or(0, huge_tokens);
    let estimate = (content_tokens + reasoning_tokens) * choices + huge_tokens;
    let completion_tokens = directives.tokens_out.unwrap_or(estimate);
    let prompt_tokens = directives.tokens_in.unwrap_or(question.prompt_tokens);
    let cached_tokens = directives.cached.min(prompt_tokens);
    Usage {
        prompt_tokens,
        cached_tokens,
        cache_write_tokens: directives.cache_write.min(prompt_tokens - cached_tokens),
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
            reasoning: 0,
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
        assert_eq!(answer.ended, Ended::Stop);
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
        assert_eq!((short.text().as_str(), short.ended), ("This is m", Ended::Length));
        assert_eq!(short.usage.completion_tokens, 3);
        let stopped = ask("m", message("before STOP after"), None);
        assert!(stopped.text().ends_with("before "));
        assert_eq!(stopped.ended, Ended::StopText("STOP".to_owned()));
        let scripted = ask("m?finish=content_filter", message("x"), None);
        assert_eq!(scripted.finish_reason(|_| "stop"), "content_filter");
    }

    #[test]
    fn chunks_are_as_many_and_as_large_as_scripted() {
        let answer = ask("m?chunks=50&chunk_bytes=10", message("x"), Some(1));
        assert_eq!(answer.chunks, 50);
        assert_eq!(answer.ended, Ended::Stop);
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
        let call = ("weather".to_owned(), parameters);
        let subject = || Subject::Calls(vec![call.clone()]);
        let answer = ask("m", subject(), None);
        assert_eq!(answer.ended, Ended::Calls);
        assert_eq!(answer.pieces.first(), Some(&Piece::CallHead { call: 0 }));
        assert!(answer.pieces.len() > 2);
        assert_eq!(answer.calls[0].arguments, r#"{"city":"example"}"#);

        let several = ask("m?calls=3&preamble", subject(), None);
        assert_eq!(several.calls.len(), 3);
        assert!(several.text().starts_with("This is m"));
        assert_eq!(ask("m", subject(), Some(3)).ended, Ended::Length);
    }
}
