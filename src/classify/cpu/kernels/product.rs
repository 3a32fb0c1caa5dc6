//! Matrix products over packed panels, with what follows them (bias, GELU, residual) applied while a tile is hot.
//!
//! An int8 product quantises its input rows first, each by itself, so a row's result does not depend on its
//! neighbours: integer sums are exact in any order, and every f32 step below is done row by row in a fixed order.

use super::math::gelu;
use super::rows::{Levelled, Terms, quantize};
use super::simd::{Dot, Simd, with_rows};
use crate::classify::cpu::aligned::Aligned;
use crate::classify::cpu::linear::{BLOCK, GROUP, Int8Panels, Linear, PANEL, Weight};
use crate::classify::cpu::weights::f16_to_f32;

/// What is done with x·Wᵀ + b.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// Stored.
    Store,
    /// GELU of it is stored.
    Gelu,
    /// Added to what the output holds.
    Add,
}

/// Where a product's columns go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// `[rows, outputs]`.
    RowMajor,
    /// `[outputs / head_dim, rows, head_dim]`: each attention head's queries, keys and values lie together.
    Heads {
        /// Width of a head, a multiple of 32.
        head_dim: usize,
    },
}

/// Buffers of an int8 product's quantised input and of an f32 product's widened panel; grown, never shrunk.
#[derive(Default)]
pub(crate) struct Operands {
    /// `[rows, terms, depth of the panels]`.
    pub(super) values: Vec<u8>,
    /// One for each row and term.
    pub(super) rows: Vec<QuantizedRow>,
    /// Row after row.
    pub(super) outliers: Vec<Outlier>,
    /// `[inputs][32]`.
    pub(super) panel: Option<Aligned<f32>>,
}

/// What turns a row's levels back into values: x ≈ scale · (q − zero).
pub(super) struct QuantizedRow {
    pub(super) scale: f32,
    pub(super) zero: i32,
    /// Where the row's outliers end in [`Operands::outliers`].
    pub(super) outliers_end: usize,
}

/// A value beyond the range of its row's levels: `excess` is what its level lacks, in levels.
pub(super) struct Outlier {
    pub(super) input: usize,
    pub(super) excess: i32,
}

/// `output ← then(input · Wᵀ + b)`; `input` is `[rows, linear.inputs]`, `output` holds `rows · linear.outputs` values.
pub(crate) struct Job<'a> {
    pub(crate) input: &'a [f32],
    pub(crate) linear: &'a Linear,
    pub(crate) output: &'a mut [f32],
    pub(crate) layout: Layout,
    pub(crate) then: Then,
    /// Of the input's levels; an f32 product has no levels.
    pub(crate) terms: Terms,
    pub(crate) operands: &'a mut Operands,
}

#[inline(always)]
pub(super) fn run<D: Dot>(simd: D, job: Job<'_>) {
    let linear = job.linear;
    let rows = job.input.len() / linear.inputs;
    assert_eq!(job.input.len(), rows * linear.inputs, "input is [rows, inputs]");
    assert_eq!(job.output.len(), rows * linear.outputs, "output is [rows, outputs]");
    let mut out = Output {
        values: job.output,
        rows,
        outputs: linear.outputs,
        layout: job.layout,
        then: job.then,
    };
    match &linear.weight {
        Weight::Int8(panels) => {
            let (input, operands) = (job.input, job.operands);
            match job.terms {
                Terms::One => int8::<D, 1>(simd, input, linear, panels, operands, &mut out),
                Terms::Two => int8::<D, 2>(simd, input, linear, panels, operands, &mut out),
            }
        }
        Weight::F16(panels) => f32(simd, job.input, linear, panels, job.operands, &mut out),
    }
}

