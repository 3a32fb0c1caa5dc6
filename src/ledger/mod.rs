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
pub mod shared;
pub mod store;
pub mod tenant;
mod webhook;
pub mod window;

use std::{
    fmt,
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
use budget::{Budget, Kind, Unit, Window};
use declared::Declared;
use journal::{Journal, JournalError};
use meter::{Amounts, Demand, Grant, Meters, Pace, Refusal, View, Warning};
use row::Row;
use shared::{Granted, RedisSettings, Shared, SharedError};
use store::{SpentSums, Store, StoreError};
use tenant::{Scope, Tenant};
use webhook::Webhook;

/// `[ledger]`
#[derive(Clone, PartialEq)]
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
    /// Where several gateways count together; `None` when there is only one.
    pub redis: Option<RedisSettings>,
    /// Where budget warnings are posted.
    pub webhook: Option<reqwest::Url>,
}

/// Without the URLs, which may hold secrets.
impl fmt::Debug for LedgerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerSettings")
            .field("journal", &self.journal)
            .field("flush_interval", &self.flush_interval)
            .field("redis", &self.redis)
            .finish_non_exhaustive()
    }
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
    /// Redis.
    #[error("redis cannot be reached: {0}")]
    Redis(#[from] redis::RedisError),
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
/// How long an unknown key's caller waits for the store.
const PATIENCE_FOR_UNKNOWN: Duration = Duration::from_secs(1);
/// How often old rows are deleted.
const RETAIN_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often a gateway without Redis looks at what the others have spent.
const SHARE_EVERY: Duration = Duration::from_secs(30);
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The ledger of one gateway.
#[derive(Debug)]
pub struct Ledger {
    settings: LedgerSettings,
    store: Store,
    hash_key: [u8; 32],
    book: RwLock<Arc<Book>>,
    meters: Mutex<Meters>,
    /// Where several gateways count together.
    shared: Option<Arc<Shared>>,
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

/// What is reserved for one request: here, or where several gateways count together.
#[derive(Debug, Default)]
struct Hold {
    here: Grant,
    shared: Vec<(String, i64)>,
    /// What each shared meter had left.
    left: Vec<(Arc<Budget>, Granted)>,
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
        let shared = match settings.redis.clone() {
            Some(redis) => Some(Shared::open(redis).await?),
            None => None,
        };
        let webhook = settings.webhook.clone().map(Webhook::start).transpose()?;
        let ledger = Self {
            settings,
            store,
            hash_key,
            book: RwLock::default(),
            meters: Mutex::default(),
            shared,
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

    /// What several gateways share, where they do.
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
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
        let refreshed = tokio::time::timeout(PATIENCE_FOR_UNKNOWN, self.refresh(false));
        if self.store_is_down() || !matches!(refreshed.await, Ok(Ok(()))) {
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

    async fn reserve(
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
        match &self.shared {
            Some(shared) if !(shared.is_down() && shared.settings().fail_open) => {
                self.reserve_shared(shared, hold, scopes, exempt, demand).await?;
            }
            _ => self.reserve_here(hold, scopes, exempt, demand)?,
        }
        self.journal.begin(row).map_err(|error| {
            self.refused_by_disk.fetch_add(1, Ordering::Relaxed);
            self.give_back(hold);
            ReserveError::Unavailable(format!("the journal cannot be written: {error}"))
        })
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
        shared: &Shared,
        hold: &mut Hold,
        scopes: &[Scope],
        exempt: &[String],
        demand: &Demand,
    ) -> Result<(), ReserveError> {
        locked(&self.meters).release(&mut hold.here);
        hold.left.clear();
        let mut held = std::mem::take(&mut hold.shared);
        let now = now_ms();
        let views = locked(&self.meters).views(scopes, exempt, now);
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
                    hold.shared = shared.held(&views, &granted);
                    hold.left =
                        views.iter().map(|view| Arc::clone(&view.budget)).zip(granted).collect();
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
                Err(SharedError::Refused { place, left, needed, oldest_ms }) => {
                    let Some(view) = views.get(place) else { break };
                    let budget = Arc::clone(&view.budget);
                    let retry_after_ms = self.retry_after(&budget, oldest_ms, now);
                    let refusal = Refusal { budget, left: left.max(0), needed, retry_after_ms };
                    return Err(ReserveError::Refused(Box::new(refusal)));
                }
                Err(SharedError::Down(_)) => break,
            }
        }
        if !shared.settings().fail_open {
            return Err(ReserveError::Unavailable("redis is away".to_owned()));
        }
        self.take_share(shared).await;
        self.reserve_here(hold, scopes, exempt, demand)
    }

    /// When a shared meter may have room again.
    fn retry_after(&self, budget: &Budget, oldest_ms: Option<i64>, now: i64) -> Option<i64> {
        match (budget.unit, budget.window) {
            (Unit::Concurrent, _) => Some(1_000),
            (_, Window::Total) => None,
            (_, window @ Window::Rolling(seconds)) => {
                let passes = |oldest| oldest + window::slot_ms(window) + i64::from(seconds) * 1_000;
                Some(oldest_ms.map_or(1_000, |oldest| (passes(oldest) - now).max(0)))
            }
            (_, Window::Civil(_)) => locked(&self.meters).ends_in_ms(&budget.id, now),
        }
    }

    /// Redis is away: this gateway goes on with its share of what is left.
    async fn take_share(&self, shared: &Shared) {
        let _maintained = self.maintenance.lock().await;
        let fresh = async {
            let budgets = self.store.budgets().await?;
            *locked(&self.meters) = Meters::default();
            self.load_meters(budgets).await
        };
        if let Err(error) = fresh.await {
            tracing::error!(%error, "what others have spent is not known while redis is away");
        }
        locked(&self.meters).share(shared.gateways(), now_ms());
    }

    fn pace(&self, hold: &Hold, scopes: &[Scope]) -> (Option<Pace>, Option<Pace>) {
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

    fn give_back(&self, hold: &mut Hold) {
        locked(&self.meters).release(&mut hold.here);
        if let Some(shared) = &self.shared {
            shared.release(&std::mem::take(&mut hold.shared));
            hold.left.clear();
        }
    }

    fn settle(&self, hold: &mut Hold, scopes: &[Scope], used: Amounts, row: Row) {
        let now = now_ms();
        let mut meters = locked(&self.meters);
        let warnings = meters.settle(&mut hold.here, scopes, used, row.time_ms, now);
        let views = match &self.shared {
            Some(_) => meters.views(scopes, &[], row.time_ms),
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
            shared.used(&counted.collect::<Vec<_>>());
        }
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
    async fn past(&self, budget: &Budget, since: i64) -> Result<Vec<(i64, i64)>, StoreError> {
        let slot = window::slot_ms(budget.window);
        let sums = self.store.spent(&budget.scope, since, slot).await?;
        let of = |sums: SpentSums| match budget.unit {
            Unit::NanoUsd => sums.nano_usd,
            Unit::Tokens => i64::try_from(sums.tokens).unwrap_or(i64::MAX),
            Unit::Requests => i64::try_from(sums.requests).unwrap_or(i64::MAX),
            Unit::Concurrent => 0,
        };
        // A slot that began before is the first that counts.
        Ok(sums.into_iter().map(|(start, sums)| (start.max(since), of(sums))).collect())
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
        let sharing = self.shared.clone().map(|shared| tokio::spawn(shared.run()));
        for timer in [&mut flush, &mut refresh, &mut retain, &mut share] {
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
                _ = share.tick() => {
                    let shared = self.shared.as_ref();
                    if let Some(shared) = shared.filter(|s| s.is_down() && s.settings().fail_open) {
                        self.take_share(shared).await;
                    }
                }
            }
        }
        if let Err(error) = self.flush().await {
            tracing::error!(%error, "rows stay in the journal until the next start");
        }
        if let (Some(sharing), Some(shared)) = (sharing, &self.shared) {
            sharing.abort();
            shared.last_words().await;
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
