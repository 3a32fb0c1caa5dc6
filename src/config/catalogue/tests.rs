//! The shipped rows, LiteLLM's format and refreshing, by hand-made rows.

use super::{
    litellm::{LiteLlmError, convert},
    refresh::merge,
    *,
};
use crate::{
    policy::{Ability, Mode},
    units::Price,
};

/// Every peculiarity of the format once, with prices of round numbers.
const LIST: &str = r#"{
  "sample_spec": { "litellm_provider": "one of …", "mode": "one of …", "max_input_tokens": "text" },
  "groq/big": {
    "litellm_provider": "groq", "mode": "chat", "max_input_tokens": 131072,
    "max_output_tokens": 65536.0, "input_cost_per_token": 7.5e-08, "output_cost_per_token": 3e-07,
    "cache_read_input_token_cost": 3.75e-08, "output_cost_per_reasoning_token": 4e-07,
    "supports_function_calling": true, "supports_vision": false, "supports_response_schema": true,
    "source": "https://groq.com/pricing"
  },
  "gemini/long": {
    "litellm_provider": "gemini", "mode": "chat", "input_cost_per_token": 1.25e-06,
    "output_cost_per_token": 1e-05, "output_cost_per_reasoning_token": 1e-05,
    "input_cost_per_token_above_200k_tokens": 2.5e-06,
    "output_cost_per_token_above_200k_tokens": 1.5e-05,
    "cache_read_input_token_cost": 1.25e-07,
    "cache_read_input_token_cost_above_200k_tokens": 2.5e-07,
    "input_cost_per_token_batches": 6.25e-07, "output_cost_per_token_batches": 5e-06
  },
  "claude-x": {
    "litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 3e-06,
    "output_cost_per_token": 1.5e-05, "cache_creation_input_token_cost": 3.75e-06,
    "cache_creation_input_token_cost_above_1hr": 6e-06, "deprecation_date": "2030-01-01"
  },
  "gpt-5-like": {
    "litellm_provider": "openai", "mode": "responses", "max_input_tokens": 272000,
    "max_output_tokens": 128000
  },
  "text-embedding-x": {
    "litellm_provider": "openai", "mode": "embedding", "max_input_tokens": 8191,
    "input_cost_per_token": 2e-08
  },
  "command-free": {
    "litellm_provider": "cohere_chat", "mode": "chat", "max_input_tokens": 9, "input_cost_per_token": 0.0,
    "output_cost_per_token": 0.0
  },
  "gemini-v": { "litellm_provider": "vertex_ai-language-models", "mode": "chat", "max_input_tokens": 9 },
  "vertex_ai/meta/llama-maas": { "litellm_provider": "vertex_ai-llama_models", "mode": "chat", "max_input_tokens": 9 },
  "vertex_ai/claude-v": { "litellm_provider": "vertex_ai-anthropic_models", "mode": "chat", "max_input_tokens": 9 },
  "bedrock/zai.glm": { "litellm_provider": "bedrock", "mode": "chat", "max_input_tokens": 9 },
  "bedrock/us-east-1/zai.glm": { "litellm_provider": "bedrock", "mode": "chat", "max_input_tokens": 9 },
  "azure/eu/gpt": { "litellm_provider": "azure", "mode": "chat", "max_input_tokens": 9 },
  "together-ai-up-to-4b": { "litellm_provider": "together_ai", "mode": "chat", "max_input_tokens": 9 },
  "perplexity/sonar": { "litellm_provider": "perplexity", "mode": "chat", "max_input_tokens": 9 },
  "perplexity/preset/pro": { "litellm_provider": "perplexity", "mode": "responses", "max_input_tokens": 9 },
  "groq/old": { "litellm_provider": "groq", "mode": "chat", "deprecation_date": "2026-11-22" },
  "ft:gpt-x": { "litellm_provider": "openai", "mode": "chat", "max_input_tokens": 9 },
  "container": { "litellm_provider": "openai", "mode": "chat" },
  "dall-e": { "litellm_provider": "openai", "mode": "image_generation" },
  "elsewhere/m": { "litellm_provider": "elsewhere", "mode": "chat", "max_input_tokens": "?" }
}"#;

fn converted() -> CatalogueFile {
    convert(LIST, "a list", "2026-11-22").unwrap()
}

fn facts(provider: &str, model: &str) -> ModelFacts {
    converted().find(provider, model).flatten().cloned().unwrap_or_else(|| panic!("{model}"))
}

