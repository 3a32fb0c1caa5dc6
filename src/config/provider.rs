//! `[providers.NAME]`: the catalogue's facts, overridden by the configuration's.

use std::path::Path;

use reqwest::Url;

use super::{
    build::{Environment, MAX_MS},
    catalogue::{self, Auth, ProviderEntry, ToolCallIds, provider::PLACEHOLDERS},
    reader::{Located, Section, did_you_mean},
    secrets::{from_command, in_file},
};
use crate::upstream::{Api, AwsKeys, BreakerSettings, Credential, Deployment, Provider, Quirks};

/// Most attempts after the first that can be configured.
const MAX_RETRIES: u64 = 20;

/// Reads one table; `known` is its row of the catalogue. Paths are relative to `directory`.
pub fn provider(
    name: &Located<String>,
    section: Section<'_>,
    known: Option<&'static ProviderEntry>,
    directory: &Path,
    environment: Environment<'_>,
) -> Option<Provider> {
    let dialect = section.word("dialect", &Api::NAMES);
    let api = dialect.and_then(|name| Api::from_name(&name.value));
    let api = api.or(known.map(|known| known.dialect)).unwrap_or(Api::OpenAi);
    let reader = Reader { section: &section, known, api, directory, environment };
    let deployments = reader.deployments();
    // A placeholder where the URL is in error: the configuration is then refused anyway.
    let placeholder = Url::parse("http://invalid./").ok()?;
    let mut provider = Provider::new(&name.value, api, placeholder, Credential::None);
    if !deployments.is_empty() {
        provider.deployments = deployments;
    }
    let timeout = |key| section.milliseconds(key, MAX_MS);
    provider.connect_timeout = timeout("connect_timeout_ms").unwrap_or(provider.connect_timeout);
    provider.first_byte_timeout =
        timeout("first_byte_timeout_ms").unwrap_or(provider.first_byte_timeout);
    provider.idle_timeout = timeout("idle_timeout_ms").unwrap_or(provider.idle_timeout);
    provider.total_timeout = timeout("total_timeout_ms");
    if let Some(retries) = section.integer("retries", 0..=MAX_RETRIES) {
        provider.retries = retries as u32;
    }
    let breaker = BreakerSettings::default();
    provider.breaker = BreakerSettings {
        failures: section
            .integer("breaker_failures", 1..=1_000_000)
            .map_or(breaker.failures, |failures| failures as u32),
        open_for: timeout("breaker_open_ms").unwrap_or(breaker.open_for),
    };
    provider.quirks = reader.quirks();
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

/// In what a provider of the catalogue differs from others of its kind.
pub fn known_quirks(known: &ProviderEntry) -> Quirks {
    let usual = Quirks::default();
    Quirks {
        stream_usage: known.quirks.stream_usage,
        chat: known.quirks.chat,
        responses: known.quirks.responses,
        completions: known.quirks.completions,
        old_max_tokens: !known.quirks.max_completion_tokens,
        reasoning_content: known.quirks.reasoning_content,
        image_urls: known.quirks.image_urls,
        short_tool_ids: known.quirks.tool_call_ids == ToolCallIds::Alphanumeric9,
        reasoning_beside_output: known.quirks.reasoning_beside_output,
        rejects: known.quirks.rejects.clone(),
        api_version: known.api_version.clone().unwrap_or(usual.api_version),
        region: usual.region,
    }
}

/// A table and what stands behind it.
struct Reader<'r, 's> {
    section: &'r Section<'s>,
    known: Option<&'static ProviderEntry>,
    api: Api,
    directory: &'r Path,
    environment: Environment<'r>,
}

impl Reader<'_, '_> {
    /// The provider's own address, and those under `deployments`, which take from it what they
    /// leave out.
    fn deployments(&self) -> Vec<Deployment> {
        let section = self.section;
        let listed = section.list_of_sections("deployments");
        let own_url = match (section.str("base_url"), self.known) {
            (Some(url), _) => Some(url),
            (None, _) if listed.is_some() => None,
            (None, Some(known)) => known_address(known, section, self.api, self.environment),
            (None, None) => {
                section.required_str("base_url", "write the address, like \"https://host/v1\"")
            }
        };
        let own_url = own_url.and_then(|url| self.address(&url, section));
        let Some(listed) = listed else {
            let credentials = self.credentials(section, true);
            return own_url
                .map(|base_url| Deployment { base_url, credentials, weight: 1 })
                .into_iter()
                .collect();
        };
        let own_credentials = self.credentials(section, false);
        let mut deployments = Vec::new();
        for listed in listed {
            let url = match (listed.str("base_url"), &own_url) {
                (Some(url), _) => self.address(&url, &listed),
                (None, Some(own)) => Some(own.clone()),
                (None, None) => {
                    listed.required_str("base_url", "write the address of this deployment");
                    None
                }
            };
            let weight = listed.integer("weight", 1..=1_000_000).unwrap_or(1) as u32;
            let mut credentials = self.credentials(&listed, false);
            if matches!(credentials.as_slice(), [Credential::None]) {
                credentials.clone_from(&own_credentials);
            }
            deployments.extend(url.map(|base_url| Deployment { base_url, credentials, weight }));
            listed.finish();
        }
        if deployments.is_empty() {
            let message = "lists no deployments".to_owned();
            section.error(section.span(), "deployments", message, None);
        }
        deployments
    }

    /// The keys that a table names; with `usual`, else those of the catalogue. Never empty.
    fn credentials(&self, section: &Section<'_>, usual: bool) -> Vec<Credential> {
        let one = section.str("api_key_env");
        let several = section.strings("api_key_envs").unwrap_or_default();
        let mut variables: Vec<_> = one.into_iter().chain(several).collect();
        let (file, command) = (section.str("api_key_file"), section.strings("api_key_command"));
        let names_none = variables.is_empty() && file.is_none() && command.is_none();
        if let Some(aws) = self.aws_keys(section, usual && names_none) {
            return vec![Credential::Aws(aws)];
        }
        if names_none && usual {
            variables.extend(self.usual_key().map(|value| Located { value, span: section.span() }));
        }
        let mut credentials: Vec<_> =
            variables.into_iter().filter_map(|variable| self.key(variable, section)).collect();
        let file = file.and_then(|path| in_file(section, "api_key_file", path, self.directory));
        credentials.extend(file.and_then(|key| self.credential(section, "api_key_file", key)));
        let key = "api_key_command";
        let told = command.and_then(|words| from_command(section, key, &words, self.directory));
        credentials.extend(told.and_then(|told| self.credential(section, key, told)));
        if credentials.is_empty() {
            credentials.push(Credential::None);
        }
        credentials
    }

    /// The variable in which the catalogue expects the key.
    fn usual_key(&self) -> Option<String> {
        let known = self.known?;
        let set =
            |name: &&String| (self.environment)(name).is_some_and(|key| !key.trim().is_empty());
        let usual = known.key_env.first().filter(|_| !known.key_optional);
        known.key_env.iter().find(set).or(usual).cloned()
    }

    fn key(&self, variable: Located<String>, section: &Section<'_>) -> Option<Credential> {
        let Some(key) = (self.environment)(&variable.value).filter(|key| !key.trim().is_empty())
        else {
            let message = format!("the environment variable `{}` is not set", variable.value);
            let suggestion = "requests to this provider go out without a key".to_owned();
            section.warn(variable.span, "api_key_env", message, Some(suggestion));
            return None;
        };
        self.credential(section, "api_key_env", Located { value: key, span: variable.span })
    }

    /// A key as the provider is shown it; `source` is what named it.
    fn credential(
        &self,
        section: &Section<'_>,
        source: &str,
        key: Located<String>,
    ) -> Option<Credential> {
        let (text, span) = (key.value, key.span);
        // A dialect of its own has a header of its own; `auth` of the catalogue is for the rest.
        let bearer = self.known.is_some_and(|known| known.auth(self.api) == Auth::Bearer);
        let credential =
            if bearer { Credential::bearer(&text) } else { Credential::of_key(self.api, &text) };
        if credential.is_none() {
            let message = "what it names holds characters no header can carry".to_owned();
            section.error(span, source, message, None);
        }
        credential
    }

    /// AWS's pair of keys, from the variables that the table names or, with `usual`, the ones of
    /// AWS's own tools. A Bedrock key of its own goes before them.
    fn aws_keys(&self, section: &Section<'_>, usual: bool) -> Option<AwsKeys> {
        if self.api != Api::Bedrock {
            return None;
        }
        let named = section.str("access_key_env");
        let from_table = named.is_some();
        let name = |named: Option<Located<String>>, usual: &str| {
            named.map_or_else(|| usual.to_owned(), |named| named.value)
        };
        let access = name(named, "AWS_ACCESS_KEY_ID");
        let secret = name(section.str("secret_key_env"), "AWS_SECRET_ACCESS_KEY");
        let session = name(section.str("session_token_env"), "AWS_SESSION_TOKEN");
        let bearer = self.usual_key().is_some_and(|name| (self.environment)(&name).is_some());
        if !from_table && (!usual || bearer) {
            return None;
        }
        let set = |name: &str| (self.environment)(name).filter(|value| !value.trim().is_empty());
        let (Some(access_key), Some(secret_key)) = (set(&access), set(&secret)) else {
            let message =
                format!("the environment variables `{access}` and `{secret}` are not set");
            let suggestion = "requests to this provider go out without a signature".to_owned();
            section.warn(section.span(), "access_key_env", message, Some(suggestion));
            return None;
        };
        Some(AwsKeys { access_key, secret_key, session_token: set(&session) })
    }

    fn quirks(&self) -> Quirks {
        let section = self.section;
        let usual = self.known.map(known_quirks).unwrap_or_default();
        let api_version = section.str("api_version").map(|version| version.value);
        let region = section.str("region").map(|region| region.value);
        let in_environment =
            || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(self.environment);
        let region = region.or_else(|| in_environment().filter(|_| self.api == Api::Bedrock));
        Quirks {
            stream_usage: section.bool("stream_usage").unwrap_or(usual.stream_usage),
            responses: section.bool("responses").unwrap_or(usual.responses),
            completions: section.bool("completions").unwrap_or(usual.completions),
            old_max_tokens: section.bool("old_max_tokens").unwrap_or(usual.old_max_tokens),
            reasoning_content: section.bool("reasoning_content").unwrap_or(usual.reasoning_content),
            image_urls: section.bool("image_urls").or(usual.image_urls),
            api_version: api_version.unwrap_or(usual.api_version),
            region: region.unwrap_or(usual.region),
            ..usual
        }
    }

    /// The URL with a trailing slash, so that paths are appended to it, and with the part of the
    /// path that the provider's documentation counts as the address.
    fn address(&self, url: &Located<String>, section: &Section<'_>) -> Option<Url> {
        let plain = url.value.trim_end_matches('/');
        let with_slash = format!("{plain}/");
        let parsed = Url::parse(&with_slash)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let Some(parsed) = parsed else {
            let message = format!("`{}` is not an http or https URL", url.value);
            let suggestion = "write it with its scheme, like \"https://host/v1\"".to_owned();
            section.error(url.span.clone(), "base_url", message, Some(suggestion));
            return None;
        };
        let version = match self.api {
            Api::Anthropic => "v1/",
            Api::Gemini => "v1beta/",
            Api::Cohere => "v2/",
            Api::Azure if parsed.path().ends_with("/openai/") => return Some(parsed),
            Api::Azure => return parsed.join("openai/").ok(),
            Api::OpenAi | Api::Bedrock => return Some(parsed),
        };
        // The official SDKs' base URLs leave the version out.
        if parsed.path() == "/" { parsed.join(version).ok() } else { Some(parsed) }
    }
}

/// The catalogue's row of a provider: the one that `catalogue` names, else that of its own name.
pub fn catalogued(name: &Located<String>, section: &Section<'_>) -> Option<&'static ProviderEntry> {
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
    api: Api,
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
    let Some(filled) = known.filled_url(api, &setting, environment) else {
        let message = format!("`{}` does not speak the dialect `{}`", known.name, api.name());
        section.error(section.span(), "dialect", message, None);
        return None;
    };
    match filled {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn read(table: &str) -> Result<Provider, String> {
        let text = format!("[providers.p]\n{table}\n[models.m]\nprovider = \"p\"\n");
        let key = |name: &str| match name {
            "A" | "B" | "AWS_SECRET_ACCESS_KEY" | "AWS_ACCESS_KEY_ID" => {
                Some(format!("key-{name}"))
            }
            _ => None,
        };
        match parse(&text, Path::new("w.toml"), &key) {
            Ok(checked) => Ok(checked.config.providers[0].clone()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn an_address_without_its_version_gets_the_one_of_its_dialect() {
        for (dialect, url, expected) in [
            ("openai", "http://h/v1", "http://h/v1/"),
            ("openai", "http://h", "http://h/"),
            ("anthropic", "http://h", "http://h/v1/"),
            ("anthropic", "http://h/proxy/v1/", "http://h/proxy/v1/"),
            ("gemini", "http://h", "http://h/v1beta/"),
            ("cohere", "http://h", "http://h/v2/"),
            ("azure", "http://h", "http://h/openai/"),
            ("azure", "http://h/openai/", "http://h/openai/"),
            ("bedrock", "http://h", "http://h/"),
        ] {
            let found = read(&format!("dialect = \"{dialect}\"\nbase_url = \"{url}\"")).unwrap();
            assert_eq!(found.deployments[0].base_url.as_str(), expected, "{dialect} {url}");
        }
    }

    #[test]
    fn several_keys_and_deployments_share_one_provider() {
        let found = read(
            "base_url = \"http://a/v1\"\napi_key_envs = [\"A\", \"B\"]\nretries = 3\n\
             deployments = [{ weight = 3 }, { base_url = \"http://b/v1\", api_key_env = \"B\" }]",
        )
        .unwrap();
        let shape: Vec<_> = found
            .deployments
            .iter()
            .map(|d| (d.base_url.host_str().unwrap_or_default(), d.weight, d.credentials.len()))
            .collect();
        assert_eq!(shape, [("a", 3, 2), ("b", 1, 1)]);
        assert_eq!(found.retries, 3);
        assert!(!format!("{found:?}").contains("key-A"));
    }

    #[test]
    fn bedrock_signs_with_the_keys_of_awss_own_variables() {
        let found = read("dialect = \"bedrock\"\nbase_url = \"http://h\"\nregion = \"eu-west-1\"");
        let found = found.unwrap();
        assert_eq!(found.quirks.region, "eu-west-1");
        assert!(matches!(found.deployments[0].credentials.as_slice(), [Credential::Aws(_)]));
        let found = read("catalogue = \"bedrock\"\nregion = \"eu-west-1\"").unwrap();
        assert!(matches!(found.deployments[0].credentials.as_slice(), [Credential::Aws(_)]));
    }

    #[test]
    fn what_does_not_work_is_named() {
        for (table, expected) in [
            ("base_url = \"http://h\"\nretries = 21", "providers.p.retries: `21` is out of range"),
            ("base_url = \"http://h\"\ndeployments = []", "lists no deployments"),
            ("deployments = [{ weight = 1 }]", "deployments[0]"),
            (
                "catalogue = \"groq\"\ndialect = \"gemini\"",
                "`groq` does not speak the dialect `gemini`",
            ),
        ] {
            let found = read(table).unwrap_err();
            assert!(found.contains(expected), "{table}: {found}");
        }
    }
}
