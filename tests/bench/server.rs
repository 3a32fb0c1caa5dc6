//! What the benches over sockets share: the real binary as a child, percentiles.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A child process that dies with the benchmark.
pub struct Server {
    /// The process.
    pub child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl Server {
    /// Starts the binary and waits until it says where it listens.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weighbridge"))
            .args(arguments)
            .env_clear()
            .env("RUST_LOG", "error")
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