#[inline(always)]
fn int8<D: Dot, const TERMS: usize>(
    simd: D,
    input: &[f32],
    linear: &Linear,
    panels: &Int8Panels,
    operands: &mut Operands,
    out: &mut Output<'_>,
) {
    let depth = panels.depth;
    let shape = Levelled {
        width: linear.inputs,
        depth,
        copies: &panels.copies,
        reach: linear.reach,
        largest: D::LARGEST_ACTIVATION,
        terms: TERMS,
    };
    quantize(simd, input, shape, operands);
    assert!(
        operands.values.len() >= out.rows * TERMS * depth
            && panels.values.len() == linear.outputs * depth
            && depth.is_multiple_of(BLOCK)
    );
    for (p, panel) in panels.values.chunks_exact(PANEL * depth).enumerate() {
        let channels = p * PANEL..(p + 1) * PANEL;
        let (scales, sums) = (&panels.scales[channels.clone()], &panels.sums[channels.clone()]);
        let bias = &linear.bias[channels];
        for (first, count) in tiles(out.rows, D::ROWS / TERMS) {
            let mut acc = [0i32; 16 * PANEL];
            // SAFETY: `count · TERMS ≤ ROWS ≤ 16` rows of `depth` bytes start at row `first · TERMS`, inside `values` by
            // the assertion above (`first + count ≤ rows`); `panel` is one panel long.
            unsafe {
                let a = operands.values.as_ptr().add(first * TERMS * depth);
                simd.dot_tile(count * TERMS, a, panel.as_ptr(), depth, acc.as_mut_ptr());
            }
            for (r, acc) in (first..first + count).zip(acc.chunks_exact_mut(TERMS * PANEL)) {
                let row = &operands.rows[r * TERMS];
                let outliers_start =
                    r.checked_sub(1).map_or(0, |above| operands.rows[above * TERMS].outliers_end);
                for outlier in &operands.outliers[outliers_start..row.outliers_end] {
                    add_outlier(simd, outlier, panel, acc);
                }
                out.finish(simd, p, r, |c| {
                    let mut x = term(simd, row, &acc[c..], &sums[c..]);
                    if TERMS == 2 {
                        let second = &operands.rows[r * 2 + 1];
                        x = simd.add(x, term(simd, second, &acc[PANEL + c..], &sums[c..]));
                    }
                    simd.mul_add(x, simd.load(&scales[c..]), simd.load(&bias[c..]))
                });
            }
        }
    }
}

/// scale · (acc − zero · sums): what one term's levels stand for, times the weights' levels.
#[inline(always)]
fn term<D: Dot>(simd: D, row: &QuantizedRow, acc: &[i32], sums: &[i32]) -> D::F {
    simd.mul(simd.without_zero_point(acc, sums, row.zero - D::LEVEL_OFFSET), simd.splat(row.scale))
}

/// acc ← acc + excess · (the weights of the outlier's input for the panel's 32 channels).
#[inline(always)]
fn add_outlier<S: Simd>(simd: S, outlier: &Outlier, panel: &[i8], acc: &mut [i32]) {
    let line = &panel[outlier.input / GROUP * GROUP * PANEL..][..GROUP * PANEL];
    // The channel's four weights fill a 32-bit word; shifting left then right leaves the wanted one, sign extended.
    let left = 8 * (GROUP - 1 - outlier.input % GROUP) as u32;
    for (acc, words) in acc.chunks_exact_mut(S::LANES).zip(line.chunks_exact(GROUP * S::LANES)) {
        simd.add_bytes(acc, words, left, outlier.excess);
    }
}

#[inline(always)]
fn f32<S: Simd>(
    simd: S,
    input: &[f32],
    linear: &Linear,
    panels: &[u16],
    operands: &mut Operands,
    out: &mut Output<'_>,
) {
    let depth = linear.inputs;
    let wide = match &mut operands.panel {
        Some(panel) if panel.len() >= depth * PANEL => panel,
        stale => stale.insert(Aligned::zeroed(depth * PANEL)),
    };
    for (p, panel) in panels.chunks_exact(PANEL * depth).enumerate() {
        for (w, &h) in wide.iter_mut().zip(panel) {
            *w = f16_to_f32(h);
        }
        let bias = &linear.bias[p * PANEL..(p + 1) * PANEL];
        for (first, count) in tiles(out.rows, S::F32_ROWS) {
            let mut acc = [0f32; 16 * PANEL];
            f32_tile(
                simd,
                count,
                &input[first * depth..],
                depth,
                wide,
                PANEL,
                depth,
                &mut acc,
                PANEL,
            );
            for (r, acc) in (first..first + count).zip(acc.chunks_exact(PANEL)) {
                out.finish(simd, p, r, |c| simd.add(simd.load(&acc[c..]), simd.load(&bias[c..])));
            }
        }
    }
}

