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

    /// The text of what is held, as far as its characters are whole.
    fn unescaped(&mut self) -> String {
        let mut text = String::new();
        let mut at = 0;
        loop {
            let rest = self.held.get(at..).unwrap_or_default();
            let plain = rest.find(['"', '\\']).unwrap_or(rest.len());
            text.push_str(rest.get(..plain).unwrap_or_default());
            at += plain;
            let rest = rest.get(plain..).unwrap_or_default();
            if rest.starts_with('"') {
                self.state = State::After;
                at = self.held.len();
                break;
            }
            let Some(escape) = escape(rest) else { break };
            // What JSON does not know as an escape is kept as it is.
            let character = serde_json::from_str(&format!("\"{escape}\""));
            text.push_str(&character.unwrap_or_else(|_| escape.to_owned()));
            at += escape.len();
        }
        self.held.drain(..at);
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

/// The longest opening, spaces included (chosen: it is looked through again at each fragment).
const MAX_OPENING: usize = 256;

/// Looks for `{"input":"`, with some space between.
fn after_opening(arguments: &str) -> Opening {
    let mut rest = arguments;
    for token in ["{", "\"input\"", ":", "\""] {
        rest = rest.trim_ascii_start();
        match rest.strip_prefix(token) {
            Some(after) => rest = after,
            None if token.starts_with(rest) && arguments.len() <= MAX_OPENING => {
                return Opening::Unfinished;
            }
            None => return Opening::Other,
        }
    }
    match arguments.len() - rest.len() {
        start if start <= MAX_OPENING => Opening::At(start),
        _ => Opening::Other,
    }
}

/// The escape that this begins with: both halves of a character beyond U+FFFF. `None` when it may go
/// on.
fn escape(rest: &str) -> Option<&str> {
    let Some(digits) = rest.strip_prefix("\\u") else {
        let mut ends = rest.char_indices().skip(1);
        let (start, character) = ends.next()?;
        return rest.get(..start + character.len_utf8());
    };
    let first = hex_digits(digits);
    let after = digits.get(first..).unwrap_or_default();
    if first < 4 {
        return if after.is_empty() { None } else { rest.get(..2 + first) };
    }
    if !is_first_of_two(digits) {
        return rest.get(..6);
    }
    match after.strip_prefix("\\u").map(|digits| (hex_digits(digits), digits.len())) {
        Some((4, _)) => rest.get(..12),
        Some((second, length)) if second == length => None,
        None if matches!(after, "" | "\\") => None,
        _ => rest.get(..6),
    }
}

/// How many of the first four are hexadecimal digits.
fn hex_digits(text: &str) -> usize {
    text.bytes().take(4).take_while(u8::is_ascii_hexdigit).count()
}

/// Whether the digits are those of the first half of a character beyond U+FFFF.
fn is_first_of_two(digits: &str) -> bool {
    matches!(digits.as_bytes(), [b'd' | b'D', b'8' | b'9' | b'a' | b'A' | b'b' | b'B', ..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        /// Any text, its arguments in fragments of any size.
        #[test]
        fn any_text_comes_back(text_in in any::<String>(), size in 1usize..9) {
            let arguments: Vec<char> = arguments(&text_in).chars().collect();
            let mut unpacker = Unpacker::default();
            let fragments = arguments.chunks(size).map(String::from_iter);
            let out: String = fragments.map(|fragment| unpacker.push(&fragment)).collect();
            prop_assert_eq!(out, text_in);
        }

        /// Whatever a model writes, in fragments it gives what it gives whole.
        #[test]
        fn fragments_give_what_the_whole_gives(
            inside in r#"[a\\\\"u0dDeE8é {}:]{0,24}"#,
            is_opened in any::<bool>(),
        ) {
            let arguments = if is_opened { format!("{{\"input\":\"{inside}") } else { inside };
            let mut unpacker = Unpacker::default();
            let out: String = arguments.chars().map(|c| unpacker.push(&c.to_string())).collect();
            prop_assert_eq!(out, text(&arguments));
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
