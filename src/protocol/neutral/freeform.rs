//! Tools that take a text: OpenAI's custom tools, where a provider has functions only.
//!
//! Such a tool is offered as a function of one string, [`ARGUMENT`], and what the model writes into
//! it is unpacked again, fragment by fragment.

use super::KnownAs;
use crate::protocol::json::{Json, RawObject, object};

/// The name of the one argument.
pub const ARGUMENT: &str = "input";

/// Whether calls of the tool have a text.
pub fn is_freeform(known: Option<&KnownAs>) -> bool {
    known.is_some_and(|known| known.is_freeform)
}

/// The schema of its arguments.
pub fn schema() -> Json {
    let mut properties = RawObject::default();
    properties.put(ARGUMENT, &object! { "type": "string" });
    Json::of(&object! {
        "type": "object", "properties": properties, "required": [ARGUMENT],
        "additionalProperties": false,
    })
}

/// What the tool is for, with what its `format` demands: `{"type":"grammar","syntax":…,
/// "definition":…}`, or free text.
pub fn description(said: Option<String>, format: Option<&Json>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Grammar {
        syntax: String,
        definition: String,
    }
    let grammar: Option<Grammar> =
        format.and_then(|format| serde_json::from_str(format.text()).ok());
    let Some(Grammar { syntax, definition }) = grammar else { return said };
    let demand = format!("`{ARGUMENT}` must follow this {syntax} grammar:\n{definition}");
    Some(said.map_or(demand.clone(), |said| format!("{said}\n\n{demand}")))
}

/// The arguments of a call with this text.
pub fn arguments(text: &str) -> String {
    let mut arguments = RawObject::default();
    arguments.put(ARGUMENT, &text);
    String::from_utf8_lossy(&arguments.to_bytes()).into_owned()
}

/// The text of a call with these arguments, as far as they have come. Arguments of another form are
/// the text themselves.
pub fn text(arguments: &str) -> String {
    Unpacker::default().push(arguments)
}

/// Unpacks the text from arguments that come in fragments.
#[derive(Debug, Default)]
pub struct Unpacker {
    state: State,
    /// What has come and cannot be unpacked yet.
    held: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the text's opening quote.
    #[default]
    Before,
    Inside,
    After,
    /// The arguments are of another form.
    Other,
}

impl Unpacker {
    /// Takes a fragment and returns the text that it completes.
    pub fn push(&mut self, fragment: &str) -> String {
        self.held.push_str(fragment);
        if self.state == State::Before {
            match after_opening(&self.held) {
                Opening::At(start) => {
                    self.held.drain(..start);
                    self.state = State::Inside;
                }
                Opening::Unfinished => return String::new(),
                Opening::Other => self.state = State::Other,
            }
        }
        match self.state {
            State::Inside => self.unescaped(),
            State::Other => std::mem::take(&mut self.held),
            State::Before | State::After => String::new(),
        }
    }

    fn unescaped(&mut self) -> String {
        let (end, closed) = whole_characters(&self.held);
        let text = self.held.get(..end).unwrap_or_default();
        // Escapes that JSON does not have are kept as they are.
        let text = serde_json::from_str(&format!("\"{text}\"")).unwrap_or_else(|_| text.to_owned());
        self.held.drain(..end);
        if closed {
            self.held.clear();
            self.state = State::After;
        }
        text
    }
}

enum Opening {
    /// The text begins here.
    At(usize),
    /// So far it fits.
    Unfinished,
    Other,
}

/// Looks for `{"input":"`, with any space between.
fn after_opening(arguments: &str) -> Opening {
    let mut rest = arguments;
    for token in ["{", "\"input\"", ":", "\""] {
        rest = rest.trim_ascii_start();
        match rest.strip_prefix(token) {
            Some(after) => rest = after,
            None if token.starts_with(rest) => return Opening::Unfinished,
            None => return Opening::Other,
        }
    }
    Opening::At(arguments.len() - rest.len())
}

/// Where the whole characters of a JSON string's inside end, and whether its closing quote follows.
fn whole_characters(inside: &str) -> (usize, bool) {
    let bytes = inside.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let length = match byte {
            b'"' => return (at, true),
            b'\\' => match bytes.get(at + 1) {
                Some(b'u') if is_first_of_two(bytes, at) => 12,
                Some(b'u') => 6,
                _ => 2,
            },
            _ => 1,
        };
        if at + length > bytes.len() {
            return (at, false);
        }
        at += length;
    }
    (at, false)
}

/// Whether the escape at `at` is the first half of a character beyond U+FFFF, whose other half may
/// follow.
fn is_first_of_two(bytes: &[u8], at: usize) -> bool {
    let start = bytes.get(at + 2..at + 4);
    matches!(start, Some([b'd' | b'D', b'8' | b'9' | b'a' | b'A' | b'b' | b'B']))
        && bytes.get(at + 6).is_none_or(|next| *next == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_out_as_it_went_in_however_its_arguments_are_cut() {
        for text_in in ["", "*** Begin Patch\n+\t\"a\" \\ é 😀\n", "}\"", "\u{1}\\u0041"] {
            let plain = arguments(text_in);
            let escaped: String = plain
                .encode_utf16()
                .map(|unit| match u8::try_from(unit) {
                    Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
                    _ => format!("\\u{unit:04X}"),
                })
                .collect();
            for arguments in [plain.clone(), escaped, plain.replace(":", " :\n ")] {
                for cut in (0..=arguments.len()).filter(|cut| arguments.is_char_boundary(*cut)) {
                    let mut unpacker = Unpacker::default();
                    let mut out = unpacker.push(&arguments[..cut]);
                    out.push_str(&unpacker.push(&arguments[cut..]));
                    assert_eq!(out, text_in, "{arguments} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn arguments_of_another_form_are_the_text() {
        for other in ["{}", "[1]", r#"{"patch":"x"}"#, "plain", r#"{"input":7}"#] {
            assert_eq!(text(other), other);
        }
        assert_eq!(text(r#"{"input":"so far \"#), "so far ");
        assert_eq!(text(r#"{"input":"a\q"}"#), "a\\q");
    }

    #[test]
    fn a_grammar_is_told_in_the_description() {
        let grammar = Json::parse(r#"{"type":"grammar","syntax":"lark","definition":"start: X"}"#);
        let told = description(Some("Runs.".to_owned()), grammar.as_ref()).unwrap();
        assert_eq!(told, "Runs.\n\n`input` must follow this lark grammar:\nstart: X");
        let free = Json::parse(r#"{"type":"text"}"#);
        assert_eq!(description(Some("Runs.".to_owned()), free.as_ref()).unwrap(), "Runs.");
    }
}
