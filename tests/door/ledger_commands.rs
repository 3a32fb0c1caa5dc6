//! `keys`, `teams`, `budgets`, `spend` and the like, through the real binary.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use weighbridge::ledger::{
    row::{Row, Tokens},
    secret,
    store::Store,
};

const CONFIG: &str = r#"
[providers.local]
dialect = "openai"
base_url = "http://127.0.0.1:9/v1"

[models.small]
provider = "local"
[models.large]
provider = "local"

[policies.auto]
default_tier = "strong"
tiers = [
  { name = "cheap", below = 0.4, models = ["small"] },
  { name = "strong", models = ["large"] },
]
"#;

/// A directory with a configuration and a ledger.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!("{CONFIG}\n[ledger]\nurl = \"sqlite:w.db\"\n");
        std::fs::write(dir.path().join("w.toml"), config).unwrap();
        Self(dir)
    }

    /// Runs a command line, whose words are parted by single spaces, outside of the directory.
    fn run(&self, line: &str) -> Output {
        weighbridge(Path::new("/"), &self.config(), line)
    }

    fn config(&self) -> String {
        self.0.path().join("w.toml").display().to_string()
    }

    /// The output of a command that succeeds.
    fn text(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.text(&format!("{line} --json"))).unwrap()
    }

    /// The message of a command that fails.
    fn refusal(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(!output.status.success(), "{line}: {}", text(&output.stdout));
        assert_eq!(text(&output.stdout), "", "{line}");
        text(&output.stderr)
    }

    async fn store(&self) -> Store {
        Store::open(&format!("sqlite:{}", self.0.path().join("w.db").display())).await.unwrap()
    }
}

fn weighbridge(dir: &Path, config: &str, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weighbridge"));
    command.current_dir(dir).env_clear().env("USER", "ada");
    command.args(line.split(' ').map(|word| word.trim_matches('\''))).args(["--config", config]);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_key_is_made_with_its_budget_and_only_its_hash_is_kept() {
    let desk = Desk::new();
    let made = desk.json("keys create --name ci --budget-usd 0.01 --budget-window day");
    let (id, secret) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(secret.starts_with("wb-") && secret.len() == 46, "{secret}");
    let store = desk.store().await;
    let keys = store.keys().await.unwrap();
    assert_eq!((keys.len(), keys[0].id.as_str()), (1, id));
    let hash_key = weighbridge::ledger::hash_key(&store).await.unwrap();
    assert_eq!(keys[0].hash, secret::hash(&hash_key, secret));
    let budget = &store.budgets().await.unwrap()[0];
    assert_eq!((budget.amount, budget.window.to_string().as_str()), (10_000_000, "day"));
    assert_eq!((budget.scope.id.as_str(), budget.hard), (id, true));
    store.close().await;
    for file in std::fs::read_dir(desk.0.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the secret is in a file");
    }
}

#[test]
fn keys_live_from_making_to_revocation() {
    let desk = Desk::new();
    desk.text("organisations create --name acme");
    desk.text("teams create --name research --organisation acme");
    desk.text("projects create --name bot --team research");
    let made = desk.json(
        "keys create --name ci --project bot --expires 90d --models small,large --tiers cheap \
         --policies auto --networks 10.0.0.0/8,192.168.1.1 --cache off --rpm 60 --tpm 1000 \
         --concurrent 2 --budget-tokens 5000 --when-spent cheap_tier --warn-at 80,50 --time-zone \
         Europe/Berlin",
    );
    assert_eq!(made["budgets"].as_array().unwrap().len(), 4);
    assert_eq!(made["restrictions"]["networks"], json!(["10.0.0.0/8", "192.168.1.1/32"]));
    let shown = desk.json("keys show ci");
    assert_eq!(shown["group_name"], "bot");
    assert_eq!(shown["restrictions"]["cache"], false);
    let money = shown["budgets"].as_array().unwrap().iter().find(|b| b["kind"] == "budget");
    let money = money.unwrap();
    assert_eq!(money["warn_at_percent"], json!([50, 80]));
    assert_eq!((&money["when_spent"], &money["window"]), (&json!("cheap_tier"), &json!("month")));
    assert!(shown.get("key").is_none() && shown.get("hash").is_none());

    let first = made["key"].as_str().unwrap();
    let rotated = desk.json("keys rotate ci --grace 2h");
    assert_eq!(rotated["id"], made["id"]);
    assert_ne!(rotated["key"].as_str().unwrap(), first);
    let valid = rotated["previous_valid_until_ms"].as_i64().unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    assert!((now + 7_100_000..=now + 7_200_000).contains(&valid));

    desk.text("keys update ci --name build --no-group --expires never --models '' --cache on");
    let shown = desk.json("keys show build");
    assert_eq!((&shown["group"], &shown["expires_ms"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&shown["restrictions"]["models"], &shown["restrictions"]["cache"]),
        (&json!([]), &json!(true))
    );
    assert_eq!(shown["restrictions"]["tiers"], json!(["cheap"]), "what was not named stays");

    let listed = desk.text("keys list");
    assert!(listed.contains("build") && listed.contains("active"), "{listed}");
    desk.text("keys revoke build");
    assert_eq!(desk.json("keys list"), json!([]));
    let all = desk.json("keys list --all");
    assert_eq!((&all[0]["state"], &all[0]["name"]), (&json!("revoked"), &json!("build")));
    assert!(desk.refusal("keys show build").contains("there is no key `build`"));
    let id = made["id"].as_str().unwrap();
    assert!(desk.refusal(&format!("keys rotate {id}")).contains("is revoked"));
    // Its name is free for another.
    let text = desk.run("keys create --name build");
    assert!(self::text(&text.stdout).starts_with("wb-"));
    assert!(self::text(&text.stderr).contains("shown only now"));
}

#[test]
fn every_change_is_in_the_audit_with_who() {
    let desk = Desk::new();
    desk.text("keys create --name ci --rpm 5");
    desk.text("keys revoke ci");
    let entries = desk.json("audit");
    let what: Vec<_> = entries
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["action"], &entry["kind"]))
        .collect();
    assert_eq!(json!(what), json!([["revoke", "key"], ["create", "limit"], ["create", "key"]]));
    assert!(entries.as_array().unwrap().iter().all(|entry| entry["actor"] == "cli:ada"));
    let table = desk.text("audit --limit 1");
    assert!(table.contains("revoke key") && table.lines().count() == 2, "{table}");
    assert_eq!(desk.json("audit --before 2").as_array().unwrap().len(), 1);
}

