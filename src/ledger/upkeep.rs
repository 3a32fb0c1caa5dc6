//! What goes on beside the requests: rows go to the store, changes come from it.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use jiff::tz::TimeZone;

use super::{
    Ledger,
    book::Book,
    budget::Budget,
    locked, now_ms,
    row::Row,
    store::{SpentSums, StoreError},
    window,
};

/// How often changes made by other processes are looked for.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// The same for an unknown key, which may have been made a moment ago.
const REFRESH_FOR_UNKNOWN_MS: i64 = 100;
/// How often old rows are deleted.
const RETAIN_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often a gateway whose Redis is away looks at what the others have spent.
const SHARE_EVERY: Duration = Duration::from_secs(30);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// What is known of the store's state.
#[derive(Debug, Default)]
pub(super) struct Maintained {
    revision: i64,
}

impl Ledger {
    /// Looks for changes of keys, groups and budgets. Without `force` only when the store's
    /// revision has changed.
    pub async fn refresh(&self, force: bool) -> Result<(), StoreError> {
        self.refresh_locked(&mut *self.maintenance.lock().await, force).await
    }

    /// Looks for changes up to now, for a key that is not known: at most every tenth of a second,
    /// for all who wait together.
    pub(super) async fn refresh_for_unknown(&self) -> Result<(), StoreError> {
        let arrived_ms = now_ms();
        let next_ms = self.refreshed_ms.load(Ordering::Relaxed) + REFRESH_FOR_UNKNOWN_MS;
        let wait = (next_ms - arrived_ms).clamp(0, REFRESH_FOR_UNKNOWN_MS);
        tokio::time::sleep(Duration::from_millis(wait.unsigned_abs())).await;
        let mut maintained = self.maintenance.lock().await;
        if self.refreshed_ms.load(Ordering::Relaxed) > arrived_ms {
            return Ok(());
        }
        self.refresh_locked(&mut maintained, false).await
    }

    async fn refresh_locked(
        &self,
        maintained: &mut Maintained,
        force: bool,
    ) -> Result<(), StoreError> {
        let now = now_ms();
        self.refreshed_ms.store(now, Ordering::Relaxed);
        let revision = self.store.revision().await?;
        if !force && revision == maintained.revision {
            return Ok(());
        }
        // What has been settled must be in the store before a new budget asks for its past.
        self.flush_now().await?;
        let (keys, groups) = (self.store.keys().await?, self.store.groups().await?);
        let book = Arc::new(Book::new(keys, &groups, now));
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = book;
        let budgets = self.store.budgets().await?;
        let fresh = locked(&self.meters).replace(&budgets, &self.zone(), now_ms());
        self.load_past(&budgets, &fresh).await?;
        maintained.revision = revision;
        Ok(())
    }

