//! What providers answer, when it is not a stream.

use super::{MODEL, SURFACES, Said, object_of, readable, show};
use crate::protocol::{
    bedrock::embed::Embedder,
    chunk::AnswerFacts,
    embeddings::{EmbeddingRequest, read_cohere, read_gemini, read_openai_usage},
    failure::{read_error, write_error},
    neutral::{Dialect, PartBody, ProviderError},
    translate::{read_answer, write_answer},
};

/// The tool that stands in for a JSON schema.
const SCHEMA_TOOL: &str = "answer";

/// A whole answer: shown on every surface, where it says the same.
pub fn answer(dialect: Dialect, bytes: &[u8]) {
    if let Some(facts) = AnswerFacts::read(bytes) {
        assert!(facts.content_bytes <= bytes.len());
    }
    if let Ok(answer) = read_answer(dialect, bytes, MODEL, Some(SCHEMA_TOOL)) {
        let stands_in =
            |body: &PartBody| matches!(body, PartBody::ToolCall(call) if call.name == SCHEMA_TOOL);
        assert!(!answer.parts.iter().any(|part| stands_in(&part.body)));
    }
    let answer = match read_answer(dialect, bytes, MODEL, None) {
        Ok(answer) => answer,
        Err(error) => return shown(&error),
    };
    assert!(!answer.model.is_empty());
    assert!(answer.content_bytes() <= bytes.len().saturating_mul(4).saturating_add(64));
    for surface in SURFACES {
        let body = write_answer(surface, &answer, &show());
        object_of(&body);
        let Some(dialect) = readable(surface) else { continue };
        let again = read_answer(dialect, &body, MODEL, None);
        let again = again.unwrap_or_else(|error| {
            panic!("{surface:?}: {error:?}: {}", String::from_utf8_lossy(&body))
        });
        let mut found = Said::of(&again);
        let expected = Said::of(&answer).on(&answer, dialect, true);
        // Arguments that are no object are put into one there.
        for (found, expected) in found.calls.iter_mut().zip(&expected.calls) {
            if let ([.., found], [.., expected]) = (found, expected)
                && expected.is_empty()
            {
                found.clear();
            }
        }
        assert_eq!(found, expected, "{surface:?}: {}", String::from_utf8_lossy(&body));
    }
}

/// An answer with vectors.
pub fn embeddings(bytes: &[u8]) {
    let request = |base64| EmbeddingRequest {
        model: MODEL.to_owned(),
        texts: None,
        dimensions: None,
        base64,
        input_type: None,
    };
    let bedrock = [Embedder::Titan, Embedder::Cohere].map(|maker| maker.read(bytes, Some(1)));
    let found = [read_gemini(bytes), read_cohere(bytes)].into_iter().chain(bedrock);
    for vectors in found.flatten() {
        let finite = vectors.vectors.iter().flatten().all(|value| value.is_finite());
        assert!(finite, "a vector that no JSON can carry was taken: {vectors:?}");
        for base64 in [false, true] {
            object_of(&request(base64).write_answer(MODEL, &vectors));
        }
    }
    let _ = read_openai_usage(bytes);
}

/// The body of a failed request.
pub fn error(bytes: &[u8]) {
    for status in [200, 400, 401, 404, 429, 500, 503, 999] {
        shown(&read_error(status, bytes));
    }
}

/// An error keeps its sentence on every surface.
fn shown(error: &ProviderError) {
    for surface in SURFACES {
        let body = write_error(Dialect::from(surface), error, "weighbridge-1").to_bytes();
        object_of(&body);
        let again = read_error(400, &body);
        assert_eq!(again.message, error.message);
        assert!(again.code.is_some());
    }
}
