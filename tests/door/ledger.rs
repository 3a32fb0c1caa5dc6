//! Keys, budgets and the ledger: what callers are refused, and that the money adds up.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use weighbridge::{
    ledger::{
        Ledger,
        budget::{Budget, Kind, Period, Unit, WhenSpent, Window},
        secret,
        store::{Actor, Dimension, UsageQuery},
        tenant::{Key, Level, Restrictions, Scope},
    },
    units::NanoUsd,
};

use crate::{
    house::{House, TWO_TIERS, header, json_of},
    receiver::Receiver,
};

/// A house with a ledger in a directory of its own.
struct Office {
    house: House,
    dir: TempDir,
}

fn actor() -> Actor {
    Actor { name: "test".to_owned(), now_ms: 1 }
}

/// A budget of a day.
fn budget(id: &str, scope: Scope, unit: Unit, amount: i64) -> Budget {
    let day = Window::Civil(Period::Day);
    Budget { id: id.to_owned(), ..Budget::new(Kind::Budget, scope, (unit, amount), day, 0) }
}

fn of_key(id: &str) -> Scope {
    Scope { level: Level::Key, id: id.to_owned() }
}

impl Office {
    async fn open(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.db");
        let config =
            format!("{TWO_TIERS}\n[ledger]\nurl = \"sqlite:{}\"\n{settings}", path.display());
        Self { house: House::open(&config).await, dir }
    }

    fn ledger(&self) -> &Ledger {
        self.house.gateway.ledger().unwrap()
    }

    /// Makes a key with this id; returns its secret.
    async fn key(&self, id: &str, restrictions: Restrictions) -> String {
        let minted = secret::mint(self.ledger().hash_key()).unwrap();
        let key = Key { id: id.to_owned(), restrictions, ..Key::new(id.to_owned(), &minted, 0) };
        self.ledger().store().create_key(&actor(), &key).await.unwrap();
        self.ledger().refresh(true).await.unwrap();
        minted.secret
    }

    async fn budget(&self, budget: Budget) {
        self.ledger().store().create_budget(&actor(), &budget).await.unwrap();
        self.ledger().refresh(true).await.unwrap();
    }

    fn chat(&self, secret: &str, fields: Value) -> RequestBuilder {
        self.house.chat(fields).bearer_auth(secret)
    }

    /// The sums by a dimension, once everything that has ended is written.
    async fn spend(&self, by: Dimension) -> BTreeMap<String, (u64, u64, u64, i64)> {
        self.ledger().flush().await.unwrap();
        let query = UsageQuery { by: vec![by], ..UsageQuery::default() };
        let rows = self.ledger().store().usage(&query).await.unwrap();
        rows.iter()
            .map(|row| {
                let name = row.values[0].as_ref().map_or("none", |value| value.name.as_str());
                let (name, sums) = (name.to_owned(), &row.sums);
                let tokens = (sums.prompt_tokens, sums.completion_tokens);
                (name, (sums.requests, tokens.0, tokens.1, sums.cost_nano_usd))
            })
            .collect()
    }
}

#[tokio::test]
async fn a_key_sees_the_models_it_may_use_and_its_questions_count_in_its_limits() {
    let office = Office::open("").await;
    let models = vec!["small".to_owned()];
    let secret = office.key("k", Restrictions { models, ..Restrictions::default() }).await;
    let limit = budget("l", of_key("k"), Unit::Requests, 2);
    office.budget(Budget { kind: Kind::Limit, ..limit }).await;
    let spent = budget("b", of_key("k"), Unit::NanoUsd, 0);
    office.budget(spent).await;
    let listed = office.house.get("/v1/models").bearer_auth(&secret).send().await.unwrap();
    let listed = json_of(listed).await;
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(names, ["auto", "small"]);
    for (name, status) in [("small", 200), ("large", 404)] {
        let found = office.house.get(&format!("/v1/models/{name}")).bearer_auth(&secret);
        assert_eq!(found.send().await.unwrap().status(), status, "{name}");
    }
    let body = r#"{"model":"auto","messages":[{"role":"user","content":"Hi"}]}"#;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let asked = office.house.post("/v1/decision", body).bearer_auth(&secret).send();
        statuses.push(asked.await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429], "it costs nothing, but it is a request");
    let counted = r#"{"model":"small","messages":[{"role":"user","content":"Hi"}]}"#;
    let counted = office.house.post("/v1/messages/count_tokens", counted).bearer_auth(&secret);
    assert_eq!(counted.send().await.unwrap().status(), 429);
    office.house.close().await;
}

