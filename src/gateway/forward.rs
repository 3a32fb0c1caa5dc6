//! From decision to answer: candidates in order, until one gives content.
//!
//! A failure before the first content goes to the caller moves on: to another credential or
//! deployment, to a further try, to the next candidate; nothing of a failed attempt is ever
//! shown. After the first content the stream belongs to [`Relay`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderValue};

use super::{
    Gateway, GatewayError, Relay, Reply, ReplyBody, RequestInfo, Routed,
    flow::{Flow, FlowSettings, Seen, malformed, with_reasoning_inside},
    relay::StreamStart,
    settle::{FINISHED, Settlement},
};
use crate::{
    policy::{Ability, Mode, ModelCard},
    protocol::{
        chunk::AnswerFacts,
        embeddings::{EmbeddingRequest, read_cohere, read_gemini, read_openai_usage},
        failure::read_error,
        incoming::Incoming,
        json::RawObject,
        neutral::{Dialect, ErrorKind, Surface, Target, Warnings, Written},
        openai_chat::finish_reason,
        translate::{Show, read_answer, write_answer, write_request},
    },
    units::TokenCount,
    upstream::{Api, Attempt, Call, Limits, Operation, Slot, UpstreamError},
};

/// Frames held back before the first content; after this many the stream goes out as it is.
const MAX_HELD_FRAMES: usize = 64;
/// The same in bytes.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// A provider's headers that may be shown, names prefixed.
type ShownHeaders = Vec<(String, Vec<u8>)>;

/// A candidate's answer, far enough to be shown.
enum Answer {
    Whole(Bytes, Seen),
    Stream(Box<StreamStart>),
}

/// A request as one candidate is asked.
struct Prepared {
    operation: Operation,
    dialect: Dialect,
    form: Form,
    body: Bytes,
    schema_tool: Option<String>,
    warnings: Warnings,
    show: Show,
}

/// How an answer is read.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// As the caller speaks: bytes pass.
    Native,
    /// In another language.
    Translated,
    /// Vectors, in the form of this kind of provider.
    Vectors(Api),
}

/// The tries at one candidate that came to nothing.
struct Failed {
    error: UpstreamError,
    waited: Duration,
}

impl Gateway {
    /// Tries the route's candidates in order.
    pub(super) async fn forward(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        mut routed: Routed,
        mut settlement: Settlement,
    ) -> Result<Reply, GatewayError> {
        let mut last_error = None;
        let mut waited = Duration::ZERO;
        // A window that was too small tells which others are.
        let mut too_small: Option<u32> = None;
        for candidate in routed.decision.route.clone() {
            let Some(card) = routed.models.get(candidate.model).cloned() else { continue };
            if too_small.is_some_and(|least| card.context_window.is_some_and(|w| w <= least)) {
                continue;
            }
            routed.served = Some(candidate);
            let prepared = match self.prepare(request, &card, info) {
                Ok(prepared) => prepared,
                Err(PrepareError::Request(error)) => {
                    settlement.finish("caller_invalid_request");
                    return Err(GatewayError::Request(error));
                }
                Err(PrepareError::Upstream(error)) => {
                    last_error = Some(error);
                    continue;
                }
            };
            let tier = routed.tier().map(str::to_owned);
            let asked =
                self.ask(request, info, &card, &prepared, tier.as_deref(), &mut settlement).await;
            let failed = match asked {
                Ok((headers, answer, took)) => {
                    waited += took;
                    self.remember(&routed);
                    let warnings = prepared.warnings;
                    return Ok(self.reply(routed, settlement, headers, answer, waited, warnings));
                }
                Err(failed) => failed,
            };
            waited += failed.waited;
            let may_go_on = routed.may_fall_back(&failed.error);
            if failed.error.rejection() == Some(ErrorKind::ContextLength) {
                too_small = card.context_window.max(too_small);
            }
            last_error = Some(failed.error);
            if !may_go_on {
                break;
            }
        }
        let error = last_error
            .unwrap_or_else(|| UpstreamError::Connect("the route has no candidate".to_owned()));
        settlement.finish(error.label());
        let attempts = settlement.attempts();
        Err(GatewayError::Upstream { routed: Box::new(routed), error, attempts })
    }

