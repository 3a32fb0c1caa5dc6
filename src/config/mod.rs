//! The configuration: raw TOML → checked [`Config`], or every problem with its position.
//!
//! [`load`] reads a file, [`parse`] a text; [`environment`] makes a configuration from the usual
//! environment variables when there is no file; [`template`] is what `weighbridge init` writes;
//! [`catalogue`] is what is known of providers without a configuration.
//! This module is the only one that reads environment variables. A [`Config`] that exists is
//! valid: nothing behind it checks again.

mod admin;
mod build;
mod card;
pub mod catalogue;
mod declared;
pub mod environment;
mod ledger;
mod media;
mod provider;
mod reader;
mod secrets;
pub mod template;
mod tls;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use admin::{AdminConfig, Token};
use ipnet::IpNet;
pub use reader::{Problem, did_you_mean};
pub use tls::{Tls, tls_files_named_in};

use crate::{
    classify::{model::LoadOptions, queue::QueueSettings},
    ledger::{LedgerSettings, declared::Declared},
    media::FetchSettings,
    policy::{ModelCard, Policy},
    telemetry::decisions::DecisionLogSettings,
    upstream::Provider,
};

/// A checked configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The listener and its bounds.
    pub server: ServerConfig,
    /// The classifier inside the process.
    pub classifier: ClassifierConfig,
    /// How images that callers name by address are fetched; `None` fetches none.
    pub images: Option<FetchSettings>,
    /// The same of documents.
    pub documents: Option<FetchSettings>,
    /// Where decisions are logged.
    pub decisions: DecisionLogSettings,
    /// Keys, budgets and spend; `None` keeps none.
    pub ledger: Option<LedgerSettings>,
    /// Keys, groups, budgets and limits that the file owns.
    pub declared: Declared,
    /// The admin API; `None` has none.
    pub admin: Option<AdminConfig>,
    /// Who serves models.
    pub providers: Vec<Provider>,
    /// The catalogue; policies point into it by index.
    pub models: Arc<[ModelCard]>,
    /// Where the figures of each of `models` come from, in the same order.
    pub origins: Vec<Origins>,
    /// Ways to choose a model, in the order of the file.
    pub policies: Vec<Policy>,
    /// What is known of models without configuration.
    pub catalogue: catalogue::Models,
    /// Where the local catalogue is, or would be written.
    pub catalogue_path: PathBuf,
    /// The catalogue's row of each of `providers` that has one, by the provider's name here.
    pub catalogued: BTreeMap<String, &'static catalogue::ProviderEntry>,
}

impl Config {
    /// The card of a model of this provider that is not configured, with what the catalogue
    /// knows of it.
    pub fn unconfigured(&self, name: &str, provider: &str, upstream_name: &str) -> ModelCard {
        let catalogued = self.catalogued.get(provider).map_or(provider, |entry| &entry.name);
        self.catalogue.card(name, provider, catalogued, upstream_name)
    }
}

/// Where a figure of a card comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// The configuration says it.
    Configuration,
    /// The local catalogue says it.
    Local,
    /// The catalogue inside the program says it.
    Catalogue,
    /// Nobody does.
    #[default]
    Unknown,
}

impl Origin {
    /// The word for it in lists.
    pub fn label(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Local => "local catalogue",
            Self::Catalogue => "catalogue",
            Self::Unknown => "unknown",
        }
    }
}

/// Where the figures of a card come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origins {
    /// Of the context window.
    pub context_window: Origin,
    /// Of the output limit.
    pub max_output_tokens: Origin,
    /// Of the price.
    pub price: Origin,
    /// Of the abilities; a configuration's list is filled up from the catalogue.
    pub abilities: Origin,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// What it shows callers; `None` speaks plain HTTP.
    pub tls: Option<Tls>,
    /// Largest request body in bytes.
    pub max_body_bytes: usize,
    /// Largest answer that is not streamed, in bytes.
    pub max_answer_bytes: usize,
    /// How long a shutdown waits for answers in flight.
    pub shutdown_grace: Duration,
    /// Whether the configuration is reloaded when its file changes.
    pub watch: bool,
    /// Whether everybody may call an address that is not the machine's own, without a key.
    pub open: bool,
    /// Proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// `[classifier]`
