//! From decision to answer: candidates in order, until one gives content.
//!
//! A failure before the first content goes to the caller moves on: to another credential or
//! deployment, to a further try, to the next candidate; nothing of a failed attempt is ever
//! shown. After the first content the stream belongs to [`Relay`].

use std::{
    collections::VecDeque,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Gateway, GatewayError, Relay, Reply, ReplyBody, RequestInfo, Routed,
    attempt::{Question, ShownHeaders},
    billing::Way,
    flow::Seen,
    media::Media,
    prepare::PrepareError,
    relay::StreamStart,
    sessions::Keys,
    settle::{ANSWERED, FINISHED, Settlement, Stop},
};
use crate::{
    ledger::ReserveError,
    policy::Reason,
    protocol::{
        incoming::Incoming,
        neutral::{ErrorKind, Warnings},
    },
    upstream::UpstreamError,
};

/// A candidate's answer, far enough to be shown.
pub enum Answer {
    /// JSON, and what it says.
    Whole(Bytes, Seen),
    /// A stream that has begun to say something.
    Stream(Box<StreamStart>),
}

/// The tries at one candidate that came to nothing.
struct Failed {
    error: UpstreamError,
    waited: Duration,
}

impl Gateway {
    /// Tries the route's candidates in order.
    pub(super) async fn forward(
        &self,
        request: &Incoming,
        info: &RequestInfo,
        mut routed: Routed,
        mut settlement: Box<Settlement>,
    ) -> Result<Reply, GatewayError> {
        let mut last_error = None;
        let mut waited = Duration::ZERO;
        // A window that was too small tells which others are.
        let mut too_small: Option<u32> = None;
        let models = Arc::clone(&routed.models);
        let mut candidates: VecDeque<_> = routed.decision.route.iter().copied().collect();
        let mut refused = None;
        let mut media = Media::default();
        while let Some(candidate) = candidates.pop_front() {
            let Some(card) = models.get(candidate.model) else { continue };
            if too_small.is_some_and(|least| card.context_window.is_some_and(|w| w <= least)) {
                continue;
            }
            if last_error.is_some() && info.is_late() {
                break;
            }
            routed.served = Some(candidate);
            let prepared = match self.prepare(request, card, info, &media) {
                Ok(prepared) => prepared,
                Err(PrepareError::Request(error)) => {
                    settlement.finish("caller_invalid_request");
                    return Err(GatewayError::Request(error));
                }
                Err(PrepareError::Upstream(error)) => {
                    last_error = Some(error);
                    continue;
                }
            };
            if let Err(error) = settlement.reserve(request, &routed, card).await {
                let ReserveError::Refused(refusal) = &error else {
                    let error = GatewayError::unreserved(error, routed);
                    settlement.finish(error.label());
                    return Err(error);
                };
                match Way::after(refusal, &routed, last_error.is_none()) {
                    Way::Next => {}
                    Way::Downgrade(cheaper) if refused.is_none() => {
                        settlement.exempt(refusal.budget.id.clone());
                        routed.decision.reason = Reason::BudgetDowngrade;
                        candidates = cheaper;
                    }
                    Way::Downgrade(_) | Way::Refuse => candidates.clear(),
                }
                refused = Some(error);
                continue;
            }
            let started = Instant::now();
            let prepared = self.with_media(request, info, card, prepared, &mut media).await;
            waited += started.elapsed();
            let prepared = match prepared {
                Ok(prepared) => prepared,
                Err(PrepareError::Request(error)) if settlement.attempts() == 0 => {
                    settlement.finish("caller_invalid_request");
                    return Err(GatewayError::Request(error));
                }
                // What was asked before failed for a reason of its own.
                Err(PrepareError::Request(_)) => continue,
                Err(PrepareError::Upstream(error)) => {
                    last_error = Some(error);
                    continue;
                }
            };
            let question = Question { request, info, card, prepared: &prepared };
            let asked = self.ask(question, &routed, &mut settlement).await;
            let failed = match asked {
                Ok((headers, answer, took)) => {
                    waited += took;
                    self.remember(&routed);
                    let warnings = prepared.warnings;
                    return Ok(self.reply(routed, settlement, headers, answer, waited, warnings));
                }
                Err(failed) => failed,
            };
            waited += failed.waited;
            let may_go_on = routed.may_fall_back(&failed.error);
            if failed.error.rejection() == Some(ErrorKind::ContextLength) {
                too_small = card.context_window.max(too_small);
            }
            last_error = Some(failed.error);
            if !may_go_on {
                break;
            }
        }
        if let (None, Some(error)) = (&last_error, refused) {
            let error = GatewayError::unreserved(error, routed);
            settlement.finish(error.label());
            return Err(error);
        }
        let error = last_error
            .unwrap_or_else(|| UpstreamError::Connect("the route has no candidate".to_owned()));
        let attempts = settlement.attempts();
        let overhead = settlement.received().elapsed().saturating_sub(waited);
        settlement.finish(error.label());
        Err(GatewayError::Upstream { routed: Box::new(routed), error, attempts, overhead })
    }

