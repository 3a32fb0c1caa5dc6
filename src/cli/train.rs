//! `train`.

use std::process::ExitCode;

use clap::Args;

#[derive(Args)]
pub struct TrainArgs {}

pub fn train(_args: TrainArgs) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
