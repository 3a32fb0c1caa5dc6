//! Scaled dot-product attention in f32, one sequence and one head at a time:
//! softmax(Q·Kᵀ / √d) · V (Vaswani et al. 2017, arXiv:1706.03762, eq. 1).

#![forbid(unsafe_code)]

use super::math::exp2;
use super::product::{f32_tile, tiles};
use super::simd::Simd;
use crate::classify::cpu::linear::PANEL;

/// Attention over each sequence of a batch.
pub(crate) struct Job<'a> {
    /// `[3 · heads, tokens, head_dim]`: queries, keys, values.
    pub(crate) qkv: &'a [f32],
    /// Tokens of the batch.
    pub(crate) tokens: usize,
    /// Heads of a block.
    pub(crate) heads: usize,
    /// Tokens of each sequence, in order.
    pub(crate) lengths: &'a [usize],
    /// `[tokens, heads · head_dim]`, overwritten.
    pub(crate) context: &'a mut [f32],
    pub(crate) buffers: &'a mut Buffers,
}

/// One head's keys, transposed, and one tile's scores; grown, never shrunk.
#[derive(Default)]
pub(crate) struct Buffers {
    /// `[keys / 32][head_dim][32]`.
    keys: Vec<f32>,
    /// `[tile rows][keys rounded up to 32]`.
    scores: Vec<f32>,
}

#[inline(always)]
pub(super) fn run<S: Simd>(simd: S, job: Job<'_>) {
    let hidden = job.context.len() / job.tokens.max(1);
    let head_dim = hidden / job.heads;
    let plane = job.tokens * head_dim;
    assert_eq!(job.qkv.len(), 3 * job.heads * plane, "qkv is [3, heads, tokens, head_dim]");
    assert_eq!(job.lengths.iter().sum::<usize>(), job.tokens, "sequences fill the batch");
    let Buffers { keys, scores } = job.buffers;
    let mut first = 0;
    for &length in job.lengths {
        let width = length.next_multiple_of(PANEL);
        keys.resize(keys.len().max(width * head_dim), 0.0);
        scores.resize(scores.len().max(S::F32_ROWS * width), 0.0);
        for head in 0..job.heads {
            let part = |which: usize| {
                &job.qkv[(which * job.heads + head) * plane + first * head_dim..]
                    [..length * head_dim]
            };
            transpose(part(1), head_dim, keys);
            let context = &mut job.context[first * hidden..][..length * hidden];
            let views = Head { queries: part(0), keys, values: part(2), head_dim };
            one_head(simd, views, &mut context[head * head_dim..], hidden, scores);
        }
        first += length;
    }
}

/// `[keys, head_dim]` to `[keys / 32][head_dim][32]`, the last panel filled with zeros.
#[inline(always)]
fn transpose(keys: &[f32], head_dim: usize, to: &mut [f32]) {
    for (panel, to) in keys.chunks(PANEL * head_dim).zip(to.chunks_exact_mut(PANEL * head_dim)) {
        if panel.len() < PANEL * head_dim {
            to.fill(0.0);
        }
        for (column, key) in panel.chunks_exact(head_dim).enumerate() {
            for (line, &x) in to.chunks_exact_mut(PANEL).zip(key) {
                line[column] = x;
            }
        }
    }
}

/// One head of one sequence: queries and values `[length, head_dim]`, keys transposed.
struct Head<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    head_dim: usize,
}

/// `context[r]` of stride `hidden` ← `softmax(q[r]·Kᵀ / √d) · V` for every query row.
#[inline(always)]
fn one_head<S: Simd>(
    simd: S,
    head: Head<'_>,
    context: &mut [f32],
    hidden: usize,
    scores: &mut [f32],
) {
    let Head { queries, keys, values, head_dim } = head;
    let length = queries.len() / head_dim;
    let width = length.next_multiple_of(PANEL);
    // exp(x) = 2^(x · log₂e), and 1/√d is taken along.
    let sharpness = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
    for (first, count) in tiles(length, S::F32_ROWS) {
        let q = &queries[first * head_dim..];
        for (p, panel) in keys.chunks_exact(PANEL * head_dim).take(width / PANEL).enumerate() {
            f32_tile(
                simd,
                count,
                q,
                head_dim,
                panel,
                PANEL,
                head_dim,
                &mut scores[p * PANEL..],
                width,
            );
        }
        let mut shares = [0.0; 16];
        for (row, share) in scores.chunks_exact_mut(width).take(count).zip(&mut shares) {
            *share = 1.0 / exponentials(simd, row, length, sharpness);
        }
        for column in (0..head_dim).step_by(PANEL) {
            let to = &mut context[first * hidden + column..];
            f32_tile(simd, count, scores, width, &values[column..], head_dim, length, to, hidden);
            for (row, &share) in to.chunks_mut(hidden).zip(&shares[..count]) {
                let share = simd.splat(share);
                for x in row[..PANEL].chunks_exact_mut(S::LANES) {
                    let scaled = simd.mul(simd.load(x), share);
                    simd.store(x, scaled);
                }
            }
        }
    }
}

/// Replaces a row's first `length` scores by 2^((score − largest) · sharpness) and the padding by 0; returns the sum.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, row: &mut [f32], length: usize, sharpness: f32) -> f32 {
    // Padding repeats a real score so that it cannot be the largest.
    let (real, padding) = row.split_at_mut(length);
    padding.fill(real[0]);
    let mut largest = simd.load(row);
    for x in row.chunks_exact(S::LANES) {
        largest = simd.max(largest, simd.load(x));
    }
    let scale = simd.splat(sharpness);
    let offset = simd.splat(-simd.reduce_max(largest) * sharpness);
    let mut sum = simd.splat(0.0);
    for (i, x) in row.chunks_exact_mut(S::LANES).enumerate() {
        simd.store(x, exp2(simd, simd.mul_add(simd.load(x), scale, offset)));
        if (i + 1) * S::LANES > length {
            x[length.saturating_sub(i * S::LANES)..].fill(0.0);
        }
        sum = simd.add(sum, simd.load(x));
    }
    simd.reduce_add(sum)
}
