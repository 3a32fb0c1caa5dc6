//! One attempt at one deployment, up to the first content, and how its answer is read.

use std::{
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper::header::{HeaderMap, HeaderName};

use super::{
    Gateway, RequestInfo,
    flow::{Flow, FlowSettings, Seen, estimated_usage, malformed, with_reasoning_inside},
    forward::Answer,
    makers::Makers,
    prepare::{Form, Prepared},
    relay::StreamStart,
    routed::estimate_tokens,
};
use crate::{
    policy::ModelCard,
    protocol::{
        bedrock::embed::{Embedder, INPUT_TOKENS_HEADER},
        chunk::AnswerFacts,
        embeddings::{EmbeddingRequest, Vectors, read_cohere, read_gemini, read_openai_usage},
        failure::read_error,
        incoming::Incoming,
        neutral::{Dialect, PartBody, Surface, Warnings},
        openai_chat::finish_reason,
        translate::{read_answer, write_answer},
    },
    units::TokenCount,
    upstream::{Api, Attempt, Call, Limits, Operation, Slot, UpstreamError},
};

/// Frames held back before the first content; after this many the stream goes out as it is.
const MAX_HELD_FRAMES: usize = 64;
/// The same in bytes.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// A provider's headers that may be shown, names prefixed.
pub type ShownHeaders = HeaderMap;

/// What a candidate is asked.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// What the caller wants.
    pub request: &'a Incoming,
    /// What is known of it besides.
    pub info: &'a RequestInfo,
    /// The candidate.
    pub card: &'a ModelCard,
    /// The request in its language.
    pub prepared: &'a Prepared,
}

/// An attempt that succeeded, before its slot is handed over.
pub enum Started {
    /// JSON, and what it says.
    Whole(Bytes, Seen),
    /// The head of a stream, and what has been read of it.
    Stream(Attempt, Box<Flow>),
}

impl Started {
    /// The same with the place that it was asked at.
    pub fn with_slot(self, slot: Slot) -> Answer {
        match self {
            Self::Whole(body, seen) => Answer::Whole(body, seen),
            Self::Stream(attempt, flow) => {
                Answer::Stream(Box::new(StreamStart { attempt, flow: *flow, slot }))
            }
        }
    }
}

impl Gateway {
    /// Asks one deployment once. `seen` tells what the answer has said so far, also when the attempt
    /// fails or is given up.
    pub(super) async fn attempt(
        &self,
        question: Question<'_>,
        slot: &Slot,
        limits: Limits,
        seen: &mut Seen,
    ) -> Result<(ShownHeaders, Started), UpstreamError> {
        let Question { request, info, card, prepared } = question;
        let dialect = prepared.dialect;
        let send = |body: Bytes| {
            let call = Call {
                operation: prepared.operation,
                model: &card.upstream_name,
                body,
                headers: &info.forwarded,
                limits,
            };
            self.upstreams.send(slot, call)
        };
        let attempt = send(prepared.body.clone()).await?;
        let headers = shown_headers(&attempt);
        let stream_type = match dialect {
            Dialect::Bedrock => "application/vnd.amazon.eventstream",
            _ => "text/event-stream",
        };
        if request.stream && attempt.is_content_type(stream_type) {
            let flow = Flow::new(FlowSettings {
                surface: request.surface,
                dialect,
                native: prepared.form == Form::Native,
                model: &card.upstream_name,
                schema_tool: prepared.schema_tool.clone(),
                show: prepared.show.clone(),
                price: card.price_at(info.unix_ms),
                prompt_tokens: estimate_tokens(request),
                reasoning_beside_output: slot.provider().quirks.reasoning_beside_output,
                makers: Arc::clone(&self.makers),
            });
            let start = first_content(attempt, flow, limits.first_byte, seen);
            let (attempt, flow) =
                tokio::time::timeout(limits.first_byte, start).await.map_err(|_| {
                    UpstreamError::Timeout { deadline: "first_byte", limit: limits.first_byte }
                })??;
            slot.first_content(attempt.started().elapsed());
            return Ok((headers, Started::Stream(attempt, Box::new(flow))));
        }
        let started = attempt.started();
        let is_json = attempt.is_content_type("application/json");
        let counted = counted_by_header(&attempt);
        let max_bytes = self.config.server.max_answer_bytes;
        let mut read = 0;
        let body = attempt.body(max_bytes, |bytes| {
            read = bytes;
            *seen = Seen::broken_off(bytes);
        });
        let body = body.await?;
        *seen = Seen::default();
        if body.is_empty() {
            return Err(malformed("it is empty"));
        }
        if !is_json {
            return Err(malformed("it is not JSON"));
        }
        let (body, mut said) = match &request.embeddings {
            Some(wanted) => {
                // The first has shown that the deployment answers: the others go side by side.
                let ask = |body| {
                    let sent = send(body);
                    async move {
                        let attempt = sent.await?;
                        let counted = counted_by_header(&attempt);
                        Ok((attempt.body(max_bytes, |_| ()).await?, counted))
                    }
                };
                let calls =
                    stream::iter(prepared.more.clone()).map(ask).buffered(MAX_CALLS_AT_ONCE);
                let more = within(limits.total, calls.try_collect()).await;
                let more: Vec<_> = more.inspect_err(|_| *seen = Seen::broken_off(read))?;
                let answers = iter::once((body, counted)).chain(more).collect();
                vectors(answers, wanted, prepared)?
            }
            None => whole(body, request, prepared, &self.makers)?,
        };
        if slot.provider().quirks.reasoning_beside_output {
            said.usage = said.usage.map(with_reasoning_inside);
        }
        if request.stream {
            *seen = said;
            return Err(malformed("it is not an event stream"));
        }
        slot.first_content(started.elapsed());
        Ok((headers, Started::Whole(body, said)))
    }

