//! Every parser of outside bytes against bad input: committed inputs, inputs made from them, and
//! a long run by hand.
//!
//! `tests/data/fuzz/<target>/` holds inputs that are nasty on purpose or have found a fault; the
//! inputs of `tests/data/translation/` join them. For longer:
//! `FUZZ_SECONDS=600 cargo test --test door fuzz_long -- --ignored --nocapture`, with
//! `FUZZ_TARGET=name` for targets whose name begins so. What it finds lies in
//! `target/fuzz-findings/` (of the target directory in use); a fixed one moves into the corpus.

mod mutate;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    test_runner::{TestCaseError, TestRunner},
};
use weighbridge::fuzz::{TARGETS, Target};

use mutate::{Mutation, Seeds, mutated};

/// Cases for each target in an ordinary run.
const CASES: u32 = 200;
/// Mutations of one input.
const MAX_MUTATIONS: usize = 8;
/// The corpus is read by people and cloned by everybody.
const MAX_CORPUS_BYTES: u64 = 200 * 1024;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz").join(target)
}

/// The files of a directory and of those in it, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Recorded inputs that are of a target's kind: `requests/*/anthropic.json` for
/// `request_anthropic`.
fn recorded(target: &str) -> Vec<PathBuf> {
    let Some((kind, dialect)) = target.split_once('_') else { return Vec::new() };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/translation");
    let mut found = files(&root.join(format!("{kind}s")));
    found.retain(|file| file.file_stem().is_some_and(|stem| stem == dialect));
    found
}

fn seeds(target: &str) -> Seeds {
    let files = files(&corpus(target)).into_iter().chain(recorded(target));
    let seeds: Vec<Vec<u8>> = files.map(|file| fs::read(file).unwrap()).collect();
    assert!(!seeds.is_empty(), "`{target}` has no input to start from");
    Seeds::new(seeds)
}

#[test]
fn every_input_of_the_corpus_is_taken_or_refused() {
    for (name, run) in TARGETS {
        for file in files(&corpus(name)).into_iter().chain(recorded(name)) {
            let bytes = fs::read(&file).unwrap();
            let outcome = catch_unwind(|| run(&bytes));
            assert!(outcome.is_ok(), "{name}: {}", file.display());
        }
        run(b"");
    }
}

#[test]
fn the_corpus_is_small_and_every_directory_is_a_targets() {
    let root = corpus("");
    let size: u64 = files(&root).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(size <= MAX_CORPUS_BYTES, "{size} bytes");
    for directory in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()) {
        assert!(TARGETS.iter().any(|(name, _)| directory == *name), "{directory:?}");
    }
}

#[test]
fn damaged_inputs_break_no_promise() {
    for (name, run) in TARGETS {
        let seeds = seeds(name);
        let steps = prop::collection::vec(any::<Mutation>(), 0..MAX_MUTATIONS);
        let mut runner = TestRunner::new(ProptestConfig {
            cases: CASES,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let outcome = runner.run(&(any::<usize>(), steps), |(seed, steps)| {
            let input = mutated(&seeds, seed, &steps);
            catch_unwind(|| run(&input)).map_err(|_| {
                TestCaseError::fail(format!("input: {}", String::from_utf8_lossy(&input)))
            })
        });
        assert!(outcome.is_ok(), "{name}: {}", outcome.unwrap_err());
    }
}

#[test]
#[ignore = "runs for FUZZ_SECONDS"]
fn fuzz_long() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let prefix = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let targets: Vec<&Target> =
        TARGETS.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
    assert!(!targets.is_empty(), "no target is named `{prefix}`");
    let total = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(60));
    let each = total / u32::try_from(targets.len()).unwrap();
    // The time makes each run another one; FUZZ_SEED repeats one.
    let clock = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("FUZZ_SEED").unwrap_or_else(clock);
    println!("FUZZ_SEED={seed}, {:.1} s for each of {} targets", each.as_secs_f64(), targets.len());
    let mut faults = 0;
    for target in targets {
        // A stack as small as those of the server's threads, and a name for an overflow.
        let thread = std::thread::Builder::new().name(target.0.to_owned()).stack_size(2 << 20);
        let run = move || long(target, each, seed);
        faults += thread.spawn(run).unwrap().join().unwrap();
    }
    assert_eq!(faults, 0, "inputs that broke a promise");
}

/// Runs one target for a time; returns how many faults it has met, each place counted once.
fn long((name, run): &Target, time: Duration, seed: u64) -> usize {
    let seeds = seeds(name);
    let mut random = mutate::Random::new(seed);
    let mut faults: Vec<String> = Vec::new();
    let start = Instant::now();
    let mut executions = 0_u64;
    let mut slowest = (Duration::ZERO, 0);
    while start.elapsed() < time {
        let steps: Vec<Mutation> =
            (0..random.below(MAX_MUTATIONS)).map(|_| random.mutation()).collect();
        let input = mutated(&seeds, random.below(usize::MAX), &steps);
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&input)));
        slowest = slowest.max((began.elapsed(), input.len()));
        executions += 1;
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let text = text.unwrap_or_default();
            // Values differ from input to input; the first words do not.
            let fault: String = text.chars().take_while(|c| !c.is_ascii_digit()).take(60).collect();
            if !faults.contains(&fault) {
                faults.push(fault);
                let target = std::env::var("CARGO_TARGET_DIR").unwrap_or("target".to_owned());
                let directory = Path::new(&target).join("fuzz-findings").join(name);
                fs::create_dir_all(&directory).unwrap();
                let file = directory.join(format!("{:08x}", crc32fast::hash(&input)));
                fs::write(&file, &input).unwrap();
                let first: String = text.chars().take(600).collect();
                println!("{name}: {first}\n  {} bytes in {}", input.len(), file.display());
            }
        }
    }
    let (slow, bytes) = slowest;
    println!(
        "{name}: {executions} executions in {:.1} s, {} faults; slowest {:.1} ms ({bytes} bytes)",
        start.elapsed().as_secs_f64(),
        faults.len(),
        slow.as_secs_f64() * 1e3,
    );
    faults.len()
}
