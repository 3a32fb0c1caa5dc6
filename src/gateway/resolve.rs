//! What a caller's `model` means.

use std::sync::Arc;

use super::{Dial, GatewayError};
use crate::{
    config::Config,
    policy::{ModelCard, Modifier, Policy},
    units::Probability,
};

/// The name that always means "route this for me".
const AUTO: &str = "auto";
/// RouteLLM's form: `router-<policy>-<threshold>`.
const ROUTER_PREFIX: &str = "router-";

/// Where a request is aimed.
#[derive(Debug)]
pub enum Target<'c> {
    /// Score it and let this policy decide.
    Policy {
        /// The policy.
        policy: &'c Policy,
        /// Replaces its first threshold.
        threshold: Option<Probability>,
        /// How the caller wants the candidates ordered.
        modifier: Option<Modifier>,
    },
    /// Forward it to this model.
    Model {
        /// The catalogue the index points into.
        models: Arc<[ModelCard]>,
        /// The model.
        index: usize,
    },
}

/// Resolves, in this order: the dial's policy; a policy's name; `auto`; `router-…`; a model's
/// name; `provider/model`. Of a name that is none of these, `:floor` and `:nitro` are modifiers.
pub fn resolve<'c>(
    config: &'c Config,
    model: &str,
    dial: &Dial,
) -> Result<Target<'c>, GatewayError> {
    if let Some((name, wish)) = Modifier::split(model)
        && !config.models.iter().any(|card| card.name == model)
    {
        let mut target = resolve_name(config, name, dial)?;
        if let Target::Policy { modifier, .. } = &mut target {
            *modifier = Some(wish);
        }
        return Ok(target);
    }
    resolve_name(config, model, dial)
}

fn resolve_name<'c>(
    config: &'c Config,
    model: &str,
    dial: &Dial,
) -> Result<Target<'c>, GatewayError> {
    let threshold = dial.threshold;
    if let Some(name) = &dial.policy {
        let policy = find_policy(config, name).ok_or_else(|| {
            let known = policy_names(config);
            GatewayError::BadOverride(format!("there is no policy `{name}`; policies: {known}"))
        })?;
        return Ok(Target::Policy { policy, threshold, modifier: None });
    }
    if let Some(policy) = find_policy(config, model) {
        return Ok(Target::Policy { policy, threshold, modifier: None });
    }
    if let Some((name, in_name)) =
        model.strip_prefix(ROUTER_PREFIX).and_then(|r| r.rsplit_once('-'))
        && let Some(policy) = find_policy(config, name)
    {
        let in_name = in_name.parse().ok().and_then(Probability::new).ok_or_else(|| {
            GatewayError::BadOverride(format!(
                "`model`: the threshold `{in_name}` in `{model}` is not a number between 0 and 1"
            ))
        })?;
        let threshold = threshold.or(Some(in_name));
        return Ok(Target::Policy { policy, threshold, modifier: None });
    }
    if let Some(index) = config.models.iter().position(|card| card.name == model) {
        return Ok(Target::Model { models: Arc::clone(&config.models), index });
    }
    at_provider(config, model).ok_or_else(|| GatewayError::UnknownModel {
        model: model.to_owned(),
        hint: format!("; policies: {}; models: {}", policy_names(config), model_names(config)),
    })
}

/// The policy of this name; `auto` also means the only policy of a configuration.
fn find_policy<'c>(config: &'c Config, name: &str) -> Option<&'c Policy> {
    let named = config.policies.iter().find(|policy| policy.name() == name);
    match config.policies.as_slice() {
        [only] if name == AUTO => Some(only),
        _ => named,
    }
}

/// `provider/model`: a configured model of that provider, or one that only the provider knows.
fn at_provider<'c>(config: &'c Config, model: &str) -> Option<Target<'c>> {
    let (provider, upstream_name) = model.split_once('/')?;
    config.providers.iter().find(|known| known.name == provider)?;
    let configured = config
        .models
        .iter()
        .position(|card| card.provider == provider && card.upstream_name == upstream_name);
    if let Some(index) = configured {
        return Some(Target::Model { models: Arc::clone(&config.models), index });
    }
    let card = config.unconfigured(model, provider, upstream_name);
    Some(Target::Model { models: Arc::new([card]), index: 0 })
}

