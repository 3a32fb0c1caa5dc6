//! Another policy on recorded decisions or on labelled rows: what would change.
//!
//! Recorded decisions are not scored again: the recorded score and needs go through
//! [`Policy::decide`], as they would have at the gate. Costs of a changed request are what its
//! recorded tokens would have cost at the new model, which may well have answered at another
//! length: an estimate. Labelled rows ([`super::rerun`]) have results of each tier's model, so both
//! sides' cost and quality are known.

use std::collections::BTreeMap;

use super::{metrics::Interval, report::build::mean};
use crate::{
    policy::{Ability, ModelCard, Needs, Override, Policy, Reason},
    telemetry::decisions::Decided,
    units::{NanoUsd, Probability, TokenCount},
};

/// What a replay found.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Replayed {
    /// Requests that were replayed.
    pub requests: usize,
    /// Those among them without a recorded score: they get the default tier.
    pub unscored: usize,
    /// Decisions that were left out, because the caller had named a model.
    pub named: usize,
    /// Labelled rows that were left out, because a tier has no result.
    pub incomplete: usize,
    /// As recorded, or what labelled rows are compared with.
    pub before: Side,
    /// Under the policy.
    pub after: Side,
    /// Mean quality after minus before, row by row; `None` without labels.
    pub quality_change: Option<Interval>,
    /// Requests that another tier would serve.
    pub flips: Vec<Flip>,
    #[serde(skip)]
    qualities: Vec<(f64, f64)>,
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
    /// Share of the scored requests that are no such miss, in 0..=1; `None` when none is scored.
    pub expected_quality: Option<f64>,
    /// Mean score of the answers, in 0..=1; `None` without labels.
    pub quality: Option<Interval>,
}

/// A request that another tier would serve.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Flip {
    /// The decision, or the row.
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

/// What one side does with a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// The tier's name.
    pub tier: Option<&'a str>,
    /// The model's name.
    pub model: Option<&'a str>,
    /// Where it is known.
    pub cost: Option<NanoUsd>,
    /// The answer's score in 0..=1, where it was judged.
    pub quality: Option<f64>,
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
        let score = decided.score.and_then(Probability::new).ok_or(Reason::ClassifierUnavailable);
        let decision = policy.decide(catalogue, &needs(decided), score, Override::default());
        let card = decision.route.first().and_then(|first| catalogue.get(first.model));
        let before = Choice {
            tier: decided.tier.as_deref(),
            model: decided.served_model.as_deref(),
            cost: decided.cost_usd.as_deref().and_then(NanoUsd::parse),
            quality: None,
        };
        let model = card.map(|card| card.name.as_str());
        let after = Choice {
            tier: policy.tiers().get(decision.tier).map(|tier| tier.name.as_str()),
            model,
            cost: if model == before.model { before.cost } else { cost(card, decided) },
            quality: None,
        };
        let strongest = policy.tiers().last().map(|tier| tier.name.as_str());
        self.compare(&decided.id, decided.score, strongest, before, after);
    }

    /// Takes a request with what both sides do. `strongest` names the tier that misses nothing.
    pub fn compare(
        &mut self,
        id: &str,
        score: Option<f32>,
        strongest: Option<&str>,
        before: Choice<'_>,
        after: Choice<'_>,
    ) {
        self.requests += 1;
        self.unscored += usize::from(score.is_none());
        self.before.add(before, strongest, score);
        self.after.add(after, strongest, score);
        if let (Some(was), Some(is)) = (before.cost, after.cost) {
            self.before.pay(was);
            self.after.pay(is);
        }
        self.qualities.extend(before.quality.zip(after.quality));
        if before.tier != after.tier {
            self.flips.push(Flip {
                id: id.to_owned(),
                score,
                from: before.tier.unwrap_or(NONE).to_owned(),
                to: after.tier.unwrap_or(NONE).to_owned(),
                model: after.model.map(str::to_owned),
            });
        }
    }

    /// With what needs all requests: means and their intervals.
    pub fn finish(mut self) -> Self {
        let scored = self.requests - self.unscored;
        for side in [&mut self.before, &mut self.after] {
            let expected = 1.0 - side.expected_misses / scored.max(1) as f64;
            side.expected_quality = (scored > 0).then_some(expected);
        }
        if !self.qualities.is_empty() {
            let mean_of = |pick: fn(&(f64, f64)) -> f64| {
                let values: Vec<f64> = self.qualities.iter().map(pick).collect();
                Some(mean(&values))
            };
            self.before.quality = mean_of(|(before, _)| *before);
            self.after.quality = mean_of(|(_, after)| *after);
            self.quality_change = mean_of(|(before, after)| after - before);
        }
        self
    }
}

impl Side {
    fn add(&mut self, choice: Choice<'_>, strongest: Option<&str>, score: Option<f32>) {
        let count = |of: &mut BTreeMap<String, usize>, name: Option<&str>| {
            *of.entry(name.unwrap_or(NONE).to_owned()).or_default() += 1;
        };
        count(&mut self.tiers, choice.tier);
        count(&mut self.models, choice.model);
        if choice.tier != strongest {
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
        let replayed = replayed.finish();
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
        let expected = replayed.after.expected_quality.unwrap();
        assert!((expected - (1.0 - 0.1 / 3.0)).abs() < 1e-6, "a tenth of three is missed");
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
