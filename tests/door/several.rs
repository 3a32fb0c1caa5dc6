//! Real processes: several gateways over one PostgreSQL and one Redis, and gateways that are
//! killed. The tests of several need `redis-server` and a PostgreSQL whose URL is in
//! `WEIGHBRIDGE_TEST_POSTGRES`; without them they say so.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use weighbridge::{
    ledger::{
        budget::{Budget, Kind, Period, Unit, Window},
        hash_key,
        meter::View,
        now_ms, secret,
        shared::{RedisSettings, Shared, SharedError},
        store::{Actor, Dimension, Store, UsageQuery},
        tenant::{Key, Level, Scope},
    },
    mock::ScriptedUpstream,
};

use crate::{house::TWO_TIERS, receiver::Receiver};

/// A model that never ends its answer, and has a price.
const SLOW: &str = r#"
[models.slow]
provider = "local"
upstream_name = "large-v1?endless&chunk_ms=50"
price = { input_usd_per_mtok = 2.0, output_usd_per_mtok = 10.0 }
"#;

/// A process that is killed when it is no longer needed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway process.
struct Gateway {
    base: String,
    process: Running,
}

/// What several gateways have in common.
struct Site {
    dir: TempDir,
    upstream: String,
    ledger: String,
    redis: String,
    store: Store,
    client: Client,
    warnings: Receiver,
}

impl Site {
    async fn new(ledger: &str, redis: Option<u16>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(ScriptedUpstream::new().serve(listener, std::future::pending()));
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger.replace("{dir}", &dir.path().display().to_string());
        let redis = redis
            .map_or(String::new(), |port| format!("[redis]\nurl = \"redis://127.0.0.1:{port}\"\n"));
        let store = Store::open(&ledger).await.unwrap();
        let (client, warnings) = (Client::new(), Receiver::start().await);
        Self { dir, upstream, ledger, redis, store, client, warnings }
    }

    /// A key without a budget; returns the secret.
    async fn open_key(&self) -> String {
        self.make_key("key_2").await
    }

    /// A key with a budget of this many nano-dollars a day; returns the secret.
    async fn key(&self, id: &str, amount: i64) -> String {
        let secret = self.make_key(id).await;
        let actor = Actor { name: "test".to_owned(), now_ms: now_ms() };
        let scope = Scope { level: Level::Key, id: id.to_owned() };
        let month = Window::Civil(Period::Month);
        let budget = Budget {
            id: format!("budget_of_{id}"),
            warn_at_percent: vec![1],
            ..Budget::new(Kind::Budget, scope, (Unit::NanoUsd, amount), month, 0)
        };
        self.store.create_budget(&actor, &budget).await.unwrap();
        secret
    }

    async fn make_key(&self, id: &str) -> String {
        let minted = secret::mint(&hash_key(&self.store).await.unwrap()).unwrap();
        let actor = Actor { name: "test".to_owned(), now_ms: now_ms() };
        let key = Key { id: id.to_owned(), ..Key::new(id.to_owned(), &minted, 0) };
        self.store.create_key(&actor, &key).await.unwrap();
        minted.secret
    }

    fn start(&self, name: &str) -> Gateway {
        let Self { dir, upstream, ledger, redis, warnings, .. } = self;
        let journal = format!("journal = \"{name}.pending\"\nwebhook_url = \"{}\"", warnings.url);
        let text = TWO_TIERS.replace("{base}", upstream);
        let text = format!("{text}\n{SLOW}\n[ledger]\nurl = \"{ledger}\"\n{journal}\n{redis}");
        let path = dir.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        serve(dir.path(), &path)
    }