    /// Asks one candidate, at as many deployments and as often as its provider's settings allow.
    async fn ask(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        card: &ModelCard,
        prepared: &Prepared,
        tier: Option<&str>,
        settlement: &mut Settlement,
    ) -> Result<(ShownHeaders, Answer, Duration), Failed> {
        let mut waited = Duration::ZERO;
        let mut failure: Option<UpstreamError> = None;
        let mut tries = match self.upstreams.begin(&card.provider, &card.upstream_name) {
            Ok(tries) => tries,
            Err(error) => return Err(Failed { error, waited }),
        };
        loop {
            let (mut slot, pause) = match tries.next(failure.as_ref(), Instant::now()) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            let Some(limits) = info.limits(slot.provider(), pause) else {
                failure.get_or_insert(info.total_passed());
                break;
            };
            tokio::time::sleep(pause).await;
            settlement.attempt(card, tier);
            let started = Instant::now();
            let answer = self.attempt(request, info, card, prepared, &slot, limits).await;
            waited += pause + started.elapsed();
            let outcome = answer.as_ref().map_or_else(UpstreamError::label, |_| "ok");
            self.metrics.attempt_ended(&card.provider, settlement.metric_model(), outcome);
            match answer {
                Ok((headers, started)) => {
                    slot.succeeded();
                    return Ok((headers, started.with_slot(slot), waited));
                }
                Err(error) => {
                    slot.failed(&error);
                    tracing::warn!(
                        request_id = settlement.request_id(),
                        provider = card.provider,
                        model = card.name,
                        attempt = settlement.attempts(),
                        outcome,
                        error = %error,
                        "an attempt failed"
                    );
                    failure = Some(error);
                }
            }
        }
        let error = failure
            .unwrap_or_else(|| UpstreamError::Connect("no deployment can be asked".to_owned()));
        Err(Failed { error, waited })
    }

    /// Hands an answer to the edge: a whole one is settled here, a stream settles itself.
    fn reply(
        &self,
        routed: Routed,
        mut settlement: Settlement,
        upstream_headers: ShownHeaders,
        answer: Answer,
        waited: Duration,
        warnings: Warnings,
    ) -> Reply {
        for warning in warnings.iter() {
            self.metrics.translation_warned(warning.code);
        }
        let attempts = settlement.attempts();
        let overhead = settlement.received().elapsed().saturating_sub(waited);
        let body = match answer {
            Answer::Whole(body, seen) => {
                settlement.observe(&seen);
                let cost = settlement.cost();
                settlement.finish(FINISHED);
                ReplyBody::Whole(body, cost)
            }
            Answer::Stream(start) => {
                ReplyBody::Stream(Box::new(Relay::new(*start, settlement, self.stop.clone())))
            }
        };
        Reply { routed, attempts, upstream_headers, overhead, warnings, body }
    }

    /// The request in the candidate's language.
    fn prepare(
        &self,
        request: &Incoming,
        card: &ModelCard,
        info: &RequestInfo,
    ) -> Result<Prepared, PrepareError> {
        let name = &card.upstream_name;
        let Some(provider) = self.upstreams.provider(&card.provider) else {
            let message = format!("no provider is named `{}`", card.provider);
            return Err(UpstreamError::Connect(message).into());
        };
        let dialect = match (card.mode, provider.api) {
            (Some(Mode::Responses), Api::OpenAi | Api::Azure) => Dialect::OpenAiResponses,
            _ => provider.dialect(request.surface),
        };
        let show = Show {
            id: answer_id(request.surface),
            model: name.clone(),
            created: info.unix_time,
            include_usage: request.include_usage,
        };
        let stream = request.stream;
        let prepared = |operation, form, body: Vec<u8>| Prepared {
            operation,
            dialect,
            form,
            body: body.into(),
            schema_tool: None,
            warnings: Warnings::default(),
            show: show.clone(),
        };
        if let Some(wanted) = &request.embeddings {
            let body = vectors_body(request, wanted, provider.api, name)?;
            return Ok(prepared(Operation::Embed, Form::Vectors(provider.api), body));
        }
        let native = || request.native_body(name, provider.quirks.stream_usage);
        if provider.completes() && request.surface == Surface::OpenAiCompletions {
            return Ok(prepared(Operation::Complete, Form::Native, native()));
        }
        let operation = Operation::Converse { dialect, stream };
        if request.surface.speaks(dialect) {
            return Ok(prepared(operation, Form::Native, native()));
        }
        if let Some(field) = request.stored.first() {
            let message = format!(
                "`{field}` names what only the provider that stored it knows, and `{}` is not \
                 asked in the same protocol: send the whole conversation",
                card.name
            );
            return Err(UpstreamError::Unsupported(message).into());
        }
        let conversation = request.conversation().map_err(PrepareError::Request)?;
        let target = Target {
            max_output_tokens: card.max_output_tokens.unwrap_or(DEFAULT_MAX_OUTPUT),
            json_schema: card.can(Ability::JsonSchema),
            reasoning: card.can(Ability::Reasoning),
            reasoning_content: provider.quirks.reasoning_content,
            old_max_tokens: provider.quirks.old_max_tokens,
            short_tool_ids: provider.quirks.short_tool_ids,
            stream_usage: provider.quirks.stream_usage,
            ..Target::new(dialect, name)
        };
        let mut written = write_request(conversation, &target);
        if dialect == Dialect::OpenAiChat {
            leave_out(&provider.quirks.rejects, &mut written);
        }
        Ok(Prepared {
            schema_tool: written.schema_tool,
            warnings: written.warnings,
            ..prepared(operation, Form::Translated, written.body)
        })
    }

