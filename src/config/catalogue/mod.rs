//! What the product knows of providers and models before anybody configures them, as data.
//!
//! [`provider`] says where a provider listens and what it speaks; [`model`] what a model costs
//! and can do. The rows inside the program are `providers.toml` and `models.json`; a local file
//! that `weighbridge models --refresh` writes wins over the latter, and a configuration overrides
//! all of it. [`Models`] is the way to look a model up.

pub mod file;
pub mod litellm;
pub mod model;
pub mod provider;
pub mod refresh;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

pub use file::{CatalogueFile, FileError};
pub use model::{AbovePrice, ListPrice, ModelFacts, Provenance};
pub use provider::{Auth, JsonSchema, ProviderEntry, Quirks, ToolCallIds, find};

use crate::policy::ModelCard;

const MODELS: &str = include_str!("models.json");
/// Where the local catalogue is looked for, beside the configuration.
pub const LOCAL_FILE: &str = "weighbridge-models.json";
/// Largest local catalogue that is read (chosen: a hundred times what the shipped one needs).
pub const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// The model catalogue: the shipped rows and the local ones, which win.
#[derive(Debug, Clone, Default)]
pub struct Models {
    local: Option<Arc<CatalogueFile>>,
}

/// Why a local catalogue cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// It cannot be read.
    #[error("the local catalogue {} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is larger than [`MAX_FILE_BYTES`].
    #[error("the local catalogue {} is larger than {MAX_FILE_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It says something that does not work.
    #[error("the local catalogue {} cannot be used: {error}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: FileError,
    },
}

impl Models {
    /// The shipped rows with those of a local file over them; a file that is not there has none.
    pub fn with_local_file(path: &Path) -> Result<Self, LocalError> {
        let size = match std::fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(LocalError::Unreadable { path: path.to_owned(), error }),
        };
        if size > MAX_FILE_BYTES {
            return Err(LocalError::TooLarge(path.to_owned()));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| LocalError::Unreadable { path: path.to_owned(), error })?;
        let file = CatalogueFile::parse(&text)
            .map_err(|error| LocalError::Invalid { path: path.to_owned(), error })?;
        Ok(Self::with_local(file))
    }

    /// The shipped rows with these over them.
    pub fn with_local(file: CatalogueFile) -> Self {
        Self { local: Some(Arc::new(file)) }
    }

    /// The rows inside the program.
    pub fn shipped() -> &'static CatalogueFile {
        static SHIPPED: OnceLock<CatalogueFile> = OnceLock::new();
        // A test holds the shipped file to parse; a broken one would leave the catalogue empty.
        SHIPPED.get_or_init(|| CatalogueFile::parse(MODELS).unwrap_or_default())
    }

    /// The local rows.
    pub fn local(&self) -> Option<&CatalogueFile> {
        self.local.as_deref()
    }

    /// What is known of a model, by the provider's name in the catalogue and the model's name
    /// there.
    pub fn find(&self, provider: &str, model: &str) -> Option<&ModelFacts> {
        let local = self.local().and_then(|local| local.find(provider, model));
        match local {
            Some(row) => row,
            None => Self::shipped().find(provider, model).flatten(),
        }
    }

    /// Whether what is known of a model stands in the local file.
    pub fn is_local(&self, provider: &str, model: &str) -> bool {
        self.local().is_some_and(|local| local.find(provider, model).is_some())
    }

    /// The card of a model that no configuration describes; empty where nothing is known of it.
    /// `catalogue` is the provider's name in the catalogue.
    pub fn card(
        &self,
        name: &str,
        provider: &str,
        catalogue: &str,
        upstream_name: &str,
    ) -> ModelCard {
        match self.find(catalogue, upstream_name) {
            Some(facts) => facts.card(name, provider, upstream_name),
            None => ModelCard {
                name: name.to_owned(),
                provider: provider.to_owned(),
                upstream_name: upstream_name.to_owned(),
                ..ModelCard::default()
            },
        }
    }

    /// Every model, by provider and name.
    pub fn all(&self) -> Vec<(&str, &str, &ModelFacts)> {
        let files = [Some(Self::shipped()), self.local()];
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (provider, models) in files.into_iter().flatten().flat_map(|file| &file.rows) {
            names.entry(provider).or_default().extend(models.keys().map(String::as_str));
        }
        let flat =
            names.into_iter().flat_map(|(p, models)| models.into_iter().map(move |m| (p, m)));
        flat.filter_map(|(provider, model)| Some((provider, model, self.find(provider, model)?)))
            .collect()
    }
}
