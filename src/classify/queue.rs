//! Scoring threads behind a bounded queue and a deadline.
//!
//! Arithmetic never runs on the server's threads: a request hands its text to [`ScoringQueue`]
//! and waits. Each worker takes a small batch, drops callers that have gone or are too late, and
//! scores the rest. A full queue or a passed deadline is an answer too: the caller gets
//! [`NoScore`] and routes without a score. Agents send the same instruction at each step, so
//! scores are remembered by a hash of their text.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;
use tokio::sync::oneshot;

use super::model::{Model, Scored};

/// `[classifier]` settings of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// Scoring threads, each with a single-threaded forward pass.
    pub workers: usize,
    /// Texts that may wait.
    pub capacity: usize,
    /// How long a request waits for its score.
    pub deadline: Duration,
    /// Scores remembered, about 100 bytes each; 0 turns the memory off.
    pub cache_entries: usize,
}

impl Default for QueueSettings {
    /// One worker a core; a queue that two cores clear in about a second; a deadline that is
    /// short beside any model's first token; a megabyte of remembered scores.
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            capacity: 256,
            deadline: Duration::from_millis(250),
            cache_entries: 10_000,
        }
    }
}

/// Why a text has no score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoScore {
    /// As many texts wait as may.
    #[error("the scoring queue is full")]
    QueueFull,
    /// The score did not come in time.
    #[error("the scoring deadline passed")]
    DeadlinePassed,
    /// The encoder failed; the cause is in the log.
    #[error("the classifier failed")]
    Failed,
}

/// Texts taken by a worker at once (chosen: enough to amortise waking up, few enough that a
/// short text does not wait long behind others).
const MAX_BATCH: usize = 8;

struct Job {
    text: String,
    /// `None` for offline callers, who wait as long as it takes.
    deadline: Option<Instant>,
    reply: oneshot::Sender<Result<Scored, NoScore>>,
}

struct Shared {
    jobs: Mutex<VecDeque<Job>>,
    ready: Condvar,
    closed: AtomicBool,
    workers: usize,
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, VecDeque<Job>> {
        // A worker that panicked held no lock; whatever is in the queue is still whole.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle that requests use. Dropping it stops the workers once the queue is empty.
pub struct ScoringQueue {
    shared: Arc<Shared>,
    settings: QueueSettings,
    memory: Memory,
    threads: Vec<JoinHandle<()>>,
}

/// Scores by text. The key is two independent 64-bit SipHashes with keys of this process, so that
/// nobody can choose two texts that share a score; the text itself is not kept.
struct Memory {
    scores: Option<Cache<(u64, u64), Scored>>,
    hashers: (RandomState, RandomState),
}

impl Memory {
    fn new(entries: usize) -> Self {
        Self {
            scores: (entries > 0).then(|| Cache::new(entries)),
            hashers: (RandomState::new(), RandomState::new()),
        }
    }

    fn key(&self, text: &str) -> (u64, u64) {
        (self.hashers.0.hash_one(text), self.hashers.1.hash_one(text))
    }
}

impl ScoringQueue {
    /// Starts the workers.
    pub fn start(model: &Model, settings: QueueSettings) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            jobs: Mutex::default(),
            ready: Condvar::new(),
            closed: AtomicBool::new(false),
            workers: settings.workers.max(1),
        });
        let threads = (0..shared.workers)
            .map(|index| {
                let (shared, model) = (Arc::clone(&shared), model.clone());
                std::thread::Builder::new()
                    .name(format!("scoring-{index}"))
                    .spawn(move || work(&shared, &model))
            })
            .collect::<Result<_, _>>()?;
        let memory = Memory::new(settings.cache_entries);
        Ok(Self { shared, settings, memory, threads })
    }

    /// Texts waiting now.
    pub fn depth(&self) -> usize {
        self.shared.jobs().len()
    }

    /// Scores a text within the deadline, or remembers its score. Leaving early (dropping the
    /// future) frees the place.
    pub async fn score(&self, text: String) -> Result<Scored, NoScore> {
        let Some(scores) = &self.memory.scores else { return self.score_anew(text).await };
        let key = self.memory.key(&text);
        if let Some(scored) = scores.get(&key) {
            return Ok(Scored { remembered: true, ..scored });
        }
        let scored = self.score_anew(text).await?;
        scores.insert(key, scored);
        Ok(scored)
    }

    async fn score_anew(&self, text: String) -> Result<Scored, NoScore> {
        let deadline = Instant::now() + self.settings.deadline;
        let reply = self.submit(text, Some(deadline))?;
        match tokio::time::timeout_at(deadline.into(), reply).await {
            Ok(Ok(scored)) => scored,
            // A worker drops the jobs that it finds too late.
            Ok(Err(_)) if Instant::now() >= deadline => Err(NoScore::DeadlinePassed),
            Ok(Err(_)) => Err(NoScore::Failed),
            Err(_) => Err(NoScore::DeadlinePassed),
        }
    }

    /// Queues a text; the receiver gives its score. For offline callers, who keep their own
    /// number of texts in flight below the capacity.
    pub fn submit(
        &self,
        text: String,
        deadline: Option<Instant>,
    ) -> Result<oneshot::Receiver<Result<Scored, NoScore>>, NoScore> {
        let (reply, receiver) = oneshot::channel();
        let mut jobs = self.shared.jobs();
        if jobs.len() >= self.settings.capacity {
            jobs.retain(|job| !job.reply.is_closed());
            if jobs.len() >= self.settings.capacity {
                return Err(NoScore::QueueFull);
            }
        }
        jobs.push_back(Job { text, deadline, reply });
        drop(jobs);
        self.shared.ready.notify_one();
        Ok(receiver)
    }
}

