//! The encoder in candle: the reference on the CPU and the path on CUDA.
//!
//! A BERT-family encoder (Devlin et al. 2019, arXiv:1810.04805) with mean or CLS pooling and L2
//! normalisation, as sentence-transformers runs it. Padded positions are masked out of attention
//! and pooling, so a text's embedding does not depend on the batch it is in, up to rounding.

use candle_core::{D, DType, Device, IndexOp, Tensor};
use safetensors::SafeTensors;

use super::bert::{BertConfig, Pooling};

/// A loaded encoder. Cheap to clone: clones share the weights.
#[derive(Clone)]
pub struct CandleEncoder {
    config: BertConfig,
    pooling: Pooling,
    device: Device,
    words: Tensor,
    positions: Tensor,
    token_type: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

#[derive(Clone)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

/// `y = x Wᵀ + b`, with the weight stored transposed, `[in, out]`, and contiguous.
#[derive(Clone)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Clone)]
struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.broadcast_matmul(&self.weight)?.broadcast_add(&self.bias)
    }
}

impl LayerNorm {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.eps)
    }
}

/// Reads named f32 tensors of a stated shape, with or without the `bert.` prefix.
struct Weights<'a> {
    tensors: &'a SafeTensors<'a>,
    device: &'a Device,
}

impl Weights<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> candle_core::Result<Tensor> {
        let view = self
            .tensors
            .tensor(name)
            .or_else(|_| self.tensors.tensor(&format!("bert.{name}")))
            .map_err(|_| candle_core::Error::Msg(format!("the weights lack `{name}`")))?;
        if view.shape() != shape {
            return Err(candle_core::Error::Msg(format!(
                "`{name}` has shape {:?}, config.json asks for {shape:?}",
                view.shape()
            )));
        }
        let dtype = match view.dtype() {
            safetensors::Dtype::F32 => DType::F32,
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            other => {
                return Err(candle_core::Error::Msg(format!(
                    "`{name}` is stored as {other:?}; F32, F16 and BF16 can be read"
                )));
            }
        };
        Tensor::from_raw_buffer(view.data(), dtype, shape, &Device::Cpu)?
            .to_dtype(DType::F32)?
            .to_device(self.device)
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> candle_core::Result<Linear> {
        let weight = self.get(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Linear {
            weight: weight.t()?.contiguous()?,
            bias: self.get(&format!("{name}.bias"), &[outputs])?,
        })
    }

    fn norm(&self, name: &str, width: usize, eps: f32) -> candle_core::Result<LayerNorm> {
        Ok(LayerNorm {
            weight: self.get(&format!("{name}.weight"), &[width])?,
            bias: self.get(&format!("{name}.bias"), &[width])?,
            eps,
        })
    }
}

impl CandleEncoder {
    /// Builds the encoder on `device` from weights stored as F32, F16 or BF16; computes in f32.
    pub fn load(
        tensors: &SafeTensors<'_>,
        config: &BertConfig,
        pooling: Pooling,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let weights = Weights { tensors, device };
        let (hidden, wide, eps) =
            (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let table = |name: &str, rows: usize| {
            weights.get(&format!("embeddings.{name}.weight"), &[rows, hidden])
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| {
                let at = |name: &str| format!("encoder.layer.{index}.{name}");
                Ok(Layer {
                    query: weights.linear(&at("attention.self.query"), hidden, hidden)?,
                    key: weights.linear(&at("attention.self.key"), hidden, hidden)?,
                    value: weights.linear(&at("attention.self.value"), hidden, hidden)?,
                    attention_output: weights.linear(
                        &at("attention.output.dense"),
                        hidden,
                        hidden,
                    )?,
                    attention_norm: weights.norm(&at("attention.output.LayerNorm"), hidden, eps)?,
                    intermediate: weights.linear(&at("intermediate.dense"), hidden, wide)?,
                    output: weights.linear(&at("output.dense"), wide, hidden)?,
                    output_norm: weights.norm(&at("output.LayerNorm"), hidden, eps)?,
                })
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            token_type: table("token_type_embeddings", 2)?.i(0)?,
            norm: weights.norm("embeddings.LayerNorm", hidden, eps)?,
            layers,
            config: config.clone(),
            pooling,
            device: device.clone(),
        })
    }

    /// One L2-normalised embedding of `hidden_size` f32 for each sequence of token ids. Sequences
    /// may differ in length; none may be empty or longer than the position table.
    pub fn embed(&self, batch: &[&[u32]]) -> candle_core::Result<Vec<Vec<f32>>> {
        let width = batch.iter().map(|ids| ids.len()).max().unwrap_or(0);
        if width == 0 {
            return Ok(Vec::new());
        }
        let mut ids = Vec::with_capacity(batch.len() * width);
        let mut mask = Vec::with_capacity(batch.len() * width);
        for sequence in batch {
            ids.extend_from_slice(sequence);
            ids.resize(ids.len() + width - sequence.len(), 0);
            mask.extend(std::iter::repeat_n(1f32, sequence.len()));
            mask.resize(mask.len() + width - sequence.len(), 0.0);
        }
        let shape = (batch.len(), width);
        let ids = Tensor::from_vec(ids, shape, &self.device)?;
        let mask = Tensor::from_vec(mask, shape, &self.device)?;
        self.forward(&ids, &mask)?.to_vec2::<f32>()
    }

    /// `ids` `[batch, tokens]` u32 and `mask` `[batch, tokens]` of 0 and 1 → `[batch, hidden]`.
    fn forward(&self, ids: &Tensor, mask: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, tokens) = ids.dims2()?;
        let hidden = self.config.hidden_size;
        let words = self.words.index_select(&ids.flatten_all()?, 0)?;
        let x = words
            .reshape((batch, tokens, hidden))?
            .broadcast_add(&self.positions.narrow(0, 0, tokens)?)?
            .broadcast_add(&self.token_type)?;
        let mut x = self.norm.forward(&x)?;
        // 0 where a token is, −10⁹ where padding is; finite, so that a row of padding is not NaN.
        let bias = ((mask - 1.0)? * 1e9)?.reshape((batch, 1, 1, tokens))?;
        for layer in &self.layers {
            let attended = self.attention(layer, &x, &bias)?;
            let attended = layer.attention_output.forward(&attended)?;
            x = layer.attention_norm.forward(&(x + attended)?)?;
            let wide = layer.intermediate.forward(&x)?.gelu_erf()?;
            x = layer.output_norm.forward(&(&x + layer.output.forward(&wide)?)?)?;
        }
        let pooled = match self.pooling {
            Pooling::Cls => x.i((.., 0))?,
            Pooling::Mean => {
                let mask = mask.unsqueeze(2)?;
                x.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?
            }
        };
        pooled.broadcast_div(&pooled.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
    }

    /// Multi-head attention: `softmax(Q Kᵀ / √d + bias) V` (Vaswani et al. 2017, equation 1).
    fn attention(&self, layer: &Layer, x: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, tokens, hidden) = x.dims3()?;
        let heads = self.config.num_attention_heads;
        let width = hidden / heads;
        // [batch, tokens, hidden] → [batch, heads, tokens, width]
        let split = |linear: &Linear| {
            linear.forward(x)?.reshape((batch, tokens, heads, width))?.transpose(1, 2)?.contiguous()
        };
        let (query, key, value) = (split(&layer.query)?, split(&layer.key)?, split(&layer.value)?);
        let scores = (query.matmul(&key.t()?)? / (width as f64).sqrt())?.broadcast_add(bias)?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        weights.matmul(&value)?.transpose(1, 2)?.reshape((batch, tokens, hidden))
    }
}
