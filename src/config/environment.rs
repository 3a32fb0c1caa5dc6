//! A configuration from what the environment offers, when there is no file.
//!
//! Every provider whose usual key variable is set contributes a cheap and a strong model; a local
//! Ollama contributes its smallest and its largest. With none of them, the built-in scripted
//! upstream serves, so that a first request already shows a routed, explained answer.

use std::{path::Path, time::Duration};

use reqwest::Url;
use serde::Deserialize;

use super::{
    Config, Origin, Origins,
    catalogue::{self, LOCAL_FILE, Models},
    provider::known_quirks,
};
use crate::{
    policy::{ModelCard, Policy, Tier},
    units::{Price, Probability},
    upstream::{Api, Credential, Provider},
};

/// Where requests are split without a configuration: see the model card for what it means.
pub const DEFAULT_THRESHOLD: f32 = 0.42;
/// A cheap and a strong model of each provider that a key alone makes usable, in the order in
/// which they are preferred when several keys are set. What they cost and can do is in the
/// catalogue.
const PAIRS: [(&str, &str, &str); 8] = [
    ("openai", "gpt-5.4-nano", "gpt-5.5"),
    ("anthropic", "claude-haiku-4-5", "claude-sonnet-5"),
    ("gemini", "gemini-2.5-flash", "gemini-2.5-pro"),
    ("groq", "openai/gpt-oss-20b", "openai/gpt-oss-120b"),
    ("mistral", "mistral-small-latest", "mistral-large-latest"),
    ("deepseek", "deepseek-flash", "deepseek-v4-pro"),
    ("xai", "grok-4.20-non-reasoning", "grok-4.7"),
    ("together", "openai/gpt-oss-120b", "moonshotai/Kimi-K3"),
];
/// How long start-up waits for a local Ollama to answer.
const OLLAMA_PROBE: Duration = Duration::from_millis(300);

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The configuration.
    pub config: Config,
    /// Where the models come from, for the greeting: `openai (OPENAI_API_KEY)`.
    pub sources: Vec<String>,
}

/// A model on a local Ollama.
#[derive(Debug, Clone, Deserialize)]
pub struct OllamaModel {
    /// `qwen3:8b`
    pub name: String,
    /// Bytes on disk, which order models by size well enough.
    pub size: u64,
}

/// Ollama's address: `OLLAMA_HOST` or its default.
pub fn ollama_url() -> Option<Url> {
    let host = variable("OLLAMA_HOST").filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "127.0.0.1:11434".to_owned());
    let host = host.replace("0.0.0.0", "127.0.0.1");
    let with_scheme = if host.contains("://") { host } else { format!("http://{host}") };
    let mut url = Url::parse(&with_scheme).ok()?;
    if url.port().is_none() && url.scheme() == "http" {
        url.set_port(Some(11434)).ok()?;
    }
    Some(url)
}

/// The models of a local Ollama, or none when it does not answer at once.
pub async fn probe_ollama() -> Vec<OllamaModel> {
    #[derive(Deserialize)]
    struct Tags {
        models: Vec<OllamaModel>,
    }
    let Some(url) = ollama_url().and_then(|url| url.join("/api/tags").ok()) else {
        return Vec::new();
    };
    let Ok(client) = reqwest::Client::builder().timeout(OLLAMA_PROBE).build() else {
        return Vec::new();
    };
    let Ok(response) = client.get(url).send().await else { return Vec::new() };
    let Ok(body) = response.bytes().await else { return Vec::new() };
    serde_json::from_slice::<Tags>(&body).map(|tags| tags.models).unwrap_or_default()
}

/// A variable of this process.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A configuration from environment variables and an Ollama's models; `None` when there are
/// neither. `models` says what is known of them.
pub fn discover(
    variable: &dyn Fn(&str) -> Option<String>,
    ollama: &[OllamaModel],
    models: Models,
) -> Option<Found> {
    let mut built = Builder::new(models);
    for (provider, cheap, strong) in PAIRS {
        let Some(entry) = catalogue::find(provider) else { continue };
        let set = |name: &&String| variable(name).filter(|key| !key.trim().is_empty());
        let Some((name, key)) = entry.key_env.iter().find_map(|name| Some((name, set(&name)?)))
        else {
            continue;
        };
        // Providers whose address depends on an account are left to a configuration.
        let Some(Ok(base_url)) =
            entry.base_url(entry.dialect).map(|url| Url::parse(&format!("{url}/")))
        else {
            continue;
        };
        let Some(credential) = Credential::of_key(entry.dialect, &key) else { continue };
        let mut added = Provider::new(provider, entry.dialect, base_url, credential);
        added.quirks = known_quirks(entry);
        built.config.providers.push(added);
        built.config.catalogued.insert(provider.to_owned(), entry);
        built.sources.push(format!("{provider} ({name})"));
        built.add(provider, cheap, None, Weight::Cheap);
        built.add(provider, strong, None, Weight::Strong);
    }
    let by_size = |model: &&OllamaModel| model.size;
    if let (Some(smallest), Some(largest), Some(url)) = (
        ollama.iter().min_by_key(by_size),
        ollama.iter().max_by_key(by_size),
        ollama_url().and_then(|url| url.join("/v1/").ok()),
    ) {
        built.config.providers.push(Provider::new("ollama", Api::OpenAi, url, Credential::None));
        built.sources.push(format!("ollama ({} models)", ollama.len()));
        built.add("ollama", &smallest.name, Some(Price::default()), Weight::Cheap);
        // An Ollama with a single model needs no second tier where a provider has a strong one.
        if smallest.name != largest.name || built.strong.is_empty() {
            built.add("ollama", &largest.name, Some(Price::default()), Weight::Strong);
        }
    }
    built.finish()
}

