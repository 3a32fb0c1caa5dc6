//! AWS event-stream framing: binary messages with headers and two checksums.
//!
//! ```text
//! u32 total length | u32 headers' length | u32 CRC of these 8 bytes
//! headers: u8 name length, name, u8 type, value …
//! payload
//! u32 CRC of everything before
//! ```
//!
//! All numbers are big-endian, the CRC is that of zlib (IEEE 802.3). [`MessageReader`] is fed
//! bytes split anywhere and hands back whole messages. Source: Smithy specification, "Amazon
//! Event Stream Specification".

use bytes::{Buf, Bytes, BytesMut};

/// Bytes before the headers.
const PRELUDE: usize = 12;
/// Bytes of a message without headers and payload.
const OVERHEAD: usize = 16;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The headers that are strings, in order; the others are of no use to a reader of answers.
    pub headers: Vec<(String, String)>,
    /// The body; for Bedrock JSON.
    pub payload: Bytes,
}

impl Message {
    /// A header that is a string.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Why bytes are no message. The stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A checksum does not fit.
    #[error("a message of the event stream has a wrong {part} checksum")]
    Checksum {
        /// `prelude` or `message`.
        part: &'static str,
    },
    /// The lengths contradict each other.
    #[error("a message of the event stream has impossible lengths")]
    Length,
    /// The message is larger than the reader's bound.
    #[error("a message of the event stream is larger than {max_message_bytes} bytes")]
    TooLarge {
        /// The bound that was passed.
        max_message_bytes: usize,
    },
    /// The headers are not what the lengths promise.
    #[error("a message of the event stream has headers that cannot be read")]
    Headers,
}

/// Cuts a byte stream into messages.
#[derive(Debug)]
pub struct MessageReader {
    buffer: BytesMut,
    max_message_bytes: usize,
}

impl MessageReader {
    /// A reader of messages of at most `max_message_bytes`.
    pub fn new(max_message_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), max_message_bytes }
    }

    /// Adds bytes from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes come.
    pub fn next_message(&mut self) -> Result<Option<Message>, MessageError> {
        let Some(mut prelude) = self.buffer.get(..PRELUDE) else { return Ok(None) };
        let checked = crc32fast::hash(prelude.get(..8).unwrap_or_default());
        let total = prelude.get_u32() as usize;
        let headers_length = prelude.get_u32() as usize;
        if prelude.get_u32() != checked {
            return Err(MessageError::Checksum { part: "prelude" });
        }
        if total < OVERHEAD || headers_length > total - OVERHEAD {
            return Err(MessageError::Length);
        }
        if total > self.max_message_bytes {
            return Err(MessageError::TooLarge { max_message_bytes: self.max_message_bytes });
        }
        if self.buffer.len() < total {
            return Ok(None);
        }
        let mut message = self.buffer.split_to(total).freeze();
        let mut trailer = message.split_off(total - 4);
        if trailer.get_u32() != crc32fast::hash(&message) {
            return Err(MessageError::Checksum { part: "message" });
        }
        message.advance(PRELUDE);
        let headers =
            read_headers(message.split_to(headers_length)).ok_or(MessageError::Headers)?;
        Ok(Some(Message { headers, payload: message }))
    }
}

/// `None` when the bytes end inside a header or a type is not known.
fn read_headers(mut bytes: Bytes) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    while bytes.has_remaining() {
        let name_length = bytes.get_u8() as usize;
        let name = take(&mut bytes, name_length)?;
        let kind = take(&mut bytes, 1)?.get_u8();
        // Smithy's table of value types.
        let length = match kind {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            6 | 7 => take(&mut bytes, 2)?.get_u16() as usize,
            9 => 16,
            _ => return None,
        };
        let value = take(&mut bytes, length)?;
        if kind == 7 {
            let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).ok();
            headers.push((text(name)?, text(value)?));
        }
    }
    Some(headers)
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.remaining() >= length).then(|| bytes.split_to(length))
}

/// A message with string headers, as bytes: for scripted upstreams and for tests.
pub fn write_message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = Vec::with_capacity(OVERHEAD + head.len() + payload.len());
    out.extend_from_slice(&length(OVERHEAD + head.len() + payload.len()));
    out.extend_from_slice(&length(head.len()));
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The specification's example, "A message with one header": 61 bytes.
    const BY_HAND: [u8; 61] = *b"\x00\x00\x00\x3d\x00\x00\x00\x20\x07\xfd\x83\x96\
        \x0ccontent-type\x07\x00\x10application/json\
        {'foo':'bar'}\x8d\x9c\x08\xb1";

    fn read(bytes: &[u8]) -> Result<Option<Message>, MessageError> {
        let mut reader = MessageReader::new(1024);
        reader.push(bytes);
        reader.next_message()
    }

    #[test]
    fn a_message_made_by_hand_is_read_and_written() {
        let message = read(&BY_HAND).unwrap().unwrap();
        assert_eq!(message.header("content-type"), Some("application/json"));
        assert_eq!(message.payload.as_ref(), b"{'foo':'bar'}");
        let headers = [("content-type", "application/json")];
        assert_eq!(write_message(&headers, b"{'foo':'bar'}"), BY_HAND);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for at in 0..BY_HAND.len() * 8 {
            let mut bytes = BY_HAND;
            bytes[at / 8] ^= 1 << (at % 8);
            assert!(read(&bytes).is_err(), "bit {at}");
        }
    }

    #[test]
    fn lengths_and_headers_that_lie_are_errors() {
        let prelude = |total: u32, headers: u32| {
            let mut bytes = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            bytes
        };
        assert_eq!(read(&prelude(15, 0)), Err(MessageError::Length));
        assert_eq!(read(&prelude(20, 5)), Err(MessageError::Length));
        let too_large = MessageError::TooLarge { max_message_bytes: 1024 };
        assert_eq!(read(&prelude(u32::MAX, 0)), Err(too_large));
        for headers in [&b"\x05ab"[..], b"\x01a", b"\x01a\x07\x00\x09x", b"\x01a\x0a"] {
            let mut bytes = prelude(16 + headers.len() as u32, headers.len() as u32);
            bytes.extend_from_slice(headers);
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
            assert_eq!(read(&bytes), Err(MessageError::Headers), "{headers:?}");
        }
    }

    proptest! {
        /// Any byte split of a stream gives the same messages.
        #[test]
        fn any_split_gives_the_same_messages(
            messages in prop::collection::vec(("[a-z:-]{0,9}", "[ -~]{0,9}", any::<[u8; 5]>()), 0..6),
            cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let mut bytes = Vec::new();
            for (name, value, payload) in &messages {
                bytes.extend(write_message(&[(name, value)], payload));
            }
            let mut reader = MessageReader::new(1024);
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                reader.push(now);
                while let Some(message) = reader.next_message().unwrap() {
                    seen.push(message);
                }
                rest = later;
            }
            prop_assert_eq!(seen.len(), messages.len());
            for (message, (name, value, payload)) in seen.iter().zip(&messages) {
                prop_assert_eq!(message.header(name), Some(value.as_str()));
                prop_assert_eq!(message.payload.as_ref(), payload);
            }
        }

        /// Whatever comes, reading never panics.
        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
