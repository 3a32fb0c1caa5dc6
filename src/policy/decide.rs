//! The decision: one score, one tier, one ordered route.

use std::fmt;

use super::{Lack, ModelCard, Needs, Policy};
use crate::units::Probability;

/// A model to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Index into the catalogue.
    pub model: usize,
    /// Index of the tier it stands in.
    pub tier: usize,
}

/// A model that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Index into the catalogue.
    pub model: usize,
    /// The first thing it lacks.
    pub lack: Lack,
}

/// Why the tier was chosen. Each has one fixed label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The score lies below the tier's threshold.
    ScoreBelowThreshold,
    /// The score reaches the last threshold.
    ScoreAtOrAboveThreshold,
    /// The policy has a single tier.
    OnlyTier,
    /// No score came in time.
    ClassifierTimeout,
    /// The scoring queue was full.
    ClassifierQueueFull,
    /// The classifier failed or is not there.
    ClassifierUnavailable,
    /// The score's tier has no eligible model; this is the next one that has.
    TierNotEligible,
    /// The caller named a model; nothing was scored.
    ModelNamed,
    /// The conversation's model stands in the tier that the score picked.
    SessionKept,
    /// A tool answered: a step towards an instruction that was weighed before.
    SessionToolLoop,
    /// The score picked a cheaper tier, but a switch would cost more than it saves.
    SessionKeptCheaper,
    /// The score picked a cheaper tier, and a switch saves more than it costs.
    SessionSwitchPays,
    /// The caller's key may not use the tier that was picked.
    KeyRestricted,
    /// A budget is spent, and sends its requests to cheaper models.
    BudgetDowngrade,
}

impl Reason {
    /// The label in headers, logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::ScoreBelowThreshold => "score_below_threshold",
            Self::ScoreAtOrAboveThreshold => "score_at_or_above_threshold",
            Self::OnlyTier => "only_tier",
            Self::ClassifierTimeout => "classifier_timeout",
            Self::ClassifierQueueFull => "classifier_queue_full",
            Self::ClassifierUnavailable => "classifier_unavailable",
            Self::TierNotEligible => "tier_not_eligible",
            Self::ModelNamed => "model_named",
            Self::SessionKept => "session_kept",
            Self::SessionToolLoop => "session_tool_loop",
            Self::SessionKeptCheaper => "session_kept_cheaper",
            Self::SessionSwitchPays => "session_switch_pays",
            Self::KeyRestricted => "key_restricted",
            Self::BudgetDowngrade => "budget_downgrade",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The caller's dial for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Override {
    /// Replaces the first threshold. Later thresholds that would lie below it are raised to it,
    /// so that a higher score still never gets a cheaper tier.
    pub threshold: Option<Probability>,
}

/// Where a request goes and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The score, or why there is none (always one of the `Classifier…` reasons).
    pub score: Result<Probability, Reason>,
    /// The tier that the score (or the default) picked, as an index into the policy's tiers.
    pub tier: usize,
    /// Why that tier.
    pub reason: Reason,
    /// The threshold that decided: that of the chosen tier, or of the tier before the last one.
    /// `None` for a policy with a single tier.
    pub threshold: Option<Probability>,
    /// Distance of the score from the nearest threshold; `None` without a score or threshold.
    pub margin: Option<f32>,
    /// Eligible models in the order to try them: the tier's own, then those of dearer tiers,
    /// then those of cheaper ones, nearest first. No model twice. Empty when none is eligible.
    pub route: Vec<Candidate>,
    /// Models that cannot serve this request.
    pub rejections: Vec<Rejection>,
}

