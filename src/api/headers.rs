//! Headers in and out: request ids, the caller's dial, the decision.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use super::error::ApiError;
use crate::{
    gateway::{Deadlines, Dial, Paces, RequestInfo, Routed, forwarded, milliseconds},
    ledger::tenant::Tenant,
    units::{NanoUsd, Probability},
};

/// Longest request id taken from a caller; a longer one, or one that is not printable ASCII, is
/// replaced by ours.
const MAX_REQUEST_ID: usize = 128;
/// Stands for a value that does not exist, so that the header is always there.
const NONE: HeaderValue = HeaderValue::from_static("none");
const BYPASS: HeaderValue = HeaderValue::from_static("bypass");

/// A header's name, checked when this is compiled: to look a text up means to parse it first.
macro_rules! name {
    ($name:literal) => {
        const { axum::http::HeaderName::from_static($name) }
    };
}
pub(super) use name;

/// The caller's name for the request, or one of ours.
pub fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(name!("x-request-id")).and_then(|id| id.to_str().ok());
    let usable = |id: &&str| {
        !id.is_empty()
            && id.len() <= MAX_REQUEST_ID
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    given
        .filter(usable)
        .map_or_else(|| format!("req_{}", uuid::Uuid::now_v7().simple()), str::to_owned)
}

/// What the headers say of a request whose body has just been read.
pub fn request_info(
    headers: &HeaderMap,
    request_id: &str,
    caller: Option<Arc<Tenant>>,
) -> Result<RequestInfo, ApiError> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let session = SESSION_HEADERS.iter().find_map(|name| headers.get(name)?.to_str().ok());
    Ok(RequestInfo {
        request_id: request_id.to_owned(),
        received: Instant::now(),
        unix_time: since_epoch.as_secs(),
        unix_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
        forwarded: forwarded(headers, request_id),
        deadlines: Deadlines {
            connect: deadline(headers, name!("x-weighbridge-connect-timeout-ms"))?,
            first_byte: deadline(headers, name!("x-weighbridge-first-byte-timeout-ms"))?,
            idle: deadline(headers, name!("x-weighbridge-idle-timeout-ms"))?,
            total: deadline(headers, name!("x-weighbridge-total-timeout-ms"))?,
        },
        session: session.map(str::to_owned),
        caller,
        tags: tags(headers),
    })
}

/// `x-weighbridge-tags: team=search,env=test`
fn tags(headers: &HeaderMap) -> Vec<(String, String)> {
    let values = headers.get_all(name!("x-weighbridge-tags")).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|tag| tag.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The key that a request shows, in the header of whichever SDK (PROTOCOLS, section 1).
pub fn secret(headers: &HeaderMap) -> Option<&str> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let found = bearer(headers).or_else(|| text(name!("x-api-key")));
    let found = found.or_else(|| text(name!("api-key")));
    found.filter(|secret| !secret.is_empty())
}

/// The token in `Authorization: Bearer …` (RFC 6750, section 2.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The pace that the caller's own limits leave, in OpenAI's headers.
pub fn add_pace(headers: &mut HeaderMap, pace: &Paces) {
    let requests = [
        name!("x-ratelimit-limit-requests"),
        name!("x-ratelimit-remaining-requests"),
        name!("x-ratelimit-reset-requests"),
    ];
    let tokens = [
        name!("x-ratelimit-limit-tokens"),
        name!("x-ratelimit-remaining-tokens"),
        name!("x-ratelimit-reset-tokens"),
    ];
    for ([limit, remaining, reset], pace) in [(requests, pace.0), (tokens, pace.1)] {
        let Some(pace) = pace else { continue };
        set(headers, limit, pace.limit);
        set(headers, remaining, pace.remaining);
        // OpenAI writes durations like `1s` and `6m0s`; a fraction of a second is a fraction.
        let (minutes, ms) = (pace.reset_ms / 60_000, pace.reset_ms % 60_000);
        let seconds = format!("{}s", ms as f64 / 1e3);
        let text = if minutes > 0 { format!("{minutes}m{seconds}") } else { seconds };
        set(headers, reset, text);
    }
}

