//! Models, health, readiness, metrics.

use serde_json::json;

use crate::house::{House, TWO_TIERS, json_of};

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_models_are_listed_in_both_shapes() {
    let house = House::open(TWO_TIERS).await;
    let ids = |list: &serde_json::Value| -> Vec<String> {
        let data = list["data"].as_array().unwrap();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    for path in ["/v1/models", "/models"] {
        let list = json_of(house.get(path).send().await.unwrap()).await;
        assert_eq!(list["object"], "list");
        assert_eq!(ids(&list), ["auto", "small", "large"]);
    }
    let anthropic = house.get("/v1/models").header("anthropic-version", "2023-06-01");
    let list = json_of(anthropic.send().await.unwrap()).await;
    assert_eq!((&list["first_id"], &list["last_id"]), (&json!("auto"), &json!("large")));
    let one = json_of(house.get("/v1/models/small").send().await.unwrap()).await;
    assert_eq!(one["owned_by"], "local");
    let none = house.get("/v1/models/a/b").send().await.unwrap();
    assert_eq!(none.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_healthy_at_once_and_ready_when_the_classifier_is() {
    let house = House::open_without_classifier(TWO_TIERS).await;
    assert_eq!(house.get("/health").send().await.unwrap().status(), 200);
    let waiting = house.get("/ready").send().await.unwrap();
    assert_eq!(waiting.status(), 503);
    assert_eq!(json_of(waiting).await["error"]["code"], "gateway_not_ready");
    let ready = House::open(TWO_TIERS).await;
    assert_eq!(ready.get("/ready").send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened_and_hold_no_prompt() {
    let house = House::open(TWO_TIERS).await;
    let secret = json!([{"role": "user", "content": "the secret ingredient is cardamom"}]);
    for _ in 0..2 {
        house.chat(json!({"messages": secret})).send().await.unwrap();
    }
    house.post("/v1/chat/completions", "{}").send().await.unwrap();
    let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "weighbridge_requests_total{policy=\"auto\",tier=\"cheap\",model=\"small\",outcome=\"finished\"} 2",
        "weighbridge_refused_requests_total{outcome=\"caller_invalid_request\"} 1",
        "weighbridge_upstream_attempts_total{provider=\"local\",model=\"small\",outcome=\"ok\"} 2",
        "weighbridge_scoring_total{outcome=\"scored\"} 1",
        "weighbridge_scoring_total{outcome=\"remembered\"} 1",
        "weighbridge_requests_in_flight 0",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains("cardamom"));
}
