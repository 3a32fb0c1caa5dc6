//! Who serves, and how the answer says why.

use std::time::Duration;

use serde_json::{Value, json};

use weighbridge::classify::queue::QueueSettings;

use crate::house::{House, TWO_TIERS, header, json_of};

const HARD: &str = "Prove that every finite group of order p^2 q has a normal Sylow subgroup, and \
                    derive the complete classification up to isomorphism.";

#[tokio::test(flavor = "multi_thread")]
async fn an_easy_request_goes_to_the_cheap_model_and_a_hard_one_to_the_strong() {
    let house = House::open(TWO_TIERS).await;
    for (text, tier, model) in [("Hello", "cheap", "small"), (HARD, "strong", "large")] {
        let messages = json!([{"role": "user", "content": text}]);
        let response = house.chat(json!({"messages": messages})).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "x-weighbridge-tier"), tier, "{text}");
        assert_eq!(header(&response, "x-weighbridge-model"), model);
        let score: f64 = header(&response, "x-weighbridge-score").parse().unwrap();
        assert!((0.0..=1.0).contains(&score));
        let body = json_of(response).await;
        assert_eq!(body["model"], format!("{model}-v1"));
    }
}

/// What every answer carries, after `x-weighbridge-`.
const ALWAYS: [&str; 12] = [
    "request-id",
    "decision-id",
    "policy",
    "tier",
    "model",
    "provider",
    "score",
    "threshold",
    "reason",
    "attempts",
    "cache",
    "overhead-ms",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_routed_answer_carries_its_decision() {
    let house = House::open(TWO_TIERS).await;
    let response =
        house.chat(json!({})).header("x-weighbridge-debug", "true").send().await.unwrap();
    let of_this_one =
        ["cost-usd", "margin", "runner-up", "features", "classifier-ms", "rejections"];
    for name in ALWAYS.into_iter().chain(of_this_one) {
        assert!(!header(&response, &format!("x-weighbridge-{name}")).is_empty(), "{name}");
    }
    assert_eq!(header(&response, "x-weighbridge-threshold"), "0.4000");
    assert_eq!(header(&response, "x-weighbridge-reason"), "score_below_threshold");
    let cost = header(&response, "x-weighbridge-cost-usd");
    let usage = json_of(response).await["usage"].clone();
    // 100 nano-dollars a prompt token, 400 a completion token.
    let nano = usage["prompt_tokens"].as_i64().unwrap() * 100
        + usage["completion_tokens"].as_i64().unwrap() * 400;
    assert_eq!(cost, weighbridge::units::NanoUsd(nano).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_and_a_count_carry_the_same_headers() {
    let house = House::open(TWO_TIERS).await;
    let ask = json!({"model": "auto", "messages": [{"role": "user", "content": "Hi"}]});
    let with = |model: &str| json!({"model": model, "messages": ask["messages"]}).to_string();
    for (path, body, decided) in [
        ("/v1/messages/count_tokens", ask.to_string(), true),
        ("/v1/decision", ask.to_string(), true),
        ("/v1/chat/completions", with("local/m?status=500"), true),
        ("/v1/chat/completions", with("nobody"), false),
        ("/v1/messages", "{".to_owned(), false),
        ("/v1/embeddings", "{}".to_owned(), false),
    ] {
        let response = house.post(path, body).send().await.unwrap();
        for name in ALWAYS {
            assert!(
                !header(&response, &format!("x-weighbridge-{name}")).is_empty(),
                "{path} {name}"
            );
        }
        let id = header(&response, "x-weighbridge-decision-id");
        assert_eq!(id.starts_with("dec_"), decided, "{path} {id}");
        header(&response, "x-weighbridge-overhead-ms").parse::<f64>().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_in_the_surfaces_shape_and_under_the_requests_name() {
    let house = House::open(TWO_TIERS).await;
    for (path, version, is_anthropic) in [
        ("/v1/messages", None, true),
        ("/anthropic/v1/nothing", None, true),
        ("/v1/models/nobody", Some("2023-06-01"), true),
        ("/v1/models/nobody", None, false),
        ("/v1/chat/completions", None, false),
    ] {
        let request = house.get(path).header("x-request-id", "mine");
        let request = match version {
            Some(version) => request.header("anthropic-version", version),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert!(matches!(response.status().as_u16(), 404 | 405), "{path}");
        assert_eq!(header(&response, "x-weighbridge-request-id"), "mine", "{path}");
        let answer = json_of(response).await;
        assert_eq!(answer["type"] == "error", is_anthropic, "{path}: {answer}");
        assert_eq!(answer["request_id"] == "mine", is_anthropic, "{path}: {answer}");
    }
    let listed = house.get("/v1/models").send().await.unwrap();
    assert!(!header(&listed, "x-weighbridge-request-id").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_can_turn_the_dial_in_four_ways() {
    let house = House::open(TWO_TIERS).await;
    let plain = || house.chat(json!({}));
    for (request, tier) in [
        (plain().header("x-weighbridge-threshold", "0"), "strong"),
        (plain().header("x-weighbridge-threshold", "1"), "cheap"),
        (house.chat(json!({"weighbridge": {"threshold": 0.0}})), "strong"),
        (house.chat(json!({"model": "router-auto-0.0"})), "strong"),
        (house.chat(json!({"model": "router-auto-0.99"})), "cheap"),
        (house.chat(json!({"model": "large"})).header("x-weighbridge-policy", "auto"), "cheap"),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "x-weighbridge-tier"), tier);
    }
    for body in house.forwarded() {
        assert!(body.get("weighbridge").is_none(), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_model_is_forwarded_without_a_score() {
    let house = House::open(TWO_TIERS).await;
    for (model, upstream_name) in [
        ("small", "small-v1"),
        ("local/large-v1", "large-v1"),
        ("local/never-heard", "never-heard"),
    ] {
        let response = house.chat(json!({"model": model})).send().await.unwrap();
        assert_eq!(response.status(), 200, "{model}");
        assert_eq!(header(&response, "x-weighbridge-reason"), "model_named");
        assert_eq!(header(&response, "x-weighbridge-score"), "none");
        assert_eq!(json_of(response).await["model"], upstream_name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_needs_comes_before_its_score() {
    let house = House::open(TWO_TIERS).await;
    let image = json!([{"role": "user", "content": [
        {"type": "text", "text": "Hello"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]}]);
    let long = json!([{"role": "user", "content": "word ".repeat(10_000)}]);
    for messages in [image, long] {
        let response = house
            .chat(json!({"messages": messages}))
            .header("x-weighbridge-threshold", "1")
            .header("x-weighbridge-debug", "1")
            .send()
            .await
            .unwrap();
        assert_eq!(header(&response, "x-weighbridge-model"), "large");
        assert_eq!(header(&response, "x-weighbridge-reason"), "tier_not_eligible");
        assert!(header(&response, "x-weighbridge-rejections").starts_with("small: "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_no_model_can_serve_is_refused_with_what_is_missing() {
    let house = House::open(TWO_TIERS).await;
    let audio = json!([{"role": "user", "content": [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]}]);
    let response = house.chat(json!({"messages": audio})).send().await.unwrap();
    assert_eq!(response.status(), 400);
    let error = json_of(response).await["error"].clone();
    assert_eq!(error["code"], "policy_no_eligible_model");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("audio") && message.contains("small, large"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_classifier_the_default_tier_serves_and_says_so() {
    let house = House::open_without_classifier(TWO_TIERS).await;
    let response = house.chat(json!({})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-weighbridge-tier"), "strong");
    assert_eq!(header(&response, "x-weighbridge-reason"), "classifier_unavailable");
    assert_eq!(header(&response, "x-weighbridge-score"), "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_scoring_deadline_passes_the_default_tier_serves_and_says_so() {
    let house = House::open_with_deadline(TWO_TIERS, Duration::ZERO).await;
    let response = house.chat(json!({})).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-weighbridge-tier"), "strong");
    assert_eq!(header(&response, "x-weighbridge-reason"), "classifier_timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_explained_and_forwards_nothing() {
    let house = House::open(TWO_TIERS).await;
    let body =
        json!({"model": "auto", "messages": [{"role": "user", "content": HARD}], "max_tokens": 20});
    let response = house.post("/v1/decision", body.to_string()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let decision = json_of(response).await;
    assert_eq!(decision["tier"], "strong");
    assert_eq!(decision["policy"], "auto");
    assert_eq!(decision["route"][0]["model"], "large");
    assert_eq!(decision["route"][1]["model"], "small");
    assert_eq!(decision["needs"]["max_output_tokens"], 20);
    assert!(decision["score"].as_f64().unwrap() >= 0.4);
    assert!(house.upstream.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_text_always_gets_the_same_score() {
    let house = House::open(TWO_TIERS).await;
    let ask = || async {
        let response = house.chat(json!({})).send().await.unwrap();
        header(&response, "x-weighbridge-score")
    };
    let first = ask().await;
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    assert_eq!([a, b, c], [first.clone(), first.clone(), first]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_and_the_callers_request_id_reach_the_provider() {
    let house = House::open(TWO_TIERS).await;
    let response = house
        .chat(json!({"x_vendor": {"deep": [1, null]}, "temperature": 0.5}))
        .header("x-request-id", "caller-7")
        .send()
        .await
        .unwrap();
    assert_eq!(header(&response, "x-request-id"), "caller-7");
    assert_eq!(header(&response, "x-weighbridge-request-id"), "caller-7");
    let request = house.upstream.requests().remove(0);
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["x_vendor"], json!({"deep": [1, null]}));
    assert_eq!(body["model"], "small-v1");
    assert!(request.header("x-request-id") == Some("caller-7"), "{:?}", request.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clear_request_is_decided_without_the_encoder() {
    let queue = QueueSettings { static_margin: Some(0.07), ..QueueSettings::default() };
    let house = House::open_with_queue(TWO_TIERS, queue).await;
    let stage = async |prompt: &str| {
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": prompt}]});
        let response = house.post("/v1/decision", body.to_string()).send().await.unwrap();
        let decision = json_of(response).await;
        (decision["stage"].clone(), decision["scored_tokens"].clone(), decision["tier"].clone())
    };
    assert_eq!(stage("hi").await, (json!("static"), json!(0), json!("cheap")));
    let (found, _, tier) = stage(HARD).await;
    assert!(found == "static" || found == "encoder", "{found}");
    assert_eq!(tier, "strong");
}
