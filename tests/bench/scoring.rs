//! What a score costs, by length of the text and by way of computing.
//!
//! ```text
//! cargo bench --bench scoring [-- SECONDS_A_CELL]
//! ```
//!
//! One thread; every part of a score is inside: tokeniser, encoder, words and facts, head. The
//! ways of computing take turns text by text, so that a busy machine disturbs all of them alike;
//! every text is new. Then all cores: eight texts of 64 tokens in flight through the scoring queue.

use std::time::{Duration, Instant};

use weighbridge::classify::{
    encoder::KernelChoice,
    facts::TextFeatures,
    model::{Device, LoadOptions, Model, ModelFiles},
    queue::{QueueSettings, ScoringQueue},
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
    let options = LoadOptions { device: Device::Cpu, kernel, ..LoadOptions::default() };
    Model::load(&ModelFiles::shipped(), options).expect("the shipped model loads")
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    let seconds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(1.0);
    let names = KernelChoice::NAMES.into_iter().filter(|name| *name != "auto");
    let models: Vec<(&str, Model)> = names
        .filter_map(|name| {
            let kernel = KernelChoice::from_name(name)?;
            let there = match kernel {
                KernelChoice::Forced(kernel) => kernel.is_available(),
                _ => true,
            };
            there.then(|| (name, load(kernel)))
        })
        .collect();

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
    throughput(seconds);
}

/// Scores a second with eight texts of 64 tokens in flight, one worker a core.
fn throughput(seconds: f64) {
    let settings = QueueSettings { capacity: 64, ..QueueSettings::default() };
    let workers = settings.workers;
    let queue = ScoringQueue::start(&load(KernelChoice::Auto), settings).expect("threads start");
    let end = Instant::now() + Duration::from_secs_f64(3.0 * seconds);
    let mut waits: Vec<f64> = Vec::new();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let queue = &queue;
                scope.spawn(move || {
                    let mut waits = Vec::new();
                    for number in 0.. {
                        if Instant::now() > end {
                            break;
                        }
                        let start = Instant::now();
                        let reply =
                            queue.submit(text(64, caller + 8 * number), None).expect("room");
                        reply.blocking_recv().expect("a worker").expect("a score");
                        waits.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                    waits
                })
            })
            .collect();
        for caller in callers {
            waits.extend(caller.join().expect("a caller"));
        }
    });
    let rate = waits.len() as f64 / (3.0 * seconds);
    let p50 = median(&mut waits);
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    println!(
        "8 in flight, 64 tokens, {workers} workers: {rate:.0} scores/s, p50 {p50:.1} ms, p99 {p99:.1} ms"
    );
}
