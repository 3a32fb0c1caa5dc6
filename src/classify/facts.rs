//! What can be read off a text for nothing: its words, and eighteen bounded facts.
//!
//! Each fact lies in 0..=1 whatever the text, so that padding or claims move a score by a bounded
//! amount. Words are folded by rules that know no language: runs of letters in lower case, digits
//! as `0`, scripts without spaces one character a word.

use std::ops::Range;

/// Characters looked at: of a longer text, the first and the last half.
const MAX_CHARS: usize = 32_768;
/// Words that become features: of more, the first and the last half.
const MAX_WORDS: usize = 1_024;

/// The facts, in the order of [`FACT_NAMES`].
pub const FACTS: usize = 18;

/// Names for cards and explanations.
pub const FACT_NAMES: [&str; FACTS] = [
    "length",
    "long",
    "word_length",
    "digits",
    "numbers",
    "lines",
    "symbols",
    "questions",
    "non_ascii",
    "options",
    "latex",
    "mathematics",
    "code",
    "code_fence",
    "capitals",
    "quotes",
    "distinct_words",
    "sentence_length",
];

/// Scripts written without spaces: every character is a word of its own.
const SOLO_SCRIPTS: [(u32, u32); 9] = [
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
];

/// Pieces of source code; each counts once.
const CODE_MARKS: [&str; 20] = [
    "def ", "class ", "import ", "return", "function", "#include", "SELECT ", "();", "{\n", "};",
    "=>", "->", "==", "!=", "&&", "||", "print(", "const ", "fn ", "void ",
];

const MATH_SYMBOLS: &str = "=+*/^<>±×÷√∑∏∫∞≤≥≠≈∂∇∈∀∃πθλ°";

/// What a text gives besides its embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct TextFeatures {
    /// Each in 0..=1.
    pub facts: [f32; FACTS],
    /// Hashes of the words and of neighbouring pairs, with how often each occurs; ascending.
    pub word_hashes: Vec<(u64, u32)>,
}

impl TextFeatures {
    /// Reads a text in one pass over its characters and one over its words.
    pub fn read(text: &str) -> Self {
        let text = bounded(text);
        let words = Words::read(&text);
        Self { facts: facts(&text, &words), word_hashes: words.hashes() }
    }
}

fn bounded(text: &str) -> std::borrow::Cow<'_, str> {
    // A character has at least one byte, so a short text need not be counted.
    if text.len() <= MAX_CHARS || text.chars().count() <= MAX_CHARS {
        return text.into();
    }
    let half = MAX_CHARS / 2;
    let head = text.char_indices().nth(half).map_or(text.len(), |(at, _)| at);
    let tail = text.char_indices().rev().nth(half - 1).map_or(0, |(at, _)| at);
    let (head, tail) = (text.get(..head).unwrap_or_default(), text.get(tail..).unwrap_or_default());
    format!("{head}\n{tail}").into()
}

/// Folded words, all in one string.
struct Words {
    folded: String,
    spans: Vec<Range<usize>>,
    /// Characters in all words together.
    chars: usize,
}

impl Words {
    fn read(text: &str) -> Self {
        let mut words =
            Self { folded: String::with_capacity(text.len()), spans: Vec::new(), chars: 0 };
        let mut start = 0;
        for c in text.chars() {
            let solo = !c.is_ascii() && is_solo(c);
            if c.is_alphanumeric() && (!solo || c.is_numeric()) {
                words.fold(c);
                continue;
            }
            words.end(&mut start);
            if solo && c.is_alphanumeric() {
                words.fold(c);
                words.end(&mut start);
            }
        }
        words.end(&mut start);
        words
    }

    fn fold(&mut self, c: char) {
        let before = self.folded.len();
        if c.is_ascii() {
            self.folded.push(if c.is_ascii_digit() { '0' } else { c.to_ascii_lowercase() });
        } else if c.is_numeric() {
            self.folded.push('0');
        } else {
            self.folded.extend(c.to_lowercase());
        }
        self.chars += self.folded.get(before..).map_or(0, |added| added.chars().count());
    }

    fn end(&mut self, start: &mut usize) {
        let end = self.folded.len();
        if end > *start {
            self.spans.push(*start..end);
            *start = end;
        }
    }

    fn len(&self) -> usize {
        self.spans.len()
    }

    fn word(&self, span: &Range<usize>) -> &[u8] {
        self.folded.as_bytes().get(span.clone()).unwrap_or_default()
    }

