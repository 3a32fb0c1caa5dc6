//! What several commands read: the configuration and the model.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{ConfigArg, ModelArg};
use crate::{
    classify::model::{Device, Model, ModelFiles},
    config::{
        self, ClassifierConfig, Config, ConfigError,
        catalogue::{LOCAL_FILE, Models},
        environment,
    },
    evaluate::Loaded,
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

/// The named policy; without a name the only one, or of several `auto`.
pub fn policy<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<&'c Policy> {
    let policies = config.policies.as_slice();
    if let ([only], None) = (policies, name) {
        return Ok(only);
    }
    let name = name.unwrap_or("auto");
    policies.iter().find(|policy| policy.name() == name).with_context(|| {
        let names: Vec<&str> = policies.iter().map(Policy::name).collect();
        format!("there is no policy `{name}`; name one with --policy: {}", names.join(", "))
    })
}

/// Puts the flags into the configuration: they win.
pub fn apply(arg: &ModelArg, classifier: &mut ClassifierConfig) -> anyhow::Result<()> {
    if let Some(model) = &arg.model {
        classifier.model = Some(model.clone());
    }
    if let Some(device) = &arg.device {
        classifier.load.device = Device::from_name(device)
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

/// The model that judges offline, pinned by its files: the one of the flags, else the configured
/// one, with the configured bound on what is scored.
pub fn pinned_model(arg: &ModelArg, config: &Config) -> anyhow::Result<Loaded> {
    let mut classifier = config.classifier.clone();
    apply(arg, &mut classifier)?;
    let (files, model) = loaded(&classifier)?;
    Ok(Loaded::new(&files, model))
}

/// Loads the configured model.
pub fn load_model(classifier: &ClassifierConfig) -> anyhow::Result<Model> {
    loaded(classifier).map(|(_, model)| model)
}

fn loaded(classifier: &ClassifierConfig) -> anyhow::Result<(ModelFiles, Model)> {
    let files = model_files(classifier.model.as_deref())?;
    let model = Model::load(&files, classifier.load)
        .with_context(|| format!("the model {} cannot be used", files.name))?;
    Ok((files, model))
}
