//! Translation between surfaces and dialects: golden files, and what must hold for all of them.
//!
//! `tests/data/translation/` holds a table of fixtures × dialects. A directory is a fixture; the
//! file named after a dialect is what came in, the files `to_*` are what goes out. After a change
//! that is meant, `UPDATE_GOLDEN=1 cargo test --test door translation` rewrites the latter; their
//! difference is then read like any other.

mod properties;

use std::{
    fs,
    path::{Path, PathBuf},
};

use weighbridge::fuzz::check_promise;
use weighbridge::protocol::{
    event_stream::write_message,
    json::Json,
    neutral::{
        Accumulator, Answer, Conversation, Dialect, Effort, ErrorKind, Event, Format, Function,
        KnownTools, Part, PartBody, PartKind, ProviderError, Reasoning, Role, Signature, Source,
        Stop, Surface, Target, Tool, ToolCall, ToolChoice, ToolResult, Turn, Warnings,
    },
    translate::{
        Show, StreamDecoder, StreamEncoder, read_answer, read_request, write_answer, write_error,
        write_request,
    },
};

const SURFACES: [Surface; 3] = [Surface::OpenAiChat, Surface::OpenAiResponses, Surface::Anthropic];
const MAX_EVENT_BYTES: usize = 1 << 20;

fn data(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/translation").join(kind)
}

fn surface_of(dialect: Dialect) -> Option<Surface> {
    SURFACES.into_iter().find(|surface| Dialect::from(*surface) == dialect)
}

/// A fixture: its directory, its dialect, what came in.
struct Fixture {
    directory: PathBuf,
    dialect: Dialect,
    input: Vec<u8>,
}

fn fixtures(kind: &str) -> Vec<Fixture> {
    let mut found = Vec::new();
    for directory in fs::read_dir(data(kind)).unwrap().map(|entry| entry.unwrap().path()) {
        for dialect in Dialect::ALL {
            for extension in ["json", "sse", "jsonl"] {
                let file = directory.join(dialect.name()).with_extension(extension);
                let Ok(input) = fs::read(file) else { continue };
                let input = if extension == "jsonl" { event_stream(&input) } else { input };
                found.push(Fixture { directory: directory.clone(), dialect, input });
            }
        }
    }
    found.sort_by(|a, b| a.directory.cmp(&b.directory));
    assert!(!found.is_empty());
    found
}

/// Lines of `{"headers":{…},"payload":{…}}` as binary messages.
fn event_stream(lines: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        let headers: Vec<(&str, &str)> = line["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        bytes.extend(write_message(&headers, line["payload"].to_string().as_bytes()));
    }
    bytes
}

/// Compares with the golden file, or rewrites it.
fn golden(path: &Path, found: &str, faults: &mut Vec<String>) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, found).unwrap();
    } else if fs::read_to_string(path).unwrap_or_default() != found {
        faults.push(format!("{}:\n{found}", path.display()));
    }
}

/// JSON for the eye: two spaces a level, digits untouched.
fn pretty(json: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    let mut chars = json.chars().peekable();
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                newline(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                newline(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                in_string = c == '"';
                out.push(c);
            }
        }
    }
    out.push('\n');
    out
}

fn show() -> Show {
    Show {
        request_id: "req-1".to_owned(),
        id: "weighbridge-1".to_owned(),
        model: "model-1".to_owned(),
        created: 1_700_000_000,
        include_usage: true,
        known_tools: KnownTools::default(),
    }
}

fn decode(fixture: &Fixture) -> Vec<Event> {
    let mut decoder = StreamDecoder::new(fixture.dialect, "model-1", None, MAX_EVENT_BYTES);
    let mut events = decoder.push(&fixture.input);
    events.extend(decoder.close());
    events
}

fn answer_of(events: &[Event]) -> Answer {
    let mut answer = Accumulator::default();
    events.iter().for_each(|event| answer.add(event));
    answer.into_answer()
}

