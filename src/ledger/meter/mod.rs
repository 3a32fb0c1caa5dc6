//! Reserve, then settle: what may still be used, counted for every budget and limit.
//!
//! Before a request is forwarded its worst case is reserved against every meter that applies, all
//! of them or none; at the end what was used takes the place of the reservation. What is reserved
//! and what is spent together never exceed a hard amount, in whatever order requests come and go.
//! Pure: no clock, no I/O; [`super::shared`] does the same in Redis.

use std::{collections::HashMap, fmt, sync::Arc};

use jiff::tz::TimeZone;

use super::{
    budget::{Budget, Kind, Unit, WhenSpent, Window},
    tenant::{Level, Scope},
    window::Used,
};
use crate::units::NanoUsd;

/// What a request may use at most, or has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Nano-dollars.
    pub nano_usd: i64,
    /// Prompt and completion tokens.
    pub tokens: i64,
}

impl Amounts {
    /// The part that a unit counts.
    pub fn of(&self, unit: Unit) -> i64 {
        match unit {
            Unit::NanoUsd => self.nano_usd,
            Unit::Tokens => self.tokens,
            Unit::Requests | Unit::Concurrent => 1,
        }
    }
}

/// What a request wants to reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Its worst case.
    pub wanted: Amounts,
    /// What must be there at least. Below `wanted` when the caller states no bound on the answer:
    /// then what is left is taken, and nobody else gets any of it meanwhile.
    pub least: Amounts,
}

/// One budget's or limit's state.
#[derive(Debug, Clone)]
pub struct Meter {
    budget: Arc<Budget>,
    used: Used,
    reserved: i64,
    /// What may be used here while nobody can say what others use; `None`: the whole amount.
    share: Option<i64>,
    /// The highest warning of the current window, in percent, and the window's start.
    warned: (u8, i64),
}

/// All meters of a gateway.
#[derive(Debug, Default)]
pub struct Meters {
    /// Meters keep their place while the process lives; one that was removed is `None`.
    meters: Vec<Option<Meter>>,
    places: HashMap<String, usize>,
    by_scope: HashMap<Scope, Vec<usize>>,
}

/// What is reserved for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grant {
    holds: Vec<(usize, i64)>,
}

/// A hard budget or limit that cannot take a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Which.
    pub budget: Arc<Budget>,
    /// What it could still give, at least 0.
    pub left: i64,
    /// What the request needs of it.
    pub needed: i64,
    /// When to come back, in milliseconds; `None` when waiting does not help.
    pub retry_after_ms: Option<i64>,
}

/// A budget has passed a share of its amount.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// Which.
    pub budget: Arc<Budget>,
    /// The share, in percent.
    pub percent: u8,
    /// What is used.
    pub used: i64,
}

/// How much pace is left of the tightest limit of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The limit's amount.
    pub limit: i64,
    /// What is left of it.
    pub remaining: i64,
    /// Until it is whole again, in milliseconds.
    pub reset_ms: i64,
}

/// A meter as [`super::shared`] asks Redis about it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Names the meter and what it counts: another window counts anew.
    pub key: String,
    /// The budget.
    pub budget: Arc<Budget>,
    /// How much may be used.
    pub amount: i64,
    /// Whether it binds.
    pub hard: bool,
    /// The first slot that counts, milliseconds since 1970.
    pub since: i64,
    /// The slot of the moment asked about.
    pub slot: i64,
    /// After how many milliseconds without use the meter may be forgotten; 0: never.
    pub forget_ms: i64,
}

impl Meter {
    fn new(budget: Budget, zone: TimeZone, now_ms: i64) -> Self {
        let window = if budget.unit == Unit::Concurrent { Window::Total } else { budget.window };
        let used = Used::new(window, zone, now_ms);
        Self { used, budget: Arc::new(budget), reserved: 0, share: None, warned: (0, 0) }
    }

