//! The record of a run: figures with everything that is needed to make them again.

use serde::Serialize;

use super::report::Report;

/// What `--json` and `--results` write.
#[derive(Debug, Serialize)]
pub struct Results<'a> {
    /// The suite; `None` for a single question.
    pub suite: Option<&'a str>,
    /// What the suite is.
    pub about: Option<&'a str>,
    /// The command, directories of absolute paths left out.
    pub command: String,
    /// The program's version.
    pub version: &'static str,
    /// Of the run, UTC, `2026-01-31`.
    pub date: String,
    /// Where it ran.
    pub machine: Machine,
    /// One a set.
    pub reports: &'a [Report],
}

/// A machine, by what matters for speed.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that the program may use.
    pub cores: usize,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find(|line| line.starts_with("model name"));
        let cpu = name.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
        Self {
            cpu: cpu.unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl<'a> Results<'a> {
    /// Of this run.
    pub fn new(suite: Option<(&'a str, &'a str)>, reports: &'a [Report]) -> Self {
        Self {
            suite: suite.map(|(name, _)| name),
            about: suite.map(|(_, about)| about),
            command: command(std::env::args()),
            version: env!("CARGO_PKG_VERSION"),
            date: jiff::Timestamp::now().strftime("%F").to_string(),
            machine: Machine::this(),
            reports,
        }
    }
}

fn command(arguments: impl Iterator<Item = String>) -> String {
    let short = |argument: String| match argument.rsplit_once('/') {
        Some((_, name)) if argument.starts_with('/') => name.to_owned(),
        _ => argument,
    };
    arguments.map(short).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_no_directory_of_the_machine() {
        let arguments = ["/usr/bin/weighbridge", "eval", "--data", "/home/me/rows.csv", "a/b.csv"];
        let command = command(arguments.map(str::to_owned).into_iter());
        assert_eq!(command, "weighbridge eval --data rows.csv a/b.csv");
    }
}
