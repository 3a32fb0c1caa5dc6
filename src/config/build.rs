//! From TOML tables to a [`Config`], one function a table.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Url, header::HeaderValue};
use toml::de::DeTable;

use super::{
    ClassifierConfig, Config, ServerConfig, card,
    catalogue::{self, LOCAL_FILE, Models, ProviderDialect, ProviderEntry, provider::PLACEHOLDERS},
    reader::{Located, Problem, Report, Section, did_you_mean},
};
use crate::{
    classify::{encoder::KernelChoice, model::Device, queue::QueueSettings},
    policy::{ModelCard, Policy, Tier},
    telemetry::decisions::DecisionLogSettings,
    units::Probability,
    upstream::Provider,
};

/// Wire formats that an upstream can speak.
const DIALECTS: [&str; 1] = ["openai"];
/// Longest time that can be configured for anything, in milliseconds: one day.
const MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// Default deadlines (chosen: a connection takes well under 10 s; reasoning models can think
/// for minutes before the first byte; a stream that is silent for a minute is dead).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(300);
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Looks a variable up.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Reads the text. The configuration is only meaningful when no problem is an error. Paths in it
/// are relative to `directory`.
pub fn build(text: &str, directory: &Path, environment: Environment<'_>) -> (Config, Vec<Problem>) {
    let report = Report::default();
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    for error in syntax_errors {
        let span = error.span().unwrap_or(0..0);
        report.error(span, "", error.message().to_owned(), None);
    }
    let root = Section::new(String::new(), table.span(), table.get_ref(), &report);
    let mut config = Config {
        server: root.section("server").map(server).unwrap_or_default(),
        classifier: root.section("classifier").map(classifier).unwrap_or_default(),
        decisions: root.section("decisions").map(decisions).unwrap_or_default(),
        ..Config::default()
    };
    (config.catalogue, config.catalogue_path) = local_catalogue(&root, directory);
    for (name, section) in root.named_sections("providers") {
        let known = catalogued(&name, &section);
        if let Some(known) = known {
            config.catalogued.insert(name.value.clone(), known);
        }
        config.providers.extend(provider(&name, section, known, environment));
    }
    let mut models = Vec::new();
    for (name, section) in root.named_sections("models") {
        let (card, origins) = card::read(&name, &section, &config);
        models.push(card);
        config.origins.push(origins);
        section.finish();
    }
    config.models = models.into();
    for (name, section) in root.named_sections("policies") {
        if config.models.iter().any(|card| card.name == name.value) {
            let message = format!("`{}` is also the name of a model", name.value);
            let suggestion = "callers put both in `model`: rename one of them".to_owned();
            section.error(name.span.clone(), "", message, Some(suggestion));
        }
        config.policies.extend(policy(&name, &section, &config.models));
        section.finish();
    }
    if config.models.is_empty() {
        let suggestion = "add a [models.NAME] table; `weighbridge init` writes an example";
        root.error(
            0..0,
            "models",
            "there is no model to forward to".to_owned(),
            Some(suggestion.to_owned()),
        );
    } else if config.policies.is_empty() {
        let message = "there is no policy, so nothing is scored".to_owned();
        let suggestion = "add [policies.auto] with its tiers".to_owned();
        root.warn(0..0, "policies", message, Some(suggestion));
    }
    root.finish();
    (config, report.into_problems())
}

/// The model catalogue with the local file over it, and where that file is or would be.
fn local_catalogue(root: &Section<'_>, directory: &Path) -> (Models, PathBuf) {
    let section = root.section("catalogue");
    let named = section.as_ref().and_then(|section| section.str("path"));
    let file = named.as_ref().map_or(LOCAL_FILE, |path| path.value.as_str());
    let path = directory.join(file);
    let models = Models::with_local_file(&path).unwrap_or_else(|error| {
        let span = named.map_or(0..0, |path| path.span);
        let suggestion =
            "`weighbridge models --refresh` writes it; delete it to do without".to_owned();
        root.error(span, "catalogue.path", error.to_string(), Some(suggestion));
        Models::default()
    });
    if let Some(section) = section {
        section.finish();
    }
    (models, path)
}

fn server(section: Section<'_>) -> ServerConfig {
    let mut server = ServerConfig::default();
    if let Some(listen) = section.str("listen") {
        match listen.value.parse() {
            Ok(address) => server.listen = address,
            Err(_) => section.error(
                listen.span,
                "listen",
                format!("`{}` is not an address", listen.value),
                Some("write an IP address and a port, like \"127.0.0.1:8080\"".to_owned()),
            ),
        }
    }
    if let Some(bytes) = section.integer("max_body_bytes", 1_024..=1 << 30) {
        server.max_body_bytes = bytes as usize;
    }
    if let Some(bytes) = section.integer("max_answer_bytes", 1_024..=1 << 30) {
        server.max_answer_bytes = bytes as usize;
    }
    if let Some(grace) = section.milliseconds("shutdown_grace_ms", MAX_MS) {
        server.shutdown_grace = grace;
    }
    section.finish();
    server
}

