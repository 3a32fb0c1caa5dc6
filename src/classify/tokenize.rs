//! Text to token ids, never more than a stated number of them.
//!
//! Long texts keep their head and their tail: what is asked stands at the start or at the end of
//! a message, pasted material in between. Texts are cut in bytes before they are tokenised, so a
//! prompt of many megabytes costs no more than one of some pages.

use tokenizers::Tokenizer as HfTokenizer;

/// Bytes looked at for one token that is kept (chosen: English needs about 4.5, and the longest
/// word that WordPiece does not turn into `[UNK]` has 100 characters).
const BYTES_PER_TOKEN: usize = 24;

/// A WordPiece tokeniser with its sequence limits.
pub struct Tokenizer {
    inner: HfTokenizer,
    cls: u32,
    sep: u32,
    max_tokens: usize,
}

/// Why a tokeniser cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not a Hugging Face `tokenizer.json`.
    #[error("tokenizer.json cannot be read: {0}")]
    Unreadable(String),
    /// A token that BERT's template needs is not in the vocabulary.
    #[error("tokenizer.json has no `{0}` token, so it does not belong to a BERT encoder")]
    NoSpecialToken(&'static str),
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. `max_tokens` bounds a sequence, `[CLS]` and `[SEP]` included;
    /// truncation and padding settings in the file are ignored.
    pub fn from_json(json: &[u8], max_tokens: usize) -> Result<Self, TokenizerError> {
        let mut inner = HfTokenizer::from_bytes(json)
            .map_err(|error| TokenizerError::Unreadable(error.to_string()))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| TokenizerError::Unreadable(error.to_string()))?;
        let special = |name| inner.token_to_id(name).ok_or(TokenizerError::NoSpecialToken(name));
        Ok(Self { cls: special("[CLS]")?, sep: special("[SEP]")?, inner, max_tokens })
    }

    /// `[CLS] … [SEP]`, at most `max_tokens` ids: of a longer text the first and the last half.
    /// Deterministic. An empty text gives the two special tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let budget = self.max_tokens.saturating_sub(2);
        let (head_budget, tail_budget) = (budget - budget / 2, budget / 2);
        let bytes = budget * BYTES_PER_TOKEN;
        let mut ids = vec![self.cls];
        if text.len() <= bytes {
            let all = self.pieces(text);
            if all.len() <= budget {
                ids.extend_from_slice(&all);
            } else {
                ids.extend(all.iter().take(head_budget));
                ids.extend(all.iter().skip(all.len() - tail_budget));
            }
        } else {
            let head = text.get(..text.floor_char_boundary(bytes / 2)).unwrap_or_default();
            let tail = text.get(text.ceil_char_boundary(text.len() - bytes / 2)..);
            ids.extend(self.pieces(head).iter().take(head_budget));
            let tail = self.pieces(tail.unwrap_or_default());
            ids.extend(tail.iter().skip(tail.len().saturating_sub(tail_budget)));
        }
        ids.push(self.sep);
        ids
    }

    /// Ids without special tokens. Text that the tokeniser refuses weighs as if it were empty.
    fn pieces(&self, text: &str) -> Vec<u32> {
        self.inner
            .encode_fast(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .unwrap_or_default()
    }
}