    /// Distinct words.
    fn distinct(&self) -> usize {
        let mut hashes: Vec<_> =
            self.spans.iter().map(|span| fnv1a(self.word(span), FNV)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.len()
    }

    /// FNV-1a of each word and of each pair `first second`, counted.
    fn hashes(&self) -> Vec<(u64, u32)> {
        let half = MAX_WORDS / 2;
        let kept: Vec<&Range<usize>> = if self.len() <= MAX_WORDS {
            self.spans.iter().collect()
        } else {
            self.spans.iter().take(half).chain(self.spans.iter().skip(self.len() - half)).collect()
        };
        let mut hashes = Vec::with_capacity(kept.len() * 2);
        let mut previous: Option<u64> = None;
        for span in kept {
            let word = self.word(span);
            let hash = fnv1a(word, FNV);
            hashes.push(hash);
            if let Some(previous) = previous {
                hashes.push(fnv1a(word, fnv1a(b" ", previous)));
            }
            previous = Some(hash);
        }
        hashes.sort_unstable();
        let mut counted: Vec<(u64, u32)> = Vec::with_capacity(hashes.len());
        for hash in hashes {
            match counted.last_mut() {
                Some((last, count)) if *last == hash => *count += 1,
                _ => counted.push((hash, 1)),
            }
        }
        counted
    }
}

fn is_solo(c: char) -> bool {
    let code = u32::from(c);
    SOLO_SCRIPTS.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// Offset basis of FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923).
const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits, continued from `hash`.
fn fnv1a(bytes: &[u8], hash: u64) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// What one pass over the characters counts.
#[derive(Default)]
struct Counts {
    chars: usize,
    ascii_symbols: usize,
    ascii_letters: usize,
    capitals: usize,
    digits: usize,
    numbers: usize,
    questions: usize,
    non_ascii: usize,
    latex: usize,
    math: usize,
    quotes: usize,
    sentences: usize,
}

impl Counts {
    fn read(text: &str) -> Self {
        let mut counts = Self::default();
        let mut in_number = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            counts.chars += 1;
            let digit = c.is_ascii_digit();
            counts.digits += usize::from(digit);
            counts.numbers += usize::from(digit && !in_number);
            in_number = digit;
            counts.non_ascii += usize::from(!c.is_ascii());
            counts.ascii_symbols += usize::from(c.is_ascii_punctuation());
            counts.ascii_letters += usize::from(c.is_ascii_alphabetic());
            counts.capitals += usize::from(c.is_ascii_uppercase());
            let symbol = !c.is_ascii() || c.is_ascii_punctuation();
            if !symbol {
                continue;
            }
            counts.math += usize::from(MATH_SYMBOLS.contains(c));
            let next = chars.peek().copied();
            match c {
                '?' | '？' => counts.questions += 1,
                '"' | '\'' => counts.quotes += 1,
                '$' => counts.latex += 1,
                '\\' if next.is_some_and(|next| next.is_ascii_alphabetic()) => counts.latex += 1,
                _ => {}
            }
            let ends = match c {
                '.' | '!' | '?' => next.is_none_or(char::is_whitespace),
                '。' | '！' | '？' => true,
                _ => false,
            };
            counts.sentences += usize::from(ends);
        }
        counts
    }
}

/// Lines that are not blank, and those that look like an item of a list or a choice.
fn lines_and_options(text: &str) -> (usize, usize) {
    let lines = text.split('\n').map(str::trim).filter(|line| !line.is_empty());
    lines.fold((0, 0), |(lines, options), line| (lines + 1, options + usize::from(is_option(line))))
}

/// `A.`, `1)`, `b:`, `(c)`, `- `, `* `
fn is_option(line: &str) -> bool {
    match line.as_bytes() {
        [b'(', label, b')', ..] => label.is_ascii_alphanumeric(),
        [label, mark, ..] if label.is_ascii_alphanumeric() => matches!(mark, b'.' | b')' | b':'),
        [b'-' | b'*', b' ', ..] => true,
        _ => false,
    }
}

/// `ln(1 + min(count, cap)) / ln(1 + cap)`, in 0..=1.
fn log_share(count: usize, cap: usize) -> f64 {
    (1.0 + count.min(cap) as f64).ln() / (1.0 + cap as f64).ln()
}

/// `min(value / cap, 1)`.
fn share(value: f64, cap: f64) -> f64 {
    (value / cap).min(1.0)
}

fn facts(text: &str, words: &Words) -> [f32; FACTS] {
    let counts = Counts::read(text);
    let (lines, options) = lines_and_options(text);
    let chars = counts.chars.max(1) as f64;
    let some_words = words.len().max(1) as f64;
    let length = log_share(words.len(), 512);
    let code = CODE_MARKS.iter().filter(|mark| text.contains(**mark)).count();
    // A text without small letters says by its case how it was typed, not what it asks.
    let capitals = match counts.ascii_letters > counts.capitals {
        true => counts.capitals as f64 / counts.ascii_letters as f64,
        false => 0.0,
    };
    [
        length,
        (length - 0.5).max(0.0) * 2.0,
        share(words.chars as f64 / some_words, 12.0),
        share(counts.digits as f64 / chars, 0.2),
        log_share(counts.numbers, 32),
        log_share(lines, 64),
        share(counts.ascii_symbols as f64 / chars, 0.25),
        share(counts.questions as f64, 4.0),
        counts.non_ascii as f64 / chars,
        share(options as f64, 10.0),
        log_share(counts.latex, 32),
        log_share(counts.math, 32),
        share(code as f64, 6.0),
        f64::from(u8::from(text.contains("```"))),
        capitals,
        log_share(counts.quotes, 32),
        words.distinct() as f64 / some_words,
        share(words.len() as f64 / counts.sentences.max(1) as f64, 40.0),
    ]
    .map(|fact| fact as f32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(text: &str) -> Vec<String> {
        let words = Words::read(text);
        words.spans.iter().map(|span| words.folded[span.clone()].to_owned()).collect()
    }

    #[test]
    fn words_are_folded_without_knowing_the_language() {
        assert_eq!(folded("Größe: 12.5 kg, O'Neil"), ["größe", "00", "0", "kg", "o", "neil"]);
        assert_eq!(folded("日本語abc は"), ["日", "本", "語", "abc", "は"]);
        assert_eq!(folded(" \n!?"), Vec::<String>::new());
    }

    #[test]
    fn pairs_are_hashed_as_their_words_with_a_space() {
        let hashes: Vec<u64> =
            TextFeatures::read("a b").word_hashes.into_iter().map(|(hash, _)| hash).collect();
        for text in ["a", "b", "a b"] {
            assert!(hashes.contains(&fnv1a(text.as_bytes(), FNV)), "{text}");
        }
    }

    #[test]
    fn facts_worked_by_hand() {
        let facts = TextFeatures::read("What is 2+2?\nA. 4\nB. 5").facts;
        let fact = |name| facts[FACT_NAMES.iter().position(|known| *known == name).unwrap()];
        // words: what is 0 0 a 0 b 0 → 8; 23 characters; 4 digits; 4 numbers
        assert!((f64::from(fact("length")) - 9f64.ln() / 513f64.ln()).abs() < 1e-6);
        assert!((f64::from(fact("digits")) - 4.0 / 22.0 / 0.2).abs() < 1e-6);
        assert_eq!(fact("options"), 0.2);
        assert_eq!(fact("questions"), 0.25);
        assert_eq!(fact("distinct_words"), 5.0 / 8.0);
    }

    /// Vectors made by a second implementation of the same definitions, in Python.
    #[test]
    fn features_agree_with_an_independent_implementation() {
        #[derive(serde::Deserialize)]
        struct Vector {
            prompt: String,
            facts: Vec<f64>,
            /// `(bucket, count)` of 2^16 buckets, ascending.
            buckets: Vec<(usize, u32)>,
        }
        let lines =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/feature_vectors.jsonl"));
        for line in lines.lines() {
            let Vector { prompt, facts, buckets } = serde_json::from_str(line).unwrap();
            let found = TextFeatures::read(&prompt);
            for ((name, expected), found) in FACT_NAMES.iter().zip(&facts).zip(found.facts) {
                assert!((f64::from(found) - expected).abs() < 1e-5, "{name} of {prompt}: {found}");
            }
            let found = crate::classify::head::buckets(&found.word_hashes, 1 << 16);
            assert_eq!(found, buckets, "{prompt}");
        }
    }

    #[test]
    fn a_text_in_capitals_has_the_facts_of_the_same_in_small_letters() {
        for text in ["what is 2+2?", "a. yes\nb. no", "ça va, père 3?"] {
            assert_eq!(
                TextFeatures::read(&text.to_uppercase()),
                TextFeatures::read(text),
                "{text}"
            );
        }
        assert!(TextFeatures::read("WHAT is it").facts != TextFeatures::read("what is it").facts);
    }

    proptest! {
        /// Whatever the text, every fact lies in 0..=1.
        #[test]
        fn facts_are_bounded(text in "\\PC{0,200}|[\\s\\S]{0,200}") {
            for fact in TextFeatures::read(&text).facts {
                prop_assert!((0.0..=1.0).contains(&fact));
            }
        }
    }
}
