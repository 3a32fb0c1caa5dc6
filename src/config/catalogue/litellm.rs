//! LiteLLM's public price file (`model_prices_and_context_window.json`) → rows of the catalogue.
//!
//! The file names models `provider/model` or by the bare model, prices in dollars a token as
//! decimals, and abilities as flags. Its fields are described under `sample_spec` in the file
//! and in LiteLLM's documentation, "Add model pricing & context window".

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    file::{CatalogueFile, Rows},
    model::{AbovePrice, ListPrice, ModelFacts, Provenance},
};
use crate::policy::{Abilities, Ability, Mode};

/// Problems reported at once.
const MAX_PROBLEMS: usize = 20;
/// Dearest price accepted, in dollars per million tokens: a guard against a slip of units.
const MAX_USD_PER_MTOK: f64 = 100_000.0;
/// Nano-dollars a million tokens in one dollar a token.
const NANO_PER_MTOK: f64 = 1e15;
/// OpenAI's models whose prompts LiteLLM limits to what is left of the window beside the longest
/// answer: limit of the prompt, limit of the answer, window
/// (developers.openai.com/api/docs/models: 400,000 for GPT-5 mini and nano, 1,050,000 for GPT-5.5).
const PROMPT_LIMITS: [(u32, u32, u32); 2] =
    [(272_000, 128_000, 400_000), (922_000, 128_000, 1_050_000)];

/// LiteLLM's providers, ours, and the prefix without which a name is a price class or a repeat.
const PROVIDERS: [(&str, &str, &str); 27] = [
    ("anthropic", "anthropic", ""),
    ("azure", "azure", "azure/"),
    ("bedrock", "bedrock", ""),
    ("bedrock_converse", "bedrock", ""),
    ("cerebras", "cerebras", "cerebras/"),
    ("cloudflare", "cloudflare", "cloudflare/"),
    ("cohere", "cohere", ""),
    ("cohere_chat", "cohere", ""),
    ("databricks", "databricks", "databricks/"),
    ("deepseek", "deepseek", "deepseek/"),
    ("fireworks_ai", "fireworks", "fireworks_ai/"),
    ("fireworks_ai-embedding-models", "fireworks", "fireworks_ai/"),
    ("gemini", "gemini", "gemini/"),
    ("groq", "groq", "groq/"),
    ("hosted_vllm", "vllm", "hosted_vllm/"),
    ("huggingface", "huggingface", "huggingface/"),
    ("lm_studio", "lmstudio", "lm_studio/"),
    ("mistral", "mistral", "mistral/"),
    ("nvidia_nim", "nvidia", "nvidia_nim/"),
    ("ollama", "ollama", "ollama/"),
    ("ollama_chat", "ollama", "ollama_chat/"),
    ("openai", "openai", ""),
    ("openrouter", "openrouter", "openrouter/"),
    ("perplexity", "perplexity", "perplexity/"),
    ("together_ai", "together", "together_ai/"),
    ("vertex_ai", "vertex", "vertex_ai/"),
    ("xai", "xai", "xai/"),
];

/// Flags that say yes or no. A model that states any of them has each of the first five or lacks
/// it; LiteLLM keeps the others too unevenly for an absence to mean anything.
const FLAGS: [(&str, Ability, bool); 9] = [
    ("supports_function_calling", Ability::Tools, true),
    ("supports_vision", Ability::Images, true),
    ("supports_audio_input", Ability::Audio, true),
    ("supports_pdf_input", Ability::Documents, true),
    ("supports_reasoning", Ability::Reasoning, true),
    ("supports_parallel_function_calling", Ability::ParallelTools, false),
    ("supports_response_schema", Ability::JsonSchema, false),
    ("supports_native_streaming", Ability::Streaming, false),
    ("supports_embedding_image_input", Ability::Images, false),
];

/// The file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiteLlmError {
    /// It is not a JSON object.
    #[error("it is not LiteLLM's price file: {0}")]
    Malformed(String),
    /// Rows are wrong; each line names model and field.
    #[error("{}", .0.join("\n"))]
    Rows(Vec<String>),
    /// No row is one of a known provider.
    #[error("it has no chat, responses or embedding model of a provider in the catalogue")]
    Empty,
}

