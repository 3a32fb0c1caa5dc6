//! What the gateway adds to a request, against a direct call to the same upstream.
//!
//! ```text
//! cargo bench --bench overhead [-- REQUESTS] [binary FILE]
//! ```
//!
//! Starts the real binary twice, as scripted upstream and as gateway, and asks one after the other
//! over kept connections, one request at a time, the arms in turn: direct, through the gateway
//! with a named model (no scoring), through the policy (scored; the same text each time, a new one
//! each time that the static stage decides, and a new one each time that the encoder scores). Prints
//! p50 and p99 of each arm and what they add to the direct call's. Then the same named model through
//! a gateway with keys, limits, budgets and a ledger in SQLite, beside the one without. Then how
//! long `/health` takes, alone and while eight callers keep every scoring thread busy. `binary FILE`
//! measures that binary and not the one built beside the bench.

mod server;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use server::{KEY, Server, percentile, print_arms};

/// Requests of each arm that count, unless the command line says otherwise.
const REQUESTS: usize = 2_000;
const WARM_UP: usize = 200;

/// One kept connection that posts chat requests and reads answers by their content length.
struct Caller {
    stream: BufReader<TcpStream>,
    model: &'static str,
    text: Text,
    sent: usize,
}

/// What a caller asks.
#[derive(Clone, Copy)]
enum Text {
    /// The same each time.
    Same,
    /// A new one each time, near the threshold.
    New,
    /// A new one each time, far from the threshold.
    Clear,
}

impl Caller {
    fn new(address: &str, model: &'static str, text: Text) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream: BufReader::new(stream), model, text, sent: 0 }
    }

    /// Seconds from the first byte written to the last byte read.
    fn ask(&mut self) -> f64 {
        self.sent += 1;
        let order = |number| {
            format!(
                "Summarise order {number}: three boxes of nails, two hammers and a saw, to be delivered on Tuesday."
            )
        };
        let text = match self.text {
            Text::Same => order(0),
            Text::New => order(self.sent),
            Text::Clear => format!("Say hello to guest {}.", self.sent),
        };
        let body = format!(
            r#"{{"model":"{}","messages":[{{"role":"user","content":"{text}"}}]}}"#,
            self.model
        );
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.exchange(&request)
    }

    /// Seconds that `GET /health` takes.
    fn health(&mut self) -> f64 {
        self.exchange("GET /health HTTP/1.1\r\nhost: bench\r\n\r\n")
    }

    fn exchange(&mut self, request: &str) -> f64 {
        let started = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes()).expect("the request is sent");
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a head");
            let header = line.trim_end().to_ascii_lowercase();
            assert!(!header.starts_with("http/") || header.contains(" 200 "), "{header}");
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            }
            if header.is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).expect("a body");
        started.elapsed().as_secs_f64()
    }
}

fn main() {
    let requests = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(REQUESTS);
    let upstream = Server::upstream();
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!(
        "[providers.local]\nbase_url = \"http://{}/v1\"\n\
         [models.small]\nprovider = \"local\"\n\
         price = {{ input_usd_per_mtok = 0.1, output_usd_per_mtok = 0.4 }}\n\
         [models.large]\nprovider = \"local\"\n\
         [policies.auto]\ntiers = [{{ name = \"cheap\", below = 0.42, models = [\"small\"] }}, \
         {{ name = \"strong\", models = [\"large\"] }}]\n",
        upstream.address
    );
    let serve = |name: &str, text: &str| {
        let config = dir.path().join(name);
        std::fs::write(&config, text).expect("a configuration");
        Server::gateway(config.to_str().expect("a plain path"))
    };
    let gateway = serve("bench.toml", &text);
    // One that asks the encoder each time.
    let encoder = serve("encoder.toml", &format!("[classifier]\nstatic_margin = 1\n{text}"));

    // One that keeps accounts: one key, and on it a budget and two limits.
    let accounts = "[ledger]\nurl = \"sqlite:bench.db\"\n[keys.bench]\nsecret_env = \"BENCH_KEY\"\n\
         [budgets.bench]\nkey = \"bench\"\nusd = 1000000\nwindow = \"month\"\n\
         [limits.requests]\nkey = \"bench\"\nrequests = 1000000000\n\
         [limits.tokens]\nkey = \"bench\"\ntokens = 1000000000000\n";
    let ledger = serve("ledger.toml", &format!("{accounts}{text}"));

    println!("n = {requests} requests an arm, one at a time, arms in turn; microseconds");
    in_turn(
        requests,
        vec![
            ("direct", Caller::new(&upstream.address, "small", Text::Same)),
            ("named model, no scoring", Caller::new(&gateway.address, "small", Text::Same)),
            ("policy, text seen before", Caller::new(&gateway.address, "auto", Text::Same)),
            ("policy, new clear text", Caller::new(&gateway.address, "auto", Text::Clear)),
            ("policy, encoder asked", Caller::new(&encoder.address, "auto", Text::New)),
        ],
    );
    // By themselves: after the encoder has run the caches hold nothing of anybody else's.
    in_turn(
        requests,
        vec![
            ("no ledger, no scoring", Caller::new(&gateway.address, "small", Text::Same)),
            ("keys, limits, ledger", Caller::new(&ledger.address, "small", Text::Same)),
        ],
    );
    health(&encoder.address, requests);
}

/// Asks each arm once a round, and prints their times.
fn in_turn(requests: usize, mut arms: Vec<(&str, Caller)>) {
    let mut times = vec![Vec::with_capacity(requests); arms.len()];
    for round in 0..WARM_UP + requests {
        for ((_, caller), times) in arms.iter_mut().zip(&mut times) {
            let seconds = caller.ask();
            if round >= WARM_UP {
                times.push(seconds);
            }
        }
    }
    print_arms(arms.iter().map(|(name, _)| *name), &mut times);
}

/// `/health` every few milliseconds, alone and beside callers whose texts are always new.
fn health(gateway: &str, requests: usize) {
    let measure = || {
        let mut caller = Caller::new(gateway, "auto", Text::New);
        let mut times: Vec<f64> = (0..requests)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(3));
                caller.health()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        (percentile(&times, 0.5) * 1e3, percentile(&times, 0.99) * 1e3)
    };
    let alone = measure();
    let (done, scored) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (loaded, rate) = std::thread::scope(|scope| {
        for number in 0..8 {
            let (done, scored) = (&done, &scored);
            scope.spawn(move || {
                let mut caller = Caller::new(gateway, "auto", Text::New);
                caller.sent = (number + 1) << 40;
                while !done.load(Ordering::Relaxed) {
                    caller.ask();
                    scored.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let (start, before) = (Instant::now(), scored.load(Ordering::Relaxed));
        let loaded = measure();
        let rate = (scored.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        (loaded, rate)
    });
    println!("GET /health, n = {requests}, milliseconds");
    println!("{:<26} {:>8} {:>8}", "", "p50", "p99");
    println!("{:<26} {:>8.2} {:>8.2}", "alone", alone.0, alone.1);
    println!(
        "{:<26} {:>8.2} {:>8.2}   beside {rate:.0} scored requests/s",
        "under full scoring load", loaded.0, loaded.1
    );
}
