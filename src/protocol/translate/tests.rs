//! Requests and whole answers from one language to another.

use super::*;
use crate::{
    protocol::{chunk::AnswerFacts, neutral::PartBody},
    units::TokenCount,
};

fn written(surface: Surface, body: &str, dialect: Dialect) -> serde_json::Value {
    let read = read_request(surface, body.as_bytes()).unwrap();
    let body = write_request(&read, &Target::new(dialect, "m")).body;
    crate::protocol::json::RawObject::parse(&body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// A chat request that offers `a` and `b`, as the provider is sent it, and what was lost.
fn with_tools(fields: &str, dialect: Dialect) -> (serde_json::Value, String) {
    let body = format!(
        r#"{{"model":"m","tools":[{{"type":"function","function":{{"name":"a"}}}},
                {{"type":"function","function":{{"name":"b"}}}}],{fields}}}"#
    );
    let read = read_request(Surface::OpenAiChat, body.as_bytes()).unwrap();
    let written = write_request(&read, &Target::new(dialect, "m"));
    (serde_json::from_slice(&written.body).unwrap(), written.warnings.to_string())
}

const QUESTION: &str = r#""messages":[{"role":"user","content":"x"}]"#;

#[test]
fn what_asks_for_what_happens_anyway_is_no_loss() {
    let body = |fields: &str| {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}],{fields}}}"#)
    };
    let warnings = |fields: &str| {
        let read = read_request(Surface::OpenAiChat, body(fields).as_bytes()).unwrap();
        write_request(&read, &Target::new(Dialect::Anthropic, "m")).warnings.to_string()
    };
    let defaults = r#""logprobs": false, "store":false,"modalities":[ "text" ],"logit_bias":{}"#;
    assert_eq!(warnings(defaults), "");
    let asked = r#""logprobs":true,"modalities":["text","audio"]"#;
    assert_eq!(warnings(asked), "field_dropped:logprobs, field_dropped:modalities");
}

#[test]
fn sealed_reasoning_that_comes_anyway_is_no_loss_when_it_is_asked_for() {
    let warnings = |include: &str, dialect| {
        let body = format!(r#"{{"model":"m","input":"Hi","include":[{include}]}}"#);
        let read = read_request(Surface::OpenAiResponses, body.as_bytes()).unwrap();
        write_request(&read, &Target::new(dialect, "m")).warnings.to_string()
    };
    let sealed = r#""reasoning.encrypted_content""#;
    let more = format!("{sealed},\"message.output_text.logprobs\"");
    for dialect in [Dialect::Anthropic, Dialect::Bedrock, Dialect::Gemini] {
        assert_eq!(warnings(sealed, dialect), "", "{dialect:?}");
        assert_eq!(warnings(&more, dialect), "field_dropped:include", "{dialect:?}");
    }
    for dialect in [Dialect::OpenAiChat, Dialect::Cohere] {
        assert_eq!(warnings(sealed, dialect), "field_dropped:include", "{dialect:?}");
    }
}

#[test]
fn no_tool_is_offered_to_bedrock_when_none_may_be_called() {
    let none = format!(r#"{QUESTION},"tool_choice":"none""#);
    let (body, warnings) = with_tools(&none, Dialect::Bedrock);
    assert_eq!((body.get("toolConfig"), warnings.as_str()), (None, ""));
    // It refuses a history of calls without the tools.
    let called = r#""tool_choice":"none","messages":[{"role":"user","content":"x"},
            {"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"a","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"1","content":"y"}]"#;
    let (body, warnings) = with_tools(called, Dialect::Bedrock);
    assert_eq!(body["toolConfig"]["tools"].as_array().unwrap().len(), 2);
    assert_eq!(warnings, "tool_choice_dropped:tool_choice");
}

#[test]
fn calls_made_earlier_are_known_to_bedrock_where_no_tools_are_offered() {
    let call = |id: u8, name: &str| {
        format!(
            r#"{{"role":"assistant","tool_calls":[{{"id":"{id}","type":"function",
                    "function":{{"name":"{name}","arguments":"{{}}"}}}}]}},
                    {{"role":"tool","tool_call_id":"{id}","content":"y"}}"#
        )
    };
    let history = [call(1, "b"), call(2, "a"), call(3, "b")].join(",");
    for fields in ["", r#""tools":[],"tool_choice":"none","parallel_tool_calls":false,"#] {
        let body = format!(
            r#"{{"model":"m",{fields}"messages":[{{"role":"user","content":"x"}},{history}]}}"#
        );
        let read = read_request(Surface::OpenAiChat, body.as_bytes()).unwrap();
        let written = write_request(&read, &Target::new(Dialect::Bedrock, "m"));
        let body: serde_json::Value = serde_json::from_slice(&written.body).unwrap();
        let config = &body["toolConfig"];
        let specs: Vec<_> = config["tools"].as_array().unwrap().iter().collect();
        let names: Vec<_> = specs.iter().map(|tool| &tool["toolSpec"]["name"]).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(specs[0]["toolSpec"]["inputSchema"]["json"]["type"], "object");
        assert_eq!(config.get("toolChoice"), None);
        assert_eq!(written.warnings.to_string(), "tools_added:tools");
    }
}

