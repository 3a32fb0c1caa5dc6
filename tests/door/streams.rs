//! Streams: bytes pass, and the end is told as it is.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::house::{House, TWO_TIERS, events, header, json_of};

fn scripted(small: &str) -> String {
    TWO_TIERS.replace("\"small-v1\"", &format!("\"small-v1?{small}\""))
}

/// The stream's text as the upstream sends it to a client that asks it directly.
async fn direct(house: &House, body: &Value) -> String {
    let base = house.gateway.config().providers[0].deployments[0].base_url.clone();
    let client = reqwest::Client::new();
    let response = client
        .post(base.join("chat/completions").unwrap())
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    response.text().await.unwrap()
}

/// Ids and times differ from call to call.
fn without_ids(stream: &str) -> Vec<Value> {
    events(stream)
        .into_iter()
        .map(|data| {
            let mut event = serde_json::from_str(data).unwrap_or(json!(data));
            if let Some(event) = event.as_object_mut() {
                event.remove("id");
                event.remove("created");
                event.remove("weighbridge");
            }
            event
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_passes_whatever_the_splits_and_line_ends() {
    for script in
        ["", "split=1", "split=7", "crlf", "comment", "usage=choice", "usage=every", "reasoning=3"]
    {
        let house = House::open(&scripted(script)).await;
        let options = json!({"include_usage": true});
        let response =
            house.chat(json!({"stream": true, "stream_options": options})).send().await.unwrap();
        assert_eq!(header(&response, "content-type"), "text/event-stream");
        let relayed = response.text().await.unwrap();
        let body = json!({
            "model": format!("small-v1?{script}"), "stream": true, "stream_options": options,
            "messages": [{"role": "user", "content": "Hello"}],
        });
        let expected = direct(&house, &body).await;
        let lf = |text: String| text.replace("\r\n", "\n");
        let (relayed, expected) = (lf(relayed), lf(expected));
        assert_eq!(without_ids(&relayed), without_ids(&expected), "{script}");
        assert!(relayed.ends_with("data: [DONE]\n\n"), "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_asked_for_and_dropped_when_the_caller_did_not_ask() {
    let house = House::open(TWO_TIERS).await;
    let response = house.chat(json!({"stream": true})).send().await.unwrap();
    let stream = response.text().await.unwrap();
    assert!(events(&stream).iter().all(|data| !data.contains("\"choices\":[]")), "{stream}");
    assert_eq!(house.forwarded()[0]["stream_options"]["include_usage"], true);
    let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("weighbridge_tokens_total{model=\"small\",kind=\"completion\"}"),
        "the usage is counted all the same: {metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_after_content_ends_with_one_error_and_no_done() {
    for (script, code) in [
        ("cut=2", "provider_answer_cut"),
        ("close=2", "provider_answer_cut"),
        ("stall=2", "provider_timeout"),
        ("garbage=2", "provider_malformed_answer"),
        ("error_frame=2", "provider_failed"),
    ] {
        let house = House::open(&scripted(script)).await;
        let response = house.chat(json!({"stream": true})).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let stream = response.text().await.unwrap();
        assert!(!stream.contains("[DONE]"), "{script}: {stream}");
        let events = events(&stream);
        let errors: Vec<Value> = events
            .iter()
            .filter_map(|data| serde_json::from_str::<Value>(data).ok())
            .filter(|event| event.get("error").is_some())
            .collect();
        assert_eq!(errors.len(), 1, "{script}: {stream}");
        assert_eq!(errors[0]["error"]["code"], code, "{script}");
        assert!(events.last().unwrap().contains(code), "{script}: the error comes last");
        assert_eq!(house.upstream.requests().len(), 1, "{script}: no second model after content");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_stream_without_done_is_ended_properly() {
    let house = House::open(&scripted("no_done")).await;
    let response = house.chat(json!({"stream": true})).send().await.unwrap();
    let stream = response.text().await.unwrap();
    assert!(stream.contains("\"finish_reason\":\"stop\""));
    assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_cancels_the_upstream_call() {
    let house = House::open(&scripted("endless&chunk_ms=5")).await;
    let response = house.chat(json!({"stream": true})).send().await.unwrap();
    let mut body = response.bytes_stream();
    body.next().await.unwrap().unwrap();
    drop(body);
    let hung_up = house
        .upstream
        .requests_when(|requests| requests.iter().all(|request| request.client_left()));
    tokio::time::timeout(Duration::from_secs(10), hung_up).await.expect("the upstream was told");
    let cancelled = async {
        loop {
            let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
            if metrics.contains("outcome=\"caller_cancelled\"} 1") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cancelled).await.expect("it is settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_a_stream_finish_and_tells_an_endless_one() {
    let mut house = House::open(&scripted("endless&chunk_ms=5")).await;
    let response = house.chat(json!({"stream": true})).send().await.unwrap();
    house.ask_to_stop();
    let stream = response.text().await.unwrap();
    assert!(stream.contains("gateway_shutting_down"), "{}", &stream[stream.len() - 300..]);
    assert!(!stream.contains("[DONE]"));

    let house = House::open(&scripted("chunks=20&chunk_ms=5")).await;
    let response = house.chat(json!({"stream": true})).send().await.unwrap();
    let (stream, ()) = tokio::join!(response.text(), house.close());
    assert!(stream.unwrap().ends_with("data: [DONE]\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tool_calls_arrive_whole() {
    let house = House::open(TWO_TIERS).await;
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
    }}}]);
    let fields = json!({"tools": tools, "tool_choice": "required"});
    let whole = json_of(house.chat(fields.clone()).send().await.unwrap()).await;
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments = call["arguments"].as_str().unwrap();

    let mut streamed = fields;
    streamed["stream"] = json!(true);
    let stream = house.chat(streamed).send().await.unwrap().text().await.unwrap();
    let joined: String = events(&stream)
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|event| {
            let delta = &event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
            delta.as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!(joined, arguments);
}