impl Policy {
    /// Decides. `catalogue` is the list that the tiers' indexes point into.
    pub fn decide(
        &self,
        catalogue: &[ModelCard],
        needs: &Needs,
        score: Result<Probability, Reason>,
        dial: Override,
    ) -> Decision {
        let thresholds = self.thresholds(dial);
        let (scored_tier, reason) = match score {
            Err(reason) => (self.default_tier, reason),
            Ok(_) if thresholds.is_empty() => (0, Reason::OnlyTier),
            Ok(score) => match thresholds.iter().position(|below| score < *below) {
                Some(tier) => (tier, Reason::ScoreBelowThreshold),
                None => (thresholds.len(), Reason::ScoreAtOrAboveThreshold),
            },
        };
        let (route, rejections) = self.route(scored_tier, catalogue, needs);
        let (tier, reason) = match route.first() {
            Some(first) if first.tier != scored_tier => (first.tier, Reason::TierNotEligible),
            _ => (scored_tier, reason),
        };
        Decision {
            score,
            tier,
            reason,
            threshold: thresholds.get(scored_tier).or(thresholds.last()).copied(),
            margin: score.ok().and_then(|score| nearest(&thresholds, score)),
            route,
            rejections,
        }
    }

    /// The thresholds in force for one request: one fewer than there are tiers, never falling.
    pub fn thresholds(&self, dial: Override) -> Vec<Probability> {
        let mut thresholds: Vec<_> = self.tiers.iter().filter_map(|tier| tier.below).collect();
        if let (Some(threshold), Some(first)) = (dial.threshold, thresholds.first_mut()) {
            *first = threshold;
            for later in thresholds.iter_mut().skip(1) {
                if *later < threshold {
                    *later = threshold;
                }
            }
        }
        thresholds
    }

    /// Candidates by tier: `start`, then upwards, then downwards.
    fn route(
        &self,
        start: usize,
        catalogue: &[ModelCard],
        needs: &Needs,
    ) -> (Vec<Candidate>, Vec<Rejection>) {
        let mut route: Vec<Candidate> = Vec::new();
        let mut rejections: Vec<Rejection> = Vec::new();
        let order = (start..self.tiers.len()).chain((0..start).rev());
        for (tier, models) in order.filter_map(|i| Some((i, &self.tiers.get(i)?.models))) {
            for &model in models {
                let seen = route.iter().any(|candidate| candidate.model == model)
                    || rejections.iter().any(|rejection| rejection.model == model);
                let Some(card) = catalogue.get(model).filter(|_| !seen) else { continue };
                match needs.unmet_by(card) {
                    None => route.push(Candidate { model, tier }),
                    Some(lack) => rejections.push(Rejection { model, lack }),
                }
            }
        }
        (route, rejections)
    }
}

