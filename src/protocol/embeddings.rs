//! Vectors of texts: OpenAI's request and answer, and those of providers with their own.
//!
//! Sources: OpenAI API reference, "Create embeddings"; Google AI, "batchEmbedContents"; Cohere v2,
//! "Embed".

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    fields::{Fields, RequestError},
    json::{Json, RawObject, object},
};
use crate::units::TokenCount;

/// A request for embeddings, as far as a gateway must understand it.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingRequest {
    /// What the caller put in `model`.
    pub model: String,
    /// The texts; `None` when the caller sent token numbers, which mean something to one
    /// provider only.
    pub texts: Option<Vec<String>>,
    /// Numbers in a vector, where the caller wants fewer than the model gives.
    pub dimensions: Option<u32>,
    /// Whether the vectors come as base64 (little-endian f32) instead of numbers.
    pub base64: bool,
    /// What the vectors are for, in Cohere's words, where the caller says it.
    pub input_type: Option<String>,
}

impl EmbeddingRequest {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, RequestError> {
        let mut body = Fields::parse(body)?;
        let input: Json = body.required("input")?;
        let texts = input.as_string().map(|one| vec![one]).or_else(|| input.read());
        let numbers = || {
            let one = input.read::<Vec<u64>>().is_some_and(|tokens| !tokens.is_empty());
            one || input.read::<Vec<Vec<u64>>>().is_some_and(|lists| !lists.is_empty())
        };
        if texts.as_ref().is_none_or(Vec::is_empty) && !numbers() {
            let what = "must be a string, an array of strings, or token numbers, and not be empty";
            return Err(RequestError::at("input", what));
        }
        let format: Option<String> = body.optional("encoding_format")?;
        let base64 = match format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                return Err(RequestError::at("encoding_format", "must be `float` or `base64`"));
            }
        };
        Ok(Self {
            model: body.required("model")?,
            texts,
            dimensions: body.optional("dimensions")?,
            base64,
            input_type: body.optional("input_type")?,
        })
    }

    /// For Gemini's `batchEmbedContents`.
    pub fn for_gemini(&self, model: &str) -> Option<Vec<u8>> {
        let requests: Vec<RawObject> = self
            .texts
            .as_ref()?
            .iter()
            .map(|text| {
                let content = object! { "parts": [object! { "text": text }] };
                let mut request =
                    object! { "model": format!("models/{model}"), "content": content };
                request.put_some("outputDimensionality", &self.dimensions);
                request
            })
            .collect();
        Some(object! { "requests": requests }.to_bytes())
    }

    /// For Cohere's v2 `embed`.
    pub fn for_cohere(&self, model: &str) -> Option<Vec<u8>> {
        let mut body = object! {
            "model": model,
            "texts": self.texts.as_ref()?,
            "input_type": self.cohere_input_type(),
            "embedding_types": ["float"],
        };
        body.put_some("output_dimension", &self.dimensions);
        Some(body.to_bytes())
    }

    /// What Cohere must be told; texts to be found later, unless the caller says otherwise.
    pub(super) fn cohere_input_type(&self) -> &str {
        self.input_type.as_deref().unwrap_or("search_document")
    }

    /// OpenAI's answer, from vectors in the order of the texts.
    pub fn write_answer(&self, model: &str, vectors: &Vectors) -> Vec<u8> {
        let data: Vec<RawObject> = vectors
            .vectors
            .iter()
            .enumerate()
            .map(|(index, vector)| {
                let mut item = object! { "object": "embedding", "index": index };
                if self.base64 {
                    let bytes: Vec<u8> =
                        vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                    item.put("embedding", &STANDARD.encode(bytes));
                } else {
                    item.put("embedding", vector);
                }
                item
            })
            .collect();
        let tokens = vectors.input_tokens;
        object! {
            "object": "list", "data": data, "model": model,
            "usage": object! { "prompt_tokens": tokens, "total_tokens": tokens },
        }
        .to_bytes()
    }
}

/// What a provider answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// One for each text.
    pub vectors: Vec<Vec<f32>>,
    /// What the provider counted; zero when it does not say.
    pub input_tokens: u64,
}