#[test]
fn requests_are_translated_as_the_golden_files_say() {
    let mut faults = Vec::new();
    for fixture in fixtures("requests") {
        let surface = surface_of(fixture.dialect).unwrap();
        let conversation = read_request(surface, &fixture.input).unwrap();
        for dialect in Dialect::ALL.into_iter().filter(|dialect| *dialect != fixture.dialect) {
            let model = match dialect {
                Dialect::Gemini => "gemini-3-pro",
                Dialect::Bedrock => "eu.anthropic.model-1",
                _ => "model-1",
            };
            let written = write_request(&conversation, &Target::new(dialect, model));
            let warnings: Vec<String> = written
                .warnings
                .iter()
                .map(|warning| format!("{} {}", warning.code, warning.path))
                .collect();
            let found = format!(
                r#"{{"warnings":{},"schema_tool":{},"body":{}}}"#,
                serde_json::to_string(&warnings).unwrap(),
                serde_json::to_string(&written.schema_tool).unwrap(),
                String::from_utf8(written.body).unwrap(),
            );
            serde_json::from_str::<serde_json::Value>(&found).unwrap();
            let path = fixture.directory.join(format!("to_{}.json", dialect.name()));
            golden(&path, &pretty(&found), &mut faults);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A gateway writes such a request again when it has put images inside or taken foreign signatures
/// out.
#[test]
fn tools_that_only_the_callers_dialect_has_are_offered_to_it_as_they_came() {
    for (directory, dialect) in
        [("agent_tools", Dialect::OpenAiResponses), ("custom_tools", Dialect::OpenAiChat)]
    {
        let file = format!("requests/{directory}/{}.json", dialect.name());
        let input = fs::read(data(&file)).unwrap();
        let conversation = read_request(surface_of(dialect).unwrap(), &input).unwrap();
        let written = write_request(&conversation, &Target::new(dialect, "model-1")).body;
        let [sent, came]: [serde_json::Value; 2] =
            [&written, &input].map(|body| serde_json::from_slice(body).unwrap());
        for field in ["tools", "tool_choice"] {
            assert_eq!(sent[field], came[field]);
        }
        let turns = |body: &serde_json::Value| {
            let turns = body.get("input").or(body.get("messages")).unwrap();
            turns.as_array().unwrap().clone()
        };
        for (sent, came) in std::iter::zip(turns(&sent), turns(&came)) {
            for (name, value) in sent.as_object().unwrap() {
                assert_eq!(value, &came[name], "{name} of {came}");
            }
        }
    }
}

/// The older list of functions stands beside them, as it is offered today.
#[test]
fn functions_of_the_older_list_stay_beside_tools_that_take_a_text() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"Hi"}],
        "tools":[{"type":"custom","custom":{"name":"patch"}}],"functions":[{"name":"old"}]}"#;
    let conversation = read_request(Surface::OpenAiChat, body).unwrap();
    let written = write_request(&conversation, &Target::new(Dialect::OpenAiChat, "m")).body;
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    let expected = serde_json::json!([
        {"type": "custom", "custom": {"name": "patch"}},
        {"type": "function", "function": {"name": "old"}},
    ]);
    assert_eq!(written["tools"], expected);
}

