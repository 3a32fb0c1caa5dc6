//! Models, health, readiness, metrics, and the paths that do not exist.

use std::{
    sync::{Arc, LazyLock},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, Method, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{converse::named, error::ApiError, headers::request_id, visitor::Visitor};
use crate::{
    config::Config,
    gateway::{Gateway, House, may_name},
    ledger::tenant::Tenant,
    protocol::neutral::Surface,
    telemetry::decisions::DecisionLog,
};

/// Start of the process in Unix seconds: the `created` of models, which have no other date.
static STARTED: LazyLock<u64> = LazyLock::new(|| {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
});

/// What the caller may name, policies first, then models: `(id, owned_by)`.
fn listed<'c>(
    config: &'c Config,
    caller: Option<&'c Tenant>,
) -> impl Iterator<Item = (&'c str, &'c str)> {
    let allowed = caller.map(|caller| &caller.key.restrictions);
    let policies = config.policies.iter().map(|policy| (policy.name(), "weighbridge"));
    let models = config.models.iter().map(|card| (card.name.as_str(), card.provider.as_str()));
    let may_route = move |(name, _): &(&str, _)| allowed.is_none_or(|a| a.allows_policy(name));
    let may_name = move |(name, _): &(&str, _)| allowed.is_none_or(|a| may_name(config, a, name));
    policies.filter(may_route).chain(models.filter(may_name))
}

/// `GET /v1/models`, in Anthropic's shape when the request carries `anthropic-version`.
pub async fn models(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let (surface, id) = (surface(&uri, &headers), request_id(&headers));
    let response = visitor.admitted().map(|caller| list(&gateway, caller.as_deref(), surface));
    named(response.unwrap_or_else(|error| error.on(surface, &id)), surface, &id)
}

fn list(gateway: &Gateway, caller: Option<&Tenant>, surface: Surface) -> Response {
    let listed = listed(gateway.config(), caller);
    if surface == Surface::Anthropic {
        let data: Vec<_> = listed.map(|(id, _)| anthropic_model(id)).collect();
        let id = |model: Option<&Value>| model.and_then(|model| model.get("id")).cloned();
        let list = json!({
            "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false, "data": data,
        });
        return Json(list).into_response();
    }
    let data: Vec<_> = listed.map(|(id, owner)| openai_model(id, owner)).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

/// Whose client asks: Anthropic's SDKs send their version, and only they ask for messages.
fn surface(uri: &Uri, headers: &HeaderMap) -> Surface {
    let path = uri.path();
    let is_anthropic = headers.contains_key("anthropic-version")
        || path.starts_with("/anthropic/")
        || path.split('/').any(|segment| segment == "messages");
    if is_anthropic { Surface::Anthropic } else { Surface::OpenAiChat }
}

/// `GET /v1/models/{id}`.
pub async fn model(
    State(gateway): State<Arc<Gateway>>,
    visitor: Visitor,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let (surface, id) = (surface(&uri, &headers), request_id(&headers));
    let found = visitor.admitted().and_then(|caller| {
        let found = listed(gateway.config(), caller.as_deref()).find(|(known, _)| *known == name);
        found.ok_or_else(|| ApiError::NoSuchModel(name.clone())).map(|(id, owner)| match surface {
            Surface::Anthropic => Json(anthropic_model(id)),
            _ => Json(openai_model(id, owner)),
        })
    });
    let response = found.map_or_else(|error| error.on(surface, &id), IntoResponse::into_response);
    named(response, surface, &id)
}

fn openai_model(id: &str, owner: &str) -> Value {
    json!({"id": id, "object": "model", "created": *STARTED, "owned_by": owner})
}

fn anthropic_model(id: &str) -> Value {
    json!({"type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z"})
}

/// The process is up.
pub async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// 503 until the classifier is loaded.
pub async fn ready(State(house): State<House>) -> Response {
    if house.gateway().is_ready() {
        let mut body = json!({"status": "ready"});
        if let Some(problem) = house.problem() {
            // The configuration before it is in force, so there is no reason to take no requests.
            body["configuration_error"] = problem.into();
        }
        if let Some(ledger) = house.gateway().ledger().filter(|ledger| ledger.store_is_down()) {
            let rows = ledger.waiting_rows();
            body["ledger_error"] =
                format!("the store cannot be reached: {rows} rows wait for it").into();
        }
        Json(body).into_response()
    } else {
        ApiError::NotReady.into_response()
    }
}

/// Prometheus text.
pub async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    if let Some(ledger) = gateway.ledger() {
        gateway.metrics().ledger_stands(ledger.waiting_rows(), ledger.store_is_down());
    }
    let lost = gateway.decision_log().map_or(0, DecisionLog::lost);
    let text = gateway.metrics().render(gateway.queue_depth(), lost);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Any other path.
pub async fn not_found(uri: Uri, headers: HeaderMap) -> Response {
    refused(&ApiError::NoSuchPath(uri.path().to_owned()), &uri, &headers)
}

/// A path that exists, with a method that does not.
pub async fn method_not_allowed(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().to_owned();
    refused(&ApiError::MethodNotAllowed { path, method: method.to_string() }, &uri, &headers)
}

fn refused(error: &ApiError, uri: &Uri, headers: &HeaderMap) -> Response {
    let (surface, id) = (surface(uri, headers), request_id(headers));
    named(error.on(surface, &id), surface, &id)
}