#[derive(Debug, Clone, Default)]
pub struct ClassifierConfig {
    /// A model directory or, with feature `hub`, a Hugging Face name; `None` for the shipped one.
    pub model: Option<String>,
    /// Device, kernel, and how much of a text is scored.
    pub load: LoadOptions,
    /// Threads, queue and deadline.
    pub queue: QueueSettings,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            max_body_bytes: 32 * 1024 * 1024,
            max_answer_bytes: 32 * 1024 * 1024,
            shutdown_grace: Duration::from_secs(30),
            watch: false,
            open: false,
            trusted_proxies: Vec::new(),
        }
    }
}

/// A configuration and what is worth a warning about it.
#[derive(Debug)]
pub struct Checked {
    /// Valid.
    pub config: Config,
    /// Worth knowing, not in the way.
    pub warnings: Problems,
}

/// Problems of one file, ready to be printed with line and column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Problems {
    file: PathBuf,
    /// The problems, each with its line and column, both counted from 1 (columns in characters).
    pub list: Vec<(usize, usize, Problem)>,
}

impl Problems {
    fn new(file: &Path, text: &str, problems: Vec<Problem>) -> Self {
        let list = problems
            .into_iter()
            .map(|problem| {
                let before = text.get(..problem.span.start).unwrap_or(text);
                let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
                let line = before.matches('\n').count() + 1;
                let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
                (line, column, problem)
            })
            .collect();
        Self { file: file.to_owned(), list }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, column, problem)) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let kind = if problem.warning { "warning" } else { "error" };
            write!(f, "{}:{line}:{column}: {kind}: ", self.file.display())?;
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            write!(f, "{}", problem.message)?;
            if let Some(suggestion) = &problem.suggestion {
                write!(f, "\n  help: {suggestion}")?;
            }
        }
        Ok(())
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file says something that does not work.
    #[error("{0}")]
    Invalid(Problems),
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Checked, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
    parse(&text, path, &environment::variable)
}

