//! What several commands read: the configuration and the model.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{ConfigArg, ModelArg};
use crate::{
    classify::model::{Device, Model, ModelFiles},
    config::{
        self, Config, ConfigError,
        catalogue::{LOCAL_FILE, Models},
        environment,
    },
    policy::Policy,
};

/// Looked for in the working directory when no file is named.
const DEFAULT_CONFIG: &str = "weighbridge.toml";

/// The file to read: the named one, or the default when it is there.
pub fn config_path(arg: &ConfigArg) -> Option<PathBuf> {
    arg.config.clone().or_else(|| {
        let default = Path::new(DEFAULT_CONFIG);
        default.exists().then(|| default.to_owned())
    })
}

/// The checked configuration; warnings go to stderr. `None` when there is no file.
pub fn load_config(arg: &ConfigArg) -> anyhow::Result<Option<Config>> {
    let Some(path) = config_path(arg) else { return Ok(None) };
    match config::load(&path) {
        Ok(checked) => {
            if !checked.warnings.list.is_empty() {
                eprintln!("{}", checked.warnings);
            }
            Ok(Some(checked.config))
        }
        Err(ConfigError::Invalid(problems)) => {
            eprintln!("{problems}");
            bail!("the configuration {} cannot be used", path.display())
        }
        Err(error) => Err(error.into()),
    }
}

/// The configuration that the environment offers when there is no file.
pub fn discovered() -> anyhow::Result<Config> {
    let models = Models::with_local_file(Path::new(LOCAL_FILE))?;
    let found = environment::discover(&environment::variable, &[], models).context(
        "there is no configuration and no provider key: run `weighbridge init`, or set one of the \
         variables that `weighbridge --help` names",
    )?;
    Ok(found.config)
}

/// A policy by name; the only one when its name was left at the default.
pub fn policy<'c>(config: &'c Config, name: &str) -> anyhow::Result<&'c Policy> {
    match config.policies.as_slice() {
        [only] if name == "auto" => Ok(only),
        policies => policies
            .iter()
            .find(|policy| policy.name() == name)
            .with_context(|| format!("there is no policy `{name}`")),
    }
}

/// Puts the flags into the configuration: they win.
pub fn apply(arg: &ModelArg, config: &mut Config) -> anyhow::Result<()> {
    if let Some(model) = &arg.model {
        config.classifier.model = Some(model.clone());
    }
    if let Some(device) = &arg.device {
        config.classifier.load.device = Device::from_name(device)
            .with_context(|| format!("--device {device}: use auto, cpu or cuda:N"))?;
    }
    Ok(())
}

/// The files of a model: the shipped one, a directory, or a name on the hub.
pub fn model_files(model: Option<&str>) -> anyhow::Result<ModelFiles> {
    let Some(model) = model else { return Ok(ModelFiles::shipped()) };
    let dir = Path::new(model);
    if dir.is_dir() {
        return Ok(ModelFiles::from_dir(dir)?);
    }
    #[cfg(feature = "hub")]
    if crate::classify::hub::is_name(model) {
        return Ok(ModelFiles::from_dir(&crate::classify::hub::fetch(model)?)?);
    }
    let hint = if cfg!(feature = "hub") {
        "no such directory, and not a name on the hub (OWNER/NAME)"
    } else {
        "no such directory (names on the hub need a build with the feature `hub`)"
    };
    bail!("the model {model} cannot be loaded: {hint}")
}

/// Loads the configured model.
pub fn load_model(config: &Config) -> anyhow::Result<Model> {
    let classifier = &config.classifier;
    let files = model_files(classifier.model.as_deref())?;
    let name = files.name.clone();
    Model::load(&files, classifier.load).with_context(|| format!("the model {name} cannot be used"))
}
