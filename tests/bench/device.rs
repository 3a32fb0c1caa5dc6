//! What a device gives: agreement with f32 on the CPU, scores a second by batch size, and waits at
//! a steady rate of requests.
//!
//! ```text
//! cargo bench --features cuda --bench device -- cuda:0 [REQUESTS_A_SECOND]
//! cargo bench --bench device -- cpu 100
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use weighbridge::classify::{
    encoder::KernelChoice,
    model::{Device, LoadOptions, Model, ModelFiles},
    queue::{QueueSettings, ScoringQueue},
};

const WORDS: [&str; 8] = ["order", "three", "boxes", "matrix", "prove", "green", "river", "engine"];

/// A text of exactly `tokens` tokens, special ones included; a different one for each number.
fn text(tokens: usize, number: usize) -> String {
    let word = |i: usize| WORDS[(number >> (3 * (i % 7))) % WORDS.len()];
    (0..tokens - 2).map(word).collect::<Vec<_>>().join(" ")
}

fn load(device: Device, kernel: KernelChoice) -> Model {
    let options = LoadOptions { device, kernel, max_tokens: 256 };
    Model::load(&ModelFiles::shipped(), options).expect("the shipped model loads")
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let name = words.first().map_or("cpu", String::as_str);
    let rate = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(500);
    let device = Device::from_name(name).expect("cpu, auto or cuda:N");
    let model = load(device, KernelChoice::Auto);
    println!("{name}: {}", model.encoder_name());
    agreement(&model);
    throughput(&model);
    steady(&model, rate);
}

fn agreement(model: &Model) {
    let reference = load(Device::Cpu, KernelChoice::from_name("f32").expect("a kernel"));
    let texts: Vec<String> = (0..64).map(|number| text(3 + 4 * number, number * 7919)).collect();
    let tokens: Vec<_> = texts.iter().map(|text| model.tokens(text)).collect();
    let batch: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
    let embeddings = |model: &Model| model.embed(&batch).expect("embeddings");
    let cosine = |(a, b): (Vec<f32>, Vec<f32>)| a.iter().zip(&b).map(|(a, b)| a * b).sum::<f32>();
    let least = embeddings(model).into_iter().zip(embeddings(&reference)).map(cosine);
    println!(
        "64 texts of 3 to 255 tokens in one batch against f32 on the CPU: least cosine {:.6}",
        least.fold(f32::MAX, f32::min)
    );
}

fn throughput(model: &Model) {
    println!("scores a second, one thread, tokeniser and head included");
    println!("{:>7} {:>10} {:>10}", "batch", "64 tokens", "256 tokens");
    for batch in [1, 8, 32, 128, 256] {
        let mut rates = [64, 256].map(|tokens| {
            let texts: Vec<String> = (0..batch).map(|number| text(tokens, number)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let score = || model.score(&texts).expect("scores").len();
            score();
            let (start, mut done) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_secs(2) {
                done += score();
            }
            done as f64 / start.elapsed().as_secs_f64()
        });
        let [short, long] = &mut rates;
        println!("{batch:>7} {short:>10.0} {long:>10.0}");
    }
}

/// Requests come at their time whether or not earlier ones are done, for ten seconds.
fn steady(model: &Model, rate: u32) {
    let settings = QueueSettings { static_margin: None, ..QueueSettings::default() };
    let queue = ScoringQueue::start(model, settings).expect("threads start");
    let queue = Arc::new(queue);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build();
    let (mut waits, missed) = runtime.expect("a runtime").block_on(async {
        let start = tokio::time::Instant::now();
        let mut calls = Vec::new();
        for number in 0..10 * rate {
            let at = start + Duration::from_secs(10) * number / (10 * rate);
            tokio::time::sleep_until(at).await;
            let (queue, text) = (Arc::clone(&queue), text(64, number as usize));
            calls.push(tokio::spawn(async move {
                queue.score(text, &[]).await.ok().map(|_| at.elapsed().as_secs_f64() * 1e3)
            }));
        }
        let (mut waits, mut missed) = (Vec::new(), 0);
        for call in calls {
            match call.await.expect("a call") {
                Some(wait) => waits.push(wait),
                None => missed += 1,
            }
        }
        (waits, missed)
    });
    waits.sort_by(f64::total_cmp);
    println!(
        "{rate} requests/s of 64 tokens for 10 s: p50 {:.1} ms, p99 {:.1} ms, {missed} of {} without a score in time",
        percentile(&waits, 0.5),
        percentile(&waits, 0.99),
        10 * rate
    );
}
