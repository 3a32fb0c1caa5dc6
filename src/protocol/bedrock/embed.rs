//! Vectors of texts through `InvokeModel`, which speaks each maker's own language: Amazon's Titan
//! takes one text a call, Cohere's models take many.
//!
//! Sources: Amazon Bedrock user guide, "Amazon Titan Embeddings" and "Cohere Embed v3 / v4";
//! Bedrock API reference, "InvokeModel".

use serde::Deserialize;

use super::super::{
    embeddings::{EmbeddingRequest, Vectors, finite},
    json::object,
};

/// Texts in one request to Titan, which needs a call for each (chosen: what Cohere's models take
/// in one).
pub const MAX_TITAN_TEXTS: usize = 96;

/// The header that counts a prompt's tokens, for the models whose answers do not.
pub const INPUT_TOKENS_HEADER: &str = "x-amzn-bedrock-input-token-count";

/// Whose language a Bedrock model's embeddings are asked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedder {
    /// `amazon.titan-embed-text-v2:0`: 1,024, 512 or 256 numbers.
    Titan,
    /// The first Titans, whose vectors have one length.
    OldTitan,
    /// `cohere.embed-v4:0`: as many numbers as asked for.
    Cohere,
    /// Cohere's third version, whose vectors have one length.
    OldCohere,
}

/// Why a Bedrock model cannot be asked for these vectors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotEmbed {
    /// Its name is of no model whose language is known.
    #[error(
        "`{0}` is none of the models that Bedrock makes embeddings with here: \
         `amazon.titan-embed-…` and `cohere.embed-…`"
    )]
    Model(String),
    /// The caller sent token numbers.
    #[error("`input` holds token numbers, which only a provider of OpenAI's kind takes")]
    Tokens,
    /// The model's vectors have one length.
    #[error("`dimensions`: the vectors of `{0}` have one length, which cannot be chosen")]
    Dimensions(String),
    /// One call for each text would be too many.
    #[error(
        "`input` holds {0} texts; Titan takes one a call, and at most {MAX_TITAN_TEXTS} are \
         sent for one request"
    )]
    TooMany(usize),
}

impl Embedder {
    /// Told by the model's name, with or without a region's prefix.
    pub fn of(model: &str) -> Option<Self> {
        if model.contains("titan-embed-text-v2") {
            Some(Self::Titan)
        } else if model.contains("titan-embed-text") || model.contains("titan-embed-g1-text") {
            Some(Self::OldTitan)
        } else if model.contains("cohere.embed") {
            Some(if model.contains("-v3") { Self::OldCohere } else { Self::Cohere })
        } else {
            None
        }
    }

    /// Reads an answer. `counted` is what [`INPUT_TOKENS_HEADER`] says.
    pub fn read(self, body: &[u8], counted: Option<u64>) -> Option<Vectors> {
        match self {
            Self::Titan | Self::OldTitan => read_titan(body, counted),
            Self::Cohere | Self::OldCohere => read_cohere(body, counted),
        }
    }
}

impl EmbeddingRequest {
    /// The bodies of the calls that `model` needs, in the order of the texts; one at least.
    pub fn for_bedrock(&self, model: &str) -> Result<Vec<Vec<u8>>, CannotEmbed> {
        let embedder = Embedder::of(model).ok_or_else(|| CannotEmbed::Model(model.to_owned()))?;
        let texts = self.texts.as_ref().ok_or(CannotEmbed::Tokens)?;
        let one_length = matches!(embedder, Embedder::OldTitan | Embedder::OldCohere);
        if one_length && self.dimensions.is_some() {
            return Err(CannotEmbed::Dimensions(model.to_owned()));
        }
        if matches!(embedder, Embedder::Cohere | Embedder::OldCohere) {
            let mut body = object! {
                "texts": texts,
                "input_type": self.cohere_input_type(),
                "embedding_types": ["float"],
            };
            body.put_some("output_dimension", &self.dimensions);
            return Ok(vec![body.to_bytes()]);
        }
        if texts.len() > MAX_TITAN_TEXTS {
            return Err(CannotEmbed::TooMany(texts.len()));
        }
        let body = |text: &String| {
            let mut body = object! { "inputText": text };
            if embedder == Embedder::Titan {
                // As OpenAI's vectors are.
                body.put("normalize", &true);
                body.put_some("dimensions", &self.dimensions);
            }
            body.to_bytes()
        };
        Ok(texts.iter().map(body).collect())
    }
}

