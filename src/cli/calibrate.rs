//! `calibrate-model`: where a model stands on the scale of the score.

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{ModelArg, inputs};
use crate::{
    config::ClassifierConfig,
    evaluate::{placement::Placement, rows::Data},
};

#[derive(Args)]
#[command(
    after_help = "Some tens of answers are enough to start with: the interval says how sure it is.\n\nExample:\n  weighbridge calibrate-model --data answers.jsonl --name qwen3-8b --max-failure 0.2"
)]
pub struct CalibrateArgs {
    /// Labelled prompts, in any layout that `eval` reads; a directory means all such files in it
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// The model, as the data names it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// How often the model may be expected to fail a prompt it is given
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    max_failure: f64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArg,
}

/// Scores at which the chance to fail is shown.
const SHOWN: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Prompts that are scored together.
const CHUNK: usize = 64;

pub fn calibrate(args: CalibrateArgs) -> anyhow::Result<ExitCode> {
    if !(0.0..=1.0).contains(&args.max_failure) {
        bail!("--max-failure is {}, which does not lie in 0..1", args.max_failure);
    }
    let data = Data::read(&args.data)?;
    let index = data.model(&args.name)?;
    let mut classifier = ClassifierConfig::default();
    inputs::apply(&args.model, &mut classifier)?;
    let model = inputs::load_model(&classifier)?;
    let rows = data.rows.iter().filter_map(|row| Some((row.text.as_str(), row.score(index)?)));
    let rows: Vec<(&str, f64)> = rows.collect();
    let mut answers = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        let texts: Vec<&str> = chunk.iter().map(|(text, _)| *text).collect();
        let scored = model.score(&texts)?;
        let answer = |(scored, (_, quality)): (&crate::classify::model::Scored, &(&str, f64))| {
            (f64::from(scored.score.get()), 1.0 - quality)
        };
        answers.extend(scored.iter().zip(chunk).map(answer));
    }
    let placed = Placement::fit(&answers);
    let below = placed.below(args.max_failure);
    let failed = answers.iter().map(|(_, fails)| fails).sum::<f64>() / answers.len() as f64;
    if args.json {
        let chances: Vec<_> = SHOWN
            .iter()
            .map(|score| json!({"score": score, "fails": placed.fails(*score)}))
            .collect();
        let found = json!({
            "model": args.name, "answers": placed.answers, "failed": failed,
            "slope": placed.slope, "intercept": placed.intercept, "chances": chances,
            "max_failure": args.max_failure, "below": below,
        });
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}: {} answers, {:.1} % failed\n\nscore  chance to fail [95 %]",
        args.name,
        placed.answers,
        100.0 * failed
    );
    for score in SHOWN {
        let chance = placed.fails(score);
        println!("{score:>5}  {:.2} [{:.2}, {:.2}]", chance.value, chance.low, chance.high);
    }
    match below {
        Some(below) => println!(
            "\nA tier of this model with `below = {below:.3}` gets no prompt that it is expected to \
             fail more often than {}.",
            args.max_failure
        ),
        None => println!("\nIts failures do not rise with the score: no threshold suits it."),
    }
    Ok(ExitCode::SUCCESS)
}
