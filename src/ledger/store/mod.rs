//! The store: keys, groups, budgets, what was spent, and who changed what, in SQLite or
//! PostgreSQL. The only place that knows SQL.
//!
//! One text of SQL serves both, through sqlx's `Any` driver (`sql.rs` says what has to be minded);
//! where the two differ, `Backend` does. `migrations.rs` has the schema. Changes of groups, keys
//! and budgets, a file each, are counted and written down (`audit.rs`); requests are written and
//! forgotten in `rows.rs`, and added up in `spent.rs` for budgets and in `usage.rs` for people.

mod audit;
mod budgets;
mod groups;
mod keys;
mod migrations;
mod rows;
mod spent;
mod sql;
#[cfg(test)]
mod tests;
mod usage;

use std::{path::Path, sync::Once, time::Duration};

use sqlx::{
    Any, AnyPool, Row as _, Transaction,
    any::{AnyPoolOptions, AnyRow},
};

pub use audit::{Actor, AuditEntry};
pub use spent::SpentSums;
pub use usage::{
    Dimension, MAX_DIMENSIONS, MAX_USAGE_ROWS, Step, UsageQuery, UsageRow, UsageSums, UsageValue,
};

use sql::sql;

use super::tenant::Origin;

/// Connections to PostgreSQL or readers of SQLite, chosen.
const MAX_CONNECTIONS: u32 = 8;
/// How long a statement waits for a connection, or for SQLite's one writer, chosen.
const WAIT: Duration = Duration::from_secs(5);
/// How often another process's switch to WAL is waited for, 50 ms each.
const WAL_TRIES: u32 = 100;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is of no database that we know.
    #[error("`{0}` is not a database: use sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE")]
    Address(String),
    /// The database file cannot be made.
    #[error("{path} cannot be created: {reason}")]
    Create {
        /// The file.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
    /// The database cannot be opened.
    #[error("{shown} cannot be opened: {reason}")]
    Open {
        /// Which, without user, password and parameters.
        shown: String,
        /// Why.
        reason: sqlx::Error,
    },
    /// A newer program has been here.
    #[error(
        "the database has schema version {found}, and this program knows only up to {known}: use a newer weighbridge"
    )]
    Newer {
        /// Version of the database.
        found: i64,
        /// Last version of this program.
        known: usize,
    },
    /// Two things of a kind cannot have one name.
    #[error("there is already a {kind} named `{name}`")]
    NameTaken {
        /// `key`, `team` …
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Two keys cannot have one secret, also when one of them is revoked.
    #[error("the secret of key `{name}` is that of key `{by}`: give each its own")]
    SecretTaken {
        /// The key that should get it.
        name: String,
        /// The key that has it.
        by: String,
    },
    /// There is no such thing, or no more.
    #[error("there is no {kind} `{id}`")]
    Missing {
        /// `key`, `team` …
        kind: &'static str,
        /// The id or name that was asked for.
        id: String,
    },
    /// A team's parent is an organisation, a project's a team or an organisation.
    #[error("a {child} cannot belong to a {parent}")]
    WrongParent {
        /// Level of the group.
        child: &'static str,
        /// Level of its parent.
        parent: &'static str,
    },
    /// A group that others belong to stays.
    #[error("{kind} `{name}` still has {count} {what}: move or remove them first")]
    InUse {
        /// `team` …
        kind: &'static str,
        /// Its name.
        name: String,
        /// How many.
        count: i64,
        /// `keys` or `groups`
        what: &'static str,
    },
    /// Too many groups of rows for one answer.
    #[error("that is more than {MAX_USAGE_ROWS} rows: narrow the time or group by less")]
    TooMuch,
    /// The database holds what no version wrote.
    #[error("{table} `{id}` has an unreadable {column}: `{value}`")]
    Damaged {
        /// The table.
        table: &'static str,
        /// Which row.
        id: String,
        /// Which column.
        column: &'static str,
        /// What stands there.
        value: String,
    },
    /// The database says so.
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
}

// Not as the source: the message says it already, and a chain would say it twice.
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl StoreError {
    /// Whether the same call may succeed later: the database is away or busy, and nothing is wrong
    /// with what was asked.
    pub fn is_retryable(&self) -> bool {
        let (Self::Database(error) | Self::Open { reason: error, .. }) = self else {
            return false;
        };
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed => true,
            // SQLSTATE classes: 08 connection, 40 rollback, 53 resources, 55 lock, 57 operator,
            // 58 system (PostgreSQL, appendix A). SQLite: 5 busy, 6 locked, 10 I/O, 13 full, with
            // details in the upper bytes (sqlite.org/rescode.html).
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                if let Ok(number) = code.parse::<u32>()
                    && code.len() != 5
                {
                    return matches!(number & 0xff, 5 | 6 | 10 | 13);
                }
                ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class))
            }),
            _ => false,
        }
    }
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    /// Begins a transaction that writes. SQLite's takes the one writer's place at once: one that
    /// began as a reader could not wait for it.
    async fn begin_write(self, pool: &AnyPool) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self {
            Self::Sqlite => pool.begin_with("BEGIN IMMEDIATE").await,
            Self::Postgres => pool.begin().await,
        }
    }

    fn bytes_type(self) -> &'static str {
        match self {
            Self::Sqlite => "BLOB",
            Self::Postgres => "BYTEA",
        }
    }
}

