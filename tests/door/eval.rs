//! `weighbridge eval` through the program: rows in every layout, reports out.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use parquet::{
    data_type::{ByteArray, ByteArrayType, DoubleType},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use serde_json::{Value, json};
use weighbridge::telemetry::decisions::{Decided, Feedback, Line};

fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weighbridge"));
    command.current_dir(dir).arg("eval").args(args).args(["--draws", "50"]).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs, and reads what `--json` wrote.
fn report(dir: &Path, args: &[&str]) -> Value {
    let output = run(dir, &[args, &["--json", "out.json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    let text = std::fs::read_to_string(dir.join("out.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

const PAIR: [&str; 4] = ["--strong", "big-1.5", "--weak", "small"];

/// `(prompt, big, small)`: the small model fails on proofs; one row in ten tells nothing.
fn prompts() -> Vec<(String, f64, f64)> {
    let prompt = |row: usize| match row % 2 {
        0 => (format!("Prove lemma {row}, step by step,\nwith \"care\""), 1.0, 0.0),
        _ => (format!("Say hi {row}"), 1.0, if row % 10 == 1 { 0.5 } else { 1.0 }),
    };
    (0..40).map(prompt).collect()
}

fn jsonl() -> String {
    let mut text = String::new();
    for (row, (prompt, big, small)) in prompts().into_iter().enumerate() {
        let line = json!({
            "id": row, "prompt": prompt, "dataset": "own", "category": (["proof", "chat"][row % 2]),
            "contaminated": row == 39,
            "results": {
                "big-1.5": {"score": big, "cost_usd": 0.01, "in_tokens": 10, "out_tokens": 20},
                "small": {"score": small, "cost_usd": 0.001},
                "another": null,
            },
        });
        writeln!(text, "{line}").unwrap();
    }
    text
}

#[test]
fn a_pair_is_judged_with_baselines_intervals_and_n() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.jsonl"), jsonl()).unwrap();
    let args = [&["--data", "own.jsonl", "--html", "r.html", "--svg", "plots"], &PAIR[..]].concat();
    let args = [args.as_slice(), &["--cache", "cache", "--results", "results.json"]].concat();
    let found = report(dir.path(), &args);
    let routed = &found["reports"][0]["routed"];
    assert_eq!(routed["n"], 40);
    assert_eq!(routed["cost_unit"], "usd");
    let routers = routed["routers"].as_array().unwrap();
    let names: Vec<&str> = routers.iter().map(|router| router["name"].as_str().unwrap()).collect();
    let expected = [
        "model",
        "always cheap",
        "always strong",
        "random",
        "length",
        "words",
        "category",
        "oracle",
    ];
    assert_eq!(names, expected);
    let figure = |name: &str, figure: &str| {
        let router = routers.iter().find(|router| router["name"] == name).unwrap();
        router["figures"][figure].clone()
    };
    for name in ["apgr", "cpt50", "aiq", "auroc", "brier", "ece", "regret", "pgr", "arena"] {
        let interval = figure("model", name);
        let [value, low, high] =
            ["value", "low", "high"].map(|key| interval[key].as_f64().unwrap());
        assert!(low <= value + 1e-9 && value <= high + 1e-9, "{name}: {interval}");
    }
    // 20 proofs are failed by the small model, 4 of the others half: 18 of 40 are lost.
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(near(&figure("always cheap", "quality")["value"], 18.0 / 40.0));
    assert!(near(&figure("always strong", "cost")["value"], 0.01));
    assert!(near(&figure("oracle", "regret")["value"], 0.0));
    assert!(near(&figure("oracle", "cost")["value"], (24.0 * 0.01 + 16.0 * 0.001) / 40.0));
    assert!(figure("words", "auroc")["value"].as_f64().unwrap() > 0.8);
    assert!(figure("always cheap", "apgr").is_null());
    let confusion = routed["confusion"].as_array().unwrap();
    let counts = confusion.iter().flat_map(|row| row.as_array().unwrap());
    assert_eq!(counts.map(|count| count.as_u64().unwrap()).sum::<u64>(), 40);
    assert_eq!(found["reports"][0]["sources"][0]["sha256"].as_str().unwrap().len(), 64);
    assert!(found["machine"]["cores"].as_u64().unwrap() > 0);

    let page = std::fs::read_to_string(dir.path().join("r.html")).unwrap();
    for outside in ["http://", "https://", "src=", "<script", "@import", "url(", "<link"] {
        assert!(!page.contains(outside), "the page reaches outside: {outside}");
    }
    assert_eq!(page.matches("<svg").count(), 5);
    assert_eq!(page.matches("<svg").count(), page.matches("<desc").count());
    for heading in ["Cost and quality", "Calibration", "Scores", "By category", "Confusion"] {
        assert!(page.contains(&format!("<h3>{heading}")), "no visible heading: {heading}");
    }
    assert!(page.contains("<th scope=\"row\">oracle</th>"), "tables are tables");
    let plots: Vec<_> = std::fs::read_dir(dir.path().join("plots")).unwrap().collect();
    assert_eq!(plots.len(), 5);

    let again = report(dir.path(), &args);
    assert_eq!(again["reports"], found["reports"], "the cache and the seed give the same figures");
    let output = run(dir.path(), &[&["--data", "own.jsonl"], &PAIR[..]].concat());
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for named in ["40 rows judged of 40 read", "APGR", "oracle", "best: strong", "own / proof"] {
        assert!(table.contains(named), "{named}: {table}");
    }
}

#[test]
fn a_model_compared_with_itself_differs_by_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.jsonl"), jsonl()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/weighbridge-minilm");
    let args = ["--data", "own.jsonl", "--against", root.to_str().unwrap()];
    let found = report(dir.path(), &[&args, &PAIR[..]].concat());
    let difference = &found["reports"][0]["routed"]["difference"];
    for figure in ["apgr", "quality", "cost_at_equal_quality", "ece"] {
        assert_eq!(difference[figure], json!({"value": 0.0, "low": 0.0, "high": 0.0}), "{figure}");
    }
}

#[test]
fn one_set_of_rows_gives_the_same_figures_in_every_storage() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("own.jsonl"), jsonl()).unwrap();
    let packed = std::fs::File::create(path("packed.jsonl.gz")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
    packed.write_all(jsonl().as_bytes()).unwrap();
    packed.finish().unwrap();
    let mut csv = csv::Writer::from_path(path("own.csv")).unwrap();
    let columns = ["id", "prompt", "dataset", "category", "results.big-1.5.score"];
    let costs = ["results.big-1.5.cost_usd", "results.small.score", "results.small.cost_usd"];
    csv.write_record(columns.iter().chain(&costs)).unwrap();
    for (row, (prompt, big, small)) in prompts().into_iter().enumerate() {
        let category = ["proof", "chat"][row % 2];
        let (row, big, small) = (row.to_string(), big.to_string(), small.to_string());
        csv.write_record([&row, &prompt, "own", category, &big, "0.01", &small, "0.001"]).unwrap();
    }
    csv.flush().unwrap();
    write_parquet(&path("own.parquet"));

    let figures = |file: &str| {
        let found =
            report(dir.path(), &[&["--data", file, "--cache", "cache"], &PAIR[..]].concat());
        found["reports"][0]["routed"]["routers"].clone()
    };
    let expected = figures("own.jsonl");
    for file in ["packed.jsonl.gz", "own.csv", "own.parquet"] {
        assert_eq!(figures(file), expected, "{file}");
    }
}

