//! The decision log: every decision with what became of it, one line of JSON each.
//!
//! `weighbridge replay`, `tune` and `eval` read it. Lines are written by a thread of their own
//! behind a bounded queue: a slow disk costs lines, which are counted, and never a request.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// A request and its decision, written when the request has ended.
    Decision(Box<Decided>),
    /// What a caller thought of an answer.
    Feedback(Feedback),
}

/// A request and its decision.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decided {
    /// Names the decision: `dec_…`.
    pub id: String,
    /// When the request ended, RFC 3339 in UTC.
    pub time: String,
    /// As the caller or the gateway named it.
    pub request_id: String,
    /// `None` when the caller named a model.
    pub policy: Option<String>,
    /// In 0..=1; `None` when nothing was scored.
    pub score: Option<f32>,
    /// `encoder`, `static` or `memory`.
    pub stage: Option<String>,
    /// The threshold that decided.
    pub threshold: Option<f32>,
    /// The tier that served.
    pub tier: Option<String>,
    /// The first model of the route.
    pub model: Option<String>,
    /// The model that answered, or was asked last.
    pub served_model: Option<String>,
    /// Why that tier: the label of the reason.
    pub reason: String,
    /// What the request needed.
    pub needs: LoggedNeeds,
    /// Counted by the provider.
    pub prompt_tokens: Option<u64>,
    /// Counted by the provider.
    pub completion_tokens: Option<u64>,
    /// Dollars as a decimal number, exact to the nano-dollar.
    pub cost_usd: Option<String>,
    /// `finished`, `caller_cancelled`, or the label of an error.
    pub outcome: String,
    /// From the request's last byte to the answer's.
    pub duration_ms: f64,
    /// The text that was weighed; only when the configuration asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// What a request needed of a model, as estimated before it was forwarded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoggedNeeds {
    /// Estimated.
    pub prompt_tokens: u64,
    /// The caller's bound on the answer.
    pub output_tokens: Option<u32>,
    /// By the names of the configuration.
    pub abilities: Vec<String>,
}

/// A judgement of an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// The decision's id.
    pub id: String,
    /// RFC 3339 in UTC.
    #[serde(default)]
    pub time: String,
    /// From 0, useless, to 1, right.
    pub score: f64,
}

/// `[decisions]`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DecisionLogSettings {
    /// The file that lines are appended to; `None` writes none.
    pub log: Option<PathBuf>,
    /// Whether the weighed text is kept with each decision.
    pub prompts: bool,
}

/// Lines that may wait for the disk.
const WAITING: usize = 4_096;
/// How long a line may stay in memory.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// An open log. Dropping it writes what waits.
#[derive(Debug)]
pub struct DecisionLog {
    sender: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
    lost: Arc<AtomicU64>,
    prompts: bool,
}

impl DecisionLog {
    /// Opens the file for appending, and starts the thread that writes. `None` without a file.
    pub fn open(settings: &DecisionLogSettings) -> std::io::Result<Option<Self>> {
        let Some(path) = &settings.log else { return Ok(None) };
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (sender, receiver) = sync_channel::<Line>(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let write = move || {
            let mut out = BufWriter::new(file);
            loop {
                let lines = match receiver.recv_timeout(FLUSH_EVERY) {
                    Ok(line) => std::iter::once(line).chain(receiver.try_iter()).collect(),
                    Err(RecvTimeoutError::Timeout) => Vec::new(),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                let count = lines.len() as u64;
                if let Err(error) = append(&mut out, &lines) {
                    counted.fetch_add(count, Ordering::Relaxed);
                    tracing::error!(%error, lines = count, "decisions could not be logged");
                }
            }
        };
        let writer = std::thread::Builder::new().name("decisions".to_owned()).spawn(write)?;
        let prompts = settings.prompts;
        Ok(Some(Self { sender: Some(sender), writer: Some(writer), lost, prompts }))
    }

    /// Appends a line; when too many wait, it is counted as lost instead.
    pub fn append(&self, line: Line) {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.try_send(line).is_ok());
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the weighed text is kept.
    pub fn keeps_prompts(&self) -> bool {
        self.prompts
    }

    /// Lines lost since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Whole lines at once, so that a stop at any moment leaves at most the last line cut.
fn append(out: &mut BufWriter<File>, lines: &[Line]) -> std::io::Result<()> {
    for line in lines {
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

impl Drop for DecisionLog {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(writer) = self.writer.take() {
            // It has no panic to report.
            let _ = writer.join();
        }
    }
}

/// Now, RFC 3339 in UTC to the millisecond.
pub fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let settings = DecisionLogSettings { log: Some(path.clone()), prompts: false };
        let decided = Decided { id: "dec_1".to_owned(), score: Some(0.25), ..Decided::default() };
        let lines = [
            Line::Decision(Box::new(decided)),
            Line::Feedback(Feedback { id: "dec_1".to_owned(), time: now(), score: 1.0 }),
        ];
        for line in &lines {
            // Two openings: the second appends.
            let log = DecisionLog::open(&settings).unwrap().unwrap();
            log.append(line.clone());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let found: Vec<Line> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found, lines);
        assert!(text.starts_with(r#"{"type":"decision","id":"dec_1","#), "{text}");
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        let now = now();
        assert_eq!(now.len(), "2026-11-22T19:40:00.123Z".len(), "{now}");
        assert!(now.ends_with('Z'));
    }
}
