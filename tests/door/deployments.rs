//! Credentials, deployments, retries, breakers and orders: who is asked, and how often.

use std::collections::BTreeSet;

use serde_json::json;

use crate::house::{House, header, json_of};

/// `{provider}` is the provider's settings, `{small}` and `{large}` the models' scripts,
/// `{tier}` the settings of the first tier.
const LAYOUT: &str = r#"
[server]
listen = "127.0.0.1:0"
[providers.p]
base_url = "{base}"
first_byte_timeout_ms = 1500
{provider}
[models.small]
provider = "p"
upstream_name = "small{small}"
context_window = 8000
price = { input_usd_per_mtok = 1.0, output_usd_per_mtok = 1.0 }
[models.other]
provider = "p"
upstream_name = "other"
context_window = 8000
price = { input_usd_per_mtok = 0.5, output_usd_per_mtok = 0.5 }
[models.large]
provider = "p"
upstream_name = "large{large}"
context_window = 100000
price = { input_usd_per_mtok = 5.0, output_usd_per_mtok = 9.0, cached_input_usd_per_mtok = 0.5 }
[policies.auto]
{policy}
tiers = [{ name = "cheap", below = 0.4, models = ["small", "other"]{tier} }, { name = "strong", models = ["large"] }]
"#;

async fn house(provider: &str, small: &str, tier: &str, policy: &str) -> House {
    let text = LAYOUT
        .replace("{provider}", provider)
        .replace("{small}", small)
        .replace("{large}", "")
        .replace("{tier}", tier)
        .replace("{policy}", policy);
    House::open(&text).await
}