    fn view(&mut self, at_ms: i64) -> View {
        self.used.advance(at_ms);
        let budget = &self.budget;
        let window = if budget.unit == Unit::Concurrent { Window::Total } else { budget.window };
        let (since, slot, forget_ms) = self.used.slots_at(window, at_ms);
        let zone = budget.time_zone.as_deref().unwrap_or("-");
        let key = format!("{}:{}:{window}:{zone}", budget.id, budget.unit.name());
        let (amount, hard) = (budget.amount, budget.hard);
        View { key, budget: Arc::clone(budget), amount, hard, since, slot, forget_ms }
    }

    fn left(&self) -> i64 {
        let amount = self.share.unwrap_or(self.budget.amount);
        amount.saturating_sub(self.used.sum()).saturating_sub(self.reserved)
    }

    /// What of a demand can be reserved.
    fn take(&mut self, demand: &Demand, now_ms: i64) -> Result<i64, Box<Refusal>> {
        self.used.advance(now_ms);
        let unit = self.budget.unit;
        let (wanted, least) = (demand.wanted.of(unit), demand.least.of(unit));
        let left = self.left();
        if !self.budget.hard || wanted <= left {
            return Ok(wanted);
        }
        // Something must be left even for a request that needs nothing that can be estimated.
        if least < wanted && least.max(1) <= left {
            return Ok(left);
        }
        let needed = least.max(1);
        let retry_after_ms = match unit {
            Unit::Concurrent => Some(CONCURRENT_RETRY_MS),
            _ if needed > self.budget.amount => None,
            _ => self.used.frees_in_ms(needed - left, now_ms).or(
                // Reservations of others may come back unused.
                (self.reserved > 0).then_some(CONCURRENT_RETRY_MS),
            ),
        };
        let budget = Arc::clone(&self.budget);
        Err(Box::new(Refusal { budget, left: left.max(0), needed, retry_after_ms }))
    }

    fn warning(&mut self, now_ms: i64) -> Option<Warning> {
        let start = match self.budget.window {
            // A rolling window has no start: a warning is repeated once it has rolled past.
            Window::Rolling(seconds) => {
                let length = i64::from(seconds).max(1) * 1_000;
                now_ms.div_euclid(length) * length
            }
            Window::Civil(_) | Window::Total => self.used.start_ms(now_ms),
        };
        if self.warned.1 != start {
            self.warned = (0, start);
        }
        let used = self.used.sum();
        let reached = |percent: &&u8| {
            i128::from(used) * 100 >= i128::from(self.budget.amount) * i128::from(**percent)
        };
        let percent = *self.budget.warn_at_percent.iter().filter(reached).max()?;
        if percent <= self.warned.0 {
            return None;
        }
        self.warned.0 = percent;
        Some(Warning { budget: Arc::clone(&self.budget), percent, used })
    }
}

/// When to come back for a place, or for what others have reserved (chosen: most answers take
/// about a second).
const CONCURRENT_RETRY_MS: i64 = 1_000;

impl Meters {
    /// Takes over a list of budgets: known ones keep what they have counted. Returns the ids of
    /// those that count from nothing, whose past [`Self::add_past`] must tell.
    pub fn replace(
        &mut self,
        budgets: &[Budget],
        zone: &dyn Fn(&Budget) -> TimeZone,
        now_ms: i64,
    ) -> Vec<String> {
        let mut fresh = Vec::new();
        for (id, place) in &self.places {
            if !budgets.iter().any(|budget| budget.id == *id)
                && let Some(slot) = self.meters.get_mut(*place)
            {
                *slot = None;
            }
        }
        self.places.retain(|id, _| budgets.iter().any(|budget| budget.id == *id));
        self.by_scope.clear();
        for budget in budgets {
            let known = self.places.get(&budget.id).copied();
            let place = known.unwrap_or(self.meters.len());
            let meter = Meter::new(budget.clone(), zone(budget), now_ms);
            match self.meters.get_mut(place) {
                Some(Some(known)) if same_count(&known.budget, budget) => {
                    known.budget = Arc::new(budget.clone());
                }
                Some(slot) => {
                    let reserved = slot.as_ref().map_or(0, |known| known.reserved);
                    *slot = Some(Meter { reserved, ..meter });
                    fresh.push(budget.id.clone());
                }
                None => {
                    self.meters.push(Some(meter));
                    fresh.push(budget.id.clone());
                }
            }
            self.places.insert(budget.id.clone(), place);
            self.by_scope.entry(budget.scope.clone()).or_default().push(place);
        }
        fresh
    }

