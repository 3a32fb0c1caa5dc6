//! `POST /v1/embeddings`: vectors that are near each other for texts that share words.
//!
//! Feature hashing (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask
//! Learning"): every word adds or subtracts 1 in a dimension that its hash picks, and the sum is
//! scaled to length 1. Nothing is learnt, but equal texts are equal and a search finds its words.

use serde::Serialize;

use super::super::answer::Usage;
use super::super::reply::Reply;
use super::super::sequence::StatusSequences;
use super::Call;
use super::error::ApiError;
use super::generation::body_usage;
use super::inputs::{Input, inputs};

/// As many as OpenAI's small model has.
const DEFAULT_DIMENSIONS: i64 = 1_536;
/// As many as OpenAI's large model has.
const MAX_DIMENSIONS: i64 = 3_072;

/// The reply to one call.
pub(super) fn reply(call: &Call, sequences: &StatusSequences) -> Result<Reply, ApiError> {
    let request = call.fields();
    let texts = inputs(&request, "input")?;
    let dimensions = request.integer("dimensions", 1..=MAX_DIMENSIONS)?;
    let dimensions = usize::try_from(dimensions.unwrap_or(DEFAULT_DIMENSIONS)).unwrap_or(1);
    let is_base64 = request.one_of("encoding_format", &["float", "base64"])? == Some("base64");
    request.string("user")?;
    let status = call.status(sequences);
    if let Some(reply) = call.instead(status, false) {
        return Ok(reply);
    }
    let data = texts.iter().enumerate().map(|(index, text)| {
        let vector = embed(&text.to_text(), dimensions);
        let embedding =
            if is_base64 { Vector::Base64(base64(&vector)) } else { Vector::Float(vector) };
        Embedding { object: "embedding", index, embedding }
    });
    let prompt_tokens =
        call.script.directives.tokens_in.unwrap_or_else(|| texts.iter().map(Input::tokens).sum());
    let directives = &call.script.directives;
    let usage = Usage { prompt_tokens, ..Usage::default() };
    let body = Body {
        object: "list",
        data: data.collect(),
        model: &call.script.model,
        usage: body_usage(usage, directives)
            .map(|_| EmbeddingUsage { prompt_tokens, total_tokens: prompt_tokens }),
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    Ok(Reply::whole(status, body, directives))
}

/// A vector of length 1; for a text without words the first unit vector.
pub(in super::super) fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions];
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    for word in words {
        let hash = fnv1a(word.to_lowercase().as_bytes());
        let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
        let dimension = usize::try_from(hash % dimensions as u64).unwrap_or(0);
        if let Some(component) = vector.get_mut(dimension) {
            *component += sign;
        }
    }
    let norm = vector.iter().map(|component| component * component).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|component| *component /= norm);
    } else if let Some(first) = vector.first_mut() {
        *first = 1.0;
    }
    vector
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo): the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The components as little-endian f32, in base64 (RFC 4648, section 4).
fn base64(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|component| component.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| group.get(at).copied().map_or(0, u32::from);
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            // Six bits: always within the alphabet.
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[derive(Serialize)]
struct Body<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<EmbeddingUsage>,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_share_words_are_near() {
        let dot = |a: &str, b: &str| -> f32 {
            embed(a, 256).iter().zip(embed(b, 256)).map(|(a, b)| a * b).sum()
        };
        assert!((dot("the red fox", "The red fox!") - 1.0).abs() < 1e-5);
        assert!(dot("the red fox", "a red fox ran") > dot("the red fox", "pay an invoice"));
        assert!((dot("", "?") - 1.0).abs() < 1e-5);
    }

    #[test]
    fn base64_follows_the_rfc() {
        // 1.0 is 00 00 80 3f.
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, 1.0]), "AACAPwAAgD8=");
        assert_eq!(base64(&[]), "");
    }
}
