//! What is remembered of a deployment: its circuit breaker, the calls in flight, how fast it
//! answers.

use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// When a deployment is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open the circuit.
    pub failures: u32,
    /// How long it stays open the first time; each probe that fails doubles it.
    pub open_for: Duration,
}

/// Chosen: a failure or two happen; a provider that is down answers nobody for some seconds.
impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_for: Duration::from_secs(10) }
    }
}

/// The longest that a circuit stays open between two probes (chosen).
const MAX_OPEN: Duration = Duration::from_secs(120);
/// A probe that has not come back after this long is given up, so that another may be sent.
const PROBE_LEASE: Duration = Duration::from_secs(300);

/// A circuit breaker: closed, open, or half-open with a single probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Circuit {
    /// Requests pass.
    #[default]
    Closed,
    /// They do not, until then.
    Open {
        /// When a probe may go.
        until: Instant,
        /// How long it has been open for.
        open_for: Duration,
    },
    /// One request is out to see.
    HalfOpen {
        /// When it went.
        since: Instant,
        /// How long the circuit had been open for.
        open_for: Duration,
    },
}

/// The circuit and what moves it. Time is passed in.
#[derive(Debug, Default)]
pub struct Breaker {
    circuit: Circuit,
    failures: u32,
}

impl Breaker {
    /// How long until a request may pass; zero when one may now.
    pub fn wait(&self, now: Instant) -> Duration {
        match self.circuit {
            Circuit::Closed => Duration::ZERO,
            Circuit::Open { until, .. } => until.saturating_duration_since(now),
            Circuit::HalfOpen { since, .. } => (since + PROBE_LEASE).saturating_duration_since(now),
        }
    }

    /// A request is about to pass: after an open time it is the probe.
    pub fn enter(&mut self, now: Instant) {
        if let Circuit::Open { open_for, .. } | Circuit::HalfOpen { open_for, .. } = self.circuit {
            self.circuit = Circuit::HalfOpen { since: now, open_for };
        }
    }

    /// An answer came.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The deployment failed. Whether that opened the circuit.
    pub fn failed(&mut self, settings: BreakerSettings, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let open_for = match self.circuit {
            Circuit::HalfOpen { open_for, .. } => (open_for * 2).min(MAX_OPEN),
            Circuit::Closed if self.failures >= settings.failures => settings.open_for,
            Circuit::Closed | Circuit::Open { .. } => return false,
        };
        self.circuit = Circuit::Open { until: now + open_for, open_for };
        true
    }

    /// A request ended without telling anything of the deployment (the caller left, or its
    /// request was wrong): a probe is then still owed.
    pub fn undecided(&mut self, now: Instant) {
        if let Circuit::HalfOpen { open_for, .. } = self.circuit {
            self.circuit = Circuit::Open { until: now, open_for };
        }
    }
}

/// One model at one deployment.
#[derive(Debug, Default)]
pub struct Health {
    /// The circuit breaker.
    pub breaker: Mutex<Breaker>,
    in_flight: AtomicUsize,
    /// Milliseconds to the first content, decayed, as f32 bits; zero before the first.
    first_content_ms: AtomicU32,
    /// When it was measured last, in milliseconds since [`START`].
    measured_ms: AtomicU64,
}

/// What is known of a model at this moment, for choosing among candidates.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observed {
    /// Milliseconds to the first content, decayed; `None` before the first answer.
    pub first_content_ms: Option<f32>,
    /// Calls in flight.
    pub in_flight: usize,
}

/// Weight of the newest measurement (chosen: some ten answers decide).
const NEWEST: f32 = 0.2;
/// A measurement counts for half after this long, so that a model that was slow is asked again
/// (chosen: rarely enough that hardly anyone waits for one that still is).
const HALF_LIFE: Duration = Duration::from_secs(60);
/// From when time is counted.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Health {
    /// A call begins.
    pub fn enter(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// A call has ended.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// The first content came after this long.
    pub fn first_content(&self, took: Duration, now: Instant) {
        let since_start = now.saturating_duration_since(*START).as_millis();
        self.measured_ms.store(u64::try_from(since_start).unwrap_or(u64::MAX), Relaxed);
        let new = took.as_secs_f32() * 1e3;
        let old = f32::from_bits(self.first_content_ms.load(Relaxed));
        let mixed = if old == 0.0 { new } else { old + NEWEST * (new - old) };
        self.first_content_ms.store(mixed.max(f32::MIN_POSITIVE).to_bits(), Relaxed);
    }

    /// What is known now.
    pub fn observed(&self, now: Instant) -> Observed {
        let measured = *START + Duration::from_millis(self.measured_ms.load(Relaxed));
        let age = now.saturating_duration_since(measured).as_secs_f32() / HALF_LIFE.as_secs_f32();
        let ms = f32::from_bits(self.first_content_ms.load(Relaxed)) * (-age).exp2();
        Observed {
            first_content_ms: (ms > 0.0).then_some(ms),
            in_flight: self.in_flight.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 2, open_for: Duration::from_secs(10) };

    #[test]
    fn a_circuit_opens_after_failures_in_a_row_and_closes_after_a_probe() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(SETTINGS, at(0)));
        breaker.succeeded();
        assert!(!breaker.failed(SETTINGS, at(0)), "they were not in a row");
        assert!(breaker.failed(SETTINGS, at(0)));
        assert_eq!(breaker.wait(at(1)), Duration::from_secs(9));
        assert_eq!(breaker.wait(at(10)), Duration::ZERO);
        breaker.enter(at(10));
        assert!(breaker.wait(at(11)) > Duration::ZERO, "one probe at a time");
        assert!(breaker.failed(SETTINGS, at(12)));
        assert_eq!(breaker.wait(at(12)), Duration::from_secs(20), "a failed probe doubles it");
        breaker.enter(at(32));
        breaker.succeeded();
        assert_eq!(breaker.wait(at(32)), Duration::ZERO);
    }

    #[test]
    fn a_probe_that_tells_nothing_leaves_the_next_one_owed() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(SETTINGS, now);
        breaker.failed(SETTINGS, now);
        breaker.enter(now + Duration::from_secs(10));
        breaker.undecided(now + Duration::from_secs(11));
        assert_eq!(breaker.wait(now + Duration::from_secs(11)), Duration::ZERO);
        assert!(matches!(breaker.circuit, Circuit::Open { .. }));
    }

    #[test]
    fn the_time_to_the_first_content_decays() {
        let (health, now) = (Health::default(), Instant::now());
        let ms = |after| health.observed(now + after).first_content_ms;
        assert_eq!(ms(Duration::ZERO), None);
        health.first_content(Duration::from_millis(100), now);
        health.first_content(Duration::from_millis(200), now);
        // A millisecond is as fine as its time is kept.
        let near = |ms: Option<f32>, expected: f32| (ms.unwrap() - expected).abs() < 0.01;
        assert!(near(ms(Duration::ZERO), 120.0) && near(ms(HALF_LIFE), 60.0));
    }
}
