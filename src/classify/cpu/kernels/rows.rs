//! Work on single rows: embedding, layer norm, quantisation. Safe code over [`Simd`]; widths are multiples of 32.

#![forbid(unsafe_code)]

use super::product::{Operands, Outlier, QuantizedRow};
use super::simd::Simd;
use crate::classify::cpu::weights::f16_to_f32;

/// Weights of a layer norm, `[hidden]` each.
pub(crate) struct Norm {
    pub(crate) gain: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    /// Added to the variance.
    pub(crate) epsilon: f32,
}

/// Normalises rows in place.
pub(crate) struct LayerNorm<'a> {
    /// `[rows, hidden]`.
    pub(crate) rows: &'a mut [f32],
    pub(crate) norm: &'a Norm,
}

/// Sums a token's word and position vectors for each id of one sequence.
pub(crate) struct Embed<'a> {
    /// At most as many ids as `positions` has rows; each below the table's rows.
    pub(crate) ids: &'a [u32],
    /// f16 bits, `[vocabulary, hidden]`.
    pub(crate) words: &'a [u16],
    /// `[positions, hidden]`: position plus token type 0.
    pub(crate) positions: &'a [f32],
    /// `[ids, hidden]`, overwritten.
    pub(crate) output: &'a mut [f32],
}

#[inline(always)]
pub(super) fn embed<S: Simd>(_: S, job: Embed<'_>) {
    let hidden = job.output.len() / job.ids.len().max(1);
    let positions = job.positions.chunks_exact(hidden);
    for ((to, &id), position) in job.output.chunks_exact_mut(hidden).zip(job.ids).zip(positions) {
        let word = &job.words[id as usize * hidden..][..hidden];
        for ((to, &w), &p) in to.iter_mut().zip(word).zip(position) {
            *to = f16_to_f32(w) + p;
        }
    }
}

/// y = (x − mean) / √(variance + ε) · gain + bias over each row, in place (Ba et al. 2016, arXiv:1607.06450, eq. 3).
#[inline(always)]
pub(super) fn layer_norm<S: Simd>(s: S, job: LayerNorm<'_>) {
    let LayerNorm { rows, norm } = job;
    let hidden = norm.gain.len();
    let share = 1.0 / hidden as f32;
    for row in rows.chunks_exact_mut(hidden) {
        let mut sums = [s.splat(0.0); 2];
        for pair in row.chunks_exact(2 * S::LANES) {
            sums[0] = s.add(sums[0], s.load(pair));
            sums[1] = s.add(sums[1], s.load(&pair[S::LANES..]));
        }
        let mean = s.splat(s.reduce_add(s.add(sums[0], sums[1])) * share);
        let mut squares = [s.splat(0.0); 2];
        for pair in row.chunks_exact(2 * S::LANES) {
            let (a, b) = (s.sub(s.load(pair), mean), s.sub(s.load(&pair[S::LANES..]), mean));
            squares[0] = s.mul_add(a, a, squares[0]);
            squares[1] = s.mul_add(b, b, squares[1]);
        }
        let variance = s.reduce_add(s.add(squares[0], squares[1])) * share;
        let scale = s.splat(1.0 / (variance + norm.epsilon).sqrt());
        let weights = norm.gain.chunks_exact(S::LANES).zip(norm.bias.chunks_exact(S::LANES));
        for (x, (gain, bias)) in row.chunks_exact_mut(S::LANES).zip(weights) {
            let centred = s.mul(s.sub(s.load(x), mean), scale);
            s.store(x, s.mul_add(centred, s.load(gain), s.load(bias)));
        }
    }
}

