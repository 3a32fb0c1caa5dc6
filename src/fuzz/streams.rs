//! What providers stream.

use std::collections::BTreeMap;

use super::{Dice, MAX_EVENT_BYTES, MODEL, SURFACES, Said, object_of, readable, show};
use crate::protocol::{
    chunk::{ChunkFacts, DONE},
    event_stream::{Message, MessageReader, write_message},
    json::RawObject,
    neutral::{Accumulator, Answer, Dialect, Event, PartKind, Surface},
    sse::{Frame, FrameReader},
    translate::{StreamDecoder, StreamEncoder},
};

/// Server-sent events: the frames are the bytes, however they are split.
pub fn sse(bytes: &[u8]) {
    let read = |pieces: &[&[u8]]| {
        let mut reader = FrameReader::new(MAX_EVENT_BYTES);
        let mut frames: Vec<Frame> = Vec::new();
        for piece in pieces {
            reader.push(piece);
            while let Ok(Some(frame)) = reader.next_frame() {
                frames.push(frame);
            }
        }
        (frames, reader.into_rest())
    };
    let (frames, rest) = read(&[bytes]);
    assert_eq!((&frames, &rest), (&read(&pieces(bytes)).0, &read(&pieces(bytes)).1));
    let mut joined: Vec<u8> = frames.iter().flat_map(|frame| frame.raw.to_vec()).collect();
    joined.extend_from_slice(&rest);
    assert_eq!(joined, bytes);
    for data in frames.iter().filter_map(Frame::data) {
        assert!(data.len() <= bytes.len());
        if let Some(facts) = ChunkFacts::read(&data) {
            assert!(facts.content_bytes <= data.len());
        }
    }
    let mut narrow = FrameReader::new(16);
    narrow.push(bytes);
    while let Ok(Some(_)) = narrow.next_frame() {}
}

/// AWS messages: as they come, and with their checksums put right so that what is behind them is
/// reached.
pub fn event_stream(bytes: &[u8]) {
    for bytes in [bytes.to_vec(), checked(bytes)] {
        let read = |pieces: &[&[u8]]| {
            let mut reader = MessageReader::new(MAX_EVENT_BYTES);
            let mut found: Vec<Message> = Vec::new();
            for piece in pieces {
                reader.push(piece);
                loop {
                    match reader.next_message() {
                        Ok(Some(message)) => found.push(message),
                        Ok(None) => break,
                        Err(error) => return (found, Some(error)),
                    }
                }
            }
            (found, None)
        };
        let whole = read(&[&bytes]);
        assert_eq!(whole, read(&pieces(&bytes)));
        for message in &whole.0 {
            assert!(message.payload.len() <= bytes.len());
        }
        stream(Dialect::Bedrock, &bytes);
    }
}

