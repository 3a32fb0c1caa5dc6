//! The provider catalogue: where a provider listens, what it speaks and where it differs from
//! OpenAI.
//!
//! The rows are data in `providers.toml`. A `[providers.X]` table of a configuration takes from
//! them what it does not say itself; see [`ProviderEntry`]. Nothing here sends a request.

use std::{collections::BTreeMap, sync::OnceLock};

use serde::Deserialize;

use crate::upstream::Api;

const PROVIDERS: &str = include_str!("providers.toml");
/// Names that may stand in braces in an address; each is a setting of a provider, too.
pub const PLACEHOLDERS: [&str; 5] = ["account_id", "project", "region", "resource", "workspace"];

/// One provider.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    /// Its name in configurations; the key of its row.
    #[serde(skip)]
    pub name: String,
    /// What the dialect's paths are appended to, without a trailing slash; [`PLACEHOLDERS`] in
    /// braces. The paths: `chat/completions`, `embeddings`, `responses` (openai); `messages`
    /// (anthropic); `models/{model}:generateContent` (gemini); `deployments/{model}/…` and
    /// `?api-version=` (azure); `model/{model}/converse` (bedrock); `chat`, `embed` (cohere).
    pub base_url: String,
    /// Where a provider of another dialect answers in OpenAI's chat format too, with its key as
    /// a bearer token: used when the configuration says `dialect = "openai"`.
    #[serde(default)]
    pub compatible_url: Option<String>,
    /// What it speaks.
    pub dialect: Api,
    /// How requests prove who sends them.
    pub auth: Auth,
    /// Environment variables that hold the key, the usual one first.
    #[serde(default)]
    pub key_env: Vec<String>,
    /// Whether it serves without a key, as servers on one's own machine do.
    #[serde(default)]
    pub key_optional: bool,
    /// For each placeholder of the address, the environment variables that hold its value.
    #[serde(default)]
    pub placeholders: BTreeMap<String, Vec<String>>,
    /// Headers that go with every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The service that a SigV4 signature names.
    #[serde(default)]
    pub service: Option<String>,
    /// `api-version` of the azure dialect.
    #[serde(default)]
    pub api_version: Option<String>,
    /// Where it differs from OpenAI.
    #[serde(default)]
    pub quirks: Quirks,
    /// The page that says so.
    pub source: String,
}

/// How requests prove who sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// `authorization: Bearer KEY`
    Bearer,
    /// `x-api-key: KEY`
    XApiKey,
    /// `api-key: KEY`
    ApiKey,
    /// `x-goog-api-key: KEY`
    XGoogApiKey,
    /// AWS Signature Version 4.
    #[serde(rename = "sigv4")]
    SigV4,
    /// Nothing.
    None,
}

/// Where a provider differs from OpenAI; the default differs nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// Answers `chat/completions` (or its dialect's own path for chat).
    pub chat: bool,
    /// Answers `responses`.
    pub responses: bool,
    /// Answers `embeddings`.
    pub embeddings: bool,
    /// Answers the older `completions`.
    pub completions: bool,
    /// Understands `stream_options`; otherwise it sends usage unasked or never.
    pub stream_usage: bool,
    /// Understands `max_completion_tokens`; otherwise `max_tokens` only.
    pub max_completion_tokens: bool,
    /// Knows the role `developer`; otherwise `system` only.
    pub developer_role: bool,
    /// Understands the field `parallel_tool_calls`.
    pub parallel_tool_calls: bool,
    /// What `response_format: json_schema` does.
    pub json_schema: JsonSchema,
    /// Which tool call ids it takes.
    pub tool_call_ids: ToolCallIds,
    /// Takes `reasoning_content` back in the history.
    pub reasoning_content: bool,
    /// Fetches images that are named by address; left out where its dialect says it.
    pub image_urls: Option<bool>,
    /// Counts reasoning tokens beside `completion_tokens`, not inside.
    pub reasoning_beside_output: bool,
    /// Further request fields that make it refuse a request.
    pub rejects: Vec<String>,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            chat: true,
            responses: false,
            embeddings: false,
            completions: false,
            stream_usage: true,
            max_completion_tokens: true,
            developer_role: true,
            parallel_tool_calls: true,
            json_schema: JsonSchema::Enforced,
            tool_call_ids: ToolCallIds::Any,
            reasoning_content: false,
            image_urls: None,
            reasoning_beside_output: false,
            rejects: Vec::new(),
        }
    }
}

