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
mod counting;
pub mod declared;
pub mod export;
pub mod journal;
pub mod meter;
pub mod row;
pub mod secret;
pub mod shared;
pub mod store;
pub mod tenant;
mod upkeep;
mod webhook;
pub mod window;

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};

pub use account::{Account, ReserveError};
use book::{AccessError, Book};
use declared::Declared;
use journal::{Journal, JournalError};
use meter::Meters;
use shared::{RedisSettings, Shared};
use store::{Store, StoreError};
use tenant::Tenant;
use upkeep::Maintained;
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
/// How long an unknown key's caller waits for the store.
const PATIENCE_FOR_UNKNOWN: Duration = Duration::from_secs(1);

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
    /// When changes were last looked for, milliseconds since 1970.
    refreshed_ms: AtomicI64,
    store_down: AtomicBool,
    refused_by_disk: AtomicU64,
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
            refreshed_ms: AtomicI64::new(0),
            store_down: AtomicBool::new(false),
            refused_by_disk: AtomicU64::new(0),
        };
        ledger.refresh(true).await?;
        // What the last run had reserved is no longer reserved: from now on it is used.
        if let Some(shared) = ledger.shared.as_ref().filter(|_| found != Found::default()) {
            ledger.retell(shared).await?;
        }
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
        let refreshed = tokio::time::timeout(PATIENCE_FOR_UNKNOWN, self.refresh_for_unknown());
        if self.store_is_down() || !matches!(refreshed.await, Ok(Ok(()))) {
            return found;
        }
        self.book().find(&hash, address, now_ms())
    }

    /// Opens the account of a request by this caller.
    pub fn account(self: &Arc<Self>, caller: Option<&Tenant>) -> Account {
        Account::new(Arc::clone(self), caller.map(Tenant::scopes).unwrap_or_default())
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
