//! Every dialect on the wire: the frames of its streams, and the same failures in each.

use serde_json::{Value, json};
use tokio::time::timeout;
use weighbridge::mock::Ending;

use super::wire::{Answer, PATIENCE, Server};

/// Credentials of every kind; each dialect reads its own.
const KEYS: &str = "authorization: Bearer k\r\nx-api-key: k\r\napi-key: k\r\n\
    x-goog-api-key: k\r\nanthropic-version: 2023-06-01\r\n";
const TEXT: &str = "What is rain?";

/// How one dialect is asked.
struct Dialect {
    name: &'static str,
    /// `MODEL` stands for the model string; else it is in the body.
    path: &'static str,
    stream_path: &'static str,
    body: fn() -> Value,
    /// The first frame with content holds this.
    delta: &'static str,
    /// The whole stream holds this when all went well, and not when it was cut.
    end: &'static str,
    /// An error object holds this.
    error: &'static str,
    content_type: &'static str,
}

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": TEXT}]})
}

const SSE: &str = "text/event-stream; charset=utf-8";

const DIALECTS: [Dialect; 7] = [
    Dialect {
        name: "openai chat",
        path: "/v1/chat/completions",
        stream_path: "/v1/chat/completions",
        body: chat,
        delta: r#""delta":{"content":"This"}"#,
        end: "[DONE]",
        error: r#"{"error":{"message":"#,
        content_type: SSE,
    },
    Dialect {
        name: "openai responses",
        path: "/v1/responses",
        stream_path: "/v1/responses",
        body: || json!({"input": TEXT}),
        delta: r#"event: response.output_text.delta"#,
        end: "event: response.completed",
        error: r#""message":"#,
        content_type: SSE,
    },
    Dialect {
        name: "anthropic",
        path: "/v1/messages",
        stream_path: "/anthropic/v1/messages",
        body: || json!({"max_tokens": 500, "messages": [{"role": "user", "content": TEXT}]}),
        delta: r#""delta":{"type":"text_delta","text":"This"}"#,
        end: "event: message_stop",
        error: r#"{"type":"error","error":{"type":"api_error","#,
        content_type: SSE,
    },
    Dialect {
        name: "gemini",
        path: "/v1beta/models/MODEL:generateContent",
        stream_path: "/v1beta/models/MODEL:streamGenerateContent?alt=sse",
        body: || json!({"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}),
        delta: r#""parts":[{"text":"This"}]"#,
        end: r#""finishReason":"STOP""#,
        error: r#""status":"INTERNAL""#,
        content_type: SSE,
    },
    Dialect {
        name: "azure",
        path: "/openai/deployments/MODEL/chat/completions?api-version=2024-10-21",
        stream_path: "/openai/deployments/MODEL/chat/completions?api-version=2024-10-21",
        body: chat,
        delta: r#""delta":{"content":"This"}"#,
        end: "[DONE]",
        error: r#"{"error":{"code":"InternalServerError""#,
        content_type: SSE,
    },
    Dialect {
        name: "bedrock",
        path: "/model/MODEL/converse",
        stream_path: "/model/MODEL/converse-stream",
        body: || json!({"messages": [{"role": "user", "content": [{"text": TEXT}]}]}),
        delta: r#""delta":{"text":"This"}"#,
        end: "metadata",
        error: r#"{"message":"#,
        content_type: "application/vnd.amazon.eventstream",
    },
    Dialect {
        name: "cohere",
        path: "/v2/chat",
        stream_path: "/v2/chat",
        body: chat,
        delta: r#"{"content":{"text":"This"}}"#,
        end: "event: message-end",
        error: r#""message":"#,
        content_type: SSE,
    },
];

impl Dialect {
    async fn ask(&self, server: &Server, script: &str, streams: bool) -> Answer {
        self.ask_with(server, KEYS, script, streams).await
    }

    async fn ask_with(&self, server: &Server, keys: &str, script: &str, streams: bool) -> Answer {
        let (path, body) = self.request(script, streams);
        server.send("POST", &path, keys, body.as_bytes()).await
    }

    fn request(&self, script: &str, streams: bool) -> (String, String) {
        let path = if streams { self.stream_path } else { self.path };
        let encoded = script.replace('%', "%25").replace('?', "%3F").replace('&', "%26");
        let mut body = (self.body)();
        if !path.contains("MODEL") {
            body["model"] = json!(script);
        }
        if streams && self.path == path.replace("/anthropic", "") {
            body["stream"] = json!(true);
        }
        (path.replace("MODEL", &encoded), body.to_string())
    }
}

/// The body as text: frames of Bedrock are binary around it.
fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.writes.concat()).into_owned()
}

