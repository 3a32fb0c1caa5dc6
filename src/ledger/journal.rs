//! What the store does not have yet, on disk: reservations in flight and rows that wait.
//!
//! A reservation is written before its request is forwarded, a row when it ends; both are one
//! `write` to a file that only grows, so a process that is killed at any moment leaves them behind
//! (a machine that loses power may lose what its disk had not written). [`Journal::take`] gives
//! the waiting rows to the store and starts a new segment; a segment is deleted once the store
//! has what is in it. What a start finds is [`Recovered`]: rows, and reservations that never
//! ended, which count in full, because nobody knows what their providers charged.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::row::Row;

/// A segment larger than this is left for a new one (chosen: some thousands of rows).
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// How long another process is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// One line of a segment.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<R> {
    /// A reservation: the row as it will stand if nothing more is heard of it.
    Open(R),
    /// The end of a request.
    Row(R),
}

/// The journal of one gateway. No other process may use its files.
#[derive(Debug)]
pub struct Journal {
    inner: Mutex<Inner>,
    /// Held for as long as the process lives.
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    number: u64,
    file: File,
    bytes: u64,
    /// Reservations in flight, as they were written.
    open: HashMap<String, Vec<u8>>,
    /// Rows that the store does not have.
    waiting: Vec<Row>,
    /// How many more it is being given.
    handed_out: usize,
    /// Segments before the current one.
    old: Vec<PathBuf>,
}

/// What an earlier process left behind.
#[derive(Debug, Default, PartialEq)]
pub struct Recovered {
    /// Rows that may not be in the store.
    pub rows: Vec<Row>,
    /// Requests that were in flight.
    pub interrupted: Vec<Row>,
    /// Lines that could not be read: at most the last of a segment, unless a disk is failing.
    pub unreadable: usize,
}

/// Rows on their way to the store.
#[derive(Debug)]
pub struct Batch {
    /// The rows.
    pub rows: Vec<Row>,
    old: Vec<PathBuf>,
}

/// The journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another gateway uses it.
    #[error("{} is in use by another gateway: give each its own `journal` under [ledger]", .0.display())]
    InUse(PathBuf),
    /// The file system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> JournalError + '_ {
    |error| JournalError::Io { path: path.to_owned(), error }
}

impl Journal {
    /// Opens the journal whose files begin with `base`, and reads what is there. All that was
    /// recovered waits for the store, and stays on disk until it is [`Self::stored`].
    pub fn open(base: &Path) -> Result<(Self, Recovered), JournalError> {
        let lock_path = with_suffix(base, "lock");
        let lock = private().open(&lock_path).map_err(at(&lock_path))?;
        // A process that was killed a moment ago may still hold it.
        let until = Instant::now() + LOCK_PATIENCE;
        while let Err(error) = lock.try_lock() {
            match error {
                fs::TryLockError::WouldBlock if Instant::now() < until => {
                    std::thread::sleep(LOCK_PATIENCE / 50);
                }
                fs::TryLockError::WouldBlock => return Err(JournalError::InUse(base.to_owned())),
                fs::TryLockError::Error(error) => return Err(at(&lock_path)(error)),
            }
        }
        let old = segments(base)?;
        let recovered = recover(&old)?;
        let number = old.last().and_then(|path| number_of(base, path)).map_or(1, |last| last + 1);
        let file = create(base, number)?;
        let inner = Inner {
            base: base.to_owned(),
            number,
            file,
            bytes: 0,
            open: HashMap::new(),
            waiting: recovered.rows.iter().chain(&recovered.interrupted).cloned().collect(),
            handed_out: 0,
            old,
        };
        Ok((Self { inner: Mutex::new(inner), _lock: lock }, recovered))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a reservation. `row` is what will count if the process dies. A second one for the
    /// same request takes the place of the first.
    pub fn begin(&self, row: &Row) -> std::io::Result<()> {
        let line = line(&Line::Open(row));
        let mut inner = self.inner();
        inner.write(&line)?;
        inner.open.insert(row.id.clone(), line);
        Ok(())
    }

    /// Notes the end of a request. The row waits for the store even when the disk refuses it.
    pub fn end(&self, row: Row) -> std::io::Result<()> {
        let line = line(&Line::Row(&row));
        let mut inner = self.inner();
        inner.open.remove(&row.id);
        inner.waiting.push(row);
        inner.write(&line)
    }

    /// Rows that wait for the store, with those that it is being given.
    pub fn waiting(&self) -> usize {
        let inner = self.inner();
        inner.waiting.len() + inner.handed_out
    }

    /// Hands out the waiting rows. They must come back through [`Self::stored`] or
    /// [`Self::not_stored`].
    pub fn take(&self) -> std::io::Result<Batch> {
        let mut inner = self.inner();
        if inner.bytes > 0 && (inner.bytes > SEGMENT_BYTES || !inner.waiting.is_empty()) {
            inner.next_segment()?;
        }
        let rows = std::mem::take(&mut inner.waiting);
        inner.handed_out += rows.len();
        Ok(Batch { rows, old: std::mem::take(&mut inner.old) })
    }

    /// The store has these rows.
    pub fn stored(&self, batch: Batch) {
        self.inner().handed_out -= batch.rows.len();
        for path in batch.old {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a segment cannot be deleted");
            }
        }
    }

    /// The store could not take these rows: they wait again, before those that came since.
    pub fn not_stored(&self, batch: Batch) {
        let mut inner = self.inner();
        inner.handed_out -= batch.rows.len();
        let since = std::mem::replace(&mut inner.waiting, batch.rows);
        inner.waiting.extend(since);
        let since = std::mem::replace(&mut inner.old, batch.old);
        inner.old.extend(since);
    }
}

