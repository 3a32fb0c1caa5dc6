//! `weighbridge models`: what is listed, from where, and refreshing it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

const CONFIG: &str = r#"
[providers.fast]
catalogue = "groq"
[providers.local]
base_url = "http://127.0.0.1:9/v1"

[models.known]
provider = "fast"
upstream_name = "openai/gpt-oss-120b"
[models.overridden]
provider = "fast"
upstream_name = "openai/gpt-oss-120b"
context_window = 1000
price = { input_usd_per_mtok = 9.0, output_usd_per_mtok = 10.0 }
[models.behind]
provider = "local"
catalogue = "openai/gpt-4o"
[models.new]
provider = "fast"
upstream_name = "of-tomorrow"

[policies.auto]
tiers = [{ name = "one", models = ["known", "overridden", "behind", "new"] }]
"#;

/// A list in LiteLLM's format with one model that nobody knows yet.
const LIST: &str = r#"{
  "groq/of-tomorrow": {
    "litellm_provider": "groq", "mode": "chat", "max_input_tokens": 4096,
    "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06,
    "supports_function_calling": true
  }
}"#;

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weighbridge"));
    command.current_dir(dir).env_clear().env("OLLAMA_HOST", "127.0.0.1:9");
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn configured() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("weighbridge.toml"), CONFIG).unwrap();
    fs::write(dir.path().join("list.json"), LIST).unwrap();
    dir
}

fn listed(dir: &Path, id: &str) -> Value {
    let text = stdout(&run(dir, &["models", "--json"]));
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.into_iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{id} in {text}"))
}

#[test]
fn configured_models_are_listed_with_where_each_figure_comes_from() {
    let dir = configured();
    let known = listed(dir.path(), "known");
    assert_eq!(known["context_window"], json!(131_072));
    assert_eq!(known["from"]["price"], json!("catalogue"));
    let overridden = listed(dir.path(), "overridden");
    assert_eq!(
        (&overridden["context_window"], &overridden["input_usd_per_mtok"]),
        (&json!(1000), &json!(9.0))
    );
    assert_eq!(overridden["from"]["price"], json!("configuration"));
    assert_eq!(overridden["from"]["abilities"], json!("catalogue"));
    assert_eq!(listed(dir.path(), "behind")["input_usd_per_mtok"], json!(2.5));
    let new = listed(dir.path(), "new");
    assert_eq!((&new["context_window"], &new["from"]["price"]), (&Value::Null, &json!("unknown")));
    let table = stdout(&run(dir.path(), &["models"]));
    assert!(
        table.contains("policy auto") && table.contains("price: configuration, window"),
        "{table}"
    );
}

#[test]
fn the_catalogue_is_listed_and_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let table = stdout(&run(dir.path(), &["models", "--all", "--provider", "groq", "120b"]));
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[1].starts_with("groq/openai/gpt-oss-120b  groq "), "{table}");
    assert!(rows[1].contains("litellm ") && rows.len() == 2, "{table}");
    let json = stdout(&run(dir.path(), &["models", "--all", "--json", "gemini/gemini-2.5-pro"]));
    let row: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(row["long_prompt"]["above_prompt_tokens"], json!(200_000));
    assert!(
        failure(&run(dir.path(), &["models", "--all", "no-such-model"])).contains("no such model")
    );
}

#[test]
fn a_new_model_can_be_used_once_a_list_names_it() {
    let dir = configured();
    let first = stdout(&run(dir.path(), &["models", "--refresh", "list.json"]));
    assert!(first.contains("+ groq/of-tomorrow\n1 added, 0 changed, 0 removed"), "{first}");
    let new = listed(dir.path(), "new");
    assert_eq!((&new["context_window"], &new["input_usd_per_mtok"]), (&json!(4096), &json!(1.0)));
    assert_eq!(new["from"]["price"], json!("local catalogue"));
    let written = fs::read(dir.path().join("weighbridge-models.json")).unwrap();
    let second = stdout(&run(dir.path(), &["models", "--refresh", "list.json"]));
    assert_eq!(second, "0 added, 0 changed, 0 removed\n");
    assert_eq!(fs::read(dir.path().join("weighbridge-models.json")).unwrap(), written);
}

#[test]
fn the_local_catalogue_is_where_the_configuration_says() {
    let dir = configured();
    let config = format!("[catalogue]\npath = \"state/models.json\"\n{CONFIG}");
    fs::write(dir.path().join("weighbridge.toml"), config).unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    stdout(&run(dir.path(), &["models", "--refresh", "list.json"]));
    assert!(dir.path().join("state/models.json").exists());
    assert_eq!(listed(dir.path(), "new")["context_window"], json!(4096));
    fs::write(dir.path().join("state/models.json"), "{\"format\":1}").unwrap();
    let check = run(dir.path(), &["check"]);
    let report = String::from_utf8(check.stdout).unwrap();
    assert!(
        report.contains("weighbridge.toml:2:8: error: catalogue.path: the local catalogue"),
        "{report}"
    );
}

#[test]
fn every_row_of_a_list_can_be_written_to_a_file() {
    let dir = configured();
    let written = ["models", "--refresh", "list.json", "--out", "all.json", "--date", "2026-11-22"];
    let said = stdout(&run(dir.path(), &[&written[..], &["--source", "a list"]].concat()));
    assert_eq!(said, "all.json: 1 models\n");
    let text = fs::read_to_string(dir.path().join("all.json")).unwrap();
    assert!(text.contains("\"source\":\"a list\",\n\"date\":\"2026-11-22\""), "{text}");
    assert!(!dir.path().join("weighbridge-models.json").exists());
}

#[test]
fn a_list_that_cannot_be_used_changes_nothing_and_says_why() {
    let dir = configured();
    for (text, expected) in [
        (
            LIST.replace("4096", "\"4k\""),
            "`groq/of-tomorrow`: `max_input_tokens`: expected a number of tokens, found \"4k\"",
        ),
        ("<html>".to_owned(), "it is not LiteLLM's price file"),
        ("{}".to_owned(), "no chat, responses or embedding model"),
    ] {
        fs::write(dir.path().join("list.json"), text).unwrap();
        let error = failure(&run(dir.path(), &["models", "--refresh", "list.json"]));
        assert!(error.contains(expected) && error.contains("list.json cannot be used"), "{error}");
        assert!(!dir.path().join("weighbridge-models.json").exists());
    }
    let error = failure(&run(dir.path(), &["models", "--refresh", "absent.json"]));
    assert!(error.contains("absent.json cannot be read"), "{error}");
}

/// Answers one request with this status and body.
fn serve_once(status: &'static str, body: &'static str) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/prices.json", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !seen.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..read]);
        }
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .unwrap();
    });
    (url, server)
}

#[test]
fn a_list_is_fetched_from_a_url_whose_query_stays_secret() {
    let dir = configured();
    let (url, server) = serve_once("200 OK", LIST);
    let said = stdout(&run(dir.path(), &["models", "--refresh", &format!("{url}?key=s3cret")]));
    server.join().unwrap();
    assert!(said.contains("1 added"), "{said}");
    let local = fs::read_to_string(dir.path().join("weighbridge-models.json")).unwrap();
    assert!(local.contains(&url) && !local.contains("s3cret"), "{local}");

    let (url, server) = serve_once("404 Not Found", "");
    let error = failure(&run(dir.path(), &["models", "--refresh", &format!("{url}?key=s3cret")]));
    server.join().unwrap();
    assert!(error.contains("404") && !error.contains("s3cret"), "{error}");
}
