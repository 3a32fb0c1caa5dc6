//! Tool calls, tool results and structured outputs.

use serde_json::{Value, json};

use super::wire::Server;

fn request(text: &str) -> Value {
    json!({
        "model": "m",
        "messages": [{"role": "user", "content": text}],
        "tools": [
            {"type": "function", "function": {"name": "get_weather", "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer", "minimum": 2},
                    "note": {"type": "string"},
                },
                "required": ["city", "days"],
            }}},
            {"type": "function", "function": {"name": "get_weather_map"}},
        ],
    })
}

/// The name and the arguments of the call, or the text.
async fn check(change: impl FnOnce(&mut Value), text: &str, expected: Result<(&str, &str), &str>) {
    let server = Server::start().await;
    let mut request = request(text);
    change(&mut request);
    let body = server.post("/v1/chat/completions", request).await.json();
    let choice = &body["choices"][0];
    let message = &choice["message"];
    match expected {
        Ok((name, arguments)) => {
            assert_eq!(choice["finish_reason"], "tool_calls", "{body}");
            assert_eq!(message["content"], Value::Null);
            let call = &message["tool_calls"][0];
            assert!(call["id"].as_str().unwrap().starts_with("call_"));
            assert_eq!(call["type"], "function");
            assert_eq!(call["function"], json!({"name": name, "arguments": arguments}));
        }
        Err(ending) => {
            assert_eq!(choice["finish_reason"], "stop", "{body}");
            assert!(message["content"].as_str().unwrap().ends_with(ending), "{body}");
        }
    }
}

const WEATHER: Result<(&str, &str), &str> = Ok(("get_weather", r#"{"city":"example","days":2}"#));

#[tokio::test]
async fn a_function_is_called_when_it_is_named_or_demanded() {
    check(|_| {}, "please get_weather now", WEATHER).await;
    check(|_| {}, "get_weather_map!", Ok(("get_weather_map", "{}"))).await;
    check(|_| {}, "hello", Err("You asked: hello")).await;
    check(|r| r["tool_choice"] = json!("none"), "get_weather", Err("You asked: get_weather")).await;
    check(|r| r["tool_choice"] = json!("required"), "hello", WEATHER).await;
    let named = json!({"type": "function", "function": {"name": "get_weather_map"}});
    check(|r| r["tool_choice"] = named, "hello", Ok(("get_weather_map", "{}"))).await;
}

#[tokio::test]
async fn a_tool_result_is_quoted() {
    let after_result = |request: &mut Value| {
        let messages = request["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function",
             "function": {"name": "get_weather", "arguments": "{}"}},
        ]}));
        messages.push(json!({"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"}));
    };
    check(after_result, "get_weather", Err("The tool said: 18 degrees")).await;
}

#[tokio::test]
async fn a_streamed_call_gives_its_name_once_and_its_arguments_in_fragments() {
    let server = Server::start().await;
    let mut request = request("get_weather");
    request["stream"] = json!(true);
    let answer = server.post("/v1/chat/completions", request).await;
    assert_eq!(answer.finish_reason().as_deref(), Some("tool_calls"));
    let chunks = answer.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"]["content"], Value::Null);
    let calls: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0])
        .filter(|call| call.is_object())
        .collect();
    assert!(calls.len() > 2);
    assert_eq!(calls[0]["function"], json!({"name": "get_weather", "arguments": ""}));
    assert_eq!(calls.iter().filter(|call| call.get("id").is_some()).count(), 1);
    assert!(calls.iter().all(|call| call["index"] == 0));
    let arguments: String =
        calls.iter().map(|call| call["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, r#"{"city":"example","days":2}"#);
}

#[tokio::test]
async fn a_structured_output_follows_its_schema() {
    let server = Server::start().await;
    let ask = async |format: Value| {
        let request = json!({
            "model": "m",
            "messages": [{"role": "user", "content": "x"}],
            "response_format": format,
        });
        let body = server.post("/v1/chat/completions", request).await.json();
        let content = body["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
        serde_json::from_str::<Value>(&content).unwrap()
    };
    let schema = json!({
        "type": "object",
        "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/step"}}},
        "required": ["steps"],
        "$defs": {"step": {
            "type": "object", "properties": {"done": {"type": "boolean"}}, "required": ["done"],
        }},
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "plan", "schema": schema}});
    assert_eq!(ask(format).await, json!({"steps": [{"done": true}]}));
    assert!(ask(json!({"type": "json_object"})).await.is_object());
}
