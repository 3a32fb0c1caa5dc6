//! What BERT's normalizer and pre-tokenizer make of one character.
//!
//! Both work character by character, with one exception (the order of combining marks), so a
//! whole text can be normalised by looking each character up. [`Normalizer::atoms`] is the
//! definition, written in the order of the reference implementation (`BertNormalizer` and
//! `BertPreTokenizer` of the `tokenizers` crate 0.23); [`CharTable`] remembers its answers. How
//! atoms become words is left to the parent module.
//!
//! The Unicode tables are old on purpose: the categories are those of `unicode_categories`
//! (Unicode 9) and the decompositions those of `unicode-normalization-alignments` (Unicode 9),
//! which are the tables of the reference: newer ones would give other ids.

use std::sync::OnceLock;

use serde::Deserialize;
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

/// The settings of a `BertNormalizer`, named as in `tokenizer.json`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Normalizer {
    /// Drop control and private-use characters; every white space becomes a plain space.
    clean_text: bool,
    /// Make each CJK ideograph a word of its own.
    handle_chinese_chars: bool,
    /// Decompose and drop non-spacing marks. `None` means "as `lowercase`".
    strip_accents: Option<bool>,
    /// Lower-case each character by itself (so no final sigma).
    lowercase: bool,
}

/// One step in the making of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    /// Ends the current word.
    Space,
    /// Ends the current word and is a word of its own.
    Isolated(char),
    /// Continues the current word.
    Letter(char),
    /// Continues the current word, after sorting by combining class among the marks beside it.
    Mark(char),
    /// Adds nothing, but marks are not sorted across it.
    Barrier,
}

impl Normalizer {
    /// Calls `emit` with the atoms of `c`, in order; not at all if `c` leaves no trace.
    pub(super) fn atoms(self, c: char, mut emit: impl FnMut(Atom)) {
        if self.clean_text {
            // A tab, line feed or carriage return is the only control character that separates.
            let is_blank = matches!(c, '\t' | '\n' | '\r');
            if !is_blank && (matches!(c, '\0' | '\u{fffd}') || c.is_other()) {
                return;
            }
            if is_blank || c.is_whitespace() {
                return emit(Atom::Space);
            }
        }
        let is_alone = self.handle_chinese_chars && is_cjk_ideograph(c);
        if is_alone {
            emit(Atom::Space);
        }
        if self.strip_accents.unwrap_or(self.lowercase) {
            decompose_canonical(c, |part| {
                let is_starter = canonical_combining_class(part) == 0;
                if !part.is_mark_nonspacing() {
                    self.lowercased(part, is_starter, &mut emit);
                } else if is_starter {
                    emit(Atom::Barrier);
                }
            });
        } else {
            self.lowercased(c, true, &mut emit);
        }
        if is_alone {
            emit(Atom::Space);
        }
    }

    fn lowercased(self, c: char, is_starter: bool, emit: &mut impl FnMut(Atom)) {
        let mut classify = |c: char| {
            emit(if c.is_whitespace() {
                Atom::Space
            } else if c.is_ascii_punctuation() || c.is_punctuation() {
                Atom::Isolated(c)
            } else if is_starter {
                Atom::Letter(c)
            } else {
                Atom::Mark(c)
            });
        };
        if self.lowercase {
            c.to_lowercase().for_each(classify);
        } else {
            classify(c);
        }
    }
}

/// The blocks that `BertNormalizer` takes for Chinese, gaps (U+2B820..U+2B91F) included.
fn is_cjk_ideograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0x3400..=0x4DBF
            | 0x4E00..=0x9FFF
            | 0xF900..=0xFAFF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0x2F800..=0x2FA1F
    )
}

