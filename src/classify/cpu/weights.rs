//! Reads tensors of a safetensors checkpoint as f32 or f16, whatever of F32, F16 and BF16 they are stored in.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::classify::cpu::error::EncoderError;

/// A view of a checkpoint that checks name, shape, element type and range of what it hands out.
pub(crate) struct Checkpoint<'a> {
    tensors: &'a SafeTensors<'a>,
    /// `"bert."` where the checkpoint was saved with a task head around the encoder, else empty.
    prefix: &'static str,
}

impl<'a> Checkpoint<'a> {
    pub(crate) fn new(tensors: &'a SafeTensors<'a>) -> Self {
        let bare = tensors.tensor("embeddings.word_embeddings.weight").is_ok();
        Self { tensors, prefix: if bare { "" } else { "bert." } }
    }

    /// The tensor's values in row-major order, f32.
    pub(crate) fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EncoderError> {
        let view = self.view(name, shape)?;
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => {
                data.as_chunks().0.iter().map(|b| f16_to_f32(u16::from_le_bytes(*b))).collect()
            }
            Dtype::BF16 => {
                data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()
            }
            other => return Err(element_type(name, other)),
        };
        match values.iter().find(|v| v.is_nan() || v.abs() > f16::MAX.to_f32()) {
            Some(&value) => Err(EncoderError::Range { name: name.into(), value }),
            None => Ok(values),
        }
    }

    /// The tensor's values in row-major order as f16 bits, copied where they are stored so.
    pub(crate) fn f16_bits(&self, name: &str, shape: &[usize]) -> Result<Vec<u16>, EncoderError> {
        let view = self.view(name, shape)?;
        if view.dtype() != Dtype::F16 {
            return Ok(self
                .f32(name, shape)?
                .into_iter()
                .map(|v| f16::from_f32(v).to_bits())
                .collect());
        }
        let bits: Vec<u16> =
            view.data().as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
        match bits.iter().find(|&&b| b & 0x7c00 == 0x7c00) {
            Some(&b) => {
                Err(EncoderError::Range { name: name.into(), value: f16::from_bits(b).to_f32() })
            }
            None => Ok(bits),
        }
    }

    fn view(&self, name: &str, shape: &[usize]) -> Result<TensorView<'a>, EncoderError> {
        let name = format!("{}{name}", self.prefix);
        let Ok(view) = self.tensors.tensor(&name) else {
            return Err(EncoderError::MissingTensor { name });
        };
        if view.shape() != shape {
            return Err(EncoderError::Shape {
                name,
                found: view.shape().to_vec(),
                expected: shape.to_vec(),
            });
        }
        Ok(view)
    }
}

/// f16 bits to f32 without branches, so that a loop over it vectorises on any processor: exponent and mantissa are
/// moved into f32's places and 2^112 = 2^(127 − 15) mends the exponent's bias, subnormals included. Finite values only.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let magnitude =
        f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits((112 + 127) << 23);
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

fn element_type(name: &str, dtype: Dtype) -> EncoderError {
    EncoderError::ElementType { name: name.into(), dtype: format!("{dtype:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_free_f16_agrees_with_half_on_every_finite_value() {
        for bits in (0..=u16::MAX).filter(|b| b & 0x7c00 != 0x7c00) {
            assert_eq!(
                f16_to_f32(bits).to_bits(),
                f16::from_bits(bits).to_f32().to_bits(),
                "bits {bits:#06x}"
            );
        }
    }
}