/// What a provider does with a JSON schema for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JsonSchema {
    /// The answer follows it.
    Enforced,
    /// That depends on the model.
    SomeModels,
    /// It knows `json_object` at most.
    None,
}

/// Which tool call ids a provider takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolCallIds {
    /// Whatever another provider may have made.
    Any,
    /// Nine letters and digits (Mistral).
    Alphanumeric9,
}

/// Every provider of the catalogue, in the order of the file.
pub fn all() -> &'static [ProviderEntry] {
    static ALL: OnceLock<Vec<ProviderEntry>> = OnceLock::new();
    // A test holds the shipped file to parse; a broken one would leave the catalogue empty.
    ALL.get_or_init(|| parse(PROVIDERS).unwrap_or_default())
}

/// The provider of this name.
pub fn find(name: &str) -> Option<&'static ProviderEntry> {
    all().iter().find(|entry| entry.name == name)
}

fn parse(text: &str) -> Result<Vec<ProviderEntry>, toml::de::Error> {
    let rows: toml::map::Map<String, toml::Value> = toml::from_str(text)?;
    rows.into_iter().map(|(name, row)| Ok(ProviderEntry { name, ..row.try_into()? })).collect()
}

/// A placeholder of an address has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of `{provider}` needs `{placeholder}`")]
pub struct MissingPlaceholder {
    /// The provider.
    pub provider: String,
    /// The name in braces.
    pub placeholder: String,
    /// Environment variables that could hold it.
    pub variables: Vec<String>,
}

impl ProviderEntry {
    /// Its address for `dialect`, placeholders unfilled; `None` when it does not speak it.
    pub fn base_url(&self, dialect: Api) -> Option<&str> {
        if dialect == self.dialect {
            return Some(&self.base_url);
        }
        self.compatible_url.as_deref().filter(|_| dialect == Api::OpenAi)
    }

    /// How requests in `dialect` prove who sends them.
    pub fn auth(&self, dialect: Api) -> Auth {
        if dialect == self.dialect { self.auth } else { Auth::Bearer }
    }

    /// The address for `dialect` with its placeholders filled: from `setting`, else from the
    /// environment. `None` when the provider does not speak the dialect.
    pub fn filled_url(
        &self,
        dialect: Api,
        setting: &dyn Fn(&str) -> Option<String>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Result<String, MissingPlaceholder>> {
        let mut url = self.base_url(dialect)?.to_owned();
        for (placeholder, variables) in &self.placeholders {
            let in_environment = || {
                let set =
                    |name: &String| environment(name).filter(|value| !value.trim().is_empty());
                variables.iter().find_map(set)
            };
            let Some(value) = setting(placeholder).or_else(in_environment) else {
                return Some(Err(MissingPlaceholder {
                    provider: self.name.clone(),
                    placeholder: placeholder.clone(),
                    variables: variables.clone(),
                }));
            };
            url = url.replace(&format!("{{{placeholder}}}"), host_part(&value));
        }
        // Vertex's `global` location has no prefix (Vertex AI docs, "Locations").
        Some(Ok(url.replace("//global-aiplatform.", "//aiplatform.")))
    }
}

/// `DATABRICKS_HOST` and its like are often written as a whole URL.
fn host_part(value: &str) -> &str {
    let value = value.trim();
    value.split_once("://").map_or(value, |(_, rest)| rest).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What issue and documentation promise.
    const PROMISED: [&str; 25] = [
        "anthropic",
        "azure",
        "bedrock",
        "cerebras",
        "cloudflare",
        "cohere",
        "databricks",
        "deepseek",
        "fireworks",
        "gemini",
        "groq",
        "huggingface",
        "llamacpp",
        "lmstudio",
        "mistral",
        "nvidia",
        "ollama",
        "openai",
        "openrouter",
        "perplexity",
        "tgi",
        "together",
        "vertex",
        "vllm",
        "xai",
    ];

    /// Names in braces.
    fn braces(url: &str) -> BTreeSet<&str> {
        url.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
    }

    #[test]
    fn every_promised_provider_has_a_row() {
        let rows = parse(PROVIDERS).unwrap();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, PROMISED.into_iter().collect());
    }