/// What a character comes to, when that is one simple thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folded<'a> {
    /// Leaves no trace.
    Nothing,
    /// [`Atom::Barrier`].
    Barrier,
    /// [`Atom::Space`].
    Space,
    /// A word of its own, in UTF-8.
    Isolated(&'a [u8]),
    /// Continues the current word by these characters in UTF-8, none of them a mark.
    Letters(&'a [u8]),
    /// None of the above (a few hundred rare characters): ask [`Normalizer::atoms`].
    Several,
}

/// The answers of a [`Normalizer`] for all characters, in pages of 256 made when first needed:
/// a text uses a handful of the 4,352 pages, and making one takes tens of microseconds.
pub(super) struct CharTable {
    normalizer: Normalizer,
    pages: Vec<OnceLock<Box<Page>>>,
}

/// Code points that share all but their lowest eight bits.
struct Page {
    entries: [Entry; 256],
    /// The UTF-8 that the entries point into.
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Entry {
    kind: Kind,
    length: u8,
    start: u16,
}

#[derive(Clone, Copy)]
enum Kind {
    Nothing,
    Barrier,
    Space,
    Isolated,
    Letters,
    Several,
}

impl CharTable {
    pub(super) fn new(normalizer: Normalizer) -> CharTable {
        let page_count = (char::MAX as usize >> 8) + 1;
        CharTable { normalizer, pages: (0..page_count).map(|_| OnceLock::new()).collect() }
    }

    pub(super) fn normalizer(&self) -> Normalizer {
        self.normalizer
    }

    pub(super) fn get(&self, c: char) -> Folded<'_> {
        let [low, ..] = u32::from(c).to_le_bytes();
        let Some(page) = self.pages.get(c as usize >> 8) else {
            return Folded::Several;
        };
        let page = page.get_or_init(|| Box::new(Page::new(self.normalizer, u32::from(c) & !0xff)));
        let entry = page.entries[usize::from(low)];
        let start = usize::from(entry.start);
        let bytes = || page.bytes.get(start..start + usize::from(entry.length));
        match entry.kind {
            Kind::Nothing => Folded::Nothing,
            Kind::Barrier => Folded::Barrier,
            Kind::Space => Folded::Space,
            Kind::Isolated => Folded::Isolated(bytes().unwrap_or_default()),
            Kind::Letters => Folded::Letters(bytes().unwrap_or_default()),
            Kind::Several => Folded::Several,
        }
    }
}

impl Page {
    fn new(normalizer: Normalizer, first: u32) -> Page {
        let mut bytes = Vec::new();
        let mut atoms = Vec::new();
        let entries = std::array::from_fn(|low| {
            atoms.clear();
            // A surrogate is no char, so its entry is never asked for.
            if let Some(c) = char::from_u32(first + low as u32) {
                normalizer.atoms(c, |atom| atoms.push(atom));
            }
            let start = bytes.len();
            let kind = summarise(&atoms, &mut bytes);
            Entry {
                kind,
                // At most 256 entries of at most 16 bytes, so neither number overflows.
                length: (bytes.len() - start) as u8,
                start: start as u16,
            }
        });
        Page { entries, bytes }
    }
}

/// The kind of a list of atoms; appends the UTF-8 that goes with it.
fn summarise(atoms: &[Atom], bytes: &mut Vec<u8>) -> Kind {
    let mut append = |c: char| bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    match *atoms {
        [] => Kind::Nothing,
        [Atom::Barrier] => Kind::Barrier,
        [Atom::Space] => Kind::Space,
        [Atom::Isolated(c)] | [Atom::Space, Atom::Letter(c), Atom::Space] => {
            append(c);
            Kind::Isolated
        }
        [Atom::Letter(_), ..] if atoms.len() <= 4 && atoms.iter().all(is_letter) => {
            for atom in atoms {
                if let Atom::Letter(c) = *atom {
                    append(c);
                }
            }
            Kind::Letters
        }
        _ => Kind::Several,
    }
}

fn is_letter(atom: &Atom) -> bool {
    matches!(atom, Atom::Letter(_))
}