/// Flat columns; the strong model's are a struct of a struct.
fn write_parquet(path: &Path) {
    let schema = "message rows {
        required binary id (UTF8); required binary prompt (UTF8);
        required binary dataset (UTF8); required binary category (UTF8);
        required double results.small.score; required double results.small.cost_usd;
        required group results { required group big-1.5 { required double score; required double cost_usd; } }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let compressed =
        WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY);
    let properties = Arc::new(compressed.build());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let rows = prompts();
    let text = |of: &dyn Fn(usize) -> String| -> Vec<ByteArray> {
        (0..rows.len()).map(|row| ByteArray::from(of(row).as_str())).collect()
    };
    let texts = [
        text(&|row| row.to_string()),
        text(&|row| rows[row].0.clone()),
        text(&|_| "own".to_owned()),
        text(&|row| ["proof", "chat"][row % 2].to_owned()),
    ];
    let numbers: [Vec<f64>; 4] = [
        rows.iter().map(|(_, _, small)| *small).collect(),
        vec![0.001; rows.len()],
        rows.iter().map(|(_, big, _)| *big).collect(),
        vec![0.01; rows.len()],
    ];
    let mut group = writer.next_row_group().unwrap();
    for column in &texts {
        let mut to = group.next_column().unwrap().unwrap();
        to.typed::<ByteArrayType>().write_batch(column, None, None).unwrap();
        to.close().unwrap();
    }
    for column in &numbers {
        let mut to = group.next_column().unwrap().unwrap();
        to.typed::<DoubleType>().write_batch(column, None, None).unwrap();
        to.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn public_layouts_are_known_by_their_content() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("mmlu/contaminated_prompts.jsonl", "{\"eval_prompt\": \"Known?\"}\n");
    write(
        "mmlu/responses/mmlu_anatomy.csv",
        "prompt,small,big-1.5\nOne?,True,True\nTwo?,False,True\nKnown?,False,True\n",
    );
    let found = report(dir.path(), &[&["--data", "mmlu/responses"], &PAIR[..]].concat());
    let routed = &found["reports"][0]["routed"];
    assert_eq!((&routed["n"], &routed["cost_unit"]), (&json!(2), &json!("strong_share")));
    assert_eq!(routed["categories"][0]["name"], "mmlu / anatomy");

    let bench = concat!(
        "sample_id,prompt,eval_name,small,big-1.5,small|total_cost,big-1.5|total_cost,small|model_response,oracle_model_to_route_to\n",
        "a.1,\"['One?', 'Now.']\",arc,0.0,1.0,0.001,0.01,\"['x']\",big-1.5\n",
        "a.2,Two?,arc,1.0,1.0,0.001,0.01,y,small\n",
    );
    write("bench.csv", bench);
    let found = report(dir.path(), &[&["--data", "bench.csv"], &PAIR[..]].concat());
    let routed = &found["reports"][0]["routed"];
    assert_eq!((&routed["n"], &routed["cost_unit"]), (&json!(2), &json!("usd")));

    let arena = json!([
        {"global index": "ArcMMLU_1", "prompt": "One?", "prediction": "small", "accuracy": 1.0, "cost": 0.001, "for_optimality": false},
        {"global index": "ArcMMLU_1", "prompt": "One?", "prediction": "big-1.5", "accuracy": 1.0, "cost": 0.01, "for_optimality": true},
        {"global index": "ArcMMLU_2", "prompt": "Two?", "prediction": "big-1.5", "accuracy": 0.0, "cost": 0.01},
        {"global index": "ArcMMLU_3", "prompt": "Three?", "prediction": "big-1.5", "accuracy": null, "cost": null},
    ]);
    write("arena.json", &arena.to_string());
    let found = report(dir.path(), &["--data", "arena.json"]);
    let served = &found["reports"][0]["served"];
    assert_eq!((&served["n"], &served["quality"]["value"]), (&json!(2), &json!(0.5)));
    assert!(served["arena"].as_f64().unwrap() > 0.0);
    let found = report(dir.path(), &[&["--data", "arena.json"], &PAIR[..]].concat());
    assert_eq!(found["reports"][0]["routed"]["n"], 1);
}

