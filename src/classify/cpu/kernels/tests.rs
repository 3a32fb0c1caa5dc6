//! Every kernel of this processor against plain scalar arithmetic, on random and extreme inputs.

use half::f16;
use proptest::prelude::*;

use super::product::{Job, Layout, Operands, Then};
use super::simd::{Dot, Simd};
use super::{Kernel, Operations, Precision, attention, math, portable, rows};
use crate::classify::cpu::linear::{Int8Panels, Linear, PANEL, Weight, padded};

/// Runs `$body` for each instruction set of this processor, with `$simd` as its token.
macro_rules! for_each_token {
    ($simd:ident => $body:expr) => {{
        {
            let $simd = portable::Portable;
            $body
        }
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if let Some($simd) = super::avx512::Avx512::<super::avx512::Vnni>::detect() {
                $body
            }
            if let Some($simd) = super::avx512::Avx512::<super::avx512::Bw>::detect() {
                $body
            }
            if let Some($simd) = super::avx2::Avx2::detect() {
                $body
            }
        }
        // On other processors these run on `neon_model`.
        {
            if let Some($simd) = super::neon::Neon::<super::neon::Base>::detect() {
                $body
            }
            if let Some($simd) = super::neon::Neon::<super::neon::DotProduct>::detect() {
                $body
            }
        }
    }};
}

/// NEON's operations where [`Kernel`] cannot reach them: on `neon_model`.
fn modelled() -> Vec<(Kernel, Box<dyn Operations>)> {
    if cfg!(target_arch = "aarch64") {
        return Vec::new();
    }
    let dot = super::neon::Neon::<super::neon::DotProduct>::detect()
        .map(|t| Box::new(t) as Box<dyn Operations>);
    let base = super::neon::Neon::<super::neon::Base>::detect()
        .map(|t| Box::new(t) as Box<dyn Operations>);
    dot.into_iter().chain(base).map(|operations| (Kernel::Neon, operations)).collect()
}

/// Every kernel of this processor with its operations; under Miri, which lacks vector instructions, the portable one.
fn kernels() -> impl Iterator<Item = (Kernel, Box<dyn Operations>)> {
    Kernel::ALL
        .into_iter()
        .filter(|&kernel| !cfg!(miri) || kernel == Kernel::Portable)
        .filter_map(|kernel| Some((kernel, kernel.operations()?)))
        .chain(modelled())
}

