//! Files of labelled prompts in the house's layout and in public ones, read as a stream.
//!
//! | format | files | what is read |
//! |---|---|---|
//! | `rows` | JSON Lines, CSV, Parquet | the schema of [`super::record`]; in tables the columns `id`, `prompt` or `messages` (JSON), `dataset`, `category`, and for each model `results.NAME.score`, `.cost_usd`, `.in_tokens`, `.out_tokens` |
//! | `routellm` | CSV | `prompt`, and one column a model that holds True/False or 0..1; prompts listed in `contaminated_prompts.jsonl` beside the file or one directory up are left out |
//! | `routerbench` | CSV, Parquet, JSON Lines | `sample_id`, `prompt`, `eval_name`, for each model a column of scores and one `NAME\|total_cost` |
//! | `routerarena` | JSON | a list of predictions: `global index`, `prompt`, `prediction`, `accuracy`, `cost`, `for_optimality` |
//! | `decisions` | JSON Lines | the gateway's own decision log |
//!
//! Anything else is refused with file, line or column, and what to do. Text files may be gzip.
//! One record is in memory at a time; only a RouterArena list and the feedback of a decision log
//! are read before the first record comes.

mod arena;
pub mod decisions;
mod lines;
mod table;
mod wide;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};

use super::{record::Record, rows::Source};

/// A layout of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The house's own.
    Rows,
    /// RouteLLM's responses.
    RouteLlm,
    /// RouterBench's wide table.
    RouterBench,
    /// RouterArena's predictions.
    RouterArena,
    /// The gateway's decision log.
    Decisions,
}

impl Format {
    /// Every format, in the order they are documented.
    pub const ALL: [Self; 5] =
        [Self::Rows, Self::RouteLlm, Self::RouterBench, Self::RouterArena, Self::Decisions];

    /// The spelling in flags and suites.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::RouteLlm => "routellm",
            Self::RouterBench => "routerbench",
            Self::RouterArena => "routerarena",
            Self::Decisions => "decisions",
        }
    }

    /// The format with this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// How a file stores its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Storage {
    Lines,
    List,
    Csv,
    Parquet,
}

/// A file, opened as what it is.
struct Input<'a> {
    path: &'a Path,
    storage: Storage,
    /// Its name without directories and endings.
    stem: String,
    /// Moves with the bytes that are read.
    bar: ProgressBar,
}

/// Longest line accepted, in bytes (chosen: far above any prompt; a file without line ends must
/// not be read into memory).
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;
/// Largest file that is read as one list, in bytes.
const MAX_LIST_BYTES: u64 = 1024 * 1024 * 1024;
/// Lists prompts of a RouteLLM benchmark that its training data contain.
const CONTAMINATED: &str = "contaminated_prompts.jsonl";

/// Hands over every record of the files, and of directories every file with a known ending, by
/// name. Returns what was read. Without a format, each file's own layout decides. `bar` moves with
/// the bytes.
pub fn read(
    paths: &[PathBuf],
    format: Option<Format>,
    bar: &ProgressBar,
    take: &mut dyn FnMut(Record) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        for file in files_of(path)? {
            let input = Input::of(&file)?;
            let format = match format {
                Some(format) => format,
                None => input.detect()?,
            };
            let mut rows = 0;
            let input = Input { bar: bar.clone(), ..input };
            input.read(format, &mut |record| {
                rows += 1;
                take(record)
            })?;
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            sources.push(Source { file, sha256: sha256_of(input.path)?, rows });
        }
    }
    Ok(sources)
}

/// Of all the files, as they are stored.
pub fn bytes_of(paths: &[PathBuf]) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for path in paths {
        for file in files_of(path)? {
            let about = std::fs::metadata(&file);
            bytes += about.with_context(|| format!("{} cannot be read", file.display()))?.len();
        }
    }
    Ok(bytes)
}

impl<'a> Input<'a> {
    fn of(path: &'a Path) -> anyhow::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let Some((stem, storage)) = ENDINGS
            .iter()
            .find_map(|(ending, storage)| Some((plain.strip_suffix(ending)?, *storage)))
        else {
            let fix = if plain.ends_with(".pkl") {
                "a pickle can run code when it is opened, so it is not read; save the table as CSV or Parquet (pandas: `to_csv`)"
            } else {
                "files end in .jsonl, .json, .csv (each also .gz) or .parquet"
            };
            bail!("{}: the layout is not known: {fix}", path.display());
        };
        if storage == Storage::Parquet && name.ends_with(".gz") {
            bail!("{}: unpack the file first: Parquet is read in place", path.display());
        }
        Ok(Self { path, storage, stem: stem.to_owned(), bar: ProgressBar::hidden() })
    }

