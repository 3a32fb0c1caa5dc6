//! Scoring threads behind a bounded queue and a deadline.
//!
//! Arithmetic never runs on the server's threads: a request hands its text to [`ScoringQueue`]
//! and waits. Each worker takes a batch of bounded cost, drops callers that have gone or are too
//! late, and scores the rest. A full queue or a passed deadline is an answer too: the caller gets
//! [`NoScore`] and routes without a score. Agents send the same instruction at each step, so
//! scores are remembered by a hash of their text.
//!
//! Order: a text is due at its arrival plus a millisecond for each token, and the earliest due goes
//! first. So a short text overtakes long ones that came shortly before, and none waits for ever.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
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

use super::{
    encoder::Batching,
    facts::TextFeatures,
    head::Head,
    model::{Model, Scored, Stage},
};
use crate::units::Probability;

/// `[classifier]` settings of the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    /// Scoring threads. On the CPU each has a single-threaded forward pass.
    /// Default: [`Batching::workers`].
    pub workers: Option<usize>,
    /// Tokens that a worker takes at once; a longer text goes alone.
    /// Default: [`Batching::tokens`].
    pub batch_tokens: Option<usize>,
    /// Texts that may wait.
    pub capacity: usize,
    /// How long a request waits for its score.
    pub deadline: Duration,
    /// How far from every threshold, in probability, the static stage may decide alone; `None`
    /// asks the encoder each time. A head without a static stage always does.
    pub static_margin: Option<f32>,
    /// Scores remembered, about 100 bytes each; 0 turns the memory off.
    pub cache_entries: usize,
}

impl Default for QueueSettings {
    /// Workers and batches that suit the device; a queue that two cores clear in about a second; a
    /// deadline that is short beside any model's first token; a megabyte of remembered scores.
    fn default() -> Self {
        Self {
            workers: None,
            batch_tokens: None,
            capacity: 256,
            deadline: Duration::from_millis(250),
            static_margin: Some(DEFAULT_STATIC_MARGIN),
            cache_entries: 10_000,
        }
    }
}

/// Measured on data sets left out in turn (the model card has the table): APGR falls by
/// 0.001, and one decision in a hundred and twenty changes.
pub const DEFAULT_STATIC_MARGIN: f32 = 0.07;
/// Longer texts go to the scoring threads at once, so that the server's threads are not held by
/// reading their words.
const MAX_STATIC_BYTES: usize = 4_096;

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

/// How long a text lets others pass, for each of its tokens. Chosen: a text of 16 tokens overtakes
/// those of 128 that came up to 112 ms before it, well within the usual deadline.
const PATIENCE: Duration = Duration::from_millis(1);
/// Bytes of a token, for an estimate before tokenising (English prose has 4 to 5).
const BYTES_A_TOKEN: usize = 4;

struct Job {
    text: String,
    /// An estimate, at least 1.
    tokens: usize,
    /// When its turn is.
    due: Instant,
    /// Orders jobs that are due at once.
    number: u64,
    /// `None` for offline callers, who wait as long as it takes.
    deadline: Option<Instant>,
    reply: oneshot::Sender<Result<Scored, NoScore>>,
}

impl Job {
    /// Nobody waits for it any more.
    fn is_dead(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.deadline.is_some_and(|at| at <= now)
    }

    fn turn(&self) -> (Instant, u64) {
        (self.due, self.number)
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.turn() == other.turn()
    }
}

impl Eq for Job {}

impl PartialOrd for Job {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Job {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.turn().cmp(&other.turn())
    }
}

#[derive(Default)]
struct Jobs {
    /// The earliest due on top.
    waiting: BinaryHeap<Reverse<Job>>,
    /// How many came so far.
    count: u64,
}

struct Shared {
    jobs: Mutex<Jobs>,
    ready: Condvar,
    closed: AtomicBool,
    batching: Batching,
    max_tokens: usize,
}

