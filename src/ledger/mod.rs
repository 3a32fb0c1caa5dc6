//! Keys, budgets, limits, and the record of what was spent.
//!
//! Words first: [`tenant`] says who may ask, [`budget`] what they may spend, [`row`] what one
//! request did. A [`Ledger`] keeps all keys ([`book`]) and meters ([`meter`], [`window`]) in
//! memory, so that a request waits for no database: [`Ledger::account`] reserves a request's worst
//! case and settles what it used. Reservations and rows go to the [`journal`] at once and to the
//! [`store`] within the flush interval. Only [`store`] knows SQL; nothing here knows HTTP statuses.
//!
//! Lost when the process is killed: nothing. What the journal holds is written at the next start,
//! and a request that was in flight counts as much as it had reserved.

mod account;
pub mod book;
pub mod budget;
pub mod declared;
pub mod journal;
pub mod meter;
pub mod row;
pub mod secret;
pub mod store;
pub mod tenant;
mod webhook;
pub mod window;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};

pub use account::{Account, ReserveError};
use book::{AccessError, Book};
use budget::{Budget, Unit};
use declared::Declared;
use journal::{Journal, JournalError};
use meter::{Amounts, Demand, Grant, Meters, Pace, Warning};
use row::Row;
use store::{Store, StoreError};
use tenant::{Scope, Tenant};
use webhook::Webhook;

/// `[ledger]`
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerSettings {
    /// `sqlite:PATH` or `postgres://…`. May hold a password: never shown.
    pub url: String,
    /// Where the journal's files are: this path with a suffix.
    pub journal: PathBuf,
    /// How often rows go to the store.
    pub flush_interval: Duration,
    /// Rows that may wait for the store; beyond that requests are refused.
    pub max_waiting_rows: usize,
    /// Days that rows are kept; `None`: for ever.
    pub retention_days: Option<u32>,
    /// The zone of civil windows that name none.
    pub time_zone: TimeZone,
    /// Completion tokens reserved for a request that states no bound, unless the model's own
    /// bound is smaller.
    pub assumed_output_tokens: u32,
    /// Where budget warnings are posted.
    pub webhook: Option<reqwest::Url>,
}