/// Converts the file. Rows of other providers and other kinds of model are passed over, as are
/// fine-tunes; models that retire on `date` or before become `None`. `source` says what `text`
/// is.
pub fn convert(text: &str, source: &str, date: &str) -> Result<CatalogueFile, LiteLlmError> {
    let entries: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| LiteLlmError::Malformed(error.to_string()))?;
    let mut rows = Rows::new();
    let mut problems = Vec::new();
    for (key, value) in &entries {
        let Some(fields) = value.as_object() else {
            problems.push(format!("`{key}`: expected an object"));
            continue;
        };
        let Some((provider, model, mode)) = place(key, fields) else { continue };
        let mut entry = Entry { key, fields, problems: &mut problems };
        let retired =
            entry.date("deprecation_date").is_some_and(|retires| retires.as_str() <= date);
        let facts = entry.facts(
            provider,
            mode,
            Provenance { source: source.to_owned(), date: date.to_owned(), page: None },
        );
        if retired || facts.says_something() {
            let row = (!retired).then_some(facts);
            rows.entry(provider.to_owned()).or_default().insert(model, row);
        }
    }
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        return Err(LiteLlmError::Rows(problems));
    }
    if rows.values().all(BTreeMap::is_empty) {
        return Err(LiteLlmError::Empty);
    }
    Ok(CatalogueFile { source: source.to_owned(), date: date.to_owned(), licence: None, rows })
}

/// Our provider, the name it knows the model by, and what the model is asked through; `None` for
/// rows that are not ours.
fn place(key: &str, fields: &Map<String, Value>) -> Option<(&'static str, String, Mode)> {
    let mode = match fields.get("mode")?.as_str()? {
        "chat" => Mode::Chat,
        "responses" => Mode::Responses,
        "embedding" => Mode::Embeddings,
        _ => return None,
    };
    if key.starts_with("ft:") {
        return None;
    }
    let litellm = fields.get("litellm_provider")?.as_str()?;
    let family = if litellm.starts_with("vertex_ai") { "vertex_ai" } else { litellm };
    let (_, provider, prefix) = PROVIDERS.iter().find(|(name, ..)| *name == family)?;
    let model = match *provider {
        "vertex" => vertex_name(key.strip_prefix(prefix).unwrap_or(key))?,
        "bedrock" => key.strip_prefix("bedrock/").unwrap_or(key).to_owned(),
        // Some names of those without a prefix have one nevertheless.
        own if prefix.is_empty() => {
            key.strip_prefix(own).and_then(|rest| rest.strip_prefix('/')).unwrap_or(key).to_owned()
        }
        _ => key.strip_prefix(prefix)?.to_owned(),
    };
    // `eu/…`, `us-east-1/…`: prices of a region under a name that no request carries.
    if matches!(*provider, "azure" | "bedrock") && model.contains('/') {
        return None;
    }
    let serves_chat = super::find(provider).is_none_or(|entry| entry.quirks.chat);
    (serves_chat || mode != Mode::Chat).then_some((*provider, model, mode))
}

/// Names on Vertex's OpenAI-compatible endpoint: `google/gemini-…`, `PUBLISHER/…-maas`.
fn vertex_name(name: &str) -> Option<String> {
    if name.starts_with("gemini-") {
        return Some(format!("google/{name}"));
    }
    name.contains('/').then(|| name.to_owned())
}

/// One model of the file; its getters file a problem for each field of the wrong type.
struct Entry<'a> {
    key: &'a str,
    fields: &'a Map<String, Value>,
    problems: &'a mut Vec<String>,
}

