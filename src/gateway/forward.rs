//! From decision to answer: candidates in order, until one gives content.
//!
//! A failure before the first content goes to the caller moves on to the next candidate; nothing
//! of a failed attempt is ever shown. After the first content the stream belongs to [`Relay`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{
    Gateway, GatewayError, Relay, Reply, ReplyBody, Routed,
    settle::{FINISHED, Settlement},
};
use crate::{
    policy::ModelCard,
    protocol::{
        chat::ChatRequest,
        chunk::{AnswerFacts, ChunkFacts, DONE},
        sse::{Frame, FrameReader},
    },
    upstream::{Attempt, UpstreamError},
};

/// The path under a provider's base URL.
const CHAT_PATH: &str = "chat/completions";
/// Largest single event of a stream (chosen: a whole image in base64 fits).
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;
/// Frames held back before the first content; after this many the stream goes out as it is.
const MAX_HELD_FRAMES: usize = 64;
/// The same in bytes.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// A provider's headers that may be shown, names prefixed.
type ShownHeaders = Vec<(String, Vec<u8>)>;

/// A stream that has begun to say something.
pub struct StreamStart {
    /// The rest of the body.
    pub attempt: Attempt,
    /// What has been read of it and not yet cut into frames.
    pub reader: FrameReader,
    /// Frames read so far, the first content among them; none has been sent.
    pub held: Vec<Frame>,
}

/// A candidate's answer, far enough to be shown.
enum Answer {
    Whole(Bytes, AnswerFacts),
    Stream(Box<StreamStart>),
}

impl Gateway {
    /// Tries the route's candidates in order.
    pub(super) async fn forward(
        &self,
        request: &ChatRequest,
        mut routed: Routed,
        mut settlement: Settlement,
    ) -> Result<Reply, GatewayError> {
        let mut last_error = None;
        let mut waited = Duration::ZERO;
        for candidate in routed.decision.route.clone() {
            let Some(card) = routed.models.get(candidate.model).cloned() else { continue };
            routed.served = Some(candidate);
            settlement.attempt(&card, routed.tier());
            let started = Instant::now();
            let answer = self.attempt(request, &card, settlement.request_id()).await;
            waited += started.elapsed();
            let outcome = answer.as_ref().map_or_else(UpstreamError::label, |_| "ok");
            self.metrics.attempt_ended(&card.provider, settlement.metric_model(), outcome);
            let error = match answer {
                Ok((headers, answer)) => {
                    return Ok(self.reply(request, routed, settlement, headers, answer, waited));
                }
                Err(error) => error,
            };
            tracing::warn!(
                request_id = settlement.request_id(),
                provider = card.provider,
                model = card.name,
                attempt = settlement.attempts(),
                outcome,
                error = %error,
                "an attempt failed"
            );
            let may_fall_back = error.may_fall_back();
            last_error = Some(error);
            if !may_fall_back {
                break;
            }
        }
        let error = last_error
            .unwrap_or_else(|| UpstreamError::Connect("the route has no candidate".to_owned()));
        settlement.finish(error.label());
        let attempts = settlement.attempts();
        Err(GatewayError::Upstream { routed: Box::new(routed), error, attempts })
    }

    /// Hands an answer to the edge: a whole one is settled here, a stream settles itself.
    fn reply(
        &self,
        request: &ChatRequest,
        routed: Routed,
        mut settlement: Settlement,
        upstream_headers: ShownHeaders,
        answer: Answer,
        waited: Duration,
    ) -> Reply {
        let attempts = settlement.attempts();
        let overhead = settlement.received().elapsed().saturating_sub(waited);
        let body = match answer {
            Answer::Whole(body, facts) => {
                settlement.observe(facts.usage, facts.finish_reason);
                let cost = settlement.cost();
                settlement.finish(FINISHED);
                ReplyBody::Whole(body, cost)
            }
            Answer::Stream(start) => ReplyBody::Stream(Box::new(Relay::new(
                *start,
                request.include_usage,
                settlement,
                self.stop.clone(),
            ))),
        };
        Reply { routed, attempts, upstream_headers, overhead, body }
    }

