//! The offline commands on small files: what would change, where a model stands, which thresholds.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::house::{House, TWO_TIERS};

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weighbridge"));
    command.current_dir(dir).env_clear().args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

const CONFIG: &str = r#"
[providers.local]
base_url = "http://127.0.0.1:9/v1"
[models.small]
provider = "local"
price = { input_usd_per_mtok = 1.0, output_usd_per_mtok = 1.0 }
[models.large]
provider = "local"
price = { input_usd_per_mtok = 10.0, output_usd_per_mtok = 10.0 }

# Thresholds are tuned monthly.
[policies.auto]
[[policies.auto.tiers]]
name = "cheap"
below = 0.5  # from the first week
models = ["small"]
[[policies.auto.tiers]]
name = "strong"
models = ["large"]
"#;

/// Ten decisions with scores 0.05, 0.15, …, made at a threshold of 0.7.
fn log() -> String {
    let line = |at: u32| {
        let score = f64::from(at) / 10.0 + 0.05;
        let (tier, model) = if score < 0.7 { ("cheap", "small") } else { ("strong", "large") };
        json!({
            "type": "decision", "id": format!("dec_{at}"), "policy": "auto", "score": score,
            "tier": tier, "model": model, "served_model": model, "prompt_tokens": 500,
            "completion_tokens": 500, "cost_usd": if tier == "cheap" { "0.001" } else { "0.01" },
        })
        .to_string()
            + "\n"
    };
    (0..10).map(line).collect()
}

#[test]
fn a_log_is_replayed_under_another_threshold() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("weighbridge.toml"), CONFIG).unwrap();
    // The last line was cut off by a stop.
    fs::write(dir.path().join("log.jsonl"), log() + "{\"type\":\"deci").unwrap();
    let text = printed(&run(dir.path(), &["replay", "--log", "log.jsonl"]));
    assert!(text.contains("10 requests under policy `auto`"), "{text}");
    assert!(text.contains("2 requests change their tier"), "{text}");
    // Scores of the seven below 0.7 sum to 2.45, of the five below 0.5 to 1.25.
    assert!(
        text.contains("expected quality                    0.755                  0.875"),
        "{text}"
    );
    assert!(text.contains("7 (70.0 %)") && text.contains("5 (50.0 %)"), "{text}");
    let found = printed(&run(dir.path(), &["replay", "--log", "log.jsonl", "--json"]));
    let found: Value = serde_json::from_str(&found).unwrap();
    let ids: Vec<_> = found["flips"].as_array().unwrap().iter().map(|flip| &flip["id"]).collect();
    assert_eq!(ids, ["dec_5", "dec_6"]);
    assert_eq!(found["before"]["cost_nano_usd"], 37_000_000);
    assert_eq!(found["after"]["cost_nano_usd"], 55_000_000);

    fs::write(dir.path().join("log.jsonl"), "not a log\n").unwrap();
    let error = refused(&run(dir.path(), &["replay", "--log", "log.jsonl"]));
    assert!(error.contains("log.jsonl, line 1: no line of a decision log"), "{error}");
}

#[test]
fn a_model_is_placed_from_some_answers() {
    let dir = tempfile::tempdir().unwrap();
    let line = |at: usize| {
        let (prompt, score) = match at % 2 {
            0 => (format!("Say hello to guest {at}."), 1),
            _ => (format!("Prove theorem {at} on the convergence of random series."), 0),
        };
        json!({"id": at.to_string(), "prompt": prompt, "results": {"m": {"score": score}}})
            .to_string()
            + "\n"
    };
    fs::write(dir.path().join("data.jsonl"), (0..40).map(line).collect::<String>()).unwrap();
    let arguments = ["calibrate-model", "--data", "data.jsonl", "--name", "m"];
    let text = printed(&run(dir.path(), &arguments));
    assert!(text.contains("m: 40 answers, 50.0 % failed"), "{text}");
    let found = printed(&run(dir.path(), &[&arguments[..], &["--json"]].concat()));
    let found: Value = serde_json::from_str(&found).unwrap();
    let fails = |at: usize| found["chances"][at]["fails"]["value"].as_f64().unwrap();
    assert!(fails(0) < 0.3 && fails(8) > 0.7, "{found}");
    assert!(found["below"].as_f64().is_some(), "{found}");

    let error =
        refused(&run(dir.path(), &["calibrate-model", "--data", "data.jsonl", "--name", "x"]));
    assert!(error.contains("no row has a result of `x`; the data knows: m"), "{error}");
}