fn classifier(section: Section<'_>) -> ClassifierConfig {
    let mut classifier = ClassifierConfig {
        model: section.str("model").map(|model| model.value),
        ..ClassifierConfig::default()
    };
    if let Some(device) = section.str("device") {
        match Device::from_name(&device.value) {
            Some(found) => classifier.load.device = found,
            None => section.error(
                device.span,
                "device",
                format!("`{}` is not a device", device.value),
                Some("use \"auto\", \"cpu\" or \"cuda:N\"".to_owned()),
            ),
        }
    }
    if let Some(kernel) = section.word("kernel", &KernelChoice::NAMES) {
        classifier.load.kernel = KernelChoice::from_name(&kernel.value).unwrap_or_default();
    }
    if let Some(tokens) = section.integer("max_tokens", 8..=512) {
        classifier.load.max_tokens = tokens as usize;
    }
    let queue: &mut QueueSettings = &mut classifier.queue;
    if let Some(workers) = section.integer("workers", 1..=1024) {
        queue.workers = Some(workers as usize);
    }
    if let Some(tokens) = section.integer("batch_tokens", 1..=1_000_000) {
        queue.batch_tokens = Some(tokens as usize);
    }
    if let Some(capacity) = section.integer("queue_capacity", 1..=1_000_000) {
        queue.capacity = capacity as usize;
    }
    if let Some(margin) = section.number("static_margin", 0.0..=1.0) {
        queue.static_margin = (margin.value < 1.0).then_some(margin.value as f32);
    }
    if let Some(entries) = section.integer("cache_entries", 0..=10_000_000) {
        queue.cache_entries = entries as usize;
    }
    if let Some(deadline) = section.milliseconds("deadline_ms", 60_000) {
        queue.deadline = deadline;
    }
    section.finish();
    classifier
}

fn decisions(section: Section<'_>) -> DecisionLogSettings {
    let settings = DecisionLogSettings {
        log: section.str("log").map(|path| path.value.into()),
        prompts: section.bool("prompts").unwrap_or(false),
    };
    section.finish();
    settings
}

fn provider(
    name: &Located<String>,
    section: Section<'_>,
    known: Option<&'static ProviderEntry>,
    environment: Environment<'_>,
) -> Option<Provider> {
    section.word("dialect", &DIALECTS);
    let base_url = match (section.str("base_url"), known) {
        (Some(url), _) => Some(url),
        (None, Some(known)) => known_address(known, &section, environment),
        (None, None) => {
            section.required_str("base_url", "write the address, like \"https://host/v1\"")
        }
    };
    let base_url = base_url.and_then(|url| parse_base_url(&url, &section));
    let api_key_env = section.str("api_key_env").or_else(|| {
        let known = known?;
        let set = |name: &&String| environment(name).is_some_and(|key| !key.trim().is_empty());
        let usual = known.key_env.first().filter(|_| !known.key_optional);
        let value = known.key_env.iter().find(set).or(usual)?.clone();
        Some(Located { value, span: section.span() })
    });
    let authorization = api_key_env.and_then(|variable| {
        let Some(key) = environment(&variable.value).filter(|key| !key.trim().is_empty()) else {
            let message = format!("the environment variable `{}` is not set", variable.value);
            let suggestion = "requests to this provider go out without a key".to_owned();
            section.warn(variable.span, "api_key_env", message, Some(suggestion));
            return None;
        };
        bearer(&key).or_else(|| {
            let message = format!("`{}` holds characters no header can carry", variable.value);
            section.error(variable.span, "api_key_env", message, None);
            None
        })
    });
    let timeout = |key, default| section.milliseconds(key, MAX_MS).unwrap_or(default);
    let provider = Provider {
        name: name.value.clone(),
        authorization,
        connect_timeout: timeout("connect_timeout_ms", CONNECT_TIMEOUT),
        first_byte_timeout: timeout("first_byte_timeout_ms", FIRST_BYTE_TIMEOUT),
        idle_timeout: timeout("idle_timeout_ms", IDLE_TIMEOUT),
        total_timeout: section.milliseconds("total_timeout_ms", MAX_MS),
        stream_usage: section
            .bool("stream_usage")
            .unwrap_or_else(|| known.is_none_or(|known| known.quirks.stream_usage)),
        // A placeholder where the URL is in error: the configuration is then refused anyway.
        base_url: base_url.or_else(|| Url::parse("http://invalid./").ok())?,
    };
    if name.value.contains('/') {
        let suggestion = "callers write PROVIDER/MODEL; use a name without a slash".to_owned();
        section.error(
            name.span.clone(),
            "",
            "a provider's name holds a slash".to_owned(),
            Some(suggestion),
        );
    }
    section.finish();
    Some(provider)
}

