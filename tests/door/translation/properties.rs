//! What must hold for any request, any split and any damage.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\ {}]{0,8}[a-z]"
}

fn image() -> impl Strategy<Value = Part> {
    let inline = "[A-Za-z0-9]{4}"
        .prop_map(|data| Source::Base64 { media_type: "image/png".to_owned(), data });
    let source = prop_oneof![
        inline,
        "[a-z]{1,5}".prop_map(|name| Source::Url(format!("https://{name}.example/x.png")))
    ];
    source.prop_map(|source| Part::new(PartBody::Image { source, detail: None }))
}

fn user_turn() -> impl Strategy<Value = Turn> {
    let part = prop_oneof![text().prop_map(Part::text), image()];
    prop::collection::vec(part, 1..4).prop_map(|parts| turn(Role::User, parts))
}

fn turn(role: Role, parts: Vec<Part>) -> Turn {
    Turn { role, name: None, parts, path: String::new() }
}

/// An exchange: the model says something and may call tools; their results come with what the
/// user says next.
fn exchange() -> impl Strategy<Value = Vec<Turn>> {
    let call = ("[a-z]{1,6}", prop_oneof![Just("{}"), Just(r#"{"a": [1, 2.50]}"#)], text());
    (text(), prop::collection::vec(call, 0..3), user_turn(), any::<u32>()).prop_map(
        |(said, calls, mut next, salt)| {
            let mut parts = vec![Part::text(said)];
            let mut results = Vec::new();
            for (at, (name, arguments, result)) in calls.into_iter().enumerate() {
                let id = format!("call_{salt}_{at}");
                results.push(Part::new(PartBody::ToolResult(ToolResult {
                    call_id: id.clone(),
                    content: vec![Part::text(result)],
                    is_error: false,
                })));
                let arguments = arguments.to_owned();
                let call = ToolCall { id, name, arguments, signature: None };
                parts.push(Part::new(PartBody::ToolCall(call)));
            }
            results.append(&mut next.parts);
            vec![turn(Role::Assistant, parts), turn(Role::User, results)]
        },
    )
}

fn tool() -> impl Strategy<Value = Tool> {
    ("[a-z]{1,6}", prop::option::of(text()), prop::option::of(Just(true))).prop_map(
        |(name, description, strict)| {
            Tool::Function(Function {
                name,
                description,
                parameters: Json::parse(
                    r#"{"type":"object","properties":{"a":{"type":"string"}}}"#,
                ),
                strict,
                cache: None,
                known_as: None,
                path: String::new(),
            })
        },
    )
}

prop_compose! {
    /// What all three surfaces can say.
    fn conversation()(
        system in prop::option::of(text()),
        first in user_turn(),
        exchanges in prop::collection::vec(exchange(), 0..3),
        mut tools in prop::collection::vec(tool(), 0..3),
        choice in prop::option::of(prop_oneof![
            Just(ToolChoice::Auto),
            Just(ToolChoice::Required),
            "[a-z]{1,6}".prop_map(ToolChoice::Named),
        ]),
        serial in any::<bool>(),
        schema in any::<bool>(),
        temperature in prop::option::of(0u8..=10),
        max_output_tokens in 1u32..5000,
        user in prop::option::of(text()),
        stream in any::<bool>(),
        effort in prop::option::of(prop_oneof![Just(Effort::Low), Just(Effort::High)]),
    ) -> Conversation {
        let mut made = Conversation::new(Dialect::OpenAiChat, "model-1".to_owned());
        made.system.extend(system.map(Part::text));
        made.turns = std::iter::once(first).chain(exchanges.into_iter().flatten()).collect();
        if !tools.is_empty() {
            made.tool_choice = choice;
            made.parallel_tool_calls = serial.then_some(false);
        }
        // Two tools of one name are one tool too many on responses.
        let mut names = HashSet::new();
        tools.retain(|tool| match tool {
            Tool::Function(function) => names.insert(function.name.clone()),
            Tool::Native { .. } => true,
        });
        made.tools = tools;
        made.format = schema.then(|| Format::JsonSchema {
            name: "answer".to_owned(),
            description: None,
            schema: Json::parse(r#"{"type":"object"}"#).unwrap(),
            strict: Some(true),
        });
        made.sampling.temperature = temperature.map(|tenths| f64::from(tenths) / 10.0);
        made.max_output_tokens = Some(max_output_tokens);
        made.user = user;
        made.stream = stream;
        made.reasoning =
            effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() });
        made
    }
}

/// The meaning, without what the forms spell differently.
fn meaning(mut conversation: Conversation) -> Conversation {
    conversation.origin = Dialect::OpenAiChat;
    conversation.warnings = Warnings::default();
    conversation.include_usage = false;
    conversation.extra.clear();
    if let Some(reasoning) = &mut conversation.reasoning {
        // Asked for by the writer, so that reasoning is shown on the other surface.
        reasoning.summary = None;
    }
    if !conversation.tools.is_empty() {
        conversation.tool_choice.get_or_insert(ToolChoice::Auto);
    }
    for tool in &mut conversation.tools {
        if let Tool::Function(function) = tool {
            function.strict = function.strict.filter(|strict| *strict);
            function.path.clear();
        }
    }
    let mut turns: Vec<Turn> = Vec::new();
    for turn in conversation.turns {
        match turns.last_mut() {
            Some(last) if last.role == turn.role => last.parts.extend(turn.parts),
            _ => turns.push(Turn { path: String::new(), ..turn }),
        }
    }
    conversation.turns = turns;
    conversation
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_request_there_and_back_keeps_its_meaning(made in conversation()) {
        for surface in SURFACES {
            let mut made = made.clone();
            if surface == Surface::Anthropic {
                // There it becomes a budget, which is another word for nearly the same.
                made.reasoning = None;
            }
            let written = write_request(&made, &Target::new(surface.into(), "model-1"));
            prop_assert!(written.warnings.is_empty(), "{:?}: {}", surface, written.warnings);
            let read = read_request(surface, &written.body).unwrap();
            prop_assert!(read.warnings.is_empty(), "{:?}: {}", surface, read.warnings);
            prop_assert_eq!(meaning(read), meaning(made.clone()), "{:?}", surface);
        }
    }

    #[test]
    fn any_split_of_a_recorded_stream_gives_the_same_events(
        cuts in prop::collection::vec(1usize..40, 1..30),
    ) {
        for fixture in fixtures("streams") {
            let mut decoder = StreamDecoder::new(fixture.dialect, "model-1", None, MAX_EVENT_BYTES);
            let mut events = Vec::new();
            let mut rest = fixture.input.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                events.extend(decoder.push(now));
                rest = later;
            }
            events.extend(decoder.close());
            prop_assert_eq!(events, decode(&fixture), "{}", fixture.directory.display());
        }
    }

    /// A stream that is cut or damaged keeps the decoder's promise, and one that is cut before
    /// the reason to stop is no success.
    #[test]
    fn a_damaged_stream_ends_truthfully(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        for mut fixture in fixtures("streams") {
            let at = at.index(fixture.input.len());
            if cut { fixture.input.truncate(at) } else { fixture.input[at] = byte }
            let events = decode(&fixture);
            check_promise(&events);
            let text = String::from_utf8_lossy(&fixture.input);
            if matches!(events.last(), Some(Event::Finish { .. })) {
                let reasons =
                    ["finish_reason", "stop_reason", "finishReason", "stopReason", "response.", "message-end"];
                prop_assert!(reasons.iter().any(|reason| text.contains(reason)));
            }
            for surface in SURFACES {
                let out = StreamEncoder::new(surface, show()).encode(&events);
                prop_assert!(std::str::from_utf8(&out).is_ok());
            }
        }
    }

    /// A damaged request is an error or a request, never a panic, and what was read is written.
    #[test]
    fn a_damaged_request_is_no_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for mut fixture in fixtures("requests") {
            let at = at.index(fixture.input.len());
            fixture.input[at] = byte;
            let surface = surface_of(fixture.dialect).unwrap();
            let Ok(conversation) = read_request(surface, &fixture.input) else { continue };
            for dialect in Dialect::ALL {
                let written = write_request(&conversation, &Target::new(dialect, "model-1"));
                let body = std::str::from_utf8(&written.body).unwrap();
                prop_assert!(Json::parse_object(body).is_some());
            }
        }
    }

    #[test]
    fn a_damaged_answer_is_no_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for mut fixture in fixtures("answers") {
            let at = at.index(fixture.input.len());
            fixture.input[at] = byte;
            if let Ok(answer) = read_answer(fixture.dialect, &fixture.input, "model-1", None) {
                for surface in SURFACES {
                    write_answer(surface, &answer, &show());
                }
            }
        }
    }
}
