//! The surfaces of conversations, and `POST /v1/decision`.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    error::ApiError,
    headers::{
        add_answer, add_debug, add_decision, add_no_decision, add_pace, dial, name, request_id,
        request_info, set, wants_debug,
    },
    read_body,
    visitor::Visitor,
};
use crate::{
    classify::model::Stage,
    gateway::{Counted, Gateway, Reply, ReplyBody, Routed, milliseconds},
    protocol::{fields::RequestError, incoming::Incoming, json::RawObject, neutral::Surface},
};

/// `POST /v1/chat/completions`
pub async fn chat(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    request: Request,
) -> Response {
    Box::pin(converse(&gateway, Surface::OpenAiChat, visitor, request)).await
}

/// `POST /v1/responses`
pub async fn responses(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    request: Request,
) -> Response {
    Box::pin(converse(&gateway, Surface::OpenAiResponses, visitor, request)).await
}

/// `POST /v1/messages`
pub async fn messages(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    request: Request,
) -> Response {
    Box::pin(converse(&gateway, Surface::Anthropic, visitor, request)).await
}

/// `POST /v1/completions`
pub async fn completions(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    request: Request,
) -> Response {
    Box::pin(converse(&gateway, Surface::OpenAiCompletions, visitor, request)).await
}

/// `POST /v1/embeddings`
pub async fn embeddings(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    request: Request,
) -> Response {
    let (Parts { headers, .. }, body) = request.into_parts();
    let (id, mut began) = (request_id(&headers), Instant::now());
    let parse = |bytes: &[u8]| Incoming::embeddings(bytes);
    let reply = answer(&gateway, parse, visitor, &headers, body, &id, &mut began).await;
    let debug = wants_debug(&headers);
    let response = reply.map(|reply| into_response(reply, debug));
    respond(&gateway, Surface::OpenAiChat, &id, began, response)
}

/// `POST /v1/messages/count_tokens`
pub async fn count_tokens(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    request: Request,
) -> Response {
    let (Parts { headers, .. }, body) = request.into_parts();
    let (id, mut began) = (request_id(&headers), Instant::now());
    let counted = count(&gateway, visitor, &headers, body, &id, &mut began).await;
    respond(&gateway, Surface::Anthropic, &id, began, counted)
}

async fn count(
    gateway: &Gateway,
    visitor: Visitor,
    headers: &HeaderMap,
    body: Body,
    id: &str,
    began: &mut Instant,
) -> Result<Response, ApiError> {
    let caller = visitor.admitted()?;
    let bytes = read_body(gateway, headers, body).await?;
    let info = request_info(headers, id, caller)?;
    *began = info.received;
    let request = Incoming::parse(Surface::Anthropic, &bytes)?;
    let Counted { routed, body, estimated, overhead } =
        gateway.count_tokens(&request, &info, dial(headers)?).await?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    add_decision(headers, &routed, usize::from(!estimated));
    add_answer(headers, overhead, None);
    if estimated {
        set(headers, name!("x-weighbridge-warnings"), "estimated:input_tokens");
    }
    Ok(response)
}

/// Forwards a conversation to the model that its policy picks.
async fn converse(
    gateway: &Gateway,
    surface: Surface,
    visitor: Visitor,
    request: Request,
) -> Response {
    let (Parts { headers, .. }, body) = request.into_parts();
    let debug = wants_debug(&headers);
    let (id, mut began) = (request_id(&headers), Instant::now());
    let parse = |bytes: &[u8]| Incoming::parse(surface, bytes);
    let reply = answer(gateway, parse, visitor, &headers, body, &id, &mut began).await;
    respond(gateway, surface, &id, began, reply.map(|reply| into_response(reply, debug)))
}

async fn answer(
    gateway: &Gateway,
    parse: impl Fn(&[u8]) -> Result<Incoming, RequestError>,
    visitor: Visitor,
    headers: &HeaderMap,
    body: Body,
    id: &str,
    began: &mut Instant,
) -> Result<Reply, ApiError> {
    let caller = visitor.admitted()?;
    let bytes = read_body(gateway, headers, body).await?;
    // Time spent waiting for the caller's bytes is not ours: the clock starts here.
    let info = request_info(headers, id, caller)?;
    *began = info.received;
    let request = parse(&bytes)?;
    let dial = dial(headers)?;
    Ok(gateway.converse(&request, info, dial).await?)
}

/// Scores and decides, forwards nothing. The body is one of any surface's.
pub async fn decision(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    request: Request,
) -> Response {
    let (Parts { headers, .. }, body) = request.into_parts();
    let (id, mut began) = (request_id(&headers), Instant::now());
    let routed = decide(&gateway, visitor, &headers, body, &id, &mut began).await;
    let response = routed.map(|routed| {
        let mut response = axum::Json(describe(&routed)).into_response();
        add_decision(response.headers_mut(), &routed, 0);
        response
    });
    respond(&gateway, Surface::OpenAiChat, &id, began, response)
}