impl Inner {
    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// A new file, with the reservations in flight: the old one may be deleted before they end.
    fn next_segment(&mut self) -> std::io::Result<()> {
        let path = segment(&self.base, self.number + 1);
        let mut file = private().open(&path)?;
        let carried: Vec<u8> = self.open.values().flatten().copied().collect();
        file.write_all(&carried)?;
        self.old.push(segment(&self.base, self.number));
        self.number += 1;
        self.file = file;
        // What was carried is no reason for another segment.
        self.bytes = 0;
        Ok(())
    }
}

fn line(line: &Line<&Row>) -> Vec<u8> {
    // A row holds nothing that JSON cannot say: no maps with other keys than text.
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn with_suffix(base: &Path, suffix: &str) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn segment(base: &Path, number: u64) -> PathBuf {
    with_suffix(base, &format!("{number:08}"))
}

fn create(base: &Path, number: u64) -> Result<File, JournalError> {
    let path = segment(base, number);
    private().open(&path).map_err(at(&path))
}

/// Opens for appending what only the operator may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options
}

fn number_of(base: &Path, path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_prefix(base.file_name()?.to_str()?)?.strip_prefix('.')?;
    digits.parse().ok()
}

/// The segments that are there, oldest first.
fn segments(base: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let directory = match base.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(at(directory))? {
        let path = entry.map_err(at(directory))?.path();
        found.extend(number_of(base, &path).map(|number| (number, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn recover(segments: &[PathBuf]) -> Result<Recovered, JournalError> {
    let mut rows: HashMap<String, Row> = HashMap::new();
    let mut open: HashMap<String, Row> = HashMap::new();
    let mut unreadable = 0;
    for path in segments {
        let mut reader = BufReader::new(File::open(path).map_err(at(path))?);
        let mut text = Vec::new();
        while reader.read_until(b'\n', &mut text).map_err(at(path))? > 0 {
            match serde_json::from_slice(&text) {
                Ok(Line::Open(row)) => {
                    let row: Row = row;
                    open.insert(row.id.clone(), row);
                }
                Ok(Line::Row(row)) => {
                    rows.insert(row.id.clone(), row);
                }
                Err(_) => unreadable += 1,
            }
            text.clear();
        }
    }
    open.retain(|id, _| !rows.contains_key(id));
    let sorted = |rows: HashMap<String, Row>| {
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_by(|a, b| (a.time_ms, &a.id).cmp(&(b.time_ms, &b.id)));
        rows
    };
    Ok(Recovered { rows: sorted(rows), interrupted: sorted(open), unreadable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, time_ms: i64) -> Row {
        Row { id: id.to_owned(), time_ms, cost_nano_usd: Some(time_ms), ..Row::default() }
    }

    fn ids(rows: &[Row]) -> Vec<&str> {
        rows.iter().map(|row| row.id.as_str()).collect()
    }

    /// What a process that dies now leaves behind: the lock goes with it.
    fn reopened(base: &Path) -> Recovered {
        Journal::open(base).unwrap().1
    }

    #[test]
    fn rows_and_reservations_survive_until_the_store_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("w.pending");
        let (journal, recovered) = Journal::open(&base).unwrap();
        assert_eq!(recovered, Recovered::default());
        for (id, time) in [("a", 1), ("b", 2), ("c", 3)] {
            journal.begin(&row(id, time)).unwrap();
        }
        journal.end(row("a", 1)).unwrap();
        let batch = journal.take().unwrap();
        assert_eq!(ids(&batch.rows), ["a"]);
        journal.end(row("b", 2)).unwrap();
        journal.not_stored(batch);
        let batch = journal.take().unwrap();
        assert_eq!(ids(&batch.rows), ["a", "b"]);
        drop(journal);
        let recovered = reopened(&base);
        assert_eq!(
            (ids(&recovered.rows), ids(&recovered.interrupted)),
            (vec!["a", "b"], vec!["c"])
        );
        let (journal, _) = Journal::open(&base).unwrap();
        let batch = journal.take().unwrap();
        assert_eq!(ids(&batch.rows), ["a", "b", "c"]);
        journal.stored(batch);
        drop(journal);
        assert_eq!(reopened(&base), Recovered::default());
    }

    #[test]
    fn a_reservation_outlives_the_segment_that_it_was_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("w.pending");
        let (journal, _) = Journal::open(&base).unwrap();
        journal.begin(&row("long", 1)).unwrap();
        for number in 0..3 {
            journal.end(row(&format!("short-{number}"), 2)).unwrap();
            journal.stored(journal.take().unwrap());
        }
        drop(journal);
        let recovered = reopened(&base);
        assert_eq!((recovered.rows.len(), ids(&recovered.interrupted)), (0, vec!["long"]));
    }

    #[test]
    fn a_line_that_was_cut_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("w.pending");
        let (journal, _) = Journal::open(&base).unwrap();
        journal.end(row("a", 1)).unwrap();
        journal.end(row("b", 2)).unwrap();
        drop(journal);
        let path = segment(&base, 1);
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 10]).unwrap();
        let recovered = reopened(&base);
        assert_eq!((ids(&recovered.rows), recovered.unreadable), (vec!["a"], 1));
    }

    #[test]
    fn two_gateways_do_not_share_a_journal() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("w.pending");
        let _first = Journal::open(&base).unwrap();
        assert!(matches!(Journal::open(&base), Err(JournalError::InUse(_))));
    }
}
