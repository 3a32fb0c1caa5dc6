//! Recorded decisions under another policy: what would change.
//!
//! Nothing is scored again: the recorded score and needs go through [`Policy::decide`], as they
//! would have at the gate. Costs of a changed request are what its recorded tokens would have cost
//! at the new model, which may well have answered at another length: an estimate.

use std::collections::BTreeMap;

use crate::{
    policy::{Ability, ModelCard, Needs, Override, Policy, Reason},
    telemetry::decisions::Decided,
    units::{NanoUsd, Probability, TokenCount},
};

/// What a replay found.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Replayed {
    /// Decisions that were replayed.
    pub requests: usize,
    /// Those among them without a recorded score: they get the default tier.
    pub unscored: usize,
    /// Decisions that were left out, because the caller had named a model.
    pub named: usize,
    /// As recorded.
    pub before: Side,
    /// Under the policy.
    pub after: Side,
    /// Requests that another tier would serve.
    pub flips: Vec<Flip>,
}

/// One side of the comparison.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Side {
    /// Requests by tier.
    pub tiers: BTreeMap<String, usize>,
    /// Requests by model; `none` where no model is eligible.
    pub models: BTreeMap<String, usize>,
    /// Nano-dollars of the requests whose cost is known on both sides.
    pub cost_nano_usd: i64,
    /// Those requests.
    pub priced: usize,
    /// Sum of the scores of requests below the strongest tier: how many of them a mid-strength
    /// model would be expected to fail, if the score is calibrated on this traffic.
    pub expected_misses: f64,
}

/// A request that another tier would serve.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Flip {
    /// The decision.
    pub id: String,
    /// Its score.
    pub score: Option<f32>,
    /// The tier that served.
    pub from: String,
    /// The tier that would.
    pub to: String,
    /// The model that would, where one is eligible.
    pub model: Option<String>,
}

/// Stands for a tier or model that there is not.
const NONE: &str = "none";

impl Replayed {
    /// Takes one recorded decision.
    pub fn take(&mut self, decided: &Decided, policy: &Policy, catalogue: &[ModelCard]) {
        if decided.policy.is_none() {
            self.named += 1;
            return;
        }
        self.requests += 1;
        let score = decided.score.and_then(Probability::new);
        self.unscored += usize::from(score.is_none());
        let score = score.ok_or(Reason::ClassifierUnavailable);
        let decision = policy.decide(catalogue, &needs(decided), score, Override::default());
        let card = decision.route.first().and_then(|first| catalogue.get(first.model));
        let tier = policy.tiers().get(decision.tier).map_or(NONE, |tier| tier.name.as_str());
        let strongest = policy.tiers().last().map_or(NONE, |tier| tier.name.as_str());

        let from = decided.tier.as_deref().unwrap_or(NONE);
        let served = decided.served_model.as_deref().unwrap_or(NONE);
        self.before.add(from, served, strongest, decided.score);
        let model = card.map_or(NONE, |card| card.name.as_str());
        self.after.add(tier, model, strongest, decided.score);
        let before = decided.cost_usd.as_deref().and_then(NanoUsd::parse);
        let after = if model == served { before } else { cost(card, decided) };
        if let (Some(before), Some(after)) = (before, after) {
            self.before.pay(before);
            self.after.pay(after);
        }
        if tier != from {
            self.flips.push(Flip {
                id: decided.id.clone(),
                score: decided.score,
                from: from.to_owned(),
                to: tier.to_owned(),
                model: card.map(|card| card.name.clone()),
            });
        }
    }
}

impl Side {
    fn add(&mut self, tier: &str, model: &str, strongest: &str, score: Option<f32>) {
        *self.tiers.entry(tier.to_owned()).or_default() += 1;
        *self.models.entry(model.to_owned()).or_default() += 1;
        if tier != strongest {
            self.expected_misses += f64::from(score.unwrap_or_default());
        }
    }

    fn pay(&mut self, cost: NanoUsd) {
        self.priced += 1;
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(cost.0);
    }
}