    /// A file of lines, whatever its name ends in, that no bar watches.
    fn lines(path: &'a Path) -> Self {
        Self { path, storage: Storage::Lines, stem: String::new(), bar: ProgressBar::hidden() }
    }

    /// The layout, by its first line or its columns.
    fn detect(&self) -> anyhow::Result<Format> {
        let has = |names: &[String], name: &str| names.iter().any(|column| column == name);
        let columns = match self.storage {
            Storage::List => return Ok(Format::RouterArena),
            Storage::Lines => match self.first_fields()? {
                Some(fields) if has(&fields, "type") => return Ok(Format::Decisions),
                Some(fields) => fields,
                None => bail!("{} holds no row", self.path.display()),
            },
            Storage::Csv | Storage::Parquet => table::columns(self)?,
        };
        if has(&columns, "sample_id") && has(&columns, "eval_name") {
            return Ok(Format::RouterBench);
        }
        let is_result = |column: &String| column == "results" || column.starts_with("results.");
        if self.storage == Storage::Lines || columns.iter().any(is_result) {
            return Ok(Format::Rows);
        }
        if has(&columns, "prompt") && columns.len() > 1 {
            return Ok(Format::RouteLlm);
        }
        bail!(
            "{}: the layout is not known by its columns ({}); a table of rows has `prompt` and `results.NAME.score`; name another layout with --format {}",
            self.path.display(),
            columns.join(", "),
            Format::ALL.map(Format::name).join("|"),
        )
    }

    fn read(
        &self,
        format: Format,
        take: &mut dyn FnMut(Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let shown = self.path.display();
        match (format, self.storage) {
            (_, Storage::List) if format != Format::RouterArena => {
                bail!("{shown}: a JSON list is read as routerarena only; write one object a line")
            }
            (Format::Rows, Storage::Lines) => {
                lines::each(self, |line, number| take(Record::from_json(line, &self.stem, number)?))
            }
            (Format::Rows, _) => wide::rows(self, take),
            (Format::RouteLlm, Storage::Csv | Storage::Parquet) => wide::routellm(self, take),
            (Format::RouterBench, _) => wide::routerbench(self, take),
            (Format::RouterArena, Storage::List) => arena::read(self, take),
            (Format::Decisions, Storage::Lines) => decisions::read(self, take),
            (format, _) => bail!("{shown}: {}", wrong_storage(format)),
        }
    }

    /// The names of the first line's fields; `None` for an empty file.
    fn first_fields(&self) -> anyhow::Result<Option<Vec<String>>> {
        let mut found = None;
        lines::until(self, |line, _| {
            let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line)?;
            found = Some(fields.into_iter().map(|(name, _)| name).collect());
            Ok(false)
        })?;
        Ok(found)
    }

    /// The file's text, unpacked.
    fn open(&self) -> anyhow::Result<Box<dyn BufRead>> {
        let file = File::open(self.path)
            .with_context(|| format!("{} cannot be read", self.path.display()))?;
        let file = self.bar.wrap_read(file);
        let packed = self.path.extension().is_some_and(|ending| ending == "gz");
        Ok(if packed {
            Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))))
        } else {
            Box::new(BufReader::new(file))
        })
    }
}

const ENDINGS: [(&str, Storage); 4] = [
    (".jsonl", Storage::Lines),
    (".json", Storage::List),
    (".csv", Storage::Csv),
    (".parquet", Storage::Parquet),
];

fn wrong_storage(format: Format) -> &'static str {
    match format {
        Format::RouteLlm => {
            "routellm reads the responses as CSV or Parquet; MT-bench's judgements are not read"
        }
        Format::RouterArena => "routerarena reads a JSON list, a file that ends in .json",
        Format::Decisions | Format::Rows | Format::RouterBench => {
            "a decision log is JSON Lines, a file that ends in .jsonl"
        }
    }
}

fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = || format!("{} cannot be read", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(unreadable)? {
        let file = entry.with_context(unreadable)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        if plain != CONTAMINATED && ENDINGS.iter().any(|(ending, _)| plain.ends_with(ending)) {
            files.push(file);
        }
    }
    if files.is_empty() {
        bail!("{} holds no .jsonl, .json, .csv or .parquet file", path.display());
    }
    files.sort();
    Ok(files)
}

/// Of the bytes as they are stored, without holding them.
fn sha256_of(path: &Path) -> anyhow::Result<String> {
    let mut file =
        File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
