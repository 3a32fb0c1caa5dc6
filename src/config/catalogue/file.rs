//! The file format of the model catalogue, shipped and local: JSON, one model a line.
//!
//! A header says where the rows come from and when; pages that rows cite are listed once and
//! numbered. Rows stand under their provider and are sorted, so that two versions can be
//! compared line by line. A row of `null` takes a model out of the catalogue.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::model::{ListPrice, ModelFacts, Provenance};
use crate::policy::{Abilities, Mode};

/// The version of the format that is read and written.
const FORMAT: u32 = 1;
/// Rows by provider and model; `None` takes a model out.
pub type Rows = BTreeMap<String, BTreeMap<String, Option<ModelFacts>>>;

/// A catalogue file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CatalogueFile {
    /// Where rows come from that do not say otherwise.
    pub source: String,
    /// When they were taken from there, `YYYY-MM-DD`.
    pub date: String,
    /// The licence of that source.
    pub licence: Option<String>,
    /// The rows.
    pub rows: Rows,
}

/// Why a catalogue file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is not JSON of this form.
    #[error("it is no model catalogue: {0}")]
    Malformed(String),
    /// It was written by a later version.
    #[error("it has format {0}, and this version reads format {FORMAT}")]
    Format(u32),
    /// A row is wrong.
    #[error("`{provider}/{model}`: {problem}")]
    Row {
        /// The provider.
        provider: String,
        /// The model.
        model: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    source: String,
    date: String,
    #[serde(default)]
    licence: Option<String>,
    #[serde(default)]
    pages: Vec<String>,
    providers: BTreeMap<String, BTreeMap<String, Option<Row>>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    abilities: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<ListPrice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retires: Option<String>,
    /// Index into the list of pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<usize>,
    /// Where the header's does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Where the header's does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
}

impl CatalogueFile {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let form: Form = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner();
            FileError::Malformed(if path == "." {
                message.to_string()
            } else {
                format!("{path}: {message}")
            })
        })?;
        if form.format != FORMAT {
            return Err(FileError::Format(form.format));
        }
        let mut file =
            Self { source: form.source, date: form.date, licence: form.licence, rows: Rows::new() };
        for (provider, models) in form.providers {
            for (model, row) in models {
                let facts = row.map(|row| row.facts(&file, &form.pages)).transpose();
                let facts = facts.map_err(|problem| FileError::Row {
                    provider: provider.clone(),
                    model: model.clone(),
                    problem,
                })?;
                file.rows.entry(provider.clone()).or_default().insert(model, facts);
            }
        }
        Ok(file)
    }

    /// Writes what [`Self::parse`] reads.
    pub fn write(&self) -> String {
        let mut pages: Vec<&str> =
            self.facts().filter_map(|facts| facts.provenance.page.as_deref()).collect();
        pages.sort_unstable();
        pages.dedup();
        let licence =
            self.licence.as_ref().map(|licence| format!("\"licence\":{},\n", json(licence)));
        let mut text = format!(
            "{{\n\"format\":{FORMAT},\n\"source\":{},\n\"date\":{},\n{}\"pages\":[",
            json(&self.source),
            json(&self.date),
            licence.unwrap_or_default(),
        );
        for (at, page) in pages.iter().enumerate() {
            let _ = write!(text, "{}\n{}", if at > 0 { "," } else { "" }, json(page));
        }
        text.push_str("\n],\n\"providers\":{");
        for (at, (provider, models)) in self.rows.iter().enumerate() {
            let _ = write!(text, "{}\n{}:{{", if at > 0 { "," } else { "" }, json(provider));
            for (at, (model, facts)) in models.iter().enumerate() {
                let row = facts.as_ref().map(|facts| Row::new(facts, self, &pages));
                let comma = if at > 0 { "," } else { "" };
                let _ = write!(text, "{comma}\n{}:{}", json(model), json(&row));
            }
            text.push('}');
        }
        text.push_str("}\n}\n");
        text
    }

    /// Every row that is not `null`.
    pub fn facts(&self) -> impl Iterator<Item = &ModelFacts> {
        self.rows.values().flat_map(BTreeMap::values).flatten()
    }

    /// The row of a model: `None` when the file does not mention it, `Some(None)` when it takes
    /// the model out.
    pub fn find(&self, provider: &str, model: &str) -> Option<Option<&ModelFacts>> {
        self.rows.get(provider)?.get(model).map(Option::as_ref)
    }
}