fn read_titan(body: &[u8], counted: Option<u64>) -> Option<Vectors> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        embedding: Vec<f32>,
        input_text_token_count: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let input_tokens = answer.input_text_token_count.or(counted).unwrap_or(0);
    finite(Vectors { vectors: vec![answer.embedding], input_tokens })
}

/// The vectors stand under `float`, or by themselves.
fn read_cohere(body: &[u8], counted: Option<u64>) -> Option<Vectors> {
    #[derive(Deserialize)]
    struct Answer {
        embeddings: Embeddings,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Embeddings {
        ByType { float: Vec<Vec<f32>> },
        Floats(Vec<Vec<f32>>),
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let (Embeddings::ByType { float: vectors } | Embeddings::Floats(vectors)) = answer.embeddings;
    finite(Vectors { vectors, input_tokens: counted.unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(texts: usize, dimensions: Option<u32>) -> EmbeddingRequest {
        let texts: Vec<_> = (0..texts).map(|at| format!("\"t{at}\"")).collect();
        let dimensions = dimensions.map_or_else(String::new, |n| format!(",\"dimensions\":{n}"));
        let body = format!("{{\"model\":\"m\",\"input\":[{}]{dimensions}}}", texts.join(","));
        EmbeddingRequest::read(body.as_bytes()).unwrap()
    }

    fn bodies(model: &str, request: &EmbeddingRequest) -> Vec<String> {
        let bodies = request.for_bedrock(model).unwrap();
        bodies.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
    }

    #[test]
    fn titan_is_asked_once_for_each_text_and_cohere_once_for_all() {
        assert_eq!(
            bodies("us.amazon.titan-embed-text-v2:0", &request(2, Some(256))),
            [
                r#"{"inputText":"t0","normalize":true,"dimensions":256}"#,
                r#"{"inputText":"t1","normalize":true,"dimensions":256}"#,
            ]
        );
        assert_eq!(
            bodies("amazon.titan-embed-text-v1", &request(1, None)),
            [r#"{"inputText":"t0"}"#]
        );
        let cohere =
            r#"{"texts":["t0","t1"],"input_type":"search_document","embedding_types":["float"]"#;
        assert_eq!(bodies("cohere.embed-english-v3", &request(2, None)), [format!("{cohere}}}")]);
        assert_eq!(
            bodies("cohere.embed-v4:0", &request(2, Some(512))),
            [format!("{cohere},\"output_dimension\":512}}")]
        );
    }

    #[test]
    fn what_a_model_cannot_do_is_named() {
        let says = |model: &str, texts, dimensions| {
            request(texts, dimensions).for_bedrock(model).unwrap_err().to_string()
        };
        assert!(says("anthropic.claude-opus-5", 1, None).contains("claude-opus-5"));
        assert!(says("cohere.embed-english-v3", 1, Some(8)).starts_with("`dimensions`"));
        assert!(says("amazon.titan-embed-text-v2:0", 97, None).contains("97 texts"));
    }

    #[test]
    fn both_answers_are_read_and_their_tokens_counted() {
        let titan =
            br#"{"embedding":[0.5],"embeddingsByType":{"float":[0.5]},"inputTextTokenCount":3}"#;
        let expected = Vectors { vectors: vec![vec![0.5]], input_tokens: 3 };
        assert_eq!(Embedder::Titan.read(titan, Some(9)), Some(expected.clone()));
        for cohere in [
            &br#"{"embeddings":{"float":[[0.5]]},"response_type":"embeddings_by_type"}"#[..],
            br#"{"embeddings":[[0.5]],"response_type":"embeddings_floats"}"#,
        ] {
            assert_eq!(Embedder::Cohere.read(cohere, Some(3)), Some(expected.clone()));
        }
        assert_eq!(Embedder::Titan.read(br#"{"embedding":[1e39]}"#, None), None);
        assert_eq!(Embedder::Cohere.read(br#"{"message":"no"}"#, None), None);
    }
}
