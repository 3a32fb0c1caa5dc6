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
    /// `[outputs / 32][depth / 4][32][4]`: each 32-bit word holds four consecutive inputs of one channel.
    pub(crate) values: Aligned<i8>,
    /// Inputs, padding and copies included: the length of a row of levels.
    pub(crate) depth: usize,
    /// The input that each column from `inputs` on repeats. See [`Spill`].
    pub(crate) copies: Vec<usize>,
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
        let spill = Spill::new(weight, inputs);
        let depth = padded(inputs + spill.copies.len());
        let mut values = Aligned::zeroed(depth * outputs);
        let (mut scales, mut sums) = (Vec::with_capacity(outputs), Vec::with_capacity(outputs));
        let mut quantized = vec![0i8; depth];
        let mut spread = vec![0.0; depth];
        for (channel, row) in weight.chunks_exact(inputs).enumerate() {
            spread[..inputs].copy_from_slice(row);
            let cut = spill.cut * root_mean_square(row);
            spill.share(&mut spread, |w| w.clamp(-cut, cut));
            let scale = channel_scale(&spread, pairwise_16_bit);
            // Pieces are whole levels, so that a weight is rounded once however many columns share it.
            for (level, &w) in spread.iter_mut().zip(row) {
                *level = (w / scale).round();
            }
            let largest = (cut / scale).round().min(127.0);
            spill.share(&mut spread, |level| level.clamp(-largest, largest));
            for (q, &level) in quantized.iter_mut().zip(&spread) {
                *q = level.clamp(-127.0, 127.0) as i8;
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
        Self { values, depth, copies: spill.copies, scales, sums }
    }
}

/// Inputs that get further columns, to which weights too large for one column spill over.
///
/// A channel's scale is set by its largest weight, and the second feed-forward product has a few inputs with weights up
/// to 39 root mean squares of their channel, which leaves the other weights 3 levels a root mean square. Those inputs
/// are few and shared by many channels, so they are repeated, and the pieces of a large weight add up over the repeats
/// (outlier channel splitting, Zhao et al. 2019, arXiv:1901.09504). Measured on 27 texts with MiniLM, with exact
/// activations: 48 columns beside 1536 raise the mean cosine from 0.9992 to 0.9995 and the least from 0.996 to 0.9988.
struct Spill {
    /// The input that each further column repeats, ascending.
    copies: Vec<usize>,
    /// The largest piece of a weight, in root mean squares of the channel's weights.
    cut: f32,
}

/// One further column is allowed for this many inputs: 3 % more work where it matters, and none for 384 inputs, whose
/// weights are within 5 root mean squares but for a few.
const INPUTS_PER_COPY: usize = 32;
/// Lowest cut worth its columns, in root mean squares. Measured: from 8 down to 4 the mean cosine gains 0.00005.
const LOWEST_CUT: f32 = 5.0;

impl Spill {
    /// The lowest cut whose copies fit.
    fn new(weight: &[f32], inputs: usize) -> Self {
        let most = inputs / INPUTS_PER_COPY / BLOCK * BLOCK;
        if most == 0 {
            return Self { copies: Vec::new(), cut: f32::INFINITY };
        }
        let mut reach = vec![0.0f32; inputs];
        for row in weight.chunks_exact(inputs) {
            let inverse = 1.0 / root_mean_square(row).max(f32::MIN_POSITIVE);
            for (reach, w) in reach.iter_mut().zip(row) {
                *reach = reach.max(w.abs() * inverse);
            }
        }
        let mut cut = LOWEST_CUT;
        loop {
            // A piece is rounded down by up to half a level, for which the twentieth makes room.
            let copies = |reach: f32| (reach / (0.95 * cut)).ceil().max(1.0) as usize - 1;
            if reach.iter().map(|&reach| copies(reach)).sum::<usize>() <= most {
                let copies = reach
                    .iter()
                    .enumerate()
                    .flat_map(|(input, &reach)| std::iter::repeat_n(input, copies(reach)))
                    .collect();
                return Self { copies, cut };
            }
            cut *= 1.1;
        }
    }

    /// Leaves `piece(x)` of each repeated input in its place and hands the rest to its copies, piece by piece.
    fn share(&self, row: &mut [f32], piece: impl Fn(f32) -> f32) {
        let inputs = row.len() - self.copies.len().next_multiple_of(BLOCK);
        let mut previous = None;
        let mut rest = 0.0;
        for (copy, &input) in self.copies.iter().enumerate() {
            if previous != Some(input) {
                let first = piece(row[input]);
                rest = row[input] - first;
                row[input] = first;
                previous = Some(input);
            }
            row[inputs + copy] = piece(rest);
            rest -= row[inputs + copy];
        }
    }
}

fn root_mean_square(row: &[f32]) -> f32 {
    (row.iter().map(|w| w * w).sum::<f32>() / row.len() as f32).sqrt()
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