async fn served_by(house: &House, fields: serde_json::Value) -> (String, String) {
    let response = house.chat(fields).send().await.unwrap();
    let served = header(&response, "x-weighbridge-model");
    (served, header(&response, "x-weighbridge-attempts"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_gives_way_to_another_and_rests() {
    for status in [401, 402, 403, 429] {
        let keys = format!("api_key_envs = [\"TEST_KEY_bad-{status}\", \"TEST_KEY_good\"]");
        let house = house(&keys, "", "", "").await;
        // Each call draws its key, until the bad one has been drawn.
        for _ in 0..40 {
            assert_eq!(served_by(&house, json!({})).await.0, "small", "{status}");
        }
        assert_eq!(house.upstream.requests().len(), 41, "the bad key was asked once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_keeps_its_key_and_conversations_share_them() {
    let house = house("api_key_envs = [\"TEST_KEY_a\", \"TEST_KEY_b\"]", "", "", "").await;
    let mut keys = BTreeSet::new();
    for subject in 0..24 {
        let begun = json!({"role": "user", "content": format!("Tell me of number {subject}.")});
        let answer = json!({"role": "assistant", "content": "It is a number."});
        let again = json!({"role": "user", "content": "And what else?"});
        served_by(&house, json!({"model": "auto", "messages": [begun]})).await;
        served_by(&house, json!({"model": "auto", "messages": [begun, answer, again]})).await;
        let asked = house.upstream.requests();
        let key = |back: usize| {
            let headers = &asked[asked.len() - back].headers;
            headers.iter().find(|(name, _)| name == "authorization").unwrap().1.clone()
        };
        assert_eq!(key(1), key(2), "{subject}");
        keys.insert(key(1));
    }
    assert_eq!(keys.len(), 2, "24 conversations miss a key once in eight million times");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_may_pass_is_retried_before_the_next_model_is_asked() {
    let house = house("retries = 2", "?status=503,500,200", "", "").await;
    for stream in [false, true] {
        let script = served_by(&house, json!({"stream": stream})).await;
        assert_eq!(script.0, "small");
    }
    assert_eq!(house.upstream.requests().len(), 4, "three for the first, one for the second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wish_to_wait_moves_on_instead() {
    let house = house("retries = 2", "?status=429&retry_after=60", "", "").await;
    assert_eq!(served_by(&house, json!({})).await, ("other".to_owned(), "2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_deployments_share_one_model() {
    let two =
        "deployments = [{ weight = 1 }, { base_url = \"http://127.0.0.1:9/v1\" }]\nretries = 1";
    let house = house(two, "", "", "").await;
    for _ in 0..10 {
        assert_eq!(served_by(&house, json!({})).await.0, "small");
    }
    assert_eq!(house.upstream.requests().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_deployment_fails_nobody_while_another_answers() {
    let deployments = "breaker_failures = 3\nbreaker_open_ms = 50\n\
        deployments = [{ base_url = \"http://127.0.0.1:1/v1\" }, { base_url = \"{base}\" }]";
    let house = house(deployments, "", "", "").await;
    for call in 0..40 {
        let response = house.chat(json!({})).send().await.unwrap();
        assert_eq!(response.status(), 200, "{call}");
        assert_eq!(header(&response, "x-weighbridge-model"), "small", "{call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_has_moved_or_lost_its_model_is_not_the_callers_fault() {
    for status in [302, 307, 405, 410] {
        let house = house("", &format!("?status={status}"), "", "").await;
        let served = served_by(&house, json!({})).await;
        assert_eq!(served, ("other".to_owned(), "2".to_owned()), "{status}");
        let response = house.chat(json!({"model": "small"})).send().await.unwrap();
        assert_eq!(response.status(), 502, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_byte_of_a_whole_answers_body_has_its_deadline_too() {
    let house = house("", "?first_ms=60000", "", "").await;
    for stream in [false, true] {
        let fields = json!({"model": "small", "stream": stream});
        let request = house.chat(fields).header("x-weighbridge-first-byte-timeout-ms", "200");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 504, "{stream}");
        let text = response.text().await.unwrap();
        assert!(text.contains("first_byte deadline of 200 ms"), "{stream}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_request_names_the_model_that_was_asked() {
    let house = house("", "?head_ms=60000", "", "").await;
    let request = house.chat(json!({})).header("x-weighbridge-total-timeout-ms", "200");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 504);
    assert_eq!(header(&response, "x-weighbridge-model"), "small");
    assert_eq!(header(&response, "x-weighbridge-attempts"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_count_towards_the_window() {
    let house = house("", "", "", "").await;
    let data = format!("data:application/pdf;base64,{}", "JVBE".repeat(200_000));
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    for (parts, expected) in [
        (vec![json!({"type": "file", "file": {"filename": "a.pdf", "file_data": data}})], "large"),
        (vec![image.clone(); 10], "large"),
        (vec![image], "small"),
    ] {
        let text = json!({"type": "text", "text": "Hello"});
        let content: Vec<_> = std::iter::once(text).chain(parts).collect();
        let messages = json!([{"role": "user", "content": content}]);
        assert_eq!(served_by(&house, json!({ "messages": messages })).await.0, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_that_is_open_is_not_asked() {
    let settings = "breaker_failures = 2\nbreaker_open_ms = 60000";
    let house = house(settings, "?status=500", "", "").await;
    for _ in 0..2 {
        assert_eq!(served_by(&house, json!({})).await, ("other".to_owned(), "2".to_owned()));
    }
    assert_eq!(served_by(&house, json!({})).await, ("other".to_owned(), "1".to_owned()));
    let named = house.chat(json!({"model": "small"})).send().await.unwrap();
    assert_eq!(named.status(), 503);
    assert!(header(&named, "retry-after").parse::<u64>().unwrap() > 50);
    assert_eq!(json_of(named).await["error"]["code"], "provider_circuit_open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_too_long_for_one_model_goes_to_one_with_a_larger_window() {
    let house = house("", "?reject=context", "", "").await;
    assert_eq!(served_by(&house, json!({})).await, ("large".to_owned(), "2".to_owned()));
    let strict = self::house("", "?reject=context", "", "fallback_on = []").await;
    let refused = strict.chat(json!({})).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(json_of(refused).await["error"]["code"], "context_length_exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_a_content_filter_falls_back_only_when_the_policy_says_so() {
    let house = house("", "?reject=policy", "", "").await;
    assert_eq!(house.chat(json!({})).send().await.unwrap().status(), 400);
    let lenient = self::house("", "?reject=policy", "", "fallback_on = [\"content_policy\"]").await;
    assert_eq!(served_by(&lenient, json!({})).await.0, "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tiers_order_and_a_callers_modifier_decide_who_is_asked_first() {
    let listed = house("", "", "", "").await;
    assert_eq!(served_by(&listed, json!({})).await.0, "small");
    assert_eq!(served_by(&listed, json!({"model": "auto:floor"})).await.0, "other");
    let cheapest = house("", "", ", order = \"cheapest\"", "").await;
    assert_eq!(served_by(&cheapest, json!({})).await.0, "other");
    // Once both are measured, the one that thinks for 300 ms is the slower.
    let fastest = house("", "?head_ms=300", ", order = \"fastest\"", "").await;
    for _ in 0..2 {
        served_by(&fastest, json!({})).await;
    }
    assert_eq!(served_by(&fastest, json!({})).await.0, "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_own_deadline_is_kept() {
    let house = house("", "?head_ms=5000", "", "").await;
    let named = json!({"model": "small"});
    for name in ["first-byte", "total"] {
        let name = format!("x-weighbridge-{name}-timeout-ms");
        let response = house.chat(named.clone()).header(&name, "150").send().await.unwrap();
        assert_eq!(response.status(), 504, "{name}");
    }
    let wrong = house.chat(named).header("x-weighbridge-total-timeout-ms", "soon").send();
    let wrong = wrong.await.unwrap();
    assert_eq!(wrong.status(), 400);
    assert_eq!(json_of(wrong).await["error"]["param"], "x-weighbridge-total-timeout-ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_connect_deadline_shortens_the_providers_and_never_lengthens_it() {
    // It takes connections and leaves the handshake of TLS unanswered.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}/v1", silent.local_addr().unwrap());
    for (own, asked, kept) in [(10_000, "150", 150), (150, "60000", 150)] {
        let settings = format!("connect_timeout_ms = {own}");
        let text = LAYOUT.replace("{base}", &address).replace("{provider}", &settings);
        let text = ["{small}", "{large}", "{tier}", "{policy}"]
            .iter()
            .fold(text, |text, name| text.replace(name, ""));
        let house = House::open(&text).await;
        let request = house.chat(json!({"model": "small"}));
        let response =
            request.header("x-weighbridge-connect-timeout-ms", asked).send().await.unwrap();
        assert_eq!(response.status(), 504);
        let error = json_of(response).await["error"].clone();
        let expected = format!("connect deadline of {kept} ms");
        assert!(error["message"].as_str().unwrap().contains(&expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_keeps_its_model_until_the_score_or_the_price_says_otherwise() {
    let house = house("", "", "", "").await;
    let long = "Some context that was read before. ".repeat(150);
    let turn = |question: &str, last: Option<serde_json::Value>| {
        let mut messages = vec![
            json!({"role": "system", "content": long}),
            json!({"role": "user", "content": question}),
        ];
        if let Some(last) = last {
            messages.push(json!({"role": "assistant", "content": "Yes."}));
            messages.push(last);
        }
        json!({"messages": messages, "max_tokens": 20})
    };
    let step = |mut turn: serde_json::Value| {
        let call =
            json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let messages = turn["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": "c", "content": "12"}));
        turn
    };
    let hard =
        "Prove that every continuous function on a compact metric space is uniformly continuous.";
    let ask = async |fields| {
        let response = house.chat(fields).send().await.unwrap();
        (header(&response, "x-weighbridge-model"), header(&response, "x-weighbridge-reason"))
    };
    // A trivial first turn pins nothing: the next goes up.
    assert_eq!(ask(turn("Hello", None)).await.0, "small");
    let asked = || turn("Hello", Some(json!({"role": "user", "content": hard})));
    let up = ask(asked()).await;
    assert_eq!(up, ("large".to_owned(), "score_at_or_above_threshold".to_owned()));
    // A tool's answer is no new instruction.
    let looped = ("large".to_owned(), "session_tool_loop".to_owned());
    assert_eq!(ask(step(asked())).await, looped);
    // Back to small talk: the large model has the context in its cache.
    let mut thanked = asked();
    for (role, content) in [("assistant", "It is so."), ("user", "Thanks")] {
        let message = json!({"role": role, "content": content});
        thanked["messages"].as_array_mut().unwrap().push(message);
    }
    let kept = ask(thanked).await;
    assert_eq!(kept, ("large".to_owned(), "session_kept_cheaper".to_owned()));
    // Whatever goes on beside it under the same name, the instruction keeps its model.
    let named = async |fields| {
        let request = house.chat(fields).header("x-session-id", "one");
        let response = request.send().await.unwrap();
        (header(&response, "x-weighbridge-model"), header(&response, "x-weighbridge-reason"))
    };
    assert_eq!(named(asked()).await.0, "large");
    let title = json!({"messages": [{"role": "user", "content": "Title: Proofs"}]});
    assert_eq!(named(title).await.0, "small");
    assert_eq!(named(step(asked())).await, looped);
    let thanks = json!({"role": "user", "content": "Thanks"});
    let mut next = step(asked());
    next["messages"].as_array_mut().unwrap().push(thanks);
    assert_eq!(named(next).await, ("large".to_owned(), "session_kept_cheaper".to_owned()));
    // A loop that another gateway began is decided by its instruction, not by the session's name.
    let title = json!({"messages": [{"role": "user", "content": "Title: Proofs"}]});
    assert_eq!(named(title).await.0, "small");
    let begun = step(turn("Good day", Some(json!({"role": "user", "content": hard}))));
    assert_eq!(named(begun).await.0, "large");
    // One whose beginning was cut off is known by its name.
    let cut = json!({"messages": [
        {"role": "system", "content": long},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Thanks"},
    ], "max_tokens": 20});
    assert_eq!(named(cut).await, ("large".to_owned(), "session_kept_cheaper".to_owned()));
    // One that begins alike and has gone on otherwise is another.
    let easy = json!({"role": "user", "content": "Well, thank you then"});
    assert_eq!(ask(turn("Hello", Some(easy))).await.0, "small");
    // Another conversation is another matter.
    let other = json!({"role": "user", "content": "Thanks"});
    assert_eq!(ask(turn("Hi there", Some(other))).await.0, "small");
}
