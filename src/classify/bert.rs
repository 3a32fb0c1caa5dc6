//! The shape of a BERT-family encoder, under the names of its `config.json`.

use serde::Deserialize;

/// An encoder with learned absolute positions, post-layer-norm blocks and the exact (erf) GELU
/// (Devlin et al. 2019, arXiv:1810.04805).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BertConfig {
    /// Must be `bert`.
    pub model_type: String,
    /// Must be `gelu`, the exact form with erf.
    pub hidden_act: String,
    /// Width of the hidden state and of the embedding.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Transformer blocks.
    pub num_hidden_layers: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Added to the variance in every layer norm.
    pub layer_norm_eps: f32,
}

/// How token states become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// The mean over all tokens of the sequence.
    #[default]
    Mean,
    /// The state of the first token.
    Cls,
}

impl BertConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads.max(1)
    }

    /// Checks that this is an encoder that both implementations compute; the error is one clause.
    pub fn check(&self) -> Result<(), String> {
        if self.model_type != "bert" {
            return Err(format!("model_type is `{}`, `bert` is needed", self.model_type));
        }
        if self.hidden_act != "gelu" {
            return Err(format!("hidden_act is `{}`, `gelu` is needed", self.hidden_act));
        }
        if self.num_attention_heads == 0
            || !self.hidden_size.is_multiple_of(self.num_attention_heads)
        {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        for (name, value) in [
            ("hidden_size", self.hidden_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 {
                return Err(format!("{name} is 0"));
            }
        }
        Ok(())
    }
}