/// An open database with today's schema. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    backend: Backend,
}

impl Store {
    /// Opens `sqlite:PATH`, `sqlite::memory:`, `postgres://…` or `postgresql://…`, and migrates it.
    /// A file that is not there is made, readable for its owner alone.
    ///
    /// # Errors
    /// When it is no such URL, cannot be opened, or is of a newer program.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, migrations::VERSIONS).await
    }

    /// Opens it with the schema of the last of `versions`.
    async fn open_with(url: &str, versions: &[&'static str]) -> Result<Self, StoreError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let store = match url.strip_prefix("sqlite:") {
            Some(path) => open_sqlite(path.strip_prefix("//").unwrap_or(path)).await?,
            None => open_postgres(url).await?,
        };
        migrations::migrate(&store.pool, store.backend, versions).await?;
        Ok(store)
    }

    /// Waits until nobody uses the database any more, and closes it.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// A value of the installation, like the hash key.
    ///
    /// # Errors
    /// Of the database.
    pub async fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        let query = sql("SELECT value FROM meta WHERE name = $1").with(name).query();
        let row = query.fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get("value")).transpose()?)
    }

    /// Sets it unless somebody has, and says what it now is: of several who try at once, all learn
    /// the one value.
    ///
    /// # Errors
    /// Of the database.
    pub async fn set_meta_if_absent(&self, name: &str, value: &str) -> Result<String, StoreError> {
        let text = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        sql(text).with(name).with(value).query().execute(&self.pool).await?;
        let found = self.meta(name).await?;
        found.ok_or_else(|| StoreError::Missing { kind: "meta value", id: name.to_owned() })
    }

    /// Begins a transaction whose reads all see the same moment.
    async fn begin_snapshot(&self) -> Result<Transaction<'static, Any>, StoreError> {
        Ok(match self.backend {
            // Any transaction does, from its first read on.
            Backend::Sqlite => self.pool.begin().await?,
            Backend::Postgres => {
                self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?
            }
        })
    }

    async fn begin_write(&self) -> Result<Transaction<'static, Any>, StoreError> {
        Ok(self.backend.begin_write(&self.pool).await?)
    }
}

async fn open_sqlite(path: &str) -> Result<Store, StoreError> {
    let in_memory = path == ":memory:";
    let opened = |reason| StoreError::Open { shown: format!("sqlite:{path}"), reason };
    let url = if in_memory {
        "sqlite::memory:".to_owned()
    } else {
        let created = |reason| StoreError::Create { path: path.to_owned(), reason };
        create_private(Path::new(path)).map_err(created)?;
        let absolute = std::path::absolute(path).map_err(created)?;
        format!("sqlite://{}", url_path(&absolute.to_string_lossy()))
    };
    // A database in memory is one connection, which must stay.
    let options = if in_memory {
        AnyPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None)
    } else {
        AnyPoolOptions::new().max_connections(MAX_CONNECTIONS)
    };
    let options = options.acquire_timeout(WAIT).after_connect(|connection, _| {
        Box::pin(async move {
            sqlx::query("PRAGMA busy_timeout = 5000").execute(&mut *connection).await?;
            sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut *connection).await?;
            sqlx::query("PRAGMA foreign_keys = ON").execute(&mut *connection).await?;
            Ok(())
        })
    });
    let pool = options.connect(&url).await.map_err(opened)?;
    // The switch to WAL stays in the file. It fails at once while another process does the same.
    let mut tries = 0;
    while let Err(error) = sqlx::query("PRAGMA journal_mode = WAL").execute(&pool).await {
        tries += 1;
        if tries == WAL_TRIES {
            return Err(opened(error));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Store { pool, backend: Backend::Sqlite })
}

async fn open_postgres(url: &str) -> Result<Store, StoreError> {
    let shown = without_secrets(url);
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(StoreError::Address(shown));
    }
    let options = AnyPoolOptions::new().max_connections(MAX_CONNECTIONS).acquire_timeout(WAIT);
    let opened = |reason| StoreError::Open { shown, reason };
    Ok(Store { pool: options.connect(url).await.map_err(opened)?, backend: Backend::Postgres })
}

/// Makes the file unless it is there. SQLite gives its companions the same mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// The path with everything escaped that means something in a URL.
fn url_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The URL without user, password and parameters.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

/// A column of a row that stands for one of our words.
fn word<T>(
    row: &AnyRow,
    table: &'static str,
    column: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    let value: String = row.try_get(column)?;
    match read(&value) {
        Some(word) => Ok(word),
        None => Err(StoreError::Damaged { table, id: row.try_get("id")?, column, value }),
    }
}

fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Admin => "admin",
        Origin::Configuration => "configuration",
    }
}

fn origin_of(name: &str) -> Option<Origin> {
    [Origin::Admin, Origin::Configuration].into_iter().find(|origin| origin_name(*origin) == name)
}