#[tokio::test]
async fn every_dialect_answers_whole_and_streamed() {
    let server = Server::start().await;
    for dialect in &DIALECTS {
        let name = dialect.name;
        let whole = dialect.ask(&server, "m", false).await;
        assert_eq!((whole.status, whole.is_whole), (200, true), "{name}: {}", text(&whole));
        assert!(text(&whole).contains("You asked: What is rain?"), "{name}: {}", text(&whole));
        let stream = dialect.ask(&server, "m", true).await;
        assert_eq!(stream.header("content-type"), Some(dialect.content_type), "{name}");
        assert!(text(&stream).contains(dialect.delta), "{name}: {}", text(&stream));
        assert!(text(&stream).contains(dialect.end), "{name}: {}", text(&stream));
        assert!(stream.is_whole, "{name}");
    }
}

#[tokio::test]
async fn every_dialect_misbehaves_in_place_of_an_answer() {
    let server = Server::start().await;
    for dialect in &DIALECTS {
        for streams in [false, true] {
            let check = async |script: &str, status: u16, part: &str| {
                let answer = dialect.ask(&server, script, streams).await;
                let at = format!("{} {script} {streams}: {}", dialect.name, text(&answer));
                assert_eq!(answer.status, status, "{at}");
                assert!(text(&answer).contains(part), "{at}");
                answer
            };
            check("m?status=500", 500, dialect.error).await;
            check("m?error=boom", 500, "boom").await;
            check("m?error_200&error=boom", 200, "boom").await;
            check("m?html&status=502", 502, "<!DOCTYPE html>").await;
            assert_eq!(text(&check("m?empty", 200, "").await), "");
            let odd = check("m?content_type=text/x", 200, "rain?").await;
            assert_eq!(odd.header("content-type"), Some("text/x"));
            let limited = check("m?status=429&retry_after=9", 429, "").await;
            assert_eq!(limited.header("retry-after"), Some("9"));
            let dated = check("m?status=503&retry_after_date=9", 503, "").await;
            assert!(dated.header("retry-after").unwrap().ends_with(" GMT"));
            check("m?status=429&retry_in_body=37", 429, "37").await;
            if dialect.name != "gemini" {
                check("m?reject=policy", 400, "").await;
            }
            check("m?reject=context", 400, "").await;
            let once = format!("{}-{streams}?status=503,200", dialect.name);
            check(&once, 503, "").await;
            check(&once, 200, "rain?").await;
        }
    }
}

