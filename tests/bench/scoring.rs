//! What a score costs, by length of the text and by way of computing.
//!
//! ```text
//! cargo bench --bench scoring [-- SECONDS_A_CELL]
//! ```
//!
//! One thread; every part of a score is inside: tokeniser, encoder, words and facts, head. The
//! ways of computing take turns text by text, so that a busy machine disturbs all of them alike;
//! every text is new. Then all cores: eight texts of 64 tokens in flight through the scoring queue.
//!
//! With `--agreement FILE…` it holds every way of computing against candle's f32 on labelled or plain
//! rows: see [`agreement`]. With `--child` it is one side of `tests/bench/onnx_runtime.py`: see [`child`].

use std::{
    collections::HashMap,
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::json;

use weighbridge::classify::{
    encoder::KernelChoice,
    facts::TextFeatures,
    model::{Device, LoadOptions, Model, ModelFiles},
    queue::{QueueSettings, ScoringQueue},
};
use weighbridge::{
    classify::extract::text_to_weigh,
    evaluate::rows::Data,
    protocol::chat::{Content, Message},
};

const LENGTHS: [usize; 5] = [16, 32, 64, 128, 256];
const WORDS: [&str; 16] = [
    "order", "three", "boxes", "nails", "deliver", "summary", "table", "green", "river", "engine",
    "matrix", "prove", "cheap", "window", "second", "compare",
];

/// A text of exactly `tokens` tokens, special ones included; a different one for each number.
fn text(tokens: usize, number: usize) -> String {
    let word = |i: usize| WORDS[(number * 31 + i * i + i / 3) % WORDS.len()];
    (0..tokens - 2).map(word).collect::<Vec<_>>().join(" ")
}

fn load(kernel: KernelChoice) -> Model {
    let options = LoadOptions { device: Device::Cpu, kernel, max_tokens: 256 };
    Model::load(&ModelFiles::shipped(), options).expect("the shipped model loads")
}

/// One model for each way of computing that this processor has.
fn models() -> Vec<(&'static str, Model)> {
    let model = |name| {
        let kernel = KernelChoice::from_name(name)?;
        let there = match kernel {
            KernelChoice::Forced(kernel) => kernel.is_available(),
            _ => true,
        };
        there.then(|| (name, load(kernel)))
    };
    let names = KernelChoice::NAMES.into_iter().filter(|name| *name != "auto");
    names.filter_map(model).collect()
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.split_first() {
        Some((mode, _)) if mode == "--child" => return child(),
        Some((mode, files)) if mode == "--agreement" => return agreement(files),
        _ => {}
    }
    let seconds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1.0);
    let models = models();

    println!("milliseconds a score, one thread, median");
    print!("{:>7}", "tokens");
    for (name, _) in &models {
        print!(" {name:>12}");
    }
    println!(" {:>12} {:>12}", "tokenise us", "words+facts us");
    for length in LENGTHS {
        let mut times = vec![Vec::new(); models.len() + 2];
        let started = Instant::now();
        for number in 0.. {
            if started.elapsed().as_secs_f64() > seconds * models.len() as f64 && number >= 5 {
                break;
            }
            let text = text(length, number);
            for ((_, model), times) in models.iter().zip(&mut times) {
                // Twice, the second timed: the first brings this path's weights into the caches.
                model.score(&[&text]).expect("a score");
                let start = Instant::now();
                let scored = model.score(&[&text]).expect("a score");
                times.push(start.elapsed().as_secs_f64() * 1e3);
                assert_eq!(scored[0].tokens, length);
            }
            let start = Instant::now();
            std::hint::black_box(models[0].1.tokens(&text));
            times[models.len()].push(start.elapsed().as_secs_f64() * 1e6);
            let start = Instant::now();
            std::hint::black_box(TextFeatures::read(&text));
            times[models.len() + 1].push(start.elapsed().as_secs_f64() * 1e6);
        }
        print!("{length:>7}");
        for times in &mut times {
            print!(" {:>12.3}", median(times));
        }
        println!("  n={}", times[0].len());
    }
    any_length(seconds);
    throughput(seconds);
}

/// One thread, the default bound, prompts of all lengths up to ten megabytes as the gateway takes
/// them out of a conversation.
fn any_length(seconds: f64) {
    let options = LoadOptions { device: Device::Cpu, ..LoadOptions::default() };
    let model = Model::load(&ModelFiles::shipped(), options).expect("the shipped model loads");
    println!("milliseconds a prompt, at most {} tokens scored", model.max_tokens());
    println!("{:>12} {:>8} {:>8} {:>6}", "bytes", "p50", "p99", "n");
    for bytes in [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000] {
        // Words drawn by chance: a text that repeats itself would be shortened first.
        let mut state = 1u64;
        let mut prompt = String::with_capacity(bytes + 16);
        while prompt.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            prompt.push_str(WORDS[(state >> 60) as usize]);
            prompt.push(' ');
        }
        let mut times = Vec::new();
        let started = Instant::now();
        while started.elapsed().as_secs_f64() < 3.0 * seconds || times.len() < 5 {
            let message = Message {
                role: "user".to_owned(),
                content: Content::Text(format!("{} {prompt}", times.len())),
            };
            let start = Instant::now();
            model.score(&[&text_to_weigh(&[message])]).expect("a score");
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let p50 = median(&mut times);
        let p99 = times[(times.len() - 1) * 99 / 100];
        println!("{bytes:>12} {p50:>8.2} {p99:>8.2} {:>6}", times.len());
    }
}

