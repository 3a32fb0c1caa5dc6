//! The encoder: weights from a checkpoint, and the forward pass from token ids to unit vectors.
//!
//! [`CpuEncoder::embed`] is the whole path; each step it names is one call into [`crate::classify::cpu::kernels`]. Tokenising, cutting
//! long texts and choosing batches are the caller's.

use safetensors::SafeTensors;

use crate::classify::bert::{BertConfig, Pooling};
use crate::classify::cpu::error::EncoderError;
use crate::classify::cpu::kernels::product::{Layout, Then};
use crate::classify::cpu::kernels::rows::Terms;
use crate::classify::cpu::kernels::{Kernel, Operations, Precision, attention, product, rows};
use crate::classify::cpu::linear::{Linear, PANEL};
use crate::classify::cpu::scratch::{Scratch, grown};
use crate::classify::cpu::weights::Checkpoint;

/// Tokens that go through both feed-forward products before the next ones do, so that the wide activations between
/// them (6 KB a token for an intermediate size of 1536) stay in a 1 MiB second-level cache and [`Scratch`] stays small.
/// Chosen; on Zen 4, 36 to 512 rows differ by less than the noise of a shared machine.
const FEED_FORWARD_ROWS: usize = 72;

/// Where the int8 levels of a residual-stream row end, in root mean squares. Measured on 27 texts with MiniLM, which
/// have about one value a row beyond: with the cuts the mean cosine rises from 0.9990 to 0.9994 with 8-bit activations
/// and from 0.9969 to 0.9988 with 7-bit ones, for a few per cent of the time. Cuts at 4 and 8 gained another 0.00003
/// and 0.00013, for 10 % of the 8-bit time.
const STREAM_REACH: f32 = 5.0;
/// The same for attention's and the feed-forward layer's inner activations, which have rarer outliers.
const INNER_REACH: f32 = 10.0;

/// Texts of at most this many tokens, special ones included, are computed with two terms for each activation. Errors of
/// single tokens average out over a text, but not over two or three of them; and a product of so few rows takes as long
/// as reading its weights, so the second term costs little: measured at 4 tokens, 0.46 ms instead of 0.27 by VNNI on Zen 4, and 16 tokens take 1.0.
/// Measured, the texts of two and three tokens rise from 0.9977 to 0.9989 by VNNI and from 0.9946 to 0.9986 by AVX2.
/// Chosen: twice as many rows still fit one tile.
const FEW_TOKENS: usize = 4;

/// A BERT encoder, ready to compute on one kernel. Immutable: share it, with one [`Scratch`] a thread.
pub struct CpuEncoder {
    config: BertConfig,
    pooling: Pooling,
    kernel: Kernel,
    operations: Box<dyn Operations>,
    /// f16 bits, `[vocab, hidden]`.
    words: Vec<u16>,
    /// `[max positions, hidden]`: position plus token type 0, the only type a single text has.
    positions: Vec<f32>,
    norm: rows::Norm,
    blocks: Vec<Block>,
}

/// The divisibility that the kernels rely on, beyond what [`BertConfig::check`] asks.
fn check(config: &BertConfig) -> Result<(), EncoderError> {
    for (name, value) in [
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("the width of a head", config.head_dim()),
    ] {
        if value == 0 || !value.is_multiple_of(PANEL) {
            let what = format!("{name} is {value}, expected a multiple of {PANEL}");
            return Err(EncoderError::Configuration(what));
        }
    }
    Ok(())
}

fn terms(tokens: usize) -> Terms {
    if tokens <= FEW_TOKENS { Terms::Two } else { Terms::One }
}

/// One transformer block.
struct Block {
    /// Query, key and value side by side.
    qkv: Linear,
    attention_output: Linear,
    attention_norm: rows::Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: rows::Norm,
}

