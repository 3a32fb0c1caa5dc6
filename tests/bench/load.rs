//! The gateway under load, beside a direct call and nginx as a plain reverse proxy.
//!
//! ```text
//! cargo bench --bench load                  # the three, at 60 % of the gateway's saturating rate
//! cargo bench --bench load -- rate 4000     # the three, at this rate
//! cargo bench --bench load -- soak 600      # memory over ten minutes, 5 % of the answers broken
//! cargo bench --bench load -- binary FILE   # this binary, and not the one built beside the bench
//! cargo bench --bench load -- against FILE  # another gateway beside the first
//! ```
//!
//! Generator (one thread), upstream and gateway share the machine. The rate is that of the named model, so
//! nothing is scored. Requests are sent at fixed times whatever became of those before, and a
//! request's time counts from when it was due, so a stall is not hidden. nginx is left out when it
//! is not installed.

mod generator;
mod server;

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use generator::{Asked, Connection, Generator, request};
use server::{Server, percentile, print_arms, word_after};

/// Connections of the generator.
const CONNECTIONS: usize = 16;
/// Those of the soak, where slow answers hold some.
const SOAK_CONNECTIONS: usize = 256;
/// How long each measurement lasts.
const SECONDS: f64 = 10.0;
/// Times that the arms are measured, in turn.
const ROUNDS: usize = 3;
/// Chunks of the streams that are timed.
const CHUNKS: usize = 400;

