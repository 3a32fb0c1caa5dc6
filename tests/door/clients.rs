//! What clients and agents really send, over providers that refuse parts of it.

use serde_json::{Value, json};

use crate::{
    dialects::EVERY_KIND,
    house::{House, header, json_of},
};

/// A provider of each kind, and models of the generations that refuse parameters.
async fn house() -> House {
    let mut config = EVERY_KIND.replace("{script}", "");
    for (name, provider, upstream) in [
        ("opus", "claude", "claude-opus-4-7"),
        ("bedrock-opus", "amazon", "eu.anthropic.claude-opus-4-7"),
        ("fable", "claude", "claude-fable-5"),
        ("sonnet", "claude", "claude-sonnet-4-5"),
        ("gpt", "openai-like", "gpt-5.5"),
    ] {
        config += &format!(
            "[models.{name}]\nprovider = \"{provider}\"\nupstream_name = \"{upstream}\"\n\
             abilities = [\"reasoning\", \"tools\"]\n"
        );
    }
    House::open(&config).await
}

/// Sends a body; the answer's status, its warnings and what the provider was sent.
async fn sent(house: &House, path: &str, body: Value) -> (u16, String, Value) {
    house.upstream.clear();
    let response = house.post(path, body.to_string()).send().await.unwrap();
    let (status, warnings) =
        (response.status().as_u16(), header(&response, "x-weighbridge-warnings"));
    let answer = json_of(response).await;
    let forwarded = house.forwarded();
    assert_eq!(forwarded.len(), 1, "{path} {body}: {answer}");
    (status, warnings, forwarded[0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claude_that_decides_itself_how_much_to_think_is_given_an_effort_and_no_budget() {
    let house = house().await;
    let ask = |model: &str, effort: &str| {
        json!({
            "model": model, "max_completion_tokens": 9000, "reasoning_effort": effort,
            "messages": [{"role": "user", "content": "Why?"}],
        })
    };
    let path = "/v1/chat/completions";
    let (status, _, body) = sent(&house, path, ask("opus", "medium")).await;
    assert_eq!((status, &body["thinking"]), (200, &json!({"type": "adaptive"})), "{body}");
    assert_eq!(body["output_config"], json!({"effort": "medium"}));
    let (status, _, body) = sent(&house, path, ask("bedrock-opus", "medium")).await;
    let fields = &body["additionalModelRequestFields"];
    assert_eq!((status, &fields["thinking"]), (200, &json!({"type": "adaptive"})), "{body}");
    let (_, _, body) = sent(&house, path, ask("opus", "none")).await;
    assert_eq!(body["thinking"], json!({"type": "disabled"}));
    // One that always thinks would refuse to stop.
    let (_, warnings, body) = sent(&house, path, ask("fable", "none")).await;
    assert_eq!(body["output_config"], json!({"effort": "low"}));
    assert_eq!(warnings, "reasoning_kept:reasoning");
    let (_, _, body) = sent(&house, path, ask("sonnet", "medium")).await;
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 4500}));
}

#[tokio::test(flavor = "multi_thread")]
async fn sampling_that_a_model_refuses_is_left_out_and_named() {
    let house = house().await;
    let chat = |model: &str| {
        json!({
            "model": model, "temperature": 0.7, "top_p": 0.9,
            "messages": [{"role": "user", "content": "Hi"}],
        })
    };
    let path = "/v1/chat/completions";
    for (model, temperature, warned) in [
        ("opus", Value::Null, "sampling_dropped:temperature, sampling_dropped:top_p"),
        ("sonnet", json!(0.7), "sampling_dropped:top_p"),
        ("m-claude", json!(0.7), ""),
    ] {
        let (status, warnings, body) = sent(&house, path, chat(model)).await;
        assert_eq!((status, &body["temperature"], warnings.as_str()), (200, &temperature, warned));
        assert_eq!(body.get("top_p").is_some(), model == "m-claude", "{body}");
    }
    let (_, warnings, body) = sent(&house, path, chat("bedrock-opus")).await;
    assert_eq!(body.get("inferenceConfig"), None, "{warnings}");

    let messages = json!({
        "model": "gpt", "max_tokens": 99, "temperature": 0.5, "stop_sequences": ["X"],
        "messages": [{"role": "user", "content": "Hi"}],
    });
    let (status, warnings, body) = sent(&house, "/v1/messages", messages).await;
    assert_eq!(status, 200);
    assert_eq!((body.get("temperature"), body.get("stop")), (None, None));
    assert_eq!(warnings, "sampling_dropped:temperature, sampling_dropped:stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_name_that_is_too_long_for_openai_is_hashed() {
    let house = house().await;
    let user = json!({"device_id": "d".repeat(64), "session_id": "s"}).to_string();
    let ask = |model: &str| {
        json!({
            "model": model, "max_tokens": 99, "metadata": {"user_id": user},
            "messages": [{"role": "user", "content": "Hi"}],
        })
    };
    for model in ["m-openai", "m-microsoft"] {
        let (_, warnings, body) = sent(&house, "/v1/messages", ask(model)).await;
        let hashed = body["user"].as_str().unwrap().to_owned();
        assert!(hashed.len() == 64 && hashed.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(warnings, "user_hashed:user");
        let (_, _, again) = sent(&house, "/v1/messages", ask(model)).await;
        assert_eq!(again["user"], hashed);
    }
    let (_, _, body) = sent(&house, "/v1/messages", ask("m-claude")).await;
    assert_eq!(body["metadata"]["user_id"], user);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_says_nothing_does_not_part_its_neighbours() {
    let house = house().await;
    let body = |model: &str| {
        json!({"model": model, "messages": [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "two"},
        ]})
    };
    for (model, turns) in
        [("m-amazon", "messages"), ("m-claude", "messages"), ("m-google", "contents")]
    {
        let (status, _, body) = sent(&house, "/v1/chat/completions", body(model)).await;
        // Converse refuses turns that do not alternate.
        assert_eq!((status, body[turns].as_array().unwrap().len()), (200, 1), "{model}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cohere_has_no_place_for_is_left_out_and_named() {
    let house = house().await;
    let body = json!({"model": "m-coherent", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ]}]});
    let (status, warnings, _) = sent(&house, "/v1/chat/completions", body).await;
    assert_eq!(status, 200, "{warnings}");
    assert_eq!(
        warnings,
        "document_dropped:messages[0].content[1], audio_dropped:messages[0].content[2]"
    );
}
