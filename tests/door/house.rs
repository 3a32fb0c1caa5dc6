//! A gateway and a scripted upstream on ports of their own, and a client for them.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use weighbridge::{
    api,
    classify::{
        model::{LoadOptions, Model, ModelFiles},
        queue::{QueueSettings, ScoringQueue},
    },
    config,
    gateway::{self, Gateway, Stop},
    ledger::Ledger,
    mock::ScriptedUpstream,
    telemetry::{Metrics, decisions::DecisionLog},
    upstream::Upstreams,
};

/// Two tiers over one provider; `{base}` is the scripted upstream's address.
pub const TWO_TIERS: &str = r#"
[server]
listen = "127.0.0.1:0"
max_body_bytes = 1048576
shutdown_grace_ms = 300

[providers.local]
dialect = "openai"
base_url = "{base}"
first_byte_timeout_ms = 1500
idle_timeout_ms = 1500

[models.small]
provider = "local"
upstream_name = "small-v1"
context_window = 8192
price = { input_usd_per_mtok = 0.10, output_usd_per_mtok = 0.40 }
abilities = ["tools", "json_schema"]

[models.large]
provider = "local"
upstream_name = "large-v1"
context_window = 100000
price = { input_usd_per_mtok = 2.0, output_usd_per_mtok = 10.0 }
abilities = ["tools", "json_schema", "images"]

[policies.auto]
default_tier = "strong"
[[policies.auto.tiers]]
name = "cheap"
below = 0.4
models = ["small"]
[[policies.auto.tiers]]
name = "strong"
models = ["large"]
"#;

/// The shipped model, loaded once for all tests.
pub fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::load(&ModelFiles::shipped(), LoadOptions::default()).unwrap())
}

/// Scoring threads over it, in no hurry.
pub fn queue() -> ScoringQueue {
    let deadline = Duration::from_secs(30);
    let settings = QueueSettings { deadline, static_margin: None, ..QueueSettings::default() };
    ScoringQueue::start(model(), settings).unwrap()
}

/// The environment of the tests: `TEST_KEY_x` is `x`, and AWS's example keys are themselves.
fn variable(name: &str) -> Option<String> {
    let is_aws = name.starts_with("AKIDEXAMPLE") || name.starts_with("wJalr");
    let key = name.strip_prefix("TEST_KEY_").or(is_aws.then_some(name));
    key.map(str::to_owned)
}

/// A running gateway with its upstream.
pub struct House {
    pub base: String,
    pub upstream: ScriptedUpstream,
    pub gateway: Arc<Gateway>,
    /// The admin API's address, where its configuration lets anybody in.
    pub admin: Option<String>,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<std::io::Result<()>>,
    bookkeeper: Option<JoinHandle<()>>,
}

impl House {
    /// Opens with a classifier that has all the time it needs.
    pub async fn open(config: &str) -> Self {
        Self::open_with_deadline(config, Duration::from_secs(30)).await
    }

    /// Opens with a classifier that must score within `deadline`, and always by its encoder.
    pub async fn open_with_deadline(config: &str, deadline: Duration) -> Self {
        let settings = QueueSettings { deadline, static_margin: None, ..QueueSettings::default() };
        Self::open_with_queue(config, settings).await
    }

    /// Opens with a classifier behind such a queue.
    pub async fn open_with_queue(config: &str, settings: QueueSettings) -> Self {
        let house = Self::open_without_classifier(config).await;
        house.gateway.scoring_ready(ScoringQueue::start(model(), settings).unwrap());
        house
    }

    /// Opens before the model is loaded.
    pub async fn open_without_classifier(config: &str) -> Self {
        Self::open_from(config, None).await
    }

    /// The same with a configuration that is written to a file first, to be reloaded from there.
    pub async fn open_from(config: &str, file: Option<PathBuf>) -> Self {
        Self::open_built(config, file, |gateway| gateway).await
    }

    /// The same with a gateway that was built on.
    pub async fn open_built(
        config: &str,
        file: Option<PathBuf>,
        build: impl FnOnce(Gateway) -> Gateway,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let upstream = ScriptedUpstream::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(upstream.clone().serve(listener, std::future::pending()));

        let root = base.trim_end_matches("/v1");
        let text = config.replace("{base}", &base).replace("{root}", root);
        if let Some(file) = &file {
            std::fs::write(file, &text).unwrap();
        }
        let path = file.as_deref().unwrap_or(Path::new("test.toml"));
        let config = match config::parse(&text, path, &variable) {
            Ok(checked) => checked.config,
            Err(error) => panic!("{error}"),
        };
        let (cancel, stop) = Stop::new();
        let upstreams = Upstreams::new(config.providers.clone()).unwrap();
        let log = DecisionLog::open(&config.decisions).unwrap();
        let gateway = Gateway::new(config, upstreams, Arc::new(Metrics::default()), stop);
        let ledger = match gateway.config().ledger.clone() {
            Some(settings) => Some(Ledger::open(settings).await.unwrap().0),
            None => None,
        };
        let bookkeeper = ledger.clone().map(|ledger| ledger.run(std::future::pending()));
        let bookkeeper = bookkeeper.map(tokio::spawn);
        let gateway = Arc::new(build(gateway.with_decision_log(log).with_ledger(ledger)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = |is_encrypted| if is_encrypted { "https" } else { "http" };
        let address = listener.local_addr().unwrap();
        let base = format!("{}://{address}", scheme(gateway.config().server.tls.is_some()));
        let (stop, stopped) = oneshot::channel();
        let stopped = async move {
            let _ = stopped.await;
        };
        let house = gateway::House::new(Arc::clone(&gateway), file);
        let mut admin = None;
        if let Some(found) = gateway.config().admin.as_ref().filter(|admin| admin.has_token()) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            admin = Some(format!("{}://{address}", scheme(found.tls.is_some())));
            tokio::spawn(api::admin::serve(listener, house.clone(), std::future::pending()));
        }
        let server = tokio::spawn(api::serve(listener, house, cancel, stopped));
        let client = Client::new();
        Self { base, upstream, gateway, admin, client, stop: Some(stop), server, bookkeeper }
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub fn post(&self, path: &str, body: impl Into<String>) -> RequestBuilder {
        self.client
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .body(body.into())
    }

    /// A chat request to `auto` that the cheap tier would take, with fields added or replaced.
    pub fn chat(&self, fields: Value) -> RequestBuilder {
        let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("/v1/chat/completions", body.to_string())
    }

    /// Asks the server to stop; resolves when it has.
    pub async fn close(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.server.await.unwrap().unwrap();
        if let Some(bookkeeper) = self.bookkeeper.take() {
            bookkeeper.abort();
        }
    }

    /// Asks the server to stop and leaves the rest to run.
    pub fn ask_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// The bodies that the upstream was sent, as JSON.
    pub fn forwarded(&self) -> Vec<Value> {
        let requests = self.upstream.requests();
        requests.iter().map(|r| serde_json::from_slice(&r.body).unwrap()).collect()
    }
}

/// Serves these routes for as long as the test runs; returns `http://ADDRESS:PORT`.
pub async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let root = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    root
}

/// A response header as text; empty when absent.
pub fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
}

/// The body as JSON.
pub async fn json_of(response: Response) -> Value {
    let text = response.text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The data of each event in a stream's text.
pub fn events(stream: &str) -> Vec<&str> {
    stream.split("\n\n").filter_map(|frame| frame.strip_prefix("data: ")).collect()
}