/// The bytes with the checksums of their messages as they should be.
fn checked(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_at_checked(12) {
        let total = head.iter().take(4).fold(0, |all, byte| all << 8 | usize::from(*byte));
        let Some((body, next)) = total.checked_sub(16).and_then(|body| tail.split_at_checked(body))
        else {
            break;
        };
        let start = out.len();
        let hash = |out: &[u8]| crc32fast::hash(out.get(start..).unwrap_or_default()).to_be_bytes();
        out.extend_from_slice(head.get(..8).unwrap_or_default());
        out.extend_from_slice(&hash(&out));
        out.extend_from_slice(body);
        out.extend_from_slice(&hash(&out));
        rest = next.get(4..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// Lines of `{"headers":{…},"payload":…}` as AWS messages; a payload that is a string is its
/// text, a line of another form stands as it is.
pub fn framed(lines: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let read = || {
            let mut line = RawObject::parse(line).ok()?;
            let headers: BTreeMap<String, String> = line.take("headers")?.read()?;
            let payload = line.take("payload")?;
            let payload = payload.as_string().unwrap_or_else(|| payload.text().to_owned());
            let fits = |(name, value): (&String, &String)| name.len() < 256 && value.len() < 65_536;
            headers.iter().all(fits).then_some((headers, payload))
        };
        match read() {
            Some((headers, payload)) => {
                let headers: Vec<(&str, &str)> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                out.extend(write_message(&headers, payload.as_bytes()));
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// A provider's stream: read in any pieces it gives the same events, which keep the decoder's
/// promise and say the same on every surface.
pub fn stream(dialect: Dialect, bytes: &[u8]) {
    let events = decode(dialect, &[bytes], None);
    check_promise(&events);
    assert_eq!(decode(dialect, &pieces(bytes), None), events, "split");
    check_promise(&decode(dialect, &pieces(bytes), Some("answer")));
    let mut narrow = StreamDecoder::new(dialect, MODEL, None, 64);
    let mut cut = narrow.push(bytes);
    cut.extend(narrow.close());
    check_promise(&cut);
    for surface in SURFACES {
        encode(surface, &events);
    }
}

fn decode(dialect: Dialect, pieces: &[&[u8]], schema_tool: Option<&str>) -> Vec<Event> {
    let tool = schema_tool.map(str::to_owned);
    let mut decoder = StreamDecoder::new(dialect, MODEL, tool, MAX_EVENT_BYTES);
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(decoder.push(piece));
    }
    events.extend(decoder.close());
    assert!(decoder.finished() != decoder.failed(), "a closed stream has come to its end");
    assert!(decoder.push(b"data: {}\n\n").is_empty() && decoder.close().is_empty());
    events
}

/// Holds a decoder's events to the promise of [`crate::protocol::neutral::event`].
pub fn check_promise(events: &[Event]) {
    let mut open: Vec<usize> = Vec::new();
    let mut next = 0;
    let mut started = false;
    for (at, event) in events.iter().enumerate() {
        let last = at + 1 == events.len();
        match event {
            Event::Start { .. } => assert!(!std::mem::replace(&mut started, true), "{events:?}"),
            Event::PartStart { index, kind } => {
                assert!(started && *index == next, "{events:?}");
                next += 1;
                open.push(*index);
                if let PartKind::ToolCall { id, .. } = kind {
                    assert!(!id.is_empty(), "a call without an id: {events:?}");
                }
            }
            Event::TextDelta { index, .. }
            | Event::Signature { index, .. }
            | Event::ArgumentsDelta { index, .. } => assert!(open.contains(index), "{events:?}"),
            Event::PartEnd { index } => {
                let at = open.iter().position(|open| open == index);
                open.remove(at.unwrap_or_else(|| panic!("{events:?}")));
            }
            Event::Usage(_) => {}
            Event::Finish { .. } => assert!(last && open.is_empty(), "{events:?}"),
            Event::Error(_) => assert!(last, "{events:?}"),
        }
    }
    let end = events.last();
    assert!(matches!(end, Some(Event::Finish { .. } | Event::Error(_))), "{events:?}");
}

/// A caller's stream is the same whether events come at once or one by one, and a reader of the
/// surface finds in it what was said and how it ended.
fn encode(surface: Surface, events: &[Event]) {
    let bytes = StreamEncoder::new(surface, show()).encode(events);
    let mut slow = StreamEncoder::new(surface, show());
    let one_by_one: Vec<u8> =
        events.iter().flat_map(|event| slow.encode(std::slice::from_ref(event)).to_vec()).collect();
    assert_eq!(one_by_one, bytes.as_ref(), "{surface:?}");
    let mut reader = FrameReader::new(MAX_EVENT_BYTES);
    reader.push(&bytes);
    let mut done = 0;
    while let Ok(Some(frame)) = reader.next_frame() {
        let data = frame.data().unwrap_or_else(|| panic!("{surface:?}: a frame without data"));
        match data.as_ref() == DONE {
            true => done += 1,
            false => drop(object_of(&data)),
        }
    }
    assert!(reader.into_rest().is_empty(), "{surface:?}: the last frame is not closed");
    let finished = matches!(events.last(), Some(Event::Finish { .. }));
    if matches!(surface, Surface::OpenAiChat | Surface::OpenAiCompletions) {
        assert_eq!(done, usize::from(finished), "{surface:?}");
    }
    let Some(dialect) = readable(surface) else { return };
    let again = decode(dialect, &[&bytes], None);
    let ends_well = matches!(again.last(), Some(Event::Finish { .. }));
    assert_eq!(ends_well, finished, "{surface:?}: {}", String::from_utf8_lossy(&bytes));
    if finished {
        let answer = added(events);
        let expected = Said::of(&answer).on(&answer, dialect, false);
        let found = Said::of(&added(&again));
        assert_eq!(found, expected, "{surface:?}: {}", String::from_utf8_lossy(&bytes));
    }
}

fn added(events: &[Event]) -> Answer {
    let mut answer = Accumulator::default();
    events.iter().for_each(|event| answer.add(event));
    answer.into_answer()
}

/// The bytes in pieces whose sizes the bytes themselves decide.
fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let mut dice = Dice::of(bytes);
    let longest = [1, 3, 17, 200].get(dice.throw(4)).copied().unwrap_or(1);
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(1 + dice.throw(longest)));
        found.push(piece);
        rest = later;
    }
    found
}