    /// How many tokens the provider counts in an Anthropic request; `None` when the model's
    /// provider cannot say.
    pub(super) async fn counted_tokens(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        card: &ModelCard,
    ) -> Option<Bytes> {
        let provider = self.upstreams.provider(&card.provider)?;
        provider.path(Operation::CountTokens, &card.upstream_name)?;
        let mut tries = self.upstreams.begin(&card.provider, &card.upstream_name, None).ok()?;
        let (mut slot, _) = tries.next(None, Instant::now()).ok()??;
        let limits = info.limits(provider, Duration::ZERO)?;
        let call = Call {
            operation: Operation::CountTokens,
            model: &card.upstream_name,
            body: request.native_body(&card.upstream_name, false).into(),
            headers: &info.forwarded,
            limits,
        };
        let answer =
            async { self.upstreams.send(&slot, call).await?.body(MAX_COUNT_BYTES, |_| ()).await };
        match answer.await {
            Ok(body) => {
                slot.succeeded();
                Some(body)
            }
            Err(error) => {
                slot.failed(&error);
                tracing::warn!(outcome = error.label(), "tokens could not be counted");
                None
            }
        }
    }
}

/// Calls for one answer that are in flight together (chosen: a small part of an account's rate).
const MAX_CALLS_AT_ONCE: usize = 8;

/// Largest answer to a question for a number.
const MAX_COUNT_BYTES: usize = 64 * 1024;

/// A whole answer in the caller's language, and what it says.
fn whole(
    body: Bytes,
    request: &Incoming,
    prepared: &Prepared,
    makers: &Makers,
) -> Result<(Bytes, Seen), UpstreamError> {
    let (dialect, surface) = (prepared.dialect, request.surface);
    let is_native = prepared.form == Form::Native;
    if is_native && matches!(surface, Surface::OpenAiChat | Surface::OpenAiCompletions) {
        let facts = AnswerFacts::read(&body).ok_or_else(|| malformed("it is no completion"))?;
        if facts.error.is_some() {
            return Err(UpstreamError::of_event(read_error(200, &body)));
        }
        let seen = Seen {
            usage: facts.usage,
            provider_cost: facts.cost,
            finish_reason: facts.finish_reason,
            has_content: true,
            content_bytes: facts.content_bytes,
            finished: true,
            lost: Warnings::default(),
        };
        return Ok((body, seen));
    }
    let tool = prepared.schema_tool.as_deref();
    let mut answer =
        read_answer(dialect, &body, &prepared.show.model, tool).map_err(UpstreamError::of_event)?;
    let mut seen = Seen {
        usage: answer.usage.map(Into::into),
        finish_reason: Some(finish_reason(answer.stop).to_owned()),
        has_content: true,
        content_bytes: answer.content_bytes(),
        finished: true,
        lost: if is_native { Warnings::default() } else { answer.lost.clone() },
        ..Seen::default()
    };
    if is_native {
        for part in &answer.parts {
            if let PartBody::Thinking { signature: Some(made), .. }
            | PartBody::RedactedThinking(made) = &part.body
            {
                makers.note(made, &prepared.show.model);
            }
        }
        return Ok((body, seen));
    }
    if answer.usage.is_none() {
        answer.usage = Some(estimated_usage(estimate_tokens(request), seen.content_bytes));
        seen.lost.add("usage_estimated", "response.usage");
    }
    Ok((write_answer(surface, &answer, &prepared.show).into(), seen))
}