/// Microseconds a chunk that a stream takes, median of many.
fn stream_us_a_chunk(address: &str, model: &str) -> f64 {
    let mut caller = Connection::open(address).expect("the server listens");
    let streamed = request(model, true);
    let mut times: Vec<f64> = (0..60)
        .map(|_| {
            let started = Instant::now();
            assert!(caller.ask(&streamed).unwrap_or(false), "the stream is whole");
            started.elapsed().as_secs_f64() / CHUNKS as f64 * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    percentile(&times, 0.5)
}

/// nginx passing everything on, or `None` when there is none.
struct Nginx {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Nginx {
    fn start(upstream: &str) -> Option<Self> {
        let directory = tempfile::tempdir().ok()?;
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let dir = directory.path().display();
        let text = format!(
            "daemon off; worker_processes auto; pid {dir}/pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
upstream u {{ server {upstream}; keepalive 64; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; proxy_http_version 1.1;
proxy_set_header Connection \"\"; proxy_buffering off; }} }} }}"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, text).ok()?;
        let child = Command::new("nginx")
            .args(["-p", &dir.to_string(), "-c", &file.display().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        std::thread::sleep(Duration::from_millis(500));
        Some(Self { child, address: format!("127.0.0.1:{port}"), _directory: directory })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master takes its workers with it.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn main() {
    let upstream = Server::upstream();
    let dir = tempfile::tempdir().expect("a directory");
    let model = |name: &str, script: &str| {
        format!("[models.{name}]\nprovider = \"local\"\nupstream_name = \"{name}{script}\"\n")
    };
    let text = format!(
        "[providers.local]\nbase_url = \"http://{}/v1\"\nbreaker_failures = 1000000\n{}{}{}{}{}",
        upstream.address,
        model("small", ""),
        model("stream", &format!("?chunks={CHUNKS}")),
        model("refused", "?status=500"),
        model("cut", "?cut=3"),
        model("slow", "?head_ms=100"),
    );
    let file = dir.path().join("load.toml");
    std::fs::write(&file, text).expect("a configuration");
    let file = file.to_str().expect("a plain path");
    let gateway = Server::gateway(file);
    let other = word_after("against").map(|binary| Server::gateway_of(&binary, file));
    let small = request("small", false);
    let saturating_rate = |server: &Server| {
        let generator = Generator { address: &server.address, connections: CONNECTIONS };
        generator.saturating_rate(5.0, &small)
    };
    let saturating = saturating_rate(&gateway);
    println!("saturated: {saturating:.0} requests/s");
    if let Some(other) = &other {
        println!("saturated, the other build: {:.0} requests/s", saturating_rate(other));
    }
    let number = |name| word_after(name).and_then(|word| word.parse::<f64>().ok());
    let rate = number("rate").unwrap_or(0.6 * saturating);
    if std::env::args().any(|word| word == "soak") {
        soak(&gateway, rate, number("soak").unwrap_or(600.0));
        return;
    }
    compare(&upstream, &gateway, other.as_ref(), rate);
}

fn compare(upstream: &Server, gateway: &Server, other: Option<&Server>, rate: f64) {
    let small = request("small", false);
    let nginx = Nginx::start(&upstream.address);
    let mut arms = vec![("direct", upstream.address.as_str())];
    arms.extend(nginx.as_ref().map(|nginx| ("nginx", nginx.address.as_str())));
    arms.push(("weighbridge", gateway.address.as_str()));
    arms.extend(other.map(|other| ("the other build", other.address.as_str())));
    let mut sums: Vec<(Asked, Cores)> = Vec::new();
    sums.resize_with(arms.len(), Default::default);
    for _ in 0..ROUNDS {
        for ((_, address), (sum, cores)) in arms.iter().zip(&mut sums) {
            let before = Cores::now();
            let generator = Generator { address, connections: CONNECTIONS };
            let asked = generator.at_rate(rate, SECONDS, |_| small.as_slice());
            let after = Cores::now();
            sum.seconds.extend(asked.seconds);
            sum.failed += asked.failed;
            cores.idle += after.idle - before.idle;
            cores.all += after.all - before.all;
        }
    }
    let failed: usize = sums.iter().map(|(asked, _)| asked.failed).sum();
    let (mut times, cores): (Vec<_>, Vec<_>) =
        sums.into_iter().map(|(asked, cores)| (asked.seconds, cores)).unzip();
    let n = times.first().map_or(0, Vec::len);
    println!("{rate:.0} requests/s, {n} requests an arm, {failed} failed; microseconds");
    print_arms(arms.iter().map(|(name, _)| *name), &mut times);
    let busy = arms.iter().zip(&cores).map(|((name, _), cores)| {
        format!("{name} {:.0} %", (1.0 - cores.idle / cores.all.max(1.0)) * 100.0)
    });
    println!("cores busy: {}", busy.collect::<Vec<_>>().join(", "));
    println!("streams of {CHUNKS} chunks, n = 60, one at a time; microseconds a chunk");
    // The upstream takes its script from the name, which the gateway's configuration holds.
    let direct = stream_us_a_chunk(&upstream.address, &format!("stream?chunks={CHUNKS}"));
    let relayed = stream_us_a_chunk(&gateway.address, "stream");
    println!("direct {direct:.1}, weighbridge {relayed:.1}, adds {:.1}", relayed - direct);
}

/// What all cores together have done since the machine started, in ticks.
#[derive(Clone, Default)]
struct Cores {
    idle: f64,
    all: f64,
}

impl Cores {
    /// The first line of `/proc/stat`, whose fourth and fifth figures are idle (proc(5)).
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // The last two stand inside the first two as well.
        let ticks: Vec<f64> =
            line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        Self { idle: ticks.iter().skip(3).take(2).sum(), all: ticks.iter().sum() }
    }
}

/// Resident memory while one answer in twenty is broken in some way.
fn soak(gateway: &Server, rate: f64, seconds: f64) {
    let small = request("small", false);
    let broken = ["refused", "cut", "slow"].map(|model| [false, true].map(|s| request(model, s)));
    // A prime, and every fourth of the broken ones streamed, so that each comes in both ways.
    let asked = |number: usize| {
        let [refused, cut, slow] = &broken;
        let [whole, streamed] = match number % 61 {
            7 => refused,
            27 => cut,
            47 => slow,
            _ => return small.as_slice(),
        };
        if number % 4 == 3 { streamed } else { whole }
    };
    let generator = Generator { address: &gateway.address, connections: SOAK_CONNECTIONS };
    // What is allocated once is there after half a minute.
    generator.at_rate(rate, 30.0_f64.min(seconds), asked);
    let id = gateway.child.id();
    let (started, mut samples) = (Instant::now(), Vec::new());
    let asked = std::thread::scope(|scope| {
        let load = scope.spawn(|| generator.at_rate(rate, seconds, asked));
        while !load.is_finished() {
            samples.push(resident_kib(id));
            std::thread::sleep(Duration::from_secs(1));
        }
        load.join().unwrap_or_default()
    });
    // Growth shows between the ends, whatever single samples do.
    let tenth = samples.len().div_ceil(10);
    let (first, last) = (middle(&samples[..tenth]), middle(&samples[samples.len() - tenth..]));
    samples.sort_by(f64::total_cmp);
    let (least, median, most) =
        (percentile(&samples, 0.0), percentile(&samples, 0.5), percentile(&samples, 1.0));
    let took = started.elapsed().as_secs_f64();
    println!(
        "{} requests in {took:.0} s ({:.0} a second, {rate:.0} wanted), {} without a whole 200",
        asked.seconds.len(),
        asked.seconds.len() as f64 / took,
        asked.failed
    );
    println!(
        "resident MiB: least {:.1}, median {:.1}, most {:.1} ({:+.1} % to {:+.1} % of the median)",
        least / 1024.0,
        median / 1024.0,
        most / 1024.0,
        (least / median - 1.0) * 100.0,
        (most / median - 1.0) * 100.0
    );
    println!(
        "median of the first tenth {:.1}, of the last {:.1} ({:+.1} %)",
        first / 1024.0,
        last / 1024.0,
        (last / first - 1.0) * 100.0
    );
}

fn middle(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

/// `VmRSS` of a process.
fn resident_kib(id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0.0)
}
