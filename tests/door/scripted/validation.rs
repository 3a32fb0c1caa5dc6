//! Bad requests, and the error objects that name the field.

use serde_json::{Value, json};

use super::wire::Server;

#[tokio::test]
async fn a_bad_request_names_its_field() {
    let server = Server::start().await;
    let check = async |path: &str, body: &str, param: Value, code: Value| {
        let answer = server.send("POST", path, "", body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body());
        assert_eq!(answer.error("type"), "invalid_request_error");
        assert_eq!((answer.error("param"), answer.error("code")), (param, code), "{body}");
        assert!(answer.error("message").is_string());
    };
    let chat = "/v1/chat/completions";
    for body in ["", "{", "[]", "\"x\"", "\u{0}", "{\"model\":\"m\",}"] {
        check(chat, body, Value::Null, Value::Null).await;
    }
    let deep = "[".repeat(100_000);
    check(chat, &deep, Value::Null, Value::Null).await;

    let user = r#"{"role":"user","content":"x"}"#;
    let missing = "missing_required_parameter";
    for (body, param, code) in [
        (r#"{"messages":[]}"#.to_owned(), "model", missing),
        (r#"{"model":7}"#.to_owned(), "model", "invalid_type"),
        (r#"{"model":"m"}"#.to_owned(), "messages", missing),
        (r#"{"model":"m","messages":null}"#.to_owned(), "messages", missing),
        (r#"{"model":"m","messages":"x"}"#.to_owned(), "messages", "invalid_type"),
        (r#"{"model":"m","messages":[]}"#.to_owned(), "messages", "empty_array"),
        (r#"{"model":"m","messages":["x"]}"#.to_owned(), "messages[0]", "invalid_type"),
        (r#"{"model":"m","messages":[{"content":"x"}]}"#.to_owned(), "messages[0].role", missing),
        (
            r#"{"model":"m","messages":[{"role":"king","content":"x"}]}"#.to_owned(),
            "messages[0].role",
            "invalid_value",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user"}]}"#.to_owned(),
            "messages[0].content",
            missing,
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text"}]}]}"#.to_owned(),
            "messages[0].content[0].text",
            missing,
        ),
        (
            r#"{"model":"m","messages":[{"role":"tool","content":"x"}]}"#.to_owned(),
            "messages[0].tool_call_id",
            missing,
        ),
        (with(user, r#""n":9"#), "n", "integer_above_max_value"),
        (with(user, r#""n":1.5"#), "n", "invalid_type"),
        (with(user, r#""max_tokens":0"#), "max_tokens", "integer_below_min_value"),
        (with(user, r#""max_completion_tokens":"5""#), "max_completion_tokens", "invalid_type"),
        (with(user, r#""temperature":3"#), "temperature", "decimal_above_max_value"),
        (with(user, r#""stream":"yes""#), "stream", "invalid_type"),
        (
            with(user, r#""stream_options":{"include_usage":true}"#),
            "stream_options",
            "invalid_value",
        ),
        (with(user, r#""tools":[{"type":"function"}]"#), "tools[0].function", missing),
        (
            with(user, r#""tools":[{"type":"function","function":{"name":"a b"}}]"#),
            "tools[0].function.name",
            "invalid_value",
        ),
        (with(user, r#""tool_choice":"required""#), "tool_choice", "invalid_value"),
        (with(user, r#""tool_choice":"perhaps""#), "tool_choice", "invalid_value"),
        (
            with(user, r#""response_format":{"type":"json_schema"}"#),
            "response_format.json_schema",
            missing,
        ),
        (
            with(user, r#""response_format":{"type":"xml"}"#),
            "response_format.type",
            "invalid_value",
        ),
        (with(user, r#""stop":[1]"#), "stop", "invalid_type"),
    ] {
        check(chat, &body, json!(param), json!(code)).await;
    }
    let embeddings = "/v1/embeddings";
    check(embeddings, r#"{"model":"m"}"#, json!("input"), json!(missing)).await;
    check(embeddings, r#"{"model":"m","input":[]}"#, json!("input"), json!("empty_array")).await;
    check(embeddings, r#"{"model":"m","input":[1,"x"]}"#, json!("input"), json!("invalid_type"))
        .await;
    check("/v1/completions", r#"{"model":"m"}"#, json!("prompt"), json!(missing)).await;
}

fn with(message: &str, field: &str) -> String {
    format!(r#"{{"model":"m","messages":[{message}],{field}}}"#)
}

#[tokio::test]
async fn an_unknown_directive_is_answered_with_the_known_ones() {
    let server = Server::start().await;
    for model in ["m?nonsense=1", "m?cut=x", "m?status=99", "m?html=1"] {
        let answer = server.chat(model).await;
        assert_eq!(answer.status, 400, "{model}");
        assert_eq!(answer.error("param"), "model");
        assert_eq!(answer.error("code"), "invalid_directive");
        let message = answer.error("message");
        assert!(message.as_str().unwrap().contains("status=CODE"), "{message}");
    }
}

#[tokio::test]
async fn the_bad_key_is_refused_and_no_key_is_needed() {
    let server = Server::start().await;
    let refused = server.send("GET", "/v1/models", "authorization: Bearer bad-key\r\n", b"").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.error("code"), "invalid_api_key");
    let accepted = server.send("GET", "/v1/models", "authorization: Bearer other\r\n", b"").await;
    assert_eq!(accepted.status, 200);
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_large_bodies_are_refused() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/nothing").await.status, 404);
    assert_eq!(server.get("/").await.status, 404);
    assert_eq!(server.get("/v1/chat/completions").await.status, 405);
    let large = vec![b' '; (16 << 20) + 1];
    let answer = server.send("POST", "/v1/chat/completions", "", &large).await;
    assert_eq!((answer.status, answer.error("code")), (413, json!("request_too_large")));
}
