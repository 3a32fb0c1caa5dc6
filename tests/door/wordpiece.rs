//! The ids are those of the `tokenizers` crate: on real prompts, on generated texts in many
//! scripts, on every character there is, and on arbitrary strings.
//!
//! Two vocabularies are used: BERT's own (that of the shipped model), and an alphabet, in which
//! every character is a token, so that a difference in folding cannot hide behind `[UNK]`.

use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use weighbridge::classify::wordpiece::WordPiece;

const BERT: &[u8] = include_bytes!("../../models/weighbridge-minilm/tokenizer.json");

/// One `tokenizer.json`, read by both.
struct Pair {
    ours: WordPiece,
    reference: Tokenizer,
}

impl Pair {
    fn new(json: &[u8]) -> Pair {
        let mut reference = Tokenizer::from_bytes(json).expect("the reference reads the file");
        reference.with_padding(None);
        reference.with_truncation(None).expect("no truncation");
        let ours = WordPiece::from_tokenizer_json(json).expect("we read the file");
        Pair { ours, reference }
    }

    fn expected(&self, text: &str) -> Vec<u32> {
        let encoding = self.reference.encode_fast(text, false);
        encoding.expect("the reference encodes").get_ids().to_vec()
    }

    fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.ours.encode(text, &mut ids);
        ids
    }

    fn check(&self, text: &str) {
        let (ids, expected) = (self.ids(text), self.expected(text));
        assert!(ids == expected, "{text:?}\n  {ids:?}\nnot {expected:?}");
    }
}

static BERT_PAIR: LazyLock<Pair> = LazyLock::new(|| Pair::new(BERT));

/// All settings of the normalizer, BERT's own first.
fn all_settings() -> Vec<Value> {
    let mut all = Vec::new();
    for clean_text in [true, false] {
        for handle_chinese_chars in [true, false] {
            for lowercase in [true, false] {
                for strip_accents in [None, Some(true), Some(false)] {
                    all.push(json!({
                        "type": "BertNormalizer", "clean_text": clean_text,
                        "handle_chinese_chars": handle_chinese_chars,
                        "strip_accents": strip_accents, "lowercase": lowercase,
                    }));
                }
            }
        }
    }
    all
}

/// A tokeniser in which each of `letters` is a token, first and continuing.
fn alphabet(letters: impl Iterator<Item = char>, normalizer: &Value) -> Pair {
    let names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned);
    let mut vocab = serde_json::Map::new();
    let pieces = letters.flat_map(|c| [c.to_string(), format!("##{c}")]);
    for token in names.into_iter().chain(pieces) {
        let id = vocab.len();
        vocab.insert(token, json!(id));
    }
    let added = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        })
    };
    let file = json!({
        "version": "1.0",
        "added_tokens": [added(2, "[CLS]"), added(3, "[SEP]"), added(3, "[SEP]]"), added(9, "é!")],
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    });
    Pair::new(file.to_string().as_bytes())
}

/// Marks that are kept, so that their order shows: classes 224, 224, 216, 226 and 9.
const KEPT_MARKS: [char; 5] = ['\u{302e}', '\u{302f}', '\u{1d165}', '\u{1d16d}', '\u{1b44}'];

/// Ranges of code points, some of them with a theme.
const SCRIPTS: &[(u32, u32)] = &[
    (0x20, 0x7e),       // ASCII
    (0x61, 0x7a),       // a to z
    (0x00, 0x1f),       // control characters
    (0x7f, 0xa0),       // more of them
    (0xa0, 0x24f),      // Latin with accents
    (0x250, 0x36f),     // phonetic, modifiers, combining marks
    (0x370, 0x3ff),     // Greek
    (0x400, 0x52f),     // Cyrillic
    (0x530, 0x58f),     // Armenian
    (0x590, 0x5ff),     // Hebrew
    (0x600, 0x6ff),     // Arabic
    (0x900, 0x97f),     // Devanagari
    (0x980, 0xdff),     // Bengali to Sinhala
    (0xe00, 0xe7f),     // Thai
    (0xe80, 0xfff),     // Lao, Tibetan
    (0x1000, 0x10ff),   // Myanmar, Georgian
    (0x1100, 0x11ff),   // Hangul Jamo
    (0x1b00, 0x1b7f),   // Balinese, with a spacing mark of class 9
    (0x1e00, 0x1fff),   // Latin and Greek with more accents
    (0x2000, 0x206f),   // spaces, zero-width characters, directions
    (0x2070, 0x2bff),   // symbols
    (0x2e00, 0x303f),   // punctuation, CJK punctuation
    (0x3040, 0x30ff),   // kana
    (0x3300, 0x4dbf),   // CJK extension A
    (0x4e00, 0x9fff),   // CJK
    (0xac00, 0xd7a3),   // Hangul
    (0xe000, 0xf8ff),   // private use
    (0xf900, 0xfaff),   // CJK compatibility
    (0xfb00, 0xfdff),   // ligatures, Arabic presentation forms
    (0xfe00, 0xffff),   // variation selectors, full width, U+FFFD
    (0x10000, 0x107ff), // old scripts
    (0x11000, 0x114ff), // Brahmi and its kin
    (0x1d100, 0x1d1ff), // musical symbols, with marks that are kept
    (0x1d400, 0x1d7ff), // mathematical letters
    (0x1e900, 0x1e95f), // Adlam, newer than the tables
    (0x1f300, 0x1faff), // emoji
    (0x20000, 0x2a6df), // CJK extension B
    (0x2a700, 0x2ebef), // CJK extensions C to F
    (0x2f800, 0x2fa1f), // CJK compatibility supplement
    (0xe0000, 0xe01ef), // tags, variation selectors
    (0x0, 0x10ffff),    // anything
];

