//! Scoring and deciding: which models a request may go to, in which order, and why.

use std::{sync::Arc, time::Instant};

use super::{
    Dial, Gateway, GatewayError, RequestInfo, Routed, billing,
    resolve::{self, Target},
    routed::needs,
    sessions::{self, Keys},
};
use crate::{
    classify::{extract::text_to_weigh, model::Scored, queue::NoScore},
    ledger::shared::Shared,
    policy::{
        Load, Override, Reason,
        session::{self, Pinned, Turn},
    },
    protocol::incoming::Incoming,
    units::Probability,
    upstream::draw,
};

impl Gateway {
    /// Says where a request would go, and forwards nothing. It counts against the caller's limits
    /// of requests.
    pub async fn decide(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        dial: Dial,
    ) -> Result<Routed, GatewayError> {
        let routed = self.route(request, info, dial).await?;
        if let Some((ledger, caller)) = self.ledger.as_ref().zip(info.caller.as_deref())
            && let Err(error) = ledger.count_question(caller).await
        {
            return Err(GatewayError::unreserved(error, routed));
        }
        Ok(routed)
    }

    /// Scores and decides.
    pub(super) async fn route(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        dial: Dial,
    ) -> Result<Routed, GatewayError> {
        let needs = needs(request);
        let dial = Dial {
            policy: dial.policy.or_else(|| request.overrides.policy.clone()),
            threshold: dial.threshold.or(request.overrides.threshold.and_then(Probability::new)),
        };
        let target = resolve::resolve(&self.config, &request.model, &dial)?;
        let allowed = info.caller.as_deref().map(|caller| &caller.key.restrictions);
        let (policy, threshold, modifier) = match target {
            Target::Policy { policy, threshold, modifier } => (policy, threshold, modifier),
            Target::Model { models, index } => {
                let name = models.get(index).map_or("", |card| card.name.as_str());
                billing::check_named(&self.config, allowed, name)?;
                return Ok(Routed::named(models, index, needs));
            }
        };
        if let Some(allowed) = allowed.filter(|allowed| !allowed.allows_policy(policy.name())) {
            let names = allowed.policies.join(", ");
            let message = format!("`model`: the API key may use only the policies {names}");
            return Err(GatewayError::Forbidden(message));
        }
        let started = Instant::now();
        let dial = Override { threshold };
        let scored = self.score(request, &policy.thresholds(dial)).await;
        let scoring_time = started.elapsed();
        let outcome = match scored {
            Ok(scored) => scored.stage.label(),
            Err(reason) => reason.label(),
        };
        let score = scored.ok().map(|scored| scored.score.get());
        self.metrics.scoring_ended(policy.name(), outcome, score, scoring_time);
        let models = &self.config.models;
        let mut decision = policy.decide(models, &needs, scored.map(|scored| scored.score), dial);
        let load = |model: usize| self.load(model);
        policy.arrange(&mut decision.route, models, &needs, modifier, &load, &mut draw);
        let session = policy.settings().sessions;
        let session = session.then(|| {
            let caller = info.caller.as_deref().map(|caller| caller.key.id.as_str());
            Keys::of(policy.name(), caller, info.session.as_deref(), request)
        });
        if let Some((keys, turn)) = session.zip(sessions::turn(request))
            && let Some((pinned, turn)) = self.pinned(&keys.searched(turn)).await
        {
            session::keep(&mut decision, models, &needs, &pinned, turn);
        }
        let strongest = policy.tiers().last().and_then(|tier| tier.models.first()).copied();
        let mut routed = Routed {
            decision_id: format!("dec_{}", uuid::Uuid::now_v7().simple()),
            policy: Some(policy.name().to_owned()),
            tiers: policy.tiers().iter().map(|tier| tier.name.clone()).collect(),
            served: decision.route.first().copied(),
            decision,
            models: Arc::clone(&self.config.models),
            needs,
            stage: scored.ok().map(|scored| scored.stage),
            scored_tokens: scored.ok().map(|scored| scored.tokens),
            scoring_time,
            fallback: policy.settings().fallback,
            session,
            strongest,
        };
        if routed.served.is_some() {
            allowed.map_or(Ok(()), |allowed| billing::restrict(&mut routed, allowed))?;
        }
        Ok(routed)
    }

    /// The conversation's next turn will know which model served this one.
    pub(super) fn remember(&self, routed: &Routed) {
        let (Some(keys), Some(candidate), Some(card)) =
            (routed.session, routed.served, routed.model())
        else {
            return;
        };
        let pinned = Pinned {
            model: card.name.clone(),
            tier: candidate.tier,
            prompt_tokens: routed.needs.prompt_tokens,
        };
        let now = Instant::now();
        for key in keys.all() {
            if let Some(shared) = self.shared() {
                shared.remember(key, sessions::to_text(&pinned));
            }
            self.sessions.remember(key, pinned.clone(), now);
        }
    }

    /// What is remembered under the first of these keys that is known, to this gateway or to those
    /// beside it, and as what the turn counts there.
    async fn pinned(&self, searched: &[(u64, Turn)]) -> Option<(Pinned, Turn)> {
        let told = match self.shared() {
            Some(shared) => shared.recall(searched.iter().map(|(key, _)| *key)).await,
            None => Vec::new(),
        };
        let now = Instant::now();
        searched.iter().enumerate().find_map(|(at, (key, turn))| {
            let told = told.get(at).and_then(Option::as_deref).and_then(sessions::from_text);
            Some((told.or_else(|| self.sessions.find(*key, now))?, *turn))
        })
    }

    fn shared(&self) -> Option<&Arc<Shared>> {
        self.ledger.as_ref()?.shared()
    }

    /// What is measured of a model of the catalogue.
    fn load(&self, model: usize) -> Load {
        let Some(card) = self.config.models.get(model) else { return Load::default() };
        let observed = self.upstreams.observed(&card.provider, &card.upstream_name);
        Load { first_content_ms: observed.first_content_ms, in_flight: observed.in_flight }
    }

    /// The score, or the reason why there is none.
    async fn score(
        &self,
        request: &Incoming,
        thresholds: &[Probability],
    ) -> Result<Scored, Reason> {
        let queue = self.scoring.get().ok_or(Reason::ClassifierUnavailable)?;
        let text = text_to_weigh(&request.messages).into_owned();
        queue.score(text, thresholds).await.map_err(|error| match error {
            NoScore::QueueFull => Reason::ClassifierQueueFull,
            NoScore::DeadlinePassed => Reason::ClassifierTimeout,
            NoScore::Failed => Reason::ClassifierUnavailable,
        })
    }
}
