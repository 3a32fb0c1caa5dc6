//! In which order a tier's candidates are tried.
//!
//! Tiers themselves stay in the order of the route: only candidates of the same tier change
//! places. What is measured and what is drawn at random is passed in.

use super::{Candidate, ModelCard, Needs, Policy};
use crate::units::{NanoUsd, TokenCount};

/// How the candidates of a tier are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// As they are listed.
    #[default]
    Listed,
    /// At random, each first as often as its weight says.
    Weighted,
    /// By what the request would cost; models without a price last.
    Cheapest,
    /// By the time to the first content; models not measured yet first, so that they are.
    Fastest,
    /// By calls in flight.
    LeastBusy,
}

impl Order {
    /// The names in the configuration, in the order of the variants.
    pub const NAMES: [&str; 5] = ["listed", "weighted", "cheapest", "fastest", "least_busy"];

    /// The order of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "listed" => Self::Listed,
            "weighted" => Self::Weighted,
            "cheapest" => Self::Cheapest,
            "fastest" => Self::Fastest,
            "least_busy" => Self::LeastBusy,
            _ => return None,
        })
    }
}

/// A caller's own wish, a suffix of `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modifier {
    /// `:floor`, cheapest first.
    Floor,
    /// `:nitro`, fastest first.
    Nitro,
}

impl Modifier {
    /// A name without its modifier, if it has one.
    pub fn split(model: &str) -> Option<(&str, Self)> {
        let floor = model.strip_suffix(":floor").map(|name| (name, Self::Floor));
        floor.or_else(|| model.strip_suffix(":nitro").map(|name| (name, Self::Nitro)))
    }
}

/// How one tier is ordered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arrangement {
    /// The order.
    pub order: Order,
    /// One for each of the tier's models, for [`Order::Weighted`]; empty means all alike.
    pub weights: Vec<u32>,
}

/// What is measured of a model at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Milliseconds to the first content; `None` before the first answer.
    pub first_content_ms: Option<f32>,
    /// Calls in flight.
    pub in_flight: usize,
}

/// Completion tokens that a price is judged by where the caller set no bound (chosen: a usual
/// answer).
const USUAL_OUTPUT: u64 = 500;

impl Policy {
    /// Orders the candidates of each tier. `load` tells of a model by its index into the
    /// catalogue; `draw` gives numbers in 0..1.
    pub fn arrange(
        &self,
        route: &mut [Candidate],
        catalogue: &[ModelCard],
        needs: &Needs,
        modifier: Option<Modifier>,
        load: &dyn Fn(usize) -> Load,
        draw: &mut dyn FnMut() -> f64,
    ) {
        for group in route.chunk_by_mut(|a, b| a.tier == b.tier) {
            let Some(tier) = group.first().map(|candidate| candidate.tier) else { continue };
            let arrangement = self.settings.arrangements.get(tier);
            let order = match modifier {
                Some(Modifier::Floor) => Order::Cheapest,
                Some(Modifier::Nitro) => Order::Fastest,
                None => arrangement.map(|arrangement| arrangement.order).unwrap_or_default(),
            };
            let weight = |model: usize| -> Option<f64> {
                let place = self.tiers.get(tier)?.models.iter().position(|m| *m == model)?;
                arrangement?.weights.get(place).map(|weight| f64::from(*weight))
            };
            let mut key = |candidate: &Candidate| -> f64 {
                let model = candidate.model;
                match order {
                    Order::Listed => 0.0,
                    // The largest of u^(1/w) comes first (Efraimidis and Spirakis, 2006).
                    Order::Weighted => -draw().powf(1.0 / weight(model).unwrap_or(1.0)),
                    Order::Cheapest => {
                        let cost = catalogue.get(model).and_then(|card| cost(card, needs));
                        cost.map_or(f64::INFINITY, |cost| cost.0 as f64)
                    }
                    Order::Fastest => f64::from(load(model).first_content_ms.unwrap_or(0.0)),
                    Order::LeastBusy => load(model).in_flight as f64,
                }
            };
            let mut keyed: Vec<_> = group.iter().map(|c| (key(c), *c)).collect();
            keyed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            for (place, (_, candidate)) in group.iter_mut().zip(keyed) {
                *place = candidate;
            }
        }
    }
}

