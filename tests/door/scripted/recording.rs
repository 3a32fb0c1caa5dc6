//! What the upstream remembers of requests, and what ends an answer early.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use weighbridge::mock::Ending;

use super::wire::{PATIENCE, Server, chat_body, stream_body};

#[tokio::test]
async fn requests_are_recorded_with_headers_and_body() {
    let server = Server::start().await;
    let body = chat_body("m").to_string();
    let path = "/v1/chat/completions?trace=1";
    server.send("POST", path, "authorization: Bearer k\r\nX-Trace: 7\r\n", body.as_bytes()).await;
    server.get("/nowhere").await;
    let requests = server.upstream.requests();
    let [first, second] = &requests[..] else { panic!("two requests: {requests:?}") };
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", path));
    assert_eq!(
        (first.header("authorization"), first.header("x-trace")),
        (Some("Bearer k"), Some("7"))
    );
    assert_eq!((&first.body[..], first.body_bytes), (body.as_bytes(), body.len()));
    assert_eq!((first.ending, first.client_left()), (Some(Ending::Complete), false));
    assert_eq!((second.number, second.path.as_str()), (1, "/nowhere"));
    assert!(!format!("{first:?}").contains("Bearer k"), "debug output shows the key");

    let listed = server.get("/_requests").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    assert_eq!(listed["data"][0]["body"], body);
    assert_eq!(listed["data"][0]["ending"], "complete");
    assert!(listed["data"][0]["headers"].as_array().unwrap().contains(&json!(["x-trace", "7"])));
    assert_eq!(server.send("DELETE", "/_requests", "", b"").await.status, 204);
    assert_eq!(server.get("/_requests").await.json()["data"], json!([]));
}

#[tokio::test]
async fn only_the_last_thousand_requests_are_kept() {
    let server = Server::start().await;
    for _ in 0..1_003 {
        server.get("/health").await;
    }
    let requests = server.upstream.requests();
    assert_eq!((requests.len(), requests[0].number), (1_000, 3));
}

#[tokio::test]
async fn a_large_body_is_recorded_by_its_beginning() {
    let server = Server::start().await;
    let body = vec![b' '; 3 << 20];
    server.send("POST", "/v1/embeddings", "", &body).await;
    let requests = server.upstream.requests();
    assert_eq!((requests[0].body.len(), requests[0].body_bytes), (1 << 20, 3 << 20));
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded() {
    let server = Server::start().await;
    for (number, model) in [
        "m?head_ms=60000",
        "m?first_ms=60000",
        "m?chunk_ms=60000",
        "m?stall=2",
        "m?endless&chunk_ms=1",
        "m?endless",
    ]
    .into_iter()
    .enumerate()
    {
        let body = stream_body(model).to_string();
        let mut connection = server.open("POST", "/v1/chat/completions", "", body.as_bytes()).await;
        if model.contains("endless") {
            connection.read_until("scripted").await;
        }
        let arrived = server.upstream.requests_when(|requests| requests.len() > number);
        let requests = timeout(PATIENCE, arrived).await.unwrap();
        assert_eq!(requests[number].ending, None, "{model}");
        drop(connection);
        let ended = server.upstream.requests_when(|requests| requests[number].ending.is_some());
        let requests = timeout(PATIENCE, ended).await.expect(model);
        assert!(requests[number].client_left(), "{model}");
    }
}

#[tokio::test]
async fn a_stop_breaks_waiting_answers_off() {
    for model in ["m?head_ms=60000", "m?first_ms=60000", "m?stall=1", "m?endless"] {
        let server = Server::start().await;
        let upstream = server.upstream.clone();
        let body = stream_body(model).to_string();
        let mut connection = server.open("POST", "/v1/chat/completions", "", body.as_bytes()).await;
        timeout(PATIENCE, upstream.requests_when(|requests| !requests.is_empty())).await.unwrap();
        let reading = tokio::spawn(async move { connection.answer().await });
        timeout(Duration::from_secs(4), server.stop()).await.expect(model);
        assert!(!reading.await.unwrap().is_whole, "{model}");
        assert_eq!(upstream.requests()[0].ending, Some(Ending::Stopped), "{model}");
    }
}
