//! A stream on its way to the caller.
//!
//! The end is told as it is: a finished stream ends as its protocol says, a broken one with one
//! error event and no end mark, and a caller who leaves cancels the upstream call, because
//! dropping the relay drops the connection.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::{self, Stream};

use super::{
    flow::Flow,
    settle::{FINISHED, Settlement, Stop},
};
use crate::upstream::{Attempt, Slot, UpstreamError};

/// A stream that has begun to say something.
#[derive(Debug)]
pub struct StreamStart {
    /// The rest of the body.
    pub attempt: Attempt,
    /// What has been read of it; nothing of it has been sent.
    pub flow: Flow,
    /// The deployment, which learns how the stream ends.
    pub slot: Slot,
}

/// A stream that has begun; [`Self::into_stream`] drives it.
pub struct Relay {
    /// `None` once the stream has ended, which closes the connection.
    start: Option<StreamStart>,
    settlement: Box<Settlement>,
    stop: Stop,
}

/// The label of a stream that was cut because the gateway stops.
const SHUTTING_DOWN: &str = "gateway_shutting_down";

impl Relay {
    /// Takes over a stream whose first content has come.
    pub fn new(start: StreamStart, mut settlement: Box<Settlement>, stop: Stop) -> Self {
        settlement.first_content();
        settlement.observe(start.flow.seen());
        Self { start: Some(start), settlement, stop }
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
            let start = self.start.as_mut()?;
            let ready = start.flow.take();
            if start.flow.seen().finished {
                self.close(FINISHED);
                return Some(ready);
            }
            if !ready.is_empty() {
                return Some(ready);
            }
            let chunk = tokio::select! {
                chunk = start.attempt.chunk(None) => chunk,
                () = self.stop.wanted() => return Some(self.stopped()),
            };
            let taken = match chunk {
                Ok(Some(bytes)) => start.flow.push(&bytes),
                Ok(None) => start.flow.close(),
                Err(error) => Err(error),
            };
            self.settlement.observe(start.flow.seen());
            if let Err(error) = taken {
                return Some(self.fail(&error));
            }
        }
    }

    /// What was complete before the error, and the error.
    fn fail(&mut self, error: &UpstreamError) -> Bytes {
        let Some(start) = &mut self.start else { return Bytes::new() };
        start.slot.failed(error);
        let last = with_error(&mut start.flow, error);
        self.close(error.label());
        last
    }

    fn stopped(&mut self) -> Bytes {
        let Some(start) = &mut self.start else { return Bytes::new() };
        let last = with_error(&mut start.flow, &UpstreamError::ShuttingDown);
        self.close(SHUTTING_DOWN);
        last
    }

    fn close(&mut self, outcome: &'static str) {
        self.start = None;
        self.settlement.finish(outcome);
    }
}

fn with_error(flow: &mut Flow, error: &UpstreamError) -> Bytes {
    let ready = flow.take();
    let frame = flow.error_frame(error);
    if ready.is_empty() { frame } else { [ready, frame].concat().into() }
}