/// Cases of each property; the environment variable `KERNEL_CASES` asks for more.
fn cases() -> u32 {
    let usual = if cfg!(miri) { 4 } else { 64 };
    std::env::var("KERNEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Pseudo-random values in −1..1 with now and then an extreme, from a seed (splitmix64).
fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..len)
        .map(|_| match next() % 16 {
            0 => 1.0,
            1 => -1.0,
            2 => 0.0,
            _ => (next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0,
        })
        .collect()
}

fn check_dot<D: Dot>(simd: D, seed: u64, rows: usize, inputs: usize, all_extreme: bool) {
    let rows = 1 + rows % D::ROWS;
    let depth = padded(inputs);
    let pairwise = D::LARGEST_ACTIVATION == 127;
    let mut weights = values(seed, inputs * PANEL);
    let mut a: Vec<u8> = values(!seed, rows * depth)
        .iter()
        .map(|x| ((x + 1.0) / 2.0 * f32::from(D::LARGEST_ACTIVATION)) as u8)
        .collect();
    if all_extreme {
        weights.iter_mut().for_each(|w| *w = if *w < 0.0 && seed & 1 == 0 { -1.0 } else { 1.0 });
        a.fill(D::LARGEST_ACTIVATION);
    }
    let panels = Int8Panels::pack(&weights, inputs, PANEL, pairwise);
    let (mut found, mut expected) = (vec![7; rows * PANEL], vec![9; rows * PANEL]);
    // SAFETY: `rows` rows of `depth` activations, one panel of that depth, and a tile of results.
    unsafe { simd.dot_tile(rows, a.as_ptr(), panels.values.as_ptr(), depth, found.as_mut_ptr()) };
    portable::dot_tile(&a, &panels.values, depth, &mut expected);
    for (i, expected) in expected.iter_mut().enumerate() {
        *expected -= D::LEVEL_OFFSET * panels.sums[i % PANEL];
    }
    assert_eq!(found, expected, "rows {rows} inputs {inputs}");

    let excess = (seed % 4001) as i32 - 2000;
    for left in [0, 8, 16, 24] {
        for (found, words) in
            found.chunks_exact_mut(D::LANES).zip(panels.values.chunks_exact(4 * D::LANES))
        {
            simd.add_bytes(found, words, left, excess);
        }
        for (c, expected) in expected.iter_mut().take(PANEL).enumerate() {
            *expected += excess * i32::from(panels.values[4 * c + 3 - left as usize / 8]);
        }
        assert_eq!(found[..PANEL], expected[..PANEL], "left {left}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn byte_products_equal_the_scalar_ones(
        seed in any::<u64>(), rows in 0usize..16, inputs in 1usize..200, extreme in any::<bool>()
    ) {
        for_each_token!(simd => check_dot(simd, seed, rows, inputs, extreme));
    }

    #[test]
    fn products_are_as_exact_as_their_levels(
        seed in any::<u64>(), rows in 1usize..30, inputs in 1usize..5, panels in 1usize..4, gelu in any::<bool>(), wild in any::<bool>()
    ) {
        for (kernel, operations) in kernels() {
            check_product(kernel, &*operations, seed, rows, 32 * inputs, 32 * panels, gelu, wild);
        }
    }

    #[test]
    fn attention_equals_its_formula(seed in any::<u64>(), first in 1usize..70, second in 1usize..40, wide in any::<bool>()) {
        let first = if cfg!(miri) { first % 9 + 1 } else { first };
        for (kernel, operations) in kernels() {
            check_attention(kernel, &*operations, seed, &[first, second], 2, if wide { 64 } else { 32 });
        }
    }

    #[test]
    fn rows_are_normalised_and_quantised(seed in any::<u64>(), rows in 1usize..5, width in 1usize..14, spike in 1.0f32..100.0) {
        for_each_token!(simd => check_rows(simd, seed, rows, 32 * width, spike));
    }
}

/// Packs as the kernel wants it; returns the layer with the step of each channel's weights.
fn layer(
    precision: Precision,
    weights: &[f32],
    bias: Vec<f32>,
    inputs: usize,
) -> (Linear, Vec<f32>) {
    let outputs = bias.len();
    let linear = Linear::pack(weights, bias, inputs, 5.0, precision);
    let steps = match &linear.weight {
        Weight::Int8(panels) => panels.scales.clone(),
        Weight::F16(_) => vec![f16::EPSILON.to_f32(); outputs],
    };
    (linear, steps)
}

#[expect(clippy::too_many_arguments, reason = "what proptest draws")]
fn check_product(
    kernel: Kernel,
    operations: &dyn Operations,
    seed: u64,
    rows: usize,
    inputs: usize,
    outputs: usize,
    gelu: bool,
    wild: bool,
) {
    let mut x = values(seed, rows * inputs);
    if wild {
        x.iter_mut().step_by(37).for_each(|x| *x *= 40.0);
    }
    let w = values(seed ^ 1, outputs * inputs);
    let precision = kernel.precision(operations);
    let (linear, steps) = layer(precision, &w, values(seed ^ 2, outputs), inputs);
    let start = values(seed ^ 3, rows * outputs);
    let mut operands = Operands::default();
    let mut run = |then, layout, terms| {
        let mut output = start.clone();
        operations.product(Job {
            input: &x,
            linear: &linear,
            output: &mut output,
            layout,
            then,
            terms,
            operands: &mut operands,
        });
        output
    };
    let plain = run(Then::Store, Layout::RowMajor, rows::Terms::One);
    let finer = run(Then::Store, Layout::RowMajor, rows::Terms::Two);
    let levels = if precision == Precision::F32 { f32::INFINITY } else { 127.0 };
    for r in 0..rows {
        let row = &x[r * inputs..][..inputs];
        let range = row.iter().fold(0.0f32, |m, x| m.max(x.abs())) * 2.0;
        for c in 0..outputs {
            let weights = &w[c * inputs..][..inputs];
            let exact: f32 =
                row.iter().zip(weights).map(|(x, w)| x * w).sum::<f32>() + linear.bias[c];
            // Half a step of x times |w| plus half a step of w times |x|, and both at once.
            let (dx, dw) = (0.5 * range / levels, 0.5 * steps[c]);
            let bound: f32 =
                row.iter().zip(weights).map(|(x, w)| dx * w.abs() + dw * x.abs() + dx * dw).sum();
            let found = plain[r * outputs + c];
            assert!(
                (found - exact).abs() <= bound * 1.01 + 1e-3,
                "{kernel} [{r}, {c}] {found} for {exact} ± {bound}"
            );
            // With two terms only the weights' rounding is left.
            let weights_only: f32 = row.iter().map(|x| (dw + 0.02 * dx) * x.abs()).sum();
            let weights_only = weights_only + 0.02 * bound;
            let found = finer[r * outputs + c];
            assert!(
                (found - exact).abs() <= weights_only * 1.01 + 1e-3,
                "{kernel} [{r}, {c}] {found} for {exact} ± {weights_only}, two terms"
            );
        }
    }
    let then = if gelu { Then::Gelu } else { Then::Add };
    let heads = run(then, Layout::Heads { head_dim: 32 }, rows::Terms::One);
    for (i, &found) in heads.iter().enumerate() {
        let (head, r, d) = (i / (32 * rows), i / 32 % rows, i % 32);
        let value = plain[r * outputs + head * 32 + d];
        if gelu {
            check_gelu(found, value);
        } else {
            assert_eq!(found, start[i] + value, "{kernel}");
        }
    }
    // A row alone has the same bits as a row among others.
    let last = (rows - 1) * inputs;
    let mut alone = vec![0.0; outputs];
    operations.product(Job {
        input: &x[last..],
        linear: &linear,
        output: &mut alone,
        layout: Layout::RowMajor,
        then: Then::Store,
        terms: rows::Terms::One,
        operands: &mut operands,
    });
    assert_eq!(alone, plain[(rows - 1) * outputs..], "{kernel}");
}

fn check_attention(
    kernel: Kernel,
    operations: &dyn Operations,
    seed: u64,
    lengths: &[usize],
    heads: usize,
    head_dim: usize,
) {
    let tokens: usize = lengths.iter().sum();
    let plane = tokens * head_dim;
    let mut qkv = values(seed, 3 * heads * plane);
    qkv[..heads * plane].iter_mut().for_each(|q| *q *= (seed % 16) as f32);
    let mut context = vec![f32::NAN; heads * plane];
    operations.attention(attention::Job {
        qkv: &qkv,
        tokens,
        heads,
        lengths,
        context: &mut context,
        buffers: &mut attention::Buffers::default(),
    });
    let mut first = 0;
    for &length in lengths {
        for (head, t) in (0..heads).flat_map(|head| (0..length).map(move |t| (head, t))) {
            let vector = |which: usize, t: usize| {
                let start = (which * heads + head) * plane + (first + t) * head_dim;
                qkv[start..start + head_dim].iter().map(|&x| f64::from(x))
            };
            let scores: Vec<f64> = (0..length)
                .map(|k| {
                    vector(0, t).zip(vector(1, k)).map(|(q, k)| q * k).sum::<f64>()
                        / (head_dim as f64).sqrt()
                })
                .collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            let mut expected = vec![0.0; head_dim];
            for (k, s) in scores.iter().enumerate() {
                expected
                    .iter_mut()
                    .zip(vector(2, k))
                    .for_each(|(e, v)| *e += (s - largest).exp() / total * v);
            }
            let found = &context[((first + t) * heads + head) * head_dim..][..head_dim];
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-4,
                    "{kernel}: {found} for {expected}"
                );
            }
        }
        first += length;
    }
}

