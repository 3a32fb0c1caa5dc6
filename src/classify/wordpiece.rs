//! BERT's WordPiece tokeniser: a text in, the ids of the model's vocabulary out.
//!
//! It reads the `tokenizer.json` that comes with a model and gives exactly the ids that the
//! Hugging Face `tokenizers` crate gives, without special tokens, about 35 to 75 times
//! faster. It keeps no offsets and decodes nothing; `[CLS]`, `[SEP]` and padding are the caller's
//! to add.
//!
//! Read [`WordPiece::encode`] first. `chars` says what becomes of one character, `word`
//! gathers characters, `trie` finds the longest token, `definition` reads the file.
//!
//! The life of a text: added tokens written in it literally (`[SEP]`) are cut out of the raw text
//! and become their own ids, as in the reference; a prompt that forges one changes nothing but its
//! own score. The rest is folded character by character (cleaned, CJK ideographs isolated, accents
//! stripped, lower-cased) into words at white space and punctuation. Each word is then cut
//! greedily into the longest tokens, or becomes `[UNK]` as a whole when that fails.
//!
//! Time is linear in the bytes read, whatever they are. Nothing is allocated but `out` and, when a
//! part of Unicode is first met, its page of the character table (a few KiB, kept).

mod chars;
mod definition;
mod trie;
mod word;

use chars::{Atom, CharTable, Folded};
use definition::Definition;
use trie::{State, Trie};
use word::{MAX_WORD_CHARS, Step, Steps, Word};

/// Why a `tokenizer.json` was refused. None of these can be mended but by another file.
#[derive(Debug, thiserror::Error)]
pub enum WordPieceError {
    /// The file is no JSON, or a part of a known kind lacks one of its fields.
    #[error("tokenizer.json cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The file describes another kind of tokeniser.
    #[error("tokenizer.json has the {part} {found}, where only {expected} is supported")]
    Unsupported {
        /// The field of the file.
        part: &'static str,
        /// What the file says there.
        found: String,
        /// What can be read.
        expected: String,
    },
    /// An added token is to be matched in a way that BERT's never are.
    #[error("added token {content:?} has the unsupported property {property}")]
    AddedToken {
        /// The token's text.
        content: String,
        /// The field that is set, or "white space" in the text.
        property: &'static str,
    },
    /// A token that is needed is not in the vocabulary.
    #[error("token {0:?} is missing from the vocabulary")]
    MissingToken(String),
    /// An id that has a meaning here (`u32::MAX`).
    #[error("token {0:?} has an id that is too large")]
    IdTooLarge(String),
    /// Words may be longer than the buffer allows. BERT's limit is 100.
    #[error("max_input_chars_per_word is {0}, where at most {MAX_WORD_CHARS} is supported")]
    WordTooLong(usize),
}

/// The first window that [`WordPiece::encode_tail`] tries, in bytes per token wanted: chosen,
/// nearly twice the 4.5 of English.
const TAIL_BYTES_PER_TOKEN: usize = 8;
/// Room for one long word in that window, whatever the number of tokens.
const TAIL_BYTES_AT_LEAST: usize = 256;
/// Each further window is four times the last; so at most 16 times the first is tried.
const TAIL_WINDOWS: u32 = 3;

/// A tokeniser, ready to use from any number of threads.
pub struct WordPiece {
    steps: Steps,
    chars: CharTable,
    tokens: Trie,
    /// Where the pieces after a word's first are sought; `None` if the vocabulary has none.
    continuing: Option<State>,
    /// Longest first, so that the first match is the longest.
    added_tokens: Vec<(String, u32)>,
    max_word_chars: usize,
    cls_id: u32,
    sep_id: u32,
    unk_id: u32,
    id_bound: u32,
}

impl WordPiece {
    /// Reads the contents of a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file is not a BERT tokeniser: anything but the model `WordPiece`, the normalizer
    /// `BertNormalizer`, the pre-tokenizer `BertPreTokenizer` and a `[CLS] $A [SEP]` template, or
    /// added tokens that match other than literally.
    pub fn from_tokenizer_json(bytes: &[u8]) -> Result<WordPiece, WordPieceError> {
        let Definition { normalizer, model, mut added_tokens, cls_id, sep_id, unk_id } =
            Definition::parse(bytes)?;
        if model.max_input_chars_per_word > MAX_WORD_CHARS {
            return Err(WordPieceError::WordTooLong(model.max_input_chars_per_word));
        }
        let vocab = model.vocab.iter().map(|(token, id)| (token, *id));
        let added = added_tokens.iter().map(|(token, id)| (token, *id));
        let mut id_bound = cls_id.max(sep_id).saturating_add(1);
        for (token, id) in vocab.chain(added) {
            let bound = id.checked_add(1);
            let bound = bound.ok_or_else(|| WordPieceError::IdTooLarge(token.clone()))?;
            id_bound = id_bound.max(bound);
        }
        let vocab = model.vocab.iter();
        let tokens = Trie::new(vocab.map(|(token, id)| (token.as_bytes(), *id)).collect());
        added_tokens.sort_by_key(|(content, _)| std::cmp::Reverse(content.len()));
        let chars = CharTable::new(normalizer);
        Ok(WordPiece {
            steps: Steps::new(&chars, &added_tokens),
            continuing: tokens.descend(Trie::ROOT, model.continuing_subword_prefix.as_bytes()),
            chars,
            tokens,
            added_tokens,
            max_word_chars: model.max_input_chars_per_word,
            cls_id,
            sep_id,
            unk_id,
            id_bound,
        })
    }