/// Strings, numbers and structs of them always serialise.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Row {
    fn new(facts: &ModelFacts, file: &CatalogueFile, pages: &[&str]) -> Self {
        let provenance = &facts.provenance;
        let page = provenance.page.as_deref();
        Self {
            mode: (facts.mode != Mode::Chat).then(|| facts.mode.name().to_owned()),
            context_window: facts.context_window,
            max_output_tokens: facts.max_output_tokens,
            abilities: facts.abilities.to_string(),
            price: facts.price,
            retires: facts.retires.clone(),
            page: page.and_then(|page| pages.binary_search(&page).ok()),
            source: (provenance.source != file.source).then(|| provenance.source.clone()),
            date: (provenance.date != file.date).then(|| provenance.date.clone()),
        }
    }

    fn facts(self, file: &CatalogueFile, pages: &[String]) -> Result<ModelFacts, String> {
        let mode = self.mode.as_deref().map(|name| {
            Mode::from_name(name).ok_or_else(|| format!("`mode`: `{name}` is not known"))
        });
        let abilities = Abilities::parse(&self.abilities)
            .map_err(|word| format!("`abilities`: `{word}` is no ability"))?;
        let page = self.page.map(|at| {
            pages.get(at).cloned().ok_or_else(|| format!("`page`: there is no page {at}"))
        });
        Ok(ModelFacts {
            mode: mode.transpose()?.unwrap_or_default(),
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            abilities,
            price: self.price,
            retires: self.retires,
            provenance: Provenance {
                source: self.source.unwrap_or_else(|| file.source.clone()),
                date: self.date.unwrap_or_else(|| file.date.clone()),
                page: page.transpose()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
"format":1,
"source":"a list",
"date":"2026-11-22",
"licence":"MIT",
"pages":[
"https://a/prices"
],
"providers":{
"groq":{
"big":{"context_window":8192,"abilities":"tools -images","price":{"input":100,"output":200,"above":{"tokens":1000,"input":150,"output":300}},"page":0},
"gone":null},
"openai":{
"e":{"mode":"embeddings","price":{"input":1,"output":0},"source":"by hand","date":"2026-01-01"}}}
}
"#;

    #[test]
    fn a_file_is_written_as_it_was_read() {
        let file = CatalogueFile::parse(FILE).unwrap();
        assert_eq!(file.write(), FILE);
        assert_eq!(CatalogueFile::parse(&file.write()).unwrap(), file);
        let big = file.find("groq", "big").unwrap().unwrap();
        assert_eq!(big.provenance.page.as_deref(), Some("https://a/prices"));
        assert_eq!(file.find("groq", "gone"), Some(None));
        assert_eq!(file.find("groq", "other"), None);
        let hand = &file.find("openai", "e").unwrap().unwrap().provenance;
        assert_eq!((hand.source.as_str(), hand.date.as_str()), ("by hand", "2026-01-01"));
    }

    #[test]
    fn a_slip_is_reported_with_its_model() {
        for (from, to, expected) in [
            ("tools -images", "tols", "`groq/big`: `abilities`: `tols` is no ability"),
            ("embeddings", "vectors", "`openai/e`: `mode`: `vectors` is not known"),
            ("\"page\":0", "\"page\":7", "`groq/big`: `page`: there is no page 7"),
            ("\"input\":100", "\"input\":-1", "providers.groq.big.price.input"),
            ("\"input\":100", "\"inptu\":100", "unknown field `inptu`"),
            ("\"format\":1", "\"format\":2", "it has format 2"),
            ("\"providers\"", "\"models\"", "unknown field `models`"),
        ] {
            let error = CatalogueFile::parse(&FILE.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(expected), "{from} → {to}: {error}");
        }
    }
}