impl Drop for ScoringQueue {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.ready.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches its panics, so there is nothing to hear of here.
            let _ = thread.join();
        }
    }
}

/// A worker's life: take a batch, score it, answer.
fn work(shared: &Shared, model: &Model) {
    while let Some(batch) = next_batch(shared) {
        let texts: Vec<&str> = batch.iter().map(|job| job.text.as_str()).collect();
        let scored = catch_unwind(AssertUnwindSafe(|| model.score(&texts)));
        match scored {
            Ok(Ok(scored)) => {
                for (job, scored) in batch.into_iter().zip(scored) {
                    // An error means that the caller has gone.
                    let _ = job.reply.send(Ok(scored));
                }
            }
            failed => {
                let cause = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the encoder panicked".to_owned(),
                };
                tracing::error!(cause, "a batch of texts could not be scored");
                for job in batch {
                    let _ = job.reply.send(Err(NoScore::Failed));
                }
            }
        }
    }
}

/// Waits for work: this worker's share of the queue, dead callers dropped. `None` ends the worker.
fn next_batch(shared: &Shared) -> Option<Vec<Job>> {
    let mut jobs = shared.jobs();
    loop {
        let now = Instant::now();
        jobs.retain(|job| !job.reply.is_closed() && job.deadline.is_none_or(|at| at > now));
        if !jobs.is_empty() {
            let share = jobs.len().div_ceil(shared.workers).min(MAX_BATCH);
            let batch = jobs.drain(..share).collect();
            if !jobs.is_empty() {
                shared.ready.notify_one();
            }
            return Some(batch);
        }
        if shared.closed.load(Ordering::Acquire) {
            return None;
        }
        jobs = shared.ready.wait(jobs).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::model::{LoadOptions, ModelFiles};

    fn queue(settings: QueueSettings) -> ScoringQueue {
        let model = Model::load(&ModelFiles::shipped(), LoadOptions::default()).unwrap();
        ScoringQueue::start(&model, settings).unwrap()
    }

    #[tokio::test]
    async fn a_text_seen_before_is_not_scored_again() {
        let queue = queue(QueueSettings { workers: 1, ..QueueSettings::default() });
        let score = || queue.score("What is the capital of Peru?".to_owned());
        let (first, second) = (score().await.unwrap(), score().await.unwrap());
        assert!(!first.remembered && second.remembered);
        assert_eq!(first.score, second.score);
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_is_an_answer() {
        let queue = queue(QueueSettings { deadline: Duration::ZERO, ..QueueSettings::default() });
        assert_eq!(queue.score("x".to_owned()).await, Err(NoScore::DeadlinePassed));
    }

    #[tokio::test]
    async fn a_full_queue_is_an_answer_and_dead_callers_give_up_their_place() {
        let queue = queue(QueueSettings { workers: 1, capacity: 2, ..QueueSettings::default() });
        let long = "word ".repeat(200);
        let held: Vec<_> = std::iter::repeat_with(|| queue.submit(long.clone(), None))
            .take(1_000)
            .map_while(Result::ok)
            .collect();
        assert!(held.len() < 1_000, "a bounded queue fills up");
        drop(held);
        assert!(queue.submit(long, None).is_ok(), "places of callers who left are free");
    }
}