fn check_rows<D: Dot>(simd: D, seed: u64, count: usize, width: usize, spike: f32) {
    let mut x = values(seed, count * width);
    x[seed as usize % width] *= spike;
    let mut operands = Operands::default();
    let copies = [0, seed as usize % width];
    let shape = |terms| rows::Levelled {
        width,
        depth: padded(width + copies.len()),
        copies: &copies,
        reach: 5.0,
        largest: D::LARGEST_ACTIVATION,
        terms,
    };
    check_two_terms(simd, &x, shape(2), spike);
    rows::quantize(simd, &x, shape(1), &mut operands);
    for (r, (row, marks)) in x.chunks_exact(width).zip(&operands.rows).enumerate() {
        let first = if r == 0 { 0 } else { operands.rows[r - 1].outliers_end };
        for (i, &x) in row.iter().enumerate() {
            let mut level = i32::from(operands.values[r * padded(width + copies.len()) + i]);
            assert!(level <= i32::from(D::LARGEST_ACTIVATION));
            let excess = |input: usize| {
                let own = &operands.outliers[first..marks.outliers_end];
                own.iter().find(|o| o.input == input).map_or(0, |o| o.excess)
            };
            for (copy, _) in copies.iter().enumerate().filter(|&(_, &input)| input == i) {
                let repeated = operands.values[r * padded(width + copies.len()) + width + copy];
                assert_eq!(i32::from(repeated), level);
                assert_eq!(excess(width + copy), excess(i));
            }
            level += excess(i);
            let back = marks.scale * (level - marks.zero) as f32;
            assert!(
                (back - x).abs() <= 0.5001 * marks.scale + 1e-6 * x.abs(),
                "{back} for {x}, step {}",
                marks.scale
            );
        }
    }

    let norm =
        rows::Norm { gain: values(seed ^ 1, width), bias: values(seed ^ 2, width), epsilon: 1e-12 };
    let mut normal = x.clone();
    rows::layer_norm(simd, rows::LayerNorm { rows: &mut normal, norm: &norm });
    for (row, normal) in x.chunks_exact(width).zip(normal.chunks_exact(width)) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        let variance =
            row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
        for (i, &found) in normal.iter().enumerate() {
            let unit = (f64::from(row[i]) - mean) / (variance + 1e-12).sqrt();
            let expected = unit * f64::from(norm.gain[i]) + f64::from(norm.bias[i]);
            assert!((f64::from(found) - expected).abs() < 1e-4, "{found} for {expected}");
        }
    }
}