#[test]
fn rows_are_kept_under_the_names_that_requests_carry() {
    let file = converted();
    let names: Vec<String> = file
        .rows
        .iter()
        .flat_map(|(provider, models)| {
            models.keys().map(move |model| format!("{provider}/{model}"))
        })
        .collect();
    assert_eq!(
        names,
        [
            "anthropic/claude-x",
            "bedrock/zai.glm",
            "cohere/command-free",
            "gemini/long",
            "groq/big",
            "groq/old",
            "openai/gpt-5-like",
            "openai/text-embedding-x",
            "perplexity/preset/pro",
            "vertex/google/gemini-v",
            "vertex/meta/llama-maas",
        ]
    );
    assert_eq!(file.find("groq", "old"), Some(None), "retired on the day of the list");
}

#[test]
fn prices_are_exact_nano_dollars() {
    let big = facts("groq", "big").price.unwrap();
    assert_eq!((big.input, big.output), (75_000_000, 300_000_000));
    assert_eq!((big.cached_input, big.reasoning), (Some(37_500_000), Some(400_000_000)));
    let long = facts("gemini", "long").price.unwrap();
    assert_eq!(long.reasoning, None, "as output");
    assert_eq!((long.batch_input, long.batch_output), (Some(625_000_000), Some(5_000_000_000)));
    let above = AbovePrice {
        tokens: 200_000,
        input: 2_500_000_000,
        output: 15_000_000_000,
        cached_input: Some(250_000_000),
        ..AbovePrice::default()
    };
    assert_eq!(long.above, Some(above));
    let claude = Price::from(facts("anthropic", "claude-x").price.unwrap());
    assert_eq!(claude.cache_write_nano_usd_per_mtok, Some(3_750_000_000));
    assert_eq!(claude.cache_write_1h_nano_usd_per_mtok, Some(6_000_000_000));
    assert_eq!(claude.cached_input_nano_usd_per_mtok, 3_000_000_000, "as input");
    assert_eq!(facts("cohere", "command-free").price, None, "free means unknown at a provider");
    assert_eq!(facts("openai", "text-embedding-x").price.unwrap().output, 0);
}

#[test]
fn abilities_are_affirmed_denied_or_unknown() {
    let big = facts("groq", "big").abilities;
    assert_eq!(big.to_string(), "tools json_schema -images -audio -documents -reasoning");
    assert_eq!(big.has(Ability::ParallelTools), None);
    assert!(facts("anthropic", "claude-x").abilities.is_unknown(), "no flag says nothing");
    let embedding = facts("openai", "text-embedding-x");
    assert_eq!(embedding.abilities.to_string(), "embeddings");
    assert_eq!((embedding.mode, embedding.max_output_tokens), (Mode::Embeddings, None));
}

#[test]
fn limits_dates_and_pages_are_kept() {
    let big = facts("groq", "big");
    assert_eq!((big.context_window, big.max_output_tokens), (Some(131_072), Some(65_536)));
    assert_eq!(big.provenance.page.as_deref(), Some("https://groq.com/pricing"));
    assert_eq!(facts("openai", "gpt-5-like").context_window, Some(400_000));
    assert_eq!(facts("openai", "gpt-5-like").mode, Mode::Responses);
    assert_eq!(facts("anthropic", "claude-x").retires.as_deref(), Some("2030-01-01"));
}

#[test]
fn a_slip_in_the_list_is_reported_with_model_and_field() {
    for (from, to, expected) in [
        (
            "131072",
            "\"many\"",
            "`groq/big`: `max_input_tokens`: expected a number of tokens, found \"many\"",
        ),
        ("131072", "-1", "`max_input_tokens`"),
        (
            "7.5e-08",
            "-7.5e-08",
            "`groq/big`: `input_cost_per_token`: expected a price in dollars, found -7.5e-8",
        ),
        ("7.5e-08", "75", "`input_cost_per_token`"),
        (
            "\"supports_vision\": false",
            "\"supports_vision\": \"no\"",
            "`supports_vision`: expected true or false",
        ),
        ("2030-01-01", "soon", "`claude-x`: `deprecation_date`: expected a date"),
        (
            "{ \"litellm_provider\": \"groq\", \"mode\": \"chat\", \"deprecation_date\": \"2026-11-22\" }",
            "[]",
            "`groq/old`: expected an object",
        ),
        ("\"sample_spec\": {", "\"sample_spec\": ", "it is not LiteLLM's price file"),
    ] {
        assert!(LIST.contains(from), "{from}");
        let error = convert(&LIST.replacen(from, to, 1), "a list", "2026-11-22").unwrap_err();
        assert!(error.to_string().contains(expected), "{from} → {to}: {error}");
    }
    assert_eq!(convert("{}", "a list", "2026-11-22"), Err(LiteLlmError::Empty));
    assert!(matches!(convert("[]", "a list", "2026-11-22"), Err(LiteLlmError::Malformed(_))));
}

