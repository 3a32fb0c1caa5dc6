//! Reserving and settling: at this gateway's meters, or at those that several gateways share.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Ledger, ReserveError,
    budget::{Budget, Kind, Unit, Window},
    locked,
    meter::{
        Amounts, CONCURRENT_RETRY_MS, Demand, Grant, Pace, Refusal, View, Warning, comes_back,
        sooner,
    },
    now_ms,
    row::Row,
    shared::{Granted, Shared, SharedError},
    store::StoreError,
    tenant::{Scope, Tenant},
    window,
};

/// What is reserved for one request: here, or where several gateways count together.
#[derive(Debug, Default)]
pub(super) struct Hold {
    here: Grant,
    shared: Vec<(String, i64)>,
    /// What each shared meter had left.
    left: Vec<(Arc<Budget>, Granted)>,
}

impl Ledger {
    /// The state of a budget: what is used in its window, and what is reserved; of all gateways
    /// where they count together.
    pub async fn budget_state(&self, id: &str) -> Option<(i64, i64)> {
        let now = now_ms();
        let here = locked(&self.meters).state(id, now);
        let Some(shared) = self.shared.as_ref().filter(|shared| !shared.is_down()) else {
            return here;
        };
        let view = locked(&self.meters).view(id, now)?;
        shared.state(&view).await.or(here)
    }

    /// Reserves a demand in the place of what is held, at every meter of the scopes or at none.
    pub(super) async fn reserve(
        &self,
        hold: &mut Hold,
        scopes: &[Scope],
        exempt: &[String],
        demand: &Demand,
        row: &Row,
    ) -> Result<(), ReserveError> {
        let waiting = self.journal.waiting();
        if waiting >= self.settings.max_waiting_rows {
            let message = format!("{waiting} rows wait for the store");
            return Err(ReserveError::Unavailable(message));
        }
        self.reserve_meters(hold, scopes, exempt, demand).await?;
        self.journal.begin(row).map_err(|error| {
            self.refused_by_disk.fetch_add(1, Ordering::Relaxed);
            self.give_back(hold);
            ReserveError::Unavailable(format!("the journal cannot be written: {error}"))
        })
    }

    /// Counts a question that is answered here and costs nothing, like which model a request would
    /// go to: against the limits of requests, and against no budget. It leaves no row.
    pub async fn count_question(&self, caller: &Tenant) -> Result<(), ReserveError> {
        let scopes = caller.scopes();
        let exempt = locked(&self.meters).of_kind(&scopes, Kind::Budget);
        let mut hold = Hold::default();
        let nothing = Demand { wanted: Amounts::default(), least: Amounts::default() };
        self.reserve_meters(&mut hold, &scopes, &exempt, &nothing).await?;
        self.count(&mut hold, &scopes, &exempt, Amounts::default(), now_ms());
        Ok(())
    }

    async fn reserve_meters(
        &self,
        hold: &mut Hold,
        scopes: &[Scope],
        exempt: &[String],
        demand: &Demand,
    ) -> Result<(), ReserveError> {
        match &self.shared {
            Some(shared) if !shared.goes_alone() => {
                self.reserve_shared(shared, hold, scopes, exempt, demand).await
            }
            Some(shared) => {
                self.take_share(shared, false).await;
                self.reserve_here(hold, scopes, exempt, demand)
            }
            None => self.reserve_here(hold, scopes, exempt, demand),
        }
    }

    fn reserve_here(
        &self,
        hold: &mut Hold,
        scopes: &[Scope],
        exempt: &[String],
        demand: &Demand,
    ) -> Result<(), ReserveError> {
        let mut meters = locked(&self.meters);
        let reserved = meters.reserve(&mut hold.here, scopes, exempt, demand, now_ms());
        reserved.map_err(ReserveError::Refused)
    }