/// What Bedrock says of the tokens of a call.
fn counted_by_header(attempt: &Attempt) -> Option<u64> {
    attempt.headers().get(INPUT_TOKENS_HEADER)?.to_str().ok()?.trim().parse().ok()
}

/// Several calls for one answer have the time of one.
async fn within<T>(
    total: Option<Duration>,
    calls: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let Some(limit) = total else { return calls.await };
    let passed = |_| UpstreamError::Timeout { deadline: "total", limit };
    tokio::time::timeout(limit, calls).await.map_err(passed)?
}

/// The same for vectors, from the answers to one call or several, each with the tokens that its
/// head counts.
fn vectors(
    answers: Vec<(Bytes, Option<u64>)>,
    wanted: &EmbeddingRequest,
    prepared: &Prepared,
) -> Result<(Bytes, Seen), UpstreamError> {
    let answered = |usage| Seen {
        usage: Some(usage).filter(|usage: &TokenCount| usage.prompt_tokens > 0),
        has_content: true,
        finished: true,
        ..Seen::default()
    };
    let model = &prepared.show.model;
    let mut all = Vectors { vectors: Vec::new(), input_tokens: 0 };
    for (body, counted) in answers {
        let read = match prepared.form {
            Form::Vectors(Api::Gemini) => read_gemini(&body),
            Form::Vectors(Api::Cohere) => read_cohere(&body),
            Form::Vectors(Api::Bedrock) => {
                Embedder::of(model).and_then(|embedder| embedder.read(&body, counted))
            }
            _ => {
                let usage = read_openai_usage(&body)
                    .ok_or_else(|| UpstreamError::of_event(read_error(200, &body)))?;
                return Ok((body, answered(usage)));
            }
        };
        let read = read.ok_or_else(|| UpstreamError::of_event(read_error(200, &body)))?;
        all.vectors.extend(read.vectors);
        all.input_tokens = all.input_tokens.saturating_add(read.input_tokens);
    }
    if wanted.texts.as_ref().is_some_and(|texts| texts.len() != all.vectors.len()) {
        return Err(malformed("it has not one vector for each text"));
    }
    let usage = TokenCount { prompt_tokens: all.input_tokens, ..TokenCount::default() };
    Ok((wanted.write_answer(model, &all).into(), answered(usage)))
}

/// Reads a stream until it says something, ends, or as much is held as may be.
async fn first_content(
    mut attempt: Attempt,
    mut flow: Flow,
    limit: Duration,
    seen: &mut Seen,
) -> Result<(Attempt, Flow), UpstreamError> {
    loop {
        let taken = match attempt.chunk(Some(limit)).await? {
            Some(bytes) => flow.push(&bytes),
            None => flow.close(),
        };
        seen.clone_from(flow.seen());
        taken?;
        let (frames, bytes) = flow.held();
        if seen.has_content
            || seen.finished
            || seen.finish_reason.is_some()
            || frames >= MAX_HELD_FRAMES
            || bytes >= MAX_HELD_BYTES
        {
            return Ok((attempt, flow));
        }
    }
}

/// Request ids and rate limits of the provider, which are about its account, not the caller's.
fn shown_headers(attempt: &Attempt) -> ShownHeaders {
    attempt
        .headers()
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            matches!(name, "x-request-id" | "request-id" | "x-amzn-requestid")
                || name.starts_with("x-ratelimit-")
                || name.starts_with("anthropic-ratelimit-")
        })
        .filter_map(|(name, value)| {
            let name = name.as_str();
            let bare = name.strip_prefix("x-").unwrap_or(name);
            Some((HeaderName::try_from(format!("x-upstream-{bare}")).ok()?, value.clone()))
        })
        .collect()
}