    /// The budgets in force.
    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.meters.iter().flatten().map(|meter| meter.budget.as_ref())
    }

    /// Whether a meter applies to any of these scopes.
    pub fn applies(&self, scopes: &[Scope]) -> bool {
        scopes.iter().any(|scope| self.by_scope.contains_key(scope))
    }

    /// From when on the past of a budget counts, milliseconds since 1970.
    pub fn counts_since(&self, id: &str, now_ms: i64) -> Option<i64> {
        let meter = self.meters.get(*self.places.get(id)?)?.as_ref()?;
        (meter.budget.unit != Unit::Concurrent).then(|| meter.used.start_ms(now_ms))
    }

    /// Adds what the ledger knows of a budget's past.
    pub fn add_past(&mut self, id: &str, at_ms: i64, amount: i64, now_ms: i64) {
        let meter = self.places.get(id).and_then(|place| self.meters.get_mut(*place));
        if let Some(Some(meter)) = meter {
            meter.used.add(at_ms, amount, now_ms);
        }
    }

    /// Reserves a demand against every meter of the scopes but the exempt ones, or against none.
    /// What the grant held before is given back first: a fallback takes the place of what it falls
    /// back from.
    pub fn reserve(
        &mut self,
        grant: &mut Grant,
        scopes: &[Scope],
        exempt: &[String],
        demand: &Demand,
        now_ms: i64,
    ) -> Result<(), Box<Refusal>> {
        self.release(grant);
        let mut holds = Vec::new();
        for place in scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten() {
            let Some(Some(meter)) = self.meters.get_mut(*place) else { continue };
            if exempt.contains(&meter.budget.id) {
                continue;
            }
            holds.push((*place, meter.take(demand, now_ms)?));
        }
        for (place, amount) in &holds {
            if let Some(Some(meter)) = self.meters.get_mut(*place) {
                meter.reserved = meter.reserved.saturating_add(*amount);
            }
        }
        grant.holds = holds;
        Ok(())
    }

    /// Gives back what is reserved.
    pub fn release(&mut self, grant: &mut Grant) {
        for (place, amount) in grant.holds.drain(..) {
            if let Some(Some(meter)) = self.meters.get_mut(place) {
                meter.reserved = meter.reserved.saturating_sub(amount);
            }
        }
    }

    /// Puts what was used at a moment in the place of what was reserved; returns the budgets that
    /// have thereby passed a share. Scopes without a reservation are charged as well.
    pub fn settle(
        &mut self,
        grant: &mut Grant,
        scopes: &[Scope],
        used: Amounts,
        at_ms: i64,
        now_ms: i64,
    ) -> Vec<Warning> {
        self.release(grant);
        let mut warnings = Vec::new();
        for place in scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten() {
            let Some(Some(meter)) = self.meters.get_mut(*place) else { continue };
            if meter.budget.unit == Unit::Concurrent {
                continue;
            }
            meter.used.add(at_ms, used.of(meter.budget.unit), now_ms);
            warnings.extend(meter.warning(now_ms));
        }
        warnings
    }

    /// The tightest limit of a unit for these scopes.
    pub fn pace(&mut self, scopes: &[Scope], unit: Unit, now_ms: i64) -> Option<Pace> {
        let mut tightest: Option<Pace> = None;
        for place in scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten() {
            let Some(Some(meter)) = self.meters.get_mut(*place) else { continue };
            if meter.budget.unit != unit || meter.budget.kind != Kind::Limit {
                continue;
            }
            meter.used.advance(now_ms);
            let remaining = meter.left().max(0);
            let missing = meter.budget.amount - remaining;
            let reset = (missing > 0).then(|| meter.used.frees_in_ms(missing, now_ms)).flatten();
            let pace = Pace { limit: meter.budget.amount, remaining, reset_ms: reset.unwrap_or(0) };
            if tightest.is_none_or(|known| pace.remaining < known.remaining) {
                tightest = Some(pace);
            }
        }
        tightest
    }

    /// The meters of the scopes but the exempt ones, as they stand at a moment.
    pub fn views(&mut self, scopes: &[Scope], exempt: &[String], at_ms: i64) -> Vec<View> {
        let mut views = Vec::new();
        for place in scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten() {
            let Some(Some(meter)) = self.meters.get_mut(*place) else { continue };
            if !exempt.contains(&meter.budget.id) {
                views.push(meter.view(at_ms));
            }
        }
        views
    }

    /// Leaves of every meter only one part in `gateways` of what is left.
    pub fn share(&mut self, gateways: usize, now_ms: i64) {
        let gateways = i64::try_from(gateways.max(1)).unwrap_or(i64::MAX);
        for meter in self.meters.iter_mut().flatten() {
            meter.used.advance(now_ms);
            let used = meter.used.sum();
            let left = meter.budget.amount.saturating_sub(used).max(0) / gateways;
            // One place at the same time stays: a share of none would be a refusal.
            let least = i64::from(meter.budget.unit == Unit::Concurrent && meter.budget.amount > 0);
            let amount = used.saturating_add(left.max(least));
            meter.share = Some(amount);
        }
    }

    /// Milliseconds until a budget's civil window ends.
    pub fn ends_in_ms(&mut self, id: &str, now_ms: i64) -> Option<i64> {
        let meter = self.meters.get_mut(*self.places.get(id)?)?.as_mut()?;
        meter.used.advance(now_ms);
        meter.used.frees_in_ms(1, now_ms)
    }

    /// What a budget has counted and what is reserved of it.
    pub fn state(&mut self, id: &str, now_ms: i64) -> Option<(i64, i64)> {
        let meter = self.meters.get_mut(*self.places.get(id)?)?.as_mut()?;
        meter.used.advance(now_ms);
        Some((meter.used.sum(), meter.reserved))
    }
}

