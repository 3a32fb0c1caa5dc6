//! The frames of a streamed body: server-sent events, the items of a JSON array, or bytes that a
//! dialect has framed itself.

use bytes::{Bytes, BytesMut};

/// What stands for JSON in which something broke.
pub(super) const MALFORMED: &[u8] = b"{\"id\":\"chatcmpl-broken\",\"choices\":[{]";
/// What a proxy writes into a stream that is not its own.
const NOISE: &[u8] = b"upstream connect error or disconnect/reset before headers\n";

/// How a dialect's streams are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamFormat {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Events,
    /// One JSON array, an item at a time: what Gemini does without `alt=sse`.
    JsonArray,
    /// `application/vnd.amazon.eventstream`; the dialect frames.
    Amazon,
}

/// Collects the frames of one event.
#[derive(Debug)]
pub(super) struct Frames {
    format: StreamFormat,
    crlf: bool,
    comment: bool,
    has_begun: bool,
    unsent: BytesMut,
}

impl Frames {
    /// A stream's writer. `comment`: a keep-alive before every event.
    pub fn new(format: StreamFormat, crlf: bool, comment: bool) -> Self {
        let comment = comment && format == StreamFormat::Events;
        Self { format, crlf, comment, has_begun: false, unsent: BytesMut::new() }
    }

    /// An unnamed event, or an item of the array.
    pub fn data(&mut self, data: &[u8]) {
        match self.format {
            StreamFormat::Events => {
                self.unsent.reserve(data.len() + 16);
                self.line(b"data: ", data);
                self.unsent.extend_from_slice(self.line_end());
            }
            StreamFormat::JsonArray => {
                self.unsent.extend_from_slice(if self.has_begun { b",\r\n" } else { b"[" });
                self.unsent.extend_from_slice(data);
                self.has_begun = true;
            }
            StreamFormat::Amazon => self.raw(data),
        }
    }

    /// An event with a name.
    pub fn named(&mut self, name: &str, data: &[u8]) {
        self.line(b"event: ", name.as_bytes());
        self.data(data);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// The comment before an event, if the script wants one.
    pub fn comment(&mut self) {
        if self.comment {
            self.line(b": keep-alive", b"");
            self.unsent.extend_from_slice(self.line_end());
        }
    }

    /// Bytes that are no frame.
    pub fn noise(&mut self) {
        self.raw(NOISE);
    }

    /// The end of the array.
    pub fn end(&mut self) {
        if self.format == StreamFormat::JsonArray {
            self.raw(if self.has_begun { b"]" } else { b"[]" });
        }
    }

    /// What was collected since the last call.
    pub fn take(&mut self) -> Bytes {
        self.unsent.split().freeze()
    }

    fn line(&mut self, field: &[u8], value: &[u8]) {
        for part in [field, value, self.line_end()] {
            self.unsent.extend_from_slice(part);
        }
    }

    fn line_end(&self) -> &'static [u8] {
        if self.crlf { b"\r\n" } else { b"\n" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: StreamFormat, crlf: bool, comment: bool) -> String {
        let mut frames = Frames::new(format, crlf, comment);
        frames.comment();
        frames.named("first", b"1");
        frames.data(b"2");
        frames.end();
        String::from_utf8(frames.take().to_vec()).unwrap()
    }

    #[test]
    fn events_have_their_lines() {
        let events = StreamFormat::Events;
        assert_eq!(written(events, false, false), "event: first\ndata: 1\n\ndata: 2\n\n");
        assert_eq!(
            written(events, true, true),
            ": keep-alive\r\n\r\nevent: first\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n"
        );
    }

    #[test]
    fn an_array_is_opened_once_and_closed() {
        let mut frames = Frames::new(StreamFormat::JsonArray, false, true);
        frames.data(b"1");
        frames.data(b"2");
        frames.end();
        assert_eq!(frames.take(), "[1,\r\n2]");
        let mut empty = Frames::new(StreamFormat::JsonArray, false, false);
        empty.end();
        assert_eq!(empty.take(), "[]");
    }
}
