//! `score`: texts in, scores and decisions out, nothing forwarded.
//!
//! One thread reads lines and hands texts to the scoring queue, this one prints results in the
//! order of the lines as they come: memory stays bounded for a file of any length, and a line
//! typed into a pipe is answered at once.

use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{ConfigArg, ModelArg, inputs};
use crate::{
    classify::{
        extract::text_to_weigh,
        model::Scored,
        queue::{NoScore, QueueSettings, ScoringQueue},
    },
    config::{
        Config,
        catalogue::{LOCAL_FILE, Models},
        environment,
    },
    gateway::needs,
    policy::{Needs, Override, Policy, Reason},
    protocol::{incoming::Incoming, neutral::Surface},
    units::Probability,
};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  weighbridge score 'Prove that the square root of 2 is irrational.'\n  weighbridge score --input prompts.jsonl > scores.jsonl\n  tail -f prompts.jsonl | weighbridge score --input -"
)]
pub struct ScoreArgs {
    /// The text to score
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    text: Option<String>,
    /// JSON Lines of {"id", "prompt"} or {"id", "messages"}; `-` for standard input
    #[arg(long, value_name = "FILE|-")]
    input: Option<PathBuf>,
    /// The policy to decide with [default: the only one, or auto]
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    model: ModelArg,
}

/// Texts in flight at once: enough to keep every worker busy.
const IN_FLIGHT: usize = 128;
/// Longest line accepted.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

type Reply = oneshot::Receiver<Result<Scored, NoScore>>;

/// One line of input on its way to one line of output.
enum Item {
    Scoring { id: Value, needs: Needs, reply: Reply },
    Bad { id: Value, line: usize, error: String },
}