    async fn reserve_shared(
        &self,
        shared: &Arc<Shared>,
        hold: &mut Hold,
        scopes: &[Scope],
        exempt: &[String],
        demand: &Demand,
    ) -> Result<(), ReserveError> {
        let now = now_ms();
        let views = {
            let mut meters = locked(&self.meters);
            meters.release(&mut hold.here);
            meters.views(scopes, exempt, shared.gateways(), now)
        };
        hold.left.clear();
        let mut held = std::mem::take(&mut hold.shared);
        if views.is_empty() {
            shared.release(&held);
            return Ok(());
        }
        let of = |view: &View| {
            let unit = view.budget.unit;
            (demand.wanted.of(unit), demand.least.of(unit))
        };
        let demands: Vec<_> = views.iter().map(of).collect();
        // Each try tells Redis the past of one meter that it does not know.
        for _ in 0..=views.len() {
            let reserved = shared.reserve(&views, &demands, &held).await;
            if matches!(reserved, Err(SharedError::Down(_))) {
                shared.release(&held);
            }
            held.clear();
            match reserved {
                Ok(granted) => {
                    let amounts = granted.iter().map(|granted| granted.amount);
                    let mut meters = locked(&self.meters);
                    meters.reserved_elsewhere(&mut hold.here, scopes, exempt, amounts);
                    drop(meters);
                    hold.shared = shared.held(&views, &granted);
                    let budgets = views.into_iter().map(|view| view.budget);
                    hold.left = budgets.zip(granted).collect();
                    return Ok(());
                }
                Err(SharedError::Unknown(place)) => {
                    let Some(view) = views.get(place) else { break };
                    let past = self.past(&view.budget, view.since).await;
                    let past =
                        past.map_err(|error| ReserveError::Unavailable(error.to_string()))?;
                    if shared.seed(view, &past).await.is_err() {
                        break;
                    }
                }
                Err(SharedError::Refused { place, left, needed, oldest_ms, reserved }) => {
                    let Some(view) = views.get(place) else { break };
                    let back_in = sooner(
                        self.retry_after(&view.budget, oldest_ms, now),
                        comes_back(view.budget.unit, needed, left, reserved),
                    );
                    let (id, all) = (&view.budget.id, shared.gateways());
                    locked(&self.meters).refused_elsewhere(id, scopes, all, back_in, now);
                    return Err(ReserveError::Refused(Box::new(Refusal {
                        budget: Arc::clone(&view.budget),
                        whose: None,
                        left: left.max(0),
                        needed,
                        kept: view.kept,
                        retry_after_ms: back_in,
                    })));
                }
                Err(SharedError::Down(_)) => break,
            }
        }
        if !shared.settings().fail_open {
            return Err(ReserveError::Unavailable("redis is away".to_owned()));
        }
        self.take_share(shared, false).await;
        self.reserve_here(hold, scopes, exempt, demand)
    }

    /// When a shared meter may have room again.
    fn retry_after(&self, budget: &Budget, oldest_ms: Option<i64>, now: i64) -> Option<i64> {
        match (budget.unit, budget.window) {
            (Unit::Concurrent, _) => Some(CONCURRENT_RETRY_MS),
            (_, Window::Total) => None,
            (_, window @ Window::Rolling(seconds)) => {
                let passes = |oldest| oldest + window::slot_ms(window) + i64::from(seconds) * 1_000;
                Some(oldest_ms.map_or(1_000, |oldest| (passes(oldest) - now).max(0)))
            }
            (_, Window::Civil(_)) => locked(&self.meters).ends_in_ms(&budget.id, now),
        }
    }

    /// Redis is away: this gateway goes on with its share of what is left. Done once an outage,
    /// and `again` when time has passed.
    pub(super) async fn take_share(&self, shared: &Shared, again: bool) {
        // Most requests of an outage find it taken: they wait for no flush.
        if shared.has_share() && !again {
            return;
        }
        let _maintained = self.maintenance.lock().await;
        if shared.has_share() && !again {
            return;
        }
        let fresh = async {
            // What this gateway has used counts once: as the store has it.
            self.flush_now().await?;
            let budgets = self.store.budgets().await?;
            let now = now_ms();
            let fresh = {
                let mut meters = locked(&self.meters);
                meters.replace(&budgets, &self.zone(), now);
                meters.recount(&self.zone(), now)
            };
            self.load_past(&budgets, &fresh).await
        };
        if let Err(error) = fresh.await {
            tracing::error!(%error, "what others have spent is not known while redis is away");
        }
        locked(&self.meters).share(shared.gateways(), now_ms());
        shared.took_share();
    }