/// Distance to the nearest threshold.
fn nearest(thresholds: &[Probability], score: Probability) -> Option<f32> {
    thresholds.iter().map(|t| (score.get() - t.get()).abs()).min_by(f32::total_cmp)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Ability, Tier};

    fn probability(value: f32) -> Probability {
        Probability::clamped(value)
    }

    fn card(name: &str, window: Option<u32>, abilities: &[Ability]) -> ModelCard {
        ModelCard {
            name: name.to_owned(),
            provider: "p".to_owned(),
            upstream_name: name.to_owned(),
            context_window: window,
            abilities: abilities.iter().copied().collect(),
            ..ModelCard::default()
        }
    }

    fn policy(thresholds: &[f32]) -> Policy {
        let count = thresholds.len() + 1;
        let tiers = (0..count)
            .map(|index| Tier {
                name: format!("t{index}"),
                below: thresholds.get(index).map(|t| probability(*t)),
                models: vec![index],
            })
            .collect();
        Policy::new("auto".to_owned(), tiers, count - 1).unwrap()
    }

    fn catalogue(count: usize) -> Vec<ModelCard> {
        (0..count).map(|index| card(&format!("m{index}"), None, &[])).collect()
    }

    #[test]
    fn the_score_picks_the_tier_and_says_why() {
        let (policy, models) = (policy(&[0.4, 0.7]), catalogue(3));
        for (score, tier, threshold, reason) in [
            (0.0, 0, 0.4, Reason::ScoreBelowThreshold),
            (0.4, 1, 0.7, Reason::ScoreBelowThreshold),
            (0.7, 2, 0.7, Reason::ScoreAtOrAboveThreshold),
            (1.0, 2, 0.7, Reason::ScoreAtOrAboveThreshold),
        ] {
            let decision = policy.decide(
                &models,
                &Needs::default(),
                Ok(probability(score)),
                Override::default(),
            );
            assert_eq!(
                (decision.tier, decision.threshold, decision.reason),
                (tier, Some(probability(threshold)), reason),
                "score {score}"
            );
        }
    }

    #[test]
    fn without_a_score_the_default_tier_serves_and_the_rest_stand_by() {
        let decision = policy(&[0.4, 0.7]).decide(
            &catalogue(3),
            &Needs::default(),
            Err(Reason::ClassifierTimeout),
            Override::default(),
        );
        assert_eq!(decision.reason, Reason::ClassifierTimeout);
        let models: Vec<_> = decision.route.iter().map(|c| c.model).collect();
        assert_eq!(models, [2, 1, 0]);
    }

    #[test]
    fn a_model_that_cannot_serve_is_left_out_with_what_it_lacks() {
        let models = vec![
            card("blind", None, &[]),
            card("small", Some(100), &[Ability::Images]),
            card("large", Some(10_000), &[Ability::Images]),
        ];
        let needs =
            Needs { prompt_tokens: 90, output_tokens: Some(20), abilities: vec![Ability::Images] };
        let decision =
            policy(&[0.4, 0.7]).decide(&models, &needs, Ok(probability(0.1)), Override::default());
        assert_eq!((decision.tier, decision.reason), (2, Reason::TierNotEligible));
        assert_eq!(
            decision.rejections,
            [
                Rejection { model: 0, lack: Lack::Ability(Ability::Images) },
                Rejection {
                    model: 1,
                    lack: Lack::ContextWindow { needed_tokens: 110, context_window: 100 }
                },
            ]
        );
    }

    #[test]
    fn a_threshold_from_the_caller_replaces_the_first_and_lifts_the_others() {
        let dial = Override { threshold: Some(probability(0.8)) };
        let policy = policy(&[0.4, 0.7]);
        assert_eq!(policy.thresholds(dial), [probability(0.8), probability(0.8)]);
        let dial = Override { threshold: Some(probability(0.5)) };
        assert_eq!(policy.thresholds(dial), [probability(0.5), probability(0.7)]);
    }

    fn rising_thresholds() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::btree_set(0u32..1000, 0..6)
            .prop_map(|set| set.into_iter().map(|value| value as f32 / 1000.0).collect())
    }

    proptest! {
        /// Every score gets exactly one tier, and the route starts there.
        #[test]
        fn every_score_gets_exactly_one_tier(
            thresholds in rising_thresholds(), score in 0f32..=1.0, dial in proptest::option::of(0f32..=1.0)
        ) {
            let (policy, models) = (policy(&thresholds), catalogue(thresholds.len() + 1));
            let dial = Override { threshold: dial.map(probability) };
            let decision =
                policy.decide(&models, &Needs::default(), Ok(probability(score)), dial);
            let holds = policy.thresholds(dial);
            let lower = decision.tier.checked_sub(1).and_then(|i| holds.get(i));
            let upper = holds.get(decision.tier);
            prop_assert!(lower.is_none_or(|t| score >= t.get()));
            prop_assert!(upper.is_none_or(|t| score < t.get()));
            prop_assert_eq!(decision.route.first().map(|c| c.tier), Some(decision.tier));
            prop_assert_eq!(decision.route.len(), models.len());
        }

        /// A higher score never gets a cheaper tier.
        #[test]
        fn a_higher_score_never_gets_a_cheaper_tier(
            thresholds in rising_thresholds(), a in 0f32..=1.0, b in 0f32..=1.0,
            dial in proptest::option::of(0f32..=1.0)
        ) {
            let (policy, models) = (policy(&thresholds), catalogue(thresholds.len() + 1));
            let dial = Override { threshold: dial.map(probability) };
            let tier = |score: f32| {
                policy.decide(&models, &Needs::default(), Ok(probability(score)), dial).tier
            };
            prop_assert!(tier(a.min(b)) <= tier(a.max(b)));
        }
    }
}