/// Sixty labelled rows: easy ones both models answer, hard ones only the large one.
fn labelled() -> String {
    let line = |at: usize| {
        let (prompt, small) = match at % 3 {
            0 => (format!("Prove theorem {at} on the convergence of random series."), 0),
            _ => (format!("Say hello to guest {at}."), 1),
        };
        let results = json!({
            "small": {"score": small, "cost_usd": 0.001},
            "large": {"score": 1, "cost_usd": 0.01},
        });
        json!({"id": at.to_string(), "prompt": prompt, "results": results}).to_string() + "\n"
    };
    (0..60).map(line).collect()
}

#[test]
fn thresholds_are_tuned_shown_and_written_with_comments_kept() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("weighbridge.toml");
    fs::write(&config, CONFIG).unwrap();
    fs::write(dir.path().join("data.jsonl"), labelled()).unwrap();
    let goal = ["tune", "--data", "data.jsonl", "--keep-quality", "0.99"];
    let text = printed(&run(dir.path(), &goal));
    assert!(text.contains("-below = 0.5  # from the first week"), "{text}");
    assert_eq!(fs::read_to_string(&config).unwrap(), CONFIG, "without --write nothing changes");

    let text = printed(&run(dir.path(), &[&goal[..], &["--write", "--json"]].concat()));
    let tuned: Value = serde_json::from_str(&text).unwrap();
    let promised = &tuned["tuned"]["promised"];
    assert!(promised["quality_kept"]["value"].as_f64().unwrap() >= 0.99, "{tuned}");
    assert!(promised["cost_share"]["value"].as_f64().unwrap() < 0.6, "{tuned}");
    let written = fs::read_to_string(&config).unwrap();
    assert!(written.contains("# Thresholds are tuned monthly."));
    assert!(written.contains("  # from the first week") && !written.contains("below = 0.5 "));
    assert!(run(dir.path(), &["check"]).status.success(), "the written file is valid");

    let text = printed(&run(dir.path(), &["tune", "--data", "data.jsonl", "--table"]));
    assert!(text.contains("60 rows"), "{text}");
}

#[test]
fn recorded_traffic_tunes_shares_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("weighbridge.toml"), CONFIG).unwrap();
    fs::write(dir.path().join("log.jsonl"), log().repeat(10)).unwrap();
    let text = printed(&run(dir.path(), &["tune", "--log", "log.jsonl", "--strong-share", "0.2"]));
    assert!(text.contains("+below = 0.8  # from the first week"), "{text}");
    let error = refused(&run(dir.path(), &["tune", "--log", "log.jsonl", "--max-cost", "0.5"]));
    assert!(error.contains("only --strong-share can be tuned"), "{error}");
    let error = refused(&run(dir.path(), &["tune", "--log", "log.jsonl", "--strong-share", "2"]));
    assert!(error.contains("--strong-share is 2, which does not lie in 0..1"), "{error}");
}

/// [`CONFIG`] with a third tier between the two.
fn three_tiers() -> String {
    let middle = "[[policies.auto.tiers]]\nname = \"middle\"\nbelow = 0.7\nmodels = [\"medium\"]\n";
    let model = "[models.medium]\nprovider = \"local\"\n";
    let strong = "[[policies.auto.tiers]]\nname = \"strong\"";
    let config = CONFIG.replace(strong, &format!("{middle}{strong}"));
    config.replace("\n# Thresholds", &format!("{model}\n# Thresholds"))
}

/// Ninety rows of three kinds: each tier is the cheapest that answers one of them.
fn three_kinds() -> String {
    let line = |at: usize| {
        let (prompt, [small, medium]) = match at % 3 {
            0 => (format!("Prove theorem {at} on the convergence of random series."), [0, 0]),
            1 => (format!("Write a parser for dates, case {at}, in Python."), [0, 1]),
            _ => (format!("Say hello to guest {at}."), [1, 1]),
        };
        let results = json!({
            "small": {"score": small, "cost_usd": 0.001},
            "medium": {"score": medium, "cost_usd": 0.004},
            "large": {"score": 1, "cost_usd": 0.01},
        });
        json!({"id": at.to_string(), "prompt": prompt, "results": results}).to_string() + "\n"
    };
    (0..90).map(line).collect()
}

