//! Models, health, readiness, metrics.

use serde_json::{Value, json};

use crate::house::{House, TWO_TIERS, header, json_of};

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
        "weighbridge_scoring_total{outcome=\"encoder\"} 1",
        "weighbridge_scoring_total{outcome=\"memory\"} 1",
        "weighbridge_requests_in_flight 0",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(!metrics.contains("cardamom"));
}

/// Lines of the decision log once there are `count`; they are written off the request path.
async fn logged(path: &std::path::Path, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count {
            return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the log never had {count} lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_logged_with_what_became_of_them_and_take_feedback() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    let table = format!("[decisions]\nlog = {:?}\n", path.display().to_string());
    let house = House::open(&format!("{table}{TWO_TIERS}")).await;
    let response = house.chat(json!({})).send().await.unwrap();
    let id = header(&response, "x-weighbridge-decision-id").to_owned();
    drop(response.bytes().await);
    let body = json!({"decision_id": id, "score": 0.5}).to_string();
    let answer = house.post("/v1/feedback", body).send().await.unwrap();
    assert_eq!(answer.status(), 200);

    let lines = logged(&path, 2).await;
    let decision = &lines[0];
    assert_eq!(decision["type"], "decision");
    assert_eq!(decision["id"], id.as_str());
    assert_eq!((&decision["policy"], &decision["tier"]), (&json!("auto"), &json!("cheap")));
    assert_eq!((&decision["stage"], &decision["outcome"]), (&json!("encoder"), &json!("finished")));
    assert!(decision["completion_tokens"].as_u64().unwrap() > 0, "{decision}");
    assert!(decision.get("prompt").is_none(), "prompts are not kept unless asked for");
    assert_eq!(lines[1]["type"], "feedback");
    assert_eq!((&lines[1]["id"], &lines[1]["score"]), (&json!(id), &json!(0.5)));

    for (body, param) in [
        (json!({"decision_id": id, "score": 1.5}), "score"),
        (json!({"decision_id": "", "score": 1}), "decision_id"),
        (json!({"score": 1}), "body"),
    ] {
        let answer = house.post("/v1/feedback", body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 400);
        let answer = json_of(answer).await;
        assert_eq!(answer["error"]["param"], param, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_logged_only_when_asked_for_and_feedback_needs_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.jsonl");
    let table = format!("[decisions]\nlog = {:?}\nprompts = true\n", path.display().to_string());
    let house = House::open(&format!("{table}{TWO_TIERS}")).await;
    let messages = json!([{"role": "user", "content": "Name a river."}]);
    drop(house.chat(json!({"messages": messages})).send().await.unwrap().bytes().await);
    assert_eq!(logged(&path, 1).await[0]["prompt"], "Name a river.");

    let house = House::open(TWO_TIERS).await;
    let body = json!({"decision_id": "dec_1", "score": 1}).to_string();
    let answer = house.post("/v1/feedback", body).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let answer = json_of(answer).await;
    assert_eq!(answer["error"]["code"], "gateway_no_decision_log");
}