/// Two terms are a hundred times closer than half a step of one.
fn check_two_terms<D: Dot>(simd: D, x: &[f32], shape: rows::Levelled<'_>, largest: f32) {
    let mut operands = Operands::default();
    rows::quantize(simd, x, shape, &mut operands);
    for (r, row) in x.chunks_exact(shape.width).enumerate() {
        let (first, second) = (&operands.rows[2 * r], &operands.rows[2 * r + 1]);
        let start = r.checked_sub(1).map_or(0, |above| operands.rows[2 * above].outliers_end);
        for (i, &x) in row.iter().enumerate() {
            let level = |term: usize| {
                i32::from(operands.values[(2 * r + term) * shape.depth..][..shape.depth][i])
            };
            let excess: i32 = operands.outliers[start..first.outliers_end]
                .iter()
                .filter(|outlier| outlier.input == i)
                .map(|outlier| outlier.excess)
                .sum();
            let back = first.scale * (level(0) + excess - first.zero) as f32
                + second.scale * (level(1) - second.zero) as f32;
            let bound = 0.006 * first.scale + 1e-5 * largest;
            assert!((back - x).abs() <= bound, "{back} for {x} ± {bound}");
        }
    }
}

fn check_curves<S: Simd>(simd: S) {
    let step = if cfg!(miri) { 1.0 } else { 1.0 / 4096.0 };
    let mut x = -140.0f32;
    while x < 16.0 {
        let mut out = [0.0; 16];
        if x <= 0.0 {
            simd.store(&mut out, math::exp2(simd, simd.splat(x)));
            let expected = f64::from(x.max(-126.0)).exp2();
            let error = (f64::from(out[0]) / expected - 1.0).abs();
            assert!(error < 2.5e-7, "2^{x}: relative error {error}");
        }
        if x > -16.0 {
            simd.store(&mut out, math::gelu(simd, simd.splat(x)));
            check_gelu(out[0], x);
        }
        x += step;
    }
    // Far out the error is one rounding of Φ, times x.
    for x in (-2000..2000).map(|x| x as f32) {
        let mut out = [0.0; 16];
        simd.store(&mut out, math::gelu(simd, simd.splat(x)));
        check_gelu(out[0], x);
    }
}