/// Whether what one counted is what the other would have.
fn same_count(a: &Budget, b: &Budget) -> bool {
    a.scope == b.scope && a.unit == b.unit && a.window == b.window && a.time_zone == b.time_zone
}

/// `the day's budget of key:key_1 has $0.0005 left of $0.01, and this request may cost $0.002`
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Budget { unit, amount, window, scope, kind, .. } = self.budget.as_ref();
        let (left, needed) = (self.left, self.needed);
        let shown = |amount: i64| match unit {
            Unit::NanoUsd => format!("${}", NanoUsd(amount)),
            Unit::Tokens => format!("{amount} tokens"),
            Unit::Requests | Unit::Concurrent => format!("{amount} requests"),
        };
        let what = match kind {
            Kind::Budget => "budget",
            Kind::Limit => "limit",
        };
        if *unit == Unit::Concurrent {
            return write!(f, "{scope} has its limit of {amount} requests at the same time");
        }
        write!(
            f,
            "the {what} of {scope} ({} per {window}) has {} left, and this request may need {}",
            shown(*amount),
            shown(left),
            shown(needed),
        )?;
        match self.retry_after_ms {
            Some(ms) => write!(f, "; try again in {} s", ms.max(0).unsigned_abs().div_ceil(1_000)),
            None => Ok(()),
        }
    }
}

/// What a refused request may still do.
impl Refusal {
    /// The way out that the budget leaves, when it is not refused outright.
    pub fn downgrade(&self) -> Option<WhenSpent> {
        let choice = self.budget.when_spent;
        (self.budget.kind == Kind::Budget && choice != WhenSpent::Reject).then_some(choice)
    }