#[test]
fn a_conversation_that_the_model_begins_is_given_a_users_turn() {
    let body = r#"{"model":"m","messages":[{"role":"system","content":"s"},
            {"role":"assistant","content":""},{"role":"assistant","content":"Hello."},
            {"role":"user","content":"x"}]}"#;
    for (dialect, added) in
        [(Dialect::Anthropic, true), (Dialect::Bedrock, true), (Dialect::Gemini, false)]
    {
        let read = read_request(Surface::OpenAiChat, body.as_bytes()).unwrap();
        let written = write_request(&read, &Target::new(dialect, "m"));
        let sent: serde_json::Value = serde_json::from_slice(&written.body).unwrap();
        if !added {
            assert_eq!(written.warnings.to_string(), "", "{dialect:?}");
            continue;
        }
        assert_eq!(written.warnings.to_string(), "turn_added:messages[1]", "{dialect:?}");
        let turns = sent["messages"].as_array().unwrap();
        let roles: Vec<_> = turns.iter().map(|turn| &turn["role"]).collect();
        assert_eq!(roles, ["user", "assistant", "user"], "{dialect:?}");
        let text = &turns[0]["content"][0]["text"];
        assert_eq!(text, "(The conversation begins with the assistant.)");
    }
}

#[test]
fn beside_thinking_a_small_top_p_is_left_out() {
    let sent = |model: &str, dialect, fields: &str| {
        let body = format!(r#"{{"model":"m","max_tokens":9000,{fields},{QUESTION}}}"#);
        let read = read_request(Surface::OpenAiChat, body.as_bytes()).unwrap();
        let written = write_request(&read, &Target::new(dialect, model));
        let body: serde_json::Value = serde_json::from_slice(&written.body).unwrap();
        let top_p = body.get("top_p").or(body["inferenceConfig"].get("topP"));
        (top_p.and_then(serde_json::Value::as_f64), written.warnings.to_string())
    };
    let dropped = (None, "sampling_dropped:top_p".to_owned());
    for (model, dialect) in
        [("claude-3-7", Dialect::Anthropic), ("eu.anthropic.claude-3-7", Dialect::Bedrock)]
    {
        let low = r#""reasoning_effort":"low","top_p":0.94"#;
        assert_eq!(sent(model, dialect, low), dropped, "{model}");
        let enough = r#""reasoning_effort":"low","top_p":0.95"#;
        assert_eq!(sent(model, dialect, enough), (Some(0.95), String::new()), "{model}");
        let silent = r#""top_p":0.1"#;
        assert_eq!(sent(model, dialect, silent), (Some(0.1), String::new()), "{model}");
    }
}

#[test]
fn gemini_thinks_within_the_callers_bound() {
    let read = |surface, fields: &str| {
        let body = format!(r#"{{"model":"m",{fields},{QUESTION}}}"#);
        read_request(surface, body.as_bytes()).unwrap()
    };
    let sent = |conversation: &Conversation, model| {
        let written = write_request(conversation, &Target::new(Dialect::Gemini, model));
        let body: serde_json::Value = serde_json::from_slice(&written.body).unwrap();
        let budget = &body["generationConfig"]["thinkingConfig"]["thinkingBudget"];
        (budget.as_i64(), written.warnings.to_string())
    };
    for (effort, bound, model, budget) in [
        ("high", 1000, "gemini-2.5-flash", 500),
        ("high", 1000, "gemini-2.5-flash-lite", 512),
        ("high", 100, "gemini-2.5-pro", 128),
        ("low", 3000, "gemini-2.5-pro", 1024),
        ("none", 100, "gemini-2.5-flash", 0),
    ] {
        let fields = format!(r#""reasoning_effort":"{effort}","max_completion_tokens":{bound}"#);
        let read = read(Surface::OpenAiChat, &fields);
        assert_eq!(sent(&read, model), (Some(budget), String::new()), "{effort} {bound}");
    }
    for (said, bound, budget, warning) in
        [(1999, 2000, 1999, ""), (2000, 2000, 1000, "reasoning_reduced:reasoning")]
    {
        let fields = format!(
            r#""max_tokens":{bound},"thinking":{{"type":"enabled","budget_tokens":{said}}}"#
        );
        let read = read(Surface::Anthropic, &fields);
        assert_eq!(sent(&read, "gemini-2.5-flash"), (Some(budget), warning.to_owned()));
    }
    let unbound = read(Surface::OpenAiChat, r#""reasoning_effort":"high""#);
    assert_eq!(sent(&unbound, "gemini-2.5-flash").0, Some(24576));
}

#[test]
fn a_schema_is_the_only_tool_to_be_called_when_the_callers_own_may_not() {
    let fields = format!(
        r#"{QUESTION},"tool_choice":"none","response_format":{{"type":"json_schema",
                "json_schema":{{"name":"s","schema":{{"type":"object"}}}}}}"#
    );
    let (body, _) = with_tools(&fields, Dialect::Bedrock);
    assert_eq!(body["toolConfig"]["tools"].as_array().unwrap().len(), 1);
    assert_eq!(body["toolConfig"]["toolChoice"]["tool"]["name"], "s");
    let body = format!(
        r#"{{"model":"m","tools":[{{"type":"function","function":{{"name":"a"}}}}],{fields}}}"#
    );
    let read = read_request(Surface::OpenAiChat, body.as_bytes()).unwrap();
    let target = Target { json_schema: false, ..Target::new(Dialect::Anthropic, "m") };
    let body: serde_json::Value =
        serde_json::from_slice(&write_request(&read, &target).body).unwrap();
    assert_eq!(body["tool_choice"], serde_json::json!({"type": "tool", "name": "s"}));
}

#[test]
fn a_named_tool_is_the_only_one_that_cohere_is_offered() {
    let named = |name: &str| {
        let choice = format!(r#"{{"type":"function","function":{{"name":"{name}"}}}}"#);
        with_tools(&format!(r#"{QUESTION},"tool_choice":{choice}"#), Dialect::Cohere)
    };
    let (body, warnings) = named("b");
    assert_eq!((body["tool_choice"].as_str(), warnings.as_str()), (Some("REQUIRED"), ""));
    let names: Vec<_> =
        body["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
    assert_eq!(names, ["b"]);
    let (body, warnings) = named("c");
    assert_eq!(body["tools"].as_array().unwrap().len(), 2);
    assert_eq!(warnings, "tool_choice_weakened:tool_choice");
}

#[test]
fn a_calls_signature_goes_out_with_the_reasoning_and_comes_back_to_the_call() {
    let body =
        br#"{"modelVersion":"gemini-3-x","candidates":[{"finishReason":"STOP","content":{"parts":[
            {"text":"hm","thought":true},
            {"functionCall":{"id":"1","name":"f","args":{}},"thoughtSignature":"sig"}]}}]}"#;
    let answer = read_answer(Dialect::Gemini, body, "gemini-3-x", None).unwrap();
    let shown = write_answer(Surface::Anthropic, &answer, &Show::default());
    let mut shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let content = shown["content"].take();
    assert_eq!(content.as_array().unwrap().len(), 2, "{content}");
    assert_eq!(content[0]["thinking"], "hm");
    assert_eq!(content[0]["signature"], "weighbridge:gemini:gemini-3-x:sig");

    let next = serde_json::json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "y"}]},
    ]});
    let read = read_request(Surface::Anthropic, next.to_string().as_bytes()).unwrap();
    let sent = |model: &str| {
        let written = write_request(&read, &Target::new(Dialect::Gemini, model));
        let body: serde_json::Value = serde_json::from_slice(&written.body).unwrap();
        (body["contents"][1]["parts"].clone(), written.warnings.to_string())
    };
    let (parts, warnings) = sent("gemini-3-x");
    assert_eq!(parts[0], serde_json::json!({"text": "hm", "thought": true}));
    assert_eq!((parts[1]["thoughtSignature"].as_str(), warnings.as_str()), (Some("sig"), ""));
    let (parts, warnings) = sent("gemini-3-y");
    assert_eq!(parts[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(warnings, "thinking_dropped:messages[1].content[0]");
}

#[test]
fn instructions_in_the_middle_stay_there_for_a_caller_who_speaks_as_the_provider_does() {
    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"},
            {"role":"system","content":"Be brief."},{"role":"user","content":"y"}]}"#;
    let sent = written(Surface::Anthropic, body, Dialect::Anthropic);
    assert_eq!((sent.get("system"), &sent["messages"][1]["role"]), (None, &"system".into()));
    assert_eq!(sent["messages"][1]["content"][0]["text"], "Be brief.");
    let sent = written(Surface::Anthropic, body, Dialect::OpenAiChat);
    assert_eq!(sent["messages"][1]["role"], "system");
    let sent = written(Surface::OpenAiChat, body, Dialect::Anthropic);
    assert_eq!(
        (&sent["system"], sent["messages"].as_array().unwrap().len()),
        (&"Be brief.".into(), 1)
    );
}

