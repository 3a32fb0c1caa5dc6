//! Streams from one language to another.

use super::*;

const SURFACES: [Surface; 4] =
    [Surface::OpenAiChat, Surface::OpenAiCompletions, Surface::OpenAiResponses, Surface::Anthropic];

fn relayed(dialect: Dialect, surface: Surface, stream: &str) -> String {
    let mut decoder = StreamDecoder::new(dialect, "m", None, 1 << 20);
    let mut encoder = StreamEncoder::new(surface, Show::default());
    let mut events = decoder.push(stream.as_bytes());
    events.extend(decoder.close());
    String::from_utf8(encoder.encode(&events).to_vec()).unwrap()
}

/// Were each fragment searched for among the calls or among what waits, this would take some
/// 10⁹ steps; as it is, a step or two each.
#[test]
fn fragments_of_many_calls_in_turns_are_found_without_a_search() {
    const CALLS: usize = 1000;
    const ROUNDS: usize = 40;
    let chunk = |at: usize, head: &str, arguments: &str| {
        format!(
            r#"data: {{"choices":[{{"delta":{{"tool_calls":[{{"index":{at},{head}"function":{{{arguments}}}}}]}}}}]}}"#
        ) + "\n\n"
    };
    let mut stream = String::new();
    for at in 0..CALLS {
        let name = format!(r#""name":"f{at}","arguments":"""#);
        stream += &chunk(at, &format!(r#""id":"c{at}","#), &name);
    }
    for _ in 0..ROUNDS {
        (0..CALLS).for_each(|at| stream += &chunk(at, "", r#""arguments":"1""#));
    }
    stream += "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    stream += "data: [DONE]\n\n";
    let marks = ["\"arguments\":\"1\"", "", ".arguments.delta\"", "input_json_delta"];
    for (surface, mark) in SURFACES.into_iter().zip(marks) {
        let mark = mark.replace(".arguments", ".function_call_arguments");
        let shown = relayed(Dialect::OpenAiChat, surface, &stream);
        if !mark.is_empty() {
            let frames = shown.split("\n\n").filter(|frame| {
                frame.lines().any(|line| line.starts_with("data: ") && line.contains(&mark))
            });
            assert_eq!(frames.count(), CALLS * ROUNDS, "{surface:?}");
        }
    }
}

#[test]
fn reasoning_signed_again_and_again_is_not_repeated_as_often() {
    let event = |kind: &str, fields: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{fields}}}\n\n")
    };
    let delta =
        |fields: &str| event("content_block_delta", &format!("\"index\":0,\"delta\":{{{fields}}}"));
    let text = "x".repeat(10_000);
    let stream = [
        event("message_start", "\"message\":{\"id\":\"a\",\"model\":\"m\"}"),
        event(
            "content_block_start",
            "\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}",
        ),
        delta(&format!("\"type\":\"thinking_delta\",\"thinking\":\"{text}\"")),
        delta("\"type\":\"signature_delta\",\"signature\":\"s\"").repeat(1000),
        event("content_block_stop", "\"index\":0"),
        event("message_delta", "\"delta\":{\"stop_reason\":\"end_turn\"}"),
        event("message_stop", "\"x\":0"),
    ]
    .concat();
    for surface in SURFACES {
        let shown = relayed(Dialect::Anthropic, surface, &stream);
        assert!(shown.len() < 2 * stream.len(), "{surface:?}: {}", shown.len());
    }
    let shown = relayed(Dialect::Anthropic, Surface::OpenAiChat, &stream);
    assert_eq!(shown.matches("thinking_blocks").count(), 1);
}

#[test]
fn a_calls_signature_stands_on_the_reasoning_before_it() {
    let part = |part: &str, more: &str| {
        let candidate = format!(r#"{{"content":{{"parts":[{part}]}}{more}}}"#);
        format!("data: {{\"modelVersion\":\"g\",\"candidates\":[{candidate}]}}\n\n")
    };
    let call = r#"{"functionCall":{"name":"f","args":{}},"thoughtSignature":"sig"}"#;
    let end = r#","finishReason":"STOP""#;
    let thought = part(r#"{"text":"hm","thought":true}"#, "");
    let blocks = |stream: &str| {
        let shown = relayed(Dialect::Gemini, Surface::Anthropic, stream);
        let starts: Vec<String> = shown
            .split("\n\n")
            .filter_map(|frame| frame.split_once("data: "))
            .map(|(_, data)| serde_json::from_str::<serde_json::Value>(data).unwrap())
            .filter_map(|event| match event["type"].as_str()? {
                "content_block_start" => Some(event["content_block"]["type"].to_string()),
                "content_block_delta" => Some(event["delta"]["type"].to_string()),
                "content_block_stop" => Some("stop".to_owned()),
                _ => None,
            })
            .collect();
        starts.join(" ").replace('"', "")
    };
    assert_eq!(
        blocks(&(thought.clone() + &part(call, end))),
        "thinking thinking_delta signature_delta stop tool_use input_json_delta stop"
    );
    assert_eq!(
        blocks(&part(call, end)),
        "thinking signature_delta stop tool_use input_json_delta stop"
    );
    let text = part(r#"{"text":"so"}"#, "");
    assert_eq!(
        blocks(&(thought.clone() + &text + &part(call, end))),
        "thinking thinking_delta stop text text_delta stop \
             thinking signature_delta stop tool_use input_json_delta stop"
    );
    assert_eq!(
        blocks(&(thought + &part("", end))),
        "thinking thinking_delta stop",
        "the end is written even where nothing follows"
    );
}

/// A text that came to its end, a call that did not.
const BROKEN_IN_A_CALL: &str = concat!(
    r#"data: {"id":"c","choices":[{"delta":{"content":"Look: "}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"k","function":{"name":"f","arguments":"{\"a\":"}}]}}]}"#,
    "\n\n",
);

#[test]
fn what_breaks_off_is_not_called_done() {
    for more in ["", "data: {\"error\":{\"message\":\"full\"}}\n\n", "data: {no\n\n"] {
        let stream = format!("{BROKEN_IN_A_CALL}{more}");
        let shown = relayed(Dialect::OpenAiChat, Surface::OpenAiResponses, &stream);
        assert!(!shown.contains("function_call_arguments.done"), "{shown}");
        assert_eq!(shown.matches("event: response.output_text.done").count(), 1, "{shown}");
        assert_eq!(shown.matches("event: response.output_item.done").count(), 1, "{shown}");
        let (_, last) = shown.split_once("event: response.failed\ndata: ").unwrap();
        let last: serde_json::Value = serde_json::from_str(last).unwrap();
        let output = &last["response"]["output"];
        assert_eq!(
            (&output[0]["type"], &output[0]["status"]),
            (&"message".into(), &"completed".into())
        );
        assert_eq!(output[1]["status"], "incomplete");
        assert_eq!(output[1]["arguments"], "{\"a\":");

        let shown = relayed(Dialect::OpenAiChat, Surface::Anthropic, &stream);
        assert_eq!(shown.matches("event: content_block_start").count(), 2, "{shown}");
        assert_eq!(shown.matches("event: content_block_stop").count(), 1, "{shown}");
        for end in ["message_delta", "message_stop"] {
            assert!(!shown.contains(end), "{shown}");
        }

        for surface in [Surface::OpenAiChat, Surface::OpenAiCompletions] {
            let shown = relayed(Dialect::OpenAiChat, surface, &stream);
            assert!(!shown.contains("\"finish_reason\":\""), "{surface:?}: {shown}");
            assert!(!shown.contains("[DONE]"), "{surface:?}: {shown}");
        }
    }
}

#[test]
fn an_error_behind_a_stream_that_passed_counts_on_from_it() {
    let mut decoder = StreamDecoder::new(Dialect::OpenAiResponses, "m", None, 1 << 20);
    let error = [Event::Error(ProviderError::truncated())];
    let mut number = |stream: &str| {
        decoder.push(stream.as_bytes());
        let mut encoder = StreamEncoder::after(&decoder, Surface::OpenAiResponses, Show::default());
        let shown = String::from_utf8(encoder.encode(&error).to_vec()).unwrap();
        let (_, data) = shown.split_once("data: ").unwrap();
        let event: serde_json::Value = serde_json::from_str(data).unwrap();
        (event["type"].as_str().unwrap().to_owned(), event["sequence_number"].as_u64())
    };
    assert_eq!(number(""), ("error".to_owned(), Some(0)));
    let events = concat!(
        r#"data: {"type":"response.created","sequence_number":0,"response":{"id":"a"}}"#,
        "\n\n",
        r#"data: {"type":"response.output_text.delta","sequence_number":5,"delta":"Hi"}"#,
        "\n\n",
    );
    assert_eq!(number(events).1, Some(6));
    // The provider's own word of the error does not pass.
    let told = r#"data: {"type":"error","sequence_number":6,"message":"full"}"#;
    assert_eq!(number(&format!("{told}\n\n")).1, Some(6));
}

#[test]
fn an_end_mark_is_what_ends_a_written_stream() {
    let stream =
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";
    for surface in SURFACES {
        let shown = relayed(Dialect::OpenAiChat, surface, stream);
        let mark = String::from_utf8_lossy(end_mark(surface));
        assert!(shown.ends_with(mark.as_ref()), "{surface:?}: {shown}");
        assert_eq!(mark.is_empty(), surface == Surface::OpenAiResponses);
    }
}

#[test]
fn reasoning_and_text_that_break_off_are_incomplete() {
    for (field, kind) in [("content", "message"), ("reasoning_content", "reasoning")] {
        let stream = format!("data: {{\"choices\":[{{\"delta\":{{\"{field}\":\"hm\"}}}}]}}\n\n");
        let shown = relayed(Dialect::OpenAiChat, Surface::OpenAiResponses, &stream);
        assert!(!shown.contains(".done\n"), "{shown}");
        let (_, last) = shown.split_once("event: response.failed\ndata: ").unwrap();
        let last: serde_json::Value = serde_json::from_str(last).unwrap();
        let item = &last["response"]["output"][0];
        assert_eq!((&item["type"], &item["status"]), (&kind.into(), &"incomplete".into()));
        assert!(item.to_string().contains("hm"), "what came is kept: {item}");
        let shown = relayed(Dialect::OpenAiChat, Surface::Anthropic, &stream);
        assert!(!shown.contains("content_block_stop"), "{shown}");
        // Also where the gateway, not the provider, says that it broke.
        let mut decoder = StreamDecoder::new(Dialect::OpenAiChat, "m", None, 1 << 20);
        let mut events = decoder.push(stream.as_bytes());
        events.push(Event::Error(ProviderError::truncated()));
        for surface in [Surface::OpenAiResponses, Surface::Anthropic] {
            let mut encoder = StreamEncoder::new(surface, Show::default());
            let shown = String::from_utf8(encoder.encode(&events).to_vec()).unwrap();
            assert!(!shown.contains("\"status\":\"completed\""), "{shown}");
            assert!(!shown.contains("content_block_stop"), "{shown}");
        }
    }
}
