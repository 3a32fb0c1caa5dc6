//! Bad input of every kind gets its 4xx with a sentence that names the field.

use serde_json::json;

use crate::house::{House, TWO_TIERS, json_of};

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_by_field() {
    let house = House::open(TWO_TIERS).await;
    let user = r#"[{"role":"user","content":"x"}]"#;
    for (body, status, code, named) in [
        ("{", 400, "caller_invalid_request", "JSON"),
        ("", 400, "caller_invalid_request", "JSON"),
        ("[1]", 400, "caller_invalid_request", "JSON"),
        ("{}", 400, "caller_invalid_request", "`model`"),
        (r#"{"model":"auto"}"#, 400, "caller_invalid_request", "`messages`"),
        (r#"{"model":"auto","messages":[]}"#, 400, "caller_invalid_request", "`messages`"),
        (r#"{"model":"auto","messages":[7]}"#, 400, "caller_invalid_request", "`messages[0]`"),
        (
            r#"{"model":"auto","messages":[{"role":"user","content":{}}]}"#,
            400,
            "caller_invalid_request",
            "`messages[0].content`",
        ),
        (
            &format!(r#"{{"model":"auto","messages":{user},"stream":1}}"#),
            400,
            "caller_invalid_request",
            "`stream`",
        ),
        (
            &format!(r#"{{"model":"auto","model":"small","messages":{user}}}"#),
            400,
            "caller_invalid_request",
            "`model` is given twice",
        ),
        (
            &format!(r#"{{"model":"auto","messages":{user},"weighbridge":{{"polcy":"x"}}}}"#),
            400,
            "caller_invalid_request",
            "polcy",
        ),
        (
            &format!(r#"{{"model":"gpt-nope","messages":{user}}}"#),
            404,
            "caller_unknown_model",
            "gpt-nope",
        ),
        (
            &format!(r#"{{"model":"router-auto-7","messages":{user}}}"#),
            400,
            "caller_bad_override",
            "`7`",
        ),
    ] {
        let response = house.post("/v1/chat/completions", body).send().await.unwrap();
        assert_eq!(response.status(), status, "{body}");
        let error = json_of(response).await["error"].clone();
        assert_eq!(error["code"], code, "{body}");
        assert!(error["message"].as_str().unwrap().contains(named), "{body}: {error}");
        assert!(error["type"].is_string());
    }
    assert!(house.upstream.requests().is_empty(), "nothing of this may be forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_headers_are_refused_by_name() {
    let house = House::open(TWO_TIERS).await;
    for (name, value, status, named) in [
        ("x-weighbridge-threshold", "high", 400, "x-weighbridge-threshold"),
        ("x-weighbridge-policy", "nope", 400, "nope"),
        ("content-type", "text/plain", 415, "content-type"),
    ] {
        let request = house.chat(json!({}));
        let (client, request) = request.build_split();
        let mut request = request.unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let response = client.execute(request).await.unwrap();
        assert_eq!(response.status(), status, "{name}");
        let error = json_of(response).await["error"].clone();
        assert!(error["message"].as_str().unwrap().contains(named), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_413_whether_declared_or_not() {
    let house = House::open(TWO_TIERS).await;
    let text = "x".repeat(8 << 20);
    let body =
        json!({"model": "auto", "messages": [{"role": "user", "content": text}]}).to_string();
    let pieces: Vec<_> = body.as_bytes().chunks(64 << 10).map(<[u8]>::to_vec).collect();
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let undeclared = house
        .post("/v1/chat/completions", "")
        .body(reqwest::Body::wrap_stream(pieces))
        .send()
        .await
        .unwrap();
    let declared = house.post("/v1/chat/completions", body).send().await.unwrap();
    for response in [declared, undeclared] {
        assert_eq!(response.status(), 413);
        assert_eq!(json_of(response).await["error"]["code"], "caller_body_too_large");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_told_apart() {
    let house = House::open(TWO_TIERS).await;
    let missing = house.get("/v1/nothing").send().await.unwrap();
    assert_eq!(missing.status(), 404);
    assert_eq!(json_of(missing).await["error"]["code"], "caller_unknown_path");
    let wrong = house.get("/v1/chat/completions").send().await.unwrap();
    assert_eq!(wrong.status(), 405);
    assert_eq!(json_of(wrong).await["error"]["code"], "caller_method_not_allowed");
}
