//! From TOML tables to a [`Config`], one function a table.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{
    ClassifierConfig, Config, ServerConfig,
    admin::admin,
    card,
    catalogue::{LOCAL_FILE, Models},
    declared::declared,
    ledger::{ledger, redis},
    media::fetching,
    provider::{catalogued, provider},
    reader::{Located, Problem, Report, Section, did_you_mean},
    tls::tls,
};
use crate::{
    classify::{encoder::KernelChoice, model::Device, queue::QueueSettings},
    ledger::declared::Declared,
    policy::{Arrangement, Fallback, ModelCard, Order, Policy, PolicySettings, Tier},
    telemetry::decisions::DecisionLogSettings,
    units::Probability,
};

/// Longest time that can be configured for anything, in milliseconds: one day.
pub(super) const MAX_MS: u64 = 24 * 60 * 60 * 1000;
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
        server: root.section("server").map(|one| server(one, directory)).unwrap_or_default(),
        classifier: root.section("classifier").map(classifier).unwrap_or_default(),
        decisions: root.section("decisions").map(decisions).unwrap_or_default(),
        ledger: root.section("ledger").map(|section| ledger(section, directory)),
        admin: root.section("admin").map(|section| admin(section, directory, environment)),
        ..Config::default()
    };
    let max_body_bytes = config.server.max_body_bytes;
    let fetching = |name| fetching(root.section(name)?, max_body_bytes);
    (config.images, config.documents) = (fetching("images"), fetching("documents"));
    if let Some(section) = root.section("redis") {
        let span = section.span();
        let redis = redis(section);
        match &mut config.ledger {
            Some(ledger) => ledger.redis = redis,
            None => {
                let message = "what gateways share in Redis is counted for a ledger".to_owned();
                let suggestion = "add a [ledger] table".to_owned();
                root.error(span, "redis", message, Some(suggestion));
            }
        }
    }
    (config.catalogue, config.catalogue_path) = local_catalogue(&root, directory);
    for (name, section) in root.named_sections("providers") {
        let known = catalogued(&name, &section);
        if let Some(known) = known {
            config.catalogued.insert(name.value.clone(), known);
        }
        config.providers.extend(provider(&name, section, known, directory, environment));
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
    config.declared = declared(&root, &config.models, environment);
    if config.declared != Declared::default() && config.ledger.is_none() {
        let message = "keys, groups and budgets need a ledger".to_owned();
        let suggestion = "add a [ledger] table".to_owned();
        root.error(0..0, "ledger", message, Some(suggestion));
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

fn server(section: Section<'_>, directory: &Path) -> ServerConfig {
    let mut server = ServerConfig { tls: tls(&section, directory), ..ServerConfig::default() };
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
    server.watch = section.bool("watch").unwrap_or(false);
    server.open = section.bool("open").unwrap_or(false);
    server.trusted_proxies = super::declared::networks(&section, "trusted_proxies");
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

fn policy(name: &Located<String>, section: &Section<'_>, models: &[ModelCard]) -> Option<Policy> {
    let default_tier = section.str("default_tier");
    let Some(sections) = section.list_of_sections("tiers") else {
        let suggestion = format!("add [[policies.{}.tiers]] tables", name.value);
        section.error(section.span(), "tiers", "is missing".to_owned(), Some(suggestion));
        return None;
    };
    let positions: Vec<_> = sections.iter().map(Section::span).collect();
    let (tiers, arrangements): (Vec<Tier>, _) =
        sections.into_iter().map(|tier| read_tier(tier, models)).unzip();
    let settings = PolicySettings {
        fallback: fallback(section),
        arrangements,
        sessions: section.bool("sessions").unwrap_or(true),
    };
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
        Ok(policy) => Some(policy.with_settings(settings)),
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

/// `fallback_on`: the rejections after which another model is asked.
fn fallback(section: &Section<'_>) -> Fallback {
    const KINDS: [&str; 2] = ["context_length", "content_policy"];
    let Some(kinds) = section.strings("fallback_on") else { return Fallback::default() };
    for kind in &kinds {
        if !KINDS.contains(&kind.value.as_str()) {
            let message = format!("`{}` is not a rejection", kind.value);
            let suggestion = did_you_mean(&kind.value, KINDS.into_iter())
                .unwrap_or_else(|| format!("one of {}", KINDS.join(", ")));
            section.error(kind.span.clone(), "fallback_on", message, Some(suggestion));
        }
    }
    let has = |wanted: &str| kinds.iter().any(|kind| kind.value == wanted);
    Fallback { context_length: has(KINDS[0]), content_policy: has(KINDS[1]) }
}

fn read_tier(section: Section<'_>, models: &[ModelCard]) -> (Tier, Arrangement) {
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
    let order = section.word("order", &Order::NAMES).and_then(|word| Order::from_name(&word.value));
    let weights = section.integers("weights", 1..=1_000_000).unwrap_or_default();
    if !weights.is_empty() && weights.len() != indexes.len() {
        let message = format!("{} weights for {} models", weights.len(), indexes.len());
        let suggestion = "write one for each model, in their order".to_owned();
        section.error(section.span(), "weights", message, Some(suggestion));
    }
    section.finish();
    let tier = Tier {
        name: name.map(|name| name.value).unwrap_or_default(),
        below: below.and_then(|below| Probability::new(below.value as f32)),
        models: indexes,
    };
    let weights: Vec<u32> = weights.into_iter().map(|weight| weight as u32).collect();
    // Weights without an order can only mean one thing.
    let usual = if weights.is_empty() { Order::Listed } else { Order::Weighted };
    (tier, Arrangement { order: order.unwrap_or(usual), weights })
}