const SNIPPETS: &[&str] = &[
    " ",
    " ",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\u{85}",
    "\u{3000}",
    "[SEP]",
    "[CLS]",
    "[sep]",
    "[SEP",
    "SEP]",
    "[[SEP]]",
    "[UNK]",
    "[MASK]",
    "[PAD][PAD]",
    "é!",
    "e\u{301}!",
    "##ing",
    "\u{fffd}",
    "\0",
    "\u{200d}",
    "👩‍👩‍👧",
    "👍🏽",
    "🇫🇷",
    "\u{202e}",
    "İ",
    "ß",
    "Σίσυφος",
    "ΑΣ",
    "ﬀ",
    "Å",
    "\u{212b}",
    "a\u{323}\u{307}",
    "\u{302e}\u{1d16d}\u{302f}\u{1d165}",
    "\u{1d15f}",
    "\u{1d160}\u{302e}",
    "한국어",
    "각",
    "\u{1100}\u{1161}",
    "don't",
    "U.S.",
    "3.14",
    "https://a.b/c?d=e",
    "def f(x):\n    return x**2",
    "\\frac{1}{2}",
    "日本語テキスト",
    "naïve café",
    "Привет, мир!",
    "مرحبا بالعالم",
    "שָׁלוֹם",
    "नमस्ते",
    "สวัสดี",
    "\u{1fef}",
    "\u{37e}",
    "\u{2260}",
    "≯",
    "internationalization",
    "Donaudampfschifffahrtsgesellschaft",
    "supercalifragilisticexpialidocious",
];

/// SplitMix64 (Steele, Lea and Flood 2014): seeded draws without a further dependency.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn char_of(&mut self, (first, last): (u32, u32)) -> char {
        let c = first + self.below((last - first + 1) as usize) as u32;
        char::from_u32(c).unwrap_or('\u{d7ff}')
    }

    /// A text of up to 30 parts: snippets, words of one script, words of several, long words.
    fn text(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..=self.below(30) {
            let script = SCRIPTS[self.below(SCRIPTS.len())];
            match self.below(8) {
                0..=2 => text.push_str(SNIPPETS[self.below(SNIPPETS.len())]),
                3 | 4 => (0..=self.below(8)).for_each(|_| text.push(self.char_of(script))),
                5 => (0..=self.below(6)).for_each(|_| {
                    let script = SCRIPTS[self.below(SCRIPTS.len())];
                    text.push(self.char_of(script));
                }),
                6 => (0..=self.below(6)).for_each(|_| {
                    text.push(KEPT_MARKS[self.below(KEPT_MARKS.len())]);
                    text.push(self.char_of((0x300, 0x36f)));
                }),
                _ => {
                    let c = self.char_of(script);
                    let length = [1, 2, 99, 100, 101, 127, 128, 129, 513][self.below(9)];
                    (0..length).for_each(|_| text.push(c));
                }
            }
            if self.below(2) == 0 {
                text.push(' ');
            }
        }
        text
    }
}

#[test]
fn agrees_on_the_prompts_of_the_training_data() {
    let data = std::env::var("WEIGHBRIDGE_DATA").unwrap_or_else(|_| "../shared/data".to_owned());
    let Ok(folder) = std::fs::read_dir(Path::new(&data).join("train")) else {
        return println!("skipped: there is no folder {data}/train");
    };
    let mut checked = 0;
    for entry in folder {
        let path = entry.expect("a folder entry").path();
        if path.extension().is_none_or(|extension| extension != "gz") {
            continue;
        }
        let file = std::fs::File::open(&path).expect("the file opens");
        let mut lines = String::new();
        let mut unpacked = flate2::read::GzDecoder::new(file);
        unpacked.read_to_string(&mut lines).expect("gzip of UTF-8");
        for line in lines.lines() {
            let row: Value = serde_json::from_str(line).expect("a row is JSON");
            if let Some(prompt) = row["prompt"].as_str() {
                BERT_PAIR.check(prompt);
                checked += 1;
            }
        }
    }
    println!("{checked} prompts agree");
}

#[test]
fn agrees_on_generated_texts_of_many_scripts() {
    let mut draw = Draw(1);
    for _ in 0..20_000 {
        BERT_PAIR.check(&draw.text());
    }
}

