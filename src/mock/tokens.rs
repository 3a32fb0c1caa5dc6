//! An estimate of how many tokens a text has, and the cuts that follow from it.
//!
//! The rule, chosen to be simple and near byte-pair encodings on English prose (which average
//! about four characters a token), exact for no model:
//! - white space belongs to the token after it;
//! - a run of letters or digits is one token for every 8 characters begun;
//! - every other character is one token: punctuation, symbols, and each character of the scripts
//!   written without spaces (Thai, Chinese, Japanese) or in syllable blocks (Korean).
//!
//! Everything the scripted upstream counts or cuts goes through [`count`] and [`cut`], so a
//! caller's `max_tokens` and the usage reported always agree.

/// Characters of a word that share a token. Chosen: most English words are one token.
pub const WORD_TOKEN_CHARS: usize = 8;

/// The number of tokens in `text`.
pub fn count(text: &str) -> u64 {
    tokens(text).fold(0, |total, _| total + 1)
}

/// The beginning of `text` that has at most `max_tokens` tokens.
pub fn cut(text: &str, max_tokens: u64) -> &str {
    let max_tokens = usize::try_from(max_tokens).unwrap_or(usize::MAX);
    let end = tokens(text).take(max_tokens).map(str::len).sum();
    text.get(..end).unwrap_or(text)
}

/// The words of `text`, each with the white space before it; joined they are `text`.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    Pieces { rest: text, piece_bytes: word_bytes }
}

/// `text` in slices of at most `max_bytes` bytes (a character larger than that stays whole).
pub fn slices(text: &str, max_bytes: usize) -> impl Iterator<Item = &str> {
    Pieces { rest: text, piece_bytes: move |rest: &str| slice_bytes(rest, max_bytes) }
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    Pieces { rest: text, piece_bytes: token_bytes }
}

/// Cuts a text from its front; `piece_bytes` says how long the first piece is.
struct Pieces<'a, F> {
    rest: &'a str,
    piece_bytes: F,
}

impl<'a, F: Fn(&str) -> usize> Iterator for Pieces<'a, F> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (piece, rest) = self.rest.split_at_checked((self.piece_bytes)(self.rest))?;
        self.rest = rest;
        Some(piece)
    }
}

fn token_bytes(text: &str) -> usize {
    let mut word_chars = 0;
    for (at, character) in text.char_indices() {
        let ends_word = character.is_whitespace() || is_own_token(character);
        if word_chars > 0 && ends_word {
            return at;
        }
        if character.is_whitespace() {
            continue;
        }
        word_chars += 1;
        if ends_word || word_chars == WORD_TOKEN_CHARS {
            return at + character.len_utf8();
        }
    }
    text.len()
}

fn word_bytes(text: &str) -> usize {
    let mut in_word = false;
    for (at, character) in text.char_indices() {
        if in_word && character.is_whitespace() {
            return at;
        }
        in_word |= !character.is_whitespace();
    }
    text.len()
}

fn slice_bytes(text: &str, max_bytes: usize) -> usize {
    let first_char_bytes = text.chars().next().map_or(0, char::len_utf8);
    text.floor_char_boundary(max_bytes).max(first_char_bytes)
}

fn is_own_token(character: char) -> bool {
    // Thai to Tibetan, Burmese, Hangul jamo and Khmer; then everything from the CJK radicals on.
    let is_written_without_spaces =
        matches!(character, '\u{0E00}'..='\u{11FF}' | '\u{1780}'..='\u{17FF}' | '\u{2E80}'..);
    is_written_without_spaces || !character.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(tokens(text).collect::<Vec<_>>(), expected);
        assert_eq!(count(text), expected.len() as u64);
    }

    #[test]
    fn tokens_of_several_scripts() {
        check("", &[]);
        check("Hello, world!", &["Hello", ",", " world", "!"]);
        check("incomprehensible", &["incompre", "hensible"]);
        check("你好 吗", &["你", "好", " 吗"]);
        check("  trailing ", &["  trailing", " "]);
        check("naïve café", &["naïve", " café"]);
    }

    #[test]
    fn a_cut_has_the_tokens_asked_for() {
        assert_eq!(cut("one two, three", 3), "one two,");
        assert_eq!(cut("one two", 9), "one two");
        assert_eq!(cut("one", 0), "");
    }

    #[test]
    fn pieces_join_to_the_text() {
        let text = " a bb\n\nccc 你好 d ";
        assert_eq!(words(text).collect::<String>(), text);
        assert_eq!(words(text).count(), 6);
        for max_bytes in 0..9 {
            assert_eq!(slices(text, max_bytes).collect::<String>(), text);
        }
    }
}
