//! What callers send.

use super::{MODEL, SURFACES, object_of};
use crate::{
    classify::{extract::text_to_weigh, facts::TextFeatures},
    protocol::{
        chat::{Content, Message},
        embeddings::EmbeddingRequest,
        fields::RequestError,
        incoming::Incoming,
        neutral::{Conversation, Dialect, Surface, Target, Traits, Warnings},
        translate::{read_request, write_request},
    },
};

/// Fields of a body that is followed all the way.
const MAX_FIELDS: usize = 240;

/// A body of a surface: weighed, passed on, and written for every dialect.
pub fn converse(surface: Surface, bytes: &[u8]) {
    let incoming = match Incoming::parse(surface, bytes) {
        Ok(incoming) => incoming,
        Err(error) => return refused(&error),
    };
    assert!(!incoming.model.trim().is_empty());
    if object_of(bytes).into_fields().len() > MAX_FIELDS {
        // What is added on the way would pass the reader's own bound.
        return;
    }
    weigh(&incoming.messages);
    for ask_usage in [false, true] {
        let native = incoming.native_body(MODEL, ask_usage);
        let body = object_of(&native);
        assert!(body.get("weighbridge").is_none());
        let again = Incoming::parse(surface, &native);
        let again = again.unwrap_or_else(|error| panic!("the native body is refused: {error}"));
        assert_eq!(again.model, MODEL);
        assert_eq!(again.content, incoming.content);
        assert_eq!(again.ends_with_tool_result, incoming.ends_with_tool_result);
        assert_eq!(text_to_weigh(&again.messages), text_to_weigh(&incoming.messages));
    }
    match incoming.conversation() {
        Ok(conversation) => {
            assert_eq!(conversation.model, incoming.model);
            assert_eq!(conversation.stream, incoming.stream);
            assert_eq!(conversation.include_usage, incoming.include_usage);
            assert_eq!(conversation.max_output_tokens, incoming.max_output_tokens);
            assert_eq!(conversation.user, incoming.user);
            translate(conversation);
        }
        Err(error) => refused(&error),
    }
}

/// A body that asks for vectors.
pub fn embeddings(bytes: &[u8]) {
    let incoming = match Incoming::embeddings(bytes) {
        Ok(incoming) => incoming,
        Err(error) => return refused(&error),
    };
    weigh(&incoming.messages);
    let native = incoming.native_body(MODEL, true);
    assert!(object_of(&native).get("weighbridge").is_none());
    let request = incoming.embeddings.as_ref();
    let request = request.unwrap_or_else(|| panic!("a request for vectors has lost them"));
    let again = EmbeddingRequest::read(&native)
        .map(|read| EmbeddingRequest { model: request.model.clone(), ..read });
    assert_eq!(again.as_ref(), Ok(request));
    for body in [request.for_gemini(MODEL), request.for_cohere(MODEL)] {
        assert_eq!(body.is_some(), request.texts.is_some());
        body.map(|body| object_of(&body));
    }
}

/// A text that somebody typed.
pub fn prompt(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    weigh(&[Message { role: "user".to_owned(), content: Content::Text(text) }]);
}

fn weigh(messages: &[Message]) {
    let text = text_to_weigh(messages);
    let features = TextFeatures::read(&text);
    assert!(features.facts.iter().all(|fact| (0.0..=1.0).contains(fact)), "{features:?}");
    assert!(features.word_hashes.is_sorted());
}

/// A refusal names what is wrong.
fn refused(error: &RequestError) {
    assert!(!error.to_string().is_empty());
    assert!(error.param.as_ref().is_none_or(|param| error.message.contains(param)), "{error:?}");
}

fn translate(conversation: &Conversation) {
    for dialect in Dialect::ALL {
        let able = Target::new(dialect, MODEL);
        let poor = Target {
            reasoning: false,
            json_schema: false,
            reasoning_content: true,
            old_max_tokens: true,
            stream_usage: false,
            ..able.clone()
        };
        let third_generation =
            Target { model: "gemini-3-pro", traits: Traits::of("claude-opus-5-5"), ..able };
        for target in [&able, &poor, &third_generation] {
            let written = write_request(conversation, target);
            object_of(&written.body);
            check_line(&written.warnings);
            reread(conversation, target, &written.body);
        }
    }
}

/// What is written in a surface's language is a request of that surface. A conversation that
/// says nothing which the dialect has a word for may come out without messages.
fn reread(conversation: &Conversation, target: &Target<'_>, body: &[u8]) {
    let surface = SURFACES.into_iter().find(|surface| surface.speaks(target.dialect));
    let Some(surface) = surface else { return };
    match read_request(surface, body) {
        Ok(again) => {
            assert_eq!(again.model, target.model);
            assert_eq!(again.stream, conversation.stream);
        }
        Err(error) => {
            let param = error.param.as_deref();
            let body = String::from_utf8_lossy(body);
            assert!(matches!(param, Some("messages" | "input")), "{error}: {body}");
        }
    }
}

/// Warnings go into a header: visible ASCII and spaces (RFC 9110, section 5.5).
fn check_line(warnings: &Warnings) {
    let line = warnings.to_string();
    assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
}