#[test]
fn budgets_are_set_listed_and_deleted() {
    let desk = Desk::new();
    desk.text("teams create --name research");
    let money =
        desk.json("budgets create --team research --usd 2.5 --window week --soft --warn-at 90");
    assert_eq!((&money["amount_usd"], &money["hard"]), (&json!("2.50"), &json!(false)));
    let limit = desk.json("budgets create --model small --requests 10");
    assert_eq!((&limit["kind"], &limit["window"]), (&json!("limit"), &json!("minute")));
    let hour =
        desk.json("budgets create --team research --tokens 7 --kind limit --window rolling-1h");
    assert_eq!((&hour["kind"], &hour["window"]), (&json!("limit"), &json!("rolling-1h")));
    let table = desk.text("budgets list");
    for cell in ["team research", "$2.50", "a week", "$0.00", "90%", "10 requests", "model small"] {
        assert!(table.contains(cell), "{cell}: {table}");
    }
    let id = money["id"].as_str().unwrap();
    let raised = desk.json(&format!("budgets update {id} --amount 7.5 --hard --warn-at 50,95"));
    assert_eq!((&raised["amount_usd"], &raised["hard"]), (&json!("7.50"), &json!(true)));
    assert_eq!((&raised["warn_at_percent"], &raised["window"]), (&json!([50, 95]), &json!("week")));
    desk.text(&format!("budgets delete {id}"));
    assert_eq!(desk.json("budgets list").as_array().unwrap().len(), 2);
    desk.text("teams delete research");
    assert_eq!(desk.json("budgets list").as_array().unwrap().len(), 1);
    assert_eq!(desk.json("teams list"), json!([]));
}

