//! The word being gathered, and the table by which most of its letters are found.

use unicode_normalization_alignments::char::canonical_combining_class;

use super::chars::{CharTable, Folded};

/// The largest `max_input_chars_per_word` that is supported; chosen, every known BERT has 100.
pub(super) const MAX_WORD_CHARS: usize = 128;
/// So that any word within the limit fits.
const WORD_BYTES: usize = 4 * MAX_WORD_CHARS;

/// What to do at a byte of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An ASCII character that leaves no trace.
    Nothing,
    /// An ASCII character that ends the word.
    Space,
    /// An ASCII character that ends the word and is one itself, unchanged.
    Isolated,
    /// An ASCII character that continues the word, perhaps lower-cased.
    Letter,
    /// The first byte of a character to be looked up in the [`CharTable`].
    LookUp,
    /// The same, but an added token may start here.
    MaybeAdded,
}

/// A [`Step`] for each byte: for a letter the folded byte itself, for the others its number,
/// which no letter has.
pub(super) struct Steps([u8; 256]);

/// The control characters, when they are not cleaned away, are left to the [`CharTable`].
const FIRST_LETTER: u8 = b' ';

impl Steps {
    pub(super) fn new(chars: &CharTable, added_tokens: &[(String, u32)]) -> Steps {
        let mut steps = std::array::from_fn(|byte| {
            let byte = byte as u8;
            if !byte.is_ascii() {
                return Step::LookUp as u8;
            }
            match chars.get(char::from(byte)) {
                Folded::Nothing => Step::Nothing as u8,
                Folded::Space => Step::Space as u8,
                Folded::Isolated([same]) if *same == byte => Step::Isolated as u8,
                Folded::Letters([letter]) if *letter >= FIRST_LETTER => *letter,
                _ => Step::LookUp as u8,
            }
        });
        for (content, _) in added_tokens {
            if let Some(&first) = content.as_bytes().first() {
                steps[usize::from(first)] = Step::MaybeAdded as u8;
            }
        }
        Steps(steps)
    }

    pub(super) fn at(&self, byte: u8) -> Step {
        const STEPS: [Step; 6] = [
            Step::Nothing,
            Step::Space,
            Step::Isolated,
            Step::Letter,
            Step::LookUp,
            Step::MaybeAdded,
        ];
        let step = self.0[usize::from(byte)];
        STEPS.get(usize::from(step)).copied().unwrap_or(Step::Letter)
    }
}

/// The word being gathered, folded, in UTF-8.
pub(super) struct Word {
    bytes: [u8; WORD_BYTES],
    pub length: usize,
    /// How many bytes at the end are marks that a next mark may have to go before.
    marks: usize,
    /// Whether a piece did not fit, so that the word has more than `MAX_WORD_CHARS` characters.
    pub is_overlong: bool,
}

impl Word {
    pub(super) fn new() -> Word {
        Word { bytes: [0; WORD_BYTES], length: 0, marks: 0, is_overlong: false }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.marks = 0;
        self.is_overlong = false;
    }

    /// Appends the folded letters that `text` starts with and returns how many there are.
    #[inline]
    pub(super) fn push_run(&mut self, text: &[u8], steps: &Steps) -> usize {
        let mut run = 0;
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        for (slot, &byte) in room.iter_mut().zip(text) {
            let step = steps.0[usize::from(byte)];
            if step < FIRST_LETTER {
                break;
            }
            *slot = step;
            run += 1;
        }
        self.length += run;
        if run > 0 {
            self.marks = 0;
        }
        if self.length == WORD_BYTES {
            let more = text.iter().skip(run);
            let more = more.take_while(|byte| steps.0[usize::from(**byte)] >= FIRST_LETTER);
            let more = more.count();
            self.is_overlong |= more > 0;
            run += more;
        }
        run
    }

    /// Appends letters.
    pub(super) fn push(&mut self, letters: &[u8]) {
        let end = self.length + letters.len();
        match self.bytes.get_mut(self.length..end) {
            Some(slots) => {
                slots.copy_from_slice(letters);
                self.length = end;
            }
            None => self.is_overlong = true,
        }
        self.marks = 0;
    }

    /// Inserts a mark: behind those of its run that have its combining class or a lower one.
    ///
    /// The Canonical Ordering Algorithm (Unicode Standard, section 3.11, D109), one mark at a time.
    pub(super) fn push_mark(&mut self, mark: char) {
        let class = canonical_combining_class(mark);
        let run_length = self.marks;
        let run = self.length.checked_sub(run_length);
        let run = run.and_then(|start| self.bytes.get(start..self.length));
        let run = str::from_utf8(run.unwrap_or_default()).unwrap_or_default();
        let after = run.chars().rev();
        let after = after.take_while(|other| canonical_combining_class(*other) > class);
        let after: usize = after.map(char::len_utf8).sum();
        self.push(mark.encode_utf8(&mut [0; 4]).as_bytes());
        if self.is_overlong {
            return; // There is no order to keep in a word that will be `[UNK]`.
        }
        self.marks = run_length + mark.len_utf8();
        let moved = self.length.saturating_sub(after + mark.len_utf8());
        if let Some(moved) = self.bytes.get_mut(moved..self.length) {
            moved.rotate_right(mark.len_utf8());
        }
    }

    /// Later marks stay behind those so far.
    pub(super) fn end_marks(&mut self) {
        self.marks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_sorted_by_class_and_stay_in_order_within_one() {
        // U+1D165 has class 216, U+302E and U+302F have 224.
        let mut word = Word::new();
        word.push(b"a");
        "\u{302f}\u{302e}\u{1d165}\u{302f}".chars().for_each(|c| word.push_mark(c));
        word.end_marks();
        word.push_mark('\u{1d165}');
        let sorted = "a\u{1d165}\u{302f}\u{302e}\u{302f}\u{1d165}";
        assert_eq!(word.as_bytes(), sorted.as_bytes());
    }
}