fn policy_names(config: &Config) -> String {
    let names: Vec<_> = config.policies.iter().map(Policy::name).collect();
    names.join(", ")
}

/// Names shown in an error, at most this many.
const MAX_NAMES_SHOWN: usize = 20;

fn model_names(config: &Config) -> String {
    let mut names: Vec<_> =
        config.models.iter().take(MAX_NAMES_SHOWN).map(|card| card.name.as_str()).collect();
    if config.models.len() > MAX_NAMES_SHOWN {
        names.push("…");
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        crate::config::parse(text, Path::new("w.toml"), &|_| None).unwrap().config
    }

    fn two_policies() -> Config {
        config(
            r#"
            providers.local = { base_url = "http://localhost:1/v1" }
            models.small = { provider = "local", upstream_name = "small-v1" }
            models."local/x" = { provider = "local", upstream_name = "y" }
            policies.a-b.tiers = [{ name = "one", below = 0.5, models = ["small"] }, { name = "two", models = ["small"] }]
            policies.c.tiers = [{ name = "one", models = ["small"] }]
            "#,
        )
    }

    fn describe(config: &Config, model: &str) -> String {
        match resolve(config, model, &Dial::default()) {
            Ok(Target::Policy { policy, threshold, modifier }) => {
                let threshold = threshold.map(|threshold| format!(" at {threshold}"));
                let modifier = modifier.map(|modifier| format!(" {modifier:?}"));
                let or_none = Option::unwrap_or_default;
                format!("policy {}{}{}", policy.name(), or_none(threshold), or_none(modifier))
            }
            Ok(Target::Model { models, index }) => {
                format!("model {} at {}", models[index].upstream_name, models[index].provider)
            }
            Err(error) => error.label().to_owned(),
        }
    }

    #[test]
    fn every_form_of_model_is_understood() {
        let config = two_policies();
        for (model, expected) in [
            ("a-b", "policy a-b"),
            ("router-a-b-0.11593", "policy a-b at 0.1159"),
            ("a-b:floor", "policy a-b Floor"),
            ("router-a-b-0.5:nitro", "policy a-b at 0.5000 Nitro"),
            ("small:floor", "model small-v1 at local"),
            ("router-a-b-1.5", "caller_bad_override"),
            ("router-a-b-x", "caller_bad_override"),
            ("router-none-0.5", "caller_unknown_model"),
            ("small", "model small-v1 at local"),
            ("local/small-v1", "model small-v1 at local"),
            ("local/x", "model y at local"),
            ("local/new/model", "model new/model at local"),
            ("other/model", "caller_unknown_model"),
            ("auto", "caller_unknown_model"),
        ] {
            assert_eq!(describe(&config, model), expected, "{model}");
        }
    }

    #[test]
    fn a_model_that_is_not_configured_has_the_facts_of_the_catalogue() {
        let config = config(
            r#"
            providers.fast = { catalogue = "groq" }
            models.small = { provider = "fast" }
            policies.mine.tiers = [{ name = "one", models = ["small"] }]
            "#,
        );
        let card = |model: &str| match resolve(&config, model, &Dial::default()) {
            Ok(Target::Model { models, index }) => models[index].clone(),
            other => panic!("{other:?}"),
        };
        let known = card("fast/openai/gpt-oss-120b");
        assert_eq!(known.context_window, Some(131_072));
        assert!(known.price.is_some());
        let unknown = card("fast/of-tomorrow");
        assert_eq!((unknown.context_window, unknown.price), (None, None));
        assert!(unknown.abilities.is_unknown());
    }

    #[test]
    fn auto_means_the_only_policy() {
        let config = config(
            r#"
            providers.local = { base_url = "http://localhost:1/v1" }
            models.small = { provider = "local" }
            policies.mine.tiers = [{ name = "one", models = ["small"] }]
            "#,
        );
        assert_eq!(describe(&config, "auto"), "policy mine");
        assert_eq!(describe(&config, "router-auto-0.5"), "policy mine at 0.5000");
    }
}