impl Shared {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // A worker that panicked held no lock; whatever is in the queue is still whole.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle that requests use. Dropping it stops the workers once the queue is empty.
pub struct ScoringQueue {
    shared: Arc<Shared>,
    settings: QueueSettings,
    memory: Memory,
    head: Arc<Head>,
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

    /// `None` when nothing is remembered.
    fn key(&self, text: &str) -> Option<(u64, u64)> {
        self.scores.as_ref()?;
        Some((self.hashers.0.hash_one(text), self.hashers.1.hash_one(text)))
    }

    fn get(&self, key: Option<(u64, u64)>) -> Option<Scored> {
        let scored = self.scores.as_ref()?.get(&key?)?;
        Some(Scored { stage: Stage::Memory, ..scored })
    }

    fn keep(&self, key: Option<(u64, u64)>, scored: Scored) {
        if let (Some(scores), Some(key)) = (&self.scores, key) {
            scores.insert(key, scored);
        }
    }
}

impl ScoringQueue {
    /// Starts the workers.
    pub fn start(model: &Model, settings: QueueSettings) -> std::io::Result<Self> {
        let suited = model.batching();
        let batching = Batching {
            workers: settings.workers.unwrap_or(suited.workers).max(1),
            tokens: settings.batch_tokens.unwrap_or(suited.tokens),
            ..suited
        };
        let shared = Arc::new(Shared {
            jobs: Mutex::default(),
            ready: Condvar::new(),
            closed: AtomicBool::new(false),
            batching,
            max_tokens: model.max_tokens(),
        });
        let threads = (0..batching.workers)
            .map(|index| {
                let (shared, model) = (Arc::clone(&shared), model.clone());
                std::thread::Builder::new()
                    .name(format!("scoring-{index}"))
                    .spawn(move || work(&shared, &model))
            })
            .collect::<Result<_, _>>()?;
        let memory = Memory::new(settings.cache_entries);
        let head = model.shared_head();
        Ok(Self { shared, settings, memory, head, threads })
    }

    /// Texts waiting now.
    pub fn depth(&self) -> usize {
        self.shared.jobs().waiting.len()
    }

    /// Scores a text within the deadline, unless memory or the static stage know enough:
    /// see [`Self::at_once`]. Leaving early (dropping the future) frees the place.
    pub async fn score(&self, text: String, thresholds: &[Probability]) -> Result<Scored, NoScore> {
        let key = self.memory.key(&text);
        if let Some(scored) = self.memory.get(key).or_else(|| self.foretold(&text, thresholds)) {
            return Ok(scored);
        }
        let scored = self.score_anew(text).await?;
        self.memory.keep(key, scored);
        Ok(scored)
    }

    /// The score of a text that was scored before, or one by the static stage that lies at least
    /// the margin away from each of `thresholds`, where the encoder would hardly change the
    /// decision. Some microseconds, on the calling thread.
    pub fn at_once(&self, text: &str, thresholds: &[Probability]) -> Option<Scored> {
        self.memory.get(self.memory.key(text)).or_else(|| self.foretold(text, thresholds))
    }