#[test]
fn groups_are_renamed_and_moved() {
    let desk = Desk::new();
    let acme = desk.json("organisations create --name acme");
    let team = desk.json("teams create --name research");
    let moved = desk.json("teams update research --organisation acme");
    assert_eq!((&moved["id"], &moved["parent"]), (&team["id"], &acme["id"]));
    let named = desk.json("teams update research --name search");
    assert_eq!((&named["name"], &named["parent"]), (&json!("search"), &acme["id"]));
    let alone = desk.json("teams update search --no-parent");
    assert_eq!(alone["parent"], Value::Null);
    for (line, said) in [
        ("teams update search", "nothing was to be changed"),
        ("teams update research --name x", "there is no team `research`"),
        ("teams update search --no-parent --organisation acme", "exclude each other"),
    ] {
        let found = desk.refusal(line);
        assert!(found.contains(said), "{line}: {found}");
    }
}

#[test]
fn what_is_wrong_names_the_flag_and_the_fix() {
    let desk = Desk::new();
    desk.text("keys create --name ci");
    desk.text("teams create --name research");
    for (line, said) in [
        ("keys create --name ci", "there is already a key named `ci`"),
        ("keys create --name ''", "--name: write 1 to 200 characters"),
        ("keys create --name a --budget-usd 1e3", "--budget-usd `1e3` is no amount"),
        ("keys create --name a --budget-usd 0.0000000001", "at most nine decimals"),
        ("keys create --name a --budget-usd=-1", "--budget-usd `-1`"),
        ("keys create --name a --budget-window day", "add --budget-usd or --budget-tokens"),
        ("keys create --name a --budget-usd 1 --budget-window year", "--budget-window `year`"),
        ("keys create --name a --soft", "--soft is about a budget"),
        ("keys create --name a --rpm=-3", "--rpm `-3` is negative"),
        ("keys create --name a --expires yesterday", "--expires `yesterday` is no moment"),
        ("keys create --name a --expires 2001-01-01", "--expires `2001-01-01` has passed"),
        (
            "keys create --name a --models smal",
            "--models: there is no model `smal`: did you mean `small`?",
        ),
        (
            "keys create --name a --tiers x",
            "--tiers: there is no tier `x`: use one of: cheap, strong",
        ),
        ("keys create --name a --policies aut", "did you mean `auto`?"),
        ("keys create --name a --networks 10.0.0.0/99", "--networks `10.0.0.0/99`"),
        (
            "keys create --name a --team reserch",
            "there is no team `reserch`: did you mean `research`?",
        ),
        ("keys create --name a --budget-usd 1 --time-zone Mars", "--time-zone `Mars`"),
        ("keys rotate ci --grace soon", "--grace `soon`"),
        ("keys revoke cj", "there is no key `cj`"),
        ("budgets create --key ci", "required"),
        ("budgets create --usd 1", "required"),
        ("budgets create --key ci --usd 1 --tokens 2", "cannot be used with"),
        ("budgets create --key ci --requests 1 --when-spent reject", "--kind budget"),
        ("budgets update budget_x --amount 1", "there is no budget `budget_x`"),
        ("budgets delete budget_x", "there is no budget `budget_x`"),
        (
            "teams create --name t --organisation acme",
            "`weighbridge organisations create --name NAME`",
        ),
        ("spend --by modell", "--by `modell` is not a dimension: did you mean `model`?"),
        ("spend --by key,key", "--by names key twice"),
        ("spend --filter small", "--filter `small` has no ="),
        ("spend --from someday", "--from `someday`"),
        ("usage --csv /nowhere/x.csv", "/nowhere/x.csv cannot be written"),
    ] {
        let refusal = desk.refusal(line);
        assert!(refusal.contains(said), "{line}: {refusal}");
        assert!(refusal.matches("there is no").count() < 2, "said once: {refusal}");
    }
    assert_eq!(desk.json("keys list").as_array().unwrap().len(), 1, "nothing was made");

    let bare = tempfile::tempdir().unwrap();
    let path = bare.path().join("bare.toml");
    std::fs::write(&path, CONFIG).unwrap();
    let output = weighbridge(bare.path(), &path.display().to_string(), "keys list");
    assert!(text(&output.stderr).contains("add a [ledger] table"), "{}", text(&output.stderr));
}

