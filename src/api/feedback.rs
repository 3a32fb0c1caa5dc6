//! `POST /v1/feedback`: what a caller thought of an answer, joined to its decision by id.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{error::ApiError, read_body, visitor::Visitor};
use crate::{
    gateway::Gateway,
    telemetry::decisions::{Feedback, Line, now},
};

/// Longest decision id that is taken, in bytes; ours have 36.
const MAX_ID_BYTES: usize = 128;

#[derive(Deserialize)]
struct Judgement {
    #[serde(alias = "id")]
    decision_id: String,
    score: f64,
}

/// Appends the judgement to the decision log.
pub async fn feedback(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Response {
    record(&gateway, visitor, &headers, body).await.unwrap_or_else(|error| {
        gateway.metrics().request_refused(error.label());
        error.into_response()
    })
}

async fn record(
    gateway: &Gateway,
    visitor: Visitor,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    visitor.admitted()?;
    let log = gateway.decision_log().ok_or(ApiError::NoDecisionLog)?;
    let bytes = read_body(gateway, headers, body).await?;
    let wrong = |param, message: String| ApiError::Field { param, message };
    let Judgement { decision_id: id, score } = serde_json::from_slice(&bytes)
        .map_err(|error| wrong("body", format!("{error}; send {{\"decision_id\", \"score\"}}")))?;
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        let message = "is the `id` of a decision, from `x-weighbridge-decision-id`".to_owned();
        return Err(wrong("decision_id", message));
    }
    if !(0.0..=1.0).contains(&score) {
        return Err(wrong("score", format!("is {score}; send a number from 0 to 1")));
    }
    log.append(Line::Feedback(Feedback { id: id.clone(), time: now(), score }));
    Ok(Json(json!({"object": "weighbridge.feedback", "decision_id": id, "score": score}))
        .into_response())
}
