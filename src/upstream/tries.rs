//! Which deployment and credential is asked next, and when nothing is left to try.
//!
//! Among deployments whose circuit is closed, the one with the fewest calls in flight for its
//! weight is asked, with one of its credentials: always the same one in a conversation, because
//! providers keep the beginnings of prompts for one account, else one drawn at random. A refused
//! credential gives way to another at once, and so does a deployment that fails to those that have not; a failure that may
//! pass is retried after a pause that doubles and is drawn at random, as long as the provider's
//! retry budget lasts: when everything fails, retries must not multiply the load.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use thread_local::ThreadLocal;

use super::{
    Credential, Deployment, Observed, Provider, UpstreamError,
    address::Address,
    connect::{Pool, Ways},
    health::{Breaker, Health},
};

/// First pause before a retry; doubles each time (chosen).
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause: where a provider wants a longer one, the next candidate is asked instead.
const MAX_PAUSE: Duration = Duration::from_secs(8);
/// Requests that earn one retry: at most one request in five may be one.
const REQUESTS_A_RETRY: u32 = 5;
/// Most retries that can be saved up.
const MAX_SAVED_RETRIES: u32 = 20;
/// How long a credential stands back when its provider does not say (chosen: an account's
/// trouble takes minutes, a rate limit seconds).
const REFUSED_FOR: Duration = Duration::from_secs(300);
const LIMITED_FOR: Duration = Duration::from_secs(10);
/// The longest that a credential stands back.
const MAX_STAND_BACK: Duration = Duration::from_secs(3600);
/// Models remembered for a deployment. Callers can name any model of a provider; those beyond
/// this share one memory.
const MAX_MODELS: usize = 1024;

/// A provider and what is remembered of it.
#[derive(Debug)]
pub struct Member {
    pub provider: Provider,
    ways: Ways,
    /// One for each thread that asks it.
    pools: ThreadLocal<Pool>,
    /// Of each deployment, where the paths are that were asked for.
    addresses: Vec<Mutex<HashMap<String, Arc<Address>>>>,
    health: Mutex<HashMap<(usize, String), Arc<Health>>>,
    /// Credentials that stand back, by `(deployment, credential)`.
    standing_back: Mutex<HashMap<(usize, usize), StandBack>>,
    /// Requests that have not been spent on retries.
    budget: Mutex<u32>,
}

/// How long a credential stands back.
#[derive(Debug, Clone, Copy)]
struct StandBack {
    until: Instant,
    /// Whether the provider said how long; otherwise it is our guess.
    said: bool,
}

/// A mutex whose holders cannot leave it half-written.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    pub fn new(provider: Provider, ways: Ways) -> Self {
        Self {
            addresses: provider.deployments.iter().map(|_| Mutex::default()).collect(),
            provider,
            ways,
            pools: ThreadLocal::new(),
            health: Mutex::default(),
            standing_back: Mutex::default(),
            budget: Mutex::new(MAX_SAVED_RETRIES * REQUESTS_A_RETRY),
        }
    }

    /// This thread's connections. A connection is driven by the thread that opened it, and its
    /// answers come soonest to that thread; no two providers share connections or deadlines.
    pub(super) fn pool(&self) -> &Pool {
        self.pools.get_or(|| self.ways.pool())
    }

    /// Where a path is under a deployment's base URL; `None` when there is no such deployment.
    fn address(
        &self,
        deployment: usize,
        path: &str,
    ) -> Option<Result<Arc<Address>, UpstreamError>> {
        let mut known = locked(self.addresses.get(deployment)?);
        if let Some(address) = known.get(path) {
            return Some(Ok(Arc::clone(address)));
        }
        let base = &self.provider.deployments.get(deployment)?.base_url;
        let found = Address::new(base, path, &self.ways.proxies).map(Arc::new);
        if let Ok(address) = &found
            && known.len() < MAX_MODELS
        {
            known.insert(path.to_owned(), Arc::clone(address));
        }
        Some(found)
    }

    fn health(&self, deployment: usize, model: &str) -> Arc<Health> {
        let mut all = locked(&self.health);
        let full = all.len() >= MAX_MODELS * self.provider.deployments.len();
        let key = (deployment, model.to_owned());
        let key = if full && !all.contains_key(&key) { (deployment, String::new()) } else { key };
        Arc::clone(all.entry(key).or_default())
    }

    /// What is known of a model over all deployments.
    pub fn observed(&self, model: &str) -> Observed {
        let all = locked(&self.health);
        let (mut known, now) = (Observed::default(), Instant::now());
        let mut key = (0, model.to_owned());
        for deployment in 0..self.provider.deployments.len() {
            key.0 = deployment;
            let Some(health) = all.get(&key) else { continue };
            let observed = health.observed(now);
            known.in_flight += observed.in_flight;
            let fastest = [known.first_content_ms, observed.first_content_ms];
            known.first_content_ms = fastest.into_iter().flatten().min_by(f32::total_cmp);
        }
        known
    }

    fn may_retry(&self) -> bool {
        let mut budget = locked(&self.budget);
        let left = budget.checked_sub(REQUESTS_A_RETRY);
        *budget = left.unwrap_or(*budget);
        left.is_some()
    }
}

