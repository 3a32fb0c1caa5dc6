//! Labelled prompts in memory, from any layout that [`super::import`] reads.
//!
//! Two kinds of row: answers of models with their scores, and authored prompts with a difficulty.
//! The text of a row is what the gateway would weigh, so training and serving see the same. What a
//! label is made of is left to training.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{anyhow, bail};
use indicatif::ProgressBar;

use super::{import, record::Record};

/// All rows of the named files, in memory: what training needs. Evaluation streams instead
/// ([`super::import`]).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data {
    /// Where the rows come from.
    pub sources: Vec<Source>,
    /// Names of the models that answered, ascending; [`Label::Answers`] points into it.
    pub models: Vec<String>,
    /// In the order of the files and lines.
    pub rows: Vec<Row>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Source {
    /// Its name without directories.
    pub file: String,
    /// Of its bytes as they are stored.
    pub sha256: String,
    /// Lines that hold a row.
    pub rows: usize,
}

/// A prompt with its label.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// As the file gives it, else `FILE:LINE`.
    pub id: String,
    /// As the file gives it, else the file's name without its endings.
    pub dataset: String,
    /// As the file gives it, else empty.
    pub category: String,
    /// What is weighed.
    pub text: String,
    /// What is known of it.
    pub label: Label,
}

/// What is known of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// `(index into `[`Data::models`]`, score in 0..=1)`, ascending by index.
    Answers(Vec<(usize, f64)>),
    /// In 0..=1: how much model the prompt needs, in its author's judgement.
    Difficulty(f64),
}

impl Row {
    /// White-space separated words: the baseline that every head is held against.
    pub fn words(&self) -> f64 {
        self.text.split_whitespace().count() as f64
    }

    /// The score of a model's answer; `None` when the model was not asked.
    pub fn score(&self, model: usize) -> Option<f64> {
        let Label::Answers(answers) = &self.label else { return None };
        let at = answers.binary_search_by_key(&model, |(model, _)| *model).ok()?;
        answers.get(at).map(|(_, score)| *score)
    }
}

impl Data {
    /// Reads files in any layout, and of directories every file with a known ending, by name. Rows
    /// without a text have nothing to learn from and are left out.
    pub fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut reader = Reader::default();
        let bar = ProgressBar::hidden();
        let sources = import::read(paths, None, &bar, &mut |record| {
            if record.text.is_some() {
                reader.take(record);
            }
            Ok(())
        })?;
        if reader.rows.is_empty() {
            bail!("the data holds no row");
        }
        Ok(reader.finish(sources))
    }

    /// The index of a model; the error lists the names that there are.
    pub fn model(&self, name: &str) -> anyhow::Result<usize> {
        self.models.binary_search_by(|model| model.as_str().cmp(name)).map_err(|_| {
            anyhow!("no row has a result of `{name}`; the data knows: {}", self.models.join(", "))
        })
    }
}

/// A row whose answers are still by name, because the list of models is not complete yet.
struct NamedRow {
    row: Row,
    answers: Option<Vec<(String, f64)>>,
}

#[derive(Default)]
struct Reader {
    rows: Vec<NamedRow>,
}

impl Reader {
    fn take(&mut self, record: Record) {
        // Names come from a sorted map, and so do their indices.
        let answers = record.results.map(|results| {
            results.into_iter().map(|(model, outcome)| (model, outcome.score)).collect()
        });
        let row = Row {
            id: record.id,
            dataset: record.dataset,
            category: record.category,
            text: record.text.unwrap_or_default(),
            label: record.difficulty.map_or(Label::Answers(Vec::new()), Label::Difficulty),
        };
        self.rows.push(NamedRow { row, answers });
    }

    fn finish(self, sources: Vec<Source>) -> Data {
        let named = self.rows.iter().filter_map(|row| row.answers.as_ref()).flatten();
        let models: BTreeSet<&str> = named.map(|(model, _)| model.as_str()).collect();
        let models: Vec<String> = models.into_iter().map(str::to_owned).collect();
        let rows = self
            .rows
            .into_iter()
            .map(|NamedRow { mut row, answers }| {
                if let Some(answers) = answers {
                    let found = answers.into_iter().filter_map(|(name, score)| {
                        models.binary_search(&name).ok().map(|index| (index, score))
                    });
                    row.label = Label::Answers(found.collect());
                }
                row
            })
            .collect();
        Data { sources, models, rows }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(text: &str) -> anyhow::Result<Data> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("own.jsonl");
        std::fs::write(&file, text).unwrap();
        Data::read(&[file])
    }

    fn refusal(line: &str) -> String {
        let good = r#"{"prompt":"a","difficulty":0.5}"#;
        format!("{:#}", read(&format!("{good}\n\n{line}\n")).unwrap_err())
    }

    #[test]
    fn both_kinds_of_row_are_read() {
        let data = read(concat!(
            r#"{"id":"x","dataset":"d","category":"c","prompt":" Hi ","#,
            r#""results":{"b":{"score":1},"a":{"score":0.25,"cost_usd":1},"c":null}}"#,
            "\n",
            r#"{"messages":[{"role":"user","content":"one"},{"role":"user","content":"<system-reminder>n</system-reminder>two"}],"difficulty":0.5}"#,
        ))
        .unwrap();
        assert_eq!(data.models, ["a", "b"]);
        let [first, second] = data.rows.as_slice() else { panic!("two rows") };
        assert_eq!(
            (first.text.as_str(), first.score(0), first.score(1)),
            ("Hi", Some(0.25), Some(1.0))
        );
        assert_eq!(second.text, "two", "the text is the one that the gateway weighs");
        assert_eq!((second.id.as_str(), second.dataset.as_str()), ("own:2", "own"));
        assert_eq!(second.label, Label::Difficulty(0.5));
        assert_eq!(second.score(0), None);
        assert!(data.model("z").unwrap_err().to_string().contains("the data knows: a, b"));
    }

    #[test]
    fn a_bad_line_is_named_with_file_line_and_fault() {
        for (line, fault) in [
            ("{", "EOF while parsing"),
            (r#"{"difficulty":0.5}"#, "has neither `prompt` nor `messages`"),
            (r#"{"prompt":"a"}"#, "has neither `results` nor `difficulty`"),
            (
                r#"{"prompt":"a","difficulty":1.5}"#,
                "`difficulty` is 1.5, which does not lie in 0..1",
            ),
            (r#"{"prompt":"a","results":{"m":{"score":-1}}}"#, "the score of `m` is -1"),
            (r#"{"prompt":"a","results":{"m":{"score":"x"}}}"#, "results.m.score: invalid type"),
            (r#"{"prompt":1,"difficulty":0.5}"#, "prompt: invalid type"),
        ] {
            let message = refusal(line);
            assert!(
                message.contains("own.jsonl, line 3: ") && message.contains(fault),
                "{message}"
            );
        }
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let row = |id: &str| format!(r#"{{"id":"{id}","prompt":"p","difficulty":0}}"#);
        let packed = std::fs::File::create(dir.path().join("a.jsonl.gz")).unwrap();
        let mut packed = flate2::write::GzEncoder::new(packed, flate2::Compression::fast());
        packed.write_all(row("first").as_bytes()).unwrap();
        packed.finish().unwrap();
        std::fs::write(dir.path().join("b.jsonl"), row("second")).unwrap();
        std::fs::write(dir.path().join("c.txt"), "not data").unwrap();
        let data = Data::read(&[dir.path().to_owned()]).unwrap();
        let ids: Vec<&str> = data.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["first", "second"]);
        assert_eq!(data.rows[0].dataset, "a");
        assert_eq!(data.sources.len(), 2);
    }
}