/// The bound that [`math::gelu`] documents.
fn check_gelu(found: f32, x: f32) {
    let error = (f64::from(found) - exact_gelu(f64::from(x))).abs();
    assert!(error <= 2.5e-6 + 2e-7 * f64::from(x.abs()), "gelu({x}): error {error}");
}

#[test]
fn curves_keep_their_stated_errors() {
    for_each_token!(simd => check_curves(simd));
}

/// x · Φ(x) with Φ from the series of erf (Abramowitz & Stegun 7.1.6), which converges everywhere.
fn exact_gelu(x: f64) -> f64 {
    if x.abs() > 7.0 {
        return x.max(0.0);
    }
    let z = x / std::f64::consts::SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term *= 2.0 * z * z / f64::from(2 * n + 1);
        sum += term;
    }
    let erf = 2.0 / std::f64::consts::PI.sqrt() * (-z * z).exp() * sum;
    x * 0.5 * (1.0 + erf)
}

#[test]
fn no_sixteen_bit_sum_can_saturate() {
    let inputs = 100;
    for weights in
        [values(5, inputs * PANEL), vec![1.0; inputs * PANEL], vec![-0.3; inputs * PANEL]]
    {
        let panels = Int8Panels::pack(&weights, inputs, PANEL, true);
        for block in panels.values.chunks_exact(4 * PANEL * 4) {
            for (channel, lane) in (0..PANEL).flat_map(|c| [(c, 0), (c, 1)]) {
                let eight: Vec<i32> = (0..4)
                    .flat_map(|g| (0..2).map(move |i| g * 4 * PANEL + 4 * channel + 2 * lane + i))
                    .map(|at| i32::from(block[at]))
                    .collect();
                let positive: i32 = eight.iter().filter(|&&w| w > 0).sum();
                let negative: i32 = eight.iter().filter(|&&w| w < 0).sum();
                assert!(127 * positive <= 32_767 && 127 * negative >= -32_768, "{eight:?}");
            }
        }
    }
}

#[test]
fn weights_too_large_for_a_column_spill_over_to_copies() {
    let inputs = 512;
    let mut weights = values(7, inputs * PANEL);
    weights.iter_mut().for_each(|w| *w *= 0.1);
    // Every channel has a large weight, all on three inputs.
    for (channel, row) in weights.chunks_exact_mut(inputs).enumerate() {
        row[[5, 77, 300][channel % 3]] = if channel % 2 == 0 { 1.7 } else { -1.1 };
    }
    for pairwise in [false, true] {
        let panels = Int8Panels::pack(&weights, inputs, PANEL, pairwise);
        assert!((3..=16).contains(&panels.copies.len()), "{:?}", panels.copies);
        for (channel, row) in weights.chunks_exact(inputs).enumerate() {
            let scale = panels.scales[channel];
            assert!(scale < 0.9 * 1.1 / 127.0, "a finer scale than the largest weight's: {scale}");
            let at = |column: usize| {
                i32::from(panels.values[column / 4 * 4 * PANEL + 4 * channel + column % 4])
            };
            for (input, &w) in row.iter().enumerate() {
                let copies = panels.copies.iter().enumerate().filter(|&(_, &of)| of == input);
                let level = at(input) + copies.map(|(copy, _)| at(inputs + copy)).sum::<i32>();
                let back = scale * level as f32;
                assert!((back - w).abs() <= 0.501 * scale, "{back} for {w}, step {scale}");
            }
        }
    }
}

