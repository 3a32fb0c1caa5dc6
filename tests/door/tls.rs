//! TLS on both listeners, over real sockets: what is negotiated, who waits for whom, and what a
//! reload changes.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::StreamExt as _;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use reqwest::{Certificate, Client, ClientBuilder, Method, Version, tls};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::house::{House, TWO_TIERS, header, json_of};

const MASTER: &str = "master-0123456789";
const LINES: &str = "tls_certificate = \"server.pem\"\ntls_key = \"server.key\"\n";

/// A certificate for this machine that its own client trusts, and nobody else's.
struct Identity(CertifiedKey<KeyPair>);

impl Identity {
    fn new() -> Self {
        Self(generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap())
    }

    fn write(&self, directory: &Path) {
        fs::write(directory.join("server.pem"), self.0.cert.pem()).unwrap();
        fs::write(directory.join("server.key"), self.0.signing_key.serialize_pem()).unwrap();
    }

    /// A client that trusts this certificate alone.
    fn trusting(&self) -> ClientBuilder {
        let root = Certificate::from_pem(self.0.cert.pem().as_bytes()).unwrap();
        // A new connection for each request, so that each sees the certificate of its moment.
        Client::builder().tls_certs_only([root]).pool_max_idle_per_host(0)
    }

    fn client(&self) -> Client {
        self.trusting().build().unwrap()
    }
}

/// A house with TLS on both listeners.
struct Gatehouse {
    house: House,
    dir: TempDir,
    identity: Identity,
}

impl Gatehouse {
    async fn open() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::new();
        identity.write(dir.path());
        fs::write(dir.path().join("master"), MASTER).unwrap();
        let server = format!("[server]\n{LINES}trusted_proxies = [\"127.0.0.1\"]\n");
        let config = TWO_TIERS
            .replace("[server]\n", &server)
            .replace("small-v1", "small-v1?chunks=20&chunk_ms=50");
        let config = format!("{config}\n[admin]\ntoken_file = \"master\"\n{LINES}");
        let house = House::open_from(&config, Some(dir.path().join("w.toml"))).await;
        Self { house, dir, identity }
    }

    fn address(&self) -> &str {
        self.house.base.strip_prefix("https://").unwrap()
    }

    /// Asks the admin API to reload; its status and body.
    async fn reload(&self, client: &Client) -> (u16, Value) {
        let url = format!("{}/admin/reload", self.house.admin.as_ref().unwrap());
        let response = client.request(Method::POST, url).bearer_auth(MASTER).send().await.unwrap();
        (response.status().as_u16(), json_of(response).await)
    }

    async fn ready(&self, client: &Client) -> Value {
        json_of(client.get(format!("{}/ready", self.house.base)).send().await.unwrap()).await
    }

    async fn serves(&self, client: &Client) -> bool {
        client.get(format!("{}/health", self.house.base)).send().await.is_ok()
    }
}

