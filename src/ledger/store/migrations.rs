//! The schema, version by version. It only goes forward.
//!
//! Each version is one SQL text, applied in one transaction together with the number it leaves
//! behind. Programs that start at the same time take turns: in SQLite by an immediate
//! transaction, in PostgreSQL by an advisory lock.

use super::{Backend, StoreError, sql::sql};

/// Every version, from the first. A released one never changes; a new one is added at the end.
pub(super) const VERSIONS: &[&str] =
    &[include_str!("v1.sql"), include_str!("v2.sql"), include_str!("v3.sql")];

/// The advisory lock of those who migrate: `wb-schem` as a number, chosen.
const ADVISORY_LOCK: i64 = i64::from_be_bytes(*b"wb-schem");

/// Brings the database to the last of `versions`.
///
/// # Errors
/// [`StoreError::Newer`] when it is beyond that already.
pub(super) async fn migrate(
    pool: &sqlx::AnyPool,
    backend: Backend,
    versions: &[&'static str],
) -> Result<(), StoreError> {
    let mut tx = backend.begin_write(pool).await?;
    if backend == Backend::Postgres {
        sql("SELECT pg_advisory_xact_lock($1)")
            .with(ADVISORY_LOCK)
            .query()
            .execute(&mut *tx)
            .await?;
    }
    let table = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)";
    sqlx::query(table).execute(&mut *tx).await?;
    let found = "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) FROM schema_version";
    let found: i64 = sqlx::query_scalar(found).fetch_one(&mut *tx).await?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    let Some(missing) = versions.get(done..) else {
        return Err(StoreError::Newer { found, known: versions.len() });
    };
    for (text, version) in missing.iter().zip(found + 1..) {
        let text = text.replace("BYTES", backend.bytes_type());
        sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut *tx).await?;
        sql("INSERT INTO schema_version (version) VALUES ($1)")
            .with(version)
            .query()
            .execute(&mut *tx)
            .await?;
    }
    Ok(tx.commit().await?)
}