/// Why there is no ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No randomness for the hash key.
    #[error(transparent)]
    Randomness(#[from] secret::NoRandomness),
    /// The client for the webhook.
    #[error("no HTTP client can be built: {0}")]
    Client(#[from] reqwest::Error),
    /// The database's hash key is not one.
    #[error("`{HASH_KEY}` in the ledger's table `meta` is not 64 hexadecimal digits")]
    HashKey,
}

/// Where the store keeps the key of the hashes.
const HASH_KEY: &str = "key_hash_secret";
/// How often changes made by other processes are looked for.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// The same for an unknown key, which may have been made a moment ago.
const REFRESH_FOR_UNKNOWN_MS: i64 = 100;
/// How often old rows are deleted.
const RETAIN_EVERY: Duration = Duration::from_secs(60 * 60);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The ledger of one gateway.
#[derive(Debug)]
pub struct Ledger {
    settings: LedgerSettings,
    store: Store,
    hash_key: [u8; 32],
    book: RwLock<Arc<Book>>,
    meters: Mutex<Meters>,
    journal: Journal,
    webhook: Option<Webhook>,
    /// One flush or refresh at a time: a budget's past is then either in the store or counted.
    maintenance: tokio::sync::Mutex<Maintained>,
    store_down: AtomicBool,
    refused_by_disk: AtomicU64,
}

#[derive(Debug, Default)]
struct Maintained {
    revision: i64,
    refreshed_ms: i64,
}

/// What a start found from the process before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Rows that the store did not have.
    pub rows: usize,
    /// Requests that were in flight, which count as much as they had reserved.
    pub interrupted: usize,
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The meters are never left half-written: nothing that holds the lock can fail midway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Opens the store and the journal, and brings what the journal holds into the store.
    pub async fn open(settings: LedgerSettings) -> Result<(Arc<Self>, Found), LedgerError> {
        let store = Store::open(&settings.url).await?;
        let hash_key = hash_key(&store).await?;
        let (journal, recovered) = Journal::open(&settings.journal)?;
        let found = Found { rows: recovered.rows.len(), interrupted: recovered.interrupted.len() };
        let webhook = settings.webhook.clone().map(Webhook::start).transpose()?;
        let ledger = Self {
            settings,
            store,
            hash_key,
            book: RwLock::default(),
            meters: Mutex::default(),
            journal,
            webhook,
            maintenance: tokio::sync::Mutex::default(),
            store_down: AtomicBool::new(false),
            refused_by_disk: AtomicU64::new(0),
        };
        ledger.refresh(true).await?;
        Ok((Arc::new(ledger), found))
    }

    /// Brings the store in line with what the configuration declares.
    pub async fn reconcile(&self, declared: &Declared) -> Result<(), StoreError> {
        declared::reconcile(&self.store, &self.hash_key, declared, now_ms()).await?;
        self.refresh(true).await
    }

    /// The settings.
    pub fn settings(&self) -> &LedgerSettings {
        &self.settings
    }

    /// The store, for questions and changes.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The key of the hashes.
    pub fn hash_key(&self) -> &[u8; 32] {
        &self.hash_key
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether callers must show a key.
    pub fn has_keys(&self) -> bool {
        self.book().has_live_keys()
    }

    /// Rows that wait for the store.
    pub fn waiting_rows(&self) -> usize {
        self.journal.waiting()
    }

    /// Whether the store could not be reached the last time.
    pub fn store_is_down(&self) -> bool {
        self.store_down.load(Ordering::Relaxed)
    }

    /// Lines that the journal's disk has refused.
    pub fn refused_by_disk(&self) -> u64 {
        self.refused_by_disk.load(Ordering::Relaxed)
    }

    /// The caller with this secret.
    pub async fn authenticate(
        &self,
        secret: &str,
        address: Option<IpAddr>,
    ) -> Result<Arc<Tenant>, AccessError> {
        let hash = secret::hash(&self.hash_key, secret);
        let found = self.book().find(&hash, address, now_ms());
        if found != Err(AccessError::Unknown) || !secret.starts_with(secret::PREFIX) {
            return found;
        }
        // It may have been made a moment ago, by another process.
        if self.refresh(false).await.is_err() {
            return found;
        }
        self.book().find(&hash, address, now_ms())
    }

    /// Opens the account of a request by this caller.
    pub fn account(self: &Arc<Self>, caller: Option<&Tenant>) -> Account {
        Account::new(Arc::clone(self), caller.map(Tenant::scopes).unwrap_or_default())
    }

    /// The state of a budget: what is used in its window, and what is reserved.
    pub fn budget_state(&self, id: &str) -> Option<(i64, i64)> {
        locked(&self.meters).state(id, now_ms())
    }

    fn reserve(
        &self,
        grant: &mut Grant,
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
        locked(&self.meters)
            .reserve(grant, scopes, exempt, demand, now_ms())
            .map_err(ReserveError::Refused)?;
        self.journal.begin(row).map_err(|error| {
            self.refused_by_disk.fetch_add(1, Ordering::Relaxed);
            self.give_back(grant);
            ReserveError::Unavailable(format!("the journal cannot be written: {error}"))
        })
    }

    fn pace(&self, scopes: &[Scope]) -> (Option<Pace>, Option<Pace>) {
        let mut meters = locked(&self.meters);
        if !meters.applies(scopes) {
            return (None, None);
        }
        let now = now_ms();
        let requests = meters.pace(scopes, Unit::Requests, now);
        (requests, meters.pace(scopes, Unit::Tokens, now))
    }

    fn give_back(&self, grant: &mut Grant) {
        locked(&self.meters).release(grant);
    }

    fn settle(&self, grant: &mut Grant, scopes: &[Scope], used: Amounts, row: Row) {
        let warnings = locked(&self.meters).settle(grant, scopes, used, row.time_ms, now_ms());
        self.warn(warnings);
        if let Err(error) = self.journal.end(row) {
            self.refused_by_disk.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "the journal cannot be written: a row is only in memory");
        }
    }

    fn warn(&self, warnings: Vec<Warning>) {
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

    /// Looks for changes of keys, groups and budgets. Without `force` at most every tenth of a
    /// second, and only when the store's revision has changed.
    pub async fn refresh(&self, force: bool) -> Result<(), StoreError> {
        let mut maintained = self.maintenance.lock().await;
        let now = now_ms();
        if !force && now - maintained.refreshed_ms < REFRESH_FOR_UNKNOWN_MS {
            return Ok(());
        }
        maintained.refreshed_ms = now;
        let revision = self.store.revision().await?;
        if !force && revision == maintained.revision {
            return Ok(());
        }
        // What has been settled must be in the store before a new budget asks for its past.
        self.flush_now().await?;
        let (keys, groups) = (self.store.keys().await?, self.store.groups().await?);
        let book = Arc::new(Book::new(keys, &groups, now));
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = book;
        self.load_meters(self.store.budgets().await?).await?;
        maintained.revision = revision;
        Ok(())
    }

    async fn load_meters(&self, budgets: Vec<Budget>) -> Result<(), StoreError> {
        let zone = |budget: &Budget| match &budget.time_zone {
            None => self.settings.time_zone.clone(),
            Some(name) => TimeZone::get(name).unwrap_or_else(|_| {
                tracing::error!(budget_id = budget.id, zone = name, "the time zone is not known");
                self.settings.time_zone.clone()
            }),
        };
        let fresh = locked(&self.meters).replace(&budgets, &zone, now_ms());
        for budget in budgets.iter().filter(|budget| fresh.contains(&budget.id)) {
            let Some(since) = locked(&self.meters).counts_since(&budget.id, now_ms()) else {
                continue;
            };
            let slot = window::slot_ms(budget.window);
            let past = self.store.spent(&budget.scope, since.max(0), slot).await?;
            let mut meters = locked(&self.meters);
            for (start, sums) in past {
                let amount = match budget.unit {
                    Unit::NanoUsd => sums.nano_usd,
                    Unit::Tokens => i64::try_from(sums.tokens).unwrap_or(i64::MAX),
                    Unit::Requests => i64::try_from(sums.requests).unwrap_or(i64::MAX),
                    Unit::Concurrent => continue,
                };
                meters.add_past(&budget.id, start.max(since), amount, now_ms());
            }
        }
        Ok(())
    }

    /// Sends the waiting rows to the store.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let _maintained = self.maintenance.lock().await;
        self.flush_now().await
    }

    async fn flush_now(&self) -> Result<(), StoreError> {
        let batch = match self.journal.take() {
            Ok(batch) => batch,
            Err(error) => {
                self.refused_by_disk.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "the journal cannot start a new segment");
                return Ok(());
            }
        };
        let inserted = match batch.rows.as_slice() {
            [] => Ok(()),
            rows => self.store.insert_rows(rows).await,
        };
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

    /// Flushes, refreshes and deletes old rows until `stop`; then flushes once more.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut flush = tokio::time::interval(self.settings.flush_interval);
        let mut refresh = tokio::time::interval(REFRESH_EVERY);
        let mut retain = tokio::time::interval(RETAIN_EVERY);
        for timer in [&mut flush, &mut refresh, &mut retain] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                // Each failure is logged where it happens or comes again at the next tick.
                _ = flush.tick() => drop(self.flush().await),
                _ = refresh.tick() => {
                    if let Err(error) = self.refresh(false).await {
                        tracing::warn!(%error, "keys and budgets could not be refreshed");
                    }
                }
                _ = retain.tick() => self.retain().await,
            }
        }
        if let Err(error) = self.flush().await {
            tracing::error!(%error, "rows stay in the journal until the next start");
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

/// The database's hash key; made with the database's first use.
pub async fn hash_key(store: &Store) -> Result<[u8; 32], LedgerError> {
    let fresh: String = secret::hash_key()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = store.set_meta_if_absent(HASH_KEY, &fresh).await?;
    let digits = text.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = digits.collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(LedgerError::HashKey)
}