/// What the recorded tokens cost at a model.
fn cost(card: Option<&ModelCard>, decided: &Decided) -> Option<NanoUsd> {
    let tokens = TokenCount {
        prompt_tokens: decided.prompt_tokens?,
        completion_tokens: decided.completion_tokens?,
        ..TokenCount::default()
    };
    Some(card?.price?.cost(&tokens))
}

fn needs(decided: &Decided) -> Needs {
    let logged = &decided.needs;
    let named = |name: &String| Ability::ALL.into_iter().find(|ability| ability.name() == name);
    Needs {
        prompt_tokens: logged.prompt_tokens,
        output_tokens: logged.output_tokens,
        abilities: logged.abilities.iter().filter_map(named).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{policy::Tier, telemetry::decisions::LoggedNeeds, units::Price};

    fn card(name: &str, output_price: u64, abilities: &[Ability]) -> ModelCard {
        ModelCard {
            name: name.to_owned(),
            provider: "p".to_owned(),
            upstream_name: name.to_owned(),
            price: Some(Price {
                input_nano_usd_per_mtok: 0,
                output_nano_usd_per_mtok: output_price,
                ..Price::default()
            }),
            abilities: abilities.iter().copied().collect(),
            ..ModelCard::default()
        }
    }

    fn policy(threshold: f32) -> Policy {
        let below = Some(Probability::clamped(threshold));
        let tiers = vec![
            Tier { name: "cheap".to_owned(), below, models: vec![0] },
            Tier { name: "strong".to_owned(), below: None, models: vec![1] },
        ];
        Policy::new("auto".to_owned(), tiers, 1).unwrap()
    }

    fn decided(id: &str, score: f32, tier: &str, model: &str, cost: &str) -> Decided {
        Decided {
            id: id.to_owned(),
            policy: Some("auto".to_owned()),
            score: Some(score),
            tier: Some(tier.to_owned()),
            served_model: Some(model.to_owned()),
            prompt_tokens: Some(10),
            completion_tokens: Some(1_000_000),
            cost_usd: Some(cost.to_owned()),
            ..Decided::default()
        }
    }

    #[test]
    fn a_lower_threshold_moves_requests_up_and_prices_them_there() {
        let catalogue = [card("small", 1_000_000_000, &[]), card("large", 5_000_000_000, &[])];
        let mut replayed = Replayed::default();
        let rows = [
            decided("a", 0.1, "cheap", "small", "1"),
            decided("b", 0.35, "cheap", "small", "1"),
            decided("c", 0.9, "strong", "large", "5"),
        ];
        for row in &rows {
            replayed.take(row, &policy(0.3), &catalogue);
        }
        replayed.take(&Decided::default(), &policy(0.3), &catalogue);
        assert_eq!((replayed.requests, replayed.named), (3, 1));
        let ids: Vec<&str> = replayed.flips.iter().map(|flip| flip.id.as_str()).collect();
        assert_eq!(ids, ["b"]);
        assert_eq!(
            (&replayed.flips[0].from, &replayed.flips[0].to),
            (&"cheap".to_owned(), &"strong".to_owned())
        );
        assert_eq!(replayed.before.cost_nano_usd, 7_000_000_000);
        assert_eq!(replayed.after.cost_nano_usd, 11_000_000_000);
        assert!((replayed.before.expected_misses - 0.45).abs() < 1e-6);
        assert!((replayed.after.expected_misses - 0.1).abs() < 1e-6);
    }

    #[test]
    fn needs_that_were_recorded_still_reject() {
        let catalogue = [card("small", 1, &[]), card("large", 5, &[Ability::Images])];
        let row = Decided {
            needs: LoggedNeeds { abilities: vec!["images".to_owned()], ..LoggedNeeds::default() },
            ..decided("a", 0.1, "strong", "large", "1")
        };
        let mut replayed = Replayed::default();
        replayed.take(&row, &policy(0.5), &catalogue);
        assert!(replayed.flips.is_empty(), "{replayed:?}");
    }
}