#[tokio::test]
async fn every_dialect_misbehaves_within_a_stream() {
    let server = Server::start().await;
    for dialect in &DIALECTS {
        let check = async |script: &str, is_whole: bool, has_end: bool| {
            let answer = dialect.ask(&server, script, true).await;
            let at = format!("{} {script}: {}", dialect.name, text(&answer));
            assert_eq!((answer.status, answer.is_whole), (200, is_whole), "{at}");
            assert_eq!(text(&answer).contains(dialect.end), has_end, "{at}");
            text(&answer)
        };
        check("m?cut=2", false, false).await;
        check("m?close=2", true, false).await;
        assert!(check("m?garbage=2", true, true).await.contains(r#""choices":[{]"#));
        assert!(check("m?noise=2", true, true).await.contains("upstream connect error"));
        let failed = check("m?error_frame=2&error=boom", true, dialect.name == "cohere").await;
        assert!(failed.contains("boom"), "{}: {failed}", dialect.name);
        if !["gemini", "cohere"].contains(&dialect.name) {
            check("m?no_done", true, false).await;
        }
        assert!(check("m?huge=70000", true, true).await.len() > 70_000);
        check("m?split=3&crlf&comment", true, true).await;
        // Lies about the length, both ways.
        let long = dialect.ask(&server, "m?length=100000", true).await;
        assert!(!long.is_whole, "{}", dialect.name);
        let short = dialect.ask(&server, "m?length=7", true).await;
        assert_eq!(short.writes.concat().len(), 7, "{}", dialect.name);
    }
}

#[tokio::test]
async fn every_dialect_repeats_its_first_event_when_scripted() {
    let server = Server::start().await;
    let starts = [
        ("openai chat", r#""role":"assistant""#),
        ("openai responses", "event: response.created"),
        ("anthropic", "event: message_start"),
        ("bedrock", "messageStart"),
        ("cohere", "event: message-start"),
    ];
    for (name, start) in starts {
        let dialect = DIALECTS.iter().find(|dialect| dialect.name == name).unwrap();
        for (script, expected) in [("m", 1), ("m?duplicate_start=1", 2)] {
            let stream = text(&dialect.ask(&server, script, true).await);
            assert_eq!(stream.matches(start).count(), expected, "{name} {script}: {stream}");
        }
    }
}

#[tokio::test]
async fn every_dialect_reports_usage_where_it_is_scripted() {
    let server = Server::start().await;
    for dialect in &DIALECTS {
        for streams in [false, true] {
            let stream = text(&dialect.ask(&server, "m?usage=none&tokens_in=4711", streams).await);
            assert!(!stream.contains("4711"), "{}: {stream}", dialect.name);
            let stream =
                text(&dialect.ask(&server, "m?usage=choice&tokens_in=4711", streams).await);
            assert!(stream.contains("4711"), "{}: {stream}", dialect.name);
        }
        let stream = text(&dialect.ask(&server, "m?usage=every&tokens_in=4711", true).await);
        assert!(stream.matches("4711").count() > 5, "{}: {stream}", dialect.name);
    }
}

#[tokio::test]
async fn every_dialect_refuses_a_key_with_the_status_it_names() {
    let server = Server::start().await;
    for dialect in &DIALECTS {
        for status in [401, 402, 403, 429, 500] {
            let keys =
                KEYS.replace("Bearer k", "Bearer sk-bad-STATUS").replace(": k", ": bad-STATUS");
            let keys = keys.replace("STATUS", &status.to_string());
            let answer = dialect.ask_with(&server, &keys, "m", false).await;
            assert_eq!(answer.status, status, "{}: {}", dialect.name, text(&answer));
        }
        if !dialect.name.starts_with("openai") {
            let answer = dialect.ask_with(&server, "", "m", false).await;
            assert!([401, 403].contains(&answer.status), "{}: {}", dialect.name, answer.status);
        }
    }
}

#[tokio::test]
async fn every_dialect_notes_that_the_client_left() {
    let server = Server::start().await;
    for (number, dialect) in DIALECTS.iter().enumerate() {
        let (path, body) = dialect.request("m?stall=3", true);
        let mut connection = server.open("POST", &path, KEYS, body.as_bytes()).await;
        connection.read_until(" m,").await;
        assert_eq!(server.upstream.requests()[number].ending, None, "{}", dialect.name);
        drop(connection);
        let left = server.upstream.requests_when(|requests| requests[number].ending.is_some());
        let requests = timeout(PATIENCE, left).await.expect(dialect.name);
        assert_eq!(requests[number].ending, Some(Ending::ClientLeft), "{}", dialect.name);
    }
}

#[tokio::test]
async fn an_anthropic_stream_has_its_blocks_in_order() {
    let server = Server::start().await;
    let body = json!({
        "model": "m?calls=2&preamble&reasoning=1",
        "max_tokens": 500,
        "stream": true,
        "messages": [{"role": "user", "content": "use get_weather"}],
        "tools": [{"name": "get_weather", "input_schema": {
            "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        }}],
    });
    let answer = server.send("POST", "/v1/messages", KEYS, body.to_string().as_bytes()).await;
    let mut seen = Vec::new();
    for event in answer.chunks() {
        let kind = event["type"].as_str().unwrap();
        let what = event["content_block"]["type"].as_str().or(event["delta"]["type"].as_str());
        let line = format!("{kind} {} {}", event["index"], what.unwrap_or_default());
        if seen.last() != Some(&line) {
            seen.push(line);
        }
    }
    let expected = [
        "message_start null ",
        "content_block_start 0 thinking",
        "ping null ",
        "content_block_delta 0 thinking_delta",
        "content_block_delta 0 signature_delta",
        "content_block_stop 0 ",
        "content_block_start 1 text",
        "content_block_delta 1 text_delta",
        "content_block_stop 1 ",
        "content_block_start 2 tool_use",
        "content_block_delta 2 input_json_delta",
        "content_block_stop 2 ",
        "content_block_start 3 tool_use",
        "content_block_delta 3 input_json_delta",
        "content_block_stop 3 ",
        "message_delta null ",
        "message_stop null ",
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_gemini_stream_without_sse_is_a_json_array() {
    let server = Server::start().await;
    let body = json!({"contents": [{"parts": [{"text": TEXT}]}]}).to_string();
    let path = "/v1beta/models/m%3Fchunks=3:streamGenerateContent";
    let answer = server.send("POST", path, KEYS, body.as_bytes()).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json().as_array().unwrap().len(), 4);
    // A model string that was not encoded is understood as well.
    let path = "/v1beta/models/m?status=503:generateContent";
    assert_eq!(server.send("POST", path, KEYS, body.as_bytes()).await.status, 503);
}