/// Three requests of two keys, one of them in the open, at moments of two days.
async fn spent(desk: &Desk) {
    let id = |made: Value| made["id"].as_str().map(str::to_owned);
    let ci = id(desk.json("keys create --name ci"));
    let row = |id: &str, key: &Option<String>, day: i64, cost: Option<i64>| Row {
        id: id.to_owned(),
        key_id: key.clone(),
        time_ms: (20_000 + day) * 86_400_000,
        model: Some(if day == 0 { "small" } else { "large" }.to_owned()),
        tier: Some("cheap".to_owned()),
        tags: vec![("feature".to_owned(), format!("f,{id}"))],
        tokens: Tokens { prompt: 10, completion: 3, ..Tokens::default() },
        cost_nano_usd: cost,
        strong_cost_nano_usd: cost.map(|cost| cost + 5),
        outcome: "finished".to_owned(),
        ..Row::default()
    };
    let rows = [
        row("a", &ci, 0, Some(1)),
        row("b", &ci, 1, Some(9_007_199_254_740_980)),
        row("c", &None, 1, None),
    ];
    let store = desk.store().await;
    store.insert_rows(&rows).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn spend_prints_rows_whose_money_is_exact_to_nine_decimals() {
    let desk = Desk::new();
    assert_eq!(desk.text("spend --by model --json"), "[]\n");
    assert_eq!(desk.text("spend"), "no requests\n");
    spent(&desk).await;
    let rows = desk.text("spend --by key --json");
    // As text: a float would round it.
    assert!(rows.contains("\"cost_usd\":9007199.254740981,"), "{rows}");
    assert!(rows.contains("\"saved_usd\":0.00000001}"), "{rows}");
    let rows: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!((&rows[0]["key"], &rows[1]["key"]), (&json!("ci"), &Value::Null));
    assert_eq!(
        [&rows[0]["requests"], &rows[0]["prompt_tokens"], &rows[0]["completion_tokens"]],
        [2, 20, 6]
    );
    for by in ["model", "tier", "project", "tag:feature"] {
        let rows = desk.json(&format!("spend --by {by}"));
        let rows = rows.as_array().unwrap();
        assert!(rows.iter().all(|row| row.get(by).is_some()), "{by}");
        assert_eq!(rows.iter().map(|row| row["requests"].as_u64().unwrap()).sum::<u64>(), 3);
    }
    let table = desk.text("spend");
    assert!(table.contains("9007199.254740981") && table.contains("KEY"), "{table}");
    assert!(
        !table.contains("KEY ID")
            && table.contains("1 requests used nothing, or a model without a price")
    );
    let days = desk.json("spend --by model --step day --filter key=ci --from 2024-10-04");
    assert_eq!(days.as_array().unwrap().len(), 2);
    assert_eq!(days[1]["start"], "2024-10-05T00:00:00Z");
    let first = desk.json("usage --to 2024-10-05");
    assert_eq!((&first[0]["requests"], &first[0]["unpriced"]), (&json!(1), &json!(0)));
    assert_eq!(desk.json("usage --from 1h"), json!([]));
}

#[tokio::test]
async fn what_was_spent_is_exported_as_csv_and_parquet() {
    use parquet::{
        file::reader::{FileReader as _, SerializedFileReader},
        record::Field,
    };
    let desk = Desk::new();
    spent(&desk).await;
    let csv = desk.text("spend --by tag:feature,project --step day --csv -");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(
        reader.headers().unwrap().iter().take(5).collect::<Vec<_>>(),
        ["start", "tag:feature", "project", "project_id", "requests"]
    );
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let first: Vec<&str> = records[0].iter().take(8).collect();
    assert_eq!(
        first,
        ["2024-10-04T00:00:00Z", "f,a", "", "", "1", "10", "3", "0.000000001"],
        "{csv}"
    );

    let path = desk.0.path().join("x.parquet");
    let line = format!("spend --by key,project --step day --parquet {}", path.display());
    assert_eq!(desk.text(&line), "");
    let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3);
    let cell = |row: usize, name: &str| {
        let found = rows[row].get_column_iter().find(|(column, _)| *column == name);
        found.unwrap().1.clone()
    };
    assert_eq!(cell(0, "key"), Field::Str("ci".to_owned()));
    assert_eq!(cell(2, "key"), Field::Null);
    assert_eq!(cell(1, "project"), Field::Null);
    assert_eq!(cell(0, "start"), Field::TimestampMillis(20_000 * 86_400_000));
    assert_eq!(cell(1, "requests"), Field::Long(1));
    assert_eq!(cell(1, "cost_usd").to_string(), "9007199.254740980");
    // An empty answer is a file as well.
    desk.text(&format!("spend --from 1h --parquet {}", path.display()));
    let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
}