/// What callers see of calls of such tools, whole and streamed.
#[test]
fn calls_are_shown_as_calls_of_what_was_offered() {
    let input = fs::read(data("requests/agent_tools/openai_responses.json")).unwrap();
    let known_tools = read_request(Surface::OpenAiResponses, &input).unwrap().known_tools();
    let call = |at: usize, name: &str, arguments: &str| {
        let id = format!("call_{at}");
        let kind = PartKind::ToolCall { id, name: name.to_owned(), signature: None };
        let mut events = vec![Event::PartStart { index: at, kind }];
        events.extend(
            arguments.chars().map(|c| Event::ArgumentsDelta { index: at, fragment: c.to_string() }),
        );
        events.push(Event::PartEnd { index: at });
        events
    };
    let mut events = vec![Event::Start { id: "1".to_owned(), model: "m".to_owned() }];
    events.extend(call(0, "apply_patch", r#"{"input": "*** \"a\"\n"}"#));
    events.extend(call(1, "mcp__docs__search", r#"{"query":"x"}"#));
    events.extend(call(2, "mcp__docs__ask", r#"{"input":"why?"}"#));
    events.extend(call(3, "shell", "{}"));
    events.push(Event::Finish { stop: Stop::ToolUse, stop_sequence: None, usage: None });

    let show = Show { known_tools, ..show() };
    let whole = write_answer(Surface::OpenAiResponses, &answer_of(&events), &show);
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let expected = serde_json::json!([
        {"type": "custom_tool_call", "id": "ctc_1_0", "call_id": "call_0", "name": "apply_patch",
            "input": "*** \"a\"\n", "status": "completed"},
        {"type": "function_call", "id": "fc_1_1", "call_id": "call_1", "name": "search",
            "namespace": "mcp__docs", "arguments": "{\"query\":\"x\"}", "status": "completed"},
        {"type": "custom_tool_call", "id": "ctc_1_2", "call_id": "call_2", "name": "ask",
            "namespace": "mcp__docs", "input": "why?", "status": "completed"},
        {"type": "function_call", "id": "fc_1_3", "call_id": "call_3", "name": "shell",
            "arguments": "{}", "status": "completed"},
    ]);
    assert_eq!(whole["output"], expected);

    let bytes = StreamEncoder::new(Surface::OpenAiResponses, show).encode(&events);
    let stream = String::from_utf8(bytes.to_vec()).unwrap();
    let events: Vec<serde_json::Value> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let of = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
    let deltas =
        of("response.custom_tool_call_input.delta").filter(|event| event["item_id"] == "ctc_1_0");
    let text: String = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!(text, "*** \"a\"\n");
    let done: Vec<_> =
        of("response.custom_tool_call_input.done").map(|event| &event["input"]).collect();
    assert_eq!(done, ["*** \"a\"\n", "why?"]);
    let done: Vec<_> = of("response.output_item.done").map(|event| event["item"].clone()).collect();
    assert_eq!(serde_json::Value::from(done), expected);
    let added: Vec<_> =
        of("response.output_item.added").map(|event| &event["item"]["name"]).collect();
    assert_eq!(added, ["apply_patch", "search", "ask", "shell"]);
}

/// What answers hold that no other dialect has a place for.
#[test]
fn what_an_answer_holds_besides_is_named() {
    let lost = |dialect: Dialect, body: &str| {
        read_answer(dialect, body.as_bytes(), "m", None).unwrap().lost.to_string()
    };
    for (dialect, body, named) in [
        (
            Dialect::OpenAiChat,
            r#"{"choices":[{"index":0,"logprobs":{"content":[]},"message":{"content":"a",
                "annotations":[{"type":"url_citation"}],"audio":{"id":"1"}}},
                {"index":1,"message":{"content":"b"}}]}"#,
            "logprobs_dropped:response.choices[0].logprobs, \
             citations_dropped:response.choices[0].message.annotations, \
             audio_dropped:response.choices[0].message.audio, \
             choice_dropped:response.choices[1]",
        ),
        (
            Dialect::OpenAiChat,
            r#"{"choices":[{"index":0,"logprobs":null,"message":{"content":"a","annotations":[],
                "audio":null}}]}"#,
            "",
        ),
        (
            Dialect::OpenAiResponses,
            r#"{"status":"completed","output":[{"type":"web_search_call"},{"type":"message",
                "content":[{"text":"a","annotations":[{}],"logprobs":[{}]}]}]}"#,
            "part_dropped:response.output[0], citations_dropped:response.output[1].annotations, \
             logprobs_dropped:response.output[1].logprobs",
        ),
        (
            Dialect::Anthropic,
            r#"{"content":[{"type":"server_tool_use"},{"type":"text","text":"a","citations":[{}]}]}"#,
            "part_dropped:response.content[0], citations_dropped:response.content[1].citations",
        ),
        (
            Dialect::Gemini,
            r#"{"candidates":[{"content":{"parts":[{"text":"a"},{"inlineData":{}}]},
                "groundingMetadata":{"webSearchQueries":["q"]},"citationMetadata":{},
                "finishReason":"STOP"},{"index":1}]}"#,
            "citations_dropped:response.candidates[0].groundingMetadata, \
             part_dropped:response.candidates[0].content, choice_dropped:response.candidates[1]",
        ),
        (
            Dialect::Bedrock,
            r#"{"output":{"message":{"content":[{"citationsContent":{"content":[{"text":"a"}],
                "citations":[{}]}},{"image":{}}]}},"stopReason":"end_turn"}"#,
            "citations_dropped:response.content[0].citationsContent, \
             part_dropped:response.content[1]",
        ),
        (
            Dialect::Cohere,
            r#"{"message":{"content":[{"text":"a"}],"citations":[{}]},"finish_reason":"COMPLETE"}"#,
            "citations_dropped:response.message.citations",
        ),
    ] {
        assert_eq!(lost(dialect, body), named, "{dialect:?}");
    }
    for fixture in fixtures("answers") {
        let path = fixture.directory.display();
        let answer = read_answer(fixture.dialect, &fixture.input, "m", None).unwrap();
        assert!(answer.lost.is_empty(), "{path}: {}", answer.lost);
    }
}