#[test]
fn the_gateways_own_log_is_judged_by_its_feedback() {
    let dir = tempfile::tempdir().unwrap();
    let decision = |id: &str, score: f32, model: Option<&str>| {
        Line::Decision(Box::new(Decided {
            id: id.to_owned(),
            policy: Some("auto".to_owned()),
            score: Some(score),
            threshold: Some(0.42),
            tier: model.map(|_| "t".to_owned()),
            served_model: model.map(str::to_owned),
            cost_usd: model.map(|_| "0.001".to_owned()),
            ..Decided::default()
        }))
    };
    let feedback = |id: &str, score| {
        Line::Feedback(Feedback { id: id.to_owned(), score, ..Feedback::default() })
    };
    let log = [
        feedback("b", 0.0),
        decision("a", 0.1, Some("small")),
        decision("b", 0.3, Some("small")),
        decision("c", 0.9, Some("big-1.5")),
        // Nobody was asked.
        decision("d", 0.9, None),
        feedback("a", 1.0),
    ];
    let mut text: String =
        log.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
    text += "{\"type\":\"deci";
    std::fs::write(dir.path().join("log.jsonl"), text).unwrap();
    let found = report(dir.path(), &["--data", "log.jsonl"]);
    let served = &found["reports"][0]["served"];
    assert_eq!((&served["n"], &served["judged"]), (&json!(3), &json!(2)));
    assert_eq!(served["scores"]["auroc"], 1.0);
    assert!((served["usd_per_thousand"]["value"].as_f64().unwrap() - 1.0).abs() < 1e-9);
}