/// The configuration that serves the scripted upstream at `base_url`.
pub fn scripted(base_url: Url) -> Option<Found> {
    let mut built = Builder::new(Models::default());
    built.config.providers.push(Provider::new("scripted", Api::OpenAi, base_url, Credential::None));
    built.sources.push("the built-in scripted upstream".to_owned());
    let price = |input, output| Price {
        input_nano_usd_per_mtok: input,
        output_nano_usd_per_mtok: output,
        cached_input_nano_usd_per_mtok: input,
        ..Price::default()
    };
    built.add("scripted", "mock-small", Some(price(100_000_000, 400_000_000)), Weight::Cheap);
    built.add("scripted", "mock-large", Some(price(2_500_000_000, 10_000_000_000)), Weight::Strong);
    built.finish()
}

enum Weight {
    Cheap,
    Strong,
}

struct Builder {
    config: Config,
    sources: Vec<String>,
    models: Vec<ModelCard>,
    cheap: Vec<usize>,
    strong: Vec<usize>,
}

impl Builder {
    fn new(catalogue: Models) -> Self {
        let catalogue_path = Path::new(LOCAL_FILE).to_owned();
        Self {
            config: Config { catalogue, catalogue_path, ..Config::default() },
            sources: Vec::new(),
            models: Vec::new(),
            cheap: Vec::new(),
            strong: Vec::new(),
        }
    }

    /// Adds a model named `provider/upstream_name` to one of the two tiers; without a `price` the
    /// catalogue's holds.
    fn add(&mut self, provider: &str, upstream_name: &str, price: Option<Price>, weight: Weight) {
        let name = format!("{provider}/{upstream_name}");
        let index = match self.models.iter().position(|card| card.name == name) {
            Some(index) => index,
            None => {
                let card = self.config.unconfigured(&name, provider, upstream_name);
                self.config.origins.push(origins(&card, price.is_some()));
                self.models.push(ModelCard { price: price.or(card.price), ..card });
                self.models.len() - 1
            }
        };
        match weight {
            Weight::Cheap => self.cheap.push(index),
            Weight::Strong => self.strong.push(index),
        }
    }

    /// Adds the policy `auto`; `None` when a tier would be empty.
    fn finish(mut self) -> Option<Found> {
        let tiers = vec![
            Tier {
                name: "cheap".to_owned(),
                below: Some(Probability::clamped(DEFAULT_THRESHOLD)),
                models: self.cheap,
            },
            Tier { name: "strong".to_owned(), below: None, models: self.strong },
        ];
        self.config.models = self.models.into();
        self.config.policies.push(Policy::new("auto".to_owned(), tiers, 1).ok()?);
        Some(Found { config: self.config, sources: self.sources })
    }
}

/// Everything but a price that is set here is the catalogue's.
fn origins(card: &ModelCard, priced: bool) -> Origins {
    let known = |known: bool| if known { Origin::Catalogue } else { Origin::Unknown };
    Origins {
        context_window: known(card.context_window.is_some()),
        max_output_tokens: known(card.max_output_tokens.is_some()),
        price: if priced { Origin::Configuration } else { known(card.price.is_some()) },
        abilities: known(!card.abilities.is_unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &Found, tier: usize) -> Vec<&str> {
        let tiers = found.config.policies[0].tiers();
        tiers[tier].models.iter().map(|&i| found.config.models[i].name.as_str()).collect()
    }

    #[test]
    fn nothing_set_finds_nothing() {
        assert!(discover(&|_| None, &[], Models::default()).is_none());
        assert!(discover(&|_| Some("  ".to_owned()), &[], Models::default()).is_none());
    }

    #[test]
    fn each_key_adds_a_cheap_and_a_strong_model() {
        let variable = |name: &str| {
            matches!(name, "OPENAI_API_KEY" | "GEMINI_API_KEY").then(|| "sk-x".to_owned())
        };
        let found = discover(&variable, &[], Models::default()).unwrap();
        assert_eq!(names(&found, 0), ["openai/gpt-5.4-nano", "gemini/gemini-2.5-flash"]);
        assert_eq!(names(&found, 1), ["openai/gpt-5.5", "gemini/gemini-2.5-pro"]);
    }

    #[test]
    fn a_local_ollama_serves_alone_with_its_smallest_and_largest() {
        let model = |name: &str, size| OllamaModel { name: name.to_owned(), size };
        let found = discover(
            &|_| None,
            &[model("b:70b", 40), model("a:1b", 1), model("c:8b", 5)],
            Models::default(),
        )
        .unwrap();
        assert_eq!(names(&found, 0), ["ollama/a:1b"]);
        assert_eq!(names(&found, 1), ["ollama/b:70b"]);
        let single = discover(&|_| None, &[model("a:1b", 1)], Models::default()).unwrap();
        assert_eq!(names(&single, 1), ["ollama/a:1b"]);
    }

    #[test]
    fn every_model_offered_without_a_configuration_is_in_the_catalogue_with_its_price() {
        for (provider, cheap, strong) in PAIRS {
            for model in [cheap, strong] {
                let facts = Models::default();
                let facts =
                    facts.find(provider, model).unwrap_or_else(|| panic!("{provider}/{model}"));
                assert!(facts.price.is_some(), "{provider}/{model}");
            }
        }
    }
}
