//! `weighbridge train` through the program: rows in, a model directory that scores out.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use weighbridge::{
    evaluate::rows::Data,
    train::{labels::difficulties, recipe::Recipe},
};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weighbridge")).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Sixty short prompts: the weak model fails on proofs, the strong one never.
fn rows(dir: &Path) -> PathBuf {
    let mut text = String::new();
    for row in 0..30 {
        for (prompt, weak) in [(format!("Prove lemma {row}"), 0), (format!("Say hi {row}"), 1)] {
            let line = serde_json::json!({
                "id": format!("{row}-{weak}"),
                "prompt": prompt,
                "results": {"big": {"score": 1}, "small": {"score": weak}},
            });
            writeln!(text, "{line}").unwrap();
        }
    }
    let file = dir.join("own.jsonl");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn sixty_labels_give_a_model_directory_that_scores_and_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let cache = dir.path().join("cache");
    let train = |out: &Path| {
        run(&[
            "train",
            "--data",
            data.to_str().unwrap(),
            "--strong",
            "big",
            "--weak",
            "small",
            "--out",
            out.to_str().unwrap(),
            "--cache",
            cache.to_str().unwrap(),
        ])
    };
    let output = train(&first);
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for score in ["new", "prior", "words", "random"] {
        assert!(table.contains(&format!("all rows  60  {score}")), "{table}");
    }
    assert!(train(&second).status.success());
    let head = |out: &Path| std::fs::read(out.join("head.safetensors")).unwrap();
    assert!(head(&first) == head(&second), "the same seed gives the same bytes");

    let again = train(&first);
    assert!(!again.status.success());
    assert!(stderr(&again).contains("head.safetensors exists; --force replaces it"));

    let score = |text: &str| {
        let output = run(&["score", "--model", first.to_str().unwrap(), text]);
        assert!(output.status.success(), "{}", stderr(&output));
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        line["score"].as_f64().unwrap()
    };
    assert!(score("Prove lemma 77") > score("Say hi 77"));
    let card = std::fs::read_to_string(first.join("README.md")).unwrap();
    assert!(card.contains("own.jsonl | 60 |"), "{card}");
}

#[test]
fn what_cannot_be_trained_on_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let data = rows(dir.path());
    let out = dir.path().join("out");
    let refusal = |strong: &str, weak: &str| {
        let (data, out) = (data.to_str().unwrap(), out.to_str().unwrap());
        let output =
            run(&["train", "--data", data, "--strong", strong, "--weak", weak, "--out", out]);
        assert!(!output.status.success() && !Path::new(out).exists());
        stderr(&output)
    };
    assert!(refusal("huge", "small").contains("the data knows: big, small"));
    assert!(refusal("small", "big").contains("`small` is never better than `big`"));
}

#[test]
fn the_shipped_recipe_fits_the_rows_it_was_written_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = root.join("../shared/data/train");
    if !rows.exists() {
        println!("skipped: {} is not there", rows.display());
        return;
    }
    let (recipe, _) = Recipe::read(&root.join("models/weighbridge-minilm/recipe.toml")).unwrap();
    let data = Data::read(&[rows]).unwrap();
    assert!(data.rows.len() > 12_000);
    let difficulty = difficulties(&data, &recipe.anchors);
    for (anchor, level) in &recipe.anchors {
        let (set, category) = anchor.split_once('|').unwrap_or((anchor, ""));
        let of_anchor: Vec<f64> = data
            .rows
            .iter()
            .zip(&difficulty)
            .filter(|(row, _)| {
                row.dataset == set && (category.is_empty() || row.category == category)
            })
            .map(|(_, difficulty)| *difficulty)
            .collect();
        let mean = of_anchor.iter().sum::<f64>() / of_anchor.len() as f64;
        assert!((mean - level).abs() < 1e-9, "{anchor}: {mean}");
    }
    for [strong, weak] in recipe.pairs.values().flatten() {
        data.model(strong).unwrap();
        data.model(weak).unwrap();
    }
}
