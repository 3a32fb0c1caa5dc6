//! From a good input to a bad one: bytes, lines and JSON values are changed, moved and repeated.

use proptest::{arbitrary::Arbitrary, prelude::*};

/// Inputs do not grow beyond this.
const MAX_BYTES: usize = 64 * 1024;

/// Values that parsers trip over.
const VALUES: &[&[u8]] = &[
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"0",
    b"-1",
    b"-0",
    b"0.1",
    b"1e999",
    b"-1e999",
    b"1e39",
    b"1E-400",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"18446744073709551616",
    b"123456789012345678901234567890",
    b"NaN",
    b"01",
    b"\"\\ud800\"",
    b"\"\\udc00\\ud800\"",
    b"\"\\u0000\"",
    b"\"\xff\xfe\"",
    "\"\u{feff}\u{202e}é漢🦀\"".as_bytes(),
    b"[null]",
    b"[{}]",
    b"[[]]",
    b"{\"a\":1,\"a\":2}",
    b"{\"type\":\"text\",\"text\":\"x\"}",
    b"{\"type\":\"object\"}",
    b"\"data:image/png;base64,AAAA\"",
    b"\"data:;base64,\"",
    b"\"{\\\"a\\\":\"",
];

/// Bytes that mean something to a parser.
const TOKENS: &[&[u8]] = &[
    b"\n",
    b"\n\n",
    b"\r\n\r\n",
    b"\r",
    b"data:",
    b"data: [DONE]\n\n",
    b"event: error\n",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\u",
    b",",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"[[",
    b"]]",
    b"=",
    b"#",
    b"'''",
    b"\"\"\"",
    b"\xef\xbb\xbf",
    b"<",
    b"</",
    b" ",
    b"e308",
];

/// Inputs to start from, and every JSON value that stands in them.
pub struct Seeds {
    inputs: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
}

impl Seeds {
    pub fn new(inputs: Vec<Vec<u8>>) -> Self {
        let mut values: Vec<Vec<u8>> = VALUES.iter().map(|value| value.to_vec()).collect();
        for input in &inputs {
            let found = value_starts(input).into_iter().map(|at| &input[at..value_end(input, at)]);
            values.extend(found.filter(|value| value.len() < 400).map(<[u8]>::to_vec));
        }
        values.sort();
        values.dedup();
        Self { inputs, values }
    }
}

/// One change: what, where, how far and with what.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    kind: u8,
    at: u32,
    length: u32,
    other: u32,
}

impl Arbitrary for Mutation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        any::<(u8, u32, u32, u32)>()
            .prop_map(|(kind, at, length, other)| Self { kind, at, length, other })
            .boxed()
    }
}

/// A source of mutations without proptest's bookkeeping (xorshift64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 1) as usize % bound
    }

    pub fn mutation(&mut self) -> Mutation {
        let (a, b) = (self.next(), self.next());
        let high = |word: u64| (word >> 32) as u32;
        Mutation { kind: (a >> 24) as u8, at: high(a), length: high(b), other: b as u32 }
    }
}

/// An input of the seeds after these changes.
pub fn mutated(seeds: &Seeds, seed: usize, steps: &[Mutation]) -> Vec<u8> {
    let mut input = seeds.inputs[seed % seeds.inputs.len()].clone();
    for step in steps {
        step.apply(&mut input, seeds);
        input.truncate(MAX_BYTES);
    }
    input
}

