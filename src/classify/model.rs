//! A model directory: encoder weights, tokeniser, head, and the checksums that pin them.
//!
//! The shipped model is part of the binary; [`ModelFiles::from_dir`] reads another of the same
//! shape. [`Model::load`] turns files into something that scores, or into one clear sentence.

use std::{borrow::Cow, path::Path};

use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::{
    bert::{BertConfig, Pooling},
    encoder::{Batching, Encoder, KernelChoice},
    head::{Head, HeadError},
    tokenize::Tokenizer,
    wordpiece::WordPieceError,
};
use crate::units::Probability;

/// Where the encoder computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first CUDA device when there is one and the program was built for it, else the CPU.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A CUDA device by its number.
    Cuda(usize),
}

impl Device {
    /// Reads `auto`, `cpu` or `cuda:N`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            _ => name.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda),
        }
    }
}

/// What loading can be told besides the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where the encoder computes.
    pub device: Device,
    /// How, on the CPU.
    pub kernel: KernelChoice,
    /// Bound on what is scored of a text, in tokens, special ones included.
    pub max_tokens: usize,
}

/// Measured (the model card has the table): routing quality on data sets left out in turn is the
/// same at 64, 128, 192, 256 and 512 tokens, while the cost grows; 128 leaves room for texts whose
/// question stands between what is pasted, at half the 25 ms that any prompt may cost.
pub const DEFAULT_MAX_TOKENS: usize = 128;

impl Default for LoadOptions {
    fn default() -> Self {
        Self { device: Device::Auto, kernel: KernelChoice::Auto, max_tokens: DEFAULT_MAX_TOKENS }
    }
}

/// The files of a model, each in memory.
pub struct ModelFiles {
    /// The directory's name, for messages and records.
    pub name: String,
    weights: Cow<'static, [u8]>,
    config: Cow<'static, [u8]>,
    pooling: Option<Cow<'static, [u8]>>,
    tokenizer: Cow<'static, [u8]>,
    head: Cow<'static, [u8]>,
    sums: Cow<'static, [u8]>,
}

/// The file names inside a model directory, in the order they are checked.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// BERT's own configuration.
pub const CONFIG_FILE: &str = "config.json";
/// The Hugging Face tokeniser.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// What `weighbridge train` writes.
pub const HEAD_FILE: &str = "head.safetensors";
/// `sha256sum` lines for the files above.
pub const SUMS_FILE: &str = "SHA256SUMS";
/// sentence-transformers' description of the pooling; mean when absent.
pub const POOLING_FILE: &str = "1_Pooling/config.json";

/// Why a model cannot be used: one sentence each.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file is missing or unreadable.
    #[error("the model file {path} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not the one that was published.
    #[error(
        "the model file {file} does not match its SHA-256 sum: expected {expected}, found {found}"
    )]
    Checksum {
        /// The file.
        file: String,
        /// From `SHA256SUMS`.
        expected: String,
        /// Computed.
        found: String,
    },
    /// `SHA256SUMS` says nothing of a file.
    #[error("SHA256SUMS does not list {0}, so the file cannot be trusted")]
    NotListed(String),
    /// `config.json` is not a BERT configuration.
    #[error("config.json does not describe a BERT encoder that can be run: {0}")]
    Config(String),
    /// Weights that do not fit the configuration, or a device that is not there.
    #[error("the encoder cannot be loaded: {0}")]
    Encoder(String),
    /// The tokeniser cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] WordPieceError),
    /// The head cannot be used.
    #[error(transparent)]
    Head(#[from] HeadError),
}

macro_rules! shipped {
    ($file:literal) => {
        Cow::Borrowed(
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/models/weighbridge-minilm/",
                $file
            ))
            .as_slice(),
        )
    };
}

impl ModelFiles {
    /// The model inside the binary.
    pub fn shipped() -> Self {
        Self {
            name: "weighbridge-minilm".to_owned(),
            weights: shipped!("model.safetensors"),
            config: shipped!("config.json"),
            pooling: None,
            tokenizer: shipped!("tokenizer.json"),
            head: shipped!("head.safetensors"),
            sums: shipped!("SHA256SUMS"),
        }
    }