#[tokio::test]
async fn a_budget_that_passes_a_share_is_told_once_to_the_webhook() {
    let receiver = Receiver::start().await;
    let office = Office::open(&format!("webhook_url = \"{}\"", receiver.url)).await;
    let secret = office.key("k", Restrictions::default()).await;
    let two = budget("two", of_key("k"), Unit::Requests, 2);
    office.budget(Budget { warn_at_percent: vec![50, 100], hard: false, ..two }).await;
    for _ in 0..4 {
        assert_eq!(office.chat(&secret, json!({})).send().await.unwrap().status(), 200);
    }
    let percents = || {
        let told = receiver.posted();
        told.iter().map(|told| told["percent"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    until(|| percents().len() >= 2).await;
    assert_eq!(percents(), [50, 100]);
    let told = &receiver.posted()[0];
    assert_eq!((&told["event"], &told["used"]), (&json!("budget.warning"), &json!(1)));
    assert_eq!(told["budget"]["id"], "two");
    office.house.close().await;
}

/// Waits until it is so; the test's own assertions say what is not.
async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..400 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or("none")
}

#[tokio::test]
async fn without_a_key_nobody_is_served_once_there_is_one() {
    let office = Office::open("").await;
    assert_eq!(office.house.chat(json!({})).send().await.unwrap().status(), 200, "open");
    let secret = office.key("k", Restrictions::default()).await;
    for (request, status, expected) in [
        (office.house.chat(json!({})), 401, "caller_unauthenticated"),
        (office.chat("wb-wrong", json!({})), 401, "caller_unauthenticated"),
        (office.chat("sk-foreign", json!({})), 401, "caller_unauthenticated"),
        (office.house.get("/v1/models"), 401, "caller_unauthenticated"),
        (office.house.post("/v1/decision", "{}"), 401, "caller_unauthenticated"),
        (office.house.post("/v1/embeddings", "{}"), 401, "caller_unauthenticated"),
        (office.house.get("/v1/models").bearer_auth(&secret), 200, "none"),
        (office.chat(&secret, json!({})), 200, "none"),
        (office.house.chat(json!({})).header("x-api-key", &secret), 200, "none"),
        (office.house.chat(json!({})).header("api-key", &secret), 200, "none"),
    ] {
        let response = request.send().await.unwrap();
        let found = response.status();
        let body = json_of(response).await;
        assert_eq!((found.as_u16(), code(&body)), (status, expected), "{body}");
    }
    let message = r#"{"model":"auto","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}"#;
    let response = office.house.post("/v1/messages", message).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(json_of(response).await["error"]["type"], "authentication_error");
    assert_eq!(office.house.get("/health").send().await.unwrap().status(), 200);
    office.house.close().await;
}

#[tokio::test]
async fn a_key_is_used_only_for_what_it_may_be_used_for() {
    let office = Office::open("").await;
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let cheap = Restrictions { tiers: list(&["cheap"]), ..Restrictions::default() };
    let large = Restrictions { models: list(&["large"]), ..Restrictions::default() };
    let other = Restrictions { policies: list(&["other"]), ..Restrictions::default() };
    let far =
        Restrictions { networks: vec!["10.0.0.0/8".parse().unwrap()], ..Restrictions::default() };
    let hard = "Prove that every even integer greater than two is the sum of two primes, or show why no proof is known, step by step, with full rigour.";
    let hard =
        json!({"weighbridge": {"threshold": 0.0}, "messages": [{"role": "user", "content": hard}]});
    for (id, restrictions, fields, expected) in [
        ("cheap", cheap.clone(), hard, "200 small key_restricted"),
        ("cheap2", cheap, json!({}), "200 small score_below_threshold"),
        ("large", large.clone(), json!({}), "200 large key_restricted"),
        ("large2", large, json!({"model": "small"}), "403 none none"),
        ("other", other, json!({}), "403 none none"),
        ("far", far, json!({}), "403 none none"),
    ] {
        let secret = office.key(id, restrictions).await;
        let response = office.chat(&secret, fields).send().await.unwrap();
        let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        let (status, model) =
            (response.status().as_u16(), header(&response, "x-weighbridge-model"));
        let reason = header(&response, "x-weighbridge-reason");
        let found = format!("{status} {} {}", or_none(model), or_none(reason));
        assert_eq!(found, expected, "{id}: {}", json_of(response).await);
    }
    office.house.close().await;
}

/// Every surface, streamed and not, whole and broken: the ledger has what the answers said.
#[tokio::test]
async fn the_sum_of_the_ledger_is_the_sum_of_the_usages() {
    let office = Office::open("").await;
    let secret = office.key("k", Restrictions::default()).await;
    let (mut requests, mut prompt, mut completion) = (0, 0, 0);
    for model in
        ["auto", "small", "large", "local/m?chunks=40&tokens_in=123", "local/m?usage=every"]
    {
        for stream in [false, true] {
            let mut fields = json!({"model": model, "stream": stream});
            if stream {
                fields["stream_options"] = json!({"include_usage": true});
            }
            let response = office.chat(&secret, fields).send().await.unwrap();
            assert_eq!(response.status(), 200);
            let text = response.text().await.unwrap();
            let usage = text
                .split("\n\n")
                .filter_map(|frame| {
                    serde_json::from_str::<Value>(frame.trim_start_matches("data: ")).ok()
                })
                .filter_map(|chunk| chunk.get("usage").filter(|usage| usage.is_object()).cloned())
                .last()
                .unwrap();
            requests += 1;
            prompt += usage["prompt_tokens"].as_u64().unwrap();
            completion += usage["completion_tokens"].as_u64().unwrap();
        }
    }
    let message = r#"{"model":"auto","max_tokens":99,"messages":[{"role":"user","content":"Hi"}]}"#;
    let answer =
        office.house.post("/v1/messages", message).bearer_auth(&secret).send().await.unwrap();
    let usage = json_of(answer).await["usage"].clone();
    requests += 1;
    prompt += usage["input_tokens"].as_u64().unwrap();
    completion += usage["output_tokens"].as_u64().unwrap();
    let by_key = office.spend(Dimension::Key).await;
    let (found, found_prompt, found_completion, cost) = by_key["k"];
    assert_eq!((found, found_prompt, found_completion), (requests, prompt, completion));
    let by_model = office.spend(Dimension::Model).await;
    assert_eq!(by_model.values().map(|sums| sums.3).sum::<i64>(), cost);
    assert_eq!(by_model.values().map(|sums| sums.0).sum::<u64>(), requests);
    office.house.close().await;
}

#[tokio::test]
async fn a_caller_who_leaves_and_a_stream_that_breaks_are_charged_for_what_came() {
    let office = Office::open("").await;
    let secret = office.key("k", Restrictions::default()).await;
    let fields = json!({"model": "local/m?endless&chunk_ms=10", "stream": true});
    let mut response: Response = office.chat(&secret, fields).send().await.unwrap();
    for _ in 0..5 {
        response.chunk().await.unwrap();
    }
    drop(response);
    let fields = json!({"model": "local/m?cut=3", "stream": true});
    drop(office.chat(&secret, fields).send().await.unwrap().text().await);
    let failed = office.chat(&secret, json!({"model": "local/m?status=500"})).send().await.unwrap();
    assert_eq!(failed.status(), 502);
    let ended = async {
        loop {
            let by_outcome = office.spend(Dimension::Outcome).await;
            if by_outcome.len() == 3 {
                return by_outcome;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let by_outcome = tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    for outcome in ["caller_cancelled", "provider_answer_cut"] {
        let (requests, prompt, completion, _) = by_outcome[outcome];
        assert!(requests == 1 && prompt > 0 && completion > 0, "{by_outcome:?}");
    }
    assert_eq!(by_outcome["provider_failed"], (1, 0, 0, 0));
    office.house.close().await;
}

/// The prompt has been read, as far as anyone can know: hanging up is no way around a budget.
#[tokio::test]
async fn a_caller_who_leaves_before_anything_comes_is_charged_for_the_prompt() {
    let office = Office::open("").await;
    let secret = office.key("k", Restrictions::default()).await;
    let mut left = 0;
    for script in ["head_ms=60000", "first_ms=60000", "endless&chunk_ms=10"] {
        for stream in [false, true] {
            let fields = json!({"model": format!("local/m?{script}"), "stream": stream});
            if stream && script.starts_with("endless") {
                continue;
            }
            let request = office.chat(&secret, fields);
            let asked = tokio::time::timeout(Duration::from_millis(300), async {
                drop(request.send().await.unwrap().text().await);
            });
            assert!(asked.await.is_err(), "{script}: it was answered");
            left += 1;
            let known = async {
                loop {
                    let known = office.spend(Dimension::Outcome).await;
                    match known.get("caller_cancelled") {
                        Some(found) if found.0 == left => return *found,
                        _ => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            };
            let (_, prompt, completion, _) =
                tokio::time::timeout(Duration::from_secs(10), known).await.unwrap();
            assert!(prompt >= left, "{script} {stream}: {prompt}");
            assert_eq!(completion > 0, script.starts_with("endless"), "{script} {stream}");
        }
    }
    office.house.close().await;
}

#[tokio::test]
async fn an_attempt_whose_answer_breaks_off_is_charged_for_beside_the_one_that_serves() {
    let models = "[models.frail]\nprovider = \"local\"\nupstream_name = \"m?cut=3\"\n\
        context_window = 8192\n\
        price = { input_usd_per_mtok = 1.0, output_usd_per_mtok = 1.0 }\n\
        [policies.wobbly]\ndefault_tier = \"only\"\n\
        [[policies.wobbly.tiers]]\nname = \"only\"\nmodels = [\"frail\", \"large\"]\n";
    let office = Office::open(models).await;
    let secret = office.key("k", Restrictions::default()).await;
    for stream in [false, true] {
        let fields = json!({"model": "wobbly", "stream": stream});
        let answer = office.chat(&secret, fields).send().await.unwrap();
        let id = header(&answer, "x-weighbridge-decision-id").to_owned();
        let shown = answer.headers().get("x-weighbridge-cost-usd").cloned();
        drop(answer.text().await);
        office.ledger().flush().await.unwrap();
        let row = office.ledger().store().row(&id).await.unwrap().unwrap();
        if stream {
            // Its content had begun: there is nobody to fall back to.
            assert_eq!((&*row.outcome, row.attempts.len()), ("provider_answer_cut", 1));
            assert!(row.cost_nano_usd > Some(0), "{row:?}");
            continue;
        }
        let [lost, served] = &row.attempts[..] else { panic!("{row:?}") };
        assert_eq!((&*lost.outcome, &*served.outcome), ("provider_answer_cut", "ok"));
        assert!(lost.usage_estimated && row.usage_estimated && !served.usage_estimated);
        assert!(lost.prompt_tokens > 0 && lost.completion_tokens > 0, "{lost:?}");
        assert_eq!(row.tokens.prompt, lost.prompt_tokens + served.prompt_tokens);
        assert_eq!(row.tokens.completion, lost.completion_tokens + served.completion_tokens);
        let both = lost.cost_nano_usd.unwrap() + served.cost_nano_usd.unwrap();
        assert_eq!(row.cost_nano_usd, Some(both));
        // The tier prefers the frail one; what broke off would not have been asked for twice.
        let answered = served.prompt_tokens + served.completion_tokens;
        assert_eq!(row.strong_cost_nano_usd, Some(answered as i64 * 1_000));
        assert_eq!(shown.unwrap(), NanoUsd(both).to_string());
    }
    office.house.close().await;
}

#[tokio::test]
async fn a_spent_budget_is_a_402_that_says_whose_and_until_when() {
    let office = Office::open("").await;
    let secret = office.key("k", Restrictions::default()).await;
    office
        .ledger()
        .store()
        .update_key(&actor(), "k", |key| key.name = "alice".to_owned())
        .await
        .unwrap();
    office.budget(budget("b", of_key("k"), Unit::Tokens, 60)).await;
    let ask = || office.chat(&secret, json!({"model": "small", "max_tokens": 10}));
    let mut served = 0;
    let refused = loop {
        let response = ask().send().await.unwrap();
        if response.status() != 200 {
            break response;
        }
        served += 1;
        assert!(served < 50, "the budget never ends");
    };
    assert!(served > 0);
    assert_eq!(refused.status(), 402);
    assert!(header(&refused, "retry-after").parse::<u64>().unwrap() > 0);
    let body = json_of(refused).await;
    assert_eq!(
        (code(&body), body["error"]["type"].as_str()),
        ("policy_budget_exhausted", Some("insufficient_quota"))
    );
    assert!(
        body["error"]["message"].as_str().unwrap().contains("key:alice (60 tokens per day)"),
        "{body}"
    );
    let (used, reserved) = office.ledger().budget_state("b").await.unwrap();
    assert!(used <= 60 && reserved == 0, "{used} used, {reserved} reserved");
    // Raised, it serves again.
    let raise = |budget: &mut Budget| budget.amount = 1_000;
    office.ledger().store().update_budget(&actor(), "b", raise).await.unwrap();
    office.ledger().refresh(true).await.unwrap();
    assert_eq!(ask().send().await.unwrap().status(), 200);
    office.house.close().await;
}

#[tokio::test]
async fn a_spent_budget_may_leave_the_cheap_tier_open() {
    let office = Office::open("").await;
    let secret = office.key("k", Restrictions::default()).await;
    let cheap =
        Budget { when_spent: WhenSpent::CheapTier, ..budget("b", of_key("k"), Unit::NanoUsd, 10) };
    office.budget(cheap).await;
    let fields = json!({"weighbridge": {"threshold": 0.0}, "max_tokens": 20});
    let response = office.chat(&secret, fields).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "x-weighbridge-reason"), "budget_downgrade");
    assert_eq!(header(&response, "x-weighbridge-model"), "small");
    let named = office.chat(&secret, json!({"model": "large"})).send().await.unwrap();
    assert_eq!(named.status(), 402, "who names a model has no cheaper tier");
    office.house.close().await;
}

#[tokio::test]
async fn limits_are_told_in_headers_and_a_spent_one_is_a_429() {
    let office = Office::open("").await;
    let secret = office.key("k", Restrictions::default()).await;
    let limit = Budget {
        kind: Kind::Limit,
        window: Window::Rolling(60),
        ..budget("l", of_key("k"), Unit::Requests, 2)
    };
    office.budget(limit).await;
    let first = office.chat(&secret, json!({})).send().await.unwrap();
    assert_eq!(header(&first, "x-ratelimit-limit-requests"), "2");
    assert_eq!(header(&first, "x-ratelimit-remaining-requests"), "1");
    assert!(header(&first, "x-ratelimit-reset-requests").ends_with('s'));
    office.chat(&secret, json!({})).send().await.unwrap();
    let refused = office.chat(&secret, json!({})).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let after: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=61).contains(&after), "{after}");
    let told = ["limit", "remaining"].map(|what| format!("x-ratelimit-{what}-requests"));
    assert_eq!(told.map(|name| header(&refused, &name)), ["2", "0"]);
    assert!(header(&refused, "x-ratelimit-reset-requests").ends_with('s'));
    assert_eq!(code(&json_of(refused).await), "policy_rate_limited");
    office.house.close().await;
}

#[tokio::test]
async fn places_at_the_same_time_are_given_back() {
    let office = Office::open("").await;
    let secret = office.key("k", Restrictions::default()).await;
    let limit = Budget { kind: Kind::Limit, ..budget("l", of_key("k"), Unit::Concurrent, 1) };
    office.budget(limit).await;
    let slow =
        office.chat(&secret, json!({"model": "local/m?chunk_ms=20&chunks=30", "stream": true}));
    let slow = slow.send().await.unwrap();
    let second = office.chat(&secret, json!({})).send().await.unwrap();
    assert_eq!((second.status().as_u16(), header(&second, "retry-after").as_str()), (429, "1"));
    slow.text().await.unwrap();
    assert_eq!(office.chat(&secret, json!({})).send().await.unwrap().status(), 200);
    office.house.close().await;
}

/// 200 callers at once on one budget of money.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_do_not_overspend_a_hard_budget() {
    let office = Office::open("").await;
    let secret = office.key("k", Restrictions::default()).await;
    // $0.0005: an answer of at most 50 tokens at $10 a million may cost $0.0005 and a little.
    let amount = 2_000_000;
    office.budget(budget("b", of_key("k"), Unit::NanoUsd, amount)).await;
    let asked = (0..200).map(|number| {
        let fields = json!({"model": "large", "max_tokens": 50, "stream": number % 2 == 0});
        let request = office.chat(&secret, fields);
        async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            drop(response.text().await);
            status
        }
    });
    let statuses = futures_util::future::join_all(asked).await;
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(count(200) + count(402), 200, "{statuses:?}");
    assert!(count(200) > 0 && count(402) > 0, "{statuses:?}");
    let (requests, _, _, cost) = office.spend(Dimension::Key).await["k"];
    assert_eq!(requests, 200, "a refusal leaves a row too");
    assert!(cost <= amount && cost > 0, "{cost}");
    assert_eq!(office.ledger().budget_state("b").await, Some((cost, 0)));
    office.house.close().await;
}

#[tokio::test]
async fn a_store_that_is_busy_stops_no_request_and_gets_every_row() {
    let office = Office::open("max_waiting_rows = 100").await;
    let secret = office.key("k", Restrictions::default()).await;
    let path = office.dir.path().join("w.db");
    let block = sqlite_lock(&path);
    for _ in 0..20 {
        assert_eq!(office.chat(&secret, json!({})).send().await.unwrap().status(), 200);
    }
    assert!(office.ledger().waiting_rows() > 0);
    until(|| office.ledger().store_is_down()).await;
    let ready = office.house.get("/ready").send().await.unwrap();
    assert_eq!(ready.status(), 200);
    let told = json_of(ready).await["ledger_error"].as_str().unwrap().to_owned();
    assert_eq!(told, "the store cannot be reached: 20 rows wait for it");
    drop(block);
    let (requests, ..) = office.spend(Dimension::Key).await["k"];
    assert_eq!((requests, office.ledger().waiting_rows()), (20, 0));
    office.house.close().await;
}

/// Holds the database's only write lock until it is dropped.
fn sqlite_lock(path: &std::path::Path) -> impl Drop {
    struct Held(std::process::Child);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
    let script = "import sqlite3,sys,time\nc=sqlite3.connect(sys.argv[1],isolation_level=None)\nc.execute('BEGIN IMMEDIATE')\nprint('held',flush=True)\ntime.sleep(600)";
    let mut child = std::process::Command::new("python3")
        .args(["-c", script])
        .arg(path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0; 4];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
    Held(child)
}