#[test]
fn three_tiers_are_tuned_for_every_goal_and_replayed_on_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("weighbridge.toml"), three_tiers()).unwrap();
    fs::write(path("data.jsonl"), three_kinds()).unwrap();
    let tuned = |goal: &[&str]| -> Value {
        let arguments = ["tune", "--data", "data.jsonl", "--cache", "cache", "--json"];
        serde_json::from_str(&printed(&run(dir.path(), &[&arguments[..], goal].concat()))).unwrap()
    };
    for (goal, figure, low, high) in [
        (["--keep-quality", "0.95"], "quality_kept", 0.95, 1.0),
        (["--max-cost", "0.6"], "cost_share", 0.3, 0.6),
    ] {
        let found = tuned(&goal);
        let value = found["tuned"]["promised"][figure]["value"].as_f64().unwrap();
        assert!((low..=high).contains(&value), "{goal:?}: {found}");
        assert_eq!(found["tuned"]["thresholds"].as_array().unwrap().len(), 2);
    }
    let found = tuned(&["--strong-share", "0.3"]);
    let strong = found["tuned"]["promised"]["shares"][2]["value"].as_f64().unwrap();
    assert!((strong - 0.3).abs() < 0.03, "{found}");
    assert_eq!(tuned(&["--table"])["table"].as_array().unwrap().len(), 7);

    fs::copy(path("weighbridge.toml"), path("old.toml")).unwrap();
    tuned(&["--keep-quality", "0.95", "--write"]);
    let replay = ["replay", "--data", "data.jsonl", "--cache", "cache"];
    let replayed = |more: &[&str]| -> Value {
        let arguments = [&replay[..], more, &["--json"]].concat();
        serde_json::from_str(&printed(&run(dir.path(), &arguments))).unwrap()
    };
    let found = replayed(&[]);
    assert_eq!(
        (&found["requests"], &found["before"]["tiers"]),
        (&json!(90), &json!({"strong": 90}))
    );
    assert_eq!(found["before"]["quality"]["value"], 1.0);
    assert_eq!(found["before"]["cost_nano_usd"], 900_000_000);
    let kept = found["after"]["quality"]["value"].as_f64().unwrap();
    assert!(kept >= 0.95 && found["after"]["cost_nano_usd"].as_i64().unwrap() < 700_000_000);
    let moved = found["flips"].as_array().unwrap().len();
    let strong = found["after"]["tiers"]["strong"].as_u64().unwrap_or(0) as usize;
    assert_eq!(moved + strong, 90, "who is not strong any more has moved");
    // Against the thresholds before: the same rows, both ways.
    let (there, back) = (
        replayed(&["--before", "old.toml"]),
        replayed(&["--before", "weighbridge.toml", "--config", "old.toml"]),
    );
    assert_eq!(there["after"]["tiers"], back["before"]["tiers"]);
    assert_eq!(there["before"]["quality"], back["after"]["quality"]);
    let change = |found: &Value| found["quality_change"]["value"].as_f64().unwrap();
    assert!((change(&there) + change(&back)).abs() < 1e-9);
    let text = printed(&run(dir.path(), &[&replay[..], &["--before", "old.toml"]].concat()));
    assert!(text.contains("90 requests") && text.contains("quality changes by"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_that_was_recorded_is_tuned_to_a_share_and_replayed_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("decisions.jsonl");
    let decisions = format!("\n[decisions]\nlog = {:?}\n", log.display().to_string());
    let house = House::open(&(TWO_TIERS.to_owned() + &decisions)).await;
    for at in 0..60 {
        let text = match at % 4 {
            0 => format!("Prove theorem {at} on the convergence of random series."),
            1 => format!("Write a parser for dates, case {at}, in Python."),
            2 => format!("Translate sentence {at} into French: the cat sleeps."),
            _ => format!("Say hello to guest {at}."),
        };
        let messages = json!([{"role": "user", "content": text}]);
        let response = house.chat(json!({"messages": messages})).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap();
    }
    let config = TWO_TIERS.replace("{base}", "http://127.0.0.1:9/v1");
    fs::write(dir.path().join("weighbridge.toml"), config).unwrap();
    house.close().await;

    let tune = ["tune", "--log", "decisions.jsonl", "--strong-share", "0.25", "--write"];
    printed(&run(dir.path(), &tune));
    let replay = ["replay", "--log", "decisions.jsonl", "--json"];
    let found: Value = serde_json::from_str(&printed(&run(dir.path(), &replay))).unwrap();
    assert_eq!(found["requests"], 60);
    assert_eq!(found["after"]["tiers"]["strong"], 15, "{found}");
    let before = found["before"]["tiers"]["strong"].as_i64().unwrap_or(0);
    assert_eq!(found["flips"].as_array().unwrap().len() as i64, (15 - before).abs());
    assert_eq!(found["after"]["priced"], 60);
}
