//! `train`: labelled prompts in, a model directory out.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Args;

use super::inputs;
use crate::{
    classify::model::{DEFAULT_MAX_TOKENS, Device, LoadOptions, Model, ModelFiles},
    evaluate::{
        embed::{self, Embedding},
        rows::Data,
    },
    train::{self, Trained, held_out, output, recipe::Recipe},
};

#[derive(Args)]
#[command(
    after_help = "A row of data is one line of JSON:\n  {\"id\": \"1\", \"prompt\": \"…\", \"results\": {\"gpt-5.5\": {\"score\": 1}, \"qwen3-8b\": {\"score\": 0}}}\nwith \"messages\" instead of \"prompt\" for conversations, and scores in 0..1.\n\nExamples:\n  weighbridge train --data labelled.jsonl --strong gpt-5.5 --weak qwen3-8b --out my-model\n  weighbridge score --model my-model 'Prove that the square root of 2 is irrational.'\n  weighbridge train --data rows/ --recipe models/weighbridge-minilm/recipe.toml --out my-model"
)]
pub struct TrainArgs {
    /// Labelled prompts, JSON Lines, plain or .gz; a directory means all such files in it
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// The strong model of the pair, as the data names it
    #[arg(long, value_name = "NAME", requires = "weak", required_unless_present = "recipe")]
    strong: Option<String>,
    /// The weak model of the pair, as the data names it
    #[arg(long, value_name = "NAME", requires = "strong")]
    weak: Option<String>,
    /// Train a general head on many models' results by this recipe, instead of one pair's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["strong", "weak"])]
    recipe: Option<PathBuf>,
    /// The model directory to write
    #[arg(long, value_name = "DIR", required_unless_present = "learning_curve")]
    out: Option<PathBuf>,
    /// Write no model; show what these numbers of labels are worth, judged on the rows they leave
    #[arg(
        long,
        value_name = "N,N,…",
        value_delimiter = ',',
        requires = "strong",
        conflicts_with = "out"
    )]
    learning_curve: Vec<usize>,
    /// Draws of labels behind each point of the learning curve
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    draws: u64,
    /// The model to start from: its encoder, and for a pair its head as prior [default: the one inside]
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    /// Decides folds and bootstrap draws
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Replace a head that exists
    #[arg(long)]
    force: bool,
    /// Keep embeddings in this file between runs
    #[arg(long, value_name = "FILE")]
    cache: Option<PathBuf>,
    /// Write the held-out score of every row to this file (JSON Lines)
    #[arg(long, value_name = "FILE", requires = "recipe")]
    held_out: Option<PathBuf>,
    /// Compare, row by row, with the held-out scores of another run
    #[arg(long, value_name = "FILE", requires = "recipe")]
    against: Option<PathBuf>,
    /// Where the encoder computes: auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: String,
}

pub fn train(args: TrainArgs) -> anyhow::Result<ExitCode> {
    let files = inputs::model_files(args.base.as_deref())?;
    let Some(out) = &args.out else {
        return learning_curve(&args, &files);
    };
    output::check_free(out, args.force)?;
    let trained = match (&args.recipe, &args.strong, &args.weak) {
        (Some(recipe), _, _) => general(&args, recipe, &files)?,
        (None, Some(strong), Some(weak)) => pair(&args, strong, weak, &files)?,
        // Clap asks for one or the other.
        (None, ..) => anyhow::bail!("name a pair with --strong and --weak, or a --recipe"),
    };
    println!("{}", trained.report);
    if let Some(path) = &args.held_out {
        held_out::write(path, &trained.held_out)?;
        eprintln!("wrote {}", path.display());
    }
    for path in output::write(out, files, &trained)? {
        eprintln!("wrote {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn general(
    args: &TrainArgs,
    path: &std::path::Path,
    files: &ModelFiles,
) -> anyhow::Result<Trained> {
    let (recipe, text) = Recipe::read(path)?;
    let mut paths = args.data.clone();
    if let Some(authored) = &recipe.authored {
        paths.push(authored.file.clone());
    }
    let data = Data::read(&paths)?;
    let model = load(args, files, recipe.max_tokens)?;
    let embedding = embedding(args, files, &model);
    train::train_general(
        data,
        &recipe,
        text,
        &model,
        &embedding,
        args.against.as_deref(),
        args.seed,
    )
}

fn pair(args: &TrainArgs, strong: &str, weak: &str, files: &ModelFiles) -> anyhow::Result<Trained> {
    let data = Data::read(&args.data)?;
    let model = load(args, files, DEFAULT_MAX_TOKENS)?;
    let embedding = embedding(args, files, &model);
    train::train_pair(data, strong, weak, &model, &embedding, args.seed)
}

fn learning_curve(args: &TrainArgs, files: &ModelFiles) -> anyhow::Result<ExitCode> {
    let (Some(strong), Some(weak)) = (&args.strong, &args.weak) else {
        anyhow::bail!("name a pair with --strong and --weak")
    };
    let data = Data::read(&args.data)?;
    let model = load(args, files, DEFAULT_MAX_TOKENS)?;
    let embedding = embedding(args, files, &model);
    let (counts, draws) = (&args.learning_curve, args.draws);
    let report = train::learning_curve(data, (strong, weak), &model, &embedding, counts, draws)?;
    println!("{report}");
    Ok(ExitCode::SUCCESS)
}

fn load(args: &TrainArgs, files: &ModelFiles, max_tokens: usize) -> anyhow::Result<Model> {
    let device = Device::from_name(&args.device)
        .with_context(|| format!("--device {}: use auto, cpu or cuda:N", args.device))?;
    let options = LoadOptions { device, max_tokens, ..LoadOptions::default() };
    Model::load(files, options).with_context(|| format!("the model {} cannot be used", files.name))
}

fn embedding<'a>(args: &'a TrainArgs, files: &ModelFiles, model: &Model) -> Embedding<'a> {
    Embedding {
        cache: args.cache.as_deref(),
        key: embed::key(files, model),
        progress: std::io::stderr().is_terminal(),
    }
}
