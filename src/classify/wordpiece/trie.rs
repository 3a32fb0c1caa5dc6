//! The vocabulary as a trie: the longest token at the start of a word, in one walk.
//!
//! A double array (Aoe, "An efficient digital search algorithm by using a double-array
//! structure", 1989) with the exclusive-or addressing of darts-clone: the child of node `s` by
//! byte `b` lies at `base[s] ^ b`, and belongs to `s` exactly if it names `s` as its parent. So a
//! step is one load and one comparison, and all children of a node lie in one block of 256.

/// Stands for "no token ends here" and "this slot is empty"; neither an id nor a node.
const NONE: u32 = u32::MAX;

/// How many blocks are searched for room before a new one is added: chosen, so that building
/// stays linear. With 30,000 tokens about a tenth of the slots stay empty.
const OPEN_BLOCKS: usize = 8;

/// A node of a [`Trie`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u32);

/// A map from byte strings to ids, below `u32::MAX`.
pub(super) struct Trie {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Node {
    base: u32,
    parent: u32,
    id: u32,
}

impl Trie {
    /// Before any byte.
    pub(super) const ROOT: State = State(0);

    /// Of two equal strings, one id is kept.
    pub(super) fn new(mut tokens: Vec<(&[u8], u32)>) -> Trie {
        tokens.sort_unstable();
        let mut slots = Slots::default();
        slots.add_block();
        slots.take(0, NONE);
        // A node still to be expanded: its slot, its depth, and the tokens that go through it.
        let mut pending = vec![(0_usize, 0_usize, tokens.as_slice())];
        let mut labels = Vec::with_capacity(256);
        while let Some((slot, depth, mut tokens)) = pending.pop() {
            while let Some(((bytes, id), longer)) = tokens.split_first()
                && bytes.len() == depth
            {
                slots.nodes[slot].id = *id;
                tokens = longer;
            }
            let groups = || tokens.chunk_by(|a, b| a.0.get(depth) == b.0.get(depth));
            labels.clear();
            labels.extend(groups().filter_map(|group| group.first()?.0.get(depth)));
            if labels.is_empty() {
                continue;
            }
            let base = slots.find_base(&labels);
            slots.nodes[slot].base = base as u32;
            for (label, group) in labels.iter().zip(groups()) {
                let child = base ^ usize::from(*label);
                slots.take(child, slot as u32);
                pending.push((child, depth + 1, group));
            }
        }
        Trie { nodes: slots.nodes }
    }

    /// The node reached from `from` by all of `bytes`; `None` if no token goes there.
    pub(super) fn descend(&self, from: State, bytes: &[u8]) -> Option<State> {
        bytes.iter().try_fold(from, |state, &byte| {
            let child = self.nodes.get(state.0 as usize)?.base ^ u32::from(byte);
            let node = self.nodes.get(child as usize)?;
            (node.parent == state.0).then_some(State(child))
        })
    }

    /// The longest prefix of `bytes`, not empty, that completes a token begun at `from`: its
    /// length in bytes and the token's id.
    #[inline]
    pub(super) fn longest(&self, from: State, bytes: &[u8]) -> Option<(usize, u32)> {
        let mut best = None;
        let mut state = from.0;
        let mut base = self.nodes.get(state as usize)?.base;
        for (at, &byte) in bytes.iter().enumerate() {
            let child = base ^ u32::from(byte);
            match self.nodes.get(child as usize) {
                Some(node) if node.parent == state => {
                    state = child;
                    base = node.base;
                    if node.id != NONE {
                        best = Some((at + 1, node.id));
                    }
                }
                _ => break,
            }
        }
        best
    }
}

/// The array while it is being filled.
#[derive(Default)]
struct Slots {
    nodes: Vec<Node>,
    /// For each block of 256 nodes, which are free.
    free: Vec<FreeSet>,
}

impl Slots {
    fn add_block(&mut self) {
        let empty = Node { base: 0, parent: NONE, id: NONE };
        self.nodes.resize(self.nodes.len() + 256, empty);
        self.free.push(FreeSet([u64::MAX; 4]));
    }

    fn take(&mut self, slot: usize, parent: u32) {
        self.free[slot / 256].remove(slot % 256);
        self.nodes[slot].parent = parent;
    }

    /// A base at which every label's slot is free. Adds a block if none has room.
    fn find_base(&mut self, labels: &[u8]) -> usize {
        let first_label = labels.first().map_or(0, |label| usize::from(*label));
        loop {
            let first_open = self.free.len().saturating_sub(OPEN_BLOCKS);
            for (block, free) in self.free.iter().enumerate().skip(first_open) {
                let base = free
                    .iter()
                    .map(|slot| slot ^ first_label)
                    .find(|base| labels.iter().all(|l| free.contains(base ^ usize::from(*l))));
                if let Some(base) = base {
                    return block * 256 + base;
                }
            }
            self.add_block();
        }
    }
}

/// A set of numbers below 256.
struct FreeSet([u64; 4]);

impl FreeSet {
    fn contains(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 == 1
    }

    fn remove(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.wrapping_sub(1);
                (bit < 64).then_some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_longest_token_and_nothing_that_is_not_one() {
        let tokens: Vec<(&[u8], u32)> =
            vec![(b"un", 1), (b"unable", 2), (b"##able", 3), (b"\x00", 4), (b"\xff\xfe", 5)];
        let trie = Trie::new(tokens);
        assert_eq!(trie.longest(Trie::ROOT, b"unable"), Some((6, 2)));
        assert_eq!(trie.longest(Trie::ROOT, b"unabl"), Some((2, 1)));
        assert_eq!(trie.longest(Trie::ROOT, b"u"), None);
        assert_eq!(trie.longest(Trie::ROOT, b""), None);
        assert_eq!(trie.longest(Trie::ROOT, b"\x00\x00"), Some((1, 4)));
        assert_eq!(trie.longest(Trie::ROOT, b"\xff\xfe"), Some((2, 5)));
        let inside = trie.descend(Trie::ROOT, b"##").expect("a token starts so");
        assert_eq!(trie.longest(inside, b"ables"), Some((4, 3)));
        assert_eq!(trie.descend(Trie::ROOT, b"@@"), None);
    }

    #[test]
    fn agrees_with_a_plain_map_on_every_string_of_three_bytes_out_of_sixteen() {
        // Every string whose bytes' sum is odd is a token: dense enough to fill whole blocks.
        let alphabet: Vec<u8> = (0..16).map(|n| n * 17).collect();
        let mut strings = vec![Vec::new()];
        for length in 0..3 {
            let longer: Vec<Vec<u8>> = strings
                .iter()
                .filter(|s| s.len() == length)
                .flat_map(|s| alphabet.iter().map(|b| [s.as_slice(), &[*b]].concat()))
                .collect();
            strings.extend(longer);
        }
        let is_token = |s: &[u8]| s.iter().map(|b| u32::from(*b)).sum::<u32>() % 2 == 1;
        let tokens = strings.iter().enumerate().filter(|(_, s)| is_token(s));
        let trie = Trie::new(tokens.map(|(n, s)| (s.as_slice(), n as u32)).collect());
        for text in &strings {
            let expected = (1..=text.len()).rev().find_map(|length| {
                let prefix = &text[..length];
                let id = strings.iter().position(|s| s == prefix)?;
                is_token(prefix).then_some((length, id as u32))
            });
            assert_eq!(trie.longest(Trie::ROOT, text), expected, "{text:?}");
        }
    }
}