async fn decide(
    gateway: &Gateway,
    visitor: Visitor,
    headers: &HeaderMap,
    body: Body,
    id: &str,
    began: &mut Instant,
) -> Result<Routed, ApiError> {
    let caller = visitor.admitted()?;
    let bytes = read_body(gateway, headers, body).await?;
    let surface = surface_of(headers, &bytes);
    let request = Incoming::parse(surface, &bytes)?;
    let info = request_info(headers, id, caller)?;
    *began = info.received;
    Ok(gateway.decide(&request, &info, dial(headers)?).await?)
}

/// Whose body it is: Anthropic's SDKs send their version, and only responses have `input`.
fn surface_of(headers: &HeaderMap, body: &[u8]) -> Surface {
    if headers.contains_key(name!("anthropic-version")) {
        return Surface::Anthropic;
    }
    match RawObject::parse(body) {
        Ok(body) if body.get("messages").is_none() && body.get("input").is_some() => {
            Surface::OpenAiResponses
        }
        _ => Surface::OpenAiChat,
    }
}

/// Adds what every response carries, and counts refusals. `began` is when the body had been read.
pub(super) fn respond(
    gateway: &Gateway,
    surface: Surface,
    request_id: &str,
    began: Instant,
    response: Result<Response, ApiError>,
) -> Response {
    let mut response = response.unwrap_or_else(|error| {
        if !matches!(&error, ApiError::Gateway(error) if error.routed().is_some()) {
            gateway.metrics().request_refused(error.label());
            tracing::info!(request_id, outcome = error.label(), field = error.param(), "refused");
        }
        error.on(surface, request_id)
    });
    let headers = response.headers_mut();
    if !headers.contains_key(name!("x-weighbridge-decision-id")) {
        add_no_decision(headers);
    }
    // Who asked a provider has said how much of the time was not the provider's.
    if !headers.contains_key(name!("x-weighbridge-overhead-ms")) {
        add_answer(headers, began.elapsed(), None);
    }
    named(response, surface, request_id)
}

/// Names the request, as every response does.
pub(super) fn named(mut response: Response, surface: Surface, request_id: &str) -> Response {
    let headers = response.headers_mut();
    set(headers, name!("x-weighbridge-request-id"), request_id);
    set(headers, name!("x-request-id"), request_id);
    if surface == Surface::Anthropic {
        set(headers, name!("request-id"), request_id);
    }
    response
}

/// Headers of ours that an answer has at most, those for debugging aside.
const HEADERS: usize = 24;

fn into_response(reply: Reply, debug: bool) -> Response {
    let (body, content_type, cost) = match reply.body {
        ReplyBody::Whole(body, cost) => (Body::from(body), "application/json", cost),
        ReplyBody::Stream(relay) => {
            (Body::from_stream(relay.into_stream()), "text/event-stream", None)
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    // Room for all of them at once: the map would grow four times.
    headers.reserve(HEADERS + reply.upstream_headers.len());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if content_type == "text/event-stream" {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx in front would otherwise hold the stream back.
        set(headers, name!("x-accel-buffering"), "no");
    }
    add_decision(headers, &reply.routed, reply.attempts);
    add_answer(headers, reply.overhead, cost);
    add_pace(headers, &reply.pace);
    if !reply.warnings.is_empty() {
        set(headers, name!("x-weighbridge-warnings"), reply.warnings.to_string());
    }
    if debug {
        add_debug(headers, &reply.routed);
    }
    headers.extend(reply.upstream_headers);
    response
}

/// A decision as JSON: all that is needed to understand and to replay it.
fn describe(routed: &Routed) -> Value {
    let decision = &routed.decision;
    let name = |index: usize| routed.models.get(index).map(|card| card.name.as_str());
    let route: Vec<_> = decision
        .route
        .iter()
        .map(|c| json!({"model": name(c.model), "tier": routed.tiers.get(c.tier)}))
        .collect();
    let rejections: Vec<_> = decision
        .rejections
        .iter()
        .map(|r| json!({"model": name(r.model), "lacks": r.lack.to_string()}))
        .collect();
    let abilities: Vec<_> = routed.needs.abilities.iter().map(|ability| ability.name()).collect();
    json!({
        "object": "weighbridge.decision",
        "id": routed.decision_id,
        "policy": routed.policy,
        "tier": routed.tier(),
        "model": routed.model().map(|card| &card.name),
        "provider": routed.model().map(|card| &card.provider),
        "score": decision.score.ok().map(|score| round4(score.get())),
        "threshold": decision.threshold.map(|threshold| round4(threshold.get())),
        "margin": decision.margin.map(round4),
        "reason": decision.reason.label(),
        "route": route,
        "rejections": rejections,
        "needs": {
            "prompt_tokens_estimate": routed.needs.prompt_tokens,
            "max_output_tokens": routed.needs.output_tokens,
            "abilities": abilities,
        },
        "stage": routed.stage.map(Stage::label),
        "scored_tokens": routed.scored_tokens,
        "classifier_ms": milliseconds(routed.scoring_time),
    })
}

/// Four decimals, as in the headers: f32 noise would look like precision.
fn round4(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4
}