    /// Asks one provider once.
    async fn attempt(
        &self,
        request: &ChatRequest,
        card: &ModelCard,
        request_id: &str,
    ) -> Result<(ShownHeaders, Answer), UpstreamError> {
        let provider = self.upstreams.provider(&card.provider);
        let ask_usage = provider.is_some_and(|provider| provider.stream_usage);
        let first_byte = provider.map_or(Duration::MAX, |provider| provider.first_byte_timeout);
        let body = request.forward_body(&card.upstream_name, ask_usage);
        let attempt = self.upstreams.send(&card.provider, CHAT_PATH, body, request_id).await?;
        let headers = shown_headers(&attempt);
        if request.stream && attempt.is_content_type("text/event-stream") {
            let start = first_content(attempt, first_byte);
            let start = tokio::time::timeout(first_byte, start).await;
            let late = UpstreamError::Timeout { deadline: "first_byte", limit: first_byte };
            let start = start.map_err(|_| late)??;
            return Ok((headers, Answer::Stream(Box::new(start))));
        }
        let is_json = attempt.is_content_type("application/json");
        let (_, body) = attempt.body(self.config.server.max_answer_bytes).await?;
        let facts = AnswerFacts::read(&body).filter(|_| is_json);
        let Some(facts) = facts else {
            let what = if body.is_empty() { "it is empty" } else { "it is not JSON" };
            return Err(UpstreamError::Malformed(what.to_owned()));
        };
        if let Some(message) = facts.error {
            return Err(UpstreamError::Failed { status: 200, message, retry_after: None });
        }
        if request.stream {
            return Err(UpstreamError::Malformed("it is not an event stream".to_owned()));
        }
        Ok((headers, Answer::Whole(body, facts)))
    }
}

/// Reads a stream until it says something, ends a choice, or as much is held as may be.
async fn first_content(
    mut attempt: Attempt,
    limit: Duration,
) -> Result<StreamStart, UpstreamError> {
    let mut reader = FrameReader::new(MAX_EVENT_BYTES);
    let mut held: Vec<Frame> = Vec::new();
    let mut held_bytes = 0;
    loop {
        while let Some(frame) = reader.next_frame().map_err(malformed)? {
            let committed = says_something(&frame)?;
            held_bytes += frame.raw.len();
            held.push(frame);
            if committed || held.len() >= MAX_HELD_FRAMES || held_bytes >= MAX_HELD_BYTES {
                return Ok(StreamStart { attempt, reader, held });
            }
        }
        match attempt.chunk(Some(limit)).await? {
            Some(bytes) => reader.push(&bytes),
            None => {
                let message = "the stream ended before it said anything".to_owned();
                return Err(UpstreamError::Malformed(message));
            }
        }
    }
}

/// Whether a frame is the first that a caller could see; an error frame is an error.
fn says_something(frame: &Frame) -> Result<bool, UpstreamError> {
    let Some(data) = frame.data() else { return Ok(false) };
    if data.as_ref() == DONE {
        let message = "the stream is done before it said anything".to_owned();
        return Err(UpstreamError::Malformed(message));
    }
    let facts = ChunkFacts::read(&data).ok_or_else(|| malformed("an event is not JSON"))?;
    if let Some(message) = facts.error {
        return Err(UpstreamError::Failed { status: 200, message, retry_after: None });
    }
    Ok(facts.has_content || facts.finish_reason.is_some())
}

/// The answer breaks its protocol.
pub fn malformed(what: impl ToString) -> UpstreamError {
    UpstreamError::Malformed(what.to_string())
}

/// Request ids and rate limits of the provider, which are about its account, not the caller's.
fn shown_headers(attempt: &Attempt) -> ShownHeaders {
    attempt
        .headers()
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            matches!(name, "x-request-id" | "request-id") || name.starts_with("x-ratelimit-")
        })
        .map(|(name, value)| {
            let name = name.as_str();
            let bare = name.strip_prefix("x-").unwrap_or(name);
            (format!("x-upstream-{bare}"), value.as_bytes().to_vec())
        })
        .collect()
}
