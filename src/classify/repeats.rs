//! Takes out what a text says again, so that saying it twenty times weighs no more than saying it
//! once or twice: padding and stuffing would otherwise move the score.
//!
//! A word goes when the six words that it ends have stood together before. Of a repeated phrase one
//! copy stays whole and a few words of the second. Scripts without spaces are read character by
//! character, in runs of twelve.

use std::{
    borrow::Cow,
    collections::HashSet,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
};

/// Words that must have stood together before.
const RUN: usize = 6;
/// The same for characters of scripts without spaces.
const SOLO_RUN: usize = 12;

/// The text without its repetitions; borrows when there are none.
pub fn without_repeats(text: &str) -> Cow<'_, str> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut seen: HashSet<u64> = HashSet::new();
    // Hashes of the last units, the newest at the end.
    let mut last = [0u64; SOLO_RUN];
    let mut count = 0;
    let mut kept = String::new();
    // Where the part begins that is not copied into `kept` yet.
    let mut from = 0;
    for (start, unit) in units(text) {
        let solo = is_solo(unit);
        last.rotate_left(1);
        last[SOLO_RUN - 1] = match unit.is_ascii() {
            true => hasher.hash_one(unit.to_ascii_lowercase()),
            false => hasher.hash_one(unit.to_lowercase()),
        };
        count += 1;
        let run = if solo { SOLO_RUN } else { RUN };
        let repeats = count >= run && !seen.insert(hasher.hash_one(&last[SOLO_RUN - run..]));
        if repeats {
            kept.push_str(text.get(from..start).unwrap_or_default());
            let rest = text.get(start + unit.len()..).unwrap_or_default();
            from = text.len() - rest.trim_start().len();
        }
    }
    if from == 0 {
        return Cow::Borrowed(text);
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    Cow::Owned(kept.trim_end().to_owned())
}

/// Words between white space, and single characters of scripts without spaces, with their places.
fn units(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let words =
        text.split_whitespace().map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word));
    words.flat_map(|(start, word)| {
        let solo = word.chars().next().is_some_and(is_solo_char);
        let single =
            word.char_indices().map(move |(at, c)| (start + at, &word[at..at + c.len_utf8()]));
        let (single, whole) = if solo { (Some(single), None) } else { (None, Some((start, word))) };
        single.into_iter().flatten().chain(whole)
    })
}

fn is_solo(unit: &str) -> bool {
    unit.chars().next().is_some_and(is_solo_char)
}

/// Thai to Lao, Burmese, Khmer, Kana, and everything Chinese.
fn is_solo_char(c: char) -> bool {
    matches!(u32::from(c), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_without_repetition_is_lent_back() {
        for text in
            ["", "hi", "to be or not to be", "a b c d e f\n  g", "为什么冬天的白天比夏天短？"]
        {
            assert!(matches!(without_repeats(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_is_said_again_goes() {
        let easy = "This is a very easy question. ";
        let text = format!("{}What is the capital of Peru?", easy.repeat(20));
        // Of the second copy only the last word ends six words that have stood together before.
        let expected =
            "This is a very easy question. This is a very easy What is the capital of Peru?";
        assert_eq!(without_repeats(&text), expected);
        let stuffed = format!("Say hi. {}", "prove theorem ".repeat(50));
        assert!(without_repeats(&stuffed).split_whitespace().count() <= 12);
        let chinese = "请用两句话回答这个问题好吗".repeat(9);
        assert!(without_repeats(&chinese).chars().count() < 2 * 13);
    }

    proptest! {
        /// Whatever goes, what stays stands in the text in the same order, and a second pass
        /// finds nothing that a first one left in a run of whole repetitions.
        #[test]
        fn what_stays_is_the_text_in_order(words in proptest::collection::vec("[a-c]", 0..60)) {
            let text = words.join(" ");
            let kept = without_repeats(&text).into_owned();
            let mut rest = words.iter();
            for word in kept.split_whitespace() {
                prop_assert!(rest.any(|known| known == word));
            }
        }
    }
}