#[test]
fn a_call_with_a_text_is_shown_in_chat_as_one() {
    let input = fs::read(data("requests/custom_tools/openai_chat.json")).unwrap();
    let known_tools = read_request(Surface::OpenAiChat, &input).unwrap().known_tools();
    let kind = |name: &str| PartKind::ToolCall {
        id: format!("call_{name}"),
        name: name.to_owned(),
        signature: None,
    };
    let delta = |index: usize, fragment: &str| Event::ArgumentsDelta {
        index,
        fragment: fragment.to_owned(),
    };
    let events = [
        Event::Start { id: "1".to_owned(), model: "m".to_owned() },
        Event::PartStart { index: 0, kind: kind("patch") },
        delta(0, "{\"inp"),
        delta(0, "ut\":\"+a\\"),
        delta(0, "n\"}"),
        Event::PartEnd { index: 0 },
        Event::PartStart { index: 1, kind: kind("shell") },
        delta(1, "{}"),
        Event::PartEnd { index: 1 },
        Event::Finish { stop: Stop::ToolUse, stop_sequence: None, usage: None },
    ];
    let show = Show { known_tools, ..show() };
    let whole = write_answer(Surface::OpenAiChat, &answer_of(&events), &show);
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let expected = serde_json::json!([
        {"id": "call_patch", "type": "custom", "custom": {"name": "patch", "input": "+a\n"}},
        {"id": "call_shell", "type": "function",
            "function": {"name": "shell", "arguments": "{}"}},
    ]);
    assert_eq!(whole["choices"][0]["message"]["tool_calls"], expected);
    let bytes = StreamEncoder::new(Surface::OpenAiChat, show).encode(&events);
    let stream = String::from_utf8(bytes.to_vec()).unwrap();
    let calls: Vec<serde_json::Value> = stream
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .map(|chunk: serde_json::Value| chunk["choices"][0]["delta"]["tool_calls"][0].clone())
        .filter(|call| !call.is_null())
        .collect();
    assert_eq!(
        serde_json::Value::from(calls),
        serde_json::json!([
            {"index": 0, "id": "call_patch", "type": "custom",
                "custom": {"name": "patch", "input": ""}},
            {"index": 0, "custom": {"input": "+a"}},
            {"index": 0, "custom": {"input": "\n"}},
            {"index": 1, "id": "call_shell", "type": "function",
                "function": {"name": "shell", "arguments": ""}},
            {"index": 1, "function": {"arguments": "{}"}},
        ])
    );
}