    /// The id that opens a sequence.
    pub fn cls_id(&self) -> u32 {
        self.cls_id
    }

    /// The id that closes a sequence.
    pub fn sep_id(&self) -> u32 {
        self.sep_id
    }

    /// The id of a word that cannot be made of tokens.
    pub fn unk_id(&self) -> u32 {
        self.unk_id
    }

    /// All ids are below this: the rows that an embedding table must have.
    pub fn id_bound(&self) -> u32 {
        self.id_bound
    }

    /// Appends the ids of `text` to `out`, without special tokens.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) {
        self.encode_until(text, usize::MAX, out);
    }

    /// Appends the first `max_tokens` ids of `text` to `out`, or all if there are fewer.
    ///
    /// Reads the text only to the end of the word that yields the last of them.
    pub fn encode_bounded(&self, text: &str, max_tokens: usize, out: &mut Vec<u32>) {
        let full = out.len().saturating_add(max_tokens);
        self.encode_until(text, full, out);
        out.truncate(full);
    }

    /// Appends the last ids of `text` to `out`, at most `max_tokens`, looking only at its end.
    ///
    /// What is appended is always the end of what [`encode`](Self::encode) would append. It has
    /// `max_tokens` ids, or all there are, unless the text is unusually poor in tokens: at most
    /// `16 * (8 * max_tokens + 256)` bytes are looked at (a third more with the attempts before),
    /// and encoding starts at the first white space, punctuation or CJK ideograph among them. A
    /// text whose end has none of these yields nothing; that end is part of one `[UNK]`, as a rule.
    pub fn encode_tail(&self, text: &str, max_tokens: usize, out: &mut Vec<u32>) {
        let start = out.len();
        let mut window =
            max_tokens.saturating_mul(TAIL_BYTES_PER_TOKEN).saturating_add(TAIL_BYTES_AT_LEAST);
        for _ in 0..TAIL_WINDOWS {
            out.truncate(start);
            let from = text.floor_char_boundary(text.len().saturating_sub(window));
            if let Some(tail) = self.tail_from_boundary(text, from) {
                self.encode(tail, out);
            }
            if from == 0 || out.len() - start >= max_tokens {
                break;
            }
            window = window.saturating_mul(4);
        }
        let surplus = (out.len() - start).saturating_sub(max_tokens);
        out.drain(start..start + surplus);
    }

    /// The part of `text` from the first word boundary at or after byte `from`.
    ///
    /// Before white space and isolated characters a word always ends and marks are not sorted
    /// across; what is left is that an added token may run across, so its characters do not count.
    fn tail_from_boundary<'t>(&self, text: &'t str, from: usize) -> Option<&'t str> {
        if from == 0 {
            return Some(text);
        }
        let end = text.get(from..)?;
        let at = end.find(|c| {
            matches!(self.chars.get(c), Folded::Space | Folded::Isolated(_))
                && !self.added_tokens.iter().any(|(added, _)| added.contains(c))
        })?;
        end.get(at..)
    }

    /// Appends ids until `out` has at least `full` or the text ends, whole words at a time.
    fn encode_until(&self, text: &str, full: usize, out: &mut Vec<u32>) {
        let mut word = Word::new();
        let mut rest = text;
        while out.len() < full {
            let run = word.push_run(rest.as_bytes(), &self.steps);
            let after = rest.get(run..).unwrap_or_default();
            let Some(&byte) = after.as_bytes().first() else {
                break;
            };
            // An ASCII character is one byte wide; all others say how wide they are.
            let mut width = 1;
            match self.steps.at(byte) {
                // `push_run` has taken the letters.
                Step::Nothing | Step::Letter => {}
                Step::Space => self.end_word(&mut word, out),
                Step::Isolated => {
                    self.end_word(&mut word, out);
                    self.push_pieces(&[byte], out);
                }
                Step::LookUp => width = self.look_up(after, &mut word, out),
                Step::MaybeAdded => {
                    width = match self.added_token(after) {
                        Some((content, id)) => {
                            self.end_word(&mut word, out);
                            out.push(*id);
                            content.len()
                        }
                        None => self.look_up(after, &mut word, out),
                    }
                }
            }
            rest = after.get(width..).unwrap_or_default();
        }
        if out.len() < full {
            self.end_word(&mut word, out);
        }
    }

    /// The longest added token that `text` starts with.
    fn added_token(&self, text: &str) -> Option<&(String, u32)> {
        let mut added_tokens = self.added_tokens.iter();
        added_tokens.find(|(content, _)| text.starts_with(content.as_str()))
    }

    /// Handles the first character of `text`, whatever it is; returns its bytes.
    fn look_up(&self, text: &str, word: &mut Word, out: &mut Vec<u32>) -> usize {
        let Some(c) = text.chars().next() else {
            return 0;
        };
        match self.chars.get(c) {
            Folded::Nothing => {}
            Folded::Barrier => word.end_marks(),
            Folded::Space => self.end_word(word, out),
            Folded::Isolated(letter) => {
                self.end_word(word, out);
                self.push_pieces(letter, out);
            }
            Folded::Letters(letters) => word.push(letters),
            Folded::Several => self.chars.normalizer().atoms(c, |atom| match atom {
                Atom::Barrier => word.end_marks(),
                Atom::Space => self.end_word(word, out),
                Atom::Isolated(c) => {
                    self.end_word(word, out);
                    self.push_pieces(c.encode_utf8(&mut [0; 4]).as_bytes(), out);
                }
                Atom::Letter(c) => word.push(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Atom::Mark(c) => word.push_mark(c),
            }),
        }
        c.len_utf8()
    }

    /// Appends the ids of the word gathered so far, if any, and clears it.
    #[inline]
    fn end_word(&self, word: &mut Word, out: &mut Vec<u32>) {
        if word.is_overlong {
            out.push(self.unk_id);
        } else if word.length > 0 {
            self.push_pieces(word.as_bytes(), out);
        }
        word.clear();
    }

    /// Appends the ids of a folded word that is not empty: the longest token at each place, or
    /// one `[UNK]` if there is none somewhere or the word has too many characters.
    #[inline]
    fn push_pieces(&self, word: &[u8], out: &mut Vec<u32>) {
        let start = out.len();
        let is_short = word.len() <= self.max_word_chars
            || word.iter().filter(|byte| is_char_start(**byte)).count() <= self.max_word_chars;
        let mut rest = word;
        let mut from = is_short.then_some(Trie::ROOT);
        while !rest.is_empty() {
            let piece = from.and_then(|from| self.tokens.longest(from, rest));
            let Some((length, id)) = piece else {
                out.truncate(start);
                return out.push(self.unk_id);
            };
            out.push(id);
            rest = rest.get(length..).unwrap_or_default();
            from = self.continuing;
        }
    }
}