    /// The static stage's score, where it is clear.
    fn foretold(&self, text: &str, thresholds: &[Probability]) -> Option<Scored> {
        let margin = self.settings.static_margin.filter(|_| text.len() <= MAX_STATIC_BYTES)?;
        let score = self.head.static_score(&TextFeatures::read(text))?;
        let is_clear = |threshold: &Probability| (score.get() - threshold.get()).abs() >= margin;
        let clear = thresholds.iter().all(is_clear);
        clear.then_some(Scored { score, tokens: 0, stage: Stage::Static })
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
        let now = Instant::now();
        let tokens = (2 + text.len() / BYTES_A_TOKEN).min(self.shared.max_tokens);
        let due = now + PATIENCE * u32::try_from(tokens).unwrap_or(u32::MAX);
        let mut jobs = self.shared.jobs();
        if jobs.waiting.len() >= self.settings.capacity {
            jobs.waiting.retain(|Reverse(job)| !job.is_dead(now));
            if jobs.waiting.len() >= self.settings.capacity {
                return Err(NoScore::QueueFull);
            }
        }
        let number = jobs.count;
        jobs.count += 1;
        jobs.waiting.push(Reverse(Job { text, tokens, due, number, deadline, reply }));
        drop(jobs);
        self.shared.ready.notify_one();
        Ok(receiver)
    }
}

impl Drop for ScoringQueue {
    fn drop(&mut self) {
        {
            // Under the lock: a worker that has just looked would sleep through the call.
            let _jobs = self.shared.jobs();
            self.shared.closed.store(true, Ordering::Release);
        }
        self.shared.ready.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches its panics, so there is nothing to hear of here.
            let _ = thread.join();
        }
    }
}