    /// Reads a directory.
    pub fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let read = |file: &str| {
            let path = dir.join(file);
            std::fs::read(&path)
                .map(Cow::Owned)
                .map_err(|error| ModelError::Unreadable { path: path.display().to_string(), error })
        };
        Ok(Self {
            name: dir.file_name().map_or_else(
                || dir.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            ),
            weights: read(WEIGHTS_FILE)?,
            config: read(CONFIG_FILE)?,
            pooling: dir.join(POOLING_FILE).exists().then(|| read(POOLING_FILE)).transpose()?,
            tokenizer: read(TOKENIZER_FILE)?,
            head: read(HEAD_FILE)?,
            sums: read(SUMS_FILE)?,
        })
    }

    /// The files by name, as they are listed in `SHA256SUMS` and written to a new directory.
    pub fn named(&self) -> [(&'static str, &[u8]); 4] {
        [
            (WEIGHTS_FILE, &self.weights),
            (CONFIG_FILE, &self.config),
            (TOKENIZER_FILE, &self.tokenizer),
            (HEAD_FILE, &self.head),
        ]
    }

    /// Every file of the directory but `SHA256SUMS`: [`Self::named`], and the pooling where it is
    /// described.
    pub fn all(&self) -> Vec<(&'static str, &[u8])> {
        let pooling = self.pooling.as_deref().map(|bytes| (POOLING_FILE, bytes));
        self.named().into_iter().chain(pooling).collect()
    }

    /// The same encoder with another head.
    pub fn with_head(self, head: Vec<u8>) -> Self {
        let mut files = Self { head: Cow::Owned(head), ..self };
        files.sums = Cow::Owned(files.sums_text().into_bytes());
        files
    }

    /// `sha256sum` lines for [`Self::named`].
    pub fn sums_text(&self) -> String {
        self.named().iter().map(|(file, bytes)| format!("{}  {file}\n", sha256(bytes))).collect()
    }

    /// Checks every file against `SHA256SUMS`.
    fn verify(&self) -> Result<(), ModelError> {
        let sums = String::from_utf8_lossy(&self.sums);
        for (file, bytes) in self.named() {
            let expected = sums
                .lines()
                .filter_map(|line| line.split_once(char::is_whitespace))
                .find(|(_, name)| name.trim_start().trim_start_matches('*') == file)
                .map(|(sum, _)| sum.to_ascii_lowercase())
                .ok_or_else(|| ModelError::NotListed(file.to_owned()))?;
            let found = sha256(bytes);
            if found != expected {
                return Err(ModelError::Checksum { file: file.to_owned(), expected, found });
            }
        }
        Ok(())
    }
}

/// Lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A loaded model. Cheap to clone: clones share the weights, each scores on its own.
#[derive(Clone)]
pub struct Model {
    name: std::sync::Arc<str>,
    tokenizer: std::sync::Arc<Tokenizer>,
    encoder: Encoder,
    head: std::sync::Arc<Head>,
}

/// What scoring one text gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// How likely a small model's answer would not do.
    pub score: Probability,
    /// Tokens that went through the encoder, special tokens included.
    pub tokens: usize,
    /// What gave the score.
    pub stage: Stage,
}

/// What gave a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The whole head, encoder included.
    Encoder,
    /// Words and facts alone, because the score is far from every threshold.
    Static,
    /// An earlier request with the same text.
    Memory,
}

impl Stage {
    /// The label in metrics, logs and records.
    pub fn label(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Static => "static",
            Self::Memory => "memory",
        }
    }
}

impl Model {
    /// Verifies and loads.
    pub fn load(files: &ModelFiles, options: LoadOptions) -> Result<Self, ModelError> {
        files.verify()?;
        let config: BertConfig = serde_json::from_slice(&files.config)
            .map_err(|error| ModelError::Config(error.to_string()))?;
        config.check().map_err(ModelError::Config)?;
        let tensors = SafeTensors::deserialize(&files.weights)
            .map_err(|error| ModelError::Encoder(format!("{WEIGHTS_FILE}: {error}")))?;
        let pooling = pooling(files.pooling.as_deref())?;
        let LoadOptions { device, kernel, max_tokens } = options;
        let encoder = Encoder::load(&tensors, &config, pooling, device, kernel)?;
        let max_tokens = max_tokens.min(config.max_position_embeddings);
        let tokenizer = Tokenizer::from_json(&files.tokenizer, max_tokens)?;
        if tokenizer.id_bound() as usize > config.vocab_size {
            return Err(ModelError::Config(format!(
                "vocab_size is {}, but {TOKENIZER_FILE} gives ids up to {}",
                config.vocab_size,
                tokenizer.id_bound() - 1
            )));
        }
        Ok(Self {
            name: files.name.as_str().into(),
            tokenizer: tokenizer.into(),
            encoder,
            head: Head::from_bytes(&files.head, config.hidden_size)?.into(),
        })
    }

