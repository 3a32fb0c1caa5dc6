//! Vectors: who is asked for them, and Bedrock, whose models each speak their maker's language.

use serde_json::{Value, json};

use crate::{
    dialects::EVERY_KIND,
    house::{House, header, json_of},
};

async fn house() -> House {
    let mut config = EVERY_KIND.replace("{script}", "");
    for (name, upstream) in [
        ("titan", "amazon.titan-embed-text-v2:0?tokens_in=5"),
        ("titan-v1", "amazon.titan-embed-text-v1"),
        ("titan-down", "amazon.titan-embed-text-v2:0?status=200,429,200"),
        ("embed-v3", "cohere.embed-multilingual-v3?tokens_in=7"),
        ("embed-v4", "eu.cohere.embed-v4:0"),
    ] {
        config += &format!(
            "[models.{name}]\nprovider = \"amazon\"\nupstream_name = \"{upstream}\"\n\
             price = {{ input_usd_per_mtok = 0.02, output_usd_per_mtok = 0.0 }}\n"
        );
    }
    House::open(&config.replacen("region =", "retries = 0\nregion =", 1)).await
}

async fn embed(house: &House, fields: Value) -> (u16, String, Value) {
    let response = house.post("/v1/embeddings", fields.to_string()).send().await.unwrap();
    let cost = header(&response, "x-weighbridge-cost-usd");
    (response.status().as_u16(), cost, json_of(response).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn titan_is_asked_for_each_text_and_cohere_for_all_at_once() {
    let house = house().await;
    for (model, calls, length, tokens) in
        [("titan", 3, 1024, 15), ("embed-v3", 1, 1024, 7), ("embed-v4", 1, 1536, 3)]
    {
        house.upstream.clear();
        let input = json!({"model": model, "input": ["red", "blue", "red"]});
        let (status, cost, answer) = embed(&house, input).await;
        assert_eq!(status, 200, "{model}: {answer}");
        let seen = house.upstream.requests();
        assert_eq!(seen.len(), calls, "{model}");
        assert!(seen.iter().all(|request| request.path.ends_with("/invoke")), "{model}");
        let vector = |at: usize| answer["data"][at]["embedding"].as_array().unwrap().clone();
        assert_eq!(vector(0).len(), length, "{model}");
        // In the order of the texts.
        assert!(vector(0) == vector(2) && vector(0) != vector(1), "{model}");
        assert_eq!(answer["data"].as_array().unwrap().len(), 3);
        assert_eq!(answer["usage"]["prompt_tokens"], tokens, "{model}");
        // 20 nano-dollars a token.
        assert_eq!(cost, weighbridge::units::NanoUsd(tokens * 20).to_string(), "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_sends_vectors_to_who_makes_them_and_answers_to_who_gives_them() {
    let layout = r#"
[server]
listen = "127.0.0.1:0"
[providers.openai]
base_url = "{base}"
api_key_env = "TEST_KEY_openai"
[models.chatty]
provider = "openai"
upstream_name = "gpt-4o"
[models.vectors]
provider = "openai"
upstream_name = "text-embedding-3-small"
[policies.a]
tiers = [{ name = "only", models = ["chatty", "vectors"] }]
[policies.b]
tiers = [{ name = "only", models = ["vectors", "chatty"] }]
"#;
    let house = House::open_without_classifier(layout).await;
    for policy in ["a", "b"] {
        let body = json!({"model": policy, "input": "x"}).to_string();
        let response = house.post("/v1/embeddings", body).send().await.unwrap();
        let served = header(&response, "x-weighbridge-model");
        assert_eq!(served, "vectors", "{policy}");
        let response = house.chat(json!({"model": policy})).send().await.unwrap();
        assert_eq!(header(&response, "x-weighbridge-model"), "chatty", "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_and_base64_are_given_where_the_model_has_them() {
    let house = house().await;
    for model in ["titan", "embed-v4"] {
        let input = json!({
            "model": model, "input": "red", "dimensions": 256, "encoding_format": "base64",
        });
        let (status, _, answer) = embed(&house, input).await;
        assert_eq!(status, 200, "{model}: {answer}");
        let text = answer["data"][0]["embedding"].as_str().unwrap();
        // 256 numbers of four bytes, three bytes in four letters.
        assert_eq!(text.len(), (256 * 4_usize).div_ceil(3) * 4, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bedrock_model_cannot_embed_is_a_400_that_says_why() {
    let house = house().await;
    let many: Vec<_> = (0..97).map(|at| format!("text {at}")).collect();
    for (input, said) in [
        (json!({"model": "titan", "input": many}), "97 texts"),
        (json!({"model": "titan", "input": [1, 2]}), "token numbers"),
        (json!({"model": "titan-v1", "input": "a", "dimensions": 256}), "`dimensions`"),
        (json!({"model": "embed-v3", "input": "a", "dimensions": 256}), "`dimensions`"),
        (json!({"model": "m-amazon", "input": "a"}), "titan-embed"),
    ] {
        let (status, _, answer) = embed(&house, input).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(said), "{status} {message}");
    }
    assert!(house.upstream.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_text_that_fails_fails_the_request() {
    let house = house().await;
    let input = json!({"model": "titan-down", "input": ["a", "b", "c"]});
    let (status, _, answer) = embed(&house, input).await;
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("provider_rate_limited")));
}