impl CpuEncoder {
    /// Reads, quantises and packs a checkpoint of F32, F16 or BF16 tensors under their Hugging Face names (with or
    /// without the prefix `bert.`). Nothing of `tensors` is kept.
    ///
    /// # Errors
    /// Whatever is wrong with the checkpoint or the configuration, and [`EncoderError::KernelUnavailable`].
    pub fn load(
        tensors: &SafeTensors<'_>,
        config: &BertConfig,
        pooling: Pooling,
        path: Kernel,
    ) -> Result<Self, EncoderError> {
        check(config)?;
        let operations = path.operations().ok_or(EncoderError::KernelUnavailable(path))?;
        let precision = path.precision(&*operations);
        let checkpoint = Checkpoint::new(tensors);
        let hidden = config.hidden_size;
        let words = checkpoint
            .f16_bits("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?;
        let shape = [config.max_position_embeddings, hidden];
        let mut positions = checkpoint.f32("embeddings.position_embeddings.weight", &shape)?;
        let types = checkpoint.f32("embeddings.token_type_embeddings.weight", &[2, hidden])?;
        for row in positions.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&types).for_each(|(position, kind)| *position += kind);
        }
        let norm = read_norm(&checkpoint, config, "embeddings.LayerNorm")?;
        let blocks = (0..config.num_hidden_layers)
            .map(|i| Block::load(&checkpoint, config, precision, i))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            config: config.clone(),
            pooling,
            kernel: path,
            operations,
            words,
            positions,
            norm,
            blocks,
        })
    }

    /// The kernel it computes with.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The shape it was loaded with.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Heap bytes that the weights hold.
    pub fn bytes(&self) -> usize {
        let linear = |b: &Block| {
            b.qkv.bytes() + b.attention_output.bytes() + b.intermediate.bytes() + b.output.bytes()
        };
        2 * self.words.len()
            + 4 * self.positions.len()
            + self.blocks.iter().map(linear).sum::<usize>()
    }

    /// Embeds a batch of texts, given as token ids with their special tokens: the pooled output of the last
    /// block, scaled to length 1. `out` is `[batch, hidden]`, row-major.
    ///
    /// Sequences may have any mixture of lengths; nothing is padded. A text's vector has the same bits whatever batch
    /// it is in. Runs on the calling thread alone, and allocates only while `scratch` grows.
    ///
    /// # Errors
    /// [`EncoderError::SequenceLength`], [`EncoderError::TokenId`] or [`EncoderError::OutputLength`]; `out` is then
    /// untouched.
    pub fn embed(
        &self,
        scratch: &mut Scratch,
        batch: &[&[u32]],
        out: &mut [f32],
    ) -> Result<(), EncoderError> {
        self.check(batch, out)?;
        let hidden = self.config.hidden_size;
        let mut rest = out;
        for run in batch.chunk_by(|a, b| terms(a.len()) == terms(b.len())) {
            let (to, after) = rest.split_at_mut(run.len() * hidden);
            self.forward(scratch, run, terms(run[0].len()), to);
            rest = after;
        }
        Ok(())
    }

    /// The whole pass over texts that take the same number of terms.
    fn forward(&self, scratch: &mut Scratch, batch: &[&[u32]], terms: Terms, out: &mut [f32]) {
        let hidden = self.config.hidden_size;
        let tokens: usize = batch.iter().map(|ids| ids.len()).sum();
        scratch.lengths.clear();
        scratch.lengths.extend(batch.iter().map(|ids| ids.len()));
        let states = grown(&mut scratch.hidden, tokens * hidden);

        let mut rest = &mut *states;
        for ids in batch {
            let (output, after) = rest.split_at_mut(ids.len() * hidden);
            self.operations.embed(rows::Embed {
                ids,
                words: &self.words,
                positions: &self.positions,
                output,
            });
            rest = after;
        }
        self.operations.layer_norm(rows::LayerNorm { rows: states, norm: &self.norm });
        for block in &self.blocks {
            self.attend(block, scratch, tokens, terms);
            self.feed_forward(block, scratch, tokens, terms);
        }
        pool(self.pooling, &scratch.hidden[..tokens * hidden], &scratch.lengths, hidden, out);
    }

    fn check(&self, batch: &[&[u32]], out: &[f32]) -> Result<(), EncoderError> {
        let limit = self.config.max_position_embeddings;
        for (index, ids) in batch.iter().enumerate() {
            if ids.is_empty() || ids.len() > limit {
                return Err(EncoderError::SequenceLength { index, tokens: ids.len(), limit });
            }
            if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
                return Err(EncoderError::TokenId { id, vocabulary: self.config.vocab_size });
            }
        }
        let expected = batch.len() * self.config.hidden_size;
        if out.len() != expected {
            return Err(EncoderError::OutputLength { found: out.len(), expected });
        }
        Ok(())
    }

    /// x ← norm(x + attention(x·Wqkv)·Wo)
    fn attend(&self, block: &Block, scratch: &mut Scratch, tokens: usize, terms: Terms) {
        let width = tokens * self.config.hidden_size;
        let states = &mut scratch.hidden[..width];
        let qkv = grown(&mut scratch.qkv, 3 * width);
        let context = grown(&mut scratch.context, width);
        self.operations.product(product::Job {
            input: states,
            linear: &block.qkv,
            output: qkv,
            layout: Layout::Heads { head_dim: self.config.head_dim() },
            then: Then::Store,
            terms,
            operands: &mut scratch.operands,
        });
        self.operations.attention(attention::Job {
            qkv,
            tokens,
            heads: self.config.num_attention_heads,
            lengths: &scratch.lengths,
            context,
            buffers: &mut scratch.attention,
        });
        self.operations.product(product::Job {
            input: context,
            linear: &block.attention_output,
            output: states,
            layout: Layout::RowMajor,
            then: Then::Add,
            terms,
            operands: &mut scratch.operands,
        });
        self.operations.layer_norm(rows::LayerNorm { rows: states, norm: &block.attention_norm });
    }

    /// x ← norm(x + GELU(x·W1)·W2), a block of tokens at a time
    fn feed_forward(&self, block: &Block, scratch: &mut Scratch, tokens: usize, terms: Terms) {
        let (hidden, wide) = (self.config.hidden_size, self.config.intermediate_size);
        let passes = tokens.div_ceil(FEED_FORWARD_ROWS);
        for pass in 0..passes {
            let (first, end) = (pass * tokens / passes, (pass + 1) * tokens / passes);
            let states = &mut scratch.hidden[first * hidden..end * hidden];
            let middle = grown(&mut scratch.intermediate, (end - first) * wide);
            self.operations.product(product::Job {
                input: states,
                linear: &block.intermediate,
                output: middle,
                layout: Layout::RowMajor,
                then: Then::Gelu,
                terms,
                operands: &mut scratch.operands,
            });
            self.operations.product(product::Job {
                input: middle,
                linear: &block.output,
                output: states,
                layout: Layout::RowMajor,
                then: Then::Add,
                terms,
                operands: &mut scratch.operands,
            });
            self.operations.layer_norm(rows::LayerNorm { rows: states, norm: &block.output_norm });
        }
    }
}

