//! The tiers that are judged: a pair of models or a whole policy, with names from the data.
//!
//! Deciding is left to [`Policy::decide`], the function that the gateway calls.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};

use crate::{
    policy::{ModelCard, Needs, Override, Policy, Tier},
    units::{Price, Probability, TokenCount},
};

/// Tiers from cheap to strong, and how a score picks one.
#[derive(Debug, Clone)]
pub struct Ladder {
    policy: Policy,
    catalogue: Vec<ModelCard>,
}

impl Ladder {
    /// Two models and the threshold between them.
    pub fn pair(strong: &str, weak: &str, threshold: f32) -> anyhow::Result<Self> {
        if strong == weak {
            bail!("--strong and --weak name the same model, `{strong}`");
        }
        let below = Probability::new(threshold)
            .with_context(|| format!("--threshold {threshold} does not lie in 0..1"))?;
        let card = |name: &str| ModelCard {
            name: name.to_owned(),
            upstream_name: name.to_owned(),
            ..ModelCard::default()
        };
        let tiers = vec![
            Tier { name: "cheap".to_owned(), below: Some(below), models: vec![0] },
            Tier { name: "strong".to_owned(), below: None, models: vec![1] },
        ];
        let policy = Policy::new("pair".to_owned(), tiers, 1)?;
        Ok(Self { policy, catalogue: vec![card(weak), card(strong)] })
    }

    /// A policy of a configuration. It needs two tiers at least.
    pub fn policy(policy: Policy, catalogue: Vec<ModelCard>) -> anyhow::Result<Self> {
        if policy.tiers().len() < 2 {
            bail!("the policy `{}` has one tier, so there is nothing to route", policy.name());
        }
        Ok(Self { policy, catalogue })
    }

    /// The policy's name; `pair` for two models.
    pub fn name(&self) -> &str {
        self.policy.name()
    }

    /// Tiers from cheap to strong.
    pub fn tiers(&self) -> &[Tier] {
        self.policy.tiers()
    }

    /// Between neighbouring tiers, ascending.
    pub fn thresholds(&self) -> Vec<f64> {
        let below = self.policy.tiers().iter().filter_map(|tier| tier.below);
        below.map(|below| f64::from(below.get())).collect()
    }

    /// Names that the data may use for a tier's models, in the order they are looked for: the
    /// catalogue's name and the provider's. The first one that has a result on a row counts.
    pub fn names(&self, tier: usize) -> Vec<&str> {
        let models = self.policy.tiers().get(tier).map(|tier| tier.models.as_slice());
        let cards = models.unwrap_or_default().iter().filter_map(|at| self.catalogue.get(*at));
        cards.flat_map(|card| [card.name.as_str(), card.upstream_name.as_str()]).collect()
    }

    /// The tier of a score.
    pub fn tier_of(&self, score: f64) -> usize {
        let score = Ok(Probability::clamped(score as f32));
        self.policy.decide(&self.catalogue, &Needs::default(), score, Override::default()).tier
    }

    /// What tokens cost by the configuration's prices, in dollars; `None` without a price.
    pub fn price_usd(&self, model: &str, in_tokens: u64, out_tokens: u64) -> Option<f64> {
        let named = |card: &&ModelCard| card.name == model || card.upstream_name == model;
        let price: Price = self.catalogue.iter().find(named)?.price?;
        let tokens = TokenCount {
            prompt_tokens: in_tokens,
            completion_tokens: out_tokens,
            ..TokenCount::default()
        };
        Some(price.cost(&tokens).0 as f64 / 1e9)
    }
}

/// What went wrong when no row has results of every tier: which names the data has.
pub fn no_row(ladder: &Ladder, seen: &BTreeMap<String, usize>) -> anyhow::Error {
    let wanted: Vec<String> = (0..ladder.tiers().len())
        .map(|tier| {
            let mut names = ladder.names(tier);
            names.dedup();
            names.join(" or ")
        })
        .collect();
    let mut names: Vec<String> =
        seen.iter().map(|(name, rows)| format!("{name} ({rows} rows)")).collect();
    if names.is_empty() {
        names.push("no results at all".to_owned());
    }
    anyhow::anyhow!(
        "no row has results of every tier ({}); the data has: {}",
        wanted.join(" / "),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_a_policy_of_two_tiers() {
        let ladder = Ladder::pair("big", "small", 0.4).unwrap();
        assert_eq!((ladder.tier_of(0.39), ladder.tier_of(0.4)), (0, 1));
        assert_eq!(ladder.names(1), ["big", "big"]);
        assert_eq!(ladder.price_usd("big", 1, 1), None);
        for (strong, threshold, fault) in
            [("small", 0.4, "the same model"), ("big", 1.4, "does not lie in 0..1")]
        {
            let error = Ladder::pair(strong, "small", threshold).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }
}
