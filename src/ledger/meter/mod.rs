//! Reserve, then settle: what may still be used, counted for every budget and limit.
//!
//! Before a request is forwarded its worst case is reserved against every meter that applies, all
//! of them or none; at the end what was used takes the place of the reservation. What is reserved
//! and what is spent together never exceed a hard amount, in whatever order requests come and go.
//! Under a limit that several keys share none can
//! starve the others (`fair`). Pure: no clock, no I/O; [`super::shared`] does the same in Redis.

mod fair;
mod refusal;

use std::{collections::HashMap, sync::Arc};

use jiff::tz::TimeZone;

use self::fair::Fair;
pub use self::refusal::Refusal;
use super::{
    budget::{Budget, Kind, Unit, Window},
    tenant::{Level, Scope},
    window::Used,
};

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
    /// Who has how much of it, for a limit that several keys share.
    fair: Option<Fair>,
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
    /// The key that it is held for.
    caller: Option<String>,
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
    /// What has to be left to other keys.
    pub kept: i64,
    /// The window that warnings are sent once for, by its start.
    pub epoch: i64,
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
        let is_shared = budget.kind == Kind::Limit && budget.scope.level != Level::Key;
        let fair = is_shared.then(Fair::default);
        Self { used, budget: Arc::new(budget), reserved: 0, share: None, warned: (0, 0), fair }
    }

    /// Brings the meter to a moment.
    fn advance(&mut self, now_ms: i64) {
        self.used.advance(now_ms);
        let epoch = self.epoch(now_ms);
        if let Some(fair) = &mut self.fair {
            fair.advance(epoch, now_ms);
        }
    }

    /// The start of the window that a warning is sent once for, after [`Self::advance`]. A rolling
    /// window has no start: a warning is repeated once it has rolled past.
    fn epoch(&self, now_ms: i64) -> i64 {
        match self.budget.window {
            Window::Rolling(seconds) => {
                let length = i64::from(seconds).max(1) * 1_000;
                now_ms.div_euclid(length) * length
            }
            Window::Civil(_) | Window::Total => self.used.start_ms(now_ms).max(0),
        }
    }

    fn view(&mut self, caller: Option<&str>, gateways: i64, at_ms: i64) -> View {
        self.advance(at_ms);
        let budget = &self.budget;
        let window = if budget.unit == Unit::Concurrent { Window::Total } else { budget.window };
        let (since, slot, forget_ms) = self.used.slots_at(window, at_ms);
        let zone = budget.time_zone.as_deref().unwrap_or("-");
        View {
            key: format!("{}:{}:{window}:{zone}", budget.id, budget.unit.name()),
            budget: Arc::clone(budget),
            amount: budget.amount,
            hard: budget.hard,
            kept: self.kept(caller, gateways, at_ms).0,
            epoch: self.epoch(at_ms),
            since,
            slot,
            forget_ms,
        }
    }

    /// What a caller has to leave to others, and until when at most.
    fn kept(&self, caller: Option<&str>, gateways: i64, now_ms: i64) -> (i64, i64) {
        let kept =
            self.fair.as_ref().zip(caller).filter(|_| self.budget.hard).map(|(fair, key)| {
                let amount = self.share.unwrap_or(self.budget.amount);
                fair.kept(key, amount, gateways, now_ms)
            });
        kept.unwrap_or((0, now_ms))
    }

    fn left(&self) -> i64 {
        let amount = self.share.unwrap_or(self.budget.amount);
        amount.saturating_sub(self.used.sum()).saturating_sub(self.reserved)
    }

    /// What of a demand can be reserved.
    fn take(
        &mut self,
        demand: &Demand,
        caller: Option<&str>,
        now_ms: i64,
    ) -> Result<i64, Box<Refusal>> {
        self.advance(now_ms);
        let unit = self.budget.unit;
        let (wanted, least) = (demand.wanted.of(unit), demand.least.of(unit));
        let (kept, until) = self.kept(caller, 1, now_ms);
        let left = self.left() - kept;
        if !self.budget.hard || wanted <= left {
            return Ok(wanted);
        }
        // Something must be left even for a request that needs nothing that can be estimated.
        if least < wanted && least.max(1) <= left {
            return Ok(left);
        }
        let needed = least.max(1);
        let frees = match unit {
            Unit::Concurrent => Some(CONCURRENT_RETRY_MS),
            _ if needed > self.budget.amount => None,
            _ => sooner(
                self.used.frees_in_ms(needed - left, now_ms),
                comes_back(unit, needed, left, self.reserved),
            ),
        };
        let retry_after_ms = match frees {
            Some(frees) if kept > 0 => Some(frees.min(until - now_ms)),
            frees => frees,
        };
        self.refused(caller, 1, retry_after_ms, now_ms);
        let (budget, left) = (Arc::clone(&self.budget), left.max(0));
        Err(Box::new(Refusal { budget, whose: None, left, needed, kept, retry_after_ms }))
    }

    /// Remembers that a caller was refused who may come back.
    fn refused(&mut self, caller: Option<&str>, gateways: i64, back_in: Option<i64>, now_ms: i64) {
        let amount = self.share.unwrap_or(self.budget.amount);
        if let (Some(fair), Some(caller), Some(back_in)) = (&mut self.fair, caller, back_in) {
            fair.refused(caller, amount, gateways, back_in, now_ms);
        }
    }

    /// Counts what is reserved for a caller; less than nothing is given back.
    fn hold(&mut self, caller: Option<&str>, amount: i64) {
        self.reserved = self.reserved.saturating_add(amount);
        if let (Some(fair), Some(caller)) = (&mut self.fair, caller) {
            fair.reserve(caller, amount);
        }
    }

    /// Counts what a caller has used at a moment.
    fn add(&mut self, caller: Option<&str>, amount: i64, at_ms: i64, now_ms: i64) {
        self.advance(now_ms);
        self.used.add(at_ms, amount, now_ms);
        if let (Some(fair), Some(caller)) = (&mut self.fair, caller) {
            fair.used(caller, amount);
        }
    }

    fn warning(&mut self, now_ms: i64) -> Option<Warning> {
        let start = self.epoch(now_ms);
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

/// The key among a request's scopes.
fn caller(scopes: &[Scope]) -> Option<&str> {
    scopes.iter().find(|scope| scope.level == Level::Key).map(|scope| scope.id.as_str())
}

/// When to come back for a place, or for what others have reserved (chosen: most answers take
/// about a second).
pub(super) const CONCURRENT_RETRY_MS: i64 = 1_000;

/// When what others have reserved may come back unused, if that would be enough. A request that is
/// reserved is used.
pub(super) fn comes_back(unit: Unit, needed: i64, left: i64, reserved: i64) -> Option<i64> {
    let is_enough = reserved > 0 && needed <= left.saturating_add(reserved);
    (unit != Unit::Requests && is_enough).then_some(CONCURRENT_RETRY_MS)
}

/// The sooner of two times that something may happen at.
pub(super) fn sooner(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    one.into_iter().chain(other).min()
}

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

    /// The ids of the scopes' budgets, or of their limits.
    pub fn of_kind(&self, scopes: &[Scope], kind: Kind) -> Vec<String> {
        let places = scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten();
        let meters = places.filter_map(|place| self.meters.get(*place)?.as_ref());
        let budgets = meters.map(|meter| &meter.budget).filter(|budget| budget.kind == kind);
        budgets.map(|budget| budget.id.clone()).collect()
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
        let key = caller(scopes);
        let mut holds = Vec::new();
        for place in scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten() {
            let Some(Some(meter)) = self.meters.get_mut(*place) else { continue };
            if exempt.contains(&meter.budget.id) {
                continue;
            }
            holds.push((*place, meter.take(demand, key, now_ms)?));
        }
        self.hold(grant, key, holds);
        Ok(())
    }

    /// Counts what was reserved elsewhere, at the meters of [`Self::views`] in their order.
    pub fn reserved_elsewhere(
        &mut self,
        grant: &mut Grant,
        scopes: &[Scope],
        exempt: &[String],
        amounts: impl IntoIterator<Item = i64>,
    ) {
        self.release(grant);
        let places = scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten();
        let counts = |place: &&usize| {
            let meter = self.meters.get(**place).and_then(Option::as_ref);
            meter.is_some_and(|meter| !exempt.contains(&meter.budget.id))
        };
        let holds = places.filter(counts).copied().zip(amounts).collect();
        self.hold(grant, caller(scopes), holds);
    }

    fn hold(&mut self, grant: &mut Grant, caller: Option<&str>, holds: Vec<(usize, i64)>) {
        for (place, amount) in &holds {
            if let Some(Some(meter)) = self.meters.get_mut(*place) {
                meter.hold(caller, *amount);
            }
        }
        *grant = Grant { holds, caller: caller.map(str::to_owned) };
    }

    /// Gives back what is reserved.
    pub fn release(&mut self, grant: &mut Grant) {
        for (place, amount) in grant.holds.drain(..) {
            if let Some(Some(meter)) = self.meters.get_mut(place) {
                meter.hold(grant.caller.as_deref(), -amount);
            }
        }
    }

    /// Puts what was used at a moment in the place of what was reserved; returns the budgets that
    /// have thereby passed a share. Scopes without a reservation are charged as well, but the exempt
    /// budgets are not.
    pub fn settle(
        &mut self,
        grant: &mut Grant,
        scopes: &[Scope],
        exempt: &[String],
        used: Amounts,
        at_ms: i64,
        now_ms: i64,
    ) -> Vec<Warning> {
        self.release(grant);
        let key = caller(scopes);
        let mut warnings = Vec::new();
        for place in scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten() {
            let Some(Some(meter)) = self.meters.get_mut(*place) else { continue };
            if meter.budget.unit == Unit::Concurrent || exempt.contains(&meter.budget.id) {
                continue;
            }
            meter.add(key, used.of(meter.budget.unit), at_ms, now_ms);
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
            meter.advance(now_ms);
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

    /// The meters of the scopes but the exempt ones, as they stand at a moment, for `gateways` that
    /// count together.
    pub fn views(
        &mut self,
        scopes: &[Scope],
        exempt: &[String],
        gateways: usize,
        at_ms: i64,
    ) -> Vec<View> {
        let (key, gateways) = (caller(scopes), number(gateways));
        let mut views = Vec::new();
        for place in scopes.iter().filter_map(|scope| self.by_scope.get(scope)).flatten() {
            let Some(Some(meter)) = self.meters.get_mut(*place) else { continue };
            if !exempt.contains(&meter.budget.id) {
                views.push(meter.view(key, gateways, at_ms));
            }
        }
        views
    }

    /// One of `gateways` that count together has refused a caller.
    pub fn refused_elsewhere(
        &mut self,
        id: &str,
        scopes: &[Scope],
        gateways: usize,
        back_in_ms: Option<i64>,
        now_ms: i64,
    ) {
        let meter = self.places.get(id).and_then(|place| self.meters.get_mut(*place));
        if let Some(Some(meter)) = meter {
            meter.refused(caller(scopes), number(gateways), back_in_ms, now_ms);
        }
    }

    /// Forgets what was counted, but not what is reserved: the ledger knows the past of all better.
    /// Returns the ids of the budgets, for [`Self::add_past`].
    pub fn recount(&mut self, zone: &dyn Fn(&Budget) -> TimeZone, now_ms: i64) -> Vec<String> {
        for meter in self.meters.iter_mut().flatten() {
            let fresh = Meter::new(meter.budget.as_ref().clone(), zone(&meter.budget), now_ms);
            meter.used = fresh.used;
        }
        self.places.keys().cloned().collect()
    }

    /// Leaves of every meter only one part in `gateways` of what is left.
    pub fn share(&mut self, gateways: usize, now_ms: i64) {
        let gateways = number(gateways);
        for meter in self.meters.iter_mut().flatten() {
            meter.advance(now_ms);
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

    /// A budget's meter as it stands.
    pub fn view(&mut self, id: &str, now_ms: i64) -> Option<View> {
        let meter = self.meters.get_mut(*self.places.get(id)?)?.as_mut()?;
        Some(meter.view(None, 1, now_ms))
    }

    /// What a budget has counted and what is reserved of it.
    pub fn state(&mut self, id: &str, now_ms: i64) -> Option<(i64, i64)> {
        let meter = self.meters.get_mut(*self.places.get(id)?)?.as_mut()?;
        meter.used.advance(now_ms);
        Some((meter.used.sum(), meter.reserved))
    }
}

fn number(gateways: usize) -> i64 {
    i64::try_from(gateways.max(1)).unwrap_or(i64::MAX)
}

/// Whether what one counted is what the other would have.
fn same_count(a: &Budget, b: &Budget) -> bool {
    a.scope == b.scope && a.unit == b.unit && a.window == b.window && a.time_zone == b.time_zone
}

#[cfg(test)]
mod tests;
