//! Every misbehaviour of an upstream on every surface and from every kind of provider: nothing
//! that is broken is called a success, and what is only odd is understood.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;

use crate::{
    dialects::{ANSWER, MODELS, SURFACES, Surface, house},
    house::{House, header, json_of},
};

async fn ask(house: &House, surface: Surface, model: &str, stream: bool) -> reqwest::Response {
    ask_with(house, surface, model, stream, &[]).await
}

async fn ask_with(
    house: &House,
    surface: Surface,
    model: &str,
    stream: bool,
    headers: &[(&str, &str)],
) -> reqwest::Response {
    let body = surface.body(model, stream, json!({}));
    let request = house.post(surface.path(), body);
    headers.iter().fold(request, |r, (name, value)| r.header(*name, *value)).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_before_the_first_content_is_an_error_with_its_status() {
    for (script, streamed) in [
        ("cut=3", false),
        ("close=3", false),
        ("garbage=2", false),
        ("content_type=text/plain", false),
        ("length=1000000", false),
        ("content_type=text/plain", true),
        ("html", true),
        ("empty", true),
        ("error_200", true),
        ("length=9", true),
        ("cut=0", true),
        ("close=0", true),
        ("garbage=0", true),
        ("error_frame=0", true),
    ] {
        let house = house(&format!("?{script}")).await;
        for surface in SURFACES {
            for model in MODELS {
                let response = ask(&house, surface, model, streamed).await;
                let which = format!("{surface:?} {model} {script} {streamed}");
                assert_eq!(response.status(), 502, "{which}");
                assert!(!surface.error(&json_of(response).await).is_empty(), "{which}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_never_ends_or_falls_silent_is_ended_with_an_error() {
    for (script, deadline) in [("endless&chunk_ms=2", "total"), ("stall=3", "idle")] {
        let house = house(&format!("?{script}")).await;
        let name = format!("x-weighbridge-{deadline}-timeout-ms");
        for surface in SURFACES {
            for model in MODELS {
                let headers = [(name.as_str(), "400")];
                let response = ask_with(&house, surface, model, true, &headers).await;
                let which = format!("{surface:?} {model} {script}");
                assert_eq!(response.status(), 200, "{which}");
                let stream = response.text().await.unwrap();
                assert!(!surface.streamed(&stream).1, "{which}: {stream}");
                assert!(stream.contains("provider_timeout"), "{which}: {stream}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_that_comes_twice_reaches_no_caller_twice() {
    let house = house("?duplicate_start=2").await;
    for surface in SURFACES {
        for model in MODELS {
            let stream = ask(&house, surface, model, true).await.text().await.unwrap();
            let which = format!("{surface:?} {model}: {stream}");
            assert_eq!(surface.streamed(&stream), (ANSWER.to_owned(), true), "{which}");
            let begins = match surface {
                // A second role is no second beginning to any client of chat.
                Surface::Chat => continue,
                Surface::Responses => "\"type\":\"response.created\"",
                Surface::Messages => "\"type\":\"message_start\"",
            };
            let compact = stream.replace("\": \"", "\":\"");
            assert_eq!(compact.matches(begins).count(), 1, "{which}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_found_wherever_it_stands_and_estimated_where_it_is_missing() {
    for (script, estimated) in
        [("usage=choice", false), ("usage=every", false), ("usage=none", true)]
    {
        let house = house(&format!("?{script}&tokens_in=1100&tokens_out=700")).await;
        let mut answers = 0;
        for surface in SURFACES {
            for model in MODELS {
                for stream in [false, true] {
                    // These streams have no event with a choice: usage has one place there.
                    let one_place = model == "m-amazon"
                        || (surface == Surface::Responses && model == "m-responder");
                    if script == "usage=choice" && stream && one_place {
                        continue;
                    }
                    let fields = match (surface, stream) {
                        (Surface::Chat, true) => json!({"stream_options": {"include_usage": true}}),
                        _ => json!({}),
                    };
                    let body = surface.body(model, stream, fields);
                    let response = house.post(surface.path(), body).send().await.unwrap();
                    assert_eq!(response.status(), 200, "{surface:?} {model} {script}");
                    let warnings = header(&response, "x-weighbridge-warnings");
                    let answer = response.text().await.unwrap();
                    answers += 1;
                    if estimated && !surface.is_spoken_by(model) {
                        assert!(stream || warnings.contains("usage_estimated:response.usage"));
                        let told = last_number(&answer, surface.output_tokens());
                        assert!(told.is_some_and(|told| told > 1), "{surface:?} {model}: {answer}");
                    }
                }
            }
        }
        let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
        // None of the models has a price, and those share a label.
        let counter = "weighbridge_tokens_total{model=\"unpriced\",kind=\"completion\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(counter));
        let tokens: usize = line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap();
        let told = 700 * answers;
        if estimated {
            assert!((1..told).contains(&tokens), "{script}: {tokens}");
        } else {
            assert_eq!(tokens, told, "{script}");
        }
        let guessed = format!("weighbridge_usage_estimated_total {answers}");
        assert_eq!(metrics.contains(&guessed), estimated, "{script}: {metrics}");
    }
}

/// The number behind the last place of this name in a JSON text or a stream of such.
fn last_number(text: &str, name: &str) -> Option<u64> {
    let behind = text.rsplit_once(&format!("\"{name}\":"))?.1;
    behind.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// How long it took is printed (`--nocapture`); the bound here is only against a hang.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_leaves_cancels_the_upstream_call_on_every_surface() {
    for (script, stream) in [("endless&chunk_ms=5", true), ("head_ms=60000", false)] {
        let house = house(&format!("?{script}")).await;
        let mut slowest = Duration::ZERO;
        let mut left = 0;
        for surface in SURFACES {
            for model in MODELS {
                if stream {
                    let mut body = ask(&house, surface, model, true).await.bytes_stream();
                    body.next().await.unwrap().unwrap();
                } else {
                    let call = ask(&house, surface, model, false);
                    let arrived = house.upstream.requests_when(|all| all.len() > left);
                    tokio::select! { _ = call => panic!("it was answered"), _ = arrived => {} }
                }
                left += 1;
                let started = std::time::Instant::now();
                let told = house.upstream.requests_when(|all| {
                    all.len() == left && all.iter().all(|request| request.client_left())
                });
                let told = tokio::time::timeout(Duration::from_secs(20), told).await;
                told.unwrap_or_else(|_| panic!("{surface:?} {model} {script}: not told"));
                slowest = slowest.max(started.elapsed());
            }
        }
        println!("{script}: {left} callers left, the upstream knew after at most {slowest:?}");
        let callers = SURFACES.len() * MODELS.len();
        let settled = format!("outcome=\"caller_cancelled\"}} {callers}\n");
        let counted = async {
            loop {
                let metrics = house.get("/metrics").send().await.unwrap().text().await.unwrap();
                if metrics.contains(&settled) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), counted).await.expect("all are settled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_is_told_truthfully_on_every_surface() {
    for surface in SURFACES {
        for model in ["m-openai", "m-responder", "m-claude"] {
            let mut house = house("?endless&chunk_ms=5").await;
            let response = ask(&house, surface, model, true).await;
            house.ask_to_stop();
            let stream = response.text().await.unwrap();
            let which = format!("{surface:?} {model}: {}", &stream[stream.len() - 300..]);
            assert!(stream.contains("gateway_shutting_down"), "{which}");
            assert!(!surface.streamed(&stream).1, "{which}");
        }
        // What has not begun to be answered is told as well, whole or streamed.
        for (script, stream) in
            [("head_ms=60000", false), ("head_ms=60000", true), ("endless", false)]
        {
            let mut house = house(&format!("?{script}")).await;
            let body = surface.body("m-claude", stream, json!({}));
            let asked = tokio::spawn(house.post(surface.path(), body).send());
            house.upstream.requests_when(|all| !all.is_empty()).await;
            house.ask_to_stop();
            let response = asked.await.unwrap().unwrap();
            let expected = if surface == Surface::Messages { 529 } else { 503 };
            assert_eq!(response.status(), expected, "{surface:?} {script}");
            let text = response.text().await.unwrap();
            assert!(text.contains("shutting down"), "{surface:?} {script}: {text}");
        }
        let house = house("?chunks=20&chunk_ms=5").await;
        let response = ask(&house, surface, "m-claude", true).await;
        let (stream, ()) = tokio::join!(response.text(), house.close());
        assert!(surface.streamed(&stream.unwrap()).1, "{surface:?}: it may finish");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_protocol_has_is_named_where_it_is_lost() {
    let house = house("").await;
    for model in MODELS {
        let fields = json!({"n": 2, "logprobs": true, "top_logprobs": 2});
        let body = Surface::Chat.body(model, false, fields);
        let response = house.post(Surface::Chat.path(), body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{model}");
        let warnings = header(&response, "x-weighbridge-warnings");
        let answer = json_of(response).await;
        let choices = answer["choices"].as_array().unwrap().len();
        let native = matches!(model, "m-openai" | "m-responder" | "m-microsoft");
        assert_eq!(choices, if native { 2 } else { 1 }, "{model}");
        for lost in ["dropped:n", "dropped:logprobs", "dropped:top_logprobs"] {
            let named = warnings.split(", ").any(|warning| warning.ends_with(lost));
            assert_eq!(named, !native, "{model}: {warnings}");
        }
        let document = json!({"type": "document", "citations": {"enabled": true},
            "source": {"type": "text", "media_type": "text/plain", "data": "Rain is water."}});
        let messages = json!([{"role": "user", "content": [document]}]);
        let body = Surface::Messages.body(model, false, json!({"messages": messages}));
        let response = house.post(Surface::Messages.path(), body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{model}");
        let warnings = header(&response, "x-weighbridge-warnings");
        assert_eq!(warnings.contains("citations"), model != "m-claude", "{model}: {warnings}");
    }
}