    /// Tells Redis what the ledger knows of every budget's past, where it knows less: it may have
    /// lost its memory, and of what was in the air when a gateway died only the journal knew. False
    /// where Redis is away.
    pub(super) async fn retell(&self, shared: &Shared) -> Result<bool, StoreError> {
        self.flush().await?;
        for budget in self.store.budgets().await? {
            let view = locked(&self.meters).view(&budget.id, now_ms());
            let Some(view) = view.filter(|_| budget.unit != Unit::Concurrent) else { continue };
            let past = self.past(&budget, view.since).await?;
            if shared.seed(&view, &past).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn pace(&self, hold: &Hold, scopes: &[Scope]) -> (Option<Pace>, Option<Pace>) {
        if !hold.left.is_empty() {
            let of = |unit| self.shared_pace(hold, unit);
            return (of(Unit::Requests), of(Unit::Tokens));
        }
        let mut meters = locked(&self.meters);
        if !meters.applies(scopes) {
            return (None, None);
        }
        let now = now_ms();
        let requests = meters.pace(scopes, Unit::Requests, now);
        (requests, meters.pace(scopes, Unit::Tokens, now))
    }

    fn shared_pace(&self, hold: &Hold, unit: Unit) -> Option<Pace> {
        let limits = hold
            .left
            .iter()
            .filter(|(budget, _)| budget.unit == unit && budget.kind == Kind::Limit);
        let (budget, granted) = limits.min_by_key(|(_, granted)| granted.left)?;
        let reset = self.retry_after(budget, None, now_ms());
        let (limit, remaining) = (budget.amount, granted.left.max(0));
        Some(Pace { limit, remaining, reset_ms: reset.unwrap_or(0) })
    }

    pub(super) fn give_back(&self, hold: &mut Hold) {
        locked(&self.meters).release(&mut hold.here);
        if let Some(shared) = &self.shared {
            shared.release(&std::mem::take(&mut hold.shared));
            hold.left.clear();
        }
    }

    /// Counts what was used in the place of what is held, and writes the row.
    pub(super) fn settle(&self, hold: &mut Hold, scopes: &[Scope], used: Amounts, row: Row) {
        self.count(hold, scopes, &[], used, row.time_ms);
        if let Err(error) = self.journal.end(row) {
            self.refused_by_disk.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "the journal cannot be written: a row is only in memory");
        }
    }

    fn count(
        &self,
        hold: &mut Hold,
        scopes: &[Scope],
        exempt: &[String],
        used: Amounts,
        at_ms: i64,
    ) {
        let mut meters = locked(&self.meters);
        let warnings = meters.settle(&mut hold.here, scopes, exempt, used, at_ms, now_ms());
        let views = match &self.shared {
            Some(shared) => meters.views(scopes, exempt, shared.gateways(), at_ms),
            None => Vec::new(),
        };
        drop(meters);
        if let Some(shared) = &self.shared {
            shared.release(&std::mem::take(&mut hold.shared));
            let counted = views.into_iter().filter(|view| view.budget.unit != Unit::Concurrent);
            let counted = counted.map(|view| {
                let amount = used.of(view.budget.unit);
                (view, amount)
            });
            shared.used(counted);
        }
        // Where several count together, they know when a budget has passed a share.
        if self.shared.as_ref().is_none_or(|shared| shared.is_down()) {
            self.warn(warnings);
        }
    }

    pub(super) fn warn(&self, warnings: Vec<Warning>) {
        for warning in warnings {
            tracing::warn!(
                budget_id = warning.budget.id,
                scope = %warning.budget.scope,
                percent = warning.percent,
                used = warning.used,
                amount = warning.budget.amount,
                unit = warning.budget.unit.name(),
                "a budget has passed a share"
            );
            if let Some(webhook) = &self.webhook {
                webhook.send(&warning);
            }
        }
    }
}