/// The tries at one model.
#[derive(Debug)]
pub struct Tries {
    member: Arc<Member>,
    model: String,
    /// The same number in every turn of a conversation.
    conversation: Option<u64>,
    retries_left: u32,
    pause: Duration,
    /// Credentials refused while this request lasted.
    refused: Vec<(usize, usize)>,
    /// Deployments that failed while it lasted.
    failed: Vec<usize>,
    last: Option<(usize, usize)>,
}

/// One attempt's place: a deployment and a credential. It counts as a call in flight until it is
/// dropped.
#[derive(Debug)]
pub struct Slot {
    member: Arc<Member>,
    health: Arc<Health>,
    place: (usize, usize),
    reported: bool,
}

/// The least is asked: how long it stands back, has it just failed, its load, a random lot.
type Rank = (Duration, bool, f64, f64);

impl Tries {
    pub(super) fn new(member: Arc<Member>, model: &str, conversation: Option<u64>) -> Self {
        let mut budget = locked(&member.budget);
        *budget = (*budget + 1).min(MAX_SAVED_RETRIES * REQUESTS_A_RETRY);
        drop(budget);
        Self {
            retries_left: member.provider.retries,
            member,
            model: model.to_owned(),
            conversation,
            pause: FIRST_PAUSE,
            refused: Vec::new(),
            failed: Vec::new(),
            last: None,
        }
    }

    /// The next place to ask and how long to wait before; `None` when nothing is left.
    /// `failure` is what came of the last one.
    pub fn next(
        &mut self,
        failure: Option<&UpstreamError>,
        now: Instant,
    ) -> Result<Option<(Slot, Duration)>, UpstreamError> {
        let Some(wait) = self.wait(failure, now) else { return Ok(None) };
        match self.choose(now) {
            Ok(slot) => Ok(Some((slot, wait))),
            // The failure itself says more than the circuit that it opened.
            Err(_) if failure.is_some() => Ok(None),
            Err(open_for) => Err(UpstreamError::CircuitOpen { retry_after: open_for }),
        }
    }

    /// How long to wait; `None` when it is not worth asking again.
    fn wait(&mut self, failure: Option<&UpstreamError>, now: Instant) -> Option<Duration> {
        let Some(failure) = failure else { return Some(Duration::ZERO) };
        if let Some(place) = self.last
            && failure.is_of_credential()
        {
            let default = match failure {
                UpstreamError::RateLimited { .. } => LIMITED_FOR,
                _ => REFUSED_FOR,
            };
            let said = failure.retry_after();
            let until = now + said.unwrap_or(default).min(MAX_STAND_BACK);
            let stand_back = StandBack { until, said: said.is_some() };
            locked(&self.member.standing_back).insert(place, stand_back);
            self.refused.push(place);
            if self.has_other_credential() {
                return Some(Duration::ZERO);
            }
        }
        if let Some((deployment, _)) = self.last
            && failure.is_fault()
        {
            self.failed.push(deployment);
            if self.has_other_deployment(now) && self.member.may_retry() {
                return Some(Duration::ZERO);
            }
        }
        let wanted = match failure.is_of_credential() {
            true => self.wanted(now),
            false => failure.retry_after().unwrap_or_default(),
        };
        if !failure.is_retryable() || wanted > MAX_PAUSE || self.retries_left == 0 {
            return None;
        }
        if !self.member.may_retry() {
            return None;
        }
        self.retries_left -= 1;
        self.refused.clear();
        self.failed.clear();
        // Drawn from the upper half, so that callers who failed together come back apart.
        let pause = self.pause.mul_f64(0.5 + 0.5 * draw());
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        Some(pause.max(wanted))
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let deployments = self.member.provider.deployments.iter().enumerate();
        deployments.flat_map(|(at, deployment)| {
            (0..deployment.credentials.len()).map(move |credential| (at, credential))
        })
    }

    fn has_other_credential(&self) -> bool {
        self.places().any(|place| !self.refused.contains(&place))
    }