    /// Asks `large` with a bound of 50 tokens; the status.
    async fn ask(&self, gateway: &Gateway, secret: &str, fields: Value) -> u16 {
        let mut body = json!({"model": "large", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        let url = format!("{}/chat/completions", gateway.base);
        let request = self.client.post(url).bearer_auth(secret).json_body(&body);
        let Ok(response) = request.send().await else { return 0 };
        let status = response.status().as_u16();
        if body["stream"] == true && body["model"] != "large" {
            // Left open: the caller of an endless stream does not wait for its end.
            tokio::spawn(async move { response.text().await });
            return status;
        }
        drop(response.text().await);
        status
    }

    async fn spent(&self, key: &str) -> (u64, i64) {
        let filters = vec![(Dimension::Key, key.to_owned())];
        let query = UsageQuery { filters, ..UsageQuery::default() };
        let rows = self.store.usage(&query).await.unwrap();
        rows.first().map_or((0, 0), |row| (row.sums.requests, row.sums.cost_nano_usd))
    }

    /// What is spent, once so many requests are in the ledger.
    async fn spent_after(&self, requests: u64) -> i64 {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let (found, cost) = self.spent("key_1").await;
            if found >= requests || Instant::now() > until {
                assert_eq!(found, requests, "rows in the ledger");
                return cost;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

trait JsonBody {
    fn json_body(self, body: &Value) -> Self;
}

impl JsonBody for reqwest::RequestBuilder {
    fn json_body(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }
}

/// Starts the binary and waits until it says where it listens.
fn serve(dir: &Path, config: &PathBuf) -> Gateway {
    let mut child = Command::new(env!("CARGO_BIN_EXE_weighbridge"))
        .current_dir(dir)
        .env_clear()
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--config"])
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let process = Running(child);
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("listens on")));
    let line = line.expect("the gateway did not start");
    let base = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    Gateway { base: base.to_owned(), process }
}

fn postgres() -> Option<String> {
    let url = std::env::var("WEIGHBRIDGE_TEST_POSTGRES").ok();
    if url.is_none() {
        eprintln!("skipped: WEIGHBRIDGE_TEST_POSTGRES is not set");
    }
    url
}

/// A Redis of the test's own; `None` when it is not installed.
fn redis(port: u16) -> Option<Running> {
    let started = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
        .stdout(Stdio::null())
        .spawn();
    let running = match started {
        Ok(child) => Running(child),
        Err(error) => {
            eprintln!("skipped: redis-server: {error}");
            return None;
        }
    };
    let until = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "redis does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(running)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A database of the test's own.
async fn database(url: &str) -> String {
    let name = format!("wb_{}", uuid::Uuid::now_v7().simple());
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(url).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(create).execute(&pool).await.unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_share_a_budget_to_the_cent_and_a_dead_one_gives_its_part_back() {
    let Some(postgres) = postgres() else { return };
    let port = free_port();
    let Some(redis) = redis(port) else { return };
    let site = Site::new(&database(&postgres).await, Some(port)).await;
    let amount = 3_000_000;
    let secret = site.key("key_1", amount).await;
    let mut gateways: Vec<_> = ["a", "b", "c"].map(|name| site.start(name)).into();

    let asked = (0..200)
        .map(|number| site.ask(&gateways[number % 3], &secret, json!({"stream": number % 2 == 0})));
    let statuses = futures_util::future::join_all(asked).await;
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(count(200) + count(402), 200, "{statuses:?}");
    assert!(count(200) > 0 && count(402) > 0, "{statuses:?}");
    let spent = site.spent_after(200).await;
    assert!(spent > 0 && spent <= amount, "{spent}");
    // All three have spent of it: one of them has said so, once.
    let warnings = site.warnings.posted();
    let told: Vec<_> =
        warnings.iter().map(|told| (&told["budget"]["id"], &told["percent"])).collect();
    assert_eq!(told, [(&json!("budget_of_key_1"), &json!(1))]);

    // A conversation is known to the gateway that did not begin it.
    let first = json!([{"role": "user", "content": "Hello"}]);
    let answered = json!([
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Hello again"},
    ]);
    let open = site.open_key().await;
    let mut reasons = Vec::new();
    for (gateway, threshold, messages) in
        [(&gateways[0], 0.0, first), (&gateways[1], 0.9, answered)]
    {
        let body = json!({
            "model": "auto", "messages": messages, "weighbridge": {"threshold": threshold},
        });
        let url = format!("{}/chat/completions", gateway.base);
        let request = site.client.post(url).bearer_auth(&open).json_body(&body);
        let response = request.send().await.unwrap();
        reasons.push(crate::house::header(&response, "x-weighbridge-reason"));
        response.text().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(reasons[1].starts_with("session_"), "{reasons:?}");

    // One gateway reserves nearly all that is left, and dies with it.
    let secret = site.key("key_3", amount).await;
    let tokens = amount / 10_000 - 10;
    let endless = json!({"model": "slow", "max_tokens": tokens, "stream": true});
    assert_eq!(site.ask(&gateways[0], &secret, endless).await, 200);
    let other = json!({"max_tokens": 50});
    assert_eq!(site.ask(&gateways[1], &secret, other.clone()).await, 402, "nothing is left");
    let killed = gateways.remove(0);
    drop(killed.process);
    let until = Instant::now() + Duration::from_secs(20);
    while site.ask(&gateways[0], &secret, other.clone()).await != 200 {
        assert!(Instant::now() < until, "the dead gateway's reservation stays");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }

    // Without Redis the two go on, each with a share; with it they count together again.
    drop(redis);
    let without = site.ask(&gateways[0], &secret, json!({"max_tokens": 1})).await;
    assert!(matches!(without, 200 | 402), "{without}");
    let _redis = self::redis(port).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let status = site.ask(&gateways[1], &secret, json!({"max_tokens": 50})).await;
        if status == 402 {
            break;
        }
        assert!(status == 200 && Instant::now() < until, "{status}: the budget never ends");
    }
    tokio::time::sleep(Duration::from_millis(800)).await;
    let (_, spent) = site.spent("key_3").await;
    // Rows of the last flush interval may have been missing when Redis was told the past.
    assert!(spent <= amount + amount / 10, "{spent} of {amount}");
}

#[tokio::test]
async fn a_shared_meter_gives_nobody_what_is_kept_for_others_and_knows_its_state() {
    let port = free_port();
    let Some(_redis) = redis(port) else { return };
    let settings = RedisSettings {
        url: format!("redis://127.0.0.1:{port}"),
        prefix: "t".to_owned(),
        fail_open: false,
    };
    let shared = Shared::open(settings).await.unwrap();
    let scope = Scope { level: Level::Team, id: "t".to_owned() };
    let total = (Unit::Requests, 10);
    let budget = Arc::new(Budget::new(Kind::Limit, scope, total, Window::Total, 0));
    let view = |kept| View {
        key: "m".to_owned(),
        budget: Arc::clone(&budget),
        amount: 10,
        hard: true,
        kept,
        epoch: 0,
        since: 0,
        slot: 0,
        forget_ms: 0,
    };
    assert_eq!(shared.state(&view(0)).await, None, "nobody has told its past");
    shared.seed(&view(0), &[(0, 2)]).await.unwrap();
    let refused = shared.reserve(&[view(5)], &[(4, 4)], &[]).await;
    assert!(matches!(refused, Err(SharedError::Refused { left: 3, needed: 4, .. })), "{refused:?}");
    let granted = shared.reserve(&[view(5)], &[(3, 3)], &[]).await.unwrap();
    assert_eq!((granted[0].amount, granted[0].left), (3, 0));
    assert_eq!(shared.state(&view(0)).await, Some((2, 3)));

    // A caller who leaves while Redis is asked holds nothing.
    let run = tokio::spawn(Arc::clone(&shared).run(drop));
    let (views, demands) = ([view(0)], [(2, 2)]);
    let asked = shared.reserve(&views, &demands, &[]);
    tokio::select! {
        biased;
        _ = asked => panic!("it was answered at once"),
        () = std::future::ready(()) => {}
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(shared.state(&view(0)).await, Some((2, 3)));
    run.abort();

    // What a gateway that has gone had reserved is no longer shown.
    let other = Shared::open(shared.settings().clone()).await.unwrap();
    other.reserve(&[view(0)], &[(1, 1)], &[]).await.unwrap();
    assert_eq!(shared.state(&view(0)).await, Some((2, 4)));
    other.last_words(drop).await;
    assert_eq!(shared.state(&view(0)).await, Some((2, 3)));
}

#[tokio::test]
async fn what_was_used_while_redis_lost_its_memory_counts_once() {
    let port = free_port();
    let Some(server) = redis(port) else { return };
    let settings = RedisSettings {
        url: format!("redis://127.0.0.1:{port}"),
        prefix: "t".to_owned(),
        fail_open: true,
    };
    let shared = Shared::open(settings).await.unwrap();
    let scope = Scope { level: Level::Team, id: "t".to_owned() };
    let budget = Budget::new(Kind::Budget, scope, (Unit::Tokens, 100), Window::Total, 0);
    let view = View {
        key: "m".to_owned(),
        budget: Arc::new(budget),
        amount: 100,
        hard: true,
        kept: 0,
        epoch: 0,
        since: 0,
        slot: 0,
        forget_ms: 0,
    };
    let run = tokio::spawn(Arc::clone(&shared).run(drop));
    shared.seed(&view, &[(0, 2)]).await.unwrap();
    shared.used([(view.clone(), 5)].into_iter());
    let until = Instant::now() + Duration::from_secs(20);
    while shared.state(&view).await != Some((7, 0)) {
        assert!(Instant::now() < until, "what was used is not told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(server);
    shared.used([(view.clone(), 30)].into_iter());
    while !shared.is_down() {
        assert!(Instant::now() < until, "nobody sees that redis is away");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shared.used([(view.clone(), 1)].into_iter());
    let _server = redis(port).unwrap();
    // Another gateway tells the past first, and the ledger has the 30 and the 1 by now.
    let other = Shared::open(shared.settings().clone()).await.unwrap();
    other.seed(&view, &[(0, 38)]).await.unwrap();
    while !shared.has_forgotten() {
        assert!(Instant::now() < until, "nobody sees that redis has forgotten");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(other.state(&view).await, Some((38, 0)));
    other.seed(&view, &[(0, 36)]).await.unwrap();
    shared.used([(view.clone(), 4)].into_iter());
    while other.state(&view).await != Some((42, 0)) {
        assert!(Instant::now() < until, "what is used from then on is not told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_gateway_had_in_the_air_is_used_once_it_starts_again() {
    let Some(postgres) = postgres() else { return };
    let port = free_port();
    let Some(_redis) = redis(port) else { return };
    let site = Site::new(&database(&postgres).await, Some(port)).await;
    let secret = site.key("key_5", 3_000_000).await;
    let gateway = site.start("a");
    let endless = json!({"model": "slow", "max_tokens": 250, "stream": true});
    assert_eq!(site.ask(&gateway, &secret, endless).await, 200);
    drop(gateway.process);
    let _again = site.start("a");
    let (_, spent) = site.spent("key_5").await;
    let settings = RedisSettings {
        url: format!("redis://127.0.0.1:{port}"),
        prefix: "weighbridge".to_owned(),
        fail_open: false,
    };
    let shared = Shared::open(settings).await.unwrap();
    let budget = site.store.budgets().await.unwrap().remove(0);
    let view = View {
        key: "budget_of_key_5:nano_usd:month:-".to_owned(),
        amount: budget.amount,
        budget: Arc::new(budget),
        hard: true,
        kept: 0,
        epoch: 0,
        since: 0,
        slot: 0,
        forget_ms: 0,
    };
    let (used, _) = shared.state(&view).await.unwrap();
    assert!(spent > 2_500_000 && used == spent, "{used} of {spent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_loses_no_row_and_breaks_no_budget() {
    let site = Site::new("sqlite:{dir}/w.db", None).await;
    let amount = 20_000_000;
    let secret = site.key("key_1", amount).await;
    let mut gateway = site.start("a");
    let (mut served, mut rounds) = (0_u64, 0);
    loop {
        rounds += 1;
        // Some answers are whole when the process dies, some are in the air.
        let asked = (0..12).map(|_| site.ask(&gateway, &secret, json!({})));
        let statuses = futures_util::future::join_all(asked).await;
        served += statuses.iter().filter(|status| **status == 200).count() as u64;
        let refused = statuses.contains(&402);
        let slow = json!({"model": "large", "messages": [{"role": "user", "content": "Hello"}], "stream": true});
        let flying = (0..3).map(|_| site.ask(&gateway, &secret, slow.clone()));
        let flying = futures_util::future::join_all(flying);
        let _ = tokio::time::timeout(Duration::from_millis(3), flying).await;
        drop(gateway.process);
        gateway = site.start("a");
        if refused || rounds == 6 {
            break;
        }
    }
    let (requests, spent) = site.spent("key_1").await;
    assert!(requests >= served, "{requests} rows for {served} answers in {rounds} lives");
    assert!(spent <= amount, "{spent} of {amount}");
}
