//! Headers in and out: request ids, the caller's dial, the decision.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

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
const NONE: &str = "none";

/// The caller's name for the request, or one of ours.
pub fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
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
    let session = SESSION_HEADERS.iter().find_map(|name| headers.get(*name)?.to_str().ok());
    Ok(RequestInfo {
        request_id: request_id.to_owned(),
        received: Instant::now(),
        unix_time: since_epoch.as_secs(),
        unix_ms: i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
        forwarded: forwarded(headers, request_id),
        deadlines: Deadlines {
            connect: deadline(headers, "x-weighbridge-connect-timeout-ms")?,
            first_byte: deadline(headers, "x-weighbridge-first-byte-timeout-ms")?,
            idle: deadline(headers, "x-weighbridge-idle-timeout-ms")?,
            total: deadline(headers, "x-weighbridge-total-timeout-ms")?,
        },
        session: session.map(str::to_owned),
        caller,
        tags: tags(headers),
    })
}

/// `x-weighbridge-tags: team=search,env=test`
fn tags(headers: &HeaderMap) -> Vec<(String, String)> {
    let values = headers.get_all("x-weighbridge-tags").iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|tag| tag.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The key that a request shows, in the header of whichever SDK (PROTOCOLS, section 1).
pub fn secret(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let found = bearer(headers).or_else(|| text("x-api-key")).or_else(|| text("api-key"));
    found.filter(|secret| !secret.is_empty())
}

/// The token in `Authorization: Bearer …` (RFC 6750, section 2.1).
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get("authorization")?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The pace that the caller's own limits leave, in OpenAI's headers.
pub fn add_pace(headers: &mut HeaderMap, pace: &Paces) {
    const REQUESTS: [&str; 3] = [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ];
    const TOKENS: [&str; 3] =
        ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
    for ([limit, remaining, reset], pace) in [(REQUESTS, pace.0), (TOKENS, pace.1)] {
        let Some(pace) = pace else { continue };
        set(headers, limit, &pace.limit.to_string());
        set(headers, remaining, &pace.remaining.to_string());
        // OpenAI writes durations like `1s` and `6m0s`; a fraction of a second is a fraction.
        let (minutes, ms) = (pace.reset_ms / 60_000, pace.reset_ms % 60_000);
        let seconds = format!("{}s", ms as f64 / 1e3);
        let text = if minutes > 0 { format!("{minutes}m{seconds}") } else { seconds };
        set(headers, reset, &text);
    }
}

/// Headers that name a conversation, in this order (PROTOCOLS, section 3).
const SESSION_HEADERS: [&str; 3] =
    ["x-session-id", "x-conversation-id", "x-claude-code-session-id"];
/// Longest deadline that a header can set: one day.
const MAX_DEADLINE_MS: u64 = 24 * 60 * 60 * 1000;

fn deadline(headers: &HeaderMap, name: &'static str) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
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
    let text = |name: &'static str| {
        let Some(value) = headers.get(name) else { return Ok::<_, ApiError>(None) };
        let text = value.to_str().map_err(|_| ApiError::Header {
            name,
            message: "the value is not plain ASCII".to_owned(),
        })?;
        Ok(Some(text.trim()))
    };
    let name = "x-weighbridge-threshold";
    let threshold = text(name)?
        .map(|text| {
            text.parse().ok().and_then(Probability::new).ok_or_else(|| ApiError::Header {
                name,
                message: format!("`{text}` is not a number between 0 and 1"),
            })
        })
        .transpose()?;
    Ok(Dial { policy: text("x-weighbridge-policy")?.map(str::to_owned), threshold })
}

/// Whether the caller wants the longer explanation.
pub fn wants_debug(headers: &HeaderMap) -> bool {
    headers.get("x-weighbridge-debug").is_some_and(|value| value == "true" || value == "1")
}

/// Sets a header; a value that no header can carry is left out.
pub fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The decision, on every routed response.
pub fn add_decision(headers: &mut HeaderMap, routed: &Routed, attempts: usize) {
    let decision = &routed.decision;
    let or_none = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
    let card = routed.model();
    set(headers, "x-weighbridge-decision-id", &routed.decision_id);
    set(headers, "x-weighbridge-policy", routed.policy.as_deref().unwrap_or(NONE));
    set(headers, "x-weighbridge-tier", routed.tier().unwrap_or(NONE));
    set(headers, "x-weighbridge-model", card.map_or(NONE, |card| &card.name));
    set(headers, "x-weighbridge-provider", card.map_or(NONE, |card| &card.provider));
    let score = decision.score.ok().map(|score| score.to_string());
    set(headers, "x-weighbridge-score", &or_none(score));
    let threshold = decision.threshold.map(|threshold| threshold.to_string());
    set(headers, "x-weighbridge-threshold", &or_none(threshold));
    set(headers, "x-weighbridge-reason", decision.reason.label());
    set(headers, "x-weighbridge-attempts", &attempts.to_string());
    set(headers, "x-weighbridge-cache", "bypass");
}

/// In place of a decision, on an answer that none was made for.
pub fn add_no_decision(headers: &mut HeaderMap) {
    for name in [
        "x-weighbridge-decision-id",
        "x-weighbridge-policy",
        "x-weighbridge-tier",
        "x-weighbridge-model",
        "x-weighbridge-provider",
        "x-weighbridge-score",
        "x-weighbridge-threshold",
        "x-weighbridge-reason",
    ] {
        set(headers, name, NONE);
    }
    set(headers, "x-weighbridge-attempts", "0");
    set(headers, "x-weighbridge-cache", "bypass");
}

/// The gateway's own part of the time, and what a whole answer cost.
pub fn add_answer(headers: &mut HeaderMap, overhead: Duration, cost: Option<NanoUsd>) {
    set(headers, "x-weighbridge-overhead-ms", &format!("{:.3}", milliseconds(overhead)));
    if let Some(cost) = cost {
        set(headers, "x-weighbridge-cost-usd", &cost.to_string());
    }
}

/// The longer explanation.
pub fn add_debug(headers: &mut HeaderMap, routed: &Routed) {
    let decision = &routed.decision;
    let name = |index: usize| routed.models.get(index).map_or("?", |card| card.name.as_str());
    let margin = decision.margin.map_or_else(|| NONE.to_owned(), |margin| format!("{margin:.4}"));
    set(headers, "x-weighbridge-margin", &margin);
    let runner_up = decision.route.get(1).map_or(NONE, |candidate| name(candidate.model));
    set(headers, "x-weighbridge-runner-up", runner_up);
    set(
        headers,
        "x-weighbridge-classifier-ms",
        &format!("{:.3}", milliseconds(routed.scoring_time)),
    );
    let tokens = routed.scored_tokens.map_or_else(|| NONE.to_owned(), |tokens| tokens.to_string());
    set(headers, "x-weighbridge-scored-tokens", &tokens);
    let needs: Vec<_> = routed.needs.abilities.iter().map(|ability| ability.name()).collect();
    let features = format!(
        "prompt_tokens={}; abilities={}",
        routed.needs.prompt_tokens,
        if needs.is_empty() { NONE.to_owned() } else { needs.join(" ") }
    );
    set(headers, "x-weighbridge-features", &features);
    let rejections: Vec<_> =
        decision.rejections.iter().map(|r| format!("{}: {}", name(r.model), r.lack)).collect();
    let rejections = if rejections.is_empty() { NONE.to_owned() } else { rejections.join("; ") };
    set(headers, "x-weighbridge-rejections", &rejections);
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
