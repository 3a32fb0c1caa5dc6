//! Text to the token ids of one sequence, never more than a stated number of them.
//!
//! Long texts keep their head and their tail: what is asked stands at the start or at the end of
//! a message, pasted material in between. Neither end costs more for what lies between them, so a
//! prompt of many megabytes costs no more than one of some pages.

use super::wordpiece::{WordPiece, WordPieceError};

/// A WordPiece tokeniser with its sequence limit.
pub struct Tokenizer {
    pieces: WordPiece,
    max_tokens: usize,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. `max_tokens` bounds a sequence, `[CLS]` and `[SEP]` included;
    /// truncation and padding settings in the file are ignored.
    pub fn from_json(json: &[u8], max_tokens: usize) -> Result<Self, WordPieceError> {
        Ok(Self { pieces: WordPiece::from_tokenizer_json(json)?, max_tokens })
    }

    /// The longest sequence that comes out.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Rows that an embedding table needs for every id that can come out.
    pub fn id_bound(&self) -> u32 {
        self.pieces.id_bound()
    }

    /// `[CLS] … [SEP]`, at most `max_tokens` ids: of a longer text the first and the last half.
    /// Deterministic. An empty text gives the two special tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let budget = self.max_tokens.saturating_sub(2);
        let mut ids = Vec::with_capacity(self.max_tokens.min(text.len()) + 2);
        ids.push(self.pieces.cls_id());
        // One more than fits tells a long text from one that just fits.
        self.pieces.encode_bounded(text, budget + 1, &mut ids);
        if ids.len() > budget + 1 {
            ids.truncate(1 + budget - budget / 2);
            self.pieces.encode_tail(text, budget / 2, &mut ids);
        }
        ids.push(self.pieces.sep_id());
        ids
    }
}