/// The catalogue's row of a provider: the one that `catalogue` names, else that of its own name.
fn catalogued(name: &Located<String>, section: &Section<'_>) -> Option<&'static ProviderEntry> {
    let Some(wanted) = section.str("catalogue") else { return catalogue::find(&name.value) };
    let found = catalogue::find(&wanted.value);
    if found.is_none() {
        let names = catalogue::provider::all().iter().map(|entry| entry.name.as_str());
        let suggestion = did_you_mean(&wanted.value, names.clone()).unwrap_or_else(|| {
            format!("providers of the catalogue: {}", names.collect::<Vec<_>>().join(", "))
        });
        let message = format!("the catalogue has no provider `{}`", wanted.value);
        section.error(wanted.span, "catalogue", message, Some(suggestion));
    }
    found
}

/// The catalogue's address of a provider, its placeholders filled from the settings of the same
/// names or from the environment.
fn known_address(
    known: &ProviderEntry,
    section: &Section<'_>,
    environment: Environment<'_>,
) -> Option<Located<String>> {
    let settings: Vec<(&str, String)> = PLACEHOLDERS
        .into_iter()
        .filter(|placeholder| known.placeholders.contains_key(*placeholder))
        .filter_map(|placeholder| Some((placeholder, section.str(placeholder)?.value)))
        .collect();
    let setting = |wanted: &str| {
        settings.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone())
    };
    match known.filled_url(ProviderDialect::OpenAi, &setting, environment)? {
        Ok(value) => Some(Located { value, span: section.span() }),
        Err(missing) => {
            let suggestion = format!(
                "write `{} = \"…\"` here, or set {}",
                missing.placeholder,
                missing.variables.join(" or ")
            );
            section.error(section.span(), "base_url", missing.to_string(), Some(suggestion));
            None
        }
    }
}

/// A provider for the built-in configurations, with the default deadlines.
pub fn plain_provider(name: &str, base_url: Url, key: Option<&str>) -> Provider {
    Provider {
        name: name.to_owned(),
        base_url,
        authorization: key.and_then(bearer),
        connect_timeout: CONNECT_TIMEOUT,
        first_byte_timeout: FIRST_BYTE_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        total_timeout: None,
        stream_usage: true,
    }
}

fn bearer(key: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.trim())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The URL with a trailing slash, so that paths are appended to it.
fn parse_base_url(url: &Located<String>, section: &Section<'_>) -> Option<Url> {
    let with_slash = format!("{}/", url.value.trim_end_matches('/'));
    match Url::parse(&with_slash) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
            Some(parsed)
        }
        _ => {
            let message = format!("`{}` is not an http or https URL", url.value);
            let suggestion = "write it with its scheme, like \"https://host/v1\"".to_owned();
            section.error(url.span.clone(), "base_url", message, Some(suggestion));
            None
        }
    }
}

fn policy(name: &Located<String>, section: &Section<'_>, models: &[ModelCard]) -> Option<Policy> {
    let default_tier = section.str("default_tier");
    let Some(sections) = section.list_of_sections("tiers") else {
        let suggestion = format!("add [[policies.{}.tiers]] tables", name.value);
        section.error(section.span(), "tiers", "is missing".to_owned(), Some(suggestion));
        return None;
    };
    let positions: Vec<_> = sections.iter().map(Section::span).collect();
    let tiers: Vec<Tier> = sections.into_iter().map(|tier| read_tier(tier, models)).collect();
    let default_index = match &default_tier {
        None => tiers.len().saturating_sub(1),
        Some(wanted) => {
            let names = || tiers.iter().map(|tier| tier.name.as_str());
            names().position(|name| name == wanted.value).unwrap_or_else(|| {
                let message = format!("no tier is named `{}`", wanted.value);
                let suggestion = did_you_mean(&wanted.value, names()).unwrap_or_else(|| {
                    format!("tiers: {}", names().collect::<Vec<_>>().join(", "))
                });
                section.error(wanted.span.clone(), "default_tier", message, Some(suggestion));
                0
            })
        }
    };
    let at_fault = |tier: &str| {
        tiers.iter().position(|t| t.name == tier).and_then(|i| positions.get(i).cloned())
    };
    match Policy::new(name.value.clone(), tiers.clone(), default_index) {
        Ok(policy) => Some(policy),
        Err(error) => {
            use crate::policy::PolicyError as E;
            let span = match &error {
                E::NoTiers => None,
                E::Threshold(t) | E::NotRising(t) | E::NoModels(t) | E::DuplicateTier(t) => {
                    at_fault(t)
                }
            };
            section.error(span.unwrap_or(section.span()), "tiers", error.to_string(), None);
            None
        }
    }
}

fn read_tier(section: Section<'_>, models: &[ModelCard]) -> Tier {
    let names = || models.iter().map(|card| card.name.as_str());
    let name = section.required_str("name", "give the tier a name, like \"cheap\"");
    let below = section.number("below", 0.0..=1.0);
    let mut indexes = Vec::new();
    for wanted in section.strings("models").unwrap_or_default() {
        match names().position(|name| name == wanted.value) {
            Some(index) => indexes.push(index),
            None => {
                let message = format!("no model is named `{}`", wanted.value);
                let suggestion = did_you_mean(&wanted.value, names())
                    .unwrap_or_else(|| format!("add [models.{:?}]", wanted.value));
                section.error(wanted.span, "models", message, Some(suggestion));
            }
        }
    }
    section.finish();
    Tier {
        name: name.map(|name| name.value).unwrap_or_default(),
        below: below.and_then(|below| Probability::new(below.value as f32)),
        models: indexes,
    }
}
