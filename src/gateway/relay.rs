//! A stream on its way to the caller: bytes pass, a decoder observes.
//!
//! Frames go out byte for byte as they came, but for two: the usage chunk, which is dropped when
//! the caller did not ask for it and gets the cost when it did. The end is told as it is: a
//! finished stream ends with `[DONE]`, a broken one with one error frame and no `[DONE]`, and a
//! caller who leaves cancels the upstream call, because dropping the relay drops the connection.

use std::{collections::VecDeque, convert::Infallible};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use serde_json::json;

use super::{
    forward::{StreamStart, malformed},
    settle::{FINISHED, Settlement, Stop},
};
use crate::{
    protocol::{
        chunk::{ChunkFacts, DONE},
        json::{RawObject, raw},
        sse::{Frame, FrameReader, data_frame},
    },
    upstream::{Attempt, UpstreamError},
};

/// A stream that has begun; [`Self::into_stream`] drives it.
pub struct Relay {
    /// `None` once the stream has ended, which closes the connection.
    attempt: Option<Attempt>,
    reader: FrameReader,
    held: VecDeque<Frame>,
    /// Whether the caller wants the usage chunk.
    include_usage: bool,
    /// A choice has ended: a close without `[DONE]` is then an end all the same.
    choice_finished: bool,
    settlement: Settlement,
    stop: Stop,
}

/// What becomes of one frame.
enum Step {
    /// Goes out.
    Pass(Bytes),
    /// Does not.
    Drop,
    /// Goes out, and the stream has ended well.
    Done(Bytes),
}

/// The label of a stream that was cut because the gateway stops.
const SHUTTING_DOWN: &str = "gateway_shutting_down";

impl Relay {
    /// Takes over a stream whose first content has come.
    pub fn new(
        start: StreamStart,
        include_usage: bool,
        mut settlement: Settlement,
        stop: Stop,
    ) -> Self {
        settlement.first_content();
        Self {
            attempt: Some(start.attempt),
            reader: start.reader,
            held: start.held.into(),
            include_usage,
            choice_finished: false,
            settlement,
            stop,
        }
    }

    /// The body for the caller. It never fails: a broken upstream is told inside the stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
        stream::unfold(self, |mut relay| async move {
            let bytes = relay.next().await?;
            Some((Ok(bytes), relay))
        })
    }

    /// The next bytes for the caller; `None` after the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.attempt.as_ref()?;
            match self.take_frames() {
                Ok(bytes) if !bytes.is_empty() => return Some(bytes),
                Ok(_) => {}
                Err(error) => return Some(self.fail(&error)),
            }
            let attempt = self.attempt.as_mut()?;
            let chunk = tokio::select! {
                chunk = attempt.chunk(None) => chunk,
                () = self.stop.wanted() => {
                    self.close(SHUTTING_DOWN);
                    return Some(error_frame("the gateway is shutting down", SHUTTING_DOWN));
                }
            };
            match chunk {
                Ok(Some(bytes)) => self.reader.push(&bytes),
                Ok(None) => return Some(self.upstream_closed()),
                Err(error) => return Some(self.fail(&error)),
            }
        }
    }

    /// Everything that can go out now, in one piece. Ends the relay when the stream is done.
    fn take_frames(&mut self) -> Result<Bytes, UpstreamError> {
        let mut first: Option<Bytes> = None;
        let mut joined = BytesMut::new();
        let mut add = |bytes: Bytes| match &first {
            None => first = Some(bytes),
            Some(start) => {
                if joined.is_empty() {
                    joined.extend_from_slice(start);
                }
                joined.extend_from_slice(&bytes);
            }
        };
        loop {
            let frame = match self.held.pop_front() {
                Some(frame) => Some(frame),
                None => self.reader.next_frame().map_err(malformed)?,
            };
            let Some(frame) = frame else { break };
            match Self::step(
                frame,
                &mut self.settlement,
                &mut self.choice_finished,
                self.include_usage,
            )? {
                Step::Pass(bytes) => add(bytes),
                Step::Drop => {}
                Step::Done(bytes) => {
                    add(bytes);
                    self.close(FINISHED);
                    break;
                }
            }
        }
        Ok(if joined.is_empty() { first.unwrap_or_default() } else { joined.freeze() })
    }

    /// Looks at one frame.
    fn step(
        frame: Frame,
        settlement: &mut Settlement,
        choice_finished: &mut bool,
        include_usage: bool,
    ) -> Result<Step, UpstreamError> {
        let Some(data) = frame.data() else { return Ok(Step::Pass(frame.raw)) };
        if data.as_ref() == DONE {
            return Ok(Step::Done(frame.raw.clone()));
        }
        let facts = ChunkFacts::read(&data).ok_or_else(|| malformed("an event is not JSON"))?;
        if let Some(message) = facts.error {
            return Err(UpstreamError::Failed { status: 200, message, retry_after: None });
        }
        *choice_finished |= facts.finish_reason.is_some();
        let is_usage_chunk = facts.usage.is_some() && facts.no_choices;
        settlement.observe(facts.usage, facts.finish_reason);
        if !is_usage_chunk {
            return Ok(Step::Pass(frame.raw.clone()));
        }
        if !include_usage {
            return Ok(Step::Drop);
        }
        let cost = settlement.cost().map(|cost| cost.to_string());
        let (Some(cost), Ok(mut chunk)) = (cost, RawObject::parse(&data)) else {
            return Ok(Step::Pass(frame.raw.clone()));
        };
        chunk.set("weighbridge", raw(&json!({"cost_usd": cost})));
        Ok(Step::Pass(data_frame(&String::from_utf8_lossy(&chunk.to_bytes()))))
    }

    /// The provider closed its stream without `[DONE]`.
    fn upstream_closed(&mut self) -> Bytes {
        if self.choice_finished {
            self.close(FINISHED);
            return Bytes::from_static(b"data: [DONE]\n\n");
        }
        let message = "the stream ended without a finish reason".to_owned();
        self.fail(&UpstreamError::Cut(message))
    }

    fn fail(&mut self, error: &UpstreamError) -> Bytes {
        self.close(error.label());
        error_frame(&error.to_string(), error.label())
    }

    fn close(&mut self, outcome: &'static str) {
        self.attempt = None;
        self.settlement.finish(outcome);
    }
}

/// The frame that ends a broken stream.
fn error_frame(message: &str, code: &str) -> Bytes {
    let error = json!({"error": {
        "message": message, "type": "server_error", "param": null, "code": code,
    }});
    data_frame(&error.to_string())
}
