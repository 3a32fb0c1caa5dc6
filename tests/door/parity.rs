//! The encoder agrees with reference vectors that share no code with it.
//!
//! `tests/reference/make_reference.py` says how they were made.

use serde::Deserialize;

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
    for reference in references() {
        assert_eq!(model().tokens(&reference.text), reference.ids, "{:.60}", reference.text);
    }
}

#[test]
fn embeddings_agree_with_the_reference() {
    for reference in references() {
        let embedding = model().embed(&[&reference.ids]).unwrap().remove(0);
        let cosine = cosine(&embedding, &reference.embedding);
        assert!(cosine > 0.999, "{cosine} for {:.60}", reference.text);
    }
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