    /// Whether another model could still be paid for: a limit of one model binds nobody else.
    pub fn is_about_model(&self) -> bool {
        self.budget.scope.level == Level::Model
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::{budget::Period, tenant::Origin};

    fn scope(level: Level, id: &str) -> Scope {
        Scope { level, id: id.to_owned() }
    }

    fn budget(id: &str, scope: Scope, unit: Unit, amount: i64) -> Budget {
        Budget {
            id: id.to_owned(),
            kind: Kind::Budget,
            scope,
            unit,
            amount,
            window: Window::Civil(Period::Day),
            time_zone: None,
            hard: true,
            when_spent: WhenSpent::Reject,
            warn_at_percent: Vec::new(),
            created_ms: 0,
            origin: Origin::Admin,
        }
    }

    fn meters(budgets: &[Budget]) -> Meters {
        let mut meters = Meters::default();
        meters.replace(budgets, &|_| TimeZone::UTC, 0);
        meters
    }

    fn exactly(nano_usd: i64) -> Demand {
        let amounts = Amounts { nano_usd, tokens: 0 };
        Demand { wanted: amounts, least: amounts }
    }

    #[test]
    fn all_levels_are_reserved_or_none() {
        let (team, key) = (scope(Level::Team, "t"), scope(Level::Key, "k"));
        let scopes = [team.clone(), key.clone()];
        let mut meters = meters(&[
            budget("team", team, Unit::NanoUsd, 100),
            budget("key", key, Unit::NanoUsd, 10),
        ]);
        let (mut first, mut second) = (Grant::default(), Grant::default());
        meters.reserve(&mut first, &scopes, &[], &exactly(8), 0).unwrap();
        let refusal = meters.reserve(&mut second, &scopes, &[], &exactly(8), 0).unwrap_err();
        assert_eq!((refusal.budget.id.as_str(), refusal.left), ("key", 2));
        assert_eq!(meters.state("team", 0), Some((0, 8)), "nothing of the second is held");
        let used = Amounts { nano_usd: 3, tokens: 0 };
        meters.settle(&mut first, &scopes, used, 0, 0);
        assert_eq!((meters.state("team", 0), meters.state("key", 0)), (Some((3, 0)), Some((3, 0))));
        meters.reserve(&mut second, &scopes, &[], &exactly(7), 0).unwrap();
    }

    #[test]
    fn a_request_without_a_bound_takes_what_is_left_and_nobody_else_gets_any() {
        let key = [scope(Level::Key, "k")];
        let mut meters = meters(&[budget("b", key[0].clone(), Unit::NanoUsd, 10)]);
        let open = Demand {
            wanted: Amounts { nano_usd: 1_000, tokens: 0 },
            least: Amounts { nano_usd: 2, tokens: 0 },
        };
        let (mut first, mut second) = (Grant::default(), Grant::default());
        meters.reserve(&mut first, &key, &[], &open, 0).unwrap();
        assert_eq!(meters.state("b", 0), Some((0, 10)));
        let refusal = meters.reserve(&mut second, &key, &[], &open, 0).unwrap_err();
        assert!(refusal.retry_after_ms.is_some(), "the reservation may come back unused");
        meters.settle(&mut first, &key, Amounts { nano_usd: 9, tokens: 0 }, 0, 0);
        assert!(
            meters.reserve(&mut second, &key, &[], &open, 0).is_err(),
            "1 is left and 2 are needed"
        );
    }

    #[test]
    fn a_fallback_takes_the_place_of_what_it_falls_back_from() {
        let key = [scope(Level::Key, "k")];
        let mut meters = meters(&[
            budget("b", key[0].clone(), Unit::NanoUsd, 10),
            budget("r", key[0].clone(), Unit::Requests, 1),
        ]);
        let mut grant = Grant::default();
        meters.reserve(&mut grant, &key, &[], &exactly(9), 0).unwrap();
        meters.reserve(&mut grant, &key, &[], &exactly(6), 0).unwrap();
        assert_eq!((meters.state("b", 0), meters.state("r", 0)), (Some((0, 6)), Some((0, 1))));
    }

    #[test]
    fn places_at_the_same_time_come_back_and_a_soft_budget_only_warns() {
        let key = [scope(Level::Key, "k")];
        let soft = Budget {
            hard: false,
            warn_at_percent: vec![50, 100],
            ..budget("s", key[0].clone(), Unit::NanoUsd, 10)
        };
        let mut meters = meters(&[budget("c", key[0].clone(), Unit::Concurrent, 1), soft]);
        let (mut first, mut second) = (Grant::default(), Grant::default());
        meters.reserve(&mut first, &key, &[], &exactly(50), 0).unwrap();
        assert!(meters.reserve(&mut second, &key, &[], &exactly(1), 0).is_err());
        let percent =
            |warnings: Vec<Warning>| warnings.iter().map(|w| w.percent).collect::<Vec<_>>();
        let used = |nano_usd| Amounts { nano_usd, tokens: 0 };
        assert_eq!(percent(meters.settle(&mut first, &key, used(6), 0, 0)), [50]);
        meters.reserve(&mut second, &key, &[], &exactly(1), 0).unwrap();
        assert_eq!(percent(meters.settle(&mut second, &key, used(1), 0, 0)), [0_u8; 0]);
        assert_eq!(percent(meters.settle(&mut first, &key, used(20), 0, 0)), [100]);
        let tomorrow = 24 * 60 * 60 * 1_000;
        assert_eq!(percent(meters.settle(&mut first, &key, used(5), tomorrow, tomorrow)), [50]);
    }

    #[test]
    fn a_changed_amount_keeps_what_was_counted_and_a_changed_window_counts_anew() {
        let key = [scope(Level::Key, "k")];
        let old = budget("b", key[0].clone(), Unit::NanoUsd, 10);
        let mut meters = meters(std::slice::from_ref(&old));
        let mut grant = Grant::default();
        meters.reserve(&mut grant, &key, &[], &exactly(4), 0).unwrap();
        meters.settle(&mut grant, &key, Amounts { nano_usd: 4, tokens: 0 }, 0, 0);
        let raised = Budget { amount: 20, ..old.clone() };
        assert!(meters.replace(&[raised], &|_| TimeZone::UTC, 0).is_empty());
        assert_eq!(meters.state("b", 0), Some((4, 0)));
        let monthly = Budget { window: Window::Civil(Period::Month), ..old };
        assert_eq!(meters.replace(&[monthly], &|_| TimeZone::UTC, 0), ["b"]);
        assert_eq!(meters.state("b", 0), Some((0, 0)));
        assert!(meters.replace(&[], &|_| TimeZone::UTC, 0).is_empty());
        assert_eq!(meters.state("b", 0), None);
    }

    proptest! {
        /// Requests come, fall back and end in any order; each uses at most what it reserved.
        #[test]
        fn no_interleaving_overspends_a_hard_budget(
            caps in prop::collection::vec(1_i64..200, 3),
            steps in prop::collection::vec((0_usize..8, 0_u8..3, 0_i64..60, 0_i64..100), 1..200),
        ) {
            let scopes = [scope(Level::Team, "t"), scope(Level::Project, "p"), scope(Level::Key, "k")];
            let budgets: Vec<_> = scopes
                .iter()
                .zip(&caps)
                .map(|(scope, cap)| budget(&scope.id, scope.clone(), Unit::NanoUsd, *cap))
                .collect();
            let mut meters = meters(&budgets);
            let mut open: Vec<Option<(Grant, i64)>> = (0..8).map(|_| None).collect();
            let mut spent = 0;
            for (slot, action, amount, share) in steps {
                match (open[slot].take(), action) {
                    (None, _) => {
                        let mut grant = Grant::default();
                        if meters.reserve(&mut grant, &scopes, &[], &exactly(amount), 0).is_ok() {
                            open[slot] = Some((grant, amount));
                        }
                    }
                    (Some((mut grant, _)), 0) => {
                        if meters.reserve(&mut grant, &scopes, &[], &exactly(amount), 0).is_ok() {
                            open[slot] = Some((grant, amount));
                        }
                    }
                    (Some((mut grant, held)), 1) => {
                        let used = held * share / 100;
                        spent += used;
                        let used = Amounts { nano_usd: used, tokens: 0 };
                        meters.settle(&mut grant, &scopes, used, 0, 0);
                    }
                    (Some((mut grant, _)), _) => meters.release(&mut grant),
                }
                let held: i64 = open.iter().flatten().map(|(_, held)| held).sum();
                for (scope, cap) in scopes.iter().zip(&caps) {
                    prop_assert_eq!(meters.state(&scope.id, 0), Some((spent, held)));
                    prop_assert!(spent + held <= *cap);
                }
            }
        }
    }
}
