//! Server-sent events, cut into frames without copying or changing a byte.
//!
//! [`FrameReader`] is fed chunks as they come from a socket, split anywhere, and hands back
//! whole frames; the frames' bytes joined are the bytes fed. What a frame means is for
//! [`super::chunk`] to say. Source: WHATWG HTML, section 9.2 "Server-sent events"; lines may end
//! with LF or CRLF (a lone CR, which no provider sends, is not taken for a line end). A byte order
//! mark before the first line says nothing.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

/// One event: everything up to and including the blank line that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The bytes as they arrived, blank line included.
    pub raw: Bytes,
    /// Where its first line starts: behind the stream's byte order mark, if that is in it.
    start: usize,
}

/// U+FEFF in UTF-8: "one leading U+FEFF BYTE ORDER MARK character must be ignored".
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A frame grew beyond the reader's bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is larger than {max_event_bytes} bytes")]
pub struct FrameTooLarge {
    /// The bound that was passed.
    pub max_event_bytes: usize,
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    /// Bytes at the start of `buffer` already searched: no byte is looked at twice.
    searched: usize,
    /// Start of the line being read, within `buffer`.
    line_start: usize,
    /// No frame has been handed out.
    at_start: bool,
    max_event_bytes: usize,
}

impl FrameReader {
    /// A reader that holds at most `max_event_bytes` of an unfinished frame.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            line_start: 0,
            at_start: true,
            max_event_bytes,
        }
    }

    /// Adds bytes from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes come.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameTooLarge> {
        while let Some(offset) = find_newline(self.buffer.get(self.searched..).unwrap_or_default())
        {
            let newline = self.searched + offset;
            let start = self.mark_length();
            let line = self.buffer.get(self.line_start.max(start)..newline).unwrap_or_default();
            let line_is_blank = matches!(line, b"" | b"\r");
            self.searched = newline + 1;
            self.line_start = newline + 1;
            if line_is_blank {
                let raw = self.buffer.split_to(newline + 1).freeze();
                self.searched = 0;
                self.line_start = 0;
                self.at_start = false;
                return Ok(Some(Frame { raw, start }));
            }
        }
        self.searched = self.buffer.len();
        if self.buffer.len() > self.max_event_bytes {
            return Err(FrameTooLarge { max_event_bytes: self.max_event_bytes });
        }
        Ok(None)
    }

    /// The length of the stream's byte order mark, while it is in the buffer.
    fn mark_length(&self) -> usize {
        let marked = self.at_start && self.buffer.starts_with(BYTE_ORDER_MARK);
        if marked { BYTE_ORDER_MARK.len() } else { 0 }
    }

    /// What is left when the socket closes: the bytes of a frame that never ended.
    pub fn into_rest(self) -> Bytes {
        self.buffer.freeze()
    }
}

fn find_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

impl Frame {
    /// The event's data: its `data:` lines joined by line feeds, without the one space after the
    /// colon. `None` when it has none (a comment, a keep-alive). Borrows when there is one line.
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        let mut data: Option<Cow<'_, [u8]>> = None;
        for line in self.lines() {
            let Some(value) = field_value(line, b"data") else { continue };
            data = Some(match data {
                None => Cow::Borrowed(value),
                Some(first) => {
                    let mut joined = first.into_owned();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                    Cow::Owned(joined)
                }
            });
        }
        data
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.raw.get(self.start..).unwrap_or_default();
        lines.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// `name: value` or `name:value`; `None` for other lines.
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// A frame with one `data:` line.
pub fn data_frame(json: &str) -> Bytes {
    Bytes::from(format!("data: {json}\n\n"))
}

/// Appends a frame with one `data:` line.
pub fn put_data(json: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json.as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// Appends a frame with an `event:` and a `data:` line.
pub fn put_event(event: &str, json: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.as_bytes());
    out.push(b'\n');
    put_data(json, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(reader: &mut FrameReader) -> Vec<Frame> {
        std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
    }

    #[test]
    fn data_lines_are_joined_and_comments_have_no_data() {
        let mut reader = FrameReader::new(1 << 20);
        reader.push(b": ping\n\nevent: x\r\ndata: a\r\ndata:b\r\n\r\ndata\n\n");
        let frames = frames(&mut reader);
        assert_eq!(frames[0].data(), None);
        assert_eq!(frames[1].data().unwrap().as_ref(), b"a\nb");
        assert_eq!(frames[2].data().unwrap().as_ref(), b"");
    }

    #[test]
    fn a_byte_order_mark_before_the_stream_is_passed_on_and_says_nothing() {
        let mut reader = FrameReader::new(1 << 20);
        for byte in "\u{feff}data: a\n\n\u{feff}data: b\n\n".bytes() {
            reader.push(&[byte]);
        }
        let marked = frames(&mut reader);
        assert_eq!(marked[0].data().unwrap().as_ref(), b"a");
        assert_eq!(marked[0].raw, "\u{feff}data: a\n\n");
        assert_eq!(marked[1].data(), None, "inside a stream it is a letter like others");
        let mut reader = FrameReader::new(1 << 20);
        reader.push("\u{feff}\n: x\n\n".as_bytes());
        assert_eq!(frames(&mut reader)[0].raw, "\u{feff}\n", "a line with nothing else is blank");
    }

    #[test]
    fn a_frame_without_end_is_bounded() {
        let mut reader = FrameReader::new(8);
        reader.push(b"data: 0123456789");
        assert_eq!(reader.next_frame(), Err(FrameTooLarge { max_event_bytes: 8 }));
    }

    proptest! {
        /// Any byte split of a stream gives the same frames, and no byte is lost.
        #[test]
        fn any_split_gives_the_same_frames(
            stream in "\u{feff}?(data: ?[a-z{}\": é]{0,9}(\r\n|\n)|(\r\n|\n)|: [a-z]{0,3}\n|event: [a-z]{1,4}\n){0,40}",
            cuts in prop::collection::vec(1usize..7, 0..200),
        ) {
            let bytes = stream.as_bytes();
            let mut whole = FrameReader::new(1 << 20);
            whole.push(bytes);
            let expected = frames(&mut whole);

            let mut reader = FrameReader::new(1 << 20);
            let mut seen = Vec::new();
            let mut rest = bytes;
            for cut in cuts.into_iter().cycle().chain(std::iter::repeat(3)) {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                reader.push(now);
                seen.extend(frames(&mut reader));
                rest = later;
                if seen.len() > 10_000 { break }
            }
            prop_assert_eq!(&seen, &expected);
            let mut joined: Vec<u8> = seen.iter().flat_map(|f| f.raw.to_vec()).collect();
            joined.extend_from_slice(&reader.into_rest());
            prop_assert_eq!(joined, bytes);
        }
    }
}
