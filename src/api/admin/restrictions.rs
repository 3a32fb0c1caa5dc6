//! What a key may be used for, held against what is configured.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::AdminError;
use crate::{
    config::{Config, did_you_mean},
    ledger::tenant::{self, Restrictions},
};

/// What a key may be used for. An empty list restricts nothing.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RestrictionsView {
    /// Policies that may be named; then models are named only as `models` lists them.
    policies: Vec<String>,
    /// Models that may serve.
    models: Vec<String>,
    /// Tiers that may serve; then only their models may be named.
    tiers: Vec<String>,
    /// Addresses that callers may come from, like `10.0.0.0/8`.
    networks: Vec<String>,
    /// Name of the guard set that applies; null: the gateway's own.
    guard: Option<String>,
    /// Whether answers may come from the cache; null: as the gateway is set.
    cache: Option<bool>,
}

impl From<Restrictions> for RestrictionsView {
    fn from(restrictions: Restrictions) -> Self {
        Self {
            policies: restrictions.policies,
            models: restrictions.models,
            tiers: restrictions.tiers,
            networks: restrictions.networks.iter().map(ToString::to_string).collect(),
            guard: restrictions.guard,
            cache: restrictions.cache,
        }
    }
}

/// Restrictions to what exists: a slip of the pen would lock the key out of everything.
pub(super) fn restrictions(
    sent: RestrictionsView,
    config: &Config,
) -> Result<Restrictions, AdminError> {
    let policies: Vec<&str> = config.policies.iter().map(|policy| policy.name()).collect();
    let tiers = config.policies.iter().flat_map(|policy| policy.tiers());
    let mut tiers: Vec<&str> = tiers.map(|tier| tier.name.as_str()).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let models: Vec<&str> = config.models.iter().map(|card| card.name.as_str()).collect();
    check("restrictions.policies", &sent.policies, &policies, |_| false)?;
    check("restrictions.tiers", &sent.tiers, &tiers, |_| false)?;
    // Callers may also name models that are not configured, as `provider/model`.
    check("restrictions.models", &sent.models, &models, |name| {
        let provider = name.split_once('/').map(|(provider, _)| provider);
        config.providers.iter().any(|known| Some(known.name.as_str()) == provider)
    })?;
    let networks = sent.networks.iter().map(|text| network(text));
    Ok(Restrictions {
        networks: networks.collect::<Result<_, _>>()?,
        policies: sent.policies,
        models: sent.models,
        tiers: sent.tiers,
        guard: sent.guard,
        cache: sent.cache,
    })
}

fn check(
    param: &'static str,
    names: &[String],
    known: &[&str],
    otherwise: impl Fn(&str) -> bool,
) -> Result<(), AdminError> {
    for name in names {
        if !known.contains(&name.as_str()) && !otherwise(name) {
            let help = did_you_mean(name, known.iter().copied())
                .unwrap_or_else(|| format!("known: {}", known.join(", ")));
            let message = format!("`{name}` is not configured; {help}");
            return Err(AdminError::Value { param, message });
        }
    }
    Ok(())
}

fn network(text: &str) -> Result<IpNet, AdminError> {
    tenant::network(text).ok_or_else(|| AdminError::Value {
        param: "restrictions.networks",
        message: format!("`{text}` is neither an address nor a network; write \"10.0.0.0/8\""),
    })
}
