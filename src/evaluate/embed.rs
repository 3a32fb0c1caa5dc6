//! Embeds all texts, on every core, in order; and remembers them in a file when asked to.
//!
//! Each thread has its own clone of the model and takes one text at a time, as serving does, so
//! an embedding is the one that the text will have when it is served. A cache file can be cut off
//! at any byte and be gone on with.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use ndarray::Array2;
use sha2::{Digest as _, Sha256};

use crate::classify::model::{HEAD_FILE, Model, ModelFiles, sha256};

/// How embedding is done.
#[derive(Default)]
pub struct Embedding<'a> {
    /// A file that keeps embeddings between runs.
    pub cache: Option<&'a Path>,
    /// What the embeddings depend on besides the text: a cache with another key starts afresh.
    pub key: String,
    /// Whether a person watches.
    pub progress: bool,
}

impl Embedding<'_> {
    /// Embeddings of all texts, `[n, hidden]`.
    pub fn of(&self, model: &Model, texts: &[&str]) -> anyhow::Result<Array2<f64>> {
        let hidden = model.head().embedding.len();
        let bar = if self.progress {
            let style = "embedding {bar:40} {pos}/{len} prompts, {eta} left";
            ProgressBar::new(texts.len() as u64).with_style(ProgressStyle::with_template(style)?)
        } else {
            ProgressBar::hidden()
        };
        let embeddings = Embedder::open(model, self.cache, &self.key)?.embed(texts, &bar)?;
        bar.finish_and_clear();
        let mut matrix = Array2::zeros((texts.len(), hidden));
        for (mut row, embedding) in matrix.rows_mut().into_iter().zip(embeddings) {
            row.iter_mut().zip(embedding).for_each(|(to, from)| *to = f64::from(from));
        }
        Ok(matrix)
    }
}

/// What the embeddings of a model depend on besides the text.
pub fn key(files: &ModelFiles, model: &Model) -> String {
    let encoder: String = files
        .named()
        .iter()
        .filter(|(name, _)| *name != HEAD_FILE)
        .map(|(_, bytes)| sha256(bytes))
        .collect();
    format!("{encoder} {} {}", model.max_tokens(), model.encoder_name())
}

/// Embeds texts as they come, with a cache that stays open.
pub struct Embedder<'m> {
    model: &'m Model,
    cache: Option<Cache>,
    is_checked: bool,
}

impl<'m> Embedder<'m> {
    /// Opens the cache, where there is one, and makes it ready for this key.
    pub fn open(model: &'m Model, cache: Option<&Path>, key: &str) -> anyhow::Result<Self> {
        let hidden = model.head().embedding.len();
        let open = |path: &Path| {
            Cache::open(path, key, hidden)
                .with_context(|| format!("the cache {} cannot be used", path.display()))
        };
        Ok(Self { model, cache: cache.map(open).transpose()?, is_checked: false })
    }

    /// Embeddings of the texts, in order; `bar` moves by one a text.
    pub fn embed(&mut self, texts: &[&str], bar: &ProgressBar) -> anyhow::Result<Vec<Vec<f32>>> {
        let hidden = self.model.head().embedding.len();
        self.check(texts)?;
        let mut found: Vec<Option<Vec<f32>>> = Vec::with_capacity(texts.len());
        for text in texts {
            found.push(match &mut self.cache {
                Some(cache) => cache.get(text)?,
                None => None,
            });
        }
        let missing: Vec<usize> =
            (0..texts.len()).filter(|at| found.get(*at).is_some_and(Option::is_none)).collect();
        bar.inc((texts.len() - missing.len()) as u64);
        embed_missing(self.model, texts, &missing, |at, embedding| {
            if let (Some(cache), Some(text)) = (&mut self.cache, texts.get(at)) {
                cache.add(text, &embedding)?;
            }
            if let Some(place) = found.get_mut(at) {
                *place = Some(embedding);
            }
            bar.inc(1);
            Ok(())
        })?;
        if let Some(cache) = &mut self.cache {
            cache.file.flush()?;
        }
        let embeddings: Vec<Vec<f32>> = found.into_iter().map(Option::unwrap_or_default).collect();
        if let Some(wrong) = embeddings.iter().find(|embedding| embedding.len() != hidden) {
            bail!("the encoder gave {} numbers where the head has {hidden}", wrong.len());
        }
        Ok(embeddings)
    }

    /// Embeds one known text again: another build of the encoder empties the cache.
    fn check(&mut self, texts: &[&str]) -> anyhow::Result<()> {
        let Some(cache) = self.cache.as_mut().filter(|_| !self.is_checked) else { return Ok(()) };
        for text in texts {
            let Some(known) = cache.get(text)? else { continue };
            self.is_checked = true;
            let again = self.model.embed(&[&self.model.tokens(text)])?;
            let again = again.into_iter().next().unwrap_or_default();
            if known.iter().zip(&again).any(|(a, b)| (a - b).abs() > SAME) {
                cache.clear()?;
            }
            break;
        }
        Ok(())
    }
}