/// Headers that name a conversation, in this order (PROTOCOLS, section 3).
static SESSION_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-session-id"),
    HeaderName::from_static("x-conversation-id"),
    HeaderName::from_static("x-claude-code-session-id"),
];
/// Longest deadline that a header can set: one day.
const MAX_DEADLINE_MS: u64 = 24 * 60 * 60 * 1000;

fn deadline(headers: &HeaderMap, name: HeaderName) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(&name) else { return Ok(None) };
    let ms = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    match ms {
        Some(ms @ 1..=MAX_DEADLINE_MS) => Ok(Some(Duration::from_millis(ms))),
        _ => Err(ApiError::Header {
            name,
            message: format!("must be milliseconds from 1 to {MAX_DEADLINE_MS}"),
        }),
    }
}

/// `x-weighbridge-policy` and `x-weighbridge-threshold`.
pub fn dial(headers: &HeaderMap) -> Result<Dial, ApiError> {
    let text = |name: HeaderName| {
        let Some(value) = headers.get(&name) else { return Ok::<_, ApiError>(None) };
        let text = value.to_str().map_err(|_| ApiError::Header {
            name,
            message: "the value is not plain ASCII".to_owned(),
        })?;
        Ok(Some(text.trim()))
    };
    let name = name!("x-weighbridge-threshold");
    let threshold = text(name.clone())?
        .map(|text| {
            text.parse().ok().and_then(Probability::new).ok_or_else(|| ApiError::Header {
                name,
                message: format!("`{text}` is not a number between 0 and 1"),
            })
        })
        .transpose()?;
    Ok(Dial { policy: text(name!("x-weighbridge-policy"))?.map(str::to_owned), threshold })
}

/// Whether the caller wants the longer explanation.
pub fn wants_debug(headers: &HeaderMap) -> bool {
    headers.get(name!("x-weighbridge-debug")).is_some_and(|value| value == "true" || value == "1")
}

/// Sets a header; a value that no header can carry is left out.
pub fn set(headers: &mut HeaderMap, name: HeaderName, value: impl TryInto<HeaderValue>) {
    if let Ok(value) = value.try_into() {
        headers.insert(name, value);
    }
}

/// The same, or a word for there being none.
fn set_or_none<V: TryInto<HeaderValue>>(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: Option<V>,
) {
    match value {
        Some(value) => set(headers, name, value),
        None => set(headers, name, NONE),
    }
}

/// The decision, on every routed response.
pub fn add_decision(headers: &mut HeaderMap, routed: &Routed, attempts: usize) {
    let decision = &routed.decision;
    let card = routed.model();
    set(headers, name!("x-weighbridge-decision-id"), routed.decision_id.as_str());
    set_or_none(headers, name!("x-weighbridge-policy"), routed.policy.as_deref());
    set_or_none(headers, name!("x-weighbridge-tier"), routed.tier());
    set_or_none(headers, name!("x-weighbridge-model"), card.map(|card| card.name.as_str()));
    set_or_none(headers, name!("x-weighbridge-provider"), card.map(|card| card.provider.as_str()));
    let score = decision.score.ok().map(|score| score.to_string());
    set_or_none(headers, name!("x-weighbridge-score"), score);
    let threshold = decision.threshold.map(|threshold| threshold.to_string());
    set_or_none(headers, name!("x-weighbridge-threshold"), threshold);
    let reason = HeaderValue::from_static(decision.reason.label());
    set(headers, name!("x-weighbridge-reason"), reason);
    set(headers, name!("x-weighbridge-attempts"), attempts);
    set(headers, name!("x-weighbridge-cache"), BYPASS);
}

