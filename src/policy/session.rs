//! Whether a conversation keeps the model that it has.
//!
//! A provider that has read a conversation before reads it again for a fraction of the price, so
//! a switch to a cheaper model can cost more than it saves. Going up is always allowed: when the
//! score demands a higher tier, quality goes before price.

use super::{Candidate, Decision, ModelCard, Needs, Reason, order::expected};
use crate::units::TokenCount;

/// What is remembered of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The name of the model that served its last turn.
    pub model: String,
    /// The index of the tier it stood in.
    pub tier: usize,
    /// The prompt's tokens at that turn: what the provider may have cached.
    pub prompt_tokens: u64,
}

/// What a conversation's next turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A person said something new.
    Instruction,
    /// A tool answered: a further step towards the same instruction.
    ToolResult,
}

/// Puts the conversation's model first in the route where that is right, and says why.
pub fn keep(
    decision: &mut Decision,
    catalogue: &[ModelCard],
    needs: &Needs,
    pinned: &Pinned,
    turn: Turn,
) {
    let Some(place) = decision.route.iter().position(|candidate| {
        catalogue.get(candidate.model).is_some_and(|card| card.name == pinned.model)
    }) else {
        return;
    };
    let Some(mine) = decision.route.get(place).copied() else { return };
    let reason = match turn {
        Turn::ToolResult => Reason::SessionToolLoop,
        // The decided tier is the route's first; a dearer one has a greater index.
        Turn::Instruction if decision.tier > mine.tier => return,
        Turn::Instruction if decision.tier == mine.tier => Reason::SessionKept,
        Turn::Instruction => {
            let cheaper = decision.route.first().copied();
            if cheaper.is_some_and(|other| switch_pays(other, mine, catalogue, needs, pinned)) {
                decision.reason = Reason::SessionSwitchPays;
                return;
            }
            Reason::SessionKeptCheaper
        }
    };
    decision.route.remove(place);
    decision.route.insert(0, mine);
    decision.tier = mine.tier;
    decision.reason = reason;
}

/// Whether the other model, which has to read everything anew, costs less than the one that has
/// the conversation so far in its cache. Without both prices it does not.
fn switch_pays(
    other: Candidate,
    mine: Candidate,
    catalogue: &[ModelCard],
    needs: &Needs,
    pinned: &Pinned,
) -> bool {
    let price = |candidate: Candidate| catalogue.get(candidate.model)?.price;
    let (Some(other), Some(mine)) = (price(other), price(mine)) else { return false };
    let fresh = expected(needs);
    let cached_tokens = pinned.prompt_tokens.min(needs.prompt_tokens);
    other.cost(&fresh) < mine.cost(&TokenCount { cached_tokens, ..fresh })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{Override, Policy, Tier},
        units::{Price, Probability},
    };

    /// Dollars a million tokens: input, cached input, output.
    fn card(name: &str, input: u64, cached: u64, output: u64) -> ModelCard {
        let price = Price {
            input_nano_usd_per_mtok: input * 1_000_000_000,
            cached_input_nano_usd_per_mtok: cached * 1_000_000_000,
            output_nano_usd_per_mtok: output * 1_000_000_000,
            ..Price::default()
        };
        ModelCard { price: Some(price), ..ModelCard::named(name, "p") }
    }

    fn decide(score: f32, pinned: (&str, usize, u64), prompt: u64, turn: Turn) -> (String, Reason) {
        let catalogue = [card("cheap", 1, 1, 4), card("strong", 5, 1, 5)];
        let tiers = vec![
            Tier { name: "a".into(), below: Probability::new(0.5), models: vec![0] },
            Tier { name: "b".into(), below: None, models: vec![1] },
        ];
        let needs = Needs { prompt_tokens: prompt, output_tokens: Some(100), ..Needs::default() };
        let policy = Policy::new("p".into(), tiers, 0).unwrap();
        let score = Ok(Probability::clamped(score));
        let mut decision = policy.decide(&catalogue, &needs, score, Override::default());
        let (model, tier, prompt_tokens) = pinned;
        let pinned = Pinned { model: model.to_owned(), tier, prompt_tokens };
        keep(&mut decision, &catalogue, &needs, &pinned, turn);
        (catalogue[decision.route[0].model].name.clone(), decision.reason)
    }

    #[test]
    fn a_conversation_goes_up_when_the_score_demands_it() {
        let (model, reason) = decide(0.9, ("cheap", 0, 10_000), 10_100, Turn::Instruction);
        assert_eq!((model.as_str(), reason), ("strong", Reason::ScoreAtOrAboveThreshold));
    }

    #[test]
    fn a_conversation_goes_down_only_when_that_pays() {
        // 10,100 tokens of which 10,000 cached: strong costs 10,000 × 1 + 100 × 5 + 100 × 5 = 11,000
        // micro-dollars, cheap 10,100 × 1 + 100 × 4 = 10,500.
        let (model, reason) = decide(0.1, ("strong", 1, 10_000), 10_100, Turn::Instruction);
        assert_eq!((model.as_str(), reason), ("cheap", Reason::SessionSwitchPays));

        // Nothing in the cache, nothing to lose.
        let (model, _) = decide(0.1, ("strong", 1, 0), 10_100, Turn::Instruction);
        assert_eq!(model, "cheap");
    }

    #[test]
    fn the_discount_that_a_switch_would_lose_keeps_the_model() {
        // A prompt that is all cached: strong 9,000 × 1 + 100 × 5 = 9,500; the other model has no
        // price, so nothing says that a switch pays.
        let catalogue =
            [ModelCard { price: None, ..card("cheap", 1, 1, 4) }, card("strong", 5, 1, 5)];
        let needs = Needs { prompt_tokens: 9_000, ..Needs::default() };
        let pinned = Pinned { model: "strong".into(), tier: 1, prompt_tokens: 9_000 };
        let (cheap, strong) = (Candidate { model: 0, tier: 0 }, Candidate { model: 1, tier: 1 });
        assert!(!switch_pays(cheap, strong, &catalogue, &needs, &pinned));
        let catalogue = [card("cheap", 2, 2, 4), card("strong", 5, 1, 5)];
        assert!(!switch_pays(cheap, strong, &catalogue, &needs, &pinned), "18,400 against 9,500");
    }

    #[test]
    fn a_tool_loop_stays_where_it_is() {
        let (model, reason) = decide(0.9, ("cheap", 0, 100), 200, Turn::ToolResult);
        assert_eq!((model.as_str(), reason), ("cheap", Reason::SessionToolLoop));
        let (model, reason) = decide(0.1, ("gone", 1, 100), 200, Turn::ToolResult);
        assert_eq!((model.as_str(), reason), ("cheap", Reason::ScoreBelowThreshold));
    }

    #[test]
    fn the_same_tier_keeps_its_model() {
        let (model, reason) = decide(0.9, ("strong", 1, 100), 200, Turn::Instruction);
        assert_eq!((model.as_str(), reason), ("strong", Reason::SessionKept));
    }
}