#[test]
fn a_run_that_was_killed_goes_on_from_its_cache() {
    let dir = tempfile::tempdir().unwrap();
    let row = |at: usize| {
        let results = json!({"big-1.5": {"score": 1}, "small": {"score": at % 2}});
        json!({"prompt": format!("Question {at}, please."), "results": results}).to_string() + "\n"
    };
    let rows: String = (0..300).map(row).collect();
    std::fs::write(dir.path().join("own.jsonl"), rows).unwrap();
    let args = [&["--data", "own.jsonl", "--draws", "20"], &PAIR[..]].concat();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weighbridge"));
    command.current_dir(dir.path()).arg("eval").args(&args).args(["--cache", "cache"]);
    let mut killed = command.stdout(Stdio::null()).spawn().unwrap();
    let cache = dir.path().join("cache");
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.len());
    while bytes(&cache) < 20_000 && killed.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = std::fs::read(&cache).unwrap();
    // 32 bytes of key; a record is a digest of 32 bytes and 384 numbers of 4.
    let record = 32 + 4 * 384;
    let whole = (before.len() - 32) / record * record + 32;
    assert!(whole > 32 + 5 * record, "some were kept");
    let resumed = command.stdout(Stdio::piped()).output().unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    let after = std::fs::read(&cache).unwrap();
    assert_eq!(after[..whole], before[..whole], "what was kept is not computed again");
    assert_eq!(after.len(), 32 + 300 * record, "each text is kept once");
    let plain = Command::new(env!("CARGO_BIN_EXE_weighbridge"))
        .current_dir(dir.path())
        .arg("eval")
        .args(&args)
        .output()
        .unwrap();
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text(&resumed), text(&plain));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.jsonl"), jsonl()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weighbridge"))
        .current_dir(dir.path())
        .args(["eval", "--data", "own.jsonl", "--draws", "20", "--json", "out.json"])
        .args(PAIR)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(dir.path().join("out.json").exists(), "files are written first");
}