    /// Whether a deployment that has not failed may be asked.
    fn has_other_deployment(&self, now: Instant) -> bool {
        (0..self.member.provider.deployments.len()).any(|at| {
            let is_closed = || {
                let health = self.member.health(at, &self.model);
                locked(&health.breaker).wait(now).is_zero()
            };
            !self.failed.contains(&at) && is_closed()
        })
    }

    /// How long the provider wants the credential to wait that may be asked the soonest.
    fn wanted(&self, now: Instant) -> Duration {
        let standing_back = locked(&self.member.standing_back);
        let soonest = self.places().filter_map(|place| standing_back.get(&place));
        let soonest = soonest.min_by_key(|stand_back| stand_back.until);
        let said = soonest.filter(|stand_back| stand_back.said);
        said.map_or(Duration::ZERO, |said| said.until.saturating_duration_since(now))
    }

    /// How long a credential still stands back.
    fn stands_back(&self, place: (usize, usize), now: Instant) -> Duration {
        let standing_back = locked(&self.member.standing_back);
        let found = standing_back.get(&place);
        found.map_or(Duration::ZERO, |found| found.until.saturating_duration_since(now))
    }

    /// The place to ask; how long every circuit stays open when none may be asked.
    fn choose(&mut self, now: Instant) -> Result<Slot, Duration> {
        let last = self.last.map(|(deployment, _)| deployment);
        let alone = self.member.provider.deployments.len() == 1;
        let mut soonest = Duration::MAX;
        let mut best: Option<(Rank, (usize, usize), Arc<Health>)> = None;
        for (at, deployment) in self.member.provider.deployments.iter().enumerate() {
            let Some((credential, stands_back)) = self.credential(at, deployment, now) else {
                continue;
            };
            let health = self.member.health(at, &self.model);
            let wait = locked(&health.breaker).wait(now);
            if !wait.is_zero() {
                soonest = soonest.min(wait);
                continue;
            }
            let weight = f64::from(deployment.weight.max(1));
            let load = health.observed(now).in_flight as f64 / weight;
            // Of equals a random one, each as often as its weight says (Efraimidis–Spirakis).
            let lot = if alone { 0.0 } else { -draw().powf(1.0 / weight) };
            let has_failed = last == Some(at) || self.failed.contains(&at);
            let rank = (stands_back, has_failed, load, lot);
            if best.as_ref().is_none_or(|(least, ..)| rank < *least) {
                best = Some((rank, (at, credential), health));
            }
        }
        let Some((_, place, health)) = best else { return Err(soonest) };
        locked(&health.breaker).enter(now);
        health.enter();
        self.last = Some(place);
        Ok(Slot { member: Arc::clone(&self.member), health, place, reported: false })
    }

    /// The credential that stands back the shortest, and how long it does; of equals the
    /// conversation's, or one drawn at random. `None` when all were refused while this request
    /// lasted.
    fn credential(
        &self,
        at: usize,
        deployment: &Deployment,
        now: Instant,
    ) -> Option<(usize, Duration)> {
        let count = deployment.credentials.len();
        let first = match self.conversation {
            _ if count < 2 => 0,
            Some(conversation) => (conversation % count as u64) as usize,
            None => (draw() * count as f64) as usize,
        };
        (first..count)
            .chain(0..first)
            .filter(|credential| !self.refused.contains(&(at, *credential)))
            .map(|credential| (credential, self.stands_back((at, credential), now)))
            .min_by_key(|(_, stands_back)| *stands_back)
    }
}

impl Slot {
    /// The provider asked.
    pub fn provider(&self) -> &Provider {
        &self.member.provider
    }

    /// Which of the provider's deployments, counted from 0.
    pub fn deployment_index(&self) -> usize {
        self.place.0
    }

    pub(super) fn pool(&self) -> &Pool {
        self.member.pool()
    }

    /// Where a path is at this place.
    pub(super) fn address(&self, path: &str) -> Option<Result<Arc<Address>, UpstreamError>> {
        self.member.address(self.place.0, path)
    }

    pub(super) fn credential(&self) -> Option<&Credential> {
        let deployment = self.member.provider.deployments.get(self.place.0)?;
        deployment.credentials.get(self.place.1)
    }

    /// The first content came after this long.
    pub fn first_content(&self, took: Duration) {
        self.health.first_content(took, Instant::now());
    }

    /// The answer came whole, or a stream has begun to say something.
    pub fn succeeded(&mut self) {
        self.reported = true;
        locked(&self.health.breaker).succeeded();
        locked(&self.member.standing_back).remove(&self.place);
    }

