//! The shapes of OpenAI's API, and what stands in them.

use serde_json::{Value, json};

use super::wire::{Server, chat_body, stream_body};

const EXPECTED: &str =
    "This is small-v1, a scripted model: no provider was called. You asked: What is rain?";

#[tokio::test]
async fn a_chat_completion_has_the_shape_of_openai() {
    let server = Server::start().await;
    for path in ["/v1/chat/completions", "/chat/completions"] {
        let answer = server.post(path, chat_body("small-v1")).await;
        assert_eq!((answer.status, answer.is_whole), (200, true));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
        let mut body = answer.json();
        assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
        assert!(body["created"].as_u64().unwrap() > 1_700_000_000);
        body["id"] = json!("ID");
        body["created"] = json!(0);
        let expected = json!({
            "id": "ID",
            "object": "chat.completion",
            "created": 0,
            "model": "small-v1",
            "choices": [{
                "index": 0,
                "message": {
                    "role": "assistant", "content": EXPECTED, "refusal": null, "annotations": [],
                },
                "logprobs": null,
                "finish_reason": "stop",
            }],
            "service_tier": "default",
            "system_fingerprint": "fp_scripted",
            "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 22,
                "total_tokens": 33,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 0, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
                },
            },
        });
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn a_stream_has_the_order_of_openai() {
    let server = Server::start().await;
    let mut request = stream_body("small-v1");
    request["stream_options"] = json!({"include_usage": true});
    let answer = server.post("/v1/chat/completions", request).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert!(answer.is_whole && answer.is_done());
    let chunks = answer.chunks();
    let first = &chunks[0];
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(
        first["choices"],
        json!([{
            "index": 0, "delta": {"role": "assistant", "content": "", "refusal": null},
            "logprobs": null, "finish_reason": null,
        }])
    );
    assert!(chunks.iter().all(|chunk| chunk["id"] == first["id"] && chunk["model"] == "small-v1"));
    assert_eq!(answer.contents().concat(), EXPECTED);
    assert_eq!(answer.contents().len(), 15);
    let [.., finish, usage] = &chunks[..] else { panic!("two chunks at least") };
    assert_eq!(
        finish["choices"],
        json!([{"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"}])
    );
    assert_eq!(finish.get("usage"), Some(&Value::Null));
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 22);
}

#[tokio::test]
async fn a_stream_carries_no_usage_unless_asked() {
    let server = Server::start().await;
    let answer = server.stream("m").await;
    assert!(answer.chunks().iter().all(|chunk| chunk.get("usage").is_none()));
}

#[tokio::test]
async fn n_and_the_token_limit_are_honoured() {
    let server = Server::start().await;
    let mut request = chat_body("m");
    request["n"] = json!(3);
    request["max_completion_tokens"] = json!(4);
    let body = server.post("/v1/chat/completions", request.clone()).await.json();
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"]["content"], "This is m,");
        assert_eq!(choice["finish_reason"], "length");
    }
    assert_eq!(body["usage"]["completion_tokens"], 12);

    request["stream"] = json!(true);
    let chunks = server.post("/v1/chat/completions", request).await.chunks();
    let finished = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "length");
    let indexes: Vec<_> = finished.map(|chunk| chunk["choices"][0]["index"].clone()).collect();
    assert_eq!(indexes, [0, 1, 2]);
}

#[tokio::test]
async fn text_completions_are_answered_whole_and_streamed() {
    let server = Server::start().await;
    let body = server.post("/v1/completions", json!({"model": "m", "prompt": "Once"})).await.json();
    assert_eq!(body["object"], "text_completion");
    let text = "This is m, a scripted model: no provider was called. You asked: Once";
    assert_eq!(
        body["choices"],
        json!([{"text": text, "index": 0, "logprobs": null, "finish_reason": "stop"}])
    );
    let request = json!({"model": "m", "prompt": ["a", "Once"], "stream": true});
    let answer = server.post("/completions", request).await;
    assert!(answer.is_done());
    let chunks = answer.chunks();
    let texts = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().unwrap());
    assert_eq!(texts.collect::<String>(), text);
}

#[tokio::test]
async fn embeddings_come_as_floats_and_as_base64() {
    let server = Server::start().await;
    let request = |format: &str| json!({"model": "e", "input": ["red fox", "blue"], "dimensions": 8, "encoding_format": format});
    let floats = server.post("/v1/embeddings", request("float")).await.json();
    assert_eq!(floats["object"], "list");
    assert_eq!(floats["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    assert_eq!(floats["data"][1]["index"], 1);
    let vector = floats["data"][0]["embedding"].as_array().unwrap();
    assert_eq!(vector.len(), 8);
    let norm: f64 = vector.iter().map(|component| component.as_f64().unwrap().powi(2)).sum();
    assert!((norm - 1.0).abs() < 1e-5);
    let base64 = server.post("/embeddings", request("base64")).await.json();
    assert_eq!(base64["data"][0]["embedding"].as_str().unwrap().len(), 44);
    let tokens = json!({"model": "e", "input": [[1, 2, 3], [4]]});
    let answered = server.post("/v1/embeddings", tokens).await.json();
    assert_eq!(answered["usage"]["prompt_tokens"], 4);
    assert_eq!(answered["data"][0]["embedding"].as_array().unwrap().len(), 1536);
}

#[tokio::test]
async fn models_and_health_are_served() {
    let server = Server::start().await;
    let models = server.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "mock-small");
    assert_eq!(models["data"][1]["id"], "mock-large");
    assert_eq!(models, server.get("/models").await.json());
    assert_eq!(server.get("/v1/models/mock-large").await.json(), models["data"][1]);
    assert_eq!(server.get("/v1/models/other").await.status, 404);
    assert_eq!(server.get("/health").await.json(), json!({"status": "ok"}));
    assert_eq!(server.get("/v1/health").await.status, 200);
}