#[test]
fn kernel_names_parse_back() {
    for kernel in Kernel::ALL {
        assert_eq!(kernel.to_string().parse::<Kernel>().ok(), Some(kernel));
    }
    assert!("sse9".parse::<Kernel>().is_err());
}

/// `cargo test --release -- --ignored --nocapture share_of_the_limit` prints the best of many repetitions.
#[cfg(target_arch = "x86_64")]
#[test]
#[ignore = "a measurement, not a check"]
fn share_of_the_limit() {
    use std::arch::x86_64::*;
    use std::time::Instant;

    /// Multiply-adds of `vpdpbusd` on registers alone: 12 independent chains hide its latency.
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn registers(rounds: u64) -> i32 {
        let mut acc = [_mm512_setzero_si512(); 12];
        let mut x = _mm512_set1_epi8(3);
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = _mm512_dpbusd_epi32(*acc, x, x);
            }
            x = std::hint::black_box(x);
        }
        acc.into_iter().map(|acc| _mm512_reduce_add_epi32(acc)).fold(0, i32::wrapping_add)
    }

    fn best(repetitions: usize, mut work: impl FnMut()) -> f64 {
        (0..repetitions).fold(f64::MAX, |best, _| {
            let start = Instant::now();
            work();
            best.min(start.elapsed().as_secs_f64())
        })
    }

    let Some(simd) = super::avx512::Avx512::<super::avx512::Vnni>::detect() else { return };
    let rounds = 20_000;
    // SAFETY: the token exists, so the processor has VNNI.
    let limit = (rounds * 12 * 64) as f64
        / best(2000, || {
            std::hint::black_box(unsafe { registers(rounds) });
        });
    println!("registers only: {:.1} G multiply-adds a second", limit / 1e9);
    for (inputs, outputs) in [(384, 1152), (384, 384), (384, 1536), (1536, 384)] {
        for rows in [12, 16, 60, 72] {
            let x = values(1, rows * inputs);
            let linear = Linear::pack(
                &values(2, inputs * outputs),
                vec![0.0; outputs],
                inputs,
                10.0,
                Precision::Int8 { pairwise_16_bit: false },
            );
            let Weight::Int8(panels) = &linear.weight else { return };
            let a: Vec<u8> = x.iter().map(|x| (100.0 + 100.0 * x) as u8).collect();
            let mut out = [0i32; 12 * PANEL];
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")]
            fn tiles_only(
                simd: super::avx512::Avx512<super::avx512::Vnni>,
                a: &[u8],
                panels: &Int8Panels,
                inputs: usize,
                rows: usize,
                out: &mut [i32],
            ) {
                for panel in panels.values.chunks_exact(PANEL * inputs) {
                    for (first, count) in super::product::tiles(rows, 12) {
                        // SAFETY: `rows` rows of `inputs` levels, one panel, a tile of results.
                        unsafe {
                            simd.dot_tile(
                                count,
                                a[first * inputs..].as_ptr(),
                                panel.as_ptr(),
                                inputs,
                                out.as_mut_ptr(),
                            )
                        };
                    }
                }
            }
            let work = (rows * inputs * outputs) as f64;
            // SAFETY: the token exists, so the processor has the features.
            let bare = work
                / best(300, || unsafe { tiles_only(simd, &a, panels, inputs, rows, &mut out) });
            let mut output = vec![0.0; rows * outputs];
            let mut operands = Operands::default();
            let whole = best(300, || {
                simd.product(Job {
                    input: &x,
                    linear: &linear,
                    output: &mut output,
                    layout: Layout::RowMajor,
                    then: Then::Store,
                    terms: rows::Terms::One,
                    operands: &mut operands,
                })
            });
            println!(
                "[{rows}, {inputs}] x [{inputs}, {outputs}]: tiles {:.0} %, with quantisation and epilogue {:.0} %",
                100.0 * bare / limit,
                100.0 * work / whole / limit
            );
        }
    }
}
