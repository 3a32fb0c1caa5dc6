//! `POST /v1/chat/completions` and `POST /v1/decision`.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    error::ApiError,
    headers::{add_answer, add_debug, add_decision, dial, request_info, set, wants_debug},
    read_body,
};
use crate::{
    classify::model::Stage,
    gateway::{Gateway, Reply, ReplyBody, RequestInfo, Routed, milliseconds},
    protocol::chat::ChatRequest,
};

/// Forwards a chat request to the model that its policy picks.
pub async fn completions(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let info = request_info(&headers);
    let debug = wants_debug(&headers);
    let reply = answer(&gateway, &headers, body, info.clone()).await;
    respond(&gateway, &info, reply.map(|reply| into_response(reply, debug)))
}

async fn answer(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: Body,
    info: RequestInfo,
) -> Result<Reply, ApiError> {
    let bytes = read_body(gateway, headers, body).await?;
    let request = ChatRequest::parse(&bytes)?;
    let dial = dial(headers)?;
    // Time spent waiting for the caller's bytes is not ours.
    let info = RequestInfo { received: std::time::Instant::now(), ..info };
    Ok(gateway.chat(&request, info, dial).await?)
}

/// Scores and decides, forwards nothing.
pub async fn decision(
    State(gateway): State<Arc<Gateway>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let info = request_info(&headers);
    let routed = decide(&gateway, &headers, body).await;
    let response = routed.map(|routed| {
        let mut response = axum::Json(describe(&routed)).into_response();
        add_decision(response.headers_mut(), &routed, 0);
        response
    });
    respond(&gateway, &info, response)
}

async fn decide(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<Routed, ApiError> {
    let bytes = read_body(gateway, headers, body).await?;
    let request = ChatRequest::parse(&bytes)?;
    Ok(gateway.route(&request, dial(headers)?).await?)
}

/// Adds what every response carries, and counts refusals.
fn respond(
    gateway: &Gateway,
    info: &RequestInfo,
    response: Result<Response, ApiError>,
) -> Response {
    let mut response = response.unwrap_or_else(|error| {
        if !matches!(&error, ApiError::Gateway(error) if error.routed().is_some()) {
            gateway.metrics().request_refused(error.label());
            tracing::info!(
                request_id = info.request_id,
                outcome = error.label(),
                field = error.param(),
                "refused"
            );
        }
        error.into_response()
    });
    set(response.headers_mut(), "x-weighbridge-request-id", &info.request_id);
    set(response.headers_mut(), "x-request-id", &info.request_id);
    response
}

fn into_response(reply: Reply, debug: bool) -> Response {
    let (body, content_type, cost) = match reply.body {
        ReplyBody::Whole(body, cost) => (Body::from(body), "application/json", cost),
        ReplyBody::Stream(relay) => {
            (Body::from_stream(relay.into_stream()), "text/event-stream", None)
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if content_type == "text/event-stream" {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx in front would otherwise hold the stream back.
        set(headers, "x-accel-buffering", "no");
    }
    add_decision(headers, &reply.routed, reply.attempts);
    add_answer(headers, reply.overhead, cost);
    if debug {
        add_debug(headers, &reply.routed);
    }
    for (name, value) in reply.upstream_headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value))
        {
            headers.insert(name, value);
        }
    }
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
