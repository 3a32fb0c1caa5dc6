//! The encoder agrees with reference vectors that share no code with it.
//!
//! `tests/reference/make_reference.py` says how they were made.

use serde::Deserialize;

use weighbridge::classify::{
    encoder::KernelChoice,
    model::{Device, LoadOptions, Model, ModelFiles},
};

use crate::house::model;

#[derive(Deserialize)]
struct Reference {
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

fn references() -> Vec<Reference> {
    serde_json::from_str(include_str!("../reference/embeddings.json")).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn token_ids_agree_with_the_reference() {
    let model = with_kernel("auto").unwrap();
    for reference in references() {
        assert_eq!(model.tokens(&reference.text), reference.ids, "{:.60}", reference.text);
    }
}

/// The shipped model on one way of computing; `None` where the processor lacks it.
fn with_kernel(name: &str) -> Option<Model> {
    let kernel = KernelChoice::from_name(name).unwrap();
    if let KernelChoice::Forced(kernel) = kernel
        && !kernel.is_available()
    {
        println!("skipped: this processor has no {name}");
        return None;
    }
    let options = LoadOptions { kernel, device: Device::Cpu, max_tokens: 256 };
    Some(Model::load(&ModelFiles::shipped(), options).unwrap())
}

/// Every embedding has at least this cosine to the reference, on every kernel named.
fn check(kernels: &[&str], least: f64) {
    for kernel in kernels {
        let Some(model) = with_kernel(kernel) else { continue };
        for reference in references() {
            let embedding = model.embed(&[&reference.ids]).unwrap().remove(0);
            let cosine = cosine(&embedding, &reference.embedding);
            println!("{kernel} {cosine:.6} {:.40}", reference.text.replace('\n', " "));
            assert!(cosine >= least, "{kernel}: {cosine} for {:.60}", reference.text);
        }
    }
}

#[test]
fn paths_in_f32_agree_with_the_reference() {
    check(&["candle", "f32", "portable"], 0.999);
}

/// Measured: 0.9985 by VNNI, mean 0.9994.
const LEAST_WITH_8_BIT_ACTIVATIONS: f64 = 0.998;
/// Measured: 0.9979 by AVX-512 BW and by AVX2, mean 0.9988.
const LEAST_WITH_7_BIT_ACTIVATIONS: f64 = 0.997;

#[test]
fn paths_in_int8_agree_with_the_reference() {
    check(&["avx512-vnni", "neon"], LEAST_WITH_8_BIT_ACTIVATIONS);
    check(&["avx512-bw", "avx2"], LEAST_WITH_7_BIT_ACTIVATIONS);
}

#[test]
fn an_embedding_does_not_depend_on_its_neighbours() {
    let references = references();
    let batch: Vec<&[u32]> = references.iter().map(|reference| reference.ids.as_slice()).collect();
    let together = model().embed(&batch).unwrap();
    for (reference, embedding) in references.iter().zip(together) {
        let alone = model().embed(&[&reference.ids]).unwrap().remove(0);
        assert!(cosine(&embedding, &alone) > 0.999_999, "{:.60}", reference.text);
    }
}

/// 98 prompts of `eval/authored`; over 2,000 `cargo bench --bench scoring -- --agreement` tells.
#[test]
fn scores_in_int8_stay_near_those_in_f32() {
    #[derive(Deserialize)]
    struct Authored {
        prompt: String,
    }
    let lines = include_str!("../../eval/authored/prompts.jsonl").lines().step_by(10);
    let prompts: Vec<Authored> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let reference = with_kernel("candle").unwrap();
    let score = |model: &Model, text: &str| model.score(&[text]).unwrap()[0].score.get();
    let expected: Vec<f32> = prompts.iter().map(|p| score(&reference, &p.prompt)).collect();
    for kernel in ["avx512-vnni", "avx512-bw", "avx2", "neon"] {
        let Some(model) = with_kernel(kernel) else { continue };
        let shift = |(prompt, expected): (&Authored, &f32)| {
            (score(&model, &prompt.prompt) - expected).abs()
        };
        let mut shifts: Vec<f32> = prompts.iter().zip(&expected).map(shift).collect();
        shifts.sort_by(|a, b| b.total_cmp(a));
        // Looser than over 2,000 prompts, where 99 in 100 stay within 0.01: 95 in 100, and a bound.
        assert!(shifts[4] <= 0.01 && shifts[0] <= 0.02, "{kernel}: {:?}", &shifts[..5]);
    }
}