#[test]
fn a_refresh_says_what_changes_and_a_second_one_changes_nothing() {
    let (local, changes) = merge(&Models::default(), converted());
    assert!(changes.added.contains(&"groq/big".to_owned()), "{changes}");
    let models = Models::with_local(local.clone());
    assert!(models.is_local("groq", "big"));
    assert_eq!(models.find("groq", "big").unwrap().context_window, Some(131_072));

    let later = convert(LIST, "a later list", "2026-12-01").unwrap();
    let (again, changes) = merge(&models, later);
    assert!(changes.is_empty(), "{changes}");
    assert_eq!(again.rows, local.rows, "rows keep the day on which they were learnt");

    let dearer = LIST.replacen("7.5e-08", "1e-07", 1).replacen("2030-01-01", "2026-11-30", 1);
    let (third, changes) = merge(&models, convert(&dearer, "x", "2026-12-01").unwrap());
    assert_eq!(changes.changed, ["groq/big: input $0.075 → $0.10"]);
    assert_eq!(changes.removed, ["anthropic/claude-x"]);
    let models = Models::with_local(third);
    assert_eq!(models.find("groq", "big").unwrap().price.unwrap().input, 100_000_000);
    assert!(models.find("anthropic", "claude-x").is_none());
}

#[test]
fn a_list_that_agrees_with_the_program_needs_no_local_rows() {
    let mut same = Models::shipped().clone();
    same.source = "the same, read later".to_owned();
    let (local, changes) = merge(&Models::default(), same);
    assert!(changes.is_empty() && local.rows.is_empty());
}

#[test]
fn local_rows_win_and_null_takes_a_shipped_model_out() {
    let text = r#"{"format":1,"source":"s","date":"2026-11-22","providers":{"openai":{"gpt-4o":null,"new":{"context_window":7}}}}"#;
    let models = Models::with_local(CatalogueFile::parse(text).unwrap());
    assert!(Models::default().find("openai", "gpt-4o").is_some());
    assert!(models.find("openai", "gpt-4o").is_none());
    assert_eq!(models.find("openai", "new").unwrap().context_window, Some(7));
    let all = models.all();
    assert!(all.iter().any(|(provider, model, _)| (*provider, *model) == ("openai", "new")));
    assert!(!all.iter().any(|(provider, model, _)| (*provider, *model) == ("openai", "gpt-4o")));
}

#[test]
fn the_shipped_file_is_as_the_program_writes_it_and_every_row_makes_sense() {
    let shipped = CatalogueFile::parse(MODELS).unwrap();
    assert!(shipped.write() == MODELS, "write it anew with `weighbridge models --refresh … --out`");
    assert!(MODELS.len() < 400_000, "{} bytes", MODELS.len());
    assert!(shipped.source.starts_with("litellm ") && shipped.licence.is_some());
    assert!(shipped.facts().count() > 1_000);
    for (provider, models) in &shipped.rows {
        assert!(find(provider).is_some(), "{provider} is not in the provider catalogue");
        for (model, facts) in models {
            let facts = facts.as_ref().unwrap_or_else(|| panic!("{provider}/{model} is null"));
            let name = format!("{provider}/{model}");
            assert!(
                facts.retires.as_deref() > Some(shipped.date.as_str()) || facts.retires.is_none(),
                "{name}"
            );
            let embeds = facts.abilities.has(Ability::Embeddings) == Some(true);
            assert_eq!(embeds, facts.mode == Mode::Embeddings, "{name}");
            if let Some(price) = facts.price {
                assert!(price.cached_input.is_none_or(|cached| cached <= price.input), "{name}");
                assert!(price.above.is_none_or(|above| above.input >= price.input), "{name}");
            }
        }
    }
}

#[test]
fn well_known_models_are_shipped_with_their_list_prices() {
    // developers.openai.com/api/docs/pricing and platform.claude.com/docs/en/about-claude/pricing
    let models = Models::default();
    let nano = models.find("openai", "gpt-5.4-nano").unwrap();
    assert_eq!(nano.context_window, Some(400_000));
    let price = nano.price.unwrap();
    assert_eq!((price.input, price.output), (200_000_000, 1_250_000_000));
    let haiku = models.find("anthropic", "claude-haiku-4-5").unwrap();
    assert_eq!(haiku.context_window, Some(200_000));
    assert_eq!(haiku.price.unwrap().cache_write_1h, Some(2_000_000_000));
}