    /// The attempt failed.
    pub fn failed(&mut self, error: &UpstreamError) {
        self.reported = true;
        let mut breaker: MutexGuard<'_, Breaker> = locked(&self.health.breaker);
        if !error.is_fault() {
            // It answered, if only to say no.
            breaker.undecided(Instant::now());
        } else if breaker.failed(self.member.provider.breaker, Instant::now()) {
            tracing::warn!(
                provider = self.member.provider.name,
                deployment = self.place.0,
                error = error.label(),
                "the circuit is open"
            );
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.health.leave();
        if !self.reported {
            locked(&self.health.breaker).undecided(Instant::now());
        }
    }
}

/// A random number in 0..1, from the keys that the standard library draws for its hash maps.
pub fn draw() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use hyper_util::client::proxy::matcher::Matcher;
    use reqwest::Url;

    use super::*;
    use crate::upstream::Api;

    fn member(deployments: usize, credentials: usize, retries: u32) -> Arc<Member> {
        let url = Url::parse("http://localhost/").unwrap();
        let mut provider = Provider::new("p", Api::OpenAi, url, Credential::None);
        let mut deployment = provider.deployments[0].clone();
        deployment.credentials = vec![Credential::None; credentials];
        provider.deployments = vec![deployment; deployments];
        provider.retries = retries;
        let provider_of_keys = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider_of_keys);
        let tls = tls.with_safe_default_protocol_versions().unwrap();
        let roots = rustls::RootCertStore::empty();
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let ways = Ways { tls: Arc::new(tls), proxies: Arc::new(Matcher::builder().build()) };
        Arc::new(Member::new(provider, ways))
    }

    fn failed(status: u16, retry_after: Option<u64>) -> UpstreamError {
        let retry_after = retry_after.map(Duration::from_secs);
        UpstreamError::of_status(status, retry_after, bytes::Bytes::new())
    }

    #[test]
    fn a_refused_credential_gives_way_to_the_next_without_a_pause() {
        let member = member(1, 3, 0);
        let now = Instant::now();
        let mut tries = Tries::new(Arc::clone(&member), "m", Some(1));
        let (first, _) = tries.next(None, now).unwrap().unwrap();
        assert_eq!(first.place, (0, 1));
        let (second, wait) = tries.next(Some(&failed(401, None)), now).unwrap().unwrap();
        assert_eq!((second.place, wait), ((0, 2), Duration::ZERO));
        let (third, _) = tries.next(Some(&failed(429, Some(60))), now).unwrap().unwrap();
        assert_eq!(third.place, (0, 0));
        assert!(tries.next(Some(&failed(403, None)), now).unwrap().is_none());
        // The next request begins with the credential that stands back the shortest.
        let mut later = Tries::new(member, "m", Some(1));
        let (slot, _) = later.next(None, now + Duration::from_secs(61)).unwrap().unwrap();
        assert_eq!(slot.place, (0, 2));
    }

    #[test]
    fn retries_pause_ever_longer_and_come_to_an_end() {
        let now = Instant::now();
        let mut tries = Tries::new(member(1, 1, 2), "m", None);
        let _first = tries.next(None, now).unwrap().unwrap();
        let error = failed(503, None);
        let (_, one) = tries.next(Some(&error), now).unwrap().unwrap();
        let (_, two) = tries.next(Some(&error), now).unwrap().unwrap();
        assert!((100..=200).contains(&one.as_millis()), "{one:?}");
        assert!((200..=400).contains(&two.as_millis()), "{two:?}");
        assert!(tries.next(Some(&error), now).unwrap().is_none());
    }

    #[test]
    fn a_providers_wish_to_wait_is_granted_unless_it_is_too_long() {
        let now = Instant::now();
        for (seconds, expected) in [(3, Some(3)), (60, None)] {
            let mut tries = Tries::new(member(1, 1, 1), "m", None);
            let _first = tries.next(None, now).unwrap().unwrap();
            let next = tries.next(Some(&failed(503, Some(seconds))), now).unwrap();
            assert_eq!(next.map(|(_, wait)| wait.as_secs()), expected);
        }
    }

    #[test]
    fn a_wish_to_wait_is_granted_when_other_credentials_failed_after_it() {
        let now = Instant::now();
        for (deployments, credentials) in [(1, 2), (2, 1)] {
            let mut tries = Tries::new(member(deployments, credentials, 1), "m", None);
            let (first, _) = tries.next(None, now).unwrap().unwrap();
            let (second, wait) = tries.next(Some(&failed(429, Some(3))), now).unwrap().unwrap();
            assert_eq!(wait, Duration::ZERO);
            assert_ne!(second.place, first.place);
            let (third, wait) = tries.next(Some(&failed(429, None)), now).unwrap().unwrap();
            assert_eq!((third.place, wait), (first.place, Duration::from_secs(3)));
        }
    }

    #[test]
    fn a_deployment_that_was_told_to_wait_is_asked_after_the_others() {
        let (member, now) = (member(2, 1, 0), Instant::now());
        let mut tries = Tries::new(Arc::clone(&member), "m", None);
        let (told, _) = tries.next(None, now).unwrap().unwrap();
        let _second = tries.next(Some(&failed(429, Some(30))), now).unwrap().unwrap();
        for _ in 0..10 {
            let (slot, _) =
                Tries::new(Arc::clone(&member), "m", None).next(None, now).unwrap().unwrap();
            assert_ne!(slot.place, told.place);
        }
    }

    #[test]
    fn the_retry_budget_keeps_an_outage_from_doubling_the_load() {
        let member = member(1, 1, 1);
        let now = Instant::now();
        let error = UpstreamError::RateLimited { retry_after: None };
        let mut retried = 0;
        for _ in 0..200 {
            let mut tries = Tries::new(Arc::clone(&member), "m", None);
            let _slot = tries.next(None, now).unwrap().unwrap();
            retried += usize::from(tries.next(Some(&error), now).unwrap().is_some());
        }
        // The first request finds the budget full.
        assert_eq!(retried, 20 + 199 / 5, "what was saved up, and one in five");
    }

    #[test]
    fn load_is_shared_by_calls_in_flight_and_a_failed_deployment_is_left_out() {
        let member = member(2, 1, 1);
        let now = Instant::now();
        let mut slots = Vec::new();
        for _ in 0..10 {
            let mut tries = Tries::new(Arc::clone(&member), "m", None);
            slots.push(tries.next(None, now).unwrap().unwrap().0);
        }
        assert_eq!(slots.iter().filter(|slot| slot.place.0 == 0).count(), 5);
        let mut tries = Tries::new(Arc::clone(&member), "m", None);
        let (mut slot, _) = tries.next(None, now).unwrap().unwrap();
        let error = UpstreamError::Cut("x".to_owned());
        slot.failed(&error);
        let (other, _) = tries.next(Some(&error), now).unwrap().unwrap();
        assert_ne!(other.place.0, slot.place.0);
    }

    #[test]
    fn the_credentials_of_a_deployment_share_its_load_and_a_conversation_keeps_its_own() {
        let (member, now) = (member(1, 3, 0), Instant::now());
        let asked_by = |conversation| {
            let mut tries = Tries::new(Arc::clone(&member), "m", conversation);
            tries.next(None, now).unwrap().unwrap().0.place.1
        };
        for conversation in 0..6 {
            assert_eq!(asked_by(Some(conversation)), conversation as usize % 3);
        }
        let mut asked = [0; 3];
        for _ in 0..600 {
            asked[asked_by(None)] += 1;
        }
        // 200 each, with a standard deviation of 12.
        assert!(asked.iter().all(|times| *times > 120), "{asked:?}");
    }

    #[test]
    fn a_deployment_that_fails_gives_way_at_once_to_those_that_have_not() {
        let now = Instant::now();
        let error = UpstreamError::Connect("refused".to_owned());
        let mut tries = Tries::new(member(3, 1, 0), "m", None);
        let (first, _) = tries.next(None, now).unwrap().unwrap();
        let mut asked = vec![first.place.0];
        for _ in 0..2 {
            let (slot, wait) = tries.next(Some(&error), now).unwrap().unwrap();
            assert_eq!(wait, Duration::ZERO);
            asked.push(slot.place.0);
        }
        asked.sort_unstable();
        assert_eq!(asked, [0, 1, 2]);
        assert!(tries.next(Some(&error), now).unwrap().is_none(), "no retries are configured");
    }

    #[test]
    fn an_open_circuit_says_when_it_will_be_asked_again() {
        let member = member(1, 1, 0);
        let now = Instant::now();
        let error = UpstreamError::Connect("refused".to_owned());
        for _ in 0..5 {
            let mut tries = Tries::new(Arc::clone(&member), "m", None);
            let (mut slot, _) = tries.next(None, now).unwrap().unwrap();
            slot.failed(&error);
        }
        let refused = Tries::new(Arc::clone(&member), "m", None).next(None, now).unwrap_err();
        let UpstreamError::CircuitOpen { retry_after } = refused else { panic!("{refused}") };
        assert!(retry_after > Duration::from_secs(8), "{retry_after:?}");
        assert!(Tries::new(member, "other", None).next(None, now).unwrap().is_some());
    }
}
