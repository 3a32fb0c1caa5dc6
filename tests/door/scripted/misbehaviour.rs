//! Every directive, over a real socket.

use std::time::Duration;

use serde_json::{Value, json};

use super::wire::{Server, chat_body, stream_body};

const TEXT: &str = "This is m, a scripted model: no provider was called. You asked: What is rain?";

#[tokio::test]
async fn status_gives_an_error_object_and_the_retry_after_header() {
    let server = Server::start().await;
    for (status, kind, code) in [
        (429, "requests", json!("rate_limit_exceeded")),
        (500, "server_error", Value::Null),
        (503, "server_error", Value::Null),
        (401, "invalid_request_error", json!("invalid_api_key")),
        (302, "invalid_request_error", Value::Null),
    ] {
        let model = format!("m?status={status}&retry_after=7");
        for answer in [server.chat(&model).await, server.stream(&model).await] {
            assert_eq!((answer.status, answer.is_whole), (status, true));
            assert_eq!(answer.header("retry-after"), Some("7"));
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!((answer.error("type"), answer.error("code")), (json!(kind), code.clone()));
        }
    }
    let created = server.chat("m?status=201&retry_after=7").await;
    assert_eq!((created.status, created.header("retry-after")), (201, None));
}

#[tokio::test]
async fn a_status_sequence_is_counted_for_each_model_string() {
    let server = Server::start().await;
    let ask = async |model: &str| server.chat(model).await.status;
    let model = "m?status=503,429,200";
    assert_eq!([ask(model).await, ask(model).await], [503, 429]);
    assert_eq!(ask("other?status=503,429,200").await, 503);
    assert_eq!([ask(model).await, ask(model).await, ask(model).await], [200, 200, 200]);
    server.upstream.clear();
    assert_eq!(ask(model).await, 503);
    let embeddings = json!({"model": model, "input": "x"});
    assert_eq!(server.post("/v1/embeddings", embeddings).await.status, 429);
}

#[tokio::test]
async fn error_texts_are_as_scripted() {
    let server = Server::start().await;
    let model = "m?status=400&error=Too%20long%20%26%20wide&error_code=context_length_exceeded&error_type=t";
    let answer = server.chat(model).await;
    assert_eq!(
        answer.json(),
        json!({"error": {
            "message": "Too long & wide", "type": "t", "param": null,
            "code": "context_length_exceeded",
        }})
    );
    assert_eq!(server.chat("m?error=oops").await.status, 500);
}

#[tokio::test]
async fn delays_come_where_they_are_scripted() {
    let server = Server::start().await;
    let delay = Duration::from_millis(80);
    for streams in [false, true] {
        let ask = async |model: &str| {
            let body = if streams { stream_body(model) } else { chat_body(model) };
            server.post("/v1/chat/completions", body).await
        };
        let head = ask("m?head_ms=80").await;
        assert!(head.head_after >= delay, "{head:?}");
        let first = ask("m?first_ms=80").await;
        assert!(first.head_after < delay && first.first_byte_after >= delay, "{first:?}");
        assert!(head.is_whole && first.is_whole);
    }
    assert!(server.chat("m?status=503&head_ms=80").await.head_after >= delay);
    let paced = server.stream("m?chunk_ms=20&chunks=4").await;
    assert!(paced.first_byte_after < Duration::from_millis(60), "{paced:?}");
    // Role, 4 chunks and the finish reason have 5 gaps between them.
    assert!(paced.total >= Duration::from_millis(100), "{paced:?}");
}

#[tokio::test]
async fn chunks_are_as_many_and_as_large_as_scripted() {
    let server = Server::start().await;
    assert_eq!(server.stream("m?chunks=100").await.contents().len(), 100);
    assert_eq!(server.stream("m?chunks=2").await.contents().concat(), "This is");
    let sized = server.stream("m?chunk_bytes=5").await.contents();
    assert_eq!((sized[0].as_str(), sized.concat().as_str()), ("This ", TEXT));
    let both = server.stream("m?chunks=3&chunk_bytes=200").await.contents();
    assert!(both.len() == 3 && both.iter().all(|content| content.len() == 200));
    let whole = server.chat("m?chunks=30").await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], format!("{TEXT}{TEXT}"));
}