#[test]
fn agrees_on_generated_texts_for_every_setting_of_the_normalizer() {
    let letters = || (0..0x3000).chain(0x1b000..0x1b100).chain(0x1d100..0x1d200);
    for (seed, settings) in all_settings().iter().enumerate() {
        let pair = alphabet(letters().filter_map(char::from_u32), settings);
        let mut draw = Draw(seed as u64);
        for _ in 0..1_000 {
            pair.check(&draw.text());
        }
    }
}

/// Checks every character of `all` alone, between letters, and before and after marks.
fn check_each(settings: &Value, all: impl Iterator<Item = char>) {
    let all: Vec<char> = all.collect();
    let pair = alphabet(all.iter().copied(), settings);
    for chunk in all.chunks(64) {
        let mut text = String::new();
        for &c in chunk {
            let [a, b, d, e, f] = KEPT_MARKS;
            text.extend(['x', c, 'y', b, d, c, e, f, c, a, ' ']);
        }
        pair.check(&text);
    }
}

#[test]
fn agrees_on_every_character_of_the_planes_in_use() {
    let planes = (0..0x40000).chain(0xe0000..0xe0200).chain(0xfff00..0x100100);
    let settings = all_settings();
    let cased = settings.iter().find(|s| s["lowercase"] == false && s["strip_accents"].is_null());
    for settings in settings.first().into_iter().chain(cased) {
        check_each(settings, planes.clone().filter_map(char::from_u32));
    }
}

#[test]
#[ignore = "takes a quarter of an hour: 24 tokenisers of two million tokens each"]
fn agrees_on_every_character_for_every_setting_of_the_normalizer() {
    for settings in &all_settings() {
        check_each(settings, '\0'..=char::MAX);
    }
}

#[test]
fn agrees_on_very_long_inputs() {
    for unit in
        ["a", "é", "\u{302e}\u{1d165}", "\u{301}", "各", "!", "\0", " ", "[SEP", "각", "ä b", "İ"]
    {
        let mut text = "Before ".to_owned();
        text.push_str(&unit.repeat(100_000 / unit.len()));
        text.push_str(" after");
        BERT_PAIR.check(&text);
    }
}

#[test]
fn a_bounded_encoding_is_the_start_of_the_whole() {
    let mut draw = Draw(2);
    for _ in 0..2_000 {
        let text = draw.text();
        let whole = BERT_PAIR.ids(&text);
        for max_tokens in [0, 1, 2, 3, 7, 64, 100_000] {
            let mut ids = vec![7];
            BERT_PAIR.ours.encode_bounded(&text, max_tokens, &mut ids);
            let expected = whole.get(..max_tokens).unwrap_or(&whole);
            assert_eq!(ids, [&[7], expected].concat(), "{text:?}, {max_tokens}");
        }
    }
}

#[test]
fn an_encoding_of_the_tail_is_the_end_of_the_whole() {
    let mut draw = Draw(3);
    for _ in 0..500 {
        let text: String = (0..30).map(|_| draw.text()).collect();
        let whole = BERT_PAIR.ids(&text);
        for max_tokens in [0, 1, 2, 3, 7, 64, 100_000] {
            let mut ids = vec![7];
            BERT_PAIR.ours.encode_tail(&text, max_tokens, &mut ids);
            let expected = &whole[whole.len().saturating_sub(max_tokens)..];
            let few = 16 * (8 * max_tokens + 256) < text.len() && ids.len() <= max_tokens;
            assert!(ids[0] == 7 && expected.ends_with(&ids[1..]), "{text:?}, {max_tokens}");
            assert!(few || ids.len() == 1 + expected.len(), "{text:?}, {max_tokens}");
        }
    }
}

#[test]
fn prompts_of_english_fill_the_tail() {
    let text = "The quick brown fox doesn't jump; it thinks [SEP] of $3.14 instead. ".repeat(3_000);
    let whole = BERT_PAIR.ids(&text);
    for max_tokens in [1, 64, 512, 10_000] {
        let mut ids = Vec::new();
        BERT_PAIR.ours.encode_tail(&text, max_tokens, &mut ids);
        assert_eq!(ids, whole[whole.len() - max_tokens..]);
    }
}

#[test]
fn a_tail_never_starts_inside_an_added_token() {
    let unit = format!("{}[SEP]", "x".repeat(300));
    for padding in 0..306 {
        let text = unit.repeat(110) + &"x".repeat(padding);
        let whole = BERT_PAIR.ids(&text);
        let mut ids = Vec::new();
        BERT_PAIR.ours.encode_tail(&text, 200, &mut ids);
        assert!(whole.ends_with(&ids), "{padding}: {ids:?}");
    }
}

#[test]
fn a_tail_without_a_boundary_yields_nothing() {
    let mut ids = Vec::new();
    let text = format!("words before {}", "x".repeat(1_000_000));
    BERT_PAIR.ours.encode_tail(&text, 16, &mut ids);
    assert!(ids.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn agrees_on_any_string(text in any::<String>()) {
        BERT_PAIR.check(&text);
    }

    #[test]
    fn agrees_on_strings_near_special_tokens(text in "([\\[\\]SEPCLSUNKMASK ]|\\[SEP\\]|[a-zé\u{301}]){0,30}") {
        BERT_PAIR.check(&text);
    }
}