impl Mutation {
    fn apply(self, input: &mut Vec<u8>, seeds: &Seeds) {
        let at = self.at as usize % (input.len() + 1);
        // Mostly short: a long cut leaves little to parse.
        let reach = [1, 4, 16, 64, 1024][self.length as usize % 5];
        let end = (at + 1 + (self.length / 5) as usize % reach).min(input.len()).max(at);
        let other = self.other as usize;
        let token = TOKENS[other % TOKENS.len()];
        let value = &seeds.values[other % seeds.values.len()];
        match self.kind % 16 {
            0 if at < input.len() => input[at] ^= 1 << (other % 8),
            1 if at < input.len() => input[at] = self.other as u8,
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let piece = input[at..end].to_vec();
                splice(input, other % (input.len() + 1), 0, &piece);
            }
            5 => splice(input, at, 0, token),
            6 => {
                let from = &seeds.inputs[other % seeds.inputs.len()];
                let start = self.length as usize % (from.len() + 1);
                let tail = from[start..].to_vec();
                input.truncate(at);
                input.extend(tail);
            }
            7 => line(input, self.at as usize, other),
            // Nesting as deep as the space allows, or a little.
            8 => {
                let depth = [8, 126, 200, 5_000][self.length as usize % 4];
                let (open, close): (&[u8], &[u8]) =
                    [(&b"["[..], &b"]"[..]), (b"{\"a\":", b"}"), (b"[{\"content\":", b"}]")]
                        [other % 3];
                let mut nested = open.repeat(depth);
                nested.extend_from_slice(b"1");
                nested.extend(close.repeat(depth));
                replace_value(input, self.at, &nested);
            }
            9 => {
                if let Some((start, stop)) = member(input, self.at) {
                    let twice = [&input[start..stop], b","].concat();
                    splice(input, start, 0, &twice);
                }
            }
            10 => {
                if let Some((start, stop)) = member(input, self.at) {
                    let comma = usize::from(input.get(stop) == Some(&b','));
                    input.drain(start..stop + comma);
                }
            }
            11 => {
                // A value is taken into itself: `x` → `{"type":…,"content":[x]}`.
                if let Some((start, stop)) = value_at(input, self.at) {
                    let wrapped = [b"[", &input[start..stop], b",", value, b"]"].concat();
                    splice(input, start, stop - start, &wrapped);
                }
            }
            // Above all, a value where another was.
            _ => replace_value(input, self.at, value),
        }
    }
}

fn splice(input: &mut Vec<u8>, at: usize, length: usize, with: &[u8]) {
    input.splice(at..at + length, with.iter().copied());
}

/// Doubles, drops or swaps blocks that blank lines or line ends divide.
fn line(input: &mut Vec<u8>, at: usize, other: usize) {
    let divider: &[u8] = if input.windows(2).any(|pair| pair == b"\n\n") { b"\n\n" } else { b"\n" };
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut rest = input.as_slice();
    while let Some(end) = rest.windows(divider.len()).position(|found| found == divider) {
        blocks.push(rest[..end].to_vec());
        rest = &rest[end + divider.len()..];
    }
    blocks.push(rest.to_vec());
    let (from, to) = (at % blocks.len(), other / 3 % blocks.len());
    match other % 3 {
        0 => blocks.insert(to, blocks[from].clone()),
        1 => drop(blocks.remove(from)),
        _ => blocks.swap(from, to),
    }
    *input = blocks.join(divider);
}

fn replace_value(input: &mut Vec<u8>, at: u32, with: &[u8]) {
    match value_at(input, at) {
        Some((start, end)) => splice(input, start, end - start, with),
        None => splice(input, at as usize % (input.len() + 1), 0, with),
    }
}

/// One of the values of a JSON text, or of the lines of a TOML text.
fn value_at(input: &[u8], choice: u32) -> Option<(usize, usize)> {
    let starts = value_starts(input);
    let start = *starts.get(choice as usize % starts.len().max(1))?;
    Some((start, value_end(input, start)))
}

/// One of the members of an object, key and value.
fn member(input: &[u8], choice: u32) -> Option<(usize, usize)> {
    let mut starts = value_starts(input);
    starts.retain(|start| input[..*start].trim_ascii_end().ends_with(b"\":"));
    let start = *starts.get(choice as usize % starts.len().max(1))?;
    let colon = input[..start].iter().rposition(|byte| *byte == b':')?;
    let close = input[..colon].iter().rposition(|byte| *byte == b'"')?;
    let open = input[..close].iter().rposition(|byte| *byte == b'"')?;
    Some((open, value_end(input, start)))
}

/// Where values begin: after `:`, `,`, `[` and `=` outside of strings.
fn value_starts(input: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let (mut in_string, mut escaped, mut expected) = (false, false, true);
    for (at, byte) in input.iter().enumerate() {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = *byte == b'\\' && !escaped;
            continue;
        }
        if expected && !byte.is_ascii_whitespace() {
            starts.push(at);
        }
        in_string = *byte == b'"';
        let keeps = expected && byte.is_ascii_whitespace();
        expected = keeps || matches!(byte, b':' | b',' | b'[' | b'=');
    }
    starts
}

/// Where the value that begins here ends.
fn value_end(input: &[u8], start: usize) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in input.iter().enumerate().skip(start) {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = *byte == b'\\' && !escaped;
            if !in_string && depth == 0 {
                return at + 1;
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth == 0 => return at,
            b']' | b'}' if depth == 1 => return at + 1,
            b']' | b'}' => depth -= 1,
            b',' | b'\n' if depth == 0 => return at,
            _ => {}
        }
    }
    input.len()
}