pub fn score(args: ScoreArgs) -> anyhow::Result<ExitCode> {
    let mut config = match inputs::load_config(&args.config)? {
        Some(config) => config,
        None => {
            let models = Models::with_local_file(Path::new(LOCAL_FILE))?;
            environment::discover(&environment::variable, &[], models)
                .or_else(|| {
                    environment::scripted(reqwest::Url::parse("http://scripted.invalid/").ok()?)
                })
                .context("the built-in configuration is broken")?
                .config
        }
    };
    inputs::apply(&args.model, &mut config.classifier)?;
    let policy = inputs::policy(&config, args.policy.as_deref())?;
    let model = inputs::load_model(&config.classifier)?;
    let settings = QueueSettings { capacity: 2 * IN_FLIGHT, ..config.classifier.queue.clone() };
    let queue = ScoringQueue::start(&model, settings)?;

    let thresholds = policy.thresholds(Override::default());

    let (input, progress) = open(&args)?;
    let (sender, receiver) = sync_channel(IN_FLIGHT);
    let mut printer = Printer { config: &config, policy, failed: false };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    std::thread::scope(|scope| {
        scope.spawn(|| read_lines(input, &queue, &thresholds, sender, &progress));
        let printed = printer.print_all(&receiver, &mut out);
        // Ends the reader, which may still be waiting to hand over a line.
        drop(receiver);
        printed
    })?;
    progress.finish_and_clear();
    Ok(if printer.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The input as lines of JSON, and a progress bar where a person watches.
fn open(args: &ScoreArgs) -> anyhow::Result<(Box<dyn BufRead + Send>, ProgressBar)> {
    let Some(path) = &args.input else {
        let text = args.text.as_deref().unwrap_or_default();
        let line = json!({"id": null, "prompt": text}).to_string();
        return Ok((Box::new(std::io::Cursor::new(line)), ProgressBar::hidden()));
    };
    if path == Path::new("-") {
        return Ok((Box::new(BufReader::new(std::io::stdin())), ProgressBar::hidden()));
    }
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if file.metadata()?.is_dir() {
        bail!("{} is a directory", path.display());
    }
    let watched = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
    let progress = if watched {
        ProgressBar::new(file.metadata()?.len())
            .with_style(ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}")?)
    } else {
        ProgressBar::hidden()
    };
    Ok((Box::new(BufReader::new(file)), progress))
}

/// Reads lines, queues their texts, and passes on what to wait for, in order.
fn read_lines(
    mut input: Box<dyn BufRead + Send>,
    queue: &ScoringQueue,
    thresholds: &[Probability],
    sender: SyncSender<Item>,
    progress: &ProgressBar,
) {
    let mut buffer = Vec::new();
    for line in 1.. {
        buffer.clear();
        let read = std::io::Read::take(&mut input, MAX_LINE_BYTES).read_until(b'\n', &mut buffer);
        let item = match read {
            Ok(0) => return,
            Ok(bytes) => {
                progress.inc(bytes as u64);
                if buffer.trim_ascii().is_empty() {
                    continue;
                }
                read_line(line, &buffer, queue, thresholds)
            }
            Err(error) => {
                let error = format!("the input cannot be read on: {error}");
                // The printer may have gone; then nobody wants to hear of it.
                let _ = sender.send(Item::Bad { id: Value::Null, line, error });
                return;
            }
        };
        if sender.send(item).is_err() {
            return;
        }
    }
}

/// One line: its id, what it needs, and its place in the queue.
fn read_line(line: usize, bytes: &[u8], queue: &ScoringQueue, thresholds: &[Probability]) -> Item {
    let mut fields: Map<String, Value> = match serde_json::from_slice(bytes) {
        Ok(fields) => fields,
        Err(error) => {
            return Item::Bad {
                id: Value::Null,
                line,
                error: format!("not a JSON object: {error}"),
            };
        }
    };
    let id = fields.remove("id").unwrap_or_else(|| json!(line));
    let messages = match (fields.remove("messages"), fields.remove("prompt")) {
        (Some(messages), _) => messages,
        (None, Some(Value::String(prompt))) => json!([{"role": "user", "content": prompt}]),
        (None, Some(_)) => {
            return Item::Bad { id, line, error: "`prompt` is not a string".to_owned() };
        }
        (None, None) => {
            let error = "has neither `prompt` nor `messages`".to_owned();
            return Item::Bad { id, line, error };
        }
    };
    let body = json!({"model": "auto", "messages": messages}).to_string();
    let request = match Incoming::parse(Surface::OpenAiChat, body.as_bytes()) {
        Ok(request) => request,
        Err(error) => return Item::Bad { id, line, error: error.to_string() },
    };
    let text = text_to_weigh(&request.messages).into_owned();
    let reply = match queue.at_once(&text, thresholds) {
        Some(scored) => {
            let (sender, reply) = oneshot::channel();
            // The receiver is right here.
            let _ = sender.send(Ok(scored));
            Ok(reply)
        }
        // The channel bounds what is in flight below the queue's capacity, so it is never full.
        None => queue.submit(text, None),
    };
    match reply {
        Ok(reply) => Item::Scoring { id, needs: needs(&request), reply },
        Err(error) => Item::Bad { id, line, error: error.to_string() },
    }
}

struct Printer<'c> {
    config: &'c Config,
    policy: &'c Policy,
    failed: bool,
}

impl Printer<'_> {
    fn print_all(&mut self, items: &Receiver<Item>, out: &mut impl Write) -> std::io::Result<()> {
        loop {
            let item = match items.try_recv() {
                Ok(item) => item,
                Err(TryRecvError::Disconnected) => return out.flush(),
                Err(TryRecvError::Empty) => {
                    // Nothing to do but wait: show what there is.
                    out.flush()?;
                    match items.recv() {
                        Ok(item) => item,
                        Err(_) => return Ok(()),
                    }
                }
            };
            let line = self.line(item);
            writeln!(out, "{line}")?;
        }
    }

    fn line(&mut self, item: Item) -> Value {
        let (id, needs, reply) = match item {
            Item::Scoring { id, needs, reply } => (id, needs, reply),
            Item::Bad { id, line, error } => {
                self.failed = true;
                eprintln!("line {line}: {error}");
                return json!({"id": id, "line": line, "error": error});
            }
        };
        let scored = match reply.blocking_recv() {
            Ok(Ok(scored)) => Ok(scored),
            Ok(Err(_)) | Err(_) => {
                self.failed = true;
                Err(Reason::ClassifierUnavailable)
            }
        };
        let score = scored.map(|scored| scored.score);
        let decision = self.policy.decide(&self.config.models, &needs, score, Override::default());
        let model = decision.route.first().and_then(|c| self.config.models.get(c.model));
        json!({
            "id": id,
            "score": decision.score.ok().map(|score| (f64::from(score.get()) * 1e6).round() / 1e6),
            "tier": self.policy.tiers().get(decision.tier).map(|tier| &tier.name),
            "policy": self.policy.name(),
            "model": model.map(|card| &card.name),
            "reason": decision.reason.label(),
            "stage": scored.ok().map(|scored| scored.stage.label()),
        })
    }
}
