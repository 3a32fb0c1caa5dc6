//! What the benches over sockets share: the real binary as a child, percentiles.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// The key of the gateway that asks for one.
pub const KEY: &str = "wb-the-key-of-the-benchmark";

/// A child process that dies with the benchmark.
pub struct Server {
    /// The process.
    pub child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
}

/// The word of the command line that follows this one.
pub fn word_after(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}

/// The binary that is measured: that behind the word `binary`, or the one built beside the bench.
fn binary() -> String {
    word_after("binary").unwrap_or_else(|| env!("CARGO_BIN_EXE_weighbridge").to_owned())
}

impl Server {
    /// Starts the scripted upstream and waits until it listens.
    pub fn upstream() -> Self {
        Self::start(&binary(), &["mock", "--listen", "127.0.0.1:0"])
    }

    /// The same with a gateway.
    pub fn gateway(config: &str) -> Self {
        Self::gateway_of(&binary(), config)
    }

    /// The same with another build's gateway.
    pub fn gateway_of(binary: &str, config: &str) -> Self {
        Self::start(binary, &["serve", "--listen", "127.0.0.1:0", "--config", config])
    }

    fn start(binary: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(binary)
            .args(arguments)
            .env_clear()
            .env("RUST_LOG", "error")
            .env("BENCH_KEY", KEY)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let out = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut lines = out.lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| Some(line.split("http://").nth(1)?.split('/').next()?.to_owned()))
            .expect("it says where it listens");
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value below which `share` of the sorted values lie.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Prints p50 and p99 of each arm in microseconds, and what they add to the first arm's. `times`
/// are seconds; they are sorted.
pub fn print_arms<'n>(names: impl Iterator<Item = &'n str>, times: &mut [Vec<f64>]) {
    println!("{:<26} {:>8} {:>8} {:>10} {:>10}", "", "p50", "p99", "adds p50", "adds p99");
    let mut first = None;
    for (name, times) in names.zip(times) {
        times.sort_by(f64::total_cmp);
        let (p50, p99) = (percentile(times, 0.5) * 1e6, percentile(times, 0.99) * 1e6);
        let (base50, base99) = *first.get_or_insert((p50, p99));
        println!("{name:<26} {p50:>8.0} {p99:>8.0} {:>10.0} {:>10.0}", p50 - base50, p99 - base99);
    }
}
