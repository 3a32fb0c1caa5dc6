//! `POST /model/{id}/invoke` of the models that make vectors. Source: Amazon Bedrock user guide,
//! "Amazon Titan Embeddings", "Cohere Embed v3", "Cohere Embed v4".

use axum::http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::cohere::INPUT_TYPES;
use super::super::openai::embeddings::embed;
use super::super::reader::{Bad, Reader};
use super::super::reply::Reply;
use super::super::script::{Fault, Script};
use super::super::sequence::StatusSequences;
use super::super::tokens;
use super::{bad, error};

/// What Titan's second version takes, its own choice first.
const TITAN_DIMENSIONS: [u64; 3] = [1_024, 512, 256];
/// As many as Titan's first version has.
const OLD_TITAN_DIMENSIONS: u64 = 1_536;
/// What Cohere's fourth version takes, its own choice first.
const COHERE_DIMENSIONS: [u64; 4] = [1_536, 1_024, 512, 256];
/// As many as Cohere's third version has.
const OLD_COHERE_DIMENSIONS: u64 = 1_024;
/// "Texts per call".
const MAX_TEXTS: usize = 96;

/// The reply to one call.
pub(super) fn reply(
    object: &Map<String, Value>,
    script: &Script,
    sequences: &StatusSequences,
) -> Result<Reply, Fault> {
    let request = Reader::new(object);
    let (answer, tokens) = if script.model.contains("titan-embed") {
        titan(&request, script)
    } else if script.model.contains("cohere.embed") {
        cohere(&request, script)
    } else {
        Err(Bad::says("modelId", "only embeddings are scripted here"))
    }
    .map_err(bad)?;
    let status = script.status(sequences);
    let answer = || {
        let header = HeaderName::from_static("x-amzn-bedrock-input-token-count");
        let body = answer.to_string().into_bytes();
        Reply::whole(status, body, &script.directives)
            .with_header(header, HeaderValue::from(tokens))
    };
    Ok(script.instead(status, None, error).unwrap_or_else(answer))
}

fn titan(request: &Reader<'_>, script: &Script) -> Result<(Value, u64), Bad> {
    let is_old = !script.model.contains("-v2");
    let members: &[&str] = match is_old {
        true => &["inputText"],
        false => &["inputText", "dimensions", "normalize", "embeddingTypes"],
    };
    request.only(members)?;
    let text = request.required_string("inputText")?;
    request.boolean("normalize")?;
    let dimensions = match is_old {
        true => OLD_TITAN_DIMENSIONS,
        false => one_of(request.unsigned("dimensions")?, "dimensions", &TITAN_DIMENSIONS)?,
    };
    let vector = embed(text, usize::try_from(dimensions).unwrap_or(1));
    let tokens = script.directives.tokens_in.unwrap_or_else(|| tokens::count(text));
    let mut answer = json!({"embedding": vector, "inputTextTokenCount": tokens});
    if !is_old {
        answer["embeddingsByType"] = json!({"float": vector});
    }
    Ok((answer, tokens))
}

fn cohere(request: &Reader<'_>, script: &Script) -> Result<(Value, u64), Bad> {
    let is_old = script.model.contains("-v3");
    let mut members = vec!["texts", "input_type", "embedding_types", "truncate", "images"];
    if !is_old {
        members.extend(["output_dimension", "inputs", "max_tokens"]);
    }
    request.only(&members)?;
    let kind = request.required_string("input_type")?;
    if !INPUT_TYPES.contains(&kind) {
        return Err(Bad::says("input_type", format!("{kind} is not a valid input type")));
    }
    let texts = request.strings("texts")?;
    if texts.is_empty() || texts.len() > MAX_TEXTS {
        return Err(Bad::says("texts", "expected 1 to 96 texts"));
    }
    let dimensions = match is_old {
        true => OLD_COHERE_DIMENSIONS,
        false => {
            one_of(request.unsigned("output_dimension")?, "output_dimension", &COHERE_DIMENSIONS)?
        }
    };
    let dimensions = usize::try_from(dimensions).unwrap_or(1);
    let vectors: Vec<_> = texts.iter().map(|text| embed(text, dimensions)).collect();
    let counted = texts.iter().map(|text| tokens::count(text)).sum();
    let by_type = !request.strings("embedding_types")?.is_empty();
    let answer = json!({
        "id": Uuid::now_v7().to_string(),
        "texts": texts,
        "embeddings": if by_type { json!({"float": vectors}) } else { json!(vectors) },
        "response_type": if by_type { "embeddings_by_type" } else { "embeddings_floats" },
    });
    Ok((answer, script.directives.tokens_in.unwrap_or(counted)))
}

/// A number that the model offers; the first when none is asked for.
fn one_of(asked: Option<u64>, name: &'static str, offered: &[u64]) -> Result<u64, Bad> {
    match asked {
        None => Ok(offered.first().copied().unwrap_or(1)),
        Some(asked) if offered.contains(&asked) => Ok(asked),
        Some(asked) => Err(Bad::says(name, format!("{asked} is not a valid enum value"))),
    }
}