/// A worker's life: take a batch, score it, answer.
fn work(shared: &Shared, model: &Model) {
    step_back();
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

/// Lets the server's threads go first when both want a core, so that `/health` answers while every
/// core scores.
#[cfg(target_os = "linux")]
fn step_back() {
    /// Chosen: a third of the weight of a thread that has not stepped back.
    const NICENESS: i32 = 5;
    // A thread that may not stays as it is.
    let _ = rustix::process::nice(NICENESS);
}

/// Elsewhere a thread has no priority of its own that it may lower.
#[cfg(not(target_os = "linux"))]
fn step_back() {}

/// Waits for work: the texts that are due first, as many as the budget of tokens and this worker's
/// share of the queue allow, dead callers dropped. `None` ends the worker.
fn next_batch(shared: &Shared) -> Option<Vec<Job>> {
    let mut jobs = shared.jobs();
    loop {
        let batch = take_batch(&mut jobs.waiting, shared.batching);
        if !batch.is_empty() {
            if !jobs.waiting.is_empty() {
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

fn take_batch(waiting: &mut BinaryHeap<Reverse<Job>>, batching: Batching) -> Vec<Job> {
    let now = Instant::now();
    // A padded batch is one piece of work for one device: the more the better.
    let share = match batching.padded {
        true => waiting.len(),
        false => waiting.len().div_ceil(batching.workers),
    };
    let mut batch: Vec<Job> = Vec::new();
    let (mut sum, mut widest) = (0, 0);
    while batch.len() < share
        && let Some(Reverse(job)) = waiting.peek()
    {
        if !job.is_dead(now) {
            (sum, widest) = (sum + job.tokens, widest.max(job.tokens));
            let cost = if batching.padded { (batch.len() + 1) * widest } else { sum };
            if !batch.is_empty() && cost > batching.tokens {
                break;
            }
        }
        batch.extend(waiting.pop().map(|Reverse(job)| job).filter(|job| !job.is_dead(now)));
    }
    batch
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
        let settings =
            QueueSettings { workers: Some(1), static_margin: None, ..Default::default() };
        let queue = queue(settings);
        let score = || queue.score("What is the capital of Peru?".to_owned(), &[]);
        let (first, second) = (score().await.unwrap(), score().await.unwrap());
        assert_eq!((first.stage, second.stage), (Stage::Encoder, Stage::Memory));
        assert_eq!(first.score, second.score);
    }

    #[tokio::test]
    async fn the_static_stage_decides_only_what_is_clear_to_it() {
        let text = "What is the capital of Peru?";
        let queue = queue(QueueSettings { workers: Some(1), ..QueueSettings::default() });
        let at = |threshold: f32| queue.at_once(text, &[Probability::clamped(threshold)]);
        let foretold = at(0.9).unwrap();
        assert_eq!((foretold.stage, foretold.tokens), (Stage::Static, 0));
        let score = foretold.score.get();
        assert!(at(score + DEFAULT_STATIC_MARGIN + 0.001).is_some());
        assert!(at(score + DEFAULT_STATIC_MARGIN - 0.001).is_none());
        assert!(queue.at_once(&text.repeat(1_000), &[Probability::clamped(0.9)]).is_none());
        let scored = queue.score(text.to_owned(), &[foretold.score]).await.unwrap();
        assert_eq!(scored.stage, Stage::Encoder);
        assert!((scored.score.get() - score).abs() < 0.1, "{scored:?} {score}");
    }

    #[tokio::test]
    async fn without_a_margin_the_encoder_is_always_asked() {
        let queue = queue(QueueSettings { static_margin: None, ..QueueSettings::default() });
        assert!(queue.at_once("hi", &[Probability::clamped(0.9)]).is_none());
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_is_an_answer() {
        let queue = queue(QueueSettings {
            deadline: Duration::ZERO,
            static_margin: None,
            ..QueueSettings::default()
        });
        let score = queue.score("x".to_owned(), &[]).await;
        assert_eq!(score, Err(NoScore::DeadlinePassed));
    }

    #[tokio::test]
    async fn a_full_queue_is_an_answer_and_dead_callers_give_up_their_place() {
        let queue =
            queue(QueueSettings { workers: Some(1), capacity: 2, ..QueueSettings::default() });
        let long = "word ".repeat(200);
        let held: Vec<_> = std::iter::repeat_with(|| queue.submit(long.clone(), None))
            .take(1_000)
            .map_while(Result::ok)
            .collect();
        assert!(held.len() < 1_000, "a bounded queue fills up");
        drop(held);
        assert!(queue.submit(long, None).is_ok(), "places of callers who left are free");
    }

    fn heap(lengths: &[usize]) -> BinaryHeap<Reverse<Job>> {
        let now = Instant::now();
        let job = |(number, tokens): (usize, &usize)| {
            let (reply, receiver) = oneshot::channel();
            std::mem::forget(receiver);
            let due = now + PATIENCE * *tokens as u32;
            let text = number.to_string();
            Reverse(Job {
                text,
                tokens: *tokens,
                due,
                number: number as u64,
                deadline: None,
                reply,
            })
        };
        lengths.iter().enumerate().map(job).collect()
    }

    fn taken(waiting: &mut BinaryHeap<Reverse<Job>>, batching: Batching) -> Vec<usize> {
        take_batch(waiting, batching).iter().map(|job| job.tokens).collect()
    }

    #[test]
    fn batches_keep_to_the_budget_and_short_texts_go_first() {
        let batching = Batching { workers: 1, tokens: 100, padded: false };
        let mut waiting = heap(&[128, 16, 60, 30, 16]);
        assert_eq!(taken(&mut waiting, batching), [16, 16, 30]);
        assert_eq!(taken(&mut waiting, batching), [60]);
        assert_eq!(taken(&mut waiting, batching), [128], "what exceeds the budget goes alone");
        assert!(taken(&mut waiting, batching).is_empty());
    }

    #[test]
    fn padding_counts_and_workers_share_what_is_not_padded() {
        let padded = Batching { workers: 2, tokens: 100, padded: true };
        assert_eq!(taken(&mut heap(&[16, 16, 30, 40]), padded), [16, 16, 30], "3 × 30, not 4 × 40");
        let shared = Batching { workers: 2, tokens: 100, padded: false };
        assert_eq!(taken(&mut heap(&[16, 16, 16]), shared), [16, 16]);
    }

    #[test]
    fn a_long_text_is_overtaken_only_by_what_comes_soon_after() {
        let mut waiting = heap(&[128]);
        let mut late = heap(&[16]).pop().unwrap();
        late.0.due += Duration::from_millis(200);
        waiting.push(late);
        let batching = Batching { workers: 1, tokens: 1, padded: false };
        assert_eq!(taken(&mut waiting, batching), [128]);
    }
}