#[tokio::test]
async fn a_cut_breaks_the_transport_after_its_chunks() {
    let server = Server::start().await;
    for (model, contents) in [("m?cut=0", 0), ("m?cut=3", 3), ("m?cut=999", 15)] {
        let answer = server.stream(model).await;
        assert_eq!((answer.status, answer.is_whole), (200, false), "{model}");
        assert_eq!(answer.contents().len(), contents, "{model}");
        assert_eq!(answer.finish_reason(), None);
    }
    let whole = server.chat("m?cut=3").await;
    assert!(!whole.is_whole && !whole.body().is_empty());
    assert!(server.chat("m?cut=0").await.body().is_empty());
}

#[tokio::test]
async fn a_close_ends_cleanly_but_too_early() {
    let server = Server::start().await;
    let answer = server.stream("m?close=3").await;
    assert!(answer.is_whole && !answer.is_done());
    assert_eq!((answer.contents().len(), answer.finish_reason()), (3, None));
    let whole = server.chat("m?close=3").await;
    assert!(whole.is_whole && serde_json::from_str::<Value>(&whole.body()).is_err());
}

#[tokio::test]
async fn no_done_and_finish_change_the_end() {
    let server = Server::start().await;
    let answer = server.stream("m?no_done&finish=content_filter").await;
    assert!(answer.is_whole && !answer.is_done());
    assert_eq!(answer.finish_reason().as_deref(), Some("content_filter"));
    let whole = server.chat("m?finish=tool_calls").await.json();
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn a_stall_holds_the_connection() {
    let server = Server::start().await;
    for body in [stream_body("m?stall=2"), chat_body("m?stall=2")] {
        let body = body.to_string();
        let mut connection = server.open("POST", "/v1/chat/completions", "", body.as_bytes()).await;
        connection.read_until("This").await;
        // What is left of the second chunk, then nothing.
        connection.is_silent_for(Duration::from_millis(50)).await;
        assert!(connection.is_silent_for(Duration::from_millis(100)).await);
    }
}

#[tokio::test]
async fn garbage_and_error_frames_come_after_their_chunks() {
    let server = Server::start().await;
    let garbage = server.stream("m?garbage=2").await;
    let broken = garbage
        .data()
        .iter()
        .position(|data| data != "[DONE]" && serde_json::from_str::<Value>(data).is_err());
    assert_eq!(broken, Some(3), "after the role and two chunks");
    assert!(garbage.is_done() && garbage.contents().concat() == TEXT);
    assert!(serde_json::from_str::<Value>(&server.chat("m?garbage=2").await.body()).is_err());

    let failed = server.stream("m?error_frame=2&error=oops").await;
    assert!(failed.is_whole && !failed.is_done());
    assert_eq!(failed.contents().len(), 2);
    assert_eq!(failed.chunks().last().unwrap()["error"]["message"], "oops");
}

#[tokio::test]
async fn other_things_come_in_place_of_an_answer() {
    let server = Server::start().await;
    for streams in [false, true] {
        let ask = async |model: &str| {
            let body = if streams { stream_body(model) } else { chat_body(model) };
            server.post("/v1/chat/completions", body).await
        };
        let html = ask("m?html").await;
        assert_eq!(
            (html.status, html.header("content-type")),
            (200, Some("text/html; charset=utf-8"))
        );
        assert!(html.is_whole && html.body().starts_with("<!DOCTYPE html>"));
        assert_eq!(ask("m?html&status=502").await.status, 502);
        let empty = ask("m?empty").await;
        assert_eq!((empty.status, empty.is_whole, empty.body().as_str()), (200, true, ""));
        let error = ask("m?error_200&error=oops").await;
        assert_eq!((error.status, error.error("message")), (200, json!("oops")));
        let typed = ask("m?content_type=text/plain;%20charset=x").await;
        assert_eq!(typed.header("content-type"), Some("text/plain; charset=x"));
    }
    assert_eq!(
        server.stream("m?empty").await.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
}

#[tokio::test]
async fn usage_stands_where_it_is_scripted() {
    let server = Server::start().await;
    let ask = async |model: &str| {
        let mut body = stream_body(model);
        body["stream_options"] = json!({"include_usage": true});
        server.post("/v1/chat/completions", body).await.chunks()
    };
    let has_usage = |chunk: &&Value| chunk["usage"].is_object();
    assert_eq!(ask("m?usage=none").await.iter().filter(has_usage).count(), 0);
    assert!(server.chat("m?usage=none").await.json().get("usage").is_none());

    let choice = ask("m?usage=choice").await;
    assert_eq!(choice.iter().filter(has_usage).count(), 1);
    assert_eq!(choice.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(choice.last().unwrap()["usage"].is_object());

    let every = ask("m?usage=every").await;
    assert!(every.iter().all(|chunk| has_usage(&chunk)));
    let counts = every.iter().map(|chunk| chunk["usage"]["completion_tokens"].as_u64().unwrap());
    let counts: Vec<u64> = counts.collect();
    assert!(counts.is_sorted() && counts[0] == 0);

    let told = server.chat("m?tokens_in=1000&tokens_out=7").await.json();
    assert_eq!(told["usage"]["prompt_tokens"], 1000);
    assert_eq!(told["usage"]["completion_tokens"], 7);
    assert_eq!(told["usage"]["total_tokens"], 1007);
}

#[tokio::test]
async fn reasoning_comes_before_content() {
    let server = Server::start().await;
    let mut body = stream_body("m?reasoning=3");
    body["stream_options"] = json!({"include_usage": true});
    let chunks = server.post("/v1/chat/completions", body).await.chunks();
    let delta = |index: usize| &chunks[index]["choices"][0]["delta"];
    assert!((1..4).all(|index| delta(index)["reasoning_content"].is_string()));
    assert_eq!(delta(4), &json!({"content": "This"}));
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 12);
    let whole = server.chat("m?reasoning=3").await.json();
    assert!(whole["choices"][0]["message"]["reasoning_content"].is_string());
}

#[tokio::test]
async fn a_huge_event_is_as_large_as_scripted() {
    let server = Server::start().await;
    let answer = server.stream("m?huge=3000000").await;
    assert!(answer.is_done());
    assert_eq!(answer.data().iter().filter(|data| data.len() >= 3_000_000).count(), 1);
    assert!(server.chat("m?huge=3000000").await.body().len() > 3_000_000);
}

#[tokio::test]
async fn an_endless_answer_goes_on() {
    let server = Server::start().await;
    for body in [stream_body("m?endless"), chat_body("m?endless&chunk_ms=1")] {
        let body = body.to_string();
        let mut connection = server.open("POST", "/v1/chat/completions", "", body.as_bytes()).await;
        for _ in 0..20 {
            assert!(!connection.is_silent_for(Duration::from_secs(5)).await);
        }
    }
}

#[tokio::test]
async fn a_split_ignores_frame_borders() {
    let server = Server::start().await;
    let expected = server.stream("m").await.contents();
    for (size, model) in [(1, "m?split=1"), (7, "m?split=7"), (1000, "m?split=1000&comment&crlf")] {
        let answer = server.stream(model).await;
        let (last, full) = answer.writes.split_last().unwrap();
        assert!(full.iter().all(|write| write.len() == size) && last.len() <= size, "{model}");
        assert!(answer.is_done() && answer.contents() == expected, "{model}");
    }
    let before_cut = server.stream("m?split=1000&cut=3").await;
    assert_eq!((before_cut.is_whole, before_cut.contents().len()), (false, 3));
}

#[tokio::test]
async fn comments_and_crlf_frame_the_stream() {
    let server = Server::start().await;
    let answer = server.stream("m?comment&crlf").await;
    let body = answer.body();
    assert!(body.starts_with(": keep-alive\r\n\r\ndata: {"));
    assert!(body.ends_with("\r\n\r\ndata: [DONE]\r\n\r\n"));
    assert!(!body.replace("\r\n", "").contains('\n'));
    assert_eq!(body.matches(": keep-alive").count(), answer.data().len() - 1);
    assert_eq!(answer.contents().concat(), TEXT);
}

#[tokio::test]
async fn embeddings_and_text_completions_misbehave_too() {
    let server = Server::start().await;
    let embeddings = async |model: &str| {
        server.post("/v1/embeddings", json!({"model": model, "input": "x"})).await
    };
    assert_eq!(embeddings("m?status=503").await.status, 503);
    assert!(!embeddings("m?cut=1").await.is_whole);
    assert_eq!(embeddings("m?tokens_in=9").await.json()["usage"]["prompt_tokens"], 9);
    let prompt = json!({"model": "m?cut=2", "prompt": "x", "stream": true});
    let text = server.post("/v1/completions", prompt).await;
    assert!(!text.is_whole && text.chunks().len() == 3);
}