/// What a request is expected to use, nothing of it cached.
pub fn expected(needs: &Needs) -> TokenCount {
    TokenCount {
        prompt_tokens: needs.prompt_tokens,
        completion_tokens: needs.output_tokens.map_or(USUAL_OUTPUT, u64::from),
        ..TokenCount::default()
    }
}

/// What that is expected to cost at a model; `None` without a price.
fn cost(card: &ModelCard, needs: &Needs) -> Option<NanoUsd> {
    Some(card.price?.cost(&expected(needs)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{PolicySettings, Tier},
        units::{Price, Probability},
    };

    fn card(name: &str, usd_per_mtok: Option<u64>) -> ModelCard {
        let price = usd_per_mtok.map(|usd| Price {
            input_nano_usd_per_mtok: usd * 1_000_000_000,
            output_nano_usd_per_mtok: usd * 1_000_000_000,
            cached_input_nano_usd_per_mtok: usd * 1_000_000_000,
            ..Price::default()
        });
        ModelCard { price, ..ModelCard::named(name, "p") }
    }

    /// Models 0..=2 in tier 0 and model 3 in tier 1; prices 3, none, 1 and 0.
    fn arranged(order: Order, modifier: Option<Modifier>, draws: &[f64]) -> Vec<usize> {
        let tiers = vec![
            Tier { name: "a".into(), below: Probability::new(0.5), models: vec![0, 1, 2] },
            Tier { name: "b".into(), below: None, models: vec![3] },
        ];
        let arrangement = Arrangement { order, weights: vec![1, 1, 8] };
        let settings = PolicySettings { arrangements: vec![arrangement], ..Default::default() };
        let policy = Policy::new("p".into(), tiers, 0).unwrap().with_settings(settings);
        let catalogue =
            [card("m0", Some(3)), card("m1", None), card("m2", Some(1)), card("m3", Some(0))];
        let mut route: Vec<_> =
            [(0, 0), (1, 0), (2, 0), (3, 1)].map(|(model, tier)| Candidate { model, tier }).into();
        let load = |model: usize| Load {
            first_content_ms: [Some(90.0), Some(50.0), None, Some(1.0)][model],
            in_flight: [2, 0, 1, 0][model],
        };
        let mut draws = draws.iter().copied().cycle();
        let mut draw = || draws.next().unwrap_or(0.5);
        policy.arrange(&mut route, &catalogue, &Needs::default(), modifier, &load, &mut draw);
        route.iter().map(|candidate| candidate.model).collect()
    }

    #[test]
    fn a_tiers_candidates_are_ordered_and_never_leave_their_tier() {
        assert_eq!(arranged(Order::Listed, None, &[]), [0, 1, 2, 3]);
        assert_eq!(arranged(Order::Cheapest, None, &[]), [2, 0, 1, 3]);
        assert_eq!(arranged(Order::Fastest, None, &[]), [2, 1, 0, 3]);
        assert_eq!(arranged(Order::LeastBusy, None, &[]), [1, 2, 0, 3]);
        assert_eq!(arranged(Order::Listed, Some(Modifier::Floor), &[]), [2, 0, 1, 3]);
        assert_eq!(arranged(Order::Cheapest, Some(Modifier::Nitro), &[]), [2, 1, 0, 3]);
        // 0.5, 0.6 and 0.5^(1/8) = 0.917.
        assert_eq!(arranged(Order::Weighted, None, &[0.5, 0.6, 0.5]), [2, 1, 0, 3]);
    }

    #[test]
    fn a_modifier_is_a_suffix_of_the_name() {
        assert_eq!(Modifier::split("auto:floor"), Some(("auto", Modifier::Floor)));
        assert_eq!(Modifier::split("a/b:8b:nitro"), Some(("a/b:8b", Modifier::Nitro)));
        assert_eq!(Modifier::split("qwen3:8b"), None);
    }
}