    /// Asks one candidate, at as many deployments and as often as its provider's settings allow.
    async fn ask(
        &self,
        question: Question<'_>,
        routed: &Routed,
        settlement: &mut Settlement,
    ) -> Result<(ShownHeaders, Answer, Duration), Failed> {
        let Question { request, info, card, .. } = question;
        let mut waited = Duration::ZERO;
        let mut failure: Option<UpstreamError> = None;
        let mut stop = self.stop.clone();
        let conversation = routed.session.map(Keys::lasting);
        let begun = self.upstreams.begin(&card.provider, &card.upstream_name, conversation);
        let mut tries = match begun {
            Ok(tries) => tries,
            Err(error) => return Err(Failed { error, waited }),
        };
        loop {
            let (mut slot, pause) = match tries.next(failure.as_ref(), Instant::now()) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            let Some(limits) = info.limits(slot.provider(), pause) else {
                failure.get_or_insert(info.total_passed());
                break;
            };
            // Even a sleep of nothing lasts until the timer's next millisecond.
            if !pause.is_zero()
                && or_stop(&mut stop, pin!(tokio::time::sleep(pause))).await.is_none()
            {
                failure = Some(UpstreamError::ShuttingDown);
                break;
            }
            // What the last try has used is gone: the budget has to hold both.
            if settlement.has_lost_more()
                && settlement.reserve(request, routed, card).await.is_err()
            {
                break;
            }
            settlement.attempt(card, routed.tier());
            let started = Instant::now();
            let answer = {
                let attempt = pin!(self.attempt(question, &slot, limits, settlement.seen()));
                or_stop(&mut stop, attempt).await
            };
            let answer = answer.unwrap_or(Err(UpstreamError::ShuttingDown));
            waited += pause + started.elapsed();
            let failed = answer.as_ref().err();
            let outcome = failed.map_or(ANSWERED, UpstreamError::label);
            settlement.attempt_ended(slot.deployment_index(), started, failed);
            self.metrics.attempt_ended(&card.provider, settlement.metric_model(), outcome);
            match answer {
                Ok((headers, started)) => {
                    slot.succeeded();
                    return Ok((headers, started.with_slot(slot), waited));
                }
                Err(error) => {
                    slot.failed(&error);
                    tracing::warn!(
                        request_id = settlement.request_id(),
                        provider = card.provider,
                        model = card.name,
                        attempt = settlement.attempts(),
                        outcome,
                        error = %error,
                        "an attempt failed"
                    );
                    failure = Some(error);
                }
            }
        }
        let error = failure
            .unwrap_or_else(|| UpstreamError::Connect("no deployment can be asked".to_owned()));
        Err(Failed { error, waited })
    }

    /// Hands an answer to the edge: a whole one is settled here, a stream settles itself.
    fn reply(
        &self,
        routed: Routed,
        mut settlement: Box<Settlement>,
        upstream_headers: ShownHeaders,
        answer: Answer,
        waited: Duration,
        mut warnings: Warnings,
    ) -> Reply {
        for warning in warnings.iter() {
            self.metrics.translation_warned(warning.code);
        }
        // What the answer loses is counted at its end: of a stream, most comes later.
        warnings.extend(match &answer {
            Answer::Whole(_, seen) => &seen.lost,
            Answer::Stream(start) => &start.flow.seen().lost,
        });
        let (attempts, pace) = (settlement.attempts(), settlement.pace());
        let overhead = settlement.received().elapsed().saturating_sub(waited);
        let body = match answer {
            Answer::Whole(body, seen) => {
                settlement.observe(&seen);
                let cost = settlement.cost();
                settlement.finish(FINISHED);
                ReplyBody::Whole(body, cost)
            }
            Answer::Stream(start) => {
                ReplyBody::Stream(Box::new(Relay::new(*start, settlement, self.stop.clone())))
            }
        };
        Reply { routed, attempts, upstream_headers, overhead, warnings, pace, body }
    }
}

/// What comes of the work; `None` when the process has to end before. The work is pinned by the
/// caller: it is large, and an `async fn` holds what it is given twice.
async fn or_stop<T>(stop: &mut Stop, work: impl Future<Output = T> + Unpin) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = stop.wanted() => None,
    }
}