impl Entry<'_> {
    fn facts(&mut self, provider: &str, mode: Mode, provenance: Provenance) -> ModelFacts {
        let window = self.tokens("max_input_tokens");
        let max_output_tokens =
            self.tokens("max_output_tokens").filter(|_| mode != Mode::Embeddings);
        let limited = PROMPT_LIMITS.into_iter().find(|(prompt, answer, _)| {
            (window, max_output_tokens) == (Some(*prompt), Some(*answer))
        });
        let context_window = limited.map(|(.., whole)| whole).or(window);
        let page = self.fields.get("source").and_then(Value::as_str);
        let page = page.filter(|page| page.starts_with("https://")).map(str::to_owned);
        ModelFacts {
            mode,
            context_window,
            max_output_tokens,
            abilities: self.abilities(mode),
            price: self.price(provider, mode),
            retires: self.date("deprecation_date"),
            provenance: Provenance { page, ..provenance },
        }
    }

    fn abilities(&mut self, mode: Mode) -> Abilities {
        let mut abilities = Abilities::default();
        if mode == Mode::Embeddings {
            abilities.set(Ability::Embeddings, true);
        }
        let states_some = FLAGS.iter().any(|(flag, ..)| self.fields.contains_key(*flag));
        for (flag, ability, absence_counts) in FLAGS {
            match self.flag(flag) {
                Some(has) => abilities.set(ability, has),
                None if absence_counts && states_some && mode != Mode::Embeddings => {
                    abilities.set(ability, false);
                }
                None => {}
            }
        }
        abilities
    }

    /// `None` when the file knows no price; also when everything is free at a provider that is
    /// not, which is how the file says the same.
    fn price(&mut self, provider: &str, mode: Mode) -> Option<ListPrice> {
        let input = self.nano("input_cost_per_token");
        let output = self.nano("output_cost_per_token");
        let output = output.or((mode == Mode::Embeddings).then_some(0));
        let free = super::find(provider).is_some_and(|entry| entry.key_optional);
        let price = self.prices(input, output)?;
        (free || price.input > 0 || price.output > 0).then_some(price)
    }

    fn prices(&mut self, input: Option<u64>, output: Option<u64>) -> Option<ListPrice> {
        let other_than = |price: Option<u64>, usual| price.filter(|price| Some(*price) != usual);
        // A cache whose writes are counted is never free to write to.
        let paid = |price: Option<u64>| price.filter(|price| *price > 0);
        let price = ListPrice {
            input: input.unwrap_or(0),
            output: output.unwrap_or(0),
            cached_input: other_than(self.nano("cache_read_input_token_cost"), input),
            cache_write: paid(self.nano("cache_creation_input_token_cost")),
            cache_write_1h: paid(self.nano("cache_creation_input_token_cost_above_1hr")),
            reasoning: other_than(self.nano("output_cost_per_reasoning_token"), output),
            audio_input: other_than(self.nano("input_cost_per_audio_token"), input),
            audio_output: other_than(self.nano("output_cost_per_audio_token"), output),
            image_input: other_than(self.nano("input_cost_per_image_token"), input),
            request: paid(self.dollars("input_cost_per_request", 1e9)),
            batch_input: self.nano("input_cost_per_token_batches"),
            batch_output: self.nano("output_cost_per_token_batches"),
            above: self.above(),
        };
        (input.is_some() && output.is_some()).then_some(price)
    }

    /// `input_cost_per_token_above_200k_tokens` and its like; of several the lowest.
    fn above(&mut self) -> Option<AbovePrice> {
        let threshold = |field: &String| {
            let thousands = field.strip_prefix("input_cost_per_token_above_")?;
            thousands.strip_suffix("k_tokens")?.parse::<u64>().ok()
        };
        let thousands = self.fields.keys().filter_map(threshold).min()?;
        let mut nano = |name: &str| self.nano(&format!("{name}_above_{thousands}k_tokens"));
        Some(AbovePrice {
            tokens: thousands * 1000,
            input: nano("input_cost_per_token")?,
            output: nano("output_cost_per_token")?,
            cached_input: nano("cache_read_input_token_cost"),
            cache_write: nano("cache_creation_input_token_cost"),
            cache_write_1h: nano("cache_creation_input_token_cost_above_1hr"),
        })
    }

    fn nano(&mut self, field: &str) -> Option<u64> {
        self.dollars(field, NANO_PER_MTOK)
    }

    /// An amount of dollars as an integer number of nano-dollars. A price has at most twelve
    /// digits, which the rounding of a double leaves alone.
    fn dollars(&mut self, field: &str, scale: f64) -> Option<u64> {
        let value = self.fields.get(field).filter(|value| !value.is_null())?;
        let amount = value.as_f64().map(|dollars| dollars * scale);
        match amount {
            Some(amount) if (0.0..=MAX_USD_PER_MTOK * 1e9).contains(&amount) => {
                Some(amount.round() as u64)
            }
            _ => self.wrong(field, "a price in dollars"),
        }
    }

    fn tokens(&mut self, field: &str) -> Option<u32> {
        let value = self.fields.get(field).filter(|value| !value.is_null())?;
        // Some files write whole numbers with a decimal point.
        let number = value.as_f64().filter(|number| number.fract() == 0.0);
        match number {
            Some(number) if (0.0..=f64::from(u32::MAX)).contains(&number) => {
                Some(number as u32).filter(|tokens| *tokens > 0)
            }
            _ => self.wrong(field, "a number of tokens"),
        }
    }

    fn flag(&mut self, field: &str) -> Option<bool> {
        let value = self.fields.get(field).filter(|value| !value.is_null())?;
        value.as_bool().or_else(|| self.wrong(field, "true or false"))
    }

    fn date(&mut self, field: &str) -> Option<String> {
        let value = self.fields.get(field).filter(|value| !value.is_null())?;
        let text = value.as_str().filter(|text| text.parse::<jiff::civil::Date>().is_ok());
        text.map(str::to_owned).or_else(|| self.wrong(field, "a date, YYYY-MM-DD"))
    }

    fn wrong<T>(&mut self, field: &str, expected: &str) -> Option<T> {
        let found = self.fields.get(field).map(Value::to_string).unwrap_or_default();
        let found: String = found.chars().take(40).collect();
        let problem = format!("`{}`: `{field}`: expected {expected}, found {found}", self.key);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
        None
    }
}
