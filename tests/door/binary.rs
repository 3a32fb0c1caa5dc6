//! The real binary, from outside.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

fn weighbridge(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weighbridge"));
    command.current_dir(dir).env_clear();
    // Nothing listens here: a developer's own Ollama must not change what the tests see.
    command.env("OLLAMA_HOST", "127.0.0.1:9");
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    weighbridge(dir).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_text_is_scored_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["score", "What is 2+2?"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let line = lines(&output).remove(0);
    for field in ["id", "score", "tier", "policy", "model", "reason"] {
        assert!(line.get(field).is_some(), "{field} is missing in {line}");
    }
    assert!((0.0..=1.0).contains(&line["score"].as_f64().unwrap()));
    assert_eq!(stdout(&run(dir.path(), &["score", "What is 2+2?"])), stdout(&output));
}

#[test]
fn lines_are_scored_in_order_and_a_bad_one_does_not_stop_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    let text = concat!(
        "{\"id\":\"a\",\"prompt\":\"Hello\"}\n",
        "not json\n",
        "\n",
        "{\"id\":7,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}\n",
        "{\"id\":\"c\"}\n",
        "{\"id\":\"d\",\"prompt\":3}\n",
        "{\"prompt\":\"\"}",
    );
    fs::write(&input, text).unwrap();
    let output = run(dir.path(), &["score", "--input", "in.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let ids: Vec<String> = lines.iter().map(|line| line["id"].to_string()).collect();
    assert_eq!(ids, ["\"a\"", "null", "7", "\"c\"", "\"d\"", "7"]);
    assert_eq!(lines[0]["score"], lines[2]["score"], "a prompt is one user message");
    assert_eq!(lines[1]["line"], 2);
    for index in [1, 3, 4] {
        assert!(lines[index]["error"].is_string(), "{}", lines[index]);
    }
    for named in ["line 2: not a JSON object", "line 5: has neither", "line 6: `prompt`"] {
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
}

#[test]
fn a_line_typed_into_a_pipe_is_answered_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = weighbridge(dir.path())
        .args(["score", "--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for id in ["first", "second"] {
        writeln!(input, "{{\"id\":\"{id}\",\"prompt\":\"Hello\"}}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.contains(id), "{line}");
    }
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn init_writes_a_configuration_that_check_accepts() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run(dir.path(), &["init"]).status.success());
    let check = run(dir.path(), &["check"]);
    assert!(check.status.success(), "{}", stdout(&check));
    assert!(stdout(&check).contains("weighbridge.toml: ok"));
    let again = run(dir.path(), &["init"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("--force"));
    let models = stdout(&run(dir.path(), &["models"]));
    assert!(models.contains("policy auto") && models.contains("json_schema"), "{models}");
}

#[test]
fn check_reports_every_error_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[server]\nlisten = 8080\n\n[providers.x]\nbase_ulr = \"http://h/v1\"\n";
    fs::write(dir.path().join("bad.toml"), text).unwrap();
    let output = run(dir.path(), &["check", "--config", "bad.toml"]);
    assert_eq!(output.status.code(), Some(1));
    for line in [
        "bad.toml:2:10: error: server.listen: expected a string, found integer",
        "bad.toml:5:1: error: providers.x.base_ulr: is not a setting",
        "help: did you mean `base_url`?",
    ] {
        assert!(stdout(&output).contains(line), "{}", stdout(&output));
    }
}

#[test]
fn a_model_that_cannot_be_used_is_one_sentence_at_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("m")).unwrap();
    for (model, sentence) in
        [("nowhere", "no such directory"), ("m", "model.safetensors cannot be read")]
    {
        let output = run(dir.path(), &["serve", "--listen", "127.0.0.1:0", "--model", model]);
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(message.contains(sentence) && message.lines().count() == 1, "{message}");
    }
}

#[test]
fn completions_and_a_manual_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    assert!(stdout(&run(dir.path(), &["completions", "bash"])).contains("_weighbridge"));
    assert!(stdout(&run(dir.path(), &["man"])).contains(".TH weighbridge 1"));
}

/// A serving process that is killed when a test ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it in an empty directory without a configuration; its base URL, and what it said first.
fn serve(dir: &Path) -> (Server, String, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut child = weighbridge(dir)
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut greeting = BufReader::new(child.stdout.take().unwrap()).lines();
    let (first, second) = (greeting.next().unwrap().unwrap(), greeting.next().unwrap().unwrap());
    let base = second.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    (Server(child), base.to_owned(), first)
}

#[tokio::test]
async fn without_any_configuration_it_serves_an_explained_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (_server, base, first) = serve(dir.path());
    assert!(first.contains("the built-in scripted upstream answers"), "{first}");
    let response = reqwest::Client::new()
        .post(format!("{base}/chat/completions"))
        .header("content-type", "application/json")
        .body(r#"{"model":"auto","messages":[{"role":"user","content":"Hello"}]}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-weighbridge-tier"], "cheap");
    assert!(response.text().await.unwrap().contains("You asked: Hello"));
}

#[tokio::test]
async fn every_thread_finishes_its_answers_after_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, base, _) = serve(dir.path());
    let body = r#"{"model":"scripted/m?head_ms=2000","messages":[{"role":"user","content":"Hi"}]}"#;
    // A client of its own each: connections are dealt out to the threads in turn.
    let answers: Vec<_> = (0..8)
        .map(|_| {
            let post = reqwest::Client::new().post(format!("{base}/chat/completions"));
            tokio::spawn(post.header("content-type", "application/json").body(body).send())
        })
        .collect();
    let metrics = base.replace("/v1", "/metrics");
    while !reqwest::get(&metrics).await.unwrap().text().await.unwrap().contains("in_flight 8\n") {}
    let signalled = Command::new("kill").arg(server.0.id().to_string()).status().unwrap();
    assert!(signalled.success());
    for answer in answers {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.text().await.unwrap().contains("You asked: Hi"));
    }
    assert!(server.0.wait().unwrap().success());
    assert!(reqwest::get(&metrics).await.is_err());
}