    /// Asks one deployment once.
    async fn attempt(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        card: &ModelCard,
        prepared: &Prepared,
        slot: &Slot,
        limits: Limits,
    ) -> Result<(ShownHeaders, Started), UpstreamError> {
        let dialect = prepared.dialect;
        let call = Call {
            operation: prepared.operation,
            model: &card.upstream_name,
            body: prepared.body.clone(),
            headers: info.forwarded_headers(),
            limits,
        };
        let attempt = self.upstreams.send(slot, call).await?;
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
                price: card.price,
                reasoning_beside_output: slot.provider().quirks.reasoning_beside_output,
            });
            let start = first_content(attempt, flow, limits.first_byte);
            let (attempt, flow) =
                tokio::time::timeout(limits.first_byte, start).await.map_err(|_| {
                    UpstreamError::Timeout { deadline: "first_byte", limit: limits.first_byte }
                })??;
            slot.first_content(attempt.started().elapsed());
            return Ok((headers, Started::Stream(attempt, Box::new(flow))));
        }
        let started = attempt.started();
        let is_json = attempt.is_content_type("application/json");
        let body = attempt.body(self.config.server.max_answer_bytes).await?;
        if body.is_empty() {
            return Err(malformed("it is empty"));
        }
        if !is_json {
            return Err(malformed("it is not JSON"));
        }
        let (body, mut seen) = whole(body, request, prepared)?;
        if slot.provider().quirks.reasoning_beside_output {
            seen.usage = seen.usage.map(with_reasoning_inside);
        }
        if request.stream {
            return Err(malformed("it is not an event stream"));
        }
        slot.first_content(started.elapsed());
        Ok((headers, Started::Whole(body, seen)))
    }
}