    /// The zone that a budget's civil window is in.
    pub(super) fn zone(&self) -> impl Fn(&Budget) -> TimeZone {
        |budget| match &budget.time_zone {
            None => self.settings.time_zone.clone(),
            Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
                tracing::error!(budget_id = budget.id, zone = name, "the time zone is not known");
                self.settings.time_zone.clone()
            }),
        }
    }

    /// Tells the meters of the budgets named in `fresh` what the store knows of their past.
    pub(super) async fn load_past(
        &self,
        budgets: &[Budget],
        fresh: &[String],
    ) -> Result<(), StoreError> {
        for budget in budgets.iter().filter(|budget| fresh.contains(&budget.id)) {
            let since = locked(&self.meters).counts_since(&budget.id, now_ms());
            let Some(since) = since else { continue };
            let past = self.past(budget, since.max(0)).await?;
            let mut meters = locked(&self.meters);
            for (start, amount) in past {
                meters.add_past(&budget.id, start.max(since), amount, now_ms());
            }
        }
        Ok(())
    }

    /// What a budget's scope has used since a moment, by slot.
    pub(super) async fn past(
        &self,
        budget: &Budget,
        since: i64,
    ) -> Result<Vec<(i64, i64)>, StoreError> {
        let slot = window::slot_ms(budget.window);
        let sums = self.store.spent(&budget.scope, since, slot).await?;
        // A slot that began before is the first that counts.
        let of = |(start, sums): (i64, SpentSums)| (start.max(since), sums.of(budget.unit));
        Ok(sums.into_iter().map(of).collect())
    }

    /// Sends the waiting rows to the store.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let _maintained = self.maintenance.lock().await;
        self.flush_now().await
    }

    pub(super) async fn flush_now(&self) -> Result<(), StoreError> {
        let batch = match self.journal.take() {
            Ok(batch) => batch,
            Err(error) => {
                self.refused_by_disk.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the journal cannot start a new segment");
                return Ok(());
            }
        };
        let inserted = self.insert(&batch.rows).await;
        match inserted {
            Ok(()) => {
                if !batch.rows.is_empty() && self.store_down.swap(false, Ordering::Relaxed) {
                    tracing::info!(rows = batch.rows.len(), "the ledger's store is back");
                }
                self.journal.stored(batch);
                Ok(())
            }
            Err(error) => {
                if !self.store_down.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the ledger's store is down: rows wait in the journal");
                }
                self.journal.not_stored(batch);
                Err(error)
            }
        }
    }

    /// Brings rows into the store. One that it will never take is logged and left out: it must
    /// not keep the others waiting.
    async fn insert(&self, rows: &[Row]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        match self.store.insert_rows(rows).await {
            Err(error) if !error.is_retryable() => {}
            done => return done,
        }
        for row in rows {
            match self.store.insert_rows(std::slice::from_ref(row)).await {
                Err(error) if !error.is_retryable() => {
                    let row = serde_json::to_string(row).unwrap_or_default();
                    tracing::error!(%error, row, "the ledger's store will not take this row");
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Flushes, refreshes and deletes old rows until `stop`; then flushes once more.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut flush = tokio::time::interval(self.settings.flush_interval);
        let mut refresh = tokio::time::interval(REFRESH_EVERY);
        let mut retain = tokio::time::interval(RETAIN_EVERY);
        let mut share = tokio::time::interval(SHARE_EVERY);
        let sharing = self.shared.clone().map(|shared| {
            let ledger = Arc::clone(&self);
            let warn = move |warnings| ledger.warn(warnings);
            tokio::spawn(shared.run(warn))
        });
        for timer in [&mut flush, &mut refresh, &mut retain, &mut share] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                // Each failure is logged where it happens or comes again at the next tick.
                _ = flush.tick() => {
                    drop(self.flush().await);
                    self.retell_if_forgotten().await;
                }
                _ = refresh.tick() => {
                    if let Err(error) = self.refresh(false).await {
                        tracing::warn!(%error, "keys and budgets could not be refreshed");
                    }
                }
                _ = retain.tick() => self.retain().await,
                _ = share.tick() => {
                    if let Some(shared) = self.shared.as_ref().filter(|s| s.goes_alone()) {
                        self.take_share(shared, true).await;
                    }
                }
            }
        }
        if let Err(error) = self.flush().await {
            tracing::error!(%error, "rows stay in the journal until the next start");
        }
        if let (Some(sharing), Some(shared)) = (sharing, &self.shared) {
            sharing.abort();
            shared.last_words(|warnings| self.warn(warnings)).await;
        }
    }

    async fn retell_if_forgotten(&self) {
        if let Some(shared) = self.shared.as_ref().filter(|shared| shared.has_forgotten())
            && !matches!(self.retell(shared).await, Ok(true))
        {
            shared.ask_again();
        }
    }

    async fn retain(&self) {
        let Some(days) = self.settings.retention_days else { return };
        let before = now_ms() - i64::from(days) * DAY_MS;
        match self.store.delete_before(before).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, days, "old rows were deleted"),
            Err(error) => tracing::warn!(%error, "old rows could not be deleted"),
        }
    }
}