#[test]
fn answers_are_translated_as_the_golden_files_say() {
    let mut faults = Vec::new();
    for fixture in fixtures("answers") {
        let answer = read_answer(fixture.dialect, &fixture.input, "model-1", None).unwrap();
        for surface in SURFACES {
            let found = String::from_utf8(write_answer(surface, &answer, &show())).unwrap();
            let name = format!("to_{}.json", Dialect::from(surface).name());
            golden(&fixture.directory.join(name), &pretty(&found), &mut faults);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn streams_are_translated_as_the_golden_files_say() {
    let mut faults = Vec::new();
    for fixture in fixtures("streams") {
        let events = decode(&fixture);
        let listed: String = events.iter().map(|event| format!("{event:?}\n")).collect();
        golden(&fixture.directory.join("events.txt"), &listed, &mut faults);
        for surface in SURFACES {
            let found = StreamEncoder::new(surface, show()).encode(&events);
            let name = format!("to_{}.sse", Dialect::from(surface).name());
            let found = String::from_utf8(found.to_vec()).unwrap();
            golden(&fixture.directory.join(name), &found, &mut faults);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What of an answer survives on every surface: order aside, text, calls, seals, and counts.
fn essence(answer: &Answer) -> (String, Vec<String>, Vec<ToolCall>, Stop, [u64; 3]) {
    let mut text = String::new();
    let (mut seals, mut calls) = (Vec::new(), Vec::new());
    // On another surface a seal carries its maker's name before it.
    let bare = |seal: &Signature| seal.value.rsplit(':').next().unwrap_or_default().to_owned();
    for part in &answer.parts {
        match &part.body {
            PartBody::Text(said) | PartBody::Refusal(said) => text.push_str(said),
            PartBody::Thinking { text: thought, signature } => {
                text.push_str(thought);
                seals.extend(signature.as_ref().map(bare));
            }
            PartBody::RedactedThinking(data) => seals.push(bare(data)),
            PartBody::ToolCall(call) => {
                seals.extend(call.signature.as_ref().map(bare));
                let arguments = Json::parse(&call.arguments)
                    .map(|json| json.read::<serde_json::Value>().unwrap().to_string());
                let arguments = arguments.unwrap_or_else(|| call.arguments.clone());
                calls.push(ToolCall { signature: None, arguments, ..call.clone() });
            }
            _ => {}
        }
    }
    let usage = answer.usage.unwrap_or_default();
    let counts = [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens];
    (text, seals, calls, answer.stop, counts)
}

#[test]
fn a_stream_says_the_same_on_every_surface() {
    for fixture in fixtures("streams") {
        let events = decode(&fixture);
        if !matches!(events.last(), Some(Event::Finish { .. })) {
            continue;
        }
        let answer = answer_of(&events);
        for surface in SURFACES {
            let bytes = StreamEncoder::new(surface, show()).encode(&events);
            let mut decoder = StreamDecoder::new(surface.into(), "model-1", None, MAX_EVENT_BYTES);
            let mut again = decoder.push(&bytes);
            again.extend(decoder.close());
            assert!(decoder.finished(), "{surface:?} {}", fixture.directory.display());
            let mut expected = essence(&answer);
            let refused = answer.parts.iter().any(|part| matches!(part.body, PartBody::Refusal(_)));
            if refused && surface == Surface::Anthropic {
                expected.3 = Stop::ContentFilter;
            }
            let found = essence(&answer_of(&again));
            assert_eq!(found, expected, "{surface:?} {}", fixture.directory.display());
        }
    }
}

#[test]
fn a_whole_answer_says_the_same_on_every_surface() {
    for fixture in fixtures("answers") {
        let answer = read_answer(fixture.dialect, &fixture.input, "model-1", None).unwrap();
        for surface in SURFACES {
            let body = write_answer(surface, &answer, &show());
            let again = read_answer(surface.into(), &body, "model-1", None).unwrap();
            let mut expected = essence(&answer);
            if surface == Surface::Anthropic {
                // Arguments that are no JSON go into an object there.
                for call in &mut expected.2 {
                    if Json::parse(&call.arguments).is_none() {
                        call.arguments =
                            serde_json::json!({ "arguments": call.arguments }).to_string();
                    }
                }
            }
            assert_eq!(essence(&again), expected, "{surface:?} {}", fixture.directory.display());
        }
    }
}

/// What the next request of a conversation looks like after this answer.
fn next_request(surface: Surface, answer: &[u8]) -> Vec<u8> {
    use serde_json::{Value, json};
    let answer: Value = serde_json::from_slice(answer).unwrap();
    match surface {
        Surface::OpenAiChat | Surface::OpenAiCompletions => json!({"model": "auto", "messages": [
            {"role": "user", "content": "x"},
            answer["choices"][0]["message"],
            {"role": "user", "content": "y"},
        ]}),
        Surface::Anthropic => json!({"model": "auto", "max_tokens": 9, "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": answer["content"]},
            {"role": "user", "content": "y"},
        ]}),
        Surface::OpenAiResponses => {
            let mut input = vec![json!({"role": "user", "content": "x"})];
            input.extend(answer["output"].as_array().unwrap().iter().cloned());
            json!({"model": "auto", "input": input})
        }
    }
    .to_string()
    .into_bytes()
}

#[test]
fn seals_go_back_to_their_maker_through_every_surface_and_to_no_other() {
    for fixture in fixtures("answers") {
        let answer = read_answer(fixture.dialect, &fixture.input, "model-1", None).unwrap();
        let seals = essence(&answer).1;
        for surface in SURFACES {
            let shown = write_answer(surface, &answer, &show());
            let again = read_request(surface, &next_request(surface, &shown)).unwrap();
            let name = format!("{surface:?} {}", fixture.directory.display());
            let written = |dialect, model, previous| {
                let previous_model = Some(previous);
                let target = Target { previous_model, ..Target::new(dialect, model) };
                let written = write_request(&again, &target);
                (String::from_utf8(written.body).unwrap(), written.warnings)
            };
            let (body, _) = written(fixture.dialect, &answer.model, &answer.model);
            for seal in &seals {
                assert!(body.contains(&format!("\"{seal}\"")), "{name}: {seal} is not in {body}");
            }
            let (body, warnings) = written(fixture.dialect, "model-2", &answer.model);
            for seal in &seals {
                assert!(!body.contains(seal), "{name}: {seal} is in {body}");
                assert!(!warnings.is_empty(), "{name}");
            }
            for dialect in Dialect::ALL.into_iter().filter(|other| *other != fixture.dialect) {
                let (body, _) = written(dialect, &answer.model, &answer.model);
                for seal in &seals {
                    assert!(!body.contains(seal), "{name} to {dialect:?}: {seal} is in {body}");
                }
            }
        }
    }
}

#[test]
fn a_schema_without_native_support_is_a_forced_tool_and_its_call_is_text_again() {
    let fixture = fixtures("requests").into_iter().find(|f| f.directory.ends_with("schema"));
    let conversation = read_request(Surface::OpenAiChat, &fixture.unwrap().input).unwrap();
    let target = Target { json_schema: false, ..Target::new(Dialect::Anthropic, "model-1") };
    let written = write_request(&conversation, &target);
    assert_eq!(written.schema_tool.as_deref(), Some("person"));
    assert_eq!(written.warnings.to_string(), "reasoning_dropped:reasoning");
    let body: serde_json::Value = serde_json::from_slice(&written.body).unwrap();
    assert_eq!(body["tool_choice"], serde_json::json!({"type": "tool", "name": "person"}));

    let whole = br#"{"id":"m","model":"model-1","content":[{"type":"tool_use","id":"t","name":"person","input":{"name":"Ada"}}],"stop_reason":"tool_use"}"#;
    let answer = read_answer(Dialect::Anthropic, whole, "model-1", Some("person")).unwrap();
    assert_eq!(answer.parts, [Part::text(r#"{"name":"Ada"}"#)]);
    assert_eq!(answer.stop, Stop::EndTurn);

    let stream = [
        r#"{"type":"message_start","message":{"id":"m","model":"model-1"}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"person","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"name\":\"Ada\"}"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let tool = Some("person".to_owned());
    let mut decoder = StreamDecoder::new(Dialect::Anthropic, "model-1", tool, MAX_EVENT_BYTES);
    let mut events = Vec::new();
    for data in stream {
        events.extend(decoder.push(format!("data: {data}\n\n").as_bytes()));
    }
    let streamed = answer_of(&events);
    assert_eq!((&streamed.parts, streamed.stop), (&answer.parts, answer.stop));
}

#[test]
fn what_providers_get_wrong_in_a_stream_is_told_as_it_is() {
    for (dialect, stream, expected) in [
        (Dialect::OpenAiChat, "", Some(ErrorKind::Truncated)),
        (Dialect::OpenAiChat, "data: [DONE]\n\n", Some(ErrorKind::Truncated)),
        (Dialect::OpenAiChat, "data: {\"choices\n\n", Some(ErrorKind::Malformed)),
        (Dialect::OpenAiChat, "data: <html>\n\n", Some(ErrorKind::Malformed)),
        // A last event without its blank line, and none at all after the reason to stop.
        (
            Dialect::OpenAiChat,
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}",
            None,
        ),
        (
            Dialect::Anthropic,
            "data: {\"type\":\"message_start\",\"message\":{}}\n\n",
            Some(ErrorKind::Truncated),
        ),
        (Dialect::Anthropic, "data: {\"a\":1}\n\n", Some(ErrorKind::Malformed)),
        (
            Dialect::Anthropic,
            "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
            Some(ErrorKind::Overloaded),
        ),
        (
            Dialect::OpenAiResponses,
            "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"x\"}}}\n\n",
            Some(ErrorKind::RateLimit),
        ),
        (
            Dialect::OpenAiResponses,
            "data: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\",\"param\":null}\n\n",
            Some(ErrorKind::Server),
        ),
        (
            Dialect::Gemini,
            "data: {\"error\":{\"code\":503,\"message\":\"x\",\"status\":\"UNAVAILABLE\"}}\n\n",
            Some(ErrorKind::Overloaded),
        ),
        (
            Dialect::Gemini,
            "data: {\"candidates\":[{\"finishReason\":\"MALFORMED_FUNCTION_CALL\"}]}\n\n",
            Some(ErrorKind::Server),
        ),
        (Dialect::Gemini, "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n", None),
        (Dialect::Bedrock, "HTTP garbage that is no message", Some(ErrorKind::Malformed)),
        (
            Dialect::Cohere,
            "data: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"ERROR\"}}\n\n",
            Some(ErrorKind::Server),
        ),
    ] {
        let mut decoder = StreamDecoder::new(dialect, "model-1", None, MAX_EVENT_BYTES);
        let mut events = decoder.push(stream.as_bytes());
        events.extend(decoder.close());
        let found = match events.last() {
            Some(Event::Error(error)) => Some(error.kind),
            Some(Event::Finish { .. }) => None,
            last => panic!("{dialect:?} {stream}: ends with {last:?}"),
        };
        assert_eq!(found, expected, "{dialect:?} {stream}");
        assert_eq!((decoder.finished(), decoder.failed()), (found.is_none(), found.is_some()));
        assert!(decoder.push(b"data: {}\n\n").is_empty(), "an ended decoder says no more");
        check_promise(&events);
    }
}

#[test]
fn calls_are_told_apart_however_a_server_numbers_them() {
    let chunk = |calls: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{calls}]}}}}]}}\n\n")
    };
    let done =
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    for (name, stream) in [
        (
            "all of index 0",
            chunk(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#)
                + &chunk(r#"{"index":0,"id":"b","function":{"name":"g","arguments":"{\"x\":1}"}}"#),
        ),
        (
            "without a reason to stop",
            chunk(
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}},{"index":1,"id":"b","function":{"name":"g","arguments":"{\"x\":1}"}}"#,
            ) + "data: [DONE]\n\n",
        ),
        (
            "without index, arguments as an object",
            chunk(
                r#"{"id":"a","function":{"name":"f","arguments":{}}},{"id":"b","function":{"name":"g","arguments":{"x":1}}}"#,
            ),
        ),
        (
            "arguments before the name, name and id repeated",
            chunk(r#"{"index":0,"id":"a","function":{"arguments":"{"}}"#)
                + &chunk(r#"{"index":0,"id":"a","function":{"name":"f","arguments":""}}"#)
                + &chunk(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}"#)
                + &chunk(r#"{"index":1,"id":"b","function":{"name":"g","arguments":"{\"x\":1}"}}"#),
        ),
    ] {
        let mut decoder = StreamDecoder::new(Dialect::OpenAiChat, "model-1", None, MAX_EVENT_BYTES);
        let events = decoder.push((stream + done).as_bytes());
        check_promise(&events);
        let answer = answer_of(&events);
        assert_eq!(answer.stop, Stop::ToolUse, "{name}: calls end a turn whatever it says");
        let calls: Vec<(String, String, String)> = essence(&answer)
            .2
            .into_iter()
            .map(|call| (call.id, call.name, call.arguments))
            .collect();
        let call = |id: &str, name: &str, arguments: &str| {
            (id.to_owned(), name.to_owned(), arguments.to_owned())
        };
        assert_eq!(calls, [call("a", "f", "{}"), call("b", "g", r#"{"x":1}"#)], "{name}");
    }
}

#[test]
fn reasoning_is_found_wherever_a_server_puts_it() {
    for message in [
        r#"{"reasoning_content":"hm","content":"so"}"#,
        r#"{"reasoning":"hm","content":"so"}"#,
        r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"so"}]}"#,
        r#"{"thinking_blocks":[{"type":"thinking","thinking":"hm"}],"content":"so"}"#,
    ] {
        let parts = [
            Part::new(PartBody::Thinking { text: "hm".to_owned(), signature: None }),
            Part::text("so"),
        ];
        let whole = format!(r#"{{"choices":[{{"message":{message},"finish_reason":"stop"}}]}}"#);
        let answer = read_answer(Dialect::OpenAiChat, whole.as_bytes(), "model-1", None).unwrap();
        assert_eq!(answer.parts, parts, "{message}");
        let mut decoder = StreamDecoder::new(Dialect::OpenAiChat, "model-1", None, MAX_EVENT_BYTES);
        let chunk = format!(
            "data: {{\"choices\":[{{\"delta\":{message},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n"
        );
        let events = decoder.push(chunk.as_bytes());
        assert_eq!(answer_of(&events).parts, parts, "{message}");
    }
}

#[test]
fn ids_that_a_provider_would_refuse_are_changed_alike_in_call_and_result() {
    let body = br#"{"model":"auto","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"functions.look:0","type":"function","function":{"name":"look","arguments":"{}"}}]},{"role":"tool","tool_call_id":"functions.look:0","content":"y"}]}"#;
    let conversation = read_request(Surface::OpenAiChat, body).unwrap();
    let written = write_request(&conversation, &Target::new(Dialect::Anthropic, "model-1"));
    let body: serde_json::Value = serde_json::from_slice(&written.body).unwrap();
    let id = body["messages"][1]["content"][0]["id"].as_str().unwrap();
    assert_eq!(Some(id), body["messages"][2]["content"][0]["tool_use_id"].as_str());
    assert!(id.starts_with("functions_look_0_") && id.len() == 25, "{id}");
}

#[test]
fn errors_have_the_surfaces_own_shape() {
    let error = ProviderError::new(ErrorKind::Overloaded, "no room");
    let written = |surface: Surface| -> serde_json::Value {
        serde_json::from_slice(&write_error(surface.into(), &error, "req-1").to_bytes()).unwrap()
    };
    assert_eq!(
        written(Surface::Anthropic),
        serde_json::json!({
            "type": "error",
            "error": {"type": "overloaded_error", "message": "no room", "code": "overloaded"},
            "request_id": "req-1",
        })
    );
    assert_eq!(
        written(Surface::OpenAiResponses),
        serde_json::json!({"error": {
            "message": "no room", "type": "server_error", "param": null, "code": "overloaded",
        }})
    );
}