/// Splits `rows` into the fewest tiles of at most `most` rows, of nearly equal height: 13 rows at 12 a tile would
/// otherwise leave a tile of one, which costs a whole pass over the panel.
#[inline(always)]
pub(super) fn tiles(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(most).max(1);
    (0..count).map(move |i| {
        let first = i * rows / count;
        (first, (i + 1) * rows / count - first)
    })
}

struct Output<'a> {
    values: &'a mut [f32],
    rows: usize,
    outputs: usize,
    layout: Layout,
    then: Then,
}

impl Output<'_> {
    /// Row `r` of panel `p`; `value(c)` is the product plus bias at columns `c..c + LANES` of the panel.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, p: usize, r: usize, value: impl Fn(usize) -> S::F) {
        let column = p * PANEL;
        let start = match self.layout {
            Layout::RowMajor => r * self.outputs + column,
            Layout::Heads { head_dim } => {
                (column / head_dim * self.rows + r) * head_dim + column % head_dim
            }
        };
        let to = &mut self.values[start..start + PANEL];
        for (i, to) in to.chunks_exact_mut(S::LANES).enumerate() {
            let x = value(i * S::LANES);
            let x = match self.then {
                Then::Store => x,
                Then::Gelu => gelu(simd, x),
                Then::Add => simd.add(simd.load(to), x),
            };
            simd.store(to, x);
        }
    }
}

/// `out[r][c] = Σₖ a[r][k] · b[k][c]` for `count` rows and 32 columns, k ascending, one multiply-add each.
///
/// Row strides in values: `a` `a_stride`, `b` `b_stride`, `out` `out_stride`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "three matrices with their strides")]
pub(super) fn f32_tile<S: Simd>(
    simd: S,
    count: usize,
    a: &[f32],
    a_stride: usize,
    b: &[f32],
    b_stride: usize,
    depth: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    assert!(count > 0 && depth > 0 && a.len() >= (count - 1) * a_stride + depth);
    assert!(
        b.len() >= (depth - 1) * b_stride + PANEL && out.len() >= (count - 1) * out_stride + PANEL
    );
    let (a, b, out) = (a.as_ptr(), b.as_ptr(), out.as_mut_ptr());
    // SAFETY: the assertions above cover every offset: r < count, k < depth, c + 2 · LANES ≤ 32.
    with_rows!(count, S::F32_ROWS, R => unsafe {
        for c in (0..PANEL).step_by(2 * S::LANES) {
            f32_columns::<S, R>(simd, a, a_stride, b.add(c), b_stride, depth, out.add(c), out_stride);
        }
    });
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "three matrices with their strides")]
unsafe fn f32_columns<S: Simd, const R: usize>(
    simd: S,
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    depth: usize,
    out: *mut f32,
    out_stride: usize,
) {
    let mut acc = [[simd.splat(0.0); 2]; R];
    for k in 0..depth {
        // SAFETY: k < depth and R rows, as `f32_tile` asserts.
        unsafe {
            let b0 = simd.load_ptr(b.add(k * b_stride));
            let b1 = simd.load_ptr(b.add(k * b_stride + S::LANES));
            for (r, acc) in acc.iter_mut().enumerate() {
                let x = simd.splat(*a.add(r * a_stride + k));
                acc[0] = simd.mul_add(x, b0, acc[0]);
                acc[1] = simd.mul_add(x, b1, acc[1]);
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        // SAFETY: R rows of 2 · LANES columns, as `f32_tile` asserts.
        unsafe {
            simd.store_ptr(out.add(r * out_stride), acc[0]);
            simd.store_ptr(out.add(r * out_stride + S::LANES), acc[1]);
        }
    }
}
