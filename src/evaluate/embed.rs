//! Embeds all texts, on every core, in order; and remembers them in a file when asked to.
//!
//! Each thread has its own clone of the model and takes one text at a time, as serving does, so
//! an embedding is the one that the text will have when it is served. A cache file can be cut off
//! at any byte and be gone on with.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
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

use crate::classify::model::Model;

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
        let mut cache = match self.cache {
            Some(path) => Some(
                Cache::open(path, &self.key, hidden)
                    .with_context(|| format!("the cache {} cannot be used", path.display()))?,
            ),
            None => None,
        };
        if let Some(cache) = &mut cache {
            cache.check(model, texts)?;
        }
        let mut found: Vec<Option<Vec<f32>>> = texts
            .iter()
            .map(|text| cache.as_ref().and_then(|cache| cache.known.get(&digest(text)).cloned()))
            .collect();
        let missing: Vec<usize> =
            (0..texts.len()).filter(|at| found.get(*at).is_some_and(Option::is_none)).collect();
        embed_missing(model, texts, &missing, self.progress, |at, embedding| {
            if let (Some(cache), Some(text)) = (&mut cache, texts.get(at)) {
                cache.add(text, &embedding)?;
            }
            if let Some(place) = found.get_mut(at) {
                *place = Some(embedding);
            }
            Ok(())
        })?;
        if let Some(cache) = &mut cache {
            cache.file.flush()?;
        }
        let mut matrix = Array2::zeros((texts.len(), hidden));
        for (mut row, embedding) in matrix.rows_mut().into_iter().zip(found) {
            let embedding = embedding.unwrap_or_default();
            if embedding.len() != hidden {
                bail!("the encoder gave {} numbers where the head has {hidden}", embedding.len());
            }
            row.iter_mut().zip(embedding).for_each(|(to, from)| *to = f64::from(from));
        }
        Ok(matrix)
    }
}

/// Embeds the texts at `missing` and hands each over as it comes, in no order.
fn embed_missing(
    model: &Model,
    texts: &[&str],
    missing: &[usize],
    progress: bool,
    mut take: impl FnMut(usize, Vec<f32>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let bar = if progress && !missing.is_empty() {
        let style = "embedding {bar:40} {pos}/{len} prompts, {eta} left";
        ProgressBar::new(missing.len() as u64).with_style(ProgressStyle::with_template(style)?)
    } else {
        ProgressBar::hidden()
    };
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
            bar.inc(1);
        }
        anyhow::Ok(())
    })?;
    bar.finish_and_clear();
    Ok(())
}

type TextDigest = [u8; 32];

fn digest(text: &str) -> TextDigest {
    Sha256::digest(text).into()
}

/// `key digest, then records of text digest and embedding`, all of fixed length.
struct Cache {
    file: BufWriter<File>,
    key: TextDigest,
    known: HashMap<TextDigest, Vec<f32>>,
}

/// Two embeddings of one text differ by less than this when the same encoder made them.
const SAME: f32 = 1e-4;

impl Cache {
    fn open(path: &Path, key: &str, hidden: usize) -> std::io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let key = digest(key);
        let mut cache = Self { file: BufWriter::new(file), key, known: HashMap::new() };
        let Some(records) = bytes.strip_prefix(key.as_slice()) else {
            cache.clear()?;
            return Ok(cache);
        };
        let length = key.len() + 4 * hidden;
        let records = records.chunks_exact(length);
        // A record that was cut off is written over.
        let whole = bytes.len() - records.remainder().len();
        for record in records {
            let Some((text, numbers)) = record.split_first_chunk::<32>() else { continue };
            let (numbers, _) = numbers.as_chunks::<4>();
            let embedding = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
            cache.known.insert(*text, embedding);
        }
        cache.file.seek(SeekFrom::Start(whole as u64))?;
        Ok(cache)
    }

    fn clear(&mut self) -> std::io::Result<()> {
        self.known.clear();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.get_ref().set_len(0)?;
        self.file.write_all(&self.key)
    }

    /// Embeds one known text again: another build of the encoder empties the cache.
    fn check(&mut self, model: &Model, texts: &[&str]) -> anyhow::Result<()> {
        let known = texts.iter().find_map(|text| Some((text, self.known.get(&digest(text))?)));
        let Some((text, known)) = known else { return Ok(()) };
        let again = model.embed(&[&model.tokens(text)])?;
        let again = again.into_iter().next().unwrap_or_default();
        if known.iter().zip(&again).any(|(a, b)| (a - b).abs() > SAME) {
            self.clear()?;
        }
        Ok(())
    }

    fn add(&mut self, text: &str, embedding: &[f32]) -> std::io::Result<()> {
        self.file.write_all(&digest(text))?;
        for number in embedding {
            self.file.write_all(&number.to_le_bytes())?;
        }
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
        assert_eq!(cache.known[&digest("one")], [1.0, 2.0]);
        cache.add("two", &[5.0, 6.0]).unwrap();
        drop(cache);
        assert_eq!(Cache::open(&path, "encoder", 2).unwrap().known[&digest("two")], [5.0, 6.0]);
        assert!(Cache::open(&path, "another", 2).unwrap().known.is_empty());
        assert!(Cache::open(&path, "encoder", 2).unwrap().known.is_empty());
    }
}