/// Scores a second with eight texts of 64 tokens in flight, one worker a core.
fn throughput(seconds: f64) {
    let model = load(KernelChoice::Auto);
    let queue = start_queue(&model);
    let workers = model.batching().workers;
    let texts: Vec<String> = (0..20_000).map(|number| text(64, number)).collect();
    let mut waits = flood(&queue, &texts, 3.0 * seconds);
    let rate = waits.len() as f64 / (3.0 * seconds);
    let p50 = median(&mut waits);
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    println!(
        "8 in flight, 64 tokens, {workers} workers: {rate:.0} scores/s, p50 {p50:.1} ms, p99 {p99:.1} ms"
    );
}

fn start_queue(model: &Model) -> ScoringQueue {
    let settings = QueueSettings { capacity: 64, ..QueueSettings::default() };
    ScoringQueue::start(model, settings).expect("threads start")
}

/// Eight callers, each with one text in the queue at a time; how long each waited, in ms.
fn flood(queue: &ScoringQueue, texts: &[String], seconds: f64) -> Vec<f64> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let next = AtomicUsize::new(0);
    let caller = || {
        let mut waits = Vec::new();
        while Instant::now() < end {
            let text = texts[next.fetch_add(1, Ordering::Relaxed) % texts.len()].clone();
            let start = Instant::now();
            let reply = queue.submit(text, None).expect("room");
            reply.blocking_recv().expect("a worker").expect("a score");
            waits.push(start.elapsed().as_secs_f64() * 1e3);
        }
        waits
    };
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|caller| caller.join().expect("a caller")).collect()
    })
}

/// How far each way of computing is from candle's f32, over at most 2,000 texts spread over the
/// files' rows: the cosine of the embeddings, the shift of the score, and how many decisions differ
/// at thresholds 0.05, 0.10, …, 0.95 though the reference is more than 0.01 away from them.
fn agreement(files: &[String]) {
    const TEXTS: usize = 2_000;
    let paths: Vec<_> = files.iter().map(Into::into).collect();
    let data = Data::read(&paths).expect("rows");
    let rows = data.rows.len();
    let spread = (0..TEXTS.min(rows)).map(|at| &data.rows[at * rows / TEXTS.min(rows)]);
    let texts: Vec<&str> = spread.map(|row| row.text.as_str()).collect();
    let of = |model: &Model| -> Vec<(Vec<f32>, f64)> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut found = Vec::new();
            while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let tokens = model.tokens(text);
                let embedding = model.embed(&[&tokens]).expect("an embedding").remove(0);
                let score = f64::from(model.head().score(text, &embedding).get());
                found.push((*text, (embedding, score)));
            }
            found
        };
        let mut by_text: HashMap<&str, _> = std::thread::scope(|scope| {
            let threads = [scope.spawn(work), scope.spawn(work)];
            threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
        });
        texts.iter().filter_map(|text| by_text.remove(text)).collect()
    };
    let models = models();
    let (_, candle) = models.iter().find(|(name, _)| *name == "candle").expect("candle");
    let reference = of(candle);
    println!("against candle's f32, {} texts of {}", reference.len(), files.join(", "));
    println!(
        "{:<12} {:>10} {:>11} {:>10} {:>10} {:>6}",
        "", "least cos", "p1 cos", "p99 shift", "max shift", "flips"
    );
    for (name, model) in models.iter().filter(|(name, _)| *name != "candle") {
        let found = of(model);
        let pairs = || reference.iter().zip(&found);
        let mut cosines: Vec<f64> = pairs()
            .map(|((a, _), (b, _))| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum())
            .collect();
        let mut shifts: Vec<f64> = pairs().map(|((_, a), (_, b))| (a - b).abs()).collect();
        let flips = pairs().flat_map(|((_, a), (_, b))| {
            let thresholds = (1..20).map(|step| f64::from(step) * 0.05);
            thresholds.filter(move |t| (a - t).abs() > 0.01 && (a >= t) != (b >= t))
        });
        let flips = flips.count();
        cosines.sort_by(f64::total_cmp);
        shifts.sort_by(f64::total_cmp);
        let at = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share) as usize];
        println!(
            "{name:<12} {:>10.5} {:>11.5} {:>10.5} {:>10.5} {flips:>6}",
            cosines[0],
            at(&cosines, 0.01),
            at(&shifts, 0.99),
            at(&shifts, 1.0)
        );
    }
}

/// Answers requests of one line of JSON on standard input with one line of JSON each, taking its
/// own time, so that another program can take turns with it.
fn child() {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Request {
        /// What computes?
        Kernel,
        /// Score this text twice and time the second, one thread.
        Time(String),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Line {
        /// Texts of which eight are in flight, for so many seconds.
        Flood {
            flood: Vec<String>,
            seconds: f64,
        },
        One(Request),
    }
    let model = load(KernelChoice::Auto);
    let queue = start_queue(&model);
    for line in std::io::stdin().lines() {
        let line = line.expect("a line of text");
        let answer = match serde_json::from_str(&line).expect("a request") {
            Line::One(Request::Kernel) => json!({"kernel": model.encoder_name()}),
            Line::One(Request::Time(text)) => {
                model.score(&[&text]).expect("a score");
                let start = Instant::now();
                let scored = model.score(&[&text]).expect("a score");
                let ms = start.elapsed().as_secs_f64() * 1e3;
                json!({"ms": ms, "tokens": scored[0].tokens})
            }
            Line::Flood { flood: texts, seconds } => {
                json!({"rate": flood(&queue, &texts, seconds).len() as f64 / seconds})
            }
        };
        println!("{answer}");
        std::io::stdout().flush().expect("a reader");
    }
}