impl Block {
    fn load(
        checkpoint: &Checkpoint<'_>,
        config: &BertConfig,
        precision: Precision,
        index: usize,
    ) -> Result<Self, EncoderError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear = |parts: &[&str], inputs: usize, outputs: usize, reach: f32| {
            let (mut weight, mut bias) = (Vec::new(), Vec::new());
            for part in parts {
                weight
                    .extend(checkpoint.f32(&name(&format!("{part}.weight")), &[outputs, inputs])?);
                bias.extend(checkpoint.f32(&name(&format!("{part}.bias")), &[outputs])?);
            }
            Ok::<_, EncoderError>(Linear::pack(&weight, bias, inputs, reach, precision))
        };
        let qkv = ["attention.self.query", "attention.self.key", "attention.self.value"];
        Ok(Self {
            qkv: linear(&qkv, hidden, hidden, STREAM_REACH)?,
            attention_output: linear(&["attention.output.dense"], hidden, hidden, INNER_REACH)?,
            attention_norm: read_norm(checkpoint, config, &name("attention.output.LayerNorm"))?,
            intermediate: linear(&["intermediate.dense"], hidden, wide, STREAM_REACH)?,
            output: linear(&["output.dense"], wide, hidden, INNER_REACH)?,
            output_norm: read_norm(checkpoint, config, &name("output.LayerNorm"))?,
        })
    }
}

fn read_norm(
    checkpoint: &Checkpoint<'_>,
    config: &BertConfig,
    name: &str,
) -> Result<rows::Norm, EncoderError> {
    let shape = [config.hidden_size];
    Ok(rows::Norm {
        gain: checkpoint.f32(&format!("{name}.weight"), &shape)?,
        bias: checkpoint.f32(&format!("{name}.bias"), &shape)?,
        epsilon: config.layer_norm_eps,
    })
}

/// Mean over each sequence's tokens, or its first one, scaled to length 1 (zero stays zero). `out` is `[sequences, hidden]`.
fn pool(pooling: Pooling, states: &[f32], lengths: &[usize], hidden: usize, out: &mut [f32]) {
    let mut rest = states;
    for (vector, &length) in out.chunks_exact_mut(hidden).zip(lengths) {
        let (tokens, after) = rest.split_at(length * hidden);
        rest = after;
        vector.fill(0.0);
        let pooled = match pooling {
            Pooling::Mean => length,
            Pooling::Cls => 1,
        };
        for token in tokens.chunks_exact(hidden).take(pooled) {
            vector.iter_mut().zip(token).for_each(|(sum, x)| *sum += x);
        }
        // The mean's divisor cancels in the scaling.
        let squares: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let scale = if squares > 0.0 { (1.0 / squares.sqrt()) as f32 } else { 0.0 };
        vector.iter_mut().for_each(|x| *x *= scale);
    }
}