impl Gateway {
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
        let mut tries = self.upstreams.begin(&card.provider, &card.upstream_name).ok()?;
        let (mut slot, _) = tries.next(None, Instant::now()).ok()??;
        let limits = info.limits(provider, Duration::ZERO)?;
        let call = Call {
            operation: Operation::CountTokens,
            model: &card.upstream_name,
            body: request.native_body(&card.upstream_name, false).into(),
            headers: info.forwarded_headers(),
            limits,
        };
        let answer = async { self.upstreams.send(&slot, call).await?.body(MAX_COUNT_BYTES).await };
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

/// Largest answer to a question for a number.
const MAX_COUNT_BYTES: usize = 64 * 1024;

/// An attempt that succeeded, before its slot is handed over.
enum Started {
    Whole(Bytes, Seen),
    Stream(Attempt, Box<Flow>),
}

impl Started {
    fn with_slot(self, slot: Slot) -> Answer {
        match self {
            Self::Whole(body, seen) => Answer::Whole(body, seen),
            Self::Stream(attempt, flow) => {
                Answer::Stream(Box::new(StreamStart { attempt, flow: *flow, slot }))
            }
        }
    }
}

/// Why a candidate cannot be asked.
enum PrepareError {
    /// The request cannot be read, whoever is asked.
    Request(crate::protocol::fields::RequestError),
    /// This candidate cannot take it.
    Upstream(UpstreamError),
}

impl From<UpstreamError> for PrepareError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// Takes out the fields that a provider is known to refuse.
fn leave_out(rejects: &[String], written: &mut Written) {
    let Ok(mut body) = RawObject::parse(&written.body) else { return };
    for name in rejects {
        if body.take(name).is_some() {
            written.warnings.add("field_dropped", name);
        }
    }
    written.body = body.to_bytes();
}

/// The bound on an answer where the provider demands one and neither caller nor card has one.
const DEFAULT_MAX_OUTPUT: u32 = 4096;

/// The id of an answer whose provider gives none.
fn answer_id(surface: Surface) -> String {
    let id = uuid::Uuid::now_v7().simple();
    match surface {
        Surface::OpenAiChat => format!("chatcmpl-{id}"),
        Surface::OpenAiCompletions => format!("cmpl-{id}"),
        Surface::OpenAiResponses => format!("resp_{id}"),
        Surface::Anthropic => format!("msg_{id}"),
    }
}

/// A request for vectors in a provider's language.
fn vectors_body(
    request: &Incoming,
    wanted: &EmbeddingRequest,
    api: Api,
    model: &str,
) -> Result<Vec<u8>, UpstreamError> {
    let body = match api {
        Api::OpenAi | Api::Azure => Some(request.native_body(model, false)),
        Api::Gemini => wanted.for_gemini(model),
        Api::Cohere => wanted.for_cohere(model),
        Api::Anthropic | Api::Bedrock => {
            let message = format!("a provider of the kind `{}` makes no embeddings", api.name());
            return Err(UpstreamError::Unsupported(message));
        }
    };
    body.ok_or_else(|| {
        let message = "`input` holds token numbers, which only a provider of OpenAI's kind takes";
        UpstreamError::Unsupported(message.to_owned())
    })
}

/// A whole answer in the caller's language, and what it says.
fn whole(
    body: Bytes,
    request: &Incoming,
    prepared: &Prepared,
) -> Result<(Bytes, Seen), UpstreamError> {
    let (dialect, surface) = (prepared.dialect, request.surface);
    if let (Form::Vectors(api), Some(wanted)) = (prepared.form, &request.embeddings) {
        return vectors(body, wanted, api, &prepared.show.model);
    }
    let is_native = prepared.form == Form::Native;
    if is_native && matches!(surface, Surface::OpenAiChat | Surface::OpenAiCompletions) {
        let facts = AnswerFacts::read(&body).ok_or_else(|| malformed("it is not JSON"))?;
        if facts.error.is_some() {
            return Err(UpstreamError::of_event(read_error(200, &body)));
        }
        let seen = Seen {
            usage: facts.usage,
            finish_reason: facts.finish_reason,
            has_content: true,
            content_bytes: facts.content_bytes,
            finished: true,
        };
        return Ok((body, seen));
    }
    let tool = prepared.schema_tool.as_deref();
    let answer =
        read_answer(dialect, &body, &prepared.show.model, tool).map_err(UpstreamError::of_event)?;
    let seen = Seen {
        usage: answer.usage.map(Into::into),
        finish_reason: Some(finish_reason(answer.stop).to_owned()),
        has_content: true,
        content_bytes: answer.content_bytes(),
        finished: true,
    };
    if is_native {
        return Ok((body, seen));
    }
    Ok((write_answer(surface, &answer, &prepared.show).into(), seen))
}

/// The same for vectors.
fn vectors(
    body: Bytes,
    wanted: &EmbeddingRequest,
    api: Api,
    model: &str,
) -> Result<(Bytes, Seen), UpstreamError> {
    let answered = |usage| Seen {
        usage: Some(usage).filter(|usage: &TokenCount| usage.prompt_tokens > 0),
        has_content: true,
        finished: true,
        ..Seen::default()
    };
    let read = match api {
        Api::Gemini => read_gemini(&body),
        Api::Cohere => read_cohere(&body),
        Api::OpenAi | Api::Azure | Api::Anthropic | Api::Bedrock => {
            let usage = read_openai_usage(&body)
                .ok_or_else(|| UpstreamError::of_event(read_error(200, &body)))?;
            return Ok((body, answered(usage)));
        }
    };
    let read = read.ok_or_else(|| UpstreamError::of_event(read_error(200, &body)))?;
    let usage = TokenCount { prompt_tokens: read.input_tokens, ..TokenCount::default() };
    Ok((wanted.write_answer(model, &read).into(), answered(usage)))
}

/// Reads a stream until it says something, ends, or as much is held as may be.
async fn first_content(
    mut attempt: Attempt,
    mut flow: Flow,
    limit: Duration,
) -> Result<(Attempt, Flow), UpstreamError> {
    loop {
        match attempt.chunk(Some(limit)).await? {
            Some(bytes) => flow.push(&bytes)?,
            None => flow.close()?,
        }
        let (frames, bytes) = flow.held();
        let seen = flow.seen();
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
        .map(|(name, value)| {
            let name = name.as_str();
            let bare = name.strip_prefix("x-").unwrap_or(name);
            (format!("x-upstream-{bare}"), value.as_bytes().to_vec())
        })
        .collect()
}

/// Headers of the caller that providers are shown.
const FORWARDED: [&str; 5] =
    ["traceparent", "tracestate", "anthropic-version", "anthropic-beta", "openai-beta"];

/// Picks the caller's headers that go on to a provider.
pub fn forwarded(headers: &HeaderMap, request_id: &str) -> Arc<HeaderMap> {
    let mut kept = HeaderMap::new();
    for name in FORWARDED {
        for value in headers.get_all(name) {
            kept.append(name, value.clone());
        }
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        kept.insert("x-request-id", id);
    }
    Arc::new(kept)
}