fn is_char_start(byte: u8) -> bool {
    byte & 0b1100_0000 != 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<u32> {
        let tokens = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "!", "中"];
        let vocab = tokens.iter().enumerate();
        let vocab: Vec<String> = vocab.map(|(id, token)| format!("{token:?}:{id}")).collect();
        let vocab = vocab.join(",");
        let file = format!(
            r###"{{"version": "1.0", "normalizer": {{"type": "BertNormalizer", "clean_text": true,
            "handle_chinese_chars": true, "lowercase": true}},
            "pre_tokenizer": {{"type": "BertPreTokenizer"}},
            "model": {{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {{{vocab}}}}}}}"###
        );
        let tokeniser = WordPiece::from_tokenizer_json(file.as_bytes()).expect("it is a BERT file");
        let mut ids = Vec::new();
        tokeniser.encode(text, &mut ids);
        ids
    }

    #[test]
    fn cuts_a_word_into_its_longest_tokens_or_takes_it_as_unknown() {
        assert_eq!(ids("UNAFFABLE"), [3, 4, 5]);
        assert_eq!(ids("ünaffable un"), [3, 4, 5, 3]);
        assert_eq!(ids("unaffably un"), [0, 3]);
        assert_eq!(ids("un!un中un\0aff"), [3, 6, 3, 7, 3, 4]);
    }

    #[test]
    fn a_word_of_more_than_a_hundred_characters_is_unknown() {
        let word = |pieces| format!("un{}", "able".repeat(pieces));
        assert_eq!(ids(&word(24)).len(), 25);
        assert_eq!(ids(&word(25)), [0]);
        assert_eq!(ids(&format!("{} un", word(100_000))), [0, 3]);
    }
}