#[test]
fn several_refusals_are_all_shown_on_chat() {
    let body = br#"{"output":[{"type":"message","content":[{"refusal":"a"},{"refusal":"b"}]}]}"#;
    let answer = read_answer(Dialect::OpenAiResponses, body, "m", None).unwrap();
    let shown = write_answer(Surface::OpenAiChat, &answer, &Show::default());
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["choices"][0]["message"]["refusal"], "ab");
    let asked = r#"{"model":"m","input":[{"role":"assistant","content":[
            {"type":"refusal","refusal":"a"},{"type":"refusal","refusal":"b"}]}]}"#;
    let sent = written(Surface::OpenAiResponses, asked, Dialect::OpenAiChat);
    assert_eq!(sent["messages"][0]["refusal"], "ab");
}

#[test]
fn a_call_without_an_id_is_given_one() {
    for (dialect, body) in [
        (Dialect::Anthropic, r#"{"id":"x","content":[{"type":"tool_use","name":"f"}]}"#),
        (Dialect::Bedrock, r#"{"output":{"message":{"content":[{"toolUse":{"name":"f"}}]}}}"#),
        (Dialect::OpenAiResponses, r#"{"output":[{"type":"function_call","name":"f"}]}"#),
        (Dialect::Cohere, r#"{"message":{"tool_calls":[{"id":"","function":{"name":"f"}}]}}"#),
    ] {
        let answer = read_answer(dialect, body.as_bytes(), "m", None).unwrap();
        let PartBody::ToolCall(call) = &answer.parts[0].body else { panic!("{answer:?}") };
        assert!(!call.id.is_empty(), "{dialect:?}");
    }
}

#[test]
fn a_setting_given_in_two_places_is_written_once() {
    let body = r#"{"model":"m","input":"x","text":{"verbosity":"low"},"verbosity":"high"}"#;
    let sent = written(Surface::OpenAiResponses, body, Dialect::OpenAiChat);
    assert_eq!(sent["verbosity"], "low");
}

#[test]
fn what_has_a_price_of_its_own_is_counted_apart_in_every_dialect() {
    let counted = |dialect, body: &str| {
        let answer = read_answer(dialect, body.as_bytes(), "m", None).unwrap();
        TokenCount::from(answer.usage.unwrap())
    };
    let chat = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],
            "service_tier":"flex","usage":{"prompt_tokens":100,"completion_tokens":20,
            "prompt_tokens_details":{"audio_tokens":30,"image_tokens":40},
            "completion_tokens_details":{"audio_tokens":5}}}"#;
    let spoken = TokenCount {
        prompt_tokens: 100,
        completion_tokens: 20,
        audio_prompt_tokens: 30,
        image_prompt_tokens: 40,
        audio_completion_tokens: 5,
        in_batch: true,
        ..TokenCount::default()
    };
    assert_eq!(counted(Dialect::OpenAiChat, chat), spoken);
    // The same where the bytes pass through.
    assert_eq!(AnswerFacts::read(chat.as_bytes()).unwrap().usage, Some(spoken));
    let responses = r#"{"status":"completed","output":[],"service_tier":"flex",
            "usage":{"input_tokens":100,"output_tokens":20,
            "input_tokens_details":{"audio_tokens":30,"image_tokens":40},
            "output_tokens_details":{"audio_tokens":5}}}"#;
    assert_eq!(counted(Dialect::OpenAiResponses, responses), spoken);
    let gemini = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}],
            "usageMetadata":{"promptTokenCount":100,"candidatesTokenCount":20,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":30},
                {"modality":"AUDIO","tokenCount":30},{"modality":"IMAGE","tokenCount":40}],
            "candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":5}]}}"#;
    let usual = TokenCount { in_batch: false, ..spoken };
    assert_eq!(counted(Dialect::Gemini, gemini), usual);
    let anthropic = r#"{"content":[],"stop_reason":"end_turn","usage":{"input_tokens":10,
            "cache_creation_input_tokens":70,"cache_read_input_tokens":20,"output_tokens":20,
            "cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":60},
            "service_tier":"batch"}}"#;
    let written = TokenCount {
        prompt_tokens: 100,
        completion_tokens: 20,
        cached_tokens: 20,
        cache_write_tokens: 70,
        cache_write_1h_tokens: 60,
        in_batch: true,
        ..TokenCount::default()
    };
    assert_eq!(counted(Dialect::Anthropic, anthropic), written);
}