#[test]
fn a_policy_and_a_suite_are_judged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("own.jsonl"), jsonl()).unwrap();
    let config = "[providers.p]\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n[models.small]\nprovider = \"p\"\n[models.mine]\nprovider = \"p\"\nupstream_name = \"big-1.5\"\n[policies.auto]\ndefault_tier = \"top\"\n[[policies.auto.tiers]]\nname = \"base\"\nbelow = 0.3\nmodels = [\"small\"]\n[[policies.auto.tiers]]\nname = \"top\"\nmodels = [\"mine\"]\n";
    std::fs::write(dir.path().join("w.toml"), config).unwrap();
    let found = report(dir.path(), &["--data", "own.jsonl", "--config", "w.toml"]);
    let tiers = &found["reports"][0]["routed"]["tiers"];
    assert_eq!((&tiers[0]["name"], &tiers[1]["models"]), (&json!("base"), &json!({"big-1.5": 40})));

    let suite = "name = \"own\"\nabout = \"ours\"\n[[sets]]\nname = \"one\"\nfile = \"own.jsonl\"\nstrong = \"big-1.5\"\nweak = \"small\"\ndrop = { contaminated = true }\n";
    std::fs::write(dir.path().join("own.toml"), suite).unwrap();
    let args = ["--suite", "own.toml", "--from", ".", "--html", "r.html", "--cache", "cache"];
    let found = report(dir.path(), &args);
    assert_eq!(
        (&found["suite"], &found["reports"][0]["rows"]["dropped"]),
        (&json!("own"), &json!(1))
    );
    assert_eq!(found["reports"][0]["routed"]["n"], 39);

    // What it shows is the suite's choice; what it records is always whole.
    let choice = |text: &str| format!("report = {text}\n{suite}");
    std::fs::write(dir.path().join("own.toml"), choice("[\"apgr\", \"calibration\"]")).unwrap();
    assert_eq!(report(dir.path(), &args)["reports"], found["reports"]);
    let page = std::fs::read_to_string(dir.path().join("r.html")).unwrap();
    assert_eq!((page.matches("<svg").count(), page.matches("<table").count()), (1, 1));
    assert!(page.contains(">APGR<") && !page.contains(">CPT50<"), "{page}");
    std::fs::write(dir.path().join("own.toml"), choice("[\"apgrr\"]")).unwrap();
    let output = run(dir.path(), &args);
    assert!(stderr(&output).contains("`report` names `apgrr`; use some of"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_read_is_named_with_its_place_and_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let good = r#"{"prompt":"a","results":{"big-1.5":{"score":1},"small":{"score":0}}}"#;
    for (file, text, sentences) in [
        (
            "a.jsonl",
            format!("{good}\n{{\"prompt\":1}}"),
            ["a.jsonl, line 2", "prompt: invalid type"],
        ),
        (
            "b.jsonl",
            format!("{good}\n\n{}", good.replace("\"score\":1", "\"score\":7")),
            ["b.jsonl, line 3", "the score of `big-1.5` is 7, which does not lie in 0..1"],
        ),
        (
            "c.csv",
            "prompt,results.small.score\nHi,x\n".to_owned(),
            ["c.csv, line 2", "`results.small.score` is \"x\", which is no number"],
        ),
        ("d.csv", "question,answer\n1,2\n".to_owned(), ["d.csv", "--format rows|routellm"]),
        ("e.csv", "prompt,results.small.score\nHi\n".to_owned(), ["e.csv", "line: 2"]),
        ("f.pkl", String::new(), ["f.pkl", "save the table as CSV or Parquet"]),
        ("g.parquet", "nothing".to_owned(), ["g.parquet", "is no Parquet file"]),
        ("h.json", "{}".to_owned(), ["h.json", "predictions are a list"]),
        ("i.jsonl", String::new(), ["i.jsonl", "holds no row"]),
        (
            "j.jsonl",
            good.replace("big-1.5", "other"),
            ["no row has results of every tier", "the data has: other (1 rows), small (1 rows)"],
        ),
        (
            "k.jsonl",
            good.replace("{\"score\":1}", "{\"score\":1,\"cost_usd\":-1}"),
            ["k.jsonl, line 1", "the cost of `big-1.5` is -1, which is no amount of dollars"],
        ),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
        let output = run(dir.path(), &[&["--data", file], &PAIR[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{file}");
        for sentence in sentences {
            assert!(stderr(&output).contains(sentence), "{file}: {}", stderr(&output));
        }
    }
    std::fs::write(dir.path().join("good.jsonl"), good).unwrap();
    let output = run(dir.path(), &["--data", "good.jsonl"]);
    assert!(stderr(&output).contains("name the models with --strong and --weak"));
}