/// Quantises each row of `[rows, width]` by itself: x ≈ scale · (q − zero), q in 0..=`largest`, with 0 exact
/// (Jacob et al. 2018, arXiv:1712.05877, eq. 1). Rows of `values` are `depth` long: the row's own levels, the copies, zeros.
///
/// The range is cut at ±`reach` root mean squares: BERT's residual stream has a few channels many times larger than the
/// rest, for which every other channel would pay in resolution. What lies beyond the cut is kept as an [`Outlier`] and
/// multiplied separately, so nothing is lost (the idea of LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339, §3.2).
#[inline(always)]
pub(super) fn quantize<S: Simd>(s: S, input: &[f32], shape: Levelled<'_>, to: &mut Operands) {
    let Levelled { width, depth, copies, reach, largest, terms } = shape;
    assert!(depth >= width + copies.len(), "a row of levels holds the copies");
    let rows = input.len() / width;
    to.values.resize(to.values.len().max(rows * terms * depth), 0);
    to.rows.clear();
    to.outliers.clear();
    let levels = to.values.chunks_exact_mut(terms * depth);
    for (row, levels) in input.chunks_exact(width).zip(levels) {
        let (q, second) = levels.split_at_mut(depth);
        let (least, most, square) = extent(s, row);
        let cut = reach * (square / width as f32).sqrt();
        let (low, high) = (least.max(-cut), most.min(cut));
        let steps = f32::from(largest);
        let inverse = if high > low { steps / (high - low) } else { 0.0 };
        let origin = (-low * inverse).round();
        let (by, plus) = (s.splat(inverse), s.splat(origin));
        let (floor, ceiling) = (s.splat(0.0), s.splat(steps));
        for (x, q) in row.chunks_exact(S::LANES).zip(q.chunks_exact_mut(S::LANES)) {
            let level = s.mul_add(s.load(x), by, plus);
            s.store_u8(q, s.min(s.max(level, floor), ceiling));
        }
        repeat(q, width, copies);
        let outliers_start = to.outliers.len();
        if least < low || most > high {
            let levels = Levels { inverse, origin, q, copies };
            outliers(s, row, (low, high), levels, &mut to.outliers);
        }
        let scale = (high - low) / steps;
        let outliers_end = to.outliers.len();
        to.rows.push(QuantizedRow { scale, zero: origin as i32, outliers_end });
        if terms == 2 {
            // What rounding lost is at most half a level: spread over 1..=largest around the middle.
            let (span, middle) = (steps - 1.0, (steps + 1.0) / 2.0);
            let (wider, centre) = (s.splat(span), s.splat(middle));
            for (x, q) in row.chunks_exact(S::LANES).zip(second.chunks_exact_mut(S::LANES)) {
                let level = s.mul_add(s.load(x), by, plus);
                let first = s.round(s.min(s.max(level, floor), ceiling));
                let lost = s.mul_add(s.sub(level, first), wider, centre);
                s.store_u8(q, s.min(s.max(lost, floor), ceiling));
            }
            for outlier in to.outliers[outliers_start..].iter().filter(|o| o.input < width) {
                let (x, whole) = (row[outlier.input], i32::from(q[outlier.input]) + outlier.excess);
                let lost = x * inverse + origin - whole as f32;
                second[outlier.input] = (lost * span + middle).round().clamp(0.0, steps) as u8;
            }
            repeat(second, width, copies);
            to.rows.push(QuantizedRow { scale: scale / span, zero: middle as i32, outliers_end });
        }
    }
}

/// How rows are brought to levels.
#[derive(Clone, Copy)]
pub(super) struct Levelled<'a> {
    /// Values of a row.
    pub(super) width: usize,
    /// Levels of a row: its values, the copies, and padding.
    pub(super) depth: usize,
    /// The input that each level from `width` on repeats.
    pub(super) copies: &'a [usize],
    /// Where the levels end, in root mean squares of the row.
    pub(super) reach: f32,
    /// The largest level.
    pub(super) largest: u8,
    /// Rows of levels for a row of values, 1 or 2. See [`Terms`].
    pub(super) terms: usize,
}

/// How many rows of levels stand for one row of values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Terms {
    One,
    /// The second one holds what rounding to the first lost, at a scale about as many times finer as there are levels:
    /// nearly exact, for twice the multiplications.
    Two,
}

/// Fills a row of levels from `width` on: the copies, then zeros.
#[inline(always)]
fn repeat(levels: &mut [u8], width: usize, copies: &[usize]) {
    levels[width..].fill(0);
    for (copy, &input) in copies.iter().enumerate() {
        levels[width + copy] = levels[input];
    }
}

/// Least value or 0, largest value or 0, and the sum of squares.
#[inline(always)]
fn extent<S: Simd>(s: S, row: &[f32]) -> (f32, f32, f32) {
    let zero = s.splat(0.0);
    let (mut low, mut high, mut square) = ([zero; 2], [zero; 2], [zero; 2]);
    for pair in row.chunks_exact(2 * S::LANES) {
        let (a, b) = (s.load(pair), s.load(&pair[S::LANES..]));
        low = [s.min(low[0], a), s.min(low[1], b)];
        high = [s.max(high[0], a), s.max(high[1], b)];
        square = [s.mul_add(a, a, square[0]), s.mul_add(b, b, square[1])];
    }
    (
        s.reduce_min(s.min(low[0], low[1])),
        s.reduce_max(s.max(high[0], high[1])),
        s.reduce_add(s.add(square[0], square[1])),
    )
}

/// Appends what the levels of a row fall short of its values outside `low..=high`.
#[inline(always)]
fn outliers<S: Simd>(
    s: S,
    row: &[f32],
    (low, high): (f32, f32),
    levels: Levels<'_>,
    to: &mut Vec<Outlier>,
) {
    let (lows, highs) = (s.splat(low), s.splat(high));
    for (block, values) in row.chunks_exact(S::LANES).enumerate() {
        let x = s.load(values);
        if !(s.any_greater(x, highs) || s.any_greater(lows, x)) {
            continue;
        }
        let mut whole = [0.0; 16];
        let level = s.mul_add(x, s.splat(levels.inverse), s.splat(levels.origin));
        s.store(&mut whole, s.round(level));
        for (i, _) in values.iter().enumerate().filter(|&(_, &x)| x < low || x > high) {
            let input = block * S::LANES + i;
            let excess = whole[i] as i32 - i32::from(levels.q[input]);
            to.push(Outlier { input, excess });
            for (copy, &of) in levels.copies.iter().enumerate() {
                if of == input {
                    to.push(Outlier { input: row.len() + copy, excess });
                }
            }
        }
    }
}

/// A row's levels: q = x · inverse + origin, cut and rounded.
struct Levels<'a> {
    inverse: f32,
    origin: f32,
    q: &'a [u8],
    copies: &'a [usize],
}
