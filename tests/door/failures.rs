//! When the upstream misbehaves before the first content: fall back, or say what happened.

use serde_json::json;

use crate::house::{House, TWO_TIERS, header, json_of, serve};

/// `{small}` and `{large}` are the scripts of the two models.
fn scripted(small: &str, large: &str) -> String {
    TWO_TIERS
        .replace("\"small-v1\"", &format!("\"small-v1?{small}\""))
        .replace("\"large-v1\"", &format!("\"large-v1?{large}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_model_is_replaced_by_the_next_tier_and_nothing_of_it_is_shown() {
    for script in [
        "status=500",
        "status=503",
        "status=429",
        "status=401",
        "status=404",
        "head_ms=6000",
        "html",
        "empty",
        "error_200",
        "cut=0",
        "content_type=text/plain",
    ] {
        for stream in [false, true] {
            let house = House::open(&scripted(script, "chunks=2")).await;
            let response = house.chat(json!({"stream": stream})).send().await.unwrap();
            assert_eq!(response.status(), 200, "{script}");
            assert_eq!(header(&response, "x-weighbridge-model"), "large", "{script} {stream}");
            assert_eq!(header(&response, "x-weighbridge-tier"), "strong");
            assert_eq!(header(&response, "x-weighbridge-attempts"), "2");
            let body = response.text().await.unwrap();
            assert!(body.contains("large-v1") && !body.contains("small-v1"), "{script}: {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_before_its_first_content_falls_back() {
    for script in
        ["first_ms=6000", "close=0", "stall=0", "garbage=0", "error_frame=0", "error_200", "empty"]
    {
        let house = House::open(&scripted(script, "chunks=2")).await;
        let response = house.chat(json!({"stream": true})).send().await.unwrap();
        assert_eq!(header(&response, "x-weighbridge-model"), "large", "{script}");
        let body = response.text().await.unwrap();
        assert!(body.contains("large-v1") && !body.contains("small-v1"), "{script}: {body}");
        assert!(body.ends_with("data: [DONE]\n\n"), "{script}");
    }
}

/// A 503 that begins its body and never ends it.
async fn stalled_error() -> axum::response::Response {
    use futures_util::StreamExt as _;
    let begin = futures_util::stream::iter([Ok::<_, std::io::Error>("{\"error\":")]);
    let body = axum::body::Body::from_stream(begin.chain(futures_util::stream::pending()));
    axum::response::Response::builder().status(503).body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_errors_body_that_stalls_does_not_hold_the_next_model_up() {
    let stalls = serve(axum::Router::new().fallback(stalled_error)).await;
    // The deadlines that would end it are beyond the test's own.
    let config = format!(
        "{}[providers.stalls]\nbase_url = \"{stalls}/v1\"\nretries = 0\nidle_timeout_ms = 600000\n\
         first_byte_timeout_ms = 600000\ntotal_timeout_ms = 900000\n",
        TWO_TIERS.replacen("provider = \"local\"", "provider = \"stalls\"", 1)
    );
    let house = House::open(&config).await;
    let answered =
        tokio::time::timeout(std::time::Duration::from_secs(120), house.chat(json!({})).send());
    let response = answered.await.expect("the next model is asked").unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-weighbridge-model"), "large");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_model_fails_the_last_failure_is_told() {
    for (script, status, code) in [
        ("status=500", 502, "provider_failed"),
        ("status=503&retry_after=7", 503, "provider_failed"),
        ("status=429&retry_after=7", 429, "provider_rate_limited"),
        ("status=401", 502, "provider_credential_rejected"),
        ("status=404", 502, "provider_model_not_found"),
        ("head_ms=6000", 504, "provider_timeout"),
        ("html", 502, "provider_malformed_answer"),
        ("error_200", 502, "provider_failed"),
    ] {
        let house = House::open(&scripted(script, script)).await;
        let response = house.chat(json!({})).send().await.unwrap();
        assert_eq!(response.status(), status, "{script}");
        assert_eq!(header(&response, "x-weighbridge-attempts"), "2", "{script}");
        if script.contains("retry_after") {
            assert_eq!(header(&response, "retry-after"), "7", "{script}");
        }
        assert_eq!(json_of(response).await["error"]["code"], code, "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_provider_calls_wrong_is_not_tried_elsewhere() {
    let house = House::open(&scripted("status=400&error=bad+temperature", "chunks=2")).await;
    let response = house.chat(json!({})).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(header(&response, "x-weighbridge-attempts"), "1");
    let error = json_of(response).await["error"].clone();
    assert!(
        error["message"].as_str().unwrap().contains("bad"),
        "the provider's own words: {error}"
    );
    assert_eq!(house.upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_not_there_is_told_without_its_address() {
    let config = TWO_TIERS.replace("{base}", "http://127.0.0.1:9/v1");
    let house = House::open(&config).await;
    let response = house.chat(json!({})).send().await.unwrap();
    assert_eq!(response.status(), 502);
    let error = json_of(response).await["error"].clone();
    assert_eq!(error["code"], "provider_unreachable");
    assert!(!error["message"].as_str().unwrap().contains("127.0.0.1"), "{error}");
}
