//! Reading `tokenizer.json`: which files are understood, and what is taken from them.
//!
//! The format is that of the Hugging Face `tokenizers` crate, version "1.0". Everything that could
//! change an id and is not understood is refused by name, so a file that loads gives the ids that
//! crate would give. Truncation, padding and the decoder are ignored: the caller cuts and pads.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::WordPieceError;
use super::chars::Normalizer;

/// What [`super::WordPiece`] needs of a `tokenizer.json`, checked.
pub(super) struct Definition {
    pub normalizer: Normalizer,
    pub model: Model,
    /// Strings that become one id wherever they stand in a raw text, with that id.
    pub added_tokens: Vec<(String, u32)>,
    pub cls_id: u32,
    pub sep_id: u32,
    pub unk_id: u32,
}

/// The WordPiece model, fields as in the file.
#[derive(Deserialize)]
pub(super) struct Model {
    pub unk_token: String,
    pub continuing_subword_prefix: String,
    pub max_input_chars_per_word: usize,
    pub vocab: HashMap<String, u32>,
}

/// The file's outline, read first so that a refusal names the part and not a missing field.
#[derive(Deserialize)]
struct Outline {
    version: Option<String>,
    normalizer: Option<Part>,
    pre_tokenizer: Option<Part>,
    model: Option<Part>,
    post_processor: Option<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct TokenizerJson {
    normalizer: Normalizer,
    model: Model,
    post_processor: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
}

#[derive(Deserialize)]
struct BertProcessing {
    cls: (String, u32),
    sep: (String, u32),
}

#[derive(Deserialize)]
struct TemplateProcessing {
    single: Vec<TemplatePiece>,
    special_tokens: HashMap<String, TemplateToken>,
}

#[derive(Deserialize)]
enum TemplatePiece {
    SpecialToken { id: String },
    Sequence { id: String },
}

#[derive(Deserialize)]
struct TemplateToken {
    ids: Vec<u32>,
}

impl Definition {
    pub(super) fn parse(bytes: &[u8]) -> Result<Definition, WordPieceError> {
        let outline: Outline = serde_json::from_slice(bytes)?;
        let (normalizer, pre_tokenizer) = (&outline.normalizer, &outline.pre_tokenizer);
        let expect = |part, found: Option<&str>, expected: &[&str]| {
            let found = found.unwrap_or("nothing");
            if expected.contains(&found) {
                return Ok(());
            }
            Err(WordPieceError::Unsupported {
                part,
                found: found.to_owned(),
                expected: expected.join(" or "),
            })
        };
        expect("version", outline.version.as_deref(), &["1.0"])?;
        expect("model", kind(&outline.model), &["WordPiece"])?;
        expect("normalizer", kind(normalizer), &["BertNormalizer"])?;
        expect("pre_tokenizer", kind(pre_tokenizer), &["BertPreTokenizer"])?;
        let post_processor = kind(&outline.post_processor);
        let known = ["TemplateProcessing", "BertProcessing", "nothing"];
        expect("post_processor", post_processor, &known)?;

        let file: TokenizerJson = serde_json::from_slice(bytes)?;
        let added_tokens = added_tokens(file.added_tokens, &file.model)?;
        let id_of = |content: &str| {
            let added = added_tokens.iter().find(|(added, _)| added == content);
            let id = added.map(|(_, id)| *id);
            id.or_else(|| file.model.vocab.get(content).copied())
                .ok_or_else(|| WordPieceError::MissingToken(content.to_owned()))
        };
        let (cls_id, sep_id) = match (post_processor, file.post_processor) {
            (Some("TemplateProcessing"), Some(value)) => ends_of_template(value)?,
            (Some("BertProcessing"), Some(value)) => {
                let ends: BertProcessing = serde_json::from_value(value)?;
                (ends.cls.1, ends.sep.1)
            }
            _ => (id_of("[CLS]")?, id_of("[SEP]")?),
        };
        let unk_token = &file.model.unk_token;
        let unk_id = file.model.vocab.get(unk_token).copied();
        Ok(Definition {
            normalizer: file.normalizer,
            cls_id,
            sep_id,
            unk_id: unk_id.ok_or_else(|| WordPieceError::MissingToken(unk_token.clone()))?,
            added_tokens,
            model: file.model,
        })
    }
}

fn kind(part: &Option<Part>) -> Option<&str> {
    part.as_ref()?.kind.as_deref()
}

/// Checks the added tokens and gives them the ids that the reference gives them: the
/// vocabulary's, or else the next unused one. (The `id` in the file decides nothing there.)
fn added_tokens(
    tokens: Vec<AddedToken>,
    model: &Model,
) -> Result<Vec<(String, u32)>, WordPieceError> {
    let mut next_id = model.vocab.len() as u32;
    let mut known: Vec<(String, u32)> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let content = token.content;
        let refuse =
            |property| Err(WordPieceError::AddedToken { content: content.clone(), property });
        if content.is_empty() || known.iter().any(|(other, _)| *other == content) {
            continue;
        }
        // Stripping takes only white space, which leaves no trace in the ids, so both `lstrip`
        // and `rstrip` could be let through; no BERT file has them, so they are refused untested.
        match token {
            _ if token.single_word => return refuse("single_word"),
            _ if token.lstrip => return refuse("lstrip"),
            _ if token.rstrip => return refuse("rstrip"),
            _ if token.normalized => return refuse("normalized"),
            _ if content.contains(char::is_whitespace) => return refuse("white space"),
            _ => {}
        }
        let id = model.vocab.get(&content).copied().unwrap_or_else(|| {
            next_id += 1;
            next_id - 1
        });
        known.push((content, id));
    }
    Ok(known)
}

