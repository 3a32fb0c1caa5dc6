//! Reasoning between turns: it comes back to the model that made it and to no other.

use serde_json::{Value, json};

use crate::house::{House, header, json_of};

const MODELS: &str = r#"
[server]
listen = "127.0.0.1:0"
[providers.claude]
dialect = "anthropic"
base_url = "{root}"
api_key_env = "TEST_KEY_claude"
[providers.openai-like]
base_url = "{base}"
responses = true
[models.a]
provider = "claude"
upstream_name = "claude-a"
[models.b]
provider = "claude"
upstream_name = "claude-b"
[models.thinker]
provider = "openai-like"
upstream_name = "gpt-x"
abilities = ["reasoning", "tools"]
[models.plain]
provider = "openai-like"
upstream_name = "gpt-y"
lacks = ["reasoning"]
[policies.auto]
tiers = [{ name = "only", models = ["a"] }]
"#;

/// A request of one or more turns that asks for reasoning.
fn body(model: &str, stream: bool, earlier: &[Value]) -> String {
    let mut messages = vec![json!({"role": "user", "content": "What is rain?"})];
    messages.extend(earlier.iter().cloned());
    json!({
        "model": model, "max_tokens": 3000, "stream": stream, "messages": messages,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    })
    .to_string()
}

fn next_turn(content: &Value) -> [Value; 2] {
    [json!({"role": "assistant", "content": content}), json!({"role": "user", "content": "And?"})]
}

/// The content of a streamed message, as far as these tests need it.
fn content(stream: &str) -> Value {
    let mut blocks: Vec<Value> = Vec::new();
    for data in stream.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(data).unwrap();
        if event["type"] == "content_block_start" {
            blocks.push(event["content_block"].clone());
        }
        for field in ["thinking", "signature", "text"] {
            if let (Some(more), Some(block)) = (event["delta"][field].as_str(), blocks.last_mut()) {
                let so_far = block[field].as_str().unwrap_or_default();
                block[field] = json!(format!("{so_far}{more}"));
            }
        }
    }
    Value::from(blocks)
}

async fn turn(house: &House, model: &str, stream: bool, earlier: &[Value]) -> (Value, String) {
    let response = house.post("/v1/messages", body(model, stream, earlier)).send().await.unwrap();
    let status = response.status();
    let warnings = header(&response, "x-weighbridge-warnings");
    let answer = match stream {
        true => content(&response.text().await.unwrap()),
        false => json_of(response).await["content"].take(),
    };
    assert_eq!(status, 200, "{model}: {answer}");
    (answer, warnings)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_claude_models_reasoning_does_not_reach_another() {
    let house = House::open(MODELS).await;
    for stream in [false, true] {
        let (first, _) = turn(&house, "a", stream, &[]).await;
        assert!(first[0]["signature"].as_str().is_some_and(|made| !made.is_empty()), "{first}");
        let same = turn(&house, "a", stream, &next_turn(&first)).await;
        assert_eq!(same.1, "");
        let sent = house.forwarded().pop().unwrap();
        assert_eq!(sent["messages"][1]["content"], first, "to its maker it goes as it came");

        let (second, warnings) = turn(&house, "b", stream, &next_turn(&first)).await;
        assert!(warnings.contains("thinking_dropped"), "{warnings}");
        // Further on there is reasoning of both: each is shown its own.
        let mut earlier = next_turn(&first).to_vec();
        earlier.extend(next_turn(&second));
        turn(&house, "b", stream, &earlier).await;
        let sent = house.forwarded().pop().unwrap();
        assert_eq!(sent["messages"][1]["content"].as_array().unwrap().len(), 1, "{sent}");
        assert_eq!(sent["messages"][3]["content"][0]["signature"], second[0]["signature"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_openai_models_reasoning_survives_on_the_messages_surface() {
    let house = House::open(MODELS).await;
    let (first, _) = turn(&house, "thinker", false, &[]).await;
    assert_eq!(first[0]["type"], "thinking", "{first}");
    let (_, warnings) = turn(&house, "thinker", true, &next_turn(&first)).await;
    assert!(!warnings.contains("thinking"), "{warnings}");
    let seen = house.upstream.requests();
    assert!(seen.iter().all(|request| request.path == "/v1/responses"));
    let sent = house.forwarded().pop().unwrap();
    let sealed = sent["input"][1]["encrypted_content"].as_str().unwrap();
    assert!(first[0]["signature"].as_str().unwrap().ends_with(sealed), "{sent}");

    // Responses have no stop texts, and a model that does not reason loses nothing in chat.
    for (model, stop) in [("thinker", json!(["END"])), ("plain", json!([]))] {
        let body = json!({"model": model, "max_tokens": 99, "stop_sequences": stop,
            "messages": [{"role": "user", "content": "What is rain?"}]});
        house.post("/v1/messages", body.to_string()).send().await.unwrap();
        assert_eq!(house.upstream.requests().pop().unwrap().path, "/v1/chat/completions");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instructions_in_the_middle_of_a_conversation_pass() {
    let house = House::open(MODELS).await;
    for model in ["a", "plain"] {
        let body = json!({"model": model, "max_tokens": 99, "messages": [
            {"role": "user", "content": "What is rain?"},
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        ]});
        let response = house.post("/v1/messages", body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200, "{model}");
        assert_eq!(house.forwarded().pop().unwrap()["messages"][1]["role"], "system");
    }
}