/// Reads Gemini's answer.
pub fn read_gemini(body: &[u8]) -> Option<Vectors> {
    #[derive(serde::Deserialize)]
    struct Answer {
        embeddings: Vec<Embedding>,
    }
    #[derive(serde::Deserialize)]
    struct Embedding {
        values: Vec<f32>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let vectors = answer.embeddings.into_iter().map(|embedding| embedding.values).collect();
    finite(Vectors { vectors, input_tokens: 0 })
}

/// Reads Cohere's answer.
pub fn read_cohere(body: &[u8]) -> Option<Vectors> {
    #[derive(serde::Deserialize)]
    struct Answer {
        embeddings: Embeddings,
        #[serde(default)]
        meta: Meta,
    }
    #[derive(serde::Deserialize)]
    struct Embeddings {
        float: Vec<Vec<f32>>,
    }
    #[derive(serde::Deserialize, Default)]
    struct Meta {
        #[serde(default)]
        billed_units: Units,
    }
    #[derive(serde::Deserialize, Default)]
    struct Units {
        #[serde(default)]
        input_tokens: f64,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let input_tokens = answer.meta.billed_units.input_tokens.max(0.0) as u64;
    finite(Vectors { vectors: answer.embeddings.float, input_tokens })
}

/// A number beyond `f32` is read as infinite, which JSON has no word for.
pub(super) fn finite(vectors: Vectors) -> Option<Vectors> {
    vectors.vectors.iter().flatten().all(|value| value.is_finite()).then_some(vectors)
}

/// What OpenAI's answer says was used; `None` when it is no such answer.
pub fn read_openai_usage(body: &[u8]) -> Option<TokenCount> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(rename = "data")]
        _data: Vec<serde::de::IgnoredAny>,
        #[serde(default)]
        usage: Usage,
    }
    #[derive(serde::Deserialize, Default)]
    struct Usage {
        #[serde(default)]
        prompt_tokens: u64,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    Some(TokenCount { prompt_tokens: answer.usage.prompt_tokens, ..TokenCount::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_input_is_read_and_a_wrong_one_is_named() {
        let read = |input: &str| {
            EmbeddingRequest::read(format!("{{\"model\":\"m\",\"input\":{input}}}").as_bytes())
        };
        assert_eq!(read("\"a\"").unwrap().texts, Some(vec!["a".to_owned()]));
        assert_eq!(read("[\"a\",\"b\"]").unwrap().texts.unwrap().len(), 2);
        assert_eq!(read("[1,2]").unwrap().texts, None);
        assert_eq!(read("[[1],[2]]").unwrap().texts, None);
        for wrong in ["[]", "{}", "7", "[\"a\",1]", "null"] {
            assert_eq!(read(wrong).unwrap_err().param.as_deref(), Some("input"), "{wrong}");
        }
    }

    #[test]
    fn vectors_come_back_in_openais_shape() {
        let cohere =
            br#"{"embeddings":{"float":[[1.0,0.5]]},"meta":{"billed_units":{"input_tokens":3}}}"#;
        let vectors = read_cohere(cohere).unwrap();
        let mut request = EmbeddingRequest::read(br#"{"model":"m","input":"a"}"#).unwrap();
        let answer = String::from_utf8(request.write_answer("m", &vectors)).unwrap();
        assert!(
            answer.contains("\"embedding\":[1.0,0.5]") && answer.contains("\"total_tokens\":3")
        );
        request.base64 = true;
        let answer = String::from_utf8(request.write_answer("m", &vectors)).unwrap();
        // 1.0 is 0000803f, 0.5 is 0000003f.
        assert!(answer.contains("\"embedding\":\"AACAPwAAAD8=\""), "{answer}");
        let gemini = read_gemini(br#"{"embeddings":[{"values":[0.25]}]}"#).unwrap();
        assert_eq!(gemini.vectors, [[0.25]]);
        assert_eq!(read_gemini(br#"{"embeddings":[{"values":[1e39]}]}"#), None);
    }
}
