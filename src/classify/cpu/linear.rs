//! A dense layer's weights, quantised and packed once at load into the order in which the kernels read them.
//!
//! Output channels are grouped in panels of [`PANEL`]; within a panel the input dimension runs outermost, so one
//! pass over a panel reads memory in order. Read [`Int8Panels`] first.

use half::f16;

use crate::classify::cpu::aligned::Aligned;
use crate::classify::cpu::kernels::Precision;

/// Output channels per panel: two 512-bit, four 256-bit or eight 128-bit accumulators a row.
pub(crate) const PANEL: usize = 32;
/// Input values that one 32-bit lane of an int8 dot instruction consumes.
pub(crate) const GROUP: usize = 4;
/// The input width is padded with zero weights to a multiple of this many values (four groups): the block over which
/// the `maddubs` kernels add in 16 bits before they widen.
pub(crate) const BLOCK: usize = 16;

/// `y = x·Wᵀ + b` with `W` of shape `[outputs, inputs]`.
pub(crate) struct Linear {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) weight: Weight,
    /// `[outputs]`, f32.
    pub(crate) bias: Vec<f32>,
    /// Where int8 levels of an input row end, in root mean squares of the row.
    pub(crate) reach: f32,
}

/// The packed weights of a [`Linear`].
pub(crate) enum Weight {
    Int8(Int8Panels),
    /// f16 bits, `[outputs / 32][inputs][32]`; widened panel by panel for products in f32. f16 loses nothing where the
    /// checkpoint is stored in f16, and halves both the memory and the traffic of a short prompt.
    F16(Aligned<u16>),
}

/// Signed 8-bit weights with one scale per output channel: `w ≈ scale · q`, `q ∈ [−127, 127]`.
pub(crate) struct Int8Panels {
    /// `[outputs / 32][padded inputs / 4][32][4]`: each 32-bit word holds four consecutive inputs of one channel.
    pub(crate) values: Aligned<i8>,
    /// `[outputs]`.
    pub(crate) scales: Vec<f32>,
    /// `[outputs]`: Σ q over the inputs, which takes the activations' zero point out of a product.
    pub(crate) sums: Vec<i32>,
}

impl Linear {
    /// Packs a row-major `[outputs, inputs]` matrix; `outputs` is a multiple of 32.
    pub(crate) fn pack(
        weight: &[f32],
        bias: Vec<f32>,
        inputs: usize,
        reach: f32,
        precision: Precision,
    ) -> Self {
        let outputs = bias.len();
        debug_assert_eq!(weight.len(), outputs * inputs);
        let weight = match precision {
            Precision::F32 => Weight::F16(pack_f16(weight, inputs, outputs)),
            Precision::Int8 { pairwise_16_bit } => {
                Weight::Int8(Int8Panels::pack(weight, inputs, outputs, pairwise_16_bit))
            }
        };
        Self { inputs, outputs, weight, bias, reach }
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let weight = match &self.weight {
            Weight::Int8(panels) => panels.values.len() + 8 * panels.scales.len(),
            Weight::F16(values) => 2 * values.len(),
        };
        weight + 4 * self.bias.len()
    }
}

/// `inputs` rounded up to whole blocks.
pub(crate) fn padded(inputs: usize) -> usize {
    inputs.next_multiple_of(BLOCK)
}

fn pack_f16(weight: &[f32], inputs: usize, outputs: usize) -> Aligned<u16> {
    let mut packed = Aligned::zeroed(inputs * outputs);
    for (panel, rows) in
        packed.chunks_exact_mut(inputs * PANEL).zip(weight.chunks_exact(inputs * PANEL))
    {
        for (channel, row) in rows.chunks_exact(inputs).enumerate() {
            for (slot, &w) in panel.iter_mut().skip(channel).step_by(PANEL).zip(row) {
                *slot = f16::from_f32(w).to_bits();
            }
        }
    }
    packed
}

impl Int8Panels {
    pub(crate) fn pack(
        weight: &[f32],
        inputs: usize,
        outputs: usize,
        pairwise_16_bit: bool,
    ) -> Self {
        let depth = padded(inputs);
        let mut values = Aligned::zeroed(depth * outputs);
        let (mut scales, mut sums) = (Vec::with_capacity(outputs), Vec::with_capacity(outputs));
        let mut quantized = vec![0i8; depth];
        for (channel, row) in weight.chunks_exact(inputs).enumerate() {
            let scale = channel_scale(row, pairwise_16_bit);
            for (q, &w) in quantized.iter_mut().zip(row) {
                *q = (w / scale).round().clamp(-127.0, 127.0) as i8;
            }
            scales.push(scale);
            sums.push(quantized.iter().map(|&q| i32::from(q)).sum());
            let panel = &mut values[channel / PANEL * PANEL * depth..][..PANEL * depth];
            for (line, four) in
                panel.chunks_exact_mut(PANEL * GROUP).zip(quantized.chunks_exact(GROUP))
            {
                line[channel % PANEL * GROUP..][..GROUP].copy_from_slice(four);
            }
        }
        Self { values, scales, sums }
    }
}

/// The largest sum of same-signed 8-bit weights that a 16-bit lane can meet without saturating, when each is
/// multiplied by an activation of at most 127: 127 · 258 = 32,766 ≤ 2¹⁵ − 1.
pub(crate) const SAFE_SUM: f32 = 258.0;

/// The scale of one output channel: the largest magnitude at 127.
///
/// `pairwise_16_bit` is for processors whose only 8-bit product is `maddubs`, which adds two products in 16 bits and
/// saturates. Those kernels add four such results (eight products, inputs 4g + 2j and 4g + 2j + 1 for g = 0..4 of a
/// block) before they widen to 32 bits. With 7-bit activations nothing can saturate as long as neither the positive
/// nor the negative weights of such an eight sum to more than [`SAFE_SUM`], so the scale is widened until none does.
/// Rounding adds at most ½ per weight, hence 258 − 8·½ = 254. Exact by construction, and far gentler than 7-bit
/// weights: eight weights of one sign are rarely all near the channel's maximum.
fn channel_scale(row: &[f32], pairwise_16_bit: bool) -> f32 {
    let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    let mut scale = largest / 127.0;
    if pairwise_16_bit {
        for block in row.chunks(BLOCK) {
            for lane in 0..2 {
                let eight =
                    || block.chunks(GROUP).flat_map(|four| four.iter().skip(2 * lane).take(2));
                let positive: f32 = eight().map(|w| w.max(0.0)).sum();
                let negative: f32 = eight().map(|w| (-w).max(0.0)).sum();
                scale = scale.max(positive.max(negative) / (SAFE_SUM - 4.0));
            }
        }
    }
    if scale > 0.0 { scale } else { 1.0 }
}