/// In place of a decision, on an answer that none was made for.
pub fn add_no_decision(headers: &mut HeaderMap) {
    for name in [
        name!("x-weighbridge-decision-id"),
        name!("x-weighbridge-policy"),
        name!("x-weighbridge-tier"),
        name!("x-weighbridge-model"),
        name!("x-weighbridge-provider"),
        name!("x-weighbridge-score"),
        name!("x-weighbridge-threshold"),
        name!("x-weighbridge-reason"),
    ] {
        set(headers, name, NONE);
    }
    set(headers, name!("x-weighbridge-attempts"), 0);
    set(headers, name!("x-weighbridge-cache"), BYPASS);
}

/// The gateway's own part of the time, and what a whole answer cost.
pub fn add_answer(headers: &mut HeaderMap, overhead: Duration, cost: Option<NanoUsd>) {
    let overhead = format!("{:.3}", milliseconds(overhead));
    set(headers, name!("x-weighbridge-overhead-ms"), overhead);
    if let Some(cost) = cost {
        set(headers, name!("x-weighbridge-cost-usd"), cost.to_string());
    }
}

/// The longer explanation.
pub fn add_debug(headers: &mut HeaderMap, routed: &Routed) {
    let decision = &routed.decision;
    let model = |index: usize| routed.models.get(index).map_or("?", |card| card.name.as_str());
    let margin = decision.margin.map(|margin| format!("{margin:.4}"));
    set_or_none(headers, name!("x-weighbridge-margin"), margin);
    let runner_up = decision.route.get(1).map(|candidate| model(candidate.model));
    set_or_none(headers, name!("x-weighbridge-runner-up"), runner_up);
    let scoring = format!("{:.3}", milliseconds(routed.scoring_time));
    set(headers, name!("x-weighbridge-classifier-ms"), scoring);
    set_or_none(headers, name!("x-weighbridge-scored-tokens"), routed.scored_tokens);
    let needs: Vec<_> = routed.needs.abilities.iter().map(|ability| ability.name()).collect();
    let needs = if needs.is_empty() { "none".to_owned() } else { needs.join(" ") };
    let features = format!("prompt_tokens={}; abilities={needs}", routed.needs.prompt_tokens);
    set(headers, name!("x-weighbridge-features"), features);
    let rejections: Vec<_> =
        decision.rejections.iter().map(|r| format!("{}: {}", model(r.model), r.lack)).collect();
    let rejections = (!rejections.is_empty()).then(|| rejections.join("; "));
    set_or_none(headers, name!("x-weighbridge-rejections"), rejections);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value).unwrap());
        headers
    }

    #[test]
    fn a_usable_request_id_is_kept_and_another_replaced() {
        assert_eq!(request_id(&headers("x-request-id", b"abc-1")), "abc-1");
        for bad in [&b""[..], b"two words", b"\xff\xfe", &[b'x'; 200]] {
            assert!(request_id(&headers("x-request-id", bad)).starts_with("req_"));
        }
    }

    #[test]
    fn a_deadline_header_is_a_number_of_milliseconds() {
        let name = "x-weighbridge-idle-timeout-ms";
        let info = request_info(&headers(name, b"250"), "r", None).unwrap();
        assert_eq!(info.deadlines.idle, Some(Duration::from_millis(250)));
        for bad in [&b"0"[..], b"1s", b"-1", b"86400001", b"\xff"] {
            assert!(request_info(&headers(name, bad), "r", None).is_err());
        }
    }

    #[test]
    fn a_threshold_header_must_be_a_probability() {
        let name = "x-weighbridge-threshold";
        let good = dial(&headers(name, b" 0.25 ")).unwrap();
        assert_eq!(good.threshold, Probability::new(0.25));
        for bad in [&b"x"[..], b"1.01", b"NaN", b"-0.1", b"\xff"] {
            assert!(dial(&headers(name, bad)).is_err());
        }
    }
}