/// Embeds the texts at `missing` and hands each over as it comes, in no order.
fn embed_missing(
    model: &Model,
    texts: &[&str],
    missing: &[usize],
    mut take: impl FnMut(usize, Vec<f32>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (sender, receiver) = mpsc::sync_channel(4 * threads);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(missing.len()) {
            let (sender, model, next) = (sender.clone(), model.clone(), &next);
            scope.spawn(move || {
                while let Some(at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tokens = model.tokens(texts.get(*at).copied().unwrap_or_default());
                    let embedding = model
                        .embed(&[&tokens])
                        .map(|rows| rows.into_iter().next().unwrap_or_default());
                    // The receiver goes away when another thread failed.
                    if sender.send((*at, embedding)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (at, embedding) in receiver {
            take(at, embedding?)?;
        }
        Ok(())
    })
}

type TextDigest = [u8; 32];

fn digest(text: &str) -> TextDigest {
    Sha256::digest(text).into()
}

/// `key digest, then records of text digest and embedding`, all of fixed length. The embeddings
/// stay in the file: memory holds where each one is.
struct Cache {
    file: BufWriter<File>,
    reader: File,
    key: TextDigest,
    hidden: usize,
    /// Where each text's embedding starts.
    known: HashMap<TextDigest, u64>,
    end: u64,
}

/// Two embeddings of one text differ by less than this when the same encoder made them.
const SAME: f32 = 1e-4;

impl Cache {
    fn open(path: &Path, key: &str, hidden: usize) -> std::io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        let key = digest(key);
        let (file, reader) = (BufWriter::new(file), File::open(path)?);
        let mut cache = Self { file, reader, key, hidden, known: HashMap::new(), end: 0 };
        let mut records = BufReader::new(File::open(path)?);
        let mut text = TextDigest::default();
        if length < 32 || records.read_exact(&mut text).is_err() || text != key {
            cache.clear()?;
            return Ok(cache);
        }
        cache.end = 32;
        // A record that was cut off is written over.
        while cache.end + 32 + cache.bytes() <= length {
            records.read_exact(&mut text)?;
            records.seek_relative(cache.bytes() as i64)?;
            cache.known.insert(text, cache.end + 32);
            cache.end += 32 + cache.bytes();
        }
        cache.file.seek(SeekFrom::Start(cache.end))?;
        Ok(cache)
    }

    /// Of one embedding.
    fn bytes(&self) -> u64 {
        4 * self.hidden as u64
    }

    fn clear(&mut self) -> std::io::Result<()> {
        self.known.clear();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.get_ref().set_len(0)?;
        self.file.write_all(&self.key)?;
        self.end = 32;
        Ok(())
    }

    fn get(&mut self, text: &str) -> std::io::Result<Option<Vec<f32>>> {
        let Some(start) = self.known.get(&digest(text)).copied() else { return Ok(None) };
        self.file.flush()?;
        let mut bytes = vec![0; 4 * self.hidden];
        self.reader.seek(SeekFrom::Start(start))?;
        self.reader.read_exact(&mut bytes)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(Some(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()))
    }

    fn add(&mut self, text: &str, embedding: &[f32]) -> std::io::Result<()> {
        let text = digest(text);
        self.file.write_all(&text)?;
        for number in embedding {
            self.file.write_all(&number.to_le_bytes())?;
        }
        self.known.insert(text, self.end + 32);
        self.end += 32 + 4 * embedding.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_survives_being_cut_off_and_forgets_another_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("embeddings");
        let mut cache = Cache::open(&path, "encoder", 2).unwrap();
        cache.add("one", &[1.0, 2.0]).unwrap();
        cache.add("two", &[3.0, 4.0]).unwrap();
        drop(cache);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();

        let mut cache = Cache::open(&path, "encoder", 2).unwrap();
        assert_eq!(cache.known.len(), 1);
        assert_eq!(cache.get("one").unwrap().unwrap(), [1.0, 2.0]);
        cache.add("two", &[5.0, 6.0]).unwrap();
        assert_eq!(cache.get("two").unwrap().unwrap(), [5.0, 6.0], "what was added is known");
        drop(cache);
        let mut cache = Cache::open(&path, "encoder", 2).unwrap();
        assert_eq!(cache.get("two").unwrap().unwrap(), [5.0, 6.0]);
        drop(cache);
        assert!(Cache::open(&path, "another", 2).unwrap().known.is_empty());
        assert!(Cache::open(&path, "encoder", 2).unwrap().known.is_empty());
    }
}