/// Checks a text. `path` is named in problems, and the local catalogue is looked for beside it;
/// `environment` looks up variables.
pub fn parse(
    text: &str,
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Checked, ConfigError> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let (config, problems) = build::build(text, directory, environment);
    let (warnings, errors): (Vec<_>, Vec<_>) = problems.into_iter().partition(|p| p.warning);
    if !errors.is_empty() {
        return Err(ConfigError::Invalid(Problems::new(path, text, errors)));
    }
    Ok(Checked { config, warnings: Problems::new(path, text, warnings) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Credential;

    fn problems(text: &str) -> String {
        match parse(text, Path::new("w.toml"), &|_| None) {
            Ok(checked) => format!("ok {}", checked.warnings),
            Err(error) => error.to_string(),
        }
    }

    const GOOD: &str = r#"
[providers.local]
dialect = "openai"
base_url = "http://127.0.0.1:9001/v1"

[models.small]
provider = "local"
upstream_name = "small-v1"
context_window = 8192
price = { input_usd_per_mtok = 0.10, output_usd_per_mtok = 0.40 }
abilities = ["tools", "json_schema"]

[models.large]
provider = "local"

[policies.auto]
default_tier = "strong"
[[policies.auto.tiers]]
name = "cheap"
below = 0.4
models = ["small"]
[[policies.auto.tiers]]
name = "strong"
models = ["large"]
"#;

    #[test]
    fn a_good_file_becomes_a_configuration() {
        let config = parse(GOOD, Path::new("w.toml"), &|_| None).unwrap().config;
        assert_eq!(config.models[0].upstream_name, "small-v1");
        assert_eq!(config.models[1].upstream_name, "large");
        assert_eq!(config.models[0].price.unwrap().input_nano_usd_per_mtok, 100_000_000);
        assert_eq!(
            config.providers[0].deployments[0].base_url.as_str(),
            "http://127.0.0.1:9001/v1/"
        );
        assert_eq!(config.policies[0].default_tier().name, "strong");
    }

    #[test]
    fn a_price_holds_from_its_day_on() {
        let change = "price_changes = [{ from = \"2027-01-01\", input_usd_per_mtok = 0.2, output_usd_per_mtok = 1 }]\nabilities";
        let text = GOOD.replacen("abilities", change, 1);
        let config = parse(&text, Path::new("w.toml"), &|_| None).unwrap().config;
        let new_year = 1_798_761_600_000;
        let input = |ms| config.models[0].price_at(ms).unwrap().input_nano_usd_per_mtok;
        assert_eq!((input(new_year - 1), input(new_year)), (100_000_000, 200_000_000));
    }

    #[test]
    fn keys_and_budgets_are_declared_by_names_that_exist() {
        let declared = "[ledger]\n[teams.search]\n[keys.ci]\nsecret_env = \"CI\"\nteam = \"search\"\n[budgets.b]\nteam = \"search\"\nusd = 250.1\n[limits.l]\nkey = \"ci\"\nrequests = 5\n";
        let text = format!("{GOOD}\n{declared}");
        let secret = |name: &str| (name == "CI").then(|| "wb-a-long-enough-secret".to_owned());
        let config = parse(&text, Path::new("w.toml"), &secret).unwrap().config;
        let found = config.declared.budgets.iter().map(|b| (b.amount, b.window.to_string()));
        let expected = [(250_100_000_000, "month".to_owned()), (5, "minute".to_owned())];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert!(!format!("{config:?}").contains("long-enough"));
        for (from, to, expected) in [
            ("team = \"search\"\nusd", "team = \"serch\"\nusd", "did you mean `search`?"),
            ("key = \"ci\"", "", "names 0 owners instead of one"),
            ("requests = 5", "usd = 5", "a limit is of requests"),
            ("usd = 250.1", "usd = 0.0000000001", "is not an amount of dollars"),
            ("requests = 5", "requests = 5\nwindow = \"year\"", "`year` is not a window"),
            ("[ledger]", "", "keys, groups and budgets need a ledger"),
        ] {
            let found = problems(&text.replacen(from, to, 1));
            assert!(found.contains(expected), "{from} → {to}: {found}");
        }
    }

    #[test]
    fn the_template_is_a_valid_configuration() {
        let checked = parse(template::TEMPLATE, Path::new("w.toml"), &|_| None).unwrap();
        assert_eq!(checked.config.policies[0].name(), "auto");
    }

    #[test]
    fn every_problem_is_reported_with_line_column_and_a_way_out() {
        for (from, to, expected) in [
            (
                "base_url",
                "base_ulr",
                "w.toml:4:1: error: providers.local.base_ulr: is not a setting\n  help: did you mean `base_url`?",
            ),
            ("\"openai\"", "\"opena\"", "did you mean `openai`?"),
            ("http://127", "127", "base_url: `127.0.0.1:9001/v1` is not an http or https URL"),
            (
                "provider = \"local\"\nupstream",
                "provider = \"locl\"\nupstream",
                "w.toml:7:12: error: models.small.provider: no provider is named `locl`\n  help: did you mean `local`?",
            ),
            (
                "context_window = 8192",
                "context_window = \"8k\"",
                "expected a whole number, found string",
            ),
            ("0.10", "-1", "`-1` is out of range"),
            ("\"tools\"", "\"tool\"", "did you mean `tools`?"),
            ("below = 0.4", "below = 1.4", "policies.auto.tiers[0].below: `1.4` is out of range"),
            ("below = 0.4", "", "every tier but the last has `below`"),
            ("[\"small\"]", "[\"smal\"]", "did you mean `small`?"),
            ("[\"small\"]", "[]", "lists no models"),
            ("default_tier = \"strong\"", "default_tier = \"stong\"", "did you mean `strong`?"),
            ("[policies.auto]", "[policies.small]\n[policies.auto]", "is also the name of a model"),
            ("[models.large]", "[models.large", "w.toml:13:14: error:"),
            (
                "[providers.local]",
                "[server]\nlisten = \"nowhere\"\n[providers.local]",
                "server.listen: `nowhere` is not an address",
            ),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let found = problems(&GOOD.replacen(from, to, 1));
            assert!(found.contains(expected), "{from} → {to}\nexpected {expected}\nfound {found}");
        }
    }

    #[test]
    fn several_problems_are_reported_at_once_in_the_order_of_the_file() {
        let text = GOOD.replacen("8192", "0", 1).replacen("0.4\n", "\"x\"\n", 1);
        let Err(ConfigError::Invalid(found)) = parse(&text, Path::new("w.toml"), &|_| None) else {
            panic!("the file is not valid")
        };
        let lines: Vec<_> = found.list.iter().map(|(line, ..)| *line).collect();
        assert!(lines.len() >= 2 && lines.is_sorted(), "{found}");
    }

    #[test]
    fn a_missing_key_variable_is_a_warning_and_the_key_never_prints() {
        let text = GOOD.replacen("dialect", "api_key_env = \"LOCAL_KEY\"\ndialect", 1);
        assert!(problems(&text).contains("LOCAL_KEY"), "{}", problems(&text));
        let checked = parse(&text, Path::new("w.toml"), &|_| Some("sk-secret".to_owned())).unwrap();
        assert!(checked.warnings.list.is_empty());
        let printed = format!("{:?}", checked.config);
        assert!(!printed.contains("sk-secret") && printed.contains("[redacted]"), "{printed}");
    }

    #[test]
    fn a_provider_takes_from_the_catalogue_what_its_table_leaves_out() {
        let named = |table: &str| {
            let text = format!("{table}\n[models.m]\nprovider = \"p\"\n");
            let key = |name: &str| (name == "GROQ_API_KEY").then(|| "sk-1".to_owned());
            match parse(&text, Path::new("w.toml"), &key) {
                Ok(checked) => {
                    let provider = &checked.config.providers[0];
                    let deployment = &provider.deployments[0];
                    let keyed = !matches!(deployment.credentials[0], Credential::None);
                    format!("{} {keyed}", deployment.base_url)
                }
                Err(error) => error.to_string(),
            }
        };
        for (table, expected) in [
            ("[providers.p]\ncatalogue = \"groq\"", "https://api.groq.com/openai/v1/ true"),
            (
                "[providers.p]\ncatalogue = \"groq\"\nbase_url = \"http://x/v1\"",
                "http://x/v1/ true",
            ),
            (
                "[providers.p]\ncatalogue = \"cloudflare\"\naccount_id = \"a1\"",
                "https://api.cloudflare.com/client/v4/accounts/a1/ai/v1/ false",
            ),
            (
                "[providers.p]\ncatalogue = \"cloudflare\"",
                "the address of `cloudflare` needs `account_id`\n  help: write `account_id = \"…\"` here, or set CLOUDFLARE_ACCOUNT_ID",
            ),
            ("[providers.p]\ncatalogue = \"grok\"", "help: did you mean `groq`?"),
        ] {
            assert!(named(table).contains(expected), "{table}: {}", named(table));
        }
    }

    #[test]
    fn a_server_on_ones_own_machine_needs_no_key() {
        let text = "[providers.ollama]\n[models.m]\nprovider = \"ollama\"\n[policies.auto]\ntiers = [{ name = \"a\", models = [\"m\"] }]\n";
        assert_eq!(problems(text), "ok ");
    }
}