fn chat(stream: bool) -> String {
    let messages = json!([{"role": "user", "content": "Hello"}]);
    json!({"model": "small", "stream": stream, "messages": messages}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_goes_over_tls_1_2_and_1_3_and_over_http_1_and_2() {
    let gate = Gatehouse::open().await;
    let trusting = || gate.identity.trusting();
    for (client, version) in [
        (trusting(), Version::HTTP_2),
        (trusting().tls_version_max(tls::Version::TLS_1_2), Version::HTTP_2),
        (trusting().tls_version_min(tls::Version::TLS_1_3), Version::HTTP_2),
        (trusting().http1_only(), Version::HTTP_11),
    ] {
        let request = client.build().unwrap().post(format!("{}/v1/messages", gate.house.base));
        let body = json!({"model": "large", "max_tokens": 99, "messages": [{"role": "user", "content": "Hello"}]});
        let request = request.header("content-type", "application/json").body(body.to_string());
        let response = request.send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
        let answer = json_of(response).await;
        assert_eq!(
            (&answer["type"], &answer["stop_reason"]),
            (&json!("message"), &json!("end_turn")),
            "{answer}"
        );
    }
    assert!(!gate.serves(&Identity::new().client()).await, "an unknown certificate is refused");
    gate.house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_shown_out_and_who_says_nothing_keeps_nobody_waiting() {
    let gate = Gatehouse::open().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(gate.address()).await.unwrap());
    }
    let mut plain = TcpStream::connect(gate.address()).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The end may be a reset: what was sent is not read.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(gate.serves(&gate.identity.client()).await);
    drop(silent);
    gate.house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_shows_the_new_certificate_while_a_stream_goes_on() {
    let gate = Gatehouse::open().await;
    let (old, new) = (gate.identity.client(), Identity::new());
    let request = old.post(format!("{}/v1/chat/completions", gate.house.base));
    let request = request.header("content-type", "application/json").body(chat(true));
    let mut stream = request.send().await.unwrap().bytes_stream();
    let mut text = stream.next().await.unwrap().unwrap().to_vec();

    new.write(gate.dir.path());
    assert_eq!(gate.reload(&old).await.0, 200);
    assert!(!gate.serves(&old).await && gate.serves(&new.client()).await);
    while let Some(chunk) = stream.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    assert!(String::from_utf8(text).unwrap().ends_with("data: [DONE]\n\n"));
    gate.house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_work_leaves_the_old_one_and_is_named() {
    let gate = Gatehouse::open().await;
    gate.house.gateway.scoring_ready(crate::house::queue());
    let client = gate.identity.client();
    let certificate = gate.dir.path().join("server.pem");
    for (text, setting) in [
        ("no certificate".to_owned(), "server.tls_certificate"),
        (Identity::new().0.cert.pem(), "server.tls_key"),
    ] {
        fs::write(&certificate, text).unwrap();
        let (status, refused) = gate.reload(&client).await;
        let problem = &refused["error"]["problems"][0];
        assert_eq!((status, &problem["setting"]), (422, &json!(setting)), "{refused}");
        assert!(problem["line"].is_u64() && problem["help"].is_string(), "{refused}");
        let ready = gate.ready(&client).await;
        assert!(ready["configuration_error"].as_str().unwrap().contains(setting), "{ready}");
        let metrics = client.get(format!("{}/metrics", gate.house.base)).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(metrics.contains("weighbridge_config_reload_failed 1"), "{metrics}");
    }
    gate.identity.write(gate.dir.path());
    assert_eq!(gate.reload(&client).await.0, 200);
    assert_eq!(gate.ready(&client).await, json!({"status": "ready"}));

    let file = gate.dir.path().join("w.toml");
    let without = fs::read_to_string(&file).unwrap().replacen(LINES, "", 1);
    fs::write(&file, without).unwrap();
    let needed = json!(["[server] tls_certificate, tls_key"]);
    assert_eq!(gate.reload(&client).await.1["restart_needed"], needed);
    assert!(gate.serves(&client).await, "until then it goes on as it was");
    gate.house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_address_is_known_behind_tls() {
    let gate = Gatehouse::open().await;
    let client = gate.identity.client();
    let url = format!("{}/admin/config", gate.house.admin.as_ref().unwrap());
    let from = |address: &str, token: &str| {
        client.get(&url).bearer_auth(token).header("x-forwarded-for", address).send()
    };
    for _ in 0..10 {
        assert_eq!(from("192.0.2.1", "wrong-0123456789a").await.unwrap().status(), 401);
    }
    assert_eq!(from("192.0.2.1", MASTER).await.unwrap().status(), 429);
    assert_eq!(from("192.0.2.2", MASTER).await.unwrap().status(), 200);
    let log_in = client.post(url.replace("config", "session"));
    let log_in = log_in.header("content-type", "application/json");
    let answer = log_in.body(json!({"token": MASTER}).to_string()).send().await.unwrap();
    assert!(header(&answer, "set-cookie").ends_with("; Secure"));
    gate.house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_a_stream_in_order_and_waits_for_no_handshake() {
    let mut gate = Gatehouse::open().await;
    let client = gate.identity.client();
    let silent = TcpStream::connect(gate.address()).await.unwrap();
    let request = client.post(format!("{}/v1/chat/completions", gate.house.base));
    let request = request.header("content-type", "application/json").body(chat(true));
    let mut stream = request.send().await.unwrap().bytes_stream();
    stream.next().await.unwrap().unwrap();
    gate.house.ask_to_stop();
    let mut text = Vec::new();
    while let Some(chunk) = stream.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("gateway_shutting_down"), "{text}");
    drop(silent);
}

/// The binary, from its greeting to its end.
#[tokio::test(flavor = "multi_thread")]
async fn the_binary_greets_with_https_and_takes_a_renewed_certificate_by_itself() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Identity::new(), Identity::new());
    old.write(dir.path());
    let config = TWO_TIERS.replace("[server]\n", &format!("[server]\n{LINES}watch = true\n"));
    fs::write(
        dir.path().join("weighbridge.toml"),
        config.replace("{base}", "http://127.0.0.1:9/v1"),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weighbridge"));
    command.arg("serve").current_dir(dir.path()).env_clear();
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut greeting = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = greeting.next().unwrap().unwrap();
    let base = first.split_whitespace().find(|word| word.starts_with("https://")).unwrap();
    let url = base.replace("/v1", "/health");
    let serves = async |client: Client| client.get(&url).send().await.is_ok();
    assert!(serves(old.client()).await);
    new.write(dir.path());
    while !serves(new.client()).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!serves(old.client()).await);

    // A configuration that names files which are not there yet is refused, and taken once they are.
    let elsewhere = dir.path().join("later");
    fs::create_dir(&elsewhere).unwrap();
    let moved = config.replace("server.pem", "later/server.pem");
    let moved = moved.replace("server.key", "later/server.key");
    fs::write(
        dir.path().join("weighbridge.toml"),
        moved.replace("{base}", "http://127.0.0.1:9/v1"),
    )
    .unwrap();
    let ready = base.replace("/v1", "/ready");
    let refused = async || {
        let answer = new.client().get(&ready).send().await.unwrap().text().await.unwrap();
        answer.contains("configuration_error")
    };
    while !refused().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    old.write(&elsewhere);
    while !serves(old.client()).await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn check_refuses_a_key_that_does_not_belong_to_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    Identity::new().write(dir.path());
    fs::write(dir.path().join("server.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let config = TWO_TIERS.replace("[server]\n", &format!("[server]\n{LINES}"));
    fs::write(dir.path().join("weighbridge.toml"), config.replace("{base}", "http://a/v1"))
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_weighbridge"));
    let output = command.arg("check").current_dir(dir.path()).env_clear().output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = "weighbridge.toml:4:11: error: server.tls_key: `server.key` is not the key of";
    assert!(said.contains(expected) && said.contains("help: "), "{said}");
}