    #[test]
    fn every_row_is_complete_and_its_address_can_be_filled() {
        for row in all() {
            let name = &row.name;
            assert!(row.source.starts_with("https://"), "{name}: no source");
            assert!(!row.key_env.is_empty(), "{name}: no variable for its key");
            assert_eq!(row.auth == Auth::SigV4, row.service.is_some(), "{name}: service");
            let azure = row.dialect == Api::Azure;
            assert_eq!(azure, row.api_version.is_some(), "{name}: api_version");
            let own = row.dialect == Api::OpenAi;
            assert!(!own || row.compatible_url.is_none(), "{name}: two addresses, one dialect");
            assert!(row.quirks.chat || row.quirks.responses, "{name}: serves nothing");
            for url in [Some(&row.base_url), row.compatible_url.as_ref()].into_iter().flatten() {
                assert!(!url.ends_with('/'), "{name}: {url} ends with a slash");
                let known: BTreeSet<&str> = row.placeholders.keys().map(String::as_str).collect();
                assert!(braces(url).is_subset(&known), "{name}: {url}");
                assert!(known.iter().all(|key| PLACEHOLDERS.contains(key)), "{name}: {known:?}");
            }
            let filled = row.filled_url(row.dialect, &|_| Some("x".to_owned()), &|_| None);
            let filled = reqwest::Url::parse(&filled.unwrap().unwrap()).unwrap();
            assert!(filled.has_host() && !filled.as_str().contains('{'), "{name}: {filled}");
            let local = filled.host_str() == Some("127.0.0.1");
            assert_eq!(filled.scheme() == "http", local, "{name}: {filled}");
            assert_eq!(local, row.key_optional, "{name}: key_optional");
        }
    }

    #[test]
    fn an_address_is_filled_from_settings_before_the_environment() {
        let environment = |name: &str| (name == "AWS_REGION").then(|| "eu-west-1".to_owned());
        let bedrock = find("bedrock").unwrap();
        let url = |setting: &dyn Fn(&str) -> Option<String>| {
            bedrock.filled_url(Api::Bedrock, setting, &environment).unwrap().unwrap()
        };
        assert_eq!(url(&|_| None), "https://bedrock-runtime.eu-west-1.amazonaws.com");
        let us = |_: &str| Some("us-east-1".to_owned());
        assert_eq!(url(&us), "https://bedrock-runtime.us-east-1.amazonaws.com");
        let missing = bedrock.filled_url(Api::Bedrock, &|_| None, &|_| None).unwrap();
        assert_eq!(missing.unwrap_err().to_string(), "the address of `bedrock` needs `region`");
    }

    #[test]
    fn a_host_may_be_written_as_a_url_and_global_has_no_prefix() {
        let host = |_: &str| Some("https://dbc-1.cloud.databricks.com/".to_owned());
        let databricks = find("databricks").unwrap();
        let url = databricks.filled_url(Api::OpenAi, &|_| None, &host);
        assert_eq!(url.unwrap().unwrap(), "https://dbc-1.cloud.databricks.com/serving-endpoints");
        let global = |_: &str| Some("global".to_owned());
        let url = find("vertex").unwrap().filled_url(Api::OpenAi, &global, &|_| None);
        assert!(url.unwrap().unwrap().starts_with("https://aiplatform.googleapis.com/v1/"));
    }

    #[test]
    fn a_provider_of_another_dialect_is_reached_in_openais_too() {
        let gemini = find("gemini").unwrap();
        assert_eq!(gemini.auth(Api::Gemini), Auth::XGoogApiKey);
        assert_eq!(gemini.auth(Api::OpenAi), Auth::Bearer);
        assert!(gemini.base_url(Api::OpenAi).unwrap().ends_with("/v1beta/openai"));
        assert_eq!(gemini.base_url(Api::Anthropic), None);
        assert_eq!(find("groq").unwrap().base_url(Api::Gemini), None);
    }

    #[test]
    fn a_row_with_a_slip_names_it() {
        let row =
            "[x]\nbase_url = \"u\"\ndialect = \"openai\"\nauth = \"bearer\"\nsource = \"s\"\n";
        assert!(parse(row).is_ok());
        for (slip, expected) in
            [("quirks = { stream_usge = false }", "stream_usge"), ("key = \"K\"", "key")]
        {
            let error = parse(&format!("{row}{slip}\n")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn dialects_are_named_as_in_the_configuration() {
        for (dialect, name) in Api::ALL.into_iter().zip(Api::NAMES) {
            assert_eq!(dialect.name(), name);
            assert_eq!(Api::from_name(name), Some(dialect));
        }
    }
}