    /// The directory's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What computes: a kernel's name, `candle` or `cuda`.
    pub fn encoder_name(&self) -> String {
        self.encoder.name()
    }

    /// The head in force, to keep.
    pub fn shared_head(&self) -> std::sync::Arc<Head> {
        std::sync::Arc::clone(&self.head)
    }

    /// Tokens of a text that are scored at most, special ones included.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// How scoring work is best given to it.
    pub fn batching(&self) -> Batching {
        self.encoder.batching()
    }

    /// The head in force.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Token ids of a text, bounded, special tokens included.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text)
    }

    /// One L2-normalised embedding a sequence of [`Self::tokens`].
    pub fn embed(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.encoder.embed(batch)
    }

    /// Scores texts: the one function behind the gateway, the `score` command, training and
    /// evaluation. The result for a text does not depend on its neighbours.
    pub fn score(&self, texts: &[&str]) -> Result<Vec<Scored>, ModelError> {
        let tokens: Vec<_> = texts.iter().map(|text| self.tokens(text)).collect();
        let sequences: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let embeddings = self.embed(&sequences)?;
        let scored = texts
            .iter()
            .zip(&tokens)
            .zip(&embeddings)
            .map(|((text, tokens), embedding)| Scored {
                score: self.head.score(text, embedding),
                tokens: tokens.len(),
                stage: Stage::Encoder,
            })
            .collect();
        Ok(scored)
    }
}

fn pooling(config: Option<&[u8]>) -> Result<Pooling, ModelError> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        pooling_mode_cls_token: bool,
        #[serde(default)]
        pooling_mode_mean_tokens: bool,
    }
    let Some(config) = config else { return Ok(Pooling::Mean) };
    match serde_json::from_slice::<Config>(config) {
        Ok(Config { pooling_mode_cls_token: true, .. }) => Ok(Pooling::Cls),
        Ok(Config { pooling_mode_mean_tokens: true, .. }) => Ok(Pooling::Mean),
        Ok(_) => Err(ModelError::Config(format!("{POOLING_FILE} asks for neither mean nor CLS"))),
        Err(error) => Err(ModelError::Config(format!("{POOLING_FILE}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy_of_shipped() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let files = ModelFiles::shipped();
        for (name, bytes) in files.named() {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        std::fs::write(dir.path().join(SUMS_FILE), files.sums_text()).unwrap();
        dir
    }

    fn refusal(dir: &Path) -> String {
        match ModelFiles::from_dir(dir)
            .and_then(|files| Model::load(&files, LoadOptions::default()))
        {
            Ok(_) => panic!("the model was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_changed_byte_is_found_by_its_checksum() {
        let dir = copy_of_shipped();
        let path = dir.path().join(WEIGHTS_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains("model.safetensors does not match its SHA-256 sum"), "{message}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = copy_of_shipped();
        std::fs::remove_file(dir.path().join(TOKENIZER_FILE)).unwrap();
        assert!(refusal(dir.path()).contains("tokenizer.json cannot be read"));
    }

    #[test]
    fn a_shape_that_does_not_fit_is_named() {
        let dir = copy_of_shipped();
        let config = std::fs::read_to_string(dir.path().join(CONFIG_FILE)).unwrap();
        let config = config.replace("\"intermediate_size\": 1536", "\"intermediate_size\": 1024");
        std::fs::write(dir.path().join(CONFIG_FILE), &config).unwrap();
        let sums = ModelFiles::from_dir(dir.path()).unwrap().sums_text();
        std::fs::write(dir.path().join(SUMS_FILE), sums).unwrap();
        let message = refusal(dir.path());
        assert!(message.contains("intermediate.dense.weight"), "{message}");
        assert!(message.contains("[1024, 384]"), "{message}");
    }

    #[test]
    fn a_device_that_is_not_there_is_one_sentence() {
        if cfg!(feature = "cuda") {
            return;
        }
        let files = ModelFiles::shipped();
        let Err(error) =
            Model::load(&files, LoadOptions { device: Device::Cuda(0), ..LoadOptions::default() })
        else {
            panic!("there is no CUDA device in this build")
        };
        assert!(error.to_string().contains("built without the feature `cuda`"), "{error}");
    }

    #[test]
    fn devices_are_read_by_name() {
        assert_eq!(Device::from_name("cuda:1"), Some(Device::Cuda(1)));
        assert_eq!(Device::from_name("auto"), Some(Device::Auto));
        assert_eq!(Device::from_name("gpu"), None);
    }
}