/// The ids of `[CLS]` and `[SEP]` in a template of the form `[CLS] $A [SEP]`.
fn ends_of_template(value: Value) -> Result<(u32, u32), WordPieceError> {
    use TemplatePiece::{Sequence, SpecialToken};
    let template: TemplateProcessing = serde_json::from_value(value)?;
    let id_of = |name: &String| match template.special_tokens.get(name)?.ids.as_slice() {
        [id] => Some(*id),
        _ => None,
    };
    let ends = match template.single.as_slice() {
        [SpecialToken { id: cls }, Sequence { id }, SpecialToken { id: sep }] if id == "A" => {
            id_of(cls).zip(id_of(sep))
        }
        _ => None,
    };
    ends.ok_or_else(|| WordPieceError::Unsupported {
        part: "post_processor",
        found: "another template".to_owned(),
        expected: "[CLS] $A [SEP]".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bert() -> Value {
        json!({
            "version": "1.0",
            "truncation": {"max_length": 128, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 128}},
            "added_tokens": [{
                "id": 2, "content": "[SEP]", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            }],
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                ],
                "special_tokens": {
                    "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                    "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]},
                },
            },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "un": 3, "##aff": 4, "##able": 5},
            },
        })
    }

    /// Sets the field at `pointer` and returns the sentence of the refusal.
    fn refusal(pointer: &str, value: Value) -> String {
        let mut file = bert();
        *file.pointer_mut(pointer).expect("the field exists") = value;
        let refused = super::super::WordPiece::from_tokenizer_json(file.to_string().as_bytes());
        refused.err().expect("the file is refused").to_string()
    }

    #[test]
    fn reads_the_special_tokens_from_a_template_a_bert_processor_or_the_vocabulary() {
        let bert_processing = json!({"type": "BertProcessing", "sep": ["b", 2], "cls": ["a", 1]});
        for post_processor in [bert()["post_processor"].take(), bert_processing, Value::Null] {
            let mut file = bert();
            file["post_processor"] = post_processor;
            let read = Definition::parse(file.to_string().as_bytes()).expect("it is a BERT file");
            assert_eq!((read.cls_id, read.sep_id, read.unk_id), (1, 2, 0));
        }
    }

    #[test]
    fn refuses_other_tokenisers_in_one_sentence() {
        let cases = [
            (
                "/model/type",
                json!("BPE"),
                "tokenizer.json has the model BPE, where only WordPiece is supported",
            ),
            (
                "/normalizer",
                Value::Null,
                "tokenizer.json has the normalizer nothing, where only BertNormalizer is supported",
            ),
            (
                "/pre_tokenizer/type",
                json!("Whitespace"),
                "tokenizer.json has the pre_tokenizer Whitespace, where only BertPreTokenizer is supported",
            ),
            (
                "/post_processor/single",
                json!([{"Sequence": {"id": "A", "type_id": 0}}]),
                "tokenizer.json has the post_processor another template, where only [CLS] $A [SEP] is supported",
            ),
            (
                "/version",
                json!("2.0"),
                "tokenizer.json has the version 2.0, where only 1.0 is supported",
            ),
            (
                "/added_tokens/0/single_word",
                json!(true),
                "added token \"[SEP]\" has the unsupported property single_word",
            ),
            (
                "/added_tokens/0/content",
                json!("[S EP]"),
                "added token \"[S EP]\" has the unsupported property white space",
            ),
            ("/model/unk_token", json!("<unk>"), "token \"<unk>\" is missing from the vocabulary"),
            ("/model/vocab/un", json!(u32::MAX), "token \"un\" has an id that is too large"),
            (
                "/model/max_input_chars_per_word",
                json!(1000),
                "max_input_chars_per_word is 1000, where at most 128 is supported",
            ),
        ];
        for (pointer, value, sentence) in cases {
            assert_eq!(refusal(pointer, value), sentence);
        }
    }

    #[test]
    fn refuses_what_is_not_json() {
        let refused = Definition::parse(b"vocab.txt").err().map(|error| error.to_string());
        assert!(refused.is_some_and(|said| said.starts_with("tokenizer.json cannot be read: ")));
    }
}
