//! `check` and `init`: looking at a configuration.

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};

use super::{ConfigArg, InitArgs, inputs};
use crate::config::{self, ConfigError, template::TEMPLATE};

/// Prints every problem; fails when one of them is an error.
pub fn check(args: &ConfigArg) -> anyhow::Result<ExitCode> {
    let Some(path) = inputs::config_path(args) else {
        bail!(
            "there is no weighbridge.toml here; name a file with --config, or run `weighbridge init`"
        );
    };
    match config::load(&path) {
        Ok(checked) => {
            if !checked.warnings.list.is_empty() {
                println!("{}", checked.warnings);
            }
            let config = checked.config;
            println!(
                "{}: ok ({} providers, {} models, {} policies)",
                path.display(),
                config.providers.len(),
                config.models.len(),
                config.policies.len()
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(ConfigError::Invalid(problems)) => {
            println!("{problems}");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes the commented configuration.
pub fn init(args: &InitArgs) -> anyhow::Result<ExitCode> {
    if args.file == Path::new("-") {
        std::io::stdout().write_all(TEMPLATE.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let shown = args.file.display();
    match options.open(&args.file) {
        Ok(mut file) => file.write_all(TEMPLATE.as_bytes())?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{shown} exists; --force replaces it");
        }
        Err(error) => return Err(error).with_context(|| format!("{shown} cannot be written")),
    }
    println!("wrote {shown}; `weighbridge check --config {shown}` checks it");
    Ok(ExitCode::SUCCESS)
}
